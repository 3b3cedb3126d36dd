"""What nobody sends by mistake, and what breaks a service that is not made for it: each time it goes on answering."""

import io
import pytest
import requests
import socket
from conftest import EXAMPLES, assert_problem
from PIL import Image, ImageDraw
from urllib.parse import urlsplit

SECONDS = 30
GOOD = {"hello_world": None, "passing_arguments": b"5", "simple_ml": b'{"f1": 4, "f2": 5, "f3": 10}'}


def talk(url: str, *sent: bytes) -> bytes:
    """Send raw bytes, and return all that comes until the service closes the connection, or has fallen silent."""
    address = urlsplit(url)
    answer = b""
    with socket.create_connection((address.hostname, address.port), timeout=SECONDS) as connection:
        try:
            for part in sent:
                connection.sendall(part)
            while part := connection.recv(2**16):
                answer += part
                connection.settimeout(10)
        except (TimeoutError, ConnectionError):
            pass
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


@pytest.fixture(params=EXAMPLES)
def url(request, start, place):
    """The address of a service that, after the test, answers what it should."""
    url = start(request.param, place)
    yield url
    body = GOOD.get(request.param, picture())
    answer = requests.post(f"{url}/predict", data=body, timeout=SECONDS) if body else requests.get(url, timeout=SECONDS)
    assert answer.status_code == 200


def picture(format: str = "PNG", **options) -> bytes:
    image = Image.new("L", (200, 200), "white")
    ImageDraw.Draw(image).line([(60, 40), (140, 40), (90, 160)], fill="black", width=16, joint="curve")
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def post(*headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join(["POST /predict HTTP/1.1", "Host: x", *headers, "", ""]).encode() + body


REFUSED = {
    "two lengths": post("Content-Length: 1", "Content-Length: 2", body=b"55"),
    "no number as length": post("Content-Length: five", body=b"5"),
    "a negative length": post("Content-Length: -1", body=b"5"),
    "a broken chunk": post("Transfer-Encoding: chunked", body=b"zz\r\n5\r\n0\r\n\r\n"),
    "a header without a colon": post("Content-Length 1", body=b"5"),
    "a header of a megabyte": post("X-Large: " + "x" * 2**20, "Content-Length: 1", body=b"5"),
    "ten thousand headers": post(*["X-Many: x"] * 10_000, "Content-Length: 1", body=b"5"),
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "a path of 100 kB": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
def test_refused(url, sent):
    """With a 4xx, or with no answer at all and a closed connection."""
    assert all(400 <= status < 500 for status in statuses(talk(url, sent)))


def test_a_length_and_chunks_are_not_two_requests(url):
    """Where a proxy goes by the one and the service by the other, a request could be smuggled in."""
    smuggled = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    headers = ["Transfer-Encoding: chunked", f"Content-Length: {len(smuggled)}", "Connection: close"]
    assert len(statuses(talk(url, post(*headers, body=smuggled)))) <= 1


def test_pipelined_requests_are_answered_in_order(url):
    paths = ["/healthz", "/nowhere", "/healthz", "/nowhere"]
    sent = b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths)
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert statuses(talk(url, sent + last)) == [200, 404, 200, 404, 200]


@pytest.mark.parametrize(
    "path", ["/../app.py", "/static/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "//app.py", "/app.py%00", "/%ff%fe"]
)
def test_paths_lead_nowhere(url, path):
    answer = talk(url, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert all(300 <= status < 500 for status in statuses(answer))
    assert b"import" not in answer


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "PUT", "TRACE", "CONNECT", "NONSENSE"])
def test_methods(url, method):
    sent = f"{method} /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    assert statuses(talk(url, sent)) in ([405], [400], [404], [501], [])


NONSENSE = {
    "deep nesting": b"[" * 100_000,
    "deep nesting, closed": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"f1":' * 50_000,
    "a lone surrogate": rb'"\ud800"',
    "a lone surrogate as a name": rb'{"\ud800": 1}',
    "no UTF-8": b'{"f1": "\xff\xfe"}',
    "UTF-16": '{"f1": 1}'.encode("utf-16"),
    "bytes of zero": bytes(1000),
    "a number without end": b"1" * 3000,
    "an exponent without end": b"1e" + b"9" * 3000,
}


@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE)
@pytest.mark.parametrize("example", ["passing_arguments", "simple_ml", "image_classification"])
def test_nonsense(start, place, example, body):
    answer = requests.post(f"{start(example, place)}/predict", data=body, timeout=SECONDS)
    assert_problem(answer, answer.status_code)
    assert answer.status_code in (400, 413, 415, 422)


PART = b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
NO_TEXT = b'Content-Disposition: form-data; name="\xff"; filename="\xfe"\r\n\r\n'
INNER = b"Content-Type: multipart/form-data; boundary=y\r\n"
FORMS = {
    "a boundary of 100 kB": ("x" * 100_000, b"--x\r\n" + PART + b"5\r\n--x--\r\n"),
    "a part without an end": ("x", b"--x\r\n" + PART + b"5"),
    "the end alone": ("x", b"--x--\r\n"),
    "parts within parts": ("x", b"--x\r\n" + INNER + PART + b"--y--\r\n--x--\r\n"),
    "8,000 headers": ("x", b"--x\r\n" + b"X-Many: x\r\n" * 8000 + PART + b"5\r\n--x--\r\n"),
    "a header of a megabyte": ("x", b"--x\r\nX-Large: " + b"x" * 2**20 + b"\r\n" + PART + b"5\r\n--x--\r\n"),
    "10,000 empty parts": ("x", (b"--x\r\n" + PART + b"\r\n") * 10_000 + b"--x--\r\n"),
    "a name that is no text": ("x", b"--x\r\n" + NO_TEXT + b"5\r\n--x--\r\n"),
}


@pytest.mark.parametrize(("boundary", "body"), FORMS.values(), ids=FORMS)
def test_forms(start, place, boundary, body):
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    url = f"{start('image_classification', place)}/predict"
    try:
        answer = requests.post(url, data=body, headers=headers, timeout=SECONDS)
    except requests.ConnectionError:  # a header that is too long for the server
        assert boundary != "x"
    else:
        assert 400 <= answer.status_code < 500
    assert requests.post(url, data=picture(), timeout=SECONDS).json()["prediction"] == 7


def test_a_gif_that_never_ends(start, place):
    """Its first picture is what counts."""
    frames = [Image.new("L", (200, 200), shade) for shade in range(200)]
    body = picture("GIF", save_all=True, append_images=frames, loop=0, duration=10)
    answer = requests.post(f"{start('image_classification', place)}/predict", data=body, timeout=SECONDS)
    assert answer.json()["prediction"] == 7


def test_half_a_gigabyte_is_refused_unread(url):
    """Whatever the service lets through, the refusal comes after a small part of it."""
    address = urlsplit(url)
    piece, sent = bytes(2**16), 0
    with socket.create_connection((address.hostname, address.port), timeout=SECONDS) as connection:
        connection.sendall(post(f"Content-Length: {500 * 2**20}"))
        try:
            while sent < 500 * 2**20 and (sent < 2**20 or not refused(connection)):
                connection.sendall(piece)
                sent += len(piece)
        except (ConnectionError, TimeoutError):
            pass
    assert sent < 100 * 2**20


def refused(connection: socket.socket) -> bool:
    """Whether an answer has come, without waiting for one."""
    try:
        return bool(connection.recv(16, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False
