"""Open a trained network, wherever it came from, and convert it to LiteRT.

Keras networks are traced as for predictions, so layers that act in training only leave nothing behind.
"""

import contextlib
import h5py
import importlib
import json
import keras
import numpy as np
import os
import re
import tensorflow as tf
import zipfile
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from collections.abc import Iterator
from export.task import Refusal, Source, chosen, first_line
from numpy.typing import NDArray
from pathlib import Path
from runtime.card import Card, write
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from typing import Any

SCALING = {"Mul", "Sub", "AddV2", "Add", "RealDiv", "Cast", "Identity", "BiasAdd", "ReverseV2", "StridedSlice", "Neg"}
SCALING |= {"ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic"}


PASSING = {"RESHAPE", "SQUEEZE", "CAST", "QUANTIZE", "DEQUANTIZE", "MEAN", "AVERAGE_POOL_2D", "TRANSPOSE"}


def opened(network: Any, output: str | None) -> Source:
    """Return a network, or the one in a file."""
    if not isinstance(network, str | Path):
        return keras_source(network, output)
    path = Path(network)
    try:
        if path.is_dir():
            return saved_model_source(path, output)
        if path.suffix == ".tflite":
            return tflite_source(path, output)
        if path.suffix in (".keras", ".h5", ".hdf5"):
            return keras_source(load_keras(path), output)
    except (OSError, zipfile.BadZipFile) as error:
        raise Refusal(f"{path} cannot be read ({first_line(error)})") from error
    if not path.exists():
        raise Refusal(f"there is no {path}")
    raise Refusal(f"{path} is none of .keras, .h5, .tflite, .onnx, PyTorch's .pt, .pth and .pkl, or a SavedModel")


def load_keras(path: Path) -> Any:
    """Load a file of Keras 3, or by the package tf_keras one of Keras 2."""
    if h5py.is_hdf5(path):
        with h5py.File(path) as file:
            version, has_network = str(file.attrs.get("keras_version", "3")), "model_config" in file.attrs
    else:
        with zipfile.ZipFile(path) as archive:
            version, has_network = json.loads(archive.read("metadata.json"))["keras_version"], True
    if not has_network:
        raise Refusal(f"{path} holds weights alone: load them into the network, and call export() from Python")
    # Keras 2 is imported only for its files
    library: Any = importlib.import_module("tf_keras") if version.startswith(("1", "2")) else keras
    problem = None
    for compiled in (True, False):  # a loss of one's own is no reason to refuse the network
        try:
            return library.models.load_model(path, compile=compiled)
        except Exception as error:  # Keras raises a dozen unrelated types
            problem = first_line(error)
    raise Refusal(
        f"Keras {version} cannot load {path} without its code ({problem}): a network with Lambda or own layers is "
        "exported by export(network, labels), in Python, where they are defined"
    )


def keras_source(network: Any, output: str | None) -> Source:
    """Return a Keras network, of version 3 or 2."""
    inputs = getattr(network, "inputs", None)
    if not callable(getattr(network, "predict", None)):
        raise Refusal(f"{type(network).__name__} is neither a Keras network nor the path of a file")
    if not inputs:
        raise Refusal(
            "it does not say what it takes, so give it an input: "
            "`image = keras.Input((height, width, 3))`, then export `keras.Model(image, network(image))`"
        )
    if len(inputs) > 1:
        all_inputs = ", ".join(str(each.name) for each in inputs)
        raise Refusal(f"it has {len(inputs)} inputs ({all_inputs}), and one picture is all that comes in")
    structure = getattr(network, "output", None)  # a Sequential that was never called has none
    named = list(getattr(network, "output_names", ["output"]))
    names = list(structure) if isinstance(structure, dict) else named
    index = chosen(names, output)
    key = names[index]

    def pick(values: Any) -> Any:
        if isinstance(values, dict):
            return values[key]
        return values[index] if isinstance(values, list | tuple) else values

    function = tf.function(lambda x: pick(network(x, training=False)))
    empty = tf.Module()  # The converter saves this object. To save the network, too, would only take time.
    losses = getattr(network, "loss", None)
    loss = losses.get(key) if isinstance(losses, dict) else losses
    name = loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", "")
    kind = tf.as_dtype(getattr(inputs[0].dtype, "name", inputs[0].dtype))
    return Source(
        shape=tuple(inputs[0].shape[1:]),
        run=lambda x: np.asarray(pick(network.predict_on_batch(x))),
        convert=lambda shape, quantize: convert(function, empty, tf.TensorSpec(shape, kind), quantize),
        loss=str(name),
        rescaling=lambda shape: first_steps(function.get_concrete_function(tf.TensorSpec(shape, kind)), shape),
        last_step=last_step,
        ends=ends,
        pack=pack,
        says=resizing(network),
    )


def saved_model_source(path: Path, output: str | None) -> Source:
    """Return the signature "serving_default" of a SavedModel."""
    loaded = tf.saved_model.load(str(path))
    signatures = getattr(loaded, "signatures", {})
    if not signatures:
        raise Refusal(f"{path} has no signature to serve: save it by Keras's network.export()")
    if len(signatures) > 1 and "serving_default" not in signatures:
        raise Refusal(f"{path} has the signatures {', '.join(signatures)}: save the one to serve as serving_default")
    signature = signatures["serving_default" if "serving_default" in signatures else min(signatures)]
    inputs = signature.structured_input_signature[1]
    if len(inputs) != 1:
        raise Refusal(f"it has {len(inputs)} inputs ({', '.join(inputs)}), and one picture is all that comes in")
    ((name, spec),) = inputs.items()
    names = sorted(signature.structured_outputs)
    key = names[chosen(names, output)]
    function = tf.function(lambda x: signature(**{name: x})[key])
    if spec.shape.rank is None:
        raise Refusal("it does not say the shape of its input")
    return Source(
        shape=tuple(spec.shape.as_list()[1:]),
        run=lambda x: function(tf.constant(x)).numpy(),
        convert=lambda shape, quantize: convert(function, loaded, tf.TensorSpec(shape, spec.dtype), quantize),
        rescaling=lambda shape: first_steps(function.get_concrete_function(tf.TensorSpec(shape, spec.dtype)), shape),
        last_step=last_step,
        ends=ends,
        pack=pack,
    )


def tflite_source(path: Path, output: str | None) -> Source:
    """Return a network in a .tflite file, without what is packed at its end."""
    content = path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            content = content[: min(entry.header_offset for entry in archive.infolist())]
    try:
        interpreter = Interpreter(model_content=content)
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    except ValueError as error:
        raise Refusal(f"{path} cannot be read ({first_line(error)})") from error
    if len(inputs) != 1:
        raise Refusal(f"it has {len(inputs)} inputs, and one picture is all that comes in")

    def run(x: NDArray) -> NDArray:
        interpreter.resize_tensor_input(inputs[0]["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(inputs[0]["index"], x)
        interpreter.invoke()
        value, (scale, zero) = interpreter.get_tensor(outputs[index]["index"]), outputs[index]["quantization"]
        return (value.astype(np.float32) - zero) * scale if scale else value

    def unchanged(_: list[int], quantize: bool) -> bytes:
        if quantize:
            raise Refusal("a .tflite file keeps the weights that it has: leave out `quantize`")
        return content

    index = chosen([each["name"] for each in outputs], output)
    signature = inputs[0]["shape_signature"].tolist()
    shape = tuple(None if size < 0 else size for size in signature[1:])
    return Source(shape=shape, run=run, convert=unchanged, output=index, last_step=last_step, ends=ends, pack=pack)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what TensorFlow's C++ prints: pages about a step that it cannot convert."""
    saved = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def convert(function: Any, owner: Any, spec: Any, quantize: bool) -> bytes:
    """Return a TensorFlow function as a LiteRT file. It is traced as for predictions, without training-only layers.

    `owner` is the object that holds the function's resources. Its weights are not among them: they become constants.
    """
    try:
        with quiet():
            frozen = convert_variables_to_constants_v2(function.get_concrete_function(spec))
            converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], owner)
            converter.optimizations = [tf.lite.Optimize.DEFAULT] if quantize else []
            return converter.convert()
    except Exception as error:  # TensorFlow raises a dozen unrelated types
        steps = sorted(set(re.findall(r"tf\.(\w+)\(", str(error)))) or sorted(set(re.findall(r"Flex(\w+)", str(error))))
        if re.search(r"x(b?f16|f64)>", str(error)):
            raise Refusal(
                "its layers calculate in another type than float32 (mixed precision?): build it again with the "
                "policy float32, give it these weights by set_weights(), and call export(network, labels)"
            ) from error
        what = f"no {', '.join(steps)}" if steps else f"no way to run it ({first_line(error)})"
        raise Refusal(f"LiteRT has {what}, so replace them by other layers") from error


def first_steps(function: Any, shape: list[int]) -> tuple[float, float] | None:
    """Return the mean and the scale by which the first steps of a network rescale its input, None if they do not.

    The steps that only add, multiply and so on are run on 0 and on 1: (input - mean) / scale is what comes out.
    """
    graph = convert_variables_to_constants_v2(function).graph
    tensor = graph.get_operations()[0].outputs[0]
    depends = {tensor.ref()}
    for operation in graph.get_operations():  # in an order in which inputs come first
        if any(each.ref() in depends for each in operation.inputs):
            depends |= {each.ref() for each in operation.outputs}
    start = tensor
    while len(users := tensor.consumers()) == 1 and users[0].type in SCALING:
        if sum(each.ref() in depends for each in users[0].inputs) > 1:
            break
        tensor = users[0].outputs[0]
    if tensor is start:
        return None
    step = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph.as_graph_def(), name=""), [])
    step = step.prune(start.name, tensor.name)
    zero, one = (step(tf.cast(tf.fill(shape, value), start.dtype)).numpy().astype(float) for value in (0, 1))
    slope = (one - zero).mean()
    if not slope > 0:
        return None
    return float(-zero.mean() / slope), float(1 / slope)


def resizing(network: Any) -> dict[str, Any]:
    """Return what a Keras network says of resizing: its first layer may do it, for pictures of any size."""
    first = [layer for layer in getattr(network, "layers", []) if type(layer).__name__ != "InputLayer"][:1]
    if not first or type(first[0]).__name__ != "Resizing" or tuple(network.inputs[0].shape[1:3]) != (None, None):
        return {}
    layer = first[0]
    if layer.interpolation not in ("bilinear", "bicubic", "nearest") or getattr(layer, "pad_to_aspect_ratio", False):
        return {}
    fit = "crop" if getattr(layer, "crop_to_aspect_ratio", False) else "stretch"
    return {"size": (layer.height, layer.width), "resize": layer.interpolation, "fit": fit}


def ends(content: bytes) -> tuple[float, float] | None:
    """Return what the lowest and the highest number of an input of 8 bits stand for."""
    details = Interpreter(model_content=content).get_input_details()[0]
    if details["quantization"][0]:
        limits, (scale, zero) = np.iinfo(details["dtype"]), details["quantization"]
        return (limits.min - zero) * scale, (limits.max - zero) * scale
    return (0, 255) if details["dtype"] == np.uint8 else None


def last_step(content: bytes, output: int) -> str:
    """Return the name of the step that makes an output, and of the function that is part of it, as RELU."""
    model = schema.ModelT.InitFromPackedBuf(content)
    graph = model.subgraphs[0]
    made = {int(tensor): step for step in graph.operators for tensor in step.outputs}
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    tensor = int(graph.outputs[output])
    while step := made.get(tensor):
        code = model.operatorCodes[step.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if name not in PASSING:
            return "RELU" if getattr(step.builtinOptions, "fusedActivationFunction", 0) else name
        tensor = int(step.inputs[0])
    return "nothing"


def pack(path: Path, network: bytes, card: Card) -> None:
    """Write a network with its card. The same network gives the same file, because a ZipInfo has a fixed date."""
    path.write_bytes(network)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo("labels.txt"), "".join(f"{label}\n" for label in card.labels))
        archive.writestr(zipfile.ZipInfo("card.json"), write(card))
