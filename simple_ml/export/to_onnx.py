"""Convert a fitted model to ONNX, unless ONNX is known to give different answers."""

import copy
import numpy as np
import re
import traceback
from collections.abc import Callable
from dataclasses import replace
from export.columns import Refusal, estimators
from export.steps import UFUNCS, append, patched, register_boosters
from export.trees import shrink
from onnx import ModelProto
from onnx.helper import set_model_props
from runtime import card as cards
from runtime.card import Card, Column
from runtime.onnx import NULL, label
from runtime.prepared import Prepared
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from skl2onnx.sklapi import CastTransformer
from sklearn.base import BaseEstimator, is_classifier
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.svm import LinearSVC
from typing import Any, NamedTuple

WORDS = r"[\p{L}\p{N}_][\p{L}\p{N}_]+"  # what scikit-learn's (?u)\b\w\w+\b finds, as ONNX Runtime's RE2 writes it
OPSETS = {"": 18, "ai.onnx.ml": 3}  # all converters know these versions of ONNX
WIDE = 50  # columns, from which on numbers are one matrix: the time of an input for each grows with their square
EXACT = 2**24  # up to here a float32 holds every whole number

# scikit-learn converts its input to float32 just before these, and compares it with thresholds in float64
TREES = [
    "DecisionTreeClassifier",
    "DecisionTreeRegressor",
    "ExtraTreeClassifier",
    "ExtraTreeRegressor",
    "RandomForestClassifier",
    "RandomForestRegressor",
    "ExtraTreesClassifier",
    "ExtraTreesRegressor",
    "GradientBoostingClassifier",
    "GradientBoostingRegressor",
    "AdaBoostClassifier",
    "AdaBoostRegressor",
    "IsolationForest",
    "XGBClassifier",
    "XGBRegressor",
    "XGBRFClassifier",
    "XGBRFRegressor",
]
# these compare in float64
DOUBLE = [
    "KBinsDiscretizer",
    "KNeighborsClassifier",
    "KNeighborsRegressor",
    "RadiusNeighborsClassifier",
    "RadiusNeighborsRegressor",
    "LocalOutlierFactor",
    "Binarizer",
]
# these pass numbers on as they are, so that trees get in ONNX what they got in training
EXACT_STEPS = [
    "Pipeline",
    "ColumnTransformer",
    "FeatureUnion",
    "OneHotEncoder",
    "OrdinalEncoder",
    "SimpleImputer",
    "SelectKBest",
    "SelectPercentile",
    "SelectFromModel",
    "VarianceThreshold",
    "CountVectorizer",
    "VotingClassifier",
    "VotingRegressor",
    "StackingClassifier",
    "StackingRegressor",
    "CalibratedClassifierCV",
    "LabelEncoder",
]
# these predict the class with the highest probability, and the first of equal ones
VOTERS = [
    "DecisionTreeClassifier",
    "ExtraTreeClassifier",
    "RandomForestClassifier",
    "ExtraTreesClassifier",
    "VotingClassifier",
    "KNeighborsClassifier",
    "GradientBoostingClassifier",
    "HistGradientBoostingClassifier",
    "XGBClassifier",
    "LGBMClassifier",
    "BaggingClassifier",
]


def kind(step: Any) -> str:
    return type(step).__name__


def other_words(step: Any) -> bool:
    return isinstance(step, CountVectorizer) and bool(
        step.analyzer != "word" or step.token_pattern != r"(?u)\b\w\w+\b" or step.tokenizer or step.preprocessor
    )


def float_categories(step: Any) -> bool:
    known = getattr(step, "categories_", []) if isinstance(step, OneHotEncoder) else []
    return any(values.dtype.kind == "f" for values in known)


class Fault(NamedTuple):
    """A step that is known to give different answers in ONNX, whether or not the data shows it."""

    applies: Callable[[Any], Any]  # to a step: true or false
    reason: str
    issue: str  # of onnx/sklearn-onnx, where there is one
    seen: str  # in this version of skl2onnx. Where a later one is right, the line can go
    test: str  # a case of tests/ci/support/models.py


FAULTS = [
    Fault(other_words, "ONNX splits texts in other ways than {}", "#446", "1.20.0", "own pattern"),
    Fault(
        lambda step: getattr(step, "strip_accents", None), "ONNX has no strip_accents of {}", "", "1.20.0", "accents"
    ),
    Fault(
        lambda step: getattr(step, "stop_words", None) and getattr(step, "ngram_range", (1, 1)) != (1, 1),
        "ONNX has no pairs across stop words of {}",
        "",
        "1.20.0",
        "pairs across stop words",
    ),
    Fault(
        lambda step: getattr(step, "sublinear_tf", False),
        "ONNX has another formula for {}(sublinear_tf=True)",
        "#1055",
        "1.20.0",
        "sublinear",
    ),
    Fault(
        lambda step: getattr(step, "method", "") == "isotonic" or kind(step) == "IsotonicRegression",
        "ONNX does not interpolate as {} does",
        "#200",
        "1.20.0",
        "isotonic",
    ),
    Fault(
        lambda step: kind(step) in ("TunedThresholdClassifierCV", "FixedThresholdClassifier"),
        "in ONNX {} loses its threshold",
        "#1225",
        "1.20.0",
        "threshold",
    ),
    Fault(  # each tree becomes nodes of its own
        lambda step: kind(step) == "IsolationForest", "ONNX is slower for its step {}", "#1128", "1.20.0", "outliers"
    ),
    Fault(  # and the categorical features of the first are lost
        lambda step: kind(step).startswith(("HistGradientBoosting", "LGBM")),
        "ONNX has the thresholds of {} in float32 only, and the model compares in float64",
        "#1192",
        "1.20.0",
        "hist gradient boosting",
    ),
    Fault(  # known before the model is copied, which can end the process if CatBoost has texts
        lambda step: type(step).__module__.startswith("catboost."), "ONNX has no {}", "", "1.20.0", "CatBoost"
    ),
    Fault(float_categories, "ONNX treats 1.5 as category 1 of a {}", "#322", "1.20.0", "numbers as categories"),
]


def fault(model: Any, columns: list[Column]) -> str | None:
    """Return why ONNX would give different answers, or None."""
    if any(column.type.startswith("date") for column in columns):
        return "ONNX has no dates"
    return next(
        (each.reason.format(kind(step)) for step in estimators(model) for each in FAULTS if each.applies(step)), None
    )


def unwrapped(model: Any) -> tuple[Any, Any]:
    """Return a model without what is done around it, and the function of NumPy for its answer. Raises Refusal."""
    if not isinstance(model, Prepared):
        return model, None
    if not hasattr(model.model, "predict"):
        raise Refusal("it is a Python function")
    if model.prepare is not None:
        raise Refusal("`prepare` is Python code")
    if model.inverse_func is not None and model.inverse_func not in UFUNCS:
        raise Refusal("`inverse_func` is Python code")
    return model.model, model.inverse_func


def with_card(content: bytes, card: Card) -> bytes:
    """Return model.onnx with another card."""
    onnx = ModelProto.FromString(content)
    set_model_props(onnx, {"card": cards.write(card)})
    return onnx.SerializeToString(deterministic=True)


def without_samplers(model: Any) -> Any:
    """Return a pipeline of imbalanced-learn as one of scikit-learn: its samplers only change the data for training."""
    if not type(model).__module__.startswith("imblearn.") or not isinstance(model, Pipeline):
        return model
    return Pipeline([(name, step) for name, step in model.steps if not hasattr(step, "fit_resample")])


def precisions(model: Any, largest: float) -> list[type]:
    """Return the types of numbers in which ONNX can give the model's own answers, the faster first.

    A tree asks on which side of a threshold a number is, so the last digit matters if the number was computed. float32
    is enough for numbers that reach the trees as they came, and for models without thresholds.
    """
    names = {kind(step) for step in estimators(model) if not (isinstance(step, FunctionTransformer) and not step.func)}
    if names & set(DOUBLE) or largest > EXACT:
        return [np.float64]
    trees = names & set(TREES)
    return [np.float64] if trees and names - trees - set(EXACT_STEPS) else [np.float32, np.float64]


def convert(model: Any, card: Card, number: type, last: Any = None) -> bytes:
    """Convert a fitted model, add its card, and return the file. `last` is a function of NumPy for the answer, or None.

    Raises Refusal.
    """
    served, lower = prepare(model, [column.name for column in card.columns if column.type == "text"])
    served, inverse = without_target(served)
    if number == np.float64:
        served = cast_before_trees(served)
    register_boosters()
    steps = list(estimators(served))
    numbers = DoubleTensorType if number == np.float64 else FloatTensorType
    if len(card.columns) > WIDE and all(column.type != "text" for column in card.columns):
        for step in steps:
            if hasattr(step, "_transformer_to_input_indices"):  # a ColumnTransformer, and a matrix has no names
                places = step._transformer_to_input_indices
                step.transformers_ = [(name, inner, places[name]) for name, inner, _ in step.transformers_]
        inputs = [("X", numbers([None, len(card.columns)]))]
    else:
        inputs = [
            (column.name, (StringTensorType if column.type == "text" else numbers)([None, 1]))
            for column in card.columns
        ]
    if len(inputs) > 1 and not any(isinstance(step, ColumnTransformer) for step in steps):
        # each column stays an input of its own, but most steps expect one matrix of all columns
        served = Pipeline([("columns", FunctionTransformer()), ("model", served)])
    try:
        with patched():
            onnx = convert_sklearn(
                served,
                name="model",  # the default is a random name, but training twice must give the same file
                initial_types=inputs,
                options=dict(filter(None, map(options, steps))),
                target_opset=OPSETS,
            )
        shrink(onnx)
        for func in filter(None, (inverse, last)):
            append(onnx, func)
    except Exception as error:
        text = " ".join(str(error).split()).split(". ")[0][:120].rstrip(".")
        if unknown := re.search(r"calculator for type '<class '[\w.]*?(\w+)'>|'(\w+)' object has no .*tags", text):
            raise Refusal(f"ONNX has no {unknown[1] or unknown[2]}") from error
        raise Refusal(f"skl2onnx cannot convert its step {culprit(error, served) or kind(model)} ({text})") from error
    return finish(onnx, model, card, lower)


def finish(onnx: ModelProto, model: Any, card: Card, lower: list[str]) -> bytes:
    names = [node.name for node in onnx.graph.output]
    last = model.steps[-1][1] if isinstance(model, Pipeline) else model
    labels = range(len(card.classes)) if card.encoded else set(map(label, card.classes))
    if len(labels) < len(card.classes):
        raise Refusal("ONNX has no classes with decimals")
    vote = card.probabilities and kind(last) in VOTERS and len(names) > 1
    outputs = names[1:2] if vote else names[: 1 + card.probabilities + len(card.extras)]
    columns = [replace(column, lowercase=column.name in lower) for column in card.columns]
    card = replace(card, columns=columns, most_probable=vote, outputs=outputs)
    set_model_props(onnx, {"card": cards.write(card)})
    opsets = sorted(onnx.opset_import, key=lambda opset: opset.domain)  # skl2onnx leaves them in random order
    del onnx.opset_import[:]
    onnx.opset_import.extend(opsets)
    return onnx.SerializeToString(deterministic=True)


def prepare(model: Any, texts: list[str]) -> tuple[Any, list[str]]:
    """Return a copy of the model with the settings that skl2onnx needs, which do not change its predictions, and the
    columns that Python must write in small letters, since ONNX knows no more than the letters of English."""
    model = copy.deepcopy(model)
    vectorizers = [step for step in estimators(model) if isinstance(step, CountVectorizer)]
    lower = []
    if any(step.lowercase for step in vectorizers):
        if not all(step.lowercase for step in vectorizers):
            raise Refusal("one step of it writes texts in small letters and another does not")
        lower = texts if len(texts) == 1 else columns_of_vectorizers(model)
        for step in vectorizers:
            step.lowercase = False
    for step in estimators(model):
        if kind(step).startswith("XGB") and step.__sklearn_is_fitted__():  # others also keep the unfitted template
            step.get_booster().feature_names = None  # the converter wants f0, f1 and so on
        if isinstance(step, VotingClassifier):
            step.flatten_transform = False  # this affects transform(), not predict()
        if isinstance(step, SimpleImputer) and hasattr(step, "statistics_"):
            if step._fit_dtype.kind in "OUT":
                step.missing_values = NULL
            else:
                step.statistics_ = step.statistics_.astype(float)  # a constant is an object otherwise
        if isinstance(step, OneHotEncoder):
            for values in getattr(step, "categories_", []):  # a ColumnTransformer also keeps its unfitted steps
                if values.dtype == object:
                    values[[value is None or value != value for value in values]] = NULL
    return model, lower


def columns_of_vectorizers(model: Any) -> list[str]:
    """Return the text columns that only vectorizers use. Raises Refusal if another step uses one of them, too."""
    used: dict[bool, set] = {True: set(), False: set()}
    for step in estimators(model):
        for _, inner, names in getattr(step, "transformers_", []) if isinstance(step, ColumnTransformer) else []:
            words = any(isinstance(part, CountVectorizer) for part in estimators(inner))
            if words or not (isinstance(inner, str) and inner == "drop"):
                used[words] |= {names} if isinstance(names, str) else set(names)
    if used[True] & used[False] or not used[True] or not all(isinstance(name, str) for name in used[True]):
        raise Refusal("a text goes into several of its steps, as words and as a category")
    return sorted(used[True])


def without_target(model: Any) -> tuple[Any, Any]:
    """Return a model without its TransformedTargetRegressor, and the function that this applies to the prediction."""
    last = model.steps[-1][1] if isinstance(model, Pipeline) else model
    if not isinstance(last, TransformedTargetRegressor):
        return model, None
    if last.inverse_func not in UFUNCS:
        raise Refusal("the function of its TransformedTargetRegressor is Python code")
    inner = last.regressor_
    return (
        Pipeline([*model.steps[:-1], ("model", inner)]) if isinstance(model, Pipeline) else inner
    ), last.inverse_func


def cast_before_trees(thing: Any) -> Any:
    """Convert numbers to float32 just before trees, as scikit-learn does, where all else is in float64."""
    if kind(thing) in TREES:
        return Pipeline([("cast", CastTransformer(dtype=np.float32)), ("trees", thing)])
    if kind(thing).startswith("Select"):  # it only asks its model which columns matter
        return thing
    if type(thing).__module__.startswith("sklearn.") and hasattr(thing, "__dict__"):
        for name, part in vars(thing).items():
            vars(thing)[name] = cast_before_trees(part)
    elif isinstance(thing, list):
        thing[:] = map(cast_before_trees, thing)
    elif type(thing) is tuple:
        return tuple(map(cast_before_trees, thing))
    return thing


def options(step: Any) -> tuple[type, dict] | None:
    """Return how skl2onnx should convert this kind of step."""
    if isinstance(step, CountVectorizer):
        return type(step), {"locale": "C.UTF-8", "tokenexp": WORDS}
    # probabilities as a matrix: as a list of dictionaries, the default, 10,000 rows take three times as long
    if isinstance(step, BaseEstimator) and is_classifier(step) and not isinstance(step, LinearSVC):
        return type(step), {"zipmap": False}
    return None


def culprit(error: BaseException, whole: Any) -> str | None:
    """Return the name of the step at which skl2onnx failed: the estimator in the innermost frame that has one."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        for value in frame.f_locals.values():
            step = getattr(value, "raw_operator", value)
            if isinstance(step, BaseEstimator) and step is not whole:
                return kind(step)
    return None
