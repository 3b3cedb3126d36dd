"""compose.yaml: the four on one machine, limited, locked down, healthy, and back when one of them ends."""

import json
import pytest
import re
import requests
import time
import yaml
from collections.abc import Iterator
from examples import IMAGES, ROOT, docker
from typing import NamedTuple

pytestmark = [pytest.mark.docker, pytest.mark.compose]
PROJECT = "composetest"
SECONDS = 120
MEGABYTES = {"hello_world": 256, "passing_arguments": 256, "simple_ml": 1024, "image_classification": 512}


class Up(NamedTuple):
    containers: dict[str, str]  # the id of each
    seconds: float  # from the start until all were healthy


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Iterator[Up]:
    """Start all four as the documentation says, but on free ports."""
    ports = tmp_path_factory.mktemp("compose") / "ports.yaml"  # in place of compose.override.yaml
    ports.write_text(json.dumps({"services": {example: {"ports": ["127.0.0.1::5000"]} for example in IMAGES}}))
    compose = ["compose", "--project-name", PROJECT, "--file", ROOT / "compose.yaml", "--file", ports]
    try:
        docker(*compose, "build")
        before = time.monotonic()
        docker(*compose, "up", "--wait")
        seconds = time.monotonic() - before
        yield Up({example: docker(*compose, "ps", "--quiet", example) for example in IMAGES}, seconds)
    finally:
        docker(*compose, "down")


@pytest.fixture
def up(project) -> dict[str, str]:
    return project.containers


def url(container: str) -> str:
    return "http://" + docker("port", container, "5000")


def test_all_are_healthy_soon(project):
    """Seven seconds, and some more to make a network and four containers on a machine that is busy."""
    assert project.seconds < 7 + 8


@pytest.mark.parametrize("example", IMAGES)
def test_up(up, example):
    assert requests.get(f"{url(up[example])}/healthz", timeout=30).ok
    assert docker("inspect", "--format", "{{.Config.Image}}", up[example]) == f"{IMAGES[example]}:latest"


def test_one_container_asks_another(up):
    """As docs/operating.md says. (Not run there: a Swarm may end beside it, which changes Docker's networks.)"""
    (code,) = re.findall(r"compose exec hello_world python3 -c \"(.*)\"`", (ROOT / "docs/operating.md").read_text())
    assert '"status":"ok"' in docker("exec", up["hello_world"], "python3", "-c", code)


@pytest.mark.parametrize("example", IMAGES)
def test_limited_and_locked_down(up, example):
    host = json.loads(docker("inspect", "--format", "{{json .HostConfig}}", up[example]))
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["NanoCpus"] == 1_000_000_000
    assert host["Memory"] == MEGABYTES[example] * 2**20
    assert host["LogConfig"]["Type"] == "local"
    workers = "import os; print(os.environ['GRANIAN_WORKERS'])"
    assert docker("exec", up[example], "python3", "-c", workers) == "2"


def test_starts_again_after_it_ended(up):
    name = up["hello_world"]
    docker("exec", name, "python3", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
    deadline = time.monotonic() + SECONDS
    state = ["inspect", "--format", "{{.RestartCount}} {{.State.Health.Status}}", name]
    while docker(*state) != "1 healthy":
        assert time.monotonic() < deadline, docker(*state)
        time.sleep(0.2)
    assert requests.get(url(name), timeout=30).text == "Hello World\n"


@pytest.mark.parametrize("example", IMAGES)
def test_stopped_while_it_starts(up, example):
    """It obeys the signal, and is not killed (137) after stop_grace_period.

    On a busy machine, Granian can miss a signal that comes just before it waits for one, so this may be tried again.
    """
    for _ in range(3):
        docker("restart", up[example])
        docker("stop", up[example])
        code = docker("inspect", "--format", "{{.State.ExitCode}}", up[example])
        docker("start", up[example])
        if code in ("0", "143"):
            return
    pytest.fail(f"its exit code was {code}, three times")


def test_ports():
    """`docker compose` reads compose.override.yaml by itself."""
    compose = ["compose", "--project-directory", ROOT, "config", "--format", "json"]
    services = json.loads(docker(*compose, cwd=ROOT))["services"]
    published = {example: [port["published"] for port in services[example]["ports"]] for example in IMAGES}
    assert published == {example: [str(port)] for port, example in enumerate(IMAGES, 5001)}


@pytest.mark.parametrize(("override", "published"), [("override", [5001, 5002, 5003, 5004]), ("swarm", [])])
def test_docker_stack_reads_it(override, published):
    """`docker stack deploy` reads these files by older rules than `docker compose`."""
    files = [f"--compose-file={ROOT / name}" for name in ("compose.yaml", f"compose.{override}.yaml")]
    services = yaml.safe_load(docker("stack", "config", *files))["services"]
    assert set(services) == set(IMAGES)
    assert [port["published"] for example in IMAGES for port in services[example].get("ports", [])] == published
    for service in services.values():
        assert service["init"]
        assert service["deploy"]["update_config"] == {"order": "start-first", "failure_action": "rollback"}
