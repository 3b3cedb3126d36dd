"""Small networks of PyTorch as .onnx files, their own answers to a few pictures, and the modules that export them."""

import importlib
import json
import pytest
import sys
from collections.abc import Iterator
from examples import ROOT
from pathlib import Path
from support.inprocess import modules_of
from types import SimpleNamespace

EXAMPLE = ROOT / "image_classification"
NETWORKS = Path(__file__).parents[1] / "torch_networks"
CASES = json.loads((NETWORKS / "answers.json").read_text())["networks"]

sys.path.insert(0, str(NETWORKS))
pictures = importlib.import_module("pictures").pictures


def modules(*names: str) -> Iterator[SimpleNamespace]:
    """Yield modules of image_classification by the last part of their names; until then, no others have these names.

    They import others of them only when they need them. Of the package `export`, it is the function.
    """
    with modules_of(EXAMPLE):
        found = {name.rpartition(".")[2]: importlib.import_module(name) for name in names}
        yield SimpleNamespace(**found | {"export": found["export"].export})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    pictures(folder)
    return folder
