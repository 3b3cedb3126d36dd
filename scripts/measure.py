"""Measure the images and containers of the examples: size, start, stop, memory, and requests per processor second."""

import contextlib
import json
import statistics
import sys
import time
from examples import (
    IMAGES,
    Request,
    ask,
    build,
    container,
    docker,
    processor_seconds,
    request_of,
    run,
    wait_for_answer,
)

RUNS = 5  # of start and stop; the table shows the median
REQUESTS = 1000  # before memory is read
ROWS = 1000  # in a list for simple_ml
TURNS = 15  # of each setting of PREDICTION_LOG; a line shows the median


def image_size(image: str) -> int:
    return int(docker("image", "inspect", "--format", "{{.Size}}", image))


def per_second(port: int, name: str, request: Request, count: int) -> float:
    """Return how many such requests a container answers in one second of processor time."""
    before = processor_seconds(name)
    ask(port, request, count=count)
    return count / (processor_seconds(name) - before)


def measure_lists() -> float:
    """Return how many rows, in lists of ROWS, simple_ml answers in one second of processor time."""
    row = json.loads(request_of("simple_ml")[2] or b"")
    request = "POST", "/predict", json.dumps([row] * ROWS).encode()
    with container(IMAGES["simple_ml"]) as (port, name):
        ask(port, request, count=20)
        return ROWS * per_second(port, name, request, 200)


def measure_log(rows: int, count: int) -> str:
    """Return what a row more costs simple_ml with PREDICTION_LOG than without, in requests of so many rows."""
    body = json.dumps([json.loads(request_of("simple_ml")[2] or b"")] * rows).encode()
    request: Request = ("POST", "/predict", body)
    found: dict[str, list[float]] = {"0": [], "answers": [], "1": []}
    with contextlib.ExitStack() as stack:
        containers = {
            setting: stack.enter_context(container(IMAGES["simple_ml"], f"--env=PREDICTION_LOG={setting}"))
            for setting in found
        }
        for port, _ in containers.values():
            ask(port, request, count=count)
        for _ in range(TURNS):
            for setting, (port, name) in containers.items():
                found[setting].append(1e6 / per_second(port, name, request, count) / rows)
    without = found.pop("0")
    more = {
        setting: statistics.median(one - other for one, other in zip(times, without, strict=True))
        for setting, times in found.items()
    }
    said = ", ".join(f"{setting}: {cost:.0f} µs" for setting, cost in more.items())
    return f"{rows} in a request: without a log {statistics.median(without):.0f} µs, and more with {said}"


def measure(example: str) -> str:
    """Return the cells of an example's line in the table."""
    size = image_size(IMAGES[example]) - image_size("ubuntu:24.04")
    request = request_of(example)
    starts, stops = [], []
    for _ in range(RUNS):
        port, name = run(IMAGES[example])
        begin = time.perf_counter()
        wait_for_answer(port, request, lambda: True, pause=0.005)
        starts.append(time.perf_counter() - begin)
        if len(starts) == RUNS:
            for _ in range(10):  # connections, so that both workers get requests
                ask(port, request, count=REQUESTS // 10)
            rate = per_second(port, name, request, REQUESTS)
            memory = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", name).split(" / ")[0]
        begin = time.perf_counter()
        docker("stop", name)
        stops.append(time.perf_counter() - begin)
        docker("rm", name)
    start, stop = statistics.median(starts), statistics.median(stops)
    return f"{size / 1e6:.0f} MB | {start:.2f} s | {stop:.2f} s | {memory} | {rate:,.0f}"


def main() -> None:
    print("| example | over its base | first answer | `docker stop` | two workers | requests/s of one processor |")
    print("| --- | --- | --- | --- | --- | --- |")
    for example in sys.argv[1:] or IMAGES:
        build(example)
        print(f"| {example} | {measure(example)} |", flush=True)
    if len(sys.argv) == 1:
        print(f"simple_ml, in lists of {ROWS:,} rows: {measure_lists():,.0f} rows/s of one processor")
        print("simple_ml, processor time of a row by PREDICTION_LOG:")
        print(measure_log(1, 1500))
        print(measure_log(100, 500))


if __name__ == "__main__":
    main()
