"""Write a fitted model to model.onnx or model.pkl, with everything that serving must know: its card.

In train.py: `export(model, X)`. As a command, for a model that is there already: `python3 -m export FILE ROWS.csv`.
"""

import cloudpickle
import contextlib
import functools
import importlib.metadata
import io
import numpy as np
import os
import pandas as pd
import pickle
import re
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from export import to_onnx
from export.columns import (
    Refusal,
    as_table,
    check_large,
    describe,
    estimators,
    shown,
    table_of_training,
    unread,
    without,
)
from export.notebook import advice, prepared
from export.outputs import check, what_it_predicts
from export.probe import (
    Asked,
    Expected,
    Probe,
    Runtime,
    alone,
    ask,
    check_rows_do_not_matter,
    difference,
    known,
    probes,
)
from export.progress import begin, progress
from export.proof import HERE, INSTALLED, Truth, prove, started
from pathlib import Path
from runtime import pickled
from runtime.card import Card, Column, Training
from runtime.onnx import OnnxModel
from runtime.prepared import Prepared
from runtime.table import Table, to_input
from sklearn import get_config
from typing import Any

THREADS = ["n_jobs", "num_threads", "nthread", "thread_count"]  # parameters, in different libraries
LIGHT = ("flask", "flask-swagger-ui", "granian", "numpy", "onnxruntime", "pydantic")  # what serves model.onnx
MEMORY = 800  # MB for two workers, of the 1 GB in compose.yaml: requests need some, too
SLOW = 0.005  # seconds for a row, which nobody notices
ROOMS = ("export", "runtime", "web")  # the folders with our modules
for room in ROOMS:
    if (HERE / f"{room}.py").exists():
        sys.exit(f"{room}.py is hidden by the folder {room}/, so rename it.")


def export(
    model: Any,
    rows: Any = None,
    path: str | Path = "model.onnx",
    *,
    X: Any = None,
    prepare: Callable[[Any], Any] | None = None,
    class_names: Any = None,
    inverse_func: Callable[[Any], Any] | None = None,
    predictions: Any = None,
    targets: list[str] | None = None,
    title: str | None = None,
    description: str | None = None,
    features: dict[str, str] | None = None,
    score: float | None = None,
) -> None:
    """Write a model to `path` in the format ONNX, or to model.pkl beside it, and print which and why.

    It becomes ONNX if ONNX Runtime gives the model's own answers on rows of the data and on others made from them.
    Every other model is written with cloudpickle, and is served by the packages that are installed here. Either file is
    compared with the model in a new process, in lists and row by row.

    `model` is a fitted model with predict(), or a function of `rows` that returns a value for each row, or a DataFrame
    with a column for each value of the answer.

    `rows` (also called `X`) is the data as it comes, of n rows: a DataFrame, a Series or list of texts, a list of
    dictionaries, or an array of shape (n, features).

    - `prepare`: a function that turns such rows into what the model takes, with as many rows.
    - `class_names`: the names of the classes 0 to k-1 that the model predicts, such as encoder.classes_, shape (k,).
    - `inverse_func`: a function that is applied to predicted numbers, such as numpy.expm1.
    - `predictions`: what the notebook itself says of `rows`: (n,) classes or numbers, or (n, classes) probabilities.
      If the service would answer differently, no file is written.
    - `targets` names the values of a model that predicts several. `title`, `description`, `features` (a description for
      each name) and `score` are shown by the service.

    Raises SystemExit, with one sentence, if the model cannot be served; then no file is written.
    """
    path = Path(path)
    rows = X if rows is None else rows
    about = {"title": title, "description": description}
    try:
        # these are only trial predictions
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"), progress():
            check(model)
            model = prepared(copy_for_one_thread(model), prepare, inverse_func, class_names)
            file, content, report = choose(model, rows, path, predictions, targets, features or {}, score, about)
            other = path.with_suffix(".pkl" if file.suffix == ".onnx" else ".onnx")
            for each in (file, other):
                check_own(each)
    except Refusal as refusal:
        sys.exit(f"This model cannot be served: {refusal}.")
    file.write_bytes(content)
    other.unlink(missing_ok=True)
    print(f"{file.name} ({len(content) / 1000:,.1f} kB): {report}")


def choose(
    model: Any,
    X: Any,
    path: Path,
    predictions: Any,
    targets: list[str] | None,
    features: dict[str, str],
    score: float | None,
    about: dict[str, Any],
) -> tuple[Path, bytes, str]:
    """Return the file to write, its content, and what to say of it. Raises Refusal."""
    begin("asking the model what its columns may hold")
    whole, form = as_table(X, model)
    if not len(whole):
        raise Refusal("X has no rows")
    if predictions is not None and len(predictions) != len(whole):
        raise Refusal(f"`predictions` has {len(predictions)} values, and there are {len(whole)} rows")
    unused = unread(model, whole) if form == "frame" else []
    frame, named = without(model, whole, unused)
    X = frame if form == "frame" else X
    unused = unused if named or frame is not whole else []
    table = table_of_training(frame, form)
    check_large(model, frame, table)
    columns = describe(model, frame, table)
    table = table._replace(columns=columns)
    used = [column for column in columns if column.name not in map(str, named)]
    if unknown := features.keys() - {column.name for column in columns}:
        raise Refusal(f"`features` describes {min(unknown)}, which is no column of X")
    card = Card(
        columns=[replace(column, description=features.get(column.name)) for column in used],
        form=form,
        **what_it_predicts(model, frame, table, targets),
        training=training(model, len(frame), score),
        encoded=isinstance(model, Prepared) and model.names is not None,
        unread=[
            next((each for each in columns if each.name == str(label)), Column(str(label), "text", True, None, None))
            for label in unused
        ],
        **about,
    )
    begin("asking the model for answers")
    at, one, turned = known(X, frame, table)
    answers = ask(model, one, table, card)
    made = probes(one.rows, frame, table, columns)
    answered = at[[answer.predictions is not None for answer in answers]]
    others = [turned, *alone(X, frame, table, made, answered), *made]
    asked = [(one, answers), *((probe, ask(model, probe, table, card)) for probe in others)]
    check_rows_do_not_matter(model, table, card, asked)
    truth = Truth(asked, whole, predictions)
    try:
        content, why, card = as_onnx(model, card, frame, table, truth)
        file = path.with_suffix(".onnx")
    except Refusal as refusal:
        content, report, card = as_pickle(model, card, table, truth)
        file, why = path.with_suffix(".pkl"), f"{refusal}, so {report}"
    todo = "" if isinstance(model, Prepared) else advice(frame)
    return file, content, f"{why}.\n{summary(card, answers)}{todo}"


def summary(card: Card, answers: list[Expected]) -> str:
    """Return what was compared, and a row as the service takes it."""
    assert card.proof
    proof, none = card.proof, sum(answer.predictions is None for answer in answers)
    lines = [
        f"In a new process it gave the model's own answers to {proof.rows} rows in lists, and to {proof.alone} alone."
    ]
    if proof.predictions:
        lines.append(f"All {proof.predictions} answers are those of `predictions`.")
    else:
        lines.append("They were not compared with your notebook's own predictions (predictions=).")
    if none:
        lines.append(f"{none} of {len(answers)} rows of X have no answer.")
    if card.unread:
        names = [column.name for column in card.unread]
        more = " and others" if len(names) > 5 else ""
        lines.append(f"No answer depends on {', '.join(names[:5])}{more}: rows may leave them out.")
    return f"{' '.join(lines)}\nA row for the service: {shown(card.example)}"


def copy_for_one_thread(model: Any) -> Any:
    """Return a copy of the model that computes in one thread: the service runs several workers."""
    if not hasattr(model, "predict"):
        return model  # a function
    # what a search has found, not the search
    model = copied(getattr(model, "best_estimator_", model))
    for step in estimators(model):
        for name in THREADS:
            if hasattr(step, name):  # None means all processors to LightGBM and XGBoost
                setattr(step, name, 1)
    return model


def copied(thing: Any) -> Any:
    """Return a copy by pickling, but of the same CatBoost models: those with texts survive it once. Raises Refusal."""
    kept: dict[int, Any] = {}

    class Pickler(cloudpickle.Pickler):
        def persistent_id(self, part: Any) -> int | None:
            if type(part).__module__.startswith("catboost.") and hasattr(part, "predict"):
                kept[id(part)] = part
                return id(part)
            return None

    unpickler = pickle.Unpickler(io.BytesIO(dumps(thing, Pickler)))
    unpickler.persistent_load = kept.__getitem__  # type: ignore[method-assign]
    return unpickler.load()


def dumps(thing: Any, pickler: type[cloudpickle.Pickler] = cloudpickle.Pickler) -> bytes:
    """Return a pickle that holds the code of the user's own classes and functions. Raises Refusal."""
    file = io.BytesIO()
    own = [module for module in list(sys.modules.values()) if is_own(module)]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        pickler(file).dump(thing)
        return file.getvalue()
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


def training(model: Any, rows: int, score: float | None) -> Training:
    """Return when and by what the model was trained. The day, not the second, so that the same training gives the same
    file; SOURCE_DATE_EPOCH (https://reproducible-builds.org) sets it."""
    now = os.environ.get("SOURCE_DATE_EPOCH")
    day = datetime.fromtimestamp(int(now) if now else time.time(), UTC).date().isoformat()
    packages = {type(step).__module__.split(".")[0] for step in estimators(model)} | {"sklearn"}
    distributions = importlib.metadata.packages_distributions()  # none for the user's own modules
    installed = sorted({name for package in packages for name in distributions.get(package, [])})
    versions = {name: importlib.metadata.version(name) for name in installed}
    return Training(day, rows, None if score is None else float(score), sys.version.split()[0], versions)


def as_onnx(whole_model: Any, card: Card, frame: pd.DataFrame, table: Table, truth: Truth) -> tuple[bytes, str, Card]:
    """Return the file, what it costs, and its card. Raises Refusal if ONNX does not give the model's own answers, or
    takes more than twice the model's own time."""
    model, inverse = to_onnx.unwrapped(whole_model)
    model = to_onnx.without_samplers(model)
    if reason := to_onnx.fault(model, card.columns):
        raise Refusal(reason)
    whole = [i for i in range(frame.shape[1]) if pd.api.types.is_integer_dtype(frame.dtypes.iloc[i])]
    largest = max((abs(float(frame.iloc[:, i].max())) for i in whole), default=0)
    first = None
    for number in to_onnx.precisions(model, largest):
        begin("converting the model to ONNX")
        content = to_onnx.convert(model, card, number, inverse)
        begin("comparing model.onnx with the model")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model.onnx")
            file.write_bytes(content)
            slow = None
            try:
                run = OnnxModel(file)
                slow = slower(run, whole_model, card, table, truth)
                wrong = slow or difference(run, truth.comparison(card), truth.lists)
            except Exception:  # ONNX Runtime raises a dozen unrelated types
                wrong = "all rows, because it cannot run the converted model"
            if slow:
                raise Refusal(slow)
            if not wrong:
                begin("asking model.onnx in a new process")
                with started(file.name, content) as process:
                    proved = prove(process, run.card, truth, ["numpy", "onnxruntime"])
                report = f"ONNX gives the model's own answers; {cost(run, truth.asked, LIGHT)}{memory(process.peak)}"
                return to_onnx.with_card(content, proved), report, proved
        first = first or wrong
    raise Refusal(f"ONNX gives different answers for {first}")


def as_pickle(model: Any, card: Card, table: Table, truth: Truth) -> tuple[bytes, str, Card]:
    """Return the file, what it costs, and its card. Raises Refusal if the model answers differently once it is loaded
    again."""
    begin("asking model.pkl in a new process")
    columns = {position: pd.Series([], dtype=dtype) for position, dtype in enumerate(table.dtypes)}
    empty = pd.DataFrame(columns).set_axis(table.labels, axis="columns")
    pickled_model = dumps((model, empty, *filter(None, [settings()])))
    inner = model.model if isinstance(model, Prepared) else model
    last = to_onnx.kind(inner.steps[-1][1] if hasattr(inner, "steps") else inner)
    # where the prediction is the most probable class, it is not computed twice
    ways = [True, False] if card.probabilities and last in to_onnx.VOTERS else [False]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.pkl")
        for vote in ways:
            described = replace(card, most_probable=vote)
            file.write_bytes(pickled.content(described, pickled_model))
            with started(file.name, file.read_bytes()) as process:  # first: some libraries end the process
                run = pickled.PickledModel(file)
                wrong = difference(run, truth.comparison(card), truth.lists)
                if not wrong:
                    proved = prove(process, described, truth, list(card.training.packages))
                    costs = f"{cost(run, truth.asked, None)}{memory(process.peak)}"
                    report = f"the packages that trained it serve it; {costs}"
                    return pickled.content(proved, pickled_model), report, proved
    raise Refusal(f"once it is saved and loaded, it gives different answers for {wrong}")


def settings() -> dict[str, Any]:
    """Return what sklearn.set_config() has changed: it holds in one thread, and the service has others."""
    with ThreadPoolExecutor(1) as another:
        usual = another.submit(get_config).result()
    return {name: value for name, value in get_config().items() if value != usual.get(name)}


def cost(run: Runtime, asked: Asked, packages: tuple[str, ...] | None) -> str:
    """Return what this way to serve costs, measured here: the size of the packages, and the time for a row."""
    row = answered(asked)
    time_of_row = in_words(seconds(lambda: run.predict([row])))
    return f"its packages take {megabytes(packages):,.0f} MB in the image, and a row {time_of_row}"


def memory(peak: int) -> str:
    """Return that workers need more memory to start than compose.yaml gives them, or nothing. `peak` is that of one."""
    if 2 * peak < MEMORY:
        return ""
    needed = -(-2 * peak * 6 // 5000)  # a fifth more, in GB
    return f". Each of two workers takes {peak:,} MB to start, so raise `memory` in compose.yaml to {needed}G"


def slower(run: Runtime, model: Any, card: Card, table: Table, truth: Truth) -> str | None:
    """Return that ONNX takes more than twice the model's own time for a row, or None if it does not."""
    row = answered(truth.asked)
    if (onnx := seconds(lambda: run.predict([row]))) < SLOW:
        return None
    own = seconds(lambda: ask(model, Probe("a row", [row], to_input([row], table)), table, card))
    return f"ONNX takes {in_words(onnx)} for a row, and the model itself {in_words(own)}" if onnx > 2 * own else None


def answered(asked: Asked) -> dict:
    """Return a row of X that the model answers."""
    (probe, answers), *_ = asked
    return next(row for row, answer in zip(probe.rows, answers, strict=True) if answer.predictions is not None)


def seconds(call: Callable[[], Any]) -> float:
    """Return how long a call takes: the median of seven."""
    times = []
    for _ in range(7):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times)[3]


def in_words(duration: float) -> str:
    return f"{duration:.3g} s" if duration >= 1 else f"{float(f'{duration * 1000:.2g}'):g} ms"


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
