"""What a model file says about its network: card.json in the ZIP at the end of model.tflite, a property of model.onnx.

Beside card.json, labels.txt holds the labels once more for other tools
(https://ai.google.dev/edge/litert/models/metadata).
"""

import msgspec
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Literal, get_args

FORMAT = 2  # a new field with a default keeps the number, every other change raises it
OLDER = "made by an older export: run `python3 train.py`, or `python3 -m export FILE` with the file of the network"
NEWER = "made by a newer export ({}): serve it with the files beside that export"

Task = Literal["softmax", "logits", "sigmoid", "logit", "several", "several-logits", "number"]  # see __init__.py
TensorFlows = Literal["bilinear", "bicubic", "nearest", "none"]
OpenCVs = Literal["cv2-linear", "cv2-area"]
Pillows = Literal["pil-bilinear", "pil-bicubic", "pil-nearest", "pil-lanczos", "pil-box", "pil-hamming"]
Resize = TensorFlows | OpenCVs | Pillows
TASKS, RESIZES = get_args(Task), (*get_args(TensorFlows), *get_args(OpenCVs), *get_args(Pillows))
Fit = Literal["stretch", "crop", "crop-exact", "pad"]
Standardize = Literal["picture"]
FITS, STANDARDIZES = get_args(Fit), get_args(Standardize)
Pixels = Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True)
class Proof:
    """How the file's answers were compared with those of the notebook, or of the network itself."""

    compared: int  # how many pictures: files or, of the network itself, also random ones
    kept: int  # how many of them were not used to find out how the notebook prepares pictures
    difference: float  # the largest one, of a probability or of the number
    with_predictions: bool  # the notebook's own predictions, not only the network's answers
    versions: dict[str, str]  # of the packages that were there: name: version


@dataclass(frozen=True)
class Card:
    """What export/ knows of a network, and serving must know."""

    title: str  # of the page
    task: Task  # what the outputs are
    labels: tuple[str, ...]  # in the order of the outputs; none if the network predicts a number
    unknown: str | None  # the label of pictures that fit no other label
    preprocess: str  # how a picture becomes the input: a way of preprocess.py
    resize: Resize
    size: tuple[Pixels, Pixels]  # of the input: height, width
    channels: Literal[1, 3]
    layout: Literal["HWC", "CHW", "HW"]  # the order of the input's axes, after the first one
    bgr: bool  # blue comes before red
    mean: tuple[float, ...]  # the input is (pixel - mean) / scale, with one number or one for each channel
    scale: tuple[float, ...]
    output: int  # which output of the file counts
    fit: Fit = "stretch"  # which part of a picture of another shape: see preprocess.py
    crop: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None  # how much of the resized picture is kept
    standardize: Standardize | None = None  # the input then gets the mean 0 and the standard deviation 1
    proof: Proof | None = None
    format: int = FORMAT

    @property
    def shape(self) -> list[int]:
        """Of the input, with a first axis of 1."""
        (height, width), channels = self.size, self.channels
        sizes = {"HWC": [height, width, channels], "CHW": [channels, height, width], "HW": [height, width]}
        return [1, *sizes[self.layout]]

    @property
    def way(self) -> str:
        """How a picture becomes the input, in words."""
        colour = "grey" if self.channels == 1 else "BGR" if self.bgr else "RGB"
        parts = [in_words(self.mean, self.scale), colour]
        if self.preprocess != "photo":
            return ", ".join([*parts, f"prepared by {self.preprocess}"])
        parts += [self.resize if self.resize != "none" else "not resized", self.fitted]
        if self.standardize:
            parts.insert(1, "standardized by picture")
        return ", ".join(parts)

    @property
    def fitted(self) -> str:
        if self.resize == "none":
            return "cut or padded"
        if self.crop:
            return f"{'stretched, ' if self.fit == 'stretch' else ''}centre crop {self.crop:.4g}"
        return {"stretch": "stretched", "crop": "cropped", "crop-exact": "cropped exactly", "pad": "padded"}[self.fit]

    @property
    def proven(self) -> str:
        """How the answers of the file were compared, in words."""
        if self.proof is None:
            return "The file does not say how its answers were compared with the network's own: export it again."
        count, difference = f"{self.proof.compared} pictures", f"largest difference {self.proof.difference:.1g}"
        if self.proof.with_predictions:
            return f"The file gives the notebook's own predictions: compared on {count}, {difference}."
        return (
            f"The file gives the network's own answers: compared on {count}, random ones included, {difference}. "
            "It was not compared with the notebook's own predictions."
        )


def read(text: str | bytes) -> Card:
    """Return the card that `write` wrote. Raises ValueError, with what is wrong, and for a file of another format."""
    said = msgspec.json.decode(text)
    if isinstance(said, dict):
        version = said.get("format", 1)
        if isinstance(version, int) and version < FORMAT:
            raise ValueError(OLDER)
        more = said.keys() - {field.name for field in fields(Card)}
        if isinstance(version, int) and (version > FORMAT or more):
            raise ValueError(NEWER.format(", ".join([f"format {version}", *sorted(more)])))
    return msgspec.convert(said, Card)


def write(card: Card) -> str:
    return msgspec.json.encode(card).decode() + "\n"


def in_words(mean: Sequence[float], scale: Sequence[float]) -> str:
    """Return the range that a mean and a scale of pixels 0..255 make: "0..1", or "mean 124,116,104 scale 58,57,57"."""
    ends = {((0 - m) / s, (255 - m) / s) for m, s in zip(mean, scale, strict=True)} if len(mean) == len(scale) else ()
    if len(ends) == 1:
        ((low, high),) = ends
        if all(abs(end - round(end, 1)) < 1e-6 for end in (low, high)):
            return f"{round(low, 1):g}..{round(high, 1):g}"
    return f"mean {','.join(f'{m:.6g}' for m in mean)} scale {','.join(f'{s:.6g}' for s in scale)}"
