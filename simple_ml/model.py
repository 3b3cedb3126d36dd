"""The model that train.py has written, model.onnx or model.pkl: which features it expects, and what it predicts."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # otherwise ONNX Runtime reports to Microsoft
# One processor for each worker. These must be set before the libraries are imported.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

FOLDER = Path(__file__).parent


def load() -> tuple[dict[str, Any], Callable]:
    """Load the model file with the runtime for its kind. Ends the program with a sentence if that does not work."""
    file = next((path for kind in ("onnx", "pkl") if (path := FOLDER / f"model.{kind}").exists()), None)
    if not file:
        sys.exit("There is no model.onnx or model.pkl here: run `python3 train.py` first.")
    try:
        if file.suffix == ".onnx":
            import run_onnx as runtime
        else:
            import run_pickle as runtime  # type: ignore[no-redef]  # needs the packages of requirements-train.txt
        return runtime.load(file)
    except Exception as error:  # a damaged file makes the libraries raise all kinds of errors
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        sys.exit(f"{file.name} cannot be used, so train the model again: {reason}.")


# what export.py has stored in the file, beside the model
metadata, answers = load()
features: list[dict] = metadata["features"]  # name, type, nullable, categories, example and description of each
classes: list = metadata["classes"]  # empty if the model does not predict one class
has_probabilities: bool = metadata["probabilities"]
targets: list[str] | int | None = metadata["targets"]  # their names, or how many, if the model predicts several values

about = {key: metadata[key] for key in ("title", "description", "trained")}
example = {feature["name"]: feature["example"] for feature in features}
class_names = [name if isinstance(name, str) else json.dumps(name) for name in classes]


def predict(rows: list[dict]) -> list[dict]:
    """Return the prediction for each row: {"prediction": a class or a number}, and the "probabilities" of all classes.

    A model with several targets predicts a list of values or, where they have names, a dictionary. An outlier detector
    predicts 1 or -1 (an outlier), with its "score" (lower is more abnormal, as scikit-learn's score_samples).
    A row is {name of a feature: its value}. The model runs once for all rows, which is much faster than row by row.
    Raises ValueError if the model has no answer; run_pickle.BadRow, a ValueError, says for which `row`.
    """
    try:
        predictions, probabilities, scores = answers(rows)
    except ValueError as error:
        if error.__cause__:  # what the model itself raised, for the log
            traceback.print_exception(error.__cause__)
        raise
    if isinstance(targets, list):
        predictions = [dict(zip(targets, values, strict=True)) for values in predictions]
    results: list[dict] = [{"prediction": prediction} for prediction in predictions]
    if probabilities is not None:
        for result, shares in zip(results, probabilities, strict=True):
            result["probabilities"] = dict(zip(class_names, shares, strict=True))
    if scores is not None:
        for result, score in zip(results, scores, strict=True):
            result["score"] = score
    return results
