"""Find out what a model predicts, by asking it."""

import contextlib
import numpy as np
import pandas as pd
from export.columns import Refusal, to_rows
from runtime.card import Extra, Type
from runtime.prepared import OtherRows, Prepared, for_each_row, values_of
from runtime.table import Table, to_input
from sklearn.base import is_outlier_detector
from typing import Any

SCORE = Extra("score", "number", "Lower is more abnormal")
WRAP = "so write a function of a DataFrame that returns a value for each row, and call export(function, rows)"


def check(model: Any) -> None:
    """Raise Refusal, with what to do, for what has no predict() and is no function."""
    kind = type(model).__name__
    if type(model).__module__.startswith("xgboost.") and kind == "Booster":
        raise Refusal("a Booster of xgboost lacks scikit-learn's API, so fit an XGBClassifier or XGBRegressor instead")
    if isinstance(model, dict):
        held = ", ".join(f"{name!r}: {type(value).__name__}" for name, value in list(model.items())[:5])
        raise Refusal(f"it is a dict ({held}), so give export() the model in it, and the other steps by prepare=")
    if isinstance(model, tuple | list):
        held = ", ".join(type(value).__name__ for value in model[:5])
        raise Refusal(f"it is a {kind} ({held}), so give export() the model in it, and the other steps by prepare=")
    if hasattr(model, "predict") or (callable(model) and not isinstance(model, type)):
        return
    what = f"the class {model.__name__} and not an object of it" if isinstance(model, type) else f"a {kind}"
    raise Refusal(f"it is {what}, which has no predict(), {WRAP}")


def what_it_predicts(model: Any, frame: pd.DataFrame, table: Table, names: list[str] | None) -> dict[str, Any]:
    """Return the fields of the card that say what the model answers to a row. Raises Refusal."""
    rows = to_rows(frame.head(20))
    try:
        answer = for_each_row(model.predict(to_input(rows, table)), rows)
    except OtherRows as error:
        raise Refusal(str(error)) from error
    except Exception:  # a model may raise whatever it likes, for some of the rows
        rows = [{column.name: column.example for column in table.columns}]
        answer = for_each_row(model.predict(to_input(rows, table)), rows)
    found = values_of(answer)
    if found.ndim == 0:
        raise Refusal(f"it returns a {type(answer).__name__}, so let it return an array with a value for each row")
    count = 1 if found.ndim == 1 else int(np.prod(found.shape[1:]))
    if isinstance(answer, pd.DataFrame) and count > 1:  # a function names the values of its answer
        names = names or [str(label) for label in answer]
    if names and len(names) != count:
        raise Refusal(f"`targets` has {len(names)} names, but the model predicts {count} values")
    classes = getattr(model, "classes_", None) if count == 1 else None
    classes = [] if classes is None else values_of(classes).tolist()
    for value in classes:
        if not isinstance(value, str | int | float | bool):
            raise inexpressible([value], model)
    columns = found.reshape(len(found), -1).T
    predicts = ["text" if classes else type_of(column, model) for column in columns]
    is_detector = detects_outliers(model)
    if not classes and not is_detector and not hasattr(model, "labels_"):
        # of a regressor whose y was whole
        predicts = ["number" if kind == "integer" else kind for kind in predicts]
    return {
        "classes": classes,
        "predicts": predicts[0] if len(set(predicts)) == 1 else predicts,
        "targets": None if count == 1 else names or count,
        "probabilities": bool(classes) and has_probabilities(model, frame, table, len(classes)),
        "extras": [SCORE] if count == 1 and is_detector and hasattr(model, "score_samples") else [],
    }


def type_of(values: np.ndarray, model: Any) -> Type:
    """Return the type of predictions. Raises Refusal for what JSON cannot express."""
    kinds: dict[str, Type] = {"f": "number", "i": "integer", "u": "integer", "b": "boolean", "U": "text", "T": "text"}
    if values.dtype.kind in kinds:
        return kinds[values.dtype.kind]
    inferred: dict[str, Type] = {
        "string": "text",
        "floating": "number",
        "integer": "integer",
        "mixed-integer-float": "number",
        "boolean": "boolean",
    }
    kind = pd.api.types.infer_dtype(pd.Series(values, dtype=object), skipna=True)
    if kind not in inferred:
        raise inexpressible(values.tolist(), model)
    return inferred[kind]


def inexpressible(values: list, model: Any) -> Refusal:
    kinds = sorted({type(value).__name__ for value in values})
    todo = "fit the model with y.astype(str)"
    if isinstance(model, Prepared) and not hasattr(model.model, "predict"):
        todo = "let it return only texts or only numbers, or a DataFrame with a column for each value"
    return Refusal(f"JSON cannot express its predictions ({' and '.join(kinds)}), so {todo}")


def detects_outliers(model: Any) -> bool:
    """Return whether a model is an outlier detector."""
    with contextlib.suppress(Exception):  # a class that is not derived from scikit-learn's cannot be asked
        return is_outlier_detector(model.model if isinstance(model, Prepared) else model)
    return False


def has_probabilities(model: Any, frame: pd.DataFrame, table: Table, count: int) -> bool:
    with contextlib.suppress(Exception):  # SVC has the method, whether or not it can be used
        return np.shape(model.predict_proba(to_input(to_rows(frame.head(2)), table)))[1:] == (count,)
    return False
