"""Read a request: its body, without running out of memory when many large ones come at once, and its query."""

import hashlib
import io
import shutil
import threading
from collections.abc import Iterable, Iterator
from flask import abort, request
from multipart import MultipartError, MultipartParser, ParserLimitReached
from numpy.typing import NDArray
from runtime.decode import NotAPicture, TooLarge
from typing import IO, Any
from web.prediction_log import MAX_LOGGED, WANTED
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
        """Return the files in the field `file` of a form, or the body itself as the only file.

        `traces` is then what the log says of them, read before the decoders close them.
        """
        if request.mimetype == "multipart/form-data":
            files = self.files_of_form(request.mimetype_params.get("boundary", ""))
        else:
            files = [io.BytesIO()]
            shutil.copyfileobj(self, files[0])
            files[0].seek(0)
        self.traces = [traces(file) for file in files[:MAX_LOGGED]] if WANTED == "1" else []
        return files

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


def traces(file: IO[bytes]) -> dict[str, Any]:
    """Return how many bytes a file has, and its SHA-256, by which it can be found among others."""
    size = file.seek(0, 2)
    file.seek(0)
    checksum = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    return {"bytes": size, "sha256": checksum}


def seen_input(picture: NDArray) -> dict[str, Any]:
    """Return what `?input=1` adds to an answer: the picture that the network saw, (height, width, channels).

    A grey one has no axis of channels. Without that query there is nothing to add.
    """
    if not request.query_string or request.args.get("input") != "1":  # to parse an empty query takes time, too
        return {}
    return {"input": picture.round().astype(int).squeeze(axis=2 if picture.shape[2] == 1 else ()).tolist()}


def without_input(answers: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield answers for the log, which never holds a picture."""
    for answer in answers:
        yield {name: value for name, value in answer.items() if name != "input"}
