"""Run model.onnx: a model that export.py has converted, by ONNX Runtime alone."""

import json
import numpy as np
import onnxruntime
from collections.abc import Callable
from pathlib import Path
from typing import Any

TIE = 2e-6  # classes whose probabilities are so close are equal: a sum of float32 is not more exact

DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(string)": object}


def most(shares: list[float]) -> int:
    """Return which share is the largest, and the first of equal ones. For a few, NumPy takes ten times as long."""
    least = max(shares) - TIE
    return next(number for number, share in enumerate(shares) if share > least)


def load(path: Path) -> tuple[dict[str, Any], Callable]:
    """Return what export.py has stored beside the model, and a function that predicts: see `answers()`."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the server already runs several workers
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    metadata = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}

    classes, has_probabilities, how = metadata["classes"], metadata["probabilities"], metadata["onnx"]
    class_of = dict(zip(how["labels"], classes, strict=True))  # ONNX has no classes True and False, only 1 and 0
    by_vote = how["vote"]  # the prediction is the most probable class, and the first of several equal ones
    outputs = how["outputs"]
    columns = [
        (node.name, feature["name"], DTYPES[node.type], node.name in how["lower"])
        for node, feature in zip(session.get_inputs(), metadata["features"], strict=True)
    ]
    null = how["null"]  # stands for a missing text, which ONNX does not have

    def column(rows: list[dict], name: str, dtype: type, lower: bool) -> np.ndarray:
        """Return one feature of all rows as the model expects it: an array of shape (rows, 1), of numbers or texts."""
        values = [row[name] for row in rows]
        if dtype is object:
            texts = [null if value is None else value.lower() if lower else value for value in values]
            return np.array(texts, object)[:, np.newaxis]
        return np.array(values, dtype)[:, np.newaxis]  # None becomes NaN

    def answers(rows: list[dict]) -> tuple[list, list[list[float]] | None, list[float] | None]:
        """Return the prediction for each row, and the probabilities of all classes or the scores, if there are any.

        Raises ValueError if the numbers are so large that the model's answer is not a number.
        """
        results = session.run(outputs, {node: column(rows, *how) for node, *how in columns})
        found, numbers = results[0], results[-1]
        if numbers.dtype.kind == "f" and np.count_nonzero(~np.isfinite(numbers)):  # faster than .all() for one row
            raise ValueError("The model has no answer to numbers as large as these.")
        if by_vote:
            shares = numbers.astype(float).round(6).tolist()
            return [classes[most(row)] for row in shares], shares, None
        if classes:
            predictions = [class_of[label] for label in found.ravel().tolist()]
            return predictions, numbers.astype(float).round(6).tolist() if has_probabilities else None, None
        predictions = found.reshape(len(rows), -1).tolist()
        if found.dtype == np.float32:
            predictions = [[float(f"{value:.7g}") for value in values] for values in predictions]  # it has 7 digits
        if not metadata["targets"]:
            predictions = [values[0] for values in predictions]
        return predictions, None, numbers.ravel().tolist() if metadata["score"] else None

    return metadata, answers
