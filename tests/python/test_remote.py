"""Objects behind URLs answer as objects on a disk do: through S3, Azure and the web, h5ad and zarr."""

import json
import re
import shutil
import warnings

import numpy as np
import pyarrow as pa
import pytest
import zarr

import objects
import slt
from test_query import tables_of

GUIDE = slt.files("guide")
# Their columns name their categories by references, which are followed without the HDF5 library there.
REFERENCES = ("anndata-v0.7.0", "zellkonverter-krumsiek11")


def test_questions_that_fail_are_asked_meanwhile(failures):
    """`test_remote_errors.py` has the answers."""
    assert failures.running


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
@pytest.mark.parametrize("file", GUIDE, ids=lambda file: file.name)
def test_the_manual(annfusion, store, demos, form, file, tmp_path):
    store.upload(demos[form], f"guide/demo.{form}")
    access = store.access()
    check_manual(annfusion, file, access.url(f"guide/demo.{form}"), access.env, tmp_path)


def check_manual(annfusion, file, url, env, tmp_path):
    """Runs a chapter on the object at `url`; what it writes goes to a local folder."""

    def put(sql):
        return re.sub(r"\$FILE\(demo\)", lambda _: url, sql.replace("$OUT", str(tmp_path)))

    script, results = tmp_path / "chapter.sql", tmp_path / "results.arrow"
    script.write_text(";\n".join(put(getattr(step, "sql", step)) for step in file.script) + ";\n")
    opened = [f"{schema}={url}" for schema in file.opens]
    annfusion("query", *opened, "-f", script, "-o", results, env=env)
    # A COPY gives no table, but what it wrote is asked for after it.
    asked = [query for query in file.queries if not query.sql.startswith("COPY")]
    with open(results, "rb") as stream:
        tables = [table for table in streams(stream) if table.num_columns]
    assert len(tables) == len(asked)
    for query, table in zip(asked, tables):
        found = slt.differences(query.answer, rows_of(table))
        assert not found, f"{query}: {query.sql}\n" + "\n".join(found)


def streams(file):
    """The tables of a file of Arrow streams, one after another."""
    end = file.seek(0, 2)
    file.seek(0)
    while file.tell() < end:
        yield pa.ipc.open_stream(file).read_all()


def rows_of(table):
    """Rows of values; a float keeps its width, in which the runner writes it."""
    columns = []
    for column in table.columns:
        values = column.to_pylist()
        if pa.types.is_float32(column.type):
            values = [None if v is None else np.float32(v) for v in values]
        columns.append(values)
    return list(zip(*columns))


def sample():
    """Objects to ask for through a server: all encodings, and every third found one, by turns by each."""
    everything = [o for o in objects.shared_objects() if o.path.suffix != ".zip"]
    encodings = [o for o in everything if o.path.parent.name == "encodings"]
    found = [o for o in everything if o not in encodings]
    pairs = [(o, kind) for o in encodings for kind in ("s3", "web")]
    pairs += [(o, ("s3", "web")[i // 3 % 2]) for i, o in enumerate(found) if i % 3 == 0 or o.path.stem in REFERENCES]
    return pairs


@pytest.mark.parametrize("shared_thing, kind", sample(), ids=str)
def test_a_real_object(annfusion, request, shared_thing, kind, tmp_path):
    server = request.getfixturevalue(kind)
    access, location = publish(server, shared_thing, tmp_path)
    done = annfusion("verify", shared_thing.location, location, env=access.env)
    assert done.returncode == 0, done.stdout
    tables = tables_of(shared_thing.read())
    script = tmp_path / "all.sql"
    script.write_text("\n".join(f'SELECT * FROM "{table}";' for table in tables))
    annfusion("query", shared_thing.location, "-f", script, "-o", tmp_path / "local.arrow")
    annfusion("query", location, "-f", script, "-o", tmp_path / "remote.arrow", env=access.env)
    with open(tmp_path / "local.arrow", "rb") as local, open(tmp_path / "remote.arrow", "rb") as remote:
        for table, ours, theirs in zip(tables, streams(remote), streams(local), strict=True):
            assert ours.schema.equals(theirs.schema), table
            if table == "elements" and server.name == "HTTP" and shared_thing.path.suffix == ".zarr":
                # What chunks take cannot be listed there.
                ours, theirs = ours.drop_columns("bytes"), theirs.drop_columns("bytes")
            assert same(ours, theirs), table


def same(a, b):
    """Equal tables, with NaN equal to itself."""
    return a.equals(b) or str(a.to_pydict()) == str(b.to_pydict())


def publish(server, thing, tmp_path):
    """Puts an object on a server. A web server cannot list, so a store there says what is in it."""
    source, key = thing.path, f"real/{thing.path.name}"
    if server.name == "HTTP" and source.is_dir():
        source = consolidated(source, tmp_path)
    server.upload(source, key)
    access = server.access()
    return access, access.url(key) + (f"#{thing.group}" if thing.group else "")


def consolidated(source, tmp_path):
    """A store with consolidated metadata: the same, or a copy that was given it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group(source, mode="r")
        if group.metadata.consolidated_metadata is not None:
            return source
        copy = tmp_path / source.name
        shutil.copytree(source, copy, copy_function=shutil.copyfile)
        for folder in [copy, *copy.rglob("*/")]:
            folder.chmod(0o755)
        zarr.consolidate_metadata(str(copy))
        return copy


def test_archives_are_refused_by_name(annfusion, s3):
    archive = next((o for o in objects.shared_objects() if o.path.suffix == ".zip"), None)
    if archive is None:
        pytest.skip("SKIPPED: shared/data is not here")
    access, location = publish(s3, archive, None)
    done = annfusion("inspect", location, env=access.env, check=False)
    assert done.returncode == 1 and ".zarr.zip" in done.stderr and location in done.stderr, done.stderr


def test_https_with_a_certificate_of_ones_own(annfusion, web, demos):
    for form, path in demos.items():
        web.upload(path, f"tls/demo.{form}")
        access = web.access(secure=True)
        done = annfusion("verify", path, access.url(f"tls/demo.{form}"), env=access.env)
        assert done.returncode == 0, done.stdout
        # Nobody else trusts it.
        done = annfusion("inspect", access.url(f"tls/demo.{form}"), env=web.access().env, check=False)
        assert done.returncode == 1 and "certificate" in done.stderr.lower(), done.stderr


def test_objects_of_several_stores_in_one_query(annfusion, s3, azure, web, demos, tmp_path):
    env, urls = {}, []
    for server in (s3, azure, web):
        server.upload(demos["h5ad"], "joined/demo.h5ad")
        access = server.access()
        env |= access.env
        urls.append(access.url("joined/demo.h5ad"))
    out = tmp_path / "q.csv"
    opened = [f"{schema}={url}" for schema, url in zip("abc", urls)]
    sql = "SELECT count(*) AS n FROM a.obs JOIN b.obs ON a.obs.obs_names = b.obs.obs_names JOIN c.obs ON a.obs.obs_names = c.obs.obs_names"
    annfusion("query", *opened, sql, "-o", out, env=env)
    assert out.read_text().split() == ["n", "300"]


def test_commands_take_urls(annfusion, store, demos, tmp_path):
    """What is cut from a URL is what is cut from the file."""
    for form, path in demos.items():
        store.upload(path, f"cut/demo.{form}")
        access = store.access()
        url = access.url(f"cut/demo.{form}")
        for source, name in ((path, "local"), (url, "remote")):
            env = access.env
            annfusion("slice", source, tmp_path / f"{form}_{name}", "--size", 200, env=env)
            annfusion("filter", source, tmp_path / f"{form}_{name}_b.h5ad", "--where", "cell_type = 'B'", env=env)
            annfusion("convert", source, tmp_path / f"{form}_{name}.zarr", env=env)
        for end in ("_shard_0.h5ad", "_shard_1.h5ad", "_b.h5ad", ".zarr"):
            annfusion("verify", tmp_path / f"{form}_local{end}", tmp_path / f"{form}_remote{end}")
        shown = [annfusion("inspect", source, "--json", env=access.env).stdout for source in (path, url)]
        assert shown[0].count('"path"') == shown[1].count('"path"')


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_a_store_without_consolidated_metadata_is_listed(annfusion, request, kind, demos, tmp_path):
    server = request.getfixturevalue(kind)
    server.upload(demos["zarr"], "plain/demo.zarr")
    document = json_without(demos["zarr"] / "zarr.json", "consolidated_metadata")
    server.put("plain/demo.zarr/zarr.json", document)
    access = server.access()
    annfusion("verify", demos["zarr"], access.url("plain/demo.zarr"), env=access.env)


def test_the_web_says_what_a_store_lacks(annfusion, web, demos):
    web.upload(demos["zarr"], "plain/demo.zarr")
    web.put("plain/demo.zarr/zarr.json", json_without(demos["zarr"] / "zarr.json", "consolidated_metadata"))
    url = web.access().url("plain/demo.zarr")
    done = annfusion("inspect", url, env=web.access().env, check=False)
    assert done.returncode == 1 and url in done.stderr and "consolidated" in done.stderr, done.stderr


def json_without(path, key):
    document = json.loads(path.read_text())
    document.pop(key, None)
    return json.dumps(document).encode()
