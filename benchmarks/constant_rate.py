"""Send requests at a constant rate, with locust: each user has fixed times at which to send a request.

The latency counts from that time. So a slow answer also counts against the requests that had to wait for it.
"""

import gevent
import json
import os
import random
from locust import FastHttpUser, events, task
from pathlib import Path
from time import monotonic
from typing import Any

BODY = Path(os.environ["BODY"]).read_bytes() if "BODY" in os.environ else None
HEADERS = {"Content-Type": os.environ["TYPE"]}
PACE = float(os.environ["PACE"])  # requests a second of one user
BEGIN = monotonic() + float(os.environ["WARM"])  # earlier requests do not count
times: list[float] = []  # milliseconds; infinity for an error


class Client(FastHttpUser):
    def on_start(self) -> None:
        self.due = monotonic() + random.random() / PACE

    @task
    def ask(self) -> None:
        gevent.sleep(max(0, self.due - monotonic()))
        answer = self.client.request(os.environ["METHOD"], os.environ["URL"], data=BODY, headers=HEADERS)
        if self.due > BEGIN:
            times.append(1000 * (monotonic() - self.due) if answer.status_code == 200 else float("inf"))
        self.due += 1 / PACE


@events.quit.add_listener
def write(**_: Any) -> None:
    Path(os.environ["TIMES"]).write_text(json.dumps({"times": times, "seconds": monotonic() - BEGIN}))
