"""What all tests here share: the program, the objects, and how they are run."""

import contextlib
import os
import pathlib
import subprocess
import sys

import pytest

import objects
import servers
from failures import Failures

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("ANNFUSION_BIN", str(REPOSITORY / "target" / "debug" / "annfusion"))


# Names of stored forms, and what `convert` is told to make them.
FORMS = {
    "h5ad": ["x.h5ad"],
    "h5ad-gzip": ["x.h5ad", "--compression", "gzip"],
    "zarr": ["x.zarr", "--chunk-size", 256, "--shard-size", 4096],
    "zarr-v2": ["x.zarr", "--zarr-version", 2],
    "zarr-lz4": ["x.zarr", "--compression", "blosc-lz4", "--shard-size", 8192],
}


class Program:
    """Runs the program under test."""

    path = BIN

    def __call__(self, *args, check=True, timeout=120, **kwargs):
        """Runs a command; fails the test where it fails, unless `check` is False."""
        done = subprocess.run(
            [BIN, *map(str, args)], capture_output=True, text=True, timeout=timeout, **kwargs
        )
        if check and done.returncode != 0:
            pytest.fail(f"annfusion {' '.join(map(str, args))}\nexit {done.returncode}\n{done.stderr[-3000:]}")
        return done

    def peak_bytes(self, *args):
        """The most memory that a command held. It is started by a small process, because Linux counts
        what a process has before it runs another program as that program's."""
        code = (
            "import resource, subprocess, sys\n"
            "done = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
            "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, done.stderr)"
        )
        command = [sys.executable, "-c", code, BIN, *map(str, args)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        status, peak, errors = said.split(" ", 2)
        assert status == "0", errors
        return int(peak) << 10


@pytest.fixture(scope="session")
def annfusion():
    return Program()


@pytest.fixture(scope="session")
def synth(annfusion, tmp_path_factory):
    """A synthetic object of 3,000 cells and 600 genes."""
    path = tmp_path_factory.mktemp("synth") / "cells.h5ad"
    annfusion("synth", path, "--n-obs", 3000, "--n-vars", 600, "--cell-types", 6, "--seed", 1)
    return path


@pytest.fixture(scope="session")
def demo(annfusion, tmp_path_factory):
    """The `demo` of `tests/sql.rs`."""
    path = tmp_path_factory.mktemp("demo") / "demo.h5ad"
    size = ["--n-obs", 300, "--n-vars", 200, "--mean-genes", 40]
    annfusion("synth", path, *size, "--cell-types", 3, "--seed", 7)
    return path


@pytest.fixture(scope="session")
def demos(annfusion, demo):
    """The object of the manual in both forms; zarr cut as `tests/sql.rs` cuts it."""
    folder = demo.with_suffix(".zarr")
    annfusion("convert", demo, folder, "--chunk-size", 40, "--shard-size", 120)
    return {"h5ad": demo, "zarr": folder}


@pytest.fixture(scope="session")
def ordered(annfusion, tmp_path_factory):
    """An object in no order and sorted by cell type, and a cell type that an eighth of the cells have."""
    folder = tmp_path_factory.mktemp("ordered")
    annfusion("synth", folder / "unsorted.h5ad", "--n-obs", 20_000, "--n-vars", 2000, "--cell-types", 12, "--seed", 3)
    a = objects.read(folder / "unsorted.h5ad")
    a[a.obs["cell_type"].argsort(kind="stable")].copy().write_h5ad(folder / "sorted.h5ad")
    return folder, "B"


@pytest.fixture(scope="session")
def made(annfusion, ordered):
    """Makes a form of an order, once."""
    folder, _ = ordered
    seen = {}

    def make(order, form):
        if (order, form) not in seen:
            name, *options = FORMS[form]
            (folder / f"{order}-{form}").mkdir()
            seen[order, form] = folder / f"{order}-{form}" / name
            annfusion("convert", folder / f"{order}.h5ad", seen[order, form], *options)
        return seen[order, form]

    return make


def served(kind, tmp_path_factory):
    """A server for the session, or a skip that says why there is none."""
    try:
        server = kind(tmp_path_factory.mktemp(kind.name))
    except servers.Unavailable as reason:
        pytest.skip(f"SKIPPED: tests against {kind.name}: {reason}")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    yield from served(servers.S3, tmp_path_factory)


@pytest.fixture(scope="session")
def azure(tmp_path_factory):
    yield from served(servers.Azure, tmp_path_factory)


@pytest.fixture(scope="session")
def web(tmp_path_factory):
    yield from served(servers.Web, tmp_path_factory)


@pytest.fixture(scope="session", params=["s3", "azure", "web"])
def store(request):
    """Each of the servers."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def failures(request, annfusion, demos):
    """Questions that fail, asked in the background of the servers that are here."""
    kinds = {}
    for kind in ("s3", "azure", "web"):
        with contextlib.suppress(pytest.skip.Exception):
            kinds[kind] = request.getfixturevalue(kind)
    asked = Failures(annfusion, kinds, demos)
    yield asked
    asked.close()


def pytest_generate_tests(metafunc):
    if "shared_object" in metafunc.fixturenames:
        found = objects.shared_objects()
        if not found:
            print("SKIPPED: shared/data is not here")
        metafunc.parametrize("shared_object", found, ids=[str(o) for o in found])
