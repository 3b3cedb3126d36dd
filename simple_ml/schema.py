"""What goes in and what comes out: the types that check it, and the OpenAPI document, which is made from these types.

All of it follows from what export.py has put into the model file, so another model has another document.
"""

import json
import threading
from contextlib import AbstractContextManager, nullcontext
from flask import Blueprint, Response, abort, request
from flask_swagger_ui import get_swaggerui_blueprint
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic_core import PydanticCustomError
from typing import Annotated, Any, Literal
from typing_extensions import TypedDict
from urllib.parse import quote
from werkzeug.exceptions import ServiceUnavailable

MAX_BYTES = 8_000_000  # of a request's body
MAX_HELD = 8 * MAX_BYTES  # of the bodies that a worker has in memory at a time
RETRY_SECONDS = 1  # after which a client that was refused for that may try again
LONG = 10_000  # bytes; longer bodies are answered one at a time
MAX_ROWS = 100_000  # of a list
MAX_ERRORS = 20  # that an answer names
LARGEST = 10**35  # of a number: float32 ends at 3.4e38, and the model still has to scale it and to add


held = 0  # bytes of the bodies that this worker has in memory
counting = threading.Lock()
one_long = threading.Lock()  # at a time, since what is read from it takes many times its size


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
            raise ServiceUnavailable("Too many long bodies came at once. Try again.", retry_after=RETRY_SECONDS)
        return data


def read_all(body: Body) -> bytearray:
    """Return all of it; answers 413 to too much."""
    text = bytearray()
    while piece := body.read(65536):
        text += piece
    if len(text) == MAX_BYTES:  # a chunked body has no Content-Length: Werkzeug reads so far and drops the rest
        abort(413)
    return text


def alone_if_long(text: bytearray) -> AbstractContextManager:
    """Return what to hold while a body is answered: for a long one, a lock."""
    return one_long if len(text) > LONG else nullcontext()


def whole(value: Any) -> Any:
    """Refuse 2.000000001, which pydantic's multiple_of lets pass, and 10**35 + 1, which as a float is 10**35."""
    if isinstance(value, int | float) and (value % 1 or abs(value) > LARGEST):
        raise PydanticCustomError("integer", "Input should be a whole number, of at most 1e35")
    return value


def not_boolean(value: Any) -> Any:
    """Refuse true and false where a category is a number: to Literal, as to Python, they are 1 and 0."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "Input should be a number")
    return value


number = Annotated[float, Field(ge=float(-LARGEST), le=float(LARGEST), allow_inf_nan=False)]
exact = {"type": "integer", "minimum": -LARGEST, "maximum": LARGEST}
integer = Annotated[number, BeforeValidator(whole), Field(json_schema_extra=exact)]
types = {"number": number, "integer": integer, "boolean": bool, "text": str}

HEALTH = {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}
MISTAKE = {
    "type": "object",
    "description": "Which field, as a JSON Pointer (RFC 6901), and what is wrong with it",
    "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
    "required": ["pointer", "detail"],
}
PROBLEM = {
    "type": "object",
    "description": "What went wrong (RFC 9457)",
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": MISTAKE, "maxItems": MAX_ERRORS},
    },
    "required": ["title", "status", "detail"],
}


def row(about: dict[str, Any]) -> Any:
    """Return the type of what goes in: an object that has every feature and nothing else."""
    fields = {}
    for feature in about["features"]:
        kind: Any = types[feature["type"]]
        if feature["categories"]:
            kind = Literal[tuple(feature["categories"])]
            kind = Annotated[kind, BeforeValidator(not_boolean)] if feature["type"] in ("number", "integer") else kind
        fields[feature["name"]] = kind | None if feature["nullable"] else kind
    return typed_dict("Row", fields)


def prediction(about: dict[str, Any]) -> Any:
    """Return the type of what comes out: a class, and the probability of each if the model has any; or a number."""
    classes = about["classes"]
    fields = {"prediction": Literal[tuple(classes)] if classes else float}
    if about["probabilities"]:
        names = [name if isinstance(name, str) else json.dumps(name) for name in classes]
        fields["probabilities"] = typed_dict("Probabilities", dict.fromkeys(names, Annotated[float, Field(ge=0, le=1)]))
    return typed_dict("Prediction", fields)


def typed_dict(name: str, fields: dict[str, Any]) -> Any:
    made = TypedDict(name, fields)  # type: ignore[misc]  # mypy wants to see the fields
    made.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[attr-defined]
    return made


def several(kind: Any) -> Any:
    return Annotated[list[kind], Field(min_length=1, max_length=MAX_ROWS)]


def adapters(about: dict[str, Any]) -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
    """Return what checks a row, and what checks a list of rows."""
    return TypeAdapter(row(about)), TypeAdapter(several(row(about)))


def pointer(location: tuple[int | str, ...]) -> str:
    """Write where in the body something is, as a JSON Pointer (RFC 6901)."""
    return "#" + "".join("/" + quote(str(part).replace("~", "~0").replace("/", "~1"), "~()") for part in location)


def answer(description: str, schema: dict[str, Any], content_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": schema}}}


def error(description: str) -> dict[str, Any]:
    return answer(description, {"$ref": "#/components/schemas/Problem"}, "application/problem+json")


def document(about: dict[str, Any]) -> dict[str, Any]:
    """Describe the service as OpenAPI 3.1 does (https://spec.openapis.org/oas/v3.1.0)."""
    kinds = {"rows": row(about), "predictions": prediction(about)}
    schemas, definitions = TypeAdapter.json_schemas(
        [(name, "validation", TypeAdapter(kind | several(kind))) for name, kind in kinds.items()],
        ref_template="#/components/schemas/{model}",
    )
    rows, predictions = schemas.values()
    example = {feature["name"]: feature["example"] for feature in about["features"]}
    examples = {"one row": {"value": example}, "several rows": {"value": [example, example]}}
    predict = {
        "operationId": "predict",
        "summary": "Predict for one row, or for a list of rows",
        "description": "The body is JSON, whatever the Content-Type says. A list gives a list, in the same order.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": rows, "examples": examples}}},
        "responses": {
            "200": answer("The prediction, or a list of predictions", predictions),
            "400": error("The body is not JSON"),
            "413": error(f"The body has {MAX_BYTES} bytes or more"),
            "422": error("Rows that the model cannot take: the first few mistakes are in `errors`"),
            "503": error("Too many long bodies at once: try again"),
        },
    }
    index = {"operationId": "index", "summary": "A page to try it with"}
    healthz = {"operationId": "healthz", "summary": "Whether the model answers"}
    health = {"200": answer("It does", HEALTH), "500": error("It does not")}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Simple ML", "version": "1.0.0", "summary": "Features in, predictions out"},
        "servers": [{"url": "."}],  # beside this document, wherever a proxy puts it
        "paths": {
            "/predict": {"post": predict},
            "/healthz": {"get": healthz | {"responses": health}},
            "/": {"get": index | {"responses": {"200": answer("The page", {"type": "string"}, "text/html")}}},
        },
        "components": {"schemas": definitions["$defs"] | {"Problem": PROBLEM}},
    }


def docs(about: dict[str, Any]) -> Blueprint:
    """Serve the document at /openapi.json, and at /docs Swagger UI, a page to read it and to try it with."""
    pages, text = Blueprint("docs", __name__), json.dumps(document(about)) + "\n"
    pages.add_url_rule("/openapi.json", "openapi", lambda: Response(text, content_type="application/json"))
    # relative addresses, for behind a proxy; the plain layout, which asks no other host whether the document is valid
    swagger_ui = get_swaggerui_blueprint(".", "../openapi.json", {"app_name": "API", "layout": "BaseLayout"})
    pages.register_blueprint(swagger_ui, url_prefix="/docs")
    return pages
