"""The worked examples in image_classification's README, run on a few small pictures, and served."""

import json
import numpy as np
import os
import pytest
import re
import requests
import subprocess
from examples import ROOT
from helpers import copy_of, process
from pathlib import Path
from PIL import Image

PYTHON = ROOT / ".venv" / "image_classification-train" / "bin" / "python"
README = (ROOT / "image_classification" / "README.md").read_text()
COLOURS = {"daisy": (240, 240, 230), "rose": (200, 30, 60), "tulip": (230, 200, 40)}
OWN_ANSWERS = """
import json, numpy as np, pathlib
pictures = sorted(pathlib.Path("flowers").glob("*/0.png"))
images = [keras.ops.image.resize(keras.utils.img_to_array(keras.utils.load_img(path)), (180, 180)) for path in pictures]
answers = keras.ops.softmax(network.predict(np.stack(images))).numpy().tolist()
pathlib.Path("answers.json").write_text(json.dumps(answers))
network.save("pets.keras")
"""


def run(folder: Path, *command: str) -> str:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    answer = subprocess.run([PYTHON, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder, copied out alone, after `train.py` of the README has run in it."""
    folder = tmp_path_factory.mktemp("copy") / "image_classification"
    copy_of("image_classification", folder)
    random = np.random.default_rng(0)
    for label, colour in COLOURS.items():
        (folder / "flowers" / label).mkdir(parents=True)
        for number in range(5):
            pixels = (np.array(colour) + random.normal(0, 9, (200, 240, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "flowers" / label / f"{number}.png")
    (script,) = re.findall(r"```python\n(import keras\n.+?)```", README, re.DOTALL)
    (folder / "train.py").write_text(script + OWN_ANSWERS)
    run(folder, "train.py")
    return folder


def assert_served(folder: Path, title: str) -> None:
    """Check that the service gives Keras's own answers to Keras's own pictures."""
    with process("image_classification", folder, GRANIAN_WORKERS="1") as (url, _):
        files = [("file", path.read_bytes()) for path in sorted((folder / "flowers").glob("*/0.png"))]
        answers = requests.post(f"{url}/predict", files=files, timeout=30).json()
        page = requests.get(url, timeout=10).text
    assert f"<h1>{title}</h1>" in page
    assert list(answers[0]["probabilities"]) == list(COLOURS)
    got = [list(answer["probabilities"].values()) for answer in answers]
    assert np.abs(np.array(got) - json.loads((folder / "answers.json").read_text())).max() < 0.01


def test_trained_in_place_of_train_py(folder):
    assert_served(folder, "Flowers")


def test_a_finished_file(folder):
    (folder / "labels.txt").write_text("\n".join(COLOURS) + "\n\n")
    (folder / "model.tflite").unlink()
    (command,) = re.findall(r" imageclassification-train (export.py .+)\n", README)
    printed = run(folder, *command.split())
    assert "logits, 3 labels" in printed
    assert_served(folder, "Pets")


def test_the_range_can_start_with_a_minus(folder):
    """argparse alone takes -1..1 for an option."""
    printed = run(
        folder, "export.py", "pets.keras", "--labels", "labels.txt", "--range", "-1..1", "--path", "other.tflite"
    )
    assert "127.5" in printed
