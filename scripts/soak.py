"""Load all four containers with half of what they can answer, and see whether their memory grows.

python soak.py 30    # minutes
"""

import asyncio
import sys
from contextlib import ExitStack
from examples import IMAGES, ROOT, build, container_memory, form, processor_seconds, resident_memory, workers
from load import NORMAL, Counts, client, http_request, limited_container

CLIENTS = 4  # for each container
WARM_UP = 60  # seconds, as fast as the containers answer
PARTS = 6  # of the time; memory is printed after each


def post(body: bytes) -> bytes:
    return http_request("POST", "/predict", body)


ROW = b'{"f1": 4, "f2": 5, "f3": 10}'
PHOTO = (ROOT / "image_classification" / "samples" / "three_photo.jpg").read_bytes()
OTHERS = {  # other requests, good and bad, and the status that each should get
    "hello_world": [(http_request("GET", "/healthz"), 200), (http_request("GET", "/nowhere"), 404)],
    "passing_arguments": [(post(b"9" * 154), 200), (post(b"[" * 4000), 400), (post(b"1" * 5000), 413)],
    "simple_ml": [(post(b"[" + b",".join([ROW] * 100) + b"]"), 200), (post(b"[[]]"), 422), (post(b"{"), 400)],
    "image_classification": [
        (http_request(*form(PHOTO)), 200),
        (post(PHOTO[:9999]), 422),
        (post(b"seven"), 415),
        (http_request(*form(b"")), 415),
    ],
}
MIXES = {example: [(NORMAL[example], 200)] * 5 + OTHERS[example] for example in IMAGES}


async def send(
    ports: dict[str, int], counts: dict[str, Counts], seconds: float, rates: dict[str, float] | None = None
) -> None:
    """Send requests to all four for a time: so many a second, or as fast as they answer."""
    async with asyncio.TaskGroup() as group:
        for example, mix in MIXES.items():
            every = CLIENTS / rates[example] if rates else 0
            for _ in range(CLIENTS):
                group.create_task(client(ports[example], mix, counts[example], seconds, every=every))


def state(name: str) -> tuple[int, int, float, set[int]]:
    """Return a container's memory, its servers' resident memory and processor time, and its workers."""
    return container_memory(name), resident_memory(name), processor_seconds(name), workers(name)


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 30
    with ExitStack() as stack:
        for example in IMAGES:
            build(example)
        ports, names = {}, {}
        for example in IMAGES:
            ports[example], names[example] = stack.enter_context(limited_container(example))
        counts = {example: Counts() for example in IMAGES}
        asyncio.run(send(ports, counts, WARM_UP))
        rates = {example: counts[example].sent / WARM_UP / 2 for example in IMAGES}
        counts = {example: Counts() for example in IMAGES}
        before = {example: state(name) for example, name in names.items()}
        for _ in range(PARTS):
            asyncio.run(send(ports, counts, 60 * minutes / PARTS, rates))
            now = ", ".join(f"{example} {resident_memory(name) / 1e6:.1f} MB" for example, name in names.items())
            print(f"resident: {now}", file=sys.stderr, flush=True)
        print(f"{minutes:g} minutes at half of the requests that the four can answer at the same time:")
        print("| container | requests/s | sent | failed | p99 | longest | processor | charged | resident | workers |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for example, name in names.items():
            each = counts[example]
            charged, resident, used, first_workers = before[example]
            charged_now, resident_now, used_now, workers_now = state(name)
            print(
                f"| {example} | {rates[example]:.0f} | {each.sent:,} | {each.refused + each.failed:,} "
                f"| {each.milliseconds(99):.0f} ms | {each.milliseconds(100):.0f} ms "
                f"| {(used_now - used) / (60 * minutes):.0%} "
                f"| {charged / 1e6:.1f} → {charged_now / 1e6:.1f} MB "
                f"| {resident / 1e6:.1f} → {resident_now / 1e6:.1f} MB "
                f"| {'the same' if workers_now == first_workers else 'others'} |"
            )


if __name__ == "__main__":
    main()
