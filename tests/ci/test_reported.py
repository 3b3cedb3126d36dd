"""Faults that people have reported of services like these, each as a test of its kind."""

import joblib
import json
import numpy as np
import onnx
import os
import pandas as pd
import pytest
import re
import socket
import subprocess
import sys
import threading
import tracemalloc
from catboost import CatBoostClassifier
from examples import ROOT
from helpers import copy_of
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from support.inprocess import service
from support.models import export

pytestmark = pytest.mark.filterwarnings("ignore")


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The folder simple_ml without a model, in which export() runs."""
    folder = copy_of("simple_ml", tmp_path / "simple_ml")
    monkeypatch.chdir(folder)
    return folder


def test_the_hour_that_occurs_twice(folder):
    """With an offset it is known which one is meant; without, the answer says what to send."""
    X = pd.DataFrame({"at": pd.date_range("2024-10-26 20:00", periods=48, freq="h", tz="Europe/Berlin")})
    hours = FunctionTransformer(lambda X: (X["at"].dt.hour + X["at"].dt.strftime("%z").eq("+0100") * 100).to_frame())
    model = make_pipeline(hours, LinearRegression())
    export(model.fit(X, X["at"].dt.hour + 100.0 * X["at"].dt.strftime("%z").eq("+0100")), X)
    times = ["2024-10-27T02:30+02:00", "2024-10-27T02:30+01:00", "2024-10-27T00:30Z", "2024-06-01T02:30"]
    with service(folder) as client:
        answers = client.post("/predict", json=[{"at": time} for time in times]).json
        assert [answer["prediction"] for answer in answers] == pytest.approx([2, 102, 2, 2])
        for time in ("2024-10-27T02:30", "2024-03-31T02:30"):
            refused = client.post("/predict", json=[{"at": times[0]}, {"at": time}])
            assert refused.status_code == 422
            assert f"{time}:00 is there twice or not at all" in refused.json["detail"]
            assert "Send it with its offset" in refused.json["detail"]
            assert [each["pointer"] for each in refused.json["errors"]] == ["#/1"]


def test_catboost_with_texts(folder):
    """Such a model can be pickled once: what comes of a second time ends the process that loads it."""
    X = pd.DataFrame({"review": ["good film", "bad film", "good plot", "bad plot"] * 20})
    model = CatBoostClassifier(iterations=5, verbose=0, allow_writing_files=False, text_features=["review"])
    model.fit(X, ["up", "down"] * 40)
    joblib.dump(model, "saved.joblib")
    with pytest.raises(SystemExit, match=r"cannot be loaded \(the process ended by SIGSEGV\).*as fit\(\) left it"):
        export(joblib.load("saved.joblib"), X)
    export(make_pipeline(model), X)
    with service(folder) as client:
        assert client.post("/predict", json={"review": "bad film"}).json["prediction"] == "down"


def test_rows_times_classes(folder):
    """An answer of 200 classes takes the memory of many, so fewer rows may be asked at once."""
    y = np.repeat([f"product {i:05}" for i in range(200)], 2)
    X = pd.DataFrame(np.random.default_rng(1).normal(size=(len(y), 3)), columns=list("abc"))
    export(DecisionTreeClassifier(max_depth=12, random_state=0).fit(X, y), X)
    row = {"a": 0, "b": 0.5, "c": 1}
    with service(folder) as client:
        many = client.get("/openapi.json").json["paths"]["/predict"]["post"]["requestBody"]["content"]
        assert many["application/json"]["schema"]["anyOf"][1]["maxItems"] == 5000
        refused = client.post("/predict", json=[row] * 10_000)
        assert refused.status_code == 422
        assert refused.json["errors"][0]["detail"].startswith("List should have at most 5000 items")
        tracemalloc.start()
        answer = client.post("/predict", json=[row] * 5000)
        assert tracemalloc.get_traced_memory()[1] < 250e6
        tracemalloc.stop()
        assert (answer.status_code, answer.data.count(b'"prediction"')) == (200, 5000)


def test_many_columns(folder, monkeypatch):
    """The model is not asked about each of 1,000 columns."""
    X = np.random.default_rng(1).normal(size=(50, 1000))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, X[:, 0] > 0)
    asked = []
    own = LogisticRegression.predict
    monkeypatch.setattr(LogisticRegression, "predict", lambda self, X: asked.append(len(X)) or own(self, X))
    export(model, X)
    assert len(asked) < 500  # most of them are rows that are asked alone


def test_gaps_of_many_columns(folder):
    """Those with gaps in training may have them, however they lie."""
    X = pd.DataFrame(np.random.default_rng(1).normal(size=(50, 450)), columns=[f"c{i}" for i in range(450)])
    X.iloc[3, ::7] = np.nan
    holes = list(X.columns[X.isna().any()])
    steps = make_column_transformer((SimpleImputer(), holes), remainder="passthrough")
    export(make_pipeline(steps, LinearRegression()).fit(X, X.c1), X)
    row = X.iloc[4].to_dict()
    with service(folder) as client:
        assert client.post("/predict", json=row | dict.fromkeys(holes)).status_code == 200
        assert client.post("/predict", json=row | {"c1": None}).status_code == 422


def test_numbers_are_one_matrix(folder):
    """An input of ONNX for each column takes time with their square."""
    X = pd.DataFrame(np.random.default_rng(1).normal(size=(80, 60)), columns=[f"c{i}" for i in range(60)])
    X["c3"], X["c5"] = X.c3 > 0, (X.c5 * 10).round().astype(int)
    X.loc[4, "c7"] = np.nan
    steps = make_column_transformer(
        (StandardScaler(), ["c9", "c3", "c1"]), (SimpleImputer(), ["c7"]), remainder="passthrough"
    )
    model = make_pipeline(steps, LinearRegression()).fit(X, X.c3 * 5 + X.c9 * 3 - X.c1 + X.c59)
    export(model, X)
    assert len(onnx.load("model.onnx").graph.input) == 1
    rows = json.loads(X.to_json(orient="records"))
    with service(folder) as client:
        answers = client.post("/predict", json=[dict(reversed(row.items())) for row in rows]).json
    assert [answer["prediction"] for answer in answers] == pytest.approx(model.predict(X).tolist(), abs=1e-4)


def test_onnx_that_is_slower(folder, capsys, monkeypatch):
    """The model itself serves where ONNX takes more than twice its time for a row."""
    times = iter([0.3, 0.1])
    monkeypatch.setattr("export.seconds", lambda _: next(times, 0.1))
    X = pd.DataFrame({"a": range(20)})
    export(LinearRegression().fit(X, X.a), X)
    assert "ONNX takes 300 ms for a row, and the model itself 100 ms, so " in capsys.readouterr().out
    assert (folder / "model.pkl").exists()


def test_what_takes_long_says_so(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.modules["export.progress"], "EVERY", 0.01)
    X = pd.DataFrame({"a": range(20)})
    export(LinearRegression().fit(X, X.a), X)
    assert re.search(r"^export: \d+ s, asking model.onnx in a new process$", capsys.readouterr().err, re.MULTILINE)


@pytest.mark.parametrize("gaps", [False, True])
def test_large_forests_take_less_memory(folder, gaps, monkeypatch):
    """Their trees are written in another way, in several parts, and answer as before."""
    monkeypatch.setattr("export.trees.LARGE", 100)
    monkeypatch.setattr("export.trees.TOGETHER", 60)
    X = pd.DataFrame(np.random.default_rng(1).normal(size=(300, 2)), columns=["a", "b"])
    if gaps:
        X.loc[::9, "a"] = np.nan
    model = RandomForestRegressor(7, max_depth=7, random_state=0).fit(X, X.a.fillna(3) * X.b)
    export(model, X)
    parts = [node.op_type for node in onnx.load("model.onnx").graph.node if node.domain == "ai.onnx.ml"]
    assert set(parts) == {"TreeEnsemble"}
    assert len(parts) > 2
    with service(folder) as client:
        answers = client.post("/predict", json=json.loads(X.to_json(orient="records"))).json
    assert [answer["prediction"] for answer in answers] == pytest.approx(model.predict(X).tolist(), abs=1e-5)


def test_a_model_that_needs_more_memory(folder, capsys, monkeypatch):
    """export() says so; what train.py itself has needed does not count."""
    np.ones(70_000_000)  # 560 MB
    X = pd.DataFrame({"a": range(20)})
    model = LinearRegression().fit(X, X.a)
    export(model, X)
    assert "raise `memory`" not in capsys.readouterr().out
    monkeypatch.setattr("export.MEMORY", 10)
    export(model, X)
    said = re.search(
        r"Each of two workers takes (\d+) MB to start, so raise `memory` .* to 1G", capsys.readouterr().out
    )
    assert said
    assert 20 < int(said[1]) < 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1"])
def test_health_check_asks_by_both_protocols(host):
    """With GRANIAN_HOST=:: the service may listen on IPv6 alone."""
    text = (ROOT / "hello_world" / "Dockerfile").read_text().replace("\\\n", "")
    command = json.loads(re.search(r"^HEALTHCHECK .*?CMD (.*)$", text, re.MULTILINE)[1])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = type("Server", (HTTPServer,), {"address_family": family})((host, 0), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = os.environ | {"PORT": str(server.server_port)}
    try:
        assert subprocess.run([sys.executable, *command[1:]], env=environment, timeout=20).returncode == 0
    finally:
        server.shutdown()
        server.server_close()
