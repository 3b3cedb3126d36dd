"""Measure the images and containers of the examples, as `make build` leaves them: size, start, memory, stop."""

import http.client
import statistics
import subprocess
import sys
import time
from run import IMAGES, SAFE, build, request_of

PORT = 5099
RUNS = 5  # of start and stop; the table has the median
REQUESTS = 1000  # before memory is read


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def ask(method: str, path: str, body: bytes | None, count: int = 1) -> None:
    """Send a request `count` times over one connection, and expect 200 each time."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
    for _ in range(count):
        connection.request(method, path, body)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"{method} {path} was answered with {answer.status}")
    connection.close()


def measure(example: str) -> tuple[float, float, float, str]:
    """Return the image's size over its base in MB, seconds to the first answer and of a stop, and memory used."""
    size, base = (
        int(docker("image", "inspect", "--format", "{{.Size}}", i)) for i in (IMAGES[example], "ubuntu:24.04")
    )
    request = request_of(example)
    starts, stops = [], []
    for _ in range(RUNS):
        name = docker("run", "--detach", "--publish", f"127.0.0.1:{PORT}:5000", *SAFE, IMAGES[example])
        begin = time.perf_counter()
        while True:
            try:
                ask(*request)
                break
            except (OSError, http.client.HTTPException):
                time.sleep(0.005)
        starts.append(time.perf_counter() - begin)
        if len(starts) == RUNS:
            for _ in range(10):
                ask(*request, count=REQUESTS // 10)
            memory = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", name).split(" / ")[0]
        begin = time.perf_counter()
        docker("stop", name)
        stops.append(time.perf_counter() - begin)
        docker("rm", name)
    return (size - base) / 1e6, statistics.median(starts), statistics.median(stops), memory


def main() -> None:
    print("| example | image over its base | first answer after `docker run` | `docker stop` | memory, two workers |")
    print("| --- | --- | --- | --- | --- |")
    for example in sys.argv[1:] or IMAGES:
        build(example)
        size, start, stop, memory = measure(example)
        print(f"| {example} | {size:.0f} MB | {start:.2f} s | {stop:.2f} s | {memory} |", flush=True)


if __name__ == "__main__":
    main()
