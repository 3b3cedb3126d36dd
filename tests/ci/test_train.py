"""image_classification: train.py on little data, and another network; the service answers with what they write."""

import io
import numpy as np
import os
import pytest
import requests
import shutil
import subprocess
from examples import ROOT, docker
from helpers import copy_of, process, python
from pathlib import Path
from PIL import Image, ImageDraw, ImageFont

EXAMPLE = ROOT / "image_classification"
TRAINER = "imageclassification-train:tested"


@pytest.fixture
def printed_digits(tmp_path) -> Path:
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

    file = tmp_path / "printed.npz"
    (x_train, y_train), (x_test, y_test) = images(1000), images(100)
    np.savez(file, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return file


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the example without a model."""
    return copy_of("image_classification", tmp_path / "image_classification")


def run(folder: Path, *arguments: str) -> str:
    """Run Python with the packages for training in a folder, and return what it prints."""
    command: list[str | Path] = [python("image_classification-train"), *arguments]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


TRAINING = ["train.py", "--data", "mnist.npz", "--epochs", "1", "--limit", "20"]  # the least: a single step


def test_what_it_trains_is_served(printed_digits, folder):
    shutil.copy(printed_digits, folder / "mnist.npz")
    assert "Test: " in run(folder, *TRAINING)
    with process("image_classification", folder) as (url, _):
        sample = (folder / "samples" / "seven.png").read_bytes()
        answer = requests.post(f"{url}/predict", files={"file": sample}, timeout=10).json()
        proof = requests.get(f"{url}/healthz", timeout=10).json()["proof"]
    assert list(answer["probabilities"]) == list("0123456789")
    assert proof.startswith("The file gives the network's own answers: compared on 120 pictures, random ones included")


@pytest.mark.docker
@pytest.mark.trainer
def test_the_image_for_training(printed_digits, folder):
    """As the README runs it: what it writes belongs to the user."""
    docker("build", "--tag", TRAINER, "--file", EXAMPLE / "Dockerfile.train", EXAMPLE)
    shutil.copy(printed_digits, folder / "mnist.npz")
    user = ["--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{folder}:/train"]
    assert "Test: " in docker("run", "--rm", *user, TRAINER, *TRAINING)
    assert (folder / "model.tflite").stat().st_uid == os.getuid()


PAIRS = """
import numpy as np
from mnist_training.draw import pair

thin, wide = np.zeros((2, 28, 28), np.uint8)
thin[:, 14] = wide[4:24, 4:24] = 255
random = np.random.default_rng(0)
for _ in range(100):
    assert pair(np.stack([thin, wide]), random).width <= 3 * 60
"""


def test_digits_that_touch_have_any_width(folder):
    run(folder, "-c", PAIRS)


COLOURS = {"rust": (180, 60, 30), "moss": (70, 120, 50), "sky": (110, 170, 230)}
TRAIN_COLOURS = f"""
import keras, numpy as np
from export import export

colours = np.array({list(COLOURS.values())}, np.float32) / 255
random = np.random.default_rng(0)
labels = random.integers(0, 3, 600)
images = (colours[labels][:, None, None] + random.normal(0, 0.05, (600, 16, 24, 3))).astype(np.float32)
image = keras.Input((16, 24, 3))
output = keras.layers.Dense(3, "softmax")(keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3)(image)))
network = keras.Model(image, output)
network.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
network.fit(images, labels, epochs=30, verbose=0)
export(network, {list(COLOURS)}, range="0..1")
"""


def test_another_network_is_served_by_the_same_app(folder):
    """Another size, with colours and other labels: only the model is replaced."""
    run(folder, "-c", TRAIN_COLOURS)
    with process("image_classification", folder) as (url, _):
        for label, colour in COLOURS.items():
            file = io.BytesIO()
            Image.new("RGB", (90, 70), colour).save(file, "PNG")
            answer = requests.post(f"{url}/predict?input=1", files={"file": file.getvalue()}, timeout=10).json()
            assert answer["prediction"] == label
            assert list(answer["probabilities"]) == list(COLOURS)
            assert np.allclose(answer["input"], np.broadcast_to(colour, (16, 24, 3)), atol=1)
