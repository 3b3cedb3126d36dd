"""Find out which columns a model expects and what each may hold: from its training data, and by asking the model."""

import contextlib
import json
import math
import numpy as np
import pandas as pd
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from runtime.card import MISSING, Column, Form, Gap, Type
from runtime.prepared import OtherRows, Prepared, values_of
from runtime.table import Table, table_of, to_input
from sklearn.preprocessing import FunctionTransformer
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
CONVERT = {  # what JSON cannot express
    "decimal": ".astype(float)",
    "timedelta": ".dt.total_seconds()",
    "timedelta64": ".dt.total_seconds()",
    "bytes": '.str.decode("utf-8")',
    "period": ".dt.to_timestamp()",
}
MANY = 200  # columns, from which on it takes too long to ask what happens without each of them
ASKED = 200_000  # columns times asks
NEIGHBOURS = (
    "the service is asked for single rows, too, so compute what comes from all rows (get_dummies(), fit_transform(), "
    "factorize(), rank(), mean() and the like) once in train.py, and keep it: see 'Your notebook prepares the data "
    "first' in README.md"
)
EXACT = 2**53  # up to here, a float64 holds all whole numbers
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
        raise Refusal(
            "X is a sparse matrix, which nobody can send, so put the step that makes it, such as a TfidfVectorizer, "
            "and the model into one Pipeline, fit that, and give the texts or columns as they come"
        )
    for convert in ("to_pandas", "toPandas"):  # of Polars, PyArrow, Modin and cuDF; of Spark
        if hasattr(X, convert):
            raise Refusal(f"X is a {type(X).__name__} of {type(X).__module__.split('.')[0]}, so give X.{convert}()")
    if hasattr(X, "compute"):
        raise Refusal(f"X is a {type(X).__name__} of {type(X).__module__.split('.')[0]}, so give X.compute()")
    if isinstance(X, list) and X and isinstance(X[0], dict):
        return pd.DataFrame(X), "records"
    if isinstance(X, list) and X and isinstance(X[0], str):
        return pd.DataFrame({"text": X}), "texts"
    array = np.asarray(X)
    if array.dtype.kind == "U" and not all(isinstance(cell, str) for cell in np.ravel(np.array(X, object))):
        raise Refusal("NumPy makes texts of the numbers in X, because there are texts beside them, so give a DataFrame")
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
    if len(set(names)) < len(names):
        double = next(name for name in names if names.count(name) > 1)
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
    if known.dtype.kind == "m":
        known = known.astype(object)
    if known.dtype.kind == "M":
        is_day = known.dt.tz is None and (known == known.dt.normalize()).all()
        return "date" if is_day else "date-time"
    kind = pd.api.types.infer_dtype(known.astype(object))
    if kind not in TYPES:
        raise Refusal(
            f"the column {name} holds {kind} values, not numbers, yes/no, text or dates, so convert it, as in "
            f"X[{name!r}]{CONVERT.get(kind, '.astype(str)')}"
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


def estimators(whole: Any) -> Iterator[Any]:
    """Yield an estimator and all estimators inside it."""
    left, seen = [whole], set()
    while left:
        thing = left.pop()
        if id(thing) in seen:  # the nodes of Birch know each other
            continue
        if isinstance(thing, Prepared):
            thing = thing.model
        if hasattr(thing, "get_params"):
            yield thing
            seen.add(id(thing))
            thing = vars(thing)
        elif type(thing).__module__.startswith("sklearn."):  # such as the parts of CalibratedClassifierCV
            seen.add(id(thing))
            thing = getattr(thing, "__dict__", None)
        if isinstance(thing, dict):
            thing = list(thing.values())
        if isinstance(thing, list | tuple) and len(thing) < 1000:
            left += reversed(thing)


def check_large(model: Any, X: pd.DataFrame, table: Table) -> None:
    """Raise Refusal if answers depend on digits of whole numbers that a float64 does not hold.

    JavaScript, Excel and R round such numbers (RFC 8259, section 6), and so does the service.
    """
    rows = to_rows(X.iloc[:400])
    for name in [column.name for column in table.columns if column.type == "integer"]:
        if any(abs(row[name] or 0) > EXACT for row in rows):
            rounded = [row if row[name] is None else row | {name: int(float(row[name]))} for row in rows]
            if not same_answers(model, to_input(rows, table), to_input(rounded, table)):
                raise Refusal(
                    f"its answers depend on the last digits of the column {name}, which JavaScript and Excel round, so "
                    f"fit it with texts, X[{name!r}].astype(str)"
                )


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
    gaps = [column.name for i, column in enumerate(table.columns) if X.iloc[:, i].hasnans]
    nullable = {
        name
        for some in (gaps, [name for name in names if name not in set(gaps)])
        for name in accepted(some, lambda chosen: accepts(dict.fromkeys(chosen)))
    }
    amounts = [name for name in amounts_of(model, X, table) if base[name] is not None]
    halves = accepted(amounts, lambda some: accepts({name: base[name] + 0.5 for name in some}))
    others = {column.name: unseen(column.type, known[column.name]) for column in table.columns}
    fixed = {name for name in names if others[name]}  # columns that may have known values only
    for turn in range(2):
        asked = {name: others[name][turn] for name in sorted(fixed) if len(others[name]) > turn}

        def accepts_asked(some: list[str], asked: dict[str, Any] = asked) -> bool:
            return accepts({name: asked[name] for name in some})

        fixed -= set(accepted(list(asked), accepts_asked))
    columns: list[Column] = []
    for column in table.columns:
        name, values, example = column.name, known[column.name], base[column.name]
        if example is None or column.type in ("number", "integer"):
            example = values[len(values) // 2]
        if column.type == "text" and name not in fixed and len(values) > 100 and accepts({name: "some text"}):
            example = "some text"
        example = example[:10] if column.type == "date" else example
        # "Found unknown categories": the service must refuse what the model refuses
        categories = values if name in fixed else None
        texts = set(map(str, values)) if column.type == "text" else set()
        column = replace(column, words=sorted(texts & set(MISSING)), padded=any(text[:1] == " " for text in texts))
        kind: Type = "number" if name in halves and name not in fixed else column.type
        column = replace(column, type=kind, nullable=name in nullable, categories=categories, example=example)
        columns.append(with_range(column, X.iloc[:, len(columns)]))
    if not accepts({column.name: column.example for column in columns}):
        columns = [replace(column, example=base[column.name]) for column in columns]
    return columns


def with_range(column: Column, series: pd.Series) -> Column:
    """Return a column with the lowest and the highest of its numbers in training."""
    if column.type not in ("number", "integer"):
        return column
    numbers = series.dropna().unique().tolist()
    known = [number for number in numbers if math.isfinite(number)]
    return replace(column, lowest=to_cell(min(known)), highest=to_cell(max(known))) if known else column


def known_values(series: pd.Series) -> list:
    """Return the values of a column in order, as JSON has them."""
    categories = series.cat.categories if isinstance(series.dtype, pd.CategoricalDtype) else series.dropna().unique()
    return sorted({to_cell(value) for value in categories.tolist()}) or [0]


def amounts_of(model: Any, X: pd.DataFrame, table: Table) -> list[str]:
    """Return the columns of whole numbers that are no categories: the model answers the same if they are decimals."""
    whole = [
        column.name
        for column, dtype in zip(table.columns, table.dtypes, strict=True)
        if column.type == "integer" and pd.api.types.is_integer_dtype(dtype)
    ]
    names = sorted(set(whole) - encoded_by(model, [column.name for column in table.columns]), key=whole.index)
    rows = to_rows(X.iloc[:50])

    def same(some: list[str]) -> bool:
        dtypes = [
            np.dtype(float) if column.name in some else dtype
            for column, dtype in zip(table.columns, table.dtypes, strict=True)
        ]
        return same_answers(model, to_input(rows, table), to_input(rows, table._replace(dtypes=dtypes)))

    return accepted(names, same)


def encoded_by(model: Any, names: list[str]) -> set[str]:
    """Return the columns that an encoder of the model takes as categories."""
    found, steps = set(), list(estimators(model))
    chosen = [step for step in steps if hasattr(step, "_transformer_to_input_indices")]  # ColumnTransformers
    for step in chosen:
        for name, inner, _ in step.transformers_:
            if any(hasattr(part, "categories_") for part in estimators(inner)):
                known = getattr(step, "feature_names_in_", names)
                found |= {str(known[i]) for i in step._transformer_to_input_indices[name]}
    return set(names) if not chosen and any(hasattr(step, "categories_") for step in steps) else found


def same_answers(model: Any, X: Any, other: Any) -> bool:
    """Return whether a model says the same of two inputs; not if it fails for one of them."""
    asks = [model.predict, *([model.predict_proba] if hasattr(model, "predict_proba") else [])]
    try:
        return all(equal(values_of(ask(X)), values_of(ask(other))) for ask in asks)
    except Exception:  # a model may raise whatever it likes
        return False


def equal(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype.kind == other.dtype.kind == "f":
        return one.shape == other.shape and np.allclose(one, other, 1e-9, 0, equal_nan=True)
    return np.array_equal(one, other)


class Untouched:
    """Stands for a cell that nobody looks at: whatever is done with it raises an error."""

    def refuse(self, *_: Any) -> Any:
        raise RuntimeError("this cell is used")  # pandas catches a TypeError

    __eq__ = __ne__ = __lt__ = __hash__ = __bool__ = __str__ = __repr__ = refuse


def unread(model: Any, X: pd.DataFrame) -> list[Any]:
    """Return the labels of columns that the model does not use: it looks at none of their cells, and no answer depends
    on them. Where this cannot be told, a column is used."""
    labels = list(X) if X.columns.is_unique and len(X.columns) <= MANY else []
    few, some = (X.iloc[np.linspace(0, len(X) - 1, min(len(X), count)).astype(int)] for count in (20, 400))

    def untouched(chosen: list[Any]) -> bool:
        return same_answers(model, few, changed(few, dict.fromkeys(chosen, [Untouched()] * len(few))))

    found = accepted(labels, untouched)
    if not found or len(found) == len(labels):  # a model that answers the same to everybody uses none
        return []

    def indifferent(chosen: list[Any]) -> bool:
        empty = dict.fromkeys(chosen, [None] * len(some))
        turned = {label: some[label].tolist()[::-1] for label in chosen}
        return all(same_answers(model, some, changed(some, values)) for values in (empty, turned))

    return accepted(found, indifferent)


def changed(X: pd.DataFrame, values: dict[Any, list]) -> pd.DataFrame:
    """Return a table with other values in some columns."""
    X = X.copy()
    for label, column in values.items():
        X[label] = pd.Series(column, X.index, dtype=object)
    return X


def without(model: Any, X: pd.DataFrame, labels: list[Any]) -> tuple[pd.DataFrame, list[Any]]:
    """Return X without unused columns, and those of them that must stay, because the model's Python code names them."""
    smaller = X.drop(columns=labels)
    if labels and same_answers(model, X.iloc[:400], smaller.iloc[:400]):
        return smaller, []
    own = isinstance(model, Prepared) or any(isinstance(step, FunctionTransformer) for step in estimators(model))
    return X, labels if own else []


def base_row(model: Any, X: pd.DataFrame, table: Table) -> dict[str, Any]:
    """Return a row that the model answers, with as few nulls as there are. Raises Refusal."""
    fullest = X.isna().sum(axis=1).to_numpy().argsort(kind="stable")[:5]
    rows = to_rows(X.iloc[fullest])
    for row in rows:
        try:
            model.predict(to_input([row], table))
            return row
        except Exception as error:  # a model may raise whatever it likes
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200].rstrip('.')}"
    try:
        model.predict(to_input(to_rows(X.iloc[:400]), table))
    except OtherRows as error:
        raise Refusal(str(error)) from error
    except Exception:
        of = "a DataFrame of one row" if isinstance(model, Prepared) and table.form == "frame" else "a row of X"
        raise Refusal(f"its own predict() fails for {of}, {shown(rows[-1])} ({reason})") from None
    raise Refusal(f"it answers several rows, but fails for {shown(rows[-1])} alone ({reason}); {NEIGHBOURS}")


def shown(row: dict[str, Any]) -> str:
    """Return a row as a message shows it."""
    text = json.dumps(row, ensure_ascii=False)
    return text if len(text) < 300 else text[:300] + " …"


def accepted(names: list[str], accepts: Callable[[list[str]], bool]) -> list[str]:
    """Return the names that the model accepts, by halves: most models accept all columns or none.

    Of many columns, it is not asked about each: those of which it is then not known are not accepted.
    """
    found: list[str] = []
    left, asks = [names] if names else [], ASKED // max(len(names), 1)
    while left and asks:
        some, asks = left.pop(0), asks - 1
        if accepts(some):
            found += some
        elif len(some) > 1:
            middle = len(some) // 2
            left += [some[:middle], some[middle:]]
    return sorted(found, key=names.index) if len(found) < len(names) else names


def unseen(kind: str, known: list) -> list:
    """Return values that were not in the training data, but are of the same type; none if there are no others."""
    if kind == "text":  # the second is for a model that reads a number in the text, such as "12 kg"
        other = re.sub(r"[0-9]", lambda digit: str((int(digit[0]) + 1) % 10), str(known[0]))
        return [UNSEEN] if other in known else [UNSEEN, other]
    if kind == "boolean":
        return [not known[0]] if len(known) == 1 else []
    return [known[-1] + 1] if kind in ("number", "integer") else []
