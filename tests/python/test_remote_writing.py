"""Zarr written to a bucket: whole or not to be seen, and what anndata reads."""

import random
import signal
import subprocess
import time

import pytest
import zarr

import objects
from conftest import BIN
from failures import WRITING
from oracle import check_equal
from proxy import Proxy

ROOTS = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata")


@pytest.fixture(scope="session", params=["s3", "azure"])
def bucket(request):
    """The servers that are written to."""
    return request.getfixturevalue(request.param)


def roots(server, key):
    """Documents of a store's root: where there is one, readers take it for complete."""
    return [name for name in ROOTS if f"{key}/{name}" in server.keys(key + "/")]


@pytest.mark.parametrize("form", [[], ["--no-shards"], ["--zarr-version", 2]], ids=["v3", "v3-flat", "v2"])
def test_what_is_written_is_read(annfusion, bucket, synth, tmp_path, form):
    key = f"written/{tmp_path.name}/x.zarr"
    access = bucket.access()
    annfusion("convert", synth, access.url(key), *form, "--chunk-size", 100, env=access.env)
    bucket.download(key, tmp_path / "x.zarr")
    check_equal("x.zarr", objects.read(tmp_path / "x.zarr"), objects.read(synth))
    kept = zarr.open_group(tmp_path / "x.zarr", mode="r", use_consolidated=True)
    assert sorted(k for k, _ in kept.members(max_depth=None)) == sorted(
        k for k, _ in objects.open_zarr(tmp_path / "x.zarr").members(max_depth=None)
    )
    annfusion("convert", synth, tmp_path / "local.zarr", *form, "--chunk-size", 100)
    here = sorted(
        p.relative_to(tmp_path / "local.zarr").as_posix() for p in (tmp_path / "local.zarr").rglob("*") if p.is_file()
    )
    assert sorted(k.removeprefix(key + "/") for k in bucket.keys(key + "/")) == here
    done = annfusion("verify", synth, access.url(key), env=access.env)
    assert done.returncode == 0, done.stdout


def test_from_bucket_to_bucket(annfusion, s3, azure, synth, tmp_path):
    env = s3.access().env | azure.access().env
    s3.upload(synth, "hop/x.h5ad")
    annfusion("convert", s3.access().url("hop/x.h5ad"), azure.access().url("hop/x.zarr"), env=env)
    annfusion("convert", azure.access().url("hop/x.zarr"), tmp_path / "x.h5ad", env=env)
    annfusion("verify", synth, tmp_path / "x.h5ad")


def test_an_existing_store_is_kept(annfusion, bucket, synth, tmp_path):
    key, access = "kept/x.zarr", bucket.access()
    url = access.url(key)
    annfusion("convert", synth, url, env=access.env)
    before = {name: bucket.get(name) for name in bucket.keys(key + "/")}
    done = annfusion("convert", synth, url, "--zarr-version", 2, env=access.env, check=False)
    assert done.returncode == 1 and "--overwrite" in done.stderr and url in done.stderr
    assert {name: bucket.get(name) for name in bucket.keys(key + "/")} == before
    annfusion("convert", synth, url, "--zarr-version", 2, "--overwrite", env=access.env)
    assert roots(bucket, key) == [".zgroup", ".zattrs", ".zmetadata"]
    assert not [name for name in bucket.keys(key + "/") if name.endswith("zarr.json")]
    annfusion("verify", synth, url, env=access.env)


def test_what_is_no_store_is_not_replaced(annfusion, bucket, synth):
    access = bucket.access()
    bucket.put("notes.zarr/mine.txt", b"keep")
    done = annfusion("convert", synth, access.url("notes.zarr"), "--overwrite", env=access.env, check=False)
    assert done.returncode == 1 and "no zarr store" in done.stderr
    assert bucket.keys("notes.zarr/") == ["notes.zarr/mine.txt"]


def test_an_input_is_not_its_own_output(annfusion, bucket, synth):
    access = bucket.access()
    url = access.url("own/x.zarr")
    annfusion("convert", synth, url, env=access.env)
    scheme, rest = url.split("://")
    for other in (url, f"{scheme.upper()}://{rest}", url.replace("own/", "none/../own/"), url.replace("x.z", "%78.z")):
        done = annfusion("convert", url, other, "--overwrite", env=access.env, check=False)
        assert done.returncode == 1 and "input" in done.stderr, (other, done.stderr)
    annfusion("verify", synth, url, env=access.env)


def test_a_killed_writer_leaves_no_root(annfusion, s3, synth):
    """At several moments of a write that is spread out by latency; then a whole one."""
    with Proxy(s3.port, latency=0.02) as proxy:
        access = s3.access(proxy.port)
        command = [
            BIN,
            "convert",
            str(synth),
            access.url("killed/0.zarr"),
            "--chunk-size",
            "50",
            "--no-shards",
            "--quiet",
        ]
        began = time.monotonic()
        subprocess.run(command, check=True, env=access.env, capture_output=True)
        whole = time.monotonic() - began
        assert roots(s3, "killed/0.zarr")
        rng, partial = random.Random(0), 0
        for i in range(1, 8):
            key = f"killed/{i}.zarr"
            command[3] = access.url(key)
            process = subprocess.Popen(command, env=access.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.1, 1.0) * whole)
            process.send_signal(signal.SIGKILL)
            process.wait()
            # Requests that were on their way arrive.
            time.sleep(0.2)
            if roots(s3, key):
                annfusion("verify", synth, access.url(key), env=access.env)
            else:
                partial += bool(s3.keys(key + "/"))
                done = annfusion("inspect", access.url(key), env=access.env, check=False)
                assert done.returncode == 1, "a store that is not complete opens"
        assert partial
        # What is left of it is no store to keep, and no part of the next one.
        key = next(
            f"killed/{i}.zarr"
            for i in range(1, 8)
            if s3.keys(f"killed/{i}.zarr/") and not roots(s3, f"killed/{i}.zarr")
        )
        command[3] = access.url(key)
        subprocess.run([*command, "--overwrite"], check=True, env=access.env, capture_output=True)
        annfusion("verify", synth, access.url(key), env=access.env)


def test_a_killed_replacement_is_never_half(annfusion, s3, synth, tmp_path):
    """What opens after an interrupted --overwrite is the old object or the new one."""
    annfusion("filter", synth, tmp_path / "old.h5ad", "--where", "cell_type = 'B'")
    rng = random.Random(1)
    with Proxy(s3.port, latency=0.02) as proxy:
        access = s3.access(proxy.port)
        for i in range(4):
            key = f"replaced/{i}.zarr"
            url = access.url(key)
            annfusion("convert", tmp_path / "old.h5ad", url, "--no-shards", env=access.env)
            command = [BIN, "convert", str(synth), url, "--overwrite", "--chunk-size", "50", "--no-shards", "--quiet"]
            process = subprocess.Popen(command, env=access.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.1, 1.5))
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(0.2)
            if roots(s3, key):
                found = [
                    annfusion("verify", x, url, env=access.env, check=False).returncode
                    for x in (tmp_path / "old.h5ad", synth)
                ]
                assert 0 in found, f"{i}: neither the old object nor the new one"


def test_an_interrupted_writer_leaves_nothing_to_open(annfusion, s3, synth):
    with Proxy(s3.port, latency=0.05) as proxy:
        access = s3.access(proxy.port)
        command = [
            BIN,
            "convert",
            str(synth),
            access.url("stopped.zarr"),
            "--chunk-size",
            "20",
            "--no-shards",
            "--quiet",
        ]
        process = subprocess.Popen(
            command, env=access.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        time.sleep(0.6)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    if process.returncode == 0:
        pytest.skip("it was done before the signal came")
    assert process.returncode == 1 and stderr.count("error:") == 1, stderr
    assert not roots(s3, "stopped.zarr")


@pytest.mark.parametrize("seed", range(3))
def test_writing_through_a_bad_connection(annfusion, bucket, synth, seed):
    """A lost answer may be that of a write that was done: doing it again is no error."""
    key = f"bad/{seed}.zarr"
    with Proxy(bucket.port, drop=0.05, refuse=0.05, seed=seed) as proxy:
        access = bucket.access(proxy.port)
        annfusion("convert", synth, access.url(key), "--chunk-size", 100, "--no-shards", env=access.env)
        assert proxy.count(status=503) + proxy.count(status=0)
    access = bucket.access()
    annfusion("verify", synth, access.url(key), env=access.env)


@pytest.mark.parametrize("mischief", WRITING)
def test_a_bucket_that_takes_nothing(failures, s3, mischief):
    name = f"writing, {mischief}"
    done, url = failures.result(name), failures.cases[name].url
    assert done.returncode == 1 and done.stderr.count("error:") == 1 and url in done.stderr, done.stderr
    assert s3.keys(f"errors/{mischief}.zarr") == []


def test_what_cannot_be_written_there_is_said(annfusion, s3, web, synth):
    access = s3.access()
    done = annfusion("convert", synth, access.url("out/x.h5ad"), env=access.env, check=False)
    assert done.returncode in (1, 2) and access.url("out/x.h5ad") in done.stderr, done.stderr
    assert not s3.keys("out/")
    for url in (web.access().url("out/x.zarr"), "https://cells.s3.eu-west-1.amazonaws.com/x.zarr"):
        done = annfusion("convert", synth, url, env=web.access().env, check=False)
        assert done.returncode in (1, 2) and url in done.stderr and "s3://" in done.stderr, done.stderr


def test_other_commands_write_there(annfusion, s3, synth):
    access = s3.access()
    annfusion("slice", synth, access.url("cut/part"), "--size", 2000, "--zarr", env=access.env)
    annfusion("filter", synth, access.url("cut/b.zarr"), "--where", "cell_type = 'B'", env=access.env)
    sql = f"COPY (SELECT * FROM cells WHERE n_genes > 100) TO '{access.url('cut/copy.zarr')}' STORED AS ZARR"
    annfusion("query", synth, sql, env=access.env)
    counts = {
        "part_shard_0": "obs_idx < 2000",
        "part_shard_1": "obs_idx >= 2000",
        "b": "cell_type = 'B'",
        "copy": "n_genes > 100",
    }
    for name, where in counts.items():
        here = annfusion(
            "query",
            synth,
            f"SELECT count(*) AS n, sum(total_counts(X)) AS t FROM cells WHERE {where}",
            "--format",
            "csv",
        )
        there = annfusion(
            "query",
            access.url(f"cut/{name}.zarr"),
            "SELECT count(*) AS n, sum(total_counts(X)) AS t FROM cells",
            "--format",
            "csv",
            env=access.env,
        )
        assert here.stdout == there.stdout, name
