"""What one watches: the metrics that Granian exports, and a health check that asks the model."""

import contextlib
import flatbuffers
import numpy as np
import onnx
import pytest
import requests
import subprocess
import time
from ai_edge_litert import schema_py_generated as tflite
from collections.abc import Callable
from conftest import EXAMPLES, ROOT, assert_problem, container, docker, free_port, process
from pathlib import Path
from prometheus_client.parser import text_string_to_metric_families
from zipfile import ZipFile

PATIENCE = 60  # seconds


def wait_for(what: Callable[[], bool]) -> None:
    """Return once `what()` is true; until then a request may fail, or be left without an answer."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.RequestException):
            if what():
                return
        time.sleep(0.1)
    pytest.fail(f"not so within {PATIENCE} s")


def metric(port: int, name: str) -> dict[str, float]:
    """Return a metric's value for each worker; nothing as long as none has been collected."""
    answer = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    families = {family.name: family.samples for family in text_string_to_metric_families(answer.text)}
    return {sample.labels["worker"]: sample.value for sample in families.get(name, [])}


def test_metrics_count_every_request_of_every_worker(place, built):
    port = free_port()
    settings = {"GRANIAN_METRICS_ENABLED": "1", "GRANIAN_METRICS_SCRAPE_INTERVAL": "1", "GRANIAN_WORKERS": "2"}
    server: contextlib.AbstractContextManager
    if place == "process":
        server = process("hello_world", **settings, GRANIAN_METRICS_PORT=str(port))
    else:
        settings |= {"GRANIAN_METRICS_ADDRESS": "0.0.0.0"}
        options = [part for name, value in settings.items() for part in ("--env", f"{name}={value}")]
        options += ["--no-healthcheck", "--publish", f"127.0.0.1:{port}:9090"]
        server = container(built("hello_world"), *options)
    with server as (url, _):  # to see that it started, one request has been answered
        for _ in range(20):
            assert requests.get(url, timeout=10).ok
        wait_for(lambda: sum(metric(port, "granian_requests_handled").values()) == 1 + 20)
        wait_for(lambda: set(metric(port, "granian_connections_active")) == {"1", "2"})


@pytest.mark.parametrize("example", EXAMPLES)
def test_beside_metrics_workers_are_spawned(example):
    """A fork beside the threads of Granian's metrics now and then left a worker that answers nothing."""
    with process(example, GRANIAN_METRICS_ENABLED="1", GRANIAN_METRICS_PORT=str(free_port())) as (url, server):
        workers = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        commands = [Path(f"/proc/{worker}/cmdline").read_text() for worker in workers]
        assert sum("from multiprocessing.spawn import" in command for command in commands) == 2
        assert requests.get(url, timeout=10).ok


def onnx_that_fails(path: Path) -> None:
    """Change the model of simple_ml: it loads, and looks for a row that is not there once it runs."""
    model = onnx.load(ROOT / "simple_ml" / "model.onnx")
    first = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["lost" if name == first else name for name in node.input]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([10**6]), "far"))
    model.graph.node.insert(0, onnx.helper.make_node("Gather", [first, "far"], ["lost"], axis=0))
    onnx.save(model, path)


def tflite_that_fails(path: Path) -> None:
    """Write a network of one step, in the place of image_classification's: it, too, looks for what is not there."""

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
        file.writestr("labels.txt", "\n".join("0123456789"))


@pytest.mark.docker
@pytest.mark.parametrize(
    ("example", "model", "break_it", "body", "reason"),
    [
        (
            "simple_ml",
            "model.onnx",
            onnx_that_fails,
            b'{"f1": 4, "f2": 5, "f3": 10}',
            "indices element out of data bounds",
        ),
        (
            "image_classification",
            "model.tflite",
            tflite_that_fails,
            (ROOT / "image_classification" / "samples" / "seven.png").read_bytes(),
            "gather index out of bounds",
        ),
    ],
    ids=["simple_ml", "image_classification"],
)
def test_a_model_that_cannot_answer_is_unhealthy(built, tmp_path, example, model, break_it, body, reason):
    break_it(tmp_path / model)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    at_once = ["--health-interval=1s", "--health-start-period=1ms", "--health-retries=1"]
    name = docker("create", "--publish", f"127.0.0.1:{port}:5000", *at_once, built(example))
    try:
        docker("cp", tmp_path / model, f"{name}:/app/{model}")
        docker("start", name)
        wait_for(lambda: requests.get(url, timeout=10).ok)
        assert_problem(requests.get(f"{url}/healthz", timeout=10), 500)
        assert_problem(requests.post(f"{url}/predict", data=body, timeout=10), 500)
        wait_for(lambda: "HTTP Error 500" in docker("inspect", "--format", "{{json .State.Health.Log}}", name))
        wait_for(lambda: docker("inspect", "--format", "{{.State.Health.Status}}", name) == "unhealthy")
        logs = subprocess.run(["docker", "logs", name], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert reason in logs.stdout
    finally:
        docker("rm", "--force", name)
