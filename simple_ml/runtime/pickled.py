"""Run model.pkl: any model, by the packages that trained it.

The file is a line of JSON (the card), a line with the checksum of the rest, and a pickle of the model, of its X without
rows and, if they are not the usual ones, of scikit-learn's settings (sklearn.set_config). A pickle can run any code
when it is loaded, so load only files that you or your image build has written.
"""

import functools
import hashlib
import math
import numpy as np
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from runtime import card
from runtime.card import MOST, Answers, Card, NoAnswer
from runtime.prepared import for_each_row, values_of
from runtime.table import UnclearTime, table_of, to_input
from typing import Any

INFINITE = math.inf, -math.inf

# how each of Card.extras is computed, by the model and its X
EXTRAS: dict[str, Callable[[Any, Any], Any]] = {"score": lambda model, X: model.score_samples(X)}


def content(described: Card, model: bytes) -> bytes:
    """Return what model.pkl holds. `model` is a pickle: see above."""
    return f"{card.write(described)}\n{hashlib.sha256(model).hexdigest()}\n".encode() + model


def read(file: Path) -> tuple[Card, bytes]:
    """Return the card and the pickle. Raises ValueError for a damaged file, or one that this export() did not write."""
    first, _, rest = file.read_bytes().partition(b"\n")
    if not first.startswith(b"{"):
        raise ValueError("it was not written by export()")
    described = card.read(first)
    checksum, _, model = rest.partition(b"\n")
    if hashlib.sha256(model).hexdigest() != checksum.decode(errors="replace"):
        raise ValueError("it is damaged")
    return described, model


class PickledModel:
    def __init__(self, file: Path) -> None:
        self.card, pickled = read(file)
        warnings.simplefilter("ignore")  # a row that makes a model warn would fill the log
        np.seterr(all="ignore")
        self.model, empty, *settings = pickle.loads(pickled)
        described = {column.name: column for column in [*self.card.columns, *self.card.unread]}
        self.table = table_of([described[str(label)] for label in empty], empty, self.card.form)
        self.unread = {column.name: column.example for column in self.card.unread}
        last = self.model.steps[-1][1] if hasattr(self.model, "steps") else self.model
        # CatBoost takes the number of threads in predict() only
        self.threads = {"thread_count": 1} if type(last).__module__.startswith("catboost") else {}
        self.settings: Callable[[], AbstractContextManager] = nullcontext
        self.classes = np.array(self.card.classes, object)
        # True and 1 are the same key, so this also gives a class its type
        self.class_of = {value: value for value in self.card.classes}
        if settings:
            from sklearn import config_context

            self.settings = functools.partial(config_context, **settings[0])

    def predict(self, rows: list[dict]) -> Answers:
        """Return the answers to rows. Raises NoAnswer where the model does, or where its answer is not finite."""
        failed: dict[int, Exception] = {}
        parts = list(self.parts(rows, 0, failed))
        if failed:
            first = next(iter(failed.values()))
            usual = "The model fails for a row, or its answer is not a finite number."
            raise NoAnswer(str(first) if isinstance(first, UnclearTime) else usual, list(failed)) from first
        if len(parts) == 1:
            return parts[0]
        return Answers(
            [prediction for part in parts for prediction in part.predictions],
            [shares for part in parts for shares in part.probabilities or []] if self.card.probabilities else None,
            {extra.name: [one for part in parts for one in part.extras[extra.name]] for extra in self.card.extras},
        )

    def parts(self, rows: list[dict], start: int, failed: dict[int, Exception]) -> Iterator[Answers]:
        """Yield the answers to rows. If the model fails, halve them until the rows are found for which it does."""
        try:
            found, shares, extras = self.ask(rows)
        except Exception as error:  # a model may raise whatever it likes
            if len(rows) == 1:
                failed[start] = error
                return
            middle = len(rows) // 2
            for first, half in ((0, rows[:middle]), (middle, rows[middle:])):
                if len(failed) < MOST:
                    yield from self.parts(half, start + first, failed)
            return
        predictions: list = found.reshape(len(rows), -1).tolist()
        if not self.card.targets:
            predictions = [values[0] for values in predictions]
        if self.card.classes:
            predictions = [self.class_of[value] for value in predictions]
        probabilities = None if shares is None else shares.round(6).tolist()
        yield Answers(predictions, probabilities, {name: values.tolist() for name, values in extras.items()})

    def ask(self, rows: list[dict]) -> tuple[np.ndarray, np.ndarray | None, dict[str, np.ndarray]]:
        """Return what the model says of rows: predictions, probabilities (rows, classes), and the extras, (rows,)."""
        X = to_input([self.unread | row for row in rows] if self.unread else rows, self.table)
        with self.settings():
            shares = None
            if self.card.probabilities:
                shares = np.asarray(for_each_row(self.model.predict_proba(X, **self.threads), rows), float)
            if self.card.most_probable and shares is not None:
                found = self.classes[shares.argmax(axis=1)]
            else:
                found = values_of(for_each_row(self.model.predict(X, **self.threads), rows))
                if found.size != len(rows) * self.card.count:
                    raise ValueError("it predicts another number of values than for the rows of training")
            extras = {
                extra.name: np.asarray(EXTRAS[extra.name](self.model, X), float).ravel() for extra in self.card.extras
            }
        for values in (found, shares, *extras.values()):
            if values is not None and not usable(values):
                raise FloatingPointError("an answer is missing, or is not a finite number")
        return found, shares, extras


def usable(values: np.ndarray) -> bool:
    """Return whether no value is missing or infinite."""
    if values.dtype.kind == "O":
        return all(value is not None and value == value and value not in INFINITE for value in values.ravel())
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())
