"""simple_ml serves any model that predicts from a table, with the model's own answers: only train.py has to be edited.

Each model of support/models.py is fitted on half of the rows, exported, and asked for the other half by the unchanged
app.py, in this process. What servers, forked workers and commands do is tested with a few of them.
"""

import contextlib
import json
import numpy as np
import os
import pandas as pd
import pytest
import re
import requests
import shutil
import subprocess
from collections.abc import Iterator
from examples import ROOT
from flask.testing import FlaskClient
from helpers import copy_of, python
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pathlib import Path
from support import forked
from support.inprocess import service
from support.models import CASES, Case, as_sent, export, halves, new_process, serve, to_onnx
from support.schemas import HERE, fuzz
from typing import Any, NamedTuple
from unittest import mock

pytestmark = pytest.mark.filterwarnings("ignore")  # scikit-learn's own, of models that we only want to see served


@pytest.fixture(autouse=True, scope="module")
def forked_processes() -> Iterator[None]:
    """Let export() fork its new process from one that has imported the libraries, which saves a second for each."""
    with mock.patch.object(new_process, "subprocess", forked):
        yield


class Exported(NamedTuple):
    case: Case
    said: str
    file: Path
    other: Any  # rows that neither training nor export() has seen


def exported(name: str, folder: Path, capsys: pytest.CaptureFixture) -> Exported:
    case = CASES[name]
    known, target, other = halves(case)
    case.model.fit(known, target) if target is not None else case.model.fit(known)
    export(case.model, known, folder / "model.onnx")
    (file,) = folder.glob("model.*")
    return Exported(case, capsys.readouterr().out, file, other)


@pytest.fixture
def asked(request, tmp_path, capsys) -> Iterator[tuple[Exported, FlaskClient]]:
    """A model of the table, exported, and the service for it."""
    made = exported(request.param, tmp_path, capsys)
    folder = copy_of("simple_ml", tmp_path / "simple_ml")
    shutil.copy(made.file, folder)
    with service(folder) as client:
        yield made, client


def only(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("asked", names, indirect=True)


def predict(client: FlaskClient, body: Any) -> Any:
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json


def refused(client: FlaskClient, body: Any) -> Any:
    answer = client.post("/predict", json=body)
    assert (answer.status_code, answer.content_type) == (422, "application/problem+json"), answer.text
    return answer.json


def assert_same(answers: list[dict], model: Any, rows: Any) -> None:
    """Check that answers are what the model itself predicts for rows."""
    got = [answer["prediction"] for answer in answers]
    want = np.asarray(model.predict(rows)).reshape(np.shape(got))  # y of one column gives one number
    if want.dtype.kind == "f" and not hasattr(model, "classes_"):
        assert np.array(got) == pytest.approx(want, rel=1e-3, abs=1e-3 * float(np.std(want)))
    else:
        assert got == want.tolist()
    if "probabilities" in answers[0]:
        shares = [list(answer["probabilities"].values()) for answer in answers]
        assert np.array(shares) == pytest.approx(model.predict_proba(rows), abs=1e-4)
        names = [value if isinstance(value, str) else json.dumps(value) for value in np.array(model.classes_).tolist()]
        assert list(answers[0]["probabilities"]) == names
    if "score" in answers[0]:
        assert [answer["score"] for answer in answers] == pytest.approx(model.score_samples(rows).tolist(), abs=0.005)


def has_probabilities(model: Any, rows: Any) -> bool:
    with contextlib.suppress(Exception):
        return isinstance(model.predict_proba(rows), np.ndarray)
    return False


@only(*CASES)
def test_answers(asked):
    """They are the model's own, in a list and alone, and so are the names, the documents and the errors."""
    (case, said, file, other), client = asked
    assert file.suffix == f".{case.kind}", said
    assert case.says in said
    for fault in to_onnx.FAULTS:
        if CASES[fault.test] is case:
            assert re.search(re.escape(fault.reason).replace(r"\{\}", r"\w+"), said), said
    first, proof, row, *advice = said.splitlines()
    assert (first.startswith(file.name), first.endswith(" ms."), len(first) < 500) == (True, True, True)
    assert re.match(
        r"In a new process it gave the model's own answers to \d{3,} rows in lists, and to \d+ alone\.", proof
    )
    features = list(json.loads(row.removeprefix("A row for the service: ")))
    assert all("No answer depends on" in proof or name in features for name in as_sent(other, case.model)[0])
    assert all("look as if a notebook had encoded" in line for line in advice)
    rows = as_sent(other, case.model)
    answers = predict(client, rows)
    assert_same(answers, case.model, other)
    one = predict(client, rows[0])
    assert_same([one], case.model, other.iloc[:1] if hasattr(other, "iloc") else other[:1])
    expected = {"prediction"} | ({"probabilities"} if has_probabilities(case.model, other) else set())
    assert one.keys() == expected | ({"score"} if case.y is None and hasattr(case.model, "score_samples") else set())

    openapi = client.get("/openapi.json").json
    OpenAPIV31SpecValidator(openapi).validate()
    row = openapi["components"]["schemas"]["Row"]
    assert list(row["properties"]) == row["required"] == features
    classes = openapi["components"]["schemas"]["Prediction"]["properties"]["prediction"].get("enum")
    assert classes == (np.asarray(case.model.classes_).tolist() if "probabilities" in one else classes)
    bad = refused(client, rows[0] | {features[0]: {}})
    for body, status in [(one, "200"), (answers, "200"), (bad, "422"), (refused(client, {}), "422")]:
        content = next(iter(openapi["paths"]["/predict"]["post"]["responses"][status]["content"].values()))
        Draft202012Validator(content["schema"] | {"components": openapi["components"]}).validate(body)
    for page in ("/", "/healthz"):
        assert client.get(page).status_code == 200


def test_each_known_fault_of_onnx_has_a_case():
    """test_answers() looks for its sentence."""
    assert {fault.test for fault in to_onnx.FAULTS} <= CASES.keys()


@only("text category, missing ones known")
def test_columns_are_documented(asked):
    columns = asked[1].get("/openapi.json").json["components"]["schemas"]["Row"]["properties"]
    number = {"type": "number", "minimum": -1e35, "maximum": 1e35}
    about = ("title", "description", "examples")
    shown = {
        name: {key: value for key, value in column.items() if key not in about} for name, column in columns.items()
    }
    assert all("examples" in column for column in columns.values())
    assert shown == {
        "city": {"anyOf": [{"enum": ["Rome", "Vienna", "Zürich"], "type": "string"}, {"type": "null"}]},
        "age": {"anyOf": [number, {"type": "null"}]},  # training had no null and no half, but the model answers them
        "income": {"anyOf": [number, {"type": "null"}]},
        "member": {"type": "boolean"},
    }


@pytest.mark.parametrize(
    ("asked", "values"),
    [
        ("strict about whole numbers", [30.000000001, 1e-42, 10**35 + 1, True, "30"]),
        ("whole numbers as categories", [True, 1.5, "1", 99]),  # 1 is a category, and to Python True is 1
    ],
    indirect=["asked"],
)
def test_almost_a_whole_number(asked, values):
    made, client = asked
    row = as_sent(made.other.head(1), made.case.model)[0]
    errors = refused(client, [row | {"age": value} for value in values])["errors"]
    assert [error["pointer"] for error in errors] == [f"#/{number}/age" for number in range(len(values))]
    assert predict(client, row | {"age": float(row["age"])})


@only("text category, unknown ones refused")
def test_what_a_column_may_hold_follows_from_the_model(asked):
    """A category that the model refuses is a 422 that lists the known ones, and so is a null that it refuses."""
    made, client = asked
    row = as_sent(made.other, made.case.model)[0]
    assert predict(client, row | {"income": None})
    errors = refused(client, [row, row | {"city": "Atlantis", "age": "30", "income": "high", "member": None}])["errors"]
    assert {error["pointer"] for error in errors} == {f"#/1/{name}" for name in row}
    assert "'Rome', 'Vienna' or 'Zürich'" in errors[0]["detail"]


@only("text category, unknown ones ignored")
def test_unknown_categories_where_the_model_ignores_them(asked):
    made, client = asked
    rows = made.other.head(20).assign(city="Atlantis")
    assert_same(predict(client, as_sent(rows, made.case.model)), made.case.model, rows)


@only("words of a text")
def test_words_that_training_did_not_see(asked):
    """The words of a text are found as scikit-learn finds them: case, accents, punctuation, other scripts."""
    made, client = asked
    texts = ["", "GOOD  Film!", "ÉCOLE, Café & CAFÉ", "not_good good-ish (good)", "日本 good", "a b\tc\nbad", "SCHÖN"]
    rows = pd.DataFrame({"review": texts})
    assert_same(predict(client, as_sent(rows, made.case.model)), made.case.model, rows)


@only("own class, strict")
def test_categories_that_an_own_class_knows(asked):
    columns = asked[1].get("/openapi.json").json["components"]["schemas"]["Row"]["properties"]
    assert columns["city"]["enum"] == ["Rome", "Vienna", "Zürich"]


@only("dates")
def test_a_row_that_the_model_fails_for_is_named(asked, capsys):
    """The traceback goes to the log, and the service goes on."""
    _, client = asked
    row = {"since": "2024-01-31", "seen": "2024-03-01T09:30:00", "age": 30}
    same = [row | {"seen": "2024-03-01T08:30:00Z"}, row | {"seen": "2024-03-01T10:30:00+02:00"}, row]
    predictions = predict(client, same)
    assert predictions[0] == predictions[1] == predictions[2]
    for wrong in ("20240131", "31.1.2024", "2024-13-01", "today", 20240131, None, True):
        errors = refused(client, row | {"since": wrong})["errors"]
        assert [error["pointer"] for error in errors] == ["#/since"]
    early = row | {"seen": "0001-01-01T00:00:00+14:00"}  # in Vienna it is the year 0
    assert [error["pointer"] for error in refused(client, [row, row, early, row])["errors"]] == ["#/2"]
    assert "Traceback" in capsys.readouterr().err
    assert predict(client, row)


@contextlib.contextmanager
def serving(name: str, folder: Path, workers: int = 1, first: str = "") -> Iterator[tuple[str, list[dict]]]:
    """Serve a model of the table: the address, and rows that it has not seen."""
    case = CASES[name]
    known, target, other = halves(case)
    with serve(case.model.fit(known, target), known, folder, workers, first) as url:
        yield url, as_sent(other, case.model)


@pytest.mark.parametrize("name", ["text category, missing ones known", "whole numbers as categories", "categories"])
def test_schemathesis_finds_nothing(name, tmp_path):
    """Of models that have every type of column between them, and run in both ways."""
    with serving(name, tmp_path / "simple_ml") as (url, _):
        fuzz(url, tmp_path, 50, SCHEMATHESIS_HOOKS=str(HERE / "schemathesis_rows.py"))


@pytest.mark.parametrize("name", ["hist gradient boosting", "XGBoost, categories", "LightGBM", "CatBoost"])
def test_forked_workers_answer(name, tmp_path):
    """Even if the model has predicted before the fork: OpenMP then hangs in a worker, unless it has one thread."""
    with serving(name, tmp_path, 2, "model.predict([model.card.example] * 1000)") as (url, rows):
        for _ in range(20):
            assert requests.post(f"{url}/predict", json=rows, timeout=10).ok


@pytest.mark.parametrize("name", ["array", "own class"])
def test_a_damaged_file_stops_the_start(name, tmp_path, capsys):
    file = exported(name, tmp_path, capsys).file
    content = file.read_bytes()
    for number, damaged in enumerate([content[: len(content) // 2], b"", content[:-200] + bytes(200)]):
        folder = copy_of("simple_ml", tmp_path / str(number))
        (folder / file.name).write_bytes(damaged)
        command: list[str | Path] = [python("simple_ml" if file.suffix == ".onnx" else "simple_ml-train"), "app.py"]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
        assert run.returncode != 0
        assert "Traceback" not in run.stderr
        assert f"{file.name} cannot be used" in run.stderr


def command(*arguments: Any, cwd: Path) -> subprocess.CompletedProcess:
    line = [python("simple_ml-train"), *arguments]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_export_as_a_command(tmp_path):
    """A model that a notebook has saved, with a class of its own; and a model.pkl that is the user's stays."""
    (tmp_path / "steps.py").write_text(
        "from sklearn.base import BaseEstimator, TransformerMixin\nclass Double(TransformerMixin, BaseEstimator):\n"
        " def fit(self, X, y=None):\n  return self\n def transform(self, X):\n  return X * 2\n"
    )
    save = """
import joblib, pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from steps import Double

X = pd.DataFrame({"zip": ["01234", "10115"] * 25, "a": range(50)})  # a zip code is a text, whatever a CSV file shows
y = X["a"] * 3 + 100 * (X["zip"] == "01234")
columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["zip"]), (Double(), ["a"]))
joblib.dump(make_pipeline(columns, LinearRegression()).fit(X, y), "saved.joblib")
X.to_csv("rows.csv", index=False)
"""
    assert command("-c", save, cwd=tmp_path).returncode == 0
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04N.")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "simple_ml")}  # python3 -m adds this folder, with steps.py
    line = [python("simple_ml-train"), "-m", "export", "saved.joblib", "rows.csv"]
    run = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert "model.pkl is there already" in run.stderr
    assert (tmp_path / "model.pkl").read_bytes() == b"\x80\x04N."
    (tmp_path / "model.pkl").unlink()
    run = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("model.pkl (")
    folder = copy_of("simple_ml", tmp_path / "simple_ml")
    shutil.copy(tmp_path / "model.pkl", folder)  # where there is no steps.py
    with service(folder) as client:
        assert predict(client, {"zip": "01234", "a": 7})["prediction"] == pytest.approx(121)


REFUSED = {  # what is exported, and what the sentence must say
    "NoPredict(), [[1]]": "it is a NoPredict, which has no predict(), so write a function of a DataFrame",
    "Fails(), [[1]]": "its own predict() fails for a row of X, {\"f1\": 1} (KeyError: 'a')",
    "DBSCAN(), [[1]]": "it is a DBSCAN, which has no predict()",
    "DBSCAN, [[1]]": "it is the class DBSCAN and not an object of it",
    "(DBSCAN(), 1), [[1]]": "it is a tuple (DBSCAN, int)",
    "{'model': DBSCAN()}, [[1]]": "it is a dict ('model': DBSCAN)",
    "DummyClassifier().fit([[1], [2]], [1, 2]), []": "X is not a table",
}
TRY_ALL = """
import sys
sys.path.insert(0, sys.argv[1])
from export import export
from sklearn.cluster import DBSCAN
from sklearn.dummy import DummyClassifier

class NoPredict:
    pass

class Fails:
    def predict(self, X):
        raise KeyError("a")

for arguments in sys.argv[2:]:
    try:
        eval(f"export({arguments})")
    except SystemExit as error:
        print(error)
"""


def test_refused(tmp_path):
    """Each in one sentence, and no file is left."""
    run = command("-c", TRY_ALL, ROOT / "simple_ml", *REFUSED, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    for line, sentence in zip(run.stdout.splitlines(), REFUSED.values(), strict=True):
        assert line.startswith("This model cannot be served: ")
        assert sentence in line
    assert not list(tmp_path.iterdir())


def test_refused_by_train_py(tmp_path):
    """Where people run train.py, the sentence is all that it ends with. The file of an earlier training stays."""
    folder = copy_of("simple_ml", tmp_path)
    text = (folder / "train.py").read_text()
    (folder / "train.py").write_text(text.replace("model.fit(X, y),", "model.fit(X, y).steps,"))
    run = command("train.py", cwd=folder)
    sentence = "it is a list (tuple, tuple), so give export() the model in it, and the other steps by prepare=."
    assert (run.returncode, run.stderr) == (1, f"This model cannot be served: {sentence}\n")


def test_the_file_of_the_other_kind_goes(tmp_path, capsys):
    (tmp_path / "model.onnx").touch()
    assert exported("no converter", tmp_path, capsys).file.name == "model.pkl"


@pytest.mark.parametrize("first", ["simple_ml", "image_classification"])
def test_services_in_one_process_do_not_mix(first):
    """Their modules have the same names: whichever is asked first, each gets its own."""
    others = {"simple_ml": "image_classification", "image_classification": "simple_ml"}
    with service(ROOT / first) as one, service(ROOT / others[first]) as other:
        titles = [client.get("/openapi.json").json["info"]["title"] for client in (one, other)]
        assert sorted(titles) == ["Handwritten digits", "Iris species"]
        for client, title in zip((one, other), titles, strict=True):
            assert title in client.get("/").text
