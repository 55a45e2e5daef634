"""What a query on some cells has to read of an object: the measure that transfers are held to.

Encoded chunks of X that hold one of the cells, the whole of the columns named (a query on a gene
has to find it among the names of `var`), and what describes all of it (headers of HDF5 objects and
their indexes of chunks, the documents of zarr nodes, the indexes of the shards concerned).
"""

import pathlib

import h5py
import numpy as np
import zarr


def cells_of(path, column, value):
    """The positions of the cells of a category."""
    root = h5py.File(path, "r") if pathlib.Path(path).is_file() else zarr.open_group(path, mode="r")
    categories = [c.decode() if isinstance(c, bytes) else str(c) for c in root[f"obs/{column}/categories"][:]]
    return np.flatnonzero(root[f"obs/{column}/codes"][:] == categories.index(value))


def needed(path, cells, columns):
    """Bytes needed of an h5ad file or a zarr folder for X of `cells`, and whole `columns`, named as in
    `obs/cell_type`."""
    if pathlib.Path(path).is_file():
        with h5py.File(path, "r") as file:
            return of_h5ad(file, cells, columns)
    return of_zarr(pathlib.Path(path), cells, columns)


def entries(indptr, cells):
    """Where the entries of cells begin and end."""
    return np.stack([indptr[cells], indptr[cells + 1]], axis=1)


def chunks_hit(ranges, size):
    """The chunks of `size` items that hold an item of the ranges, each once."""
    ranges = ranges[ranges[:, 0] < ranges[:, 1]]
    hit = set()
    for first, last in zip(ranges[:, 0] // size, (ranges[:, 1] - 1) // size):
        hit.update(range(int(first), int(last) + 1))
    return sorted(hit)


def of_h5ad(file, cells, columns):
    described = [file["/"]]
    file.visititems(lambda _, node: described.append(node))
    total = sum(map(h5_description, described))
    for column in columns:
        node = file[column]
        for dataset in node.values() if isinstance(node, h5py.Group) else [node]:
            total += dataset.id.get_storage_size()
            if dataset.dtype.kind == "O":
                total += sum(len(text) for text in dataset[:])
    ranges = entries(file["X/indptr"][:].astype(np.int64), cells)
    total += h5_chunks(file["X/data"], ranges) + h5_chunks(file["X/indices"], ranges)
    return total + h5_chunks(file["X/indptr"], np.stack([cells, cells + 2], axis=1))


def h5_description(node):
    """Bytes of a node's header, of its attributes and of its index of members or chunks."""
    info = h5py.h5o.get_info(node.id)
    parts = (info.meta_size.obj, info.meta_size.attr)
    return info.hdr.space.total + sum(part.index_size + part.heap_size for part in parts)


def h5_chunks(dataset, ranges):
    if not dataset.chunks:
        return int((ranges[:, 1] - ranges[:, 0]).sum()) * dataset.dtype.itemsize
    return sum(
        dataset.id.get_chunk_info_by_coord((chunk * dataset.chunks[0],)).size
        for chunk in chunks_hit(ranges, dataset.chunks[0])
    )


def of_zarr(path, cells, columns):
    root = zarr.open_group(path, mode="r")
    documents = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
    total = sum(p.stat().st_size for p in path.rglob("*") if p.name in documents)
    for column in columns:
        files = (p for p in (path / column).rglob("*") if p.is_file() and p.name not in documents)
        total += sum(p.stat().st_size for p in files)
    ranges = entries(root["X/indptr"][:].astype(np.int64), cells)
    total += zarr_chunks(path, root["X/data"], ranges) + zarr_chunks(path, root["X/indices"], ranges)
    return total + zarr_chunks(path, root["X/indptr"], np.stack([cells, cells + 2], axis=1))


def zarr_chunks(path, array, ranges):
    folder = path / array.path
    prefix = "c/" if array.metadata.zarr_format == 3 else ""
    hit = chunks_hit(ranges, array.chunks[0])
    if not array.shards:
        return sum(size_of(folder / f"{prefix}{chunk}") for chunk in hit)
    each = array.shards[0] // array.chunks[0]
    total, indexes = 0, {}
    for chunk in hit:
        shard = folder / f"{prefix}{chunk // each}"
        if shard not in indexes:
            # Offsets and lengths of the inner chunks, then a checksum, at the end.
            indexes[shard] = np.frombuffer(shard.read_bytes()[-16 * each - 4 : -4], "<u8").reshape(each, 2)
            total += 16 * each + 4
        offset, length = indexes[shard][chunk % each]
        total += 0 if offset == np.iinfo("u8").max else int(length)
    return total


def size_of(path):
    """Bytes of a chunk's file; none where all of it is the fill value."""
    return path.stat().st_size if path.exists() else 0
