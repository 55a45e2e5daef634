"""What `convert` writes: every format opens in anndata and zarr, and equals what was read."""

import json
import subprocess
import sys
import warnings

import anndata
import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import zarr

import objects
from oracle import check_equal

# Arguments that give each form of store.
FORMS = {
    "v3": ["--zarr-version", 3],
    "v3-flat": ["--zarr-version", 3, "--no-shards"],
    "v2": ["--zarr-version", 2],
}


def test_round_trip(annfusion, shared_object, tmp_path):
    """h5ad (or what there is) -> v3 -> v2 -> h5ad."""
    expected = shared_object.read()
    v3, v2, back = tmp_path / "a.zarr", tmp_path / "b.zarr", tmp_path / "c.h5ad"
    annfusion("convert", shared_object.location, v3)
    annfusion("convert", v3, v2, "--zarr-version", 2, "--compression", "blosc-lz4")
    annfusion("convert", v2, back)
    for path in (v3, v2, back):
        name = f"{shared_object} as {path.name}" if path.suffix == ".zarr" else str(shared_object)
        check_equal(name, objects.read(path), expected)
    done = annfusion("verify", shared_object.location, back)
    assert done.returncode == 0, done.stdout
    # Matrices by column are written by row, so only then are all bytes of values those of the input.
    annfusion("verify", v3, v2)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("compression", ["none", "zstd", "blosc-lz4", "blosc-zstd", "gzip"])
def test_layout_is_as_asked_for(annfusion, synth, tmp_path, form, compression):
    path = tmp_path / "x.zarr"
    chosen = ["--chunk-size", 100] + (["--shard-size", 1000] if form == "v3" else [])
    annfusion("convert", synth, path, *FORMS[form], "--compression", compression, *chosen)
    check_equal("synth.zarr", objects.read(path), objects.read(synth))
    a = objects.read(synth)
    mean = a.X.nnz / a.n_obs
    root = zarr.open_group(path, mode="r")
    data, pca = root["X/data"], root["obsm/X_pca"]
    assert data.chunks == (int(100 * mean),) and root["X/indices"].chunks == data.chunks
    assert pca.chunks == (100, pca.shape[1])
    assert root.metadata.zarr_format == (2 if form == "v2" else 3)
    if form == "v3":
        shard = int(1000 * mean)
        assert data.shards == (shard - shard % data.chunks[0],)
        assert pca.shards == (1000, pca.shape[1])
        assert "crc32c" in json.dumps(data.metadata.to_dict())
    else:
        assert data.shards is None
    codecs = [type(c).__name__.lower() for c in data.compressors]
    wanted = {"none": []}.get(compression, [compression.split("-")[0]])
    assert len(codecs) == len(wanted) and all(w in c for w, c in zip(wanted, codecs)), codecs
    described = str(data.info).lower()
    assert compression == "none" or wanted[0] in described, described


def test_consolidated_metadata_is_what_nodes_say(annfusion, synth, tmp_path):
    for version in (2, 3):
        path = tmp_path / f"{version}.zarr"
        annfusion("convert", synth, path, "--zarr-version", version)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            walked = zarr.open_group(path, mode="r", use_consolidated=False)
            kept = zarr.open_group(path, mode="r", use_consolidated=True)
            members = dict(walked.members(max_depth=None))
            assert sorted(members) == sorted(k for k, _ in kept.members(max_depth=None))
            for key, node in members.items():
                assert dict(node.attrs) == dict(kept[key].attrs), key
                if isinstance(node, zarr.Array):
                    assert node.metadata == kept[key].metadata, key


def test_elements_are_dropped(annfusion, synth, tmp_path):
    a = objects.read(synth)
    a.layers["twice"] = a.X * 2
    a.obsp["near"] = sp.random(a.n_obs, a.n_obs, 1e-3, format="csr", random_state=0)
    a.varm["loadings"] = np.ones((a.n_vars, 2))
    a.uns["kept"], a.uns["gone"] = 1, {"x": 2}
    a.raw = a
    source, path = tmp_path / "a.h5ad", tmp_path / "b.zarr"
    a.write_h5ad(source)
    dropped = ["layers/twice", "obsp", "varm/loadings", "uns/gone", "raw", f"obs/{a.obs.columns[0]}"]
    annfusion("convert", source, path, *(x for key in dropped for x in ("--drop", key)))
    del a.layers["twice"], a.obsp["near"], a.varm["loadings"], a.uns["gone"], a.obs[a.obs.columns[0]]
    a.raw = None
    check_equal("dropped.zarr", objects.read(path), a)
    done = annfusion("convert", source, tmp_path / "c.zarr", "--drop", "layers/none", check=False)
    assert done.returncode == 1 and "layers/none" in done.stderr
    assert not (tmp_path / "c.zarr").exists()


def test_a_store_is_replaced_whole(annfusion, synth, tmp_path):
    path = tmp_path / "x.zarr"
    annfusion("convert", synth, path)
    done = annfusion("convert", synth, path, check=False)
    assert done.returncode == 1 and "--overwrite" in done.stderr
    annfusion("convert", synth, path, "--overwrite", "--zarr-version", 2)
    assert not (path / "zarr.json").exists() and (path / ".zgroup").exists()
    check_equal("synth.zarr", objects.read(path), objects.read(synth))
    folder = tmp_path / "notes.zarr"
    folder.mkdir()
    (folder / "mine.txt").write_text("keep")
    done = annfusion("convert", synth, folder, "--overwrite", check=False)
    assert done.returncode == 1 and "no zarr store" in done.stderr
    assert (folder / "mine.txt").read_text() == "keep"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.zarr", "x.zarr"]


def test_slices_and_queries_write_zarr(annfusion, synth, tmp_path):
    whole = objects.read(synth)
    annfusion("slice", synth, tmp_path / "out", "--size", 2000, "--zarr")
    with anndata.settings.override(remove_unused_categories=False):
        for i in range(2):
            expected = whole[i * 2000 : (i + 1) * 2000].copy()
            check_equal(f"{i}.zarr", objects.read(tmp_path / f"out_shard_{i}.zarr"), expected, sliced=True)
        sql = f"COPY (SELECT * FROM cells WHERE n_genes > 100) TO '{tmp_path}/q.zarr' STORED AS ZARR OPTIONS ('zarr.chunk_size' '50')"
        annfusion("query", synth, sql)
        expected = whole[whole.obs["n_genes"] > 100].copy()
        check_equal("q.zarr", objects.read(tmp_path / "q.zarr"), expected, sliced=True)
    chunk = zarr.open_group(tmp_path / "q.zarr")["obsm/X_pca"].chunks
    assert chunk[0] == 50
    done = annfusion("query", synth, f"COPY (SELECT cell_type FROM cells) TO '{tmp_path}/n.zarr' STORED AS ZARR")
    assert "obs_names: the query does not give them" in done.stderr
    sql = f"COPY cells TO '{tmp_path}/by' STORED AS ZARR PARTITIONED BY (donor)"
    annfusion("query", synth, sql)
    assert len(list(tmp_path.glob("by_*.zarr"))) == whole.obs["donor"].nunique()


def tree(group):
    """Every node of a store: attributes, types, chunks and shards."""
    seen = {}
    for key, node in group.members(max_depth=None):
        attributes = {k: v for k, v in node.attrs.items()}
        if isinstance(node, zarr.Array):
            codecs = str([c.to_dict() for c in node.compressors])
            seen[key] = (attributes, str(node.dtype), node.shape, node.chunks, node.shards, codecs)
        else:
            seen[key] = (attributes,)
    return seen


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_annbatch_layout_is_annbatchs(annfusion, tmp_path, kind):
    annbatch = pytest.importorskip("annbatch", reason="SKIPPED: annbatch is not installed")
    rng = np.random.default_rng(0)
    x = sp.random(3000, 700, 0.1, format="csr", dtype=np.float32, random_state=rng)
    a = anndata.AnnData(x if kind == "sparse" else x.toarray())
    a.layers["other"] = sp.random(3000, 700, 0.02, format="csr", dtype=np.float64, random_state=rng)
    a.obsm["pca"] = rng.normal(size=(3000, 20))
    a.obs["label"] = rng.choice(["a", "b"], 3000)
    a.obs["label"] = a.obs["label"].astype("category")
    a.obs["score"] = rng.normal(size=3000)
    a.varm["loadings"] = rng.normal(size=(700, 20))
    a.uns["note"] = "text"
    source = tmp_path / "a.h5ad"
    a.write_h5ad(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = zarr.open_group(tmp_path / "theirs.zarr", mode="w", zarr_format=3)
        annbatch.write_sharded(theirs, objects.read(source), n_obs_per_chunk=64, shard_size=1000)
    annfusion("convert", source, tmp_path / "ours.zarr", "--layout", "annbatch", "--shard-size", 1000)
    ours, theirs = tree(zarr.open_group(tmp_path / "ours.zarr")), tree(zarr.open_group(tmp_path / "theirs.zarr"))
    assert sorted(ours) == sorted(theirs)
    assert {k: (ours[k], theirs[k]) for k in ours if ours[k] != theirs[k]} == {}
    check_equal("ours.zarr", objects.read(tmp_path / "ours.zarr"), objects.read(tmp_path / "theirs.zarr"))


def test_names_that_folders_cannot_have_are_refused(annfusion, tmp_path):
    a = anndata.AnnData(np.ones((2, 2), dtype=np.float32), uns={"x": 1})
    path = tmp_path / "a.h5ad"
    a.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        file.move("uns/x", "uns/zarr.json")
    done = annfusion("convert", path, tmp_path / "b.zarr", check=False)
    assert done.returncode == 1 and "uns/zarr.json" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5ad"]


def test_an_output_does_not_swallow_its_input(annfusion, synth, tmp_path):
    store = tmp_path / "a.zarr"
    annfusion("convert", synth, store)
    inside = store / "inside.h5ad"
    inside.write_bytes(synth.read_bytes())
    done = annfusion("convert", inside, store, "--overwrite", check=False)
    assert done.returncode == 1 and "an input lies inside of it" in done.stderr
    assert inside.exists() and (store / "zarr.json").exists()


@pytest.mark.parametrize("chunks", [(300, 20000), (100, 45000), (7, 13)])
def test_dense_chunks_of_any_shape_are_read(annfusion, tmp_path, chunks):
    """Chunks side by side, in bands larger than what is kept, and wider than the array."""
    width = 40000 if chunks[1] > 13 else 90
    x = np.arange(300 * width, dtype=np.float32).reshape(300, width) % 1021
    a = anndata.AnnData(x)
    store = tmp_path / "a.zarr"
    a.write_zarr(store)
    root = zarr.open_group(store, mode="r+")
    attributes = dict(root["X"].attrs)
    del root["X"]
    array = root.create_array("X", shape=x.shape, dtype=x.dtype, chunks=chunks, fill_value=5.0)
    x[200:210] = 5.0
    array[...] = x
    array.attrs.update(attributes)
    annfusion("slice", store, tmp_path / "out", "--size", 300)
    np.testing.assert_array_equal(objects.read(tmp_path / "out_shard_0.h5ad").X, x)


def test_few_entries_make_few_files(annfusion, tmp_path):
    """Where a query's first cells are empty, or hardly any cell has an entry, arrays are not cut to pieces."""
    x = sp.random(20000, 300, 0.02, format="csr", dtype=np.float32, random_state=0)
    x[:15000] = 0
    x.eliminate_zeros()
    a = anndata.AnnData(x)
    a.layers["rare"] = sp.csr_matrix((20000, 300), dtype=np.float32)
    a.layers["rare"][19999, 5] = 1
    a.write_h5ad(tmp_path / "a.h5ad")
    annfusion("query", tmp_path / "a.h5ad", f"COPY (SELECT * FROM cells) TO '{tmp_path}/b.zarr' STORED AS ZARR")
    annfusion("convert", tmp_path / "a.h5ad", tmp_path / "c.zarr")
    for name in "bc":
        store = tmp_path / f"{name}.zarr"
        assert sum(p.is_file() for p in store.rglob("*")) < 120
        check_equal(f"{name}.zarr", objects.read(store), objects.read(tmp_path / "a.h5ad"), sliced=True)


def test_what_is_dropped_is_an_element(annfusion, tmp_path):
    a = anndata.AnnData(np.ones((3, 2), dtype=np.float32))
    a.obs["X"], a.obs["kept"] = [1, 2, 3], [4, 5, 6]
    a.write_h5ad(tmp_path / "a.h5ad")
    annfusion("convert", tmp_path / "a.h5ad", tmp_path / "b.zarr", "--drop", "obs/X")
    assert list(objects.read(tmp_path / "b.zarr").obs.columns) == ["kept"]
    for key in ("obs/_index", "obs", "X/data", "nothing"):
        done = annfusion("convert", tmp_path / "a.h5ad", tmp_path / "c.zarr", "--drop", key, check=False)
        assert done.returncode == 1 and key in done.stderr, key


def test_long_texts_are_cut_by_their_size(annfusion, tmp_path):
    a = anndata.AnnData(np.ones((3000, 1), dtype=np.float32))
    a.obs["long"] = [f"{i}" + "x" * 9000 for i in range(3000)]
    a.write_h5ad(tmp_path / "a.h5ad")
    annfusion("convert", tmp_path / "a.h5ad", tmp_path / "b.zarr")
    check_equal("b.zarr", objects.read(tmp_path / "b.zarr"), objects.read(tmp_path / "a.h5ad"))
    root = zarr.open_group(tmp_path / "b.zarr", mode="r")
    column = root["obs/long"]
    assert (column if isinstance(column, zarr.Array) else column["values"]).chunks[0] < 300


def test_names_that_begin_with_a_dot_survive(annfusion, tmp_path):
    a = anndata.AnnData(np.ones((2, 2), dtype=np.float32), uns={".hidden": {".deep": 1}, ".x": "y"})
    a.write_h5ad(tmp_path / "a.h5ad")
    annfusion("convert", tmp_path / "a.h5ad", tmp_path / "b.zarr")
    annfusion("convert", tmp_path / "b.zarr", tmp_path / "c.h5ad")
    check_equal("dots", objects.read(tmp_path / "c.h5ad"), a)


def with_odd_values(path, kind, compression=None):
    """An object whose dense matrices hold NaN, infinities, both zeros and the smallest number."""
    rng = np.random.default_rng(0)
    x = rng.poisson(0.3, (700, 90)).astype(kind)
    if np.dtype(kind).kind == "f":
        x[::7, 3], x[1, 1], x[2, 2], x[3, :] = np.nan, np.inf, -0.0, -0.0
        x[4, 5] = np.finfo(kind).smallest_subnormal
    a = anndata.AnnData(x)
    a.layers["flags"], a.layers["kept"] = x > 0, x * 2
    a.raw = anndata.AnnData(x[:, :40])
    a.write_h5ad(path, compression=compression)
    return a


@pytest.mark.parametrize("kind", ["f4", "f8", "i2", "u1", "i8"])
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_dense_becomes_what_scipy_makes_of_it(annfusion, tmp_path, kind, form):
    source, path, back = tmp_path / "a.h5ad", tmp_path / f"b.{form}", tmp_path / "c.h5ad"
    a = with_odd_values(source, kind, "gzip" if kind == "f4" else None)
    annfusion("convert", source, path, "--sparse", "X", "--sparse", "layers/flags", "--sparse", "raw/X")
    b = objects.read(path)
    pairs = [(a.X, b.X), (a.layers["flags"], b.layers["flags"]), (a.raw.X, b.raw.X)]
    for dense, sparse in pairs:
        expected = sp.csr_matrix(dense)
        assert sparse.format == "csr" and sparse.shape == expected.shape
        for part in ("data", "indices", "indptr"):
            actual, wanted = getattr(sparse, part), getattr(expected, part)
            assert actual.dtype == wanted.dtype, part
            np.testing.assert_array_equal(actual, wanted)
    assert type(b.layers["kept"]) is np.ndarray
    annfusion("verify", path)
    annfusion("convert", path, back, "--dense", "all")
    c = objects.read(back)
    for element in ("X", "flags"):
        actual, expected = (c.X, a.X) if element == "X" else (c.layers[element], a.layers[element])
        assert type(actual) is np.ndarray and actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(c.raw.X, a.raw.X)
    if form == "zarr":
        done = annfusion("convert", source, tmp_path / "d.zarr", "--sparse", "all", "--layout", "annbatch")
        np.testing.assert_array_equal(objects.read(tmp_path / "d.zarr").X.toarray(), a.X)


def test_forms_are_refused_by_name(annfusion, synth, tmp_path):
    path = tmp_path / "x.h5ad"
    for chosen, named in [
        (["--sparse", "layers/none"], "layers/none"),
        (["--dense", "obsm/X_pca"], "obsm/X_pca"),
        (["--dense", "X", "--sparse", "X"], "both"),
        (["--dense", "X", "--drop", "X"], "X is no matrix"),
    ]:
        done = annfusion("convert", synth, path, *chosen, check=False)
        assert done.returncode == 1 and named in done.stderr, done.stderr
        assert not path.exists()
    annfusion("convert", synth, path, "--sparse", "all")
    check_equal("synth", objects.read(path), objects.read(synth))
    a = objects.read(synth)
    genes = ",".join(a.var_names[5:25])
    annfusion("convert", synth, path, "--overwrite", "--dense", "X", "--genes", genes)
    np.testing.assert_array_equal(objects.read(path).X, a[:, 5:25].X.toarray())


def test_forms_take_little_memory(annfusion, tmp_path):
    """40,000 × 2,000 values: 320 MB dense."""
    source, dense, sparse = tmp_path / "a.h5ad", tmp_path / "b.h5ad", tmp_path / "c.h5ad"
    annfusion("synth", source, "--n-obs", 40_000, "--n-vars", 2000, "--mean-genes", 40)
    for arguments in (["convert", source, dense, "--dense", "X"], ["convert", dense, sparse, "--sparse", "X"]):
        assert annfusion.peak_bytes(*arguments) < 300 << 20
    annfusion("verify", source, sparse)
