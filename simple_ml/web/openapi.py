"""Describe the service: /openapi.json for programs (https://www.openapis.org), /docs is a page to read and try it."""

import csv
import io
import json
from flask import Blueprint, Response, redirect
from flask_swagger_ui import get_swaggerui_blueprint
from pydantic import TypeAdapter
from runtime.card import Card
from typing import Any
from web.body import MAX_BYTES
from web.schema import MAX_MISTAKES, Schema

VERSION = {"type": "string", "description": "The first 12 hex digits of the model file's SHA-256"}
HEADER = {"Model-Version": {"$ref": "#/components/headers/Model-Version"}}  # every answer has it
HEALTH = {
    "type": "object",
    "properties": {
        "status": {"const": "ok"},
        "version": VERSION,
        "model": {"type": "object", "description": "What model this is"},
        "proof": {"type": "string", "description": "How the answers of the model file were compared"},
    },
    "required": ["status", "version", "model", "proof"],
}
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
        "errors": {"type": "array", "items": MISTAKE, "maxItems": MAX_MISTAKES},
    },
    "required": ["title", "status", "detail"],
}
IGNORED = {
    "Ignored-Columns": {
        "description": "The first names in the rows that are no features, with percent signs for other characters",
        "schema": {"type": "string"},
    }
}


def answer(description: str, schema: dict[str, Any], content_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": schema}}, "headers": HEADER}


def error(description: str) -> dict[str, Any]:
    return answer(description, {"$ref": "#/components/schemas/Problem"}, "application/problem+json")


def example_csv(card: Card) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([card.example.keys(), card.example.values()])
    return file.getvalue()


def document(card: Card, types: Schema) -> dict[str, Any]:
    """Return the description in the format of OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0)."""
    kinds = {"input": types.row | types.rows, "output": types.prediction | types.predictions}
    schemas, definitions = TypeAdapter.json_schemas(
        [(name, "validation", TypeAdapter(kind)) for name, kind in kinds.items()],
        ref_template="#/components/schemas/{model}",
    )
    input_schema, output_schema = schemas.values()
    examples = {"one row": {"value": card.example}, "several rows": {"value": [card.example, card.example]}}
    info = {
        "title": card.title or "Simple ML",
        "version": card.training.date,
        "summary": "Features in, predictions out",
        "description": f"{card.description or f'Trained on {card.training.rows} rows.'}\n\n{card.proven}",
    }
    predict = {
        "operationId": "predict",
        "summary": "Predict for one row, or for a list of rows",
        "description": "The body is JSON, whatever the Content-Type says, unless it is text/csv. A list gives a list, "
        "in the same order. CSV gives CSV, or a list if the header Accept asks for JSON. "
        "Other names are ignored, but one that is meant for a feature, such as F1 for f1, is a 422.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": input_schema, "examples": examples},
                "text/csv": {"schema": {"type": "string"}, "example": example_csv(card)},
            },
        },
        "responses": {
            "200": {
                "description": "The prediction, or a list of predictions",
                "content": {
                    "application/json": {"schema": output_schema},
                    "text/csv": {"schema": {"type": "string"}},
                },
                "headers": HEADER | IGNORED,
            },
            "400": error("The body is not JSON, or not CSV"),
            "413": error(f"The body has {MAX_BYTES} bytes or more"),
            "415": error("The body is compressed, not in UTF-8, or an Excel workbook"),
            "422": error("The model cannot use this input: `errors` lists the first mistakes"),
            "503": error("Too many large bodies came at once: try again"),
        },
    }
    index = {"operationId": "index", "summary": "A page to try the service"}
    healthz = {"operationId": "healthz", "summary": "Does the model answer?"}
    health = {"200": answer("It answers", HEALTH), "500": error("It does not answer")}
    return {
        "openapi": "3.1.0",
        "info": info,
        "servers": [{"url": "."}],  # relative to this document, so that it also works behind a proxy
        "paths": {
            "/predict": {"post": predict},
            "/healthz": {"get": healthz | {"responses": health}},
            "/": {"get": index | {"responses": {"200": answer("The page", {"type": "string"}, "text/html")}}},
        },
        "components": {
            "schemas": definitions["$defs"] | {"Problem": PROBLEM},
            "headers": {"Model-Version": {"description": "Which model file answered", "schema": VERSION}},
        },
    }


def docs(card: Card, types: Schema) -> Blueprint:
    """Return the pages /openapi.json and /docs."""
    pages, text = Blueprint("docs", __name__), json.dumps(document(card, types)) + "\n"
    pages.add_url_rule("/openapi.json", "openapi", lambda: Response(text, content_type="application/json"))
    # relative addresses also work behind a proxy with a path and https, unlike the redirects that Flask makes by itself
    pages.add_url_rule("/docs", "slash", lambda: redirect("docs/"))
    pages.record(lambda setup: setattr(setup.app.url_map, "merge_slashes", False))
    # BaseLayout does not ask another server to check the document
    swagger_ui = get_swaggerui_blueprint(".", "../openapi.json", {"app_name": "API", "layout": "BaseLayout"})
    pages.register_blueprint(swagger_ui, url_prefix="/docs")
    return pages
