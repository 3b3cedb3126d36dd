"""End a worker in which a prediction hangs: Granian then starts another in its place.

PREDICT_TIMEOUT is how many seconds a prediction may take: 60 if it is not set; 0 means that there is no limit.

A thread ends a worker that hangs in an endless loop or waits for a lock, and says so. It cannot run while C code holds
the GIL (Python's global interpreter lock). Then a timer of the system ends the worker two seconds later, and
faulthandler writes the stacks, which does not need the GIL. Windows has no such timer.
"""

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import ContextDecorator
from functools import cache

MAX_SECONDS = 1_000_000
GRACE = 2  # seconds more for the thread, which says what has happened, before the timer ends the worker
HAS_TIMER = hasattr(signal, "setitimer")

running: dict[int, float] = {}  # the thread of each prediction, and when it began; the oldest comes first
lock = threading.Lock()


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
                start()
                running[threading.get_ident()] = time.monotonic()
                if len(running) == 1:
                    set_timer(SECONDS + GRACE)

    def __exit__(self, *_: object) -> None:
        if SECONDS:
            thread = threading.get_ident()
            with lock:
                was_oldest = next(iter(running)) == thread
                del running[thread]
                if was_oldest:
                    set_timer(max(left(), 0) + GRACE if running else 0)


predict_timeout = PredictTimeout()


def left() -> float:
    """Return how many seconds the oldest prediction still has; all of them if none runs."""
    now = time.monotonic()
    return next(iter(running.values()), now) + SECONDS - now


def set_timer(seconds: float) -> None:
    """Let the system end this process after so many seconds; 0: never."""
    if HAS_TIMER:
        signal.setitimer(signal.ITIMER_REAL, seconds)


@cache
def start() -> None:
    """Start the thread, and say what the timer does when it ends: faulthandler writes to stderr, and SIGALRM kills."""
    if HAS_TIMER:
        faulthandler.register(signal.SIGALRM, file=2, chain=True)
    threading.Thread(target=end_worker_after_predict_timeout, daemon=True).start()


def end_worker_after_predict_timeout() -> None:
    while True:
        with lock:
            if (seconds := left()) <= 0:
                say_where()
                os._exit(1)
        time.sleep(seconds)


def say_where() -> None:
    print(
        f"A prediction took longer than {SECONDS:g} s. {len(running) - 1} others ran beside it. This worker ends, and"
        " its other requests are lost. If it may take longer, set PREDICT_TIMEOUT to more seconds, or to 0 for no"
        " limit. It was here:",
        file=sys.stderr,
    )
    traceback.print_stack(sys._current_frames()[next(iter(running))])
    sys.stderr.flush()
