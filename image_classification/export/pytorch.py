"""Convert a network of PyTorch to ONNX: a module, TorchScript, a learner of fastai, or a file with one of them."""

import contextlib
import copy
import io
import logging
import pickle
import torch
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from export import onnx_file
from export.task import Refusal, Source, chosen, first_line
from export.transform import of_learner
from numpy.typing import NDArray
from pathlib import Path
from typing import Any

LOSSES = {"crossentropy": "categorical_crossentropy", "bce": "binary_crossentropy"}  # as Keras names them


@dataclass(frozen=True)
class Found:
    """A network, and what the file or the object says besides."""

    module: torch.nn.Module
    labels: tuple[str, ...] = ()
    loss: str = ""
    says: Mapping[str, Any] | None = None


def is_network(thing: Any) -> bool:
    return isinstance(thing, torch.nn.Module) or is_learner(thing)


def is_learner(thing: Any) -> bool:
    return isinstance(getattr(thing, "model", None), torch.nn.Module) and hasattr(thing, "dls")


def found(thing: Any) -> Found:
    """Return the network of a module or of a learner."""
    if not is_learner(thing):
        return Found(thing)
    name = type(getattr(thing.loss_func, "func", thing.loss_func)).__name__.lower()
    loss = next((keras for torchs, keras in LOSSES.items() if torchs in name), "")
    vocab = getattr(thing.dls, "vocab", None) or ()
    return Found(thing.model, tuple(map(str, vocab)), loss, of_learner(thing.dls))


def load(path: Path, trust: bool) -> Any:
    """Return the network in a file: TorchScript, or, if the file is trusted, a pickle."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any("/code/" in name for name in archive.namelist()):
                try:
                    with quiet():
                        return torch.jit.load(path, "cpu")
                except RuntimeError as error:
                    raise Refusal(f"{path} cannot be read as TorchScript ({first_line(error)})") from error
    try:
        torch.load(path, "cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        if isinstance(error, RuntimeError | EOFError | OSError | ValueError) and not trust:
            raise Refusal(f"{path} cannot be read ({first_line(error)})") from error
    else:
        raise Refusal(
            f"{path} holds weights alone: make the network, then `network.load_state_dict(torch.load({path.name!r}, "
            "weights_only=True))`, and call export(network, labels) from Python"
        )
    if not trust:
        raise Refusal(
            f"{path} is a pickle, and opening it runs the code in this file: if you trust where it is from, add --trust"
        )
    try:
        thing = torch.load(path, "cpu", weights_only=False)
    except Exception as error:  # whatever the code in it raises
        raise Refusal(
            f"{path} cannot be opened ({first_line(error)}): put the .py file of its class into this folder, or call "
            "export(network, labels) where the class is defined"
        ) from error
    if not is_network(thing):
        raise Refusal(
            f"{path} holds a {type(thing).__name__}, and no network: call export(network, labels) from Python"
        )
    return thing


class OneOutput(torch.nn.Module):
    """A network that returns one tensor, of those that it has."""

    def __init__(self, module: torch.nn.Module, key: Any) -> None:
        super().__init__()
        self.module, self.key = module, key

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = self.module(x)
        return values if self.key is None else values[self.key]


def opened(thing: Any, output: str | None, size: tuple[int, int] | None) -> tuple[Source, tuple[str, ...]]:
    """Return a network of PyTorch as a source of ONNX, and the labels that it says itself.

    PyTorch does not say the size of the input, so it must be given, or be said by a learner or a transform.
    """
    network = found(thing)
    says = dict(network.says or {})
    size = size or says.get("size")
    with quiet():
        module = copy.deepcopy(network.module).cpu().float().eval()
    channels = next((each.shape[1] for each in module.parameters() if each.dim() == 4 and each.shape[1] in (1, 3)), 3)
    if size is None:
        raise Refusal("PyTorch does not say the size of the input: say it by `size` (--size 224 or 180x240)")
    example = torch.rand((1, channels, *size))
    with torch.no_grad():
        try:
            values = module(example)
        except Exception as error:
            raise Refusal(f"it does not take a picture {tuple(example.shape)} ({first_line(error)})") from error
    key: Any = None
    if isinstance(values, Mapping):
        names = [name for name, value in values.items() if isinstance(value, torch.Tensor)]
        key = "logits" if output is None and "logits" in names else names[chosen(names, output)]
    elif isinstance(values, tuple | list):
        key = chosen([f"{number}" for number in range(len(values))], output)
    one = OneOutput(module, key)

    def run(x: NDArray) -> NDArray:
        with torch.no_grad():
            return one(torch.from_numpy(x)).numpy()

    if isinstance(module, torch.jit.ScriptModule):  # it cannot be traced inside another one
        source = onnx_file.source_of(
            to_onnx(module, example), run, None if key is None else f"output{key}", network.loss
        )
    else:
        source = onnx_file.source_of(to_onnx(one, example), run, None, network.loss)
    return source._replace(says=says), network.labels


def to_onnx(module: torch.nn.Module, example: torch.Tensor) -> bytes:
    """Return a module as ONNX: by the exporter of torch.export, or else, as TorchScript always, by the older one."""
    problem = ""
    with torch.no_grad():
        values = module(example)
    count = len(values) if isinstance(values, tuple | list) else 1
    names = {"input_names": ["picture"], "output_names": [f"output{number}" for number in range(count)]}
    for dynamo in [False] if isinstance(module, torch.jit.ScriptModule) else [True, False]:
        file = io.BytesIO()
        try:
            with quiet():
                torch.onnx.export(module, (example,), file, dynamo=dynamo, **names)
            content = file.getvalue()
            onnx_file.session(content)
            return content
        except Exception as error:  # torch raises a dozen unrelated types
            problem = problem or first_line(error)
    raise Refusal(f"torch.onnx.export cannot convert it ({problem})")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what torch prints: pages about steps and versions."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
