"""`collection create`: what annbatch's loader reads of it, and its layout."""

import fcntl
import filecmp
import json
import os
import shutil
import warnings

import anndata
import annbatch
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr

import objects
from test_collection import whole
from test_convert import tree


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Objects with other genes, columns and orders of genes; the second is by column, the third dense."""
    folder = tmp_path_factory.mktemp("inputs")
    for i, kind in enumerate([sp.csr_matrix, sp.csc_matrix, lambda x: x.toarray()]):
        n, m = 230 + 40 * i, 30
        rng = np.random.default_rng(i)
        x = sp.random(n, m, 0.3, format="csr", random_state=i)
        x.data = rng.integers(1, 9, len(x.data)).astype("f4")
        a = anndata.AnnData(kind(x))
        a.obs_names = [f"{i}-{j}" for j in range(n)]
        a.var_names = [f"gene{j}" for j in rng.permutation(40)[:m]]
        a.obs["kind"] = pd.Categorical(rng.choice(list("abc"[: i + 2]), n))
        a.obs["score"] = rng.random(n)
        if i:
            a.obs["late"] = rng.integers(0, 5, n)
        a.obsm["pca"] = rng.random((n, 4)).astype("f4")
        a.layers["counts"] = x.copy()
        a.write_h5ad(folder / f"{i}.h5ad")
    return sorted(folder.iterdir())


def concat(paths):
    return anndata.concat([anndata.read_h5ad(path) for path in paths], join="outer")


def datasets(path):
    group = zarr.open_group(path, mode="r")
    names = sorted(group.group_keys(), key=lambda name: int(name.split("_")[1]))
    return [objects.read(path, name) for name in names]


def by_name(parts, names):
    """All cells of a collection, in the order of `names`."""
    united = anndata.concat(parts, join="outer", merge="same")
    for column in parts[0].obs:
        if isinstance(parts[0].obs[column].dtype, pd.CategoricalDtype):
            united.obs[column] = pd.concat([part.obs[column].astype(object) for part in parts]).astype("category")
    assert sorted(united.obs_names) == sorted(names)
    return united[list(names)].copy()


@pytest.mark.parametrize("shuffle", [["--shuffle", "block"], ["--shuffle", "exact"], ["--no-shuffle"]], ids=str)
def test_every_cell_is_there_once(annfusion, inputs, tmp_path, shuffle):
    size = [] if "exact" in shuffle or "--no-shuffle" in shuffle else ["--shuffle-chunk-size", 25]
    annfusion("collection", "create", tmp_path / "c.zarr", *inputs, "--dataset-size", 100, *shuffle, *size)
    expected, parts = concat(inputs), datasets(tmp_path / "c.zarr")
    assert [len(part) for part in parts] == [100] * 8 + [10] or "block" in shuffle
    assert sum(map(len, parts)) == expected.n_obs and len(parts) == 9
    found = by_name(parts, expected.obs_names)
    source = pd.Series(found.obs.pop("src_path"))
    assert [name.split("-")[0] for name in found.obs_names] == [path.split("/")[-1][0] for path in source]
    assert list(found.var_names) == list(expected.var_names)
    assert np.array_equal(found.X.toarray(), objects_dense(expected.X))
    assert np.array_equal(found.layers["counts"].toarray(), objects_dense(expected.layers["counts"]))
    assert np.array_equal(found.obsm["pca"], expected.obsm["pca"])
    for column in expected.obs:
        left, right = found.obs[column].astype(object), expected.obs[column].astype(object)
        assert left.equals(right) or np.array_equal(left.isna(), right.isna()) and (left == right)[left.notna()].all()
    in_order = [name for part in parts for name in part.obs_names] == list(expected.obs_names)
    assert in_order == ("--no-shuffle" in shuffle)


def objects_dense(x):
    return x.toarray() if sp.issparse(x) else np.asarray(x)


def test_annbatch_loads_it(annfusion, inputs, tmp_path):
    annfusion("collection", "create", tmp_path / "c.zarr", *inputs[:2], "--dataset-size", 200, "--shuffle-chunk-size", 20)
    expected = concat(inputs[:2])
    collection = annbatch.DatasetCollection(tmp_path / "c.zarr", mode="r")
    assert not collection.is_empty
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loader = annbatch.Loader(
            batch_size=50, chunk_size=10, preload_nchunks=20, shuffle=True, rng=np.random.default_rng(0), preload_to_gpu=False
        )
        loader.use_collection(collection, load_adata=lambda g: anndata.AnnData(
            X=anndata.io.sparse_dataset(g["X"]), obs=anndata.io.read_elem(g["obs"])[["score", "kind"]]))
        batches = [(batch["X"].toarray(), batch["obs"]) for batch in loader]
    x = np.concatenate([x for x, _ in batches])
    obs = pd.concat([obs for _, obs in batches])
    assert sorted(obs.index) == sorted(expected.obs_names)
    at = expected.obs_names.get_indexer(obs.index)
    assert np.array_equal(x, objects_dense(expected.X)[at])
    assert (obs["kind"].astype(str).to_numpy() == expected.obs["kind"].astype(str).to_numpy()[at]).all()


@pytest.mark.parametrize("dense", [False, True])
def test_its_layout_is_annbatchs(annfusion, tmp_path, dense):
    """A dataset is stored as `write_sharded` stores the same cells."""
    a = whole(n=300)
    a.X = a.X.toarray() if dense else a.X
    a.write_h5ad(tmp_path / "a.h5ad")
    annfusion("collection", "create", tmp_path / "ours.zarr", tmp_path / "a.h5ad", "--dataset-size", 120,
              "--shuffle-chunk-size", 30, "--n-obs-per-chunk", 16, "--shard-size", 50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = annbatch.DatasetCollection(tmp_path / "theirs.zarr")
        theirs.add_adatas([tmp_path / "a.h5ad"], dataset_size=120, shuffle_chunk_size=30, n_obs_per_chunk=16, shard_size=50)
    ours, theirs = zarr.open_group(tmp_path / "ours.zarr", mode="r"), zarr.open_group(tmp_path / "theirs.zarr", mode="r")
    assert dict(ours.attrs) == dict(theirs.attrs)
    assert sorted(ours.group_keys()) == sorted(theirs.group_keys()) == ["dataset_0", "dataset_1", "dataset_2"]
    assert ours.metadata.consolidated_metadata is None
    for name, part in zip(sorted(ours.group_keys()), datasets(tmp_path / "ours.zarr"), strict=True):
        again = zarr.open_group(tmp_path / f"{name}.zarr", mode="w", zarr_format=3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            annbatch.write_sharded(again, part, n_obs_per_chunk=16, shard_size=50)
        # Text is read as pandas has it now, and written with a mask.
        of = ("X", "layers", "obsm/pca", "raw/X", "varp")
        ours_tree, again_tree = ({k: v for k, v in tree(g).items() if k.startswith(of)} for g in (ours[name], again))
        assert sorted(ours_tree) == sorted(again_tree) and len(ours_tree) > 10
        assert {k: (ours_tree[k], again_tree[k]) for k in ours_tree if ours_tree[k] != again_tree[k]} == {}


def same_files(a, b):
    comparison = filecmp.dircmp(a, b)
    assert not comparison.left_only and not comparison.right_only and not comparison.diff_files, (a, b)
    for name in comparison.common_dirs:
        same_files(a / name, b / name)


@pytest.mark.parametrize("shuffle", ["block", "exact"])
def test_seed_and_inputs_fix_it(annfusion, inputs, tmp_path, shuffle):
    """Whatever the way, the memory and the threads."""
    options = ["--dataset-size", 150, "--shuffle", shuffle, "--seed", 5]
    options += ["--shuffle-chunk-size", 25] if shuffle == "block" else []
    one = tmp_path / "0.zarr"
    annfusion("collection", "create", one, *inputs, *options)
    for i, more in enumerate([["--shuffle-way", way] for way in ("memory", "scatter", "passes")] + [["--memory-limit", "192MiB"]]):
        again = tmp_path / f"again{i}.zarr"
        annfusion("collection", "create", again, *inputs, *options, *more)
        same_files(one, again)
    other = tmp_path / "other.zarr"
    options[options.index("--seed") + 1] = 6
    annfusion("collection", "create", other, *inputs, *options)
    assert [list(p.obs_names) for p in datasets(other)] != [list(p.obs_names) for p in datasets(one)]


def test_blocks_go_to_one_dataset(annfusion, inputs, tmp_path):
    annfusion("collection", "create", tmp_path / "c.zarr", inputs[0], "--dataset-size", 60, "--shuffle-chunk-size", 20)
    expected = anndata.read_h5ad(inputs[0])
    for part in datasets(tmp_path / "c.zarr"):
        at = np.sort(expected.obs_names.get_indexer(part.obs_names))
        assert set(np.bincount(at // 20, minlength=12)) <= {0, 10, 20}


def grouped(part):
    """What `groupby` of annbatch makes of a dataset."""
    return part[part.obs.reset_index(drop=True).sort_values(["kind", "late"], kind="stable").index.to_numpy()]


BY = ["--groupby", "kind", "--groupby", "late"]


@pytest.mark.parametrize("shuffle", [["--shuffle-chunk-size", 25, "--seed", 4], ["--no-shuffle"]], ids=str)
def test_datasets_are_sorted_by_columns(annfusion, inputs, tmp_path, shuffle):
    """A dataset with groups is the same one without, sorted."""
    size = ["--dataset-size", 200]
    annfusion("collection", "create", tmp_path / "plain.zarr", *inputs, *size, *shuffle)
    annfusion("collection", "create", tmp_path / "sorted.zarr", *inputs, *size, *shuffle, *BY)
    for plain, found in zip(datasets(tmp_path / "plain.zarr"), datasets(tmp_path / "sorted.zarr"), strict=True):
        expected = grouped(plain)
        assert list(found.obs_names) == list(expected.obs_names) != list(plain.obs_names)
        # Views of anndata forget categories that they have no cell of.
        assert found.obs.astype(str).equals(expected.obs.astype(str))
        assert np.array_equal(found.X.toarray(), expected.X.toarray())
    # So are those that cells are added to.
    for name, by in [("plain", []), ("sorted", BY)]:
        annfusion("collection", "create", tmp_path / f"{name}2.zarr", *inputs[1:], *size, *shuffle, *by)
        annfusion("collection", "add", tmp_path / f"{name}2.zarr", inputs[0], *shuffle, *by)
    for plain, found in zip(datasets(tmp_path / "plain2.zarr"), datasets(tmp_path / "sorted2.zarr"), strict=True):
        assert set(plain.obs_names) == set(found.obs_names) and len(found) > 200
        assert list(grouped(found).obs_names) == list(found.obs_names)
        if "--no-shuffle" in shuffle:
            assert list(grouped(plain).obs_names) == list(found.obs_names)


def test_groups_do_not_depend_on_how_they_are_made(annfusion, inputs, tmp_path):
    options = ["--dataset-size", 100, "--shuffle-chunk-size", 25, "--groupby", "kind"]
    for objects_, ways in [(inputs[1:2], ("memory", "gather", "scatter", "passes")), (inputs, ("memory", "scatter", "passes"))]:
        one = tmp_path / f"{len(objects_)}.zarr"
        done = annfusion("collection", "create", one, *objects_, *options, "--groupby", "late")
        assert ("0.h5ad: obs has no column 'late'" in done.stderr) == (inputs[0] in objects_)
        for way in ways:
            again = tmp_path / f"{len(objects_)}-{way}.zarr"
            annfusion("collection", "create", again, *objects_, *options, "--groupby", "late", "--shuffle-way", way)
            same_files(one, again)
    for options, reason in [
        (["--groupby", "kin"], "did you mean 'kind'"),
        (["--groupby", "kind", "--groupby", "kind"], "given twice"),
        (["--groupby", "X"], "no column 'X'"),
        (["--groupby", "obs_names"], "no column 'obs_names'"),
        (["--groupby", "late", "--join", "inner"], "left out"),
        (["--groupby", "kind", "--shuffle", "exact"], "exact"),
    ]:
        done = annfusion("collection", "create", tmp_path / "no.zarr", *inputs, *options, check=False)
        assert done.returncode == 1 and reason in done.stderr, done.stderr


def test_genes_are_chosen_and_info_says_what_there_is(annfusion, inputs, tmp_path):
    annfusion("collection", "create", tmp_path / "c.zarr", *inputs, "--dataset-size", 300,
              "--shuffle-chunk-size", 50, "--var-subset", "gene7,gene2")
    expected = concat(inputs)
    found = by_name(datasets(tmp_path / "c.zarr"), expected.obs_names)
    genes = [name for name in expected.var_names if name in ("gene7", "gene2")]
    assert list(found.var_names) == genes
    assert np.array_equal(found.X.toarray(), objects_dense(expected[:, genes].X))
    info = json.loads(annfusion("collection", "info", tmp_path / "c.zarr", "--json").stdout)
    assert info["n_obs"] == expected.n_obs and info["n_vars"] == 2
    assert [d["n_obs"] for d in info["datasets"]] == [len(p) for p in datasets(tmp_path / "c.zarr")]
    assert "src_path" in info["obs_columns"]
    done = annfusion("collection", "info", inputs[0], check=False)
    assert done.returncode == 1 and "not a collection" in done.stderr


def test_what_cannot_be_is_refused_and_leaves_nothing(annfusion, inputs, tmp_path):
    for options, reason in [
        (["--dataset-size", 20], "not even a block"),
        (["--var-subset", "gene"], "no gene 'gene'"),
        (["--drop", "layers/none"], "layers/none"),
    ]:
        done = annfusion("collection", "create", tmp_path / "c.zarr", *inputs, *options, check=False)
        assert done.returncode == 1 and reason in done.stderr, done.stderr
    done = annfusion("collection", "create", tmp_path / "c.h5ad", inputs[0], check=False)
    assert done.returncode == 1 and ".zarr" in done.stderr
    broken = tmp_path / "broken.h5ad"
    broken.write_bytes(inputs[2].read_bytes()[:-9000])
    done = annfusion("collection", "create", tmp_path / "c.zarr", inputs[0], broken, check=False)
    assert done.returncode == 1 and "broken.h5ad" in done.stderr
    assert os.listdir(tmp_path) == ["broken.h5ad"]
    annfusion("collection", "create", tmp_path / "c.zarr", inputs[0])
    done = annfusion("collection", "create", tmp_path / "c.zarr", inputs[1], check=False)
    assert done.returncode == 1 and "--overwrite" in done.stderr
    annfusion("collection", "create", tmp_path / "c.zarr", inputs[1], "--overwrite")
    assert sum(map(len, datasets(tmp_path / "c.zarr"))) == 270
    done = annfusion("collection", "create", tmp_path / "c.zarr", tmp_path / "c.zarr", "--overwrite", check=False)
    assert done.returncode == 1 and "also an input" in done.stderr


@pytest.mark.parametrize("options", [["--shuffle-chunk-size", 25, "--seed", 3], ["--no-shuffle"], []], ids=str)
def test_cells_are_added_to_all_datasets(annfusion, inputs, tmp_path, options):
    c = tmp_path / "c.zarr"
    annfusion("collection", "create", c, *inputs[:2], "--dataset-size", 100, "--shuffle-chunk-size", 25)
    before = datasets(c)
    genes = list(before[0].var_names)
    copy = tmp_path / "copy.zarr"
    shutil.copytree(c, copy)
    done = annfusion("collection", "add", c, inputs[2], *options)
    assert "2.h5ad: it has" in done.stderr
    after = datasets(c)
    grown = [len(new) - len(old) for old, new in zip(before, after, strict=True)]
    assert sum(grown) == 310 and max(grown) - min(grown) <= 62
    for old, new in zip(before, after):
        assert set(old.obs_names) <= set(new.obs_names)
        assert (list(old.obs_names) == list(new.obs_names)[: len(old)]) == ("--no-shuffle" in options)
    # Genes are those of the collection, and what it does not have is filled.
    expected = anndata.concat([concat(inputs[:2]), anndata.read_h5ad(inputs[2])], join="outer")[:, genes]
    found = by_name(after, expected.obs_names)
    assert list(found.var_names) == genes
    source = found.obs.pop("src_path").astype(str)
    assert [name.split("-")[0] for name in found.obs_names] == [path.split("/")[-1][0] for path in source]
    assert np.array_equal(found.X.toarray(), objects_dense(expected.X))
    assert np.array_equal(found.layers["counts"].toarray(), objects_dense(expected.layers["counts"]))
    assert np.array_equal(found.obsm["pca"], expected.obsm["pca"])
    assert (found.obs["kind"].astype(str) == expected.obs["kind"].astype(str)).all()
    assert all(new.var.equals(old.var) and set(new.uns) == set(old.uns) for old, new in zip(before, after))
    assert "already" not in done.stderr
    assert "2.h5ad: the collection has cells of an object of this name already" in annfusion("collection", "add", c, inputs[2], "--dry-run").stderr
    # The memory that it may take changes nothing of it.
    annfusion("collection", "add", copy, inputs[2], *options, "--memory-limit", "192MiB")
    same_files(c, copy)
    assert not annbatch.DatasetCollection(c, mode="r").is_empty


def test_annbatch_adds_to_ours_and_we_to_its(annfusion, inputs, tmp_path):
    expected = concat(inputs[:2])
    for ours_first in (True, False):
        c = tmp_path / f"{ours_first}.zarr"

        def by_annbatch(path, how):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                annbatch.DatasetCollection(c).add_adatas([str(path)], rng=np.random.default_rng(0), shuffle_chunk_size=20, **how)

        if ours_first:
            annfusion("collection", "create", c, inputs[0], "--dataset-size", 100, "--shuffle-chunk-size", 25)
            by_annbatch(inputs[1], {})
        else:
            by_annbatch(inputs[0], {"dataset_size": 100})
            annfusion("collection", "add", c, inputs[1], "--shuffle-chunk-size", 20)
        parts = datasets(c)
        assert len(parts) > 1
        found = by_name(parts, expected.obs_names)
        of = expected[:, list(found.var_names)]
        assert np.array_equal(objects_dense(found.X), objects_dense(of.X))
        assert {path.split("/")[-1] for path in found.obs["src_path"].astype(str)} == {"0.h5ad", "1.h5ad"}


def test_what_cannot_be_added_is_refused(annfusion, inputs, tmp_path):
    c = tmp_path / "c.zarr"
    annfusion("collection", "create", c, inputs[0])
    before = {path.relative_to(c): path.stat().st_mtime_ns for path in c.rglob("*")}
    for args, reason in [
        ([c, c], "also an input"),
        ([inputs[0], inputs[1]], "not a collection"),
        ([c, tmp_path / "none.h5ad"], "none.h5ad"),
        ([c, inputs[1], "--drop", "layers/none"], "layers/none"),
        (["s3://bucket/c.zarr", inputs[1]], "bucket"),
    ]:
        done = annfusion("collection", "add", *args, check=False)
        assert done.returncode == 1 and reason in done.stderr, done.stderr
    other = anndata.read_h5ad(inputs[1])
    other.var_names = [f"other{i}" for i in range(other.n_vars)]
    other.write_h5ad(tmp_path / "genes.h5ad")
    done = annfusion("collection", "add", c, tmp_path / "genes.h5ad", check=False)
    assert done.returncode == 1 and "none of its 30 genes" in done.stderr, done.stderr
    (tmp_path / "genes.h5ad").unlink()
    other = anndata.read_h5ad(inputs[1])
    other.obs["src_path"] = [f"elsewhere {i}" for i in range(other.n_obs)]
    # As many texts as cells stay text.
    other.write_h5ad(tmp_path / "text.h5ad")
    done = annfusion("collection", "add", c, tmp_path / "text.h5ad", check=False)
    assert done.returncode == 1 and "obs/src_path" in done.stderr, done.stderr
    (tmp_path / "text.h5ad").unlink()
    folder = os.open(c, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    done = annfusion("collection", "add", c, inputs[1], check=False)
    assert done.returncode == 1 and "another process" in done.stderr, done.stderr
    os.close(folder)
    one = tmp_path / "one.zarr"
    annfusion("convert", inputs[0], one)
    done = annfusion("collection", "add", one, inputs[1], check=False)
    assert done.returncode == 1 and "not a collection" in done.stderr
    assert {path.relative_to(c): path.stat().st_mtime_ns for path in c.rglob("*")} == before
    assert sorted(os.listdir(tmp_path)) == ["c.zarr", "one.zarr"]
