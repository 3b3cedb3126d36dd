"""The network in model.tflite, and what export.py wrote beside it: its task, its labels, its range of input."""

import json
import numpy as np
import threading
import zipfile
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("model.tflite")


def softmax(x: NDArray) -> NDArray:
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def sigmoid(x: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-x.clip(-80, 80)))


def two(p: NDArray) -> NDArray:
    """Return the probabilities of two labels from the second one's."""
    return np.concatenate([1 - p, p])


TASKS = {  # what the outputs of a network are, and how to make the probability of each label from them
    "softmax": lambda x: x,  # the probability of each label; together 1
    "logits": softmax,  # a score for each label, as for a loss with from_logits=True
    "sigmoid": two,  # one output, the probability of the second of two labels
    "logit": lambda x: two(sigmoid(x)),  # one output, the score of the second of two labels
    "several": lambda x: x,  # the probability of each label, of which any number may be right
    "several-logits": sigmoid,  # a score for each such label
    "number": lambda x: x,  # one output, no labels
}


class Network:
    """A model file that export.py wrote. Raises ValueError, with a sentence, if it cannot be loaded."""

    def __init__(self, path: str | Path = FILE) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                self.metadata: dict[str, Any] = json.loads(archive.read("metadata.json"))
                self.labels = archive.read("labels.txt").decode().split("\n")[:-1]
            self.title, self.task = self.metadata["title"], self.metadata["task"]
            self.digits = self.metadata["preprocess"] == "digit"
            self.unknown = self.metadata.get("unknown")  # the label of pictures that fit no other label
            (height, width), channels = self.metadata["size"], self.metadata["channels"]
            self.shape = height, width, channels

            self.mean, self.scale = (np.array(self.metadata[name], np.float32) for name in ("mean", "scale"))
            # read into memory, so that the file may be replaced; one thread, since there are several workers
            self.interpreter = Interpreter(model_content=Path(path).read_bytes(), num_threads=1)
            self.input = self.interpreter.get_input_details()[0]
            self.output = self.interpreter.get_output_details()[self.metadata["output"]]
            layouts = {
                "HWC": [1, height, width, channels],
                "CHW": [1, channels, height, width],
                "HW": [1, height, width],
            }
            self.input_shape = layouts[self.metadata["layout"]]
            self.interpreter.resize_tensor_input(self.input["index"], self.input_shape)
            self.interpreter.allocate_tensors()
        except (OSError, LookupError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is missing or damaged, or export.py did not write it: {error}") from error
        self.lock = threading.Lock()  # the interpreter is not thread-safe
        # labels that are all whole numbers are answered as numbers; "007" is a name
        names = [label for label in self.labels if label != self.unknown]
        whole = all(label.isdecimal() and str(int(label)) == label for label in names)
        self.values: list[Any] = [int(label) if whole and label != self.unknown else label for label in self.labels]

    def check(self) -> None:
        """Run the network on a grey picture. Raises ValueError if it fails, or if its outputs do not fit the labels."""
        try:
            count = len(self.probabilities(np.full(self.shape, 127, np.float32)))
        except (KeyError, RuntimeError, FloatingPointError) as error:
            raise ValueError(f"The network does not run: {error}") from error
        if count != max(1, len(self.labels)):
            raise ValueError(f"The network has {count} outputs for {len(self.labels)} labels.")

    def outputs(self, picture: NDArray) -> NDArray:
        """Return what the network itself answers to a picture: (n,) float32.

        `picture` is (height, width, channels) float32, 0..255, red before blue. Raises FloatingPointError if the
        answer is not finite.
        """
        with self.lock:
            self.interpreter.set_tensor(self.input["index"], self.tensor(picture))
            self.interpreter.invoke()
            values = self.interpreter.get_tensor(self.output["index"]).ravel()
        scale, zero = self.output["quantization"]
        values = (values.astype(np.float32) - zero) * np.float32(scale) if scale else values.astype(np.float32)
        if not np.isfinite(values).all():
            raise FloatingPointError("The network's answer to this picture is not a finite number.")
        return values

    def tensor(self, picture: NDArray) -> NDArray:
        """Return a picture in the range, order and type that the network takes, with a first axis of 1."""
        if picture.shape != self.shape:
            raise TypeError(f"the picture is an array {picture.shape}, and the network takes {self.shape}")
        values = (picture - self.mean) / self.scale
        if self.metadata["bgr"]:
            values = values[..., ::-1]
        if self.metadata["layout"] == "CHW":
            values = values.transpose(2, 0, 1)
        kind = self.input["dtype"]
        if np.issubdtype(kind, np.integer):
            scale, zero = self.input["quantization"]
            values = np.rint(values / scale + zero if scale else values).clip(np.iinfo(kind).min, np.iinfo(kind).max)
        return values.astype(kind).reshape(self.input_shape)

    def probabilities(self, picture: NDArray) -> NDArray:
        """Return the probability of each label, (labels,) float32; of a network without labels its number, (1,)."""
        return TASKS[self.task](self.outputs(picture))

    def predict(self, picture: NDArray) -> dict[str, Any]:
        """Return the answer to a picture: its label, labels or number, and the probability of each label.

        The label `unknown` is predicted if it is the most probable one, but the answer does not hold its probability.
        """
        probabilities = self.probabilities(picture)
        if self.task == "number":
            return {"prediction": float(f"{probabilities[0]:.6g}")}
        if self.task.startswith("several"):
            prediction: Any = [value for value, p in zip(self.values, probabilities, strict=True) if p >= 0.5]
        else:
            prediction = self.values[probabilities.argmax()]
        shares = [round(p, 4) for p in probabilities.clip(0, 1).tolist()]
        named = {label: share for label, share in zip(self.labels, shares, strict=True) if label != self.unknown}
        return {"prediction": prediction, "probabilities": named}
