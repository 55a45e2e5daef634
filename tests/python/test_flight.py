"""`serve`: minibatches and SQL through the clients that people have."""

import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
import urllib.error
import urllib.request

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from test_loader import cells, dense, matrix, stored  # noqa: F401, a fixture

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples" / "python"
TICKET = {"batch_size": 16, "chunk_size": 4, "preload_nchunks": 8, "return_index": True}


@contextlib.contextmanager
def server(annfusion, *args, env=None):
    """A running server, and where it listens."""
    command = [annfusion.path, "serve", *map(str, args), "--listen", "127.0.0.1:0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            # JSON may be on several lines.
            while line.count("{") > line.count("}"):
                line += process.stdout.readline()
            process.said = json.loads(line)
            yield process.said["listening"], process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def served(annfusion, stored):  # noqa: F811
    with server(annfusion, f"coll={stored[-1]}", f"csr={stored[0]}") as (address, _):
        yield address


def ticket(objects=("coll",), **more):
    return json.dumps({"objects": list(objects), **TICKET, **more}).encode()


def whole(reader):
    """Minibatches of a stream: their parts put together, and what the last part says."""
    parts, found = [], []
    for chunk in reader:
        said = json.loads(chunk.app_metadata.to_pybytes())
        assert said["part"] == len(parts)
        parts.append(chunk.data)
        if said["last"]:
            found.append((said, pa.Table.from_batches(parts).combine_chunks()))
            parts = []
    assert not parts
    return found


def ranges(start, end):
    return {"ranges": [{"start": start, "end": end}]}


def column(table, name):
    return table[name].combine_chunks() if isinstance(table[name], pa.ChunkedArray) else table[name]


def test_minibatches_are_rows_of_the_object(served, stored):  # noqa: F811
    a = cells(stored[-1])
    client = flight.connect(served)
    text = ticket(layers=["counts"], obsm=["pca"], obs=["kind", "score"], seed=3)
    found = whole(client.do_get(flight.Ticket(text)))
    assert [said["cells"] for said, _ in found] == [ranges(at, min(at + 16, 130)) for at in range(0, 130, 16)]
    at = np.concatenate([column(table, "obs_idx").to_numpy() for _, table in found])
    assert sorted(at) == list(range(130))
    for _, table in found:
        of = a[column(table, "obs_idx").to_numpy()]
        assert np.array_equal(matrix(column(table, "X"), a.n_vars), dense(of.X))
        assert np.array_equal(matrix(column(table, "layers_counts"), a.n_vars), dense(of.layers["counts"]))
        assert np.array_equal(matrix(column(table, "obsm_pca"), 3), of.obsm["pca"])
        assert column(table, "kind").to_pylist() == [None if kind != kind else kind for kind in of.obs["kind"]]
    small = whole(client.do_get(flight.Ticket(ticket(seed=3, message_bytes=600))))
    assert [column(t, "obs_idx").to_pylist() for _, t in small] == [column(t, "obs_idx").to_pylist() for _, t in found]


def test_an_epoch_is_resumed_and_divided(served):
    client = flight.connect(served)

    def order(**more):
        found = {}
        for said, table in whole(client.do_get(flight.Ticket(ticket(seed=1, x=False, **more)))):
            places = [i for cells in said["cells"]["ranges"] for i in range(cells["start"], cells["end"])]
            found.update(zip(places, column(table, "obs_idx").to_pylist(), strict=True))
        return found

    everything = order(epoch=2)
    assert sorted(everything) == list(range(130)) == sorted(everything.values())
    reader = client.do_get(flight.Ticket(ticket(seed=1, x=False, epoch=2)))
    said = json.loads([reader.read_chunk() for _ in range(4)][-1].app_metadata.to_pybytes())
    reader.cancel()
    left = {place: row for place, row in everything.items() if place >= 64}
    assert order(epoch=2, position=said["position"]) == left
    for ranks in (2, 3, 7):
        parts = [order(epoch=2, position=said["position"], rank=rank, world_size=ranks) for rank in range(ranks)]
        assert sum(map(len, parts)) == 66 and {k: v for part in parts for k, v in part.items()} == left
    # Two minibatches, and one of two cells that is filled up from the beginning.
    assert sorted(order(world_size=4, pad=True)) == [*range(32), 128, 129]
    assert sorted(order(world_size=4, drop_last=True)) == list(range(32))
    info = client.get_flight_info(flight.FlightDescriptor.for_command(ticket(seed=1, x=False, endpoints=3)))
    found = [whole(client.do_get(endpoint.ticket)) for endpoint in info.endpoints]
    assert [len(part) for part in found] == [3, 3, 3] and info.total_records == 130
    info = client.get_flight_info(flight.FlightDescriptor.for_command(ticket(seed=1, x=False, endpoints=4)))
    found = [whole(client.do_get(endpoint.ticket)) for endpoint in info.endpoints]
    assert [said["cells"]["ranges"][0]["start"] for part in found for said, _ in part] == list(range(0, 130, 16))
    assert info.schema.names == ["obs_idx"]


def test_what_is_served_is_listed(served):
    client = flight.connect(served)
    listed = {info.descriptor.path[0]: info for info in client.list_flights()}
    assert set(listed) == {b"coll", b"csr"}
    assert listed[b"csr"].schema.names == ["X"] and listed[b"csr"].total_records == 130
    assert client.get_schema(flight.FlightDescriptor.for_path("csr")).schema == listed[b"csr"].schema


@pytest.mark.parametrize("text, error, reason", [
    (b"{", flight.FlightError, "no JSON"),
    (b'{"objects": []}', pa.ArrowInvalid, "names no object"),
    (b'{"objects": ["../secret.h5ad"]}', pa.ArrowInvalid, "is not served"),
    (b'{"objects": ["coll"], "batchsize": 3}', pa.ArrowInvalid, "no member"),
    (b'{"objects": ["coll"], "obs": ["nothing"]}', pa.ArrowInvalid, "no 'nothing'"),
    (b'{"objects": ["coll"], "where": "nothing > 3"}', pa.ArrowInvalid, "nothing"),
    (b'{"objects": ["coll"], "obs": ["kind", "kind"]}', pa.ArrowInvalid, "twice"),
    (b'{"objects": ["coll"], "sampling": {"replacement": {"num_samples": 1000000000000000}}}', pa.ArrowInvalid, "num_samples"),
    (b'{"objects": ["coll"], "sampling": {"classes": {"column": "kind", "num_sample": 3}}}', pa.ArrowInvalid, "num_sample"),
    (b'{"objects": ["coll"], "rank": 9223372036854775807, "world_size": 18446744073709551615}', pa.ArrowInvalid, "world_size"),
    (b'{"objects": ["coll"], "where": "1 = 1) UNION (SELECT 1"}', pa.ArrowInvalid, ""),
    (b"""{"objects": ["coll"], "where": "obs_idx IN (SELECT obs_idx FROM read_anndata('x.h5ad'))"}""", pa.ArrowInvalid, "read_anndata"),
    (b"\xff\x00garbage", pa.ArrowInvalid, ""),
    (b'{"objects": ["coll"]}' + b" " * 100_000_000, flight.FlightError, ""),
], ids=range(14))
def test_bad_tickets_are_refused(served, text, error, reason):
    client = flight.connect(served)
    with pytest.raises((error, pa.ArrowInvalid, flight.FlightError)) as refused:
        client.do_get(flight.Ticket(text)).read_all()
    assert reason in str(refused.value)
    # The others do not notice.
    assert len(whole(client.do_get(flight.Ticket(ticket())))) == 9


def test_sql_reads_what_is_served_and_nothing_else(served, stored):  # noqa: F811
    dbapi = pytest.importorskip("adbc_driver_flightsql.dbapi")
    a = cells(stored[0])
    with dbapi.connect(served) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) AS n, sum(score) AS s FROM csr.obs")
        [(n, s)] = cursor.fetchall()
        assert n == 130 and abs(s - np.nansum(a.obs["score"])) < 1e-9
        cursor.execute("SELECT obs_idx, X FROM csr.cells ORDER BY obs_idx")
        table = cursor.fetch_arrow_table()
        assert np.array_equal(matrix(table["X"].combine_chunks(), a.n_vars), dense(a.X))
        cursor.execute("SELECT kind, count(*) AS n FROM csr.obs GROUP BY kind ORDER BY n DESC")
        counts = dict(cursor.fetchall())
        assert {k: v for k, v in counts.items() if k} == a.obs["kind"].value_counts().to_dict()
        objects = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
        schemas = {s["db_schema_name"]: s for c in objects for s in c["catalog_db_schemas"]}
        assert {"coll", "csr"} <= set(schemas)
        assert {"obs", "var", "cells"} <= {t["table_name"] for t in schemas["csr"]["db_schema_tables"]}
        assert connection.adbc_get_info()["vendor_name"] == "annfusion"
        for statement in [
            f"COPY (SELECT 1) TO '{stored[0].parent}/out.csv'",
            f"SELECT * FROM read_anndata('{stored[1]}')",
            f"SELECT * FROM shuffle('{stored[1]}', 1)",
            f"SELECT * FROM merge('{stored[1]}', '{stored[2]}')",
            f"CREATE EXTERNAL TABLE t STORED AS H5AD LOCATION '{stored[1]}'",
            "CREATE TABLE t AS SELECT 1", "SET datafusion.execution.batch_size = 1", "DROP TABLE csr.obs",
            f"SELECT * FROM '{stored[1]}'",
        ]:
            with pytest.raises(dbapi.Error):
                cursor.execute(statement)
                cursor.fetchall()
        cursor.execute("SELECT count(*) FROM csr.var")
        assert cursor.fetchall() == [(a.n_vars,)]
    assert not (stored[0].parent / "out.csv").exists()


def test_prepared_statements_take_parameters(served, stored):  # noqa: F811
    dbapi = pytest.importorskip("adbc_driver_flightsql.dbapi")
    obs = cells(stored[0]).obs
    kind, least = obs["kind"].dropna().iloc[0], float(obs["score"].median())
    expected = int(((obs["kind"] == kind) & (obs["score"] > least)).sum())
    assert expected
    with dbapi.connect(served) as connection, connection.cursor() as cursor:
        for marks in ("?", "?"), ("$1", "$2"):
            query = f"SELECT count(*) AS n FROM csr.obs WHERE kind = {marks[0]} AND score > {marks[1]} AND '?' <> ''"
            cursor.execute(query, (kind, least))
            assert cursor.fetchall() == [(expected,)]
            cursor.execute(query, ("no such kind", least))
            assert cursor.fetchall() == [(0,)]
        schema = cursor.adbc_prepare("SELECT kind FROM csr.obs WHERE kind = ? AND obs_idx < ?")
        assert schema.names == ["$1", "$2"] and schema.field("$2").type == pa.int64()
        for values in [(kind,), (kind, least, 1)]:
            with pytest.raises(dbapi.Error, match="placeholders"):
                cursor.execute("SELECT count(*) FROM csr.obs WHERE kind = ? AND score > ?", values)
                cursor.fetchall()
        with pytest.raises(dbapi.Error, match="0 values for 1 placeholders"):
            cursor.execute("SELECT count(*) FROM csr.obs WHERE kind = ?")
            cursor.fetchall()
        with pytest.raises(dbapi.Error, match="1048576 bytes"):
            cursor.execute("SELECT count(*) FROM csr.obs WHERE kind = ?", ("x" * (2 << 20),))
            cursor.fetchall()
        cursor.execute("SELECT count(*) FROM csr.obs")
        assert cursor.fetchall() == [(len(obs),)]


def test_what_appears_in_a_folder_is_served(annfusion, stored, tmp_path):  # noqa: F811
    shutil.copy(stored[0], tmp_path / "one.h5ad")
    (tmp_path / "broken.h5ad").write_bytes(b"no HDF5")
    (tmp_path / "notes.txt").write_text("mine")
    with server(annfusion, "--folder", tmp_path) as (address, process):
        assert process.said["objects"] == ["one"]
        client = flight.connect(address)
        assert [list(info.descriptor.path) for info in client.list_flights()] == [[b"one"]]
        with pytest.raises((flight.FlightError, pa.ArrowException), match="not served"):
            client.do_get(flight.Ticket(ticket(["two"]))).read_all()
        # A store that is still being copied is served once it is whole.
        store = pathlib.Path(stored[-2])
        shutil.copytree(store, tmp_path / "two.zarr", ignore=shutil.ignore_patterns("layers"))
        shutil.copy(stored[0], tmp_path / "three.h5ad")
        shutil.copy(stored[0], tmp_path / "broken.h5ad")

        def wait_for(*names):
            for _ in range(100):
                found = {info.descriptor.path[0].decode() for info in client.list_flights()}
                if found == set(names):
                    return
                time.sleep(0.1)
            pytest.fail(f"served are {found}, not {names}")

        wait_for("one", "three", "broken")
        time.sleep(2.5)
        wait_for("one", "three", "broken")
        shutil.copytree(store / "layers", tmp_path / "two.zarr" / "layers")
        wait_for("one", "three", "broken", "two")
        # Nor one all of whose documents are there, and whose chunks still come.
        for part in sorted(store.rglob("*"), key=lambda part: (part.name != "zarr.json", part)):
            if part.is_file():
                target = tmp_path / "four.zarr" / part.relative_to(store)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(part, target)
                time.sleep(0.05)
        assert "four" not in {info.descriptor.path[0].decode() for info in client.list_flights()}
        wait_for("one", "three", "broken", "two", "four")
        assert len(whole(client.do_get(flight.Ticket(ticket(["three"]))))) == 9
        two, four = (whole(client.do_get(flight.Ticket(ticket([name])))) for name in ("two", "four"))
        assert len(two) == len(four) == 9
        assert [table for _, table in two] == [table for _, table in four]


def test_what_is_replaced_is_one_object_to_all(annfusion, stored, tmp_path):  # noqa: F811
    dbapi = pytest.importorskip("adbc_driver_flightsql.dbapi")
    for name, first in [("x.h5ad", stored[0]), ("x.zarr", stored[-2])]:
        path = tmp_path / name
        second = tmp_path / f"second_{name}"
        annfusion("filter", first, second, "--where", "score > 0.5")
        shutil.copytree(first, path) if path.suffix == ".zarr" else shutil.copy(first, path)
        with server(annfusion, f"x={path}") as (address, _), dbapi.connect(address) as connection:

            def answers():
                with connection.cursor() as cursor:
                    cursor.execute("SELECT count(*), sum(score) FROM x.obs")
                    [of_sql] = cursor.fetchall()
                found = whole(flight.connect(address).do_get(flight.Ticket(ticket(["x"]))))
                return *of_sql, sum(len(table) for _, table in found)

            before = answers()
            assert before[0] == before[2] == 130
            path.rename(tmp_path / f"old_{name}")
            second.rename(path)
            after = answers()
            kept = cells(stored[0]).obs["score"]
            kept = kept[kept > 0.5]
            assert after[0] == after[2] == len(kept) and abs(after[1] - kept.sum()) < 1e-9
            path.rename(second)
            with pytest.raises(dbapi.Error):
                answers()


def test_tokens_are_asked_for(annfusion, stored, tmp_path):  # noqa: F811
    (tmp_path / "tokens").write_text("one\ntwo\n")
    with server(annfusion, f"coll={stored[-1]}", "--tokens", tmp_path / "tokens") as (address, _):
        client = flight.connect(address)
        for headers in ([], [(b"authorization", b"Bearer three")]):
            with pytest.raises(flight.FlightUnauthenticatedError):
                client.do_get(flight.Ticket(ticket()), flight.FlightCallOptions(headers=headers)).read_all()
        options = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer two")])
        assert len(whole(client.do_get(flight.Ticket(ticket()), options))) == 9


def certificates(folder):
    """An authority, and certificates of a server and a client that it signed."""
    def openssl(*args):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, cwd=folder)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("server", "client"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", 2,
                "-extfile", "names", "-out", f"{name}.pem")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make certificates")
def test_calls_are_encrypted(annfusion, stored, tmp_path):  # noqa: F811
    files = certificates(tmp_path)
    text, ca = flight.Ticket(ticket()), files["ca.pem"].read_bytes()
    tls = ["--tls-cert", files["server.pem"], "--tls-key", files["server.key"]]
    with server(annfusion, f"coll={stored[-1]}", *tls) as (address, _):
        assert len(whole(flight.FlightClient(address, tls_root_certs=ca).do_get(text))) == 9
        with pytest.raises(flight.FlightUnavailableError):
            flight.connect(address.replace("grpc+tls", "grpc")).do_get(text)
    with server(annfusion, f"coll={stored[-1]}", *tls, "--client-ca", files["ca.pem"]) as (address, _):
        known = {"cert_chain": files["client.pem"].read_bytes(), "private_key": files["client.key"].read_bytes()}
        assert len(whole(flight.FlightClient(address, tls_root_certs=ca, **known).do_get(text))) == 9
        with pytest.raises(flight.FlightError):
            flight.FlightClient(address, tls_root_certs=ca).do_get(text).read_all()


def test_many_clients_at_once_and_some_that_stall(annfusion, synth):
    with server(annfusion, f"a={synth}", "--streams", 64, "--memory", "4GB") as (address, process):
        text = json.dumps({"objects": ["a"], "batch_size": 64, "chunk_size": 8, "preload_nchunks": 16}).encode()
        stalled = [flight.connect(address).do_get(flight.Ticket(text)) for _ in range(8)]
        [reader.read_chunk() for reader in stalled]
        counts, failures = [], []

        def read():
            try:
                counts.append(sum(len(t) for _, t in whole(flight.connect(address).do_get(flight.Ticket(text)))))
            except Exception as error:  # noqa: BLE001, shown below
                failures.append(error)

        threads = [threading.Thread(target=read) for _ in range(56)]
        [thread.start() for thread in threads]
        [thread.join(120) for thread in threads]
        assert not failures and counts == [3000] * 56
        [reader.cancel() for reader in stalled]
        with open(f"/proc/{process.pid}/status") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        assert peak < 1_500_000, peak
        # Those that went away have given their places back.
        deadline = time.monotonic() + 20
        more = []
        while len(more) < 60 and time.monotonic() < deadline:
            with contextlib.suppress(flight.FlightError, pa.ArrowInvalid):
                reader = flight.connect(address).do_get(flight.Ticket(text))
                reader.read_chunk()
                more.append(reader)
        assert len(more) == 60


def test_too_many_streams_are_refused(annfusion, stored, synth):  # noqa: F811
    with server(annfusion, f"coll={synth}", "--streams", 1) as (address, _):
        # More than the network holds, so that it waits for its reader.
        first = flight.connect(address).do_get(flight.Ticket(ticket(dense=True)))
        first.read_chunk()
        with pytest.raises((flight.FlightError, pa.ArrowInvalid), match="no more are allowed"):
            flight.connect(address).do_get(flight.Ticket(ticket())).read_chunk()
        first.cancel()
    with server(annfusion, f"coll={synth}", "--memory", "2MB") as (address, _):
        large = {"batch_size": 1024, "chunk_size": 16, "preload_nchunks": 128, "dense": True}
        with pytest.raises((flight.FlightError, pa.ArrowInvalid), match="together may hold"):
            flight.connect(address).do_get(flight.Ticket(ticket(**large))).read_chunk()
        assert sum(len(table) for _, table in whole(flight.connect(address).do_get(flight.Ticket(ticket())))) == 3000


def test_a_client_has_as_many_streams_as_it_may(annfusion, synth, tmp_path):
    with server(annfusion, f"coll={synth}", "--streams-per-client", 1) as (address, _):
        first = flight.connect(address).do_get(flight.Ticket(ticket(dense=True)))
        first.read_chunk()
        with pytest.raises((flight.FlightError, pa.ArrowInvalid), match="1 streams of yours"):
            flight.connect(address).do_get(flight.Ticket(ticket())).read_chunk()
    (tmp_path / "tokens").write_text("one\ntwo\n")
    with server(annfusion, f"coll={synth}", "--streams-per-client", 1, "--tokens", tmp_path / "tokens") as (address, _):
        def begin(token):
            options = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer " + token)])
            reader = flight.connect(address).do_get(flight.Ticket(ticket(dense=True)), options)
            reader.read_chunk()
            return reader

        first = begin(b"one")
        with pytest.raises((flight.FlightError, pa.ArrowInvalid), match="1 streams of yours"):
            begin(b"one")
        begin(b"two").cancel()
        first.cancel()
        deadline = time.monotonic() + 20
        while True:
            try:
                begin(b"one").cancel()
                break
            except (flight.FlightError, pa.ArrowInvalid):
                assert time.monotonic() < deadline
                time.sleep(0.05)


def test_a_server_outlives_clients_that_leave(annfusion, synth):
    text = json.dumps({"objects": ["a"], "batch_size": 64, "chunk_size": 8, "preload_nchunks": 16, "dense": True}).encode()
    with server(annfusion, f"a={synth}") as (address, process):
        for _ in range(40):
            client = flight.connect(address)
            client.do_get(flight.Ticket(text)).read_chunk()
            client.close()
            del client
        assert sum(len(table) for _, table in whole(flight.connect(address).do_get(flight.Ticket(text)))) == 3000
        assert process.poll() is None


def test_a_stopped_server_lets_streams_finish(annfusion, synth):
    text = json.dumps({"objects": ["a"], "batch_size": 64, "chunk_size": 8, "preload_nchunks": 16}).encode()
    with server(annfusion, f"a={synth}") as (address, process):
        reader = flight.connect(address).do_get(flight.Ticket(text))
        first = reader.read_chunk()
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(flight.FlightError):
            flight.connect(address).do_get(flight.Ticket(text)).read_chunk()
        rows = len(first.data) + sum(len(chunk.data) for chunk in reader)
        assert rows == 3000
        assert process.wait(20) == 0


def test_the_example_loads_what_anndata_reads(served, stored):  # noqa: F811
    module = client_module()
    a = cells(stored[-1])
    options = {**TICKET, "obs": ["kind"], "seed": 5}
    loader = module.Minibatches(served, "coll", **options)
    first = list(loader)
    everything = [(at, min(at + 16, 130)) for at in range(0, 130, 16)]
    assert [cells for minibatch in first for cells in minibatch["cells"]] == everything
    for minibatch in first:
        of = a[minibatch["obs"]["obs_idx"]]
        assert np.array_equal(minibatch["X"].toarray(), dense(of.X)) and minibatch["X"].shape[1] == a.n_vars
    # Workers side by side have all of it between them.
    for workers in (1, 2, 4):
        seen = []
        for worker in range(workers):
            module.get_worker_info = lambda worker=worker: types.SimpleNamespace(id=worker, num_workers=workers)
            seen += [cells for minibatch in loader for cells in minibatch["cells"]]
        assert seen == everything
    module.get_worker_info = lambda: None
    loader.resume(0, [cells for minibatch in first[:4] for cells in minibatch["cells"]])
    rest = list(loader)
    assert [cells for m in rest for cells in m["cells"]] == everything[4:]
    assert all(np.array_equal(m["obs"]["obs_idx"], n["obs"]["obs_idx"]) for m, n in zip(rest, first[4:]))
    loader.set_epoch(1)
    other = np.concatenate([m["obs"]["obs_idx"] for m in loader])
    assert sorted(other) == list(range(130)) and list(other[:16]) != list(first[0]["obs"]["obs_idx"])
    # A process that gRPC has run in cannot be forked; one that is started anew can do as it likes.
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, spawn) as spawned:
        assert list(spawned.map(len_of_epoch, [(served, options)] * 2)) == [9, 9]


DATA_LOADER = """
import sys
import torch
from annfusion_loader import Minibatches
if __name__ == "__main__":
    server, workers, context = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    data = Minibatches(server, "coll", to="torch", obs=["kind"], batch_size=16, chunk_size=4, preload_nchunks=8, return_index=True)
    loader = torch.utils.data.DataLoader(data, batch_size=None, num_workers=workers, multiprocessing_context=context or None)
    for epoch in (0, 1):
        data.set_epoch(epoch)
        found = [(minibatch["X"].to_dense().sum().item(), torch.as_tensor(minibatch["obs"]["obs_idx"])) for minibatch in loader]
        print(len(found), sum(total for total, _ in found), sorted(torch.cat([rows for _, rows in found]).tolist()) == list(range(130)))
"""


@pytest.mark.parametrize("workers, context", [(0, ""), (2, "spawn"), (4, "spawn"), (2, "fork"), (4, "fork")])
def test_torch_divides_an_epoch_among_workers(served, stored, tmp_path, workers, context):  # noqa: F811
    pytest.importorskip("torch", reason="SKIPPED: torch is not installed")
    total = dense(cells(stored[-1]).X).sum()
    (tmp_path / "load.py").write_text(DATA_LOADER)
    command = [sys.executable, "-W", "ignore", tmp_path / "load.py", served, str(workers), context]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": str(EXAMPLES)})
    assert done.returncode == 0, done.stderr
    epochs = [line.split() for line in done.stdout.splitlines()]
    assert [(n, all_rows) for n, _, all_rows in epochs] == [("9", "True")] * 2
    assert all(abs(float(found) - total) < 1e-3 * abs(total) for _, found, _ in epochs)


def test_the_example_of_training_learns(annfusion, synth):
    pytest.importorskip("torch", reason="SKIPPED: torch is not installed")
    with server(annfusion, f"a={synth}") as (address, _):
        command = [sys.executable, "-W", "ignore", EXAMPLES / "train_linear.py", address, "a", "--batch-size", "64", "--epochs", "3"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    right = [float(line.split("%")[0].rsplit(" ", 1)[1]) for line in done.stdout.splitlines()]
    # Six types, told apart by their genes.
    assert len(right) == 3 and right[-1] > 60, done.stdout


def test_the_example_of_queries_prints_a_frame(served, stored):  # noqa: F811
    pytest.importorskip("adbc_driver_flightsql.dbapi")
    statement = "SELECT count(*) AS cells FROM coll.obs WHERE kind IS NOT NULL"
    done = subprocess.run([sys.executable, EXAMPLES / "query.py", served, statement], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert str(cells(stored[-1]).obs["kind"].notna().sum()) in done.stdout


def client_module():
    sys.path.insert(0, str(EXAMPLES))
    import annfusion_loader

    return annfusion_loader


def len_of_epoch(args):
    served, options = args
    return sum(1 for _ in client_module().Minibatches(served, "coll", **options))


def test_what_was_streamed_is_counted(annfusion, stored):  # noqa: F811
    with server(annfusion, f"coll={stored[-1]}", "--metrics", "127.0.0.1:0") as (address, process):
        client = flight.connect(address)
        whole(client.do_get(flight.Ticket(ticket())))
        with pytest.raises(pa.ArrowInvalid):
            client.do_get(flight.Ticket(ticket(chunk_size=0))).read_all()
        with urllib.request.urlopen(process.said["metrics"], timeout=10) as page:
            assert page.headers["content-type"].startswith("application/openmetrics-text")
            lines = [line.rsplit(" ", 1) for line in page.read().decode().splitlines() if not line.startswith("#")]
        found = {name: float(value) for name, value in lines}
        assert found["annfusion_cells_total"] == 130 and found["annfusion_minibatches_total"] == 9
        assert found["annfusion_streams_running"] == 0
        assert found['annfusion_streams_total{outcome="Complete"}'] == 1
        assert found['annfusion_streams_total{outcome="Refused"}'] == 1
        assert found["annfusion_sent_bytes_total"] > 130 * 8
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(process.said["metrics"].replace("/metrics", "/"), timeout=10)


def test_the_schema_of_tickets_is_printed(annfusion):
    schema = json.loads(annfusion("serve", "--ticket-schema").stdout)
    assert schema["required"] == ["objects"] and schema["properties"]["batch_size"]["default"] == 4096


def test_a_name_and_a_port_that_are_taken_are_said(annfusion, synth, tmp_path):
    shutil.copy(synth, tmp_path / synth.name)
    command = [annfusion.path, "serve", synth, tmp_path / synth.name, "--listen", "localhost:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        address = said.removeprefix("listening on ").split(": ")[0]
        assert said.rstrip().endswith("cells, cells_2") and len(list(flight.connect(address).list_flights())) == 2
        done = annfusion("serve", synth, "--listen", address.removeprefix("grpc://"), check=False, timeout=30)
        assert done.returncode == 1 and "the port is taken" in done.stderr, done.stderr
        process.terminate()
        assert "is called cells_2, because cells is taken" in process.stderr.read()
    for place in ("localhost", "127.0.0.1:", ":50051", "localhost:port"):
        done = annfusion("serve", synth, "--listen", place, check=False, timeout=30)
        assert done.returncode == 2 and "a host and a port are wanted" in done.stderr, done.stderr


def test_what_cannot_be_served_is_refused(annfusion, tmp_path):
    for args, code in [(["nothing.h5ad"], 1), ([], 2), ([tmp_path / "x.h5ad", "--tls-cert", "a"], 2)]:
        done = annfusion("serve", *args, check=False, timeout=30)
        assert done.returncode == code, done.stderr
    assert os.listdir(tmp_path) == []
