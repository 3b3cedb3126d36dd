"""End a worker in which a prediction hangs: Granian then starts another in its place.

PREDICT_TIMEOUT is how many seconds a prediction may take: 60 if it is not set; 0 means that there is no limit.

A thread looks four times a second. It ends a worker that hangs in an endless loop or waits for a lock, and says so. It
cannot run while C code holds the interpreter's lock: then faulthandler's timer, which the thread otherwise puts off,
writes the stacks and ends the worker, without the interpreter.
"""

import faulthandler
import os
import sys
import threading
import time
import traceback
from contextlib import ContextDecorator, suppress
from functools import cache

MAX_SECONDS = 1_000_000
PAUSE = 0.25  # seconds; to set the timer for each prediction would cost it 25 µs, and so it is 2
GRACE = 2  # seconds more for the thread, which says what has happened, before the timer ends the worker
STDERR = 2

running: dict[int, float] = {}  # the thread of each prediction, and when it began; the oldest comes first
timed: float | None = None  # when the prediction began for which the timer is set
lock = threading.Lock()
busy = threading.Event()  # set as long as the timer is


def limit() -> float:
    """Return how many seconds a prediction may take. Raises SystemExit, with a sentence."""
    text = os.environ.get("PREDICT_TIMEOUT") or "60"
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= MAX_SECONDS:
        most = f"a number of seconds up to {MAX_SECONDS}, or to 0 for no limit"
        raise SystemExit(f"PREDICT_TIMEOUT={text} cannot be used: set it to {most}.")
    return seconds


SECONDS = limit()


class PredictTimeout(ContextDecorator):
    """A block or a function that ends this process if it takes longer than PREDICT_TIMEOUT."""

    def __enter__(self) -> None:
        if SECONDS:
            with lock:
                if not busy.is_set():
                    start()
                    set_timer(SECONDS)
                    busy.set()
                running[threading.get_ident()] = time.monotonic()

    def __exit__(self, *_: object) -> None:
        if SECONDS:
            with lock:
                if running.pop(threading.get_ident()) == timed:
                    set_timer(SECONDS)  # the others may have just begun


predict_timeout = PredictTimeout()


def set_timer(seconds: float) -> None:
    with suppress(RuntimeError):  # the timer is a thread, and the system has none left: the next try is soon
        faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=STDERR)


@cache
def start() -> None:
    threading.Thread(target=end_worker_after_predict_timeout, daemon=True).start()


def end_worker_after_predict_timeout() -> None:  # the name stands among the stacks that faulthandler writes
    global timed
    while busy.wait():
        time.sleep(PAUSE)
        with lock:
            if not running:
                faulthandler.cancel_dump_traceback_later()  # else it would end a container that is paused for long
                busy.clear()
                continue
            thread, timed = next(iter(running.items()))
            left = timed + SECONDS - time.monotonic()
            if left <= 0:
                say(thread)
                os._exit(1)
            set_timer(left)


def say(thread: int) -> None:
    print(
        f"A prediction took longer than {SECONDS:g} s, beside {len(running) - 1} others, so this worker ends and its"
        " other requests are lost. If it may take longer, set PREDICT_TIMEOUT to more seconds, or to 0 for no limit. It"
        " was here:",
        file=sys.stderr,
    )
    traceback.print_stack(sys._current_frames()[thread])
    sys.stderr.flush()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=start.cache_clear)  # no thread survives a fork
