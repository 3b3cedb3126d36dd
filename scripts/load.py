"""Load the containers of compose.yaml with locust: what do they answer, does memory grow, does a worker die?

python load.py soak 30     # minutes at half of what they can answer
python load.py overload    # ten times the clients that they can serve, and slow clients
"""

import gevent
import itertools
import locust
import random
import socket
import sys
from contextlib import suppress
from examples import IMAGES, ROOT, Request, container_memory, docker, form, request_of, resident_memory, servers
from locust.env import Environment
from measure_pictures import EXAMPLE, PHOTO, pictures

COMPOSE = "compose", "--project-name", "load"
PORTS = dict(zip(IMAGES, range(5001, 5005), strict=True))  # of compose.override.yaml
KEPT = 10  # requests over one connection, on average: the next connection may reach the other worker
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
BODY = HEAD + b"Content-Length: 1000\r\n\r\n"
SLOW = [(200, "silent", b"", b""), (200, "slow heads", HEAD + b"X: ", b"x"), (600, "slow bodies", BODY, b"5")]


def post(body: bytes) -> Request:
    return "POST", "/predict", body


Mix = list[tuple[Request, int]]  # requests, and the status that each should get
NORMAL: dict[str, Mix] = {example: [(request_of(example), 200)] for example in IMAGES}
ROWS = b"[" + b",".join([b'{"f1": 4, "f2": 5, "f3": 10}'] * 100) + b"]"
DIGIT = (ROOT / EXAMPLE / "samples" / "three_photo.jpg").read_bytes()
OTHERS: dict[str, Mix] = {
    "hello_world": [(("GET", "/healthz", None), 200), (("GET", "/nowhere", None), 404)],
    "passing_arguments": [(post(b"9" * 154), 200), (post(b"[" * 4000), 400), (post(b"1" * 5000), 413)],
    "simple_ml": [(post(ROWS), 200), (post(b"[[]]"), 422), (post(b"{"), 400)],
    EXAMPLE: [(form(DIGIT), 200), (post(DIGIT[:9999]), 422), (post(b"seven"), 415), (form(b""), 415)],
}


def load(example: str, title: str, mix: Mix, clients: int, seconds: float, rate: float = 0) -> float:
    """Let clients send the requests of a mix in turn: `rate` a second, or each again as soon as it has its answer.

    Print a line of the table, and return how many requests a second were sent.
    """
    turns = itertools.cycle(mix)

    class Client(locust.FastHttpUser):
        host = f"http://127.0.0.1:{PORTS[example]}"
        wait_time = locust.constant_throughput(rate / clients) if rate else locust.constant(0)

        @locust.task
        def ask(self) -> None:
            (method, path, body, *more), expected = next(turns)
            headers = dict(*more) | ({"Connection": "close"} if random.random() * KEPT < 1 else {})
            with self.client.request(method, path, data=body, headers=headers, catch_response=True) as answer:
                if answer.status_code == expected:
                    answer.success()
                else:
                    answer.failure(str(answer.status_code or answer.error))

    environment = Environment(user_classes=[Client], stop_timeout=60)
    runner = environment.create_local_runner()
    runner.start(clients, spawn_rate=100)
    gevent.sleep(seconds)
    runner.quit()  # after the last answers
    total, name = environment.stats.total, f"load-{example}-1"
    failed = ", ".join(f"{error.occurrences} x {error.error}" for error in environment.stats.errors.values())
    waits = " | ".join(f"{total.get_response_time_percentile(part):.0f} ms" for part in (0.5, 0.99, 1))
    memory = f"{resident_memory(name) / 1e6:.1f} MB | {container_memory(name, peak=True) / 1e6:.1f} MB"
    print(
        f"| {example} | {title} | {clients} | {total.num_requests} | {failed or 0} | {waits} | {memory} |", flush=True
    )
    return total.num_requests / seconds


def soak(minutes: float) -> None:
    def all_four(title: str, seconds: float, rates: dict[str, float]) -> dict[str, float]:
        mixes = {example: NORMAL[example] * 5 + OTHERS[example] for example in IMAGES}
        jobs = {each: gevent.spawn(load, each, title, mixes[each], 4, seconds, rates[each] / 2) for each in IMAGES}
        return {example: job.get() for example, job in jobs.items()}

    rates = all_four("as fast as they answer", 60, dict.fromkeys(IMAGES, 0))
    for part in range(1, 7):
        all_four(f"half of it, part {part} of 6", minutes * 60 / 6, rates)


def drip(port: int, start: bytes, more: bytes) -> None:
    """Send the start of a request, and then a byte each second until the server closes the connection."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(start)
        while True:
            gevent.sleep(1)
            connection.sendall(more)


def overload() -> None:
    large: Mix = [(post(pictures()[PHOTO]), 200)]
    for example, mix in [*NORMAL.items(), (EXAMPLE, large)]:
        for clients in (1, 4, 40, 1):  # 4 are as many as a container can serve: 40 get hardly more answers
            load(example, PHOTO if mix is large else "small requests", mix, clients, 10)
    for example, (number, title, start, more) in itertools.product(IMAGES, SLOW):
        slow = [gevent.spawn(drip, PORTS[example], start, more) for _ in range(number)]
        gevent.sleep(3)  # all are connected
        load(example, f"beside {number} {title}", NORMAL[example], 1, 5)
        gevent.killall(slow)


def processes() -> dict[str, list[str]]:
    """Return when the server processes of each container started: another worker has another time."""
    return {example: sorted(fields[19] for fields in servers(f"load-{example}-1")) for example in IMAGES}


def main() -> None:
    try:
        docker(*COMPOSE, "up", "--build", "--wait", cwd=ROOT)
        before = processes()
        print("| container | load | clients | sent | failed | p50 | p99 | longest | resident memory | peak |")
        print("| --- " * 10 + "|")
        soak(float(sys.argv[2])) if sys.argv[1] == "soak" else overload()
        if processes() != before:
            sys.exit(f"A worker died: the processes started at {before}, now at {processes()}")
    finally:
        docker(*COMPOSE, "down", cwd=ROOT)


if __name__ == "__main__":
    main()
