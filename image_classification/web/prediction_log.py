"""Which model answered, and what: the header Model-Version and, with PREDICTION_LOG, a line of JSON for each picture.

docs/operating.md says what a line holds, and what to think of before it is switched on.
"""

import contextlib
import hashlib
import msgspec
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from flask import Flask, g
from itertools import islice
from time import perf_counter
from typing import IO, Any
from werkzeug.wrappers import Response

MAX_FILES = 100  # of one request that are logged
MAX_BYTES = 4096  # of a line: so many stay together where several workers write to one pipe (Linux: PIPE_BUF)
STDOUT = 1

Answers = list[dict[str, Any]]
# Take the files of a request, and an iterator that answers one after the other. Return the answers, and print them.
Log = Callable[[list[IO[bytes]], Iterable[dict[str, Any]]], Answers]


def prediction_log(app: Flask, version: str) -> Log:
    """Put the header Model-Version on every answer. Return what logs: it only makes a list if PREDICTION_LOG is off.

    Raises SystemExit, with a sentence, for another value of PREDICTION_LOG.
    """

    @app.after_request
    def with_version(answer: Response) -> Response:
        answer.headers["Model-Version"] = version
        return answer

    wanted = os.environ.get("PREDICTION_LOG", "")
    if wanted in ("", "0"):
        return lambda files, answers: list(answers)
    if wanted not in ("1", "answers"):
        raise SystemExit(f"PREDICTION_LOG is {wanted!r}: set it to 1, to answers (without the input), or to 0 (off).")

    @app.before_request
    def start() -> None:
        g.started = perf_counter()

    def log(files: list[IO[bytes]], answering: Iterable[dict[str, Any]]) -> Answers:
        inputs = [{"input": traces(file)} if wanted == "1" else {} for file in files[:MAX_FILES]]
        answers = list(answering)  # after the inputs, since the decoders close the files
        ms = round(1000 * (perf_counter() - g.started), 3)
        about = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "version": version, "ms": ms}
        for number, (said, answer) in enumerate(zip(inputs, answers, strict=False), 1):
            answer = {name: value for name, value in answer.items() if name != "input"}  # that is the picture
            with contextlib.suppress(OSError):  # such as a full disk: the client gets the answer all the same
                os.write(STDOUT, line(about | {"file": number, "files": len(files)}, said | {"answer": answer}))
        return answers

    return log


def traces(file: IO[bytes]) -> dict[str, Any]:
    """Return how many bytes a file has, and its SHA-256, by which it can be found among others."""
    size = file.seek(0, 2)
    file.seek(0)
    checksum = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    return {"bytes": size, "sha256": checksum}


def line(about: dict[str, Any], said: dict[str, Any]) -> bytes:
    """Return a line of JSON. If it would be longer than MAX_BYTES, what is said is cut, and `"cut": true` is added."""
    text, most = msgspec.json.encode(about | said), MAX_BYTES
    while len(text) >= MAX_BYTES:
        most //= 2
        text = msgspec.json.encode(about | cut(said, most) | {"cut": True})
    return text + b"\n"


def cut(value: Any, most: int) -> Any:
    """Return a value with at most so many characters of each text, and of each object or list so many values."""
    if isinstance(value, str):
        return value if len(value) <= most else f"{value[:most]}…"
    if isinstance(value, dict):
        return {cut(name, most): cut(inner, most) for name, inner in islice(value.items(), most)}
    return [cut(inner, most) for inner in value[:most]] if isinstance(value, list) else value
