"""Describe the service: /openapi.json for programs (https://www.openapis.org), /docs is a page to read and try it."""

import json
import schema
from flask import Blueprint, Response, redirect
from flask_swagger_ui import get_swaggerui_blueprint
from functools import cache
from typing import Any

HEALTH = {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}
MISTAKE = {
    "type": "object",
    "description": "Where the mistake is, as a JSON Pointer (RFC 6901), and what is wrong there",
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
        "errors": {"type": "array", "items": MISTAKE, "maxItems": schema.MAX_MISTAKES},
    },
    "required": ["title", "status", "detail"],
}


def answer(description: str, kind: dict[str, Any], content_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": kind}}}


def error(description: str) -> dict[str, Any]:
    return answer(description, {"$ref": "#/components/schemas/ProblemDetails"}, "application/problem+json")


@cache
def document() -> dict[str, Any]:
    """Return the description in the format of OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0)."""
    parameters, output, named = schema.schemas()
    about, values = schema.about(), list(parameters["properties"].values())
    body = {"schema": values[0] if len(values) == 1 else {"$ref": "#/components/schemas/Parameters"}}
    if len(values) > 1 and schema.examples():
        body["example"] = schema.examples()[0]
    predict = {
        "operationId": "predict",
        "summary": about["title"],
        "description": f"The body is JSON, whatever the Content-Type says. {schema.advice()}",
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {
            "200": answer("What predict() answers", output),
            "400": error("The body is not JSON"),
            "413": error(f"The body has {schema.max_bytes()} bytes or more"),
            "415": error("The body is compressed, or not in UTF-8"),
            "422": error("predict() does not take this input: `errors` lists the first mistakes"),
            "500": error("predict() failed: the service's log says why"),
        },
    }
    index = {"operationId": "index", "summary": "A page to try the service"}
    healthz = {"operationId": "healthz", "summary": "Does the service answer?"}
    return {
        "openapi": "3.1.0",
        "info": about | {"version": "1.0.0"},
        "servers": [{"url": "."}],  # relative to this document, so that it also works behind a proxy
        "paths": {
            "/predict": {"post": predict},
            "/healthz": {"get": healthz | {"responses": {"200": answer("It answers", HEALTH)}}},
            "/": {"get": index | {"responses": {"200": answer("The page", {"type": "string"}, "text/html")}}},
        },
        "components": {"schemas": named | {"Parameters": parameters, "ProblemDetails": PROBLEM}},
    }


def docs() -> Blueprint:
    """Return the pages /openapi.json and /docs."""
    pages = Blueprint("docs", __name__)
    pages.add_url_rule(
        "/openapi.json", "openapi", lambda: Response(json.dumps(document()) + "\n", content_type="application/json")
    )
    # relative addresses also work behind a proxy with a path and https, unlike the redirects that Flask makes by itself
    pages.add_url_rule("/docs", "slash", lambda: redirect("docs/"))
    pages.record(lambda setup: setattr(setup.app.url_map, "merge_slashes", False))
    # BaseLayout does not ask another server to check the document
    swagger_ui = get_swaggerui_blueprint(".", "../openapi.json", {"app_name": "API", "layout": "BaseLayout"})
    pages.register_blueprint(swagger_ui, url_prefix="/docs")
    return pages
