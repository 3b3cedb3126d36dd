"""A model with what a notebook does around it: preparing the rows, and turning the answer back. Part of model.pkl."""

import numpy as np
import pandas as pd
from collections.abc import Callable
from typing import Any


class OtherRows(ValueError):
    """A function returned another number of rows than it got."""


def same_length(made: Any, X: Any, who: str) -> Any:
    """Return what was made from X. Raises OtherRows unless it has as many rows."""
    found = made.shape[0] if hasattr(made, "shape") and made.shape else len(made)
    if found != len(X):
        raise OtherRows(f"{who} returns {found} rows for {len(X)}")
    return made


def values_of(found: Any) -> np.ndarray:
    """Return answers as an array: (rows,) or (rows, values). A DataFrame keeps the type of each column."""
    array = found.astype(object).to_numpy() if isinstance(found, pd.DataFrame) else np.asarray(found)
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
        same_length(found, X, "its predict()")
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
