"""What all tests here share: the program, the objects, and how they are run."""

import os
import pathlib
import subprocess

import pytest

import objects
import servers

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("ANNFUSION_BIN", str(REPOSITORY / "target" / "debug" / "annfusion"))


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


@pytest.fixture(scope="session")
def annfusion():
    return Program()


@pytest.fixture(scope="session")
def synth(annfusion, tmp_path_factory):
    """A synthetic object of 3,000 cells and 600 genes."""
    path = tmp_path_factory.mktemp("synth") / "cells.h5ad"
    annfusion("synth", path, "--n-obs", 3000, "--n-vars", 600, "--cell-types", 6, "--seed", 1)
    return path


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


def pytest_generate_tests(metafunc):
    if "shared_object" in metafunc.fixturenames:
        found = objects.shared_objects()
        if not found:
            print("SKIPPED: shared/data is not here")
        metafunc.parametrize("shared_object", found, ids=[str(o) for o in found])
