"""Copies of simple_ml and image_classification whose model files have another card."""

import json
import onnx
from collections.abc import Callable
from examples import ROOT
from helpers import copy_of
from onnx.helper import set_model_props
from pathlib import Path
from zipfile import ZipFile, ZipInfo

MODEL = ROOT / "image_classification" / "model.tflite"


def with_card(file: Path, change: Callable[[dict], object], folder: Path) -> Path:
    """Write a copy of a model file whose card was changed into a copy of its example, and return that folder."""
    example = "image_classification" if file.suffix == ".tflite" else "simple_ml"
    target = copy_of(example, folder) / f"model{file.suffix}"
    if file.suffix == ".onnx":
        model = onnx.load(file)
        card = json.loads(model.metadata_props[0].value)
        change(card)
        set_model_props(model, {"card": json.dumps(card)})
        onnx.save(model, target)
    elif file.suffix == ".tflite":
        with ZipFile(file) as archive:
            card, labels = json.loads(archive.read("card.json")), archive.read("labels.txt").decode()
        change(card)
        tflite_file(target, **{"labels.txt": labels, "card.json": json.dumps(card)})
    else:
        first, rest = file.read_bytes().split(b"\n", 1)
        card = json.loads(first)
        change(card)
        target.write_bytes(json.dumps(card).encode() + b"\n" + rest)
    return folder


def tflite_file(path: Path, **parts: str) -> Path:
    """Write the network of image_classification's model.tflite, and these parts packed at its end."""
    with ZipFile(MODEL) as archive:
        path.write_bytes(MODEL.read_bytes()[: min(entry.header_offset for entry in archive.infolist())])
    with ZipFile(path, "a") as archive:
        for name, text in parts.items():
            archive.writestr(ZipInfo(name), text)
    return path
