"""What the queries of `sql/guide`, `sql/element` and `sql/plan` answer, computed in Python.

`ANSWERS` has a computation for every query of a file. It is given the object that the file opens,
or, where there are several, all of them by schema. Nothing here asks our program.
"""

import json

import numpy as np
import pandas as pd
import scipy.sparse as sp

from shuffle_order import order
from test_query import tables_of

# What SQL's tables and functions are.


def csr(value):
    return sp.csr_matrix(value)


def total_counts(value):
    """Summed in double precision as in SQL; scanpy sums in the precision of the matrix."""
    return np.asarray(csr(value).astype(np.float64).sum(axis=1)).ravel()


def n_genes(value):
    return csr(value).count_nonzero(axis=1)


def gene(a, name):
    return np.asarray(csr(a[:, name].X).todense()).ravel()


def cells(a):
    """obs with what queries ask of X."""
    return a.obs.assign(total=total_counts(a.X), n=n_genes(a.X), obs_names=a.obs_names.astype(str))


def of_type(a, name):
    return cells(a)[a.obs["cell_type"] == name]


def coo(a):
    """The stored entries of X, row by row."""
    entries = csr(a.X).tocoo()
    return pd.DataFrame(
        {
            "obs_idx": entries.row,
            "obs_names": a.obs_names.to_numpy(str)[entries.row],
            "var_idx": entries.col,
            "var_names": a.var_names.to_numpy(str)[entries.col],
            "value": entries.data,
        }
    )


def sizes(key):
    """Values of a column and how often each is there, the most frequent first."""
    return [(k, n) for k, n in key.value_counts().items() if n]


def first_rows(frame, n):
    """The first rows of obs or var as its table has them: position, name, columns."""
    columns = [plain(frame[name]) for name in frame.columns]
    return list(zip(range(n), frame.index, *columns))


def plain(series):
    """A column's values in its own type, with None for nulls. NaN in a column of floats is a number."""
    if isinstance(series.dtype, np.dtype):
        return list(series.to_numpy())
    return [None if pd.isna(v) else v for v in series]


def entries_of(a, i, names):
    """The stored entries of a cell among some genes, in the order of var."""
    row = coo(a[i : i + 1, a.var_names.isin(names)])
    return list(zip([i] * len(row), row["var_names"], row["value"]))


def row_entries(value, row):
    """A row of a sparse matrix as `cells` has it."""
    value = csr(value)[row]
    return [{"indices": i, "data": d} for i, d in zip(value.indices, value.data)]


def pairs(value, n, row=None):
    """The first stored entries of obsp or varp, of one row if it is given."""
    entries = csr(value).tocoo()
    found = zip(entries.row, entries.col, entries.data)
    return [entry for entry in found if row in (None, entry[0])][:n]


def summary(a):
    return int(n_genes(a.X).sum()), total_counts(a.X).sum(), total_counts(a.X).max()


def entries_summary(a):
    return len(coo(a)), coo(a)["value"].astype(np.float64).sum(), int(coo(a)["var_idx"].max())


def scanpy_metrics(a, n):
    import scanpy

    # A copy, because scanpy removes stored zeros.
    metrics, _ = scanpy.pp.calculate_qc_metrics(a.copy(), percent_top=None, log1p=False)
    return list(zip(range(n), metrics["n_genes_by_counts"][:n], metrics["total_counts"][:n]))


def deepest(a, n):
    top = cells(a).sort_values(["total", "obs_names"], ascending=[False, True])[:n]
    return list(zip(top["obs_names"], top["total"], top["n"]))


def top_genes(a, n):
    sums = coo(a).groupby("var_names")["value"].sum().reset_index()
    top = sums.sort_values(["value", "var_names"], ascending=[False, True])[:n]
    return list(top.itertuples(index=False, name=None))


def widest_genes(a, n):
    counts = coo(a[:, a.var["highly_variable"]]).groupby("var_names").size().reset_index(name="n")
    top = counts.sort_values(["n", "var_names"], ascending=[False, True])[:n]
    return list(top.itertuples(index=False, name=None))


def mean_by_type(a, name, digits):
    means = pd.Series(gene(a, name).astype(np.float64)).groupby(a.obs["cell_type"].to_numpy()).mean()
    return [(k, round(v, digits)) for k, v in means.sort_values(ascending=False).items()]


def b_cells(a):
    return a[(a.obs["cell_type"] == "B") & (total_counts(a.X) > 40)]


def counts_of_b(a):
    return a[a.obs["cell_type"] == "B"].X.sum(dtype=np.float64)


def positions(a, mask):
    return [int(i) for i in np.flatnonzero(mask(np.arange(a.n_obs)))]


def twice(value):
    return value, value


def counted(n):
    """The plan of a count that is known without reading."""
    return ["physical_plan", f"ProjectionExec: expr=[{n} as count(*)]", "PlaceholderRowExec"]


# What tables and columns there are.

ARROW = {"bool": "Boolean", "uint8": "UInt8"} | {
    f"{kind}{bits}": f"{kind.capitalize()}{bits}" for kind in ("int", "float") for bits in (32, 64)
}


def column_type(series):
    """The type of a column, and whether it can have nulls."""
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return f"Dictionary(Int32, {column_type(dtype.categories)[0]})", "YES"
    if isinstance(dtype, np.dtype) and dtype.kind != "O":
        # Real numbers have a value that is missing: NaN.
        return ARROW[dtype.name], "YES" if dtype.kind == "f" else "NO"
    return ARROW.get(str(dtype).lower().replace("boolean", "bool"), "Utf8"), "YES"


def matrix_type(value):
    if isinstance(value, pd.DataFrame):
        return 'Struct("obs_names":', "..."
    if type(value).__module__.startswith("awkward"):
        return "Utf8", "YES"
    item = f"non-null {ARROW[value.dtype.name]}"
    if sp.issparse(value):
        return f'List(non-null Struct("indices": non-null Int32, "data": {item}))', "NO"
    return f"FixedSizeList({value.shape[1]} x {item})", "NO"


def obs_columns(a):
    own = [("obs_idx", "Int64", "NO"), ("obs_names", "Utf8", "NO")]
    return own + [(name, *column_type(a.obs[name])) for name in a.obs.columns]


def cells_columns(a):
    layers = {f"layers_{name}": a.layers[name] for name in a.layers if name is not None}
    obsm = {f"obsm_{name}": a.obsm[name] for name in a.obsm}
    aligned = {"X": a.X} | dict(sorted(layers.items())) | dict(sorted(obsm.items()))
    if a.raw is not None:
        aligned["raw_X"] = a.raw.X
    return obs_columns(a) + [(name, *matrix_type(value)) for name, value in aligned.items()]


def tables(a):
    """The names of the object's tables, by what anndata reads."""
    return sorted(tables_of(a))


def element_rows(a):
    """X, two columns of obs and an embedding, as `elements` has them."""
    return [
        ("X", "csr_matrix", a.X.dtype),
        ("obs/cell_type", "categorical", a.obs["cell_type"].dtype),
        ("obs/donor_age", "nullable-integer", a.obs["donor_age"].dtype.numpy_dtype),
        ("obsm/X_pca", "array", a.obsm["X_pca"].dtype),
    ]


def without_nulls(columns):
    return [column[:2] for column in columns]


# uns.


def uns_rows(value, path=""):
    """A row per leaf: path, encoding, value as JSON (empty where that is not compared)."""
    if isinstance(value, dict):
        children = [uns_rows(child, f"{path}/{name}" if path else name) for name, child in value.items()]
        return sorted(leaf for child in children for leaf in child)
    encoding = uns_encoding(value)
    if encoding in ("array", "string-array"):
        return [(path, encoding, compact(value.tolist()))]
    scalar = encoding in ("numeric-scalar", "string") and not isinstance(value, complex)
    return [(path, encoding, compact(value) if scalar else "")]


def uns_encoding(value):
    if value is None:
        return "null"
    if isinstance(value, str):
        return "string"
    if isinstance(value, np.ndarray):
        return "rec-array" if value.dtype.names else "string-array" if value.dtype.kind == "O" else "array"
    return "dataframe" if isinstance(value, pd.DataFrame) else "numeric-scalar"


def compact(value):
    return json.dumps(value, separators=(",", ":"))


# File, query, answer. Plans are left out but where they hold a count.

ANSWERS = {
    "guide/01_opening": {
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'demo' ORDER BY table_name":
            tables,
        "SELECT count(*) FROM cells":
            lambda a: a.n_obs,
        "SELECT count(*) FROM demo.obs":
            lambda a: a.n_obs,
        "SELECT path, encoding_type, dtype FROM elements WHERE path IN ('X', 'obs/cell_type', 'obs/donor_age', 'obsm/X_pca') ORDER BY path":
            element_rows,
        "SELECT count(*) FROM again.obs":
            lambda a: a.n_obs,
        "SELECT count(*) FROM read_anndata('$FILE(demo)')":
            lambda a: a.n_obs,
        "SELECT count(*) FROM read_anndata('$FILE(demo)', 'var')":
            lambda a: a.n_vars,
        "SELECT count(*) FROM kept":
            lambda a: a.n_obs,
    },
    "guide/02_obs_and_var": {
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_schema = 'demo' AND table_name = 'obs' ORDER BY ordinal_position":
            obs_columns,
        "SELECT obs_idx, cell_type, donor FROM obs WHERE obs_idx < 4 ORDER BY obs_idx":
            lambda a: [(i, a.obs["cell_type"].iloc[i], a.obs["donor"].iloc[i]) for i in range(4)],
        "SELECT cell_type, count(*) AS cells FROM obs GROUP BY cell_type ORDER BY cells DESC":
            lambda a: sizes(a.obs["cell_type"]),
        "SELECT count(*) FROM obs WHERE cell_type IN ('B', 'CD4 T') AND NOT is_doublet":
            lambda a: (a.obs["cell_type"].isin(["B", "CD4 T"]) & ~a.obs["is_doublet"]).sum(),
        "SELECT count(*), count(donor_age) FROM obs":
            lambda a: (a.n_obs, a.obs["donor_age"].count()),
        "SELECT var_idx, var_names, gene_ids, highly_variable FROM var ORDER BY var_idx LIMIT 3":
            lambda a: first_rows(a.var[["gene_ids", "highly_variable"]], 3),
        "SELECT count(*) FROM obs WHERE S_score > 0":
            lambda a: (a.obs["S_score"] > 0).sum(),
        "SELECT path, encoding_type, value FROM uns ORDER BY path":
            lambda a: uns_rows(dict(a.uns)),
    },
    "guide/03_the_matrix": {
        "SELECT obs_idx, cell_type, gene(X, 'LYZ') AS lyz FROM cells WHERE obs_idx < 5 ORDER BY obs_idx":
            lambda a: list(zip(range(5), a.obs["cell_type"], gene(a, "LYZ"))),
        "SELECT cell_type, round(avg(gene(X, 'MS4A1')), 3) AS ms4a1 FROM cells GROUP BY cell_type ORDER BY ms4a1 DESC":
            lambda a: mean_by_type(a, "MS4A1", 3),
        "SELECT obs_idx, n_genes(X), total_counts(X) FROM cells ORDER BY obs_idx LIMIT 3":
            lambda a: scanpy_metrics(a, 3),
        "SELECT count(*) FROM cells WHERE total_counts(X) > 60 AND cell_type = 'B'":
            lambda a: ((total_counts(a.X) > 60) & (a.obs["cell_type"] == "B")).sum(),
        "SELECT obs_idx, var_names, value FROM X_coo WHERE obs_idx = 3 AND var_names IN ('CD3D', 'LYZ', 'CD14') ORDER BY var_idx":
            lambda a: entries_of(a, 3, ["CD3D", "LYZ", "CD14"]),
        "SELECT count(*), sum(value) FROM X_coo":
            lambda a: (a.X.nnz, a.X.sum(dtype=np.float64)),
        "SELECT var_names, sum(value) AS counts FROM X_coo GROUP BY var_names ORDER BY counts DESC, var_names LIMIT 3":
            lambda a: top_genes(a, 3),
        "SELECT round(CAST(obsm_X_pca[1] AS DOUBLE), 3) FROM cells ORDER BY obs_idx LIMIT 2":
            lambda a: [round(float(v), 3) for v in a.obsm["X_pca"][:2, 0]],
    },
    "guide/04_writing": {
        "COPY (SELECT * FROM cells WHERE cell_type = 'B' AND total_counts(X) > 40) TO '$OUT/b.h5ad' STORED AS H5AD":
            lambda a: b_cells(a).n_obs,
        "SELECT count(*) FROM read_anndata('$OUT/b.h5ad')":
            lambda a: b_cells(a).n_obs,
        "SELECT count(*) FROM read_anndata('$OUT/b.h5ad', 'var')":
            lambda a: b_cells(a).n_vars,
        "SELECT cell_type, count(*) FROM read_anndata('$OUT/b.h5ad') GROUP BY cell_type":
            lambda a: sizes(b_cells(a).obs["cell_type"]),
        "COPY (SELECT *, total_counts(X) > 60 AS deep FROM cells) TO '$OUT/more.h5ad' STORED AS H5AD":
            lambda a: a.n_obs,
        "SELECT deep, count(*) FROM read_anndata('$OUT/more.h5ad', 'obs') GROUP BY deep ORDER BY deep":
            lambda a: sorted(sizes(pd.Series(total_counts(a.X) > 60))),
        "COPY (SELECT * FROM cells) TO '$OUT/small.h5ad' STORED AS H5AD OPTIONS ('h5ad.compression' 'gzip')":
            lambda a: a.n_obs,
        "COPY (SELECT * FROM cells) TO '$OUT/small.zarr' STORED AS ZARR OPTIONS ('zarr.compression' 'blosc-lz4', 'zarr.chunk_size' '64', 'zarr.shard_size' '128')":
            lambda a: a.n_obs,
        "SELECT sum(total_counts(X)) FROM read_anndata('$OUT/small.zarr')":
            lambda a: float(a.X.sum()),
        "COPY (SELECT * FROM read_anndata('$OUT/small.zarr') WHERE cell_type = 'B') TO '$OUT/b2.zarr' STORED AS ZARR OPTIONS ('zarr.version' '2')":
            lambda a: int((a.obs["cell_type"] == "B").sum()),
        "COPY (SELECT * FROM cells) TO '$OUT/by_type' STORED AS H5AD PARTITIONED BY (cell_type)":
            lambda a: a.n_obs,
    },
    "guide/07_parquet": {
        "COPY (SELECT * FROM cells) TO '$OUT/cells.parquet'":
            lambda a: a.n_obs,
        "SELECT sum(total_counts(X)) FROM p":
            lambda a: float(a.X.sum()),
        "SELECT sum(gene(X, 'CCR7')) FROM p":
            lambda a: float(gene(a, "CCR7").sum()),
        "COPY (SELECT * FROM p WHERE cell_type = 'B') TO '$OUT/of_parquet.h5ad' STORED AS H5AD":
            lambda a: int((a.obs["cell_type"] == "B").sum()),
        "SELECT count(*) FROM read_anndata('$OUT/of_parquet.h5ad', 'var')":
            lambda a: a.n_vars,
    },
    "guide/08_collections": {
        "COPY (SELECT * FROM cells WHERE obs_idx < 100) TO '$OUT/dataset_0.zarr' STORED AS ZARR":
            lambda a: 100,
        "COPY (SELECT * FROM cells WHERE obs_idx >= 100) TO '$OUT/dataset_1.h5ad' STORED AS H5AD":
            lambda a: a.n_obs - 100,
        "SELECT count(*) FROM read_anndata('$OUT')":
            lambda a: a.n_obs,
        "SELECT cell_type, count(*) FROM read_anndata('$OUT/dataset_*', 'obs') WHERE obs_idx >= 50 GROUP BY cell_type ORDER BY cell_type":
            lambda a: sorted(sizes(a.obs["cell_type"][50:])),
        "SELECT sum(total_counts(X)) FROM read_anndata('$OUT') WHERE obs_idx BETWEEN 90 AND 109":
            lambda a: float(a.X[90:110].sum()),
        "COPY (SELECT * FROM read_anndata('$OUT')) TO '$OUT/whole.h5ad' STORED AS H5AD":
            lambda a: a.n_obs,
    },
    "guide/05_shuffle": {
        "SELECT obs_idx FROM shuffle('cells', 42) LIMIT 4":
            lambda a: order(42, a.n_obs)[:4],
        "SELECT obs_idx FROM shuffle('cells', 43) LIMIT 4":
            lambda a: order(43, a.n_obs)[:4],
        "SELECT count(*), count(DISTINCT obs_idx) FROM shuffle('cells', 42)":
            lambda a: (a.n_obs, a.n_obs),
        "SELECT obs_idx, total_counts(X) FROM shuffle('cells', 42) WHERE cell_type = 'B' LIMIT 3":
            lambda a: [(i, total_counts(a.X)[i]) for i in order(42, a.n_obs) if a.obs["cell_type"].iloc[i] == "B"][:3],
        "COPY (SELECT * FROM shuffle('cells', 42)) TO '$OUT/shuffled.h5ad' STORED AS H5AD":
            lambda a: a.n_obs,
        "SELECT obs_names FROM read_anndata('$OUT/shuffled.h5ad', 'obs') LIMIT 2":
            lambda a: list(a.obs_names[order(42, a.n_obs)[:2]]),
        "COPY (SELECT * FROM cells WHERE obs_idx < 150) TO '$OUT/a.h5ad' STORED AS H5AD":
            lambda a: 150,
        "COPY (SELECT * FROM cells WHERE obs_idx >= 150) TO '$OUT/b.h5ad' STORED AS H5AD":
            lambda a: a.n_obs - 150,
        "SELECT obs_names FROM shuffle('$OUT/a.h5ad', '$OUT/b.h5ad', 42) LIMIT 2":
            lambda a: list(a.obs_names[order(42, a.n_obs)[:2]]),
        "SELECT obs_idx FROM shuffle('b_cells', 42) LIMIT 3":
            lambda a: [int(np.flatnonzero(a.obs["cell_type"] == "B")[i]) for i in order(42, int((a.obs["cell_type"] == "B").sum()))[:3]],
    },
    "element/encodings": {
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = 'cells' ORDER BY ordinal_position":
            cells_columns,
        "SELECT * FROM obs LIMIT 3":
            lambda a: first_rows(a.obs, 3),
        "SELECT * FROM var LIMIT 2":
            lambda a: first_rows(a.var, 2),
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'p3' ORDER BY table_name":
            tables,
        "SELECT * FROM obsm_awk LIMIT 2":
            lambda a: [(i, a.obs_names[i], compact(a.obsm["awk"][i].to_list())) for i in range(2)],
        "SELECT * FROM obsm_df LIMIT 2":
            lambda a: first_rows(a.obsm["df"], 2),
        "SELECT path, encoding_type FROM uns ORDER BY path":
            lambda a: [leaf[:2] for leaf in uns_rows(dict(a.uns))],
    },
    "element/matrices": {
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'csr' AND table_name = 'cells' ORDER BY ordinal_position":
            lambda o: without_nulls(cells_columns(o.csr)),
        "SELECT X FROM csr.cells LIMIT 1":
            lambda o: [(row_entries(o.csr.X, 0),)],
        "SELECT X FROM dense.cells LIMIT 2":
            lambda o: [(row,) for row in o.dense.X[:2]],
        "SELECT X FROM csc.cells LIMIT 2":
            lambda o: [(row_entries(o.csc.X, i),) for i in range(2)],
        "SELECT sum(n_genes(X)), sum(total_counts(X)), max(total_counts(X)) FROM csr.cells":
            lambda o: summary(o.csr),
        "SELECT sum(n_genes(X)), sum(total_counts(X)), max(total_counts(X)) FROM csc.cells":
            lambda o: summary(o.csc),
        "SELECT sum(n_genes(X)), sum(total_counts(X)), max(total_counts(X)) FROM dense.cells":
            lambda o: summary(o.dense),
        "SELECT count(*), sum(value), max(var_idx) FROM csc.X_coo":
            lambda o: entries_summary(o.csc),
        "SELECT count(*), sum(value), max(var_idx) FROM dense.X_coo":
            lambda o: entries_summary(o.dense),
        "SELECT * FROM dense.X_coo WHERE obs_idx = 1 AND var_idx IN (2, 3)":
            lambda o: [(1, o.dense.obs_names[1], j, o.dense.var_names[j], o.dense.X[1, j]) for j in (2, 3)],
        "SELECT (SELECT count(*) FROM dense.var) AS n_vars, (SELECT count(*) FROM dense.raw_var) AS n_raw":
            lambda o: (o.dense.n_vars, o.dense.raw.n_vars),
        "SELECT sum(total_counts(raw_X)) FROM dense.cells":
            lambda o: total_counts(o.dense.raw.X).sum(),
        "SELECT * FROM csr.obsm_X_umap LIMIT 2":
            lambda o: [(i, o.csr.obs_names[i], o.csr.obsm["X_umap"][i]) for i in range(2)],
        "SELECT * FROM csr.obsp_connectivities LIMIT 3":
            lambda o: pairs(o.csr.obsp["connectivities"], 3),
        "SELECT * FROM pairs.varp_correlations WHERE row_idx = 1 LIMIT 3":
            lambda o: pairs(o.pairs.varp["correlations"], 3, row=1),
    },
    "element/names": {
        'SELECT nCount_RNA, "RNA_snn_res.0.8" FROM obs LIMIT 2':
            lambda a: list(zip(a.obs["nCount_RNA"][:2], a.obs["RNA_snn_res.0.8"][:2])),
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'var' ORDER BY ordinal_position":
            lambda a: ["var_idx", "var_names", *a.var.columns,],
    },
    "element/obs_columns": {
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'obs' ORDER BY ordinal_position":
            lambda a: without_nulls(obs_columns(a)),
        "SELECT * FROM obs LIMIT 3":
            lambda a: first_rows(a.obs, 3),
        "SELECT * FROM var LIMIT 3":
            lambda a: first_rows(a.var, 3),
        "SELECT cell_type, count(*) FROM obs GROUP BY cell_type ORDER BY 1":
            lambda a: sorted(sizes(a.obs["cell_type"])),
    },
    "element/zarr": {
        'SELECT count(*), sum(value) FROM v2."X_coo"':
            lambda o: [(o.v2.X.nnz, o.v2.X.sum(dtype=np.float64))],
        'SELECT count(*), sum(value) FROM v3."X_coo"':
            lambda o: [(o.v3.X.nnz, o.v3.X.sum(dtype=np.float64))],
        "SELECT obs_names FROM v3.cells WHERE obs_idx % 2 = 1":
            lambda o: list(o.v3.obs_names[1::2]),
        "SELECT count(*) FROM genes":
            lambda o: o.v3.n_vars,
    },
    "element/uns": {
        "SELECT path, encoding_type, left(value, 60) FROM uns ORDER BY path LIMIT 12":
            lambda a: [(path, encoding, value[:60]) for path, encoding, value in uns_rows(dict(a.uns))[:12]],
        "SELECT value FROM uns WHERE path = 'dataset_name'":
            lambda a: compact(a.uns["dataset_name"]),
    },
    "guide/06_merge": {
        "COPY (SELECT * FROM cells) TO '$OUT/by' STORED AS H5AD PARTITIONED BY (cell_type)":
            lambda a: a.n_obs,
        "COPY (SELECT *, total_counts(X) AS depth FROM cells WHERE cell_type = 'B') TO '$OUT/deep.h5ad' STORED AS H5AD":
            lambda a: len(of_type(a, "B")),
        "SELECT count(*), max(obs_idx) FROM merge('$OUT/by_*.h5ad')":
            lambda a: [(a.n_obs, a.n_obs - 1)],
        "SELECT cell_type, sum(total_counts(X)) FROM merge('$OUT/by_*.h5ad') GROUP BY cell_type ORDER BY cell_type":
            lambda a: sorted((k, f["total"].sum()) for k, f in cells(a).groupby("cell_type", observed=True)),
        "SELECT batch_of, count(*), count(depth) FROM merge('$OUT/by_B.h5ad', '$OUT/deep.h5ad', {'join': 'outer', 'label': 'batch_of', 'keys': ['plain', 'deep'], 'index_unique': '-'}) GROUP BY batch_of ORDER BY batch_of":
            lambda a: [("deep", *twice(len(of_type(a, "B")))), ("plain", len(of_type(a, "B")), 0)],
        "SELECT obs_names FROM merge('$OUT/by_B.h5ad', '$OUT/deep.h5ad', {'keys': ['plain', 'deep'], 'index_unique': '-'}) WHERE obs_idx IN (0, 66) ORDER BY obs_idx":
            lambda a: [f"{of_type(a, 'B').index[0]}-{key}" for key in ("plain", "deep")],
        "COPY (SELECT * FROM merge('$OUT/by_*.h5ad', {'merge': 'same', 'uns_merge': 'same'})) TO '$OUT/all.h5ad' STORED AS H5AD":
            lambda a: a.n_obs,
        "SELECT count(*) FROM read_anndata('$OUT/all.h5ad', 'var')":
            lambda a: a.n_vars,
        "SELECT cell_type, count(*) FROM read_anndata('$OUT/all.h5ad', 'obs') GROUP BY cell_type ORDER BY cell_type":
            lambda a: sorted(sizes(a.obs["cell_type"])),
        "SELECT count(*) FROM merge('$OUT/by_*.h5ad') WHERE cell_type = 'B' AND total_counts(X) > 40":
            lambda a: (of_type(a, "B")["total"] > 40).sum(),
    },
    "plan/merge": {
        "COPY (SELECT * FROM cells WHERE cell_type = 'B') TO '$OUT/b.h5ad' STORED AS H5AD":
            lambda a: len(of_type(a, "B")),
        "COPY (SELECT * FROM cells WHERE cell_type <> 'B') TO '$OUT/other.h5ad' STORED AS H5AD":
            lambda a: a.n_obs - len(of_type(a, "B")),
    },
    "plan/pushdown": {
        "EXPLAIN SELECT count(*) FROM cells":
            lambda a: counted(a.n_obs),
        "EXPLAIN SELECT count(*) FROM X_coo":
            lambda a: counted(a.X.nnz),
    },
    "plan/rows": {
        "SELECT count(*) FROM (SELECT * FROM obs LIMIT 100) c JOIN (VALUES (50), (150), (250)) d (at) ON c.obs_idx = d.at":
            lambda a: np.isin(np.arange(a.n_obs)[:100], [50, 150, 250]).sum(),
        "SELECT count(*) FROM (SELECT * FROM cells WHERE obs_idx >= 10 AND obs_names <> '' LIMIT 100) c JOIN (VALUES (50), (109), (110)) d (at) ON c.obs_idx = d.at":
            lambda a: np.isin(np.arange(a.n_obs)[10:110], [50, 109, 110]).sum(),
        "SELECT count(*) FROM (SELECT * FROM X_coo LIMIT 100) c JOIN (VALUES (0), (299)) d (at) ON c.obs_idx = d.at WHERE c.obs_idx = 299":
            lambda a: (coo(a)["obs_idx"][:100] == 299).sum(),
        "SELECT count(DISTINCT obs_idx) FROM (SELECT * FROM X_coo WHERE value > 0 LIMIT 100) c JOIN (VALUES (100), (299)) d (at) ON c.obs_idx = d.at":
            lambda a: coo(a).query("value > 0")["obs_idx"][:100].isin([100, 299]).sum(),
        "SELECT obs_idx FROM (SELECT obs_idx FROM obs LIMIT 20) ORDER BY obs_idx DESC LIMIT 2":
            lambda a: positions(a, lambda i: i < 20)[:-3:-1],
        "SELECT obs_idx FROM obs WHERE obs_idx BETWEEN 3 AND 5":
            lambda a: positions(a, lambda i: (i >= 3) & (i <= 5)),
        "SELECT obs_idx FROM obs WHERE obs_idx IN (7, 299, 300, -1) OR obs_idx = 2":
            lambda a: positions(a, lambda i: np.isin(i, [7, 299, 300, -1]) | (i == 2)),
        "SELECT count(*) FROM obs WHERE obs_idx >= 290 AND obs_idx <> 295":
            lambda a: len(positions(a, lambda i: (i >= 290) & (i != 295))),
        "SELECT count(*) FROM obs WHERE obs_idx < -5":
            lambda a: len(positions(a, lambda i: i < -5)),
        "SELECT count(*), (SELECT sum(CASE WHEN n_genes(X) > 40 AND cell_type = 'B' THEN 1 ELSE 0 END) FROM cells) FROM cells WHERE n_genes(X) > 40 AND cell_type = 'B'":
            lambda a: twice(((n_genes(a.X) > 40) & (a.obs["cell_type"] == "B")).sum()),
        "SELECT count(*), (SELECT sum(CASE WHEN donor_age IS NULL THEN 1 ELSE 0 END) FROM obs) FROM cells WHERE donor_age IS NULL AND X IS NOT NULL":
            lambda a: twice(a.obs["donor_age"].isna().sum()),
        "SELECT count(*) FROM cells WHERE array_length(X) > 40":
            lambda a: (np.diff(a.X.indptr) > 40).sum(),
        "SELECT count(*) FROM cells WHERE n_genes(X) > 40":
            lambda a: (n_genes(a.X) > 40).sum(),
        "SELECT count(*) FROM obs WHERE random() >= 0":
            lambda a: a.n_obs,
        "SELECT count(*) FROM obs WHERE false":
            lambda a: 0,
        "SELECT obs_idx FROM cells WHERE obs_idx > 10 LIMIT 2 OFFSET 3":
            lambda a: positions(a, lambda i: i > 10)[3:5],
        "SELECT obs_names, total_counts(X) AS total, n_genes(X) FROM cells ORDER BY total DESC, obs_names LIMIT 3":
            lambda a: deepest(a, 3),
        "SELECT * FROM (SELECT obs_names, total_counts(X) AS total, n_genes(X), row_number() OVER (ORDER BY total_counts(X) DESC, obs_names) AS r FROM cells) WHERE r <= 3 ORDER BY r":
            lambda a: [(*row, r) for r, row in enumerate(deepest(a, 3), start=1)],
        "SELECT sum(value), (SELECT sum(total_counts(X)) FROM cells) FROM X_coo":
            lambda a: twice(a.X.sum(dtype=np.float64)),
        "SELECT sum(value), (SELECT sum(gene(X, 'CD3D')) FROM cells) FROM X_coo WHERE var_names = 'CD3D'":
            lambda a: twice(gene(a, "CD3D").sum()),
        "SELECT obs_idx, value FROM X_coo WHERE var_names IN ('CD3D', 'CD3E') AND obs_idx < 20 ORDER BY obs_idx, value":
            lambda a: sorted((i, v) for name in ("CD3D", "CD3E") for i, v in enumerate(gene(a, name)[:20]) if v),
        "SELECT count(*) FROM X_coo WHERE var_idx < 10 AND value > 2 AND obs_names LIKE 'A%'":
            lambda a: (a[a.obs_names.str.startswith("A"), :10].X > 2).sum(),
        "SELECT count(*) FROM X_coo WHERE var_names = 'NO SUCH GENE'":
            lambda a: (coo(a)["var_names"] == "NO SUCH GENE").sum(),
        "SELECT v.var_names, count(*) AS n FROM X_coo e JOIN var v ON e.var_idx = v.var_idx WHERE v.highly_variable GROUP BY v.var_names ORDER BY n DESC, v.var_names LIMIT 3":
            lambda a: widest_genes(a, 3),
        "SELECT count(*) FROM cells c JOIN obs o ON c.obs_names = o.obs_names":
            lambda a: len(cells(a).merge(cells(a), on="obs_names")),
        "SELECT sum(total_counts(X)) FROM (SELECT X FROM cells UNION ALL SELECT X FROM cells)":
            lambda a: 2 * a.X.sum(dtype=np.float64),
        "SELECT sum(t) FROM (SELECT total_counts(X) AS t, X FROM (SELECT X, obs_names FROM cells ORDER BY obs_names DESC))":
            lambda a: a.X.sum(dtype=np.float64),
        "SELECT sum(total_counts(a.X)) FROM cells a JOIN (SELECT obs_idx FROM obs WHERE cell_type = 'B') b ON a.obs_idx = b.obs_idx":
            counts_of_b,
        "SELECT sum(total_counts(X)) FROM cells WHERE cell_type = 'B'":
            counts_of_b,
        "SELECT count(*) FROM (SELECT * FROM cells LIMIT 7)":
            lambda a: a[:7].n_obs,
        "SELECT count(*) FROM (SELECT obs_names FROM cells WHERE cell_type = 'B' LIMIT 7)":
            lambda a: a[a.obs["cell_type"] == "B"][:7].n_obs,
    },
}
