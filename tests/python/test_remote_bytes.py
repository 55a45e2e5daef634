"""A query on some cells transfers little more than what holds them, counted between program and server."""

import pyarrow as pa
import pytest

from conftest import FORMS
from needed import cells_of, needed
from proxy import Proxy

MOST = 1.3
# What opening an object costs beside, in blocks of metadata, whatever its size. `benches/peers/remote.py`
# holds an object of a gigabyte to the share alone.
OPENING = 256 << 10


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", ["sorted", "unsorted"])
def test_cells_of_a_type(annfusion, s3, web, ordered, made, order, form, tmp_path, record_property):
    path = made(order, form)
    cell_type = ordered[1]
    sql = f"SELECT count(*) AS n, sum(total_counts(X)) AS t, avg(gene(X, 'LYZ')) AS lyz FROM cells WHERE cell_type = '{cell_type}'"
    expected = ask(annfusion, path, sql, tmp_path)
    bytes_needed = needed(path, cells_of(path, "cell_type", cell_type), ["obs/cell_type", "var/_index"])
    # Of cells all over an array that is not compressed many small parts are read, for which moto takes long.
    for server in (web,) if (order, form) == ("unsorted", "h5ad") else (s3, web):
        server.upload(path, f"bytes/{order}-{form}/{path.name}")
        with Proxy(server.port) as proxy:
            access = server.access(proxy.port)
            answer = ask(annfusion, access.url(f"bytes/{order}-{form}/{path.name}"), sql, tmp_path, env=access.env)
            assert answer == expected
            share = proxy.n_bytes / bytes_needed
            print(
                f"{server.name} {order} {form}: {proxy.n_bytes} of {bytes_needed}, {share:.3f}, {len(proxy.requests)} requests"
            )
            assert 0 < proxy.n_bytes < MOST * bytes_needed + OPENING, (server.name, share)


def test_obs_alone_reads_no_matrix(annfusion, s3, ordered, made, tmp_path):
    for form in ("h5ad", "zarr"):
        path = made("unsorted", form)
        s3.upload(path, f"bytes/obs/{path.name}")
        bytes_needed = needed(path, cells_of(path, "cell_type", ordered[1])[:0], ["obs/cell_type"])
        with Proxy(s3.port) as proxy:
            access = s3.access(proxy.port)
            sql = "SELECT cell_type, count(*) AS n FROM obs GROUP BY cell_type ORDER BY cell_type"
            url = access.url(f"bytes/obs/{path.name}")
            assert ask(annfusion, url, sql, tmp_path, env=access.env) == ask(annfusion, path, sql, tmp_path)
            # What a small answer costs is round trips and blocks of metadata: few, whatever the matrix has.
            assert proxy.n_bytes < bytes_needed + (512 << 10), (form, proxy.n_bytes, bytes_needed)
            assert len(proxy.requests) < 150, (form, len(proxy.requests))


def ask(annfusion, location, sql, tmp_path, **kwargs):
    out = tmp_path / "answer.arrow"
    annfusion("query", location, sql, "-o", out, "--overwrite", **kwargs)
    return pa.ipc.open_stream(out).read_all().to_pydict()
