"""Write a fitted scikit-learn model to model.onnx, with everything that serving must know: its features and classes."""

import contextlib
import copy
import json
import numpy as np
import os
import pandas as pd
import sys
import traceback
import warnings
from collections.abc import Iterator
from onnx.helper import set_model_props
from pathlib import Path
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.svm import LinearSVC
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # otherwise ONNX Runtime reports to Microsoft
import onnxruntime

AGREE = 0.999  # share of the rows that must get scikit-learn's answer: float32 can move a row that lies on a border
PROBABILITY = 0.01  # by how much probabilities may differ on average
RELATIVE = 1e-3  # by how much a number may differ, relative to it or to the spread of all numbers
TYPES = {
    "string": "text",
    "boolean": "boolean",
    "integer": "integer",
    "floating": "number",
    "mixed-integer-float": "number",
}
NULL = "\ufdd0"  # stands for a missing text, which ONNX does not have; Unicode reserves this code point for such uses
UNSEEN = "\ufdd1"  # a text that is in no training data
WORDS = r"[\p{L}\p{N}_][\p{L}\p{N}_]+"  # what scikit-learn's (?u)\b\w\w+\b finds, as ONNX Runtime's RE2 writes it


class Refusal(Exception):
    """Why a model cannot be served, as the end of a sentence."""


def export(model: Any, X: pd.DataFrame, path: str | Path) -> None:
    """Convert a fitted classifier or regressor to ONNX, check it against scikit-learn on X, and write it to `path`.

    X is the data that the model was fitted on. Each column becomes an input of the ONNX graph, of shape (rows, 1):
    text as string, everything else as float32. The file's metadata_props hold the rest, as JSON: `features` (a list of
    name, type, nullable, categories or null, an example), `classes` (empty for a regressor) and `labels` (how the graph
    names the classes), `probabilities` (true if the model has any), `null` (stands for a missing text).

    Raises SystemExit, with one sentence, if the model cannot be served or if ONNX gives other answers.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # these are only trial predictions
            check(model, X)
            features, probes = describe(model, X)
            onnx = convert(model, features)
            report = compare(model, onnx, features, X, AGREE)
            for probe in probes:
                compare(model, onnx, features, probe, 1)
    except Refusal as refusal:
        sys.exit(f"This model cannot be served: {refusal}.")
    Path(path).write_bytes(onnx)
    print(f"{Path(path).name}: {len(onnx) / 1000:,.1f} kB, {report}")


def check(model: Any, X: pd.DataFrame) -> None:
    """Raise Refusal unless the model predicts one value for each row of a table with named columns."""
    if not isinstance(X, pd.DataFrame):
        raise Refusal("X must be a pandas DataFrame, because its column names become the names of the features")
    if len({str(name) for name in X}) < X.shape[1]:
        raise Refusal("two columns of X have the same name")
    if "" in X:
        raise Refusal("a column of X has no name")
    if not (is_classifier(model) or is_regressor(model)):
        raise Refusal(f"{type(model).__name__} is neither a classifier nor a regressor")
    if model.predict(X.head(1)).ndim > 1:
        raise Refusal(f"{type(model).__name__} predicts several values a row, so fit it with a Series as y")


def describe(model: Any, X: pd.DataFrame) -> tuple[list[dict], list[pd.DataFrame]]:
    """Describe what a client may send for each column. Also return rows with values that were not in the training data,
    to test the converted model on."""
    features, probes = [], []
    for name in X:
        known = X[name].dropna().astype(object)
        kind = pd.api.types.infer_dtype(known)
        if kind not in TYPES:
            raise Refusal(f"the column {name} holds {kind} values, not numbers, yes/no or text")
        values = sorted(known.unique().tolist())
        features.append(
            {
                "name": str(name),
                "type": TYPES[kind],
                "nullable": bool(X[name].hasnans),
                "categories": None,
                "example": "some text" if kind == "string" else values[len(values) // 2],
            }
        )
        if values == [False, True]:
            continue  # there is no other value
        probe = X.head(1).copy()
        probe[name] = UNSEEN if kind == "string" else not values[0] if kind == "boolean" else values[-1] + 1
        try:
            model.predict(probe)
            probes.append(probe)
        except ValueError:  # "Found unknown categories": the service must refuse what the model refuses
            features[-1] |= {"categories": values, "example": values[0]}
    return features, probes


def convert(model: Any, features: list[dict]) -> bytes:
    """Convert a fitted estimator with skl2onnx, and add what serving must know. Raises Refusal."""
    served = prepare(model)
    steps = list(estimators(served))
    if not any(isinstance(step, ColumnTransformer) for step in steps):
        # each column stays an input of its own, but most steps expect one matrix of all columns
        served = Pipeline([("columns", FunctionTransformer()), ("model", served)])
    types = {True: StringTensorType([None, 1]), False: FloatTensorType([None, 1])}
    try:
        onnx = convert_sklearn(
            served,
            name="model",  # the default is a random name, but training twice must give the same file
            initial_types=[(feature["name"], types[feature["type"] == "text"]) for feature in features],
            options=dict(options(step) for step in steps),
        )
    except Exception as error:
        reason = " ".join(str(error).split()).split(". ")[0][:200].rstrip(".")
        raise Refusal(
            f"skl2onnx cannot convert its step {culprit(error) or type(model).__name__} ({reason}), "
            "so use another step in its place, or do its work before you make X"
        ) from error
    classes = model.classes_.tolist() if is_classifier(model) else []
    metadata = {
        "features": features,
        "classes": classes,
        "labels": [value if isinstance(value, str) else int(value) for value in classes],
        "probabilities": hasattr(model, "predict_proba"),
        "null": NULL,
    }
    set_model_props(onnx, {key: json.dumps(value) for key, value in metadata.items()})
    opsets = sorted(onnx.opset_import, key=lambda opset: opset.domain)  # skl2onnx leaves them in random order
    del onnx.opset_import[:]
    onnx.opset_import.extend(opsets)
    return onnx.SerializeToString(deterministic=True)


def prepare(model: Any) -> Any:
    """Return a copy of the model with the settings that skl2onnx needs; they do not change its predictions."""
    model = copy.deepcopy(getattr(model, "best_estimator_", model))  # the model that a search has found, not the search
    for step in estimators(model):
        if isinstance(step, VotingClassifier):
            step.flatten_transform = False  # this affects transform(), not predict()
        if isinstance(step, SimpleImputer) and getattr(step, "statistics_", np.empty(0)).dtype == object:
            step.missing_values = NULL
        if isinstance(step, OneHotEncoder):
            for values in getattr(step, "categories_", []):  # a ColumnTransformer also keeps its unfitted steps
                if values.dtype == object:
                    values[pd.isna(values)] = NULL
    return model


def options(step: BaseEstimator) -> tuple[type, dict]:
    """Return how skl2onnx should convert this kind of step."""
    if isinstance(step, CountVectorizer):
        words = step.analyzer == "word" and step.token_pattern == r"(?u)\b\w\w+\b"
        return type(step), {"locale": "C.UTF-8"} | ({"tokenexp": WORDS} if words else {})
    # probabilities as a matrix: as a list of dictionaries, the default, 10,000 rows take three times as long
    return type(step), {"zipmap": False} if is_classifier(step) and not isinstance(step, LinearSVC) else {}


def estimators(thing: Any) -> Iterator[BaseEstimator]:
    """Yield an estimator and all estimators inside it."""
    if isinstance(thing, BaseEstimator):
        yield thing
        thing = vars(thing)
    if isinstance(thing, dict):
        thing = list(thing.values())
    if isinstance(thing, list | tuple):
        for part in thing:
            yield from estimators(part)


def culprit(error: BaseException) -> str | None:
    """Return the name of the step at which skl2onnx failed: the estimator in the innermost frame that has one."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        for value in frame.f_locals.values():
            step = getattr(value, "raw_operator", value)
            if isinstance(step, BaseEstimator):
                return type(step).__name__
    return None


def predict(onnx: bytes, features: list[dict], rows: pd.DataFrame) -> list[np.ndarray]:
    """Return the outputs of ONNX Runtime for rows, which are passed as model.py passes them."""
    silent = onnxruntime.SessionOptions()
    silent.log_severity_level = 4
    session = onnxruntime.InferenceSession(onnx, silent, providers=["CPUExecutionProvider"])
    inputs = {}
    for node, feature, name in zip(session.get_inputs(), features, rows, strict=True):
        text = feature["type"] == "text"
        column = rows[name].astype(object).where(rows[name].notna(), NULL if text else np.nan)
        inputs[node.name] = column.to_numpy(object if text else np.float32).reshape(-1, 1)
    return session.run(None, inputs)


def compare(model: Any, onnx: bytes, features: list[dict], rows: pd.DataFrame, agree: float) -> str:
    """Compare ONNX's predictions with scikit-learn's. Raises Refusal if less than the share `agree` is the same."""
    want, share, change = model.predict(rows), 0.0, 0.0
    with contextlib.suppress(Exception):  # ONNX Runtime raises a dozen unrelated types; then share stays 0
        got, *scores = predict(onnx, features, rows)
        if is_classifier(model):
            same, difference = got == want.astype(got.dtype), "no probabilities"
            if hasattr(model, "predict_proba"):
                distance = np.abs(scores[0] - model.predict_proba(rows))
                change, difference = distance.mean(), f"largest difference in a probability {distance.max():.1g}"
        else:
            same = np.isclose(got.ravel(), want, rtol=RELATIVE, atol=RELATIVE * want.std())
            difference = f"largest difference {np.abs(got.ravel() - want).max():.1g}"
        share = same.mean()
    if share >= agree and change <= PROBABILITY:
        return f"{share:.1%} of {len(rows)} predictions are scikit-learn's, {difference}"
    moved = f" and its probabilities change by {change:.1g} on average" if change > PROBABILITY else ""
    raise Refusal(
        f"in ONNX only {share:.1%} of its {len(rows)} predictions stay the same{moved}, because of its step "
        f"{first_wrong(model, features, rows)}, so use another step in its place, or do its work before you make X"
    )


def first_wrong(model: Any, features: list[dict], rows: pd.DataFrame) -> str:
    """Return the name of the first step whose output ONNX does not reproduce (or of the last step)."""
    steps = model.steps if isinstance(model, Pipeline) else [("", model)]
    for end in range(1, len(steps)):
        want = model[:end].transform(rows)
        try:
            got = predict(convert(model[:end], features), features, rows)[0]
            right = np.allclose(got, want.toarray() if hasattr(want, "toarray") else want, rtol=0.01, atol=0.01)
        except Exception:
            right = False
        if not right:
            return type(steps[end - 1][1]).__name__
    return type(steps[-1][1]).__name__
