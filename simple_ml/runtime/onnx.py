"""Run model.onnx: a model that export/ has converted, by ONNX Runtime alone."""

import numpy as np
import os
from pathlib import Path
from runtime import card
from runtime.card import MOST, Answers, NoAnswer
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # otherwise ONNX Runtime reports to Microsoft
import onnxruntime

TIE = 2e-6  # classes whose probabilities are so close are equal: a sum of float32 is not more exact
NULL = "\ufdd0"  # stands for a missing text, which ONNX does not have; Unicode reserves this code point for such uses
DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(string)": object}


def label(value: Any) -> str | int:
    """Return a class as ONNX has it: text, or a whole number."""
    return value if isinstance(value, str) else int(value)


def most(shares: list[float]) -> int:
    """Return which share is the largest, and the first of equal ones. For a few, NumPy takes ten times as long."""
    least = max(shares) - TIE
    return next(number for number, share in enumerate(shares) if share > least)


def array(values: list, dtype: type, lowercase: bool) -> np.ndarray:
    """Return one feature of all rows as the model expects it: (rows, 1), of numbers or texts."""
    if dtype is object:
        texts = [NULL if value is None else value.lower() if lowercase else value for value in values]
        return np.array(texts, object)[:, np.newaxis]
    return np.array(values, dtype)[:, np.newaxis]  # None becomes NaN


class OnnxModel:
    def __init__(self, file: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # the server already runs several workers
        self.session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
        self.card = card.read(self.session.get_modelmeta().custom_metadata_map.get("card", "{}"))
        nodes, self.names = self.session.get_inputs(), [column.name for column in self.card.columns]
        is_matrix = nodes[0].shape[1] == len(self.names) > 1  # one input for all columns, not one for each
        self.matrix = (nodes[0].name, DTYPES[nodes[0].type]) if is_matrix else None
        self.inputs = [
            (node.name, column.name, DTYPES[node.type], column.lowercase)
            for node, column in (() if is_matrix else zip(nodes, self.card.columns, strict=True))
        ]
        self.class_of = {
            number if self.card.encoded else label(value): value for number, value in enumerate(self.card.classes)
        }

    def predict(self, rows: list[dict]) -> Answers:
        """Return the answers to rows. Raises NoAnswer for numbers so large that the model's answer is not a number."""
        inputs = {node: array([row[name] for row in rows], dtype, lower) for node, name, dtype, lower in self.inputs}
        if self.matrix:
            node, dtype = self.matrix
            inputs[node] = np.array([[row[name] for name in self.names] for row in rows], dtype)  # None becomes NaN
        return self.compute(inputs, len(rows))

    def predict_columns(self, columns: dict[str, np.ndarray]) -> Answers:
        """Return the same for rows of numbers that come as columns, (rows,) each: in long lists it is much faster."""
        inputs = {node: columns[name].astype(dtype)[:, np.newaxis] for node, name, dtype, _ in self.inputs}
        if self.matrix:
            node, dtype = self.matrix
            inputs[node] = np.column_stack([columns[name] for name in self.names]).astype(dtype)
        return self.compute(inputs, len(columns[self.names[0]]))

    def compute(self, inputs: dict[str, np.ndarray], count: int) -> Answers:
        results = self.session.run(self.card.outputs, inputs)
        found, numbers = results[0], results[-1]
        if numbers.dtype.kind == "f" and np.count_nonzero(~np.isfinite(numbers)):  # faster than .all() for one row
            bad = np.flatnonzero(~np.isfinite(numbers).reshape(count, -1).all(axis=1))
            raise NoAnswer("The model has no answer to numbers as large as these.", bad[:MOST].tolist())
        if self.card.most_probable:
            shares = numbers.astype(float).round(6).tolist()
            return Answers([self.card.classes[most(row)] for row in shares], shares)
        if self.card.classes:
            labels = [self.class_of[value] for value in found.ravel().tolist()]
            return Answers(labels, numbers.astype(float).round(6).tolist() if self.card.probabilities else None)
        predictions: list = found.reshape(count, -1).tolist()
        if found.dtype == np.float32:
            predictions = [[float(f"{value:.7g}") for value in values] for values in predictions]  # it has 7 digits
        if not self.card.targets:
            predictions = [values[0] for values in predictions]
        extras = zip(self.card.extras, results[1:], strict=True)
        return Answers(predictions, extras={extra.name: values.ravel().tolist() for extra, values in extras})
