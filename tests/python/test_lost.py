"""Zarr stores that have lost documents: nothing is written without what they describe."""

import json
import shutil
import zipfile

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import objects

NODES = [
    "X", "X/data", "layers", "layers/b", "obs/kind", "obs/score", "obsm/frame", "obsm/frame/x", "obsm/pca", "obsp/d",
    "raw", "raw/X", "raw/var", "uns/a", "uns/a/b", "uns/a/b/words", "uns/n", "varm/w",
]  # fmt: skip


def example():
    rng = np.random.default_rng(0)
    counts = sp.random(30, 8, 0.4, format="csr", dtype=np.float32, random_state=1)
    a = anndata.AnnData(
        counts,
        obs=pd.DataFrame(
            {"kind": pd.Categorical(rng.choice(["a", "b"], 30)), "score": rng.random(30)},
            index=[f"c{i}" for i in range(30)],
        ),
        var=pd.DataFrame(index=[f"g{i}" for i in range(8)]),
        layers={"b": rng.random((30, 8)), "c": counts * 2},
        obsm={"pca": rng.random((30, 2)) + 1},
        varm={"w": rng.random((8, 2)) + 1},
        obsp={"d": sp.random(30, 30, 0.1, format="csr", random_state=2)},
        uns={"a": {"b": {"words": np.array(["x", "y"])}}, "n": 7},
    )
    a.obsm["frame"] = pd.DataFrame({"x": rng.random(30) + 1}, index=a.obs_names)
    a.raw = a
    return a


@pytest.fixture(scope="module", params=["v2", "v3", "v2-alone", "v3-alone"])
def store(request, tmp_path_factory, annfusion):
    """A store of either version, with consolidated metadata or without."""
    folder = tmp_path_factory.mktemp("lost")
    example().write_h5ad(folder / "x.h5ad")
    path = folder / "x.zarr"
    annfusion("convert", folder / "x.h5ad", path, "--zarr-version", request.param[1])
    if request.param.endswith("alone"):
        (path / ".zmetadata").unlink(missing_ok=True)
        if (path / "zarr.json").exists():
            root = json.loads((path / "zarr.json").read_text())
            root.pop("consolidated_metadata")
            (path / "zarr.json").write_text(json.dumps(root))
    return path


@pytest.fixture
def broken(store, tmp_path):
    """A copy of the store, to be damaged."""
    return shutil.copytree(store, tmp_path / "x.zarr")


def documents(node):
    return [node / name for name in ("zarr.json", ".zarray", ".zgroup", ".zattrs") if (node / name).exists()]


def test_sound_stores_are_whole(annfusion, store, tmp_path):
    done = annfusion("inspect", store)
    assert "warning" not in done.stderr
    annfusion("verify", store)
    annfusion("convert", store, tmp_path / "x.h5ad")
    # What is nobody's is not taken for a node.
    copy = tmp_path / "x.zarr"
    shutil.copytree(store, copy)
    (copy / "notes").mkdir()
    (copy / "notes" / "readme.txt").write_text("mine")
    (copy / "X" / ".DS_Store").write_text("")
    annfusion("convert", copy, tmp_path / "y.h5ad")
    annfusion("verify", copy)


@pytest.mark.parametrize("node", NODES)
def test_nothing_is_written_without_a_node_that_is_lost(annfusion, store, broken, tmp_path, node):
    lost = documents(broken / node)
    assert lost
    for document in lost:
        document.unlink()
    for command in (
        ["convert", broken, tmp_path / "y.h5ad"],
        ["convert", broken, tmp_path / "y.zarr"],
        ["merge", broken, store, "-o", tmp_path / "y.h5ad"],
        ["shuffle", broken, "-o", tmp_path / "y.h5ad"],
        ["collection", "create", tmp_path / "y.zarr", broken],
        ["query", broken, f"COPY (SELECT * FROM cells) TO '{tmp_path}/y.h5ad' STORED AS H5AD"],
    ):
        done = annfusion(*command, check=False)
        assert done.returncode != 0, (command, done.stderr)
        assert node in done.stderr, (command, done.stderr)
        assert not list(tmp_path.glob("y.*"))
    assert annfusion("verify", broken, check=False).returncode != 0


@pytest.mark.parametrize("node", ["X", "layers/c", "obsp/d"])
def test_lost_pointers_are_no_empty_rows(annfusion, broken, tmp_path, node):
    chunks = chunks_of(broken / node / "indptr")
    assert chunks
    for chunk in chunks:
        chunk.unlink()
    for command in (["convert", broken, tmp_path / "y.h5ad"], ["verify", broken]):
        done = annfusion(*command, check=False)
        assert done.returncode == 1 and "and of indptr 1 of 1 chunks are not stored" in done.stdout + done.stderr
    assert not (tmp_path / "y.h5ad").exists()


def test_a_document_that_is_a_folder_is_none(annfusion, broken, tmp_path):
    for document in documents(broken / "layers/b"):
        document.unlink()
        document.mkdir()
    done = annfusion("convert", broken, tmp_path / "y.h5ad", check=False)
    assert done.returncode != 0 and "layers/b" in done.stderr


@pytest.mark.parametrize("node", ["X", "layers/b", "obsm/pca", "raw", "uns/a"])
def test_what_is_lost_can_be_left_out(annfusion, store, broken, tmp_path, node):
    for document in documents(broken / node):
        document.unlink()
    assert f"warning: {node}" in annfusion("inspect", broken).stderr
    annfusion("convert", broken, tmp_path / "broken.h5ad", "--drop", node)
    annfusion("convert", store, tmp_path / "store.h5ad", "--drop", node)
    annfusion("verify", tmp_path / "broken.h5ad", tmp_path / "store.h5ad")
    assert objects.read(tmp_path / "broken.h5ad").n_obs == 30


@pytest.mark.parametrize("node", ["", "X", "X/data", "obs"])
def test_documents_of_another_version_are_refused(annfusion, broken, tmp_path, node):
    for document in documents(broken / node):
        if document.name != ".zattrs":
            text = json.loads(document.read_text())
            text["zarr_format"] = 9
            document.write_text(json.dumps(text))
    done = annfusion("convert", broken, tmp_path / "y.h5ad", check=False)
    assert done.returncode != 0 and "zarr_format 9" in done.stderr


def chunks_of(array):
    return [path for path in array.rglob("*") if path.is_file() and path.name.rsplit(".", 1)[-1].isdigit()]


def test_lost_categories_are_refused(annfusion, broken, tmp_path):
    for chunk in chunks_of(broken / "obs/kind/categories"):
        chunk.unlink()
    with pytest.raises(Exception, match="unique"):
        anndata.read_zarr(broken)
    done = annfusion("convert", broken, tmp_path / "y.h5ad", check=False)
    assert done.returncode == 1 and "obs/kind: of the categories that were read, category '' stands at 0 and at 1" in done.stderr
    assert not (tmp_path / "y.h5ad").exists()
    done = annfusion("verify", broken, check=False)
    assert done.returncode == 1 and "category '' stands at 0 and at 1" in done.stdout
    annfusion("convert", broken, tmp_path / "y.h5ad", "--drop", "obs/kind")
    assert "kind" not in anndata.read_h5ad(tmp_path / "y.h5ad").obs


@pytest.mark.parametrize("array", ["X/data", "X/indices", "layers/c/data", "obsp/d/indices", "var/_index", "obs/_index"])
def test_lost_chunks_are_told(annfusion, broken, tmp_path, array):
    """Zarr has fill values for them, as anndata reads them."""
    lost = chunks_of(broken / array)
    assert lost
    for chunk in lost:
        chunk.unlink()
    said = f"{array}{'/values' if (broken / array / 'values').exists() else ''}: 1 of 1 chunks are not stored"
    for command in (
        ["convert", broken, tmp_path / "y.h5ad"],
        ["slice", broken, tmp_path / "part", "--size", "10"],
        ["query", broken, "SELECT count(*) FROM obs", "-o", tmp_path / "y.csv"],
        ["query", broken, f"COPY (SELECT * FROM cells) TO '{tmp_path}/y.parquet' STORED AS PARQUET"],
    ):
        done = annfusion(*command)
        assert done.stderr.count(said) == 1, (command, done.stderr)
    noted = annfusion("verify", broken, check=False).stdout
    assert f"{said}, so their values are the fill value, which can hardly be meant" in noted, noted


def test_what_is_left_out_is_not_warned_of(annfusion, broken, tmp_path):
    for chunk in chunks_of(broken / "layers/c/data"):
        chunk.unlink()
    done = annfusion("convert", broken, tmp_path / "y.h5ad", "--drop", "layers/c")
    assert "not stored" not in done.stderr
    done = annfusion("convert", broken, tmp_path / "z.h5ad", "--drop", "X,layers/c", check=False)
    assert done.returncode != 0 and "each element has a --drop of its own" in done.stderr


def test_fill_values_that_are_meant_are_not_warned_of(annfusion, tmp_path):
    """zarr-python leaves out chunks of nothing but fill values."""
    a = example()
    a.layers["empty"] = sp.csr_matrix((30, 8), dtype=np.float32)
    a.obs["categories"] = np.zeros(30)
    a.uns["x"] = {"categories": np.zeros(4)}
    a.write_zarr(tmp_path / "a.zarr")
    a[:, :1].copy().write_zarr(tmp_path / "b.zarr")
    for name in "ab":
        missing = annfusion("verify", tmp_path / f"{name}.zarr").stdout
        assert name == "b" or "are not stored" in missing
        assert "hardly be meant" not in missing
        done = annfusion("convert", tmp_path / f"{name}.zarr", tmp_path / f"{name}.h5ad")
        assert "not stored" not in done.stderr, done.stderr


@pytest.mark.parametrize("values", [[1.5, np.nan], ["a", None]], ids=str)
def test_null_categories_are_refused(annfusion, tmp_path, values):
    a = example()
    path = tmp_path / "x.h5ad"
    a.write_h5ad(path)
    with h5py.File(path, "r+") as f:
        group = f["obs/kind"]
        del group["categories"]
        if None in values:
            inner = group.create_group("categories")
            inner.attrs.update({"encoding-type": "nullable-string-array", "encoding-version": "0.1.0", "na-value": "NA"})
            for name, data, kind in (("values", np.array(["a", ""], object), "string-array"), ("mask", [False, True], "array")):
                inner[name] = data
                inner[name].attrs.update({"encoding-type": kind, "encoding-version": "0.2.0"})
        else:
            group["categories"] = values
            group["categories"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    with pytest.raises(Exception, match="null"):
        anndata.read_h5ad(path)
    done = annfusion("convert", path, tmp_path / "y.zarr", check=False)
    assert done.returncode == 1 and "obs/kind: of the categories that were read, category 1 is null" in done.stderr
    assert "category 1 is null" in annfusion("verify", path, check=False).stdout


def test_a_table_without_a_lost_matrix_is_told(annfusion, broken, tmp_path):
    for document in documents(broken / "X"):
        document.unlink()
    done = annfusion("query", broken, broken, "SELECT * FROM obs", "-o", tmp_path / "y.parquet")
    assert done.stderr.count(f"warning: {broken}: X: ") == 1, done.stderr


def test_members_that_column_order_leaves_out_are_told(annfusion, tmp_path):
    a = example()
    a.write_h5ad(tmp_path / "x.h5ad")
    with h5py.File(tmp_path / "x.h5ad", "r+") as f:
        f["obs"].attrs["column-order"] = np.array(["kind"], dtype=object)
    done = annfusion("convert", tmp_path / "x.h5ad", tmp_path / "y.h5ad")
    assert "obs/score: not written, because the attribute column-order does not name it" in done.stderr


@pytest.mark.parametrize("place", ["obs/word", "var/_index", "obs/kind/categories", "uns/words"])
@pytest.mark.parametrize("fixed", [False, True])
def test_text_that_is_not_utf8_is_refused(annfusion, tmp_path, place, fixed):
    a = example()
    a.obs["word"] = [f"w{i}" for i in range(30)]
    a.uns["words"] = np.array(["x", "y"], dtype=object)
    path = tmp_path / "x.h5ad"
    a.write_h5ad(path)
    with h5py.File(path, "r+") as f:
        where = f"{place}/values" if isinstance(f[place], h5py.Group) else place
        old = f[where]
        values = [value.encode() for value in old.asstr()[()]]
        values[1] = b"caf\xe9"
        attributes = dict(old.attrs)
        del f[where]
        dtype = "S8" if fixed else h5py.string_dtype()
        new = f.create_dataset(where, data=np.array(values, dtype=None if fixed else object), dtype=dtype)
        new.attrs.update(attributes)
    with pytest.raises(Exception, match="utf-8|ascii"):
        anndata.read_h5ad(path)
    done = annfusion("convert", path, tmp_path / "y.zarr", check=False)
    assert done.returncode == 1 and r'"caf\xe9" is not UTF-8' in done.stderr, done.stderr
    assert place.removesuffix("/categories") in done.stderr
    assert not (tmp_path / "y.zarr").exists()


@pytest.mark.parametrize("place", ["X", "layers/b", "uns/n", "obs/score"])
def test_links_to_other_files_are_not_passed_over(annfusion, tmp_path, place):
    """anndata follows them; who does not must not lose what they lead to without a word."""
    a, path = example(), tmp_path / "x.h5ad"
    a.write_h5ad(path)
    a.write_h5ad(tmp_path / "other.h5ad")
    with h5py.File(path, "r+") as f:
        del f[place]
        f[place] = h5py.ExternalLink("other.h5ad", f"/{place}")
    assert (anndata.read_h5ad(path).obs["score"] == a.obs["score"]).all()
    for command in (["convert", path, tmp_path / "y.zarr"], ["slice", path, tmp_path / "part", "--size", 10]):
        done = annfusion(*command, check=False)
        assert done.returncode == 1 and place in done.stderr and "other.h5ad" in done.stderr, done.stderr
    assert annfusion("verify", path, check=False).returncode == 1
    if place != "obs/score":
        assert f"warning: {place}: a link to another file, other.h5ad" in annfusion("inspect", path).stderr
        annfusion("convert", path, tmp_path / "y.h5ad", "--drop", place)
        assert anndata.read_h5ad(tmp_path / "y.h5ad").n_obs == 30


def test_links_beside_them_are_not_passed_over(annfusion, tmp_path):
    path = tmp_path / "x.h5ad"
    example().write_h5ad(path)
    with h5py.File(path, "r+") as f:
        f["layers/soft"] = h5py.SoftLink("/layers/b")
    annfusion("convert", path, tmp_path / "y.h5ad")
    assert "soft" in anndata.read_h5ad(tmp_path / "y.h5ad").layers
    with h5py.File(path, "r+") as f:
        f["layers/far"] = h5py.ExternalLink("other.h5ad", "/X")
    done = annfusion("convert", path, tmp_path / "z.h5ad", "--drop", "layers/far", check=False)
    assert done.returncode == 1 and "layers/soft: a link to /layers/b is not followed" in done.stderr, done.stderr


def test_garbled_archives_are_found(annfusion, store, tmp_path):
    path = shutil.make_archive(tmp_path / "x.zarr", "zip", store)
    annfusion("verify", path)
    content = bytearray((tmp_path / "x.zarr.zip").read_bytes())
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.startswith("X/data/") and not name.endswith(("json", ".zarray", ".zattrs", "/"))]
        member = archive.getinfo(names[0])
    content[member.header_offset + 30 + len(member.filename) + member.compress_size // 2] ^= 1
    (tmp_path / "y.zarr.zip").write_bytes(content)
    done = annfusion("verify", tmp_path / "y.zarr.zip", check=False)
    assert done.returncode == 1 and names[0] in done.stdout
    done = annfusion("convert", tmp_path / "y.zarr.zip", tmp_path / "y.h5ad", check=False)
    assert done.returncode == 1 and names[0] in done.stderr and "checksum" in done.stderr
    assert not (tmp_path / "y.h5ad").exists()


def test_names_that_zarr_python_takes_for_paths_are_refused(annfusion, tmp_path):
    a = example()
    a.uns["a\\b"] = 3
    a.write_h5ad(tmp_path / "x.h5ad")
    done = annfusion("convert", tmp_path / "x.h5ad", tmp_path / "x.zarr", check=False)
    assert done.returncode == 1 and r"a\\b" in done.stderr
    annfusion("convert", tmp_path / "x.h5ad", tmp_path / "y.h5ad")
