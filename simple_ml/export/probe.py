"""Rows that training did not hold, made from the training data, and what the model itself answers to them."""

import numpy as np
import pandas as pd
from export.columns import to_rows
from runtime.card import Answers, Card, Column, NoAnswer
from runtime.pickled import EXTRAS
from runtime.table import Table, to_input
from typing import Any, NamedTuple, Protocol

KNOWN, MOVED, FEW = 400, 150, 40  # rows; and columns, if each gets rows of its own
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
    input: Any  # the same for the model's predict()


class Expected(NamedTuple):
    """What the model itself answers to one row, None if it raises an error."""

    predictions: list | None  # a value for each target
    numbers: list[float] | None  # the probabilities of all classes and the extras


Asked = list[tuple[Probe, list[Expected]]]


def probes(X: Any, frame: pd.DataFrame, table: Table, columns: list[Column]) -> list[Probe]:
    """Return rows of X and rows made from them. `frame` is X as a DataFrame, `columns` what the model accepts."""
    random = np.random.default_rng(0)
    some = np.sort(random.permutation(len(frame))[:KNOWN])
    gaps = np.flatnonzero(frame.isna().any(axis=1).to_numpy())[:FEW]
    known = np.unique(np.concatenate([some, gaps]))
    found = [Probe("rows of X", to_rows(frame.iloc[known]), pick(X, known, table.form))]
    rows = found[0].rows
    made = {
        "numbers moved a little": moved(rows, frame, columns, random),
        "numbers between those of X": between(rows, frame, columns, random),
        "numbers at the ends of their range and beyond": ends(rows, frame, columns, random),
        "missing values": missing(rows, columns, random),
        "new texts": new_texts(rows, frame, columns, random),
    }
    return found + [Probe(what, some, to_input(some, table)) for what, some in made.items() if some]


def pick(X: Any, positions: np.ndarray, form: str) -> Any:
    if form in ("frame", "series"):
        return X.iloc[positions]
    return np.asarray(X)[positions] if form == "array" else [X[position] for position in positions]


def numeric(columns: list[Column], frame: pd.DataFrame) -> list[tuple[Column, np.ndarray]]:
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


def moved(rows: list[dict], frame: pd.DataFrame, columns: list[Column], random: np.random.Generator) -> list[dict]:
    numbers, made = numeric(columns, frame), []
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


def between(rows: list[dict], frame: pd.DataFrame, columns: list[Column], random: np.random.Generator) -> list[dict]:
    """Return rows with numbers in the middle of two known ones: there trees split."""
    numbers: list[tuple[Column, np.ndarray]] = numeric(columns, frame)
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


def ends(rows: list[dict], frame: pd.DataFrame, columns: list[Column], random: np.random.Generator) -> list[dict]:
    numbers, made = numeric(columns, frame), []
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


def ask(model: Any, probe: Probe, table: Table, card: Card) -> list[Expected]:
    """Return what the model itself answers to each row of a probe."""
    try:
        found = np.asarray(model.predict(probe.input)).reshape(len(probe.rows), -1)
        parts = [np.asarray(model.predict_proba(probe.input), float)] if card.probabilities else []
        parts += [np.asarray(EXTRAS[extra.name](model, probe.input), float).reshape(-1, 1) for extra in card.extras]
        if not all(np.isfinite(part).all() for part in (found, *parts) if part.dtype.kind == "f"):
            raise ValueError("an answer is not a finite number")
        numbers = np.hstack(parts).tolist() if parts else [None] * len(found)
        return [Expected(*answer) for answer in zip(found.tolist(), numbers, strict=True)]
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


def difference(run: Runtime, card: Card, asked: Asked) -> str | None:
    """Return on which rows a model file answers differently from the model, or None. Both may have no answer."""
    known = [expected.predictions for expected in asked[0][1] if expected.predictions is not None]
    is_number = not card.classes and card.predicts == "number"
    deviation = np.std(np.array(known, float), axis=0) if is_number else np.zeros(1)

    def differs(got: Expected, want: Expected) -> bool:
        if got.predictions is None or want.predictions is None:
            return (got.predictions is None) != (want.predictions is None)
        if got.numbers and np.abs(np.subtract(got.numbers, want.numbers)).max() > PROBABILITY:  # type: ignore[arg-type]
            return True
        if is_number:
            bound = NUMBER * deviation + 1e-5 * np.abs(want.predictions)
            return not np.all(np.abs(np.subtract(got.predictions, want.predictions)) <= bound)
        return [(type(one), one) for one in got.predictions] != [(type(one), one) for one in want.predictions]

    for probe, expected in asked:
        wrong = sum(map(differs, run_each(run, probe.rows), expected))
        if wrong:
            return f"{wrong} of {len(expected)} {probe.what}"
    return None
