"""Write a fitted scikit-learn model as ONNX, with what app.py must know of it: its features and its classes."""

import contextlib
import copy
import json
import numpy as np
import onnxruntime
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

AGREE = 0.999  # of the rows must get scikit-learn's answer: float32 can move one that lies on a border
PROBABILITY = 0.01  # by how much probabilities may differ on average
RELATIVE = 1e-3  # by how much a number may differ, as a share of it or of the spread of all
TYPES = {
    "string": "text",
    "boolean": "boolean",
    "integer": "integer",
    "floating": "number",
    "mixed-integer-float": "number",
}
NULL = "\ufdd0"  # a missing text, which ONNX does not have: Unicode leaves this code point to such uses
UNSEEN = "\ufdd1"  # a text that no training data holds
WORDS = r"[\p{L}\p{N}_][\p{L}\p{N}_]+"  # what scikit-learn's (?u)\b\w\w+\b finds, as ONNX Runtime's RE2 writes it


class Refusal(Exception):
    """Why a model cannot be served, as the end of a sentence."""


def export(model: Any, X: pd.DataFrame, path: str | Path) -> None:
    """Convert a fitted classifier or regressor to ONNX, check it against scikit-learn on X, and write it to `path`.

    X is the data that the model was fitted on. Each column becomes an input of the ONNX graph, of shape (rows, 1):
    text as string, all else as float32. What the graph cannot say goes into the file's metadata_props as JSON:
    `features` (a list of name, type, nullable, categories or null, an example), `classes` (none for a regressor) and
    `labels` (what the graph calls them), `probabilities` (whether there are any), `null` (it stands for missing text).

    A model that cannot be served, or not exactly, ends the program with one sentence (SystemExit).
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of what is only tried here
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
    """Raise Refusal if this is not a model of one value a row, from a table of named columns."""
    if not isinstance(X, pd.DataFrame):
        raise Refusal("X must be a pandas DataFrame, since its column names become the names of the features")
    if len({str(name) for name in X}) < X.shape[1]:
        raise Refusal("two columns of X have the same name")
    if "" in X:
        raise Refusal("a column of X has no name")
    if not (is_classifier(model) or is_regressor(model)):
        raise Refusal(f"{type(model).__name__} is neither a classifier nor a regressor")
    if model.predict(X.head(1)).ndim > 1:
        raise Refusal(f"{type(model).__name__} predicts several values a row, so give it a y of one column (a Series)")


def describe(model: Any, X: pd.DataFrame) -> tuple[list[dict], list[pd.DataFrame]]:
    """Say of each column what a client may send, and return rows with new values that the model does not refuse."""
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
            continue  # there is no other
        probe = X.head(1).copy()
        probe[name] = UNSEEN if kind == "string" else not values[0] if kind == "boolean" else values[-1] + 1
        try:
            model.predict(probe)
            probes.append(probe)
        except ValueError:  # "Found unknown categories": what the model refuses, the service must refuse
            features[-1] |= {"categories": values, "example": values[0]}
    return features, probes


def convert(model: Any, features: list[dict]) -> bytes:
    """Convert a fitted estimator by skl2onnx, and put beside it what app.py must know. Raises Refusal."""
    served = prepare(model)
    steps = list(estimators(served))
    if not any(isinstance(step, ColumnTransformer) for step in steps):
        # the columns stay inputs of their own and reach the first step as one matrix: most steps take no other
        served = Pipeline([("columns", FunctionTransformer()), ("model", served)])
    types = {True: StringTensorType([None, 1]), False: FloatTensorType([None, 1])}
    try:
        onnx = convert_sklearn(
            served,
            name="model",  # a random one by default: training twice must give the same file
            initial_types=[(feature["name"], types[feature["type"] == "text"]) for feature in features],
            options=dict(options(step) for step in steps),
        )
    except Exception as error:
        reason = " ".join(str(error).split()).split(". ")[0][:200].rstrip(".")
        raise Refusal(
            f"skl2onnx cannot convert its step {culprit(error) or type(model).__name__} ({reason}), "
            "so use another in its place, or do its work before X is made"
        ) from error
    classes = model.classes_.tolist() if is_classifier(model) else []
    about = {
        "features": features,
        "classes": classes,
        "labels": [value if isinstance(value, str) else int(value) for value in classes],
        "probabilities": hasattr(model, "predict_proba"),
        "null": NULL,
    }
    set_model_props(onnx, {key: json.dumps(value) for key, value in about.items()})
    opsets = sorted(onnx.opset_import, key=lambda opset: opset.domain)  # skl2onnx leaves their order to chance
    del onnx.opset_import[:]
    onnx.opset_import.extend(opsets)
    return onnx.SerializeToString(deterministic=True)


def prepare(model: Any) -> Any:
    """Copy a model, with the settings that skl2onnx asks for and that change nothing of what it predicts."""
    model = copy.deepcopy(getattr(model, "best_estimator_", model))  # what a search found, not the search
    for step in estimators(model):
        if isinstance(step, VotingClassifier):
            step.flatten_transform = False  # matters to transform(), not to predict()
        if isinstance(step, SimpleImputer) and getattr(step, "statistics_", np.empty(0)).dtype == object:
            step.missing_values = NULL
        if isinstance(step, OneHotEncoder):
            for values in getattr(step, "categories_", []):  # a ColumnTransformer also keeps its steps unfitted
                if values.dtype == object:
                    values[pd.isna(values)] = NULL
    return model


def options(step: BaseEstimator) -> tuple[type, dict]:
    """How skl2onnx is to convert a kind of step."""
    if isinstance(step, CountVectorizer):
        words = step.analyzer == "word" and step.token_pattern == r"(?u)\b\w\w+\b"
        return type(step), {"locale": "C.UTF-8"} | ({"tokenexp": WORDS} if words else {})
    # probabilities as a matrix: as a list of dictionaries, skl2onnx's default, 10,000 rows take three times as long
    return type(step), {"zipmap": False} if is_classifier(step) and not isinstance(step, LinearSVC) else {}


def estimators(thing: Any) -> Iterator[BaseEstimator]:
    """Yield an estimator and all that it is made of."""
    if isinstance(thing, BaseEstimator):
        yield thing
        thing = vars(thing)
    if isinstance(thing, dict):
        thing = list(thing.values())
    if isinstance(thing, list | tuple):
        for part in thing:
            yield from estimators(part)


def culprit(error: BaseException) -> str | None:
    """Name the step that skl2onnx was at when it failed: the estimator in the innermost frame that has one."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        for value in frame.f_locals.values():
            step = getattr(value, "raw_operator", value)
            if isinstance(step, BaseEstimator):
                return type(step).__name__
    return None


def run(onnx: bytes, features: list[dict], rows: pd.DataFrame) -> list[np.ndarray]:
    """Give rows to ONNX Runtime as app.py does, and return its outputs."""
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
    """Compare ONNX's answers with scikit-learn's: at least the share `agree` must be the same. Raises Refusal."""
    want, share, change = model.predict(rows), 0.0, 0.0
    with contextlib.suppress(Exception):  # ONNX Runtime raises a dozen unrelated types: then no answer is the same
        got, *scores = run(onnx, features, rows)
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
        return f"{share:.1%} of {len(rows)} predictions as scikit-learn's, {difference}"
    moved = f" and its probabilities change by {change:.1g} on average" if change > PROBABILITY else ""
    raise Refusal(
        f"in ONNX only {share:.1%} of its {len(rows)} predictions stay the same{moved}, because of its step "
        f"{first_wrong(model, features, rows)}, so use another in its place, or do its work before X is made"
    )


def first_wrong(model: Any, features: list[dict], rows: pd.DataFrame) -> str:
    """Name the first step of a pipeline whose output ONNX does not reproduce (the last, if all before it are right)."""
    steps = model.steps if isinstance(model, Pipeline) else [("", model)]
    for end in range(1, len(steps)):
        want = model[:end].transform(rows)
        try:
            got = run(convert(model[:end], features), features, rows)[0]
            right = np.allclose(got, want.toarray() if hasattr(want, "toarray") else want, rtol=0.01, atol=0.01)
        except Exception:
            right = False
        if not right:
            return type(steps[end - 1][1]).__name__
    return type(steps[-1][1]).__name__
