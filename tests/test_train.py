"""image_classification's train.py, run for real on little data; what it writes is served."""

import io
import numpy as np
import os
import pytest
import requests
import shutil
import subprocess
from conftest import ROOT, docker, process
from pathlib import Path
from PIL import Image, ImageDraw, ImageFont

PYTHON = ROOT / ".venv" / "image_classification-train" / "bin" / "python"


@pytest.fixture(scope="module")
def printed_digits(tmp_path_factory):
    """A file like Keras's mnist.npz, with digits of a printed font: 28x28, uint8, light on dark."""
    random = np.random.default_rng(0)

    def images(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = random.integers(0, 10, count).astype(np.uint8)
        pictures = []
        for label in labels:
            picture = Image.new("L", (28, 28))
            font = ImageFont.load_default(size=int(random.integers(16, 24)))
            ImageDraw.Draw(picture).text((14, 14), str(label), fill=255, font=font, anchor="mm")
            pictures.append(np.asarray(picture.rotate(random.uniform(-8, 8))))
        return np.stack(pictures), labels

    file = tmp_path_factory.mktemp("data") / "printed.npz"
    (x_train, y_train), (x_test, y_test) = images(1000), images(100)
    np.savez(file, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return file


def test_help():
    answer = subprocess.run(
        [PYTHON, "train.py", "--help"], cwd=ROOT / "image_classification", capture_output=True, text=True
    )
    assert answer.returncode == 0
    assert "--data" in answer.stdout


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the example without a model."""
    copy = tmp_path / "image_classification"
    shutil.copytree(ROOT / "image_classification", copy, ignore=shutil.ignore_patterns("model.tflite", "__pycache__"))
    return copy


def assert_served(folder: Path) -> None:
    with process("image_classification", folder) as (url, _):
        sample = (folder / "samples" / "seven.png").read_bytes()
        answer = requests.post(f"{url}/predict", files={"file": sample}, timeout=10).json()
        assert list(answer["probabilities"]) == list("0123456789")


def test_what_it_trains_is_served(printed_digits, folder):
    command = [PYTHON, "train.py", "--data", printed_digits, "--epochs", "2", "--limit", "800"]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "Test: " in answer.stdout
    assert_served(folder)


@pytest.mark.docker
def test_what_a_container_trains_is_served(printed_digits, folder):
    """As the README says it, but with other data: the container writes the model into the folder, as the user."""
    shutil.copy(printed_digits, folder / "mnist.npz")
    docker("build", "--tag", "imageclassification-train", "--file", folder / "Dockerfile.train", folder)
    user = ["--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{folder}:/train"]
    training = ["imageclassification-train", "train.py", "--data", "mnist.npz", "--epochs", "1", "--limit", "800"]
    assert "Test: " in docker("run", "--rm", *user, *training)
    assert (folder / "model.tflite").stat().st_uid == os.getuid()
    assert_served(folder)


COLOURS = {"rust": (180, 60, 30), "moss": (70, 120, 50), "sky": (110, 170, 230)}
TRAIN_COLOURS = f"""
import keras, numpy as np, train
from pathlib import Path

colours = np.array({list(COLOURS.values())}, np.float32) / 255
random = np.random.default_rng(0)
labels = random.integers(0, 3, 600)
images = (colours[labels][:, None, None] + random.normal(0, 0.05, (600, 16, 24, 3))).astype(np.float32)
image = keras.Input((16, 24, 3))
output = keras.layers.Dense(3, "softmax")(keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3)(image)))
network = keras.Model(image, output)
network.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
network.fit(images, labels, epochs=30, verbose=0)
train.LABELS = {list(COLOURS)}
train.convert(network, Path("model.tflite"))
"""
PREPARE_COLOURS = """
import io
import numpy as np

def prepare(image, shape):
    height, width, _ = shape
    return np.asarray(image.convert("RGB").resize((width, height)), np.float32) / 255
"""


def test_another_network_is_served_by_the_same_app(folder):
    """Another size of input, colour and other labels: only the model and preprocess.py are replaced."""
    subprocess.run([PYTHON, "-c", TRAIN_COLOURS], cwd=folder, check=True, capture_output=True)
    (folder / "preprocess.py").write_text(PREPARE_COLOURS)
    with process("image_classification", folder) as (url, _):
        for label, colour in COLOURS.items():
            file = io.BytesIO()
            Image.new("RGB", (90, 70), colour).save(file, "PNG")
            answer = requests.post(f"{url}/predict?input=1", files={"file": file.getvalue()}, timeout=10).json()
            assert answer["prediction"] == label
            assert list(answer["probabilities"]) == list(COLOURS)
            assert np.allclose(answer["input"], np.broadcast_to(colour, (16, 24, 3)), atol=1)
