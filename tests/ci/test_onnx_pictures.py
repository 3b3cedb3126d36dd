"""image_classification serves .onnx files with the answers of the notebook, or says in one sentence why not.

torch_networks/ holds small networks of PyTorch, torchvision, timm, Hugging Face and fastai, and what they answered.
"""

import contextlib
import json
import numpy as np
import onnx
import pytest
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from examples import docker
from helpers import copy_of, python
from onnx import TensorProto, helper
from pathlib import Path
from support import torch_networks
from support.inprocess import service
from support.torch_networks import CASES, EXAMPLE, NETWORKS, modules
from types import SimpleNamespace
from typing import Any
from unittest import mock

folder = torch_networks.folder


@pytest.fixture(scope="module", autouse=True)
def ours() -> Iterator[SimpleNamespace]:
    yield from modules("export", "export.onnx_file", "export.transform", "runtime")


@contextlib.contextmanager
def served(model: Path, tmp_path: Path) -> Iterator[Any]:
    copy = copy_of("image_classification", tmp_path / "copy")
    shutil.copy(model, copy)
    with service(copy) as client:
        yield client


@pytest.mark.parametrize("name", CASES)
def test_a_network_of_pytorch_is_served_with_its_own_answers(ours, name, folder, tmp_path, capsys):
    case = CASES[name]
    assert (NETWORKS / f"{name}.onnx").stat().st_size < 200_000
    ours.export(NETWORKS / f"{name}.onnx", case["labels"], tmp_path / "model.onnx", **case["options"])
    way = capsys.readouterr().out.splitlines()[-1]
    way, _, compared = way.rpartition(": ")
    assert compared == "not compared with your notebook"
    with served(tmp_path / "model.onnx", tmp_path) as client:
        health = client.get("/healthz").json
        assert list(health) == ["status", "version", "input", "proof"]
        assert (health["status"], health["input"]) == ("ok", way)
        assert re.fullmatch(
            r"The file gives the network's own answers: compared on \d+ pictures, random ones included, largest "
            r"difference \S+\. It was not compared with the notebook's own predictions\.",
            health["proof"],
        )
        assert f"input: {way}</p>" in client.get("/").text
        for path, want in case["answers"].items():
            answer = client.post("/predict", data=(folder / path).read_bytes()).json
            assert answer["probabilities"] == pytest.approx(dict(zip(case["labels"], want, strict=True)), abs=0.01)
            if case["options"]["task"] == "several-logits":
                likely = [label for label, share in answer["probabilities"].items() if share >= 0.5]
                assert answer["prediction"] == likely


def test_the_card_is_a_property_of_the_file(ours, tmp_path):
    case = CASES["state"]
    for name in ("model.onnx", "again.onnx"):
        ours.export(NETWORKS / "state.onnx", case["labels"], tmp_path / name, **case["options"])
    assert (tmp_path / "model.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()
    properties = {each.key: each.value for each in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert properties["labels"].split("\n") == case["labels"]
    assert json.loads(properties["card"])["resize"] == "pil-bilinear"
    assert onnx.checker.check_model(tmp_path / "model.onnx") is None


def test_one_model_file_is_served(ours, tmp_path):
    copy = copy_of("image_classification", tmp_path)
    for there in ((), ("model.tflite", "model.onnx")):
        for name in there:
            (copy / name).touch()
        with pytest.raises(SystemExit, match=r"model\.tflite and model\.onnx"), service(copy):
            pass
    with pytest.raises(ValueError, match="older export"):
        ours.runtime.Network(NETWORKS / "state.onnx")


def small(inputs: dict[str, list], steps: list | None = None, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Return a network that answers the mean of each channel."""
    take = [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()]
    give = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, None])]
    first = next(iter(inputs))
    steps = steps or [
        helper.make_node("GlobalAveragePool", [first], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["scores"]),
    ]
    graph = helper.make_graph(steps, "small", take, give)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def external(folder: Path, location: str) -> Path:
    """Write a network whose weight lies in another file, which is not there."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [3], [1, 2, 3])
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", "12")):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    steps = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Mul", ["flat", "weight"], ["scores"]),
    ]
    model = small({"x": [1, 3, 8, 8]}, steps)
    model.graph.initializer.append(weight)
    (folder / "network.onnx").write_bytes(model.SerializeToString())
    return folder / "network.onnx"


SQUARE = {"x": [1, 3, 8, 8]}
OWN = [helper.make_node("Magic", ["x"], ["scores"], domain="own")]
MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], dict, str]] = {
    "how it was resized": (lambda: small(SQUARE), {"resize": None}, "--resize"),
    "the range": (lambda: small(SQUARE), {"range": None}, "--range"),
    "what the scores are": (lambda: small(SQUARE), {"task": None}, "--task"),
    "a batch of 4": (lambda: small({"x": [4, 3, 8, 8]}), {}, "4 pictures at a time"),
    "two inputs": (lambda: small(SQUARE | {"age": [1, 1]}), {}, "2 inputs (x, age)"),
    "any size": (lambda: small({"x": [1, 3, "height", "width"]}), {}, "--size"),
    "an input of texts": (lambda: small(SQUARE, OWN, TensorProto.STRING), {}, "Magic"),
    "a step of its own": (lambda: small(SQUARE, OWN), {}, "Magic"),
    "8 bits": (lambda: small(SQUARE), {"quantize": True}, "`quantize`"),
    "a .tflite of it": (lambda: small(SQUARE), {"path": "model.tflite"}, "must end in .onnx"),
    "a crop of a padded picture": (lambda: small(SQUARE), {"fit": "pad", "crop": 0.9}, "`crop` goes with"),
    "a crop of more": (lambda: small(SQUARE), {"crop": 1.5}, "such as 0.875"),
    "no way to fit": (lambda: small(SQUARE), {"fit": "squash"}, "choose `fit`"),
    "cropped exactly": (lambda: small(SQUARE), {"resize": "cv2-area", "fit": "crop-exact"}, "pil-"),
    "not resized and padded": (lambda: small(SQUARE), {"resize": "none", "fit": "pad"}, "`resize` none"),
}


@pytest.mark.parametrize("name", MODELS)
def test_it_asks_or_refuses_in_one_sentence(ours, name, tmp_path, monkeypatch):
    make, options, wanted = MODELS[name]
    (tmp_path / "network.onnx").write_bytes(make().SerializeToString())
    monkeypatch.chdir(tmp_path)
    given = {"range": "0..1", "resize": "pil-bilinear", "task": "logits"} | options
    with pytest.raises(SystemExit) as error:
        ours.export("network.onnx", ["a", "b", "c"], **given)
    assert wanted in str(error.value)
    assert str(error.value).startswith("This network cannot be served: ")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("model.*"))


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/tmp/weights.bin"])
def test_weights_outside_the_folder_are_refused(ours, location, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(np.ones(3, np.float32).tobytes())
    with pytest.raises(SystemExit, match="cannot be read, with the weights that lie in its own folder"):
        ours.export(external(folder, location), ["a", "b", "c"], folder / "model.onnx")


def test_weights_in_the_folder_become_part_of_the_file(ours, tmp_path):
    (tmp_path / "weights.bin").write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    options = {"range": "0..1", "resize": "pil-bilinear", "task": "logits"}
    ours.export(external(tmp_path, "weights.bin"), ["a", "b", "c"], tmp_path / "model.onnx", **options)
    (tmp_path / "weights.bin").unlink()
    grey = np.full((8, 8, 3), 255, np.float32)
    assert ours.runtime.Network(tmp_path / "model.onnx").outputs(grey).tolist() == [1, 2, 3]


def test_a_file_that_is_too_large_or_none(ours, tmp_path):
    (tmp_path / "network.onnx").write_bytes(small(SQUARE).SerializeToString())
    with mock.patch.object(ours.onnx_file, "MOST", 10), pytest.raises(SystemExit, match="over 2 GB"):
        ours.export(tmp_path / "network.onnx", ["a", "b", "c"])
    (tmp_path / "network.onnx").write_bytes(b"nothing")
    with pytest.raises(SystemExit, match="cannot be read"):
        ours.export(tmp_path / "network.onnx", ["a", "b", "c"])


def test_whoever_lacks_torch_gets_a_sentence(ours, tmp_path):
    (tmp_path / "network.pt").write_bytes(b"nothing")
    with mock.patch.dict(sys.modules, {"torch": None}), pytest.raises(SystemExit, match=r"requirements-torch\.in"):
        ours.export(tmp_path / "network.pt", ["a", "b"])


def step(name: str, **fields: Any) -> Any:
    return type(name, (SimpleNamespace,), {})(**fields)


BILINEAR = SimpleNamespace(value="bilinear")
RESIZE = {"max_size": None, "interpolation": BILINEAR}
TRANSFORMS: dict[str, tuple[Any, dict | str]] = {
    "torchvision": (
        [step("Resize", size=256, **RESIZE), step("CenterCrop", size=(224, 224)), step("ToTensor")],
        {"size": (224, 224), "resize": "pil-bilinear", "fit": "crop", "crop": 0.875, "range": "mean 0 scale 255"},
    ),
    "a square": (
        [step("Resize", size=(8, 8), **RESIZE), step("ToTensor"), step("Normalize", mean=[0.5], std=[0.25])],
        {"size": (8, 8), "resize": "pil-bilinear", "fit": "stretch", "range": "mean 127.5 scale 63.75"},
    ),
    "the middle": (
        [step("CenterCrop", size=96), step("PILToTensor")],
        {"size": (96, 96), "resize": "none", "fit": "crop", "range": "mean 0 scale 1"},
    ),
    "augmented": ([step("RandomCrop", size=8), step("ToTensor")], "the one that you use to predict"),
    "a step of one's own": ([step("Lambda")], "Lambda"),
    "a short side alone": ([step("Resize", size=8, **RESIZE), step("ToTensor")], "cuts nothing"),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_is_read_or_refused(ours, name):
    steps, wanted = TRANSFORMS[name]
    if isinstance(wanted, str):
        with pytest.raises(ours.transform.Refusal, match=wanted):
            ours.transform.read(step("Compose", transforms=steps))
    else:
        assert ours.transform.read(step("Compose", transforms=steps)) == wanted


@pytest.mark.docker
def test_the_model_file_chooses_the_packages(tmp_path):
    """The build installs one runtime, and ends with a sentence where both model files are there, or none."""
    copy = copy_of("image_classification", tmp_path / "copy")
    chosen = ["docker", "build", "--quiet", "--target", "chosen", "--tag", "chosen-runtime", copy]
    for there, wanted in [
        ((), "There is no model.tflite or model.onnx here"),
        (("model.tflite", "model.onnx"), "There are model.tflite and model.onnx here"),
    ]:
        for name in there:
            (copy / name).touch()
        build = subprocess.run(chosen, capture_output=True, text=True, timeout=300)
        assert build.returncode
        assert wanted in build.stderr
    for other, runtime in [("model.tflite", "onnxruntime"), ("model.onnx", "ai-edge-litert")]:
        (copy / other).rename(tmp_path / other)
        docker("build", *chosen[2:])
        listed = docker("run", "--rm", "--network", "none", "chosen-runtime", "cat", "requirements.txt")
        assert [name for name in ("onnxruntime", "ai-edge-litert") if f"\n{name}==" in listed] == [runtime]
        (tmp_path / other).rename(copy / other)


def test_the_command_exports_it_without_tensorflow(ours, tmp_path):
    (tmp_path / "labels.txt").write_text("0 a\n1 b\n2 c\n")
    (tmp_path / "network.onnx").write_bytes(small(SQUARE).SerializeToString())
    options = ["--labels", tmp_path / "labels.txt", "--range", "-1..1", "--resize", "pil-bilinear", "--task", "logits"]
    command = [python("ci"), "-m", "export", tmp_path / "network.onnx", *options, "--path", tmp_path / "model.onnx"]
    run = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, timeout=60, check=True)
    assert "numbers its labels" in run.stdout
    assert run.stdout.splitlines()[-1] == "-1..1, RGB, pil-bilinear, stretched: not compared with your notebook"
    assert ours.runtime.Network(tmp_path / "model.onnx").card.labels == ("a", "b", "c")


def test_the_options_of_the_readme_are_there():
    table = (EXAMPLE / "README.md").read_text().split("| your notebook says | options |")[1].split("\n\n")[0]
    given = re.findall(r"--(\w+)(?: (\"[^\"]+\"|[^\s`]+))?", table)
    assert len(given) > 20
    command = [python("ci"), "-m", "export", "--help"]
    lines = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, timeout=60, check=True).stdout
    for option, value in given:
        assert f"--{option}" in lines
        if choices := re.search(rf"--{option} {{(.+?)}}", lines):
            assert value in choices[1].split(",")
