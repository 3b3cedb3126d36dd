"""Read the body of a request, without running out of memory when many large ones come at once."""

import codecs
import gc
import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from flask import abort, request
from werkzeug.exceptions import RequestEntityTooLarge, ServiceUnavailable, UnsupportedMediaType
from werkzeug.wrappers import Response

MAX_BYTES = 8_000_000  # one body must be smaller, else it gets a 413
MAX_BYTES_AT_ONCE = 8 * MAX_BYTES  # of all bodies that a worker holds in memory; more get a 503
LONG = 10_000  # bytes; a longer body takes many times its size in memory once it is parsed
RequestEntityTooLarge.description = f"The body must be smaller than {MAX_BYTES} bytes."

free = MAX_BYTES_AT_ONCE  # bytes that may still come
lock = threading.Lock()
one_long_body = threading.Lock()


class Body:
    """The body of the current request. `with Body() as body:` counts its bytes until the block ends.

    Only bytes that have arrived count: announcing a large body does not take memory from other clients.
    """

    def __enter__(self) -> "Body":
        if (request.content_encoding or "identity").lower() != "identity":
            only_plain = Response(status=415, headers={"Accept-Encoding": "identity"})  # as RFC 7694 says
            raise UnsupportedMediaType("The body is compressed. Send it without Content-Encoding.", only_plain)
        request.max_content_length = MAX_BYTES  # what says that it is longer gets a 413 at once
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
        """Return the whole body. JSON comes without the byte order mark that some programs put before it.

        Answers 415 to JSON that is not in UTF-8.
        """
        everything = bytearray()
        while piece := self.read(65536):
            everything += piece
        if is_csv():
            return everything
        if not (encoding := json.detect_encoding(everything)).startswith("utf-8"):
            abort(415, f"The body is in {encoding.upper()}. Send JSON in UTF-8.")
        if encoding == "utf-8-sig":
            del everything[: len(codecs.BOM_UTF8)]
        try:
            everything.decode()
        except UnicodeDecodeError as error:
            abort(415, f"The body is not in UTF-8 (byte {error.start}). Send JSON in UTF-8.")
        return everything


def is_csv() -> bool:
    """Say whether the body is CSV. The start of the header is compared first, because parsing it takes longer."""
    return request.headers.get("Content-Type", "")[:8].lower() == "text/csv" and request.mimetype == "text/csv"


def parsing(text: bytearray) -> AbstractContextManager:
    """Return a context in which a body may be parsed: only one long body at a time."""
    return without_collector() if len(text) > LONG else nullcontext()


@contextmanager
def without_collector() -> Iterator[None]:
    """Rows hold no cycles: to look for some, as Python does after every few hundred objects, takes half of the time."""
    with one_long_body:
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
