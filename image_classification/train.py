"""Train the network that reads the digits, and write it to model.tflite. To serve your own network, edit this file.

A small Keras CNN learns the training images of MNIST, and what draw.py draws: digits in other forms, and pictures
without a digit. All are prepared as the service prepares an upload, and distorted anew in every epoch. The first 5,000
of the 60,000 are held out to calibrate the probabilities: MNIST is sorted by writer, so the network has not learned
from these people. The 10,000 test images are used once, at the end.
"""

import argparse
import contextlib
import keras
import math
import numpy as np
import tensorflow as tf
from collections.abc import Iterable
from digit import digit
from draw import no_digits, other_digits
from export import export
from ink import NothingToSee
from keras import layers
from model import Network
from pathlib import Path
from PIL import Image, ImageDraw

UNKNOWN = "this does not look like a digit"  # the label of pictures without one
LABELS = [*"0123456789", UNKNOWN]  # what the service answers, in the order of the outputs
SIZE = 28  # pixels
BATCH = 128
VALIDATION = 5000  # images
EUROPEAN = {1: 0.5, 7: 0.25}  # share of the label that is shown a second time, redrawn
OTHER, WITHOUT = 0.15, 0.4  # drawn for each image of MNIST: digits in other forms, and pictures without a digit
RARER = 0.1  # pictures without a digit are sent to the service so much less often than they are in the calibration


def prepared(images: Iterable[Image.Image]) -> np.ndarray:
    """Prepare images as the service does: (n, 28, 28, 1) float32, 0..1. One that the service would refuse becomes
    black."""
    result = []
    for image in images:
        result.append(np.zeros((SIZE, SIZE, 1), np.float32))
        with contextlib.suppress(NothingToSee):
            result[-1] = digit(image)
    return np.stack(result)


def drawn(count: int, images: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return some `count` prepared pictures without a digit, and their labels. The narrow ones may look like a 1, so
    they are left out. `images`, (n, 28, 28) uint8, and `labels` are MNIST's, since draw.py makes some from them."""
    pictures = prepared(no_digits(count, images, labels, seed))
    pictures = pictures[(pictures > 0.2).any((1, 3)).sum(1) >= 10]
    return pictures, np.full(len(pictures), LABELS.index(UNKNOWN))


def european(image: np.ndarray, label: int, rng: np.random.Generator) -> np.ndarray:
    """Return a copy of the image, (28, 28) uint8: a 1 with a flag and perhaps a foot, or a 7 with a bar.
    This is how people write in much of the world, but it is rare in MNIST."""
    rows, columns = np.nonzero(image > 127)
    top, bottom = rows.min(), rows.max()
    height = bottom - top
    zoom = 4  # drawn larger, since Pillow's lines are not smooth
    canvas = Image.fromarray(image).resize((SIZE * zoom, SIZE * zoom), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(canvas)

    def line(y: float, x: float, angle: float, length: float, width: float) -> None:
        """From (y, x); the angle is clockwise from straight down."""
        ends = [(x, y), (x - length * math.sin(angle), y + length * math.cos(angle))]
        ends = [(zoom * (x + 0.5), zoom * (y + 0.5)) for x, y in ends]
        draw.line(ends, fill=255, width=round(zoom * width))
        for end in ends:
            draw.circle(end, zoom * width / 2, fill=255)

    if label == 1:
        head, foot = columns[rows == top].mean(), columns[rows == bottom].mean()
        lean = math.atan2(head - foot, height)
        width = max(1.5, 0.75 * image.sum() / 255 / math.hypot(height, np.ptp(columns)))
        angle = rng.uniform(lean + 0.35, max(lean + 0.35, 1.2))  # never level: that is a 7
        line(top + width / 2, head, angle, height * rng.uniform(0.2, 0.6), width)
        if abs(lean) < 0.25 and rng.random() < 0.4:
            angle, length = math.pi / 2 + rng.uniform(-0.15, 0.15), height * rng.uniform(0.15, 0.55)
            line(bottom, foot, angle, length, width)
            line(bottom, foot, angle + math.pi, length, width)
    else:
        row = round(top + height * rng.uniform(0.42, 0.6))
        column = max(columns[rows == row], default=columns.mean()) - 1
        angle, length = math.pi / 2 + rng.uniform(-0.4, 0.2), height * rng.uniform(0.15, 0.28)
        line(row, column, angle, length, 2)
        line(row, column, angle + math.pi, length, 2)
    return np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX))


def warp(images: tf.Tensor, strength: float) -> tf.Tensor:
    """Rotate, shear, scale, shift and elastically distort a batch, each image differently.

    (n, 28, 28, 1) float32 to the same; `strength` 0 (not at all) to 1. The elastic distortion,
    a smooth random field of displacements, is Simard, Steinkraus and Platt's (ICDAR 2003). One
    bilinear lookup does all of it, since every further one would blur the strokes.
    """
    n = tf.shape(images)[0]
    angle, shear, scale_y, scale_x = tf.unstack(tf.random.uniform((4, n), -1.0, 1.0))
    cos, sin = tf.cos(angle * math.radians(15)), tf.sin(angle * math.radians(15))
    shear, scale_y, scale_x = shear * 0.2, tf.exp(scale_y * 0.15), tf.exp(scale_x * 0.15)
    row_y = tf.stack([cos * scale_y, sin * scale_y], 1)
    row_x = tf.stack([(shear * cos - sin) * scale_x, (shear * sin + cos) * scale_x], 1)
    centred = tf.range(SIZE, dtype=tf.float32) - (SIZE - 1) / 2
    grid = tf.stack(tf.meshgrid(centred, centred, indexing="ij"), -1)
    at = tf.einsum("nij,hwj->nhwi", tf.stack([row_y, row_x], 1), grid)
    at += tf.random.uniform((n, 1, 1, 2), -1.5, 1.5)
    field = tf.image.resize(tf.random.normal((n, 6, 6, 2)), (SIZE, SIZE), "bicubic")
    at += field * tf.random.uniform((n, 1, 1, 1))
    at = grid + strength * (at - grid)

    wide = SIZE + 2  # a dark frame of one pixel stands for everything outside
    at = tf.clip_by_value(at + wide / 2 - 0.5, 0.0, wide - 1.001)
    corner = tf.cast(at, tf.int32)
    weight_y, weight_x = tf.unstack(at - tf.floor(at), axis=-1)
    index = corner[..., 0] * wide + corner[..., 1] + tf.range(n)[:, None, None] * wide**2
    pixels = tf.reshape(tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]]), [-1])
    top = tf.gather(pixels, index) * (1 - weight_x) + tf.gather(pixels, index + 1) * weight_x
    index += wide
    bottom = tf.gather(pixels, index) * (1 - weight_x) + tf.gather(pixels, index + 1) * weight_x
    return (top * (1 - weight_y) + bottom * weight_y)[..., None]


def restroke(images: tf.Tensor, strength: float) -> tf.Tensor:
    """Make some of the strokes thicker, thinner, blurred, jagged, paler or noisy, as pens and
    cameras do. (n, 28, 28, 1) float32, 0..1, to the same; `strength` is the share touched."""
    n = tf.shape(images)[0]

    def between(low: float, high: float) -> tf.Tensor:
        return tf.random.uniform((n, 1, 1, 1), low, high)

    def some(share: float, changed: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.where(between(0, 1) < share, changed, x)

    x = images
    dilated = tf.nn.max_pool2d(x, 3, 1, "SAME")
    eroded = -tf.nn.max_pool2d(-x, 2, 1, "SAME")
    x = some(0.25, x + between(0, 0.8) * (dilated - x), x)
    x = some(0.2, x + between(0, 0.8) * (eroded - x), x)
    x /= tf.maximum(tf.reduce_max(x, (1, 2, 3), keepdims=True), 0.2)
    binomial = tf.constant([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[..., None, None] / 16
    x = some(0.15, tf.nn.conv2d(x, binomial, 1, "SAME"), x)
    x = some(0.2, tf.clip_by_value((x - between(0.3, 0.6)) * between(2, 6) + 0.5, 0.0, 1.0), x)
    x = some(0.3, tf.maximum(x, 1e-6) ** tf.exp(between(-0.6, 0.6)), x)
    x = some(0.2, x * between(0.6, 1), x)
    x = some(0.15, x + tf.random.normal(tf.shape(x)) * between(0, 0.1), x)
    return some(strength, tf.clip_by_value(x, 0.0, 1.0), images)


def build() -> keras.Model:
    """Return the untrained network: (n, 28, 28, 1) float32, 0..1, to (n, 11) probabilities."""
    image = x = keras.Input((SIZE, SIZE, 1))
    stages = [(16, 1), (32, 2), (64, 1), (96, 2), (96, 1), (128, 2), (128, 1)]  # filters, stride
    for filters, stride in stages:
        x = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    x = layers.Dropout(0.4)(layers.Flatten()(x))
    logits = layers.Dense(len(LABELS), name="logits")(x)
    return keras.Model(image, layers.Softmax()(logits))


def fit(model: keras.Model, images: np.ndarray, labels: np.ndarray, epochs: int) -> None:
    """Train with AdamW on a cosine schedule, and keep the averaged weights.

    The last third of the epochs distorts less, so that training ends on digits as most people write
    them: this makes fewer errors on those, and no more on the others.
    """
    data = tf.data.Dataset.from_tensor_slices((images, tf.one_hot(labels, len(LABELS))))
    data = data.shuffle(len(images)).batch(BATCH)
    strong = data.map(lambda x, y: (restroke(warp(x, 1.0), 1.0), y)).prefetch(4)
    mild = data.map(lambda x, y: (restroke(warp(x, 0.6), 0.4), y)).prefetch(4)
    steps = epochs * len(data)
    warm = max(1, steps // 20)
    cosine = keras.optimizers.schedules.CosineDecay
    rate = cosine(1e-4, steps - warm, alpha=1e-3, warmup_target=2e-3, warmup_steps=warm)
    average = max(0.0, 1 - 20 / steps)  # over the last twentieth of the training
    optimizer = keras.optimizers.AdamW(rate, weight_decay=0.1, use_ema=True, ema_momentum=average)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.05)
    # Without XLA: its convolutions take longer on a CPU.
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    model.fit(strong, epochs=epochs - epochs // 3)
    model.fit(mild, epochs=epochs, initial_epoch=epochs - epochs // 3)


def calibrate(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    """Divide the weights of the last layer by the temperature that makes the true labels most
    probable, and return it (Guo, Pleiss, Sun and Weinberger, ICML 2017). Half of `images` show no digit;
    among the pictures that people send they are RARER, so that label becomes less probable
    (Saerens, Latinne and Decaestecker, Neural Computation 14, 2002)."""
    layer = model.get_layer("logits")
    logits = keras.Model(model.input, layer.output).predict(images, batch_size=500, verbose=0)

    def loss(temperature: float) -> float:
        scores = tf.nn.log_softmax(logits / temperature).numpy()
        return -float(scores[np.arange(len(labels)), labels].mean())

    best = min(np.geomspace(0.1, 10, 401), key=loss)
    weights, bias = (values / best for values in layer.get_weights())
    bias[LABELS.index(UNKNOWN)] += math.log(RARER)
    layer.set_weights([weights, bias])
    return float(best)


def served(path: Path, images: np.ndarray) -> np.ndarray:
    """Return the probabilities, (n, 11) float32, that the service would give; 0 for a black image, which it refuses."""
    network = Network(path)
    probabilities = np.stack([network.probabilities(image * 255) for image in images])
    return probabilities * (images.max((1, 2, 3)) > 0)[:, None]


def report(title: str, probabilities: np.ndarray, labels: np.ndarray) -> None:
    """Print the accuracy, and how far the probabilities can be trusted."""
    confidence = probabilities.max(1)
    correct: np.ndarray = np.where(confidence > 0, probabilities.argmax(1), -1) == labels
    bins = np.minimum((confidence * 15).astype(int), 14)  # expected calibration error, 15 bins
    gaps = np.abs(np.bincount(bins, correct - confidence))
    print(f"{title}: {correct.mean():.2%} of {len(labels)} correct, ", end="")
    print(f"expected calibration error {gaps.sum() / len(labels):.2%}, ", end="")
    print(f"{(confidence >= 0.9).mean():.2%} predicted with 0.9 or more, ", end="")
    print(f"{correct[confidence >= 0.9].sum() / max(1, (confidence >= 0.9).sum()):.2%} of those correct")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", metavar="FILE.npz", help="MNIST (Keras would download it)")
    parser.add_argument("--epochs", type=int, default=20, metavar="N")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N images only")
    parser.add_argument("--output", type=Path, default=Path("model.tflite"), metavar="FILE")
    args = parser.parse_args()
    keras.utils.set_random_seed(1)
    if args.data:
        with np.load(args.data) as arrays:
            x_train, y_train = arrays["x_train"], arrays["y_train"]
            x_test, y_test = arrays["x_test"], arrays["y_test"]
    else:
        (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    x_train, y_train = x_train[: args.limit], y_train[: args.limit]

    rng = np.random.default_rng(1)
    held_out = min(VALIDATION, len(x_train) // 5)
    (x_held, x_train), (y_held, y_train) = (np.split(array, [held_out]) for array in (x_train, y_train))
    again = [i for i, label in enumerate(y_train) if rng.random() < EUROPEAN.get(int(label), 0)]
    redrawn = [european(x_train[i], int(y_train[i]), rng) for i in again]

    print("Drawing pictures, and preparing all as the service would …")
    others, y_others = zip(*other_digits(int(OTHER * len(x_train)), seed=1), strict=True)
    no_digit, y_no_digit = drawn(int(WITHOUT * len(x_train)), x_train, y_train, seed=1)
    held_no_digit, y_held_no_digit = drawn(len(x_held), x_held, y_held, seed=2)
    x_train = np.concatenate([prepared(map(Image.fromarray, [*x_train, *redrawn])), prepared(others), no_digit])
    y_train = np.concatenate([y_train, y_train[again], y_others, y_no_digit])
    x_held = np.concatenate([prepared(map(Image.fromarray, x_held)), held_no_digit])
    y_held = np.concatenate([y_held, y_held_no_digit])
    model = build()
    model.summary()
    fit(model, x_train, y_train, args.epochs)
    temperature = calibrate(model, x_held, y_held)
    print(f"{temperature=:.2f}")
    title = "Handwritten digits"
    export(model, LABELS, args.output, title=title, unknown=UNKNOWN, range="0..1", preprocess="digit")

    probabilities = served(args.output, x_held)
    report("Held-out digits", probabilities[:held_out], y_held[:held_out])
    report("Held-out pictures without a digit", probabilities[held_out:], y_held[held_out:])
    probabilities = served(args.output, prepared(map(Image.fromarray, x_test)))
    report("Test", probabilities, y_test)
    print("Test images by label (row) and answer (column):")
    print(tf.math.confusion_matrix(y_test, probabilities.argmax(1)).numpy())


if __name__ == "__main__":
    main()
