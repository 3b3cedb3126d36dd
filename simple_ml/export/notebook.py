"""What a notebook says of its rows, and what it does around its model."""

import numpy as np
import pandas as pd
import re
from export.columns import Refusal, shown, to_rows
from export.probe import Comparison, Expected, Runtime, run_each
from runtime.card import Card
from runtime.prepared import Prepared, values_of
from typing import Any

CHUNK = 10_000  # rows that are asked at once
PREPARE = (
    "If your data comes in another form, give its rows and your preparation of them, a function of a DataFrame: "
    "export(model, rows, prepare=prepare). See 'Your notebook prepares the data first' in README.md."
)


def prepared(model: Any, prepare: Any, inverse_func: Any, class_names: Any) -> Any:
    """Return the model with what is done around it, or itself if that is nothing. Raises Refusal."""
    names = None
    if class_names is not None:
        names = values_of(class_names).tolist()
        classes = getattr(model, "classes_", range(len(names)))
        if list(classes) != list(range(len(names))):
            raise Refusal(
                f"`class_names` has {len(names)} names for the classes 0 to {len(names) - 1}, and those of the model "
                f"are {', '.join(map(str, list(classes)[:10]))}"
            )
    is_function = not hasattr(model, "predict")
    if is_function or prepare is not None or inverse_func is not None or names is not None:
        return Prepared(model, prepare, inverse_func, names)
    return model


def check_predictions(run: Runtime, frame: pd.DataFrame, given: Any, card: Card, compare: Comparison) -> None:
    """Compare the answers to all rows with what the notebook said of them. Raises Refusal if one differs.

    `given` holds a prediction for each row, or the probabilities of all classes (rows, classes), or, of two classes,
    that of the second.
    """
    values = values_of(given)
    values = values.reshape(len(values), -1)
    if card.encoded and set(values.ravel().tolist()) <= set(range(len(card.classes))) - set(card.classes):
        values = np.array(card.classes, object)[values.astype(int)]  # the notebook says the numbers of the classes
    names, wrong = [column.name for column in card.columns], []
    floats = np.issubdtype(values.dtype, np.floating)
    is_shares = card.probabilities and floats and (values.shape[1] > 1 or not set(values.ravel()) <= set(card.classes))
    for start in range(0, len(frame), CHUNK):
        rows = [{name: row[name] for name in names} for row in to_rows(frame.iloc[start : start + CHUNK])]
        for at, got in enumerate(run_each(run, rows), start):
            want = values[at].tolist()
            if is_shares and got.numbers:
                shares = got.numbers[-len(want) :]
                same = len(shares) == len(want) and not compare.numbers_differ(shares, want)
            else:
                none = all(value is None or value != value for value in want)
                expected = Expected(None if none else want, None)
                same = agrees(got, expected, compare)
            if not same:
                answer = (got.numbers if is_shares else got.predictions) or ["no answer"]
                said, wanted = (", ".join(map(str, values)) for values in (answer, want))
                wrong.append(f"row {at}, {shown(rows[at - start])}: {said} instead of {wanted}")
    if wrong:
        truth = next((label for label in frame if frame[label].tolist() == values[:, 0].tolist()), None)
        why = (
            f"`predictions` are the values of the column {truth}, so they look like the true values: give what the "
            "notebook predicts"
            if truth is not None
            else "give what the notebook itself predicts for these rows, not the true values, and all that it does "
            "around the model (prepare=, inverse_func=, class_names=)"
        )
        raise Refusal(
            f"{len(wrong)} of {len(frame)} answers are not those of `predictions`: {'; '.join(wrong[:3])}. So {why}"
        )


def agrees(got: Expected, want: Expected, compare: Comparison) -> bool:
    if got.predictions is None or want.predictions is None:
        return got.predictions is want.predictions
    if any(compare.is_number):
        return len(got.predictions) == len(want.predictions) and not compare.differs(
            Expected(got.predictions, None), want
        )
    return list(map(str, got.predictions)) == list(map(str, want.predictions)) or got.predictions == want.predictions


def advice(frame: pd.DataFrame) -> str:
    """Return a line with what to do if columns look as though a notebook had made them of others, or nothing."""
    found, scaled = [], []
    for position, label in enumerate(map(str, frame)):
        series = frame.iloc[:, position].dropna()
        if series.dtype.kind not in "iufb" or not len(series):
            continue
        values = np.unique(series.astype(float))
        is_code = 1 < len(values) <= min(30, len(series) / 2) and values.tolist() == list(
            range(len(values))
        )  # as of a LabelEncoder
        is_dummy = set(values) <= {0, 1} and re.fullmatch(r"(?!is_|has_|had_|was_|with_).+_.+", label, re.IGNORECASE)
        if is_dummy or (is_code and series.dtype.kind != "b") or re.fullmatch(r"(?i)(pca?|component)_?\d+", label):
            found.append(label)
        elif len(values) > 5 and abs(series.mean()) < 0.05 and abs(series.std() - 1) < 0.05:
            scaled.append(label)
    found += scaled if len(scaled) > 1 else []
    if not found:
        return ""
    some = ", ".join(found[:4]) + (" and others" if len(found) > 4 else "")
    return f"\nThe columns {some} look as if a notebook had encoded or scaled them. {PREPARE}"
