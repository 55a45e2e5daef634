"""Minibatches of cells from an `annfusion serve`, for scipy, numpy and torch. Needs pyarrow alone.

    $ annfusion serve coll.zarr --listen 127.0.0.1:50051

    from annfusion_loader import Minibatches

    for minibatch in Minibatches("grpc://127.0.0.1:50051", "coll", obs=["cell_type"], batch_size=4096):
        step(minibatch["X"], minibatch["obs"]["cell_type"])   # scipy CSR, numpy codes

    loader = torch.utils.data.DataLoader(Minibatches(..., to="torch"), batch_size=None, num_workers=4)

Whatever is not said here is a member of the ticket (the README lists them): `chunk_size`,
`preload_nchunks`, `seed`, `layers`, `obsm`, `genes`, `where`, `normalize_total`, `log1p`, `dense`, ….
An iteration is an epoch; `set_epoch` says which, as samplers of torch have it. With workers, all of
the minibatches of the rank come, each from one of them. To go on in mid-epoch, keep the
`minibatch["cells"]` that were used, of all ranks (their places in the epoch's order, as pairs of start
and end), and give them to `resume`, all in one list.
"""

import json
import warnings

import pyarrow as pa
import pyarrow.flight as flight

try:
    from torch.utils.data import IterableDataset, get_worker_info
except ImportError:  # torch is for those who train with it
    IterableDataset, get_worker_info = object, lambda: None


class Minibatches(IterableDataset):
    """An epoch of minibatches. Connects when it is iterated over, in each process."""

    def __init__(self, server, objects, *, to="scipy", rank=0, world_size=1, epoch=0, token=None, tls=None, **ticket):
        """`objects` is the name of a served object, or a list of them; `to` is scipy, numpy (dense), torch
        or arrow; categorical columns come as codes into `self.categories[column]` (-1 is none);
        `token` is a bearer token, `tls` keywords for `pyarrow.flight.FlightClient`."""
        if to not in ("scipy", "numpy", "torch", "arrow"):
            raise ValueError(f"to={to!r} is none of scipy, numpy, torch, arrow")
        self.categories = {}
        self.server, self.to, self.token, self.tls = server, to, token, tls or {}
        self.rank, self.world_size, self.epoch, self.done = rank, world_size, epoch, []
        objects = [objects] if isinstance(objects, str) else list(objects)
        # pyarrow takes messages of any size; but memory for larger ones the C library maps anew every time,
        # which costs more than to put the parts of a minibatch together.
        self.ticket = {"objects": objects, "message_bytes": 16 << 20, **ticket}

    def set_epoch(self, epoch):
        """The epoch that the next iteration loads, from its beginning."""
        self.epoch, self.done = epoch, []

    def resume(self, epoch, done):
        """The next iteration loads what is left of an epoch; `done` are the cells of the minibatches that
        all ranks have used."""
        self.epoch, self.done = epoch, sorted(tuple(cells) for cells in done)

    def __iter__(self):
        worker = get_worker_info()
        part, parts = (worker.id, worker.num_workers) if worker else (0, 1)
        ticket = {**self.ticket, "epoch": self.epoch, "rank": self.rank, "world_size": self.world_size}
        ticket["part"], ticket["parts"] = part, parts
        if self.done:
            ranges = [{"start": start, "end": end} for start, end in self.done]
            ticket["position"] = {"epoch": self.epoch, "done": {"ranges": ranges}}
        headers = [(b"authorization", f"Bearer {self.token}".encode())] if self.token else []
        with flight.FlightClient(self.server, **self.tls) as client:
            options = flight.FlightCallOptions(headers=headers)
            reader = client.do_get(flight.Ticket(json.dumps(ticket).encode()), options)
            parts = []
            for chunk in reader:
                said = json.loads(chunk.app_metadata.to_pybytes())
                parts.append(chunk.data)
                if said["last"]:
                    converted = self.convert(parts)
                    cells = [(cells["start"], cells["end"]) for cells in said["cells"]["ranges"]]
                    yield converted if self.to == "arrow" else {"cells": cells, **converted}
                    parts = []

    def convert(self, parts):
        """Parts of a minibatch as one: matrices by name, and the columns of obs."""
        batch = parts[0] if len(parts) == 1 else pa.Table.from_batches(parts).combine_chunks().to_batches()[0]
        if self.to == "arrow":
            return batch
        found, obs = {}, {}
        for field, column in zip(batch.schema, batch.columns):
            if pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type):
                found[field.name] = self.matrix(field, column)
            elif pa.types.is_dictionary(field.type):
                self.categories[field.name] = column.dictionary.to_pylist()
                obs[field.name] = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            else:
                obs[field.name] = column.to_numpy(zero_copy_only=False)
        return {**found, "obs": obs}

    def matrix(self, field, column):
        if pa.types.is_fixed_size_list(field.type):
            values = column.flatten().to_numpy().reshape(len(column), -1)
            return _torch().from_numpy(values) if self.to == "torch" else values
        width = int(field.metadata[b"annfusion.width"])
        first = column.offsets[0].as_py()
        entries = column.flatten()
        data, indices = entries.field("data").to_numpy(), entries.field("indices").to_numpy()
        indptr = column.offsets.to_numpy() - first
        if self.to == "torch":
            torch = _torch()
            parts = torch.from_numpy(indptr), torch.from_numpy(indices.astype("int32")), torch.from_numpy(data)
            return torch.sparse_csr_tensor(*parts, size=(len(column), width), check_invariants=False)
        import scipy.sparse

        # Not by the constructor, which would look at every index once more.
        matrix = scipy.sparse.csr_matrix((len(column), width), dtype=data.dtype)
        matrix.data, matrix.indices, matrix.indptr = data, indices.astype("int32"), indptr
        return matrix.toarray() if self.to == "numpy" else matrix


def _torch():
    import torch

    # What was received is nobody else's, so writing to it does no harm; and that sparse tensors are new
    # to torch is no news.
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")
    warnings.filterwarnings("ignore", "Sparse (CSR tensor|invariant checks)")
    return torch
