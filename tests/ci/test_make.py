"""The Makefile: what its targets do where Docker, the right Python or a way past the proxy is missing."""

import arm64
import contextlib
import http.server
import os
import pytest
import random
import re
import requests
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from examples import IMAGES, ROOT, docker, free_port
from helpers import copy_of
from pathlib import Path

NO_ENGINE = {"DOCKER_HOST": "unix:///no/engine"}
PROXY = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
OLD_PYTHON = f"""\
#!{sys.executable}
# stands for a Python 3.8, which can do nothing here but say so
import sys
if sys.argv[1] == "-V":
    print("Python 3.8.20")
elif sys.argv[1] == "-c":
    sys.version_info = (3, 8, 20, "final", 0)
    exec(sys.argv[2])
else:
    raise SyntaxError("invalid syntax")
"""


def run(*arguments: str | Path, folder: str | Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """Run a command in the repository, in an environment without what `make` has added to it."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(arguments, cwd=folder, env=ours | environment, capture_output=True, text=True)


def make(*arguments: str, folder: str | Path = ROOT, **environment: str) -> str:
    command = ["make", "--no-print-directory", f"PYTHON={sys.executable}"]
    done = run(*command, *arguments, folder=folder, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_help_lists_the_targets():
    listed = [line.split()[0] for line in make().splitlines()]
    assert listed == re.findall(r"^(\S+):.* ## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"run", "run-%", "stop", "logs", "test", "test-all", "arm64"} <= set(listed)


@pytest.mark.parametrize("example", IMAGES)
def test_run_without_an_engine(example):
    """And behind a company's proxy, which cannot reach this machine."""
    port = free_port()
    try:
        printed = make(f"run-{example}", f"PORT={port}", **NO_ENGINE, **PROXY)
        assert printed.startswith("Starting without containers, because ")
        assert f"http://localhost:{port}" in printed
        assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=10).ok
        assert "Started worker-1" in make("logs", **NO_ENGINE)
    finally:
        assert f"Stopped {example}" in make("stop", **NO_ENGINE)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/healthz", timeout=10)


def test_run_trains_once_whichever_file_the_model_becomes(tmp_path):
    """And again after an edit of a file that train.py may read."""
    for part in ("scripts", "simple_ml"):
        copy_of(part, tmp_path / part)
    shutil.copy2(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    train = tmp_path / "simple_ml" / "train.py"
    own = "make_pipeline(FunctionTransformer(lambda X: X), "
    train.write_text(
        train.read_text().replace("make_pipeline(", own).replace("import S", "import FunctionTransformer, S")
    )
    model, port, times = tmp_path / "simple_ml" / "model.pkl", free_port(), []
    for _ in range(2):
        try:
            assert "virginica" in make("run-simple_ml", f"PORT={port}", folder=tmp_path, **NO_ENGINE)
        finally:
            make("stop", folder=tmp_path, **NO_ENGINE)
        times.append(model.stat().st_mtime_ns)
    assert times[0] == times[1]
    for served in ("app.py", "batch.py"):
        (tmp_path / "simple_ml" / served).touch()
    assert "python train.py" not in make("--dry-run", "simple_ml/model.pkl", folder=tmp_path)
    (tmp_path / "simple_ml" / "houses.csv").touch()
    assert "python train.py" in make("--dry-run", "simple_ml/model.pkl", folder=tmp_path)


@pytest.mark.docker
def test_run_with_docker():
    """Behind a company's proxy. The image is labelled with its name, and with the commit where there is one."""
    port = free_port()
    try:
        printed = make("run-hello_world", f"PORT={port}", **PROXY)
        assert f"http://localhost:{port}  Hello World" in printed
        label = '{{index .Config.Labels "org.opencontainers.image.%s"}}'
        assert docker("inspect", "--format", label % "title", "hello_world") == "simpleflask"
        commit = run("git", "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty").stdout.strip()
        assert docker("inspect", "--format", label % "revision", "hello_world") == commit
    finally:
        assert "Stopped hello_world" in make("stop")


def two_ports() -> int:
    """Return the first of two free ports, below those that the system gives to other tests meanwhile."""
    for port in random.sample(range(20_000, 30_000, 2), 100):
        with (
            contextlib.suppress(OSError),
            socket.create_server(("0.0.0.0", port)),
            socket.create_server(("0.0.0.0", port + 1)),
        ):
            return port
    raise OSError("no two ports are free")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another program answers, as a service would; the port before it is free."""

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", two_ports() + 1), Other) as other:
        threading.Thread(target=other.serve_forever).start()
        yield other.server_port
        other.shutdown()


def run_two(first_port: int, **environment: str) -> subprocess.CompletedProcess:
    """Start two examples as `make run` starts four."""
    command = [sys.executable, "scripts/run.py", "start", "--port", str(first_port), "hello_world", "passing_arguments"]
    return run(*command, folder=ROOT, **environment)


WHERE = pytest.mark.parametrize(
    "environment", [pytest.param({}, marks=pytest.mark.docker), NO_ENGINE], ids=["with Docker", "without Docker"]
)


@WHERE
def test_a_port_that_another_program_has(taken, environment):
    """`make run` says so, does not take the other's answer for its own, and leaves nothing running."""
    done = run_two(taken - 1, **environment)
    assert done.returncode == 1
    assert f"Port {taken} is in use" in done.stderr
    assert "PORT=6001" in done.stderr
    assert f"http://localhost:{taken}" not in done.stdout
    assert not run("make", "logs", **environment).stdout.count("(container)")
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{taken - 1}/healthz", timeout=10)


@pytest.mark.docker
def test_a_port_of_another_address():
    """Docker finds it, after the first container has started; this is stopped again."""
    port = two_ports() + 1
    with socket.create_server(("127.0.0.2", port)):
        done = run_two(port - 1)
    assert done.returncode == 1
    assert f"Port {port} is in use" in done.stderr
    assert "PORT=6001" in done.stderr
    assert "Stopped hello_world" in done.stdout
    assert not docker("ps", "--all", "--quiet", "--filter", "name=^(hello_world|passing_arguments)$")


@pytest.mark.docker
def test_a_container_of_somebody_else(image):
    """It has the name of an example, and stays."""
    docker("run", "--detach", "--name", "hello_world", image("hello_world"))
    try:
        done = run("make", "run-hello_world", f"PYTHON={sys.executable}", f"PORT={free_port()}")
        assert done.returncode
        assert 'name "/hello_world" is already in use' in done.stderr
        assert "hello_world" not in make("stop")
        assert docker("inspect", "--format", "{{.State.Running}}", "hello_world") == "true"
    finally:
        docker("rm", "--force", "hello_world")


INTEL_ALONE = """\
#!/bin/sh
# stands for the Docker of a machine without an emulator, and for one without buildx
case "$*" in
    info) ;;
    "buildx version") exit $BUILDX_VERSION ;;
    "buildx inspect --bootstrap") echo "Platforms: linux/amd64*, linux/amd64/v2, linux/386, linux/arm/v7" ;;
    *) echo "docker $*: not expected" ; exit 99 ;;
esac
"""


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"BUILDX_VERSION": "0"}, r"no emulator\. Install one: `docker run .+ --install arm64`, .+ qemu-user-static`"),
        ({"BUILDX_VERSION": "1"}, r"no buildx here: run `sudo apt install docker-buildx`"),
        (NO_ENGINE | {"PATH": os.environ["PATH"]}, r"Images for ARM need Docker, but Docker is not"),
    ],
    ids=["no emulator", "no buildx", "no Docker"],
)
def test_arm64_says_what_is_missing(tmp_path, environment, sentence):
    docker = tmp_path / "docker"
    docker.write_text(INTEL_ALONE)
    docker.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = run("make", "arm64", f"PYTHON={sys.executable}", **path | environment)
    assert done.returncode == 2
    assert re.search(sentence, done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.docker
def test_arm64_finds_a_wrong_answer_and_a_wrong_processor(image, monkeypatch):
    """Shown with images for this machine's processor."""
    ours = docker("version", "--format", "{{.Server.Arch}}")
    monkeypatch.setattr(arm64, "PLATFORM", f"linux/{ours}")
    with pytest.raises(RuntimeError, match=r"hello_world answers '<!doctype html>.* does not begin with 'Hello World'"):
        arm64.check("hello_world", image("passing_arguments"))
    if ours == "arm64":
        assert arm64.check("hello_world", image("hello_world")) == "Hello World"
    else:
        with pytest.raises(RuntimeError, match=r"hello_world runs on .+, not on aarch64"):
            arm64.check("hello_world", image("hello_world"))


def test_a_clone_with_the_line_ends_of_windows(tmp_path):
    """Where git is set to write CRLF, the scripts are still read by bash and make."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "core.autocrlf=true"]
    made = shutil.ignore_patterns(".git", ".venv", ".run", ".*_cache", "__pycache__", "model.onnx", "model.pkl", "sbom")
    shutil.copytree(ROOT, tmp_path / "original", ignore=made)
    for command in ["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "all"]:
        subprocess.run([*git, *command], cwd=tmp_path / "original", check=True, capture_output=True)
    subprocess.run([*git, "clone", "--quiet", tmp_path / "original", tmp_path / "clone"], check=True)
    subprocess.run(["bash", "-n", ".ci/run"], cwd=tmp_path / "clone", check=True)
    listed = subprocess.run(["make", "help"], cwd=tmp_path / "clone", capture_output=True, text=True, check=True)
    assert "run-%" in listed.stdout
    assert b"\r\n" not in (tmp_path / "clone" / ".ci" / "run").read_bytes()
    picture = "image_classification/samples/seven.png"
    assert (tmp_path / "clone" / picture).read_bytes() == (ROOT / picture).read_bytes()


@pytest.fixture
def old_python(tmp_path) -> Iterator[Path]:
    file = tmp_path / "python3.8"
    file.write_text(OLD_PYTHON)
    file.chmod(0o755)
    return file


@pytest.mark.parametrize("environment", [{}, NO_ENGINE], ids=["with Docker", "without Docker"])
@pytest.mark.parametrize("target", ["run", "run-hello_world", "stop", "logs", ".venv/scripts", "test"])
def test_an_old_python_says_so(old_python, target, environment):
    options = ["--always-make"] if target in (".venv/scripts", "test") else []  # else they may have been made already
    done = run("make", *options, target, f"PYTHON={old_python}", **environment)
    assert done.returncode == 2
    sentence = f"{old_python} is Python 3.8.20. Set one from 3.11 to 3.14, as in: make PYTHON=python3.12 {target}"
    assert sentence in (done.stdout + done.stderr).splitlines()
    assert "SyntaxError" not in done.stderr


def pytest_without_an_engine(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "-o", "norecursedirs=", "--collect-only", "--quiet", *arguments]
    return run(*command, folder=ROOT, **NO_ENGINE, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")


def test_tests_say_what_they_leave_out_without_an_engine():
    done = pytest_without_an_engine("tests/test_contract.py", "tests/test_docker.py")
    assert done.returncode == 0
    assert "tests left out, because Docker is not running" in done.stdout
    assert "[process-" in done.stdout
    assert "[container-" not in done.stdout
    assert "test_docker.py" not in done.stdout


def test_nothing_is_left_out_of_the_tests_for_ci():
    done = pytest_without_an_engine("tests/ci/test_layout.py", "tests/ci/test_compose.py")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "Tests in tests/ci need Docker, but Docker is not running" in done.stderr
