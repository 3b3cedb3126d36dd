"""The model that train.py has written to model.onnx: which features it expects, and what it predicts."""

import json
import numpy as np
import os
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # otherwise ONNX Runtime reports to Microsoft
import onnxruntime

FILE = Path(__file__).with_name("model.onnx")

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1  # the server already runs several workers
session = onnxruntime.InferenceSession(FILE, options, ["CPUExecutionProvider"])

# what export.py has stored in the file, beside the model
metadata = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
features: list[dict] = metadata["features"]  # name, type, nullable, categories and an example of each
classes: list = metadata["classes"]  # empty if the model predicts a number
has_probabilities: bool = metadata["probabilities"]
missing_text: str = metadata["null"]  # stands for a missing text, which ONNX does not have

class_of = dict(zip(metadata["labels"], classes, strict=True))  # ONNX has no classes True and False, only 1 and 0
inputs = [node.name for node in session.get_inputs()]
outputs = [node.name for node in session.get_outputs()][: 2 if has_probabilities else 1]


def predict(rows: list[dict]) -> list[dict]:
    """Return the prediction for each row: {"prediction": a class or a number}, and the "probabilities" of all classes.

    A row is {name of a feature: its value}. The model runs once for all rows, which is much faster than row by row.
    Raises ValueError if the numbers are so large that the model's answer is not a number.
    """
    columns = {node: column(rows, feature) for node, feature in zip(inputs, features, strict=True)}
    results = session.run(outputs, columns)
    numbers = results[-1]
    if numbers.dtype.kind == "f" and np.count_nonzero(~np.isfinite(numbers)):  # faster than .all() for one row
        raise ValueError("The model has no answer to numbers as large as these.")
    if not classes:
        return [{"prediction": float(f"{value:.7g}")} for value in numbers.ravel().tolist()]  # a float32 has 7 digits
    answers: list[dict] = [{"prediction": class_of[label]} for label in results[0].tolist()]
    if has_probabilities:
        for answer, row in zip(answers, numbers.astype(float).round(6).tolist(), strict=True):
            answer["probabilities"] = dict(zip(classes, row, strict=True))
    return answers


def column(rows: list[dict], feature: dict) -> np.ndarray:
    """Return one feature of all rows as the model expects it: an array of shape (rows, 1), float32 or text."""
    values = [row[feature["name"]] for row in rows]
    if feature["type"] == "text":
        return np.array([[missing_text if value is None else value] for value in values], object)
    return np.array(values, np.float32)[:, np.newaxis]  # None becomes NaN
