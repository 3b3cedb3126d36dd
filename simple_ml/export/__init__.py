"""Write a fitted model to model.onnx or model.pkl, with everything that serving must know: its card.

In train.py: `export(model, X)`. As a command, for a model that is there already: `python3 -m export FILE ROWS.csv`.
"""

import cloudpickle
import contextlib
import functools
import importlib.metadata
import numpy as np
import os
import pandas as pd
import re
import sys
import sysconfig
import tempfile
import time
import types
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from export import to_onnx
from export.columns import Refusal, as_table, describe, table_of_training, to_rows
from export.probe import Asked, Runtime, ask, difference, probes
from pathlib import Path
from runtime import pickled
from runtime.card import Card, Extra, Training
from runtime.onnx import OnnxModel
from runtime.table import Table, to_input
from sklearn.base import is_outlier_detector
from typing import Any

THREADS = ["n_jobs", "num_threads", "nthread", "thread_count"]  # parameters, in different libraries
LIGHT = ("flask", "flask-swagger-ui", "granian", "numpy", "onnxruntime", "pydantic")  # what serves model.onnx
SCORE = Extra("score", "number", "Lower is more abnormal")
ROOMS = ("export", "runtime", "web")  # the folders with our modules
HERE = Path(__file__).resolve().parent.parent
# where Python is, and where pip has installed packages
FOLDERS = [sysconfig.get_path("stdlib"), *(path for path in sys.path if path and any(Path(path).glob("*.dist-info")))]
INSTALLED = tuple(os.path.join(os.path.abspath(folder), "") for folder in FOLDERS)

for room in ROOMS:
    if (HERE / f"{room}.py").exists():
        sys.exit(f"{room}.py is hidden by the folder {room}/, so rename it.")


def export(
    model: Any,
    X: Any,
    path: str | Path = "model.onnx",
    *,
    targets: list[str] | None = None,
    title: str | None = None,
    description: str | None = None,
    features: dict[str, str] | None = None,
    score: float | None = None,
) -> None:
    """Write a fitted model to `path` in the format ONNX, or to model.pkl beside it, and print which and why.

    It becomes ONNX if ONNX Runtime gives the model's own answers on rows of X and on others made from them. Every other
    model is written with cloudpickle, and is served by the packages that are installed here.

    X is the data that the model was fitted on: a DataFrame, a Series or list of texts, a list of dictionaries, or an
    array of shape (rows, features). `targets` names the values of a model that predicts several. `title`,
    `description`, `features` (a description for each name) and `score` are shown by the service.

    Raises SystemExit, with one sentence, if the model cannot be served; then no file is written.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):  # these are only trial predictions
            file, content, report = choose(model, X, path, targets, title, description, features or {}, score)
            other = path.with_suffix(".pkl" if file.suffix == ".onnx" else ".onnx")
            for each in (file, other):
                check_own(each)
    except Refusal as refusal:
        sys.exit(f"This model cannot be served: {refusal}.")
    file.write_bytes(content)
    other.unlink(missing_ok=True)
    print(f"{file.name} ({len(content) / 1000:,.1f} kB): {report}.")


def choose(
    model: Any,
    X: Any,
    path: Path,
    targets: list[str] | None,
    title: str | None,
    description: str | None,
    about: dict[str, str],
    score: float | None,
) -> tuple[Path, bytes, str]:
    """Return the file to write, its content, and the sentence that says why it is this one. Raises Refusal."""
    check(model)
    model = copy_for_one_thread(model)
    frame, form = as_table(X, model)
    if not len(frame):
        raise Refusal("X has no rows")
    table = table_of_training(frame, form)
    columns = describe(model, frame, table)
    if unknown := about.keys() - {column.name for column in columns}:
        raise Refusal(f"`features` describes {min(unknown)}, which is no column of X")
    card = Card(
        columns=[replace(column, description=about.get(column.name)) for column in columns],
        form=form,
        **what_it_predicts(model, frame, table, targets),
        training=training(model, len(frame), score),
        title=title,
        description=description,
    )
    asked = [(probe, ask(model, probe, table, card)) for probe in probes(X, frame, table, columns)]
    try:
        content, report = as_onnx(model, card, frame, asked)
        return path.with_suffix(".onnx"), content, report
    except Refusal as refusal:
        content, report = as_pickle(model, card, table, asked)
        return path.with_suffix(".pkl"), content, f"{refusal}, so {report}"


def check(model: Any) -> None:
    if type(model).__module__.startswith("xgboost.") and type(model).__name__ == "Booster":
        raise Refusal("a Booster of xgboost lacks scikit-learn's API, so fit an XGBClassifier or XGBRegressor instead")
    if not hasattr(model, "predict"):
        raise Refusal(f"{type(model).__name__} has no predict()")


def copy_for_one_thread(model: Any) -> Any:
    """Return a copy of the model that computes in one thread: the service runs several workers."""
    model = cloudpickle.loads(
        dumps(getattr(model, "best_estimator_", model))
    )  # what a search has found, not the search
    for step in to_onnx.estimators(model):
        for name in THREADS:
            if hasattr(step, name):  # None means all processors to LightGBM and XGBoost
                setattr(step, name, 1)
    return model


def dumps(thing: Any) -> bytes:
    """Return a pickle that holds the code of the user's own classes and functions. Raises Refusal."""
    own = [module for module in list(sys.modules.values()) if is_own(module)]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(thing)
    except Exception as error:  # such as a lock, or an open file
        raise Refusal(f"{type(thing).__name__} cannot be pickled ({' '.join(str(error).split())[:200]})") from error
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def is_own(module: types.ModuleType) -> bool:
    """Say whether a module is the user's: it belongs neither to Python nor to an installed package, nor is it ours."""
    file = getattr(module, "__file__", None)
    if not file or module.__name__ == "__main__":  # cloudpickle always pickles what is in __main__
        return False
    is_ours = module.__name__.split(".")[0] in ROOMS and HERE in Path(file).resolve().parents
    return not is_ours and not os.path.abspath(file).startswith(INSTALLED)


def what_it_predicts(model: Any, frame: pd.DataFrame, table: Table, names: list[str] | None) -> dict[str, Any]:
    """Return the fields of the card that say what the model answers to a row. Raises Refusal."""
    found = np.asarray(model.predict(to_input(to_rows(frame.head(20)), table)))
    count = 1 if found.ndim == 1 else int(np.prod(found.shape[1:]))
    if len(found) != len(frame.head(20)):
        raise Refusal(f"{type(model).__name__} does not predict one value for each row")
    if names and len(names) != count:
        raise Refusal(f"`targets` has {len(names)} names, but the model predicts {count} values")
    classes = getattr(model, "classes_", None) if count == 1 else None
    classes = [] if classes is None else np.asarray(classes).tolist()
    kinds = {"f": "number", "i": "integer", "u": "integer", "b": "boolean"}
    predicts = kinds.get(found.dtype.kind) or (
        "text" if all(isinstance(v, str) for v in found.ravel().tolist()) else None
    )
    bad = next((value for value in classes if not isinstance(value, str | int | float | bool)), None)
    if bad is not None or (predicts is None and not classes):
        value = found.ravel().tolist()[0] if bad is None else bad
        raise Refusal(
            f"JSON cannot express its predictions ({type(value).__name__}), so fit the model with y.astype(str)"
        )
    is_detector = detects_outliers(model)
    if predicts == "integer" and not classes and not is_detector and not hasattr(model, "labels_"):
        predicts = "number"  # of a regressor whose y was whole
    return {
        "classes": classes,
        "predicts": predicts or "text",
        "targets": None if count == 1 else names or count,
        "probabilities": bool(classes) and has_probabilities(model, frame, table, len(classes)),
        "extras": [SCORE] if count == 1 and is_detector and hasattr(model, "score_samples") else [],
    }


def detects_outliers(model: Any) -> bool:
    """Return whether a model is an outlier detector."""
    with contextlib.suppress(Exception):  # a class that is not derived from scikit-learn's cannot be asked
        return is_outlier_detector(model)
    return False


def has_probabilities(model: Any, frame: pd.DataFrame, table: Table, count: int) -> bool:
    with contextlib.suppress(Exception):  # SVC has the method, whether or not it can be used
        return np.shape(model.predict_proba(to_input(to_rows(frame.head(2)), table)))[1:] == (count,)
    return False


def training(model: Any, rows: int, score: float | None) -> Training:
    """Return when and by what the model was trained. The day, not the second, so that the same training gives the same
    file; SOURCE_DATE_EPOCH (https://reproducible-builds.org) sets it."""
    now = os.environ.get("SOURCE_DATE_EPOCH")
    day = datetime.fromtimestamp(int(now) if now else time.time(), UTC).date().isoformat()
    packages = {type(step).__module__.split(".")[0] for step in to_onnx.estimators(model)} | {"sklearn"}
    distributions = importlib.metadata.packages_distributions()  # none for the user's own modules
    installed = sorted({name for package in packages for name in distributions.get(package, [])})
    versions = {name: importlib.metadata.version(name) for name in installed}
    return Training(day, rows, None if score is None else float(score), sys.version.split()[0], versions)


def as_onnx(model: Any, card: Card, frame: pd.DataFrame, asked: Asked) -> tuple[bytes, str]:
    """Return the file, and what it costs. Raises Refusal if ONNX does not give the model's own answers."""
    model = to_onnx.without_samplers(model)
    if reason := to_onnx.fault(model, card.columns):
        raise Refusal(reason)
    whole = [i for i, column in enumerate(card.columns) if column.type == "integer"]
    largest = max((abs(float(frame.iloc[:, i].max())) for i in whole), default=0)
    first = None
    for number in to_onnx.precisions(model, largest):
        content = to_onnx.convert(model, card, number)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model.onnx")
            file.write_bytes(content)
            try:
                run = OnnxModel(file)
                wrong = difference(run, card, asked)
            except Exception:  # ONNX Runtime raises a dozen unrelated types
                wrong = "all rows, because it cannot run the converted model"
            if not wrong:
                count = sum(len(probe.rows) for probe, _ in asked)
                report = f"ONNX gives the model's own answers to {count} rows, known and new"
                return content, f"{report}; {cost(run, asked, LIGHT)}"
        first = first or wrong
    raise Refusal(f"ONNX gives different answers for {first}")


def as_pickle(model: Any, card: Card, table: Table, asked: Asked) -> tuple[bytes, str]:
    """Return the file, and what it costs. Raises Refusal if the model answers differently once it is loaded again."""
    columns = {position: pd.Series([], dtype=dtype) for position, dtype in enumerate(table.dtypes)}
    pickle = dumps((model, pd.DataFrame(columns).set_axis(table.labels, axis="columns")))
    last = to_onnx.kind(model.steps[-1][1] if hasattr(model, "steps") else model)
    # where the prediction is the most probable class, it is not computed twice
    ways = [True, False] if card.probabilities and last in to_onnx.VOTERS else [False]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.pkl")
        for vote in ways:
            file.write_bytes(pickled.content(replace(card, most_probable=vote), pickle))
            run = pickled.PickledModel(file)
            wrong = difference(run, card, asked)
            if not wrong:
                return file.read_bytes(), f"the packages that trained it serve it; {cost(run, asked, None)}"
    raise Refusal(f"once it is saved and loaded, it gives different answers for {wrong}")


def cost(run: Runtime, asked: Asked, packages: tuple[str, ...] | None) -> str:
    """Return what this way to serve costs, measured here: the size of the packages, and the time for a row."""
    row = [
        next(row for row, answer in zip(asked[0][0].rows, asked[0][1], strict=True) if answer.predictions is not None)
    ]
    times = []
    for _ in range(7):
        start = time.perf_counter()
        run.predict(row)
        times.append(time.perf_counter() - start)
    return f"its packages take {megabytes(packages):,.0f} MB in the image, and a row {sorted(times)[3] * 1000:.2g} ms"


@functools.cache
def megabytes(names: tuple[str, ...] | None) -> float:
    """Return the size of installed packages and of all that they need; of all installed ones without names."""
    found = {}
    left = list(names or []) or [each.metadata["Name"] for each in importlib.metadata.distributions()]
    while left:
        name = left.pop()
        if name not in found:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # needed on other systems only
                found[name] = importlib.metadata.distribution(name)
                needs = [need for need in found[name].requires or [] if "extra ==" not in need]
                left += [re.match(r"[\w.-]+", need)[0] for need in needs]  # type: ignore[index]
    files = {file.locate() for each in found.values() for file in each.files or []}
    return sum(os.stat(file).st_size for file in files if os.path.exists(file)) / 1e6


def check_own(file: Path) -> None:
    """Raise Refusal if a file that would be replaced is the user's."""
    if file.suffix == ".pkl" and file.exists():
        try:
            pickled.read(file)
        except ValueError as error:
            if "was not written by" in str(error):
                raise Refusal(
                    f"{file.name} is there already and is not one of ours, so give it another name"
                ) from error
