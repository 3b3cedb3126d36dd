"""The Dockerfiles: built by both builders, run locked down, healthy, stopped cleanly."""

import os
import pytest
import requests
import shutil
import subprocess
import time
from conftest import EXAMPLES, ROOT, container, docker

pytestmark = pytest.mark.docker
LIMITS = {"hello_world": 70, "passing_arguments": 70, "simple_ml": 215, "image_classification": 215}  # MB over the base


@pytest.mark.parametrize("example", EXAMPLES)
def test_size_over_the_base(built, example):
    size, base = (int(docker("image", "inspect", "--format", "{{.Size}}", i)) for i in (built(example), "ubuntu:24.04"))
    assert (size - base) / 1e6 <= LIMITS[example]


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_copy_of_the_folder_builds_with_the_legacy_builder(example, tmp_path):
    """An example is independent of the repository, and Ubuntu's docker.io comes without BuildKit."""
    shutil.copytree(ROOT / example, tmp_path / example)
    environment = os.environ | {"DOCKER_BUILDKIT": "0"}
    docker("build", "--tag", f"{EXAMPLES[example]}:legacy", tmp_path / example, env=environment)
    try:
        with container(f"{EXAMPLES[example]}:legacy") as (url, _):
            assert requests.get(url, timeout=10).ok
    finally:
        docker("rmi", f"{EXAMPLES[example]}:legacy")


@pytest.mark.parametrize("example", EXAMPLES)
def test_healthy_then_stopped(built, example):
    with container(built(example)) as (_, name):
        assert health(name) == "healthy"
        docker("stop", name)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", name) == "0"


def test_a_client_that_comes_too_early_tries_again(built):
    name = docker("run", "--detach", "--publish", "127.0.0.1::5000", built("hello_world"))
    try:
        address = docker("port", name, "5000/tcp")
        curl = ["curl", "--retry", "9", "--retry-all-errors", address]  # as in the README's troubleshooting
        assert subprocess.run(curl, capture_output=True, text=True, timeout=60).stdout == "Hello World\n"
    finally:
        docker("rm", "--force", name)


def test_health_follows_the_port(built):
    name = docker("run", "--detach", "--env", "GRANIAN_PORT=8080", built("hello_world"))
    try:
        assert health(name) == "healthy"
    finally:
        docker("rm", "--force", name)


def health(name: str) -> str:
    """Wait for the first verdict of a container's HEALTHCHECK."""
    verdict = "starting"
    while verdict == "starting":
        time.sleep(0.2)
        verdict = docker("inspect", "--format", "{{.State.Health.Status}}", name)
    return verdict


@pytest.mark.parametrize("example", EXAMPLES)
def test_not_root_and_nothing_to_build_with(built, example):
    def run(code: str) -> str:
        return docker("run", "--rm", built(example), "-c", code)

    assert run("import os; print(os.getuid(), os.getgid())") == "10001 10001"
    assert run("import shutil; print(shutil.which('pip'), shutil.which('gcc'))") == "None None"
    assert run("import os; print(os.access('/app', os.W_OK), os.access('/venv', os.W_OK))") == "False False"
    assert run("import glob; print(len(glob.glob('/var/lib/apt/lists/*')))") == "0"


@pytest.mark.parametrize("example", EXAMPLES)
def test_logs_and_options(built, example):
    assert "--workers" in docker("run", "--rm", built(example), "app.py", "--help")
    answer = subprocess.run(
        ["docker", "run", "--rm", "--env", "GRANIAN_WORKERS=no", built(example)], capture_output=True, text=True
    )
    assert answer.returncode == 2
    assert "'no' is not a valid integer" in answer.stderr
    with container(built(example), "--env", "GRANIAN_LOG_ACCESS_ENABLED=1") as (url, name):
        requests.get(f"{url}/nowhere", timeout=10)
        logs = ["docker", "logs", name]
        while '"GET /nowhere HTTP/1.1" 404' not in (
            log := subprocess.run(logs, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
        ):
            time.sleep(0.1)  # it is written after the answer
        assert "Started worker-1" in log
