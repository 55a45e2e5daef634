"""Files we write open in anndata 0.10, 0.11 and 0.12 wherever their inputs do."""

import json
import os
import pathlib
import subprocess

import pytest

import objects

VENVS = pathlib.Path(os.environ.get("ANNFUSION_VENVS", objects.REPOSITORY / ".venv"))
VERSIONS = ["0.10", "0.11", "0.12"]

# Run by the other version: opens every file named, says what it saw.
READER = """
import json, sys, warnings
warnings.simplefilter("ignore")
import anndata, numpy as np
seen = {}
for path in sys.argv[1:]:
    try:
        a = anndata.read_zarr(path) if path.endswith(".zarr") else anndata.read_h5ad(path)
        x = a.X if a.X is None else float(f"{float(np.nan_to_num(a.X.sum())):.4g}") + 0.0 if abs(float(np.nan_to_num(a.X.sum()))) > 1e-3 else 0.0
        seen[path] = [list(a.shape), x, sorted(map(str, a.obs.columns)), sorted(a.obsm), sorted(a.uns)]
    except Exception as e:
        seen[path] = f"{type(e).__name__}: {e}"[:300]
print(json.dumps([anndata.__version__, seen]))
"""


@pytest.fixture(scope="session")
def pairs(annfusion, synth, tmp_path_factory):
    """Inputs, and what we make of them."""
    folder = tmp_path_factory.mktemp("versions")
    made = []
    for i, obj in enumerate(objects.shared_objects()):
        if not obj.group:
            done = annfusion("slice", obj.location, folder / f"{i}", "--size", 1_000_000, check=False)
            if done.returncode == 0:
                made.append((obj.path, folder / f"{i}_shard_0.h5ad"))
    for compression in ("none", "gzip", "lzf"):
        annfusion("slice", synth, folder / compression, "--size", 1_000_000, "--compression", compression)
        made.append((synth, folder / f"{compression}_shard_0.h5ad"))
    for compression in ("zstd", "blosc-lz4"):
        store = folder / f"{compression}.zarr"
        annfusion("convert", synth, store, "--zarr-version", 2, "--compression", compression)
        made.append((synth, store))
    return made


@pytest.mark.parametrize("version", VERSIONS)
def test_older_readers_open_our_files(pairs, version):
    python = VENVS / f"anndata-{version}" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"anndata {version} is not installed")
    paths = sorted({str(p) for pair in pairs for p in pair})
    done = subprocess.run([str(python), "-c", READER, *paths], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    actual_version, seen = json.loads(done.stdout)
    assert actual_version.startswith(version)
    wrong, opened = [], 0
    for source, output in pairs:
        before, after = seen[str(source)], seen[str(output)]
        if isinstance(before, list):
            opened += 1
            if before != after:
                wrong.append(f"{source.name}: {before} became {after}")
    assert not wrong, "\n".join(wrong[:10])
    assert opened >= 3
