"""The types of what goes in and what comes out. They follow from the model file, so another model has other types."""

import json
import model
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from typing import Annotated, Any, Literal
from typing_extensions import TypedDict
from urllib.parse import quote

MAX_ROWS = 100_000  # in one request
MAX_MISTAKES = 20  # that one answer lists
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


Number = Annotated[float, Field(ge=float(-LARGEST), le=float(LARGEST), allow_inf_nan=False)]
integer_schema = {"type": "integer", "minimum": -LARGEST, "maximum": LARGEST}
Integer = Annotated[Number, BeforeValidator(check_whole), Field(json_schema_extra=integer_schema)]
TYPES = {"number": Number, "integer": Integer, "boolean": bool, "text": str}


def type_of(feature: dict[str, Any]) -> Any:
    kind: Any = TYPES[feature["type"]]
    if feature["categories"]:
        kind = Literal[tuple(feature["categories"])]
        if feature["type"] in ("number", "integer"):
            kind = Annotated[kind, BeforeValidator(check_not_boolean)]
    return kind | None if feature["nullable"] else kind


def typed_dict(name: str, fields: dict[str, Any]) -> Any:
    """Return the type of an object that has all these fields and no others."""
    made = TypedDict(name, fields)  # type: ignore[misc]  # mypy wants to see the fields
    made.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[attr-defined]
    return made


Row = typed_dict("Row", {feature["name"]: type_of(feature) for feature in model.features})
Rows = Annotated[list[Row], Field(min_length=1, max_length=MAX_ROWS)]  # type: ignore[valid-type]
one_row, many_rows = TypeAdapter(Row), TypeAdapter(Rows)  # they parse JSON and check it in one step

# a class, with the probability of each class if the model has probabilities; or a number
fields = {"prediction": Literal[tuple(model.classes)] if model.classes else float}
if model.has_probabilities:
    names = [name if isinstance(name, str) else json.dumps(name) for name in model.classes]
    fields["probabilities"] = typed_dict("Probabilities", dict.fromkeys(names, Annotated[float, Field(ge=0, le=1)]))
Prediction = typed_dict("Prediction", fields)


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
    return [{"pointer": pointer(each["loc"]), "detail": each["msg"]} for each in details[:MAX_MISTAKES]]


def pointer(location: tuple[int | str, ...]) -> str:
    """Return a location as a JSON Pointer (RFC 6901): `#/3/f1` is the feature f1 of the fourth row."""
    return "#" + "".join("/" + quote(str(part).replace("~", "~0").replace("/", "~1"), "~()") for part in location)
