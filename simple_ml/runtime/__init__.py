"""The model file, model.onnx or model.pkl, and its predictions."""

import hashlib
import multiprocessing
import numpy as np
import os
import sys
import traceback
from pathlib import Path
from runtime.card import Answers, NoAnswer
from typing import Any

Rows = list[dict[str, Any]] | dict[str, np.ndarray]
FOLDER = Path(__file__).resolve().parent.parent
FILES = "model.onnx", "model.pkl"


class Model:
    """A model file that export() wrote. `card` says what it takes and answers: see card.py.

    `version` is the first 12 hex digits of the file's SHA-256, as `sha256sum` prints it.
    """

    def __init__(self, file: Path | None = None) -> None:
        """Load a model file, by default the one in this folder. Raises ValueError, with a sentence."""
        file = file or next((path for name in FILES if (path := FOLDER / name).exists()), None)
        if not file:
            raise ValueError("There is no model.onnx or model.pkl here: run `python3 train.py`, which calls export().")
        # One processor for each worker. These must be set before the libraries are imported.
        os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            self.run = runtime_of(file)
            with file.open("rb") as content:
                self.version = hashlib.file_digest(content, "sha256").hexdigest()[:12]
        except Exception as error:  # a damaged file makes the libraries raise all kinds of errors
            text = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
            reason = text if isinstance(error, ValueError) else f"it cannot be loaded here ({text})"
            raise ValueError(f"{file.name} cannot be used, because {reason}: run `python3 train.py`.") from error
        self.card = self.run.card
        if {"tensorflow", "jax"} & sys.modules.keys():  # they hang in workers that are forked
            multiprocessing.set_start_method("spawn", force=True)

    def predict(self, rows: Rows) -> list[dict[str, Any]]:
        """Return the answer to each row: {"prediction": a class or a number}, and the "probabilities" of all classes.

        A model with several targets predicts a list of values or, where they have names, a dictionary. An outlier
        detector predicts 1 or -1 (an outlier), with its "score" (lower is more abnormal, as scikit-learn's
        score_samples). A row is {name of a column: its value}; rows of numbers may also come as {name of a column: an
        array of its values}. The model runs once for all rows, which is much faster than row by row. Raises NoAnswer.
        """
        return self.named(self.answers(rows))

    def named(self, answers: Answers) -> list[dict[str, Any]]:
        """Return answers as `predict` does."""
        results = [{"prediction": prediction} for prediction in answers.predictions]
        if isinstance(self.card.targets, list):
            for result in results:
                result["prediction"] = dict(zip(self.card.targets, result["prediction"], strict=True))
        if answers.probabilities is not None:
            names = self.card.class_names
            for result, shares in zip(results, answers.probabilities, strict=True):
                result["probabilities"] = dict(zip(names, shares, strict=True))
        for name, values in answers.extras.items():
            for result, value in zip(results, values, strict=True):
                result[name] = value
        return results

    def answers(self, rows: Rows) -> Answers:
        """Return the same in columns, as CSV wants it. Raises NoAnswer."""
        try:
            return self.ask(rows)
        except NoAnswer as error:
            if error.__cause__:  # what the model itself raised, for the log
                traceback.print_exception(error.__cause__)
            raise

    def ask(self, rows: Rows) -> Answers:
        """Return the same, and log nothing. Raises NoAnswer."""
        if not isinstance(rows, dict):
            return self.run.predict(rows)
        if hasattr(self.run, "predict_columns"):
            return self.run.predict_columns(rows)
        return self.run.predict(one_by_one(rows))


def one_by_one(columns: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return rows that come as columns as a list of rows."""
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in values]


def runtime_of(file: Path) -> Any:
    """Return a model file with what runs it. Only that is imported: model.onnx is served without pandas."""
    if file.suffix == ".onnx":
        from runtime.onnx import OnnxModel

        return OnnxModel(file)
    from runtime.pickled import PickledModel

    return PickledModel(file)
