"""Passing arguments: send data by POST, and get back what predict() in predict.py answers.

New since hello_world: `/predict`, and clear answers to bad input.
"""

import codecs
import json
import os
import schema
from flask import Flask, abort, render_template, request
from granian.cli import cli
from openapi import docs
from predict_timeout import predict_timeout
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, UnprocessableEntity, UnsupportedMediaType
from werkzeug.wrappers import Response

app = Flask(__name__)
app.register_blueprint(docs())  # /openapi.json for programs, /docs for people
schema.load(__name__)  # imports predict.py, in each worker


@app.get("/")
def index() -> str:
    return render_template("index.html", about=schema.about(), fields=schema.fields()) + "\n"


@app.get("/healthz")  # Docker asks here every 5 seconds whether the app still answers
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict() -> Response:
    body = read_body()
    with predict_timeout:
        try:
            arguments = schema.arguments(body)
        except ValidationError as error:
            detail, more = schema.mistakes(error, body)
            return problem(UnprocessableEntity(f"{detail}. {schema.advice()}"), **more)
        except ValueError as error:
            abort(400, f"The body is not JSON ({error}). {schema.advice()}")
        try:
            answer = schema.own().predict(**arguments)
        except ValueError as error:
            if not schema.is_refusal(error):
                raise
            abort(422, str(error) or None)
        return app.response_class(schema.to_text(answer) + b"\n", content_type="application/json")


def read_body() -> bytes:
    """Return the body of the request, or answer with an error: 413 or 415."""
    if (request.content_encoding or "identity").lower() != "identity":
        only_plain = Response(status=415, headers={"Accept-Encoding": "identity"})  # as RFC 7694 says
        raise UnsupportedMediaType("The body is compressed. Send it without Content-Encoding.", only_plain)
    limit = request.max_content_length = schema.max_bytes()  # at which a body of unknown length ("chunked") is cut off
    if (request.content_length or 0) >= limit or len(body := request.get_data()) >= limit:
        abort(413, f"The body must be smaller than {limit} bytes.")
    if not (encoding := json.detect_encoding(body)).startswith("utf-8"):
        abort(415, f"The body is in {encoding.upper()}. Send JSON in UTF-8.")
    return body.removeprefix(codecs.BOM_UTF8)


@app.errorhandler(HTTPException)
def problem(error: HTTPException, **more: list) -> Response:
    """Answer every error as JSON, in the standard format for errors (RFC 9457)."""
    answer = error.get_response()  # with the right status, and headers such as Allow
    answer.data = json.dumps({"title": error.name, "status": error.code, "detail": error.description} | more) + "\n"
    answer.content_type = "application/problem+json"
    return answer


if __name__ == "__main__":  # any option of Granian can be set: `python3 app.py --workers 4`, or GRANIAN_WORKERS=4
    settings = {"app": "__main__:app", "interface": "wsgi", "host": "0.0.0.0", "port": os.environ.get("PORT") or 5000}
    cli(default_map=settings, auto_envvar_prefix="GRANIAN")
