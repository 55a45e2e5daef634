"""Times annfusion beside its peers, whole processes, and writes a Markdown table.

    python benches/peers/run.py --data DIR --python VENV/bin/python --annfusion target/release/annfusion \
        [--only slice-200k,...] [--runs 5] [--out results.md]

DIR holds the inputs that `gen.py` of the shared benchmarks makes: annslicer-200k.h5ad,
annslicer-200k-gz.h5ad (gzip), realish-100k.h5ad, big-1m.h5ad; annslicer-200k.zarr,
which `gen.py convert … zarr-sharded` makes, and realish-100k.zarr, which the code of `TO_ZARR` makes
(v3, sharded, blosc lz4, both). Of merges and
collections `gen.py shards` makes as200k_same_*, as200k_diff_* and real_same_*, 20 files each, and
realish-100k-gz.h5ad is gzip. A job whose input is missing is skipped, visibly. The venv holds
annslicer 0.3.0, anndata, scanpy, annbatch[zarrs] 0.3.1.

Of each job, peer and program run once unmeasured (so that inputs are in the page cache) and then
alternately; a row gives medians of wall seconds, the median of the pairs' ratios (machines drift by
a third from hour to hour, ratios do not), and the peak memory of the whole process tree.
"""

import argparse
import dataclasses
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time

PAGE = os.sysconf("SC_PAGE_SIZE")

LOOP = """
import sys, anndata
a = anndata.read_h5ad(sys.argv[1], backed="r")
size = int(sys.argv[3])
for i in range(0, a.n_obs, size):
    a[i:i + size].to_memory().write_h5ad(f"{sys.argv[2]}_{i // size}.h5ad")
"""
TO_ZARR = """
import sys, anndata, zarr
def write(write_elem, group, key, elem, *, dataset_kwargs, iospec):
    kwargs = dict(dataset_kwargs)
    if iospec.encoding_type in ("csr_matrix", "array"):
        kwargs["compressors"] = [zarr.codecs.BloscCodec(cname="lz4")]
    write_elem(group, key, elem, dataset_kwargs=kwargs)
a = anndata.read_h5ad(sys.argv[1])
group = zarr.open_group(sys.argv[2], mode="w", zarr_format=3)
anndata.experimental.write_dispatched(group, "/", a, write)
zarr.consolidate_metadata(group.store)
"""
TO_H5AD = """
import sys, anndata
anndata.read_zarr(sys.argv[1]).write_h5ad(sys.argv[2])
"""
COUNT = """
import sys, anndata
a = anndata.read_h5ad(sys.argv[1], backed="r")
print(a.obs["cell_type"].value_counts())
"""
GENE = """
import sys, anndata, numpy as np, pandas as pd
a = anndata.read_h5ad(sys.argv[1], backed="r")
j, out = a.var_names.get_loc(sys.argv[2]), []
for i in range(0, a.n_obs, 10000):
    out.append(a.X[i:i + 10000][:, [j]].toarray().ravel())
print(pd.Series(np.concatenate(out)).groupby(a.obs["cell_type"].to_numpy(), observed=True).mean())
"""
METRICS = """
import sys, anndata, numpy as np
a = anndata.read_h5ad(sys.argv[1], backed="r")
n, t = [], []
for i in range(0, a.n_obs, 10000):
    x = a.X[i:i + 10000]
    n.append(np.diff(x.indptr)); t.append(np.asarray(x.sum(axis=1)).ravel())
n, t = np.concatenate(n), np.concatenate(t)
print(n.sum(), t.sum())
"""
COLLECT = """
import sys, numpy, zarr
from annbatch import DatasetCollection
zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
size = sys.argv[2].replace("GiB", "GB")
DatasetCollection(sys.argv[1]).add_adatas(sys.argv[3:], shuffle=True, rng=numpy.random.default_rng(0), dataset_size=size)
"""
ON_DISK = """
import sys
from anndata.experimental import concat_on_disk
concat_on_disk(sys.argv[3:], sys.argv[1], join=sys.argv[2])
"""
IN_MEMORY = """
import sys, anndata
a = anndata.concat([anndata.read_h5ad(path) for path in sys.argv[3:]], join=sys.argv[2], merge="same")
a.write_zarr(sys.argv[1]) if sys.argv[1].endswith(".zarr") else a.write_h5ad(sys.argv[1])
"""


@dataclasses.dataclass
class Job:
    """A row: what is run, by whom, and the floor it must meet."""

    name: str
    title: str
    input: str
    ours: list
    peers: dict
    floor: str


@dataclasses.dataclass
class Run:
    wall: float
    peak_mb: float


def tree(pid):
    """A process and everything below it."""
    found, todo = [], [pid]
    while todo:
        at = todo.pop()
        found.append(at)
        try:
            for task in os.listdir(f"/proc/{at}/task"):
                with open(f"/proc/{at}/task/{task}/children") as children:
                    todo += [int(child) for child in children.read().split()]
        except OSError:
            pass
    return found


def resident(pid, alone):
    """Bytes of a process: its own where it is alone, its proportional share where pages are shared."""
    try:
        if alone:
            with open(f"/proc/{pid}/statm") as statm:
                return int(statm.read().split()[1]) * PAGE
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            for line in rollup:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def once(command, scratch):
    """One whole process, with an empty scratch folder."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    os.sync()
    peak, done = [0], threading.Event()
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)

    def watch():
        while not done.wait(0.1):
            pids = tree(process.pid)
            peak[0] = max(peak[0], sum(resident(pid, len(pids) == 1) for pid in pids))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    errors = []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read()), daemon=True)
    reader.start()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    done.set()
    watcher.join()
    reader.join(5)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))}\nfailed with {process.returncode}\n{(errors or [b''])[0][-2000:].decode()}")
    # The kernel's own peak of the largest process catches what sampling misses.
    return Run(wall, max(peak[0], usage.ru_maxrss * 1024) / 1e6)


def jobs(data, venv, program, scratch):
    out = str(scratch / "out")
    annslicer = str(pathlib.Path(venv).with_name("annslicer"))

    def path(name):
        return str(data / (name if name.endswith(".zarr") else f"{name}.h5ad"))

    def converting(name, title, source, output, extra, script, floor):
        output = str(scratch / output)
        ours = [program, "convert", path(source), output, "--quiet", *extra]
        return Job(name, title, source, ours, {"anndata": [venv, "-c", script, path(source), output]}, floor)

    def slicing(name, title, source, size, extra, floor, loop=False, copy=True):
        ours = [program, "slice", path(source), out, "--size", size, "--quiet", *extra]
        peers = {
            "annslicer": [annslicer, "slice", path(source), out, "--size", size, *extra],
            "annslicer --jobs 1": [annslicer, "slice", path(source), out, "--size", size, "--jobs", 1, *extra],
        }
        if copy:
            peers["cp"] = ["cp", "--reflink=never", path(source), out]
        if loop:
            peers["anndata backed"] = [venv, "-c", LOOP, path(source), out, size]
        return Job(name, title, source, ours, peers, floor)

    def asking(name, title, source, sql, script, floor, *args):
        peers = {"anndata backed": [venv, "-c", script, path(source), *args]} if script else {}
        return Job(name, title, source, [program, "query", path(source), sql], peers, floor)

    def shuffling(name, title, source, size, limit, floor):
        ours = [program, "slice", path(source), out, "--size", size, "--shuffle", "--quiet", *limit]
        theirs = [annslicer, "slice", path(source), out, "--size", size, "--shuffle", "--seed", 0]
        peers = {"annslicer": theirs, "annslicer --jobs 1": [*theirs, "--jobs", 1]}
        if source.endswith("0k") or source.endswith("1m"):
            peers["cp"] = ["cp", "--reflink=never", path(source), out]
        return Job(name, title, source, ours, peers, floor)

    def collecting(name, title, source, limit, size, floor):
        inputs = sorted(map(str, data.glob(f"{source}.h5ad")))
        ours = [program, "collection", "create", f"{out}.zarr", *inputs, "--quiet", "--memory-limit", limit]
        ours += ["--dataset-size", size] if size else []
        theirs = [venv, "-c", COLLECT, f"{out}.zarr", size or "20GB", *inputs]
        return Job(name, title, inputs[0] if inputs else source, ours, {"annbatch": theirs}, floor)

    def merging(name, title, source, join, output, floor):
        inputs = sorted(map(str, data.glob(f"{source}_*.h5ad")))
        output = f"{out}.{output}"
        ours = [program, "merge", "-o", output, *inputs, "--join", join, "--quiet"]
        peers = {
            "annslicer": [annslicer, "merge", output, *inputs, "--join", join],
            "concat_on_disk": [venv, "-c", ON_DISK, output, join, *inputs],
            "anndata.concat": [venv, "-c", IN_MEMORY, output, join, *inputs],
        }
        return Job(name, title, inputs[0] if inputs else source, ours, peers, floor)

    gzip = ["--compression", "gzip"]
    gene = "ENSG00000000042"
    return [
        slicing("slice-200k", "slice annslicer-200k into 20", "annslicer-200k", 10_000, [], "annslicer/6, 4 × cp, 150 MB"),
        slicing("slice-200k-gz-in", "the same from gzip", "annslicer-200k-gz", 10_000, [], "annslicer/5, 200 MB", copy=False),
        slicing("slice-200k-gz-out", "the same to gzip", "annslicer-200k", 10_000, gzip, "annslicer/5, 250 MB", copy=False),
        slicing("slice-100k", "slice realish-100k into 10", "realish-100k", 10_000, [], "2.5 × cp, annslicer/4, backed/4, 200 MB", loop=True),
        slicing("slice-1m", "slice big-1m into 100", "big-1m", 10_000, [], "2.5 × cp, annslicer/5, 256 MB"),
        slicing("slice-200k-zarr", "slice annslicer-200k.zarr into 20", "annslicer-200k.zarr", 10_000, [], "annslicer/8, 250 MB", copy=False),
        converting(
            "convert-100k-zarr",
            "convert realish-100k to zarr, blosc lz4",
            "realish-100k",
            "out.zarr",
            ["--compression", "blosc-lz4"],
            TO_ZARR,
            "anndata/5, 500 MB",
        ),
        converting(
            "convert-100k-h5ad",
            "and back to h5ad",
            "realish-100k.zarr",
            "out.h5ad",
            [],
            TO_H5AD,
            "anndata/5, 500 MB",
        ),
        asking("count-1m", "`count(*)` of big-1m", "big-1m", "SELECT count(*) FROM cells", None, "50 ms"),
        asking(
            "types-100k",
            "cells by cell_type, realish-100k",
            "realish-100k",
            "SELECT cell_type, count(*) FROM cells GROUP BY cell_type",
            COUNT,
            "anndata/15, 150 MB",
        ),
        asking(
            "gene-100k",
            "mean of a gene by cell_type, realish-100k",
            "realish-100k",
            f"SELECT cell_type, avg(gene(X, '{gene}')) FROM cells GROUP BY cell_type",
            GENE,
            "anndata/6, 300 MB",
            gene,
        ),
        asking(
            "metrics-100k",
            "n_genes and total_counts, realish-100k",
            "realish-100k",
            "SELECT sum(n), sum(t) FROM (SELECT n_genes(X) AS n, total_counts(X) AS t FROM cells)",
            METRICS,
            "anndata/5, 300 MB",
        ),
        shuffling("shuffle-200k", "shuffle annslicer-200k into 20", "annslicer-200k", 10_000, [], "annslicer/6, 400 MB"),
        shuffling("shuffle-200k-gz", "the same from gzip", "annslicer-200k-gz", 10_000, [], "annslicer/5, 450 MB"),
        shuffling("shuffle-200k-zarr", "the same from sharded zarr", "annslicer-200k.zarr", 10_000, [], "annslicer/8, 450 MB"),
        shuffling(
            "shuffle-100k",
            "shuffle realish-100k into 10 within 256 MB",
            "realish-100k",
            10_000,
            ["--memory-limit", "256MB"],
            "5 × cp, annslicer/4, 400 MB",
        ),
        shuffling(
            "shuffle-1m",
            "shuffle big-1m into 100 within 512 MB",
            "big-1m",
            10_000,
            ["--memory-limit", "512MB"],
            "6 × cp, annslicer/4, 700 MB",
        ),
        collecting("collection-100k", "collection of realish-100k", "realish-100k", "512MB", None, "annbatch/6, 700 MB"),
        collecting("collection-100k-gz", "the same from gzip", "realish-100k-gz", "512MB", None, "annbatch/6, 700 MB"),
        collecting("collection-100k-20", "the same from 20 files", "real_same_*", "512MB", None, "annbatch/6, 700 MB"),
        collecting("collection-1m", "collection of big-1m, datasets of 2 GB", "big-1m", "1GB", "2GiB", "annbatch/6, 1200 MB"),
        merging("merge-same", "merge 20 files, same genes", "as200k_same", "outer", "h5ad", "the fastest/6, 200 MB"),
        *(
            merging(f"merge-diff-{join}-{form}", f"merge 20 files, other genes, {join}, to {form}", "as200k_diff", join, form, "the fastest/6, 250 MB")
            for join in ("outer", "inner")
            for form in ("h5ad", "zarr")
        ),
        Job("inspect-1m", "inspect big-1m", "big-1m", [program, "inspect", path("big-1m")], {}, "100 ms"),
    ]


def measure(job, runs, scratch):
    """Discards a run of each, then alternates."""
    commands = {"annfusion": job.ours, **job.peers}
    commands = {who: [str(word) for word in command] for who, command in commands.items()}
    for command in commands.values():
        once(command, scratch)
    measured = {who: [] for who in commands}
    for _ in range(runs):
        for who, command in commands.items():
            measured[who].append(once(command, scratch))
    shutil.rmtree(scratch, ignore_errors=True)
    return measured


def row(job, measured):
    ours = measured["annfusion"]
    wall = statistics.median(run.wall for run in ours)
    peak = max(run.peak_mb for run in ours)
    cells = [job.title, f"{wall:.3f} s", f"{peak:.0f} MB"]
    peers = []
    for who, runs in measured.items():
        if who != "annfusion":
            ratio = statistics.median(a.wall / b.wall for a, b in zip(ours, runs))
            shown = f"{ratio:.2f} ×" if ratio > 0.5 else f"1/{1 / ratio:.1f}"
            theirs = statistics.median(run.wall for run in runs)
            memory = statistics.median(run.peak_mb for run in runs)
            peers.append(f"{who}: {shown} ({theirs:.2f} s, {memory:.0f} MB)")
    return "| " + " | ".join([*cells, "<br>".join(peers), job.floor]) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--annfusion", default="target/release/annfusion")
    parser.add_argument("--scratch", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    scratch = args.scratch or args.data / "scratch"
    wanted = set(filter(None, args.only.split(",")))
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, {time.strftime('%Y-%m-%d')}; "
        f"warm cache, medians of {args.runs} after one discarded run, peer and program alternately.",
        "",
        "| job | wall | peak memory | against | floor |",
        "|---|---|---|---|---|",
    ]
    for job in jobs(args.data, args.python, args.annfusion, scratch):
        if wanted and job.name not in wanted:
            continue
        path = args.data / (job.input if pathlib.Path(job.input).suffix else f"{job.input}.h5ad")
        if not path.exists():
            print(f"SKIPPED: {job.name}: {path} is not here", file=sys.stderr)
            continue
        lines.append(row(job, measure(job, args.runs, scratch)))
        print(lines[-1], flush=True)
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
