"""Rows that training did not hold, made from the training data, and what the model itself answers to them."""

import contextlib
import json
import numpy as np
import pandas as pd
from export.columns import NEIGHBOURS, Refusal, shown, to_rows
from runtime.card import Answers, Card, Column, NoAnswer
from runtime.onnx import TIE
from runtime.pickled import EXTRAS, usable
from runtime.prepared import OtherRows, for_each_row, values_of
from runtime.table import Table, to_input
from typing import Any, NamedTuple, Protocol

KNOWN, MOVED, FEW = 400, 150, 40  # rows; and columns, if each gets rows of its own
ALONE, CATEGORIES = 60, 20  # rows that are asked alone, at least; the most frequent values of each column
SHORT = 4  # rows in a list that is a part of the whole
PROBABILITY = 0.005  # by how much a probability may differ
NUMBER = 1e-3  # by how much a number may differ, relative to the standard deviation of all numbers

TEXTS = [
    "",
    "   ",
    "THE BEST Coffee, really!!! I would NOT buy it again...",
    "a I x 7 don't it's well-known e.g. 3.5 1,000 not_good #Tag",
    "great\tgreat\ngreat  coffee\r\nnot great",
    "日本語 コーヒー 한국어 😀 👍🏽",
    "İstanbul ΟΔΟΣ ΚΑΛΌΣ STRASSE straße Ǆ ﬁne",
    "cafe\u0301 CAFÉ na\u0131ve \u00adsoft\u00adhyphen zero\u200bwidth non\u00a0breaking ²³ ½ Ⅷ ٣٤٥",
]


class Runtime(Protocol):
    """What runs a model file: runtime.onnx.OnnxModel or runtime.pickled.PickledModel."""

    def predict(self, rows: list[dict]) -> Answers: ...


class Probe(NamedTuple):
    what: str
    rows: list[dict]
    input: Any  # the same for the model's predict(); if each is asked alone, a list of inputs of one row
    alone: bool = False


class Expected(NamedTuple):
    """What the model itself answers to one row, None if it raises an error."""

    predictions: list | None  # a value for each target
    numbers: list[float] | None  # the probabilities of all classes and the extras


Asked = list[tuple[Probe, list[Expected]]]
Numbers = list[tuple[Column, np.ndarray]]  # the columns of numbers, with their known values in order


def known(X: Any, frame: pd.DataFrame, table: Table) -> tuple[np.ndarray, Probe, Probe]:
    """Return the positions of rows of X, also some with gaps, and these rows: in their order, and turned around."""
    some = np.sort(np.random.default_rng(0).permutation(len(frame))[:KNOWN])
    gaps = np.flatnonzero(frame.isna().any(axis=1).to_numpy())[:FEW]
    at = np.unique(np.concatenate([some, gaps]))
    one, other = (
        Probe("rows of X", to_rows(frame.iloc[order]), pick(X, order, table.form)) for order in (at, at[::-1])
    )
    return at, one, other._replace(what="rows of X in another order")


def probes(rows: list[dict], frame: pd.DataFrame, table: Table, columns: list[Column]) -> list[Probe]:
    """Return rows made from rows of X. `frame` is X as a DataFrame, `columns` what the model accepts."""
    random, numbers = np.random.default_rng(0), numeric(columns, frame)
    made = {
        "numbers moved a little": moved(rows, numbers, random),
        "numbers between those of X": between(rows, numbers, random),
        "numbers at the ends of their range and beyond": ends(rows, numbers, random),
        "missing values": missing(rows, columns, random),
        "new texts": new_texts(rows, frame, columns, random),
    }
    return [Probe(what, some, to_input(some, table)) for what, some in made.items() if some]


def pick(X: Any, positions: np.ndarray, form: str) -> Any:
    if form in ("frame", "series"):
        return X.iloc[positions]
    return np.asarray(X)[positions] if form == "array" else [X[position] for position in positions]


def together(inputs: list) -> Any:
    """Return inputs of one row as one input."""
    if isinstance(inputs[0], pd.DataFrame | pd.Series):
        return pd.concat(inputs)
    return np.concatenate(inputs) if isinstance(inputs[0], np.ndarray) else [row for one in inputs for row in one]


def numeric(columns: list[Column], frame: pd.DataFrame) -> Numbers:
    """Return the columns of numbers that may have other values than those of X, with their known values in order."""
    found = []
    for position, column in enumerate(columns):
        if column.type in ("number", "integer") and not column.categories:
            series = frame.iloc[:, position].dropna().astype(float)
            found.append((column, np.unique(series[np.isfinite(series)])))
    return [(column, values) for column, values in found if len(values)]


def how_many(numbers: list) -> int:
    """Return how many rows to make in which all these columns change: fewer if there are hundreds."""
    return min(MOVED, 20 + 10_000 // len(numbers)) if numbers else 0


def fitting(value: float, column: Column) -> float | int:
    return round(float(value)) if column.type == "integer" else float(value)


def changed(rows: list[dict], random: np.random.Generator, **changes: Any) -> dict:
    return rows[random.integers(len(rows))] | changes


def moved(rows: list[dict], numbers: Numbers, random: np.random.Generator) -> list[dict]:
    made: list[dict] = []
    steps = [0.15 * values.std() for _, values in numbers]
    for number in range(how_many(numbers)):
        row = changed(rows, random)
        for (column, _), step in zip(numbers, steps, strict=True):
            if row[column.name] is not None:
                value = row[column.name] + random.normal(0, step)
                # one half with many digits, one half with as few as people type
                row[column.name] = fitting(value if number % 2 else round(value, 2), column)
        made.append(row)
    return made


def between(rows: list[dict], numbers: Numbers, random: np.random.Generator) -> list[dict]:
    """Return rows with numbers in the middle of two known ones: there trees split."""
    made: list[dict] = []
    for _ in range(2 * how_many(numbers)):
        row = changed(rows, random)
        for column, values in numbers:
            if len(values) > 1 and random.random() < 0.5:
                first = int(random.integers(len(values) - 1))
                other = min(first + int(random.integers(1, 6)), len(values) - 1)
                row[column.name] = fitting((values[first] + values[other]) / 2, column)
        made.append(row)
    return made


def ends(rows: list[dict], numbers: Numbers, random: np.random.Generator) -> list[dict]:
    made: list[dict] = []
    for column, values in numbers[:FEW]:
        low, high, beyond = values[0], values[-1], 3 * values.std() + 1
        for value in (low, high, low - beyond, high + beyond, 0, -1, 16_777_217):
            made.append(changed(rows, random, **{column.name: fitting(value, column)}))
    for sign in (-1, 1):
        far = {column.name: fitting(values.mean() + sign * 4 * values.std(), column) for column, values in numbers}
        made += [changed(rows, random, **far)] if far else []
    return made


def missing(rows: list[dict], columns: list[Column], random: np.random.Generator) -> list[dict]:
    names = [column.name for column in columns if column.nullable]
    made = [changed(rows, random, **{name: None}) for name in names[:FEW] for _ in range(5)]
    if names:
        made += [changed(rows, random, **dict.fromkeys(names[start::step])) for start, step in ((0, 1), (0, 2), (1, 2))]
        for _ in range(FEW):
            made.append(changed(rows, random, **{name: None for name in names if random.random() < 0.2}))
    return made


def new_texts(rows: list[dict], frame: pd.DataFrame, columns: list[Column], random: np.random.Generator) -> list[dict]:
    made: list[dict] = []
    for position, column in enumerate(columns):
        if column.type == "text" and not column.categories and len(made) < 4 * MOVED:
            known = frame.iloc[:, position].dropna().astype(str).unique()[:FEW]
            texts = [*known, *TEXTS, "Atlantis"] if any(" " in text for text in known) else ["Atlantis", "", *known[:3]]
            variants = [text.upper() for text in known[:5]] + [text.title() for text in known[:2]] + [known[0] + " "]
            made += [changed(rows, random, **{column.name: text}) for text in texts + variants]
    return made


def alone(X: Any, frame: pd.DataFrame, table: Table, made: list[Probe], answered: np.ndarray) -> list[Probe]:
    """Return probes whose rows are asked one by one: chosen rows of X, and the first ones of each other probe.

    Of each column, those are chosen with an empty cell, with the most frequent values, and with the least and the
    greatest number. `answered` are the positions in X of the rows to choose from.
    """
    some = frame.iloc[answered]
    chosen: list[int] = []
    for position in range(min(some.shape[1], FEW)):
        series = some.iloc[:, position].reset_index(drop=True)
        chosen += np.flatnonzero(series.isna())[:1].tolist()
        if series.dtype.kind in "iuf":
            chosen += [] if series.isna().all() else [int(series.argmin()), int(series.argmax())]
        with contextlib.suppress(TypeError):  # a cell that cannot be counted, such as a list
            counts = series.value_counts()
            frequent = counts[counts > 0].index[:CATEGORIES]  # a category may be in no row
            chosen += [int(np.flatnonzero(series == value)[0]) for value in frequent if len(frequent) < len(series)]
    chosen += np.random.default_rng(0).permutation(len(some))[: max(ALONE - len(set(chosen)), 10)].tolist()
    positions = answered[np.unique(chosen)]
    known = [pick(X, np.array([position]), table.form) for position in positions.tolist()]
    found = [Probe("rows of X", to_rows(frame.iloc[positions]), known, True)]
    return found + [
        Probe(each.what, each.rows[:5], [to_input([row], table) for row in each.rows[:5]], True) for each in made
    ]


def ask(model: Any, probe: Probe, table: Table, card: Card) -> list[Expected]:
    """Return what the model itself answers to each row of a probe. Raises Refusal for another number of answers."""
    if probe.alone:
        single = [Probe(probe.what, [row], X) for row, X in zip(probe.rows, probe.input, strict=True)]
        return [answer for one in single for answer in ask(model, one, table, card)]
    try:
        found = values_of(for_each_row(model.predict(probe.input), probe.rows)).reshape(len(probe.rows), -1)
        if found.shape[1] != card.count and len(probe.rows) > 1:
            other = f"its predict() returns {found.shape[1]} values for each of some rows, and {card.count} for others"
            raise OtherRows(f"{other}; {NEIGHBOURS}")
        parts = []
        if card.probabilities:
            parts.append(np.asarray(for_each_row(model.predict_proba(probe.input), probe.rows), float))
        parts += [np.asarray(EXTRAS[extra.name](model, probe.input), float).reshape(-1, 1) for extra in card.extras]
        if not all(usable(part) for part in (found, *parts)):
            raise ValueError("an answer is missing, or is not a finite number")
        numbers = np.hstack(parts).tolist() if parts else [None] * len(found)
        return [Expected(answer, more) for answer, more in zip(found.tolist(), numbers, strict=True)]
    except OtherRows as error:
        if len(probe.rows) > 1:
            raise Refusal(str(error)) from error
        return [Expected(None, None)]
    except Exception:  # a model may raise whatever it likes
        if len(probe.rows) == 1:
            return [Expected(None, None)]
        single = [Probe(probe.what, [row], to_input([row], table)) for row in probe.rows]
        return [answer for one in single for answer in ask(model, one, table, card)]


def run_each(run: Runtime, rows: list[dict]) -> list[Expected]:
    """Return what a model file answers to each row, in the form in which the model itself was asked."""
    try:
        answers = run.predict(rows)
    except NoAnswer:
        return [Expected(None, None)] if len(rows) == 1 else [each for row in rows for each in run_each(run, [row])]
    extras = list(zip(*answers.extras.values(), strict=True))
    found = []
    for i, prediction in enumerate(answers.predictions):
        numbers = [*(answers.probabilities[i] if answers.probabilities else []), *(extras[i] if extras else [])]
        found.append(Expected(prediction if isinstance(prediction, list) else [prediction], numbers or None))
    return found


def check_rows_do_not_matter(model: Any, table: Table, card: Card, asked: Asked) -> None:
    """Raise Refusal if the model's own answer to a row depends on chance or on the other rows. `asked` holds rows of X,
    the same turned around, and rows of X alone."""
    (probe, answers), (_, turned), *_ = asked
    compare = Comparison(card, answers)
    if any(map(compare.differs, ask(model, probe, table, card), answers)):
        raise Refusal(
            "it gives another answer when it is asked again, so leave out what is random in it, such as sample()"
        )
    at = next((i for i, pair in enumerate(zip(turned[::-1], answers, strict=True)) if compare.differs(*pair)), None)
    if at is not None:
        if sorted(map(str, turned)) == sorted(map(str, answers)):
            raise Refusal(
                "it answers the rows in another order, so leave out what sorts or shuffles them, such as sort_values()"
            )
        raise Refusal(f"its answer to {shown(probe.rows[at])} depends on the rows before it; {NEIGHBOURS}")
    answer_of = {json.dumps(row): answer for row, answer in zip(probe.rows, answers, strict=True)}
    single, expected = next((each, found) for each, found in asked if each.alone and each.what == probe.what)
    for row, X, got in zip(single.rows, single.input, expected, strict=True):
        if compare.differs(got, want := answer_of[json.dumps(row)]):
            both = f"{said(got, model, X)}, and in a list of rows {said(want)}"
            raise Refusal(f"for the single row {shown(row)} it answers {both}; {NEIGHBOURS}")
    for start in range(0, len(single.rows), SHORT):
        rows = single.rows[start : start + SHORT]
        short = ask(model, Probe(single.what, rows, together(single.input[start : start + SHORT])), table, card)
        for row, got, want in zip(rows, short, expected[start:], strict=False):
            if compare.differs(got, want):
                raise Refusal(f"its answer to {shown(row)} depends on the other rows of the list; {NEIGHBOURS}")


def said(answer: Expected, model: Any = None, X: Any = None) -> str:
    """Return an answer as a message shows it: the prediction, the probabilities, or why there is none."""
    if answer.predictions is None:
        try:
            for_each_row(model.predict(X), [X])
        except Exception as error:  # a model may raise whatever it likes
            return f"an error ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        return "a missing value or an infinite number"
    numbers = [float(f"{number:.4g}") for number in answer.numbers or []]
    return ", ".join(map(str, answer.predictions)) + (f" {numbers}" if numbers else "")


class Comparison:
    """Compares answers with expected ones, and keeps the largest difference of a number or a probability."""

    def __init__(self, card: Card, known: list[Expected]) -> None:
        """`known` are answers to rows of X: a number may differ by a part of their standard deviation."""
        values = [each.predictions for each in known if each.predictions is not None]
        kinds = card.predicts if isinstance(card.predicts, list) else [card.predicts] * len(values[0] if values else [])
        self.is_number = [not card.classes and kind == "number" for kind in kinds]
        columns = zip(zip(*values, strict=True), self.is_number, strict=True)
        self.bounds = [NUMBER * float(np.std(np.array(one, float))) if number else 0 for one, number in columns]
        self.shares = len(card.classes) if card.probabilities else 0
        self.largest = 0.0

    def differs(self, got: Expected, want: Expected) -> bool:
        """Return whether an answer is not the expected one. Both may have none. Equal probabilities have no order."""
        if got.predictions is None or want.predictions is None:
            return (got.predictions is None) != (want.predictions is None)
        if len(got.predictions) != len(want.predictions):
            return True
        if got.numbers and want.numbers and self.numbers_differ(got.numbers, want.numbers):
            return True
        for one, other, is_number, bound in zip(
            got.predictions, want.predictions, self.is_number, self.bounds, strict=True
        ):
            if is_number:
                far = abs(one - other)
                self.largest = max(self.largest, far)
                if not far <= bound + 1e-5 * abs(other):
                    return True
            elif (type(one), one) != (type(other), other) and not self.tied(want):
                return True
        return False

    def numbers_differ(self, got: list[float], want: list[float]) -> bool:
        """Return whether probabilities or extras differ."""
        far = float(np.abs(np.subtract(got, want)).max())
        self.largest = max(self.largest, far)
        return far > PROBABILITY

    def tied(self, want: Expected) -> bool:
        """Return whether the two most probable classes are equally probable, as far as float32 can tell."""
        first, second, *_ = [*sorted((want.numbers or [])[: self.shares], reverse=True), 1, 0][:2]
        return self.shares > 1 and first - second < TIE


def difference(run: Runtime, compare: Comparison, asked: Asked) -> str | None:
    """Return on which rows a model file answers differently from the model, or None."""
    for probe, expected in asked:
        groups = [[row] for row in probe.rows] if probe.alone else [probe.rows]
        got = [answer for rows in groups for answer in run_each(run, rows)]
        wrong = [i for i, pair in enumerate(zip(got, expected, strict=True)) if compare.differs(*pair)]
        if wrong:
            return f"{len(wrong)} of {len(expected)} {probe.what}{' asked alone' if probe.alone else ''}"
    return None
