"""The queries of `sql/**/*.slt` with their recorded answers, and how the runner writes a value."""

import dataclasses
import math

import numpy as np
import pandas as pd

import objects

FOLDER = objects.REPOSITORY / "sql"


@dataclasses.dataclass(frozen=True)
class Query:
    """A query of a file, at a line of it, and the lines of its answer."""

    file: str
    line: int
    sql: str
    answer: tuple

    def __str__(self):
        return f"{self.file}:{self.line}"


@dataclasses.dataclass(frozen=True)
class File:
    """A file: the objects it opens, by schema, its queries that have an answer, and all its SQL in order.

    Of the SQL, a query is a `Query` and a statement is text.
    """

    name: str
    opens: dict
    queries: list
    script: list


def read(path):
    """Reads a file. Queries that must fail have a message for an answer and are left out."""
    opens, queries, script = {}, [], []
    name = str(path.relative_to(FOLDER).with_suffix(""))
    lines = path.read_text().splitlines()
    for i, line in enumerate(lines):
        if line.startswith("open "):
            schema, _, found = line.removeprefix("open ").strip().rpartition("=")
            opens[schema or found] = found
        elif line.startswith("query ") and not line.startswith("query error"):
            end = lines.index("", i) if "" in lines[i:] else len(lines)
            rule = lines.index("----", i, end)
            queries.append(Query(name, i + 1, " ".join(lines[i + 1 : rule]), tuple(lines[rule + 1 : end])))
            script.append(queries[-1])
        elif line == "statement ok" and not lines[i + 1].startswith("open "):
            end = lines.index("", i) if "" in lines[i:] else len(lines)
            script.append(" ".join(lines[i + 1 : end]))
    return File(name, opens, queries, script)


def files(*folders):
    return [read(path) for folder in folders for path in sorted((FOLDER / folder).glob("*.slt"))]


def text(value, inside=False):
    """A value as the runner writes it; `inside` a list, Arrow writes a whole float as `1.0`."""
    if value is None or value is pd.NA:
        return "NULL"
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, float | np.floating):
        return np.format_float_positional(value, unique=True, trim="0" if inside else "-")
    if isinstance(value, list | np.ndarray):
        return "[" + ", ".join(text(v, inside=True) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {text(v, inside=True)}" for k, v in value.items()) + "}"
    return str(value) or "(empty)"


def differences(answer, rows):
    """The recorded lines that are not the computed rows. A last cell `...` leaves the rest open."""
    found = [] if len(answer) == len(rows) else [f"{len(answer)} rows recorded, {len(rows)} computed"]
    for i, (line, row) in enumerate(zip(answer, rows)):
        computed = " ".join(text(v) for v in row).split()
        recorded = line.split()
        if computed[-1] == "...":
            computed.pop()
            recorded = recorded[: len(computed)]
        if len(computed) != len(recorded) or not all(map(same, recorded, computed)):
            found.append(f"row {i}: recorded {line!r}, computed {' '.join(computed)!r}")
    return found


def same(recorded, computed):
    """Equal text; but a sum may differ in its last digit by the order of its terms."""
    if recorded == computed:
        return True
    try:
        return math.isclose(float(recorded), float(computed), rel_tol=1e-14)
    except ValueError:
        return False
