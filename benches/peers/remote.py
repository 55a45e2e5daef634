"""Counts what a query on one cell type transfers, beside what it needs, and writes a Markdown table.

    VENV/bin/python benches/peers/remote.py --data DIR --annfusion target/release/annfusion [--out results.md]

DIR holds realish-100k.h5ad, which `gen.py` of the shared benchmarks makes; the other forms (sorted by
cell type, gzip, zarr) are made from it once, below DIR/remote. The venv is the tests' own: h5py and
zarr say which bytes are needed (`tests/python/needed.py`), `.ci/test-servers` has brought Azurite and
nginx. Between program and server, both on loopback, stands the proxy of the tests. moto, the tests' S3,
copies an object whole for every range of it, which objects of gigabytes do not bear: the server here is
the crate s3s-fs (`cargo install s3s-fs --version 0.14.1 --features binary`), where it is.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "python"))

import anndata  # noqa: E402
import servers  # noqa: E402
from needed import cells_of, needed  # noqa: E402
from proxy import Proxy  # noqa: E402

FORMS = {
    "h5ad": [],
    "gzip.h5ad": ["--compression", "gzip"],
    "zarr": [],
    "lz4.zarr": ["--compression", "blosc-lz4"],
    "v2.zarr": ["--zarr-version", "2"],
}


# Of files that were not put there by a request, s3s-fs sums up all bytes for every request.
PUT = """
import pathlib, sys, boto3
endpoint, secret, bucket, source, key = sys.argv[1:]
keys = {"aws_access_key_id": "AKIDTESTS", "aws_secret_access_key": secret}
client = boto3.client("s3", "us-east-1", endpoint_url=endpoint, **keys)
source = pathlib.Path(source)
for path in [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file()):
    with path.open("rb") as body:
        name = key if path == source else f"{key}/{path.relative_to(source).as_posix()}"
        client.put_object(Bucket=bucket, Key=name, Body=body)
"""


class FileS3(servers.S3):
    """s3s-fs over a folder."""

    def command(self):
        program = shutil.which("s3s-fs")
        if not program:
            raise servers.Unavailable("s3s-fs is not on the PATH")
        (self.folder / "root" / servers.BUCKET).mkdir(parents=True, exist_ok=True)
        keys = ["--access-key", "AKIDTESTS", "--secret-key", servers.SECRET]
        return [program, "--host", "127.0.0.1", "--port", str(self.port), *keys, self.folder / "root"]

    def prepare(self):
        pass

    def upload(self, source, key):
        python = servers.VENVS / "servers" / "bin" / "python"
        where = [f"http://127.0.0.1:{self.port}", servers.SECRET, servers.BUCKET]
        command = [python, "-c", PUT, *where, source, key]
        subprocess.run(command, check=True, env=servers.environment())


KINDS = (FileS3, servers.Azure, servers.Web)
QUERY = "SELECT count(*), sum(total_counts(X)), avg(gene(X, '{gene}')) FROM cells WHERE cell_type = '{cell_type}'"


def make(data, program):
    """All forms of the object, by order and form."""
    source, folder = data / "realish-100k.h5ad", data / "remote"
    folder.mkdir(exist_ok=True)
    ordered = folder / "sorted.h5ad"
    if not ordered.exists():
        a = anndata.read_h5ad(source)
        a[a.obs["cell_type"].argsort(kind="stable")].write_h5ad(ordered)
    made = {}
    for order, path in (("as it is", source), ("sorted", ordered)):
        made[order, "h5ad by anndata"] = path
        for form, options in FORMS.items():
            made[order, form] = folder / f"{path.stem}.made.{form}"
            if not made[order, form].exists():
                subprocess.run([program, "convert", path, made[order, form], *options, "--quiet"], check=True)
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--annfusion", default="target/release/annfusion")
    parser.add_argument("--servers", default="HTTP,S3")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    made = make(args.data, args.annfusion)
    obs = anndata.read_h5ad(args.data / "realish-100k.h5ad", backed="r")
    # A type of middling size.
    sizes = obs.obs["cell_type"].value_counts()
    cell_type = sizes.index[len(sizes) // 2]
    query = QUERY.format(gene=obs.var_names[0], cell_type=cell_type)
    lines = [
        f"`{query}` on {sizes[cell_type]:,} of {obs.n_obs:,} cells.",
        "",
        "| server | cells | form | MB needed | MB transferred | share | requests | wall |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for kind in KINDS:
        if kind.name not in args.servers.split(","):
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                server = kind(pathlib.Path(folder))
            except servers.Unavailable as reason:
                lines.append(f"\nSKIPPED: {kind.name}: {reason}\n")
                print(lines[-1].strip(), file=sys.stderr)
                continue
            try:
                for (order, form), path in made.items():
                    lines.append(measure(args.annfusion, server, order, form, path, query, cell_type))
                    print(lines[-1], flush=True)
            finally:
                server.stop()
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


def measure(program, server, order, form, path, query, cell_type):
    want = needed(path, cells_of(path, "cell_type", cell_type), ["obs/cell_type", "var/_index"])
    if server.name == "HTTP":
        (server.root / path.name).symlink_to(path.resolve())
    else:
        server.upload(path, path.name)
    expected = run([program, "query", path, query, "--format", "csv"])
    with Proxy(server.port) as proxy:
        access = server.access(proxy.port)
        began = time.monotonic()
        answer = run([program, "query", access.url(path.name), query, "--format", "csv"], env=access.env)
        wall = time.monotonic() - began
        if answer != expected:
            sys.exit(f"{server.name}, {path}: {answer!r} is not {expected!r}")
        got, n_requests = proxy.n_bytes, len(proxy.requests)
    cells = [
        server.name,
        order,
        form,
        f"{want / 1e6:.2f}",
        f"{got / 1e6:.2f}",
        f"{got / want:.3f}",
        str(n_requests),
        f"{wall:.2f} s",
    ]
    return "| " + " | ".join(cells) + " |"


def run(command, **kwargs):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **kwargs)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
