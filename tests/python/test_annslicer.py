"""The outputs of annslicer's documented examples, with the program's name changed.

Compared on what annslicer keeps: obs, var, X, layers, obsm and uns.
"""

import pathlib
import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest

import objects
from oracle import differences, unexpected

# What annslicer changes and we do not.
THEIRS = r"^(varm|obsp|varp|raw)\b|^X: kind|^layers/.*: kind"


def annslicer(*args):
    program = pathlib.Path(sys.executable).with_name("annslicer")
    done = subprocess.run([str(program), *map(str, args)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def prepared(synth, tmp_path_factory):
    """The object, and a CSV with a row per cell in another order."""
    folder = tmp_path_factory.mktemp("annslicer")
    a = objects.read(synth)
    rng = np.random.default_rng(0)
    order = rng.permutation(a.n_obs)
    table = pd.DataFrame(
        {
            "barcode": a.obs_names[order],
            "guide": np.array(["g1", "g2", "non-targeting"])[order % 3],
            "passes": np.array(["True", "False"])[order % 2],
        }
    )
    table.to_csv(folder / "meta.csv", index=False)
    table[["guide", "passes", "barcode"]].to_csv(folder / "meta_last.csv", index=False)
    a.obs["keep"] = (np.arange(a.n_obs) % 4 == 0).astype(int)
    a.write_h5ad(folder / "in.h5ad")
    return folder


SLICES = {
    "size": ["--size", "700"],
    "gzip": ["--size", "1500", "--compression", "gzip"],
    "lzf": ["--size", "1500", "--compression", "lzf"],
    "obs-column": ["--obs-column", "cell_type"],
    "always-include": ["--obs-column", "cell_type", "--always-include", "B", "NK"],
    "csv": ["--obs-column", "guide", "--csv-file", "{folder}/meta.csv"],
    "csv-join": ["--obs-column", "guide", "--csv-file", "{folder}/meta_last.csv", "--join-column", "barcode"],
    "csv-always": ["--obs-column", "guide", "--csv-file", "{folder}/meta.csv", "--always-include", "non-targeting"],
}


@pytest.mark.parametrize("name", SLICES)
def test_slice_equals_annslicer(annfusion, prepared, tmp_path, name):
    args = [a.format(folder=prepared) for a in SLICES[name]]
    for folder, program in (("theirs", annslicer), ("ours", annfusion)):
        (tmp_path / folder).mkdir()
        program("slice", prepared / "in.h5ad", tmp_path / folder / "out", *args)
    compare_folders(tmp_path)


FILTERS = {
    "obs-column": ["--obs-column", "keep"],
    "bool": ["--obs-column", "is_doublet"],
    "csv": ["--obs-column", "passes", "--csv-file", "{folder}/meta.csv"],
    "csv-join": ["--obs-column", "passes", "--csv-file", "{folder}/meta_last.csv", "--join-column", "barcode"],
    "gzip": ["--obs-column", "keep", "--compression", "gzip"],
}


@pytest.mark.parametrize("name", FILTERS)
def test_filter_equals_annslicer(annfusion, prepared, tmp_path, name):
    args = [a.format(folder=prepared) for a in FILTERS[name]]
    for folder, program in (("theirs", annslicer), ("ours", annfusion)):
        (tmp_path / folder).mkdir()
        program("filter", prepared / "in.h5ad", tmp_path / folder / "out.h5ad", *args)
    compare_folders(tmp_path)


def compare_folders(folder):
    theirs = sorted(p.name for p in (folder / "theirs").iterdir())
    ours = sorted(p.name for p in (folder / "ours").iterdir())
    assert ours == theirs
    for name in theirs:
        expected, actual = objects.read(folder / "theirs" / name), objects.read(folder / "ours" / name)
        import re

        found = unexpected(name, differences(actual, expected))
        found = [line for line in found if not re.search(THEIRS, line)]
        assert not found, f"{name}: {found[:8]}"
