"""Simple ML: serve a scikit-learn model that is trained while the image is built.

New since passing_arguments: a model, and input of several features, which are checked one by one.
"""

import json
import model
import os
import threading
from body import MAX_BYTES, Body
from contextlib import nullcontext
from flask import Flask, render_template
from granian.cli import cli
from openapi import docs
from pydantic import ValidationError
from pydantic_core import to_json
from schema import json_error, many_rows, mistakes, one_row
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge, UnprocessableEntity
from werkzeug.wrappers import Response

LONG = 10_000  # bytes; a longer body takes many times its size in memory once it is parsed
one_long_body = threading.Lock()  # so only one long body is parsed at a time

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = MAX_BYTES
RequestEntityTooLarge.description = f"The body must be smaller than {MAX_BYTES} bytes."
app.register_blueprint(docs())  # /openapi.json for programs, /docs for people


@app.get("/")
def index() -> str:
    return render_template("index.html", features=model.features) + "\n"


@app.get("/healthz")  # Docker asks here every 5 seconds whether the app and the model still answer
def healthz() -> dict[str, str]:
    model.predict([{feature["name"]: feature["example"] for feature in model.features}])
    return {"status": "ok"}


@app.post("/predict")
def predict() -> Response:
    """Answer an object of features with one prediction, and a list of objects with a list of predictions."""
    with Body() as body:
        text = body.read_all()
        with one_long_body if len(text) > LONG else nullcontext():
            try:
                return app.response_class(predict_json(text) + b"\n", content_type="application/json")
            except ValidationError as error:
                return invalid(error)  # inside the lock, because the error still holds the whole input
            except ValueError as error:
                return problem(UnprocessableEntity(str(error)))


def predict_json(text: bytearray) -> bytes:
    is_list = text.lstrip().startswith(b"[")
    rows = many_rows.validate_json(text) if is_list else [one_row.validate_json(text)]
    answers = model.predict(rows)
    return to_json(answers if is_list else answers[0])


def invalid(error: ValidationError) -> Response:
    if reason := json_error(error):
        return problem(BadRequest(f"The body is not JSON ({reason})."))
    detail = f"Features or values that the model cannot use: {error.error_count()}."
    return problem(UnprocessableEntity(detail), errors=mistakes(error))


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
