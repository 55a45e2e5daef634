"""`filter --where` keeps what the same mask keeps in Python; genes at once; columns as annslicer reads them."""

import anndata
import numpy as np
import pandas as pd
import pytest

import objects
from oracle import check_equal

EXPRESSIONS = [
    ("cell_type = 'B'", lambda a: a.obs["cell_type"] == "B"),
    ("cell_type IN ('B', 'NK') AND n_counts > 100", lambda a: a.obs["cell_type"].isin(["B", "NK"]) & (a.obs["n_counts"] > 100)),
    ("total_counts(X) > 120", lambda a: sums(a) > 120),
    (
        "cell_type = 'B' and total_counts(X) > 80 and S_score is not null",
        lambda a: (a.obs["cell_type"] == "B") & (sums(a) > 80) & a.obs["S_score"].notna(),
    ),
    ("n_genes(X) BETWEEN 40 AND 60", lambda a: np.isin(np.diff(a.X.indptr), range(40, 61))),
    ("gene(X, 'LYZ') > 0 OR is_doublet", lambda a: (column(a, "LYZ") > 0) | a.obs["is_doublet"].to_numpy()),
    ("donor_age IS NULL", lambda a: a.obs["donor_age"].isna()),
    ("donor_age > 40 AND NOT is_doublet", lambda a: (a.obs["donor_age"] > 40).fillna(False) & ~a.obs["is_doublet"]),
    ("obs_idx % 7 = 0", lambda a: np.arange(a.n_obs) % 7 == 0),
    ("pct_mito < 5 AND gene(X, 'CD3D') = 0", lambda a: (a.obs["pct_mito"] < 5) & (column(a, "CD3D") == 0)),
]


def sums(a):
    return np.asarray(a.X.sum(axis=1)).ravel()


def column(a, gene):
    return a[:, gene].X.toarray().ravel()


def view(a, mask, genes=slice(None)):
    with anndata.settings.override(remove_unused_categories=False):
        return a[np.asarray(mask, dtype=bool), genes].copy()


@pytest.mark.parametrize("sql, mask", EXPRESSIONS, ids=[e[0] for e in EXPRESSIONS])
def test_where_equals_the_mask(annfusion, synth, tmp_path, sql, mask):
    a = objects.read(synth)
    annfusion("filter", synth, tmp_path / "out.h5ad", "--where", sql)
    check_equal(sql, objects.read(tmp_path / "out.h5ad"), view(a, mask(a)), sliced=True)


@pytest.mark.parametrize(
    "sql, mask",
    [
        ("S_score > 0", lambda obs: obs["S_score"] > 0),
        ("NOT S_score > 0", lambda obs: ~(obs["S_score"] > 0) & obs["S_score"].notna()),
        ("S_score IS NOT NULL", lambda obs: obs["S_score"].notna()),
        ("S_score IS NULL AND pct_mito < 5", lambda obs: obs["S_score"].isna() & (obs["pct_mito"] < 5)),
        ("S_score > (SELECT avg(S_score) FROM obs)", lambda obs: obs["S_score"] > obs["S_score"].mean()),
    ],
)
def test_nan_in_obs_is_missing_as_in_pandas(annfusion, synth, tmp_path, sql, mask):
    a = objects.read(synth)
    scores = a.obs["S_score"].to_numpy().copy()
    scores[::5] = np.nan
    scores[1::5] = np.float64(np.inf)
    scores[2::7] = np.array(0xFFF8000000001234, dtype=np.uint64).view(np.float64)
    a.obs["S_score"] = scores
    a.write_h5ad(tmp_path / "in.h5ad")
    annfusion("filter", tmp_path / "in.h5ad", tmp_path / "out.h5ad", "--where", sql)
    keep = mask(a.obs).to_numpy()
    written = objects.read(tmp_path / "out.h5ad")
    check_equal(sql, written, view(a, keep), sliced=True)
    # Whatever bits a NaN has, they are kept.
    bits = written.obs["S_score"].to_numpy().view(np.uint64)
    assert (bits == scores[keep].view(np.uint64)).all()


def test_rows_and_genes_at_once(annfusion, synth, tmp_path):
    a = objects.read(synth)
    genes = list(a.var_names[5:300:7])
    (tmp_path / "genes.txt").write_text("\n".join(genes) + "\n")
    annfusion("filter", synth, tmp_path / "out.h5ad", "--where", "cell_type = 'B'", "--genes", tmp_path / "genes.txt")
    expected = view(a, a.obs["cell_type"] == "B", genes)
    check_equal("rows × genes", objects.read(tmp_path / "out.h5ad"), expected, sliced=True)


def test_genes_alone_keep_the_order_of_var(annfusion, synth, tmp_path):
    a = objects.read(synth)
    annfusion("filter", synth, tmp_path / "out.h5ad", "--genes", "LYZ,CD3D,MS4A1")
    genes = [g for g in a.var_names if g in ("LYZ", "CD3D", "MS4A1")]
    check_equal("genes", objects.read(tmp_path / "out.h5ad"), view(a, np.ones(a.n_obs, bool), genes), sliced=True)


def test_conditions_on_real_objects(annfusion, shared_object, tmp_path):
    """Every second cell, and a tenth of the genes, of every object."""
    a = shared_object.read()
    if not a.var_names.is_unique or any("," in g or "#" in g for g in a.var_names):
        pytest.skip("genes cannot be named one by one")
    genes = list(a.var_names[:: 10 if a.n_vars > 20 else 2])
    (tmp_path / "genes.txt").write_text("\n".join(genes) + "\n")
    args = ["--genes", tmp_path / "genes.txt"] if genes else []
    annfusion("filter", shared_object.location, tmp_path / "out.h5ad", "--where", "obs_idx % 2 = 1", *args)
    expected = view(a, np.arange(a.n_obs) % 2 == 1, genes or slice(None))
    check_equal(str(shared_object), objects.read(tmp_path / "out.h5ad"), expected, sliced=True)


@pytest.mark.parametrize("kind", ["bool", "integer", "text", "categorical"])
def test_obs_columns_are_read_leniently(annfusion, synth, tmp_path, kind):
    a = objects.read(synth)
    keep = np.arange(a.n_obs) % 3 == 0
    a.obs["keep"] = {
        "bool": keep,
        "integer": keep.astype(np.int64),
        "text": np.where(keep, "True", "false"),
        "categorical": pd.Categorical(np.where(keep, "1", "0")),
    }[kind]
    a.write_h5ad(tmp_path / "in.h5ad")
    annfusion("filter", tmp_path / "in.h5ad", tmp_path / "out.h5ad", "--obs-column", "keep")
    check_equal(kind, objects.read(tmp_path / "out.h5ad"), view(objects.read(tmp_path / "in.h5ad"), keep), sliced=True)


def test_a_typo_names_the_column_and_the_near_one(annfusion, synth, tmp_path):
    done = annfusion("filter", synth, tmp_path / "out.h5ad", "--where", "cel_type = 'B'", check=False)
    assert done.returncode == 1
    assert "cel_type" in done.stderr and "cell_type" in done.stderr.replace("cel_type", "")
    done = annfusion("filter", synth, tmp_path / "out.h5ad", "--obs-column", "is_doublets", check=False)
    assert done.returncode == 1 and "is_doublet" in done.stderr.replace("is_doublets", "")
    done = annfusion("filter", synth, tmp_path / "out.h5ad", "--genes", "LYZZ", check=False)
    assert done.returncode == 1 and "LYZ" in done.stderr.replace("LYZZ", "")
    assert not list(tmp_path.iterdir())


def test_nothing_left_is_an_object_without_cells(annfusion, synth, tmp_path):
    annfusion("filter", synth, tmp_path / "out.h5ad", "--where", "n_counts < 0")
    out = objects.read(tmp_path / "out.h5ad")
    assert out.shape == (0, objects.read(synth).n_vars)


def test_an_output_that_is_the_input_is_refused(annfusion, synth, tmp_path):
    done = annfusion("filter", synth, synth, "--where", "true", "--overwrite", check=False)
    assert done.returncode == 1
    assert objects.read(synth).n_obs == 3000


def test_explain_and_dry_run_write_nothing(annfusion, synth, tmp_path):
    out = tmp_path / "out.h5ad"
    explained = annfusion("filter", synth, out, "--where", "cell_type = 'B'", "--explain").stdout
    assert "cell_type" in explained
    annfusion("filter", synth, out, "--where", "cell_type = 'B'", "--dry-run")
    assert not list(tmp_path.iterdir())
