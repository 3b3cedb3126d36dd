"""What goes in and what comes out: the limits, and the OpenAPI document that states them."""

import json
from flask import Blueprint, Response
from flask_swagger_ui import get_swaggerui_blueprint
from typing import Any

MAX_BYTES = 4096  # of a request's body
LARGEST = 1e154  # whose square a float can still hold; integers are exact up to here

NUMBER = {"type": "number", "minimum": -LARGEST, "maximum": LARGEST, "examples": [5, 2.5]}
SQUARE = {"type": "number", "minimum": 0, "examples": [25, 6.25]}
HEALTH = {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}
PROBLEM = {
    "type": "object",
    "description": "What went wrong (RFC 9457)",
    "properties": {"title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"}},
    "required": ["title", "status", "detail"],
}


def answer(description: str, schema: dict[str, Any], content_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": schema}}}


def error(description: str) -> dict[str, Any]:
    return answer(description, {"$ref": "#/components/schemas/Problem"}, "application/problem+json")


def document() -> dict[str, Any]:
    """Describe the service as OpenAPI 3.1 does (https://spec.openapis.org/oas/v3.1.0)."""
    predict = {
        "operationId": "predict",
        "summary": "Square a number",
        "description": "The body is one JSON number, whatever the Content-Type says. Integers are exact.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": NUMBER}}},
        "responses": {
            "200": answer("The number times itself", SQUARE),
            "400": error("The body is not JSON (`NaN` and `Infinity` are not)"),
            "413": error(f"The body has {MAX_BYTES} bytes or more"),
            "422": error("The body is JSON, but no number, or one beyond the limits"),
        },
    }
    index = {"operationId": "index", "summary": "A page to try it with"}
    healthz = {"operationId": "healthz", "summary": "Whether the service answers"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Passing arguments", "version": "1.0.0", "summary": "A number in, its square out"},
        "servers": [{"url": "."}],  # beside this document, wherever a proxy puts it
        "paths": {
            "/predict": {"post": predict},
            "/healthz": {"get": healthz | {"responses": {"200": answer("It does", HEALTH)}}},
            "/": {"get": index | {"responses": {"200": answer("The page", {"type": "string"}, "text/html")}}},
        },
        "components": {"schemas": {"Problem": PROBLEM}},
    }


def docs() -> Blueprint:
    """Serve the document at /openapi.json, and at /docs Swagger UI, a page to read it and to try it with."""
    pages, text = Blueprint("docs", __name__), json.dumps(document()) + "\n"
    pages.add_url_rule("/openapi.json", "openapi", lambda: Response(text, content_type="application/json"))
    # relative addresses, for behind a proxy; the plain layout, which asks no other host whether the document is valid
    swagger_ui = get_swaggerui_blueprint(".", "../openapi.json", {"app_name": "API", "layout": "BaseLayout"})
    pages.register_blueprint(swagger_ui, url_prefix="/docs")
    return pages
