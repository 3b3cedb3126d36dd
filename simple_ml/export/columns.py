"""Find out which columns a model expects and what each may hold: from its training data, and by asking the model."""

import contextlib
import numpy as np
import pandas as pd
import re
from collections.abc import Callable
from dataclasses import replace
from runtime.card import Column, Form, Gap, Type
from runtime.table import Table, table_of, to_input
from typing import Any

TYPES: dict[str, Type] = {
    "string": "text",
    "boolean": "boolean",
    "integer": "integer",
    "floating": "number",
    "mixed-integer-float": "number",
    "date": "date",
    "empty": "number",
}
UNSEEN = "\ufdd1"  # a text that is in no training data: Unicode reserves this code point for such uses


class Refusal(Exception):
    """Why a model cannot be served, as the end of a sentence."""


def as_table(X: Any, model: Any) -> tuple[pd.DataFrame, Form]:
    """Return X as a DataFrame, and the form that it had: see Card.form. Raises Refusal."""
    if isinstance(X, pd.DataFrame):
        return X, "frame"
    if isinstance(X, pd.Series):
        return X.to_frame("text" if X.name is None else X.name), "series"
    if hasattr(X, "toarray"):
        raise Refusal("X is a sparse matrix, so fit the model with X.toarray()")
    if isinstance(X, list) and X and isinstance(X[0], dict):
        return pd.DataFrame(X), "records"
    if isinstance(X, list) and X and isinstance(X[0], str):
        return pd.DataFrame({"text": X}), "texts"
    array = np.asarray(X)
    if array.ndim == 1 and array.dtype.kind in "OUT":
        return pd.DataFrame({"text": array.tolist()}), "texts"
    if array.ndim != 2:
        raise Refusal(
            "X is not a table, so give a DataFrame, with a row for each example and a column for each feature"
        )
    names = getattr(model, "feature_names_in_", [f"f{i}" for i in range(1, array.shape[1] + 1)])
    return pd.DataFrame(array, columns=list(names)), "array"


def table_of_training(table: pd.DataFrame, form: Form) -> Table:
    """Return how rows become X, before the model has been asked. Raises Refusal if JSON cannot express a column."""
    names = [str(label) for label in table]
    if "" in names:
        raise Refusal("a column of X has no name, so name it")
    if double := next((name for name in names if names.count(name) > 1), None):
        raise Refusal(f"two columns of X have the name {double}, so rename one")
    columns = []
    for position, name in enumerate(names):
        series = table.iloc[:, position]
        gaps = series[series.isna()]
        gap: Gap = "none" if len(gaps) and gaps.iloc[0] is None else "nan"
        columns.append(Column(name, type_of(series, name), nullable=True, categories=None, example=None, gap=gap))
    return table_of(columns, table, form)


def type_of(series: pd.Series, name: str) -> Type:
    known = series.dropna()
    if isinstance(series.dtype, pd.CategoricalDtype):
        known = series.cat.categories.to_series()
    if known.dtype.kind == "M":
        is_day = known.dt.tz is None and (known == known.dt.normalize()).all()
        return "date" if is_day else "date-time"
    kind = pd.api.types.infer_dtype(known.astype(object))
    if kind not in TYPES:
        raise Refusal(
            f"the column {name} holds {kind} values, not numbers, yes/no, text or dates, so convert it, as in "
            f"X[{name!r}].astype(str)"
        )
    return TYPES[kind]


def to_cell(value: Any) -> Any:
    """Return a cell of a table as JSON has it."""
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value


def to_rows(table: pd.DataFrame) -> list[dict]:
    """Return the rows of a table as a client sends them."""
    cells = {str(label): list(map(to_cell, table.iloc[:, i].tolist())) for i, label in enumerate(table)}
    return [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]


def describe(model: Any, X: pd.DataFrame, table: Table) -> list[Column]:
    """Return the columns, and what the model accepts in each: whether it may be null, its categories if it may have no
    other value, and an example. `X` is the training data. Raises Refusal if the model answers no row."""
    base = base_row(model, X, table)

    def accepts(changes: dict[str, Any]) -> bool:
        with contextlib.suppress(Exception):  # a model may raise whatever it likes
            model.predict(to_input([base | changes], table))
            return True
        return False

    names = [column.name for column in table.columns]
    known = {column.name: known_values(X.iloc[:, i]) for i, column in enumerate(table.columns)}
    nullable = accepted(names, lambda some: accepts(dict.fromkeys(some)))
    others = {column.name: unseen(column.type, known[column.name]) for column in table.columns}
    fixed = {name for name in names if others[name]}  # columns that may have known values only
    for turn in range(2):
        asked = {name: others[name][turn] for name in sorted(fixed) if len(others[name]) > turn}

        def accepts_asked(some: list[str], asked: dict[str, Any] = asked) -> bool:
            return accepts({name: asked[name] for name in some})

        fixed -= set(accepted(list(asked), accepts_asked))
    columns = []
    for column in table.columns:
        name, values, example = column.name, known[column.name], base[column.name]
        if example is None or column.type in ("number", "integer"):
            example = values[len(values) // 2]
        if column.type == "text" and name not in fixed and len(values) > 100 and accepts({name: "some text"}):
            example = "some text"
        example = example[:10] if column.type == "date" else example
        # "Found unknown categories": the service must refuse what the model refuses
        categories = values if name in fixed else None
        columns.append(replace(column, nullable=name in nullable, categories=categories, example=example))
    if not accepts({column.name: column.example for column in columns}):
        columns = [replace(column, example=base[column.name]) for column in columns]
    return columns


def known_values(series: pd.Series) -> list:
    """Return the values of a column in order, as JSON has them."""
    categories = series.cat.categories if isinstance(series.dtype, pd.CategoricalDtype) else series.dropna().unique()
    return sorted({to_cell(value) for value in categories.tolist()}) or [0]


def base_row(model: Any, X: pd.DataFrame, table: Table) -> dict[str, Any]:
    """Return a row that the model answers, with as few nulls as there are. Raises Refusal."""
    fullest = X.isna().sum(axis=1).to_numpy().argsort(kind="stable")[:5]
    rows = to_rows(X.iloc[fullest])
    for row in rows:
        try:
            model.predict(to_input([row], table))
            return row
        except Exception as error:
            reason = error
    text = " ".join(str(reason).split())[:200].rstrip(".")
    raise Refusal(f"its own predict() fails on a row of X ({type(reason).__name__}: {text})")


def accepted(names: list[str], accepts: Callable[[list[str]], bool]) -> list[str]:
    """Return the names that the model accepts, by halves: most models accept all columns or none."""
    if not names or accepts(names):
        return names
    if len(names) == 1:
        return []
    middle = len(names) // 2
    return accepted(names[:middle], accepts) + accepted(names[middle:], accepts)


def unseen(kind: str, known: list) -> list:
    """Return values that were not in the training data, but are of the same type; none if there are no others."""
    if kind == "text":  # the second is for a model that reads a number in the text, such as "12 kg"
        other = re.sub(r"[0-9]", lambda digit: str((int(digit[0]) + 1) % 10), str(known[0]))
        return [UNSEEN] if other in known else [UNSEEN, other]
    if kind == "boolean":
        return [not known[0]] if len(known) == 1 else []
    return [known[-1] + 1] if kind in ("number", "integer") else []
