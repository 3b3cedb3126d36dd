"""The services call nobody: containers whose DNS server is the test's own ask it for nothing."""

import contextlib
import pytest
import time
from collections.abc import Callable, Iterator
from examples import IMAGES, ask, container, docker, request_of
from helpers import eventually

pytestmark = pytest.mark.docker
SECONDS = 30  # ONNX Runtime's telemetry, where it is not switched off, asks after about ten
DNS_SERVER = r"""
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 53))
print("ready", flush=True)
while True:
    query, client = server.recvfrom(1000)
    labels, rest = [], query[12:]
    while rest[0]:
        labels.append(rest[1 : rest[0] + 1].decode())
        rest = rest[rest[0] + 1 :]
    print(".".join(labels), flush=True)
    server.sendto(query[:2] + b"\x81\x83" + query[4:], client)  # there is no such name
"""
LOOK_UP = """
import socket
try:
    socket.getaddrinfo("control.example", 80)
except socket.gaierror:
    print("no such name")
"""


@pytest.fixture
def dns(image) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """A DNS server: its address, and a function that returns the names that it was asked for."""
    name = docker("run", "--detach", "--user", "0", image("hello_world"), "-c", DNS_SERVER)
    try:
        eventually("the DNS server listens", lambda: docker("logs", name) == "ready")
        address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", name)
        yield address, lambda: docker("logs", name).splitlines()[1:]
    finally:
        docker("rm", "--force", name)


def test_no_service_looks_up_a_name(image, dns):
    address, asked = dns
    control = docker("run", "--rm", "--dns", address, image("hello_world"), "-c", LOOK_UP)
    assert control == "no such name"
    names = set(asked())
    assert names == {"control.example"}  # so the server sees what a container asks for
    with contextlib.ExitStack() as containers:
        for example in IMAGES:
            port, _ = containers.enter_context(container(image(example), "--dns", address))
            ask(port, request_of(example))
        time.sleep(SECONDS)
        assert set(asked()) == names
