"""Parse the rows of a request and write its answer: as JSON or, where the Content-Type is text/csv, as CSV."""

import re
from collections.abc import Iterator
from flask import request
from pydantic import ValidationError
from pydantic_core import to_json
from runtime import Model, Rows, one_by_one
from runtime.card import Answers, Card
from typing import Any, NamedTuple
from web.body import is_csv
from web.csv_text import Sheet, read, write, write_for_excel
from web.prediction_log import MAX_LOGGED, Log
from web.schema import Schema, ignored_columns, with_cells


class Parsed(NamedTuple):
    rows: Rows
    is_list: bool
    headers: dict[str, str]  # of the answer
    sheet: Sheet | None  # a CSV file


def parse(body: bytearray, card: Card, types: Schema) -> Parsed:
    """Return the rows of a request, checked. Raises ValidationError, and HTTPException for a file that is not CSV."""
    if is_csv():
        sheet = read(body, card)
        if isinstance(sheet.rows, dict):
            return Parsed(sheet.rows, True, {}, sheet)
        rows = check(sheet.rows, types)
        return Parsed(rows, True, ignored_columns(rows, card, True), sheet)
    is_list = body.lstrip().startswith(b"[")
    rows = types.many_rows.validate_json(body) if is_list else [types.one_row.validate_json(body)]
    return Parsed(rows, is_list, ignored_columns(rows, card, is_list), None)


def check(rows: list[dict], types: Schema) -> list[dict]:
    try:
        return types.many_rows.validate_python(rows)
    except ValidationError as error:
        raise with_cells(error) from None


def respond(parsed: Parsed, model: Model, log: Log) -> tuple[str | bytes, int, dict[str, str], str]:
    """Return the body, status, headers and type of the answer. For CSV, `Accept: application/json` asks for JSON, and
    `?for=excel` for the whole table, as Excel opens it. Raises NoAnswer."""
    sheet, headers, answers = parsed.sheet, parsed.headers, model.answers(parsed.rows)
    log(features(parsed.rows, model.card), first_named(answers, model), len(answers.predictions))
    if sheet and request.args.get("for") == "excel":
        return write_for_excel(answers, model.card, sheet), 200, headers, "text/csv"
    if sheet and request.accept_mimetypes.best_match(["text/csv", "application/json"]) != "application/json":
        return write(answers, model.card), 200, headers, "text/csv"
    named = model.named(answers)
    return to_json(named if parsed.is_list else named[0]) + b"\n", 200, headers, "application/json"


def features(rows: Rows, card: Card) -> Iterator[dict[str, Any]]:
    """Yield the first rows for the log, without the columns that the model does not use."""
    if isinstance(rows, dict):
        rows = one_by_one({name: values[:MAX_LOGGED] for name, values in rows.items()})
    for row in rows[:MAX_LOGGED]:
        yield {column.name: row[column.name] for column in card.columns}


def first_named(answers: Answers, model: Model) -> Iterator[dict[str, Any]]:
    """Yield the first answers for the log. A generator, like `features`: nothing of it runs while the log is off."""
    yield from model.named(answers.first(MAX_LOGGED))


def hint(body: bytearray) -> str:
    """Return what to send instead of a body that looks like a well-known mistake; nothing if it does not."""
    start = bytes(body[:1000]).lstrip()
    if start.startswith(b'"'):
        return " It is a text that holds JSON. In Python, send json=row and not json=json.dumps(row)."
    if start.startswith((b"{'", b"[{'")) or re.match(rb"[\w.%+-]+=", start):
        return " In Python, send json=row and not data=row."
    if re.search(rb'":\s*\[', start):
        return ' A value is not a list. In R, use toJSON(…, auto_unbox = TRUE, na = "null").'
    return ""
