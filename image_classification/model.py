"""The network in model.tflite, and the labels of its outputs."""

import numpy as np
import threading
import zipfile
from ai_edge_litert.interpreter import Interpreter
from pathlib import Path

FILE = Path(__file__).with_name("model.tflite")

try:
    labels = zipfile.ZipFile(FILE).read("labels.txt").decode().splitlines()  # export.py packs them into the file
except (OSError, KeyError, zipfile.BadZipFile) as error:
    raise SystemExit(f"{FILE} is missing or damaged: {error}") from None

# read into memory, so that the file may be replaced; one thread, since the server already runs several workers
network = Interpreter(model_content=FILE.read_bytes(), num_threads=1)
network.allocate_tensors()
input_tensor, output_tensor = network.get_input_details()[0], network.get_output_details()[0]
input_shape = tuple(input_tensor["shape"][1:].tolist())  # height, width, channels
one_at_a_time = threading.Lock()  # the interpreter is not thread-safe


def predict(picture: np.ndarray) -> dict[str, float]:
    """Return the probability of each label for a picture, an array of `input_shape`, float32."""
    with one_at_a_time:
        network.set_tensor(input_tensor["index"], picture[np.newaxis])
        network.invoke()
        probabilities = network.get_tensor(output_tensor["index"])[0].tolist()
    return dict(zip(labels, probabilities, strict=True))
