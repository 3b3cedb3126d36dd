"""What notebooks do around a model is served: raw rows are answered as in the notebook, or export() refuses.

The notebooks of support/notebooks.py are exported as simple_ml/README.md says, and asked by the unchanged app.py.
"""

import numpy as np
import os
import pandas as pd
import pytest
import requests
import sklearn
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from flask.testing import FlaskClient
from helpers import copy_of, process, python
from pathlib import Path
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, LabelEncoder, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from support import forked
from support.inprocess import service
from support.models import Model, as_sent, export, new_process
from support.notebooks import LAST, NOTEBOOKS, loans, passengers
from typing import Any
from unittest import mock

pytestmark = pytest.mark.filterwarnings("ignore")

N = 300
rng = np.random.default_rng(3)
TOWNS = pd.DataFrame({"town": rng.choice(["Bern", "Graz", "Linz", "Wien"], N), "rooms": rng.integers(1, 7, N)})
DEAR = np.where(TOWNS.town.isin(["Wien", "Linz"]) & (TOWNS.rooms > 2), "dear", "cheap")
RENT = TOWNS.rooms * 300.0 + TOWNS.town.map({"Bern": 900, "Graz": 100, "Linz": 200, "Wien": 500})


@pytest.fixture(autouse=True, scope="module")
def forked_processes() -> Iterator[None]:
    """Let export() fork its new process from one that has imported the libraries, which saves a second for each."""
    with mock.patch.object(new_process, "subprocess", forked):
        yield


@pytest.fixture
def real_process(monkeypatch) -> None:
    """export() starts a new process as it does for people: here, that is what is tested."""
    monkeypatch.setattr(new_process, "subprocess", subprocess)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The folder simple_ml without a model, in which export() runs."""
    folder = copy_of("simple_ml", tmp_path / "simple_ml")
    monkeypatch.chdir(folder)
    return folder


def ask(client: FlaskClient, rows: Any) -> Any:
    answer = client.post("/predict", json=rows)
    assert answer.status_code == 200, answer.text
    return answer.json


def close(got: Any, want: Any) -> bool:
    if isinstance(want, dict):
        return all(close(got[name], want[name]) for name in want)
    return got == (pytest.approx(want, rel=1e-3) if isinstance(want, float) else want)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_raw_rows_are_answered_as_in_the_notebook(name, folder, capsys):
    """In a list and alone: and of the columns, only those have to be sent that an answer depends on."""
    rows, own, model, more, _ = NOTEBOOKS[name]()
    export(model, rows[:-LAST], **more)
    said = capsys.readouterr().out
    want, sent = np.asarray(own).tolist(), as_sent(rows[-LAST:], model)
    with service(folder) as client:
        answers = ask(client, sent)
        assert all(map(close, [answer["prediction"] for answer in answers], want)), said
        needed = client.get("/openapi.json").json["components"]["schemas"]["Row"]["required"]
        alone = [ask(client, {name: row[name] for name in needed}) for row in sent]
    assert all(map(close, alone, answers))


def test_only_what_is_read_has_to_be_sent(folder):
    rows, _, model, more, _ = NOTEBOOKS["titanic_by_hand"]()
    export(model, rows, **more)
    row = as_sent(rows[:1], model)[0]
    with service(folder) as client:
        answer = client.post("/predict", json=row | {"Survived": 1, "": 0})
        ignored = answer.headers["Ignored-Columns"].split(", ")
        assert set(ignored) == {"PassengerId", "Name", "Ticket", "Cabin", "Survived", '""'}
        schema = client.get("/openapi.json").json["components"]["schemas"]["Row"]
        assert schema["required"] == ["Pclass", "Sex", "Age", "SibSp", "Fare", "Embarked"]


@pytest.mark.parametrize(
    ("name", "status"),
    [("roms", 422), ("ROOMS", 422), (" rooms", 422), ("rooms2", 422), ("floor", 200), ("", 200), ("Größe, m²", 200)],
)
def test_a_name_that_is_meant_for_a_feature_is_no_other_column(folder, name, status):
    export(LinearRegression().fit(TOWNS[["rooms"]], RENT), TOWNS[["rooms"]])
    with service(folder) as client:
        for body, place in (({"rooms": 2, name: 1}, ""), ([{"rooms": 2}, {"rooms": 2, name: 1}], "/1")):
            answer = client.post("/predict", json=body)
            assert answer.status_code == status
            if status == 422:
                assert [error["pointer"].startswith(f"#{place}/") for error in answer.json["errors"]] == [True]
                assert "rooms" in answer.json["errors"][0]["detail"]
            else:
                assert answer.headers["Ignored-Columns"].isascii()


def prepared_by(name: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A preparation that looks at all rows: for one row alone, it makes something else of it."""
    prepare: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
        "LabelEncoder": lambda X: X.assign(town=LabelEncoder().fit_transform(X["town"])),
        "factorize": lambda X: X.assign(town=pd.factorize(X["town"])[0]),
        "category codes": lambda X: X.assign(town=X["town"].astype("category").cat.codes),
        "drop_first": lambda X: pd.get_dummies(X, drop_first=True).reindex(columns=DUMMIES, fill_value=0),
        "get_dummies": pd.get_dummies,
        "rank": lambda X: X.assign(town=X["rooms"].rank()),
        "mean": lambda X: X[["rooms"]] - X[["rooms"]].mean(),
        "shift": lambda X: X.assign(town=X["rooms"].shift(fill_value=0)),
        "cumsum": lambda X: X[["rooms"]].cumsum(),
    }
    return prepare[name]


DUMMIES = ["rooms", "town_Bern", "town_Graz", "town_Linz", "town_Wien"]
ALL_ROWS = [
    "LabelEncoder",
    "factorize",
    "category codes",
    "drop_first",
    "get_dummies",
    "rank",
    "mean",
    "shift",
    "cumsum",
]


def refusal(*arguments: Any, **more: Any) -> str:
    with pytest.raises(SystemExit) as refused:
        export(*arguments, **more)
    assert not list(Path().glob("model.*"))
    return str(refused.value)


@pytest.mark.parametrize("name", ALL_ROWS)
@pytest.mark.parametrize("how", ["prepare", "function", "step"])
def test_what_looks_at_other_rows_is_refused(name, how, folder):
    prepare = prepared_by(name)
    model = LinearRegression().fit(prepare(TOWNS), RENT)
    if how == "prepare":
        said = refusal(model, TOWNS, prepare=prepare)
    elif how == "function":
        said = refusal(lambda X: model.predict(prepare(X)), TOWNS)
    else:
        said = refusal(make_pipeline(FunctionTransformer(prepare), LinearRegression()).fit(TOWNS, RENT), TOWNS)
    assert "compute what comes from all rows" in said
    assert "Your notebook prepares the data first" in said


def test_what_looks_at_other_rows_in_a_short_list_is_refused(folder):
    """The most frequent town is that of all rows for these rows in any order, and for each of them alone."""
    towns = pd.DataFrame({"town": rng.choice(["Wien", "Bern", None], N, p=[0.5, 0.4, 0.1])})

    def in_wien(X: pd.DataFrame) -> pd.Series:
        usual = X["town"].mode()
        return X["town"].fillna(usual[0] if len(usual) else "Wien") == "Wien"

    assert "depends on the other rows of the list; the service is asked for single rows" in refusal(in_wien, towns)


def rows_with_gaps() -> pd.DataFrame:
    X = pd.DataFrame({"age": rng.integers(18, 80, 2000).astype(float), "pay": rng.normal(9, 1, 2000)})
    return X.mask(rng.random(X.shape) < 0.005)


GAPS = rows_with_gaps()
OTHER_ROWS: dict[str, tuple[Callable[[pd.DataFrame], Any], str]] = {
    "dropna": (lambda X: X.dropna().sum(axis=1), "dropna()"),
    "drop_duplicates": (lambda X: X.fillna(0).drop_duplicates().sum(axis=1), "dropna()"),
    "query": (lambda X: X.query("age > 18")["age"], "dropna()"),
    "sort_values": (lambda X: X.fillna(0).sort_values("pay")["age"], "sort_values()"),
    "sort_values, without its index": (lambda X: X.fillna(0).sort_values("pay")["age"].to_numpy(), "sort_values()"),
    "sample": (lambda X: X.fillna(0).sample(frac=1)["age"].to_numpy(), "random"),
    "a random answer": (lambda X: np.random.default_rng().random(len(X)), "random"),
}


@pytest.mark.parametrize("name", OTHER_ROWS)
def test_each_row_has_one_answer_in_its_place(name, folder):
    function, says = OTHER_ROWS[name]
    X = pd.concat([GAPS, GAPS[:3]]).reset_index(drop=True)
    assert says in refusal(function, X)


class Guess(RegressorMixin, BaseEstimator):
    """It drops rows with gaps, as only some of 2,000 have."""

    def fit(self, X: Any, y: Any = None) -> "Guess":
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return X.dropna()["age"].to_numpy()


def test_a_model_that_drops_rows(folder):
    assert "dropna()" in refusal(Guess(), GAPS)


RATE = {"Bern": 2.0}


def towns_file(X: pd.DataFrame) -> np.ndarray:
    return X["rooms"].to_numpy() * len(Path("towns.csv").read_text())


def environment(X: pd.DataFrame) -> np.ndarray:
    return X["rooms"].to_numpy() * float(os.environ["RENT_OF_A_ROOM"])


def default(X: pd.DataFrame) -> np.ndarray:
    return X["rooms"].to_numpy() * float(os.environ.get("RENT_OF_A_ROOM", 1))


@pytest.mark.parametrize(
    ("function", "says"),
    [(towns_file, "towns.csv"), (environment, "RENT_OF_A_ROOM"), (default, "environment variable")],
)
def test_what_only_this_process_has_is_refused(function, says, folder, monkeypatch, real_process):
    (folder / "towns.csv").write_text("Bern")
    monkeypatch.setenv("RENT_OF_A_ROOM", "300")
    assert says in refusal(function, TOWNS)


def test_a_file_beside_train_py(folder, real_process):
    file = folder / "towns.csv"
    file.write_text("Bern")
    assert "towns.csv" in refusal(lambda X: X["rooms"].to_numpy() * len(file.read_text()), TOWNS)


def test_a_file_that_is_read_once(folder, real_process):
    (folder / "towns.csv").write_text("Bern")
    content = (folder / "towns.csv").read_text()
    export(lambda X: X["rooms"].to_numpy() * len(content), TOWNS)
    with service(folder) as client:
        assert ask(client, {"rooms": 2}) == {"prediction": 8}


def test_settings_of_scikit_learn(folder, real_process):
    sklearn.set_config(transform_output="pandas")
    try:
        steps = make_pipeline(FunctionTransformer(), FunctionTransformer(lambda X: X[["rooms"]]), LinearRegression())
        export(steps.fit(TOWNS[["rooms"]], RENT), TOWNS[["rooms"]])
    finally:
        sklearn.set_config(transform_output="default")
    with service(folder) as client:
        assert ask(client, [{"rooms": 2}, {"rooms": 3.5}])


def test_predictions_of_the_notebook(folder, capsys):
    X, y = TOWNS[["rooms"]], (TOWNS.rooms > 3).astype(int)
    model = LogisticRegression().fit(X, y)
    for predictions in (model.predict(X), model.predict_proba(X), model.predict_proba(X)[:, 1], list(model.predict(X))):
        export(model, X, predictions=predictions)
        assert f"All {N} answers are those of `predictions`." in capsys.readouterr().out
    proof = Model(folder / "model.onnx").card.proof
    assert proof is not None
    assert proof.predictions == N
    assert proof.alone >= 20
    assert 0 <= proof.difference < 1e-6
    assert set(proof.packages) == {"numpy", "onnxruntime"}


@pytest.mark.parametrize("predictions", [[1], np.ones(N + 1)])
def test_predictions_have_as_many_values_as_rows(folder, predictions):
    X = TOWNS[["rooms"]]
    assert "there are 300 rows" in refusal(LinearRegression().fit(X, RENT), X, predictions=predictions)


def test_false_predictions(folder):
    X = TOWNS[["rooms"]].assign(rent=RENT)
    model = make_pipeline(FunctionTransformer(lambda X: X[["rooms"]]), LinearRegression()).fit(X, RENT)
    said = refusal(model, X, predictions=model.predict(X) + np.where(np.arange(N) % 9, 0, 50))
    assert said.count(" instead of ") == 3
    assert "inverse_func=" in said
    said = refusal(model, X, predictions=RENT)
    assert "they look like the true values" in said
    assert "the column rent" in said


def test_the_same_model_without_what_the_notebook_does(folder):
    model = LinearRegression().fit(TOWNS[["rooms"]], np.log1p(RENT))
    own = np.expm1(model.predict(TOWNS[["rooms"]]))
    assert "inverse_func=" in refusal(model, TOWNS[["rooms"]], predictions=own)
    export(model, TOWNS[["rooms"]], predictions=own, inverse_func=np.expm1)
    assert (folder / "model.onnx").exists()
    with service(folder) as client:
        two = float(own[TOWNS.rooms.tolist().index(2)])
        assert ask(client, {"rooms": 2})["prediction"] == pytest.approx(two, 1e-5)


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"]])
def test_as_many_names_as_classes(folder, names):
    X, y = TOWNS[["rooms"]], (TOWNS.rooms > 3).astype(int)
    assert "those of the model are 0, 1" in refusal(LogisticRegression().fit(X, y), X, class_names=names)
    assert "class_names" in refusal(lambda X: X["rooms"] - 1, X, class_names=names)  # its classes are 0 to 5


def test_names_for_classes_that_have_names(folder):
    X = TOWNS[["rooms"]]
    assert "are cheap, dear" in refusal(LogisticRegression().fit(X, DEAR), X, class_names=["a", "b"])


def test_class_names_in_onnx(folder):
    X, y = TOWNS[["rooms"]], (TOWNS.rooms > 3).astype(int)
    model = LogisticRegression().fit(X, y)
    export(model, X, class_names=["few", "many"], predictions=model.predict(X))
    assert (folder / "model.onnx").exists()
    with service(folder) as client:
        answers = ask(client, [{"rooms": 1}, {"rooms": 6}])
    assert [answer["prediction"] for answer in answers] == ["few", "many"]
    assert list(answers[0]["probabilities"]) == ["few", "many"]


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name not in ("spam", "car_prices", "incomes")])
def test_prepared_columns_are_not_served_without_a_word(name, folder, capsys):
    """What people do at first: they export the model with the X that the notebook has prepared."""
    pasted = NOTEBOOKS[name]().pasted
    export(LogisticRegression(max_iter=5).fit(pasted, np.arange(len(pasted)) % 2), pasted)
    assert "export(model, rows, prepare=prepare)" in capsys.readouterr().out.splitlines()[-1]


def test_raw_columns_get_no_advice(folder, capsys):
    X, y = loans()
    export(LogisticRegression().fit(X[["amount", "duration"]], y), X[["amount", "duration"]])
    assert "prepare=" not in capsys.readouterr().out
    X, y = passengers()
    export(LinearRegression().fit(X[["Fare"]], y), X[["Fare"]])
    assert "prepare=" not in capsys.readouterr().out


def test_rows_without_an_answer_are_all_named(folder, capsys):
    known = {"Bern": 1.0, "Graz": 2.0}

    def function(X: pd.DataFrame) -> Any:
        return X["town"].map(known)

    export(function, TOWNS)
    assert " rows of X have no answer." in capsys.readouterr().out
    with service(folder) as client:
        answer = client.post("/predict", json=[{"town": town} for town in ("Bern", "Rom", "Graz", "Oslo", "Bern")])
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json["errors"]] == ["#/1", "#/3"]


class Frame:
    """As Polars, Spark, Dask and others have it."""

    def __init__(self, method: str):
        setattr(self, method, None)


RATES = pd.DataFrame({"a": np.arange(40.0)})
OTHER_INPUT: dict[str, tuple[Any, str]] = {
    "decimals": (RATES.map(lambda a: Decimal(a) / 4), "X['a'].astype(float)"),
    "durations": (RATES.a.map(lambda a: timedelta(minutes=a)).to_frame(), "X['a'].dt.total_seconds()"),
    "periods": (pd.DataFrame({"a": pd.period_range("2020", periods=40, freq="M")}), "X['a'].dt.to_timestamp()"),
    "bytes": (RATES.map(lambda a: b"a"), "X['a'].str.decode"),
    "complex numbers": (RATES.map(lambda a: complex(a)), "X['a'].astype(str)"),
    "words as a matrix": (TfidfVectorizer().fit_transform(["good film", "bad film"]), "into one Pipeline"),
    "Polars": (Frame("to_pandas"), "so give X.to_pandas()"),
    "Spark": (Frame("toPandas"), "so give X.toPandas()"),
    "Dask": (Frame("compute"), "so give X.compute()"),
    "texts and numbers": ([("a", 1.5), ("b", 2.5)], "NumPy makes texts of the numbers in X"),
}


@pytest.mark.parametrize("name", OTHER_INPUT)
def test_what_cannot_be_sent_gets_a_sentence(name, folder):
    X, says = OTHER_INPUT[name]
    assert says in refusal(LinearRegression().fit(RATES, RATES.a), X)


class Squeezed:
    """A classifier whose answer to a single row lacks the axis of rows."""

    classes_ = np.array(["low", "high"])

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return self.classes_[(X["a"] > 19).astype(int)].squeeze()

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        return np.c_[X["a"] <= 19, X["a"] > 19].astype(float).squeeze()


def high(X: pd.DataFrame) -> np.ndarray:
    return np.where(X["a"] > 19, "high", "low")


FORMS: dict[str, tuple[Any, list]] = {  # of answers, and what is served for 1 and 30
    "squeezed": (lambda X: (X["a"] * 2.0).to_numpy().squeeze(), [2.0, 60.0]),
    "squeezed values": (lambda X: np.c_[X["a"], X["a"] * 2.0].squeeze(), [[1.0, 2.0], [30.0, 60.0]]),
    "a row of a DataFrame": (
        lambda X: pd.DataFrame({"a": X["a"], "b": X["a"] * 2.0}).squeeze(),
        [{"a": 1.0, "b": 2.0}, {"a": 30.0, "b": 60.0}],
    ),
    "a number for a single row": (lambda X: float(X["a"].iloc[0]) if len(X) == 1 else X["a"].tolist(), [1.0, 30.0]),
    "a text for a single row": (lambda X: high(X).item() if len(X) == 1 else high(X).tolist(), ["low", "high"]),
    "texts beside numbers": (lambda X: list(zip(high(X), X["a"], strict=True)), [["low", 1.0], ["high", 30.0]]),
    "a squeezed classifier": (Squeezed(), ["low", "high"]),
}


@pytest.mark.parametrize("name", FORMS)
def test_answers_come_in_several_forms(name, folder):
    model, expected = FORMS[name]
    export(model, RATES)
    with service(folder) as client:
        rows = [{"a": 1}, {"a": 30}]
        assert [answer["prediction"] for answer in ask(client, rows)] == expected
        assert [ask(client, row)["prediction"] for row in rows] == expected
        assert client.get("/openapi.json").status_code == 200


OTHER_FORMS: dict[str, tuple[Any, str]] = {
    "a tuple": (lambda X: (X["a"], high(X)), "returns one tuple for 40 rows, so let it return an array with a value"),
    "a dict": (lambda X: {"a": X["a"], "b": high(X)}, "returns one dict for 40 rows, so let it return an array"),
    "a generator": (lambda X: (a for a in X["a"]), "returns one generator for 40 rows, so let it return an array"),
    "the first row": (lambda X: X["a"].iloc[0], "returns one float64 for 20 rows, so let it return an array"),
    "a sum": (lambda X: np.array(X["a"].sum()), "returns one ndarray for 20 rows, so let it return an array"),
    "nothing": (lambda X: print(end=""), "returns None for 40 rows, so let it return an array"),
    "no rows": (lambda X: [], "returns 0 rows for 40 rows, so let it answer each row"),
    "a sparse matrix": (lambda X: csr_matrix(X), "it returns a csr_matrix, so let it return an array"),
    "dicts": (lambda X: [{"a": a} for a in X["a"]], "its predictions (dict), so let it return only texts"),
    "lists": (
        lambda X: [["a"] * (1 + int(a) % 2) for a in X["a"]],
        "its predictions (list), so let it return only texts",
    ),
    "texts or numbers": (lambda X: [a if a > 5 else "low" for a in X["a"]], "its predictions (float and str)"),
    "as many values as categories": (lambda X: pd.get_dummies(X["a"]).to_numpy(), "get_dummies()"),
    "one of as many values": (lambda X: pd.get_dummies(X["a"] > 19, dtype=float), "get_dummies()"),
    "a function of one row": (lambda row: float(row["a"]), "its own predict() fails for a DataFrame of one row, {"),
}


@pytest.mark.parametrize("name", OTHER_FORMS)
def test_answers_of_other_forms_get_a_sentence(name, folder):
    model, says = OTHER_FORMS[name]
    assert says in refusal(model, RATES)


def test_another_number_of_values_is_no_answer(folder):
    """As of a function that returns more for a number that export() did not ask for."""
    export(lambda X: np.c_[X["a"], X["a"]] if (X["a"] == 123.456).any() else X["a"], RATES)
    with service(folder) as client:
        assert ask(client, {"a": 123}) == {"prediction": 123.0}
        assert client.post("/predict", json={"a": 123.456}).status_code == 422


IDS = pd.DataFrame({"id": 2**60 + np.arange(40)})


def test_long_numbers_are_sent_as_texts(folder):
    """JavaScript and Excel round them. A model that splits between them coarsely gives the same answers."""
    rate = dict(zip(IDS["id"], RATES["a"], strict=True))
    assert "so fit it with texts, X['id'].astype(str)" in refusal(lambda X: X["id"].map(rate).fillna(-1), IDS)
    export(lambda X: X["id"].map(lambda i: rate[int(i)]), IDS.astype(str))
    with service(folder) as client:
        assert ask(client, {"id": str(2**60 + 7)}) == {"prediction": 7.0}
    export(lambda X: (X["id"] > 2**59).astype(float), IDS)
    with service(folder) as client:
        assert ask(client, {"id": 2**60 + 7}) == {"prediction": 1.0}


def test_a_category_may_be_in_no_row(folder):
    X = pd.DataFrame({"size": pd.Categorical(["S", "L"] * 20, ["S", "M", "L"], ordered=True), "a": RATES["a"]})
    export(lambda X: X["size"].cat.codes + X["a"], X)
    with service(folder) as client:
        assert [ask(client, {"size": size, "a": 1})["prediction"] for size in "SML"] == [1.0, 2.0, 3.0]


NAMES = {
    "texts": np.array(["down", "up"]),
    "whole numbers": np.array([3, 5]),
    "yes and no": np.array([False, True]),
}


@pytest.mark.parametrize("name", NAMES)
def test_labels_that_numpy_holds_as_objects(name, folder):
    y = pd.Series([NAMES[name][int(a > 19)] for a in RATES.a], dtype=object)
    export(DecisionTreeClassifier().fit(RATES, y if name == "texts" else y.astype(NAMES[name].dtype)), RATES)
    with service(folder) as client:
        answers = ask(client, [{"a": 0}, {"a": 39}])
        assert [answer["prediction"] for answer in answers] == NAMES[name].tolist()
    labels = dict(zip(NAMES[name].tolist(), NAMES[name], strict=True))
    export(lambda X: np.array([labels[NAMES[name].tolist()[int(a > 19)]] for a in X["a"]], dtype=object), RATES)
    with service(folder) as client:
        assert ask(client, {"a": 39}) == {"prediction": NAMES[name].tolist()[1]}


def test_halves_of_whole_numbers(folder):
    """As the notebook itself would answer them; a column of an encoder stays a category."""
    X = pd.DataFrame({"hours": [1, 2, 3, 4] * 5, "grade": [1, 1, 2, 2] * 5})
    columns = make_column_transformer(
        (StandardScaler(), ["hours"]), (OneHotEncoder(handle_unknown="ignore"), ["grade"])
    )
    model = make_pipeline(columns, LinearRegression()).fit(X, X.hours * 2.0 + X.grade)
    export(model, X)
    assert (folder / "model.onnx").exists()
    with service(folder) as client:
        assert ask(client, {"hours": 2.5, "grade": 1})["prediction"] == pytest.approx(6.0)
        assert client.post("/predict", json={"hours": 2.5, "grade": 1.5}).status_code == 422
        columns = client.get("/openapi.json").json["components"]["schemas"]["Row"]["properties"]
        types = [columns[name].get("anyOf", [columns[name]])[0]["type"] for name in X]
        assert types == ["number", "integer"]


THREADS = "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(2)\npool.submit(int).result()\n"
USES_THREADS = """
import pandas as pd
import tensorflow
from export import export

export(lambda X: [tensorflow.pool.submit(float, value).result() for value in X["a"]], pd.DataFrame({"a": range(100)}))
"""


def test_a_library_that_cannot_be_forked(tmp_path):
    """As in TensorFlow, its threads do not exist in a process that was forked: the workers are started anew instead."""
    packages = tmp_path / "packages"
    (packages / "tensorflow-0.dist-info").mkdir(parents=True)
    (packages / "tensorflow-0.dist-info" / "METADATA").write_text("Name: tensorflow\nVersion: 0\n")
    (packages / "tensorflow.py").write_text(THREADS)
    folder = copy_of("simple_ml", tmp_path / "simple_ml")
    (folder / "train.py").write_text(USES_THREADS)
    environment = os.environ | {"PYTHONPATH": str(packages)}
    subprocess.run([python("ci"), "train.py"], cwd=folder, env=environment, check=True)
    with process("simple_ml", folder, "ci", GRANIAN_WORKERS="2", PYTHONPATH=str(packages)) as (url, _):
        for _ in range(8):
            assert requests.post(f"{url}/predict", json={"a": 2}, timeout=10).json() == {"prediction": 2.0}
