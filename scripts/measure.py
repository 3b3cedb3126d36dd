"""Measure the images and containers of the examples: size, start, stop, memory, and what one processor can answer."""

import http.client
import json
import statistics
import subprocess
import sys
import time
from run import IMAGES, SAFE, build, request_of

PORT = 5099
RUNS = 5  # of start and stop; the table has the median
REQUESTS = 1000  # before memory is read
ROWS = 1000  # of a list for simple_ml


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


def inside(name: str, command: str) -> str:
    return docker("exec", name, "sh", "-c", command)


def processor_seconds(name: str) -> float:
    """Return what the processes of a container have used, from the kernel's /proc/PID/stat (see proc(5))."""
    lines = inside(name, "cat /proc/[0-9]*/stat; getconf CLK_TCK").splitlines()
    servers = [line.rpartition(")")[2].split() for line in lines[:-1] if "(python3)" in line or "(granian" in line]
    return sum(int(fields[11]) + int(fields[12]) for fields in servers) / int(lines[-1])


def per_second(name: str, request: tuple[str, str, bytes | None], count: int) -> float:
    """Return how many such requests a container answers in a second of a processor's time."""
    before = processor_seconds(name)
    ask(*request, count=count)
    return count / (processor_seconds(name) - before)


def measure_lists() -> float:
    """Return how many rows simple_ml answers in a second of a processor's time, in lists of ROWS."""
    row = json.loads(request_of("simple_ml")[2] or b"")
    request = "POST", "/predict", json.dumps([row] * ROWS).encode()
    name = docker("run", "--detach", "--publish", f"127.0.0.1:{PORT}:5000", *SAFE, IMAGES["simple_ml"])
    try:
        wait(request)
        ask(*request, count=20)
        return ROWS * per_second(name, request, 200)
    finally:
        docker("rm", "--force", name)


def wait(request: tuple[str, str, bytes | None]) -> None:
    while True:
        try:
            return ask(*request)
        except (OSError, http.client.HTTPException):
            time.sleep(0.005)


def measure(example: str) -> tuple[float, float, float, str, float]:
    """Return the image's size over its base in MB, seconds to the first answer and of a stop, memory used, and requests
    for a second of a processor's time."""
    size, base = (
        int(docker("image", "inspect", "--format", "{{.Size}}", i)) for i in (IMAGES[example], "ubuntu:24.04")
    )
    request = request_of(example)
    starts, stops = [], []
    for _ in range(RUNS):
        name = docker("run", "--detach", "--publish", f"127.0.0.1:{PORT}:5000", *SAFE, IMAGES[example])
        begin = time.perf_counter()
        wait(request)
        starts.append(time.perf_counter() - begin)
        if len(starts) == RUNS:
            for _ in range(10):
                ask(*request, count=REQUESTS // 10)
            rate = per_second(name, request, REQUESTS)
            memory = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", name).split(" / ")[0]
        begin = time.perf_counter()
        docker("stop", name)
        stops.append(time.perf_counter() - begin)
        docker("rm", name)
    return (size - base) / 1e6, statistics.median(starts), statistics.median(stops), memory, rate


def main() -> None:
    print("| example | over its base | first answer | `docker stop` | two workers | requests/s of one processor |")
    print("| --- | --- | --- | --- | --- | --- |")
    for example in sys.argv[1:] or IMAGES:
        build(example)
        size, start, stop, memory, rate = measure(example)
        print(f"| {example} | {size:.0f} MB | {start:.2f} s | {stop:.2f} s | {memory} | {rate:,.0f} |", flush=True)
    if len(sys.argv) == 1:
        print(f"simple_ml, in lists of {ROWS:,} rows: {measure_lists():,.0f} rows/s of one processor")


if __name__ == "__main__":
    main()
