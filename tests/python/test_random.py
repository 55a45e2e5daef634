"""Random objects of anndata's own generator survive a slice, whole and in two shards, and zarr."""

import math
import random
import shutil
import warnings

import anndata
import numcodecs
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from anndata.tests.helpers import gen_adata

import objects
from oracle import check_equal

COUNT = 300
AT_A_TIME = 6
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
        for aligned in (a.obsm, a.varm):
            # With xarray, which annbatch brings along, there are data sets that anndata does not write.
            for key in [key for key in aligned if "xdataset" in key.lower()]:
                del aligned[key]
        if seed % 3 == 0 and a.X is not None:
            a.raw = a.copy()
        compression = [None, "gzip", "lzf"][seed % 3]
        a.write_h5ad(path, compression=compression)
    return f"seed {seed} ({kind}, {shape[0]} × {shape[1]}, {compression})"


def write_zarr(seed, source, path):
    """Writes the object as zarr, its arrays in chunks (and shards, of v3) of random shapes."""
    rng = np.random.default_rng(seed)
    version = 2 + seed // 12 % 2
    codecs = {2: [numcodecs.Blosc(cname="lz4"), numcodecs.Zstd(), numcodecs.GZip(), None], 3: None}

    def write(write_elem, group, key, elem, *, dataset_kwargs, iospec):
        kwargs = dict(dataset_kwargs)
        sparse = iospec.encoding_type in ("csr_matrix", "csc_matrix")
        shape = (max(elem.nnz, 1),) if sparse else getattr(elem, "shape", ())
        if (sparse or isinstance(elem, np.ndarray) and elem.dtype.kind in "biufc") and shape and 0 not in shape:
            chunks = tuple(int(rng.integers(max(n // 9, 1), n + 3)) for n in shape)
            kwargs["chunks"] = chunks
            if version == 3 and rng.random() < 0.6:
                kwargs["shards"] = tuple(c * int(rng.integers(1, 4)) for c in chunks)
            if version == 2:
                kwargs["compressor"] = codecs[2][int(rng.integers(4))]
        write_elem(group, key, elem, dataset_kwargs=kwargs)

    with warnings.catch_warnings(), anndata.settings.override(zarr_write_format=version):
        warnings.simplefilter("ignore")
        group = zarr.open_group(path, mode="w", zarr_format=version)
        anndata.experimental.write_dispatched(group, "/", objects.read(source), write)


def check(annfusion, seed, folder):
    source = folder / f"{seed}.h5ad"
    name = generate(seed, source)
    whole = objects.read(source)
    if seed % 12 == 1:
        store = folder / f"{seed}.zarr"
        write_zarr(seed, source, store)
        annfusion("slice", store, folder / f"{seed}_zarr", "--size", 1_000_000)
        check_equal(f"{name} from .zarr", objects.read(folder / f"{seed}_zarr_shard_0.h5ad"), objects.read(store))
        shutil.rmtree(store)
    if seed % 4 == 3:
        rng = np.random.default_rng(seed)
        store, chunk = folder / f"{seed}.zarr", int(rng.integers(1, 90))
        form = [["--zarr-version", 2], ["--no-shards"], ["--shard-size", chunk * int(rng.integers(1, 4))]][seed // 4 % 3]
        codec = ["none", "zstd", "blosc-lz4", "blosc-zstd", "gzip"][seed // 4 % 5]
        annfusion("convert", source, store, *form, "--chunk-size", chunk, "--compression", codec)
        check_equal(f"{name} as .zarr", objects.read(store), whole)
        annfusion("convert", store, folder / f"{seed}_back.h5ad")
        check_equal(name, objects.read(folder / f"{seed}_back.h5ad"), whole)
        shutil.rmtree(store)
    annfusion("slice", source, folder / f"{seed}_whole", "--size", 1_000_000)
    check_equal(name, objects.read(folder / f"{seed}_whole_shard_0.h5ad"), whole)
    size = math.ceil(whole.n_obs / 2)
    annfusion("slice", source, folder / f"{seed}_half", "--size", size)
    for i, start in enumerate(range(0, whole.n_obs, size)):
        expected = whole[start : start + size].copy()
        check_equal(f"{name}[{i}]", objects.read(folder / f"{seed}_half_shard_{i}.h5ad"), expected, sliced=True)
    for path in folder.glob(f"{seed}*.h5ad"):
        path.unlink()


@pytest.mark.parametrize("start", range(0, COUNT, AT_A_TIME))
def test_random_objects_survive(annfusion, tmp_path, start):
    failures = []
    with anndata.settings.override(remove_unused_categories=False):
        for seed in range(start, start + AT_A_TIME):
            try:
                check(annfusion, seed, tmp_path)
            except (AssertionError, pytest.fail.Exception) as failure:
                failures.append(f"seed {seed}: {str(failure)[:600]}")
    assert not failures, f"{len(failures)} of {AT_A_TIME}\n" + "\n".join(failures[:5])
