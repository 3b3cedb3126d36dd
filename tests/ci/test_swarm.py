"""A Swarm of one node: replicas share the load, and to a client that retries, no fault and no update loses a request.

It runs without published ports (compose.swarm.yaml), so it needs no IPVS in the kernel; the client is a container on
the services' network. The images are local, under the name of a registry that refuses at once.
"""

import contextlib
import json
import os
import pytest
import subprocess
import time
from collections.abc import Callable, Iterator
from examples import IMAGES, ROOT, docker
from pathlib import Path

pytestmark = pytest.mark.docker
STACK = "swarmtest"
REGISTRY = "localhost:9/swarmtest/"
SERVICE = f"{STACK}_hello_world"
IMAGE = f"{REGISTRY}simpleflask"
REPLICAS = 3
SECONDS = 360
CLIENT = (Path(__file__).parent / "support" / "retrying_client.py").read_text()
BAD = {
    "ends-at-once": 'CMD ["-c", "raise SystemExit(3)"]',
    "never-healthy": 'HEALTHCHECK --interval=1s --retries=2 CMD ["python3", "-c", "raise SystemExit(1)"]',
}


def eventually(what: str, is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {SECONDS} s: {what}\n{report()}")
        time.sleep(0.2)


def report() -> str:
    """Return what the Swarm says of hello_world: its update, its tasks, its containers' health."""
    label = f"label=com.docker.swarm.service.name={SERVICE}"
    commands = [
        ["service", "inspect", "--format", "{{json .UpdateStatus}}", SERVICE],
        ["service", "ps", "--no-trunc", "--format", "{{.Name}} {{.Image}} {{.CurrentState}} {{.Error}}", SERVICE],
        ["ps", "--all", "--filter", label, "--format", "{{.Names}} {{.Image}} {{.Status}}"],
    ]
    run = [subprocess.run(["docker", *command], capture_output=True, text=True) for command in commands]
    return "\n".join(result.stdout + result.stderr for result in run)


def replicas(*filters: str, service: str = SERVICE) -> set[str]:
    """Return the containers of a service that run."""
    label = f"label=com.docker.swarm.service.name={service}"
    return set(docker("ps", "--quiet", "--filter", label, *filters).split())


def all_healthy() -> bool:
    return len(replicas()) == len(replicas("--filter", "health=healthy")) == REPLICAS


def deployed() -> str:
    """Return the image that hello_world has now."""
    return docker("service", "inspect", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Image}}", SERVICE)


@pytest.fixture(scope="module")
def swarm() -> Iterator[None]:
    """Make this engine a Swarm, unless it is one, and leave it as it was."""
    networks = set(docker("network", "ls", "--format", "{{.Name}}").split())
    was_active = docker("info", "--format", "{{.Swarm.LocalNodeState}}") == "active"
    if not was_active:
        docker("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2377")
    try:
        yield
    finally:
        if not was_active:
            docker("swarm", "leave", "--force")
            if "docker_gwbridge" not in networks:
                remove = ["docker", "network", "rm", "docker_gwbridge"]
                eventually("its bridge is gone", lambda: subprocess.run(remove, capture_output=True).returncode == 0)


@pytest.fixture(scope="module")
def stack(swarm, image) -> Iterator[None]:
    """Deploy compose.yaml with compose.swarm.yaml: one replica of each service, three of hello_world."""
    for example, tag in IMAGES.items():
        docker("tag", image(example), f"{REGISTRY}{tag}:1")
    files = [f"--compose-file={ROOT / name}" for name in ("compose.yaml", "compose.swarm.yaml")]
    environment = os.environ | {"REGISTRY": REGISTRY, "TAG": "1", "REPLICAS": "1"}
    try:
        docker("stack", "deploy", "--resolve-image", "never", *files, STACK, env=environment)
        docker("service", "scale", "--detach", f"{SERVICE}={REPLICAS}")
        services = [f"{STACK}_{example}" for example in IMAGES]
        eventually("all are healthy", lambda: all(replicas("--filter", "health=healthy", service=s) for s in services))
        yield
    finally:
        docker("stack", "rm", STACK)
        label = f"label=com.docker.stack.namespace={STACK}"
        eventually("the containers are gone", lambda: not docker("ps", "--all", "--quiet", "--filter", label))
        eventually("the network is gone", lambda: not docker("network", "ls", "--quiet", "--filter", label))
        docker("rmi", *docker("images", "--format", "{{.Repository}}:{{.Tag}}", f"{REGISTRY}*").split())


@contextlib.contextmanager
def load() -> Iterator[dict]:
    """Ask hello_world all the while, at least 300 times; what came of it is in the dictionary at the end."""
    eventually("all replicas are healthy", all_healthy)
    name = docker("run", "--detach", "--network", f"{STACK}_default", f"{IMAGE}:1", "-c", CLIENT, "hello_world", "300")
    counts: dict = {}
    try:
        eventually("the client asks", lambda: docker("logs", name) == "asking")
        yield counts
        docker("stop", "--time", str(SECONDS), name)
        counts.update(json.loads(docker("logs", name).splitlines()[-1]))
        print(counts)
    finally:
        docker("rm", "--force", name)


def update(to: str, dockerfile: str) -> str:
    """Build an image, roll it out, wait until Swarm is done with it, and return what it says of that."""
    docker("build", "--tag", f"{IMAGE}:{to}", "-", input=f"FROM {IMAGE}:1\n{dockerfile}\n")
    docker("service", "update", "--detach", "--no-resolve-image", "--image", f"{IMAGE}:{to}", SERVICE)
    state = ["service", "inspect", "--format", "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}", SERVICE]
    ends = ("completed", "rollback_completed", "paused", "rollback_paused")
    eventually("the update has ended", lambda: docker(*state) in ends)
    return docker(*state)


def test_the_four_services_answer(stack):
    urls = [f"http://{example}:5000/healthz" for example in IMAGES]
    code = f"import urllib.request as u; print([u.urlopen(url, timeout=30).status for url in {urls}])"
    assert docker("run", "--rm", "--network", f"{STACK}_default", f"{IMAGE}:1", "-c", code) == "[200, 200, 200, 200]"


def test_replicas_share_the_load(stack):
    with load() as counts:
        pass
    assert counts["lost"] == 0
    assert len(counts["addresses"]) == REPLICAS
    assert min(counts["addresses"].values()) >= 0.1 * counts["sent"]


def test_a_killed_replica_comes_back(stack):
    with load() as counts:
        victim = min(replicas())
        docker("kill", victim)
        eventually("another takes its place", lambda: victim not in replicas() and all_healthy())
    assert counts["lost"] == 0
    with load() as counts:
        pass
    assert len(counts["addresses"]) == REPLICAS


def test_a_rolling_update(stack):
    with load() as counts:
        edit = "USER 0\nRUN sed -i 's/Hello World.n/Hello again\\\\n/' app.py\nUSER 10001:10001"
        assert update("2", edit) == "completed", report()
    assert counts["lost"] == 0
    assert set(counts["answers"]) == {"Hello World", "Hello again"}
    with load() as counts:
        pass
    assert set(counts["answers"]) == {"Hello again"}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_image_is_rolled_back(stack, fault):
    before = deployed()
    with load() as counts:
        assert update(fault, BAD[fault]) == "rollback_completed", report()
    assert counts["lost"] == 0
    assert deployed() == before
    eventually("the replicas are the old ones", all_healthy)
