"""Simple ML: train at build time, serve the model. Knows no feature by name: what to ask for is in model.onnx.

Adds to passing_arguments: a model, and input of several fields that is checked field by field.
"""

import json
import numpy as np
import onnxruntime
import os
from flask import Flask, Response, abort, render_template, request
from granian.cli import cli
from pathlib import Path
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import to_json
from typing import Annotated, Any, Literal
from typing_extensions import TypedDict
from urllib.parse import quote
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge, UnprocessableEntity

MAX_BYTES = 16_000_000  # of a request's body
MAX_ROWS = 100_000  # of a list
MAX_ERRORS = 20  # of those named in one answer

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1  # more workers, not threads, use more processors
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"), options, ["CPUExecutionProvider"])
about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
features, classes = about["features"], about["classes"]
class_of = {
    int(value) if isinstance(value, int | float) else value: value for value in classes or []
}  # by ONNX's label
class_names = [value if isinstance(value, str) else json.dumps(value) for value in classes or []]
inputs = [(node.name, feature) for node, feature in zip(session.get_inputs(), features, strict=True)]
outputs = [node.name for node in session.get_outputs()][: 1 + about["probabilities"]]

largest = float(np.finfo(np.float32).max)
number = Annotated[float, Field(ge=-largest, le=largest, allow_inf_nan=False)]
types = {"number": number, "integer": Annotated[number, Field(multiple_of=1)], "boolean": bool, "text": str}


def field(feature: dict) -> Any:
    """What a client may send for a feature, as a type that pydantic checks."""
    kind = Literal[tuple(feature["categories"])] if feature["categories"] else types[feature["type"]]
    return kind | None if feature["nullable"] else kind


Row = TypedDict("Row", {feature["name"]: field(feature) for feature in features})  # type: ignore[misc]
Row.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[attr-defined]
one = TypeAdapter(Row)
many = TypeAdapter(Annotated[list[Row], Field(min_length=1, max_length=MAX_ROWS)])

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = MAX_BYTES  # more is refused before it is read
RequestEntityTooLarge.description = f"The body must be smaller than {MAX_BYTES} bytes."


@app.get("/")
def index() -> str:
    """A page with a form, for people."""
    return render_template("index.html", features=features) + "\n"


@app.get("/healthz")  # for Docker's HEALTHCHECK and for load balancers
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict() -> Response:
    """Predict for one object of features, or for a list of them: then the answer is a list in the same order.

    Answers 400 to what is not JSON, 413 to what is too long, and 422 to JSON with wrong or missing fields.
    """
    body = request.get_data()
    if len(body) == MAX_BYTES:  # a chunked body has no Content-Length: Werkzeug reads so far and drops the rest
        abort(413)
    if body.lstrip()[:1] == b"[":
        answer: Any = answers(many.validate_json(body))
    else:
        answer = answers([one.validate_json(body)])[0]
    return Response(to_json(answer) + b"\n", content_type="application/json")


def answers(rows: list[dict]) -> list[dict]:
    """Run the model once, on all rows."""
    columns = {}
    for node, feature in inputs:
        column = [row[feature["name"]] for row in rows]
        if feature["type"] != "text":
            columns[node] = np.array(column, np.float32).reshape(-1, 1)  # null becomes NaN
        else:
            column = [about["null"] if value is None else value for value in column]
            columns[node] = np.array(column, object).reshape(-1, 1)
    results = session.run(outputs, columns)
    if results[-1].dtype.kind == "f" and not np.isfinite(results[-1]).all():
        abort(422, "The model has no answer to numbers this large.")
    if classes is None:
        return [{"prediction": float(f"{value:.7g}")} for value in results[0].ravel().tolist()]  # float32's digits
    predictions = [class_of[label] for label in results[0].tolist()]
    if len(results) == 1:
        return [{"prediction": prediction} for prediction in predictions]
    scores = (results[1].astype(float).round(6) + 0.0).tolist()  # + 0.0 makes 0.0 of -0.0
    return [
        {"prediction": prediction, "probabilities": dict(zip(class_names, row, strict=True))}
        for prediction, row in zip(predictions, scores, strict=True)
    ]


@app.errorhandler(ValidationError)
def invalid(error: ValidationError) -> tuple[dict, int, dict]:
    """Say what is wrong with each field, and where: a JSON Pointer (RFC 6901), as in RFC 9457's own example."""
    wrong = error.errors(include_url=False, include_context=False, include_input=False)
    if wrong[0]["type"] == "json_invalid":
        return problem(BadRequest(f"The body is not JSON ({wrong[0]['msg']})."))
    body, status, headers = problem(UnprocessableEntity(f"{len(wrong)} of the fields are not as the model needs them."))
    errors = [
        {"detail": each["msg"], "pointer": "#" + "".join(map(escape, each["loc"]))} for each in wrong[:MAX_ERRORS]
    ]
    return body | {"errors": errors}, status, headers


def escape(part: str | int) -> str:
    return "/" + quote(str(part).replace("~", "~0").replace("/", "~1"), safe="~()")


@app.errorhandler(HTTPException)  # as problem+json (RFC 9457), with the error's own headers, such as Allow
def problem(error: HTTPException) -> tuple[dict, int, dict]:
    body = {"title": error.name, "status": error.code, "detail": error.description}
    return body, error.code or 500, dict(error.get_headers()) | {"Content-Type": "application/problem+json"}


if __name__ == "__main__":  # every option of Granian's can be given, and overrides these: see --help
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    serve = {"app": "__main__:app", "interface": "wsgi", "host": "0.0.0.0", "port": 5000, "workers": cpus}
    cli(default_map=serve | {"respawn_failed_workers": True, "workers_kill_timeout": 8}, auto_envvar_prefix="GRANIAN")
