"""Image classification: files as input, a trained network. Adds to simple_ml: uploads, and a model made elsewhere."""

import multiprocessing
import numpy as np
import os
import threading
import zipfile
from ai_edge_litert.interpreter import Interpreter
from decode import decode
from flask import Flask, Response, abort, jsonify, render_template, request
from granian.cli import cli
from pathlib import Path
from preprocess import prepare
from schema import MAX_BYTES, MAX_FILES, Body, docs, pictures
from typing import IO, Any
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

MODEL = Path(__file__).with_name("model.tflite")
try:
    LABELS = zipfile.ZipFile(MODEL).read("labels.txt").decode().splitlines()  # train.py packs it into the model file
except (OSError, KeyError, zipfile.BadZipFile) as error:
    raise SystemExit(f"{MODEL} is missing or damaged: {error}") from None
network = Interpreter(model_content=MODEL.read_bytes(), num_threads=1)  # as bytes: the file may be replaced
network.allocate_tensors()
INPUT, OUTPUT = network.get_input_details()[0], network.get_output_details()[0]
SHAPE = tuple(INPUT["shape"][1:].tolist())  # rows, columns, channels
one_photo = threading.Lock()  # decoded, it takes much memory
one_run = threading.Lock()  # an interpreter is no place for two threads

app = Flask(__name__)
app.json.sort_keys = False  # type: ignore[attr-defined]  # the labels stay in the model's order
app.config["MAX_CONTENT_LENGTH"] = MAX_BYTES  # more is refused before it is read
RequestEntityTooLarge.description = f"The body must be smaller than {MAX_BYTES} bytes, in at most {MAX_FILES} parts."
app.register_blueprint(docs(LABELS, SHAPE))  # /openapi.json says what goes in and out, and /docs shows it


@app.get("/")
def index() -> str:
    return render_template("index.html") + "\n"


@app.get("/healthz")  # for Docker's HEALTHCHECK and for load balancers
def healthz() -> dict[str, str]:
    with one_run:  # not one_photo: what is slow to answer is not ill
        network.invoke()  # on the last picture; a network that cannot: 500
    return {"status": "ok"}


@app.post("/predict")
def predict() -> Response:
    """Classify a picture, the form's field `file` or the body itself: an object; several fields `file`: a list.

    Answers 400 to a form without a picture, 413 to what is too large, 415 to what is no picture, 422 to a picture that
    is damaged or shows nothing, and 503 where too many large ones come at once.
    """
    with Body() as body:
        answers = [classify(picture) for picture in pictures(body)]
    return jsonify(answers if len(answers) > 1 else answers[0])


def classify(file: IO[bytes]) -> dict[str, Any]:
    """Return the likeliest label of a picture and the probability of each; for `?input=1` also what the network saw."""
    with one_photo:
        try:
            picture = prepare(decode(file), SHAPE)
        except ValueError as error:
            abort(422, str(error))
        with one_run:
            network.set_tensor(INPUT["index"], picture[np.newaxis])
            network.invoke()
            probabilities = network.get_tensor(OUTPUT["index"])[0].tolist()
    label = LABELS[probabilities.index(max(probabilities))]
    answer: dict[str, Any] = {"prediction": int(label) if label.isdecimal() else label}
    answer["probabilities"] = {label: round(p, 4) for label, p in zip(LABELS, probabilities, strict=True)}
    if request.args.get("input") == "1":
        answer["input"] = (picture * 255).round().astype(int).squeeze().tolist()
    return answer


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
