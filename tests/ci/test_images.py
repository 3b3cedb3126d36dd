"""The images: small, built by both builders from a folder alone, with nothing in them but what the service needs."""

import os
import pytest
import re
import requests
import shutil
import subprocess
from examples import IMAGES, ROOT, container, docker
from helpers import eventually

pytestmark = pytest.mark.docker
LIMITS = {"hello_world": 75, "passing_arguments": 80, "simple_ml": 220, "image_classification": 245}  # MB over the base


@pytest.mark.parametrize("example", IMAGES)
def test_size_over_the_base(image, example):
    size, base = (int(docker("image", "inspect", "--format", "{{.Size}}", i)) for i in (image(example), "ubuntu:24.04"))
    assert (size - base) / 1e6 <= LIMITS[example]


def test_the_legacy_builder_builds_it(tmp_path):
    """The builder of Docker 20.10. Of the four, simple_ml's Dockerfile has every kind of step."""
    tag = f"{IMAGES['simple_ml']}:legacy"
    copy = shutil.copytree(ROOT / "simple_ml", tmp_path / "copy")  # an example is independent of the repository
    # the same steps, with one small package for training: what they install and train, other tests show
    (click,) = re.findall(r"(?ms)^click==.*?(?=^\S)", (copy / "requirements.txt").read_text())
    (copy / "requirements-train.txt").write_text(click)
    shutil.copy(ROOT / "simple_ml" / "model.onnx", copy / "trained.onnx")
    (copy / "train.py").write_text("import shutil\n\nshutil.copy('trained.onnx', 'model.onnx')\n")
    try:
        docker("build", "--tag", tag, copy, env=os.environ | {"DOCKER_BUILDKIT": "0"})
        with container(tag) as (port, _):
            assert requests.get(f"http://127.0.0.1:{port}", timeout=10).ok
    finally:
        docker("rmi", "--force", tag)


@pytest.mark.parametrize("example", IMAGES)
def test_it_has_no_kind_of_step_that_the_legacy_builder_is_not_asked_for(example):
    def kinds(example: str) -> set[str]:
        return set(re.findall(r"^[A-Z]+\b(?: --[a-z-]+)*", (ROOT / example / "Dockerfile").read_text(), re.MULTILINE))

    assert kinds(example) <= kinds("simple_ml")


def test_a_build_that_fails_says_why(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM ubuntu:24.04\nRUN expr 6 \\* 7 && false\n")
    with pytest.raises(RuntimeError, match=r"(?m)^0\.\d+ 42$"):
        docker("build", tmp_path)


def test_a_client_that_comes_too_early_tries_again(image):
    name = docker("run", "--detach", "--publish", "127.0.0.1::5000", image("hello_world"))
    try:
        address = docker("port", name, "5000/tcp")
        curl = ["curl", "--retry", "9", "--retry-all-errors", address]  # as in docs/troubleshooting.md
        assert subprocess.run(curl, capture_output=True, text=True, timeout=60).stdout == "Hello World\n"
    finally:
        docker("rm", "--force", name)


INSIDE = """
import glob, importlib.util, os, shutil, sys
print(os.getuid(), os.getgid())
print(shutil.which("pip"), shutil.which("gcc"), importlib.util.find_spec("pip"))
print([folder for folder in ("/app", "/packages") if os.access(folder, os.W_OK)], glob.glob("/var/lib/apt/lists/*"))
"""


@pytest.mark.parametrize("example", IMAGES)
def test_nothing_to_build_with_and_nothing_to_write_to(image, example):
    assert docker("run", "--rm", image(example), "-c", INSIDE) == "10001 10001\nNone None None\n[] []"


@pytest.mark.parametrize("example", IMAGES)
def test_user_is_a_number(image, example):
    """Kubernetes cannot see that a user with a name is not root."""
    assert docker("image", "inspect", "--format", "{{.Config.User}}", image(example)) == "10001:10001"


@pytest.mark.parametrize("example", IMAGES)
def test_another_user(image, example):
    """As OpenShift starts it: any user id, in the group 0."""
    with container(image(example), "--user", "1234567:0") as (port, _):
        assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=10).ok


@pytest.mark.parametrize("example", IMAGES)
def test_options(image, example):
    assert "--workers" in docker("run", "--rm", image(example), "app.py", "--help")
    command = ["docker", "run", "--rm", "--env", "GRANIAN_WORKERS=no", image(example)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 2
    assert "'no' is not a valid integer" in answer.stderr


def test_logs(image):
    with container(image("hello_world"), "--env", "GRANIAN_LOG_ACCESS_ENABLED=1") as (port, name):
        requests.get(f"http://127.0.0.1:{port}/nowhere", timeout=10)

        def log() -> str:
            command = ["docker", "logs", name]
            return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout

        # it is written after the answer
        eventually("the request is in the log", lambda: '"GET /nowhere HTTP/1.1" 404' in log())
        assert "Started worker-1" in log()
