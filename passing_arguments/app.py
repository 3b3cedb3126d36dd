"""Passing arguments: send a number by POST, and get its square back.

New since hello_world: `/predict`, and clear answers to bad input.
"""

import json
import os
from flask import Flask, abort, jsonify, render_template, request
from granian.cli import cli
from openapi import docs
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.wrappers import Response

MAX_BYTES = 4096  # the body of a request must be smaller
LARGEST = 1e154  # the square of a larger number does not fit into a float

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = MAX_BYTES
RequestEntityTooLarge.description = f"The body must be smaller than {MAX_BYTES} bytes."
app.register_blueprint(docs(MAX_BYTES, LARGEST))  # /openapi.json for programs, /docs for people


@app.get("/")
def index() -> str:
    return render_template("index.html") + "\n"


@app.get("/healthz")  # Docker asks here every 5 seconds whether the app still answers
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict() -> Response:
    number = read_number()
    return jsonify(number * number)


def read_number() -> int | float:
    """Return the number in the body, or answer with an error: 400, 413, 415 or 422."""
    if (request.content_encoding or "identity").lower() != "identity":
        only_plain = Response(status=415, headers={"Accept-Encoding": "identity"})  # as RFC 7694 says
        raise UnsupportedMediaType("The body is compressed. Send it without Content-Encoding.", only_plain)
    body = request.get_data()  # not request.get_json(), since `curl -d 5` does not say that it sends JSON
    if len(body) == MAX_BYTES:  # Werkzeug silently cuts off a body of unknown length ("chunked") at the limit
        abort(413)
    if not (encoding := json.detect_encoding(body)).startswith("utf-8"):
        abort(415, f"The body is in {encoding.upper()}. Send JSON in UTF-8.")
    try:
        number = json.loads(body.decode(encoding))  # utf-8, or utf-8-sig: with a byte order mark
    except (ValueError, RecursionError) as error:  # RecursionError: thousands of nested brackets
        abort(400, f"The body is not JSON ({error}). Send one number, such as 5 or 2.5.")
    if type(number) not in (int, float):  # not isinstance(), since in Python True is an int, too
        abort(422, "The body must be one JSON number, such as 5 or 2.5, without quotes or brackets.")
    if not -LARGEST <= number <= LARGEST:  # also refuses NaN, which Python's JSON parser accepts
        abort(422, f"The number must lie between -{LARGEST:g} and {LARGEST:g}.")
    return number


@app.errorhandler(HTTPException)
def problem(error: HTTPException) -> Response:
    """Answer every error as JSON, in the standard format for errors (RFC 9457)."""
    answer = error.get_response()  # with the right status, and headers such as Allow
    answer.data = json.dumps({"title": error.name, "status": error.code, "detail": error.description}) + "\n"
    answer.content_type = "application/problem+json"
    return answer


if __name__ == "__main__":  # any option of Granian can be set: `python3 app.py --workers 4`, or GRANIAN_WORKERS=4
    settings = {"app": "__main__:app", "interface": "wsgi", "host": "0.0.0.0", "port": os.environ.get("PORT") or 5000}
    cli(default_map=settings, auto_envvar_prefix="GRANIAN")
