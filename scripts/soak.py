"""Keep all four containers at half of what they can answer, good requests and bad, and see whether memory grows.

python soak.py 30    # minutes
"""

import asyncio
import sys
from contextlib import ExitStack
from load import NORMAL, Counts, client, container, encoded, memory, workers
from measure import processor_seconds
from measure_pictures import EXAMPLE, SAMPLES
from run import IMAGES, build

CLIENTS = 4  # of each container
WARM_UP = 60  # seconds, as fast as they are answered
PARTS = 6  # of the time, after each of which memory is printed


def form(picture: bytes) -> bytes:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + picture + b"\r\n--x--\r\n"
    return encoded("POST", "/predict", body, "Content-Type: multipart/form-data; boundary=x\r\n")


def post(body: bytes) -> bytes:
    return encoded("POST", "/predict", body)


ROW = b'{"f1": 4, "f2": 5, "f3": 10}'
PHOTO = (SAMPLES / "three_photo.jpg").read_bytes()
OTHERS = {  # what else each container is sent, and the status that it should get
    "hello_world": [(encoded("GET", "/healthz", None), 200), (encoded("GET", "/nowhere", None), 404)],
    "passing_arguments": [(post(b"9" * 154), 200), (post(b"[" * 4000), 400), (post(b"1" * 5000), 413)],
    "simple_ml": [(post(b"[" + b",".join([ROW] * 100) + b"]"), 200), (post(b"[[]]"), 422), (post(b"{"), 400)],
    EXAMPLE: [(form(PHOTO), 200), (post(PHOTO[:9999]), 422), (post(b"seven"), 415), (form(b""), 415)],
}
MIXES = {example: [(NORMAL[example], 200)] * 5 + OTHERS[example] for example in IMAGES}


async def send(counts: dict[str, Counts], seconds: float, rates: dict[str, float] | None = None) -> None:
    """Ask all four for so long, at so many requests a second, or as fast as they answer."""
    async with asyncio.TaskGroup() as group:
        for example, mix in MIXES.items():
            every = CLIENTS / rates[example] if rates else 0
            for _ in range(CLIENTS):
                group.create_task(client(example, mix, counts[example], seconds, every=every))


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 30
    with ExitStack() as stack:
        for example in IMAGES:
            build(example)
        names = {example: stack.enter_context(container(example)) for example in IMAGES}
        counts = {example: Counts() for example in IMAGES}
        asyncio.run(send(counts, WARM_UP))
        rates = {example: counts[example].sent / WARM_UP / 2 for example in IMAGES}
        counts = {example: Counts() for example in IMAGES}
        first = {example: workers(name) for example, name in names.items()}
        used = {example: processor_seconds(name) for example, name in names.items()}
        held = [{example: memory(name) for example, name in names.items()}]
        for _ in range(PARTS):
            asyncio.run(send(counts, 60 * minutes / PARTS, rates))
            held.append({example: memory(name) for example, name in names.items()})
            now = ", ".join(f"{example} {sizes[1] / 1e6:.1f} MB" for example, sizes in held[-1].items())
            print(f"resident: {now}", file=sys.stderr, flush=True)
        print(f"{minutes:g} minutes at half of what the four answer together:")
        print("| container | requests/s | sent | failed | p99 | longest | processor | charged | resident | workers |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for example, name in names.items():
            each = counts[example]
            busy = (processor_seconds(name) - used[example]) / (60 * minutes)
            charged, resident = (
                f"{before / 1e6:.1f} → {after / 1e6:.1f} MB"
                for before, after in zip(held[0][example], held[-1][example], strict=True)
            )
            waits = f"{each.milliseconds(99):.0f} ms | {each.milliseconds(100):.0f} ms"
            same = "the same" if workers(name) == first[example] else "others"
            print(
                f"| {example} | {rates[example]:.0f} | {each.sent:,} | {each.refused + each.failed:,} | {waits} "
                f"| {busy:.0%} | {charged} | {resident} | {same} |"
            )


if __name__ == "__main__":
    main()
