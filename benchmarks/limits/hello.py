"""Two limits of GET /: what Granian reaches without Flask (`bare`), and the smallest Flask route (`route`)."""

from collections.abc import Callable, Iterable
from flask import Flask


def bare(environ: dict, start_response: Callable) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", "12")])
    return [b"Hello World\n"]


route = Flask(__name__)


@route.get("/")
def index() -> str:
    return "Hello World\n"
