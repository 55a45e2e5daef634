"""Slices of real objects equal what anndata reads, whole and in two shards."""

import math

import anndata
import h5py
import pytest

import objects
from oracle import check_equal, differences


def test_one_shard_equals_the_input(annfusion, shared_object, tmp_path):
    expected = shared_object.read()
    annfusion("slice", shared_object.location, tmp_path / "out", "--size", 1_000_000)
    (shard,) = sorted(tmp_path.glob("out_shard_*.h5ad"))
    check_equal(str(shared_object), objects.read(shard), expected)


def test_two_shards_equal_the_halves(annfusion, shared_object, tmp_path):
    whole = shared_object.read()
    if whole.n_obs < 2:
        pytest.skip("fewer than two cells")
    size = math.ceil(whole.n_obs / 2)
    annfusion("slice", shared_object.location, tmp_path / "out", "--size", size, "--jobs", 2)
    with anndata.settings.override(remove_unused_categories=False):
        for i in range(2):
            expected = whole[i * size : (i + 1) * size].copy()
            actual = objects.read(tmp_path / f"out_shard_{i}.h5ad")
            check_equal(f"{shared_object}[{i}]", actual, expected, sliced=True)


@pytest.mark.parametrize("compression", ["gzip", "lzf", "none"])
def test_compression_changes_no_value(annfusion, synth, tmp_path, compression):
    annfusion("slice", synth, tmp_path / "out", "--size", 2000, "--compression", compression)
    whole = objects.read(synth)
    with anndata.settings.override(remove_unused_categories=False):
        check_equal("synth", objects.read(tmp_path / "out_shard_0.h5ad"), whole[:2000].copy(), sliced=True)
        check_equal("synth", objects.read(tmp_path / "out_shard_1.h5ad"), whole[2000:].copy(), sliced=True)


def test_equal_input_gives_equal_bytes(annfusion, synth, tmp_path):
    for name in ("a", "b"):
        annfusion("slice", synth, tmp_path / name, "--size", 2000, "--compression", "gzip")
    for i in range(2):
        a, b = (tmp_path / f"{name}_shard_{i}.h5ad" for name in "ab")
        assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize("name", objects.BROKEN)
def test_a_broken_object_is_refused_by_name(annfusion, tmp_path, name):
    path = objects.SHARED / "data" / "found" / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    done = annfusion("slice", path, tmp_path / "out", check=False)
    assert done.returncode == 1
    for word in objects.BROKEN[name]:
        assert word in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


def test_an_existing_output_is_kept(annfusion, synth, tmp_path):
    output = tmp_path / "out_shard_0.h5ad"
    output.write_text("mine")
    done = annfusion("slice", synth, tmp_path / "out", "--size", 5000, check=False)
    assert done.returncode == 1 and "--overwrite" in done.stderr
    assert output.read_text() == "mine"
    annfusion("slice", synth, tmp_path / "out", "--size", 5000, "--overwrite")
    assert not differences(objects.read(output), objects.read(synth))


def test_output_names(annfusion, synth, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text(f"{tmp_path}/first.h5ad\n{tmp_path}/second.h5ad\n")
    annfusion("slice", synth, tmp_path / "out", "--size", 2000, "--output-names", names)
    assert objects.read(tmp_path / "first.h5ad").n_obs == 2000
    assert objects.read(tmp_path / "second.h5ad").n_obs == 1000


def test_what_is_no_part_of_anndata_is_named(annfusion, synth, tmp_path):
    source = tmp_path / "source.h5ad"
    source.write_bytes(synth.read_bytes())
    with h5py.File(source, "a") as file:
        file["mine/notes"] = "x"
        file["obs/forgotten"] = [1.0] * file["obs/cell_type/codes"].shape[0]
    done = annfusion("slice", source, tmp_path / "out", "--size", 2000)
    assert done.stderr.count("mine: not written") == 1
    assert done.stderr.count("obs/forgotten: not written") == 1


def test_a_written_file_can_be_changed(annfusion, synth, tmp_path):
    """The HDF5 library goes on with the heap of texts that we began."""
    annfusion("slice", synth, tmp_path / "out", "--size", 5000)
    path = tmp_path / "out_shard_0.h5ad"
    expected = objects.read(path)
    with h5py.File(path, "a") as file:
        for i in range(0, 2000, 3):
            file["obs/_index"][i] = f"another name, {i}"
        file["uns/texts"] = [f"text {i}" for i in range(3000)]
    names = [f"another name, {i}" if i % 3 == 0 and i < 2000 else name for i, name in enumerate(expected.obs_names)]
    changed = objects.read(path)
    assert list(changed.obs_names) == names
    assert list(changed.uns["texts"]) == [f"text {i}" for i in range(3000)]
    assert list(changed.var_names) == list(expected.var_names)


def test_shards_of_an_earlier_finer_cut_are_named(annfusion, synth, tmp_path):
    annfusion("slice", synth, tmp_path / "out", "--size", 500)
    done = annfusion("slice", synth, tmp_path / "out", "--size", 1500, "--overwrite")
    assert "out_shard_2.h5ad to " in done.stderr and "earlier run" in done.stderr
    assert len(list(tmp_path.iterdir())) == 6


def test_no_cell_left_is_said(annfusion, synth, tmp_path):
    done = annfusion("slice", synth, tmp_path / "out", "--where", "n_counts < 0")
    assert "no cell meets --where" in done.stderr
