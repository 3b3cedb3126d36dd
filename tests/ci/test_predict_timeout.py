"""PREDICT_TIMEOUT: a worker in which a prediction hangs is replaced, and the other worker loses nothing."""

import fcntl
import http.client
import io
import json
import onnx
import os
import pytest
import re
import requests
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, nullcontext
from examples import ROOT, free_port
from helpers import copy_of, eventually, process, python
from onnx import TensorProto, helper
from pathlib import Path
from PIL import Image
from run import SETTINGS
from support.inprocess import service as in_process
from test_attack import workers
from typing import Any
from urllib.parse import urlsplit

PREDICTING = ["passing_arguments", "simple_ml", "image_classification"]
FILE = ROOT / "passing_arguments" / "predict_timeout.py"  # the same in all
SECOND_HANGS = """
import threading
from ai_edge_litert.interpreter import Interpreter

invoke, done = Interpreter.invoke, []

def second_hangs(self):
    if done:
        threading.Event().wait()
    done.append(True)
    invoke(self)

Interpreter.invoke = second_hangs
"""
TIMER = """
import json, predict_timeout, signal, threading

entered, leave = threading.Event(), threading.Event()
seen = []

def see():
    seen.append(signal.getitimer(signal.ITIMER_REAL)[0])

def second():
    with predict_timeout.predict_timeout:
        entered.set()
        leave.wait()

with predict_timeout.predict_timeout:
    see()
    thread = threading.Thread(target=second)
    thread.start()
    entered.wait()
    see()
    if thread.ident in predict_timeout.running:
        predict_timeout.running[thread.ident] -= 10  # as if it had begun so many seconds earlier
see()
leave.set()
thread.join()
see()
print(json.dumps(seen))
"""
LOST = (http.client.HTTPException, ConnectionError)  # no answer, or a part of it
HANGS = """
import ctypes, os, threading, time
from pydantic import Field
from typing import Annotated

lock = threading.Lock()

def predict(how: Annotated[str | float, Field(examples=["pid"])]) -> int:
    if how == "a loop":
        while True:
            pass
    if how == "a lock":
        with lock, lock:
            pass
    if how == "C code that holds the GIL":
        ctypes.PyDLL(None).sleep(1000)
    if how == "C code for three seconds":
        ctypes.PyDLL(None).sleep(3)
    if isinstance(how, float):
        time.sleep(how)
    return os.getpid()
"""


@contextmanager
def service(folder: Path, **environment: str) -> Iterator[tuple[str, int]]:
    """Run passing_arguments with HANGS: (address, process id). It logs to a file `log` in the folder."""
    copy_of("passing_arguments", folder)
    (folder / "predict.py").write_text(HANGS)
    with process("passing_arguments", folder, log=folder / "log", **environment) as (url, server):
        yield url, server.pid


def ask(connection: http.client.HTTPConnection, how: str | float = "pid") -> int:
    """Return the worker that answers: over one connection it is always the same."""
    connection.request("POST", "/predict", json.dumps(how))
    return json.loads(connection.getresponse().read())


def ask_until(end: list, connection: http.client.HTTPConnection) -> int:
    """Ask until `end` holds something, and return how many answers came. Raises one of LOST if one does not."""
    answers = [ask(connection)]
    while not end:
        answers.append(ask(connection))
    assert len(set(answers)) == 1
    return len(answers)


@pytest.fixture
def connect() -> Iterator[Callable[[str], http.client.HTTPConnection]]:
    with ExitStack() as stack:
        yield lambda url: stack.enter_context(closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)))


@pytest.mark.parametrize("how", ["a loop", "a lock", "C code that holds the GIL"])
def test_what_hangs_is_replaced_under_load(connect, tmp_path, how):
    """The other worker answers all the while, and loses no request."""
    end: list[bool] = []
    with service(tmp_path, PREDICT_TIMEOUT="1") as (url, server), ThreadPoolExecutor() as pool:
        found: dict[int, list] = {worker: [] for worker in workers(server)}
        while min(map(len, found.values())) < 2:
            connection = connect(url)
            found[ask(connection)].append(connection)
        (victim, (hangs, beside, *_)), (_, others) = found.items()
        asking = [pool.submit(ask_until, end, connection) for connection in others[:3]]
        lost = pool.submit(ask_until, end, beside)
        try:
            with pytest.raises(LOST):
                ask(hangs, how)
            eventually("another has its place", lambda: victim not in workers(server))
            eventually("both answer", lambda: {ask(connect(url)) for _ in range(10)} == workers(server))
        finally:
            end.append(True)
        assert sum(each.result() for each in asking) > 20
        with pytest.raises(LOST):
            lost.result()
    log = (tmp_path / "log").read_text()
    assert re.search(r'predict\.py", line 1\d,? in predict\n', log)
    assert "Unexpected exit from worker" in log
    if how.startswith("C"):
        assert re.search(r"^Thread 0x\w+ \(most recent call first\):$", log, re.MULTILINE)
    else:
        sentence = r"A prediction took longer than 1 s\. \d others ran beside it\. This worker ends, and its"
        assert re.search(sentence, log)
        assert "(most recent call first)" not in log


def test_what_takes_less_is_not_ended(connect, tmp_path):
    """Two at a time, so that always one runs. The others wait for a thread: neither this nor a slow body counts.

    Then one that holds the GIL for longer than its predecessor had left.
    """
    settings = {"PREDICT_TIMEOUT": "4", "GRANIAN_WORKERS": "1", "GRANIAN_BLOCKING_THREADS": "3"}
    with service(tmp_path, **settings) as (url, _), ThreadPoolExecutor() as pool:
        slow = connect(url)
        slow.putrequest("POST", "/predict")
        slow.putheader("Content-Length", "5")
        slow.endheaders(b'"pi')
        worker = ask(connect(url))
        before = time.monotonic()
        answers = [pool.submit(ask, connect(url), seconds) for seconds in (1.0, *[1.5] * 8)]
        assert {answer.result() for answer in answers} == {worker}
        assert time.monotonic() - before > 6  # the last one has waited for more than four seconds
        assert ask(slow_then_locked := connect(url), 3.4) == worker
        assert ask(slow_then_locked, "C code for three seconds") == worker
        slow.send(b'd"')
        assert json.loads(slow.getresponse().read()) == worker


def onnx_that_hangs(path: Path) -> None:
    """Write simple_ml's model with a loop before it, of as many turns as the first row's largest number says."""
    model = onnx.load(ROOT / "simple_ml" / "model.onnx")
    first = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["after the loop" if name == first else name for name in node.input]
    kind = model.graph.input[0].type.tensor_type.elem_type
    body = helper.make_graph(
        [helper.make_node("Identity", ["again"], ["still"]), helper.make_node("Identity", ["x"], ["same"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", kind, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("same", kind, None),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", [first], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["turns"], to=TensorProto.INT64),
        helper.make_node("Loop", ["turns", "", first], ["after the loop"], body=body),
    ]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    onnx.save(model, path)


def test_a_model_that_hangs(connect, tmp_path):
    """In ONNX Runtime, which lets the interpreter go on."""
    copy_of("simple_ml", tmp_path)
    onnx_that_hangs(tmp_path / "model.onnx")
    with process("simple_ml", tmp_path, log=tmp_path / "log", PREDICT_TIMEOUT="1") as (url, server):
        before = workers(server.pid)
        connection = connect(url)
        connection.request("POST", "/predict", '{"f1": 4, "f2": 5, "f3": 10}')
        assert connection.getresponse().read()
        connection.request("POST", "/predict", '{"f1": 9e15, "f2": 5, "f3": 10}')
        with pytest.raises(LOST):
            connection.getresponse()
        eventually("one is replaced", lambda: len(before & workers(server.pid)) == 1)
        assert requests.get(f"{url}/healthz", timeout=30).ok
    assert re.search(r'onnx\.py", line \d+, in compute\n', (tmp_path / "log").read_text())


def test_a_health_check_that_hangs_without_respawn(tmp_path):
    """The network hangs from its second picture on. As `python3 app.py` starts it, the service ends with its worker."""
    copy_of("image_classification", tmp_path)
    shutil.copy(ROOT / "image_classification" / "model.tflite", tmp_path)
    (tmp_path / "sitecustomize.py").write_text(SECOND_HANGS)
    settings = {"PYTHONPATH": str(tmp_path), "GRANIAN_WORKERS": "1", "GRANIAN_RESPAWN_FAILED_WORKERS": "false"}
    with (
        pytest.raises(RuntimeError, match="it ended before it answered"),
        process("image_classification", tmp_path, log=tmp_path / "log", PREDICT_TIMEOUT="1", **settings),
    ):
        pass
    log = (tmp_path / "log").read_text()
    assert "A prediction took longer than 1 s" in log
    assert re.search(r'app\.py", line \d+, in healthz\n', log)


def test_waiting_for_memory_does_not_count(tmp_path):
    """Large pictures are decoded one at a time, whatever the number of workers: here, another process decodes one."""
    copy_of("image_classification", tmp_path)
    shutil.copy(ROOT / "image_classification" / "model.tflite", tmp_path)
    large = io.BytesIO()
    with Image.open(ROOT / "image_classification" / "samples" / "seven.png") as picture:
        picture.convert("RGB").resize((1500, 1500)).save(large, "PNG")
    with (
        process("image_classification", tmp_path, log=tmp_path / "log", PREDICT_TIMEOUT="1") as (url, server),
        ThreadPoolExecutor() as pool,
    ):
        before = workers(server.pid)
        with (tmp_path / "runtime" / "decode.py").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            waiting = pool.submit(requests.post, f"{url}/predict", large.getvalue(), timeout=60)
            time.sleep(1.5)
            assert not waiting.done()
        answer = waiting.result()
        assert (answer.status_code, answer.json()["prediction"]) == (200, 7)
        assert workers(server.pid) == before


@pytest.mark.parametrize("waits", [False, True])
def test_what_counts_of_a_picture(monkeypatch, waits):
    """To read its header, to decode it and to predict; but not to wait until another thread has decoded its own."""
    done: list[str] = []

    def note(name: str, place: object, function: str) -> None:
        before = getattr(place, function)

        def noting(*args: Any, **more: Any) -> Any:
            done.append(name)
            return before(*args, **more)

        monkeypatch.setattr(place, function, noting)

    with in_process(ROOT / "image_classification") as client, ThreadPoolExecutor() as pool:
        app, decode, timeout = (sys.modules[name] for name in ("app", "runtime.decode", "web.predict_timeout"))
        note("begin", timeout.PredictTimeout, "__enter__")
        note("end", timeout.PredictTimeout, "__exit__")
        note("header", decode.Image, "open")
        note("decode", decode.ImageOps, "exif_transpose")
        note("predict", app.network, "predict")
        picture = (ROOT / "image_classification" / "samples" / "seven.png").read_bytes()
        with decode.one_small if waits else nullcontext():
            answer = pool.submit(client.post, "/predict", data=picture)
            if waits:
                eventually("it waits", lambda: done[-1:] == ["end"])
            else:
                assert answer.result(60).json["prediction"] == 7
        assert answer.result(60).json["prediction"] == 7
    assert " ".join(done) == f"begin header {'end begin ' if waits else ''}decode predict end"


@pytest.mark.parametrize("value", ["abc", "-1", "nan", "inf", "1e7", "60s"])
def test_a_value_that_is_no_time(monkeypatch, value):
    monkeypatch.setenv("PREDICT_TIMEOUT", value)
    with pytest.raises(
        SystemExit, match=rf"^PREDICT_TIMEOUT={value} cannot be used: set it to a number of seconds[^\n]+$"
    ):
        runpy.run_path(str(FILE))


@pytest.mark.parametrize(("value", "seconds"), {"": 60, "0": 0, "0.5": 0.5, " 90 ": 90}.items())
def test_a_value_that_is_one(monkeypatch, value, seconds):
    monkeypatch.setenv("PREDICT_TIMEOUT", value)
    assert runpy.run_path(str(FILE))["SECONDS"] == seconds


@pytest.mark.parametrize(("value", "lasts"), {"0": [0, 0, 0, 0], "60": [62, 62, 52, 0]}.items())
def test_the_timer(value, lasts):
    """It is off without a limit; else it is set while a prediction runs, and put off when the oldest ends."""
    done = subprocess.run(
        [python("passing_arguments"), "-c", TIMER],
        cwd=FILE.parent,
        env=os.environ | {"PREDICT_TIMEOUT": value},
        capture_output=True,
        check=True,
    )
    assert [round(seconds) for seconds in json.loads(done.stdout)] == lasts


@pytest.mark.parametrize("example", PREDICTING)
def test_it_does_not_start_with_a_value_that_is_no_time(example):
    environment = os.environ | SETTINGS | {"GRANIAN_PORT": str(free_port()), "PREDICT_TIMEOUT": "abc"}
    answer = subprocess.run(
        [python(example), "app.py"], cwd=ROOT / example, env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 1
    assert re.fullmatch(r"PREDICT_TIMEOUT=abc cannot be used: [^\n]+\n", answer.stderr)
