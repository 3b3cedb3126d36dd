"""What soak.py and overload.py share: containers with the limits of compose.yaml, and clients for them."""

import array
import asyncio
import itertools
import os
import re
import time
import yaml
from contextlib import AbstractContextManager
from examples import IMAGES, ROOT, container, request_of

COMPOSE = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", (ROOT / "compose.yaml").read_text())  # with its default values
SERVICES = yaml.safe_load(COMPOSE)["services"]
TIMEOUT = 60  # seconds to wait for an answer
KEPT = 100  # requests over one connection; the next connection may reach the other worker


def http_request(method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
    """Return a request as it is sent over a connection."""
    fields = {"Host": "localhost", "Content-Length": len(body or b"")} | (headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")


NORMAL = {example: http_request(*request_of(example)) for example in IMAGES}  # a request that is answered with 200


def memory_limit(example: str) -> int:
    """Return the bytes of memory that compose.yaml gives an example."""
    text = SERVICES[example]["deploy"]["resources"]["limits"]["memory"]
    return int(text[:-1]) * {"M": 2**20, "G": 2**30}[text[-1]]


def limited_container(example: str) -> AbstractContextManager[tuple[int, str]]:
    """Run an example with the limits and settings of compose.yaml: (port, id).

    GRANIAN_... in the environment overrides a setting.
    """
    memory = f"{memory_limit(example)}b"
    settings = {key: value for key, value in SERVICES[example]["environment"].items() if value is not None}
    settings |= {key: value for key, value in os.environ.items() if key.startswith("GRANIAN_")}
    options = [f"--memory={memory}", f"--memory-swap={memory}"]
    options += ["--cpus", SERVICES[example]["deploy"]["resources"]["limits"]["cpus"]]
    return container(IMAGES[example], *options, *(f"--env={key}={value}" for key, value in settings.items()))


class Counts:
    """How the requests of one or more clients ended."""

    def __init__(self) -> None:
        self.answered = array.array("d")  # seconds, for each answer with the expected status
        self.refused = 0  # answers with another status
        self.failed = 0  # no answer

    @property
    def sent(self) -> int:
        return len(self.answered) + self.refused + self.failed

    def milliseconds(self, percent: float) -> float:
        """Return the time within which so many percent of the answers came."""
        waits = sorted(self.answered)
        return 1000 * waits[min(len(waits) - 1, int(len(waits) * percent / 100))] if waits else float("nan")


class Connection:
    """A connection that is opened when needed, and replaced after `kept` requests."""

    def __init__(self, port: int, kept: int):
        self.port, self.kept, self.left = port, kept, 0
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> int:
        """Send a request, and return the status of the answer."""
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
    port: int,
    mix: list[tuple[bytes, int]],  # requests, and the expected status of each
    counts: Counts,
    seconds: float = 1e9,
    requests: int | None = None,
    every: float = 0,  # seconds from one request to the next; 0: ask again at once after each answer
    kept: int = KEPT,
) -> None:
    """Send the requests of a mix in turn, for a time or a number of requests."""
    connection, begin = Connection(port, kept), time.perf_counter()
    for number, (request, expected) in enumerate(itertools.islice(itertools.cycle(mix), requests)):
        await asyncio.sleep(begin + number * every - time.perf_counter())
        start = time.perf_counter()
        if start - begin >= seconds:
            break
        try:
            async with asyncio.timeout(TIMEOUT):
                status = await connection.ask(request)
        except (OSError, EOFError):  # a timeout is an OSError
            counts.failed += 1
            connection.close()
            await asyncio.sleep(0.1)
            continue
        if status == expected:
            counts.answered.append(time.perf_counter() - start)
        else:
            counts.refused += 1
    connection.close()
