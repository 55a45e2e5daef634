"""`loader --output -`: minibatches as an Arrow stream, against the cells that anndata reads."""

import io
import json
import subprocess
import warnings
import xml.etree.ElementTree

import anndata
import annbatch
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scanpy
import scipy.sparse as sp
from annbatch.samplers import SequentialSampler

from test_collection import whole, write

OPTIONS = ["--batch-size", 16, "--chunk-size", 4, "--preload-nchunks", 8, "--index"]


def minibatches(annfusion, *args):
    """The minibatches of a run, as pyarrow reads them from a pipe."""
    given = set(map(str, args))
    options = OPTIONS if "--batch-size" not in given else ["--index"]
    command = [annfusion.path, "loader", *map(str, args), *map(str, options), "--output", "-"]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    with pa.ipc.open_stream(io.BytesIO(done.stdout)) as stream:
        return list(stream)


def matrix(column, width):
    """A column of matrix rows as numpy's."""
    if pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy().reshape(len(column), -1)
    entries = column.flatten()
    indptr = np.concatenate([[0], np.cumsum(column.value_lengths().to_numpy())])
    parts = entries.field("data").to_numpy(), entries.field("indices").to_numpy(), indptr
    return sp.csr_matrix(parts, shape=(len(column), width)).toarray()


def dense(x):
    return x.toarray() if sp.issparse(x) else np.asarray(x)


def forms(a, folder):
    """An object in forms that are read in different ways."""
    csc, plain, integers = a.copy(), a.copy(), a.copy()
    csc.X, plain.X = sp.csc_matrix(a.X), a.X.toarray()
    integers.X = sp.csr_matrix((a.X * 100).astype("i4"))
    for name, form in {"csr": a, "csc": csc, "dense": plain, "int": integers}.items():
        form.write_h5ad(folder / f"{name}.h5ad")
        yield folder / f"{name}.h5ad"
    a.write_h5ad(folder / "gzip.h5ad", compression="gzip")
    yield folder / "gzip.h5ad"
    a.write_zarr(folder / "a.zarr")
    yield folder / "a.zarr"


@pytest.fixture(scope="module")
def stored(annfusion, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    paths = list(forms(whole(n=130), folder))
    for codec in ("blosc-lz4", "blosc-zstd", "gzip", "none"):
        annfusion("convert", paths[0], folder / f"{codec}.zarr", "--compression", codec, "--chunk-size", 7, "--shard-size", 35)
        paths.append(folder / f"{codec}.zarr")
    annfusion("collection", "create", folder / "coll.zarr", paths[0], "--dataset-size", 60, "--shuffle-chunk-size", 10)
    return [*paths, folder / "coll.zarr"]


def cells(path):
    """What anndata reads of a form; of a collection its datasets, one after another."""
    if path.name != "coll.zarr":
        return anndata.read_h5ad(path) if path.suffix == ".h5ad" else anndata.read_zarr(path)
    parts = [anndata.read_zarr(part) for part in sorted(path.glob("dataset_*"))]
    united = anndata.concat(parts, merge="same")
    united.obs["kind"] = pd.concat([part.obs["kind"].astype(object) for part in parts])
    return united


@pytest.mark.parametrize("form", range(11))
def test_minibatches_are_rows_of_the_object(annfusion, stored, form):
    path = stored[form]
    a = cells(path)
    batches = minibatches(annfusion, path, "--layer", "counts", "--layer", "dense", "--obsm", "pca", "--obs", "kind",
                          "--obs", "score", *([] if path.name == "coll.zarr" else ["--raw"]), "--seed", 3)
    at = np.concatenate([batch["obs_idx"].to_numpy() for batch in batches])
    assert sorted(at) == list(range(a.n_obs)) and list(at) != sorted(at)
    assert [len(batch) for batch in batches] == [16] * 8 + [2]
    for batch in batches:
        of = a[batch["obs_idx"].to_numpy()]
        assert np.array_equal(matrix(batch["X"], a.n_vars), dense(of.X))
        assert np.array_equal(matrix(batch["layers_counts"], a.n_vars), dense(of.layers["counts"]))
        assert np.array_equal(matrix(batch["layers_dense"], a.n_vars), of.layers["dense"])
        assert np.array_equal(matrix(batch["obsm_pca"], 3), of.obsm["pca"])
        if path.name != "coll.zarr":
            assert np.array_equal(matrix(batch["raw_X"], a.n_vars), dense(of.raw.X))
        kinds = [None if pd.isna(kind) else kind for kind in of.obs["kind"]]
        assert batch["kind"].to_pylist() == kinds
        assert np.array_equal(batch["score"].to_numpy(zero_copy_only=False), of.obs["score"], equal_nan=True)


@pytest.mark.parametrize("sizes", [(16, 4, 8), (7, 1, 21), (50, 10, 20), (64, 1, 64)], ids=str)
@pytest.mark.parametrize("drop_last", [False, True])
def test_sequential_minibatches_are_annbatchs(annfusion, stored, sizes, drop_last):
    """The same batches in the same order, over the borders of datasets."""
    batch_size, chunk_size, preload = sizes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = SequentialSampler(chunk_size, preload, batch_size, drop_last=drop_last)
        theirs = annbatch.Loader(batch_sampler=sampler, return_index=True, preload_to_gpu=False)
        collection = annbatch.DatasetCollection(stored[10], mode="r")
        theirs.use_collection(collection, load_adata=lambda g: anndata.AnnData(
            X=anndata.io.sparse_dataset(g["X"]), obs=anndata.io.read_elem(g["obs"])[["score"]]))
        theirs = list(theirs)
    ours = minibatches(annfusion, stored[10], "--no-shuffle", "--obs", "score", "--batch-size", batch_size,
                       "--chunk-size", chunk_size, "--preload-nchunks", preload, *["--drop-last"] * drop_last)
    assert len(ours) == len(theirs) > 1
    for mine, batch in zip(ours, theirs, strict=True):
        assert np.array_equal(mine["obs_idx"].to_numpy(), batch["index"])
        assert np.array_equal(matrix(mine["X"], batch["X"].shape[1]), batch["X"].toarray())
        scores = mine["score"].to_numpy(zero_copy_only=False)
        assert np.array_equal(scores, batch["obs"]["score"], equal_nan=True)


@pytest.mark.parametrize("form", [0, 1, 2, 3, 10])
@pytest.mark.parametrize("options", [["--normalize-total", 1000], ["--log1p"], ["--normalize-total", 50, "--log1p"]], ids=str)
def test_normalisation_is_scanpys(annfusion, stored, form, options):
    a = cells(stored[form])
    expected = anndata.AnnData(dense(a.X).astype("f4"))
    if "--normalize-total" in options:
        scanpy.pp.normalize_total(expected, target_sum=options[1])
    if "--log1p" in options:
        scanpy.pp.log1p(expected)
    genes = ["gene9", "gene2", "gene11"]
    for more, columns in [([], range(a.n_vars)), (["--genes", ",".join(genes), "--dense"], a.var_names.get_indexer(genes))]:
        for batch in minibatches(annfusion, stored[form], *options, *more):
            rows = batch["obs_idx"].to_numpy()
            found = matrix(batch["X"], len(columns))
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected.X[rows][:, columns], rtol=1e-6, atol=1e-6)


def test_the_order_is_the_seeds(annfusion, stored):
    def order(*options):
        return [i for batch in minibatches(annfusion, stored[-1], *options) for i in batch["obs_idx"].to_pylist()]

    one = order("--seed", 1)
    assert one == order("--seed", 1) == order("--seed", 1, "--read-ahead", "1KB")
    assert one != order("--seed", 2)
    assert order("--no-shuffle") == list(range(130))
    halves = [order("--seed", 1, "--rank", rank, "--world-size", 2) for rank in (0, 1)]
    # Two cells of the last round, one for each.
    assert halves[0][:-1] + halves[1][:-1] + halves[0][-1:] + halves[1][-1:] == one
    assert order("--seed", 1, "--drop-last") == one[:128]
    assert order("--seed", 1, "--pad") == one + one[:14]
    epochs = order("--seed", 1, "--epochs", 2)
    assert epochs[:130] == one and sorted(epochs[130:]) == sorted(one) and epochs[130:] != one
    kept = order("--where", "score > 0.5")
    assert sorted(kept) == list(np.flatnonzero(cells(stored[-1]).obs["score"] > 0.5))


def test_figures_are_one_line_of_json(annfusion, stored):
    done = annfusion("loader", stored[-1], *OPTIONS, "--obs", "kind", "--epochs", 3, "--json")
    figures = json.loads(done.stdout)
    assert figures["cells"] == 390 and len(figures["epochs_cells_s"]) == 3
    assert 0 < figures["first_batch_s"] < 60 and figures["cells_s"] > 0
    assert 0.5 < figures["diversity"]["kind"] <= 1


def test_what_cannot_be_loaded_is_refused(annfusion, stored, tmp_path):
    for options, reason in [
        (["--obs", "nothing"], "no 'nothing'; there are"),
        (["--layer", "nothing"], "no 'nothing'; there are"),
        (["--genes", "nothing"], "nothing"),
        (["--balance", "score"], "not a categorical"),
        (["--where", "score > 7"], "no cells"),
        (["--rank", 2, "--world-size", 2], "no part 2 of 2"),
    ]:
        done = annfusion("loader", stored[-1], *OPTIONS, *options, check=False)
        assert done.returncode == 1 and reason in done.stderr, done.stderr
    done = annfusion("loader", stored[0], "--batch-size", 10, check=False)
    assert done.returncode == 1 and "whole number of minibatches" in done.stderr
    a = whole(n=20, m=9)
    a.write_h5ad(tmp_path / "other.h5ad")
    done = annfusion("loader", stored[0], tmp_path / "other.h5ad", *OPTIONS, check=False)
    assert done.returncode == 1 and "other.h5ad (9 genes)" in done.stderr


def test_sizes_are_tried_and_drawn(annfusion, stored, tmp_path):
    chart = tmp_path / "sizes.svg"
    options = ["--batch-size", 16, "--chunk-size", 4, "--preload-nchunks", 16, "--obs", "kind", "--chart", chart]
    settings = json.loads(annfusion("loader", stored[-1], *options, "--json").stdout)
    windows = {s["chunk_size"] * s["preload_nchunks"] for s in settings}
    assert windows == {16, 64, 256} and {s["chunk_size"] for s in settings} == {1, 4, 8, 32, 128}
    assert all(s["cells"] > 0 and s["cells_s"] > 0 and 0 < s["diversity"]["kind"] <= 1 for s in settings)
    assert chart.stat().st_mode & 0o044, "readable as other new files are"
    root = xml.etree.ElementTree.parse(chart).getroot()
    texts = {text.text.strip() for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"cells per second", "window of 64 cells", "kind: entropy in minibatches, of that in all cells"} <= texts
    done = annfusion("loader", stored[-1], *options, check=False)
    assert done.returncode == 1 and "exists" in done.stderr
    done = annfusion("loader", stored[-1], *options, "--overwrite")
    assert len(done.stdout.splitlines()) == len(settings) + 2
    done = annfusion("loader", stored[-1], *options[:-1], tmp_path / "sizes.png", check=False)
    assert done.returncode == 1 and ".svg" in done.stderr


@pytest.mark.parametrize("join", ["outer", "inner"])
@pytest.mark.parametrize("options", [[], ["--dense"], ["--normalize-total", 100, "--log1p"]], ids=str)
def test_objects_with_different_genes_are_joined_as_concat_does(annfusion, tmp_path, join, options):
    a, b, c = (whole(seed, n, 15) for seed, n in enumerate((30, 40, 23)))
    b = b[:, [3, 1, 0, 14, 7, 8, 9, 12]].copy()
    b.var_names = [*b.var_names[:6], "other", "another"]
    c = c[:, [9, 3, 8, 2, 0]].copy()
    del b.obs["maybe"], a.obs["kind"], c.obs["score"], c.obsm["frame"], a.layers["dense"], a.raw, b.raw, c.raw
    paths = [tmp_path / "a.h5ad", tmp_path / "b.h5ad", tmp_path / "c.zarr"]
    for part, path in zip([a, b, c], paths):
        write(part, path)
    expected = anndata.concat([a, b, c], join=join)
    united = anndata.AnnData(dense(expected.X).astype("f4"))
    if options[:1] == ["--normalize-total"]:
        scanpy.pp.normalize_total(united, target_sum=100)
        scanpy.pp.log1p(united)
    genes = list(expected.var_names[[2, 0]])
    some = {"outer": ["maybe", "kind", "score"], "inner": []}[join]
    for more, places in [([], range(expected.n_vars)), (["--genes", ",".join(genes)], [2, 0])]:
        asked = ["--join", join, "--obs", "text", "--layer", "counts", "--obsm", "pca", *options, *more]
        asked += [option for name in some for option in ("--obs", name)]
        seen = []
        for batch in minibatches(annfusion, *paths, *asked):
            rows = batch["obs_idx"].to_numpy()
            seen.extend(rows)
            assert json.loads(batch.schema.metadata[b"genes"]) == list(expected.var_names[places])
            np.testing.assert_allclose(matrix(batch["X"], len(places)), united.X[rows][:, places], rtol=1e-5, atol=1e-6)
            found = matrix(batch["layers_counts"], len(places))
            assert np.array_equal(found, dense(expected.layers["counts"])[rows][:, places])
            assert batch["text"].to_pylist() == list(expected.obs["text"].iloc[rows])
            for name in some:
                values = expected.obs[name].iloc[rows]
                found = [None if pd.isna(value) else value for value in batch[name].to_pylist()]
                assert found == [None if pd.isna(value) else value for value in values]
            pca = batch["obsm_pca"].flatten().to_numpy().reshape(len(rows), -1)
            assert np.array_equal(pca, expected.obsm["pca"][rows])
        assert sorted(seen) == list(range(93))
    for more, reason in [
        (["--join", join, "--layer", "dense"], "no 'dense'"),
        (["--join", join, "--obs", "none" if some else "maybe"], "no 'none'; there are" if some else "no 'maybe'"),
        ([], "not the same"),
    ]:
        done = annfusion("loader", *paths, *OPTIONS, *more, check=False)
        assert done.returncode == 1 and reason in done.stderr, done.stderr
    b.X = b.X.toarray()
    b.write_h5ad(paths[1])
    c.X = c.X.toarray()
    c.write_h5ad(tmp_path / "c.h5ad")
    done = annfusion("loader", paths[1], tmp_path / "c.h5ad", *OPTIONS, "--join", join, check=False)
    assert done.returncode == 1 and "one column" in done.stderr, done.stderr


@pytest.mark.parametrize("how", [[], ["--by", "kind"], ["--stratify", "kind"], ["--where", "score > 0.3"]], ids=str)
def test_splits_partition_the_cells(annfusion, stored, how):
    parts = {"train": 0.6, "val": 0.4} if "--by" in how else {"train": 0.7, "val": 0.2, "test": 0.1}
    split = ["--split", ",".join(f"{name}={part}" for name, part in parts.items()), *how]
    a = cells(stored[-1])

    def of(name, *more):
        batches = minibatches(annfusion, stored[-1], *split, "--take", name, *more)
        return [i for batch in batches for i in batch["obs_idx"].to_pylist()]

    rows = {name: of(name) for name in parts}
    expected = np.flatnonzero(a.obs["score"] > 0.3) if "--where" in how else np.arange(130)
    assert sorted(i for part in rows.values() for i in part) == list(expected)
    # Another order, of the same cells; another split.
    assert set(of("val", "--seed", 7)) == set(rows["val"]) and of("val", "--seed", 7) != rows["val"]
    assert set(of("val", "--split-seed", 7)) != set(rows["val"])
    kinds = a.obs["kind"].astype(object).fillna("none")
    if "--by" in how:
        found = [set(kinds.iloc[part]) for part in rows.values()]
        assert sum(map(len, found)) == len(set(kinds))
    else:
        for name, part in parts.items():
            assert abs(len(rows[name]) - part * len(expected)) <= (len(set(kinds)) if "--stratify" in how else 1)
    if "--stratify" in how:
        for kind in set(kinds):
            for name, part in parts.items():
                assert abs((kinds.iloc[rows[name]] == kind).sum() - part * (kinds == kind).sum()) <= 1
    done = annfusion("loader", stored[-1], *OPTIONS, *split, "--take", "nothing", check=False)
    assert done.returncode == 1 and "there are train, val" in done.stderr
