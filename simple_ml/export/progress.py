"""Say on stderr what is being done, where it takes long."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

EVERY = 10  # seconds
doing = ""


def begin(what: str) -> None:
    """Set what is being done from now on."""
    global doing
    doing = what


@contextlib.contextmanager
def progress() -> Iterator[None]:
    """Until the block ends, print every ten seconds what is being done."""
    start, done = time.monotonic(), threading.Event()

    def tell() -> None:
        while not done.wait(EVERY):
            print(f"export: {time.monotonic() - start:.0f} s, {doing}", file=sys.stderr, flush=True)

    threading.Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        done.set()
