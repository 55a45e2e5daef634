"""Cells per second of minibatches, annfusion beside annbatch and scDataset, as a Markdown table.

    python benches/peers/training.py --data DIR --python VENV/bin/python --annfusion target/release/annfusion \\
        [--only b4096-c32-p256,...] [--runs 3] [--epochs 3]

DIR holds realish-100k.h5ad of the shared benchmarks' `gen.py`, and the same with gzip
(realish-100k-gz.h5ad). Two collections are made of it, by annfusion and by annbatch, with the
defaults of both, and each setting is loaded from either by both programs; of `flight` rows ours is a
server and the client of `examples/python`, which makes scipy matrices as annbatch does; the memory of
both counts. The venv holds
annbatch[zarrs] 0.3.1, scdataset 0.3.0 and torch.

Every run is a process of its own that loads some epochs; its figure is the median of those after the
first, which warms the page cache and the threads. Programs alternate; a row has the medians of runs,
the median of the pairs' ratios, and the largest peak of resident memory.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

from run import COLLECT, once

ANNBATCH = """
import json, sys, time, anndata, numpy, zarr
from annbatch import DatasetCollection, Loader
zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
path, batch, chunk, preload, epochs, seconds, dense = sys.argv[1:]
opened = time.time()
def load(group):
    return anndata.AnnData(anndata.io.sparse_dataset(group["X"]), obs=anndata.io.read_elem(group["obs"])[["cell_type"]])
loader = Loader(batch_size=int(batch), chunk_size=int(chunk), preload_nchunks=int(preload), shuffle=True,
                preload_to_gpu=False, rng=numpy.random.default_rng(0), drop_last=False)
loader.use_collection(DatasetCollection(path, mode="r"), load_adata=load)
rates, first = [], None
for _ in range(int(epochs)):
    began, cells = time.time(), 0
    for minibatch in loader:
        x = minibatch["X"].toarray() if dense == "dense" else minibatch["X"]
        first = first or time.time() - opened
        cells += x.shape[0]
        if time.time() - began > float(seconds):
            break
    rates.append(cells / (time.time() - began))
print(json.dumps({"epochs_cells_s": rates, "first_batch_s": first}))
"""
SCDATASET = """
import json, sys, time, anndata
from scdataset import scDataset, BlockShuffling
from torch.utils.data import DataLoader
path, batch, block, fetch, epochs, seconds = sys.argv[1:]
class Pair:
    def __init__(self, x, y): self.x, self.y = x, y
    def __len__(self): return self.x.shape[0]
    def __getitem__(self, i): return Pair(self.x[i], self.y[i])
def fetched(cells):
    cells = cells.to_memory()
    return Pair(cells.X, cells.obs["cell_type"].to_numpy())
opened = time.time()
data = scDataset(anndata.read_h5ad(path, backed="r"), BlockShuffling(block_size=int(block)), batch_size=int(batch),
                 fetch_factor=int(fetch), fetch_transform=fetched, seed=0)
rates, first = [], None
for _ in range(int(epochs)):
    began, cells = time.time(), 0
    for minibatch in DataLoader(data, batch_size=None, num_workers=0, collate_fn=lambda x: x):
        first = first or time.time() - opened
        cells += minibatch.x.shape[0]
        if time.time() - began > float(seconds):
            break
    rates.append(cells / (time.time() - began))
print(json.dumps({"epochs_cells_s": rates, "first_batch_s": first}))
"""

FLIGHT = """
import json, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from annfusion_loader import Minibatches
program, path, batch, chunk, preload, epochs = sys.argv[2:]
server = subprocess.Popen([program, "serve", f"coll={path}", "--listen", "127.0.0.1:0", "--json"], stdout=subprocess.PIPE)
said = ""
for line in server.stdout:
    said += line.decode()
    if line.strip() == b"}":
        break
try:
    loader = Minibatches(json.loads(said)["listening"], "coll", obs=["cell_type"], batch_size=int(batch),
                         chunk_size=int(chunk), preload_nchunks=int(preload))
    opened, rates, first = time.time(), [], None
    for epoch in range(int(epochs)):
        loader.set_epoch(epoch)
        began, cells = time.time(), 0
        for minibatch in loader:
            first = first or time.time() - opened
            cells += minibatch["X"].shape[0]
        rates.append(cells / (time.time() - began))
finally:
    server.terminate()
    server.wait()
print(json.dumps({"epochs_cells_s": rates, "first_batch_s": first}))
"""

# Name, batch size, chunk size, preloaded chunks, dense, floor.
COLLECTION = [
    ("b4096-c32-p256", 4096, 32, 256, False, "1.8 ×, half the memory"),
    ("b4096-c512-p32", 4096, 512, 32, False, "1.8 ×"),
    ("b512-c1-p8192", 512, 1, 8192, False, "5 ×"),
    ("b512-c32-p256-dense", 512, 32, 256, True, "1.5 ×"),
]
# The same through a server into pyarrow, which share the cores.
SERVED = [
    ("flight-b4096-c32-p256", 4096, 32, 256, "1 ×"),
    ("flight-b4096-c512-p32", 4096, 512, 32, "0.75 ×"),
    ("flight-b512-c1-p8192", 512, 1, 8192, "4 ×"),
]
# Name, file, batch size, block, fetch factor, floor.
STRAIGHT = [
    ("h5ad-b512-bl1", "realish-100k.h5ad", 512, 1, 16, "5 ×"),
    ("h5ad-b512-bl16", "realish-100k.h5ad", 512, 16, 16, "5 ×"),
    ("h5ad-b512-bl64", "realish-100k.h5ad", 512, 64, 16, "5 ×"),
    ("gzip-b512-bl64", "realish-100k-gz.h5ad", 512, 64, 16, "5 ×"),
]
CLIENT = pathlib.Path(__file__).resolve().parents[2] / "examples" / "python"
# Seconds after which an epoch of a slow program is cut short.
SECONDS = 12


def figures(command, scratch):
    """The median rate of a run's epochs after the first, seconds to its first minibatch, its peak."""
    out = scratch.with_suffix(".json")
    script = 'exec "$@" > "$0"'
    run = once(["sh", "-c", script, str(out), *map(str, command)], scratch)
    said = json.loads(out.read_text().strip().splitlines()[-1])
    rates = said["epochs_cells_s"]
    return statistics.median(rates[1:] or rates), said["first_batch_s"], run.peak_mb


def compare(ours, theirs, runs, scratch):
    pairs = [(figures(ours, scratch), figures(theirs, scratch)) for _ in range(runs)]
    median = lambda of: statistics.median(map(of, pairs))
    return (
        median(lambda p: p[0][0]),
        median(lambda p: p[1][0]),
        median(lambda p: p[0][0] / p[1][0]),
        max(p[0][2] for p in pairs),
        max(p[1][2] for p in pairs),
        median(lambda p: p[0][1]),
        median(lambda p: p[1][1]),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--annfusion", default="target/release/annfusion")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    scratch = args.data / "scratch"
    only = set(filter(None, args.only.split(",")))
    source = args.data / "realish-100k.h5ad"
    made = {"ours": args.data / "ours.coll.zarr", "annbatch's": args.data / "annbatch.coll.zarr"}
    if not made["ours"].exists():
        subprocess.run([args.annfusion, "collection", "create", made["ours"], source], check=True)
    if not made["annbatch's"].exists():
        subprocess.run([args.python, "-c", COLLECT, made["annbatch's"], "20GB", source], check=True)
    print("| stream | from | annfusion | peer | ratio | peak memory | first minibatch | floor |")
    print("|---|---|---|---|---|---|---|---|")

    def row(name, where, peer, figures, floor):
        ours, theirs, ratio, peak, their_peak, first, their_first = figures
        cells = [name, where, f"{ours:,.0f} cells/s", f"{peer} {theirs:,.0f}", f"{ratio:.2f} ×"]
        cells += [f"{peak:.0f} MB, {their_peak:.0f} MB", f"{first:.2f} s, {their_first:.2f} s", floor]
        print("| " + " | ".join(cells) + " |", flush=True)

    loader = lambda path, batch, chunk, preload: [
        args.annfusion, "loader", path, "--batch-size", batch, "--chunk-size", chunk, "--preload-nchunks", preload,
        "--obs", "cell_type", "--epochs", args.epochs, "--json",
    ]
    for name, batch, chunk, preload, dense, floor in COLLECTION:
        if only and name not in only:
            continue
        for whose, path in made.items():
            ours = [*loader(path, batch, chunk, preload), *(["--dense"] if dense else [])]
            theirs = [args.python, "-c", ANNBATCH, path, batch, chunk, preload, args.epochs, SECONDS, "dense" if dense else ""]
            row(name, whose, "annbatch", compare(ours, theirs, args.runs, scratch), floor)
    for name, batch, chunk, preload, floor in SERVED:
        if only and name not in only:
            continue
        for whose, path in made.items():
            ours = [args.python, "-c", FLIGHT, CLIENT, args.annfusion, path, batch, chunk, preload, args.epochs]
            theirs = [args.python, "-c", ANNBATCH, path, batch, chunk, preload, args.epochs, SECONDS, ""]
            row(name, whose, "annbatch", compare(ours, theirs, args.runs, scratch), floor)
    for name, file, batch, block, fetch, floor in STRAIGHT:
        if only and name not in only:
            continue
        if not (args.data / file).exists():
            print(f"SKIPPED: {name}: {args.data / file} is not here", file=sys.stderr)
            continue
        # As many cells are fetched at a time as scDataset fetches.
        ours = loader(args.data / file, batch, block, batch * fetch // block)
        theirs = [args.python, "-c", SCDATASET, args.data / file, batch, block, fetch, args.epochs, SECONDS]
        row(name, file, "scDataset", compare(ours, theirs, args.runs, scratch), floor)


if __name__ == "__main__":
    main()
