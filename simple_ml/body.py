"""Read the body of a request, without running out of memory when many large ones come at once."""

import threading
from flask import abort, request
from werkzeug.exceptions import ServiceUnavailable

MAX_BYTES = 8_000_000  # one body must be smaller, else it gets a 413
MAX_BYTES_AT_ONCE = 8 * MAX_BYTES  # of all bodies that a worker holds in memory; more get a 503

free = MAX_BYTES_AT_ONCE  # bytes that may still come
lock = threading.Lock()


class Body:
    """The body of the current request. `with Body() as body:` counts its bytes until the block ends.

    Only bytes that have arrived count: announcing a large body does not take memory from other clients.
    """

    def __enter__(self) -> "Body":
        self.stream, self.size = request.stream, 0
        return self

    def __exit__(self, *_: object) -> None:
        global free
        with lock:
            free += self.size

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, none at the end. Answers 413 or 503 if there are too many."""
        global free
        piece = self.stream.read(size)
        self.size += len(piece)
        with lock:
            free -= len(piece)
        if free < 0:
            raise ServiceUnavailable("Too many large bodies came at once. Try again.", retry_after=1)
        if self.size == MAX_BYTES:  # Werkzeug silently cuts off a body of unknown length ("chunked") at the limit
            abort(413)
        return piece

    def read_all(self) -> bytearray:
        everything = bytearray()
        while piece := self.read(65536):
            everything += piece
        return everything
