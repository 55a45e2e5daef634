"""Shuffles hold every cell once, in the order that the definition gives, with all that belongs to it."""

import collections
import os
import signal
import subprocess
import time
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import objects
from oracle import check_equal
from shuffle_order import order
from test_random import generate, write_zarr

WAYS = ["memory", "gather", "passes", "scatter"]


def sort_indices(a):
    """Brings the entries of every sparse matrix in order: scipy leaves those of a permuted one as they fall."""
    for value in [a.X, *(m[k] for m in (a.layers, a.obsm, a.varm, a.obsp, a.varp) for k in m)]:
        if sp.issparse(value):
            value.sort_indices()
    return a


def widen(path, seed):
    """Gives an object what gen_adata never makes: NaN in obs, arrays without columns."""
    a = objects.read(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a.obs["some"] = np.where(np.arange(a.n_obs) % 3 == seed % 3, np.nan, 1.5)
        a.obsm["none"] = np.zeros((a.n_obs, 0), dtype="float32")
        a.varm["none"] = np.zeros((a.n_vars, 0))
        a.write_zarr(path) if path.suffix == ".zarr" else a.write_h5ad(path)


def check(annfusion, seed, folder):
    source, out = folder / f"{seed}.h5ad", folder / f"{seed}_out.{'zarr' if seed % 5 == 4 else 'h5ad'}"
    name = generate(seed, source)
    given = source
    if seed % 12 == 1:
        given = folder / f"{seed}.zarr"
        write_zarr(seed, source, given)
        name += " from .zarr"
    if seed % 3 == 1:
        widen(given, seed)
    whole = objects.read(given)
    way = WAYS[seed % len(WAYS)]
    annfusion("shuffle", given, "-o", out, "--seed", seed, "--shuffle-way", way, "-j", 1 + seed % 2)
    actual = objects.read(out)
    names = whole.obs_names[order(seed, whole.n_obs)]
    assert list(actual.obs_names) == list(names), f"{name}: {way}"
    expected = whole[names].copy()
    check_equal(f"{name} {way}{'.zarr' if out.suffix == '.zarr' else ''}", sort_indices(actual), sort_indices(expected), sliced=True)


@pytest.mark.parametrize("way", WAYS)
def test_objects_without_genes_are_shuffled(annfusion, tmp_path, way):
    source, out = tmp_path / "in.h5ad", tmp_path / "out.h5ad"
    a = anndata.AnnData(np.zeros((20, 0), dtype="float32"))
    a.obsm["deep"] = np.zeros((20, 2, 0))
    a.write_h5ad(source)
    annfusion("shuffle", source, "-o", out, "--seed", 2, "--shuffle-way", way)
    actual = objects.read(out)
    assert actual.shape == (20, 0) and actual.X.shape == (20, 0) and actual.obsm["deep"].shape == (20, 2, 0)
    assert list(actual.obs_names) == list(a.obs_names[order(2, 20)])


@pytest.mark.parametrize("start", range(0, 60, 20))
def test_random_objects_keep_all_that_belongs_to_their_cells(annfusion, tmp_path, start):
    failures = []
    with anndata.settings.override(remove_unused_categories=False):
        for seed in range(start, start + 20):
            try:
                check(annfusion, seed, tmp_path)
            except (AssertionError, pytest.fail.Exception) as failure:
                failures.append(f"seed {seed}: {str(failure)[:600]}")
    assert not failures, f"{len(failures)} of 20\n" + "\n".join(failures[:5])


def test_shards_of_a_slice_are_runs_of_the_order(annfusion, synth, tmp_path):
    annfusion("slice", synth, tmp_path / "out", "--size", 800, "--shuffle", "--seed", 3)
    whole = objects.read(synth)
    names = whole.obs_names[order(3, whole.n_obs)]
    for i in range(4):
        shard = objects.read(tmp_path / f"out_shard_{i}.h5ad")
        assert list(shard.obs_names) == list(names[800 * i : 800 * (i + 1)])


def test_a_condition_and_genes_leave_the_order(annfusion, synth, tmp_path):
    kept = ["--where", "cell_type = 'B'", "--genes", "CD3D,MS4A1"]
    annfusion("slice", synth, tmp_path / "out", "--size", 5000, "--shuffle", "--seed", 3, *kept)
    whole = objects.read(synth)
    shuffled = whole[whole.obs_names[order(3, whole.n_obs)]]
    expected = shuffled[shuffled.obs["cell_type"] == "B", whole.var_names.isin(["CD3D", "MS4A1"])].copy()
    actual = objects.read(tmp_path / "out_shard_0.h5ad")
    assert list(actual.obs_names) == list(expected.obs_names)
    assert (actual.X != expected.X).nnz == 0


def test_several_files_are_shuffled_as_one(annfusion, synth, tmp_path):
    annfusion("slice", synth, tmp_path / "part", "--size", 700)
    done = annfusion("shuffle", f"{tmp_path}/part_shard_*.h5ad", "-o", tmp_path / "out.h5ad", "--seed", 8)
    assert "obsp" in done.stderr or "uns" in done.stderr
    whole, actual = objects.read(synth), objects.read(tmp_path / "out.h5ad")
    expected = whole[whole.obs_names[order(8, whole.n_obs)]]
    assert list(actual.obs_names) == list(expected.obs_names)
    assert (actual.X != expected.X).nnz == 0
    assert actual.obs.equals(expected.obs)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_every_way_gives_equal_bytes(annfusion, synth, tmp_path, way, compression):
    annfusion("convert", synth, tmp_path / "in.h5ad", "--compression", compression)
    for name, args in (("a", []), ("b", ["--shuffle-way", way, "--memory-limit", "192MiB", "-j", 1])):
        annfusion("slice", tmp_path / "in.h5ad", tmp_path / name, "--size", 1200, "--shuffle", "--seed", 1, *args)
    for i in range(3):
        a, b = (tmp_path / f"{name}_shard_{i}.h5ad" for name in "ab")
        assert a.read_bytes() == b.read_bytes()


def test_strata_are_in_proportion(annfusion, synth, tmp_path):
    annfusion("slice", synth, tmp_path / "out", "--size", 450, "--stratify", "cell_type", "--seed", 4)
    whole = objects.read(synth).obs["cell_type"].value_counts()
    shards = [objects.read(path) for path in sorted(tmp_path.glob("out_shard_*.h5ad"))]
    assert len(shards) == 7
    assert sorted({shard.n_obs for shard in shards}) == [428, 429]
    for shard in shards:
        for kind, n in shard.obs["cell_type"].value_counts().items():
            assert abs(n - whole[kind] / 7) < 1, kind
    names = collections.Counter(name for shard in shards for name in shard.obs_names)
    assert len(names) == 3000 and set(names.values()) == {1}


def test_a_split_is_exact_and_donors_stay_whole(annfusion, synth, tmp_path):
    parts = "train=0.8,val=0.1,test=0.1"
    annfusion("slice", synth, tmp_path / "cells", "--split", parts, "--seed", 1)
    sizes = [objects.read(tmp_path / f"cells_{part}.h5ad").n_obs for part in ("train", "val", "test")]
    assert sizes == [2400, 300, 300]
    annfusion("slice", synth, tmp_path / "donors", "--split", "train=0.5,test=0.5", "--by", "donor", "--shuffle")
    train, test = (objects.read(tmp_path / f"donors_{part}.h5ad") for part in ("train", "test"))
    assert train.n_obs + test.n_obs == 3000
    assert not set(train.obs["donor"]) & set(test.obs["donor"])


def test_blocks_hold_every_cell_once(annfusion, synth, tmp_path):
    annfusion("shuffle", synth, "-o", tmp_path / "out.zarr", "--mode", "block", "--block-size", 50)
    whole, actual = objects.read(synth), objects.read(tmp_path / "out.zarr")
    assert sorted(actual.obs_names) == sorted(whole.obs_names)
    assert list(actual.obs_names) != list(whole.obs_names)
    assert (actual.X != whole[actual.obs_names].X).nnz == 0


@pytest.fixture(scope="module")
def large(annfusion, tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "cells.h5ad"
    annfusion("synth", path, "--n-obs", 60_000, "--n-vars", 2000, "--mean-genes", 300, timeout=600)
    return path


@pytest.mark.parametrize("way", ["gather", "scatter"])
def test_more_than_the_limit_is_shuffled_within_it(annfusion, large, tmp_path, way):
    args = ["--size", 5000, "--shuffle", "--shuffle-way", way, "--memory-limit", "192MiB"]
    assert annfusion.peak_bytes("slice", large, tmp_path / "s", *args) < (192 << 20) + 150e6


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("wait", [0.2, 0.6, 1.2])
def test_a_stopped_shuffle_leaves_nothing(annfusion, large, tmp_path, sent, wait):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "out").mkdir()
    args = ["--shuffle-way", "scatter", "--memory-limit", "192MiB", "--tmpdir", tmp_path / "tmp"]
    command = [annfusion.path, "slice", large, tmp_path / "out" / "s", "--size", 5000, "--shuffle", *args]
    running = subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL)
    time.sleep(wait)
    running.send_signal(sent)
    if running.wait(30) == 0:
        pytest.skip("it was done before it was stopped")
    # A killed process leaves the folder that DataFusion made for spills, with nothing in it.
    assert not [path for path in (tmp_path / "tmp").rglob("*") if path.is_file()]
    named = list((tmp_path / "out").glob("*.h5ad"))
    # What a signal met at the very end has got its name, and is whole.
    assert not named or running.returncode == -signal.SIGKILL
    for path in named:
        annfusion("verify", path)
    if named:
        pytest.skip("it was naming its outputs when it was killed")


def test_a_full_disk_is_named(annfusion, large, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(full)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no right to mount")
    try:
        args = ["--memory-limit", "192MiB", "--tmpdir", full, "--shuffle-way", "scatter"]
        done = annfusion("slice", large, tmp_path / "s", "--size", 5000, "--shuffle", *args, check=False)
        assert done.returncode == 1
        assert str(full) in done.stderr, done.stderr
        assert not [path for path in full.rglob("*") if path.is_file()] and not list(tmp_path.glob("*.h5ad"))
    finally:
        subprocess.run(["umount", str(full)], check=True)


def test_other_genes_are_refused_and_merge_is_named(annfusion, synth, tmp_path):
    annfusion("synth", tmp_path / "other.h5ad", "--n-obs", 50, "--n-vars", 60)
    done = annfusion("shuffle", synth, tmp_path / "other.h5ad", "-o", tmp_path / "out.h5ad", check=False)
    assert done.returncode == 1 and "merge" in done.stderr
    assert os.listdir(tmp_path) == ["other.h5ad"]


def test_other_orders_of_categories_are_refused(annfusion, tmp_path):
    for name, categories in (("a", ["low", "high"]), ("b", ["high", "low"])):
        a = anndata.AnnData(np.ones((2, 1), dtype="float32"))
        a.obs["dose"] = pd.Categorical(["low", "high"], categories=categories, ordered=True)
        a.write_h5ad(tmp_path / f"{name}.h5ad")
    inputs = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]
    done = annfusion("shuffle", *inputs, "-o", tmp_path / "out.h5ad", check=False)
    assert done.returncode == 1 and "dose" in done.stderr and "merge" in done.stderr
    annfusion("merge", *inputs, "-o", tmp_path / "m.h5ad")
    annfusion("shuffle", tmp_path / "m.h5ad", "-o", tmp_path / "out.h5ad")
    assert objects.read(tmp_path / "out.h5ad").n_obs == 4


def test_positions_are_uniform(annfusion, synth, tmp_path):
    """First cells over many seeds; the Rust tests do the same for every position of short orders."""
    firsts = np.array([order(seed, 16)[0] for seed in range(800)])
    counts = np.bincount(firsts, minlength=16)
    assert ((counts - 50) ** 2 / 50).sum() < 45
