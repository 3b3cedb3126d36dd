"""The servers that are compared, the requests that they get, and a check of their answers."""

import io
import itertools
import json
import numpy as np
import requests
from functools import cache
from pathlib import Path
from PIL import Image
from typing import Any, NamedTuple

SAMPLES = Path(__file__).resolve().parent.parent / "image_classification" / "samples"
OURS, ROUTE, BARE = "ours", "smallest Flask route", "bare WSGI app"
DOOR, DOOR_CONNECTIONS = "front_door", 8  # in compose.https.yaml
TOLERANCE = 0.02  # of a probability: float32 and rounding change it by less
FRAME = "frame, boosted trees"
FLOWER = {"f1": 4, "f2": 5, "f3": 10}
PERSON = {"city": "Vienna", "job": "nurse", "age": 37, "income": None, "member": True}  # frame.py
SMALL, DRAWING, PHOTO = "28x28 PNG", "400x400 PNG", "12-megapixel JPEG"
NETWORKS = ["MobileNetV2", "ResNet50"]  # each gets the photo, too
PHOTOS = [PHOTO, *NETWORKS]
WORKLOADS = {  # the first of a group is measured in more ways than the others
    "hello": ["GET /"],
    "iris": ["iris pipeline"],
    "forest": ["100-tree forest"],
    "frame": [FRAME],
    "picture": [SMALL, DRAWING, PHOTO],
    "mobilenet_v2": NETWORKS[:1],  # these two as in keras.applications
    "resnet50": NETWORKS[1:],
}
CONNECTIONS = dict.fromkeys(itertools.chain(*WORKLOADS.values()), 16)  # for the figures in the tables
CONNECTIONS |= dict.fromkeys(PHOTOS, 4)


class Server(NamedTuple):
    """One way to serve: in a container of `image`, or from the folder `peer` with its own packages."""

    title: str
    command: list[str]  # {port}, {workers} and {model} are filled in for a peer
    peer: str = ""
    image: str = ""
    path: str = "/predict"
    many: str = ""  # the path for several rows or pictures, if there is one
    wrap: str = ""  # the field that holds the rows, if there is one
    same: bool = True  # must give our answers; README.md says why one does not


UVICORN = ["uvicorn", "--port", "{port}", "--workers", "{workers}", "--no-access-log", "--log-level", "warning"]
GUNICORN = ["gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "{workers}"]
BENTO = ["bentoml", "serve", "--port", "{port}"]
LITSERVE = ["python", "server.py", "{port}"]
MLFLOW = ["mlflow", "models", "serve", "--env-manager", "local", "--model-uri", "{model}"]
MLFLOW += ["--port", "{port}", "--workers", "{workers}"]
KSERVE = ["python", "server.py", "--http_port", "{port}", "--workers", "{workers}", "--enable_grpc", "false"]
KSERVE += ["--log_config_file", "log.json"]  # no access lines
GRANIAN = ["-m", "granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "5000"]


def limits(module: str, image: str, path: str = "/predict") -> list[Server]:
    return [
        Server(ROUTE, [*GRANIAN, f"{module}:route"], image=image, path=path),
        Server(BARE, [*GRANIAN, f"{module}:bare"], image=image, path=path, same=False),
    ]


def tables(image: str) -> list[Server]:
    kserve = "/v1/models/table:predict"
    return [
        Server("FastAPI", [*UVICORN, "table:app"], "fastapi", many="/predict_many"),
        Server(OURS, ["app.py"], image=image, many="/predict"),
        Server("BentoML", [*BENTO, "service:Table"], "bentoml", many="/predict_many", wrap="rows"),
        Server("LitServe", LITSERVE, "litserve"),
        Server("MLflow", MLFLOW, "mlflow", path="/invocations", many="/invocations", wrap="dataframe_records"),
        Server("KServe", KSERVE, "kserve", path=kserve, many=kserve, wrap="instances"),
        *limits("row", image),
    ]


def networks(image: str) -> list[Server]:
    return [
        Server("FastAPI + Keras", [*UVICORN, "photo:app"], "fastapi_keras"),
        Server(OURS, ["app.py"], image=image),
        Server("BentoML + Keras", [*BENTO, "photo:Photo"], "bentoml_keras"),
        Server("LitServe + Keras", ["python", "photo.py", "{port}"], "litserve_keras"),
    ]


SERVERS = {  # FastAPI comes first, because the constant rate is half of its requests/s
    "hello": [
        Server("FastAPI", [*UVICORN, "hello:app"], "fastapi", path="/"),
        Server(OURS, ["app.py"], image="bench-hello", path="/"),
        Server("Flask's own server", ["flask", "--app", "hello", "run", "--port", "{port}"], "flask", path="/"),
        Server("Gunicorn", [*GUNICORN, "hello:app"], "flask", path="/"),
        Server("Waitress", ["waitress-serve", "--listen", "127.0.0.1:{port}", "hello:app"], "flask", path="/"),
        *limits("hello", "bench-hello", path="/"),
    ],
    "iris": tables("bench-iris"),
    "forest": tables("bench-forest"),
    "frame": [
        Server("FastAPI", [*UVICORN, "server:app"], "fastapi_frame", many="/predict_many"),
        Server(OURS, ["app.py"], image="bench-frame", many="/predict"),
    ],
    "picture": [
        Server("FastAPI + Keras", [*UVICORN, "server:app"], "fastapi_keras", many="/predict_many"),
        Server(OURS, ["app.py"], image="bench-picture", many="/predict"),
        Server("the tutorials' way", [*GUNICORN, "app:app"], "tutorial_keras", same=False),
        Server("BentoML + Keras", [*BENTO, "service:Picture"], "bentoml_keras"),
        Server("LitServe + Keras", LITSERVE, "litserve_keras"),
        *limits("picture", "bench-picture"),
    ],
    "mobilenet_v2": networks("bench-mobilenet"),
    "resnet50": networks("bench-resnet"),
}


class Request(NamedTuple):
    method: str
    path: str
    body: bytes | None
    headers: dict[str, str]


@cache
def picture(workload: str) -> bytes:
    """Return a picture of a digit. The photo is as grainy as those of phones, so that its JPEG file has 5 MB."""
    file = io.BytesIO()
    if workload in PHOTOS:
        photo = Image.open(SAMPLES / "three_photo.jpg").resize((4000, 3000), Image.Resampling.BICUBIC)
        grain = np.random.default_rng(0).normal(0, 6, (3000, 4000, 3))
        Image.fromarray((np.asarray(photo) + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    else:
        size = 28 if workload == SMALL else 400
        Image.open(SAMPLES / "seven.png").resize((size, size), Image.Resampling.LANCZOS).save(file, "PNG")
    return file.getvalue()


def request_of(server: Server, workload: str, count: int | None = None) -> Request:
    """Return a request with one row or picture, or with a list of `count`."""
    path = server.path if count is None else server.many
    if workload == "GET /":
        return Request("GET", path, None, {})
    if workload in (SMALL, DRAWING, *PHOTOS):
        name, kind = ("photo.jpg", "image/jpeg") if workload in PHOTOS else ("digit.png", "image/png")
        parts = [("file", (name, picture(workload), kind))] * (count or 1)
        form = requests.Request("POST", "http://localhost", files=parts).prepare()
        assert isinstance(form.body, bytes)
        return Request("POST", path, form.body, {"Content-Type": form.headers["Content-Type"]})
    features: dict[str, Any] = PERSON if workload == FRAME else FLOWER
    row: Any = list(features.values()) if server.wrap == "instances" else features
    in_list = count is not None or server.wrap in ("instances", "dataframe_records")  # they take nothing else
    body: Any = [row] * (count or 1) if in_list else row
    body = {server.wrap: body} if in_list and server.wrap else body
    return Request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})


def check(server: Server, workload: str, text: bytes, expected: dict[str, Any], count: int = 1) -> None:
    """Raise RuntimeError if the answer to `count` rows or pictures is not our answer for each of them."""
    if workload == "GET /":
        if text != b"Hello World\n":
            raise RuntimeError(f"another answer: {text!r}")
        return
    if server.title == BARE:  # it always sends the same text
        return
    answers = json.loads(text)
    if isinstance(answers, dict):
        answers = answers.get("predictions", [answers])
    if len(answers) != count:
        raise RuntimeError(f"{len(answers)} answers to {count}")
    for answer in answers:
        if set(answer) - {"others"} != {"prediction", "probabilities"} or set(answer["probabilities"]) != set(
            expected["probabilities"]
        ):
            raise RuntimeError(f"other fields: {answer}")
        moved = max(abs(answer["probabilities"][label] - p) for label, p in expected["probabilities"].items())
        if server.same and (answer["prediction"] != expected["prediction"] or moved > TOLERANCE):
            raise RuntimeError(f"another answer, by {moved:.3f}: {answer}, not {expected}")
