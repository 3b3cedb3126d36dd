"""Run model.onnx: a network of PyTorch, or in a .onnx file, by ONNX Runtime alone."""

import numpy as np
import os
from numpy.typing import NDArray
from pathlib import Path
from runtime import card as cards
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # otherwise ONNX Runtime reports to Microsoft
import onnxruntime

DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}


def session(file: Path | bytes) -> onnxruntime.InferenceSession:
    """Load a network, with one thread, since there are several workers. Raises ValueError if it does not load."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own types have no other base
        raise ValueError(" ".join(str(error).split())) from error


class Engine:
    """The network in a file. Raises OSError or ValueError if it cannot be loaded."""

    def __init__(self, path: Path) -> None:
        self.session = session(path.read_bytes())  # read into memory, so that the file may be replaced
        said = self.session.get_modelmeta().custom_metadata_map.get("card")
        if said is None:
            raise ValueError(cards.OLDER)
        self.card = cards.read(said)
        self.input, self.output = self.session.get_inputs()[0], self.session.get_outputs()[self.card.output]
        if self.input.type not in DTYPES:
            raise ValueError(f"its input is a {self.input.type}")
        self.dtype: Any = DTYPES[self.input.type]
        self.quantization: tuple[float, int] = (0.0, 0)

    def run(self, x: NDArray) -> NDArray:
        """Return the outputs for an input: (n,) float32. Raises RuntimeError."""
        try:
            (values,) = self.session.run([self.output.name], {self.input.name: x})
        except Exception as error:  # as above
            raise RuntimeError(" ".join(str(error).split())) from error
        return np.asarray(values, np.float32).ravel()
