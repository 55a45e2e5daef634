"""The answers of `sql/guide`, `sql/element` and `sql/plan` are those of anndata, pandas and scanpy.

No SQL is run here: `tests/sql.rs` holds our answers to the files, this holds the files to Python.
"""

import re
import types

import pytest

import objects
import slt
from sql_answers import ANSWERS

FILES = {file.name: file for file in slt.files("guide", "element", "plan")}
QUERIES = [query for file in FILES.values() for query in file.queries]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_the_answer_is_what_python_computes(demo, query):
    opened = {schema: read(name, demo) for schema, name in FILES[query.file].opens.items()}
    first = next(iter(opened.values()))
    compute = ANSWERS.get(query.file, {}).get(query.sql)
    if compute is None and query.sql.startswith("EXPLAIN"):
        check_extent(query, first)
        return
    assert compute, f"{query}: no computation in Python"
    one = all(a is first for a in opened.values())
    found = slt.differences(query.answer, rows(compute(first if one else types.SimpleNamespace(**opened))))
    assert not found, f"{query}: {query.sql}\n" + "\n".join(found)


def test_every_computation_has_its_query():
    queries = {(query.file, query.sql) for query in QUERIES}
    left_over = {(file, sql) for file, table in ANSWERS.items() for sql in table} - queries
    assert not left_over


def test_a_wrong_digit_is_found():
    assert not slt.differences(["B 2.818"], [("B", 2.818)])
    assert slt.differences(["B 2.818"], [("B", 2.817)])
    assert slt.differences(["B 2.818"], [("B", 2.818), ("NK", 1.0)])


def check_extent(query, a):
    """The text of a plan is ours; the rows that its scans cover are the object's."""
    scans = [line for line in query.answer if "DataSourceExec" in line]
    whole = all(f"[[demo.h5ad:0..{a.n_obs}]]" in line for line in scans)
    # Of a merge of its parts, the parts' rows are together the object's.
    parts = [re.search(r"\[\[\w+\.h5ad:0\.\.(\d+)\]\]", line) for line in scans]
    together = all(parts) and sum(int(part[1]) for part in parts) == a.n_obs
    assert scans and (whole or together), f"{query}: {scans}"


def read(name, demo):
    names = (f"{name}.h5ad", name)
    paths = [objects.SHARED / "data" / folder / name for name in names for folder in ("encodings", "found")]
    path = demo if name == "demo" else next((path for path in paths if path.exists()), None)
    if path is None:
        pytest.skip(f"shared/data has no {name}")
    return objects.Object(path).read()


def rows(value):
    """A computed answer as rows: of a list its items, else itself; a row that is no tuple is one cell."""
    value = value if isinstance(value, list) else [value]
    return [row if isinstance(row, tuple) else (row,) for row in value]
