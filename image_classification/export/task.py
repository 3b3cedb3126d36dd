"""Find out what a network takes and what its outputs mean: from shapes, steps and numbers, without its library."""

import numpy as np
import re
from collections.abc import Callable, Mapping, Sequence
from numpy.typing import NDArray
from pathlib import Path
from runtime.card import Card, Task
from types import MappingProxyType
from typing import Any, NamedTuple

RANGES = '0..255, 0..1, -1..1, or a mean and a scale, as in "mean 123.7,116.3,103.5 scale 58.4,57.1,57.4"'
RANGE = [(0, 255), (0, 1), (-1, 1)]
LINEAR = {"FULLY_CONNECTED", "CONV_2D", "ADD", "BATCH_MATMUL"}


class Refusal(Exception):
    """Why a network cannot be served, and what to do about it, in one sentence."""


class Source(NamedTuple):
    """A trained network, wherever it came from."""

    shape: tuple[int | None, ...]  # of its input, without the first axis
    run: Callable[[NDArray], NDArray]  # its own answer to one input, (1, ...)
    convert: Callable[[list[int], bool], bytes]  # to the file for inputs of a shape, perhaps with 8-bit weights
    last_step: Callable[[bytes, int], str]  # the step of that file that makes an output, in LiteRT's names
    pack: Callable[[Path, bytes, Card], None]  # writes that file with its card
    ends: Callable[[bytes], tuple[float, float] | None] = lambda content: (
        None
    )  # of the range that its input is made for
    rescaling: Callable[[list[int]], tuple[float, float] | None] = lambda shape: (
        None
    )  # the mean and scale of first steps
    loss: str = ""  # what it was trained with, where it says so
    output: int = 0  # which output of the file counts
    suffix: str = ".tflite"
    says: Mapping[str, Any] = MappingProxyType({})  # options of export() that the network itself answers


def first_line(error: BaseException) -> str:
    """Return what went wrong, without the pages that may follow."""
    return " ".join(re.split(r"\n|\. ", str(error).strip())[0].split())[:200].rstrip(".:") or type(error).__name__


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


def chosen(names: list[str], output: str | None) -> int:
    """Return which of the outputs is to be served."""
    if output is None and len(names) == 1:
        return 0
    if output not in names:
        raise Refusal(f"it has the outputs {', '.join(names)}: say which by `output` (--output {names[0]})")
    return names.index(output)


def layout_of(shape: tuple[int | None, ...], size: int | Sequence[int] | None) -> tuple[list[int], dict[str, Any]]:
    """Return the shape of the network's input, and what the card says of it: size, channels and their order."""
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
    return shapes[layout], {"size": (height, width), "channels": channels, "layout": layout}


def range_of(source: Source, content: bytes, shape: list[int], channels: int, given: str | None) -> dict[str, Any]:
    """Return the mean and the scale of the input, for each channel: it is (pixel - mean) / scale.

    Where it is not given, the input of 8 bits says it, or the first steps of a network do: they rescale 0..255, 0..1 or
    -1..1 to small numbers.
    """
    if given is not None:
        mean, scale = parse_range(given)
        if len(mean) not in (1, channels) or len(scale) not in (1, channels) or not all(scale):
            raise Refusal(f"`range` is {RANGES}, with one number or one for each channel")
        return {"mean": tuple(mean), "scale": tuple(scale)}
    if ends := source.ends(content):
        found = [each for each in RANGE if np.allclose(ends, each, atol=0.05 * (each[1] - each[0]))]
        guess = found[0] if found else None
    else:
        guess = rescaled(*source.rescaling(shape) or (0, 1))
    if guess is None:
        raise Refusal(f"no file says how pixels were scaled in training: say it by `range` (--range), {RANGES}")
    mean, scale = parse_range(f"{guess[0]}..{guess[1]}")
    return {"mean": tuple(mean), "scale": tuple(scale)}


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


def task_of(values: NDArray, last: str, labels: list[str], told: Task | None, loss: str) -> Task:
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
        if last in LINEAR and not loss:
            raise Refusal(
                "its outputs are scores, and no loss says of what, so say it by `task` (--task): logits where one "
                "label is right, as after CrossEntropyLoss, or several-logits, as after BCEWithLogitsLoss"
            )
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


def guess_task(outputs: int, labels: int, last: str, together: bool, loss: str) -> Task | None:
    """Return the task that a network's last step and its loss agree on, None if they do not."""
    binary, categorical = "binary" in loss, "categorical" in loss
    linear = last in LINEAR and (binary or categorical or not loss)
    if labels == 0:
        return "number" if outputs == 1 and not (binary or categorical) else None
    if outputs == 1:
        task: Task | None = "sigmoid" if last == "LOGISTIC" else "logit" if linear else None
        return task if labels == 2 and not categorical else None
    if outputs != labels:
        return None
    if together:
        return "softmax"
    if last == "LOGISTIC":
        return None if categorical else "several"
    if last == "LOG_SOFTMAX":
        return "logits"
    return ("several-logits" if binary else "logits") if linear and loss else None


def possible_tasks(values: NDArray, labels: list[str]) -> list[Task]:
    """Return the tasks that the raw outputs for some pictures, (n, outputs), do not rule out."""
    shares = values.min() > -0.01 and values.max() < 1.01
    if values.shape[1] == 1:
        if not labels:
            return ["number"]
        return (["sigmoid"] if shares else ["logit"]) if len(labels) == 2 else []
    if values.shape[1] != len(labels):
        return []
    if not shares:
        return ["logits", "several-logits"]
    return ["softmax"] if np.allclose(values.sum(1), 1, atol=0.05) else ["several"]
