"""Write a trained network to a model file, with everything that serving must know, and check it against the network.

At the end of train.py: `export(network, ["cat", "dog"])`. For a network in a file (Keras .keras or .h5, a folder of
TensorFlow's SavedModel, .tflite or .onnx): `python3 -m export FILE --labels labels.txt`; `--help` lists the options.
"""

import contextlib
import numpy as np
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from export import proof
from export import transform as transforms
from export.predictions import read
from export.task import (
    Refusal,
    Source,
    check_unknown,
    checked,
    first_line,
    layout_of,
    possible_tasks,
    range_of,
    task_of,
)
from numpy.typing import NDArray
from pathlib import Path
from preprocess import WAYS, Way, way
from runtime import FILES, PROBABILITIES, Network
from runtime.card import (
    FITS,
    RESIZES,
    STANDARDIZES,
    TASKS,
    Card,
    Fit,
    Proof,
    Resize,
    Standardize,
    Task,
    in_words,
)
from runtime.decode import NoAnswer, decoded
from typing import Any

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
    path: str | Path | None = None,
    *,
    title: str = "Image classification",
    task: Task | None = None,
    unknown: str | None = None,
    range: str | None = None,
    bgr: bool | None = None,
    size: int | Sequence[int] | None = None,
    resize: Resize | None = None,
    fit: Fit | None = None,
    crop: float | None = None,
    standardize: Standardize | None = None,
    preprocess: str = "photo",
    output: str | None = None,
    quantize: bool = False,
    pictures: str | Path | None = None,
    predictions: Any = None,
    transform: Any = None,
    trust: bool = False,
) -> None:
    """Write a network as the file that the service answers with: `path`, or model.tflite or model.onnx.

    `network` is a network of Keras or PyTorch, a learner of fastai, or the path of a file. `labels` are in the order of
    its outputs; a network that predicts a number has none.

    `predictions` is what the notebook itself says of some files: a function of a path, a dict with the path of each
    file in the folder `pictures`, or the path of a .csv file, in each line a file. For each it says a probability for
    each label (of two labels also that of the second alone), the number, or the label. At least 8 files, with two
    labels or more among the predictions; of labels alone 20. Then what is not given below is found: the way that gives
    these predictions. It is looked for on some of the files and proved on the others, at least 4. Files that EXIF turns
    are left out. A probability may differ by 0.01, that of a JPEG by 0.03. Without predictions, this must be given
    where the network itself does not say it:

    - `transform`: the object that prepares pictures for PyTorch, which then says all but the last four: torchvision's
      Compose of usual steps, what timm's resolve_data_config returns, or an image processor of Hugging Face.
    - `range`: how pixels were scaled in training, "0..255", "0..1", "-1..1", or a mean and a scale of pixels 0..255 for
      red, green and blue, "mean 123.7,116.3,103.5 scale 58.4,57.1,57.4". A network with a Rescaling layer says it.
    - `bgr`: it was trained with blue before red.
    - `size`: of its input, (height, width) or one number for both.
    - `resize`: "bilinear" (the default), "bicubic" or "nearest", as image_dataset_from_directory does it, "cv2-linear"
      or "cv2-area" as OpenCV, "pil-bilinear", "pil-nearest" and so on, as load_img and torchvision do it, or "none".
    - `fit`: "stretch" (the default), "crop", "crop-exact" or "pad" a picture of another shape, and `crop`: the share of
      the resized picture that is kept, as 0.875 (see `cuts` in preprocess.py).
    - `standardize`: "picture" if each picture then got the mean 0 and the standard deviation 1.
    - `task`: "softmax", "logits", "sigmoid", "logit", "several", "several-logits" or "number" (see runtime/).
    - `output`: the name of the output to serve, if there are several.
    - `unknown`: the label of pictures that fit no other label. The service does not predict it: it answers such a
      picture with a 422, and the probabilities of the other labels sum to less than 1.
    - `preprocess`: "photo", or "digit" for networks trained on MNIST.

    `trust` opens a file of PyTorch that is a pickle, which runs the code in it.

    `quantize` stores the weights in 8 bits. The file's answers are compared with the network's own on random pictures,
    and on those in the folder `pictures`. Raises SystemExit, with one sentence, if the network cannot be served, if
    no way or more than one gives the predictions, or if a probability differs by more than 0.01; then no file is
    written. With 8 bits, on ten times as many pictures, a probability may differ by 0.1, and those of all pictures by
    0.03 on average; a number by 0.03 of the largest one.

    What serving must know is packed into the file (see runtime/card.py).
    """
    try:
        names = checked(labels)
        choices = {"resize": RESIZES, "fit": FITS, "standardize": STANDARDIZES, "task": TASKS}
        told: dict[str, Any] = {"range": range, "bgr": bgr, "resize": resize, "fit": fit, "crop": crop}
        told["standardize"] = standardize
        check_options(told | {"task": task, "preprocess": preprocess}, choices | {"preprocess": tuple(WAYS)})
        says = transforms.read(transform) if transform is not None else {}
        source, own_labels = opened(network, output, size, says, trust)
        names, says = names or checked(own_labels), {**source.says, **says}
        size = size or says.get("size")
        told |= {name: value for name, value in says.items() if name in told and told[name] is None}
        shape, layout = layout_of(source.shape, size)
        target = Path(path or f"model{source.suffix}")
        if target.suffix != source.suffix:
            raise Refusal(f"it becomes a {source.suffix} file, so `path` must end in {source.suffix}")
        content = source.convert(shape, quantize)
        scaling: dict[str, Any] = {"mean": (0.0,), "scale": (1.0,)}
        if predictions is None:
            if layout["layout"] == "CHW" and told["resize"] is None and preprocess == "photo":
                raise Refusal(
                    "its channels come first, as PyTorch has them, and no file says how pictures were resized: say it "
                    "by `resize` (--resize), pil-bilinear after torchvision's Resize"
                )
            scaling = range_of(source, content, shape, layout["channels"], told["range"])
        card = Card(
            title=str(title),
            task="number",  # for now: its outputs will tell
            labels=tuple(names),
            unknown=None if unknown is None else str(unknown),
            preprocess=preprocess,
            resize=told["resize"] or "bilinear",
            fit=told["fit"] or "stretch",
            crop=told["crop"],
            standardize=standardize,
            bgr=bool(bgr),
            output=source.output,
            **layout,
            **scaling,
        )
        preparation = fitting_way(card)
        with tempfile.TemporaryDirectory() as folder:
            candidate = Path(folder) / target.name
            source.pack(candidate, content, card)
            samples = random_pictures(card.size, card.channels, ROUNDS_8_BIT if quantize else 1)
            ranges = [1.0] if predictions is None else [1.0, 1 / 255]
            values = run_on([x * scale for scale in ranges for x in samples], Network(candidate).outputs)
            tasks = tasks_of(values, source, content, names, task, predictions is not None)
            if predictions is not None:
                predicted = read(predictions, Path(pictures) if pictures else None, names)
                if predicted.kind == "scores" and len(tasks) > 1:
                    raise Refusal(
                        "`predictions` are scores, which do not say what they mean: say it by `task` (--task)"
                    )
                exact = source.convert(shape, False) if quantize else content
                source.pack(candidate, exact, card)
                card, note = proof.find(Network(candidate), preparation, predicted, told, tasks)
            else:
                card = replace(card, task=tasks[0])
            check_unknown(card.unknown, names, card.task)
            real = real_pictures(pictures, preparation, card) if pictures else []
            samples += real
            source.pack(candidate, content, card)
            try:
                compared, difference = compare(Network(candidate), source, samples, quantize)
            except Refusal as error:
                if told["range"] or predictions is not None or not source.rescaling(shape):
                    raise
                raise Refusal(
                    f"{error}; or the notebook scales the pixels, too, before the layer that does it: then say how by "
                    "`range` (--range 0..1)"
                ) from error
            if predictions is not None and quantize:
                card = proof.measured(Network(candidate), preparation, predicted, TOLERANCE_8_BIT)
            elif predictions is None:
                count = len(samples)
                card = replace(card, proof=Proof(count, count, float(f"{difference:.2g}"), False, proof.versions()))
            source.pack(candidate, content, card)
            target.write_bytes(candidate.read_bytes())
    except Refusal as refusal:
        sys.exit(f"This network cannot be served: {refusal}.")
    height, width = card.size
    size_in_words = f"{target.stat().st_size / 1000:.0f} kB, {height}x{width}"
    print(f"{target}: {size_in_words}, {card.task}, {len(names)} labels; {compared}")
    if range is None and predictions is None and source.rescaling(shape):
        print(f"A layer of it rescales {in_words(card.mean, card.scale)}. ", end="")
        print('If your notebook scaled the pixels before it, too, say how: range="0..1" (--range 0..1) after x / 255.')
    others = [name for name in FILES if name != target.name and target.with_name(name).exists()]
    if others and target.name in FILES:
        print(f"{others[0]} is here, too, and one of them is served: remove it.")
    print(f"{card.way}: {agreement(card)}" + (predicted.left_out + note if predictions is not None else ""))


def agreement(card: Card) -> str:
    """Say whether the notebook's own predictions were there, and how close the answers are to them."""
    if not (card.proof and card.proof.with_predictions):
        return "not compared with your notebook"
    count = card.proof.compared
    return f"{count} of {count} files agree with the notebook to {card.proof.difference:.1g}"


def check_options(given: dict[str, Any], choices: dict[str, tuple]) -> None:
    """Refuse what is not one of the choices, and what does not go together."""
    for name, allowed in choices.items():
        if given[name] not in (None, *allowed):
            raise Refusal(f"choose `{name}` of {', '.join(allowed)}, not {given[name]!r}")
    resize, fit, crop = given["resize"], given["fit"], given["crop"]
    if crop is not None and not (isinstance(crop, int | float) and 0 < crop <= 1):
        raise Refusal(f"`crop` is a share such as 0.875 (224 of 256 pixels), not {crop!r}")
    if crop and fit not in (None, "stretch", "crop"):
        raise Refusal(f"`crop` goes with `fit` crop or stretch, not with {fit}")
    if resize == "none" and (crop or fit not in (None, "crop")):
        raise Refusal("`resize` none keeps the middle of a picture as it is: leave out `fit` and `crop`")
    if fit == "crop-exact" and resize and not resize.startswith("pil-"):
        raise Refusal("`fit` crop-exact is Pillow's ImageOps.fit, so it goes with a `resize` that starts with pil-")


def opened(
    network: Any, output: str | None, size: Any, says: dict[str, Any], trust: bool
) -> tuple[Source, tuple[str, ...]]:
    """Return a network, or the one in a file, and the labels that it says itself."""
    path = Path(network) if isinstance(network, str | Path) else None
    if path and path.suffix == ".onnx" and path.exists():
        from export import onnx_file

        return onnx_file.opened(path, output), ()
    torchs = path and path.suffix in (".pt", ".pth", ".pkl") and path.is_file()
    # its own torch is there already
    if torchs or (not path and "torch" in sys.modules and not hasattr(network, "predict_on_batch")):
        try:
            from export import pytorch
        except ModuleNotFoundError as error:
            raise Refusal(
                f"a network of PyTorch needs the package {error.name}: export it where you trained it, after "
                "`pip install -r requirements-torch.in`"
            ) from error
        thing = pytorch.load(path, trust) if path else network
        if pytorch.is_network(thing):
            size = size or says.get("size")
            return pytorch.opened(thing, output, (size, size) if isinstance(size, int) else size and tuple(size))
    from export import convert  # only now, since TensorFlow takes seconds

    return convert.opened(network, output), ()


def tasks_of(
    values: NDArray, source: Source, content: bytes, names: list[str], told: Task | None, open_: bool
) -> list[Task]:
    """Return the task of a network; where only the notebook's predictions will tell, all that are possible."""
    try:
        return [task_of(values, source.last_step(content, source.output), names, told, source.loss)]
    except Refusal:
        possible = possible_tasks(values, names)
        if told or not open_ or not possible:
            raise
        return possible


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


def compare(file: Network, source: Source, pictures: list[NDArray], quantized: bool) -> tuple[str, float]:
    """Say how close the file's answers are to the network's own, and return the largest difference."""
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
    return f"on {len(pictures)} pictures it answers as the network itself, to within {difference:.1g}", difference
