"""`inspect` lists every element that h5py or zarr-python sees."""

import json

import h5py
import zarr


def encoded(group, prefix=""):
    """Paths of nodes that carry an encoding-type, below the root."""
    for name, node in group.items() if isinstance(group, h5py.Group) else group.members():
        path = f"{prefix}{name}"
        if node.attrs.get("encoding-type"):
            yield path
        if isinstance(node, (h5py.Group, zarr.Group)):
            yield from encoded(node, path + "/")


def test_every_element_is_listed(annfusion, shared_object):
    listed = {e["path"] for e in json.loads(annfusion("inspect", shared_object.location, "--json").stdout)["elements"]}
    group = shared_object.open()
    missing = set()
    for path in encoded(group):
        # A member of an element (codes, values, a column's categories) is shown with its element.
        member = any(path.startswith(parent + "/") and is_leaf(group, parent) for parent in listed)
        if path not in listed and not member:
            missing.add(path)
    assert not missing
    for name in group:
        if not name.startswith("raw."):
            assert name in listed, name
    if isinstance(group, h5py.Group):
        group.file.close()


def is_leaf(group, path):
    return path in group and group[path].attrs.get("encoding-type") not in (None, "dict", "dataframe", "raw", "anndata")


def test_text_names_shapes(annfusion, synth):
    text = annfusion("inspect", synth).stdout
    assert "3,000" in text and "600" in text
    assert "csr_matrix" in text and "cell_type" in text
