"""Two limits of image_classification: the network alone (`bare`), and the smallest Flask route of our library calls."""

from collections.abc import Callable, Iterable
from flask import Flask, Response, jsonify, request
from multipart import MultipartParser
from pathlib import Path
from preprocess import way
from runtime import Network
from runtime.decode import decoded

network = Network(Path("model.tflite"))
preparation = way(network.card)
network.check()
answer = b'{"prediction":7,"probabilities":{"0":0,"1":0,"2":0,"3":0,"4":0,"5":0,"6":0,"7":1,"8":0,"9":0}}\n'
headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]


def bare(environ: dict, start_response: Callable) -> Iterable[bytes]:
    environ["wsgi.input"].read()
    with network.engine.lock:
        network.engine.interpreter.invoke()
    start_response("200 OK", headers)
    return [answer]


route = Flask(__name__)


@route.post("/predict")
def predict() -> Response:
    form = MultipartParser(request.stream, request.mimetype_params["boundary"], spool_limit=2**25)
    with decoded(form.get("file").file, preparation.smallest, network.shape[1]) as image:
        picture = preparation.prepare(image, network.card)[0]
    return jsonify(network.predict(picture).fields())
