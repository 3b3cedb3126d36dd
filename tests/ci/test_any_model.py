"""simple_ml serves any model that predicts from a table, by both runtimes, over HTTP. (More of them: test_export.py)

any_model.py fits and exports them. Each is served by the unchanged app.py, and must answer as the model itself does.
"""

import contextlib
import json
import numpy as np
import os
import pytest
import requests
import shutil
import subprocess
import tempfile
from any_model import MODELS
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from examples import ROOT
from helpers import assert_problem, copy_of, process, python
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
KIND = {name: kind for name, (_, _, _, kind) in MODELS.items()}


@contextlib.contextmanager
def served(model: Path, workers: int = 1, first: str = "") -> Iterator[tuple[str, Path]]:
    """Serve a model file by a copy of simple_ml, as its Dockerfile does: (address, log).

    `first` is Python code that runs before the workers start.
    """
    folder = Path(tempfile.mkdtemp(dir=model.parent))
    shutil.copy(model, copy_of("simple_ml", folder))
    if first:
        app = (folder / "app.py").read_text()
        (folder / "app.py").write_text(app.replace("    settings =", f"    {first}\n    settings ="))
    packages, log = "simple_ml" if model.suffix == ".onnx" else "ci", folder / "log"
    with process("simple_ml", folder, packages, log, GRANIAN_WORKERS=str(workers)) as (url, _):
        yield url, log


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([python("ci"), HERE / "any_model.py", folder], check=True, timeout=600)
    return folder


@pytest.fixture(scope="module")
def answers(exported: Path) -> Iterator[dict[str, Future]]:
    """Start the servers two at a time, since it takes a pickle's packages seconds to be imported."""

    def ask(name: str) -> dict[str, Any]:
        (model,) = (exported / name).glob("model.*")
        asked = json.loads((exported / name / "asked.json").read_text())
        with served(model) as (url, log):
            many = requests.post(f"{url}/predict", json=asked["rows"], timeout=60)
            row = asked["rows"][0]
            one = requests.post(f"{url}/predict", json=row, timeout=60)
            pages = [requests.get(url + page, timeout=60).status_code for page in ("/", "/openapi.json", "/healthz")]
            bad = requests.post(f"{url}/predict", json=row | {next(iter(row)): {}}, timeout=60)
            return asked | {"kind": model.suffix[1:], "many": many, "one": one, "pages": pages, "bad": bad, "log": log}

    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(ask, name) for name in KIND}


@pytest.mark.parametrize("name", KIND)
def test_answers(name, answers):
    """They are the model's own, for rows that training did not hold, and the pages and errors are there."""
    seen = answers[name].result()
    assert seen["kind"] == KIND[name], seen["said"]
    assert seen["said"].count("\n") == 1
    assert seen["pages"] == [200, 200, 200]
    assert_problem(seen["bad"], 422)
    assert seen["many"].status_code == seen["one"].status_code == 200, seen["many"].text
    many = seen["many"].json()
    got = [answer["prediction"] for answer in many]
    want = np.array(seen["labels"]).reshape(np.shape(got)).tolist()  # y of one column gives one number
    is_number = isinstance(np.ravel(want)[0].item(), float)
    assert (
        np.ravel(got) == pytest.approx(np.ravel(want), rel=1e-3, abs=1e-3 * np.std(want)) if is_number else got == want
    )
    if seen.get("shares"):
        shares = [list(answer["probabilities"].values()) for answer in many]
        assert np.array(shares) == pytest.approx(np.array(seen["shares"]), abs=0.005)
    if "scores" in seen:
        assert [answer["score"] for answer in many] == pytest.approx(seen["scores"], abs=0.005)
    one = seen["one"].json()["prediction"]
    assert one == pytest.approx(got[0], rel=1e-4) if is_number else one == got[0]


def test_all_models_are_here(exported):
    assert {path.name for path in exported.iterdir()} == set(KIND)


def test_a_row_that_the_model_fails_for_is_named(exported):
    """The traceback goes to the log, and the service goes on."""
    with served(exported / "own class, strict" / "model.pkl") as (url, log):
        document = requests.get(f"{url}/openapi.json", timeout=30).json()
        assert document["components"]["schemas"]["Row"]["properties"]["city"]["enum"] == ["Rome", "Vienna", "Zürich"]
    with served(exported / "dates" / "model.pkl") as (url, log):
        row = {"since": "2024-01-31", "seen": "2024-03-01T09:30:00", "age": 30}
        assert requests.post(f"{url}/predict", json=row, timeout=30).ok
        same = [row | {"seen": "2024-03-01T08:30:00Z"}, row | {"seen": "2024-03-01T10:30:00+02:00"}, row]
        predictions = requests.post(f"{url}/predict", json=same, timeout=30).json()
        assert predictions[0] == predictions[1] == predictions[2]
        for wrong in ("20240131", "31.1.2024", "2024-13-01", "today", 20240131, None, True):
            problem = assert_problem(requests.post(f"{url}/predict", json=row | {"since": wrong}, timeout=30), 422)
            assert [error["pointer"] for error in problem["errors"]] == ["#/since"]
        early = row | {"seen": "0001-01-01T00:00:00+14:00"}  # in Vienna it is the year 0
        problem = assert_problem(requests.post(f"{url}/predict", json=[row, row, early, row], timeout=30), 422)
        assert [error["pointer"] for error in problem["errors"]] == ["#/2"]
        assert "Traceback" in log.read_text()
        assert requests.post(f"{url}/predict", json=row, timeout=30).ok


@pytest.mark.parametrize("name", ["hist gradient boosting", "XGBoost, categories", "LightGBM", "CatBoost"])
def test_forked_workers_answer(name, exported):
    """Even if the model has predicted before the fork: OpenMP then hangs in a worker, unless it has one thread."""
    rows = json.loads((exported / name / "asked.json").read_text())["rows"]
    with served(exported / name / "model.pkl", 2, "model.predict([model.card.example] * 1000)") as (url, _):
        for _ in range(20):
            assert requests.post(f"{url}/predict", json=rows, timeout=10).ok


@pytest.mark.parametrize("name", ["array", "own class"])
def test_a_damaged_file_stops_the_start(name, exported, tmp_path):
    (model,) = (exported / name).glob("model.*")
    content = bytearray(model.read_bytes())
    for number, damaged in enumerate([content[: len(content) // 2], b"", content[:-200] + bytes(200)]):
        folder = tmp_path / str(number)
        copy_of("simple_ml", folder)
        (folder / model.name).write_bytes(damaged)
        command: list[str | Path] = [python("simple_ml" if model.suffix == ".onnx" else "simple_ml-train"), "app.py"]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
        assert run.returncode != 0
        assert "Traceback" not in run.stderr
        assert f"{model.name} cannot be used" in run.stderr


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
    with served(tmp_path / "model.pkl") as (url, _):  # where there is no steps.py
        answer = requests.post(f"{url}/predict", json={"zip": "01234", "a": 7}, timeout=30).json()
        assert answer["prediction"] == pytest.approx(121)


REFUSED = {  # what is exported, and what the sentence must say
    "NoPredict(), [[1]]": "NoPredict has no predict().",
    "Fails(), [[1]]": "its own predict() fails",
    "DBSCAN(), [[1]]": "DBSCAN has no predict().",
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
