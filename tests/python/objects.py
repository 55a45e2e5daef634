"""The real objects that tests read, and how anndata reads each of them."""

import dataclasses
import functools
import os
import pathlib
import warnings

import anndata
import h5py
import zarr

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SHARED = pathlib.Path(os.environ.get("ANNFUSION_SHARED", REPOSITORY.parent / "shared"))

# Broken on purpose: what is wrong with them, and what our message must name.
BROKEN = {
    "duckdb-test_no_index.h5ad": ("obs", "_index"),
    "anndataR-example.zarr.zip": ("ordered", "leiden"),
}


@dataclasses.dataclass(frozen=True)
class Object:
    """A file or store, and the group of the object in it."""

    path: pathlib.Path
    group: str = ""

    def __str__(self):
        name = self.path.stem if self.path.suffix == ".h5ad" else self.path.name
        return name + (f"#{self.group}" if self.group else "")

    @property
    def location(self):
        return f"{self.path}#{self.group}" if self.group else str(self.path)

    def open(self):
        """The h5py or zarr group of the object."""
        file = h5py.File(self.path, "r") if is_hdf5(self.path) else open_zarr(self.path)
        return file[self.group] if self.group else file

    def read(self):
        """What anndata reads."""
        return _read(self)


def is_hdf5(path):
    return pathlib.Path(path).suffix in (".h5ad", ".h5mu")


def open_zarr(path):
    path = pathlib.Path(path)
    store = zarr.storage.ZipStore(path, mode="r") if path.suffix == ".zip" else path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return zarr.open_group(store, mode="r", use_consolidated=False)


@functools.lru_cache(maxsize=4)
def _read(obj):
    return read(obj.path, obj.group)


def read(path, group=""):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not is_hdf5(path):
            root = open_zarr(path)
            return anndata.io.read_elem(root[group]) if group else anndata.read_zarr(root)
        if group:
            with h5py.File(path, "r") as file:
                return anndata.io.read_elem(file[group])
        return anndata.read_h5ad(path)


def shared_objects():
    """Every object of the shared data: h5ad, h5mu and zarr, in files, folders and archives."""
    found = []
    for folder in ("found", "encodings"):
        paths = sorted((SHARED / "data" / folder).glob("*"))
        for path in paths:
            if path.name in BROKEN:
                continue
            if path.suffix == ".h5ad":
                found.append(Object(path))
            elif path.suffix == ".h5mu":
                with h5py.File(path, "r") as file:
                    found += [Object(path, f"mod/{name}") for name in file["mod"]]
            elif path.suffix == ".zarr" or path.name.endswith(".zarr.zip"):
                root = open_zarr(path)
                if "obs" in root and "mod" not in root:
                    found.append(Object(path))
                elif "mod" in root:
                    found += [Object(path, f"mod/{name}") for name in sorted(root["mod"])]
                else:
                    found += [Object(path, name) for name in sorted(root)]
    return found
