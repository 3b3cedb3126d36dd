"""What goes in and what comes out: how pictures are sent, the limits, and the OpenAPI document that states them."""

import io
import json
import shutil
import threading
from decode import FORMATS, MAX_PIXELS
from flask import Blueprint, Response, abort, request
from flask_swagger_ui import get_swaggerui_blueprint
from multipart import MultipartError, MultipartParser, ParserLimitReached
from typing import IO, Any
from werkzeug.exceptions import ServiceUnavailable

MAX_BYTES = 32 * 2**20  # of a request's body
MAX_FILES = 256  # in a request
MAX_HELD = 3 * MAX_BYTES  # of the bodies that a worker has in memory at a time
RETRY_SECONDS = 1  # after which a client that was refused for that may try again

FILE = {"type": "string", "format": "binary"}  # of OpenAPI 3.0, since Swagger UI makes a file chooser of nothing else
FILES = {
    "type": "array",
    "description": "Pictures, each a part of its own with a file name",
    "items": FILE,
    "minItems": 1,
    "maxItems": MAX_FILES,
}
HEALTH = {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}
PROBLEM = {
    "type": "object",
    "description": "What went wrong (RFC 9457)",
    "properties": {"title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"}},
    "required": ["title", "status", "detail"],
}


held = 0  # bytes of the bodies that this worker has in memory
counting = threading.Lock()


class Body:
    """The body of a request, which is in memory until the request is answered; 503 where others leave no room for it.

    Counted as it comes in, not by its Content-Length: who only announces much takes nothing away from others.
    """

    def __enter__(self) -> "Body":
        self.size, self.stream = 0, request.stream
        return self

    def __exit__(self, *_: object) -> None:
        global held
        with counting:
            held -= self.size

    def read(self, size: int = -1) -> bytes:
        global held
        data = self.stream.read(size)
        self.size += len(data)
        with counting:
            held += len(data)
        if held > MAX_HELD:
            raise ServiceUnavailable("Too many large pictures came at once. Try again.", retry_after=RETRY_SECONDS)
        return data


def pictures(body: Body) -> list[IO[bytes]]:
    """Return the form's files in the field `file`, or the body itself; in memory, since no disk may be written to."""
    if request.mimetype != "multipart/form-data":
        file = io.BytesIO()
        shutil.copyfileobj(body, file)
        if body.size == MAX_BYTES:  # a chunked body has no Content-Length: Werkzeug reads so far and drops the rest
            abort(413)
        file.seek(0)
        return [file]
    limits = {"part_limit": MAX_FILES, "memory_limit": MAX_BYTES, "spool_limit": MAX_BYTES}
    form = MultipartParser(body, request.mimetype_params.get("boundary", ""), **limits)
    try:  # not Flask's own way, which compiles regular expressions for each request: a third of its time
        files = [part.file for part in form if part.name == "file" and part.filename]
    except ParserLimitReached:
        abort(413)
    except MultipartError as error:
        if body.size == MAX_BYTES:  # chunked, as above
            abort(413)
        abort(400, f'The form is damaged ({error}). Let the client make it: curl -F "file=@digit.png"')
    return files or abort(400, 'Send a picture as the field "file" of a form: curl -F "file=@digit.png"')


def prediction(labels: list[str], shape: tuple[int, ...]) -> dict[str, Any]:
    """Describe an answer: the label, the probability of each, and on request the input, of `shape` without ones."""
    seen: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 255}
    for size in reversed([size for size in shape if size > 1]):
        seen = {"type": "array", "items": seen, "minItems": size, "maxItems": size}
    share = {"type": "number", "minimum": 0, "maximum": 1}
    probabilities = {"type": "object", "properties": dict.fromkeys(labels, share), "required": labels}
    values = [int(label) if label.isdecimal() else label for label in labels]
    return {
        "type": "object",
        "properties": {
            "prediction": {"enum": values},
            "probabilities": probabilities | {"additionalProperties": False},
            "input": seen | {"description": "What the network saw, if asked for by `?input=1`"},
        },
        "required": ["prediction", "probabilities"],
        "additionalProperties": False,
        "examples": [{"prediction": values[0], "probabilities": dict.fromkeys(labels, 0) | {labels[0]: 1}}],
    }


def answer(description: str, schema: dict[str, Any], content_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": schema}}}


def error(description: str) -> dict[str, Any]:
    return answer(description, {"$ref": "#/components/schemas/Problem"}, "application/problem+json")


def document(labels: list[str], shape: tuple[int, ...]) -> dict[str, Any]:
    """Describe the service as OpenAPI 3.1 does (https://spec.openapis.org/oas/v3.1.0)."""
    form = {"type": "object", "properties": {"file": FILES}, "required": ["file"]}
    one = {"$ref": "#/components/schemas/Prediction"}
    predict = {
        "operationId": "predict",
        "summary": "Say what a picture shows",
        "description": f"{', '.join(FORMATS)}, told by the content. Several pictures give a list, in the same order.",
        "parameters": [
            {
                "name": "input",
                "in": "query",
                "description": "With `1`, the answer also holds what the network saw",
                "schema": {"type": "string"},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "image/*": {},
                "application/octet-stream": {},
            },
        },
        "responses": {
            "200": answer(
                "The prediction, or a list of predictions", {"anyOf": [one, {"type": "array", "items": one}]}
            ),
            "400": error("A form without a picture in its field `file`"),
            "413": error(
                f"{MAX_BYTES} bytes or more, over {MAX_FILES} parts, or a picture of over {MAX_PIXELS} pixels"
            ),
            "415": error("This is not a picture"),
            "422": error("A picture that is damaged, or shows nothing"),
            "503": error("Too many large pictures at once: try again"),
        },
    }
    index = {"operationId": "index", "summary": "A page to try it with"}
    healthz = {"operationId": "healthz", "summary": "Whether the model answers"}
    health = {"200": answer("It does", HEALTH), "500": error("It does not")}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Image classification", "version": "1.0.0", "summary": "Pictures in, labels out"},
        "servers": [{"url": "."}],  # beside this document, wherever a proxy puts it
        "paths": {
            "/predict": {"post": predict},
            "/healthz": {"get": healthz | {"responses": health}},
            "/": {"get": index | {"responses": {"200": answer("The page", {"type": "string"}, "text/html")}}},
        },
        "components": {"schemas": {"Prediction": prediction(labels, shape), "Problem": PROBLEM}},
    }


def docs(labels: list[str], shape: tuple[int, ...]) -> Blueprint:
    """Serve the document at /openapi.json, and at /docs Swagger UI, a page to read it and to try it with."""
    pages, text = Blueprint("docs", __name__), json.dumps(document(labels, shape)) + "\n"
    pages.add_url_rule("/openapi.json", "openapi", lambda: Response(text, content_type="application/json"))
    # relative addresses, for behind a proxy; the plain layout, which asks no other host whether the document is valid
    swagger_ui = get_swaggerui_blueprint(".", "../openapi.json", {"app_name": "API", "layout": "BaseLayout"})
    pages.register_blueprint(swagger_ui, url_prefix="/docs")
    return pages
