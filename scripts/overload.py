"""Ask each container, at its limits in compose.yaml, with ten times the clients that it can serve, and hold slow
connections to it while another client asks. GRANIAN_... in the environment tries other settings."""

import asyncio
import sys
import time
from contextlib import suppress
from load import NORMAL, PORTS, TIMEOUT, Counts, client, container, encoded, limit, workers
from measure_pictures import EXAMPLE, peak_memory, pictures
from run import IMAGES, build

SECONDS = 20  # of overload
FEWEST = 2  # clients that a container can serve, one for each worker, and then twice as many, and so on
STEP = 3  # seconds, with each number of clients
QUIET = 200  # requests before the overload, the longest of which is normal
IN_A_ROW = 10  # requests that take no longer: it is back to normal
REQUESTS = 500  # of a normal client beside slow ones
PATIENCE = 30  # seconds for them, and for an answer after it
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
SLOW = {  # what each of the slow clients sends, and then a byte each second, except for those that are silent
    "200 silent": (200, b"", b""),
    "200 slow heads": (200, HEAD + b"X: ", b"x"),
    "200 slow bodies": (200, HEAD + b"Content-Length: 1000\r\n\r\n", b"5"),
    "600 slow bodies": (600, HEAD + b"Content-Length: 1000\r\n\r\n", b"5"),
}


async def ask(example: str, request: bytes, clients: int, seconds: float) -> Counts:
    """Let so many clients ask, each again as soon as it is answered; those of the end are waited for, too."""
    counts = Counts()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client(example, [(request, 200)], counts, seconds))
    return counts


async def served(example: str, request: bytes) -> int:
    """Return how many clients a container can serve, from FEWEST on: with twice as many, it answers hardly more."""

    async def rate(clients: int) -> float:
        begin = time.perf_counter()
        return len((await ask(example, request, clients, STEP)).answered) / (time.perf_counter() - begin)

    clients, answered = FEWEST, await rate(FEWEST)
    while (more := await rate(2 * clients)) > 1.1 * answered:
        clients, answered = 2 * clients, more
    return clients


async def normal(example: str, counts: Counts, requests: int, seconds: float = 1e9) -> None:
    """Send small requests, each over a connection of its own."""
    await client(example, [(NORMAL[example], 200)], counts, seconds, requests, kept=1)


async def recovery(example: str, longest: float) -> float:
    """Return after how many seconds the first of some requests was sent that are all answered as fast as is normal."""
    begin, good, row = time.perf_counter(), 0.0, 0
    while row < IN_A_ROW:
        if time.perf_counter() - begin > TIMEOUT:
            raise SystemExit(f"{example} is not back to normal after {TIMEOUT} s")
        start, counts = time.perf_counter(), Counts()
        await normal(example, counts, 1)
        if counts.milliseconds(100) <= longest:
            row, good = row + 1, good if row else start - begin
        else:
            row = 0
    return good


async def overload(example: str, name: str, request: bytes) -> str:
    quiet = Counts()
    await normal(example, quiet, QUIET)
    clients = 10 * await served(example, request)
    first = workers(name)
    load = asyncio.create_task(ask(example, request, clients, SECONDS))
    await asyncio.sleep(SECONDS)
    end, ends = time.perf_counter(), []
    load.add_done_callback(lambda _: ends.append(time.perf_counter() - end))
    back = await recovery(example, quiet.milliseconds(100))
    counts = await load
    peak = f"{peak_memory(name) / 1e6:.0f} of {limit(example) / 1e6:.0f} MB"
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


async def beside(example: str, slow: tuple[int, bytes, bytes]) -> str:
    """Return how a normal client is answered while slow ones hold their connections."""
    number, start, more = slow
    counts = Counts()
    tasks = [asyncio.create_task(drip(PORTS[example], start, more)) for _ in range(number)]
    await asyncio.sleep(3)  # all are connected
    await normal(example, counts, REQUESTS, PATIENCE)
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
        f"Ten times the clients that it can serve, for {SECONDS} s; after that, seconds to the last answer, and until"
    )
    print("a small request is answered as fast as before:")
    print(
        "| container | clients | sent | answered | others | p50 | p99 | longest | memory | last answer | normal again |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    tasks = {example: (example, NORMAL[example]) for example in examples}
    if EXAMPLE in examples:
        photo = pictures()["4000x3000 JPEG"]
        tasks["12-megapixel photos"] = EXAMPLE, encoded("POST", "/predict", photo)
    for title, (example, request) in tasks.items():
        with container(example) as name:
            print(f"| {title} | {asyncio.run(overload(example, name, request))} |", flush=True)
    print("\nA normal client beside slow ones:")
    print("| container | slow clients | sent | answered | p50 | p99 | longest |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for example in examples:
        for title, slow in SLOW.items():
            with container(example):
                print(f"| {example} | {title} | {asyncio.run(beside(example, slow))} |", flush=True)


if __name__ == "__main__":
    main()
