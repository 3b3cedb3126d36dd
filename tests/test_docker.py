"""The four containers: soon healthy, not root, and stopped cleanly. (More about the images: tests/ci/test_images.py)"""

import json
import pytest
import time
from collections.abc import Iterator
from datetime import datetime
from examples import IMAGES, SAFE, docker, inside

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def containers(image) -> Iterator[dict[str, str]]:
    """Start the four beside each other, and return their ids."""
    started = {example: docker("run", "--detach", *SAFE, image(example)) for example in IMAGES}
    yield started
    docker("rm", "--force", *started.values())


def state(name: str) -> dict:
    return json.loads(docker("inspect", "--format", "{{json .State}}", name))


@pytest.mark.parametrize("example", IMAGES)
def test_healthy_within_seven_seconds(containers, example):
    """The first health check begins after five seconds and succeeds. By itself it takes a third of a second."""
    while not (checks := state(containers[example])["Health"]["Log"]):
        time.sleep(0.1)
    assert checks[0]["ExitCode"] == 0, checks[0]["Output"]
    assert state(containers[example])["Health"]["Status"] == "healthy"
    times = [datetime.fromisoformat(time) for time in (state(containers[example])["StartedAt"], checks[0]["Start"])]
    assert (times[1] - times[0]).total_seconds() < 7


@pytest.mark.parametrize("example", IMAGES)
def test_not_root(containers, example):
    assert inside(containers[example], "id -u; id -g") == "10001\n10001"


@pytest.mark.parametrize("example", IMAGES)
def test_stops_cleanly(containers, example):
    """Docker kills a service that ignores the stop signal, and then the exit code is not 0."""
    docker("stop", containers[example])
    assert state(containers[example])["ExitCode"] == 0
