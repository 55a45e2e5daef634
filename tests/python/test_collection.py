"""Collections open as one object: annbatch's layouts, folders of stores, patterns."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr

import objects
from oracle import check_equal
from test_query import tables_of

NAMES = ["dataset_{}.zarr", "chunk_{}.zarr", "dataset_{}.h5ad"]


def whole(seed=0, n=60, m=15):
    rng = np.random.default_rng(seed)
    a = anndata.AnnData(sp.random(n, m, 0.3, format="csr", dtype="f4", random_state=seed))
    a.obs_names, a.var_names = [f"cell{i}" for i in range(n)], [f"gene{i}" for i in range(m)]
    a.obs["kind"] = pd.Categorical.from_codes(rng.integers(-1, 4, n), ["b", "a", "d", "c"])
    # Each part lacks some: the order has to come from the parts that have most.
    a.obs["stage"] = pd.Categorical.from_codes(np.sort(rng.integers(0, 3, n)), ["z", "y", "x"], ordered=True)
    a.obs["score"] = np.where(rng.random(n) < 0.2, np.nan, rng.random(n))
    a.obs["maybe"] = pd.array([None if i % 7 == 0 else i for i in range(n)], dtype="Int32")
    a.obs["on"] = rng.integers(0, 2, n).astype(bool)
    a.obs["text"] = [f"text {i}" for i in range(n)]
    a.var["length"] = rng.integers(0, 9, m)
    a.layers["counts"] = sp.random(n, m, 0.2, format="csr", dtype="f8", random_state=seed)
    a.layers["dense"] = rng.random((n, m)).astype("f4")
    a.obsm["pca"] = rng.random((n, 3))
    a.obsm["frame"] = pd.DataFrame({"p": rng.random(n), "q": a.obs["kind"]}, index=a.obs_names)
    a.varm["loadings"] = rng.random((m, 2))
    a.varp["near"] = sp.random(m, m, 0.1, format="csr", random_state=seed)
    a.uns["about"] = {"a": 1, "b": np.arange(3)}
    a.raw = anndata.AnnData(a.layers["counts"].copy(), obs=a.obs[[]], var=a.var)
    return a


def cut(a, ends):
    """Parts of an object, without the categories that they do not have but in the second part."""
    for i, (start, end) in enumerate(zip([0, *ends], [*ends, a.n_obs])):
        with anndata.settings.override(remove_unused_categories=i != 1):
            yield a[start:end].copy()


def write(part, path):
    part.write_h5ad(path) if path.suffix == ".h5ad" else part.write_zarr(path)


def make(folder, a, name, ends=(7, 40)):
    folder.mkdir()
    for i, part in enumerate(cut(a, ends)):
        write(part, folder / name.format(i))


def check_whole(actual, a):
    """The cells of all parts; sets of categories in some order."""
    for frame, expected in ((actual.obs, a.obs), (actual.obsm["frame"], a.obsm["frame"])):
        for column in expected:
            if isinstance(expected[column].dtype, pd.CategoricalDtype) and not expected[column].cat.ordered:
                assert set(frame[column].cat.categories) == set(expected[column].cat.categories)
                frame[column] = frame[column].cat.set_categories(expected[column].cat.categories)
    check_equal("collection.zarr", actual, a, sliced=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_and_a_pattern_are_one_object(annfusion, tmp_path, name):
    a = whole()
    make(tmp_path / "parts", a, name)
    for n, location in enumerate([tmp_path / "parts", tmp_path / "parts" / name.format("*")]):
        out = tmp_path / f"{n}.h5ad"
        annfusion("convert", location, out)
        check_whole(objects.read(out), a)


def test_members_come_by_number(annfusion, tmp_path):
    a = whole(n=36)
    make(tmp_path / "parts", a, "chunk_{}.zarr", range(3, 36, 3))
    for location in (tmp_path / "parts", f"{tmp_path}/parts/chunk_*"):
        done = annfusion("query", location, "SELECT obs_names FROM obs ORDER BY obs_idx", "--format", "csv")
        assert done.stdout.split()[1:] == list(a.obs_names)


@pytest.mark.parametrize("seed", range(6))
def test_any_cut_is_the_whole(annfusion, tmp_path, seed):
    rng = np.random.default_rng(seed)
    a = whole(seed, n=int(rng.integers(4, 80)))
    ends = np.sort(rng.choice(np.arange(1, a.n_obs), min(3, a.n_obs - 1), replace=False))
    make(tmp_path / "parts", a, NAMES[seed % 3], ends)
    rows = np.sort(rng.choice(a.n_obs, a.n_obs // 2 + 1, replace=False))
    where = f"obs_idx IN ({', '.join(map(str, rows))})"
    annfusion("filter", tmp_path / "parts", tmp_path / "f.h5ad", "--where", where)
    with anndata.settings.override(remove_unused_categories=False):
        check_whole(objects.read(tmp_path / "f.h5ad"), a[rows].copy())
    annfusion("slice", tmp_path / "parts", tmp_path / "s", "--size", 9, "--shuffle", "--seed", seed)
    shards = sorted(tmp_path.glob("s_shard_*.h5ad"))
    names = [name for path in shards for name in objects.read(path).obs_names]
    assert sorted(names) == sorted(a.obs_names) and names != list(a.obs_names)


def test_every_table_and_pushdown(annfusion, tmp_path):
    a = whole()
    make(tmp_path / "parts", a, "dataset_{}.zarr")
    location = f"c={tmp_path / 'parts'}"
    for table in tables_of(a):
        annfusion("query", location, f'SELECT * FROM "{table}"', "--format", "csv")
    sql = "SELECT sum(gene(X, 'gene3')) AS s FROM cells WHERE kind = 'a' AND obs_idx > 5"
    done = annfusion("query", location, sql, "--format", "csv")
    mask = ((a.obs["kind"] == "a") & (np.arange(a.n_obs) > 5)).to_numpy()
    assert float(done.stdout.split()[-1]) == pytest.approx(float(a[mask, "gene3"].X.sum()), rel=1e-5)
    done = annfusion("inspect", tmp_path / "parts", "--json")
    assert '"n_obs": 60' in done.stdout or '"n_obs":60' in done.stdout, done.stdout
    annfusion("verify", tmp_path / "parts")


def test_annbatch_collection(annfusion, tmp_path):
    path = objects.SHARED / "data" / "encodings" / "annbatch-collection.zarr"
    if not path.exists():
        pytest.skip("SKIPPED: shared data is not here")
    root = zarr.open_group(path, mode="r", use_consolidated=False)
    names = sorted(root.group_keys(), key=lambda name: int(name.split("_")[1]))
    parts = [objects.read(path, name) for name in names]
    annfusion("convert", path, tmp_path / "a.h5ad")
    actual = objects.read(tmp_path / "a.h5ad")
    expected = anndata.concat(parts, merge="first", uns_merge="first")
    assert list(actual.obs_names) == list(expected.obs_names)
    assert list(actual.var_names) == list(expected.var_names)
    assert (actual.X != expected.X).nnz == 0
    for column in expected.obs:
        assert list(actual.obs[column].astype(object)) == list(expected.obs[column].astype(object)), column
    # A group of a store that is a collection.
    done = annfusion("query", path, "SELECT count(*) AS n FROM cells", "--format", "csv")
    assert int(done.stdout.split()[-1]) == expected.n_obs


@pytest.mark.parametrize("kind", ["s3", "web"])
def test_behind_a_url(annfusion, request, tmp_path, kind):
    server = request.getfixturevalue(kind)
    a = whole()
    (tmp_path / "root.zarr").mkdir()
    root = zarr.open_group(tmp_path / "root.zarr", mode="w")
    root.attrs.update({"encoding-type": "annbatch-preshuffled", "encoding-version": "0.1.0"})
    for i, part in enumerate(cut(a, (7, 40))):
        anndata.io.write_elem(root, f"dataset_{i}", part)
    make(tmp_path / "parts", a, "chunk_{}.zarr")
    access = server.access()
    # Groups without consolidated metadata can be read where names can be listed.
    for name in ("root.zarr", "parts") if kind == "s3" else ("parts",):
        server.upload(tmp_path / name, f"collections/{name}")
        url = access.url(f"collections/{name}")
        annfusion("convert", url, tmp_path / f"{name}.h5ad", env=access.env)
        check_whole(objects.read(tmp_path / f"{name}.h5ad"), a)


DIFFERENCES = {
    "var": lambda a: a[:, ::-1].copy(),
    "obs/score": lambda a: drop(a, "obs", "score"),
    "layers/counts": lambda a: drop(a, "layers", "counts"),
    "obsm/pca": lambda a: drop(a, "obsm", "pca"),
    "raw": lambda a: set_to(a, "raw", None),
    "X": lambda a: set_to(a, "X", a.X.astype("f8")),
    "stage": lambda a: set_to(a, "obs", a.obs.assign(stage=a.obs["stage"].cat.reorder_categories(["x", "y", "z"]))),
}


def drop(a, group, name):
    del getattr(a, group)[name]
    return a


def set_to(a, attribute, value):
    setattr(a, attribute, value)
    return a


@pytest.mark.parametrize("element", DIFFERENCES)
def test_members_that_differ_are_named(annfusion, tmp_path, element):
    with anndata.settings.override(remove_unused_categories=False):
        parts = [part.copy() for part in cut(whole(), (30,))]
    parts[0].obs["stage"] = parts[0].obs["stage"].cat.set_categories(["z", "y", "x"])
    (tmp_path / "parts").mkdir()
    write(parts[0], tmp_path / "parts" / "dataset_0.h5ad")
    write(DIFFERENCES[element](parts[1]), tmp_path / "parts" / "dataset_1.h5ad")
    done = annfusion("query", tmp_path / "parts", "SELECT count(*) FROM cells", check=False)
    assert done.returncode == 1, done.stdout
    for word in (element, "dataset_0", "dataset_1", "merge"):
        assert word in done.stderr, done.stderr


def test_what_is_no_collection_is_said(annfusion, tmp_path):
    (tmp_path / "empty").mkdir()
    done = annfusion("inspect", tmp_path / "empty", check=False)
    assert done.returncode == 1 and "empty" in done.stderr
    done = annfusion("query", tmp_path / "nothing_*.zarr", "SELECT 1", check=False)
    assert done.returncode == 1 and "nothing matches it" in done.stderr
    make(tmp_path / "both", whole(), "dataset_{}.zarr")
    write(whole(), tmp_path / "both" / "chunk_0.zarr")
    done = annfusion("query", tmp_path / "both", "SELECT count(*) FROM cells", check=False)
    assert done.returncode == 1 and "two collections" in done.stderr
