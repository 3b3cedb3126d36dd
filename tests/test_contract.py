"""What all services have in common."""

import gzip
import pytest
import requests
import socket
import subprocess
import time
from examples import IMAGES, ROOT, ask, free_port, request_of
from helpers import assert_problem, eventually, process, python
from urllib.parse import urlsplit

LIMITS = {"passing_arguments": 4096, "simple_ml": 8_000_000, "image_classification": 32 * 2**20}  # bytes
PREDICTING = list(LIMITS)
GOOD = {example: request_of(example)[2] or b"" for example in PREDICTING}


@pytest.fixture(params=IMAGES)
def url(request, server) -> str:
    return server(request.param)


@pytest.fixture(params=PREDICTING)
def predicting(request, server) -> str:
    return server(request.param)


@pytest.mark.parametrize("example", IMAGES)
def test_first_request_of_the_readme(example, server):
    assert ask(urlsplit(server(example)).port, request_of(example)).endswith(b"\n")


def test_index_is_a_page(url):
    answer = requests.get(url, timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.text.endswith("\n")


def test_healthz(url):
    answer = requests.get(f"{url}/healthz", timeout=10)
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert answer.text.endswith("\n")


def test_head_has_no_body(url):
    answer = requests.head(url, timeout=10)
    assert (answer.status_code, answer.content) == (200, b"")


def test_options(url):
    answer = requests.options(url, timeout=10)
    assert answer.status_code == 200
    assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_wrong_method(url, path):
    answer = requests.delete(url + path, timeout=10)
    assert answer.status_code == 405
    assert {"GET", "HEAD", "OPTIONS"} == set(answer.headers["Allow"].split(", "))


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/", 405)])
def test_errors_are_problems(predicting, method, path, status):
    assert_problem(requests.request(method, predicting + path, timeout=10), status)


def test_predict_wants_post(predicting):
    answer = requests.get(f"{predicting}/predict", timeout=10)
    assert_problem(answer, 405)
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize("body", [b"", b"\xff\xfe\xfd", b"{", b"[" * 4000], ids=["empty", "bytes", "{", "["])
def test_predict_refuses_nonsense(predicting, body):
    answer = requests.post(f"{predicting}/predict", data=body, timeout=10)
    assert answer.status_code in (400, 415)
    assert_problem(answer, answer.status_code)


@pytest.mark.parametrize("example", PREDICTING)
@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br, gzip"])
def test_a_compressed_body_is_refused_with_the_reason(example, server, coding):
    """And with the header that tells programs what to send instead (RFC 7694)."""
    answer = requests.post(
        f"{server(example)}/predict",
        data=gzip.compress(GOOD[example]),
        headers={"Content-Encoding": coding},
        timeout=10,
    )
    assert "compressed" in assert_problem(answer, 415)["detail"]
    assert answer.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("example", PREDICTING)
def test_a_body_that_says_that_it_is_not_compressed(example, server):
    headers = {"Content-Encoding": "identity"}
    assert requests.post(f"{server(example)}/predict", data=GOOD[example], headers=headers, timeout=10).ok


@pytest.mark.parametrize("example", ["passing_arguments", "simple_ml"])
def test_json_with_a_byte_order_mark(example, server):
    """Some programs on Windows write it before UTF-8."""
    url = f"{server(example)}/predict"
    marked = requests.post(url, data=b"\xef\xbb\xbf" + GOOD[example], timeout=10)
    assert (marked.status_code, marked.text) == (200, requests.post(url, data=GOOD[example], timeout=10).text)


@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-16-LE", "UTF-16-BE", "UTF-32"])
@pytest.mark.parametrize("example", PREDICTING)
def test_another_encoding_is_refused_with_the_reason(example, server, encoding):
    text = '{"f1": 4, "f2": 5, "f3": 10}' if example == "simple_ml" else "25"
    answer = requests.post(f"{server(example)}/predict", data=text.encode(encoding), timeout=10)
    reason = "This is not a picture" if example == "image_classification" else encoding
    assert reason in assert_problem(answer, 415)["detail"]
    assert "Accept-Encoding" not in answer.headers  # it would say that the reason is a compression


@pytest.mark.parametrize("example", PREDICTING)
@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
def test_predict_refuses_a_large_body(example, server, chunked):
    """A chunked body does not say how long it is; it may not be cut off and then answered."""
    limit, url = LIMITS[example], server(example) + "/predict"
    body = b"1" * limit
    data = (body[i : i + 65536] for i in range(0, limit, 65536)) if chunked else body
    assert_problem(requests.post(url, data=data, timeout=30), 413)
    assert requests.post(url, data=body[:-1], timeout=30).status_code != 413


def test_a_large_body_is_refused_before_it_is_sent(predicting):
    """`curl` first asks with `Expect: 100-continue`: it is refused before it has sent a byte of the body."""
    address = urlsplit(predicting)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        head = f"POST /predict HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 99999999999\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_openapi_and_docs(predicting):
    """Whether the document is valid and true, tests/ci/test_openapi.py checks."""
    openapi = requests.get(f"{predicting}/openapi.json", timeout=10)
    assert openapi.headers["Content-Type"] == "application/json"
    assert {"/", "/healthz", "/predict"} == set(openapi.json()["paths"])
    for path in ("docs", "docs/swagger-ui-bundle.js"):
        assert requests.get(f"{predicting}/{path}", timeout=10).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/docs//", "/static//file", "//docs", "//predict"])
def test_no_redirect_leaves_a_proxy(predicting, path):
    """A service does not know the path and the https of a proxy. (tests/ci/test_front_door.py asks a real one.)"""
    answer = requests.get(predicting + path, allow_redirects=False, timeout=10)
    assert answer.headers.get("Location", "docs/") == "docs/"


def run(*arguments: str) -> subprocess.CompletedProcess:
    """Run hello_world; the lines that read the arguments are the same in all four (tests/ci/test_layout.py)."""
    options: dict = {"cwd": ROOT / "hello_world", "capture_output": True, "text": True, "timeout": 60}
    return subprocess.run([python("hello_world"), "app.py", *arguments], **options)


def test_help():
    answer = run("--help")
    assert answer.returncode == 0
    assert "--port" in answer.stdout
    assert "GRANIAN_PORT" in answer.stdout


def test_wrong_setting():
    answer = run("--workers", "none")
    assert answer.returncode == 2
    assert "'none' is not a valid integer" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("example", IMAGES)
def test_port_of_the_environment_and_exit_code_0(example, tmp_path):
    """Where GRANIAN_PORT is empty, PORT counts, which Cloud Run, Heroku and Render set. SIGTERM ends the service."""
    log = tmp_path / "log"
    with process(example, log=log, GRANIAN_PORT="", PORT=str(free_port())) as (_, server):
        # a worker that is still starting misses SIGTERM, and Granian waits for it until GRANIAN_WORKERS_KILL_TIMEOUT
        eventually("both workers have started", lambda: log.read_text().count("Started worker") == 2)
        before = time.monotonic()
        server.terminate()
        assert server.wait(10) == 0
        assert time.monotonic() - before < 8


def test_settings_from_the_environment(capfd):
    with process("hello_world", GRANIAN_WORKERS="3") as (url, _):
        # the first worker may answer before the last has started
        eventually("three workers have started", lambda: "Started worker-3" in "".join(capfd.readouterr()))
        assert requests.get(url, timeout=10).ok
