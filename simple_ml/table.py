"""Rows as JSON has them -> the table that the model was fitted with, of the same dtypes. Only model.pkl needs it."""

import numpy as np
import pandas as pd
from datetime import UTC, datetime
from typing import Any, NamedTuple

MANY = 50  # columns, from which on a Series for each takes most of the time of a prediction


class Column(NamedTuple):
    label: Any  # as the table has it: a text, or a number
    name: str  # as JSON has it
    type: str  # number, integer, boolean, text, date or date-time
    dtype: Any  # of NumPy or pandas
    null: Any  # what stands for a missing value: NaN or None, as in training


class Columns(NamedTuple):
    columns: list[Column]
    form: str  # of the model's X: "frame", "series", "array", "texts" (a list), or "records" (a list of dictionaries)


def to_input(rows: list[dict], columns: Columns) -> Any:
    """Return rows in the form and with the dtypes that the model was fitted with, for its predict().

    Raises ValueError, TypeError or OverflowError if a dtype cannot hold a value, such as a date in the year 9999.
    """
    dtypes = {column.dtype for column in columns.columns}
    if dtypes == {np.dtype(float)} and columns.form in ("frame", "array"):  # the usual case, and much faster so
        array = np.array([[row[column.name] for column in columns.columns] for row in rows], float)
        labels = pd.Index([column.label for column in columns.columns])
        return array if columns.form == "array" else pd.DataFrame(array, columns=labels)
    if columns.form in ("series", "texts"):
        (column,) = columns.columns
        series = to_series([row[column.name] for row in rows], column)
        return series.rename(column.label) if columns.form == "series" else series.tolist()
    frame = to_frame(rows, columns.columns)
    frame.columns = pd.Index([column.label for column in columns.columns])
    if columns.form == "records":
        return frame.to_dict("records")
    return frame.to_numpy() if columns.form == "array" else frame


def to_frame(rows: list[dict], columns: list[Column]) -> pd.DataFrame:
    """Return a table whose columns are counted from 0. Of many columns, the numbers of one dtype are made together."""
    alike: dict[Any, list[int]] = {}
    for position, column in enumerate(columns):
        dtype = column.dtype
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
            series = {at: to_series([row[columns[at].name] for row in rows], columns[at]) for at in positions}
            parts.append(pd.DataFrame(series))
    return parts[0] if len(parts) == 1 else pd.concat(parts, axis="columns")[list(range(len(columns)))]


def to_array(rows: list[dict], names: list[str], dtype: np.dtype) -> np.ndarray | None:
    """Return numbers as an array, or None if one of them is too large for the dtype: each column is then made alone."""
    try:
        if dtype.kind == "f":
            return np.array([[row[name] for name in names] for row in rows], dtype)
        return np.array([[int(row[name]) for name in names] for row in rows], dtype)
    except OverflowError:
        return None


def to_series(values: list, column: Column) -> pd.Series:
    dtype, has_null = column.dtype, None in values
    if isinstance(dtype, pd.CategoricalDtype):
        return pd.Series(pd.Categorical(values, dtype=dtype))  # what is no category becomes NaN, as in pandas
    if column.type in ("date", "date-time"):
        return to_dates(values, dtype)
    if column.type == "integer":
        values = [value if value is None else int(value) for value in values]
    if isinstance(dtype, np.dtype) and dtype.kind in "iu":
        return pd.Series(values, dtype=float) if has_null else whole_numbers(values, dtype)  # as pandas reads a gap
    if dtype in (bool, object):
        values = [column.null if value is None else value for value in values] if has_null else values
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
    """A time without an offset is taken as it is. Another is converted to the zone of the column, or else to UTC."""
    zone = getattr(dtype, "tz", None)
    times = [None if text is None else datetime.fromisoformat(text) for text in texts]
    times = [time.astimezone(zone or UTC).replace(tzinfo=None) if time and time.tzinfo else time for time in times]
    if dtype.kind == "O":  # of datetime.date
        return pd.Series([time and time.date() for time in times], dtype=object)
    series = pd.Series(times, dtype=f"datetime64[{np.datetime_data(dtype)[0] if zone is None else dtype.unit}]")
    return series.dt.tz_localize(zone) if zone else series
