"""The types of what goes in and what comes out. They follow from the card, so another model has other types."""

import re
from datetime import datetime
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from runtime.card import Card, Column
from typing import Annotated, Any, Literal, NamedTuple
from typing_extensions import TypedDict
from urllib.parse import quote

MAX_ROWS = 100_000  # in one request
MAX_MISTAKES = 20  # that one answer lists
DETAILS = {"extra_forbidden": "The model has no such feature", "missing": "This feature is missing"}
LARGEST = 10**35  # of a number: a float32 ends at 3.4e38, and the model still has to scale it and to add


def check_whole(value: Any) -> Any:
    """Refuse 2.000000001, which pydantic's multiple_of accepts, and 10**35 + 1, which as a float is 10**35."""
    if isinstance(value, int | float) and (value % 1 or abs(value) > LARGEST):
        raise PydanticCustomError("integer", "Input should be a whole number, of at most 1e35")
    return value


def check_not_boolean(value: Any) -> Any:
    """Refuse true and false where a category is a number: Literal, like Python, takes them for 1 and 0."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "Input should be a number")
    return value


def check_date(value: Any) -> str:
    """Refuse a text that does not start with a date as in RFC 3339. Digits alone, as in 20240131, are a number."""
    try:
        if re.match(r"\d{4}-\d\d-\d\d", value, re.ASCII):
            return str(datetime.fromisoformat(value) and value)
    except (TypeError, ValueError):
        pass
    raise PydanticCustomError("date", "Input should be a date, such as 2024-01-31 or 2024-01-31T09:30:00")


Number = Annotated[float, Field(ge=float(-LARGEST), le=float(LARGEST), allow_inf_nan=False)]
integer_schema = {"type": "integer", "minimum": -LARGEST, "maximum": LARGEST}
Integer = Annotated[Number, BeforeValidator(check_whole), Field(json_schema_extra=integer_schema)]
Date = Annotated[str, BeforeValidator(check_date), Field(json_schema_extra={"format": "date"})]
DateTime = Annotated[str, BeforeValidator(check_date), Field(json_schema_extra={"format": "date-time"})]
TYPES: dict[str, Any] = {
    "number": Number,
    "integer": Integer,
    "boolean": bool,
    "text": str,
    "date": Date,
    "date-time": DateTime,
}
OUTPUTS: dict[str, Any] = {"number": float, "integer": int, "boolean": bool, "text": str}


class Schema(NamedTuple):
    row: Any
    rows: Any
    prediction: Any
    predictions: Any
    one_row: TypeAdapter  # these two parse JSON and check it in one step
    many_rows: TypeAdapter


def schema(card: Card) -> Schema:
    """Return the types of the input and the output of a model."""
    row = typed_dict("Row", {column.name: type_of(column) for column in card.columns})
    rows = Annotated[list[row], Field(min_length=1, max_length=MAX_ROWS)]  # type: ignore[valid-type]
    prediction = answer_of(card)
    return Schema(row, rows, prediction, list[prediction], TypeAdapter(row), TypeAdapter(rows))  # type: ignore[valid-type]


def type_of(column: Column) -> Any:
    kind: Any = TYPES[column.type]
    if column.categories:
        kind = Literal[tuple(column.categories)]
        if column.type in ("number", "integer"):
            kind = Annotated[kind, BeforeValidator(check_not_boolean)]
    kind = kind | None if column.nullable else kind
    return Annotated[kind, Field(description=column.description, examples=[column.example])]


def answer_of(card: Card) -> Any:
    """Return the type of an answer: a class, a number, or a value for each target, with what belongs to it."""
    kind: Any = Literal[tuple(card.classes)] if card.classes else OUTPUTS[card.predicts]
    if isinstance(card.targets, list):
        kind = typed_dict("Targets", dict.fromkeys(card.targets, kind))
    elif card.targets:
        kind = Annotated[list[kind], Field(min_length=card.targets, max_length=card.targets)]
    fields = {"prediction": kind}
    if card.probabilities:
        probability = Annotated[float, Field(ge=0, le=1)]
        fields["probabilities"] = typed_dict("Probabilities", dict.fromkeys(card.class_names, probability))
    for extra in card.extras:
        fields[extra.name] = Annotated[OUTPUTS[extra.type], Field(description=extra.description)]
    return typed_dict("Prediction", fields)


def typed_dict(name: str, fields: dict[str, Any]) -> Any:
    """Return the type of an object that has all these fields and no others."""
    made = TypedDict(name, fields)  # type: ignore[misc]  # mypy wants to see the fields
    made.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[attr-defined]
    return made


def json_error(error: ValidationError) -> str | None:
    """Return what is wrong with the JSON, or None if it is JSON."""
    if error.error_count() > 1:
        return None
    (only,) = error.errors(include_url=False, include_input=False)
    return only["msg"].removeprefix("Invalid JSON: ") if only["type"] == "json_invalid" else None


def mistakes(error: ValidationError) -> list[dict[str, str]]:
    """Return where in the input the first mistakes are, and what is wrong there; nothing if there are over 10,000."""
    if error.error_count() > 10_000:  # pydantic lists all or none
        return []
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        {"pointer": pointer(each["loc"]), "detail": DETAILS.get(each["type"], each["msg"])}
        for each in details[:MAX_MISTAKES]
    ]


def bad_row(row: int, is_list: bool) -> list[dict[str, str]]:
    """Return which row of a request the model has no answer for, as mistakes()."""
    return [{"pointer": pointer((row,) if is_list else ()), "detail": "The model has no answer for this row"}]


def pointer(location: tuple[int | str, ...]) -> str:
    """Return a location as a JSON Pointer (RFC 6901): `#/3/f1` is the feature f1 of the fourth row."""
    return "#" + "".join("/" + quote(str(part).replace("~", "~0").replace("/", "~1"), "~()") for part in location)
