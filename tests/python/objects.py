"""The real objects that tests read, and how anndata reads each of them."""

import dataclasses
import functools
import os
import pathlib
import warnings

import anndata
import h5py

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SHARED = pathlib.Path(os.environ.get("ANNFUSION_SHARED", REPOSITORY.parent / "shared"))

# Broken on purpose: what is wrong with them, and what our message must name.
BROKEN = {"duckdb-test_no_index": ("obs", "_index")}


@dataclasses.dataclass(frozen=True)
class Object:
    """A file, and the group of the object in it."""

    path: pathlib.Path
    group: str = ""

    def __str__(self):
        return self.path.stem + (f"#{self.group}" if self.group else "")

    @property
    def location(self):
        return f"{self.path}#{self.group}" if self.group else str(self.path)

    def open(self):
        """The h5py group of the object."""
        file = h5py.File(self.path, "r")
        return file[self.group] if self.group else file

    def read(self):
        """What anndata reads."""
        return _read(self)


@functools.lru_cache(maxsize=4)
def _read(obj):
    return read(obj.path, obj.group)


def read(path, group=""):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if group:
            with h5py.File(path, "r") as file:
                return anndata.io.read_elem(file[group])
        return anndata.read_h5ad(path)


def shared_objects():
    """Every h5ad file of the shared data, and the modalities of the h5mu file."""
    found = []
    for folder in ("found", "encodings"):
        for path in sorted((SHARED / "data" / folder).glob("*.h5ad")):
            if path.stem not in BROKEN:
                found.append(Object(path))
        for path in sorted((SHARED / "data" / folder).glob("*.h5mu")):
            with h5py.File(path, "r") as file:
                found += [Object(path, f"mod/{name}") for name in file["mod"]]
    return found
