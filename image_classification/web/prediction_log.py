"""Which model answered, and what: the header Model-Version and, with PREDICTION_LOG, a line of JSON for each picture.

docs/prediction_log.md says what a line holds, and what to think of before it is switched on.
"""

import contextlib
import msgspec
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from flask import Flask, g
from itertools import islice, repeat
from time import perf_counter
from typing import Any
from werkzeug.wrappers import Response

ONE, MANY = "file", "files"
encode = msgspec.json.encode

MAX_LOGGED = 100  # of one request
MAX_LINE = 4096  # bytes: so many stay together where several workers write to one pipe (Linux: PIPE_BUF)
STDOUT = 1

WANTED = os.environ.get("PREDICTION_LOG") or "0"

# Log the first MAX_LOGGED inputs and answers of a request, which has `count` of them. While the log is off, neither is
# looked at, so that generators cost nothing.
Log = Callable[[Iterable[dict[str, Any]], Iterable[dict[str, Any]], int], None]


def prediction_log(app: Flask, version: str) -> Log:
    """Put the header Model-Version on every answer. Return the function that logs, or does nothing if that is off.

    Raises SystemExit, with a sentence, for another value of PREDICTION_LOG.
    """
    if WANTED not in ("0", "1", "answers"):
        todo = "set it to 1, to answers (without the input), or to 0 (off)"
        raise SystemExit(f"PREDICTION_LOG={WANTED} cannot be used: {todo}.")

    @app.after_request
    def with_version(answer: Response) -> Response:
        answer.headers["Model-Version"] = version
        return answer

    if WANTED == "0":
        return lambda inputs, answers, count: None

    @app.before_request
    def start() -> None:
        g.started = perf_counter()

    @app.after_request
    def write(answer: Response) -> Response:
        for text in g.pop("lines", []):  # here, since a log that is slow must hold up no other request
            with contextlib.suppress(OSError):  # such as a full disk: the client gets the answer all the same
                os.write(STDOUT, text)
        return answer

    def log(inputs: Iterable[dict[str, Any]], answers: Iterable[dict[str, Any]], count: int) -> None:
        ms = round(1000 * (perf_counter() - g.started), 3)
        about = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "version": version, "ms": ms}
        values, lines = inputs if WANTED == "1" else repeat(None), []
        for number, (value, answer) in enumerate(zip(values, islice(answers, MAX_LOGGED), strict=False), 1):
            said = {"answer": answer} if value is None else {"input": value, "answer": answer}
            lines.append(line(about | {ONE: number, MANY: count}, said))
        g.lines = lines

    return log


def line(about: dict[str, Any], said: dict[str, Any]) -> bytes:
    """Return a line of JSON. If it would be longer than MAX_LINE, what is said is cut, and `"cut": true` is added."""
    text, most = encode(about | said), MAX_LINE
    while len(text) >= MAX_LINE:
        most //= 2
        text = encode(about | cut(said, most) | {"cut": True})
    return text + b"\n"


def cut(value: Any, most: int) -> Any:
    """Return a value with at most so many characters of each text, and of each object or list so many values."""
    if isinstance(value, str):
        return value if len(value) <= most else f"{value[:most]}…"
    if isinstance(value, dict):
        return {cut(name, most): cut(inner, most) for name, inner in islice(value.items(), most)}
    return [cut(inner, most) for inner in value[:most]] if isinstance(value, list) else value
