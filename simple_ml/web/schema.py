"""The types of what goes in and what comes out. They follow from the card, so another model has other types."""

import functools
import operator
import re
from datetime import datetime
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from runtime.card import Card, Column
from typing import Annotated, Any, Literal, NamedTuple
from typing_extensions import TypedDict
from urllib.parse import quote

MAX_ROWS = 100_000  # in one request
MAX_VALUES = 1_000_000  # in one answer, where each class of a row has a probability: about 0.1 kB of memory each
MAX_MISTAKES = 20  # that one answer lists
MAX_COMPARED = 50_000  # pairs of a feature and an unknown name, in one request
INDEX = "", "index", "Unnamed: 0"  # what pandas calls its index in a file
MAX_IGNORED = 20  # unknown names that the header of an answer lists, each of at most 100 characters
DETAILS = {"missing": "This feature is missing"}
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


Place = tuple[int | str, ...]  # in the input: (3, "f1") is the feature f1 of the fourth row


class Schema(NamedTuple):
    row: Any
    rows: Any
    prediction: Any
    predictions: Any
    one_row: TypeAdapter  # these two parse JSON and check it in one step
    many_rows: TypeAdapter


def schema(card: Card) -> Schema:
    """Return the types of the input and the output of a model."""
    row = typed_dict("Row", {column.name: type_of(column) for column in card.columns}, extra="allow")
    rows = Annotated[list[row], Field(min_length=1, max_length=most_rows(card))]  # type: ignore[valid-type]
    prediction = answer_of(card)
    return Schema(row, rows, prediction, list[prediction], TypeAdapter(row), TypeAdapter(rows))  # type: ignore[valid-type]


def most_rows(card: Card) -> int:
    """Return how many rows a request may have: fewer if the answer to each has many values."""
    values = max(card.count, len(card.classes) * card.probabilities)
    return max(min(MAX_ROWS, MAX_VALUES // values), 1)


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
    kinds = card.predicts if isinstance(card.predicts, list) else [card.predicts] * card.count
    types = [OUTPUTS[kind] for kind in kinds]
    kind: Any = types[0]
    if card.classes:
        kind = Literal[tuple(card.classes)]
    elif isinstance(card.targets, list):
        kind = typed_dict("Targets", dict(zip(card.targets, types, strict=True)))
    elif card.targets:
        either = functools.reduce(operator.or_, types)
        kind = Annotated[list[either], Field(min_length=card.targets, max_length=card.targets)]  # type: ignore[valid-type]
    fields = {"prediction": kind}
    if card.probabilities:
        probability = Annotated[float, Field(ge=0, le=1)]
        fields["probabilities"] = typed_dict("Probabilities", dict.fromkeys(card.class_names, probability))
    for extra in card.extras:
        fields[extra.name] = Annotated[OUTPUTS[extra.type], Field(description=extra.description)]
    return typed_dict("Prediction", fields)


def typed_dict(name: str, fields: dict[str, Any], extra: Literal["allow", "forbid"] = "forbid") -> Any:
    """Return the type of an object that has all these fields."""
    made = TypedDict(name, fields)  # type: ignore[misc]  # mypy wants to see the fields
    made.__pydantic_config__ = ConfigDict(extra=extra, strict=True)  # type: ignore[attr-defined]
    return made


def ignored_columns(rows: list[dict], card: Card, is_list: bool) -> dict[str, str]:
    """Return the header Ignored-Columns: the names in rows that are no features. Without such names there is none."""
    names = [quote(name[:100], " /:()") or '""' for name in other_names(rows, card, is_list)]
    return {"Ignored-Columns": ", ".join(names)} if names else {}


def other_names(rows: list[dict], card: Card, is_list: bool) -> list[str]:
    """Return the names in rows that are no features, at most MAX_IGNORED.

    Raises ValidationError for a name that is meant for a feature, so that a spelling mistake does not go unseen.
    """
    features = {column.name for column in card.columns}
    seen = set(features)
    others: dict[str, int] = {}
    for number, row in enumerate(rows):
        if len(row) > len(features) and row.keys() - seen:  # every feature is there: types.rows has checked it
            others |= {name: number for name in row if name not in seen}
            seen |= row.keys()
    if not others:
        return []
    unknown = others.keys() - {column.name for column in card.unread} - set(INDEX)
    if len(unknown) * len(features) > MAX_COMPARED:
        raise mistake({(): f"{len(unknown)} names are no features of the model, which are too many"})
    meant = {name: feature for name in others if name in unknown and (feature := misspelt(name, features))}
    if meant:
        places = {name: (others[name], name) if is_list else (name,) for name in meant}
        raise mistake({places[name]: f"The model has no such feature. Did you mean {meant[name]}?" for name in meant})
    return list(others)[:MAX_IGNORED]


def mistake(details: dict[Place, str]) -> ValidationError:
    errors: Any = [
        {"type": PydanticCustomError("name", "{text}", {"text": text}), "loc": place, "input": None}
        for place, text in details.items()
    ]
    return ValidationError.from_exception_data("rows", errors)


def with_cells(error: ValidationError) -> ValidationError:
    """Return the mistakes in a CSV file, with what stands in each cell."""
    if error.error_count() > 10_000:
        return error
    details = error.errors(include_url=False, include_context=False)
    return mistake(
        {each["loc"]: DETAILS.get(each["type"]) or f"{each['msg']}, not {cell(each['input'])}" for each in details}
    )


def cell(value: Any) -> str:
    return "an empty cell" if value is None else f'"{str(value)[:50]}"'


def misspelt(name: str, features: set[str]) -> str | None:
    """Return the feature that a name is meant for: in other letters, or within two edits, or one if it is short."""
    return next(
        (
            feature
            for feature in sorted(features)
            if feature.strip().lower() == name.strip().lower() or within(name, feature, min(2, len(feature) // 2))
        ),
        None,
    )


def within(one: str, other: str, edits: int) -> bool:
    """Return whether at most so many edits (a letter added, left out or changed) turn one text into the other."""
    if one == other or edits <= 0 or abs(len(one) - len(other)) > edits:
        return one == other
    if one[:1] == other[:1]:
        return within(one[1:], other[1:], edits)
    return any(within(*pair, edits - 1) for pair in ((one[1:], other), (one, other[1:]), (one[1:], other[1:])))


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


def bad_rows(rows: list[int], is_list: bool) -> list[dict[str, str]]:
    """Return for which rows of a request the model has no answer, as mistakes()."""
    places = [pointer((row,) if is_list else ()) for row in rows]
    return [{"pointer": place, "detail": "The model has no answer for this row"} for place in places]


def pointer(location: Place) -> str:
    """Return a location as a JSON Pointer (RFC 6901): `#/3/f1` is the feature f1 of the fourth row."""
    return "#" + "".join("/" + quote(str(part).replace("~", "~0").replace("/", "~1"), "~()") for part in location)
