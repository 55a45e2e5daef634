"""What `convert --virtual` writes: zarr-python and anndata open the object through it, and it equals
what the file itself gives."""

import json
import pathlib
import warnings

import anndata
import fsspec
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr

import objects
from oracle import check_equal, differences, unexpected
from test_random import generate


def open_references(path):
    store = zarr.storage.FsspecStore(
        fsspec.filesystem("reference", fo=str(path), asynchronous=True), read_only=True, path=""
    )
    return zarr.open_group(store, mode="r")


def read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return anndata.io.read_zarr(open_references(path))


def references(path):
    return json.loads(pathlib.Path(path).read_text())["refs"]


def check(name, path, expected):
    # As through any zarr store, anndata gives text as objects.
    check_equal(f"{name}.zarr", read(path), expected)


def test_every_file_opens_through_references(annfusion, shared_object, tmp_path):
    if not objects.is_hdf5(shared_object.path):
        done = annfusion("convert", "--virtual", shared_object.location, tmp_path / "x.json", check=False)
        assert done.returncode == 1 and "no HDF5 file" in done.stderr
        assert list(tmp_path.iterdir()) == []
        return
    path = tmp_path / "x.json"
    before = shared_object.path.stat()
    annfusion("convert", "--virtual", shared_object.location, path)
    after = shared_object.path.stat()
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
    check(shared_object, path, shared_object.read())
    # Consolidated metadata says what the nodes say.
    refs = references(path)
    kept = json.loads(refs[".zmetadata"])["metadata"]
    single = {k: json.loads(v) for k, v in refs.items() if k.rsplit("/", 1)[-1].startswith(".z")}
    del single[".zmetadata"]
    assert kept == single


def rewrite(path, rng):
    """Gives the numbers of a file other chunks, filters and byte orders."""
    with h5py.File(path, "r+") as file:
        found = []
        file.visititems(lambda key, node: found.append(key) if isinstance(node, h5py.Dataset) else None)
        for key in found:
            old = file[key]
            if old.shape in (None, ()) or old.dtype.kind not in "iufbc" or h5py.check_enum_dtype(old.dtype):
                continue
            if old.dtype.names:
                continue
            values, attributes = old[...], dict(old.attrs)
            options = {}
            if values.size and rng.integers(4):
                options["chunks"] = tuple(int(rng.integers(1, n + 1)) for n in values.shape)
                options["compression"] = [None, "gzip", "lzf"][rng.integers(3)]
                options["shuffle"], options["fletcher32"] = bool(rng.integers(2)), bool(rng.integers(2))
                options["maxshape"] = (None,) * values.ndim
            del file[key]
            # anndata reads no others in this order.
            if values.ndim > 1 and values.dtype.kind in "iuf" and rng.integers(2):
                values = values.astype(values.dtype.newbyteorder(">"))
            new = file.create_dataset(key, data=values, **options)
            new.attrs.update(attributes)


def native(a):
    """What is held by value is in this machine's byte order, whatever it was."""
    a = a.copy()
    for mapping in (a.layers, a.obsm, a.varm, a.obsp, a.varp):
        for key in list(mapping):
            if key is not None and type(mapping[key]) is np.ndarray:
                mapping[key] = mapping[key].astype(mapping[key].dtype.newbyteorder("="))
    if type(a.X) is np.ndarray:
        a.X = a.X.astype(a.X.dtype.newbyteorder("="))
    if a.raw is not None and type(a.raw.X) is np.ndarray:
        a.raw._X = a.raw.X.astype(a.raw.X.dtype.newbyteorder("="))
    return a


@pytest.mark.parametrize("seed", range(14))
def test_random_objects(annfusion, tmp_path, seed):
    rng = np.random.default_rng(seed)
    file, path = tmp_path / "a.h5ad", tmp_path / "a.json"
    generate(seed, file)
    rewrite(file, rng)
    annfusion("convert", "--virtual", file, path)
    expected = objects.read(file)
    found = unexpected("random.zarr", differences(native(read(path)), native(expected)))
    assert not found, found


def raw_file(path, **datasets):
    """A small object with arrays of our own making in uns."""
    anndata.AnnData(obs=pd.DataFrame(index=["a", "b"])).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        for name, make in datasets.items():
            node = make(file["uns"], name)
            node.attrs["encoding-type"], node.attrs["encoding-version"] = "array", "0.2.0"


def check_arrays(annfusion, file, path):
    annfusion("convert", "--virtual", file, path)
    root = open_references(path)
    with h5py.File(file) as h5:
        for name, node in h5["uns"].items():
            actual, expected = root["uns"][name][...], node[...]
            assert actual.dtype == expected.dtype, name
            np.testing.assert_array_equal(actual, expected, err_msg=name)
    return references(path)


def test_layouts(annfusion, tmp_path):
    file, path = tmp_path / "a.h5ad", tmp_path / "a.json"
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (1000, 7), dtype="u1")
    long = np.arange(4_500_007, dtype="i4")  # a prime number of rows: the last piece is short
    even = np.arange(5_000_000, dtype="i4")

    def unwritten(group, name):
        return group.create_dataset(name, (9, 4), "f4", chunks=(2, 3), fillvalue=np.nan)

    def holes(group, name):
        node = group.create_dataset(name, (9, 4), ">i2", chunks=(2, 3), fillvalue=-7, compression="gzip")
        node[3:5, 1:2] = 5
        return node

    def skipping(group, name):
        """Chunks of which one was stored as it is."""
        node = group.create_dataset(name, (8,), "i4", chunks=(4,), shuffle=True, compression="gzip")
        node[...] = np.arange(8)
        node.id.write_direct_chunk((4,), np.arange(40, 44, dtype="i4").tobytes(), filter_mask=3)
        return node

    def all_skipping(group, name):
        node = group.create_dataset(name, (8,), "i4", chunks=(4,), compression="gzip")
        for at in (0, 4):
            node.id.write_direct_chunk((at,), np.arange(at, at + 4, dtype="i4").tobytes(), filter_mask=1)
        return node

    def compact(group, name):
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(group.id, name.encode(), h5py.h5t.IEEE_F64BE, space, properties)
        group[name][...] = [1.5, np.inf, np.nan]
        return group[name]

    raw_file(
        file,
        unwritten=unwritten,
        holes=holes,
        skipping=skipping,
        all_skipping=all_skipping,
        compact=compact,
        never=lambda g, n: g.create_dataset(n, (5,), "f8", fillvalue=2.5),
        empty=lambda g, n: g.create_dataset(n, (0, 3), "f8"),
        long=lambda g, n: g.create_dataset(n, data=long),
        even=lambda g, n: g.create_dataset(n, data=even),
        flags=lambda g, n: g.create_dataset(n, data=noise > 9, chunks=(300, 2), compression="gzip"),
        checked=lambda g, n: g.create_dataset(n, data=noise, chunks=(64, 7), fletcher32=True, shuffle=True),
        packed=lambda g, n: g.create_dataset(n, data=noise // 99, chunks=(64, 7), compression="lzf"),
    )
    refs = check_arrays(annfusion, file, path)
    pointers = {k for k, v in refs.items() if isinstance(v, list)}
    assert refs["uns/skipping/1"].startswith("base64:") and "uns/skipping/0" in pointers
    assert {"uns/all_skipping/0", "uns/all_skipping/1", "uns/checked/0.0", "uns/flags/0.0"} <= pointers
    assert refs["uns/packed/0.0"].startswith("base64:")
    last = sorted(int(k.split("/")[-1]) for k in refs if k.startswith("uns/long/") and ".z" not in k)[-1]
    assert refs[f"uns/long/{last}"].startswith("base64:") and f"uns/long/{last - 1}" in pointers
    assert all(f"uns/even/{i}" in pointers or f"uns/even/{i}" not in refs for i in range(99))
    assert not [k for k in refs if k.startswith(("uns/unwritten/0", "uns/never/0"))]


def test_a_user_block_is_passed_over(annfusion, tmp_path):
    plain, file, path = tmp_path / "plain.h5ad", tmp_path / "a.h5ad", tmp_path / "a.json"
    a = anndata.AnnData(sp.random(40, 9, 0.4, format="csr", dtype="f4", random_state=1))
    a.layers["dense"] = a.X.toarray()
    a.write_h5ad(plain, compression="gzip")
    with h5py.File(plain) as source, h5py.File(file, "w", userblock_size=1024) as target:
        for key in source:
            source.copy(key, target)
        target.attrs.update(source.attrs)
    annfusion("convert", "--virtual", file, path)
    check("user block", path, objects.read(file))


def test_what_cannot_be_referred_to_is_named(annfusion, tmp_path):
    file, path = tmp_path / "a.h5ad", tmp_path / "a.json"
    zeros = lambda g, n: g.create_dataset(n, (70 << 20,), "u1", chunks=(1 << 20,), compression="lzf")  # noqa: E731
    raw_file(file, large=zeros)
    with h5py.File(file, "r+") as h5:
        h5["uns/large"][:10] = 1
    done = annfusion("convert", "--virtual", file, path, check=False)
    assert done.returncode == 1 and "uns/large" in done.stderr and "lzf" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5ad"]


def test_the_document_is_written_whole_or_not(annfusion, synth, tmp_path):
    path = tmp_path / "x.json"
    annfusion("convert", "--virtual", synth, path, "--drop", "obs/donor", "--drop", "obsm")
    a = objects.read(synth).copy()
    del a.obs["donor"]
    for key in list(a.obsm):
        del a.obsm[key]
    check("dropped", path, a)
    before = path.read_bytes()
    done = annfusion("convert", "--virtual", synth, path, check=False)
    assert done.returncode == 1 and "--overwrite" in done.stderr and path.read_bytes() == before
    annfusion("convert", "--virtual", synth, path, "--overwrite")
    check("synth", path, objects.read(synth))
    for wrong in (tmp_path / "x.zarr", tmp_path / "x.h5ad"):
        done = annfusion("convert", "--virtual", synth, wrong, check=False)
        assert done.returncode == 1 and ".json" in done.stderr and not wrong.exists()
    done = annfusion("convert", "--virtual", synth, path, "--compression", "zstd", check=False)
    assert done.returncode == 2
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
