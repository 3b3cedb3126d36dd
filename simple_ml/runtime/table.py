"""Rows as JSON has them -> the table that the model was fitted with, of the same dtypes. Only model.pkl needs it."""

import numpy as np
import pandas as pd
from datetime import UTC, datetime
from runtime.card import Column, Form
from typing import Any, NamedTuple

MANY = 50  # columns, from which on a Series for each takes most of the time of a prediction


class Table(NamedTuple):
    """How rows become the X that the model was fitted with."""

    columns: list[Column]  # as the card describes them
    labels: pd.Index  # of the same columns in training: texts, or numbers
    dtypes: list[Any]  # of NumPy or pandas
    form: Form  # see Card.form


class UnclearTime(ValueError):
    """A time without an offset that the clocks of its zone show twice or never, as a sentence."""


def table_of(columns: list[Column], empty: pd.DataFrame, form: Form) -> Table:
    """Return how rows become X. `empty` is the table that the model was fitted with, of which no row is needed."""
    return Table(columns, empty.columns, empty.dtypes.tolist(), form)


def to_input(rows: list[dict], table: Table) -> Any:
    """Return rows in the form and with the dtypes that the model was fitted with, for its predict().

    Raises ValueError, TypeError or OverflowError if a dtype cannot hold a value, such as a date in the year 9999.
    """
    columns, labels, dtypes, form = table
    if form in ("frame", "array") and set(dtypes) == {np.dtype(float)}:  # the usual case, and much faster so
        array = np.array([[row[column.name] for column in columns] for row in rows], float)
        return array if form == "array" else pd.DataFrame(array, columns=labels)
    if form in ("series", "texts"):
        series = to_series([row[columns[0].name] for row in rows], columns[0], dtypes[0])
        return series.rename(labels[0]) if form == "series" else series.tolist()
    frame = to_frame(rows, columns, dtypes)
    frame.columns = labels
    if form == "records":
        return frame.to_dict("records")
    return frame.to_numpy() if form == "array" else frame


def to_frame(rows: list[dict], columns: list[Column], dtypes: list[Any]) -> pd.DataFrame:
    """Return a table whose columns are counted from 0. Of many columns, the numbers of one dtype are made together."""
    alike: dict[Any, list[int]] = {}
    for position, (column, dtype) in enumerate(zip(columns, dtypes, strict=True)):
        if len(columns) <= MANY or not isinstance(dtype, np.dtype) or dtype.kind not in "iuf":
            dtype = None
        elif dtype.kind != "f" and any(row[column.name] is None for row in rows):
            dtype = np.dtype(float)  # as pandas reads a gap
        alike.setdefault(dtype, []).append(position)
    parts = []
    for dtype, positions in alike.items():
        array = None if dtype is None else to_array(rows, [columns[position].name for position in positions], dtype)
        if array is not None:
            parts.append(pd.DataFrame(array, columns=positions))
        else:
            made = [to_series([row[columns[at].name] for row in rows], columns[at], dtypes[at]) for at in positions]
            parts.append(pd.DataFrame(dict(zip(positions, made, strict=True))))
    return parts[0] if len(parts) == 1 else pd.concat(parts, axis="columns")[list(range(len(columns)))]


def to_array(rows: list[dict], names: list[str], dtype: np.dtype) -> np.ndarray | None:
    """Return numbers as an array, or None if the dtype cannot hold one of them: each column is then made alone."""
    try:
        values = [[row[name] for name in names] for row in rows]
        if dtype.kind == "f":
            return np.array(values, dtype)
        if any(value % 1 for some in values for value in some):
            return None
        return np.array([[int(value) for value in some] for some in values], dtype)
    except OverflowError:
        return None


def to_series(values: list, column: Column, dtype: Any) -> pd.Series:
    has_null = None in values
    if isinstance(dtype, pd.CategoricalDtype):
        return pd.Series(pd.Categorical(values, dtype=dtype))  # what is no category becomes NaN, as in pandas
    if column.type in ("date", "date-time"):
        return to_dates(values, dtype)
    if column.type == "integer":
        values = [value if value is None else int(value) for value in values]
    if column.type == "number" and pd.api.types.is_integer_dtype(dtype):
        if any(value is not None and value % 1 for value in values):  # as pandas makes a column of 1 and 2.5
            return pd.Series(values, dtype=float if isinstance(dtype, np.dtype) else "Float64")
        values = [value if value is None else int(value) for value in values]
    if isinstance(dtype, np.dtype) and dtype.kind in "iu":
        return pd.Series(values, dtype=float) if has_null else whole_numbers(values, dtype)  # as pandas reads a gap
    if dtype in (bool, object):
        gap = None if column.gap == "none" else np.nan
        values = [gap if value is None else value for value in values] if has_null else values
        return pd.Series(values, dtype=object if has_null else dtype)
    return pd.Series(values, dtype=dtype)


def whole_numbers(values: list[int], dtype: np.dtype) -> pd.Series:
    for wide in (dtype, np.dtype(np.int64)):
        try:
            return pd.Series(np.array(values, wide))
        except OverflowError:
            continue
    return pd.Series(values, dtype=float)


def to_dates(texts: list[str | None], dtype: Any) -> pd.Series:
    """A time without an offset is taken as it is. Another is converted to the zone of the column, or else to UTC.

    Raises UnclearTime for a time without an offset that the clocks of the zone show twice or never.
    """
    zone = getattr(dtype, "tz", None)
    times = [None if text is None else datetime.fromisoformat(text) for text in texts]
    bare = [time.astimezone(UTC).replace(tzinfo=None) if time and time.tzinfo else time for time in times]
    if dtype.kind == "O":  # of datetime.date
        return pd.Series([time and time.date() for time in bare], dtype=object)
    series = pd.Series(bare, dtype=f"datetime64[{np.datetime_data(dtype)[0] if zone is None else dtype.unit}]")
    if not zone:
        return series
    known = np.array([time is not None and time.tzinfo is not None for time in times])
    local = series.mask(known).dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    if (unclear := local.isna() & series.notna() & ~known).any():
        raise UnclearTime(
            f"In the time zone {zone}, {series[unclear].iloc[0].isoformat()} is there twice or not at all, because "
            "the clocks are changed. Send it with its offset, such as +01:00."
        )
    return local.where(~known, series.dt.tz_localize(UTC).dt.tz_convert(zone)) if known.any() else local
