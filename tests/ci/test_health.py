"""The health check of the containers: it asks the model, on the right port, whatever a proxy setting says."""

import flatbuffers
import json
import numpy as np
import onnx
import os
import pytest
import requests
import subprocess
import time
from ai_edge_litert import schema_py_generated as tflite
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from examples import IMAGES, ROOT, SAFE, docker, free_port, inside, request_of
from helpers import assert_problem, eventually
from pathlib import Path
from zipfile import ZipFile

pytestmark = pytest.mark.docker
PROXY = "http://127.0.0.1:9"  # nothing listens there
PORTS = {  # the port that a container listens on, by its environment
    (): 5000,
    ("GRANIAN_PORT=8080",): 8080,
    ("PORT=8080",): 8080,
    ("PORT=8080", "GRANIAN_PORT="): 8080,
    ("PORT=8080", "GRANIAN_PORT=9090"): 9090,
}
CASES = [(example, ()) for example in IMAGES] + [("hello_world", environment) for environment in PORTS if environment]


def health(name: str) -> str:
    return docker("inspect", "--format", "{{.State.Health.Status}}", name)


@pytest.fixture(scope="module")
def behind_a_proxy(image, tmp_path_factory) -> Iterator[dict[tuple, str]]:
    """Start containers with Docker set up for a company's proxy, all at once, and return their ids."""
    folder = tmp_path_factory.mktemp("docker")
    proxies = dict.fromkeys(("httpProxy", "httpsProxy", "ftpProxy", "allProxy"), PROXY)
    (folder / "config.json").write_text(json.dumps({"proxies": {"default": proxies | {"noProxy": "127.0.0.0/8"}}}))
    environment = os.environ | {"DOCKER_CONFIG": str(folder)}
    names = {}
    for example, settings in CASES:
        options = [*SAFE, "--publish", f"127.0.0.1::{PORTS[settings]}", *(f"--env={setting}" for setting in settings)]
        names[example, settings] = docker("run", "--detach", *options, image(example), env=environment)
    yield names
    docker("rm", "--force", *names.values())


@pytest.mark.parametrize(("example", "settings"), CASES, ids=[" ".join([example, *rest]) for example, rest in CASES])
def test_healthy_behind_a_proxy(behind_a_proxy, example, settings):
    name = behind_a_proxy[example, settings]
    assert inside(name, "echo $http_proxy $HTTPS_PROXY $all_proxy") == f"{PROXY} {PROXY} {PROXY}"
    eventually("there is a verdict", lambda: health(name) != "starting")
    assert health(name) == "healthy"
    assert requests.get(f"http://{docker('port', name, str(PORTS[settings]))}/healthz", timeout=10).ok


def onnx_that_fails(path: Path) -> None:
    """Write a changed model of simple_ml: it loads, and fails when it runs, because it looks for a missing row."""
    model = onnx.load(ROOT / "simple_ml" / "model.onnx")
    first = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["lost" if name == first else name for name in node.input]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([10**6]), "far"))
    model.graph.node.insert(0, onnx.helper.make_node("Gather", [first, "far"], ["lost"], axis=0))
    onnx.save(model, path)


def tflite_that_fails(path: Path) -> None:
    """Write a network of one step for image_classification that also loads, and looks for a row that is missing."""

    def tensor(shape: list[int], kind: int, buffer: int = 0) -> tflite.TensorT:
        made = tflite.TensorT()
        made.shape, made.type, made.buffer = shape, kind, buffer
        return made

    model, graph, step, code = tflite.ModelT(), tflite.SubGraphT(), tflite.OperatorT(), tflite.OperatorCodeT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], [code]
    model.buffers = [tflite.BufferT(), tflite.BufferT()]
    model.buffers[1].data = np.full(10, 99, np.int32).view(np.uint8)  # which rows, of 28
    code.builtinCode = code.deprecatedBuiltinCode = tflite.BuiltinOperator.GATHER
    step.builtinOptionsType, step.builtinOptions = tflite.BuiltinOptions.GatherOptions, tflite.GatherOptionsT()
    step.builtinOptions.axis = 1
    floats, integers = tflite.TensorType.FLOAT32, tflite.TensorType.INT32
    graph.tensors = [tensor([1, 28, 28, 1], floats), tensor([10], integers, 1), tensor([1, 10, 28, 1], floats)]
    step.inputs, step.outputs = [0, 1], [2]
    graph.inputs, graph.outputs, graph.operators = [0], [2], [step]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    with ZipFile(path, "a") as file:
        file.writestr("labels.txt", "".join(f"{digit}\n" for digit in range(10)))
        file.writestr("card.json", ZipFile(ROOT / "image_classification" / path.name).read("card.json"))


def test_a_model_that_cannot_answer_is_unhealthy(image, tmp_path):
    example, model, reason = "simple_ml", "model.onnx", "indices element out of data bounds"
    onnx_that_fails(tmp_path / model)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    at_once = ["--health-interval=1s", "--health-start-period=1ms", "--health-retries=1"]
    name = docker("create", "--publish", f"127.0.0.1:{port}:5000", *at_once, image(example))
    try:
        docker("cp", tmp_path / model, f"{name}:/app/{model}")
        docker("start", name)
        eventually("it answers", lambda: requests.get(url, timeout=10).ok)
        assert_problem(requests.get(f"{url}/healthz", timeout=10), 500)
        method, path, body = request_of(example)
        assert_problem(requests.request(method, url + path, data=body, timeout=10), 500)
        eventually("it is unhealthy", lambda: health(name) == "unhealthy")
        logs = subprocess.run(["docker", "logs", name], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert reason in logs.stdout
    finally:
        docker("rm", "--force", name)


def test_a_network_that_cannot_answer_does_not_start(image, tmp_path):
    """image_classification runs its network once before it listens, and says what is wrong."""
    tflite_that_fails(tmp_path / "model.tflite")
    name = docker("create", image("image_classification"))
    try:
        docker("cp", tmp_path / "model.tflite", f"{name}:/app/model.tflite")
        docker("start", name)
        assert docker("wait", name) == "1"
        logs = subprocess.run(["docker", "logs", name], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert "The network does not run: " in logs.stdout
        assert "gather index out of bounds" in logs.stdout
    finally:
        docker("rm", "--force", name)


SLOW = """
import time

def predict(seconds: float) -> float:
    time.sleep(seconds / 2)
    end = time.monotonic() + seconds / 2
    while time.monotonic() < end:
        sum(range(10_000))
    return seconds
"""


def test_a_slow_function_stays_healthy(image, tmp_path):
    """Of passing_arguments, while both workers wait, and then compute: each longer than three checks may take."""
    (tmp_path / "predict.py").write_text(SLOW)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    name = docker("create", "--publish", f"127.0.0.1:{port}:5000", "--health-interval=1s", image("passing_arguments"))
    try:
        docker("cp", tmp_path / "predict.py", f"{name}:/app/predict.py")
        docker("start", name)
        eventually("it is healthy", lambda: health(name) == "healthy")
        seen = set()
        with ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(requests.post, f"{url}/predict", data="28", timeout=90) for _ in range(2)]
            while not all(answer.done() for answer in answers):
                seen.add(health(name))
                time.sleep(0.5)
        assert [answer.result().json() for answer in answers] == [28.0, 28.0]
        assert seen == {"healthy"}
    finally:
        docker("rm", "--force", name)
