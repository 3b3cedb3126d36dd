"""Which model answered, and what: the header Model-Version and, with PREDICTION_LOG, a line of JSON for each row.

docs/operating.md says what a line holds, and what to think of before it is switched on.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from flask import Flask, g
from itertools import islice
from pydantic_core import to_json
from time import perf_counter
from typing import Any
from werkzeug.wrappers import Response

MAX_ROWS = 100  # of one request that are logged
MAX_BYTES = 4096  # of a line: so many stay together where several workers write to one pipe (Linux: PIPE_BUF)
STDOUT = 1

# Print the first rows of a request, at most MAX_ROWS, with their answers. `count` is how many rows it has.
Log = Callable[[Iterable[dict[str, Any]], Iterable[dict[str, Any]], int], None]


def prediction_log(app: Flask, version: str) -> Log | None:
    """Put the header Model-Version on every answer. Return the function that logs, or None if PREDICTION_LOG is off.

    Raises SystemExit, with a sentence, for another value of PREDICTION_LOG.
    """

    @app.after_request
    def with_version(answer: Response) -> Response:
        answer.headers["Model-Version"] = version
        return answer

    wanted = os.environ.get("PREDICTION_LOG", "")
    if wanted in ("", "0"):
        return None
    if wanted not in ("1", "answers"):
        raise SystemExit(f"PREDICTION_LOG is {wanted!r}: set it to 1, to answers (without the input), or to 0 (off).")

    @app.before_request
    def start() -> None:
        g.started = perf_counter()

    def log(rows: Iterable[dict[str, Any]], answers: Iterable[dict[str, Any]], count: int) -> None:
        ms = round(1000 * (perf_counter() - g.started), 3)
        about = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "version": version, "ms": ms}
        for number, (row, answer) in enumerate(zip(rows, answers, strict=True), 1):
            said = {"input": row, "answer": answer} if wanted == "1" else {"answer": answer}
            with contextlib.suppress(OSError):  # such as a full disk: the client gets the answer all the same
                os.write(STDOUT, line(about | {"row": number, "rows": count}, said))

    return log


def line(about: dict[str, Any], said: dict[str, Any]) -> bytes:
    """Return a line of JSON. If it would be longer than MAX_BYTES, what is said is cut, and `"cut": true` is added."""
    text, most = to_json(about | said, inf_nan_mode="null"), MAX_BYTES
    while len(text) >= MAX_BYTES:
        most //= 2
        text = to_json(about | cut(said, most) | {"cut": True}, inf_nan_mode="null")
    return text + b"\n"


def cut(value: Any, most: int) -> Any:
    """Return a value with at most so many characters of each text, and of each object or list so many values."""
    if isinstance(value, str):
        return value if len(value) <= most else f"{value[:most]}…"
    if isinstance(value, dict):
        return {cut(name, most): cut(inner, most) for name, inner in islice(value.items(), most)}
    return [cut(inner, most) for inner in value[:most]] if isinstance(value, list) else value
