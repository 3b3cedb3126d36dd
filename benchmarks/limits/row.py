"""Two limits of simple_ml: the model call alone (`bare`), and the smallest Flask route with our library calls."""

import numpy as np
import onnxruntime
from collections.abc import Callable, Iterable
from flask import Flask, Response, request
from pydantic import ConfigDict, Field, TypeAdapter
from pydantic_core import to_json
from typing import Annotated
from typing_extensions import TypedDict

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1  # as in runtime/onnx.py
session = onnxruntime.InferenceSession("model.onnx", options, ["CPUExecutionProvider"])
CLASSES = ["setosa", "versicolor", "virginica"]
example = {name: np.array([[value]], np.float32) for name, value in {"f1": 4, "f2": 5, "f3": 10}.items()}
answer = b'{"prediction":"virginica","probabilities":{"setosa":0.0,"versicolor":0.0,"virginica":1.0}}\n'
headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]


def bare(environ: dict, start_response: Callable) -> Iterable[bytes]:
    session.run(None, example)
    start_response("200 OK", headers)
    return [answer]


number = Annotated[float, Field(ge=-1e35, le=1e35, allow_inf_nan=False)]


class Row(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]
    f1: number
    f2: number
    f3: number


adapter = TypeAdapter(Row)
route = Flask(__name__)


@route.post("/predict")
def predict() -> Response:
    row = adapter.validate_json(request.get_data())
    inputs = {name: np.array([[value]], np.float32) for name, value in row.items()}
    label, scores = session.run(None, inputs)
    probabilities = dict(zip(CLASSES, scores[0].astype(float).round(6).tolist(), strict=True))
    text = to_json({"prediction": label[0], "probabilities": probabilities})
    return Response(text + b"\n", content_type="application/json")
