"""Killed processes, damaged files: nothing unreadable under a final name, never a crash."""

import pathlib
import random
import signal
import subprocess
import time

import pytest

import objects
from conftest import BIN

# Runs a program that may hold no more than a GiB.
LIMITED = ["sh", "-c", 'ulimit -d 1048576 && exec "$@"', "sh"]


def test_a_killed_slice_leaves_no_unreadable_file(annfusion, tmp_path):
    source = tmp_path / "in.h5ad"
    annfusion("synth", source, "--n-obs", 20000, "--n-vars", 1500)
    args = [BIN, "slice", str(source), str(tmp_path / "out"), "--size", "2500", "--compression", "gzip", "--overwrite"]
    began = time.monotonic()
    subprocess.run(args, check=True, capture_output=True)
    whole = time.monotonic() - began
    rng = random.Random(0)
    for _ in range(20):
        process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, whole))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in tmp_path.glob("out_shard_*.h5ad"):
            assert objects.read(path).n_obs == 2500, path
    subprocess.run(args, check=True, capture_output=True)
    assert len(list(tmp_path.glob("out_shard_*.h5ad"))) == 8
    left = sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("out_shard_"))
    assert left == ["in.h5ad"], left


def test_an_interrupted_slice_cleans_up(annfusion, synth, tmp_path):
    args = [BIN, "slice", str(synth), str(tmp_path / "out"), "--size", "10", "--compression", "gzip", "--level", "9"]
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    if process.returncode == 0:
        pytest.skip("it was done before the signal came")
    assert process.returncode == 1 and stderr.count("error:") == 1
    assert not list(tmp_path.iterdir())


def damaged(path, rng):
    """A copy of a file cut short, or with one byte flipped."""
    data = bytearray(path.read_bytes())
    if rng.random() < 0.3:
        return data[: rng.randrange(len(data))]
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_end_in_an_error_or_a_result(annfusion, tmp_path, seed):
    """A sample, as processes; `tests/it/fuzz.rs` does all of them."""
    found = sorted({o.path for o in objects.shared_objects() if o.path.is_file() and o.path.stat().st_size < 500_000}, key=str)
    if not found:
        pytest.skip("shared/data is not here")
    rng = random.Random(seed)
    for i in range(25):
        source = rng.choice(found)
        path = tmp_path / f"{i}.h5ad"
        path.write_bytes(damaged(source, rng))
        for command in (
            ["inspect", path],
            ["query", path, "SELECT * FROM cells", "--format", "csv", "-o", tmp_path / "out.csv"],
            ["slice", path, tmp_path / f"out{i}", "--size", 50, "--overwrite"],
        ):
            done = subprocess.run(
                [*LIMITED, BIN, *map(str, command)], capture_output=True, text=True, timeout=20, errors="replace"
            )
            assert done.returncode in (0, 1), (source, i, command, done.returncode, done.stderr[-500:])
            assert "panicked" not in done.stderr, (source, i, command, done.stderr[-500:])
        for output in [path, *tmp_path.glob("out*")]:
            pathlib.Path(output).unlink()
