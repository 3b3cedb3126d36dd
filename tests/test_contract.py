"""What all four services have in common."""

import os
import pytest
import requests
import signal
import socket
import subprocess
import time
from conftest import EXAMPLES, ROOT, assert_problem, process
from pathlib import Path
from urllib.parse import urlsplit

LIMITS = {"passing_arguments": 4096, "simple_ml": 8_000_000, "image_classification": 32 * 2**20}  # bytes


@pytest.fixture(params=EXAMPLES)
def url(request, start, place) -> str:
    return start(request.param, place)


@pytest.fixture(params=LIMITS)
def predict_url(request, start, place) -> str:
    return start(request.param, place) + "/predict"


def test_index_is_a_page(url):
    answer = requests.get(url, timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.text.endswith("\n")


def test_healthz(url):
    answer = requests.get(f"{url}/healthz", timeout=10)
    assert (answer.status_code, answer.text) == (200, '{"status":"ok"}\n')


def test_head_has_no_body(url):
    answer = requests.head(url, timeout=10)
    assert (answer.status_code, answer.content) == (200, b"")


def test_unknown_path(url):
    assert_problem(requests.get(f"{url}/nowhere", timeout=10), 404)


@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_wrong_method(url, path):
    answer = requests.delete(url + path, timeout=10)
    assert_problem(answer, 405)
    assert {"GET", "HEAD", "OPTIONS"} == set(answer.headers["Allow"].split(", "))


def test_options(url):
    answer = requests.options(url, timeout=10)
    assert answer.status_code == 200
    assert "GET" in answer.headers["Allow"]


def test_predict_wants_post(predict_url):
    answer = requests.get(predict_url, timeout=10)
    assert_problem(answer, 405)
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", (400, 415)), (b"\xff\xfe\xfd", (400, 415)), (b"{", (400, 415)), (b"[" * 4000, (400, 415))],
)
def test_predict_refuses_nonsense(predict_url, body, status):
    answer = requests.post(predict_url, data=body, timeout=10)
    assert answer.status_code in status
    assert_problem(answer, answer.status_code)


@pytest.mark.parametrize("example", LIMITS)
@pytest.mark.parametrize("chunked", [False, True])
def test_predict_refuses_a_large_body(example, start, place, chunked):
    """A chunked body has no Content-Length; neither may be cut off and then answered."""
    limit = LIMITS[example]
    body = b"1" * limit
    predict_url = start(example, place) + "/predict"
    data = (body[i : i + 65536] for i in range(0, limit, 65536)) if chunked else body
    assert_problem(requests.post(predict_url, data=data, timeout=30), 413)
    assert requests.post(predict_url, data=body[:-1], timeout=30).status_code != 413


def test_large_body_is_refused_before_it_is_sent(predict_url):
    """`curl` asks with Expect: 100-continue first: the refusal comes without a byte of the body."""
    address = urlsplit(predict_url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        head = f"POST /predict HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 99999999999\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("example", EXAMPLES)
def test_help(example):
    answer = run(example, "--help")
    assert answer.returncode == 0
    assert "--port" in answer.stdout
    assert "GRANIAN_PORT" in answer.stdout


@pytest.mark.parametrize("example", EXAMPLES)
def test_wrong_setting(example):
    answer = run(example, "--workers", "none")
    assert answer.returncode == 2
    assert "'none' is not a valid integer" in answer.stderr
    assert "Traceback" not in answer.stderr


def run(example: str, *arguments: str) -> subprocess.CompletedProcess:
    python = ROOT / ".venv" / example / "bin" / "python"
    return subprocess.run(
        [python, "app.py", *arguments], cwd=ROOT / example, capture_output=True, text=True, timeout=60
    )


def test_settings_from_the_environment():
    with process("hello_world", GRANIAN_WORKERS="3") as (url, server):
        while len(workers(server.pid)) < 3:  # the first may answer before the last is there
            time.sleep(0.1)
        assert requests.get(url, timeout=10).ok


def test_a_worker_that_dies_is_replaced():
    with process("hello_world", GRANIAN_WORKERS="2") as (url, server):
        before = workers(server.pid)
        os.kill(before[0], signal.SIGKILL)
        while before[0] in workers(server.pid) or len(workers(server.pid)) < 2:
            time.sleep(0.1)
        assert requests.get(url, timeout=10).ok


def workers(pid: int) -> list[int]:
    """Return the process ids of a server's workers (on Linux)."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("example", EXAMPLES)
def test_sigterm_ends_it_with_exit_code_0(example):
    with process(example) as (_, server):
        server.terminate()
        assert server.wait(10) == 0
