"""`cells` as a Parquet file and back: categories, their order and the genes come along."""

import base64

import anndata
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

import objects
from oracle import check_equal


def make(path, x):
    rng = np.random.default_rng(0)
    n, m = x.shape
    a = anndata.AnnData(x)
    a.obs_names = [f"cell-{i}" for i in range(n)]
    a.var_names = [f"gene.{i}" for i in range(m)]
    kinds = pd.Categorical.from_codes(rng.integers(-1, 3, n), ["z", "a", "m", "never"])
    a.obs["kind"] = kinds
    a.obs["stage"] = pd.Categorical.from_codes(rng.integers(0, 2, n), ["late", "early", "none"], ordered=True)
    a.obs["year"] = pd.Categorical.from_codes(rng.integers(0, 2, n), [2020, 1999, 2031])
    a.obs["score"] = rng.random(n)
    a.obs["maybe"] = pd.array([None if i % 5 == 0 else i for i in range(n)], dtype="Int32")
    a.obs["on"] = rng.integers(0, 2, n).astype(bool)
    a.obs["X"] = [f"text {i}" for i in range(n)]
    a.obs.index.name = "barcode"
    a.var["symbol"] = [f"s{i}" for i in range(m)]
    a.var["chromosome"] = pd.Categorical.from_codes(rng.integers(0, 2, m), ["y", "x", "mt"], ordered=True)
    a.var["length"] = rng.integers(0, 9, m).astype("u2")
    a.layers["counts"] = sp.csr_matrix(rng.poisson(0.2, (n, m)).astype("i4"))
    a.layers["dense"] = rng.random((n, m)).astype("f4")
    a.obsm["X_pca"] = rng.random((n, 3))
    a.obsm["frame"] = pd.DataFrame({"a": rng.random(n), "b": kinds}, index=a.obs_names)
    a.raw = anndata.AnnData(a.layers["counts"][:, :5].copy(), var=a.var.iloc[:5].copy())
    a.write_h5ad(path)
    return objects.read(path)


def without(a, *groups):
    """What a table of cells holds of an object."""
    a = a.copy()
    for group in groups:
        mapping = getattr(a, group)
        for key in list(mapping):
            del mapping[key]
    return a


def to_parquet(annfusion, source, path, select="SELECT * FROM cells"):
    return annfusion("query", source, f"COPY ({select}) TO '{path}'")


def from_parquet(annfusion, parquet, path, select="SELECT * FROM p"):
    sql = (
        f"CREATE EXTERNAL TABLE p STORED AS PARQUET LOCATION '{parquet}'; "
        f"COPY ({select}) TO '{path}' STORED AS H5AD"
    )
    return annfusion("query", sql)


@pytest.mark.parametrize("kind", ["csr", "dense"])
def test_a_round_trip_keeps_cells_and_genes(annfusion, tmp_path, kind):
    source, parquet, back = tmp_path / "a.h5ad", tmp_path / "a.parquet", tmp_path / "b.h5ad"
    x = sp.random(300, 40, 0.2, format="csr", dtype="f4", random_state=0)
    a = make(source, x if kind == "csr" else x.toarray())
    to_parquet(annfusion, source, parquet)
    # Another process, and the file is gone: nothing but the Parquet file says what there was.
    source.rename(tmp_path / "elsewhere")
    done = annfusion("query", f"CREATE EXTERNAL TABLE p STORED AS PARQUET LOCATION '{parquet}'; SELECT sum(gene(X, 'gene.7')) AS s FROM p", "--format", "csv")
    total = float(done.stdout.split()[-1])
    assert total == pytest.approx(float(a[:, "gene.7"].X.sum()), rel=1e-5)
    from_parquet(annfusion, parquet, back)
    check_equal("parquet", objects.read(back), a)
    # Some of the cells, and a mask of them.
    from_parquet(annfusion, parquet, tmp_path / "c.h5ad", "SELECT * FROM p WHERE kind = 'a' ORDER BY score DESC")
    with anndata.settings.override(remove_unused_categories=False):
        expected = a[(a.obs["kind"] == "a").to_numpy()].copy()
        expected = expected[np.argsort(-expected.obs["score"].to_numpy())].copy()
    check_equal("parquet", objects.read(tmp_path / "c.h5ad"), expected, sliced=True)


def test_others_read_the_file(annfusion, tmp_path):
    source, parquet = tmp_path / "a.h5ad", tmp_path / "a.parquet"
    a = make(source, sp.random(50, 20, 0.3, format="csr", dtype="f4", random_state=0))
    to_parquet(annfusion, source, parquet)
    table = pq.read_table(parquet)
    assert table.num_rows == 50 and table["obs_names"].to_pylist() == list(a.obs_names)
    frame = table.select(["obs_names", "kind", "stage", "score", "maybe"]).to_pandas()
    assert list(frame["kind"].astype(object).fillna("-")) == list(a.obs["kind"].astype(object).fillna("-"))
    np.testing.assert_array_equal(frame["score"], a.obs["score"])
    row = table["X"][3].as_py()
    assert [e["indices"] for e in row] == list(a.X[3].indices)
    assert [k for k in pq.read_metadata(parquet).metadata if k.startswith(b"annfusion.var.")]


def test_the_order_of_rows_is_kept(annfusion, synth, tmp_path):
    parquet, back = tmp_path / "a.parquet", tmp_path / "b.h5ad"
    done = to_parquet(annfusion, synth, parquet)
    a = objects.read(synth)
    assert pq.read_table(parquet, columns=["obs_names"])["obs_names"].to_pylist() == list(a.obs_names)
    for group in ("uns", "varm", "varp", "obsp"):
        if len(getattr(a, group)):
            assert group in done.stderr, done.stderr
    from_parquet(annfusion, parquet, back)
    check_equal("parquet", objects.read(back), without(a, "uns", "varm", "varp", "obsp"))


def test_every_file_survives(annfusion, shared_object, tmp_path):
    if not objects.is_hdf5(shared_object.path):
        return
    a = shared_object.read()
    parquet, back = tmp_path / "a.parquet", tmp_path / "b.h5ad"
    done = to_parquet(annfusion, f"o={shared_object.location}", parquet)
    from_parquet(annfusion, parquet, back)
    b = objects.read(back)
    expected = without(a, "uns", "varm", "varp", "obsp")
    if expected.raw is not None:
        assert not len(expected.raw.varm) or "raw/varm" in done.stderr, done.stderr
        for key in list(expected.raw.varm):
            del expected.raw.varm[key]
    if expected.X is None and not len(expected.layers):
        # No column is over the genes then, and the file says that they are left out.
        assert expected.n_vars == 0 or "var" in done.stderr, done.stderr
        assert b.n_vars == 0
        expected = expected[:, :0].copy()
        expected.var = b.var
    # Lists of a Parquet file do not say of which width the object's `indptr` was.
    check_equal(str(shared_object), b, expected, sliced=True)


def test_metadata_that_lies_is_named(annfusion, tmp_path):
    source, parquet = tmp_path / "a.h5ad", tmp_path / "a.parquet"
    make(source, sp.random(50, 20, 0.3, format="csr", dtype="f4", random_state=0))
    to_parquet(annfusion, source, parquet)
    table = pq.read_table(parquet)
    metadata = {k: v for k, v in pq.read_metadata(parquet).metadata.items() if k != b"ARROW:schema"}
    keys = [k for k in metadata if k.startswith(b"annfusion.var.")]
    for wrong in (b"!", b"AAAA", metadata[keys[0]][:400]):
        damaged = table.replace_schema_metadata({**metadata, keys[0]: wrong})
        path = tmp_path / "broken.parquet"
        pq.write_table(damaged, path)
        done = from_parquet_unchecked(annfusion, path)
        assert done.returncode == 1 and "annfusion.var." in done.stderr, done.stderr
        path.unlink()


def from_parquet_unchecked(annfusion, path):
    sql = f"CREATE EXTERNAL TABLE p STORED AS PARQUET LOCATION '{path}'; SELECT count(*) FROM p"
    return annfusion("query", sql, check=False)


def of_genes(path, genes, n=4):
    a = anndata.AnnData(sp.csr_matrix(np.arange(1, n * len(genes) + 1, dtype="f4").reshape(n, -1)))
    a.obs_names, a.var_names = [f"{path.stem}{i}" for i in range(n)], genes
    a.var["symbol"] = [gene.upper() for gene in genes]
    a.uns["about"] = "text"
    a.write_h5ad(path)
    return a


def test_a_union_over_other_genes_is_refused(annfusion, tmp_path):
    of_genes(tmp_path / "a.h5ad", ["g0", "g1", "g2"])
    of_genes(tmp_path / "b.h5ad", ["g2", "g1", "g0"])
    union = " UNION ALL ".join(f"SELECT obs_names, X FROM read_anndata('{tmp_path}/{name}.h5ad')" for name in "ab")
    done = annfusion("query", f"COPY ({union}) TO '{tmp_path}/u.parquet'", check=False)
    assert done.returncode == 1 and "genes" in done.stderr and "a.h5ad" in done.stderr, done.stderr
    assert not (tmp_path / "u.parquet").exists()


@pytest.mark.parametrize("strategy, columns", [("first", ["symbol"]), (None, [])])
def test_a_merge_takes_its_own_genes_along(annfusion, tmp_path, strategy, columns):
    parts = [of_genes(tmp_path / "a.h5ad", ["g0", "g1", "g2"]), of_genes(tmp_path / "b.h5ad", ["g2", "g3"])]
    options = "{'join': 'outer'" + (f", 'merge': '{strategy}', 'uns_merge': '{strategy}'" if strategy else "") + "}"
    select = f"SELECT * FROM merge('{tmp_path}/a.h5ad', '{tmp_path}/b.h5ad', {options})"
    done = annfusion("query", f"COPY ({select}) TO '{tmp_path}/m.parquet'")
    assert "uns" in done.stderr, done.stderr
    from_parquet(annfusion, tmp_path / "m.parquet", tmp_path / "m.h5ad")
    actual, expected = objects.read(tmp_path / "m.h5ad"), anndata.concat(parts, join="outer", merge=strategy)
    assert list(actual.var_names) == list(expected.var_names) and list(actual.var.columns) == columns
    for column in columns:
        assert list(actual.var[column]) == list(expected.var[column])
    assert (actual.X != expected.X).nnz == 0


def test_a_query_takes_genes_along(annfusion, tmp_path):
    a = of_genes(tmp_path / "a.h5ad", ["g0", "g1", "g2"])
    annfusion("query", tmp_path / "a.h5ad", "SELECT obs_names, X FROM cells", "-o", tmp_path / "q.parquet")
    sql = f"CREATE EXTERNAL TABLE p STORED AS PARQUET LOCATION '{tmp_path}/q.parquet'; SELECT sum(gene(X, 'g1')) AS s FROM p"
    done = annfusion("query", sql, "--format", "csv")
    assert float(done.stdout.split()[-1]) == a[:, "g1"].X.sum()


@pytest.mark.parametrize("length", [-1, 1 << 62, 1 << 20])
def test_metadata_that_claims_is_refused(annfusion, tmp_path, length):
    source, parquet = tmp_path / "a.h5ad", tmp_path / "a.parquet"
    of_genes(source, ["g0", "g1", "g2"])
    to_parquet(annfusion, source, parquet)
    metadata = {k: v for k, v in pq.read_metadata(parquet).metadata.items() if k != b"ARROW:schema"}
    key = next(k for k in metadata if k.startswith(b"annfusion.var."))
    stream = bytearray(base64.b64decode(metadata[key]))
    # The length of the first record batch's body, a multiple of 8 that stands in its message.
    schema = 8 + int.from_bytes(stream[4:8], "little")
    message = schema + 8
    size = int.from_bytes(stream[schema + 4 : message], "little")
    body = len(stream) - (message + size) - 8
    at = stream.index(body.to_bytes(8, "little"), message, message + size)
    stream[at : at + 8] = length.to_bytes(8, "little", signed=True)
    damaged = pq.read_table(parquet).replace_schema_metadata({**metadata, key: base64.b64encode(stream)})
    pq.write_table(damaged, tmp_path / "b.parquet")
    done = from_parquet_unchecked(annfusion, tmp_path / "b.parquet")
    assert done.returncode == 1 and "b.parquet" in done.stderr and "claimed" in done.stderr, done.stderr
