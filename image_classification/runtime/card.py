"""What a model file says about its network: the type of card.json, in the ZIP at the end of model.tflite.

Beside it, labels.txt holds the labels once more for other tools (https://ai.google.dev/edge/litert/models/metadata).
"""

import msgspec
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, get_args

FORMAT = 2  # a new field with a default keeps the number, every other change raises it
OLDER = "made by an older export: run `python3 train.py`, or `python3 -m export FILE` with the file of the network"
NEWER = "made by a newer export ({}): serve it with the files beside that export"

Task = Literal["softmax", "logits", "sigmoid", "logit", "several", "several-logits", "number"]  # see __init__.py
TensorFlows = Literal["bilinear", "bicubic", "nearest"]
Pillows = Literal["pil-bilinear", "pil-bicubic", "pil-nearest", "pil-lanczos", "pil-box", "pil-hamming"]
Resize = TensorFlows | Pillows
TASKS, RESIZES = get_args(Task), (*get_args(TensorFlows), *get_args(Pillows))
Pixels = Annotated[int, msgspec.Meta(ge=1)]


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
    format: int = FORMAT


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


def unpack(path: str | Path) -> Card:
    """Return the card of a model file. Raises OSError, zipfile.BadZipFile if it holds none, or ValueError."""
    with zipfile.ZipFile(path) as archive:
        if "card.json" not in archive.namelist():
            raise ValueError(OLDER)
        return read(archive.read("card.json"))


def pack(path: Path, network: bytes, card: Card) -> None:
    """Write a network with its card. The same network gives the same file, because a ZipInfo has a fixed date."""
    path.write_bytes(network)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo("labels.txt"), "".join(f"{label}\n" for label in card.labels))
        archive.writestr(zipfile.ZipInfo("card.json"), write(card))
