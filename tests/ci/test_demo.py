"""image_classification without its demo of digits, and beside modules of the reader's own: all is served as before."""

import io
import os
import pytest
import requests
import shutil
import subprocess
from examples import ROOT
from helpers import copy_of, process, python
from pathlib import Path
from PIL import Image

EXAMPLE = ROOT / "image_classification"
TRAINING = ROOT / ".venv" / "image_classification-train" / "bin" / "python"
DEMO = ["digit", "mnist_training", "samples"]
COLOURS = {"rust": (180, 60, 30), "moss": (70, 120, 50), "sky": (110, 170, 230)}
OWN = {  # modules that readers have beside train.py
    "model.py": "import keras\nimage = keras.Input((16, 24, 3))\nhead = keras.layers.Dense(3)\n"
    "network = keras.Model(image, head(keras.layers.GlobalAveragePooling2D()(image)))\n",
    "models/__init__.py": "from models.colours import weights\n",
    "models/colours.py": "import numpy as np\nimport data\nfrom utils import bias\n"
    "weights = np.array(data.colours, float).T / 255 * 20, bias(data.colours)\n",
    "data.py": f"colours = {list(COLOURS.values())}\n",
    "utils.py": "import numpy as np\nbias = lambda colours: -10 * (np.array(colours) ** 2).sum(1) / 255**2\n",
    "schema.py": "title = 'Colours'\n",
    "columns.py": f"labels = {list(COLOURS)}\n",
    "preprocessing.py": "range = '0..1'\n",
    "train.py": "import columns, preprocessing, schema\nfrom export import export\nfrom model import head, network\n"
    "from models import weights\nhead.set_weights(weights)\n"
    "export(network, columns.labels, title=schema.title, range=preprocessing.range, task='logits')\n",
}


def run(folder: Path, *command: str, by: Path = TRAINING) -> subprocess.CompletedProcess:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run([by, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A copy of the folder without the demo, with modules of the reader's own, after `python3 train.py`."""
    folder = copy_of("image_classification", tmp_path_factory.mktemp("copy") / "image_classification")
    for room in DEMO:
        shutil.rmtree(folder / room)
    (folder / "models").mkdir()
    for name, text in OWN.items():
        (folder / name).write_text(text)
    answer = run(folder, "train.py")
    assert answer.returncode == 0, answer.stderr
    return folder


def ask(url: str) -> list[str]:
    files = []
    for colour in COLOURS.values():
        file = io.BytesIO()
        Image.new("RGB", (90, 70), colour).save(file, "PNG")
        files.append(("file", file.getvalue()))
    return [answer["prediction"] for answer in requests.post(f"{url}/predict", files=files, timeout=30).json()]


def test_it_is_served_without_the_demo_beside_the_reader_s_own_modules(folder):
    with process("image_classification", folder, GRANIAN_WORKERS="1") as (url, _):
        assert ask(url) == list(COLOURS)
        assert "<h1>Colours</h1>" in requests.get(url, timeout=10).text
        assert requests.get(f"{url}/openapi.json", timeout=10).ok


def test_it_says_that_the_preparation_of_digits_is_gone(folder):
    shutil.copy(EXAMPLE / "model.tflite", folder / "digits.tflite")
    reason = "the preparation 'digit' is not there: No module named 'digit'"
    code = "from export import export; export('digits.tflite', range(11), range='0..1', preprocess='digit')"
    answer = run(folder, "-c", code)
    assert answer.stderr.strip().splitlines()[-1] == f"This network cannot be served: {reason}."
    code = "from preprocess import way; from runtime import Network; way(Network('digits.tflite').card)"
    answer = run(folder, "-c", code, by=python("image_classification"))
    assert answer.stderr.strip().endswith(reason)


LOADED = "import app, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def test_the_demo_is_loaded_only_if_the_model_file_asks_for_it(folder, tmp_path):
    copy = copy_of("image_classification", tmp_path / "copy")
    shutil.copy(folder / "model.tflite", copy)
    photos = run(copy, "-c", LOADED, by=python("image_classification")).stdout.split()
    shutil.copy(EXAMPLE / "model.tflite", copy)
    digits = run(copy, "-c", LOADED, by=python("image_classification")).stdout.split()
    assert {"app", "preprocess", "runtime", "web"} <= {*photos}
    assert "digit" in digits
    assert "digit" not in photos
    assert not {"export", "mnist_training"} & {*photos, *digits}


@pytest.mark.parametrize("name", ["export", "runtime", "web", "digit"])
def test_a_module_that_a_folder_of_ours_hides_is_refused(tmp_path, name):
    copy = copy_of("image_classification", tmp_path / "copy")
    (copy / f"{name}.py").write_text("")
    answer = run(copy, "-c", "from export import helper")
    assert (answer.returncode, answer.stderr) == (1, f"{name}.py is hidden by the folder {name}/, so rename it.\n")


@pytest.mark.parametrize("start", [["export"], ["export/__main__.py"]])
def test_the_command_says_where_it_is_to_be_started(tmp_path, start):
    answer = run(tmp_path, *(str(EXAMPLE / each) for each in start), "pets.keras")
    assert answer.returncode == 1
    assert answer.stderr.strip() == "Go to the folder that holds export/, and run `python3 -m export` there."
