"""Image classification: serve a trained network that reads a picture of a digit.

New since simple_ml: files as input, and a model that was trained elsewhere.
"""

import json
import os
from flask import Flask, abort, jsonify, render_template
from granian.cli import cli
from preprocess import way
from runtime import Network, model_file
from runtime.decode import NoAnswer, decoded
from typing import IO, Any
from web.body import ERRORS, Body, seen_input, without_input
from web.openapi import docs
from web.predict_timeout import predict_timeout
from web.prediction_log import prediction_log
from werkzeug.exceptions import HTTPException, UnprocessableEntity
from werkzeug.wrappers import Response

try:
    network = Network(model_file())
    network.check()
    preparation = way(network.card)
except ValueError as error:
    raise SystemExit(str(error)) from error

app = Flask(__name__)
app.json.sort_keys = False  # type: ignore[attr-defined]  # keeps the labels in the model's order
app.register_blueprint(docs(network, preparation.fields))  # /openapi.json for programs, /docs for people
log = prediction_log(app, network.version)  # adds the header Model-Version; logs if PREDICTION_LOG says so


@app.get("/")
def index() -> str:
    return render_template("index.html", card=network.card, page=preparation.page) + "\n"


@app.get("/healthz")  # Docker asks here every 5 seconds whether the app and the network still answer
@predict_timeout
def healthz() -> dict[str, str]:
    network.check()
    return {"status": "ok", "version": network.version, "input": network.card.way, "proof": network.card.proven}


@app.post("/predict")
def predict() -> Response:
    """Answer one picture with an object, and several pictures with a list of objects."""
    with Body() as body:
        files = body.files()
        answers = [classify(file, f"File {n}: " if files[1:] else "") for n, file in enumerate(files, 1)]
    log(body.traces, without_input(answers), len(files))
    return jsonify(answers if len(answers) > 1 else answers[0])


@predict_timeout
def classify(file: IO[bytes], name: str) -> dict[str, Any]:
    """Return what the network answers; with `?input=1` also the picture that it saw. An error starts with `name`."""
    seen: dict[str, Any] = {}
    try:
        with decoded(file, preparation.smallest, network.shape[1], predict_timeout) as image:
            picture, *others = preparation.prepare(image, network.card)
        seen = seen_input(picture)
        return network.predict(picture).fields() | preparation.more(network.predict, others) | seen
    except NoAnswer as error:
        abort(problem(ERRORS.get(type(error), UnprocessableEntity)(f"{name}{error}"), **seen))


@app.errorhandler(HTTPException)
def problem(error: HTTPException, **more: Any) -> Response:
    """Answer every error as JSON, in the standard format for errors (RFC 9457)."""
    answer = error.get_response()  # with the right status, and headers such as Allow
    answer.data = json.dumps({"title": error.name, "status": error.code, "detail": error.description, **more}) + "\n"
    answer.content_type = "application/problem+json"
    return answer


if __name__ == "__main__":  # any option of Granian can be set: `python3 app.py --workers 4`, or GRANIAN_WORKERS=4
    settings = {"app": "__main__:app", "interface": "wsgi", "host": "0.0.0.0", "port": os.environ.get("PORT") or 5000}
    cli(default_map=settings, auto_envvar_prefix="GRANIAN")
