"""What goes wrong in production: workers that are killed, stops under load, no model, no memory, slow clients."""

import concurrent.futures
import contextlib
import io
import json
import os
import pytest
import re
import requests
import shutil
import signal
import socket
import subprocess
import threading
import time
import yaml
from collections.abc import Iterator
from examples import IMAGES, ROOT, container, docker, free_port, inside, workers
from helpers import assert_problem, eventually, process, python
from PIL import Image, ImageDraw
from run import SETTINGS
from urllib.parse import urlsplit

CLIENTS = 8
SECONDS = 60
PREDICTING = ["passing_arguments", "simple_ml", "image_classification"]
BLOCK = 65536  # bytes that are read at a time


@contextlib.contextmanager
def load(url: str) -> Iterator[dict[str, int]]:
    """Ask all the while, a connection for each request, and count: sent, failed (and then tried again), lost."""

    def client(number: int) -> None:
        while not stop.is_set():
            failures = 0
            while failures < 5:
                try:
                    assert requests.get(url, timeout=30).ok
                    break
                except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
                    print(f"client {number}, second {time.monotonic() - start:.3f}: {error}")
                failures += 1
                time.sleep(1)  # a worker that is killed takes connections until its own socket is closed
            with lock:
                counts["sent"] += 1
                counts["failed"] += failures
                counts["lost"] += failures == 5

    counts = {"sent": 0, "failed": 0, "lost": 0}
    start, stop, lock = time.monotonic(), threading.Event(), threading.Lock()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, number) for number in range(CLIENTS)]
        try:
            yield counts
        finally:
            stop.set()
        for each in clients:
            each.result()


@pytest.mark.docker
def test_a_killed_worker_is_replaced_under_load(image):
    """At most one request of each client fails, and is answered when it is sent again. No other request fails."""
    with container(image("hello_world")) as (port, name), load(f"http://127.0.0.1:{port}") as counts:
        eventually("there are two workers", lambda: len(workers(name)) == 2)
        victim = workers(name).pop()
        eventually("there is load", lambda: counts["sent"] > 100)
        docker("exec", name, "python3", "-c", f"import os, signal; os.kill({victim}, signal.SIGKILL)")
        eventually("another has its place", lambda: victim not in workers(name) and len(workers(name)) == 2)
        sent = counts["sent"]
        eventually("there is load", lambda: counts["sent"] > sent + 100)
    assert counts["failed"] <= CLIENTS
    assert counts["lost"] == 0


def photo() -> bytes:
    """A digit of 12 megapixels: some time's work."""
    image = Image.new("RGB", (4000, 3000), "white")
    ImageDraw.Draw(image).line([(1500, 600), (2500, 600), (1800, 2400)], fill="black", width=200, joint="curve")
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


SIGNALS = [signal.SIGTERM, signal.SIGINT]  # of `docker stop`, of Ctrl-C


@pytest.mark.parametrize("sent", SIGNALS)
def test_a_stop_answers_what_was_accepted(sent):
    body = photo()
    with process("image_classification") as (url, server), concurrent.futures.ThreadPoolExecutor(32) as pool:
        address = urlsplit(url)
        connections = []
        for _ in range(32):  # all but the last byte of each: accepted, and under way
            connection = socket.create_connection((address.hostname, address.port), timeout=30)
            head = f"POST /predict HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[:-1])
            connections.append(connection)

        def finish(connection: socket.socket) -> bytes:
            with connection:
                connection.sendall(body[-1:])
                return connection.recv(100_000)

        answers = [pool.submit(finish, connection) for connection in connections]
        concurrent.futures.wait(answers, return_when=concurrent.futures.FIRST_COMPLETED)
        server.send_signal(sent)
        assert {answer.result().splitlines()[0] for answer in answers} == {b"HTTP/1.1 200 OK"}
        assert server.wait(SECONDS) == 0


def test_a_stop_does_not_wait_for_a_stalled_upload():
    """All at once, since each waits for the upload as long as it would for a request that is being answered."""
    with contextlib.ExitStack() as stack:
        servers = [(sent, stack.enter_context(process(example))) for example in PREDICTING for sent in SIGNALS]
        for _, (url, _) in servers:
            address = urlsplit(url)
            connection = stack.enter_context(socket.create_connection((address.hostname, address.port)))
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n5")
            requests.get(f"{url}/healthz", timeout=30)
        before = time.monotonic()
        for sent, (_, server) in servers:
            server.send_signal(sent)
        assert [server.wait(SECONDS) for _, (_, server) in servers] == [0] * len(servers)
        assert time.monotonic() - before < 30  # 8 seconds, and more where the machine is busy


def test_a_stop_does_not_wait_for_idle_http2():
    """A preface and empty settings: what a client sends that then asks nothing. An HTTP/1.1 server sends it away."""
    with process("hello_world", GRANIAN_WORKERS="1") as (url, server), contextlib.ExitStack() as stack:
        address = urlsplit(url)
        for _ in range(4):
            client = stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=SECONDS))
            client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"))
            client.recv(BLOCK)
        before = time.monotonic()
        server.terminate()
        assert server.wait(SECONDS) == 0
        assert time.monotonic() - before < 8  # what hangs is killed after eight seconds


@pytest.mark.parametrize("fault", ["missing", "cut off", "empty"])
@pytest.mark.parametrize(("example", "model"), [("simple_ml", "model.onnx"), ("image_classification", "model.tflite")])
def test_no_model(example, model, fault, tmp_path):
    """It ends at once, with the model's name in the last line, and does not start workers again and again."""
    folder = shutil.copytree(ROOT / example, tmp_path / example)
    content = (folder / model).read_bytes()
    (folder / model).unlink()
    if fault != "missing":
        (folder / model).write_bytes(content[: len(content) // 2] if fault == "cut off" else b"")
    environment = os.environ | SETTINGS | {"GRANIAN_PORT": str(free_port())}
    answer = subprocess.run(
        [python(example), "app.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert answer.returncode == 1
    assert model in answer.stderr.strip().splitlines()[-1]


def test_a_port_that_is_taken():
    with socket.create_server(("0.0.0.0", 0)) as other:
        answer = subprocess.run(
            [python("hello_world"), "app.py"],
            cwd=ROOT / "hello_world",
            env=os.environ | SETTINGS | {"GRANIAN_PORT": str(other.getsockname()[1]), "RUST_BACKTRACE": "0"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    assert answer.returncode == 1
    assert "Address already in use" in answer.stderr.strip().splitlines()[-1]


# 140 MB and no swap; restarted, as the README starts it
LITTLE = ["--memory", "140m", "--memory-swap", "140m", "--env", "GRANIAN_WORKERS=1", "--restart", "unless-stopped"]


@pytest.mark.docker
def test_out_of_memory_and_it_answers_again(image):
    """Linux kills the worker, which is replaced; rarely, on a busy machine, process 1, and Docker starts it again."""
    rows = json.dumps([{"f1": 5.1, "f2": 3.5, "f3": 1.4}] * 100_000)
    with container(image("simple_ml"), *LITTLE) as (port, _):
        url = f"http://127.0.0.1:{port}/predict"
        with pytest.raises(requests.ConnectionError):
            requests.post(url, data=rows, timeout=SECONDS)

        flower = '{"f1": 4, "f2": 5, "f3": 10}'
        eventually("it answers again", lambda: requests.post(url, data=flower, timeout=SECONDS).ok)


def compose(example: str) -> dict:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())["services"][example]


LARGE = {
    "simple_ml": lambda: json.dumps([{"f1": 5.1, "f2": 3.5, "f3": 1.4}] * 200_000).encode(),  # a 422: over 100,000
    "image_classification": lambda: photo() + bytes(4_000_000),  # what follows a JPEG's end is not looked at
}


@pytest.mark.docker
@pytest.mark.parametrize("example", LARGE)
def test_many_large_requests_at_once_take_no_more_memory_than_there_is(image, example):
    """160, in the memory that compose.yaml gives it: some may be refused, and no worker is killed."""
    body = LARGE[example]()

    def post(_: int) -> int | None:
        with contextlib.suppress(requests.ConnectionError):  # refused before all of it was sent
            url = f"http://127.0.0.1:{port}/predict"
            with requests.post(url, data=body, timeout=SECONDS, stream=True) as answer:  # the rest may be cut off
                return answer.status_code
        return None

    memory = compose(example)["deploy"]["resources"]["limits"]["memory"]
    with container(image(example), "--memory", memory, "--memory-swap", memory) as (port, name):
        before = workers(name)
        with concurrent.futures.ThreadPoolExecutor(160) as pool:
            statuses = set(pool.map(post, range(160)))
        assert statuses & {200, 422}
        assert statuses <= {200, 422, 503, None}
        assert workers(name) == before


GOOD = {
    "simple_ml": b'{"f1": 4, "f2": 5, "f3": 10}' + b" " * BLOCK,
    "image_classification": (ROOT / "image_classification" / "samples" / "seven.png").read_bytes() + bytes(BLOCK),
}


@pytest.mark.parametrize(("example", "blocks"), [("simple_ml", 122), ("image_classification", 256)])
def test_no_room_for_another_body(example, blocks):
    """Long bodies without their last byte: 8, or 4, of so many blocks fill the memory that a worker gives to bodies."""
    with process(example, GRANIAN_WORKERS="1") as (url, _), contextlib.ExitStack() as stack:
        address = urlsplit(url)

        def stall(size: int) -> None:
            connection = stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=30))
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (size + 1))
            connection.sendall(bytes(size))

        def answer() -> requests.Response:
            return requests.post(f"{url}/predict", data=GOOD[example], timeout=SECONDS)

        def refused() -> bool:
            if answer().status_code == 503:
                return True
            stall(blocks * BLOCK)  # one more: it may be one of these that was refused
            return False

        eventually("it is refused", refused)
        assert answer().headers["Retry-After"] == "1"
        assert_problem(answer(), 503)
        stack.pop_all().close()  # they go away
        eventually("there is room again", lambda: answer().status_code == 200)


@pytest.mark.docker
@pytest.mark.parametrize("options", [["--tmpfs", "/tmp:size=4k"], []], ids=["/tmp is full", "nothing can be written"])
def test_nowhere_to_write_to(image, options):
    with container(image("image_classification"), *options) as (port, _):
        body = photo() + bytes(2**22)  # what follows a JPEG's end is not looked at
        answer = requests.post(f"http://127.0.0.1:{port}/predict", files={"file": body}, timeout=SECONDS)
        assert answer.json()["prediction"] == 7


SLOW = {
    "silent": b"",
    "half a header": b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-",
    "half a body": b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n5",
}

STARVED = 20  # seconds; after 30, Granian cuts off who has sent no whole header, and the next is served


@contextlib.contextmanager
def slow_clients(url: str, count: int, sent: bytes) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        address = urlsplit(url)
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=30))
            connection.sendall(sent)
        yield


def listening(name: str) -> int:
    """Return how many sockets of a container listen on port 5000 (1388 in hexadecimal), as proc_pid_net(5) says."""
    return len(re.findall(r":1388 \w+:0000 0A ", inside(name, "cat /proc/net/tcp")))


@pytest.mark.docker
@pytest.mark.parametrize("example", IMAGES)
def test_two_hundred_slow_clients_do_not_keep_another_waiting(image, example):
    with container(image(example)) as (port, name):
        url = f"http://127.0.0.1:{port}"
        eventually("both workers listen, each on a socket of its own", lambda: listening(name) == 2)
        for slow, sent in SLOW.items():
            with slow_clients(url, 200, sent):
                for number in range(100):
                    print(slow, number)
                    assert requests.get(f"{url}/healthz", timeout=STARVED).ok


@pytest.mark.docker
@pytest.mark.parametrize("example", PREDICTING)
def test_as_many_slow_bodies_as_it_takes_connections_do_not_starve_another(image, example):
    """With the threads that compose.yaml gives it; with Granian's own, half as many would. And in little memory."""
    environment = compose(example)["environment"]  # such as ${GRANIAN_WORKERS:-2}
    options = [f"--env={name}={value.partition(':-')[2].rstrip('}')}" for name, value in environment.items()]
    options += ["--memory", "256m", "--memory-swap", "256m"]
    with container(image(example), *options) as (port, name):
        url = f"http://127.0.0.1:{port}"
        eventually("both workers listen, each on a socket of its own", lambda: listening(name) == 2)
        with slow_clients(url, 900, SLOW["half a body"]):
            before = workers(name)
            for _ in range(20):
                assert requests.get(f"{url}/healthz", timeout=STARVED).ok
            assert workers(name) == before
