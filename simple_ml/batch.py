"""Predict for a CSV file of any number of rows, without the service: `python3 batch.py rows.csv > answers.csv`.

The answers are those of the service: a line with the names, and a line for each row. A row that gets no answer is named
on stderr, and the cells of its answer are empty: row 17 of the file always has answer 17.
"""

import argparse
import codecs
import csv
import os
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from pydantic import ValidationError
from runtime import Model
from runtime.card import NoAnswer
from tqdm import tqdm
from typing import NamedTuple, NoReturn, TextIO
from web import csv_text
from web.body import MAX_BYTES
from web.exchange import check
from web.schema import MAX_MISTAKES, Schema, most_rows, other_names, schema
from werkzeug.exceptions import BadRequest, HTTPException

BLOCK = 250_000  # bytes or characters of the file that are in memory at a time
MAX_ROWS = 10_000  # rows for which the model predicts at a time
LONG = f"The CSV file has a row of over {MAX_BYTES} characters."


class Layout(NamedTuple):
    """What holds for all rows of a file."""

    model: Model
    types: Schema
    separator: str
    names: list[str]
    commas: bool  # numbers have a decimal comma


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Predict for each row of a CSV file. Answers go to stdout, as CSV, and bad rows to stderr.",
        epilog="Exit code: 0; 1 if a row got no answer, and its cells are empty; 2 if the file cannot be read.",
    )
    parser.add_argument("file", type=Path, help="its first line holds the names, as Excel, R and pandas write it")
    parser.add_argument("--strict", action="store_true", help="stop at the first bad row")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    # with a buffer: the image sets PYTHONUNBUFFERED, with which each row would be written alone
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", newline="\n", closefd=False)
    try:
        sys.exit(predict(arguments.file, Model(), arguments.strict))
    except (HTTPException, OSError, ValueError) as error:
        stop(in_words(error))


def stop(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)


def in_words(error: Exception) -> str:
    """Return what is wrong as one line."""
    text = str(error)
    if isinstance(error, FileNotFoundError):
        where = 'A container has only the folders that are mounted: -v "$PWD:/data:ro"'
        text = f"There is no {error.filename} here. {where}"
    elif isinstance(error, PermissionError):
        todo = 'Start the container with --user "$(id -u)", or let all read it: chmod -R a+rX'
        text = f"User {os.getuid()} may not read {error.filename}. {todo}"
    elif isinstance(error, HTTPException):  # the service's own, for what is no CSV file
        text = str(error.description)
    elif isinstance(error, ValidationError):
        details = error.errors(include_url=False, include_context=False, include_input=False)[:MAX_MISTAKES]
        text = "; ".join(": ".join([*map(str, each["loc"][-1:]), each["msg"]]) for each in details)
    elif isinstance(error, NoAnswer) and error.__cause__ and str(error.__cause__) != text:
        text += f" ({type(error.__cause__).__name__}: {error.__cause__})"
    return printable(text)


def printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def predict(path: Path, model: Model, strict: bool) -> bool:
    """Write the answer to each row of a file. Return whether there was a bad row."""
    types, encoding = schema(model.card), encoding_of(path)
    with path.open(encoding=encoding, newline="") as file:
        layout, ignored = read_header(file, model, types)
        layout = layout._replace(
            commas=any(has_comma(lines, file, layout) for lines in blocks(file, MAX_ROWS, "reading"))
        )
    if ignored:
        print(f"Not used by the model: {printable(', '.join(ignored))}", file=sys.stderr)
    header = csv_text.header(model.card)
    count = bad = 0
    with path.open(encoding=encoding, newline="") as file:
        read_header(file, model, types)
        write([header])
        for lines in blocks(file, min(MAX_ROWS, max(1, most_rows(model.card) // 10)), "predicting"):
            answers: list[list] = []
            for answer in answers_to(lines, file, layout):
                count += 1
                if isinstance(answer, Exception):
                    bad += 1
                    tqdm.write(f"Row {count}: {in_words(answer)}", sys.stderr)
                    if strict or isinstance(answer, BadRequest):  # nor can the rows after it be read
                        write(answers)
                        sys.exit(2 if isinstance(answer, BadRequest) else 1)
                    answer = [""] * len(header)
                answers.append(answer)
            write(answers)
    if not count:
        raise BadRequest(csv_text.NO_ROW)
    if bad:
        print(f"{bad} of {count} rows got no answer.", file=sys.stderr)
    return bad > 0


def write(lines: list[list]) -> None:
    """Write lines of CSV to stdout, now."""
    try:
        csv.writer(sys.stdout, lineterminator="\n").writerows(lines)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries to write the rest at its end
        if isinstance(error, BrokenPipeError):  # as in `python3 batch.py … | head`
            sys.exit(128 + signal.SIGPIPE)
        stop(f"The answers cannot be written: {error.strerror}.")


def encoding_of(path: Path) -> str:
    """Read a whole file, and return its encoding. Raises HTTPException as the service does, and OSError."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a file. It is read more than once, so it cannot be a pipe.")
    with path.open("rb") as file:
        encoding = csv_text.encoding_of(file.read(4))
        file.seek(0)
        decoder = codecs.getincrementaldecoder(encoding)()
        line, length = 1, 0
        for block in chain(iter(lambda: file.read(BLOCK), b""), [b""]):
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                raise csv_text.not_utf8(line + error.object.count(b"\n", 0, error.start)) from error
            if "\0" in text:
                raise BadRequest(csv_text.NUL)
            end = max(text.rfind("\n"), text.rfind("\r"))
            length = len(text) - end if end >= 0 else length + len(text)
            if length > MAX_BYTES:
                raise BadRequest(LONG)
            line += block.count(b"\n")
    return encoding


def read_header(file: TextIO, model: Model, types: Schema) -> tuple[Layout, list[str]]:
    """Read the line with the names, and one before it that says the separator. Return also which columns are ignored.

    Raises HTTPException and ValidationError as the service does.
    """
    first, card = file.readline(), model.card
    if declared := csv_text.declared_separator(first.rstrip("\r\n")):
        first = file.readline()
    try:
        separator = declared or csv_text.separator_of(first.rstrip("\r\n"), card)
        names = csv_text.names_of(csv_text.lines_of(chain([first], file), separator, card), card)
    except (csv.Error, TypeError) as error:  # a TypeError for a separator that csv does not take
        raise BadRequest(f"The CSV file cannot be read ({error}).") from error
    check([{name: value for name, value in card.example.items() if name in names}], types)  # is a feature missing?
    ignored = other_names([dict.fromkeys(names) | card.example], card, is_list=True)
    return Layout(model, types, separator, names, False), ignored


def blocks(file: TextIO, most: int, doing: str) -> Iterator[list[str]]:
    """Yield the lines of a file: at most so many at a time, and fewer if they are long. Show how far it is read."""
    lines: list[str] = []
    length = 0
    hidden = sys.stdout.isatty() or None  # None: unless stderr is a terminal
    size = os.fstat(file.fileno()).st_size
    with tqdm(desc=doing, total=size, unit="B", unit_scale=True, disable=hidden) as progress:
        for line in file:
            lines.append(line)
            length += len(line)
            if len(lines) == most or length > BLOCK:
                yield lines
                progress.update(os.lseek(file.fileno(), 0, os.SEEK_CUR) - progress.n)
                lines, length = [], 0
        if lines:
            yield lines
        progress.update(size - progress.n)


def records(lines: list[str], file: TextIO, layout: Layout) -> Iterator[list[str] | Exception]:
    """Yield the cells of each row, or what is wrong with it. The last row may go on in the file.

    The last one is a BadRequest if it is not known where the row ends.
    """
    reader = csv_text.lines_of(chain(lines, limited(file)), layout.separator, layout.model.card)
    while reader.line_num < len(lines):
        before = reader.line_num
        try:
            cells = next(reader)
        except csv.Error as error:
            if reader.line_num > before + 1:
                text = f"It cannot be read ({error}), nor can the rows after it. Is a quotation mark missing?"
                yield BadRequest(text)
                return
            yield ValueError(f"It cannot be read ({error}).")
            continue
        if len(cells) == len(layout.names):
            yield cells
        elif cells:  # empty lines are no rows
            yield ValueError(f"It {csv_text.other_length(cells, layout.names)}")


def limited(file: TextIO) -> Iterator[str]:
    """Yield lines of a file. Raises csv.Error after too many."""
    size = 0
    for line in file:
        size += len(line)
        if size > MAX_BYTES:
            raise csv.Error(LONG)
        yield line


def has_comma(lines: list[str], file: TextIO, layout: Layout) -> bool:
    """Return whether a number in some lines of a file has a decimal comma."""
    text = "".join(lines)
    if '"' not in text and (layout.separator == "," or "," not in text):
        return False
    found = [cells for cells in records(lines, file, layout) if isinstance(cells, list)]
    return csv_text.have_decimal_comma(csv_text.columns_of(found, layout.names, layout.model.card)) if found else False


def answers_to(lines: list[str], file: TextIO, layout: Layout) -> list[list | Exception]:
    """Return the answer to each row, in cells, or why there is none."""
    text, card = "".join(lines), layout.model.card
    if not layout.commas and '"' not in text:
        table = csv_text.numbers_of(text, layout.names, card, layout.separator, len(lines))
        if table is not None:
            try:
                return list(csv_text.cells_of(layout.model.ask(table), card))
            except NoAnswer:
                pass  # it is found below for which rows
    rows = apply_to_good(records(lines, file, layout), lambda found: checked(found, layout))
    return apply_to_good(rows, lambda good: answered(good, layout.model))


def apply_to_good(items: Iterator | list, change: Callable[[list], list]) -> list:
    """Return what `change` makes of those items that are no errors, in their places."""
    items = list(items)
    good = [item for item in items if not isinstance(item, Exception)]
    changed = iter(change(good) if good else [])
    return [item if isinstance(item, Exception) else next(changed) for item in items]


def checked(lines: list[list[str]], layout: Layout) -> list[dict | Exception]:
    """Return rows as JSON has them, or what is wrong with each."""
    try:
        rows = csv_text.rows_of(lines, layout.names, layout.model.card, layout.separator, layout.commas)
        return [*check(rows, layout.types)]
    except ValidationError as error:
        if len(lines) == 1:
            return [ValueError(in_words(error))]  # the error itself takes much memory
    return [checked([cells], layout)[0] for cells in lines]


def answered(rows: list[dict], model: Model) -> list[list | Exception]:
    """Return the answer to each row, in cells, or why there is none."""
    found: dict[int, list | Exception] = {}
    while left := [row for row in range(len(rows)) if row not in found]:
        try:
            found |= zip(left, csv_text.cells_of(model.ask([rows[row] for row in left]), model.card), strict=True)
        except NoAnswer as error:  # it names some of the rows, and why the first of them has none
            bad = [left[row] for row in error.rows]
            found |= {row: error if len(left) == 1 else answered([rows[row]], model)[0] for row in bad}
    return [found[row] for row in range(len(rows))]


if __name__ == "__main__":
    main()
