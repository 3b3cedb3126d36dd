"""Describe the service: /openapi.json for programs (https://www.openapis.org), /docs is a page to read and try it."""

import json
from flask import Blueprint, Response, redirect
from flask_swagger_ui import get_swaggerui_blueprint
from runtime import Network
from runtime.decode import FORMATS, TOO_LARGE
from typing import Any
from web.body import MAX_BYTES, MAX_FILES

FILE = {"type": "string", "format": "binary"}  # as in OpenAPI 3.0: Swagger UI shows a file chooser for nothing else
FILES = {
    "type": "array",
    "description": "Pictures, each in its own part with a file name",
    "items": FILE,
    "minItems": 1,
    "maxItems": MAX_FILES,
}
VERSION = {"type": "string", "description": "The first 12 hex digits of the model file's SHA-256"}
HEADER = {"Model-Version": {"$ref": "#/components/headers/Model-Version"}}  # every answer has it
HEALTH = {
    "type": "object",
    "properties": {
        "status": {"const": "ok"},
        "version": VERSION,
        "input": {"type": "string", "description": "How a picture becomes what the network sees"},
        "proof": {"type": "string", "description": "How the answers of the model file were compared"},
    },
    "required": ["status", "version", "input", "proof"],
}
PROBLEM = {
    "type": "object",
    "description": "What went wrong (RFC 9457)",
    "properties": {"title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"}},
    "required": ["title", "status", "detail"],
}


def prediction(network: Network, more: dict[str, Any]) -> dict[str, Any]:
    """Describe an answer: its fields, `more` of them, and on request the picture that the network saw."""
    seen: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 255}
    height, width, channels = network.shape
    for size in [channels, width, height] if channels > 1 else [width, height]:
        seen = {"type": "array", "items": seen, "minItems": size, "maxItems": size}
    seen["description"] = "The picture that the network saw, only with `?input=1`: grey, or red, green and blue"
    properties = network.schema() | more
    example = network.example().fields() | {name: field["examples"][0] for name, field in more.items()}
    return {
        "type": "object",
        "properties": properties | {"input": seen},
        "required": list(properties),
        "additionalProperties": False,
        "examples": [example],
    }


def answer(description: str, schema: dict[str, Any], content_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": schema}}, "headers": HEADER}


def error(description: str) -> dict[str, Any]:
    return answer(description, {"$ref": "#/components/schemas/Problem"}, "application/problem+json")


def document(network: Network, more: dict[str, Any]) -> dict[str, Any]:
    """Return the description in the format of OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0)."""
    form = {"type": "object", "properties": {"file": FILES}, "required": ["file"]}
    one = {"$ref": "#/components/schemas/Prediction"}
    predict = {
        "operationId": "predict",
        "summary": "Say what a picture shows",
        "description": f"{', '.join(FORMATS)}, recognized by content. Several pictures give a list, in the same order.",
        "parameters": [
            {
                "name": "input",
                "in": "query",
                "description": "With `1`, the answer also holds the picture that the network saw",
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
            "400": error("The form has no picture in its field `file`"),
            "413": error(f"{MAX_BYTES} bytes or more, or over {MAX_FILES} parts. {TOO_LARGE}"),
            "415": error("This is not a picture, or the body is compressed"),
            "422": error(
                "The picture is damaged, or shows nothing to classify. With `?input=1`, `input` is what the network saw"
            ),
            "503": error("Too many large bodies came at once: try again"),
        },
    }
    index = {"operationId": "index", "summary": "A page to try the service"}
    healthz = {"operationId": "healthz", "summary": "Does the model answer?"}
    health = {"200": answer("It answers", HEALTH), "500": error("It does not answer")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": network.card.title,
            "version": "1.0.0",
            "summary": "Pictures in, predictions out",
            "description": network.card.proven,
        },
        "servers": [{"url": "."}],  # relative to this document, so that it also works behind a proxy
        "paths": {
            "/predict": {"post": predict},
            "/healthz": {"get": healthz | {"responses": health}},
            "/": {"get": index | {"responses": {"200": answer("The page", {"type": "string"}, "text/html")}}},
        },
        "components": {
            "schemas": {"Prediction": prediction(network, more), "Problem": PROBLEM},
            "headers": {"Model-Version": {"description": "Which model file answered", "schema": VERSION}},
        },
    }


def docs(network: Network, more: dict[str, Any]) -> Blueprint:
    """Return the pages /openapi.json and /docs. `more` are further fields of an answer: JSON Schema with examples."""
    pages, text = Blueprint("docs", __name__), json.dumps(document(network, more)) + "\n"
    pages.add_url_rule("/openapi.json", "openapi", lambda: Response(text, content_type="application/json"))
    # relative addresses also work behind a proxy with a path and https, unlike the redirects that Flask makes by itself
    pages.add_url_rule("/docs", "slash", lambda: redirect("docs/"))
    pages.record(lambda setup: setattr(setup.app.url_map, "merge_slashes", False))
    # BaseLayout does not ask another server to check the document
    swagger_ui = get_swaggerui_blueprint(".", "../openapi.json", {"app_name": "API", "layout": "BaseLayout"})
    pages.register_blueprint(swagger_ui, url_prefix="/docs")
    return pages
