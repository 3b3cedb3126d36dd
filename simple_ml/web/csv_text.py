"""Rows as CSV: what Excel, R, pandas and others write (RFC 4180, https://www.rfc-editor.org/rfc/rfc4180)."""

import codecs
import contextlib
import csv
import io
import itertools
import json
import numpy as np
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from runtime import Rows
from runtime.card import Answers, Card, Column
from typing import Any, NamedTuple
from web.schema import LARGEST, Place, mistake, most_rows
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

SEPARATORS = ";", "\t", ","
MAX_OTHERS = 1000  # columns that are no features
MAX_CELLS = 4_000_000
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
THOUSANDS = re.compile(r"[+-]?\d{1,3}([.,]\d{3})+", re.ASCII)
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
PLAIN = re.compile(r"[\d.eE+\- ]*", re.ASCII)  # all that a number may hold; float() also reads 1_000 and nan
YES_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
NO_ROW = "There is no row below the line with the names."
NUL = "The CSV file holds a NUL character."
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # at the start of a text, Excel runs it


class Sheet(NamedTuple):
    """A CSV file."""

    separator: str
    text: str
    rows: Rows  # as JSON has them, to be checked; or columns of numbers, which are checked


def read(body: bytearray, card: Card) -> Sheet:
    """Return the rows of a CSV file, and its cells as texts.

    Raises BadRequest or UnsupportedMediaType for what is no CSV file, and ValidationError for ambiguous numbers.
    """
    text = decode(body)
    first, rest = [*re.split(r"\r\n?|\n", text, maxsplit=1), ""][:2]
    if declared := declared_separator(first):
        text = rest
        first, rest = [*re.split(r"\r\n?|\n", text, maxsplit=1), ""][:2]
    try:
        separator = declared or separator_of(first, card)
        found = lines_of(io.StringIO(text, newline=""), separator, card)
        names = names_of(found, card)
        most = min(most_rows(card), MAX_CELLS // len(names))
        table = None if '"' in text else numbers_of(rest, names, card, separator, most)
        if table is not None:
            return Sheet(separator, text, table)
        lines = list(itertools.islice(filter(None, found), most + 1))  # empty lines are no rows, as in pandas.read_csv
    except (csv.Error, TypeError) as error:  # a TypeError for a separator that csv does not take
        raise BadRequest(f"The CSV file cannot be read ({error}).") from error
    if not lines:
        raise BadRequest(NO_ROW)
    if len(lines) > most:
        raise BadRequest(f"The CSV file has more than {most} rows. Send it in parts.")
    if {len(names)} != set(map(len, lines)):
        row, cells = next((row, cells) for row, cells in enumerate(lines, 1) if len(cells) != len(names))
        raise BadRequest(f"Row {row} {other_length(cells, names)}")
    rows = rows_of(lines, names, card, separator)
    rows[0] |= {name: None for name in names if name not in rows[0]}  # ignored or refused, as in JSON
    return Sheet(separator, text, rows)


def declared_separator(first: str) -> str | None:
    """Return the separator that Excel's own first line says: `sep=;`."""
    found = re.fullmatch(r'"?sep=(.)"?', first, re.IGNORECASE)
    return found[1] if found else None


def lines_of(file: Iterable[str], separator: str, card: Card) -> Any:
    """Return a csv.reader: an iterator of the cells in each line."""
    padded = any(column.padded for column in card.columns)
    return csv.reader(file, delimiter=separator, skipinitialspace=not padded, strict=True)


def names_of(lines: Iterator[list[str]], card: Card) -> list[str]:
    names = [name.strip() for name in next(lines, [])]
    check_names(names, card)
    return names


def other_length(cells: Sequence[str], names: list[str]) -> str:
    return f"has {len(cells)} cells, and there are {len(names)} names above."


def numbers_of(text: str, names: list[str], card: Card, separator: str, most: int) -> dict[str, np.ndarray] | None:
    """Return the columns of a plain table of numbers, and None for any other: NumPy reads it in a third of the time."""
    kinds = {column.name: "" if column.categories else column.type for column in card.columns}
    if kinds.keys() != set(names) or not set(kinds.values()) <= {"number", "integer"}:
        return None
    whole = [at for at, name in enumerate(names) if kinds[name] == "integer"]
    with contextlib.suppress(ValueError), warnings.catch_warnings(action="ignore"):
        table = np.loadtxt(io.StringIO(text), delimiter=separator, comments=None, ndmin=2, max_rows=most + 1)
        fits = 0 < len(table) <= most and table.shape[1] == len(names)
        if fits and (np.abs(table) <= LARGEST).all() and not (table[:, whole] % 1).any():
            return dict(zip(names, table.T, strict=True))
    return None


def columns_of(lines: list[list[str]], names: list[str], card: Card) -> list[tuple[Column, Sequence[str]]]:
    """Return the features that lines hold, and the cells of each."""
    cells_of = dict(zip(names, zip(*lines, strict=True), strict=True))
    return [(column, cells_of[column.name]) for column in card.columns if column.name in cells_of]


def have_decimal_comma(columns: list[tuple[Column, Sequence[str]]]) -> bool:
    """Return whether a number has a decimal comma. Then 1.500 in the same file may be 1500."""
    numbers = [found for column, found in columns if column.type in ("number", "integer")]
    return any(DECIMAL_COMMA.fullmatch(cell.strip()) for found in numbers if "," in "".join(found) for cell in found)


def rows_of(
    lines: list[list[str]], names: list[str], card: Card, separator: str, commas: bool | None = None
) -> list[dict[str, Any]]:
    """Return rows as JSON has them, but not yet checked. Raises ValidationError for ambiguous numbers.

    `commas`: numbers of the file have a decimal comma; None: these lines are the whole file.
    """
    columns = columns_of(lines, names, card)
    commas = have_decimal_comma(columns) if commas is None else commas
    mistakes: dict[Place, str] = {}
    values = [values_of(column, found, card.missing, separator, commas, mistakes) for column, found in columns]
    if mistakes:
        raise mistake(mistakes)
    features = [column.name for column, _ in columns]
    return [dict(zip(features, row, strict=True)) for row in zip(*values, strict=True)]


def decode(body: bytearray) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with its mark. Raises UnsupportedMediaType for others."""
    try:
        text = body.decode(encoding_of(body))
    except UnicodeDecodeError as error:
        raise not_utf8(body.count(b"\n", 0, error.start) + 1) from error
    if "\0" in text:
        raise BadRequest(NUL)
    return text


def encoding_of(start: bytes | bytearray) -> str:
    """Return the encoding of a file that starts so. Raises UnsupportedMediaType for a workbook."""
    if start.startswith(b"PK\x03\x04"):
        raise UnsupportedMediaType("This is an Excel workbook. In Excel, save it as 'CSV UTF-8'.")
    wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as Excel writes "Unicode text"
    return "utf-16" if wide else "utf-8-sig"


def not_utf8(line: int) -> UnsupportedMediaType:
    todo = "In Excel, save it as 'CSV UTF-8'; in R, write it with fileEncoding = \"UTF-8\""
    return UnsupportedMediaType(f"Line {line} of the CSV file is not in UTF-8. {todo}.")


def separator_of(first: str, card: Card) -> str:
    """Return the separator with which the first line names most features."""
    features = {column.name for column in card.columns}

    def named(separator: str) -> int:
        names = next(csv.reader([first], delimiter=separator, skipinitialspace=True), [])
        return len(features & {name.strip() for name in names})

    return max(SEPARATORS, key=lambda separator: (named(separator), first.count(separator)))


def check_names(names: list[str], card: Card) -> None:
    features = [column.name for column in card.columns]
    if not set(names) & set(features):
        some = ", ".join(features[:10]) + (" and others" if len(features) > 10 else "")
        raise BadRequest(f"The first line must name the columns: {some}.")
    if len(names) > len(features) + MAX_OTHERS:
        raise BadRequest(f"The first line has {len(names)} names, and the model has {len(features)} features.")
    seen: set[str] = set()
    for name in filter(None, names):
        if name in seen:
            raise BadRequest(f"Two columns have the name {name[:100]}. Rename or delete one.")
        seen.add(name)


def values_of(
    column: Column,
    cells: Sequence[str],
    missing: list[str],
    separator: str,
    commas: bool,
    mistakes: dict[Place, str],
) -> list[Any]:
    """Return the cells of a feature as JSON has them. `commas`: numbers of the file have a decimal comma.

    What cannot be read stays a text, so that the check of the rows refuses it. A number that may mean two things is
    noted in `mistakes`.
    """
    none = set(missing) - set(column.words)
    if column.type == "text":
        return [None if cell in none else cell for cell in cells]
    cells = [cell.strip() for cell in cells]
    if column.type.startswith("date"):
        return [None if cell in none else cell for cell in cells]
    if column.type == "boolean":
        return [None if cell in none else YES_NO.get(cell.lower(), cell) for cell in cells]
    number = whole if column.type == "integer" else float
    with contextlib.suppress(ValueError):  # one of them is no number
        if PLAIN.fullmatch("".join(cells)) and not commas:
            return list(map(number, cells))
    values: list[Any] = []
    for row, cell in enumerate(cells):
        if is_ambiguous(cell, separator, commas):
            digits = re.sub("[.,]", "", cell)
            mistakes[row, column.name] = f"{cell} may be {digits} or a decimal. Write it without a mark for thousands"
        text = cell.replace(",", ".") if DECIMAL_COMMA.fullmatch(cell) else cell
        values.append(None if cell in none else number(text) if NUMBER.fullmatch(text) else cell)
    return values


def whole(text: str) -> float | int:
    """Return a number, as an integer where it is whole: a category 1 is not 1.0."""
    number = float(text)
    return int(number) if number.is_integer() else number


def is_ambiguous(cell: str, separator: str, commas: bool) -> bool:
    """Return whether a number may be written with a mark for thousands or as a decimal: 1,500 or 1.500."""
    if not THOUSANDS.fullmatch(cell):
        return False
    if len(re.findall("[.,]", cell)) > 1:
        return True
    return separator != ";" if "," in cell else commas


def write(answers: Answers, card: Card) -> str:
    """Return answers as CSV: a line with the names, and a line for each row."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header(card), *cells_of(answers, card)])
    return file.getvalue()


def write_for_excel(answers: Answers, card: Card, sheet: Sheet) -> str:
    """Return a file that Excel opens: the columns of the input and the answers, in the format of the input."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=sheet.separator, lineterminator="\r\n")
    comma = sheet.separator == ";"  # as Excel has it where the decimal sign is a comma
    rows = filter(None, lines_of(io.StringIO(sheet.text, newline=""), sheet.separator, card))
    writer.writerow(map(safe, [*next(rows), *header(card)]))
    for cells, answer in zip(rows, cells_of(answers, card), strict=True):
        said = [str(value).replace(".", ",") if comma and isinstance(value, float) else value for value in answer]
        writer.writerow(map(safe, [*cells, *said]))
    return "\ufeff" + file.getvalue()


def cells_of(answers: Answers, card: Card) -> Iterator[list[Any]]:
    """Yield the answer to each row in one line: the predictions, the probabilities, the extras."""
    count = len(answers.predictions)
    predictions = answers.predictions if card.targets else [[value] for value in answers.predictions]
    shares = answers.probabilities or [[]] * count
    extras = zip(*answers.extras.values(), strict=True) if answers.extras else [()] * count
    for prediction, share, extra in zip(predictions, shares, extras, strict=True):
        said = [json.dumps(value) if isinstance(value, bool) else value for value in prediction]
        yield [*said, *share, *extra]


def header(card: Card) -> list[str]:
    count = card.targets if isinstance(card.targets, int) else 0
    targets = card.targets if isinstance(card.targets, list) else map(str, range(1, count + 1))
    predictions = [f"prediction {name}" for name in targets] or ["prediction"]
    shares = [f"probability {name}" for name in card.class_names] if card.probabilities else []
    return [*predictions, *shares, *(extra.name for extra in card.extras)]


def safe(cell: Any) -> Any:
    """Return a cell that Excel does not run as a formula: a text that starts like one gets an apostrophe before it."""
    is_formula = isinstance(cell, str) and cell.startswith(FORMULA)
    return f"'{cell}" if is_formula and not NUMBER.fullmatch(cell.replace(",", ".")) else cell
