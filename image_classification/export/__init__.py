"""Write a trained network to model.tflite, with everything that serving must know, and check it against the network.

At the end of train.py: `export(network, ["cat", "dog"])`. For a network in a file (Keras .keras or .h5, a folder of
TensorFlow's SavedModel, or .tflite): `python3 -m export FILE --labels labels.txt`; `--help` lists the options.
"""

import contextlib
import numpy as np
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from export.task import Refusal, check_unknown, checked, first_line, last_step, layout_of, range_of, task_of
from numpy.typing import NDArray
from pathlib import Path
from preprocess import WAYS, Way, way
from runtime import PROBABILITIES, Network
from runtime.card import RESIZES, TASKS, Card, Resize, Task, pack
from runtime.decode import NoAnswer, decoded
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.convert import Source

TOLERANCE = 0.01  # how far the file's probabilities may be from the network's own
# With 8 bits: each, so that a label which is more than 0.2 ahead stays; and on average over the pictures, which is also
# how far the calibration may move
TOLERANCE_8_BIT, AVERAGE_8_BIT = 0.1, 0.03
ROUNDS_8_BIT = 10  # of random pictures

for room in Path(__file__).resolve().parent.parent.glob("*/__init__.py"):
    if room.parent.with_suffix(".py").exists():
        sys.exit(f"{room.parent.name}.py is hidden by the folder {room.parent.name}/, so rename it.")


def export(
    network: Any,
    labels: Sequence[Any] = (),
    path: str | Path = "model.tflite",
    *,
    title: str = "Image classification",
    task: Task | None = None,
    unknown: str | None = None,
    range: str | None = None,
    bgr: bool = False,
    size: int | Sequence[int] | None = None,
    resize: Resize = "bilinear",
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
    - `task`: "softmax", "logits", "sigmoid", "logit", "several", "several-logits" or "number" (see runtime/).
    - `output`: the name of the output to serve, if there are several.
    - `unknown`: the label of pictures that fit no other label. The service does not predict it: it answers such a
      picture with a 422, and the probabilities of the other labels sum to less than 1.
    - `preprocess`: "photo", or "digit" for networks trained on MNIST.

    `quantize` stores the weights in 8 bits. The file's answers are compared with the network's own on random pictures,
    and on those in the folder `pictures`. Raises SystemExit, with one sentence, if the network cannot be served or if
    a probability differs by more than 0.01; then no file is written. With 8 bits, on ten times as many pictures, a
    probability may differ by 0.1, and those of all pictures by 0.03 on average; a number by 0.03 of the largest one.

    What serving must know is packed at the end of the file (see runtime/card.py), which makes it a ZIP archive, too.
    """
    try:
        names = checked(labels)
        if preprocess not in WAYS or resize not in RESIZES or task not in (None, *TASKS):
            raise Refusal(f"choose `preprocess` of {tuple(WAYS)}, `resize` of {RESIZES} and `task` of {TASKS}")
        from export.convert import first_steps, opened  # only now, since TensorFlow takes seconds

        source = opened(network, output)
        shape, layout = layout_of(source.shape, size)
        content = source.convert(shape, quantize)
        layout |= range_of(content, layout["channels"], range, lambda: first_steps(source, shape))
        card = Card(
            title=str(title),
            task="number",  # for now: its outputs will tell
            labels=tuple(names),
            unknown=None if unknown is None else str(unknown),
            preprocess=preprocess,
            resize=resize,
            bgr=bool(bgr),
            output=source.output,
            **layout,
        )
        preparation = fitting_way(card)
        with tempfile.TemporaryDirectory() as folder:
            candidate = Path(folder) / "model.tflite"
            pack(candidate, content, card)
            samples = random_pictures(card.size, card.channels, ROUNDS_8_BIT if quantize else 1)
            samples += real_pictures(pictures, preparation, card) if pictures else []
            values = run_on(samples, Network(candidate).outputs)
            card = replace(card, task=task_of(values, last_step(content, source.output), names, task, source.loss))
            check_unknown(card.unknown, names, card.task)
            pack(candidate, content, card)
            compared = compare(Network(candidate), source, samples, quantize)
            Path(path).write_bytes(candidate.read_bytes())
    except Refusal as refusal:
        sys.exit(f"This network cannot be served: {refusal}.")
    height, width = card.size
    colour = "grey" if card.channels == 1 else "BGR" if bgr else "RGB"
    print(f"{path}: {Path(path).stat().st_size / 1000:.0f} kB, {height}x{width} {colour}, {card.task}", end="")
    print(f", {len(names)} labels; input = (pixel - {[*card.mean]}) / {[*card.scale]}; {compared}")


def fitting_way(card: Card) -> Way:
    """Return the way to prepare pictures, which fits the network."""
    try:
        return way(card)
    except ValueError as error:
        raise Refusal(str(error).rstrip(".")) from error


def random_pictures(size: Sequence[int], channels: int, rounds: int = 1) -> list[NDArray]:
    """Return noise, plain colours, and patterns of few pixels enlarged: each (height, width, channels), 0..255."""
    random = np.random.default_rng(0)
    height, width = size
    pictures = []
    for tiles in [1, 1, 1, 2, 3, 4, 6, 9, 14, 20, 30, max(size)] * rounds:
        tile = random.integers(0, 256, (tiles, tiles, channels))
        rows, columns = np.arange(height) * tiles // height, np.arange(width) * tiles // width
        pictures.append(tile[rows][:, columns].astype(np.float32))
    return pictures


def real_pictures(folder: str | Path, way: Way, card: Card) -> list[NDArray]:
    """Return the pictures in a folder and in those in it, as the network will see them in the service."""
    pictures = []
    for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        with contextlib.suppress(NoAnswer), path.open("rb") as file, decoded(file, way.smallest, card.size[1]) as image:
            pictures.append(way.prepare(image, card)[0])
    if not pictures:
        raise Refusal(f"there are no pictures in {folder}")
    return pictures


def run_on(pictures: list[NDArray], run: Callable[[NDArray], NDArray]) -> NDArray:
    """Return what a network makes of each picture: (n, outputs) float32."""
    try:
        return np.stack([run(picture) for picture in pictures])
    except (RuntimeError, ValueError) as error:
        raise Refusal(f"it does not run on random pictures ({first_line(error)})") from error


def compare(file: Network, source: "Source", pictures: list[NDArray], quantized: bool) -> str:
    """Say how close the file's answers are to the network's own."""
    task = file.card.task
    most = average = AVERAGE_8_BIT if quantized else TOLERANCE
    if quantized and task != "number":
        most = TOLERANCE_8_BIT
    got = run_on(pictures, file.probabilities)
    twice = [*pictures, *pictures[:12]]
    own = [PROBABILITIES[task](source.run(file.tensor(x)).astype(np.float32).ravel()) for x in twice]
    want, again = np.stack(own[: len(pictures)]), np.stack(own[len(pictures) :])
    unit = max(1.0, float(np.abs(want).max())) if task == "number" else 1
    if not np.abs(again - want[:12]).max() <= TOLERANCE * unit:
        raise Refusal("it answers the same picture differently each time: random layers must act in training only")
    differences = np.abs(got - want).max(1)
    difference, mean = float(differences.max()), float(differences.mean())
    if not (difference <= most * unit and mean <= average * unit):
        advice = "export it without `quantize`" if quantized else "a layer of it does not survive the conversion"
        by = f"by up to {difference:.2g}, by {mean:.2g} on average,"
        raise Refusal(f"the file's answers differ {by} from the network's own: {advice}")
    return f"on {len(pictures)} pictures it answers as the network itself, to within {difference:.1g}"
