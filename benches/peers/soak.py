"""A server under clients that come and go: whether throughput and memory stay flat, and nothing leaks.

    python benches/peers/soak.py COLLECTION --annfusion target/release/annfusion [--minutes 30] [--clients 4]

Each client is a process of its own that asks for what the seed says, one after another: whole epochs,
epochs that it leaves in the middle, statements of SQL, tickets that are refused, and now and then it
stops reading for a while and is killed. Once a minute a row says how many cells were sent, and what the server
has: resident memory, open files, threads, streams. At the end all clients are gone, and so have to be
their streams and files. Needs pyarrow; Linux, for `/proc`.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples" / "python"))

SETTINGS = [(4096, 32, 256), (4096, 512, 32), (512, 1, 8192), (1024, 64, 64)]


def client(server, name, seed, stop):
    """Asks until it is told to stop."""
    import pyarrow as pa
    import pyarrow.flight as flight
    from annfusion_loader import Minibatches

    rng = random.Random(seed)
    while time.time() < stop:
        batch, chunk, preload = rng.choice(SETTINGS)
        what = rng.random()
        options = {"obs": ["cell_type"], "batch_size": batch, "chunk_size": chunk, "preload_nchunks": preload}
        minibatches = Minibatches(server, name, to="arrow", epoch=rng.randrange(1000), **options)
        try:
            if what < 0.1:
                with flight.FlightClient(server) as connection:
                    connection.do_get(flight.Ticket(b'{"objects": ["no such"]}')).read_all()
                print("client: a ticket for nothing was taken", file=sys.stderr, flush=True)
                os._exit(1)
            elif what < 0.3:
                sql = f'SELECT cell_type, count(*) AS n FROM "{name}".obs GROUP BY cell_type'
                with flight.FlightClient(server) as connection:
                    command = statement(sql)
                    info = connection.get_flight_info(flight.FlightDescriptor.for_command(command))
                    connection.do_get(info.endpoints[0].ticket).read_all()
            elif what < 0.6:
                leave = rng.randrange(1, 20)
                for at, _ in enumerate(minibatches):
                    if at >= leave:
                        break
            elif what < 0.65:
                for _ in minibatches:
                    time.sleep(rng.random() * 20)
                    os.kill(os.getpid(), signal.SIGKILL)
            else:
                for _ in minibatches:
                    if time.time() > stop:
                        break
        except (pa.ArrowException, flight.FlightError) as error:
            is_refusal = what < 0.1 and "is not served" in str(error)
            if not is_refusal:
                print(f"client: {error}", file=sys.stderr, flush=True)
                os._exit(1)


def statement(sql):
    """`CommandStatementQuery` of Flight SQL in its `google.protobuf.Any`."""

    def field(number, data):
        size, length = len(data), b""
        while True:
            length += bytes([size & 0x7F | (0x80 if size > 0x7F else 0)])
            size >>= 7
            if not size:
                return bytes([number << 3 | 2]) + length + data

    kind = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    return field(1, kind) + field(2, field(1, sql.encode()))


def state(pid, metrics):
    """What the server has, and the cells that it sent."""
    # Asked first: before it answers it is not yet what it will be.
    counts = urllib.request.urlopen(metrics, timeout=20).read().decode()
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    number = lambda text, key: float(re.search(rf"^{key}:?\s+([\d.e+]+)", text, re.M).group(1))
    return {
        "rss": number(status, "VmRSS") / 1000,
        "threads": int(number(status, "Threads")),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
        "streams": int(number(counts, "annfusion_streams_running")),
        "cells": number(counts, "annfusion_cells_total"),
    }


def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collection", type=pathlib.Path)
    parser.add_argument("--annfusion", default="target/release/annfusion")
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--clients", type=int, default=4)
    args = parser.parse_args()
    listen, metrics = f"127.0.0.1:{port()}", f"127.0.0.1:{port()}"
    command = [args.annfusion, "serve", args.collection, "--listen", listen, "--metrics", metrics]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    metrics = f"http://{metrics}/metrics"
    name = args.collection.name.split(".")[0]
    spawned = multiprocessing.get_context("spawn")
    before = None
    while before is None:
        try:
            before = state(server.pid, metrics)
        except OSError:
            time.sleep(0.1)
    # What is opened once stays open: the object, and what threads and runtimes need.
    first = spawned.Process(target=client, args=(f"grpc://{listen}", name, 0, time.time() + 20))
    first.start()
    first.join()
    time.sleep(5)
    before = state(server.pid, metrics)
    print(json.dumps({"before": before}))
    print("| minute | cells/s | RSS MB | threads | files | streams |\n|---|---|---|---|---|---|", flush=True)
    stop, seed, clients, rows, failed = time.time() + args.minutes * 60, 0, [], [], 0
    try:
        last, since, minute = before["cells"], time.time(), 0
        while time.time() < stop:
            gone = [process for process in clients if not process.is_alive()]
            failed += sum(process.exitcode not in (0, -signal.SIGKILL) for process in gone)
            clients = [process for process in clients if process.is_alive()]
            while len(clients) < args.clients:
                seed += 1
                # Some stay for a few requests, some for the whole time.
                until = min(stop, time.time() + random.Random(seed).choice([20, 90, 1e9]))
                clients.append(spawned.Process(target=client, args=(f"grpc://{listen}", name, seed, until)))
                clients[-1].start()
            time.sleep(1)
            if time.time() - since >= 60:
                minute, now = minute + 1, state(server.pid, metrics)
                rate = (now["cells"] - last) / (time.time() - since)
                last, since = now["cells"], time.time()
                rows.append((rate, now["rss"]))
                cells = [minute, f"{rate:,.0f}", f"{now['rss']:.0f}", now["threads"], now["files"], now["streams"]]
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        for process in clients:
            process.join(60)
            failed += process.exitcode not in (0, -signal.SIGKILL)
            process.kill()
        time.sleep(5)
        after = state(server.pid, metrics)
        print(json.dumps({"after": after, "clients": seed, "failed": failed}))
        third = max(1, len(rows) // 3)
        for at, what in enumerate(["cells/s", "RSS MB"]):
            first, end = (statistics.median(row[at] for row in part) for part in (rows[:third], rows[-third:]))
            print(f"{what}: {first:,.0f} in the first third, {end:,.0f} in the last: {end / first:.2f} ×")
        if after["streams"] or failed or after["files"] > before["files"] + 4:
            sys.exit("something is left over, or a client failed")
    finally:
        for process in clients:
            process.kill()
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    main()
