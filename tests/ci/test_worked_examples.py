"""The worked examples in image_classification's README, run on a few small pictures, and served."""

import io
import json
import numpy as np
import os
import pytest
import re
import requests
import shutil
import subprocess
from examples import ROOT, free_port
from helpers import assert_problem, copy_of, process, python
from pathlib import Path
from PIL import Image
from run import SETTINGS

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
    (command,) = re.findall(r" imageclassification-train (-m export .+)\n", README)
    printed = run(folder, *command.split())
    assert "logits, 3 labels" in printed
    assert_served(folder, "Pets")


def test_the_range_can_start_with_a_minus(folder):
    """argparse alone takes -1..1 for an option."""
    pets = ["pets.keras", "--labels", "labels.txt", "--range", "-1..1", "--path", "other.tflite"]
    printed = run(folder, "-m", "export", *pets, "--pictures", "flowers")
    assert "-1..1, RGB, bilinear, stretched" in printed
    assert "on 27 pictures" in printed  # 15 of flowers, and 12 random ones


def with_photo(folder: Path, tmp_path: Path, *lines: str) -> Path:
    """Return a copy of the folder in which the reader has changed `photo` in preprocess.py."""
    copy = shutil.copytree(folder, tmp_path / "changed")
    own = "\n    ".join(["def photo(image, size, channels, resize, fit, crop):", *lines])
    text = (copy / "preprocess.py").read_text().replace("def photo(", "def photo_of_keras(")
    (copy / "preprocess.py").write_text(f"{text}\n\n{own}\n")
    return copy


def test_the_reader_s_own_preparation(folder, tmp_path):
    """It is served as it is; what it refuses is a 422, and an error in it is no fault of the sender."""
    copy = with_photo(
        folder,
        tmp_path,
        "if image.width == 10:",
        "    raise NothingToSee('This is too narrow.')",
        "if image.width == 20:",
        "    raise ValueError('oops')",
        "return 255 - photo_of_keras(image, size, channels, resize)",
    )
    path = folder / "flowers" / "rose" / "0.png"

    def ask(folder: Path, *widths: int) -> list[requests.Response]:
        with process("image_classification", folder, GRANIAN_WORKERS="1") as (url, _):
            answers = [requests.post(f"{url}/predict?input=1", data=path.read_bytes(), timeout=30)]
            for width in widths:
                buffer = io.BytesIO()
                Image.new("RGB", (width, 50)).save(buffer, "PNG")
                answers.append(requests.post(f"{url}/predict", data=buffer.getvalue(), timeout=30))
            return answers

    (usual,) = ask(folder)
    own, narrow, wrong = ask(copy, 10, 20)
    # .5 is rounded to even
    assert np.abs(255 - np.array(own.json()["input"]) - usual.json()["input"]).max() <= 1
    assert assert_problem(narrow, 422)["detail"] == "This is too narrow."
    assert "oops" not in assert_problem(wrong, 500)["detail"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("raise ValueError('oops')", "ValueError: oops"),
        ("return photo_of_keras(image, size, channels, resize).transpose(2, 0, 1)", "(3, 180, 180)"),
        ("return photo_of_keras(image, size, channels, resize) / 255", "0 to 255"),
        ("return image.resize(size)", "photo()"),
    ],
    ids=["error", "shape", "range", "type"],
)
def test_it_does_not_start_with_a_preparation_that_does_not_fit(folder, tmp_path, line, reason):
    copy = with_photo(folder, tmp_path, line)
    environment = os.environ | SETTINGS | {"GRANIAN_PORT": str(free_port())}
    answer = subprocess.run(
        [python("image_classification"), "app.py"],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 1
    last = answer.stderr.strip().splitlines()[-1]
    assert last.startswith("photo() in preprocess.py does not work")
    assert reason in last
