"""Fit and export models of the kinds that models.py lacks: any_model.py FOLDER, in the environment of the tests.

Each gets a folder with its model file, and asked.json: rows that export() did not see, and what the model itself says.
"""

import contextlib
import io
import json
import numpy as np
import pandas as pd
import sys
import warnings
from catboost import CatBoostClassifier
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
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, SplineTransformer, StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.tree import DecisionTreeRegressor
from typing import Any
from xgboost import XGBClassifier, XGBRegressor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "simple_ml"))
from export import export
from export.columns import as_table, to_rows

rng = np.random.default_rng(0)
iris, diabetes = load_iris(as_frame=True), load_diabetes(as_frame=True)
FLOWERS = iris.data.set_axis(["f1", "f2", "f3", "f4"], axis="columns").sample(150, random_state=0)
SPECIES = pd.Series(iris.target_names[iris.target])[FLOWERS.index]
HOLES = FLOWERS.mask(rng.random(FLOWERS.shape) < 0.1)
ONE_HOLE = FLOWERS.mask(np.arange(600).reshape(150, 4) == 8)
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
NUMBERS = PEOPLE[["age", "income"]]
SPENT = PEOPLE.age * 10 + PEOPLE.income / 100 + rng.normal(0, 40, N)
WORDS = [
    "schön",
    "gut",
    "good",
    "bad",
    "awful",
    "Film",
    "movie",
    "a",
    "don't",
    "ok!",
    "ΚΑΛΌΣ",
    "İZMİR",
    "42",
    "(great)",
]
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


def dates(X: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"day": X["since"].dt.dayofyear, "hour": X["seen"].dt.hour, "age": X["age"]})


def scaled(model: Any) -> Any:
    return make_pipeline(StandardScaler(), model)


def mixed(model: Any, unknown: str = "error") -> Any:
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown=unknown), ["city"]),
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
        remainder="passthrough",
    )
    return make_pipeline(columns, model)


def words(vectorizer: Any) -> Any:
    return make_pipeline(make_column_transformer((vectorizer, "review")), LogisticRegression(C=50))


# what is fitted, on which rows; which file it becomes; and what makes it one of its kind
MODELS: dict[str, tuple[Any, Any, Any, str]] = {
    "constant imputed": (
        make_pipeline(SimpleImputer(strategy="constant", fill_value=0), Ridge()),
        HOLES,
        iris.target,
        "onnx",
    ),
    "forest, nulls seen": (RandomForestClassifier(30, random_state=0), HOLES, SPECIES, "onnx"),
    "forest, one null seen": (RandomForestClassifier(30, random_state=0), ONE_HOLE, SPECIES, "onnx"),
    "forest, even votes": (RandomForestClassifier(20, random_state=0), NUMBERS, BUYS, "onnx"),
    "scaled, then trees": (scaled(RandomForestClassifier(30, random_state=0)), NUMBERS, BUYS, "onnx"),
    "scaled, then a tree": (scaled(DecisionTreeRegressor(random_state=0)), NUMBERS, SPENT, "onnx"),
    "mixed, then trees": (
        mixed(RandomForestRegressor(20, random_state=0)),
        GAPS.assign(city=PLAIN.city),
        SPENT,
        "onnx",
    ),
    "neighbours": (KNeighborsClassifier(3), FLOWERS, SPECIES, "pkl"),
    "clusters": (KMeans(3, n_init=1, random_state=0), FLOWERS, None, "onnx"),
    "two targets": (LinearRegression(), FLOWERS, np.c_[iris.target, iris.target * 2.5], "onnx"),
    "two classes": (MultiOutputClassifier(LogisticRegression()), FLOWERS, np.c_[iris.target, iris.target == 1], "onnx"),
    "y of one column": (LinearRegression(), NUMBERS, SPENT.to_frame("spent"), "onnx"),
    "function of NumPy": (make_pipeline(FunctionTransformer(np.log1p), LinearRegression()), NUMBERS, SPENT, "onnx"),
    "logarithm of the target": (
        TransformedTargetRegressor(LinearRegression(), func=np.log1p, inverse_func=np.expm1),
        NUMBERS,
        SPENT,
        "onnx",
    ),
    "array": (LogisticRegression(max_iter=500), FLOWERS.to_numpy(), SPECIES, "onnx"),
    "names are numbers": (
        LogisticRegression(max_iter=500),
        FLOWERS.set_axis(range(4), axis="columns"),
        SPECIES,
        "onnx",
    ),
    "series of texts": (make_pipeline(CountVectorizer(), MultinomialNB()), TEXTS, LIKED, "onnx"),
    "words, capitals": (words(TfidfVectorizer()), REVIEWS, LIKED, "onnx"),
    "classes are numbers": (
        LogisticRegression(max_iter=500),
        FLOWERS,
        (iris.target * 1.5)[FLOWERS.index].astype(str).astype("category"),
        "onnx",
    ),
    "nullable dtypes": (mixed(LogisticRegression()), PLAIN.convert_dtypes(), BUYS, "onnx"),
    "XGBoost": (XGBClassifier(n_estimators=20, n_jobs=4), HOLES, iris.target[FLOWERS.index], "onnx"),
    "XGBoost, numbers": (XGBRegressor(n_estimators=20), NUMBERS, SPENT, "onnx"),
    "resampled": (make_imblearn_pipeline(RandomOverSampler(), LogisticRegression(max_iter=500)), NUMBERS, BUYS, "onnx"),
    # what ONNX has not, or has otherwise
    "XGBoost, categories": (
        XGBClassifier(n_estimators=20, enable_categorical=True),
        PLAIN.astype({"city": "category"}),
        (BUYS == "yes").astype(int),
        "pkl",
    ),
    "LightGBM": (LGBMClassifier(n_estimators=20, verbose=-1), HOLES, SPECIES, "pkl"),
    "CatBoost": (
        CatBoostClassifier(iterations=20, cat_features=["city"], verbose=0, allow_writing_files=False),
        PLAIN,
        BUYS,
        "pkl",
    ),
    "no class of scikit-learn's": (Mean(), NUMBERS, SPENT, "pkl"),
    "no converter": (make_pipeline(SplineTransformer(), LogisticRegression(max_iter=500)), FLOWERS, SPECIES, "pkl"),
    "own class": (make_pipeline(Ratio(), LinearRegression()), NUMBERS, SPENT, "pkl"),
    "own class, strict": (make_pipeline(Strict(), LogisticRegression()), PLAIN[["city"]], BUYS, "pkl"),
    "lambda": (
        make_pipeline(FunctionTransformer(lambda X: X * 2), LogisticRegression(max_iter=500)),
        FLOWERS,
        SPECIES,
        "pkl",
    ),
    "dates": (
        make_pipeline(FunctionTransformer(dates), LinearRegression()),
        PEOPLE[["since", "seen", "age"]],
        SPENT,
        "pkl",
    ),
    "dictionaries": (make_pipeline(DictVectorizer(), LinearRegression()), PLAIN.to_dict("records"), SPENT, "pkl"),
    "hist gradient boosting": (HistGradientBoostingClassifier(max_iter=9, random_state=0), HOLES, SPECIES, "pkl"),
    "categories": (
        HistGradientBoostingRegressor(max_iter=9, categorical_features="from_dtype"),
        PLAIN.astype({"city": "category"}),
        SPENT,
        "pkl",
    ),
    "clusters in a tree": (Birch(n_clusters=3), FLOWERS, None, "pkl"),  # its nodes know each other
    "outliers": (IsolationForest(n_estimators=9, random_state=0), FLOWERS, None, "pkl"),
    "outliers, SVM": (scaled(OneClassSVM()), FLOWERS, None, "pkl"),  # ONNX has another score
    "isotonic": (
        CalibratedClassifierCV(AdaBoostClassifier(n_estimators=9), method="isotonic", cv=2),
        FLOWERS,
        SPECIES,
        "pkl",
    ),
    "threshold": (TunedThresholdClassifierCV(LogisticRegression(), scoring="f1"), NUMBERS, BUYS == "yes", "pkl"),
    "sublinear": (words(TfidfVectorizer(sublinear_tf=True)), REVIEWS, LIKED, "pkl"),
    "characters": (words(TfidfVectorizer(analyzer="char")), REVIEWS, LIKED, "pkl"),
    "pairs across stop words": (
        words(TfidfVectorizer(stop_words="english", ngram_range=(1, 2))),
        REVIEWS,
        LIKED,
        "pkl",
    ),
    "own pattern": (words(CountVectorizer(token_pattern=r"\w+")), REVIEWS, LIKED, "pkl"),
    "numbers as categories": (
        make_pipeline(OneHotEncoder(handle_unknown="ignore"), Ridge()),
        GAPS[["income"]] // 20000,
        SPENT,
        "pkl",
    ),
    "ordinal categories": (
        make_pipeline(
            make_column_transformer((OrdinalEncoder(), ["city"])), HistGradientBoostingClassifier(max_iter=9)
        ),
        PLAIN,
        BUYS,
        "pkl",
    ),
}


def parts(X: Any, y: Any) -> tuple[Any, Any, Any]:
    """Return every second row and its target, to train on, and the other rows."""

    def half(values: Any, start: int) -> Any:
        return values.iloc[start::2] if hasattr(values, "iloc") else values[start::2]

    return half(X, 0), None if y is None else half(y, 0), half(X, 1)


def plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    for name, (model, X, y, _) in MODELS.items():
        known, target, other = parts(X, y)
        model.fit(known, target) if target is not None else model.fit(known)
        place, said = folder / name, io.StringIO()
        place.mkdir()
        with contextlib.redirect_stdout(said):
            export(model, known, place / "model.onnx")
        asked = {
            "said": said.getvalue(),
            "rows": to_rows(as_table(other, model)[0]),
            "labels": plain(model.predict(other)),
        }
        if isinstance(X, pd.DataFrame) and not isinstance(X.columns[0], str):
            asked["rows"] = [{str(key): value for key, value in row.items()} for row in asked["rows"]]
        with contextlib.suppress(Exception):
            shares = model.predict_proba(other)
            asked["shares"] = shares.tolist() if isinstance(shares, np.ndarray) else None
        if hasattr(model, "score_samples") and y is None and not isinstance(model, KMeans):
            asked["scores"] = model.score_samples(other).tolist()
        (place / "asked.json").write_text(json.dumps(asked))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
