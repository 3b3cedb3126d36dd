"""Which scikit-learn models simple_ml serves as ONNX, and which not: only train.py has to be edited for another model.

Each is fitted, exported, and served by the unchanged app.py; over HTTP, it must answer as scikit-learn does.
"""

import pandas as pd
import pytest
import requests
import subprocess
from collections.abc import Iterator
from examples import ROOT
from helpers import assert_problem, copy_of, python
from models import NOT_ONNX, SERVED, as_sent, assert_same, export, serve
from openapi_spec_validator import OpenAPIV31SpecValidator
from pathlib import Path
from schemas import assert_as_documented, document, fuzz
from typing import Any, NamedTuple

pytestmark = pytest.mark.filterwarnings("ignore")  # scikit-learn's own, of models that we only want to see converted


class Served(NamedTuple):
    url: str
    model: Any
    X: pd.DataFrame  # rows that neither training nor export() has seen


@pytest.fixture(scope="module", params=SERVED)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a model of models.py, for all tests that ask it."""
    model, X, y = SERVED[request.param]
    with serve(model.fit(X[::2], y[::2]), X[::2], tmp_path_factory.mktemp("model")) as url:
        yield Served(url, model, X[1::2])


def only(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("served", names, indirect=True)


def predict(served: Served, body: Any) -> requests.Response:
    return requests.post(f"{served.url}/predict", json=body, timeout=30)


def test_predictions(served):
    """Those of scikit-learn, for one row and for many, with nulls where there were nulls in training."""
    rows = served.X.iloc[::2]
    answers = predict(served, as_sent(rows)).json()
    assert len(answers) == len(rows)
    assert_same(answers, served.model, rows)
    assert_same([predict(served, as_sent(rows)[0]).json()], served.model, rows.head(1))


def test_document(served):
    """It names the columns and classes of this model, and the answers are as documented."""
    openapi = document(served.url)
    OpenAPIV31SpecValidator(openapi).validate()
    row, prediction = (openapi["components"]["schemas"][name] for name in ("Row", "Prediction"))
    assert list(row["properties"]) == row["required"] == list(served.X)
    classes = served.model.classes_.tolist() if hasattr(served.model, "classes_") else None
    assert prediction["properties"]["prediction"].get("enum") == classes
    assert ("probabilities" in prediction["required"]) == hasattr(served.model, "predict_proba")
    rows = as_sent(served.X.head(2))
    for body, status in [(rows[0], 200), (rows, 200), ({}, 422), ([7], 422)]:
        answer = predict(served, body)
        assert answer.status_code == status
        assert_as_documented(answer, openapi)


@only("text category, missing ones known", "whole numbers as categories")
def test_schemathesis_finds_nothing(served, tmp_path):
    """Of two models that have every type of column between them."""
    fuzz(served.url, tmp_path, 50)


@only("text category, missing ones known")
def test_columns_are_documented(served):
    columns = document(served.url)["components"]["schemas"]["Row"]["properties"]
    number = {"type": "number", "minimum": -1e35, "maximum": 1e35}
    about = ("title", "description", "examples")
    shown = {
        name: {key: value for key, value in column.items() if key not in about} for name, column in columns.items()
    }
    assert all("examples" in column for column in columns.values())
    integer = {"type": "integer", "minimum": -(10**35), "maximum": 10**35}
    assert shown == {
        "city": {"anyOf": [{"enum": ["Rome", "Vienna", "Zürich"], "type": "string"}, {"type": "null"}]},
        "age": {"anyOf": [integer, {"type": "null"}]},  # training had no null, but the model answers one
        "income": {"anyOf": [number, {"type": "null"}]},
        "member": {"type": "boolean"},
    }


@pytest.mark.parametrize(
    ("served", "values"),
    [
        ("text category, missing ones known", [30.000000001, 1e-42, 10**35 + 1, True, "30"]),
        ("whole numbers as categories", [True, 1.5, "1", 99]),  # 1 is a category, and to Python True is 1
    ],
    indirect=["served"],
)
def test_almost_a_whole_number(served, values):
    row = as_sent(served.X.head(1))[0]
    errors = assert_problem(predict(served, [row | {"age": value} for value in values]), 422)["errors"]
    assert [error["pointer"] for error in errors] == [f"#/{number}/age" for number in range(len(values))]
    assert predict(served, row | {"age": 1.0}).status_code == 200


@only("text category, unknown ones refused")
def test_what_a_column_may_hold_follows_from_the_model(served):
    """A category that the model refuses is a 422 that lists the known ones, and so is a null that it refuses."""
    row = as_sent(served.X)[0]
    assert predict(served, row | {"income": None}).ok
    bad = row | {"city": "Atlantis", "age": 30.5, "income": "high", "member": None}
    errors = assert_problem(predict(served, [row, bad]), 422)["errors"]
    assert {error["pointer"] for error in errors} == {f"#/1/{name}" for name in served.X}
    assert "'Rome', 'Vienna' or 'Zürich'" in errors[0]["detail"]


@only("text category, unknown ones ignored")
def test_unknown_categories_where_the_model_ignores_them(served):
    rows = served.X.head(20).assign(city="Atlantis")
    assert_same(predict(served, as_sent(rows)).json(), served.model, rows)


@only("words of a text")
def test_words_that_training_did_not_see(served):
    """The words of a text are found as scikit-learn finds them: case, accents, punctuation, other scripts."""
    texts = ["", "GOOD  Film!", "ÉCOLE, Café & CAFÉ", "not_good good-ish (good)", "日本 good", "a b\tc\nbad", "SCHÖN"]
    rows = pd.DataFrame({"review": texts})
    assert_same(predict(served, as_sent(rows)).json(), served.model, rows)


@pytest.mark.parametrize("name", NOT_ONNX)
def test_not_onnx(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """export() says in one sentence which step its own packages must serve, and removes an older model.onnx."""
    model, X, y, culprit = NOT_ONNX[name]
    (tmp_path / "model.onnx").touch()
    export(model.fit(X, y), X, tmp_path / "model.onnx")
    sentence = capsys.readouterr().out
    assert culprit in sentence
    assert sentence.startswith("model.pkl (")
    assert sentence.endswith(" ms.\n")
    assert sentence.count("\n") == 1
    assert len(sentence) < 500
    assert [path.name for path in tmp_path.iterdir()] == ["model.pkl"]


def test_refused_by_train_py(tmp_path: Path) -> None:
    """Where people run train.py, the sentence is all that it ends with."""
    copy_of("simple_ml", tmp_path)
    train = (ROOT / "simple_ml" / "train.py").read_text()
    (tmp_path / "train.py").write_text(train.replace("model.fit(X, y),", "model.fit(X, y).steps,"))
    run = subprocess.run([python("simple_ml-train"), "train.py"], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (1, "This model cannot be served: list has no predict().\n")
