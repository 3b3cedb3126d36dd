"""Run model.tflite: a network that export/ has converted, by LiteRT alone."""

import numpy as np
import threading
import zipfile
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from pathlib import Path
from runtime import card as cards
from typing import Any


class Engine:
    """The network in a file. Raises OSError, zipfile.BadZipFile, RuntimeError or ValueError if it cannot be loaded."""

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            if "card.json" not in archive.namelist():
                raise ValueError(cards.OLDER)
            self.card = cards.read(archive.read("card.json"))
        # read into memory, so that the file may be replaced; one thread, since there are several workers
        self.interpreter = Interpreter(model_content=path.read_bytes(), num_threads=1)
        self.input = self.interpreter.get_input_details()[0]
        self.output = self.interpreter.get_output_details()[self.card.output]
        self.interpreter.resize_tensor_input(self.input["index"], self.card.shape)
        self.interpreter.allocate_tensors()
        self.dtype: Any = self.input["dtype"]
        self.quantization: tuple[float, int] = self.input["quantization"]  # scale and zero; a scale of 0: none
        self.lock = threading.Lock()  # the interpreter is not thread-safe

    def run(self, x: NDArray) -> NDArray:
        """Return the outputs for an input: (n,) float32. Raises RuntimeError or ValueError."""
        with self.lock:
            self.interpreter.set_tensor(self.input["index"], x)
            self.interpreter.invoke()
            values = self.interpreter.get_tensor(self.output["index"]).ravel()
        scale, zero = self.output["quantization"]
        return (values.astype(np.float32) - zero) * np.float32(scale) if scale else values.astype(np.float32)
