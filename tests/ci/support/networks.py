"""Build networks as people have them, export each, and write what Keras answers: `networks.py FOLDER`.

Runs with the packages of image_classification/requirements-train.txt. FOLDER then holds, for each network, a model file
and answers.json: what the network itself predicts for the pictures in FOLDER, or why it was refused. An untrained
network answers the same to everything, so each head is set until its answers vary; `controls` are the answers to
pictures that were prepared in a wrong way, which must differ.
"""

import functools
import json
import keras
import numpy as np
import sys
import tensorflow as tf
import time
import traceback
from collections.abc import Callable
from keras import layers
from pathlib import Path
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[3] / "image_classification"))
import export as exporting
from export import convert as converting

FOLDER = Path(sys.argv[1])
random = np.random.default_rng(1)
PICTURES: list[str] = []
COLOURS = [(220, 40, 30), (30, 180, 60), (40, 60, 210), (240, 220, 40), (250, 250, 250), (15, 10, 20)]
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CAFFE_MEAN = (123.68, 116.779, 103.939)


def make_pictures() -> None:
    """Six pictures of strong colours and fine patterns, so that range, order of channels and resizing all matter."""
    for number, colour in enumerate(COLOURS):
        height, width = 231 + 37 * number, 347 - 29 * number
        noise = random.normal(0, 45, (height, width, 3))
        wave = 60 * np.sin(np.arange(width) / (1.3 + number))[:, None]
        pixels = (np.array(colour) * 0.8 + 20 + noise + wave).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(FOLDER / f"{number}.png")
        PICTURES.append(f"{number}.png")


@functools.cache
def loaded(size: tuple[int, int], channels: int, resize: str) -> np.ndarray:
    """Load the pictures as Keras does, (n, height, width, channels) float32, 0..255."""
    paths = [FOLDER / name for name in PICTURES]
    if resize.startswith("pil-"):
        colour, method = "grayscale" if channels == 1 else "rgb", resize.removeprefix("pil-")
        return np.stack(
            [
                keras.utils.img_to_array(
                    keras.utils.load_img(path, color_mode=colour, target_size=size, interpolation=method)
                )
                for path in paths
            ]
        )
    images = [tf.io.decode_image(path.read_bytes(), channels, expand_animations=False) for path in paths]
    return np.stack([tf.image.resize(image, size, resize).numpy() for image in images]).astype(np.float32)


def ranged(pixels: np.ndarray, range: str, bgr: bool = False) -> np.ndarray:
    """Scale as in a training script, each range by its own formula."""
    formulas = {
        "0..255": lambda x: x,
        "0..1": lambda x: x / 255.0,
        "-1..1": lambda x: x / 127.5 - 1,
        "torch": lambda x: (x / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        "caffe": lambda x: x - CAFFE_MEAN,
    }
    x = formulas[range](pixels).astype(np.float32)
    return x[..., ::-1] if bgr else x


def text(values: tuple[float, ...]) -> str:
    return ",".join(map(str, values))


RANGES = {
    "torch": f"mean {text(IMAGENET_MEAN)} scale {text(IMAGENET_STD)}",
    "caffe": f"mean {text(CAFFE_MEAN)} scale 1",
}
OTHER = {"0..255": "0..1", "0..1": "0..255", "-1..1": "0..255", "torch": "0..1", "caffe": "0..255"}


def set_head(network: keras.Model, x: np.ndarray, gain: float = 3) -> None:
    """Give the last layer with weights such weights that its outputs vary from picture to picture."""
    head = [layer for layer in network.layers if isinstance(layer, layers.Dense)][-1]
    features = keras.Model(network.inputs, head.input)(x, training=False).numpy()
    spread = features.std(0)
    useful = spread > 0.05 * spread.max()
    weights = random.normal(0, 1, (features.shape[1], head.units)) * useful[:, None]
    weights /= np.maximum(spread, 1e-9)[:, None]
    scores = features @ weights
    weights *= gain / scores.std(0)
    head.set_weights([weights, -(features @ weights).mean(0)])


def cnn(
    shape: tuple[int | None, ...],
    units: int,
    activation: str | None,
    first: list | None = None,
    middle: list | None = None,
) -> keras.Model:
    steps = [*(first or []), layers.Conv2D(16, 3, strides=2, activation="relu")]
    steps += [*(middle or []), layers.Conv2D(24, 3, strides=2, activation="relu"), layers.GlobalAveragePooling2D()]
    x = image = keras.Input(shape)
    for step in steps:
        x = step(x)
    return keras.Model(image, layers.Dense(units, activation)(x))


NETWORKS: dict[str, Callable[[], dict]] = {}


def network(function: Callable[[], dict]) -> Callable[[], dict]:
    """Put a function that returns a network and how to export it into the table."""
    NETWORKS[function.__name__] = function
    return function


def names(count: int) -> list[str]:
    return [f"label {number}" for number in range(count)]


@functools.cache
def shared() -> keras.Model:
    """Return a network for all that differ in their labels or in how a picture is resized, so it is converted once."""
    model = cnn((64, 64, 3), 4, "softmax")
    set_head(model, ranged(loaded((64, 64), 3, "bilinear"), "0..1"))
    return model


@network
def softmax() -> dict:
    return {"model": cnn((64, 80, 3), 5, "softmax"), "range": "0..1", "labels": names(5)}


@network
def logits_with_rescaling() -> dict:
    return {
        "model": cnn((64, 80, 3), 5, None, [layers.Rescaling(1 / 255)]),
        "labels": names(5),
        "real": "0..255",
        "task": "logits",
    }


@network
def flowers() -> dict:
    augmentation = keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.2), layers.RandomZoom(0.1)])
    model = cnn((180, 180, 3), 5, None, [augmentation, layers.Rescaling(1 / 255)], [layers.Dropout(0.2)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return {"model": model, "labels": ["daisy", "dandelion", "roses", "sunflowers", "tulips"], "real": "0..255"}


@network
def with_an_unknown_label() -> dict:
    labels = ["10", "20", "neither of the coins"]
    return {"model": cnn((64, 64, 3), 3, "softmax"), "labels": labels, "range": "0..1", "unknown": labels[2]}


@network
def cats_and_dogs() -> dict:
    model = cnn((96, 96, 3), 1, "sigmoid", [layers.RandomFlip(), layers.Rescaling(1 / 127.5, offset=-1)])
    model.compile("adam", "binary_crossentropy")
    return {"model": model, "labels": ["cat", "dog"], "real": "0..255"}


@network
def cats_and_dogs_as_a_score() -> dict:
    model = cnn((96, 96, 3), 1, None)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    return {"model": model, "labels": ["cat", "dog"], "range": "-1..1"}


@network
def several_labels() -> dict:
    return {"model": cnn((64, 64, 3), 4, "sigmoid"), "labels": ["sea", "sand", "sky", "sun"], "range": "0..1"}


@network
def several_labels_as_scores() -> dict:
    model = cnn((64, 64, 3), 4, None)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    return {"model": model, "labels": ["sea", "sand", "sky", "sun"], "range": "0..1"}


@network
def age() -> dict:
    model = cnn((64, 64, 3), 1, None)
    model.compile("adam", "mse")
    return {"model": model, "labels": [], "range": "0..1"}


@network
def any_size() -> dict:
    return {"model": cnn((None, None, 3), 3, "softmax"), "labels": names(3), "range": "0..1", "size": (70, 90)}


@network
def mean_and_scale() -> dict:
    return {
        "model": cnn((64, 64, 3), 4, None),
        "labels": names(4),
        "range": "torch",
        "resize": "pil-bilinear",
        "task": "logits",
    }


@network
def blue_first() -> dict:
    return {"model": cnn((64, 64, 3), 4, "softmax"), "labels": names(4), "range": "caffe", "bgr": True}


@network
def channels_first() -> dict:
    model = cnn((3, 60, 72), 4, "softmax", [layers.Permute((2, 3, 1))])
    return {"model": model, "labels": names(4), "range": "0..1", "resize": "bilinear"}


@network
def fashion() -> dict:
    image = keras.Input((28, 28))
    x = layers.Dense(64, "relu")(layers.Flatten()(image))
    return {"model": keras.Model(image, layers.Dense(10)(x)), "labels": names(10), "range": "0..1", "task": "logits"}


@network
def grey_normalized() -> dict:
    return {
        "model": cnn((50, 70, 1), 4, "softmax", [layers.Normalization(mean=0.45, variance=0.06)]),
        "labels": names(4),
        "range": "0..1",
    }


@network
def normalized_as_imagenet() -> dict:
    normalization = layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.229**2, 0.224**2, 0.225**2])
    return {"model": cnn((64, 64, 3), 4, "softmax", [normalization]), "labels": names(4), "real": "0..1"}


@network
def resizing_first() -> dict:
    steps = [layers.Resizing(64, 64), layers.Rescaling(1 / 255)]
    return {"model": cnn((90, 120, 3), 4, "softmax", steps), "labels": names(4), "real": "0..255"}


@network
def integers_in() -> dict:
    image = keras.Input((64, 64, 3), dtype="uint8")
    model = cnn((64, 64, 3), 4, "softmax")
    return {
        "model": keras.Model(image, model(layers.Rescaling(1 / 255)(image))),
        "head": model,
        "labels": names(4),
        "real": "0..255",
        "resize": "pil-nearest",
    }


@network
def load_img_nearest() -> dict:
    return {"model": cnn((96, 64, 3), 4, "softmax"), "labels": names(4), "range": "-1..1", "resize": "pil-nearest"}


@network
def load_img_lanczos() -> dict:
    return {"model": shared(), "head": None, "labels": names(4), "range": "0..1", "resize": "pil-lanczos"}


@network
def bicubic() -> dict:
    return {"model": shared(), "head": None, "labels": names(4), "range": "0..1", "resize": "bicubic"}


@network
def mobilenet_v2() -> dict:
    base = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, include_top=False, pooling="avg")
    image = keras.Input((96, 96, 3))
    x = layers.RandomFlip("horizontal")(image)
    x = base(keras.applications.mobilenet_v2.preprocess_input(x), training=False)
    model = keras.Model(image, layers.Dense(1, "sigmoid")(layers.Dropout(0.2)(x)))
    return {"model": model, "labels": ["cat", "dog"], "real": "0..255"}


@network
def efficientnet_b0() -> dict:
    base = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(96, 96, 3), pooling="avg")
    model = keras.Model(base.input, layers.Dense(1000, "softmax")(base.output))
    return {"model": model, "labels": names(1000), "real": "0..255", "gain": 20}


@network
def large_input() -> dict:
    return {"model": cnn((512, 512, 3), 4, "softmax"), "labels": names(4), "range": "0..1"}


@network
def labels_of_the_world() -> dict:
    return {
        "model": shared(),
        "head": None,
        "range": "0..1",
        "labels": ["naïve, кот", "日本語", 'emoji 🐈 quo"te', "<b>&amp;"],
    }


@network
def labels_of_digits() -> dict:
    return {"model": shared(), "head": None, "range": "0..1", "labels": ["007", "1", "01", "7"]}


@network
def labels_of_numbers() -> dict:
    return {"model": shared(), "head": None, "range": "0..1", "labels": [10, 20, 5, 0]}


@network
def lambda_layer() -> dict:
    own = layers.Lambda(lambda x: tf.nn.avg_pool2d(x, 2, 2, "SAME"))
    return {"model": cnn((64, 64, 3), 4, "softmax", middle=[own]), "range": "0..1", "labels": names(4)}


class Gate(layers.Layer):
    """A layer of one's own, which acts in training only."""

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return x * tf.random.uniform((), 0, 9) if training else x * tf.sigmoid(x)


@network
def own_layer() -> dict:
    return {"model": cnn((64, 64, 3), 4, "softmax", middle=[Gate()]), "range": "0..1", "labels": names(4)}


@network
def two_outputs() -> dict:
    model = cnn((64, 64, 3), 4, "softmax")
    other = layers.Dense(2, "softmax", name="other")(model.layers[-2].output)
    both = keras.Model(model.inputs, {"other": other, "kind": model.output})
    return {"model": both, "head": model, "labels": names(4), "range": "0..1", "output": "kind"}


@network
def weights_of_8_bits() -> dict:
    return {"model": cnn((64, 64, 3), 4, "softmax"), "labels": names(4), "range": "0..1", "quantize": True, "gain": 1.5}


@network
def keras_file() -> dict:
    return flowers() | {"file": "flowers.keras"}


@network
def h5_file() -> dict:
    return cats_and_dogs() | {"file": "pets.h5"}


@network
def keras_2_file() -> dict:
    import tf_keras
    from tf_keras import layers as old

    model = tf_keras.Sequential(
        [
            old.InputLayer((64, 64, 3)),
            old.Rescaling(1 / 255),
            old.DepthwiseConv2D(5, strides=2, activation="relu"),  # whose configuration Keras 3 cannot read
            old.Conv2D(24, 3, activation="relu"),
            old.GlobalAveragePooling2D(),
            old.Dense(4, "softmax"),
        ]
    )
    x = loaded((64, 64), 3, "bilinear")
    features = tf_keras.Model(model.inputs, model.layers[-1].input).predict(x, verbose=0)
    weights = random.normal(0, 1, (24, 4)) / np.maximum(features.std(0), 1e-3)[:, None]
    weights *= 3 / (features @ weights).std(0)
    model.layers[-1].set_weights([weights, -(features @ weights).mean(0)])
    return {"model": model, "head": None, "labels": names(4), "real": "0..255", "file": "keras2.h5"}


@network
def saved_model() -> dict:
    model = cnn((64, 64, 3), 4, None, [layers.Rescaling(1 / 255)])
    return {"model": model, "labels": names(4), "real": "0..255", "file": "saved", "task": "logits"}


@network
def tflite_file() -> dict:
    return {"model": cnn((64, 64, 3), 4, "softmax"), "labels": names(4), "range": "-1..1", "file": "float.tflite"}


@network
def tflite_of_8_bits() -> dict:
    model = cnn((64, 64, 3), 4, "softmax")
    return {"model": model, "labels": names(4), "real": "0..1", "file": "8bit.tflite"}


def save(model: keras.Model, name: str, x: np.ndarray) -> Path:
    """Write a network as people find it."""
    path = FOLDER / name
    if path.suffix == ".tflite":
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if name == "8bit.tflite":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: (
                [np.clip(each[None], 0, 1)] for each in [*x, x[0] * 0, x[0] * 0 + 1]
            )
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        path.write_bytes(converter.convert())
    elif path.suffix:
        model.save(path)
    else:
        model.export(path, verbose=False)
    return path


def of_8_bits(path: Path, x: np.ndarray) -> list:
    """Return what a network of 8-bit integers answers: quantized numbers in, quantized numbers out."""
    interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    answers = []
    for each in x:
        scale, zero = given["quantization"]
        interpreter.set_tensor(given["index"], np.clip(np.round(each[None] / scale + zero), 0, 255).astype(np.uint8))
        interpreter.invoke()
        scale, zero = made["quantization"]
        answers.append((scale * (interpreter.get_tensor(made["index"])[0].astype(float) - zero)).tolist())
    return answers


OPTIONS = ("range", "bgr", "size", "resize", "output", "quantize", "task", "unknown")


def build(name: str) -> dict:
    """Export a network, and return what it answers itself. Its weights do not depend on the networks before."""
    global random
    random = np.random.default_rng(1)
    keras.utils.set_random_seed(1)
    case = NETWORKS[name]()
    model, resize, bgr = case["model"], case.get("resize", "bilinear"), case.get("bgr", False)
    shape = tuple(model.inputs[0].shape[1:])
    first = len(shape) == 3 and shape[0] == 3
    size = case.get("size") or (shape[1:] if first else shape[:2])
    channels = 1 if len(shape) == 2 else shape[0] if first else shape[2]
    real = case.get("range") or case["real"]

    def ask(range: str = real, bgr: bool = bgr, resize: str = resize, swapped: bool = False) -> np.ndarray:
        x = ranged(loaded(size, channels, resize)[..., :: -1 if swapped else 1], range, bgr)
        x = x.transpose(0, 3, 1, 2) if first else x[..., 0] if len(shape) == 2 else x
        x = x.round().astype(np.uint8) if model.inputs[0].dtype == "uint8" else x
        values = tf.nest.map_structure(np.asarray, model(x, training=False))  # predict() would trace it each time
        return values[case["output"]] if isinstance(values, dict) else values

    x = ranged(loaded(size, channels, resize), real, bgr)
    x = x.transpose(0, 3, 1, 2) if first else x[..., 0] if len(shape) == 2 else x
    head = case.get("head", model)
    if head is not None:
        set_head(head, x / 255 if name == "integers_in" else x, case.get("gain", 3))
    controls = {
        "range": ask(range=OTHER[real]),
        "resize": ask(resize="nearest" if resize != "pil-nearest" and resize != "nearest" else "bilinear"),
    }
    if channels == 3:
        controls["channels"] = ask(swapped=True)
    source = save(model, case["file"], x) if "file" in case else model
    options = {option: case[option] for option in OPTIONS if option in case}
    if "range" in options:
        options["range"] = RANGES.get(options["range"], options["range"])
    (FOLDER / name).mkdir()
    exporting.export(source, case["labels"], FOLDER / name / "model.tflite", **options)
    own = of_8_bits(source, x) if case.get("file") == "8bit.tflite" else ask().tolist()
    answers = {"labels": [str(label) for label in case["labels"]], "answers": own}
    return answers | {"controls": {key: value.tolist() for key, value in controls.items()}}


def remembered(opened: Callable[..., converting.Source]) -> Callable[..., converting.Source]:
    """Return `opened` with a memory, since a conversion takes most of the time of an export."""
    sources: dict = {}

    def again(network: object, output: str | None) -> converting.Source:
        key = (network if isinstance(network, str | Path) else id(network)), output
        if key not in sources:
            source = opened(network, output)
            convert = functools.cache(lambda shape, quantize: source.convert([*shape], quantize))
            # the network is kept, so that no other gets its id
            sources[key] = network, source._replace(convert=lambda shape, quantize: convert(tuple(shape), quantize))
        return sources[key][1]

    return again


def refused() -> dict[str, Callable[[], None]]:
    """Networks that cannot be served, or that need to be told something."""
    model = cnn((32, 32, 3), 3, "softmax")
    image = keras.Input((32, 32, 3))
    two = keras.Model([image, keras.Input((2,))], model(image))
    both = keras.Model(image, [model(image), layers.Dense(2)(layers.Flatten()(image))])
    linear = cnn((32, 32, 3), 3, None)
    (FOLDER / "weights.weights.h5").unlink(missing_ok=True)
    model.save_weights(FOLDER / "only.weights.h5")
    cnn((32, 32, 3), 3, "softmax", middle=[layers.Lambda(lambda x: x * 2)]).save(FOLDER / "lambda.keras")
    cnn((32, 32, 3), 3, "softmax", middle=[Gate()]).save(FOLDER / "own.keras")
    (FOLDER / "torch.pt").write_bytes(b"PK")
    (FOLDER / "damaged.keras").write_bytes(b"nothing")
    (FOLDER / "damaged.tflite").write_bytes(b"nothing")
    categorical = cnn((32, 32, 3), 3, "sigmoid")
    categorical.compile("adam", "categorical_crossentropy")
    binary = cnn((32, 32, 3), 1, "sigmoid")
    binary.compile("adam", "binary_crossentropy")
    hinge = cnn((32, 32, 3), 1, None)
    hinge.compile("adam", "hinge")
    broken = cnn((32, 32, 3), 3, "softmax")
    broken.layers[-1].set_weights([np.full(shape.shape, np.nan) for shape in broken.layers[-1].get_weights()])
    keras.utils.set_random_seed(1)
    steep = cnn((32, 32, 3), 3, "softmax")
    set_head(steep, np.stack(exporting.random_pictures((32, 32), 3)).astype(np.float32) / 255, gain=30)
    segmentation = keras.Model(image, layers.Conv2D(3, 1, activation="softmax")(image))
    fft = keras.Model(
        image, layers.Dense(3)(layers.Flatten()(layers.Lambda(lambda x: tf.math.igamma(x, x + 1.0))(image)))
    )
    noisy = keras.Model(image, model(layers.Lambda(lambda x: x + tf.random.normal(tf.shape(x)))(image)))
    keras.mixed_precision.set_global_policy("mixed_float16")
    half = cnn((32, 32, 3), 3, "softmax")
    keras.mixed_precision.set_global_policy("float32")
    half.save(FOLDER / "half.keras")
    normalized = cnn((32, 32, 3), 3, "softmax", [layers.Normalization(mean=0.1, variance=0.2)])
    function = tf.function(lambda x: {"scores": model(x)}, input_signature=[tf.TensorSpec((None, 32, 32, 3))])
    model.function = function
    signatures = {name: function.get_concrete_function() for name in ("classify", "features")}
    tf.saved_model.save(model, str(FOLDER / "signatures"), signatures)
    unbuilt = keras.Sequential([layers.Flatten(), layers.Dense(3)])
    abc = ["a", "b", "c"]

    def refuse(*arguments: object, **options: object) -> Callable[[], None]:
        return lambda: exporting.export(*arguments, path=FOLDER / "refused.tflite", **options)

    return {
        "two inputs": refuse(two, abc, range="0..1"),
        "two outputs": refuse(both, abc, range="0..1"),
        "an output that is not there": refuse(both, abc, range="0..1", output="age"),
        "no range": refuse(model, abc),
        "normalized to an unknown range": refuse(normalized, abc),
        "mixed_float16": refuse(half, abc, range="0..1"),
        "mixed_float16 in a file": refuse(FOLDER / "half.keras", abc, range="0..1"),
        "several signatures": refuse(FOLDER / "signatures", abc, range="0..1"),
        "a range that is none": refuse(model, abc, range="1..0"),
        "any size": refuse(cnn((None, None, 3), 3, "softmax"), abc, range="0..1"),
        "another size": refuse(model, abc, range="0..1", size=64),
        "too few labels": refuse(model, abc[:2], range="0..1"),
        "too many labels": refuse(model, [*abc, "d"], range="0..1"),
        "no labels": refuse(model, [], range="0..1"),
        "one label": refuse(cnn((32, 32, 3), 1, "sigmoid"), ["dog"], range="0..1"),
        "cats and dogs without labels": refuse(binary, [], range="0..1"),
        "the same label twice": refuse(model, ["a", "b", "a"], range="0..1"),
        "a blank label": refuse(model, ["a", "b", ""], range="0..1"),
        "a label of two lines": refuse(model, ["a", "b", "c\nd"], range="0..1"),
        "labels as a text": refuse(model, "abc", range="0..1"),
        "labels as a dict": refuse(model, {"b": 1, "a": 0, "c": 2}, range="0..1"),
        "unknown is not a label": refuse(model, abc, range="0..1", unknown="d"),
        "unknown of several": refuse(cnn((32, 32, 3), 3, "sigmoid"), abc, range="0..1", unknown="c"),
        "a softmax of one": refuse(cnn((32, 32, 3), 1, "softmax"), ["cat", "dog"], range="0..1"),
        "a relu at the end": refuse(cnn((32, 32, 3), 3, "relu"), abc, range="0..1"),
        "sigmoid and categorical": refuse(categorical, abc, range="0..1"),
        "hinge": refuse(hinge, ["cat", "dog"], range="0..1"),
        "softmax said of scores": refuse(linear, abc, range="0..1", task="softmax"),
        "scores said of a softmax": refuse(model, abc, range="0..1", task="logits"),
        "no numbers": refuse(broken, abc, range="0..1"),
        "8 bits change its answers": refuse(steep, abc, range="0..1", quantize=True),
        "segmentation": refuse(segmentation, abc, range="0..1"),
        "a flat input": refuse(keras.Sequential([keras.Input((784,)), layers.Dense(3)]), abc, range="0..1"),
        "four channels": refuse(cnn((32, 32, 4), 3, "softmax"), abc, range="0..1"),
        "a step that LiteRT lacks": refuse(fft, abc, range="0..1"),
        "random when it answers": refuse(noisy, abc, range="0..1"),
        "not built": refuse(unbuilt, abc, range="0..1"),
        "digits of another size": refuse(model, abc, range="0..1", preprocess="digit"),
        "weights alone": refuse(FOLDER / "only.weights.h5", abc, range="0..1"),
        "Lambda in a file": refuse(FOLDER / "lambda.keras", abc, range="0..1"),
        "own layer in a file": refuse(FOLDER / "own.keras", abc, range="0..1"),
        "PyTorch's file": refuse(FOLDER / "torch.pt", abc, range="0..1"),
        "no file": refuse(FOLDER / "missing.keras", abc, range="0..1"),
        "damaged": refuse(FOLDER / "damaged.keras", abc, range="0..1"),
        "damaged tflite": refuse(FOLDER / "damaged.tflite", abc, range="0..1"),
        "no network": refuse(object(), abc, range="0..1"),
    }


def main() -> None:
    make_pictures()
    converting.opened = remembered(converting.opened)
    wanted = sys.argv[2:]
    for name in wanted or NETWORKS:
        if name not in NETWORKS:
            continue
        start = time.monotonic()
        try:
            answer = build(name)
        except SystemExit as error:
            answer = {"refused": str(error)}
        except Exception:
            answer = {"refused": traceback.format_exc()}
        (FOLDER / name).mkdir(exist_ok=True)
        (FOLDER / name / "answers.json").write_text(json.dumps(answer))
        print(f"{name}: {time.monotonic() - start:.1f} s {answer.get('refused', '')}", flush=True)
    sentences = {}
    for name, export in refused().items() if not wanted or "refused" in wanted else ():
        try:
            export()
            sentences[name] = "served"
        except SystemExit as error:
            sentences[name] = str(error)
        except Exception:
            sentences[name] = traceback.format_exc()
        print(f"{name}: {sentences[name]}", flush=True)
    if sentences:
        (FOLDER / "refused.json").write_text(json.dumps(sentences))


if __name__ == "__main__":
    main()
