"""Overload each container with ten times the clients it can serve, and with slow clients.

The containers have the limits of compose.yaml. GRANIAN_... in the environment tries other settings.
"""

import asyncio
import sys
import time
from contextlib import suppress
from examples import IMAGES, build, container_memory, workers
from load import NORMAL, TIMEOUT, Counts, client, http_request, limited_container, memory_limit
from measure_pictures import EXAMPLE, PHOTO, pictures

SECONDS = 20  # of overload
FEWEST = 2  # clients to begin with, one for each worker; then twice as many, and so on
STEP = 3  # seconds with each number of clients
QUIET = 200  # requests before the overload; the longest of them is the normal time
IN_A_ROW = 10  # requests that must take no longer than that: then the container is back to normal
REQUESTS = 500  # of a normal client beside slow ones
PATIENCE = 30  # seconds for these requests
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
SLOW = {  # number of slow clients, what each sends first, and what it then sends once a second
    "200 silent": (200, b"", b""),
    "200 slow heads": (200, HEAD + b"X: ", b"x"),
    "200 slow bodies": (200, HEAD + b"Content-Length: 1000\r\n\r\n", b"5"),
    "600 slow bodies": (600, HEAD + b"Content-Length: 1000\r\n\r\n", b"5"),
}


async def ask(port: int, request: bytes, clients: int, seconds: float) -> Counts:
    """Let a number of clients ask for a time, each again as soon as it has its answer. Wait for the last answers."""
    counts = Counts()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client(port, [(request, 200)], counts, seconds))
    return counts


async def clients_served(port: int, request: bytes) -> int:
    """Return how many clients a container can serve: with twice as many, it answers hardly more requests a second."""

    async def rate(clients: int) -> float:
        begin = time.perf_counter()
        return len((await ask(port, request, clients, STEP)).answered) / (time.perf_counter() - begin)

    clients, answered = FEWEST, await rate(FEWEST)
    while (more := await rate(2 * clients)) > 1.1 * answered:
        clients, answered = 2 * clients, more
    return clients


async def normal(port: int, example: str, requests: int, seconds: float = 1e9) -> Counts:
    """Send small requests, each over a connection of its own."""
    counts = Counts()
    await client(port, [(NORMAL[example], 200)], counts, seconds, requests, kept=1)
    return counts


async def recovery(port: int, example: str, longest: float) -> float:
    """Return the seconds until a container answers IN_A_ROW small requests, each in at most `longest` milliseconds."""
    begin, good, row = time.perf_counter(), 0.0, 0
    while row < IN_A_ROW:
        start = time.perf_counter()
        if start - begin > TIMEOUT:
            raise SystemExit(f"{example} is not back to normal after {TIMEOUT} s")
        if (await normal(port, example, 1)).milliseconds(100) <= longest:
            row, good = row + 1, good if row else start - begin
        else:
            row = 0
    return good


async def overload(port: int, name: str, example: str, request: bytes) -> str:
    """Return the cells of a line in the first table."""
    quiet = await normal(port, example, QUIET)
    clients = 10 * await clients_served(port, request)
    first = workers(name)
    load = asyncio.create_task(ask(port, request, clients, SECONDS))
    await asyncio.sleep(SECONDS)
    end, ends = time.perf_counter(), []
    load.add_done_callback(lambda _: ends.append(time.perf_counter() - end))
    back = await recovery(port, example, quiet.milliseconds(100))
    counts = await load
    peak = f"{container_memory(name, peak=True) / 1e6:.0f} of {memory_limit(example) / 1e6:.0f} MB"
    waits = " | ".join(f"{counts.milliseconds(percent):,.0f} ms" for percent in (50, 99, 100))
    return (
        f"{clients} | {counts.sent:,} | {len(counts.answered):,} | {counts.refused + counts.failed} | {waits} | {peak} "
        f"| {ends[0]:.2f} s | {back:.2f} s{'' if workers(name) == first else ', a worker died'}"
    )


async def drip(port: int, start: bytes, more: bytes) -> None:
    """Send the start of a request, and then a byte each second until the server closes the connection."""
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(start)
            while not writer.is_closing():
                await asyncio.sleep(1)
                writer.write(more)
        finally:
            writer.transport.abort()


async def beside_slow_clients(port: int, example: str, number: int, start: bytes, more: bytes) -> str:
    """Return the cells of a line in the second table."""
    tasks = [asyncio.create_task(drip(port, start, more)) for _ in range(number)]
    await asyncio.sleep(3)  # all are connected
    counts = await normal(port, example, REQUESTS, PATIENCE)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    waits = " | ".join(f"{counts.milliseconds(percent):.0f} ms" for percent in (50, 99, 100))
    return f"{counts.sent} | {len(counts.answered)} | {waits}"


def main() -> None:
    examples = sys.argv[1:] or list(IMAGES)
    for example in examples:
        build(example)
    print(
        f"Ten times the clients that a container can serve, for {SECONDS} s. The last two columns count from then on:"
    )
    print("when the last answer came, and when a small request was answered as fast as before.")
    print(
        "| container | clients | sent | answered | others | p50 | p99 | longest | memory | last answer | normal again |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    tasks = {example: (example, NORMAL[example]) for example in examples}
    if EXAMPLE in examples:
        tasks["12-megapixel photos"] = EXAMPLE, http_request("POST", "/predict", pictures()[PHOTO])
    for title, (example, request) in tasks.items():
        with limited_container(example) as (port, name):
            print(f"| {title} | {asyncio.run(overload(port, name, example, request))} |", flush=True)
    print("\nA normal client beside slow ones:")
    print("| container | slow clients | sent | answered | p50 | p99 | longest |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for example in examples:
        for title, slow in SLOW.items():
            with limited_container(example) as (port, _):
                print(f"| {example} | {title} | {asyncio.run(beside_slow_clients(port, example, *slow))} |", flush=True)


if __name__ == "__main__":
    main()
