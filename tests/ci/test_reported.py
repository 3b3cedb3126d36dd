"""Faults that people have reported of services like these, each as a test of its kind."""

import joblib
import pandas as pd
import pytest
from catboost import CatBoostClassifier
from helpers import copy_of
from pathlib import Path
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from support.inprocess import service
from support.models import export

pytestmark = pytest.mark.filterwarnings("ignore")


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
