"""Simple ML: train at build time, serve the model. Adds to passing_arguments: a model, and input of several fields."""

import json
import multiprocessing
import numpy as np
import onnxruntime
import os
from flask import Flask, Response, abort, render_template
from granian.cli import cli
from pathlib import Path
from pydantic import ValidationError
from pydantic_core import to_json
from schema import MAX_BYTES, MAX_ERRORS, Body, adapters, alone_if_long, docs, pointer, read_all
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge, UnprocessableEntity

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1  # there is a worker for each processor already
session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"), options, ["CPUExecutionProvider"])
about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
features = dict(zip([node.name for node in session.get_inputs()], about["features"], strict=True))  # by export.py
outputs = [node.name for node in session.get_outputs()][: 1 + about["probabilities"]]
class_of = dict(zip(about["labels"], about["classes"], strict=True))  # ONNX has no yes/no labels: it says 0 and 1
one, many = adapters(about)

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = MAX_BYTES  # more is refused before it is read
RequestEntityTooLarge.description = f"The body must be smaller than {MAX_BYTES} bytes."
app.register_blueprint(docs(about))  # /openapi.json says what goes in and out, and /docs shows it


@app.get("/")
def index() -> str:
    return render_template("index.html", features=about["features"]) + "\n"


@app.get("/healthz")  # for Docker's HEALTHCHECK and for load balancers
def healthz() -> dict[str, str]:
    run([{feature["name"]: feature["example"] for feature in about["features"]}])  # a model that cannot answer: 500
    return {"status": "ok"}


@app.post("/predict")
def predict() -> Response | tuple[dict, int, dict]:
    """Predict for one object of features, or for a list of them: then the answer is a list in the same order.

    Answers 400 to what is not JSON, 413 to what is too long, 422 to what it cannot take, 503 to too much at once.
    """
    with Body() as body, alone_if_long(text := read_all(body)):
        try:
            if text.lstrip().startswith(b"["):
                answer = to_json(run(many.validate_json(text)))
            else:
                answer = to_json(run([one.validate_json(text)])[0])
        except ValidationError as error:  # answered here, still alone: it holds all that was read
            return invalid(error)
    return Response(answer + b"\n", content_type="application/json")


def run(rows: list[dict]) -> list[dict]:
    """Run the model once, on all rows."""
    inputs = {}
    for node, feature in features.items():
        name, text = feature["name"], feature["type"] == "text"
        column = [about["null"] if text and row[name] is None else row[name] for row in rows]
        inputs[node] = np.array(column, object if text else np.float32)[:, None]  # None becomes NaN
    results = session.run(outputs, inputs)
    if results[-1].dtype.kind == "f" and np.count_nonzero(~np.isfinite(results[-1])):  # for one row faster than any()
        abort(422, "The model has no answer to numbers as large as these.")
    if not class_of:
        return [{"prediction": float(f"{value:.7g}")} for value in results[0].ravel().tolist()]  # float32's digits
    answers: list[dict] = [{"prediction": class_of[label]} for label in results[0].tolist()]
    if about["probabilities"]:
        for answer, scores in zip(answers, results[1].astype(float).round(6).tolist(), strict=True):
            answer["probabilities"] = dict(zip(about["classes"], scores, strict=True))
    return answers


def invalid(error: ValidationError) -> tuple[dict, int, dict]:
    """Say what is wrong with which field, by its JSON Pointer (RFC 6901), as RFC 9457's own example does."""
    count = error.error_count()
    wrong = error.errors(include_url=False, include_context=False, include_input=False) if count < 10_000 else []
    if wrong and wrong[0]["type"] == "json_invalid":
        return problem(BadRequest(f"The body is not JSON ({wrong[0]['msg']})."))
    answer, status, headers = problem(UnprocessableEntity(f"Fields or values that the model cannot take: {count}."))
    errors = [{"detail": each["msg"], "pointer": pointer(each["loc"])} for each in wrong[:MAX_ERRORS]]
    return answer | {"errors": errors}, status, headers


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
