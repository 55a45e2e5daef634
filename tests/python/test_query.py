"""`SELECT *` of every table agrees with what anndata reads."""

import json
import subprocess
import zipfile

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp

import objects


def select_all(annfusion, location, tables, tmp_path):
    """Every table whole: the results of one process, one Arrow stream after another."""
    script = tmp_path / "all.sql"
    script.write_text("\n".join(f'SELECT * FROM "{t}";' for t in tables))
    annfusion("query", location, "-f", script, "-o", tmp_path / "all.arrow")
    results = {}
    with open(tmp_path / "all.arrow", "rb") as file:
        for table in tables:
            results[table] = pa.ipc.open_stream(file).read_all()
    return results


def tables_of(a):
    """The tables that an object has, by what anndata reads."""
    tables = ["obs", "var", "uns", "cells", "elements"]
    if a.X is not None:
        tables += ["X", "X_coo"]
    for key in a.layers:
        if key is not None:
            tables += [f"layers_{key}", f"layers_{key}_coo"]
    for name in ("obsm", "varm", "obsp", "varp"):
        tables += [f"{name}_{key}" for key in getattr(a, name)]
    if a.raw is not None:
        tables += ["raw_var", "raw_X"]
    return tables


def test_every_table_agrees(annfusion, shared_object, tmp_path):
    a = shared_object.read()
    tables = select_all(annfusion, shared_object.location, tables_of(a), tmp_path)
    check_frame(tables["obs"], a.obs, "obs")
    check_frame(tables["var"], a.var, "var")
    if a.raw is not None:
        check_frame(tables["raw_var"], a.raw.var, "var")
        check_matrix(tables["raw_X"]["raw_X" if "raw_X" in tables["raw_X"].column_names else "X"], a.raw.X)
    if a.X is not None:
        check_matrix(tables["X"]["X"], a.X)
        check_coo(tables["X_coo"], a.X)
        check_matrix(tables["cells"]["X"], a.X)
    for key in a.layers:
        if key is not None:
            table = tables[f"layers_{key}"]
            check_matrix(table[table.column_names[-1]], a.layers[key])
            check_coo(tables[f"layers_{key}_coo"], a.layers[key])
    for name in ("obsm", "varm"):
        for key, value in getattr(a, name).items():
            check_aligned(tables[f"{name}_{key}"], value)
    for name in ("obsp", "varp"):
        for key, value in getattr(a, name).items():
            check_pairs(tables[f"{name}_{key}"], value)
    check_uns(tables["uns"], a.uns)
    assert tables["cells"].num_rows == a.n_obs
    assert tables["elements"].num_rows > 0


def check_frame(table, frame, axis):
    names = f"{axis}_names"
    position = f"{axis}_idx"
    assert table[position].to_pylist() == list(range(len(frame)))
    assert table[names].to_pylist() == [str(x) for x in frame.index]
    columns = [c for c in table.column_names if c not in (position, names)]
    assert len(columns) == len(frame.columns), (columns, list(frame.columns))
    for column, name in zip(columns, frame.columns):
        assert column in (name, f"{axis}.{name}")
        check_column(table[column], frame[name], f"{axis}/{name}")


def check_column(column, series, name):
    column = column.combine_chunks()
    if isinstance(series.dtype, pd.CategoricalDtype):
        chunk = column.chunk(0) if isinstance(column, pa.ChunkedArray) and column.num_chunks else column
        assert pa.types.is_dictionary(column.type), name
        if len(chunk):
            assert [plain(x) for x in chunk.dictionary.to_pylist()] == [plain(x) for x in series.cat.categories], name
    expected = [None if missing(x) else plain(x) for x in series]
    actual = [None if missing(x) else plain(x) for x in column.to_pylist()]
    assert actual == expected, name


def missing(x):
    return x is None or x is pd.NA or (isinstance(x, float) and x != x) or (isinstance(x, np.floating) and np.isnan(x))


def plain(x):
    if isinstance(x, bytes):
        return x.decode()
    if isinstance(x, dict):
        return complex(x["re"], x["im"])
    return x.item() if isinstance(x, np.generic) else x


def dense(value):
    return value.toarray() if sp.issparse(value) else np.asarray(value)


def rows_of(column, width):
    """Arrow matrix rows as a dense array."""
    column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_list(column.type):
        entries = column.flatten()
        offsets = column.offsets.to_numpy() - (column.offsets[0].as_py() if len(column.offsets) else 0)
        data = entries.field("data").to_numpy(zero_copy_only=False)
        indices = entries.field("indices").to_numpy()
        return sp.csr_matrix((data, indices, offsets), shape=(len(column), width)).toarray()
    values = column
    shape = [len(column)]
    while pa.types.is_fixed_size_list(values.type):
        shape.append(values.type.list_size)
        values = values.flatten()
    if pa.types.is_struct(values.type):
        flat = values.field("re").to_numpy() + 1j * values.field("im").to_numpy()
    else:
        flat = values.to_numpy(zero_copy_only=False)
    return flat.reshape(shape)


def check_matrix(column, value):
    expected = dense(value)
    actual = rows_of(column, expected.shape[1])
    np.testing.assert_array_equal(actual, expected)
    if actual.size:
        assert actual.dtype == expected.dtype


def check_coo(table, value):
    expected = dense(value)
    actual = np.zeros(expected.shape, dtype=expected.dtype)
    np.add.at(actual, (table["obs_idx"].to_numpy(), table["var_idx"].to_numpy()), table["value"].to_numpy())
    np.testing.assert_array_equal(actual, expected)
    if sp.issparse(value):
        assert table.num_rows == value.nnz


def check_pairs(table, value):
    expected = dense(value)
    actual = np.zeros(expected.shape, dtype=expected.dtype)
    np.add.at(actual, (table["row_idx"].to_numpy(), table["col_idx"].to_numpy()), table["value"].to_numpy())
    np.testing.assert_array_equal(actual, expected)


def check_aligned(table, value):
    if isinstance(value, pd.DataFrame):
        columns = table.column_names[2:]
        if columns == ["value"] and pa.types.is_struct(table["value"].type):
            struct = table["value"].combine_chunks()
            struct = pa.concat_arrays(struct.chunks) if isinstance(struct, pa.ChunkedArray) else struct
            parts = {f.name: struct.field(f.name) for f in struct.type}
        else:
            parts = {c: table[c] for c in columns}
        for name in value.columns:
            match = [c for c in parts if c == name or c.endswith(f".{name}")]
            assert match, (name, list(parts))
            check_column(parts[match[0]], value[name], name)
    elif type(value).__module__.startswith("awkward"):
        import awkward as ak

        assert [json.loads(x) for x in table["value"].to_pylist()] == ak.to_list(value)
    elif np.ndim(value) == 1:
        check_column(table["value"], pd.Series(value), "value")
    else:
        expected = dense(value)
        actual = rows_of(table["value"], expected.shape[1])
        np.testing.assert_array_equal(actual, expected)


def check_uns(table, uns):
    found = set(table["path"].to_pylist())

    def walk(value, path):
        if isinstance(value, dict) or hasattr(value, "items") and not isinstance(value, pd.DataFrame):
            for key, child in value.items():
                walk(child, f"{path}/{key}" if path else str(key))
        else:
            assert any(p == path or p.startswith(path + "/") for p in found), (path, sorted(found)[:20])

    walk(dict(uns), "")


def test_gene_values_are_those_of_anndata(annfusion, synth, tmp_path):
    a = objects.read(synth)
    out = tmp_path / "q.arrow"
    sql = "SELECT obs_names, gene(X, 'LYZ') AS lyz, n_genes(X) AS n, total_counts(X) AS total FROM cells"
    annfusion("query", synth, sql, "-o", out)
    table = pa.ipc.open_stream(out).read_all()
    np.testing.assert_array_equal(table["lyz"].to_numpy(), dense(a[:, "LYZ"].X).ravel())
    np.testing.assert_array_equal(table["n"].to_numpy(), np.diff(a.X.indptr))
    np.testing.assert_allclose(table["total"].to_numpy(), np.asarray(a.X.sum(axis=1)).ravel())


def test_scanpy_finds_the_same_metrics(annfusion, synth, tmp_path):
    import scanpy as sc

    a = objects.read(synth)
    sc.pp.calculate_qc_metrics(a, inplace=True, percent_top=None, log1p=False)
    out = tmp_path / "q.arrow"
    annfusion("query", synth, "SELECT n_genes(X) AS n, total_counts(X) AS total FROM cells", "-o", out)
    table = pa.ipc.open_stream(out).read_all()
    np.testing.assert_array_equal(table["n"].to_numpy(), a.obs["n_genes_by_counts"])
    np.testing.assert_allclose(table["total"].to_numpy(), a.obs["total_counts"], rtol=1e-6)


def test_grouped_answers(annfusion, synth, tmp_path):
    a = objects.read(synth)
    out = tmp_path / "q.arrow"
    sql = "SELECT cell_type, count(*) AS n, avg(gene(X, 'LYZ')) AS lyz FROM cells GROUP BY cell_type ORDER BY cell_type"
    annfusion("query", synth, sql, "-o", out)
    table = pa.ipc.open_stream(out).read_all()
    lyz = pd.Series(dense(a[:, "LYZ"].X).ravel(), index=a.obs_names)
    expected = lyz.groupby(a.obs["cell_type"].astype(str)).agg(["size", "mean"])
    actual = pd.DataFrame(
        {"size": table["n"].to_pylist(), "mean": table["lyz"].to_pylist()},
        index=[str(x) for x in table["cell_type"].to_pylist()],
    ).sort_index()
    assert list(actual.index) == list(expected.index)
    np.testing.assert_array_equal(actual["size"], expected["size"])
    np.testing.assert_allclose(actual["mean"], expected["mean"], rtol=1e-6)


@pytest.mark.parametrize("ending", ["csv", "json", "ndjson", "parquet", "arrow"])
def test_formats_hold_the_same_rows(annfusion, synth, tmp_path, ending):
    out = tmp_path / f"q.{ending}"
    sql = "SELECT obs_names, cell_type, donor_age, n_counts, is_doublet FROM obs WHERE obs_idx < 50 ORDER BY obs_idx"
    annfusion("query", synth, sql, "-o", out)
    frame = {
        "csv": pd.read_csv,
        "json": pd.read_json,
        "ndjson": lambda p: pd.read_json(p, lines=True),
        "parquet": pd.read_parquet,
        "arrow": lambda p: pa.ipc.open_stream(p).read_pandas(),
    }[ending](out)
    a = objects.read(synth)[:50]
    assert list(frame["obs_names"]) == list(a.obs_names)
    assert list(frame["cell_type"].astype(str)) == list(a.obs["cell_type"].astype(str))
    assert frame["donor_age"].isna().sum() == a.obs["donor_age"].isna().sum()
    np.testing.assert_allclose(frame["n_counts"], a.obs["n_counts"])


def test_a_typo_is_answered_with_the_near_name(annfusion, synth):
    done = annfusion("query", synth, "SELECT cel_type FROM obs", check=False)
    assert done.returncode == 1
    assert done.stderr.count("\nerror:") + done.stderr.startswith("error:") == 1
    assert "cel_type" in done.stderr and "cell_type" in done.stderr
    done = annfusion("query", synth, "SELECT gene(X, 'LYZZ') FROM cells", check=False)
    assert done.returncode == 1 and "LYZ" in done.stderr and "did you mean" in done.stderr.lower()


def test_usage_errors_exit_with_2(annfusion, tmp_path):
    assert annfusion("query", check=False).returncode == 2
    assert annfusion("nonsense", check=False).returncode == 2
    assert annfusion("--help").returncode == 0
    for line in (
        ["query", "x.h5ad", "SELECT 1", "-o", "out.xyz"],
        ["query", "x.h5ad", ""],
        ["slice", "x.h5ad", "out", "--memory-limit", "1MB"],
        ["slice", "x.h5ad", "out", "--explain", "--dry-run"],
        ["filter", "x.h5ad", "out.txt", "--where", "true"],
    ):
        done = annfusion(*line, check=False)
        assert done.returncode == 2, (line, done.stderr)
    script = tmp_path / "s.sql"
    script.write_text("SELECT 1")
    done = annfusion("query", "SELECT 2", "-f", script, check=False)
    assert done.returncode == 2 and "given twice" in done.stderr


def test_two_results_go_into_no_format_for_one(annfusion):
    sql = "SELECT 1 AS a; SELECT 2 AS b"
    assert annfusion("query", sql).returncode == 0
    for name in ("csv", "json"):
        done = annfusion("query", sql, "--format", name, check=False)
        assert done.returncode == 1 and "one result" in done.stderr


def test_copies_keep_the_order_of_many_partitions(annfusion, tmp_path):
    annfusion("synth", tmp_path / "a.h5ad", "--n-obs", 20_000, "--n-vars", 50)
    copy = f"COPY (SELECT * FROM cells ORDER BY n_counts DESC, obs_names) TO '{tmp_path}/b.h5ad' STORED AS H5AD"
    annfusion("query", tmp_path / "a.h5ad", copy)
    a, b = objects.read(tmp_path / "a.h5ad").obs, objects.read(tmp_path / "b.h5ad").obs
    expected = a.assign(name=a.index).sort_values(["n_counts", "name"], ascending=[False, True]).index
    assert list(b.index) == list(expected)


def test_a_union_over_other_genes_is_refused(annfusion, tmp_path):
    names = {"a": ["g1", "g2", "g3"], "b": ["g3", "g2", "g1"], "c": ["g1", "g2", "g3", "g4"], "d": ["g1", "g2", "g3"]}
    for name, genes in names.items():
        for kind in ("dense", "sparse"):
            x = np.arange(2.0 * len(genes), dtype="f4").reshape(2, -1)
            a = anndata.AnnData(x if kind == "dense" else sp.csr_matrix(x), obs=pd.DataFrame(index=[name + "0", name + "1"]))
            a.var_names = genes
            a.write_h5ad(tmp_path / f"{kind}_{name}.h5ad")
    for kind in ("dense", "sparse"):
        for other in ("b", "c", "d"):
            files = [tmp_path / f"{kind}_a.h5ad", tmp_path / f"{kind}_{other}.h5ad"]
            union = f"SELECT * FROM {kind}_a.cells UNION ALL SELECT * FROM {kind}_{other}.cells"
            out = tmp_path / f"{kind}_{other}_out.h5ad"
            done = annfusion("query", *files, f"COPY ({union}) TO '{out}' STORED AS H5AD", check=False)
            if other == "d":
                assert done.returncode == 0, done.stderr
                assert list(objects.read(out).var_names) == names["a"]
                np.testing.assert_array_equal(dense(objects.read(out).X), [[0, 1, 2], [3, 4, 5]] * 2)
            else:
                assert done.returncode == 1 and not out.exists(), (kind, other, done.stderr)


def test_nothing_is_copied_into_a_store(annfusion, tmp_path):
    import zarr

    a = anndata.AnnData(np.eye(3, dtype="f4"))
    a.write_zarr(tmp_path / "a.zarr")
    done = annfusion("query", tmp_path / "a.zarr", f"COPY (SELECT * FROM obs) TO '{tmp_path}/a.zarr' STORED AS CSV", check=False)
    assert done.returncode == 1 and "zarr store" in done.stderr
    inside = tmp_path / "a.zarr" / "zarr.json"
    done = annfusion("query", tmp_path / "a.zarr", "SELECT 1", "-o", inside, "--overwrite", check=False)
    assert done.returncode == 1 and "inside of an input" in done.stderr
    done = annfusion("slice", tmp_path / "a.zarr", tmp_path / "a.zarr" / "part", check=False)
    assert done.returncode == 1 and "inside of an input" in done.stderr
    # A bit of an archive that has changed since it was made.
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w") as archive:
        for path in sorted((tmp_path / "a.zarr").rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(tmp_path / "a.zarr"))
    annfusion("verify", tmp_path / "a.zarr.zip", tmp_path / "a.zarr")
    with zipfile.ZipFile(tmp_path / "a.zarr.zip") as archive:
        largest = max(archive.infolist(), key=lambda i: i.file_size if i.filename.startswith("obs/_index/c") else 0)
    data = bytearray((tmp_path / "a.zarr.zip").read_bytes())
    data[largest.header_offset + 30 + len(largest.filename) + largest.file_size - 1] ^= 1
    (tmp_path / "a.zarr.zip").write_bytes(data)
    done = annfusion("verify", tmp_path / "a.zarr.zip", check=False)
    assert done.returncode == 1 and "checksum" in done.stdout + done.stderr
    # A scalar of another order than C, which zarr-python writes as it is told.
    group = zarr.open_group(tmp_path / "v2.zarr", mode="w", zarr_format=2)
    anndata.io.write_elem(group, "/", a)
    group.create_group("uns", overwrite=True).attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
    scalar = group.create_array("uns/t", shape=(), dtype="i8", chunks=(), order="F")
    scalar[...] = 7
    scalar.attrs.update({"encoding-type": "numeric-scalar", "encoding-version": "0.2.0"})
    done = annfusion("query", tmp_path / "v2.zarr", "SELECT value FROM uns WHERE path = 't'", "--format", "csv")
    assert done.stdout.split()[-1] == "7"


def test_a_copy_has_no_result_to_write(annfusion, synth, tmp_path):
    copy = f"COPY (SELECT * FROM obs) TO '{tmp_path}/obs.parquet'"
    done = annfusion("query", synth, copy, "-o", tmp_path / "n.csv")
    assert "no statement has a result" in done.stderr and not (tmp_path / "n.csv").exists()
    # Every spelling of a file that is there is refused.
    for url in (f"file://{tmp_path}/obs.parquet", f"file:{tmp_path}/obs.parquet", f"file://localhost{tmp_path}/ob%73.parquet"):
        done = annfusion("query", synth, f"COPY (SELECT 1 AS a) TO '{url}' STORED AS PARQUET", check=False)
        assert done.returncode == 1 and "it exists" in done.stderr, done.stderr


def test_what_a_union_loses_is_named(annfusion, tmp_path):
    a = anndata.AnnData(np.eye(4, dtype="f4"), obsp={"near": np.eye(4)}, uns={"x": 1})
    a.write_h5ad(tmp_path / "a.h5ad")
    copy = f"COPY (SELECT * FROM a.cells UNION ALL SELECT * FROM a.cells) TO '{tmp_path}/b.h5ad' STORED AS H5AD"
    done = annfusion("query", tmp_path / "a.h5ad", copy, "--format", "json")
    assert "obsp/near, uns not written" in done.stderr
    assert done.stdout == "[]\n"


def test_what_a_copy_of_obs_loses_is_named(annfusion, tmp_path):
    a = anndata.AnnData(np.eye(4, dtype="f4"), obs={"n": range(4)}, varm={"PCs": np.eye(4)}, uns={"x": 1})
    a.write_h5ad(tmp_path / "a.h5ad")
    for table, lost in (("obs", "var, varm/PCs, uns not written"), ("cells", None)):
        output = tmp_path / f"{table}.h5ad"
        done = annfusion("query", tmp_path / "a.h5ad", f"COPY (SELECT obs_names, n FROM {table}) TO '{output}' STORED AS H5AD")
        assert (lost in done.stderr) if lost else "not written" not in done.stderr, done.stderr
        assert anndata.read_h5ad(output).n_vars == (0 if lost else 4)


def test_a_script_copies_and_reads_what_it_wrote(annfusion, synth, tmp_path):
    out = tmp_path / "few.h5ad"
    script = tmp_path / "s.sql"
    script.write_text(
        f"COPY (SELECT * FROM cells LIMIT 7) TO '{out}' STORED AS H5AD OPTIONS ('h5ad.compression' 'gzip');\n"
        f"SELECT count(*) AS n FROM read_anndata('{out}');"
    )
    done = annfusion("query", synth, "-f", script, "--format", "csv")
    assert done.stdout.splitlines()[-1] == "7"
    assert objects.read(out).n_obs == 7


def test_an_output_is_replaced_only_where_that_is_said(annfusion, synth, tmp_path):
    out = tmp_path / "out.csv"
    annfusion("query", synth, "SELECT 1 AS a", "-o", out)
    before = out.read_bytes()
    done = annfusion("query", synth, "SELECT 2 AS a", "-o", out, check=False)
    assert done.returncode == 1 and "--overwrite" in done.stderr
    assert out.read_bytes() == before
    annfusion("query", synth, "SELECT 2 AS a", "-o", out, "--overwrite")
    assert out.read_bytes() != before
    args = ["-o", synth, "--format", "csv", "--overwrite"]
    done = annfusion("query", synth, "SELECT 1 AS a", *args, check=False)
    assert done.returncode == 1 and "it is also an input" in done.stderr
    assert objects.read(synth).n_obs == 3000


@pytest.mark.parametrize("output", [["--format", "csv"], ["--format", "arrow"], ["--format", "ndjson"]])
def test_output_that_nobody_reads_ends_the_program_quietly(annfusion, synth, output):
    command = [annfusion.path, "query", synth, "SELECT a.* FROM obs a CROSS JOIN obs b LIMIT 200000", *output]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(1000)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141
