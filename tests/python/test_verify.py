"""`verify` finds what was broken, and says where."""

import json
import shutil

import h5py
import numpy as np
import pytest

import objects


def test_real_objects_are_sound_and_equal_to_themselves(annfusion, shared_object):
    annfusion("verify", shared_object.location)
    annfusion("verify", shared_object.location, shared_object.location)


@pytest.fixture
def copy(synth, tmp_path):
    path = tmp_path / "copy.h5ad"
    path.write_bytes(synth.read_bytes())
    return path


def edit(path, key, at, value):
    with h5py.File(path, "r+") as file:
        file[key][at] = value


BREAKS = {
    "index out of range": ("X/indices", 5, 100_000, "X"),
    "indptr decreases": ("X/indptr", 10, 1_000_000, "X"),
    "code out of range": ("obs/cell_type/codes", 3, 100, "cell_type"),
    "category repeats": ("obs/cell_type/categories", 1, "B", "cell_type"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_object_is_found_out(annfusion, copy, name):
    key, at, value, element = BREAKS[name]
    edit(copy, key, at, value)
    done = annfusion("verify", copy, check=False)
    assert done.returncode == 1, done.stdout
    assert element in done.stdout + done.stderr


CHANGES = {
    "X": ("X/data", 7, 99.0, "X row 0: column"),
    "obs": ("obs/n_counts", 42, 1.5, "obs/n_counts row 42: "),
    "category": ("obs/cell_type/codes", 17, None, "obs/cell_type row 17: "),
    "name": ("var/_index", 3, "OTHER", "var/_index row 3: "),
    "obsm": ("obsm/X_pca", (11, 4), 9.0, "obsm/X_pca row 11: column 4"),
    "uns": ("uns/cell_type_colors", 0, "#123456", "uns/cell_type_colors: "),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_difference_is_placed(annfusion, synth, copy, name):
    key, at, value, expected = CHANGES[name]
    if value is None:
        with h5py.File(copy, "r") as file:
            value = np.int8((file[key][at] + 1) % 3)
    edit(copy, key, at, value)
    done = annfusion("verify", synth, copy, check=False)
    assert done.returncode == 1
    assert expected in done.stdout, done.stdout
    assert len(done.stdout.strip().splitlines()) == 1


def test_compression_is_no_difference(annfusion, synth, tmp_path):
    annfusion("slice", synth, tmp_path / "out", "--size", 100_000, "--compression", "lzf")
    annfusion("verify", synth, tmp_path / "out_shard_0.h5ad")
    annfusion("slice", synth, tmp_path / "half", "--size", 1500)
    done = annfusion("verify", synth, tmp_path / "half_shard_0.h5ad", check=False)
    assert done.returncode == 1 and "3000 cells" in done.stdout


def test_objects_say_what_only_one_has(annfusion, synth, tmp_path):
    a = objects.read(synth)
    del a.obs["S_score"], a.obsm["X_pca"], a.uns["synth"]
    a.layers["more"] = a.X.copy()
    a.write_h5ad(tmp_path / "other.h5ad")
    done = annfusion("verify", synth, tmp_path / "other.h5ad", check=False)
    for line in ("obs/S_score: only here", "obsm/X_pca: only here", "layers/more: only there", "uns/synth"):
        assert line in done.stdout, done.stdout


def test_what_a_zarr_store_lacks_is_said(annfusion, synth, tmp_path):
    for version in (2, 3):
        path = tmp_path / f"{version}.zarr"
        annfusion("convert", synth, path, "--zarr-version", version, "--no-shards", "--chunk-size", 100)
        done = annfusion("verify", path)
        assert "not stored" not in done.stdout
        chunk = path / "X/data" / ("1" if version == 2 else "c/1")
        chunk.unlink()
        done = annfusion("verify", path)
        assert "X/data: 1 of " in done.stdout + done.stderr
        document = path / "obsm/X_pca" / (".zarray" if version == 2 else "zarr.json")
        said = json.loads(document.read_text())
        document.write_text(json.dumps({**said, "fill_value": 3.0}))
        done = annfusion("verify", path, check=False)
        assert done.returncode == 1 and "obsm/X_pca" in done.stdout and "fill_value" in done.stdout
        shutil.rmtree(path / "obsm/X_pca")
        done = annfusion("verify", path, check=False)
        assert done.returncode == 1 and "is not there" in done.stdout


def test_entries_behind_the_last_row_are_noted(annfusion, synth, tmp_path):
    path = tmp_path / "x.h5ad"
    shutil.copy(synth, path)
    with h5py.File(path, "r+") as file:
        for name in ("data", "indices"):
            file["X"][name].resize((file["X"][name].shape[0] + 3,))
    done = annfusion("verify", path)
    assert "belong to no row" in done.stdout + done.stderr
