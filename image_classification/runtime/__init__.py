"""The network in a model file: a picture goes in, an answer comes out. LiteRT or ONNX Runtime runs it."""

import hashlib
import importlib
import numpy as np
import zipfile
from collections.abc import Callable
from numpy.typing import NDArray
from pathlib import Path
from runtime import card as cards
from runtime.decode import NoAnswer, NothingToSee
from typing import Any, NamedTuple


def softmax(x: NDArray) -> NDArray:
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def sigmoid(x: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-x.clip(-80, 80)))


def two(p: NDArray) -> NDArray:
    """Return the probabilities of two labels from the second one's."""
    return np.concatenate([1 - p, p])


# How to make probabilities of the outputs, by what they are
PROBABILITIES: dict[cards.Task, Callable[[NDArray], NDArray]] = {
    "softmax": lambda x: x,  # the probability of each label; together 1
    "logits": softmax,  # a score for each label, as for a loss with from_logits=True
    "sigmoid": two,  # one output, the probability of the second of two labels
    "logit": lambda x: two(sigmoid(x)),  # one output, the score of the second of two labels
    "several": lambda x: x,  # the probability of each label, of which any number may be right
    "several-logits": sigmoid,  # a score for each such label
    "number": lambda x: x,  # one output, no labels
}


class Answer(NamedTuple):
    """What a network says of a picture. `Network.schema` describes each field for those who ask over HTTP."""

    prediction: Any  # a label (a number if all labels are whole numbers), a list of labels, or the number
    probabilities: dict[str, float] | None  # of each label but `unknown`; None for a number

    def fields(self) -> dict[str, Any]:
        """Return the answer as it goes into JSON."""
        return {name: value for name, value in self._asdict().items() if value is not None}


FOLDER = Path(__file__).resolve().parent.parent
FILES = {"model.tflite": "runtime.litert", "model.onnx": "runtime.onnx"}  # and what runs each


def model_file() -> Path:
    """Return the model file beside app.py. Raises ValueError if there is none, or if there are two."""
    there = [FOLDER / name for name in FILES if (FOLDER / name).exists()]
    if len(there) != 1:
        which = "both" if there else "neither of"
        raise ValueError(f"There are {which} model.tflite and model.onnx here, and one is served: keep that one.")
    return there[0]


class Network:
    """A model file that export/ wrote. Raises ValueError, with a sentence, if it cannot be loaded.

    `version` is the first 12 hex digits of the file's SHA-256, as `sha256sum` prints it.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            name = "runtime.onnx" if Path(path).suffix == ".onnx" else "runtime.litert"
            self.engine = importlib.import_module(name).Engine(Path(path))  # not above: only one of them is installed
            with open(path, "rb") as content:
                self.version = hashlib.file_digest(content, "sha256").hexdigest()[:12]
        except (OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is missing or damaged, or export/ did not write it: {error}") from error
        except ModuleNotFoundError as error:
            raise ValueError(f"{path} needs the package {error.name}: see the requirements beside app.py") from error
        except (IndexError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} cannot be served: {error}") from error
        self.use(self.engine.card)

    def use(self, card: cards.Card) -> None:
        """Read pictures, and the network's outputs, as a card says."""
        self.card = card
        self.shape = *card.size, card.channels
        self.mean, self.scale = np.array(card.mean, np.float32), np.array(card.scale, np.float32)
        # labels that are all whole numbers are answered as numbers; "007" is a name
        self.labels = [label for label in card.labels if label != card.unknown]
        whole = all(label.isdecimal() and str(int(label)) == label for label in self.labels)
        self.values = {label: int(label) if whole else label for label in self.labels}

    def check(self) -> None:
        """Run the network on a grey picture. Raises ValueError if it fails, or if its outputs do not fit the labels."""
        try:
            count = len(self.probabilities(np.full(self.shape, 127, np.float32)))
        except (RuntimeError, NoAnswer) as error:
            raise ValueError(f"The network does not run: {error}") from error
        if count != max(1, len(self.card.labels)):
            raise ValueError(f"The network has {count} outputs for {len(self.card.labels)} labels.")

    def outputs(self, picture: NDArray) -> NDArray:
        """Return what the network itself answers to a picture: (n,) float32.

        `picture` is (height, width, channels) float32, 0..255, red before blue. Raises NoAnswer if a number of the
        answer is not finite.
        """
        values = self.engine.run(self.tensor(picture))
        if not np.isfinite(values).all():
            raise NoAnswer("The network's answer to this picture is not a finite number.")
        return values

    def tensor(self, picture: NDArray) -> NDArray:
        """Return a picture in the range, order and type that the network takes, with a first axis of 1."""
        if picture.shape != self.shape:
            raise TypeError(f"the picture is an array {picture.shape}, and the network takes {self.shape}")
        values = (picture - self.mean) / self.scale
        if self.card.standardize:
            # as tf.image.per_image_standardization: a plain picture has no deviation
            values = (values - values.mean()) / max(values.std(), 1 / np.sqrt(values.size))
        if self.card.bgr:
            values = values[..., ::-1]
        if self.card.layout == "CHW":
            values = values.transpose(2, 0, 1)
        kind = self.engine.dtype
        if np.issubdtype(kind, np.integer):
            scale, zero = self.engine.quantization
            values = np.rint(values / scale + zero if scale else values).clip(np.iinfo(kind).min, np.iinfo(kind).max)
        return values.astype(kind).reshape(self.card.shape)

    def probabilities(self, picture: NDArray) -> NDArray:
        """Return the probability of each label, (labels,) float32; of a network without labels its number, (1,)."""
        return PROBABILITIES[self.card.task](self.outputs(picture))

    def predict(self, picture: NDArray) -> Answer:
        """Return the answer to a picture, which is as `outputs` takes it.

        Raises NothingToSee if `unknown` is the most probable label, and NoAnswer if the answer is not finite.
        """
        return self.answer(self.probabilities(picture))

    def example(self) -> Answer:
        """Return an answer for the documentation: the first label, or the number 1."""
        return self.answer(np.array([float(label == self.labels[0]) for label in self.card.labels] or [1.0]))

    def answer(self, probabilities: NDArray) -> Answer:
        if self.card.task == "number":
            return Answer(float(f"{probabilities[0]:.6g}"), None)
        if self.card.task.startswith("several"):
            likely = [label for label, p in zip(self.card.labels, probabilities, strict=True) if p >= 0.5]
            prediction: Any = [self.values[label] for label in likely]
        else:
            label = self.card.labels[probabilities.argmax()]
            if label == self.card.unknown:
                raise NothingToSee(f"This picture fits none of the labels: {label}.")
            prediction = self.values[label]
        shares = [round(p, 4) for p in probabilities.clip(0, 1).tolist()]
        named = zip(self.card.labels, shares, strict=True)
        return Answer(prediction, {label: share for label, share in named if label != self.card.unknown})

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of each field of an answer."""
        if self.card.task == "number":
            return {"prediction": {"type": "number"}}
        prediction: dict[str, Any] = {"enum": list(self.values.values())}
        if self.card.task.startswith("several"):
            said = {"description": "The labels with a probability of 0.5 or more"}
            prediction = {"type": "array", "items": prediction, "uniqueItems": True} | said
        share = {"type": "number", "minimum": 0, "maximum": 1}
        probabilities = {"type": "object", "properties": dict.fromkeys(self.labels, share), "required": self.labels}
        return {"prediction": prediction, "probabilities": probabilities | {"additionalProperties": False}}
