"""Ask a service again and again until told to stop, and count. test_swarm.py runs it in a container on the network.

    python3 retrying_client.py HOST REQUESTS

A request is tried until it is answered, each time at one of the addresses that the name leads to at that moment: what
keeps addresses, or takes the first of the list, finds neither a new replica nor its way round a dead one.
"""

import collections
import contextlib
import http.client
import json
import random
import signal
import socket
import sys
import threading
import time

ATTEMPTS = 8
CLIENTS = 4
PAUSE = 0.02  # seconds between two requests of a client: a load, and still room for containers to start in

stop = threading.Event()
lock = threading.Lock()
counts = {"sent": 0, "retries": 0, "lost": 0}
answers: collections.Counter[str] = collections.Counter()
addresses: collections.Counter[str] = collections.Counter()
failures: collections.Counter[str] = collections.Counter()
waits: list[float] = []


def ask(host: str) -> tuple[str, str]:
    """Return the answer to one attempt, and the address that it came from."""
    address = random.choice(socket.getaddrinfo(host, 5000, socket.AF_INET, socket.SOCK_STREAM))[4][0]
    with contextlib.closing(http.client.HTTPConnection(str(address), 5000, timeout=10)) as connection:
        connection.request("GET", "/")
        answer = connection.getresponse()
        body = answer.read().decode().strip()
        if answer.status != 200:
            raise http.client.HTTPException(f"{answer.status} {body}")
    return body, str(address)


def client(host: str, requests: int) -> None:
    while not stop.is_set() or counts["sent"] < requests:
        with lock:
            counts["sent"] += 1
        start = time.monotonic()
        for attempt in range(ATTEMPTS):
            try:
                body, address = ask(host)
            except (OSError, http.client.HTTPException) as error:
                with lock:
                    counts["retries"] += 1
                    failures[f"{type(error).__name__}: {error}"] += 1
                time.sleep(0.1 * 2**attempt)
                continue
            with lock:
                answers[body] += 1
                addresses[address] += 1
                waits.append(time.monotonic() - start)
            break
        else:
            with lock:
                counts["lost"] += 1
        time.sleep(PAUSE)


signal.signal(signal.SIGTERM, lambda *_: stop.set())  # `docker stop`
threads = [threading.Thread(target=client, args=(sys.argv[1], int(sys.argv[2]))) for _ in range(CLIENTS)]
for thread in threads:
    thread.start()
print("asking", flush=True)  # from here on `docker stop` is heard
for thread in threads:
    thread.join()
longest = round(max(waits), 3)
print(json.dumps(counts | {"longest": longest, "answers": answers, "addresses": addresses, "failures": failures}))
