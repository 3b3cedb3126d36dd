"""Passing arguments: send something in by POST. Adds to hello_world: `/predict`, and what to answer to bad input."""

import json
import multiprocessing
import os
from flask import Flask, Response, abort, jsonify, render_template, request
from granian.cli import cli
from schema import LARGEST, MAX_BYTES, docs
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = MAX_BYTES  # more is refused before it is read
RequestEntityTooLarge.description = f"The body must be smaller than {MAX_BYTES} bytes."
app.register_blueprint(docs())  # /openapi.json says what goes in and out, and /docs shows it


@app.get("/")
def index() -> str:
    """A page with a form, for people."""
    return render_template("index.html") + "\n"


@app.get("/healthz")  # for Docker's HEALTHCHECK and for load balancers
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict() -> Response:
    """Square the number in the body, JSON whatever its Content-Type says (`curl -d` sends a form's): `5` -> `25`.

    Answers 400 to what is not JSON, 413 to what is too long, and 422 to JSON that is no number or too large a one.
    """
    body = request.get_data()
    if len(body) == MAX_BYTES:  # a chunked body has no Content-Length: Werkzeug reads so far and drops the rest
        abort(413)
    try:
        number = json.loads(body.decode(), parse_constant=not_json)  # UTF-8: json would guess UTF-16 from a NUL
    except (ValueError, RecursionError) as error:  # RecursionError: a thousand brackets in each other
        abort(400, f"The body is not JSON ({error}). Send one number, such as 5 or 2.5.")
    if type(number) not in (int, float):  # not isinstance(): True is an int to Python
        abort(422, "The body must be one JSON number, such as 5 or 2.5, not in quotes or brackets.")
    if abs(number) > LARGEST:
        abort(422, f"The number must lie between -{LARGEST:g} and {LARGEST:g}.")
    return jsonify(number * number)


def not_json(constant: str) -> None:
    """Refuse NaN and Infinity, which Python reads but JSON does not have (RFC 8259, section 6)."""
    raise ValueError(f"{constant} is not a JSON number")


@app.errorhandler(HTTPException)  # as problem+json (RFC 9457), with the error's own headers, such as Allow
def problem(error: HTTPException) -> tuple[dict, int, dict]:
    body = {"title": error.name, "status": error.code, "detail": error.description}
    return body, error.code or 500, dict(error.get_headers()) | {"Content-Type": "application/problem+json"}


if __name__ == "__main__":  # every option of Granian's can be given, and overrides these: see --help
    if os.environ.get("GRANIAN_METRICS_ENABLED"):  # it starts threads, and a worker forked beside threads can hang
        multiprocessing.set_start_method("spawn")
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    serve = {"app": "__main__:app", "interface": "wsgi", "host": "0.0.0.0", "port": 5000, "workers": cpus}
    cli(default_map=serve | {"respawn_failed_workers": True, "workers_kill_timeout": 8}, auto_envvar_prefix="GRANIAN")
