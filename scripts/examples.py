"""The four examples: their images, their first requests, their containers. For the Makefile, the tests and benchmarks.

Standard library only: `make run` uses it before anything is installed.
"""

import contextlib
import http.client
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = {
    "hello_world": "simpleflask",
    "passing_arguments": "passingarguments",
    "simple_ml": "simpleml",
    "image_classification": "imageclassification",
}
SAFE = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
START_SECONDS = 60

# method, path and body, and headers if it needs any
Request = tuple[str, str, bytes | None] | tuple[str, str, bytes | None, dict[str, str]]


def request_of(example: str) -> Request:
    """Return the first request that an example's README shows."""
    if example == "hello_world":
        return "GET", "/", None
    if example == "image_classification":
        return "POST", "/predict", (ROOT / example / "samples" / "seven.png").read_bytes()
    return "POST", "/predict", {"passing_arguments": b"5", "simple_ml": b'{"f1":4, "f2":5, "f3":10}'}[example]


def form(picture: bytes) -> Request:
    """Return a request that sends a picture to image_classification as browsers do, in the field `file` of a form."""
    start = b'--x\r\nContent-Disposition: form-data; name="file"; filename="picture"\r\n\r\n'
    return "POST", "/predict", start + picture + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


def ask(port: int, request: Request, timeout: float = 10, host: str = "127.0.0.1", count: int = 1) -> bytes:
    """Send a request, past any proxy, and return the body of the answer. Raises OSError if its status is not 200.

    With a `count`, send it so many times over one connection, and return the last answer.
    """
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        for _ in range(count):
            connection.request(*request)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise OSError(f"{request[0]} {request[1]} on port {port} answered {answer.status}: {body[:300]!r}")
    except http.client.HTTPException as error:
        raise OSError(f"port {port} does not answer as a web server: {error!r}") from error
    finally:
        connection.close()
    return body


def wait_for_answer(
    port: int,
    request: Request,
    is_running: Callable[[], bool],
    host: str = "127.0.0.1",
    seconds: float = START_SECONDS,
    pause: float = 0.05,
) -> bytes:
    """Repeat a request until it is answered with 200. Raises RuntimeError if the server ends, or after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask(port, request, host=host)
        except OSError as error:
            if not is_running():
                raise RuntimeError("it ended before it answered") from error
            if time.monotonic() > deadline:
                raise RuntimeError(f"no answer within {seconds} seconds: {error}") from error
        time.sleep(pause)


def wait_until_healthy(port: int, is_running: Callable[[], bool]) -> None:
    """Return once /healthz answers 200. Raises RuntimeError if the server ends, or after START_SECONDS."""
    wait_for_answer(port, ("GET", "/healthz", None), is_running)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def docker(*arguments: str | Path, **options) -> str:
    """Run a docker command and return what it printed, without the last newline. Raises RuntimeError if it fails."""
    done = subprocess.run(["docker", *map(str, arguments)], capture_output=True, text=True, **options)
    if done.returncode:
        why = "\n".join((done.stdout + done.stderr).strip().splitlines()[-40:])  # in a build, what its step printed
        raise RuntimeError(f"docker {' '.join(map(str, arguments))}: {why}")
    return done.stdout.strip()


def build(example: str, *options: str) -> None:
    docker("build", "--tag", IMAGES[example], *options, ROOT / example)  # --quiet would also hide why it fails


def runs(name: str) -> bool:
    with contextlib.suppress(RuntimeError):
        return docker("inspect", "--format", "{{.State.Running}}", name) == "true"
    return False


def run(image: str, *options: str) -> tuple[int, str]:
    """Start a container that has as few rights as it needs: (port, id)."""
    port = free_port()
    return port, docker("run", "--detach", "--publish", f"127.0.0.1:{port}:5000", *SAFE, *options, image)


@contextlib.contextmanager
def container(image: str, *options: str) -> Iterator[tuple[int, str]]:
    """Run an image as run() does, wait until it is healthy, and remove it in the end: (port, id)."""
    port, name = run(image, *options)
    try:
        wait_until_healthy(port, lambda: runs(name))
        yield port, name
    finally:
        docker("rm", "--force", name)


def inside(name: str, command: str) -> str:
    """Run a shell command in a container and return what it printed."""
    return docker("exec", name, "sh", "-c", command)


def servers(name: str) -> list[list[str]]:
    """Return the fields of /proc/PID/stat (see proc(5)) after the command, of all server processes in a container."""
    lines = inside(name, "cat /proc/[0-9]*/stat 2>/dev/null || true").splitlines()  # a process may just have ended
    fields = [line.rpartition(")")[2].split() for line in lines if "(python3)" in line or "(granian" in line]
    return [each for each in fields if each[3] == "1"]  # in the session of process 1: not a health check


def processor_seconds(name: str) -> float:
    """Return the processor time that the servers in a container have used."""
    return sum(int(fields[11]) + int(fields[12]) for fields in servers(name)) / int(inside(name, "getconf CLK_TCK"))


def resident_memory(name: str) -> int:
    """Return the bytes of memory of the servers in a container, added up: shared memory counts several times."""
    return int(inside(name, "getconf PAGESIZE")) * sum(int(fields[21]) for fields in servers(name))


def container_memory(name: str, peak: bool = False) -> int:
    """Return the bytes that a container uses now, or has used at most, from control groups version 2 or 1."""
    new, old = ("memory.peak", "memory.max_usage_in_bytes") if peak else ("memory.current", "memory.usage_in_bytes")
    folder = "/sys/fs/cgroup"
    return int(inside(name, f"cat {folder}/{new} 2>/dev/null || cat {folder}/memory/{old}"))


def workers(name: str) -> set[int]:
    """Return the process ids of the workers in a container: other ids mean that a worker has died."""
    return {int(pid) for pid in inside(name, "cat /proc/1/task/1/children").split()}
