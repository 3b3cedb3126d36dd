"""Run model.pkl: any model, by the packages that trained it.

The first line of the file is JSON: what serving must know, and the checksum of the rest, a pickle of the model and of
its columns. A pickle can run any code when it is loaded, so load only files that you or your image build has written.
"""

import hashlib
import json
import numpy as np
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from table import to_input
from typing import Any


class BadRow(ValueError):
    """The model raised an error for a `row`, counted from 0, or its answer is not a finite number."""

    def __init__(self, row: int) -> None:
        super().__init__("The model fails for a row, or its answer is not a finite number.")
        self.row = row


def read(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return what serving must know, and the pickle. Raises ValueError if the file is damaged, or is another pickle."""
    line, _, rest = path.read_bytes().partition(b"\n")
    try:
        metadata = json.loads(line)
        checksum = metadata.pop("sha256")
    except (ValueError, TypeError, AttributeError, KeyError):
        raise ValueError("it was not written by export.py") from None
    if hashlib.sha256(rest).hexdigest() != checksum:
        raise ValueError("it is damaged")
    return metadata, rest


def load(path: Path) -> tuple[dict[str, Any], Callable]:
    """Return what export.py has stored beside the model, and a function that predicts: see `answers()`."""
    metadata, rest = read(path)
    warnings.simplefilter("ignore")  # a row that makes a model warn would fill the log
    np.seterr(all="ignore")
    model, columns = pickle.loads(rest)
    classes, has_score = metadata["classes"], metadata["score"]
    probabilities = model.predict_proba if metadata["probabilities"] else None
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    # CatBoost takes the number of threads in predict() only
    threads = {"thread_count": 1} if type(last).__module__.startswith("catboost") else {}

    def answers(rows: list[dict]) -> tuple[list, list[list[float]] | None, list[float] | None]:
        """Return the prediction for each row, and the probabilities of all classes or the scores, if there are any.

        Raises BadRow.
        """
        try:
            X = to_input(rows, columns)
            shares = np.asarray(probabilities(X, **threads), float) if probabilities else None
            if metadata["vote"] and shares is not None:
                found = names[shares.argmax(axis=1)]
            else:
                found = np.asarray(model.predict(X, **threads))
            scores = np.asarray(model.score_samples(X), float).ravel() if has_score else None
            for numbers in (found, shares, scores):
                if numbers is not None and numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
                    raise FloatingPointError("an answer is not a finite number")
        except Exception as error:  # a model may raise whatever it likes
            if len(rows) == 1:
                raise BadRow(0) from error
            return one_by_one(rows)
        predictions = found.reshape(len(rows), -1).tolist()
        if not metadata["targets"]:
            predictions = [values[0] for values in predictions]
        if classes:
            predictions = [class_of[value] for value in predictions]
        return (
            predictions,
            None if shares is None else shares.round(6).tolist(),
            None if scores is None else scores.tolist(),
        )

    def one_by_one(rows: list[dict]) -> tuple[list, list | None, list | None]:
        """Halve the rows until the one is found for which the model fails."""
        middle = len(rows) // 2
        parts = []
        for start, half in ((0, rows[:middle]), (middle, rows[middle:])):
            try:
                parts.append(answers(half))
            except BadRow as error:
                raise BadRow(start + error.row) from error.__cause__
        one, other = parts
        return tuple(None if a is None else a + b for a, b in zip(one, other, strict=True))  # type: ignore

    names = np.array(classes, object)
    class_of = {value: value for value in classes}  # True and 1 are the same key, so this also gives a class its type
    return metadata, answers
