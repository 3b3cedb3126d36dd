"""The real servers that the tests talk to, over HTTP: as processes, and in containers where an engine answers."""

import contextlib
import fcntl
import functools
import json
import os
import pytest
import requests
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = {
    "hello_world": "simpleflask",
    "passing_arguments": "passingarguments",
    "simple_ml": "simpleml",
    "image_classification": "imageclassification",
}
SAFE = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
START_SECONDS = 60


def answers(*command: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True).returncode == 0
    return False


@pytest.hookimpl(trylast=True)  # after `-m` has left out what it leaves out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run nothing where an engine is needed and none answers: what is skipped looks like what has passed."""
    for mark, command in {"docker": ["docker", "info"], "compose": ["docker", "compose", "version"]}.items():
        if any(mark in item.keywords for item in items) and not answers(*command):
            without = f"make test ARGS=\"-m 'not {mark}'\""
            raise pytest.UsageError(f"`{' '.join(command)}` fails. Without the tests that need it: {without}")


def npm_install(package: str, version: str) -> Path:
    """Install a package from npm into .venv/PACKAGE, unless this version is there already: its node_modules."""
    folder = ROOT / ".venv" / package
    manifest = folder / "node_modules" / package / "package.json"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests in another process may be at it
        if not manifest.exists() or json.loads(manifest.read_text())["version"] != version:
            quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error"]
            subprocess.run(
                ["npm", "install", *quiet, "--prefix", folder, f"{package}@{version}"], check=True, timeout=300
            )
    return folder / "node_modules"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_until_healthy(url: str, alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.RequestException):  # a timeout, too, where the machine is busy
            if requests.get(f"{url}/healthz", timeout=5).ok:
                return
        assert alive(), "it ended before it answered"
        time.sleep(0.05)
    pytest.fail(f"{url} did not answer within {START_SECONDS} s")


@contextlib.contextmanager
def process(example: str, folder: Path | None = None, **environment: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """Run `python3 app.py` of an example (or of a copy of its folder) with its own packages: (address, process)."""
    port = str(free_port())
    server = subprocess.Popen(
        [ROOT / ".venv" / example / "bin" / "python", "app.py"],
        cwd=folder or ROOT / example,
        env=os.environ | {"GRANIAN_PORT": port, "GRANIAN_WORKERS": "2"} | environment,
        stdin=subprocess.DEVNULL,
    )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", lambda: server.poll() is None)
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.terminate()
        server.wait(20)


def docker(*arguments: str | Path, **options) -> str:
    """Run a docker command and return what it printed, without the last newline."""
    answer = subprocess.run(["docker", *arguments], capture_output=True, text=True, **options)
    assert answer.returncode == 0, f"docker {' '.join(map(str, arguments))}: {answer.stderr}"
    return answer.stdout.strip()


@contextlib.contextmanager
def container(image: str, *options: str) -> Iterator[tuple[str, str]]:
    """Run an image as locked down as it can be: (address, container id)."""
    port = free_port()
    name = docker("run", "--detach", "--publish", f"127.0.0.1:{port}:5000", *SAFE, *options, image)
    try:
        alive = ["inspect", "--format", "{{.State.Running}}", name]
        wait_until_healthy(f"http://127.0.0.1:{port}", lambda: docker(*alive) == "true")
        yield f"http://127.0.0.1:{port}", name
    finally:
        docker("rm", "--force", name)


@pytest.fixture(scope="session")
def built() -> Callable[[str], str]:
    """Build an example's image, once, and return its tag: its own, since the READMEs' commands move the usual."""

    @functools.cache
    def build(example: str) -> str:
        tag = f"{EXAMPLES[example]}:tested"
        docker("build", "--tag", EXAMPLES[example], "--tag", tag, ROOT / example)
        return tag

    return build


@pytest.fixture(scope="session")
def start(built: Callable[[str], str]) -> Iterator[Callable[[str, str], str]]:
    """Start an example as a "process" or a "container", once for the whole run, and return its address."""
    with contextlib.ExitStack() as stack:

        def start(example: str, place: str) -> str:
            if (example, place) not in started:
                server = process(example) if place == "process" else container(built(example))
                started[example, place] = stack.enter_context(server)[0]
            return started[example, place]

        started: dict[tuple[str, str], str] = {}
        yield start


@pytest.fixture(params=["process", pytest.param("container", marks=pytest.mark.docker)])
def place(request: pytest.FixtureRequest) -> str:
    return request.param


def assert_problem(answer: requests.Response, status: int) -> dict:
    """Check that an answer is an error as RFC 9457 wants it, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.text.endswith("\n")
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in answer.text
    return problem
