"""Find out which columns a model expects and what each may hold: from its training data, and by asking the model."""

import contextlib
import numpy as np
import pandas as pd
import re
from collections.abc import Callable
from table import Column, Columns, to_input
from typing import Any

TYPES = {
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


def as_table(X: Any, model: Any) -> tuple[pd.DataFrame, str]:
    """Return X as a DataFrame, and the form that it had: see table.Columns. Raises Refusal."""
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


def columns_of(table: pd.DataFrame, form: str) -> Columns:
    """Return what table.to_input() must know. Raises Refusal if a column holds something that JSON does not have."""
    names = [str(label) for label in table]
    if "" in names:
        raise Refusal("a column of X has no name, so name it")
    if double := next((name for name in names if names.count(name) > 1), None):
        raise Refusal(f"two columns of X have the name {double}, so rename one")
    columns = []
    for position, name in enumerate(names):
        series = table.iloc[:, position]
        gaps = series[series.isna()]
        null = None if len(gaps) and gaps.iloc[0] is None else np.nan
        columns.append(Column(table.columns[position], name, type_of(series, name), series.dtype, null))
    return Columns(columns, form)


def type_of(series: pd.Series, name: str) -> str:
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


def describe(model: Any, table: pd.DataFrame, columns: Columns) -> list[dict[str, Any]]:
    """Return the name and type of each feature, whether it may be null, its categories if it may have no other value,
    and an example. Raises Refusal if the model answers no row."""
    base = base_row(model, table, columns)

    def answers(changes: dict[str, Any]) -> bool:
        with contextlib.suppress(Exception):  # a model may raise whatever it likes
            model.predict(to_input([base | changes], columns))
            return True
        return False

    names = [column.name for column in columns.columns]
    known = {column.name: known_values(table.iloc[:, i], column) for i, column in enumerate(columns.columns)}
    nullable = accepted(names, lambda some: answers(dict.fromkeys(some)))
    others = {column.name: unseen(column.type, known[column.name]) for column in columns.columns}
    fixed = {name for name in names if others[name]}  # columns that may have known values only
    for turn in range(2):
        asked = {name: others[name][turn] for name in sorted(fixed) if len(others[name]) > turn}

        def answers_asked(some: list[str], asked: dict[str, Any] = asked) -> bool:
            return answers({name: asked[name] for name in some})

        fixed -= set(accepted(list(asked), answers_asked))
    features: list[dict[str, Any]] = []
    for column in columns.columns:
        name, kind, values, example = column.name, column.type, known[column.name], base[column.name]
        if example is None or kind in ("number", "integer"):
            example = values[len(values) // 2]
        if kind == "text" and name not in fixed and len(values) > 100 and answers({name: "some text"}):
            example = "some text"
        features.append({"name": name, "type": kind, "nullable": name in nullable, "categories": None})
        features[-1] |= {"example": example[:10] if kind == "date" else example}
        if name in fixed:  # "Found unknown categories": the service must refuse what the model refuses
            features[-1]["categories"] = values
    if not answers({feature["name"]: feature["example"] for feature in features}):
        features = [feature | {"example": base[feature["name"]]} for feature in features]
    return features


def known_values(series: pd.Series, column: Column) -> list:
    """Return the values of a column in order, as JSON has them."""
    categories = column.dtype.categories if isinstance(column.dtype, pd.CategoricalDtype) else series.dropna().unique()
    return sorted({to_cell(value) for value in categories.tolist()}) or [0]


def base_row(model: Any, table: pd.DataFrame, columns: Columns) -> dict[str, Any]:
    """Return a row that the model answers, with as few nulls as there are. Raises Refusal."""
    fullest = table.isna().sum(axis=1).to_numpy().argsort(kind="stable")[:5]
    rows = to_rows(table.iloc[fullest])
    for row in rows:
        try:
            model.predict(to_input([row], columns))
            return row
        except Exception as error:
            reason = error
    text = " ".join(str(reason).split())[:200].rstrip(".")
    raise Refusal(f"its own predict() fails on a row of X ({type(reason).__name__}: {text})")


def accepted(names: list[str], answers: Callable[[list[str]], bool]) -> list[str]:
    """Return the names that the model accepts, by halves: most models accept all columns or none."""
    if not names or answers(names):
        return names
    if len(names) == 1:
        return []
    middle = len(names) // 2
    return accepted(names[:middle], answers) + accepted(names[middle:], answers)


def unseen(kind: str, known: list) -> list:
    """Return values that were not in the training data, but are of the same type; none if there are no others."""
    if kind == "text":  # the second is for a model that reads a number in the text, such as "12 kg"
        other = re.sub(r"[0-9]", lambda digit: str((int(digit[0]) + 1) % 10), str(known[0]))
        return [UNSEEN] if other in known else [UNSEEN, other]
    if kind == "boolean":
        return [not known[0]] if len(known) == 1 else []
    return [known[-1] + 1] if kind in ("number", "integer") else []
