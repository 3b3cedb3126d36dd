"""What predict() takes and answers. All of it follows from predict.py, so this file need not change.

predict.py is imported in each worker, and not before: many models have threads, and no thread survives a fork.
"""

import base64
import inspect
import json
import mmap
import os
import re
import sys
import traceback
from collections.abc import Mapping
from functools import cache
from pydantic import Base64Encoder, ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, from_json, to_json
from types import FrameType, ModuleType
from typing import Annotated, Any, NotRequired, get_type_hints
from typing_extensions import TypedDict
from urllib.parse import quote

MAX_MISTAKES = 20  # that one answer lists
UNKNOWN = "Unknown name"
DETAILS = {"missing": "This is missing", "extra_forbidden": UNKNOWN, "unexpected_keyword_argument": UNKNOWN}
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
KINDS = {"integer": "number", "number": "number", "boolean": "yes or no", "string": "text"}
FORMATS = {"base64": "file", "date": "date"}  # of a string
WORDS = {
    "number": "one number",
    "yes or no": "true or false",
    "text": "one text in double quotes",
    "date": 'one date in double quotes, as in "2024-01-31"',
    "file": "one file in base64, in double quotes",
}

server = os.getpid()  # the process that starts the workers
failed = mmap.mmap(-1, 1)  # all workers see it: 1 once one of them could not use predict.py


# --- the start of a worker


def load(name: str) -> None:
    """Import predict.py: now, or in the process that runs app.py (`__main__`) in each worker that it will fork."""
    if name != "__main__":
        try_example()
    elif hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=start)


def start() -> None:
    """Import predict.py in a worker that was just forked, and answer its example. If that fails, say why and end."""
    if os.getppid() != server:
        return  # it is not a worker: predict() itself has forked
    if failed[0]:
        os._exit(1)  # the second end within seconds, so the server ends, too
    try:
        try_example()
    except BaseException as error:  # Python would ignore it after a fork
        failed[0] = 1
        print(error if isinstance(error, SystemExit) else traceback.format_exc(), file=sys.stderr, flush=True)
        os._exit(1)


def try_example() -> None:
    """Import predict.py, and answer its first example. Raises SystemExit with a sentence if it cannot be served."""
    for example in examples()[:1]:
        body = to_json(example)
        try:
            to_text(own().predict(**arguments(body)))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if isinstance(error, ValidationError):
                whole, more = mistakes(error, body)
                reason = ", ".join(f"{each['pointer']}: {each['detail']}" for each in more.get("errors", [])) or whole
            lines = [f" in line {line}" for frame, line in traceback.walk_tb(error.__traceback__) if is_own(frame)]
            where = "".join(lines[-1:])
            raise SystemExit(f"predict.py: its example {body.decode()} fails{where}: {reason}") from error


@cache
def own() -> ModuleType:
    import predict

    return predict


def is_own(frame: FrameType) -> bool:
    return frame.f_code.co_filename == own().__file__


def max_bytes() -> int:
    return getattr(own(), "MAX_BYTES", 4096)


# --- the types


@cache
def parameters() -> Mapping[str, inspect.Parameter]:
    if not callable(getattr(own(), "predict", None)):
        raise SystemExit("predict.py: it has no function predict().")
    return inspect.signature(own().predict).parameters


@cache
def types() -> dict[str, Any]:
    """Return the type of each parameter, and as `return` that of the answer. Raises SystemExit if JSON has none."""
    if not parameters():
        raise SystemExit("predict.py: predict() has no parameter.")
    hints = get_type_hints(own().predict, include_extras=True)
    for name, parameter in parameters().items():
        by_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if name not in hints or not by_name or isinstance(parameter.default, FieldInfo):
            ways = f"`{name}: type`, `{name}: type = default` or `{name}: Annotated[type, Field(...)]`"
            raise SystemExit(f"predict.py: write the parameter `{parameter}` as {ways}.")
    if "return" not in hints:
        raise SystemExit("predict.py: write the type of the answer behind the parameters, as in `-> str`.")
    for name, hint in hints.items():
        try:
            TypeAdapter(hint).json_schema()
        except PydanticUserError as error:
            shown = ("-> " if name == "return" else f"{name}: ") + inspect.formatannotation(hint)
            reason = str(error).partition("\n")[0].partition(". ")[0]
            raise SystemExit(f"predict.py: JSON cannot express `{shown}` ({reason}).") from error
    return hints


@cache
def takes() -> TypeAdapter:
    """Return the type of an object that holds the parameters by name."""
    kinds = {}
    for name, parameter in parameters().items():
        kinds[name] = types()[name]
        if parameter.default is not parameter.empty:
            kinds[name] = NotRequired[Annotated[kinds[name], Field(default=parameter.default)]]
    made = TypedDict("Parameters", kinds)  # type: ignore[misc]  # mypy wants to see the fields
    made.__pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)  # type: ignore[attr-defined]
    return TypeAdapter(made)


@cache
def gives() -> TypeAdapter:
    return TypeAdapter(types()["return"])


@cache
def schemas() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the JSON Schemas of the parameters as an object, of the answer, and of the types that these refer to."""
    both: Any = [("in", "validation", takes()), ("out", "serialization", gives())]
    made, definitions = TypeAdapter.json_schemas(both, ref_template="#/components/schemas/{model}")
    both = made["in", "validation"], made["out", "serialization"], definitions["$defs"]
    taken, given, named = json.loads(json.dumps(both), object_hook=with_bounds)
    return named.pop(taken["$ref"].rpartition("/")[2]), given, named


def with_bounds(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON Schema with the bounds of `int | float`, which pydantic leaves as they are."""
    return {BOUNDS.get(key, key) if "anyOf" in schema else key: value for key, value in schema.items()}


def examples() -> list[Any]:
    """Return the examples of a body: those of the only parameter, or one object of each parameter's first example."""
    schema, _, _ = schemas()
    known = {name: each["examples"] for name, each in schema["properties"].items() if each.get("examples")}
    if len(parameters()) == 1:
        return next(iter(known.values()), [])
    complete = known and known.keys() >= set(schema.get("required", []))
    return [{name: values[0] for name, values in known.items()}] if complete else []


def about() -> dict[str, str]:
    """Return what the docstring of predict() says: its first line as `title`, the others as `description`."""
    title, _, description = (inspect.getdoc(own().predict) or "predict()").partition("\n")
    return {"title": title.rstrip("."), "description": description.strip()}


@cache
def fields() -> list[dict[str, Any]]:
    """Return each parameter for the page: name, kind, choices, required, nullable, value and description."""
    schema, _, named = schemas()
    found = []
    for name, each in schema["properties"].items():
        options = [named.get(option.get("$ref", "").rpartition("/")[2], option) for option in each.get("anyOf", [each])]
        values = [option for option in options if option != {"type": "null"}]
        kinds = {kind_of(value) for value in values}
        kind = kinds.pop() if len(kinds) == 1 else "JSON"
        choices = {"true": "yes", "false": "no"} if kind == "yes or no" else {}
        if kind == "choice":
            choices = {text_of(one): one for value in values for one in value.get("enum") or [value["const"]]}
        example = (each.get("examples") or [each.get("default")])[0]
        found.append(
            {
                "name": name,
                "kind": kind,
                "choices": choices,
                "required": len(parameters()) == 1 or name in schema.get("required", []),
                "nullable": len(values) < len(options),
                "value": "" if example is None else example if kind in ("text", "date") else text_of(example),
                "description": each.get("description", ""),
            }
        )
    return found


def kind_of(schema: dict[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return "choice"
    return FORMATS.get(schema.get("format", "")) or KINDS.get(schema.get("type", ""), "JSON")


@cache
def advice() -> str:
    """Return a sentence that says what to send."""
    first, *others = fields()
    what = WORDS.get(first["kind"], "JSON")
    if others:
        what = f"an object with {', '.join(parameters())}"
    elif first["kind"] == "choice":
        what = f"one of {', '.join(first['choices'])}"
    shown = [text for text in map(text_of, examples()[:2]) if len(text) < 200]
    return f"Send {what}" + (f", such as {' or '.join(shown)}." if shown else ".")


def text_of(value: Any) -> str:
    """Return JSON as text, as a client may write it."""
    return json.dumps(value, ensure_ascii=False)


# --- what comes in


def arguments(body: bytes) -> dict[str, Any]:
    """Return the arguments for predict(). Raises ValueError if this is not JSON, ValidationError if it does not fit."""
    value = from_json(body)
    name, *others = parameters()
    found = takes().validate_json(body if others else b'{"%b": %b}' % (name.encode(), body), strict=True)
    if has_nan(to_json(value, inf_nan_mode="constants")):  # where the type is not float, as in a dict
        raise mistake("Input should have finite numbers only")
    for field in fields():  # in a Literal, pydantic takes true for 1
        given = value.get(field["name"]) if others else value
        if field["kind"] == "choice" and isinstance(given, bool) and text_of(given) not in field["choices"]:
            raise mistake("Input should not be true or false", field["name"])
    return found


def mistake(text: str, *location: str) -> ValidationError:
    error = PydanticCustomError("own", text)
    return ValidationError.from_exception_data("body", [{"type": error, "loc": location, "input": None}])


def decode_base64(text: bytes) -> bytes:
    """Return the bytes that a text in base64 stands for. pydantic's own function leaves out what is not base64."""
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except ValueError as error:
        raise PydanticCustomError("base64", "Input should be base64") from error


Base64Encoder.decode = decode_base64  # type: ignore[method-assign, assignment]


def has_nan(text: bytes) -> bool:
    """Return whether NaN or Infinity stands anywhere in a JSON text."""
    try:
        from_json(text, allow_inf_nan=False)
    except ValueError:
        return True
    return False


def mistakes(error: ValidationError, body: bytes) -> tuple[str, dict[str, list]]:
    """Return a sentence, and where in the body the first mistakes are (as a JSON Pointer) and what is wrong there."""
    value = from_json(body)
    found: dict[str, dict[str, None]] = {}
    few = error.error_count() <= 10_000  # pydantic lists all or none
    for each in error.errors(include_url=False, include_context=False, include_input=False) if few else []:
        location = each["loc"][1:] if len(parameters()) == 1 else each["loc"]
        text = re.sub(r"\d{20,}", lambda digits: f"{float(digits[0]):g}", DETAILS.get(each["type"], each["msg"]))
        texts = found.setdefault(pointer(location, value, each["type"] == "missing"), {})
        texts[text.removeprefix("Input should be ") if texts else text] = None  # a union has one for each of its types
    whole = " or ".join(found.pop("#", {})) or "The body has values that predict() does not take"
    errors = [{"pointer": place, "detail": " or ".join(texts)} for place, texts in found.items()]
    return whole, {"errors": errors[:MAX_MISTAKES]} if errors else {}


def pointer(location: tuple[int | str, ...], value: Any, is_missing: bool) -> str:
    """Return a location as a JSON Pointer, without the names of types in it: `#/values/3` is the fourth value."""
    parts: list[Any] = []
    for part in location:
        if part in (value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()):
            parts.append(part)
            value = value[part]
    if is_missing:
        parts.append(location[-1])
    return "#" + "".join("/" + quote(str(part).replace("~", "~0").replace("/", "~1"), "~()") for part in parts)


# --- what goes out


def is_refusal(error: ValueError) -> bool:
    """Return whether predict.py's own code has raised an error, and not a library that it calls."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return is_own(frame)


def to_text(answer: Any) -> bytes:
    """Return an answer as JSON. Raises TypeError with a sentence if it is not of the type that the signature says."""
    try:
        text = to_json(gives().dump_python(answer, warnings=False), inf_nan_mode="constants", fallback=plain_number)
        gives().validate_json(text, strict=True)
        if has_nan(text):
            raise ValueError("it has NaN or Infinity, and JSON does not")
    except Exception as error:
        reason = str(error).removeprefix("Error serializing to JSON: TypeError: ")
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            reason = first["msg"].replace("Input", "/".join(map(str, first["loc"])) or "it")
        kind = inspect.formatannotation(types()["return"])
        raise TypeError(f"predict() answered with {type(answer).__name__}, not with {kind}: {reason}") from error
    return text


def plain_number(value: Any) -> Any:
    """Return a number of NumPy as one of Python."""
    if getattr(value, "shape", None) != ():
        raise TypeError(f"JSON has no {type(value).__name__} (of an array, return .tolist())")
    return value.item()
