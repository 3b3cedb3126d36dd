"""Hostile and broken requests: each is refused with a reason, and the service keeps working."""

import contextlib
import io
import itertools
import json
import pytest
import requests
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from examples import IMAGES, ROOT
from functools import cache
from helpers import assert_problem, copy_of, process
from pathlib import Path
from PIL import Image
from typing import NamedTuple
from urllib.parse import urlsplit

TEXT = "text"  # passing_arguments with another function
GOOD = {
    "passing_arguments": b"5",
    TEXT: b'"a text"',
    "simple_ml": b'{"f1": 4, "f2": 5, "f3": 10}',
    "image_classification": (ROOT / "image_classification" / "samples" / "seven.png").read_bytes(),
}
JSON = ["passing_arguments", TEXT, "simple_ml"]
TIMEOUT = 60  # seconds: far more than any answer takes, and far less than for ever
NO_ANSWER = 0  # the connection was closed instead
HEAD = b"Host: localhost\r\nConnection: close\r\n"
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"


class Server(NamedTuple):
    example: str
    url: str
    pid: int
    workers: set[int]  # their process ids at the start


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture(scope="module")
def attacked(tmp_path_factory) -> Iterator[Callable[[str], Server]]:
    """attacked("simple_ml") is a server that only this file asks, so that nothing else can end its workers."""
    with contextlib.ExitStack() as stack:

        @cache
        def start(example: str) -> Server:
            if example == TEXT:
                folder = copy_of("passing_arguments", tmp_path_factory.mktemp("text"))
                (folder / "predict.py").write_text("def predict(text: str) -> str:\n    return text.upper()\n")
                url, server = stack.enter_context(process("passing_arguments", folder))
            else:
                url, server = stack.enter_context(process(example))
            return Server(example, url, server.pid, workers(server.pid))

        yield start


def workers(pid: int) -> set[int]:
    """Return the workers of a server, once there are two: the first may answer before the other is there."""
    deadline = time.monotonic() + TIMEOUT
    while len(found := Path(f"/proc/{pid}/task/{pid}/children").read_text().split()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return set(map(int, found))


@contextlib.contextmanager
def unharmed(server: Server) -> Iterator[str]:
    """Check that a good request is answered after an attack. (The last test checks that no worker has died.)"""
    yield server.url
    if server.example in GOOD:
        answer = requests.post(f"{server.url}/predict", data=GOOD[server.example], timeout=TIMEOUT)
    else:
        answer = requests.get(server.url, timeout=TIMEOUT)
    assert answer.status_code == 200, answer.text


@pytest.fixture(params=[*IMAGES, TEXT])
def target(request, attacked) -> Iterator[Server]:
    with unharmed(attacked(request.param)):
        yield attacked(request.param)


@pytest.fixture(params=GOOD)
def predicting(request, attacked) -> Iterator[Server]:
    with unharmed(attacked(request.param)):
        yield attacked(request.param)


@pytest.fixture(params=JSON)
def json_url(request, attacked) -> Iterator[str]:
    with unharmed(attacked(request.param)) as url:
        yield f"{url}/predict"


@pytest.fixture
def simple_ml(attacked) -> Iterator[str]:
    with unharmed(attacked("simple_ml")) as url:
        yield f"{url}/predict"


@pytest.fixture
def pictures(attacked) -> Iterator[str]:
    with unharmed(attacked("image_classification")) as url:
        yield f"{url}/predict"


def exchange(url: str, pieces: Iterable[bytes]) -> bytes:
    """Send bytes as they are, until an answer comes, and return what the server sends until it closes."""
    address = urlsplit(url)
    received = b""
    with socket.create_connection((address.hostname, address.port), timeout=TIMEOUT) as connection:
        with contextlib.suppress(ConnectionError):  # it may close before it has read all of it
            for piece in pieces:
                if select.select([connection], [], [], 0)[0]:
                    break
                connection.sendall(piece)
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(65536):
                received += data
    return received


def answers(received: bytes) -> list[Answer]:
    """Split what a server sent into its answers, each as long as its Content-Length says."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status, length = int(first.split(" ")[1]), int(headers.get("content-length", 0))
        found.append(Answer(status, headers, rest[:length]))
        received = rest[length:]
    return found


def answer_to(server: Server, *pieces: bytes) -> Answer:
    """Send bytes as they are, and return the only answer; an error must say what is wrong, in the standard format."""
    found = answers(exchange(server.url, pieces))
    assert len(found) <= 1, found
    answer = found[0] if found else Answer(NO_ANSWER, {}, b"")
    if answer.status < 400 or not answer.body:  # Granian answers some requests itself, without a body
        return answer
    if server.example == "hello_world":
        assert answer.headers["content-type"].startswith("text/html")
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        problem = json.loads(answer.body)
        assert (problem["status"], bool(problem["detail"])) == (answer.status, True)
    return answer


def post(url: str, body: bytes, **headers: str) -> requests.Response:
    return requests.post(url, data=body, headers=headers, timeout=TIMEOUT)


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# --- invalid HTTP, and very long headers


@pytest.mark.parametrize(
    ("request_", "statuses"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * 10**6 + b"\r\n\r\n", {431, NO_ANSWER}, id="1 MB"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HEAD + b"X: a\r\n" * 10_000 + b"\r\n", {431, NO_ANSWER}, id="10,000"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HEAD + b"nonsense\r\n\r\n", {400}, id="no colon"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HEAD + b"X: a\0b\r\n\r\n", {400}, id="NUL"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HEAD + b"X: a\r\n b\r\n\r\n", {400}, id="folded"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HEAD + b"X : a\r\n\r\n", {400}, id="space before the colon"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HEAD + b"X: \xff\xfe\r\n\r\n", {200, 400}, id="not UTF-8"),
        pytest.param(b"GET /nowhere HTTP/1.1\r\nConnection: close\r\nHost: a b\xff/:x@\r\n\r\n", {404}, id="bad host"),
        pytest.param(b"GET / HTTP/9.9\r\n" + HEAD + b"\r\n", {400}, id="HTTP 9.9"),
        pytest.param(b"GET /\r\n", {400}, id="HTTP 0.9"),
        pytest.param(bytes.fromhex("16030100a5010000a10303") + bytes(160), {400}, id="TLS"),
        pytest.param(bytes(1000) + b"\r\n\r\n", {400}, id="zeros"),
    ],
)
def test_head(target, request_, statuses):
    assert answer_to(target, request_).status in statuses


@pytest.mark.parametrize("method", ["BREW", "TRACE", "PATCH", "PROPFIND", "M" * 1000])
def test_unknown_method(target, method):
    answer = answer_to(target, f"{method} / HTTP/1.1\r\n".encode() + HEAD + b"\r\n")
    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


def test_connect_makes_no_proxy(target):
    assert answer_to(target, b"CONNECT example.com:443 HTTP/1.1\r\n" + HEAD + b"\r\n").status in {400, 404, 405}


@pytest.mark.parametrize(("method", "status"), [("HEAD", 405), ("PUT", 405), ("OPTIONS", 200)])
def test_methods_of_predict(predicting, method, status):
    answer = requests.request(method, f"{predicting.url}/predict", data=b"5", timeout=TIMEOUT)
    assert answer.status_code == status
    assert set(answer.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


@pytest.mark.parametrize(
    "path",
    [
        "/../app.py",
        "/%2e%2e/app.py",
        "/..%2fapp.py",
        "/..%5capp.py",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/docs/../../app.py",
        "/docs/..%2f..%2fapp.py",
        "/app.py",
        "/%00",
        "/predict%00",
        "/predict/",
        "/predict;x",
        "/PREDICT",
        "/healthz/..",
        "/%",
        "/%zz",
        "/%ff%fe",
        "//example.com/..",
        "/%2f%2fexample.com",
        "/\\example.com",
        "/" + "a" * 10_000,
    ],
    ids=lambda path: path[:25],
)
def test_unknown_paths(target, path):
    """Sent as they are, since requests would tidy them up first."""
    answer = answer_to(target, f"GET {path} HTTP/1.1\r\n".encode() + HEAD + b"\r\n")
    assert answer.status == 404
    assert answer.body


@pytest.mark.parametrize("path", ["/\xff", "/ a", "/\r\n", "?a"])
def test_invalid_paths(target, path):
    answer = answer_to(target, f"GET {path} HTTP/1.1\r\n".encode("latin1") + HEAD + b"\r\n")
    assert answer.status == 400


def test_a_path_that_is_too_long(target):
    answer = answer_to(target, f"GET /{'a' * 70_000} HTTP/1.1\r\n".encode() + HEAD + b"\r\n")
    assert answer.status in {414, 431}  # 431 where it is longer than what is read ahead (GRANIAN_HTTP1_BUFFER_SIZE)


def test_double_slashes_lead_to_no_other_host(target):
    """A redirect to `//example.com` would."""
    answer = answer_to(target, b"GET /static//example.com HTTP/1.1\r\n" + HEAD + b"\r\n")
    assert answer.status in {308, 404}
    assert answer.headers.get("location", "http://localhost/").startswith("http://localhost/")


# --- where a body ends


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 1\r\nContent-Length: 2\r\n",
        b"Content-Length: 1, 2\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: +1\r\n",
        b"Content-Length: 0x1\r\n",
        b"Content-Length: one\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
    ],
    ids=lambda lengths: lengths.decode().strip(),
)
def test_invalid_lengths(target, lengths):
    assert answer_to(target, b"POST /predict HTTP/1.1\r\n" + HEAD + lengths + b"\r\n1\r\n5\r\n0\r\n\r\n").status == 400


@pytest.mark.parametrize("length", [4, 100])
def test_no_request_is_smuggled(predicting, length):
    """With both lengths, "chunked" counts, and nothing after it is taken for a request (RFC 9112, section 6.3)."""
    good = GOOD[predicting.example]
    smuggled = b"GET /healthz HTTP/1.1\r\n" + HEAD + b"\r\n"
    head = CHUNKED + b"Content-Length: %d\r\n\r\n" % length
    answer = answer_to(predicting, head + chunks(good) + smuggled)
    assert answer.status in {200, 400}
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("size", [b"xyz", b"-1", b"f" * 17, b"1;" + b"a" * 100_000], ids=lambda size: size[:5].decode())
def test_invalid_chunks(predicting, size):
    answer = answer_to(predicting, CHUNKED + b"\r\n" + size + b"\r\n5\r\n0\r\n\r\n")
    assert answer.status in {400, 415}
    assert answer.body


def test_chunked_and_expect_100_continue(predicting):
    """The body is sent, in small pieces, once the server has said that it may come."""
    address = urlsplit(predicting.url)
    with socket.create_connection((address.hostname, address.port), timeout=TIMEOUT) as connection:
        connection.sendall(CHUNKED + b"Connection: close\r\nExpect: 100-continue\r\n\r\n")
        with connection.makefile("rb") as received:
            assert received.readline().startswith(b"HTTP/1.1 100 ")
            assert received.readline() == b"\r\n"
            good = GOOD[predicting.example]
            connection.sendall(chunks(*(good[i : i + 9] for i in range(0, len(good), 9))))
            (answer,) = answers(received.read())
    assert answer.status == 200


def test_pipelining(target):
    """Requests that do not wait for an answer are all answered, in order."""
    paths = [(b"/healthz", 200), (b"/nowhere", 404), (b"/", 200)] * 20
    requests_ = [b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path for path, _ in paths]
    received = exchange(target.url, [b"".join(requests_) + b"GET /nowhere HTTP/1.1\r\n" + HEAD + b"\r\n"])
    assert [answer.status for answer in answers(received)] == [status for _, status in paths] + [404]


def test_pipelined_bodies(attacked):
    """Each answer belongs to its own request."""
    with unharmed(attacked("passing_arguments")) as url:
        bodies = [b"%d" % number for number in range(100)]
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
        posts = [head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body) for body in bodies]
        received = exchange(url, [b"".join(posts) + b"GET /nowhere HTTP/1.1\r\n" + HEAD + b"\r\n"])
        squares = [json.loads(answer.body) for answer in answers(received)[:-1]]
    assert squares == [number**2 for number in range(100)]


# --- bodies over the limit


@pytest.mark.parametrize("example", GOOD)
@pytest.mark.parametrize("content_type", [b"application/json", b"multipart/form-data; boundary=x"])
@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
def test_half_a_gigabyte_is_not_read_into_memory(attacked, example, content_type, chunked):
    """It is refused (413; a connection that is reset may lose the answer), and no worker has grown by it."""
    server = attacked(example)
    with unharmed(server) as url:
        before = most_memory(server)
        length = b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: 500000000\r\n"
        head = b"POST /predict HTTP/1.1\r\n" + HEAD + b"Content-Type: " + content_type + b"\r\n" + length + b"\r\n"
        form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        pieces = itertools.chain([form], itertools.repeat(b"1" * 10**6, 500))
        framed = (b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece for piece in pieces)
        found = answers(exchange(url, itertools.chain([head], framed)))
    assert [answer.status for answer in found] in ([413], [])
    assert most_memory(server) - before < 250


def most_memory(server: Server) -> int:
    """Return the most memory, in megabytes, that a worker has held so far."""
    files = [Path(f"/proc/{pid}/status").read_text() for pid in server.workers]
    return max(int(file.partition("VmHWM:")[2].split()[0]) // 1024 for file in files)


def test_half_a_gigabyte_is_refused_when_it_is_announced(predicting):
    """Only its first bytes are sent: the answer does not wait for more."""
    head = b"POST /predict HTTP/1.1\r\n" + HEAD + b"Content-Length: 500000000\r\n\r\n"
    assert answer_to(predicting, head + b"1" * 1000).status == 413


# --- JSON


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 100_000, id="brackets"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="closed brackets"),
        pytest.param(b'{"f1":' * 100_000, id="braces"),
        pytest.param(b'{"f1":' * 1000 + b"1" + b"}" * 1000, id="closed braces"),
        pytest.param(b"1" * 10**6, id="digits"),
        pytest.param(b"[" + b"1" * 10**6 + b"]", id="digits in a list"),
        pytest.param(b"0." + b"1" * 10**6, id="digits after the point"),
        pytest.param(b"1e" + b"1" * 10**6, id="digits of the exponent"),
        pytest.param(b"-" * 10**6, id="signs"),
        pytest.param(b'"' + b"\\u0000" * 10**5 + b'"', id="escapes"),
        pytest.param(b" " * 10**6, id="blanks"),
        pytest.param(b'{"f1": "\xff", "f2": 5, "f3": 10}', id="invalid UTF-8"),
        pytest.param(b'{"f\xff1": 4, "f2": 5, "f3": 10}', id="invalid UTF-8 in a key"),
        pytest.param(b'{"f1": 4, "f2": 5, "f3": 10, "\xed\xa0\x80": 1}', id="surrogate in UTF-8"),
        pytest.param(b'{"f1": 4, "f2": 5, "f3": 10, "\\ud800": 1}', id="lone surrogate as a key"),
        pytest.param(b'{"f1": "\\udfff\\ud800", "f2": 5, "f3": 10}', id="lone surrogates"),
        pytest.param(b'"\\ud800"', id="lone surrogate"),
        pytest.param(b"5\0", id="NUL"),
        pytest.param(b"\0" * 1000, id="NULs"),
        pytest.param(b'{"f1\\u0000": 4, "f2\0": 5, "f3": 10}', id="NUL in a key"),
        pytest.param(b'{"f1": 4, "f2": 5, "f3": 10, "f1\\u0000": 1}', id="escaped NUL in a key"),
        pytest.param('{"f1": 4}'.encode("utf-16"), id="UTF-16"),
        pytest.param('{"f1": 4}'.encode("utf-32"), id="UTF-32"),
        pytest.param(b"\xef\xbb\xbf[5]", id="byte order mark"),
    ],
)
def test_json(json_url, body):
    answer = post(json_url, body)
    assert answer.status_code in {400, 413, 415, 422}
    assert_problem(answer, answer.status_code)
    assert len(answer.content) < 10_000


def test_duplicate_keys(simple_ml):
    """The last counts, of two as of two hundred thousand."""
    body = b'{"f2": 5, "f3": 10, ' + b'"f1": 9e9, ' * 200_000 + b'"f1": 4}'
    assert post(simple_ml, body).json()["prediction"] == "virginica"


def test_many_keys(simple_ml):
    body = json.dumps({f"key {number}": number for number in range(200_000)}).encode()
    answer = post(simple_ml, body)
    assert "3 of the features" in assert_problem(answer, 422)["detail"]
    assert len(answer.content) < 10_000


def test_a_long_key(simple_ml):
    answer = post(simple_ml, b'{"' + b"a" * 10**6 + b'": 1}')
    assert_problem(answer, 422)


# --- forms and pictures


FIELD = b'--x\r\nContent-Disposition: form-data; name="file"\r\n'
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'


@pytest.mark.parametrize(
    ("body", "boundary"),
    [
        pytest.param((PART + b"\r\na\r\n") * 10_000 + b"--x--\r\n", "x", id="10,000 files"),
        pytest.param(
            (PART.replace(b'; filename="a"', b"") + b"\r\na\r\n") * 10_000 + b"--x--\r\n", "x", id="10,000 fields"
        ),
        pytest.param(PART + b"\r\na", "x", id="no end"),
        pytest.param(PART, "x", id="no body"),
        pytest.param(PART + b"\r\na\r\n--y--\r\n", "x", id="another end"),
        pytest.param(PART + b"\r\na\r\n--x--\r\n", "y", id="another boundary"),
        pytest.param(PART + b"\r\na\r\n--x--\r\n", "", id="empty boundary"),
        pytest.param(PART + b"\r\na\r\n--x--\r\n", '"x', id="quote"),
        pytest.param(PART + b"\r\na\r\n--x--\r\n", "\xff", id="not ASCII"),
        pytest.param(PART + b"\r\na\r\n--x--\r\n", "x" * 10_000, id="long boundary"),
        pytest.param(PART + b"X: " + b"a" * 10**6 + b"\r\n\r\na\r\n--x--\r\n", "x", id="huge header"),
        pytest.param(PART + b"X: a\r\n" * 10_000 + b"\r\na\r\n--x--\r\n", "x", id="10,000 headers"),
        pytest.param(PART + b"Content-Transfer-Encoding: base64\r\n\r\na\r\n--x--\r\n", "x", id="base64"),
        pytest.param(PART + b"Content-Length: -1\r\n\r\na\r\n--x--\r\n", "x", id="length"),
        pytest.param(PART + b"Content-Type: text/plain; charset=\xff\0\r\n\r\na\r\n--x--\r\n", "x", id="charset"),
        pytest.param(PART.replace(b'"a"', b'"../../\0a"') + b"\r\na\r\n--x--\r\n", "x", id="path as file name"),
        pytest.param(PART.replace(b'"a"', b'"' + b"a" * 10**6) + b"\r\na\r\n--x--\r\n", "x", id="long file name"),
        pytest.param(b"\r\n" * 10**6, "x", id="line ends"),
        pytest.param(b"--x" * 10**6, "x", id="boundaries"),
        pytest.param(b"--x\r\n\r\n\r\n" * 10**5, "x", id="parts without headers"),
    ],
)
def test_forms(pictures, body, boundary):
    answer = post(pictures, body, **{"Content-Type": f"multipart/form-data; boundary={boundary}"})
    assert answer.status_code in {400, 413, 415}
    assert_problem(answer, answer.status_code)


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/mixed; boundary=x", "text/html", "*/*", ";;=\t,"]
)
def test_a_form_of_another_content_type(pictures, content_type):
    picture = GOOD["image_classification"]
    answer = post(pictures, PART + b"\r\n" + picture + b"\r\n--x--\r\n", **{"Content-Type": content_type})
    assert answer.status_code in {400, 415}
    assert_problem(answer, answer.status_code)


@cache
def animation(format: str, frames: int, **options) -> bytes:
    """Return a picture of a seven with many frames, each of which differs."""
    with Image.open(io.BytesIO(GOOD["image_classification"])) as seven:
        first = seven.convert("L").resize((28, 28))
    others = (first.point(lambda value, by=number: (value + by) % 256) for number in range(1, frames))
    file = io.BytesIO()
    first.save(file, format, save_all=True, append_images=others, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(lambda: animation("GIF", 5000, loop=0), id="GIF"),
        pytest.param(lambda: animation("GIF", 5000, loop=0).removesuffix(b";"), id="GIF without an end"),
        pytest.param(lambda: animation("PNG", 1000, loop=0), id="PNG"),
        pytest.param(lambda: animation("WEBP", 500, loop=0), id="WebP"),
        pytest.param(lambda: animation("TIFF", 200), id="TIFF"),
    ],
)
def test_the_first_of_many_frames_counts(pictures, picture):
    """Nobody waits for an animation that never ends."""
    assert post(pictures, picture()).json()["prediction"] == 7


@pytest.mark.parametrize("example", [*IMAGES, TEXT])
def test_no_worker_has_died(attacked, example):
    """After all of the above, the workers are still those of the start."""
    server = attacked(example)
    assert workers(server.pid) == server.workers
