"""scikit-learn models that simple_ml serves, and ones that it refuses, and how the tests serve one."""

import contextlib
import json
import numpy as np
import os
import pandas as pd
import pytest
import sys
from collections.abc import Iterator
from examples import ROOT
from helpers import copy_of, process
from pathlib import Path
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_limits
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before export imports ONNX Runtime, which would report to Microsoft
sys.path.insert(0, str(ROOT / "simple_ml"))
from export import export

threadpool_limits(1)  # so little data is slower on several processors

rng = np.random.default_rng(0)
iris, diabetes = load_iris(as_frame=True), load_diabetes(as_frame=True)
AWKWARD = iris.data  # sepal length (cm), ...
FLOWERS = iris.data.set_axis(["f1", "f2", "f3", "f4"], axis="columns")
SPECIES = pd.Series(iris.target_names[iris.target])
HOLES = FLOWERS.mask(rng.random(FLOWERS.shape) < 0.1)
PATIENTS, PROGRESS = diabetes.data, diabetes.target
PEOPLE = pd.DataFrame(
    {
        "city": rng.choice(["Rome", "Vienna", "Zürich"], 400),
        "age": rng.integers(18, 80, 400),
        "income": rng.normal(30000, 9000, 400).round(2),
        "member": rng.random(400) < 0.5,
    }
)
BUYS = pd.Series(np.where((PEOPLE.age > 40) & (PEOPLE.city != "Rome") | PEOPLE.member, "yes", "no"))
GAPS = PEOPLE.assign(city=PEOPLE.city.mask(PEOPLE.age % 7 == 0), income=PEOPLE.income.mask(PEOPLE.age % 5 == 0))
AGES = PEOPLE[["age"]].astype("Int64").mask(PEOPLE[["age"]] % 9 == 0)
WORDS = ["schön", "gut", "good", "bad", "awful", "Film", "movie", "a", "don't", "ok!", "café", "42", "(great)"]
REVIEWS = pd.DataFrame({"review": [" ".join(rng.choice(WORDS, rng.integers(0, 9))) for _ in range(200)]})
LIKED = pd.Series(np.where(REVIEWS.review.str.contains("good|great"), "pos", "neg"))


def people(encoder: Any) -> Any:
    """A text column encoded, two numeric ones scaled, a yes/no one as it is."""
    numeric = make_pipeline(SimpleImputer(), StandardScaler())
    columns = make_column_transformer((encoder, ["city"]), (numeric, ["age", "income"]), remainder="passthrough")
    return make_pipeline(columns, LogisticRegression())


def scaled(model: Any) -> Any:
    return make_pipeline(StandardScaler(), model)


SERVED: dict[str, tuple[Any, pd.DataFrame, Any]] = {
    "logistic regression": (LogisticRegression(max_iter=1000), FLOWERS, SPECIES),
    "scaled": (scaled(LogisticRegression()), FLOWERS, SPECIES),
    "awkward names": (scaled(LogisticRegression()), AWKWARD, SPECIES),
    "awkward names, chosen by name": (
        make_pipeline(make_column_transformer((StandardScaler(), list(AWKWARD.columns[2:]))), LogisticRegression()),
        AWKWARD,
        SPECIES,
    ),
    "names that mean something to others": (
        scaled(LogisticRegression()),
        FLOWERS.set_axis(["label", "probabilities", "a/b~c", "q\"uo'te"], axis="columns"),
        SPECIES,
    ),
    "text category, unknown ones refused": (people(OneHotEncoder()), PEOPLE, BUYS),
    "text category, unknown ones ignored": (people(OneHotEncoder(handle_unknown="ignore")), PEOPLE, BUYS),
    "text category, missing ones known": (people(OneHotEncoder()), GAPS, BUYS),
    "text category, missing ones imputed": (
        people(make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())),
        GAPS,
        BUYS,
    ),
    "pandas category": (people(OneHotEncoder()), PEOPLE.astype({"city": "category"}), BUYS),
    "ordinal": (people(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)), PEOPLE, BUYS),
    "numbers as categories, with nulls": (
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(), LogisticRegression()),
        PEOPLE[["age"]].assign(age=(PEOPLE.age // 10).mask(PEOPLE.member)),
        BUYS,
    ),
    "whole numbers as categories": (
        make_pipeline(OneHotEncoder(), LogisticRegression()),
        PEOPLE[["age", "member"]].assign(age=PEOPLE.age // 10),
        BUYS,
    ),
    "imputer": (make_pipeline(SimpleImputer(), LogisticRegression(max_iter=1000)), HOLES, SPECIES),
    "imputer on whole numbers": (make_pipeline(SimpleImputer(), LogisticRegression()), AGES, BUYS),
    "whole numbers and yes/no": (scaled(LogisticRegression()), PEOPLE[["age", "member"]], BUYS),
    "linear regression": (LinearRegression(), PATIENTS, PROGRESS),
    "polynomial ridge": (make_pipeline(PolynomialFeatures(2), Ridge(0.1)), PATIENTS, PROGRESS),
    "forest of regressors": (RandomForestRegressor(random_state=0), PATIENTS, PROGRESS),
    "hist gradient boosting, regressor": (
        HistGradientBoostingRegressor(max_iter=30, random_state=0),
        PATIENTS,
        PROGRESS,
    ),
    "hist gradient boosting, nulls": (HistGradientBoostingClassifier(max_iter=10, random_state=0), HOLES, SPECIES),
    "gradient boosting": (GradientBoostingClassifier(n_estimators=30, random_state=0), FLOWERS, SPECIES),
    "forest": (RandomForestClassifier(random_state=0), FLOWERS, SPECIES),
    "extra trees": (ExtraTreesClassifier(random_state=0), FLOWERS, SPECIES),
    "SVC": (scaled(SVC()), FLOWERS, SPECIES),
    "SVC with probabilities": (scaled(SVC(probability=True, random_state=0)), FLOWERS, SPECIES),
    "linear SVC": (scaled(LinearSVC()), FLOWERS, SPECIES),
    "perceptron": (Perceptron(), FLOWERS, SPECIES),
    "neighbours": (KNeighborsClassifier(3), FLOWERS, SPECIES),
    "neural network": (scaled(MLPClassifier(random_state=0)), FLOWERS, SPECIES),
    "naive Bayes": (GaussianNB(), FLOWERS, SPECIES),
    "calibrated": (scaled(CalibratedClassifierCV(LinearSVC())), FLOWERS, SPECIES),
    "voting": (
        VotingClassifier([("a", scaled(LogisticRegression())), ("b", GaussianNB())], voting="soft"),
        FLOWERS,
        SPECIES,
    ),
    "stacked": (StackingClassifier([("a", scaled(LogisticRegression())), ("b", GaussianNB())]), FLOWERS, SPECIES),
    "grid search": (GridSearchCV(scaled(LogisticRegression()), {"logisticregression__C": [0.1, 1]}), FLOWERS, SPECIES),
    "words of a text": (
        make_pipeline(make_column_transformer((TfidfVectorizer(), "review")), LogisticRegression()),
        REVIEWS,
        LIKED,
    ),
    "classes are whole numbers": (scaled(LogisticRegression()), FLOWERS, iris.target * 5 + 3),
    "classes are yes and no": (scaled(LogisticRegression()), FLOWERS, iris.target == 1),
}

NOT_ONNX: dict[str, tuple[Any, pd.DataFrame, Any, str]] = {  # and what the sentence must name
    "a function of one's own": (
        make_pipeline(FunctionTransformer(np.cbrt), LogisticRegression()),
        FLOWERS,
        SPECIES,
        "FunctionTransformer",  # Python code, which ONNX cannot hold
    ),
    "no converter": (make_pipeline(SplineTransformer(), LogisticRegression()), FLOWERS, SPECIES, "SplineTransformer"),
    "no converter, in a branch": (
        make_pipeline(make_column_transformer((SplineTransformer(), ["f1"])), LogisticRegression(max_iter=1000)),
        FLOWERS,
        SPECIES,
        "SplineTransformer",
    ),
    "rare categories as one": (
        people(OneHotEncoder(min_frequency=140, handle_unknown="infrequent_if_exist")),
        PEOPLE,
        BUYS,
        "OneHotEncoder",  # skl2onnx knows OneHotEncoder, but not this setting
    ),
    "characters of a text": (
        make_pipeline(make_column_transformer((TfidfVectorizer(analyzer="char_wb"), "review")), LogisticRegression()),
        REVIEWS,
        LIKED,
        "TfidfVectorizer",
    ),
    "a linear SVC in a pipeline in another": (
        CalibratedClassifierCV(scaled(LinearSVC())),
        FLOWERS,
        SPECIES,
        "LinearSVC",  # skl2onnx trips over an option of its own; the other way round it converts it
    ),
    "dates": (
        make_pipeline(make_column_transformer((OneHotEncoder(), ["day"])), LogisticRegression()),
        pd.DataFrame({"day": pd.date_range("2024-01-01", periods=150)}),
        SPECIES,
        "dates",
    ),
}


@contextlib.contextmanager
def serve(model: Any, X: pd.DataFrame, folder: Path) -> Iterator[str]:
    """Export a fitted model, start a copy of simple_ml with it, and yield its address."""
    copy_of("simple_ml", folder)
    export(model, X, folder / "model.onnx")
    packages = "simple_ml-train" if (folder / "model.pkl").exists() else "simple_ml"
    with process("simple_ml", folder, packages, GRANIAN_WORKERS="1") as (url, _):
        yield url


def as_sent(rows: pd.DataFrame) -> list[dict]:
    """Rows as a client sends them: what is missing is null."""
    return rows.astype(object).where(rows.notna(), None).to_dict("records")


def assert_same(answers: list[dict], model: Any, rows: pd.DataFrame) -> None:
    """Check that answers are what scikit-learn predicts for rows."""
    want = model.predict(rows).tolist()
    if not hasattr(model, "classes_"):
        assert [answer["prediction"] for answer in answers] == pytest.approx(want, rel=1e-3)
        return
    assert [answer["prediction"] for answer in answers] == want
    if not hasattr(model, "predict_proba"):
        assert all(answer.keys() == {"prediction"} for answer in answers)
        return
    got = [list(answer["probabilities"].values()) for answer in answers]
    assert np.array(got) == pytest.approx(model.predict_proba(rows), abs=1e-4)
    names = [value if isinstance(value, str) else json.dumps(value) for value in model.classes_.tolist()]
    assert list(answers[0]["probabilities"]) == names
