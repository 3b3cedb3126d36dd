"""Open a network in a .onnx file, and write it as the service's model.onnx."""

import onnx
from collections.abc import Callable
from export.task import Refusal, Source, chosen, first_line
from google.protobuf.message import EncodeError
from numpy.typing import NDArray
from onnx.helper import set_model_props
from pathlib import Path
from runtime import card as cards
from runtime.onnx import DTYPES, session

MOST = 2**31 - 1  # bytes of a .onnx file
LITERTS = {"Softmax": "SOFTMAX", "LogSoftmax": "LOG_SOFTMAX", "Sigmoid": "LOGISTIC", "Relu": "RELU"}  # names of steps
LITERTS |= {"Gemm": "FULLY_CONNECTED", "MatMul": "BATCH_MATMUL", "Conv": "CONV_2D", "Add": "ADD"}
PASSING = {"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Transpose", "ReduceMean", "Dropout"}
PASSING |= {"GlobalAveragePool", "QuantizeLinear", "DequantizeLinear"}


def pack(path: Path, network: bytes, card: cards.Card) -> None:
    """Write a network with its card. The same network gives the same file."""
    model = onnx.load_from_string(network)
    set_model_props(model, {"card": cards.write(card), "labels": "\n".join(card.labels)})
    path.write_bytes(model.SerializeToString(deterministic=True))


def opened(path: Path, output: str | None) -> Source:
    """Return the network in a file."""
    content = whole(path)
    try:
        loaded = session(content)
    except ValueError as error:
        raise Refusal(f"ONNX Runtime cannot run it ({first_line(error)})") from error
    name = loaded.get_inputs()[0].name if loaded.get_inputs() else ""

    def run(x: NDArray) -> NDArray:
        return loaded.run(None, {name: x})[index]

    source = source_of(content, run, output)
    index = source.output
    return source


def whole(path: Path) -> bytes:
    """Return a file with the weights that lie beside it."""
    try:
        model = onnx.load(path)
    except Exception as error:  # of protobuf, of onnx, of the system
        problem = first_line(error).rpartition("] ")[2]
        raise Refusal(f"{path} cannot be read, with the weights that lie in its own folder ({problem})") from error
    try:
        if model.ByteSize() > MOST:
            raise EncodeError
        return model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise Refusal(f"{path} has over 2 GB, which a .onnx file cannot hold: store its weights as float16") from error


def source_of(content: bytes, run: Callable[[NDArray], NDArray], output: str | None, loss: str = "") -> Source:
    """Return a network in ONNX that `run` answers for, or refuse it."""
    loaded = session(content)
    inputs, outputs = loaded.get_inputs(), loaded.get_outputs()
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise Refusal(f"it has {len(inputs)} inputs ({names}), and one picture is all that comes in")
    if inputs[0].type not in DTYPES:
        raise Refusal(f"its input is a {inputs[0].type}, and pixels are numbers")
    first, *shape = [size if isinstance(size, int) else None for size in inputs[0].shape] or [None]
    if first not in (None, 1):
        raise Refusal(f"it takes {first} pictures at a time: export it with a first axis of 1")

    def unchanged(_: list[int], quantize: bool) -> bytes:
        if quantize:
            raise Refusal("a .onnx file keeps the weights that it has: leave out `quantize`")
        return content

    return Source(
        shape=tuple(shape),
        run=run,
        convert=unchanged,
        last_step=last_step,
        pack=pack,
        ends=lambda content: (0, 255) if inputs[0].type == "tensor(uint8)" else None,
        loss=loss,
        output=chosen([each.name for each in outputs], output),
        suffix=".onnx",
    )


def last_step(content: bytes, output: int) -> str:
    """Return the name of the step that makes an output, as LiteRT names it."""
    graph = onnx.load_from_string(content).graph
    made = {name: node for node in graph.node for name in node.output}
    name = graph.output[output].name
    while step := made.get(name):
        if step.op_type not in PASSING:
            return LITERTS.get(step.op_type, step.op_type)
        name = step.input[0]
    return "nothing"
