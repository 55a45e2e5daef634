"""Equality of two AnnData objects, stricter than anndata's own, and the differences by design.

`differences(a, b)` gives one line per difference: dtype, order of columns and categories, nulls,
names, kinds of matrix. `DESIGNED` is the one list of differences that are meant.
"""

import re
import warnings

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.tests.helpers import assert_equal

# (pattern of a difference, why it is meant). A pattern is matched against "<object>: <difference>".
DESIGNED = [
    (
        r": (X|layers/.*|raw/X|obsm/.*|varm/.*|obsp/.*|varp/.*): kind csr_matrix != csc_matrix",
        "rows are what moves: a matrix stored by column is transposed on the way and written by row",
    ),
    (
        r": uns/.*: kind (int|float|bool|str) != (int\d+|float\d+|bool_?|str_)$",
        "scalars of files before 0.8 carry no encoding, and anndata gives those as numpy's; ours carry "
        "numeric-scalar or string, which anndata gives as Python's",
    ),
    (
        r"(anndata-v0.5.0|2018).*: uns/.*: text dtype",
        "text of fixed length in files before 0.7 is written as string-array and rec-array hold it, with "
        "variable length",
    ),
    (
        r"\.zarr.*: uns/.*: text dtype (object != StringDType\(\)|StringDType\(\) != object)",
        "anndata gives text in uns of a zarr store as numpy's StringDType, of an h5ad as objects",
    ),
    (
        r"\.zarr.*: .*: dtype object != str",
        "anndata gives a string-array of a zarr store as objects, of an h5ad as pandas' str",
    ),
    (
        r"compound_dataset.*: (obs|var)/index: name None != '_index'",
        "an index called _index in a compound dataset has the name that says 'no name' in current files",
    ),
]


def unexpected(name, found):
    """The differences that nobody meant."""
    return [line for line in found if not any(re.search(p, f"{name}: {line}") for p, _ in DESIGNED)]


def check_equal(name, actual, expected, sliced=False):
    """Fails where two objects differ, by our comparer and by anndata's.

    `sliced` says that `expected` was cut in memory, where scipy narrows `indptr` and `indices`; ours
    keep the width of the file they come from. This is the other difference by design.
    """
    found = unexpected(name, differences(actual, expected))
    assert not found, f"{name}: " + "; ".join(found[:12])
    if sliced:
        for a, b in sparse_pairs(actual, expected):
            a.indptr, a.indices = a.indptr.astype(b.indptr.dtype), a.indices.astype(b.indices.dtype)
    if ".zarr" in name:
        for a, b in frame_pairs(actual, expected):
            for column in b.columns:
                if a[column].dtype == object and isinstance(b[column].dtype, pd.StringDtype):  # meant
                    a[column] = a[column].astype(b[column].dtype)
    if actual.obs.index.name != expected.obs.index.name:  # meant, or found above
        expected = expected.copy()
        expected.obs.index.name, expected.var.index.name = actual.obs.index.name, actual.var.index.name
    try:
        assert_equal(actual, expected, exact=True)
    except AssertionError:
        # anndata's exact comparison holds NaN unequal to itself.
        try:
            assert_equal(expected, expected.copy(), exact=True)
        except AssertionError:
            return assert_equal(actual, expected, exact=False)
        raise


def sparse_pairs(a, b):
    """Sparse matrices of two objects that stand at the same place and are stored alike."""
    pairs = [(a.X, b.X)]
    for attribute in ("layers", "obsm", "varm", "obsp", "varp"):
        left, right = getattr(a, attribute), getattr(b, attribute)
        pairs += [(left[k], right[k]) for k in left if k is not None and k in right]
    if a.raw is not None and b.raw is not None:
        pairs.append((a.raw.X, b.raw.X))
    return [(x, y) for x, y in pairs if sp.issparse(x) and sp.issparse(y) and x.format == y.format]


def frame_pairs(a, b):
    """The data frames of two objects that have the same elements."""
    yield a.obs, b.obs
    yield a.var, b.var
    if a.raw is not None:
        yield a.raw.var, b.raw.var
    for x, y in ((a.obsm, b.obsm), (a.varm, b.varm), (a.uns, b.uns)):
        for key in x:
            if isinstance(x[key], pd.DataFrame):
                yield x[key], y[key]


def differences(a, b):
    out = []
    if a.shape != b.shape:
        return [f"shape {a.shape} != {b.shape}"]
    _frame("obs", a.obs, b.obs, out)
    _frame("var", a.var, b.var, out)
    if (a.X is None) != (b.X is None):
        out.append(f"X: {'none' if a.X is None else 'some'} != {'none' if b.X is None else 'some'}")
    elif a.X is not None:
        _value("X", a.X, b.X, out)
    for attribute in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
        _value(attribute, _plain(getattr(a, attribute)), _plain(getattr(b, attribute)), out)
    if (a.raw is None) != (b.raw is None):
        out.append(f"raw: {a.raw is not None} != {b.raw is not None}")
    elif a.raw is not None:
        _value("raw/X", a.raw.X, b.raw.X, out)
        _frame("raw/var", a.raw.var, b.raw.var, out)
        _value("raw/varm", _plain(a.raw.varm), _plain(b.raw.varm), out)
    return out


def _plain(mapping):
    # Since 0.13, X is `layers[None]` in memory.
    return {k: mapping[k] for k in mapping if k is not None}


def _frame(key, a, b, out):
    _index(f"{key}/index", a.index, b.index, out)
    if list(a.columns) != list(b.columns):
        out.append(f"{key}: columns {list(a.columns)} != {list(b.columns)}")
        return
    for name in a.columns:
        _series(f"{key}/{name}", a[name], b[name], out)


def _index(key, a, b, out):
    if a.name != b.name:
        out.append(f"{key}: name {a.name!r} != {b.name!r}")
    if a.dtype != b.dtype:
        out.append(f"{key}: dtype {a.dtype} != {b.dtype}")
    if list(a) != list(b):
        out.append(f"{key}: values differ")


def _series(key, a, b, out):
    if isinstance(a.dtype, pd.CategoricalDtype) and isinstance(b.dtype, pd.CategoricalDtype):
        if a.cat.ordered != b.cat.ordered:
            out.append(f"{key}: ordered {a.cat.ordered} != {b.cat.ordered}")
        if a.cat.categories.dtype != b.cat.categories.dtype:
            out.append(f"{key}: categories' dtype {a.cat.categories.dtype} != {b.cat.categories.dtype}")
        if list(a.cat.categories) != list(b.cat.categories):
            out.append(f"{key}: categories {list(a.cat.categories)[:5]} != {list(b.cat.categories)[:5]}")
        if list(a.cat.codes) != list(b.cat.codes):
            out.append(f"{key}: codes differ")
        return
    if a.dtype != b.dtype:
        out.append(f"{key}: dtype {a.dtype} != {b.dtype}")
        return
    nulls_a, nulls_b = a.isna().to_numpy(), b.isna().to_numpy()
    if not np.array_equal(nulls_a, nulls_b):
        out.append(f"{key}: nulls {int(nulls_a.sum())} != {int(nulls_b.sum())}")
    elif list(a[~nulls_a]) != list(b[~nulls_b]):
        out.append(f"{key}: values differ")


def _kind(x):
    if sp.issparse(x):
        return f"{x.format}_matrix"
    return type(x).__name__


def _value(key, a, b, out):
    if isinstance(a, dict) and isinstance(b, dict):
        if set(a) != set(b):
            out.append(f"{key}: keys {sorted(set(a) ^ set(b))} on one side only")
        for name in sorted(set(a) & set(b), key=str):
            _value(f"{key}/{name}", a[name], b[name], out)
        return
    if hasattr(a, "items") and not isinstance(a, (dict, pd.DataFrame, pd.Series)):
        a = dict(a.items())
    if hasattr(b, "items") and not isinstance(b, (dict, pd.DataFrame, pd.Series)):
        b = dict(b.items())
    if isinstance(a, dict) and isinstance(b, dict):
        return _value(key, a, b, out)
    if _kind(a) != _kind(b):
        out.append(f"{key}: kind {_kind(a)} != {_kind(b)}")
        if not (sp.issparse(a) and sp.issparse(b)):
            return
    if isinstance(a, pd.DataFrame):
        _frame(key, a, b, out)
    elif isinstance(a, pd.Series):
        _series(key, a, b, out)
    elif isinstance(a, (pd.Categorical, pd.api.extensions.ExtensionArray)):
        _series(key, pd.Series(a), pd.Series(b), out)
    elif sp.issparse(a):
        _sparse(key, a, b, out)
    elif isinstance(a, np.ndarray):
        _array(key, a, b, out)
    elif type(a).__module__.startswith("awkward"):
        import awkward as ak

        if ak.to_list(a) != ak.to_list(b):
            out.append(f"{key}: values differ")
        if str(a.type) != str(b.type):
            out.append(f"{key}: type {a.type} != {b.type}")
    elif a is not b and not (a == b) and not (a != a and b != b):
        out.append(f"{key}: {a!r} != {b!r}")


def _sparse(key, a, b, out):
    if a.shape != b.shape or a.dtype != b.dtype:
        out.append(f"{key}: {a.dtype} {a.shape} != {b.dtype} {b.shape}")
        return
    if a.nnz != b.nnz:
        out.append(f"{key}: nnz {a.nnz} != {b.nnz}")
        return
    a, b = a.tocsr(), b.tocsr()
    same = np.array_equal(a.indptr, b.indptr) and np.array_equal(a.indices, b.indices)
    if not same or not np.array_equal(a.data, b.data, equal_nan=a.dtype.kind in "fc"):
        a, b = a.sorted_indices(), b.sorted_indices()
        if not np.array_equal(a.indptr, b.indptr) or not np.array_equal(a.indices, b.indices):
            out.append(f"{key}: entries stand elsewhere")
        elif not np.array_equal(a.data, b.data, equal_nan=a.dtype.kind in "fc"):
            out.append(f"{key}: values differ")


def _array(key, a, b, out):
    if a.dtype.names and a.dtype.names == b.dtype.names and a.shape == b.shape:
        for name in a.dtype.names:
            _array(f"{key}[{name}]", a[name], b[name], out)
    elif a.dtype.kind in "OSUT" and b.dtype.kind in "OSUT" and a.dtype != b.dtype and a.shape == b.shape:
        out.append(f"{key}: text dtype {a.dtype} != {b.dtype}")
        if [_text(x) for x in a.ravel()] != [_text(x) for x in b.ravel()]:
            out.append(f"{key}: values differ")
    elif a.dtype != b.dtype or a.shape != b.shape:
        out.append(f"{key}: {a.dtype} {a.shape} != {b.dtype} {b.shape}")
    elif a.dtype.kind == "O":
        if [_null(x) for x in a.ravel()] != [_null(x) for x in b.ravel()]:
            out.append(f"{key}: values differ")
    elif not np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"):
        out.append(f"{key}: values differ")


def _text(x):
    return x.decode() if isinstance(x, bytes) else _null(x)


def _null(x):
    return None if x is None or x is pd.NA or (isinstance(x, float) and x != x) else x


# Merges: `anndata.concat` in memory against ours on disk.

# (pattern of a difference, why it is meant), as in DESIGNED. Beside these, columns that anndata could
# not write are compared with what is written in their place: see `_comparable`.
MERGED = [
    (
        r": obsm/frame/.*: dtype float64 != int64",
        "pandas leaves a frame without rows and columns out of account, where ours says that it lacks the column",
    ),
    (
        r": uns/.*: text dtype (object != StringDType\(.*\)|StringDType\(.*\) != object)",
        "anndata gives text in uns of a zarr store as numpy's StringDType, of an h5ad as objects",
    ),
]


def merged_unexpected(name, actual, expected):
    """Differences of a merge on disk from `anndata.concat` in memory that nobody meant.

    Both are brought to the form that a file can hold: sparse matrices sorted, summed, without zeros;
    text as one type.
    """
    actual, expected = _canonical(actual), _canonical(expected)
    if (actual.raw is None) == (expected.raw is None):
        for a, b in frame_pairs(actual, expected):
            if list(a.columns) == list(b.columns) and len(a) == len(b):
                for column in b.columns:
                    a[column], b[column] = _comparable(a[column], b[column])
    found = differences(actual, expected)
    if not expected.n_obs:
        # Without cells concat drops raw, and gives columns of several types as objects, of which
        # there is none that would say of what type.
        found = [line for line in found if not re.search(r"^raw: True != False$|^obs/.*: dtype .* != str$", line)]
    return [line for line in found if not any(re.search(p, f"{name}: {line}") for p, _ in MERGED)]


def _canonical(a):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a = a.copy()
        for attribute in ("layers", "obsm", "varm", "obsp", "varp"):
            mapping = getattr(a, attribute)
            for key in list(mapping):
                mapping[key] = _canonical_matrix(mapping[key])
        if a.raw is not None:
            raw = a.raw.to_adata()
            raw.X = _canonical_matrix(raw.X)
            raw.var.index = _text_index(raw.var.index)
            a.raw = raw
        a.obs.index, a.var.index = _text_index(a.obs.index), _text_index(a.var.index)
        for aligned in (a.obsm, a.varm):
            for key in aligned:
                if isinstance(aligned[key], pd.DataFrame):
                    aligned[key].index = _text_index(aligned[key].index)
    return a


def _text_index(index):
    """Names are text, and of that type even where there are none."""
    return pd.Index(index.astype(object), dtype=TEXT, name=index.name)


TEXT = pd.StringDtype(na_value=np.nan)


def _canonical_matrix(x):
    if not sp.issparse(x):
        return x
    x = sp.csr_matrix(x)
    x.sum_duplicates()
    x.eliminate_zeros()
    return x


def _comparable(a, b):
    """Two columns in a form in which they are equal if ours is what is meant.

    anndata cannot write columns of mixed Python objects, nor nullable floats, nor categories of mixed
    types. In their place stand numbers in the type that holds them, plain floats, and text. Where
    categories of numbers meet numbers, ours are nullable, because a category may be missing.
    """
    if isinstance(b.dtype, pd.CategoricalDtype):
        if b.cat.categories.dtype == object and isinstance(a.dtype, pd.CategoricalDtype):
            return a.astype(object).astype(TEXT), b.map(_as_text).astype(object).astype(TEXT)
        return a, b
    values = [v for v in b if not pd.isna(v)]
    if b.dtype == object and not all(isinstance(v, str) for v in values) and isinstance(a.dtype, pd.StringDtype):
        # Digits of numbers as text are those of their own type, pandas' those of a double.
        return a.map(_as_text).astype(TEXT), b.map(_as_text).astype(TEXT)
    if b.dtype == object and all(isinstance(v, str) for v in values):
        b = b.astype(TEXT)
    elif b.dtype == object or str(b.dtype) in ("Float32", "Float64") or (str(a.dtype)[0] in "IU" and str(b.dtype)[0] in "iuf"):
        number = lambda v: np.nan if pd.isna(v) else float(v)
        return a.map(number).astype("float64"), b.map(number).astype("float64")
    if a.dtype == object or isinstance(a.dtype, pd.StringDtype):
        if isinstance(b.dtype, pd.StringDtype):
            return a.astype(object).astype(TEXT), b.astype(object).astype(TEXT)
    return a, b


def _as_text(value):
    if pd.isna(value):
        return np.nan
    try:
        number = float(str(value))
    except ValueError:
        return str(value)
    return str(number if number.is_integer() else np.float32(number))
