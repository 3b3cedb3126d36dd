"""Two limits of image_classification: the network alone (`bare`), and the smallest Flask route of our library calls."""

import model
from collections.abc import Callable, Iterable
from decode import decode
from flask import Flask, Response, jsonify, request
from multipart import MultipartParser
from preprocess import prepare

answer = b'{"prediction":7,"probabilities":{"0":0,"1":0,"2":0,"3":0,"4":0,"5":0,"6":0,"7":1,"8":0,"9":0}}\n'
headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]


def bare(environ: dict, start_response: Callable) -> Iterable[bytes]:
    environ["wsgi.input"].read()
    with model.one_at_a_time:
        model.network.invoke()
    start_response("200 OK", headers)
    return [answer]


route = Flask(__name__)


@route.post("/predict")
def predict() -> Response:
    form = MultipartParser(request.stream, request.mimetype_params["boundary"], spool_limit=2**25)
    probabilities = model.predict(prepare(decode(form.get("file").file), model.input_shape))
    best = max(probabilities, key=probabilities.__getitem__)
    return jsonify(prediction=int(best), probabilities={label: round(p, 4) for label, p in probabilities.items()})
