"""Random objects of anndata's own generator survive a slice, whole and in two shards."""

import math
import random
import warnings

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
from anndata.tests.helpers import gen_adata

import objects
from oracle import check_equal

COUNT = 300
KINDS = {
    "csr": (sp.csr_matrix, "csr"),
    "csc": (sp.csc_matrix, "csc"),
    "csr_array": (sp.csr_array, "csr"),
    "csc_array": (sp.csc_array, "csc"),
    "dense": (np.asarray, "csr"),
    "dense_csc": (np.asarray, "csc"),
    "none": (None, "csr"),
}


def generate(seed, path):
    """Writes the object of a seed; columns come from numpy's and Python's own generators."""
    random.seed(seed)
    np.random.seed(seed)
    rng = np.random.default_rng(seed)
    kind = list(KINDS)[seed % len(KINDS)]
    x_type, sparse_fmt = KINDS[kind]
    shape = (int(rng.integers(1, 80)), int(rng.integers(1, 60)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a = gen_adata(shape, X_type=x_type, sparse_fmt=sparse_fmt, random_state=rng)
        if seed % 3 == 0 and a.X is not None:
            a.raw = a.copy()
        compression = [None, "gzip", "lzf"][seed % 3]
        a.write_h5ad(path, compression=compression)
    return f"seed {seed} ({kind}, {shape[0]} × {shape[1]}, {compression})"


def check(annfusion, seed, folder):
    source = folder / f"{seed}.h5ad"
    name = generate(seed, source)
    whole = objects.read(source)
    annfusion("slice", source, folder / f"{seed}_whole", "--size", 1_000_000)
    check_equal(name, objects.read(folder / f"{seed}_whole_shard_0.h5ad"), whole)
    size = math.ceil(whole.n_obs / 2)
    annfusion("slice", source, folder / f"{seed}_half", "--size", size)
    for i, start in enumerate(range(0, whole.n_obs, size)):
        expected = whole[start : start + size].copy()
        check_equal(f"{name}[{i}]", objects.read(folder / f"{seed}_half_shard_{i}.h5ad"), expected, sliced=True)
    for path in folder.glob(f"{seed}*.h5ad"):
        path.unlink()


@pytest.mark.parametrize("start", range(0, COUNT, 25))
def test_random_objects_survive(annfusion, tmp_path, start):
    failures = []
    with anndata.settings.override(remove_unused_categories=False):
        for seed in range(start, start + 25):
            try:
                check(annfusion, seed, tmp_path)
            except (AssertionError, pytest.fail.Exception) as failure:
                failures.append(f"seed {seed}: {str(failure)[:600]}")
    assert not failures, f"{len(failures)} of 25\n" + "\n".join(failures[:5])
