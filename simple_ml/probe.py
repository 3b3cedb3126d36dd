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
    shares: list[float] | None


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


def fitting(value: float, feature: dict) -> float | int:
    return int(round(value)) if feature["type"] == "integer" else float(value)


def changed(rows: list[dict], random: np.random.Generator, **changes: Any) -> dict:
    return rows[random.integers(len(rows))] | changes


def moved(rows: list[dict], table: pd.DataFrame, features: list[dict], random: np.random.Generator) -> list[dict]:
    columns, made = numeric(features, table), []
    for number in range(MOVED if columns else 0):
        row = changed(rows, random)
        for feature, values in columns:
            if row[feature["name"]] is not None:
                value = row[feature["name"]] + random.normal(0, 0.15) * values.std()
                # one half with many digits, one half with as few as people type
                row[feature["name"]] = fitting(value if number % 2 else round(value, 2), feature)
        made.append(row)
    return made


def between(rows: list[dict], table: pd.DataFrame, features: list[dict], random: np.random.Generator) -> list[dict]:
    """Return rows with numbers in the middle of two known ones: there trees split."""
    columns, made = numeric(features, table), []
    for _ in range(2 * MOVED if columns else 0):
        row = changed(rows, random)
        for feature, values in columns:
            if len(values) > 1 and random.random() < 0.5:
                first = random.integers(len(values) - 1)
                other = min(first + random.integers(1, 6), len(values) - 1)
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
        far = {feature["name"]: fitting(values.mean() + sign * 4 * values.std(), feature) for feature, values in columns}
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
    made = []
    for position, feature in enumerate(features):
        if feature["type"] == "text" and not feature["categories"] and len(made) < 4 * MOVED:
            known = table.iloc[:, position].dropna().astype(str).unique()[:FEW]
            texts = [*known, *TEXTS, "Atlantis"] if any(" " in text for text in known) else ["Atlantis", "", *known[:3]]
            variants = [text.upper() for text in known[:5]] + [text.title() for text in known[:2]] + [known[0] + " "]
            made += [changed(rows, random, **{feature["name"]: text}) for text in texts + variants]
    return made


def ask(model: Any, probe: Probe, columns: Columns, probabilities: bool) -> list[Answer]:
    """Return what the model itself answers, for each row."""
    try:
        found = np.asarray(model.predict(probe.input))
        shares = np.asarray(model.predict_proba(probe.input), float).tolist() if probabilities else [None] * len(found)
        found = found.reshape(len(probe.rows), -1).tolist()
        return [Answer(*answer) for answer in zip(found, shares, strict=True)]
    except Exception:  # a model may raise whatever it likes
        if len(probe.rows) == 1:
            return [Answer(None, None)]
        single = [Probe(probe.what, [row], to_input([row], columns)) for row in probe.rows]
        return [answer for one in single for answer in ask(model, one, columns, probabilities)]


def difference(run: Callable, metadata: dict, asked: list[tuple[Probe, list[Answer]]], refuses: bool) -> str | None:
    """Return on which rows a runtime answers otherwise than the model, or None.

    `run` is what the runtimes' load() returns. If it `refuses` rows as the model does, only the others are compared.
    """
    known = [answer.predictions for answer in asked[0][1] if answer.predictions is not None]
    is_number = not metadata["classes"] and metadata["predicts"] == "number"
    spread = np.std(np.array(known, float), axis=0) if is_number else 0
    for probe, answers in asked:
        pairs = [(row, answer) for row, answer in zip(probe.rows, answers, strict=True)]
        if refuses:
            pairs = [pair for pair in pairs if pair[1].predictions is not None]
        if not pairs:
            continue
        try:
            predictions, shares, _ = run([row for row, _ in pairs])
        except ValueError:
            predictions, shares = [], None
        wrong = len(pairs) - len(predictions)
        for i, prediction in enumerate(predictions):
            want = pairs[i][1]
            got = prediction if metadata["targets"] else [prediction]
            if want.predictions is None:
                wrong += 1
            elif is_number:
                bound = NUMBER * spread + 1e-5 * np.abs(want.predictions)
                wrong += not np.all(np.abs(np.subtract(got, want.predictions)) <= bound)
            else:
                wrong += [(type(one), one) for one in got] != [(type(one), one) for one in want.predictions]
            if shares is not None and want.shares is not None:
                wrong += bool(np.abs(np.subtract(shares[i], want.shares)).max() > PROBABILITY)
        if wrong:
            return f"{wrong} of {len(pairs)} {probe.what}"
    return None
