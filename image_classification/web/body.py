"""Read the body of a request, without running out of memory when many large ones come at once."""

import contextlib
import fcntl
import io
import shutil
import threading
from collections.abc import Iterator
from flask import abort, request
from multipart import MultipartError, MultipartParser, ParserLimitReached
from typing import IO
from werkzeug.exceptions import ServiceUnavailable, UnsupportedMediaType
from werkzeug.wrappers import Response

MAX_BYTES = 32 * 2**20  # one body must be smaller, else it gets a 413
MAX_FILES = 256  # in one form
MAX_BYTES_AT_ONCE = 3 * MAX_BYTES  # of all bodies that a worker holds in memory; more get a 503

FEW_BYTES = 4 * 2**20  # of other bodies that a worker may hold while a very large picture is decoded
TOO_MANY = "Too many large bodies came at once. Try again."

free = MAX_BYTES_AT_ONCE  # bytes that may still come
own = 0  # bytes of the body of the very large picture that is being decoded: they are not other bodies
many: IO[bytes] | None = None  # a shared lock, as long as this worker holds more than FEW_BYTES
lock = threading.Lock()
this_request = threading.local()  # .size: bytes of its body


def count(size: int) -> bool:
    """Count bytes of the current request that came, or that are gone if negative. Return whether there is room."""
    global free, many
    with lock:
        free -= size
        are_many = MAX_BYTES_AT_ONCE - free - own > FEW_BYTES
        if many and not are_many:
            many.close()  # unlocks
            many = None
        elif are_many and not many:
            many = locked(fcntl.LOCK_SH)
        return free >= 0 and bool(many) == are_many


def locked(kind: int) -> IO[bytes] | None:
    """Return a lock that all workers see, which closing ends, or None if another worker's is in the way."""
    file = open(__file__, "rb")  # noqa: SIM115
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


@contextlib.contextmanager
def few_bodies() -> Iterator[None]:
    """Keep the bodies in all workers small until the block ends, for a picture that needs most of the memory.

    Answers 503 if there are too many bodies. No two threads of a worker may do this at once.
    """
    global own
    own = getattr(this_request, "size", 0)
    count(0)
    file = locked(fcntl.LOCK_EX)
    try:
        if not file:
            raise ServiceUnavailable(TOO_MANY, retry_after=1)
        with file:
            yield
    finally:
        own = 0


class Body:
    """The body of the current request. `with Body() as body:` counts its bytes until the block ends.

    Only bytes that have arrived count: announcing a large body does not take memory from other clients.
    """

    def __enter__(self) -> "Body":
        if (request.content_encoding or "identity").lower() != "identity":
            only_plain = Response(status=415, headers={"Accept-Encoding": "identity"})  # as RFC 7694 says
            raise UnsupportedMediaType("The body is compressed. Send it without Content-Encoding.", only_plain)
        self.stream = request.stream
        self.size = this_request.size = 0
        return self

    def __exit__(self, *_: object) -> None:
        count(-self.size)
        this_request.size = 0

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, none at the end. Answers 413 or 503 if there are too many."""
        piece = self.stream.read(size)
        self.size += len(piece)
        this_request.size = self.size
        if not count(len(piece)):
            raise ServiceUnavailable(TOO_MANY, retry_after=1)
        if self.size == MAX_BYTES:  # Werkzeug silently cuts off a body of unknown length ("chunked") at the limit
            abort(413)
        return piece

    def files(self) -> list[IO[bytes]]:
        """Return the files in the field `file` of a form, or the body itself as the only file."""
        if request.mimetype == "multipart/form-data":
            return self.files_of_form(request.mimetype_params.get("boundary", ""))
        file = io.BytesIO()
        shutil.copyfileobj(self, file)
        file.seek(0)
        return [file]

    def files_of_form(self, boundary: str) -> list[IO[bytes]]:
        # not Flask's request.files, which takes a third of the time of a request; in memory, since no disk is writable
        limits = {"part_limit": MAX_FILES, "memory_limit": MAX_BYTES, "spool_limit": MAX_BYTES}
        parser = MultipartParser(self, boundary, charset="latin-1", **limits)  # a file name may be bytes of any kind
        try:
            files = [part.file for part in parser if part.name == "file" and (part.size or part.filename)]
        except ParserLimitReached:
            abort(413)
        except MultipartError as error:
            abort(400, f'The form is damaged ({error}). Let the client make it: curl -F "file=@photo.jpg"')
        return files or abort(400, 'Send a picture in the field "file" of a form: curl -F "file=@photo.jpg"')
