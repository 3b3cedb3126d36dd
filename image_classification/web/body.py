"""Read the body of a request, without running out of memory when many large ones come at once."""

import io
import shutil
import threading
from flask import abort, request
from multipart import MultipartError, MultipartParser, ParserLimitReached
from runtime.decode import NotAPicture, TooLarge
from typing import IO
from werkzeug.exceptions import RequestEntityTooLarge, ServiceUnavailable, UnsupportedMediaType
from werkzeug.wrappers import Response

MAX_BYTES = 32 * 2**20  # one body must be smaller, else it gets a 413
MAX_FILES = 256  # in one form
MAX_BYTES_AT_ONCE = 2 * MAX_BYTES  # of all bodies that a worker holds in memory; more get a 503
TOO_MANY = "Too many large bodies came at once. Try again."
ERRORS = {TooLarge: RequestEntityTooLarge, NotAPicture: UnsupportedMediaType}  # any other NoAnswer: a 422
RequestEntityTooLarge.description = f"The body must be smaller than {MAX_BYTES} bytes, in at most {MAX_FILES} parts."

free = MAX_BYTES_AT_ONCE  # bytes that may still come
lock = threading.Lock()


def count(size: int) -> bool:
    """Count bytes that came, or that are gone if negative. Return whether there was room for them."""
    global free
    with lock:
        free -= size
        return free >= 0


class Body:
    """The body of the current request. `with Body() as body:` counts its bytes until the block ends.

    Only bytes that have arrived count: announcing a large body does not take memory from other clients.
    """

    def __enter__(self) -> "Body":
        if (request.content_encoding or "identity").lower() != "identity":
            only_plain = Response(status=415, headers={"Accept-Encoding": "identity"})  # as RFC 7694 says
            raise UnsupportedMediaType("The body is compressed. Send it without Content-Encoding.", only_plain)
        request.max_content_length = MAX_BYTES  # what says that it is longer gets a 413 at once
        self.stream = request.stream
        self.size = 0
        return self

    def __exit__(self, *_: object) -> None:
        count(-self.size)

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, none at the end. Answers 413 or 503 if there are too many."""
        piece = self.stream.read(size)
        self.size += len(piece)
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
