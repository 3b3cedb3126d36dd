"""Two limits of image_classification: the network alone (`bare`), and the smallest Flask route of our library calls."""

import threading
import zipfile
from ai_edge_litert.interpreter import Interpreter
from collections.abc import Callable, Iterable
from decode import decode
from flask import Flask, Response, jsonify, request
from multipart import MultipartParser
from pathlib import Path
from preprocess import prepare

network = Interpreter(model_content=Path("model.tflite").read_bytes(), num_threads=1)
network.allocate_tensors()
INPUT, OUTPUT = network.get_input_details()[0]["index"], network.get_output_details()[0]["index"]
LABELS = zipfile.ZipFile("model.tflite").read("labels.txt").decode().splitlines()
one_run = threading.Lock()  # an interpreter is no place for two threads
answer = b'{"prediction":7,"probabilities":{"0":0,"1":0,"2":0,"3":0,"4":0,"5":0,"6":0,"7":1,"8":0,"9":0}}\n'
headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]


def bare(environ: dict, start_response: Callable) -> Iterable[bytes]:
    environ["wsgi.input"].read()
    with one_run:
        network.invoke()
    start_response("200 OK", headers)
    return [answer]


route = Flask(__name__)


@route.post("/predict")
def predict() -> Response:
    form = MultipartParser(request.stream, request.mimetype_params["boundary"], spool_limit=2**25)
    picture = prepare(decode(form.get("file").file))
    with one_run:
        network.set_tensor(INPUT, picture[None])
        network.invoke()
        scores = network.get_tensor(OUTPUT)[0].tolist()
    probabilities = {label: round(p, 4) for label, p in zip(LABELS, scores, strict=True)}
    return jsonify(prediction=scores.index(max(scores)), probabilities=probabilities)
