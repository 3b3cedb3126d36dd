"""Models as people fit them on tables: each is exported, served, and must answer as the model itself does."""

import contextlib
import functools
import importlib.metadata
import numpy as np
import os
import pandas as pd
import sys
from catboost import CatBoostClassifier
from collections.abc import Iterator
from examples import ROOT
from helpers import copy_of, process
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from lightgbm import LGBMClassifier
from pathlib import Path
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import Birch, KMeans
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectFromModel
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron, Ridge
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor, RegressorChain
from sklearn.naive_bayes import GaussianNB, MultinomialNB
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
from sklearn.svm import SVC, LinearSVC, OneClassSVM
from sklearn.tree import DecisionTreeRegressor
from threadpoolctl import threadpool_limits
from typing import Any, NamedTuple
from xgboost import XGBClassifier, XGBRegressor

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before export imports ONNX Runtime, which would report to Microsoft
sys.path.insert(0, str(ROOT / "simple_ml"))
from export import export as export
from export import new_process as new_process
from export import to_onnx as to_onnx
from export.columns import as_table, to_rows
from export.columns import with_range as with_range
from runtime import Model as Model
from runtime.card import MISSING as MISSING
from runtime.card import Column as Column

threadpool_limits(1)  # so little data is slower on several processors
# export() asks for each model, and the answer takes a tenth of a second
importlib.metadata.packages_distributions = functools.cache(importlib.metadata.packages_distributions)

rng = np.random.default_rng(0)
iris, diabetes = load_iris(as_frame=True), load_diabetes(as_frame=True)
AWKWARD = iris.data.sample(150, random_state=0)  # sepal length (cm), ...
FLOWERS = AWKWARD.set_axis(["f1", "f2", "f3", "f4"], axis="columns")
SPECIES = pd.Series(iris.target_names[iris.target])[FLOWERS.index]
HOLES = FLOWERS.mask(rng.random(FLOWERS.shape) < 0.1)
ONE_HOLE = FLOWERS.mask(np.arange(600).reshape(150, 4) == 8)
PATIENTS, PROGRESS = diabetes.data, diabetes.target
N = 600
PEOPLE = pd.DataFrame(
    {
        "city": rng.choice(["Rome", "Vienna", "Zürich"], N),
        "age": rng.integers(18, 80, N),
        "income": rng.normal(30000, 9000, N).round(),
        "member": rng.random(N) < 0.5,
        "since": pd.date_range("2020-01-01", periods=N, freq="D"),
        "seen": pd.date_range("2024-03-01 08:30", periods=N, freq="37min", tz="Europe/Vienna"),
    }
)
BUYS = pd.Series(np.where((PEOPLE.age > 40) & (PEOPLE.city != "Rome") | PEOPLE.member, "yes", "no"))
PLAIN = PEOPLE[["city", "age", "income", "member"]]
GAPS = PLAIN.assign(city=PLAIN.city.mask(PLAIN.age % 7 == 0), income=PLAIN.income.mask(PLAIN.age % 5 == 0))
AGES = PEOPLE[["age"]].astype("Int64").mask(PEOPLE[["age"]] % 9 == 0)
NUMBERS = PEOPLE[["age", "income"]]
SPENT = PEOPLE.age * 10 + PEOPLE.income / 100 + rng.normal(0, 40, N)
WORDS = ["schön", "gut", "good", "bad", "awful", "Film", "movie", "a", "don't", "ok!", "café", "ΚΑΛΌΣ", "İZMİR", "42"]
WORDS += ["(great)"]
TEXTS = pd.Series([" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(300)], name="review")
LIKED = pd.Series(np.where(TEXTS.str.contains("good|great"), "pos", "neg"))
REVIEWS = TEXTS.to_frame()


class Ratio(TransformerMixin, BaseEstimator):
    """A class of the user's own."""

    def fit(self, X: Any, y: Any = None) -> "Ratio":
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        return np.c_[X["age"], X["income"] / X["age"]]


class Strict(Ratio):
    """It raises an error for a city that it does not know, and for a null."""

    def fit(self, X: pd.DataFrame, y: Any = None) -> "Strict":
        self.number_ = {city: i for i, city in enumerate(sorted(set(X["city"])))}
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        return np.array([[self.number_[city]] for city in X["city"]])


class Mean:
    """A class of the user's own that is derived from no other."""

    def fit(self, X: pd.DataFrame, y: pd.Series) -> "Mean":
        self.means_ = y.groupby(X["age"] // 10).mean()
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return (X["age"] // 10).map(self.means_).fillna(self.means_.mean()).to_numpy()


class Whole(Ratio):
    """It wants whole numbers."""

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        if X["age"].dtype.kind != "i":
            raise TypeError("ages are whole numbers")
        return X[["age"]].to_numpy()


def dates(X: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"day": X["since"].dt.dayofyear, "hour": X["seen"].dt.hour, "age": X["age"]})


def scaled(model: Any) -> Any:
    return make_pipeline(StandardScaler(), model)


def people(encoder: Any) -> Any:
    """A text column encoded, two numeric ones scaled, a yes/no one as it is."""
    numeric = make_pipeline(SimpleImputer(), StandardScaler())
    columns = make_column_transformer((encoder, ["city"]), (numeric, ["age", "income"]), remainder="passthrough")
    return make_pipeline(columns, LogisticRegression())


def mixed(model: Any) -> Any:
    return make_pipeline(people(OneHotEncoder())[0], model)


def words(vectorizer: Any) -> Any:
    return make_pipeline(make_column_transformer((vectorizer, "review")), LogisticRegression(C=50))


class Case(NamedTuple):
    model: Any
    X: Any
    y: Any
    kind: str  # of the file that it becomes: onnx or pkl
    says: str = ""  # what the sentence about a pkl must name


CASES: dict[str, Case] = {
    "logistic regression": Case(LogisticRegression(max_iter=1000), FLOWERS, SPECIES, "onnx"),
    "scaled": Case(scaled(LogisticRegression()), FLOWERS, SPECIES, "onnx"),
    "awkward names": Case(scaled(LogisticRegression()), AWKWARD, SPECIES, "onnx"),
    "awkward names, chosen by name": Case(
        make_pipeline(make_column_transformer((StandardScaler(), list(AWKWARD.columns[2:]))), LogisticRegression()),
        AWKWARD,
        SPECIES,
        "onnx",
    ),
    "names that mean something to others": Case(
        scaled(LogisticRegression()),
        FLOWERS.set_axis(["label", "probabilities", "a/b~c", "q\"uo'te"], axis="columns"),
        SPECIES,
        "onnx",
    ),
    "text category, unknown ones refused": Case(people(OneHotEncoder()), PLAIN, BUYS, "onnx"),
    "text category, unknown ones ignored": Case(people(OneHotEncoder(handle_unknown="ignore")), PLAIN, BUYS, "onnx"),
    "text category, missing ones known": Case(people(OneHotEncoder()), GAPS, BUYS, "onnx"),
    "text category, missing ones imputed": Case(
        people(make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())), GAPS, BUYS, "onnx"
    ),
    "pandas category": Case(people(OneHotEncoder()), PLAIN.astype({"city": "category"}), BUYS, "onnx"),
    "ordinal": Case(people(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)), PLAIN, BUYS, "onnx"),
    "numbers as categories, with nulls": Case(
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(), LogisticRegression()),
        PLAIN[["age"]].assign(age=(PLAIN.age // 10).mask(PLAIN.member)),
        BUYS,
        "pkl",
    ),
    "whole numbers as categories": Case(
        make_pipeline(OneHotEncoder(), LogisticRegression()),
        PLAIN[["age", "member"]].assign(age=PLAIN.age // 10),
        BUYS,
        "onnx",
    ),
    "imputer": Case(make_pipeline(SimpleImputer(), LogisticRegression(max_iter=1000)), HOLES, SPECIES, "onnx"),
    "imputer on whole numbers": Case(make_pipeline(SimpleImputer(), LogisticRegression()), AGES, BUYS, "onnx"),
    "whole numbers and yes/no": Case(scaled(LogisticRegression()), PLAIN[["age", "member"]], BUYS, "onnx"),
    "linear regression": Case(LinearRegression(), PATIENTS, PROGRESS, "onnx"),
    "polynomial ridge": Case(make_pipeline(PolynomialFeatures(2), Ridge(0.1)), PATIENTS, PROGRESS, "onnx"),
    "forest of regressors": Case(RandomForestRegressor(30, random_state=0), PATIENTS, PROGRESS, "onnx"),
    "hist gradient boosting, regressor": Case(
        HistGradientBoostingRegressor(max_iter=30, random_state=0), PATIENTS, PROGRESS, "pkl"
    ),
    "gradient boosting": Case(GradientBoostingClassifier(n_estimators=30, random_state=0), FLOWERS, SPECIES, "onnx"),
    "forest": Case(RandomForestClassifier(30, random_state=0), FLOWERS, SPECIES, "onnx"),
    "extra trees": Case(ExtraTreesClassifier(30, random_state=0), FLOWERS, SPECIES, "onnx"),
    "SVC": Case(scaled(SVC()), FLOWERS, SPECIES, "onnx"),
    "SVC with probabilities": Case(scaled(SVC(probability=True, random_state=0)), FLOWERS, SPECIES, "onnx"),
    "linear SVC": Case(scaled(LinearSVC()), FLOWERS, SPECIES, "pkl"),
    "perceptron": Case(Perceptron(), FLOWERS, SPECIES, "onnx"),
    "neural network": Case(scaled(MLPClassifier(random_state=0)), FLOWERS, SPECIES, "onnx"),
    "naive Bayes": Case(GaussianNB(), FLOWERS, SPECIES, "onnx"),
    "calibrated": Case(scaled(CalibratedClassifierCV(LinearSVC())), FLOWERS, SPECIES, "onnx"),
    "voting": Case(
        VotingClassifier([("a", scaled(LogisticRegression())), ("b", GaussianNB())], voting="soft"),
        FLOWERS,
        SPECIES,
        "onnx",
    ),
    "stacked": Case(
        StackingClassifier([("a", scaled(LogisticRegression())), ("b", GaussianNB())]), FLOWERS, SPECIES, "onnx"
    ),
    "grid search": Case(
        GridSearchCV(scaled(LogisticRegression()), {"logisticregression__C": [0.1, 1]}), FLOWERS, SPECIES, "onnx"
    ),
    "words of a text": Case(
        words(TfidfVectorizer(max_df=0.9)),
        REVIEWS,
        LIKED,
        "onnx",
    ),
    "classes are whole numbers": Case(scaled(LogisticRegression()), FLOWERS, 5 * iris.target[FLOWERS.index], "onnx"),
    "classes are yes and no": Case(scaled(LogisticRegression()), FLOWERS, iris.target[FLOWERS.index] == 1, "onnx"),
    "constant imputed": Case(
        make_pipeline(SimpleImputer(strategy="constant", fill_value=0), Ridge()), HOLES, iris.target, "onnx"
    ),
    "forest, nulls seen": Case(RandomForestClassifier(30, random_state=0), HOLES, SPECIES, "onnx"),
    "forest, one null seen": Case(RandomForestClassifier(30, random_state=0), ONE_HOLE, SPECIES, "onnx"),
    "forest, even votes": Case(RandomForestClassifier(20, random_state=0), NUMBERS, BUYS, "onnx"),
    "scaled, then trees": Case(scaled(RandomForestClassifier(30, random_state=0)), NUMBERS, BUYS, "onnx"),
    "scaled, then a tree": Case(scaled(DecisionTreeRegressor(random_state=0)), NUMBERS, SPENT, "onnx"),
    "mixed, then trees": Case(
        mixed(RandomForestRegressor(20, random_state=0)), GAPS.assign(city=PLAIN.city), SPENT, "onnx"
    ),
    "neighbours": Case(KNeighborsClassifier(3), FLOWERS, SPECIES, "pkl"),
    "clusters": Case(KMeans(3, n_init=1, random_state=0), FLOWERS, None, "onnx"),
    "two targets": Case(LinearRegression(), FLOWERS, np.c_[iris.target, iris.target * 2.5], "onnx"),
    "two classes": Case(
        MultiOutputClassifier(LogisticRegression()), FLOWERS, np.c_[iris.target, iris.target == 1], "onnx"
    ),
    "y of one column": Case(LinearRegression(), NUMBERS, SPENT.to_frame("spent"), "onnx"),
    "function of NumPy": Case(make_pipeline(FunctionTransformer(np.log1p), LinearRegression()), NUMBERS, SPENT, "onnx"),
    "logarithm of the target": Case(
        TransformedTargetRegressor(LinearRegression(), func=np.log1p, inverse_func=np.expm1), NUMBERS, SPENT, "onnx"
    ),
    "array": Case(LogisticRegression(max_iter=500), FLOWERS.to_numpy(), SPECIES, "onnx"),
    "names are numbers": Case(
        LogisticRegression(max_iter=500), FLOWERS.set_axis(range(4), axis="columns"), SPECIES, "onnx"
    ),
    "series of texts": Case(make_pipeline(CountVectorizer(), MultinomialNB()), TEXTS, LIKED, "onnx"),
    "words, capitals": Case(words(TfidfVectorizer()), REVIEWS, LIKED, "onnx"),
    "classes are numbers": Case(
        LogisticRegression(max_iter=500),
        FLOWERS,
        (iris.target * 1.5)[FLOWERS.index].astype(str).astype("category"),
        "onnx",
    ),
    "nullable dtypes": Case(mixed(LogisticRegression()), PLAIN.convert_dtypes(), BUYS, "onnx"),
    "XGBoost": Case(XGBClassifier(n_estimators=20, n_jobs=4), HOLES, iris.target[FLOWERS.index], "onnx"),
    "XGBoost, numbers": Case(XGBRegressor(n_estimators=20), NUMBERS, SPENT, "onnx"),
    "XGBoost in a stack": Case(
        StackingClassifier([("a", XGBClassifier(n_estimators=2)), ("b", GaussianNB())]), FLOWERS, SPECIES, "onnx"
    ),
    "XGBoost for several targets": Case(
        MultiOutputRegressor(XGBRegressor(n_estimators=2)), FLOWERS, np.c_[iris.target, iris.target * 2.5], "onnx"
    ),
    "XGBoost chooses columns": Case(
        make_pipeline(SelectFromModel(XGBClassifier(n_estimators=2)), LogisticRegression()),
        FLOWERS,
        iris.target[FLOWERS.index],
        "onnx",
    ),
    "XGBoost in a chain": Case(
        RegressorChain(XGBRegressor(n_estimators=2)), FLOWERS, np.c_[iris.target, iris.target * 2.5], "pkl"
    ),
    "resampled": Case(
        make_imblearn_pipeline(RandomOverSampler(), LogisticRegression(max_iter=500)), NUMBERS, BUYS, "onnx"
    ),
    "XGBoost, categories": Case(
        XGBClassifier(n_estimators=20, enable_categorical=True),
        PLAIN.astype({"city": "category"}),
        (BUYS == "yes").astype(int),
        "pkl",
    ),
    "LightGBM": Case(LGBMClassifier(n_estimators=20, verbose=-1), HOLES, SPECIES, "pkl"),
    "CatBoost": Case(
        CatBoostClassifier(iterations=20, cat_features=["city"], verbose=0, allow_writing_files=False),
        PLAIN,
        BUYS,
        "pkl",
    ),
    "no class of scikit-learn's": Case(Mean(), NUMBERS, SPENT, "pkl"),
    "no converter": Case(make_pipeline(SplineTransformer(), LogisticRegression(max_iter=500)), FLOWERS, SPECIES, "pkl"),
    "own class": Case(make_pipeline(Ratio(), LinearRegression()), NUMBERS, SPENT, "pkl"),
    "own class, strict": Case(make_pipeline(Strict(), LogisticRegression()), PLAIN[["city"]], BUYS, "pkl"),
    "strict about whole numbers": Case(make_pipeline(Whole(), LinearRegression()), NUMBERS[["age"]], SPENT, "pkl"),
    "lambda": Case(
        make_pipeline(FunctionTransformer(lambda X: X * 2), LogisticRegression(max_iter=500)), FLOWERS, SPECIES, "pkl"
    ),
    "dates": Case(
        make_pipeline(FunctionTransformer(dates), LinearRegression()), PEOPLE[["since", "seen", "age"]], SPENT, "pkl"
    ),
    "dictionaries": Case(make_pipeline(DictVectorizer(), LinearRegression()), PLAIN.to_dict("records"), SPENT, "pkl"),
    "hist gradient boosting": Case(HistGradientBoostingClassifier(max_iter=9, random_state=0), HOLES, SPECIES, "pkl"),
    "categories": Case(
        HistGradientBoostingRegressor(max_iter=9, categorical_features="from_dtype"),
        PLAIN.astype({"city": "category"}),
        SPENT,
        "pkl",
    ),
    "clusters in a tree": Case(Birch(n_clusters=3), FLOWERS, None, "pkl"),
    "outliers": Case(IsolationForest(n_estimators=9, random_state=0), FLOWERS, None, "pkl"),
    "outliers, SVM": Case(scaled(OneClassSVM()), FLOWERS, None, "pkl"),
    "isotonic": Case(
        CalibratedClassifierCV(AdaBoostClassifier(n_estimators=9), method="isotonic", cv=2), FLOWERS, SPECIES, "pkl"
    ),
    "threshold": Case(TunedThresholdClassifierCV(LogisticRegression(), scoring="f1"), NUMBERS, BUYS == "yes", "pkl"),
    "sublinear": Case(words(TfidfVectorizer(sublinear_tf=True)), REVIEWS, LIKED, "pkl"),
    "accents": Case(words(TfidfVectorizer(strip_accents="unicode")), REVIEWS, LIKED, "pkl"),
    "characters": Case(words(TfidfVectorizer(analyzer="char")), REVIEWS, LIKED, "pkl"),
    "pairs across stop words": Case(
        words(TfidfVectorizer(stop_words="english", ngram_range=(1, 2))), REVIEWS, LIKED, "pkl"
    ),
    "own pattern": Case(words(CountVectorizer(token_pattern="\\w+")), REVIEWS, LIKED, "pkl"),
    "numbers as categories": Case(
        make_pipeline(OneHotEncoder(handle_unknown="ignore"), Ridge()), GAPS[["income"]] // 20000, SPENT, "pkl"
    ),
    "ordinal categories": Case(
        make_pipeline(
            make_column_transformer((OrdinalEncoder(), ["city"])), HistGradientBoostingClassifier(max_iter=9)
        ),
        PLAIN,
        BUYS,
        "pkl",
    ),
    "a function of one's own": Case(
        make_pipeline(FunctionTransformer(np.cbrt), LogisticRegression()),
        FLOWERS,
        SPECIES,
        "pkl",
        "FunctionTransformer",
    ),
    "no converter, in a branch": Case(
        make_pipeline(make_column_transformer((SplineTransformer(), ["f1"])), LogisticRegression(max_iter=1000)),
        FLOWERS,
        SPECIES,
        "pkl",
        "SplineTransformer",
    ),
    "rare categories as one": Case(
        people(OneHotEncoder(min_frequency=140, handle_unknown="infrequent_if_exist")),
        PLAIN,
        BUYS,
        "pkl",
        "OneHotEncoder",
    ),
    "characters of a text": Case(
        make_pipeline(make_column_transformer((TfidfVectorizer(analyzer="char_wb"), "review")), LogisticRegression()),
        REVIEWS,
        LIKED,
        "pkl",
        "TfidfVectorizer",
    ),
    "a linear SVC in a pipeline in another": Case(
        CalibratedClassifierCV(scaled(LinearSVC())), FLOWERS, SPECIES, "pkl", "LinearSVC"
    ),
}


def halves(case: Case) -> tuple[Any, Any, Any]:
    """Return every second row and its target, to train on, and the other rows."""

    def half(values: Any, start: int) -> Any:
        return values.iloc[start::2] if hasattr(values, "iloc") else values[start::2]

    return half(case.X, 0), None if case.y is None else half(case.y, 0), half(case.X, 1)


def as_sent(rows: Any, model: Any) -> list[dict]:
    """Return rows of X as a client sends them: what is missing is null."""
    return to_rows(as_table(rows, model)[0])


@contextlib.contextmanager
def serve(model: Any, X: Any, folder: Path, workers: int = 1, first: str = "") -> Iterator[str]:
    """Export a fitted model, start a copy of simple_ml with it, as its Dockerfile does, and yield its address.

    `first` is Python code that runs before the workers start.
    """
    copy_of("simple_ml", folder)
    export(model, X, folder / "model.onnx")
    if first:
        app = (folder / "app.py").read_text()
        (folder / "app.py").write_text(app.replace("    settings =", f"    {first}\n    settings ="))
    packages = "simple_ml" if (folder / "model.onnx").exists() else "ci"
    with process("simple_ml", folder, packages, GRANIAN_WORKERS=str(workers)) as (url, _):
        yield url
