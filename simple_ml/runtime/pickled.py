"""Run model.pkl: any model, by the packages that trained it.

The file is a line of JSON (the card), a line with the checksum of the rest, and a pickle of the model and of its X
without rows. A pickle can run any code when it is loaded, so load only files that you or your image build has written.
"""

import hashlib
import numpy as np
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from runtime import card
from runtime.card import Answers, Card, NoAnswer
from runtime.table import table_of, to_input
from typing import Any

# how each of Card.extras is computed, by the model and its X
EXTRAS: dict[str, Callable[[Any, Any], Any]] = {"score": lambda model, X: model.score_samples(X)}


def content(described: Card, model: bytes) -> bytes:
    """Return what model.pkl holds. `model` is a pickle of the model and of its X without rows, a DataFrame."""
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
        self.model, empty = pickle.loads(pickled)
        self.table = table_of(self.card.columns, empty, self.card.form)
        last = self.model.steps[-1][1] if hasattr(self.model, "steps") else self.model
        # CatBoost takes the number of threads in predict() only
        self.threads = {"thread_count": 1} if type(last).__module__.startswith("catboost") else {}
        self.classes = np.array(self.card.classes, object)
        # True and 1 are the same key, so this also gives a class its type
        self.class_of = {value: value for value in self.card.classes}

    def predict(self, rows: list[dict]) -> Answers:
        """Return the answers to rows. Raises NoAnswer where the model does, or where its answer is not finite."""
        try:
            found, shares, extras = self.ask(rows)
        except Exception as error:  # a model may raise whatever it likes
            if len(rows) > 1:
                return self.one_by_one(rows)
            sentence = "The model fails for a row, or its answer is not a finite number."
            raise NoAnswer(sentence, 0) from error
        predictions: list = found.reshape(len(rows), -1).tolist()
        if not self.card.targets:
            predictions = [values[0] for values in predictions]
        if self.card.classes:
            predictions = [self.class_of[value] for value in predictions]
        probabilities = None if shares is None else shares.round(6).tolist()
        return Answers(predictions, probabilities, {name: values.tolist() for name, values in extras.items()})

    def ask(self, rows: list[dict]) -> tuple[np.ndarray, np.ndarray | None, dict[str, np.ndarray]]:
        """Return what the model says of rows: predictions, probabilities (rows, classes), and the extras, (rows,)."""
        X = to_input(rows, self.table)
        shares = np.asarray(self.model.predict_proba(X, **self.threads), float) if self.card.probabilities else None
        if self.card.most_probable and shares is not None:
            found = self.classes[shares.argmax(axis=1)]
        else:
            found = np.asarray(self.model.predict(X, **self.threads))
        extras = {
            extra.name: np.asarray(EXTRAS[extra.name](self.model, X), float).ravel() for extra in self.card.extras
        }
        for numbers in (found, shares, *extras.values()):
            if numbers is not None and numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
                raise FloatingPointError("an answer is not a finite number")
        return found, shares, extras

    def one_by_one(self, rows: list[dict]) -> Answers:
        """Halve the rows until the one is found for which the model fails."""
        middle = len(rows) // 2
        parts = []
        for start, half in ((0, rows[:middle]), (middle, rows[middle:])):
            try:
                parts.append(self.predict(half))
            except NoAnswer as error:
                raise NoAnswer(str(error), start + error.row) from error.__cause__
        one, other = parts
        return Answers(
            one.predictions + other.predictions,
            None if one.probabilities is None else one.probabilities + (other.probabilities or []),
            {name: values + other.extras[name] for name, values in one.extras.items()},
        )
