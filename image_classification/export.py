"""Write a trained network to model.tflite, with everything that serving must know, and check it against the network.

At the end of train.py: `export(network, ["cat", "dog"])`. For a network in a file (Keras .keras or .h5, a folder of
TensorFlow's SavedModel, or .tflite): `python3 export.py FILE --labels labels.txt`; `--help` lists the options.
"""

import argparse
import contextlib
import json
import numpy as np
import re
import sys
import tempfile
import zipfile
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from collections.abc import Callable, Sequence
from convert import Refusal, Source, first_line, first_steps, opened
from model import TASKS, Network
from numpy.typing import NDArray
from pathlib import Path
from PIL import Image, ImageOps, UnidentifiedImageError
from preprocess import METHODS, RESIZE, NothingToSee, prepare
from typing import Any

TOLERANCE, TOLERANCE_8_BIT = 0.01, 0.03  # how far the file's probabilities may be from the network's own
RANGES = '0..255, 0..1, -1..1, or a mean and a scale, as in "mean 123.7,116.3,103.5 scale 58.4,57.1,57.4"'
RANGE = [(0, 255), (0, 1), (-1, 1)]
PASSING = {"RESHAPE", "SQUEEZE", "CAST", "QUANTIZE", "DEQUANTIZE", "MEAN", "AVERAGE_POOL_2D", "TRANSPOSE"}
LINEAR = {"FULLY_CONNECTED", "CONV_2D", "ADD", "BATCH_MATMUL"}


def export(
    network: Any,
    labels: Sequence[Any] = (),
    path: str | Path = "model.tflite",
    *,
    title: str = "Image classification",
    task: str | None = None,
    unknown: str | None = None,
    range: str | None = None,
    bgr: bool = False,
    size: int | Sequence[int] | None = None,
    resize: str = "bilinear",
    preprocess: str = "photo",
    output: str | None = None,
    quantize: bool = False,
    pictures: str | Path | None = None,
) -> None:
    """Write a network as a LiteRT file that the service answers with.

    `network` is a Keras network, or the path of a file. `labels` are in the order of its outputs; a network that
    predicts a number has none. What the network itself does not say must be given:

    - `range`: how pixels were scaled in training, "0..255", "0..1", "-1..1", or a mean and a scale of pixels 0..255 for
      red, green and blue, "mean 123.7,116.3,103.5 scale 58.4,57.1,57.4". A network with a Rescaling layer says it.
    - `bgr`: it was trained with blue before red.
    - `size`: of its input, (height, width) or one number for both.
    - `resize`: "bilinear" (the default), "bicubic" or "nearest", as image_dataset_from_directory does it, or
      "pil-bilinear", "pil-nearest" and so on, as load_img and torchvision do it.
    - `task`: "softmax", "logits", "sigmoid", "logit", "several", "several-logits" or "number" (see model.py).
    - `output`: the name of the output to serve, if there are several.
    - `unknown`: the label of pictures that fit no other label. The service does not predict it: it answers such a
      picture with a 422, and the probabilities of the other labels sum to less than 1.
    - `preprocess`: "photo", or "digit" for networks trained on MNIST.

    `quantize` stores the weights in 8 bits. The file's answers are compared with the network's own on random pictures,
    and on those in the folder `pictures`. Raises SystemExit, with one sentence, if the network cannot be served or if
    an answer differs by more than 0.01 (with 8 bits 0.03); then no file is written.

    The metadata is packed at the end of the file, as labels.txt and metadata.json, which makes it a ZIP archive, too
    (https://ai.google.dev/edge/litert/models/metadata).
    """
    try:
        names = checked(labels)
        if preprocess not in METHODS or resize not in RESIZE or task not in (None, *TASKS):
            raise Refusal(f"choose `preprocess` of {METHODS}, `resize` of {RESIZE} and `task` of {tuple(TASKS)}")
        source = opened(network, output)
        metadata: dict[str, Any] = {
            "title": title,
            "preprocess": preprocess,
            "resize": resize,
            "bgr": bgr,
            "output": source.output,
            "unknown": unknown,
        }
        shape, layout = layout_of(source.shape, size)
        metadata |= layout
        if preprocess == "digit" and (metadata["size"], metadata["channels"]) != ([28, 28], 1):
            raise Refusal("`digit` makes grey pictures of 28x28 pixels, and the network takes others: use `photo`")
        content = source.convert(shape, quantize)
        metadata |= range_of(source, content, shape, metadata["channels"], range)
        with tempfile.TemporaryDirectory() as folder:
            candidate = Path(folder) / "model.tflite"
            write(candidate, content, names, metadata | {"task": "number"})
            samples = random_pictures(metadata["size"], metadata["channels"])
            samples += real_pictures(pictures, metadata) if pictures else []
            values = answers(Network(candidate).outputs, samples)
            metadata["task"] = task_of(values, last_step(content, source.output), names, task, source.loss)
            check_unknown(unknown, names, metadata["task"])
            write(candidate, content, names, metadata)
            compared = compare(Network(candidate), source, samples, quantize)
            Path(path).write_bytes(candidate.read_bytes())
    except Refusal as refusal:
        sys.exit(f"This network cannot be served: {refusal}.")
    height, width = layout["size"]
    colour = "grey" if metadata["channels"] == 1 else "BGR" if bgr else "RGB"
    print(f"{path}: {Path(path).stat().st_size / 1000:.0f} kB, {height}x{width} {colour}, {metadata['task']}", end="")
    print(f", {len(names)} labels; input = (pixel - {metadata['mean']}) / {metadata['scale']}; {compared}")


def checked(labels: Sequence[Any]) -> list[str]:
    """Return the labels as texts."""
    if isinstance(labels, str | bytes | dict | set):
        raise Refusal("the labels must be a list, in the order of the outputs")
    names = [str(label) for label in labels]
    if bad := [name for name in names if not name.strip() or not name.isprintable()]:
        raise Refusal(f"the label {bad[0]!r} is blank or holds a character that cannot be printed")
    if len(set(names)) < len(names):
        raise Refusal(f"the label {max(names, key=names.count)!r} is there twice")
    return names


def check_unknown(unknown: str | None, labels: list[str], task: str) -> None:
    """Refuse an `unknown` that is not a label, or that belongs to a network which does not choose one label of many."""
    if unknown is None:
        return
    if unknown not in labels:
        raise Refusal(f"`unknown` must be one of the labels, and {unknown!r} is not")
    if task not in ("softmax", "logits"):
        raise Refusal(f"`unknown` is for networks that predict one label of many, and the task of this one is {task}")


def layout_of(shape: tuple[int | None, ...], size: int | Sequence[int] | None) -> tuple[list[int], dict[str, Any]]:
    """Return the shape of the network's input, and what the metadata says of it: size, channels and their order."""
    if len(shape) == 2 and shape[1] not in (1, 3):
        layout, (height, width), channels = "HW", shape, 1
    elif len(shape) == 3 and shape[2] in (1, 3):
        layout, (height, width), channels = "HWC", shape[:2], shape[2]
    elif len(shape) == 3 and shape[0] in (1, 3):
        layout, (height, width), channels = "CHW", shape[1:], shape[0]
    else:
        raise Refusal(
            f"its input has the shape {shape}, and a picture has (height, width, channels) with 1 channel or 3: "
            "put a layer in front that makes the one of the other"
        )
    given = [size, size] if isinstance(size, int) else list(size or (None, None))
    if len(given) != 2:
        raise Refusal("`size` is (height, width), or one number for both")
    for own, wanted in zip((height, width), given, strict=True):
        if own is None and wanted is None:
            raise Refusal("it takes pictures of any size: say the size of training by `size` (--size 224 or 180x240)")
        if None not in (own, wanted) and own != wanted:
            raise Refusal(f"it takes pictures of {height}x{width}, not of the size that you gave")
    height, width = int(height or given[0] or 0), int(width or given[1] or 0)

    shapes = {"HWC": [1, height, width, channels], "CHW": [1, channels, height, width], "HW": [1, height, width]}
    return shapes[layout], {"size": [height, width], "channels": channels, "layout": layout}


def range_of(source: Source, content: bytes, shape: list[int], channels: int, given: str | None) -> dict[str, Any]:
    """Return the mean and the scale of the input, for each channel: it is (pixel - mean) / scale.

    Where it is not given, the first steps of a network say it: they rescale 0..255, 0..1 or -1..1 to small numbers.
    """
    if given is not None:
        mean, scale = parse_range(given)
        if len(mean) not in (1, channels) or len(scale) not in (1, channels) or not all(scale):
            raise Refusal(f"`range` is {RANGES}, with one number or one for each channel")
        return {"mean": mean, "scale": scale}
    low, high = None, None
    details = Interpreter(model_content=content).get_input_details()[0]
    if details["quantization"][0]:  # 8 bits with a scale: what its lowest and its highest number stand for
        limits, (scale, zero) = np.iinfo(details["dtype"]), details["quantization"]
        low, high = ((limit - zero) * scale for limit in (limits.min, limits.max))
        found = [each for each in RANGE if np.allclose((low, high), each, atol=0.05 * (each[1] - each[0]))]
        guess = found[0] if found else None
    elif details["dtype"] == np.uint8:
        guess = RANGE[0]
    else:
        guess = rescaled(*first_steps(source, shape) or (0, 1))
    if guess is None:
        raise Refusal(f"no file says how pixels were scaled in training: say it by `range` (--range), {RANGES}")
    return dict(zip(("mean", "scale"), parse_range(f"{guess[0]}..{guess[1]}"), strict=True))


def parse_range(text: str) -> tuple[list[float], list[float]]:
    """Return mean and scale from "-1..1" or "mean 103.9,116.8,123.7 scale 1"."""
    number = r"-?\d+(?:\.\d*)?"
    if match := re.fullmatch(rf"({number})\.\.({number})", text.strip()):
        low, high = map(float, match.groups())
        if low < high:
            return [0.0 - 255 * low / (high - low)], [255 / (high - low)]
    if match := re.fullmatch(rf"mean ({number}(?:,{number})*) scale ({number}(?:,{number})*)", text.strip()):
        mean, scale = ([float(each) for each in group.split(",")] for group in match.groups())
        return mean, scale
    raise Refusal(f"`range` is {RANGES}, not {text!r}")


def rescaled(mean: float, scale: float) -> tuple[int, int] | None:
    """Return the range that (input - mean) / scale was made for: one whose ends become usual numbers; None if unclear.

    A Normalization layer says it if it has ImageNet's mean or takes 0..255: others may stand for 0..1 or -1..1.
    """
    if mean > 2 or scale > 200:
        return RANGE[0]
    usual = [(-1, 1), (-0.5, 0.5), (0, 1), (0, 255), (-1.99, 2.44)]  # the last one: ImageNet's, after 0..1
    for ends in RANGE[1:] if abs(mean) + abs(scale - 1) > 0.02 else []:
        made = [(end - mean) / scale for end in ends]
        if any(np.allclose(made, each, atol=0.02 * (each[1] - each[0])) for each in usual):
            return ends
    return None


def last_step(content: bytes, output: int) -> str:
    """Return the name of the step that makes an output, and of the function that is part of it, as RELU."""
    model = schema.ModelT.InitFromPackedBuf(content)
    graph = model.subgraphs[0]
    made = {int(tensor): step for step in graph.operators for tensor in step.outputs}
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    tensor = int(graph.outputs[output])
    while step := made.get(tensor):
        code = model.operatorCodes[step.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if name not in PASSING:
            return "RELU" if getattr(step.builtinOptions, "fusedActivationFunction", 0) else name
        tensor = int(step.inputs[0])
    return "nothing"


def task_of(values: NDArray, last: str, labels: list[str], told: str | None, loss: str) -> str:
    """Return the task of a network from its raw outputs for some pictures, (n, outputs), and its last step."""
    outputs, count = values.shape[1], len(labels)
    shares = values.min() > -0.01 and values.max() < 1.01
    together = shares and outputs > 1 and bool(np.allclose(values.sum(1), 1, atol=0.05))
    wanted = {"number": (1, 0), "sigmoid": (1, 2), "logit": (1, 2)}
    if outputs == 1 and last == "SOFTMAX":
        raise Refusal("a softmax of one output is always 1: use a sigmoid, or an output for each label")
    task = told or guess_task(outputs, count, last, together, loss)
    if task is None:
        if outputs == 1 and count not in (0, 2):
            raise Refusal(f"it has 1 output and labels: {count}, so give 2, for 0 and for 1, or none for a number")
        if outputs > 1 and outputs != count:
            raise Refusal(f"it has {outputs} outputs and {count} labels, so give one label for each output")
        if outputs == 1 and count == 0:
            raise Refusal("it has 1 output and no labels: give 2 (--labels), or say `task` number (--task number)")
        trained = f", trained with {loss}," if loss else ""
        raise Refusal(f"its last step {last}{trained} does not say what it predicts, so say it by `task` (--task)")
    if (outputs, count) != wanted.get(task, (count, count)) or (outputs < 2 and task in ("softmax", "logits")):
        raise Refusal(f"it has {outputs} outputs and {count} labels, which is not a task of {task}")
    if task == "softmax" and not together:
        raise Refusal("its outputs do not add up to 1, so they are no softmax: say `task` logits or several")
    if task in ("sigmoid", "several") and not shares:
        raise Refusal(f"its outputs are not between 0 and 1, so they are no probabilities: `task` {task} is wrong")
    if (task in ("logits", "several-logits") and together) or (task == "logit" and last == "LOGISTIC"):
        raise Refusal(f"its outputs are probabilities already: `task` {task} is wrong")
    return task


def guess_task(outputs: int, labels: int, last: str, together: bool, loss: str) -> str | None:
    """Return the task that a network's last step and its loss agree on, None if they do not."""
    binary, categorical = "binary" in loss, "categorical" in loss
    linear = last in LINEAR and (binary or categorical or not loss)
    if labels == 0:
        return "number" if outputs == 1 and not (binary or categorical) else None
    if outputs == 1:
        task = "sigmoid" if last == "LOGISTIC" else "logit" if linear else None
        return task if labels == 2 and not categorical else None
    if outputs != labels:
        return None
    if together:
        return "softmax"
    if last == "LOGISTIC":
        return None if categorical else "several"
    if last == "LOG_SOFTMAX":
        return "logits"
    return ("several-logits" if binary else "logits") if linear else None


def write(path: Path, content: bytes, labels: list[str], metadata: dict[str, Any]) -> None:
    """Write a LiteRT file with its metadata. The same network gives the same file: a ZipInfo has a fixed date."""
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo("labels.txt"), "".join(f"{label}\n" for label in labels))
        archive.writestr(zipfile.ZipInfo("metadata.json"), json.dumps(metadata, ensure_ascii=False) + "\n")


def random_pictures(size: list[int], channels: int) -> list[NDArray]:
    """Return noise, plain colours, and patterns of few pixels enlarged: each (height, width, channels), 0..255."""
    random = np.random.default_rng(0)
    height, width = size
    pictures = []
    for tiles in [1, 1, 1, 2, 3, 4, 6, 9, 14, 20, 30, max(size)]:
        tile = random.integers(0, 256, (tiles, tiles, channels))
        rows, columns = np.arange(height) * tiles // height, np.arange(width) * tiles // width
        pictures.append(tile[rows][:, columns].astype(np.float32))
    return pictures


def real_pictures(folder: str | Path, metadata: dict[str, Any]) -> list[NDArray]:
    """Return the pictures in a folder and in those in it, as the network will see them."""
    pictures = []
    for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        with contextlib.suppress(UnidentifiedImageError, NothingToSee), Image.open(path) as image:
            pictures.append(prepare(ImageOps.exif_transpose(image), metadata)[0])
    return pictures or refuse(f"there are no pictures in {folder}")


def answers(outputs: Callable[[NDArray], NDArray], pictures: list[NDArray]) -> NDArray:
    """Return the outputs for pictures: (n, outputs) float32."""
    try:
        return np.stack([outputs(picture) for picture in pictures])
    except (FloatingPointError, RuntimeError, ValueError) as error:
        raise Refusal(f"it does not run on random pictures ({first_line(error)})") from error


def compare(file: Network, source: Source, pictures: list[NDArray], quantized: bool) -> str:
    """Say how close the file's answers are to the network's own."""
    eight_bits = quantized or file.input["dtype"] in (np.int8, np.uint8) or file.output["dtype"] in (np.int8, np.uint8)
    tolerance = TOLERANCE_8_BIT if eight_bits else TOLERANCE
    got = answers(file.probabilities, pictures)
    own = [np.stack([source.run(file.tensor(x)).astype(np.float32).ravel() for x in pictures]) for _ in range(2)]
    want, again = (np.stack([TASKS[file.task](values) for values in each]) for each in own)
    unit = max(1.0, float(np.abs(want).max())) if file.task == "number" else 1
    if not np.abs(again - want).max() <= tolerance * unit:
        raise Refusal("it answers the same picture differently each time: random layers must act in training only")
    difference = float(np.abs(got - want).max())
    if not difference <= tolerance * unit:
        advice = "export it without `quantize`" if quantized else "a layer of it does not survive the conversion"
        raise Refusal(f"the file's answers differ by up to {difference:.2g} from the network's own: {advice}")
    return f"on {len(pictures)} pictures it answers as the network itself, to within {difference:.1g}"


def refuse(reason: str) -> Any:
    raise Refusal(reason)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a network that is in a file to model.tflite.")
    parser.add_argument("network", metavar="FILE", help=".keras, .h5, .tflite, or a folder with a SavedModel")
    parser.add_argument("--labels", type=Path, metavar="labels.txt", help="one label a line, in the outputs' order")
    parser.add_argument("--range", metavar="RANGE", help=f"how pixels were scaled in training: {RANGES}")
    parser.add_argument("--bgr", action="store_true", help="blue came before red in training")
    parser.add_argument("--size", metavar="HEIGHTxWIDTH", help="of the pictures in training, if it takes any size")
    parser.add_argument("--resize", default="bilinear", choices=RESIZE, help="how pictures were resized in training")
    parser.add_argument("--task", choices=TASKS, help="what the outputs are (see model.py)")
    parser.add_argument("--unknown", metavar="LABEL", help="the label of pictures that fit no other: they get a 422")
    parser.add_argument("--output", metavar="NAME", help="the output to serve, if there are several")
    parser.add_argument("--preprocess", default="photo", choices=METHODS, help="how a picture becomes the input")
    parser.add_argument("--quantize", action="store_true", help="store the weights in 8 bits: a smaller file")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="compare the answers on these pictures, too")
    parser.add_argument("--title", default="Image classification", help="what the page is called")
    parser.add_argument("--path", default="model.tflite", metavar="FILE", help="what to write (default: %(default)s)")
    arguments = [f"--range={after}" if before == "--range" else after for before, after in pairs(sys.argv[1:])]
    options = vars(parser.parse_args([argument for argument in arguments if argument != "--range"]))
    try:
        labels = read_labels(options.pop("labels"))
        if options["size"]:
            numbers = [int(number) for number in options["size"].split("x")]
            options["size"] = numbers if len(numbers) == 2 else numbers[0]
    except (OSError, ValueError) as error:
        sys.exit(f"--labels or --size: {error}")
    export(labels=labels, **options)


def pairs(arguments: list[str]) -> list[tuple[str, str]]:
    """Return each argument with the one before it, since argparse takes -1..1 for an option."""
    return list(zip(["", *arguments], arguments, strict=False))


def read_labels(path: Path | None) -> list[str]:
    """Return the lines of a file."""
    return [line.strip() for line in path.read_text("utf-8-sig").strip().split("\n")] if path else []


if __name__ == "__main__":
    main()
