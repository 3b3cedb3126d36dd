"""compose.yaml: the four on one machine, limited, locked down, healthy, and back when one of them ends."""

import json
import pytest
import requests
import time
import yaml
from collections.abc import Iterator
from conftest import EXAMPLES, ROOT, docker

pytestmark = [pytest.mark.docker, pytest.mark.compose]
PROJECT = "composetest"
SECONDS = 120
MEGABYTES = {"hello_world": 256, "passing_arguments": 256, "simple_ml": 1024, "image_classification": 512}


@pytest.fixture(scope="module")
def up(tmp_path_factory) -> Iterator[dict[str, str]]:
    """Start all four as the documentation says, only on free ports: the container of each."""
    ports = tmp_path_factory.mktemp("compose") / "ports.yaml"  # in place of compose.override.yaml
    ports.write_text(json.dumps({"services": {example: {"ports": ["127.0.0.1::5000"]} for example in EXAMPLES}}))
    compose = ["compose", "--project-name", PROJECT, "--file", ROOT / "compose.yaml", "--file", ports]
    try:
        docker(*compose, "up", "--build", "--wait")
        yield {example: docker(*compose, "ps", "--quiet", example) for example in EXAMPLES}
    finally:
        docker(*compose, "down")


def url(container: str) -> str:
    return "http://" + docker("port", container, "5000")


@pytest.mark.parametrize("example", EXAMPLES)
def test_up(up, example):
    assert requests.get(f"{url(up[example])}/healthz", timeout=30).ok
    assert docker("inspect", "--format", "{{.Config.Image}}", up[example]) == f"{EXAMPLES[example]}:latest"


@pytest.mark.parametrize("example", EXAMPLES)
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


def test_back_when_it_ended(up):
    name = up["hello_world"]
    docker("exec", name, "python3", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
    deadline = time.monotonic() + SECONDS
    state = ["inspect", "--format", "{{.RestartCount}} {{.State.Health.Status}}", name]
    while docker(*state) != "1 healthy":
        assert time.monotonic() < deadline, docker(*state)
        time.sleep(0.2)
    assert requests.get(url(name), timeout=30).text == "Hello World\n"


@pytest.mark.parametrize("example", EXAMPLES)
def test_stopped_while_it_starts(up, example):
    """It hears the signal, and is not killed (137) after stop_grace_period."""
    docker("restart", up[example])
    docker("stop", up[example])
    code = docker("inspect", "--format", "{{.State.ExitCode}}", up[example])
    docker("start", up[example])
    assert code in ("0", "143")


def test_ports():
    """`docker compose` reads compose.override.yaml by itself."""
    compose = ["compose", "--project-directory", ROOT, "config", "--format", "json"]
    services = json.loads(docker(*compose, cwd=ROOT))["services"]
    published = {example: [port["published"] for port in services[example]["ports"]] for example in EXAMPLES}
    assert published == {example: [str(port)] for port, example in enumerate(EXAMPLES, 5001)}


@pytest.mark.parametrize(("override", "published"), [("override", [5001, 5002, 5003, 5004]), ("swarm", [])])
def test_a_stack_takes_it(override, published):
    """`docker stack deploy` reads these files by older rules than `docker compose`."""
    files = [f"--compose-file={ROOT / name}" for name in ("compose.yaml", f"compose.{override}.yaml")]
    services = yaml.safe_load(docker("stack", "config", *files))["services"]
    assert set(services) == set(EXAMPLES)
    assert [port["published"] for example in EXAMPLES for port in services[example].get("ports", [])] == published
    for service in services.values():
        assert service["init"]
        assert service["deploy"]["update_config"] == {"order": "start-first", "failure_action": "rollback"}
