"""Writes to a bucket that are refused or stopped in their middle: they end, say why, and leave nothing."""

import re
import signal
import subprocess
import time

import pytest

from conftest import BIN
from proxy import Proxy


@pytest.fixture(scope="module")
def large(annfusion, tmp_path_factory):
    """An object whose X takes several parts of an upload, each of its arrays."""
    path = tmp_path_factory.mktemp("large") / "x.h5ad"
    annfusion("synth", path, "--n-obs", 20_000, "--n-vars", 3000, "--mean-genes", 400, "--seed", 2)
    return path


def uploads(s3):
    """Keys of uploads in parts that were neither ended nor aborted."""
    return re.findall(r"<Key>(.*?)</Key>", s3.request("GET", "/tests?uploads").decode())


def is_part(request):
    return request.method == "PUT" and "partNumber=" in request.path


def test_a_refused_part_ends_the_command(annfusion, s3, large):
    """Another shard is open meanwhile, whose writer waits for the one that hears of it."""

    class Denying(Proxy):
        def denies(self, request):
            return is_part(request) and "/X/data/" in request.path

    with Denying(s3.port) as proxy:
        access = s3.access(proxy.port)
        url = access.url("refused/x.zarr")
        done = annfusion("convert", large, url, "--compression", "none", env=access.env, check=False, timeout=60)
    assert done.returncode == 1 and done.stderr.count("error:") == 1, done.stderr
    assert f"{url}: X/data/c/0: permission denied" in done.stderr, done.stderr
    assert s3.keys("refused/") == [] and uploads(s3) == []


def test_a_stopped_writer_aborts_its_uploads(s3, large):
    with Proxy(s3.port, latency=0.2) as proxy:
        access = s3.access(proxy.port)
        command = [BIN, "convert", large, access.url("stopped/x.zarr"), "--compression", "none", "--quiet"]
        process = subprocess.Popen(command, env=access.env, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 30
        while not any(map(is_part, list(proxy.requests))) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1 and "SIGTERM" in stderr, stderr
    assert s3.keys("stopped/") == [] and uploads(s3) == []
