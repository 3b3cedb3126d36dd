"""A model with what a notebook does around it: preparing the rows, and turning the answer back. Part of model.pkl."""

import numpy as np
import pandas as pd
from collections.abc import Callable
from typing import Any


class OtherRows(ValueError):
    """A function returned something else than a value for each row: what, and what to do, as the end of a sentence."""


def same_length(made: Any, X: Any, who: str) -> Any:
    """Return what was made from X. Raises OtherRows unless it has as many rows."""
    shape = getattr(made, "shape", None)
    found = shape[0] if shape else len(made) if shape is None and hasattr(made, "__len__") else None
    if found == len(X):
        return made
    if found is None or isinstance(made, dict | tuple):
        todo = "so let it return an array with a value for each row, or a DataFrame with a column for each value"
        what = "None" if made is None else f"one {type(made).__name__}"
        raise OtherRows(f"{who} returns {what} for {len(X)} rows, {todo}")
    todo = "so let it answer each row, without dropna(), drop_duplicates() or query()"
    raise OtherRows(f"{who} returns {found} rows for {len(X)} rows, {todo}")


def for_each_row(found: Any, X: Any) -> Any:
    """Return what a model answers to X, with a value or a row of values for each row. Raises OtherRows.

    Of the answer to a single row, squeeze() in a notebook leaves the value, or the row of values.
    """
    if len(X) == 1 and (np.isscalar(found) or getattr(found, "ndim", 1) == 0):
        found = np.reshape(found, 1)
    elif len(X) == 1 and getattr(found, "ndim", 0) == 1 and len(found) > 1:
        found = np.reshape(found, (1, -1))
    return same_length(found, X, "its predict()")


def values_of(found: Any) -> np.ndarray:
    """Return answers as an array: (rows,) or (rows, values). A DataFrame or a list keeps the type of each value."""
    if isinstance(found, pd.DataFrame):
        array = found.astype(object).to_numpy()
    else:
        try:
            array = np.asarray(found)
        except ValueError:  # lists of different lengths
            array = np.empty(len(found), object)
            array[:] = found
        if array.dtype.kind == "U" and isinstance(found, list | tuple):
            array = np.array(found, object)  # NumPy would make a text of a number beside texts
    return np.frompyfunc(plain, 1, 1)(array) if array.dtype.kind == "O" and array.ndim else array


def plain(value: Any) -> Any:
    """Return a value of NumPy as one of Python."""
    return value.item() if isinstance(value, np.generic) else value


class Prepared:
    """A model that takes raw rows, with the methods of scikit-learn that serving needs.

    `model` is a fitted model, or a function of the rows that returns a value for each row. `prepare` turns raw rows
    into what it takes, `inverse_func` is applied to the numbers that it predicts, and `names` are those of its classes
    0, 1, 2 and so on.
    """

    def __init__(
        self,
        model: Any,
        prepare: Callable[[Any], Any] | None = None,
        inverse_func: Callable[[np.ndarray], Any] | None = None,
        names: list | None = None,
    ) -> None:
        self.model, self.prepare, self.inverse_func, self.names = model, prepare, inverse_func, names
        if names is not None:
            self.classes_ = names
        elif hasattr(model, "classes_"):
            self.classes_ = model.classes_

    def input(self, X: Any) -> Any:
        """Return what the model takes. X is copied, because functions of notebooks often change it."""
        return X if self.prepare is None else same_length(self.prepare(X.copy()), X, "prepare()")

    def predict(self, X: Any, **more: Any) -> Any:
        if hasattr(self.model, "predict"):
            found = self.model.predict(self.input(X), **more)
        else:
            found = self.model(self.input(X).copy())
        found = for_each_row(found, X)
        if self.inverse_func is not None:
            found = self.inverse_func(np.asarray(found))
        return found if self.names is None else self.named(values_of(found).ravel())

    def named(self, codes: np.ndarray) -> np.ndarray:
        """Return the names of classes. Raises ValueError for what is not the number of one."""
        numbers = codes.astype(int)
        if (numbers != codes).any() or not ((numbers >= 0) & (numbers < len(self.names or []))).all():
            raise ValueError(f"it predicts other values than 0 to {len(self.names or []) - 1}, which have class_names")
        return np.array(self.names, object)[numbers]

    @property
    def predict_proba(self) -> Callable[..., Any]:  # a property, so that hasattr() says whether the model has it
        ask = self.model.predict_proba
        return lambda X, **more: ask(self.input(X), **more)

    @property
    def score_samples(self) -> Callable[..., Any]:
        ask = self.model.score_samples
        return lambda X: ask(self.input(X))
