"""What train.py learns from: MNIST, and drawings beside it, all prepared as the service prepares an upload.

Its first 5,000 images are held out to calibrate the probabilities: MNIST is sorted by writer, so the network has not
learned from these people. The 10,000 test images are used once, at the end. For other pictures, delete this folder.
"""

import contextlib
import keras
import math
import numpy as np
import tensorflow as tf
from collections.abc import Iterable
from digit.parts import digit
from mnist_training.draw import european, no_digits, other_digits
from pathlib import Path
from PIL import Image
from runtime import Network
from runtime.decode import NothingToSee
from typing import NamedTuple

UNKNOWN = "this does not look like a digit"  # the label of pictures without one
LABELS = [*"0123456789", UNKNOWN]  # what the service answers, in the order of the outputs
SIZE = 28  # pixels
VALIDATION = 5000  # images
EUROPEAN = {1: 0.5, 7: 0.25}  # share of the label that is shown a second time, redrawn
OTHER, WITHOUT = 0.15, 0.4  # drawn for each image of MNIST: digits in other forms, and pictures without a digit
RARER = 0.1  # pictures without a digit are ten times rarer in use than in the calibration set


class Pictures(NamedTuple):
    """Prepared pictures, and what they show."""

    images: np.ndarray  # (n, 28, 28, 1) float32, 0..1
    labels: np.ndarray  # (n,) int, places in LABELS

    def __add__(self, other: "Pictures") -> "Pictures":  # type: ignore[override]
        return Pictures(*map(np.concatenate, zip(self, other, strict=True)))


def load(file: str | None, limit: int | None) -> tuple[Pictures, Pictures, Pictures, Pictures]:
    """Return pictures to train with, held-out digits, held-out pictures without a digit, and the test images.

    `file` is MNIST as Keras has it, an .npz; None: Keras downloads it. Only the first `limit` training images count.
    """
    if file:
        with np.load(file) as arrays:
            x, y, x_test, y_test = (arrays[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    else:
        (x, y), (x_test, y_test) = keras.datasets.mnist.load_data()
    held_out = min(VALIDATION, len(x[:limit]) // 5)
    (x_held, x), (y_held, y) = (np.split(array[:limit], [held_out]) for array in (x, y))
    rng = np.random.default_rng(1)
    again = [i for i, label in enumerate(y) if rng.random() < EUROPEAN.get(int(label), 0)]
    redrawn = [european(x[i], int(y[i]), rng) for i in again]
    others, y_others = zip(*other_digits(int(OTHER * len(x)), seed=1), strict=True)
    training = Pictures(
        np.concatenate([prepared(map(Image.fromarray, [*x, *redrawn])), prepared(others)]),
        np.concatenate([y, y[again], y_others]),
    )
    return (
        training + without_digits(int(WITHOUT * len(x)), x, y, seed=1),
        Pictures(prepared(map(Image.fromarray, x_held)), y_held),
        without_digits(len(x_held), x_held, y_held, seed=2),
        Pictures(prepared(map(Image.fromarray, x_test)), y_test),
    )


def prepared(images: Iterable[Image.Image]) -> np.ndarray:
    """Prepare images as the service does: (n, 28, 28, 1) float32, 0..1. One that the service would refuse becomes
    black."""
    result = []
    for image in images:
        result.append(np.zeros((SIZE, SIZE, 1), np.float32))
        with contextlib.suppress(NothingToSee):
            result[-1] = digit(image)
    return np.stack(result)


def without_digits(count: int, images: np.ndarray, labels: np.ndarray, seed: int) -> Pictures:
    """Return some `count` prepared pictures without a digit. The narrow ones may look like a 1, so
    they are left out. `images`, (n, 28, 28) uint8, and `labels` are MNIST's, since draw.py makes some from them."""
    pictures = prepared(no_digits(count, images, labels, seed))
    pictures = pictures[(pictures > 0.2).any((1, 3)).sum(1) >= 10]
    return Pictures(pictures, np.full(len(pictures), LABELS.index(UNKNOWN)))


def calibrate(model: keras.Model, held_out: Pictures) -> float:
    """Divide the weights of the last layer by the temperature that makes the true labels most
    probable, and return it (Guo, Pleiss, Sun and Weinberger, ICML 2017). Half of the pictures show no digit;
    among the pictures that people send they are RARER, so that label becomes less probable
    (Saerens, Latinne and Decaestecker, Neural Computation 14, 2002)."""
    layer = model.get_layer("logits")
    logits = keras.Model(model.input, layer.output).predict(held_out.images, batch_size=500, verbose=0)

    def loss(temperature: float) -> float:
        scores = tf.nn.log_softmax(logits / temperature).numpy()
        return -float(scores[np.arange(len(scores)), held_out.labels].mean())

    best = min(np.geomspace(0.1, 10, 401), key=loss)
    weights, bias = (values / best for values in layer.get_weights())
    bias[LABELS.index(UNKNOWN)] += math.log(RARER)
    layer.set_weights([weights, bias])
    return float(best)


def served(path: str | Path, images: np.ndarray) -> np.ndarray:
    """Return the probabilities, (n, 11) float32, that the service would give; 0 for a black image, which it refuses."""
    network = Network(path)
    probabilities = np.stack([network.probabilities(image * 255) for image in images])
    return probabilities * (images.max((1, 2, 3)) > 0)[:, None]


def report(title: str, path: str | Path, pictures: Pictures) -> np.ndarray:
    """Print how a model file reads pictures, and how far its probabilities can be trusted. Return what it reads."""
    probabilities, labels = served(path, pictures.images), pictures.labels
    confidence = probabilities.max(1)
    correct: np.ndarray = np.where(confidence > 0, probabilities.argmax(1), -1) == labels
    bins = np.minimum((confidence * 15).astype(int), 14)  # expected calibration error, 15 bins
    gaps = np.abs(np.bincount(bins, correct - confidence))
    print(f"{title}: {correct.mean():.2%} of {len(labels)} correct, ", end="")
    print(f"expected calibration error {gaps.sum() / len(labels):.2%}, ", end="")
    print(f"{(confidence >= 0.9).mean():.2%} predicted with 0.9 or more, ", end="")
    print(f"{correct[confidence >= 0.9].sum() / max(1, (confidence >= 0.9).sum()):.2%} of those correct")
    return probabilities.argmax(1)
