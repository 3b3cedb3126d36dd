"""Describe the service: /openapi.json for programs (https://www.openapis.org), /docs is a page to read and try it."""

import json
from flask import Blueprint, Response, redirect
from flask_swagger_ui import get_swaggerui_blueprint
from typing import Any

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


def document(max_bytes: int, largest: float) -> dict[str, Any]:
    """Return the description in the format of OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0)."""
    number = {"type": "number", "minimum": -largest, "maximum": largest, "examples": [5, 2.5]}
    predict = {
        "operationId": "predict",
        "summary": "Square a number",
        "description": "The body is one JSON number, whatever the Content-Type says. Integers are exact.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": number}}},
        "responses": {
            "200": answer("The square of the number", SQUARE),
            "400": error("The body is not JSON"),
            "413": error(f"The body has {max_bytes} bytes or more"),
            "415": error("The body is compressed, or not in UTF-8"),
            "422": error("The body is JSON, but not a number, or the number is too large"),
        },
    }
    index = {"operationId": "index", "summary": "A page to try the service"}
    healthz = {"operationId": "healthz", "summary": "Does the service answer?"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Passing arguments", "version": "1.0.0", "summary": "Square a number"},
        "servers": [{"url": "."}],  # relative to this document, so that it also works behind a proxy
        "paths": {
            "/predict": {"post": predict},
            "/healthz": {"get": healthz | {"responses": {"200": answer("It answers", HEALTH)}}},
            "/": {"get": index | {"responses": {"200": answer("The page", {"type": "string"}, "text/html")}}},
        },
        "components": {"schemas": {"Problem": PROBLEM}},
    }


def docs(max_bytes: int, largest: float) -> Blueprint:
    """Return the pages /openapi.json and /docs."""
    pages, text = Blueprint("docs", __name__), json.dumps(document(max_bytes, largest)) + "\n"
    pages.add_url_rule("/openapi.json", "openapi", lambda: Response(text, content_type="application/json"))
    # relative addresses also work behind a proxy with a path and https, unlike the redirects that Flask makes by itself
    pages.add_url_rule("/docs", "slash", lambda: redirect("docs/"))
    pages.record(lambda setup: setattr(setup.app.url_map, "merge_slashes", False))
    # BaseLayout does not ask another server to check the document
    swagger_ui = get_swaggerui_blueprint(".", "../openapi.json", {"app_name": "API", "layout": "BaseLayout"})
    pages.register_blueprint(swagger_ui, url_prefix="/docs")
    return pages
