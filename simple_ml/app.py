"""Simple ML: serve a scikit-learn model that is trained while the image is built.

New since passing_arguments: a model, and input of several features, which are checked one by one.
"""

import json
import os
from flask import Flask, render_template
from granian.cli import cli
from pydantic import ValidationError
from runtime import Model
from runtime.card import NoAnswer
from web.body import Body, parsing
from web.exchange import hint, parse, respond
from web.openapi import docs
from web.predict_timeout import predict_timeout
from web.prediction_log import prediction_log
from web.schema import bad_rows, json_error, mistakes, schema
from werkzeug.exceptions import BadRequest, HTTPException, UnprocessableEntity
from werkzeug.wrappers import Response

try:
    model = Model()  # in model.onnx or model.pkl
except ValueError as error:
    raise SystemExit(str(error)) from error
types = schema(model.card)

app = Flask(__name__)
app.register_blueprint(docs(model.card, types))  # /openapi.json for programs, /docs for people
log = prediction_log(app, model.version)  # adds the header Model-Version; logs if PREDICTION_LOG says so


@app.get("/")
def index() -> str:
    return render_template("index.html", card=model.card) + "\n"


@app.get("/healthz")  # Docker asks here every 5 seconds whether the app and the model still answer
@predict_timeout
def healthz() -> dict:
    model.predict([model.card.example])
    return {"status": "ok", "version": model.version, "model": model.card.about, "proof": model.card.proven}


@app.post("/predict")
def predict() -> Response:
    """Answer an object of features with one prediction, a list of objects with a list, and a CSV file with another."""
    with Body() as body:
        text = body.read_all()
        with parsing(text), predict_timeout:
            try:
                parsed = parse(text, model.card, types)
                return app.response_class(*respond(parsed, model, log))
            except ValidationError as error:
                return invalid(error, text)  # inside the block, because the error still holds the whole input
            except NoAnswer as error:
                return problem(UnprocessableEntity(str(error)), errors=bad_rows(error.rows, parsed.is_list))


def invalid(error: ValidationError, text: bytearray) -> Response:
    if reason := json_error(error):
        return problem(BadRequest(f"The body is not JSON ({reason}).{hint(text)}"))
    detail = f"The model cannot use {error.error_count()} of the features or values.{hint(text)}"
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
