"""simple_ml: a saved model that this Python or these packages cannot read. The command says which Ubuntu can."""

import importlib
import pickle
import pytest
import sys
import types
from examples import ROOT
from pathlib import Path
from support.inprocess import modules_of

BOTH = "FROM ubuntu:24.04 (Python 3.12) or ubuntu:26.04 (Python 3.14)"


def unreadable(file: Path, state: dict[str, str]) -> None:
    """Write a pickle of a class that is not in any module here, as where another version has moved it."""
    elsewhere = types.ModuleType("elsewhere")
    exec("class Model: pass", elsewhere.__dict__)
    model = elsewhere.Model()
    model.__dict__.update(state)
    sys.modules["elsewhere"] = elsewhere
    try:
        file.write_bytes(pickle.dumps(model))
    finally:
        del sys.modules["elsewhere"]


@pytest.mark.parametrize(
    ("version", "ubuntu"),
    [
        ("1.3.0", "or train it again, since ubuntu:24.04 is too new for it"),
        ("1.3.1", "FROM ubuntu:24.04 (Python 3.12)"),
        ("1.7.1", "FROM ubuntu:24.04 (Python 3.12)"),
        ("1.7.2", BOTH),
        ("1.10.0rc1", BOTH),
        (None, BOTH),
    ],
)
def test_it_names_the_release_of_ubuntu(tmp_path, monkeypatch, version, ubuntu):
    unreadable(tmp_path / "saved.joblib", {"_sklearn_version": version} if version else {})
    (tmp_path / "rows.csv").write_text("a\n1\n")
    monkeypatch.setattr(sys, "argv", ["export", str(tmp_path / "saved.joblib"), str(tmp_path / "rows.csv")])
    # in this process, since it takes seconds to start another one
    with modules_of(ROOT / "simple_ml"), pytest.raises(SystemExit) as end:
        importlib.import_module("export.__main__").main()
    said = str(end.value)
    assert "saved.joblib cannot be read here (ModuleNotFoundError: No module named 'elsewhere'); " in said
    assert f"scikit-learn {version} has saved it, and this is" in said or not version
    assert said.endswith(f", {ubuntu}.")
