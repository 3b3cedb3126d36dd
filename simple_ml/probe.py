"""Rows that training did not hold, made from the training data, and what the model itself answers to them."""

import numpy as np
import pandas as pd
from collections.abc import Callable
from columns import to_rows
from table import Columns, to_input
from typing import Any, NamedTuple

KNOWN, MOVED, FEW = 400, 150, 40  # rows; and columns, if each gets rows of its own
PROBABILITY = 0.005  # by how much a probability may differ
NUMBER = 1e-3  # by how much a number may differ, relative to the spread of all numbers

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


class Probe(NamedTuple):
    what: str
    rows: list[dict]
    input: Any  # the same for the model's predict()


class Answer(NamedTuple):
    predictions: list | None  # of one row, a value for each target; None if the model raises an error
    numbers: list[float] | None  # the probabilities of all classes, or the score of an outlier detector


def probes(X: Any, table: pd.DataFrame, columns: Columns, features: list[dict]) -> list[Probe]:
    random = np.random.default_rng(0)
    some = np.sort(random.permutation(len(table))[:KNOWN])
    gaps = np.flatnonzero(table.isna().any(axis=1).to_numpy())[:FEW]
    known = np.unique(np.concatenate([some, gaps]))
    found = [Probe("rows of X", to_rows(table.iloc[known]), pick(X, known, columns))]
    rows = found[0].rows
    made = {
        "numbers moved a little": moved(rows, table, features, random),
        "numbers between those of X": between(rows, table, features, random),
        "numbers at the ends of their range and beyond": ends(rows, table, features, random),
        "missing values": missing(rows, features, random),
        "new texts": new_texts(rows, table, features, random),
    }
    return found + [Probe(what, some, to_input(some, columns)) for what, some in made.items() if some]


def pick(X: Any, positions: np.ndarray, columns: Columns) -> Any:
    if columns.form in ("frame", "series"):
        return X.iloc[positions]
    return np.asarray(X)[positions] if columns.form == "array" else [X[position] for position in positions]


def numeric(features: list[dict], table: pd.DataFrame) -> list[tuple[dict, np.ndarray]]:
    """Return the columns of numbers that may have other values than those of X, with their known values in order."""
    found = []
    for position, feature in enumerate(features):
        if feature["type"] in ("number", "integer") and not feature["categories"]:
            series = table.iloc[:, position].dropna().astype(float)
            found.append((feature, np.unique(series[np.isfinite(series)])))
    return [(feature, values) for feature, values in found if len(values)]


def how_many(columns: list) -> int:
    """Return how many rows to make in which all these columns change: fewer if there are hundreds."""
    return min(MOVED, 20 + 10_000 // len(columns)) if columns else 0


def fitting(value: float, feature: dict) -> float | int:
    return round(float(value)) if feature["type"] == "integer" else float(value)


def changed(rows: list[dict], random: np.random.Generator, **changes: Any) -> dict:
    return rows[random.integers(len(rows))] | changes


def moved(rows: list[dict], table: pd.DataFrame, features: list[dict], random: np.random.Generator) -> list[dict]:
    columns, made = numeric(features, table), []
    steps = [0.15 * values.std() for _, values in columns]
    for number in range(how_many(columns)):
        row = changed(rows, random)
        for (feature, _), step in zip(columns, steps, strict=True):
            if row[feature["name"]] is not None:
                value = row[feature["name"]] + random.normal(0, step)
                # one half with many digits, one half with as few as people type
                row[feature["name"]] = fitting(value if number % 2 else round(value, 2), feature)
        made.append(row)
    return made


def between(rows: list[dict], table: pd.DataFrame, features: list[dict], random: np.random.Generator) -> list[dict]:
    """Return rows with numbers in the middle of two known ones: there trees split."""
    columns: list[tuple[dict, np.ndarray]] = numeric(features, table)
    made: list[dict] = []
    for _ in range(2 * how_many(columns)):
        row = changed(rows, random)
        for feature, values in columns:
            if len(values) > 1 and random.random() < 0.5:
                first = int(random.integers(len(values) - 1))
                other = min(first + int(random.integers(1, 6)), len(values) - 1)
                row[feature["name"]] = fitting((values[first] + values[other]) / 2, feature)
        made.append(row)
    return made


def ends(rows: list[dict], table: pd.DataFrame, features: list[dict], random: np.random.Generator) -> list[dict]:
    columns, made = numeric(features, table), []
    for feature, values in columns[:FEW]:
        low, high, beyond = values[0], values[-1], 3 * values.std() + 1
        for value in (low, high, low - beyond, high + beyond, 0, -1, 16_777_217):
            made.append(changed(rows, random, **{feature["name"]: fitting(value, feature)}))
    for sign in (-1, 1):
        far = {
            feature["name"]: fitting(values.mean() + sign * 4 * values.std(), feature) for feature, values in columns
        }
        made += [changed(rows, random, **far)] if far else []
    return made


def missing(rows: list[dict], features: list[dict], random: np.random.Generator) -> list[dict]:
    names = [feature["name"] for feature in features if feature["nullable"]]
    made = [changed(rows, random, **{name: None}) for name in names[:FEW] for _ in range(5)]
    if names:
        made += [changed(rows, random, **dict.fromkeys(names[start::step])) for start, step in ((0, 1), (0, 2), (1, 2))]
        for _ in range(FEW):
            made.append(changed(rows, random, **{name: None for name in names if random.random() < 0.2}))
    return made


def new_texts(rows: list[dict], table: pd.DataFrame, features: list[dict], random: np.random.Generator) -> list[dict]:
    made: list[dict] = []
    for position, feature in enumerate(features):
        if feature["type"] == "text" and not feature["categories"] and len(made) < 4 * MOVED:
            known = table.iloc[:, position].dropna().astype(str).unique()[:FEW]
            texts = [*known, *TEXTS, "Atlantis"] if any(" " in text for text in known) else ["Atlantis", "", *known[:3]]
            variants = [text.upper() for text in known[:5]] + [text.title() for text in known[:2]] + [known[0] + " "]
            made += [changed(rows, random, **{feature["name"]: text}) for text in texts + variants]
    return made


def ask(model: Any, probe: Probe, columns: Columns, metadata: dict[str, Any]) -> list[Answer]:
    """Return what the model itself answers, for each row."""
    try:
        found, numbers = np.asarray(model.predict(probe.input)), None
        if metadata["probabilities"]:
            numbers = np.asarray(model.predict_proba(probe.input), float)
        elif metadata["score"]:
            numbers = np.asarray(model.score_samples(probe.input), float).reshape(-1, 1)
        found = found.reshape(len(probe.rows), -1)
        for part in (found, numbers):
            if part is not None and part.dtype.kind == "f" and not np.isfinite(part).all():
                raise ValueError("an answer is not a finite number")
        each = [None] * len(found) if numbers is None else numbers.tolist()
        return [Answer(*answer) for answer in zip(found.tolist(), each, strict=True)]
    except Exception:  # a model may raise whatever it likes
        if len(probe.rows) == 1:
            return [Answer(None, None)]
        single = [Probe(probe.what, [row], to_input([row], columns)) for row in probe.rows]
        return [answer for one in single for answer in ask(model, one, columns, metadata)]


def run_each(run: Callable, rows: list[dict]) -> list[Answer]:
    """Return what a runtime answers, for each row. `run` is what the runtimes' load() returns."""
    try:
        predictions, shares, scores = run(rows)
    except ValueError:
        return [Answer(None, None)] if len(rows) == 1 else [answer for row in rows for answer in run_each(run, [row])]
    numbers = shares if scores is None else [[score] for score in scores]
    return [
        Answer(prediction if isinstance(prediction, list) else [prediction], numbers[i] if numbers else None)
        for i, prediction in enumerate(predictions)
    ]


def difference(run: Callable, metadata: dict, asked: list[tuple[Probe, list[Answer]]]) -> str | None:
    """Return on which rows a runtime answers otherwise than the model, or None. Both may have no answer."""
    known = [answer.predictions for answer in asked[0][1] if answer.predictions is not None]
    is_number = not metadata["classes"] and metadata["predicts"] == "number"
    spread = np.std(np.array(known, float), axis=0) if is_number else np.zeros(1)

    def differs(got: Answer, want: Answer) -> bool:
        if got.predictions is None or want.predictions is None:
            return (got.predictions is None) != (want.predictions is None)
        if got.numbers and np.abs(np.subtract(got.numbers, want.numbers)).max() > PROBABILITY:  # type: ignore[arg-type]
            return True
        if is_number:
            bound = NUMBER * spread + 1e-5 * np.abs(want.predictions)
            return not np.all(np.abs(np.subtract(got.predictions, want.predictions)) <= bound)
        return [(type(one), one) for one in got.predictions] != [(type(one), one) for one in want.predictions]

    for probe, answers in asked:
        wrong = sum(map(differs, run_each(run, probe.rows), answers))
        if wrong:
            return f"{wrong} of {len(answers)} {probe.what}"
    return None
