"""What soak.py and overload.py share: containers at the limits of compose.yaml, and clients that ask them."""

import array
import asyncio
import contextlib
import itertools
import os
import re
import time
import yaml
from collections.abc import Iterator
from measure import docker, inside
from run import IMAGES, ROOT, SAFE, request_of

COMPOSE = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", (ROOT / "compose.yaml").read_text())  # with its defaults
SERVICES = yaml.safe_load(COMPOSE)["services"]
PORTS = {example: port for port, example in enumerate(IMAGES, 5090)}
TIMEOUT = 60  # seconds for an answer
KEPT = 100  # requests of a connection, then another is opened: to the other worker, perhaps
FAILURES = (OSError, EOFError)  # a timeout is an OSError


def encoded(method: str, path: str, body: bytes | None, head: str = "") -> bytes:
    start = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(body or b'')}\r\n\r\n"
    return start.encode() + (body or b"")


NORMAL = {example: encoded(*request_of(example)) for example in IMAGES}  # is answered with 200


def limit(example: str) -> int:
    """Return the bytes of memory that compose.yaml gives an example."""
    text = SERVICES[example]["deploy"]["resources"]["limits"]["memory"]
    return int(text[:-1]) * {"M": 2**20, "G": 2**30}[text[-1]]


@contextlib.contextmanager
def container(example: str) -> Iterator[str]:
    """Run an example as compose.yaml says, with other settings from GRANIAN_... in the environment; return its name."""
    others = {key: value for key, value in os.environ.items() if key.startswith("GRANIAN_")}
    settings = SERVICES[example]["environment"] | others
    bounds = ["--memory", str(limit(example)), "--memory-swap", str(limit(example))]
    bounds += ["--cpus", SERVICES[example]["deploy"]["resources"]["limits"]["cpus"]]
    options = ["--publish", f"127.0.0.1:{PORTS[example]}:5000", *(f"--env={key}={settings[key]}" for key in settings)]
    name = docker("run", "--detach", *options, *bounds, *SAFE, IMAGES[example])
    try:
        asyncio.run(wait(example))
        yield name
    finally:
        docker("rm", "--force", name)


async def wait(example: str) -> None:
    counts = Counts()
    while not counts.answered:
        await client(example, [(NORMAL[example], 200)], counts, requests=1)
        await asyncio.sleep(0.1)


def memory(name: str) -> tuple[int, int]:
    """Return the bytes that a container is charged with, and the resident ones of its processes, added up."""
    folder = "/sys/fs/cgroup"
    file = f"cat {folder}/memory.current 2>/dev/null || cat {folder}/memory/memory.usage_in_bytes"
    lines = inside(name, f"{file}; getconf PAGESIZE; cat /proc/[0-9]*/stat").splitlines()
    servers = [line.rpartition(")")[2].split() for line in lines[2:] if "(python3)" in line or "(granian" in line]
    return int(lines[0]), int(lines[1]) * sum(int(fields[21]) for fields in servers)  # see proc(5)


def workers(name: str) -> str:
    """Return the process ids of a container's workers: others, if one has died."""
    return inside(name, "cat /proc/1/task/1/children")


class Counts:
    """Of what clients sent: how long each took that was answered as it should, and how many were not."""

    def __init__(self) -> None:
        self.answered = array.array("d")  # seconds
        self.refused = 0  # answered otherwise
        self.failed = 0  # not answered

    @property
    def sent(self) -> int:
        return len(self.answered) + self.refused + self.failed

    def milliseconds(self, percent: float) -> float:
        """Return how long so many percent of the answers took at the most."""
        waits = sorted(self.answered)
        return 1000 * waits[min(len(waits) - 1, int(len(waits) * percent / 100))] if waits else float("nan")


class Connection:
    """A connection that is kept for a number of requests, and opened when it is needed."""

    def __init__(self, port: int, kept: int):
        self.port, self.kept, self.left = port, kept, 0
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> int:
        """Send a request, and return the answer's status."""
        if not self.writer or not self.left:
            self.close()
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            self.left = self.kept
        self.left -= 1
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        await self.reader.readexactly(int(re.findall(rb"(?i)\ncontent-length: *(\d+)", head)[0]))
        return int(head.split()[1])

    def close(self) -> None:
        if self.writer:
            self.writer.transport.abort()
        self.writer = None


async def client(
    example: str,
    mix: list[tuple[bytes, int]],  # requests, and the status that each should get
    counts: Counts,
    seconds: float = 1e9,
    requests: int | None = None,
    every: float = 0,  # seconds: as soon as the last is answered
    kept: int = KEPT,
) -> None:
    """Send the requests of a mix in turn, so many of them, or for so long."""
    connection, begin = Connection(PORTS[example], kept), time.perf_counter()
    for number, (request, expected) in enumerate(itertools.islice(itertools.cycle(mix), requests)):
        await asyncio.sleep(begin + number * every - time.perf_counter())
        start = time.perf_counter()
        if start - begin >= seconds:
            break
        try:
            async with asyncio.timeout(TIMEOUT):
                status = await connection.ask(request)
        except FAILURES:
            counts.failed += 1
            connection.close()
            await asyncio.sleep(0.1)
            continue
        if status == expected:
            counts.answered.append(time.perf_counter() - start)
        else:
            counts.refused += 1
    connection.close()
