"""Write a fitted model to model.onnx or model.pkl, with everything that serving must know: its features and classes.

As a command, for a model that is there already: `python3 export.py model.joblib data.csv`.
"""

import argparse
import cloudpickle
import contextlib
import functools
import hashlib
import importlib.metadata
import json
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
from datetime import UTC, datetime
from pathlib import Path
from sklearn.base import is_outlier_detector
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # otherwise ONNX Runtime reports to Microsoft
import onnx_model
import run_onnx
import run_pickle
from columns import Refusal, as_table, columns_of, describe, to_rows
from probe import Answer, Probe, ask, difference, probes
from table import Columns, to_input

THREADS = ["n_jobs", "num_threads", "nthread", "thread_count"]  # parameters, in different libraries
LIGHT = ("flask", "flask-swagger-ui", "granian", "numpy", "onnxruntime", "pydantic")  # what serves model.onnx
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
OURS = {"columns", "export", "onnx_model", "onnx_steps", "probe", "run_onnx", "run_pickle", "table"}
# where Python is, and where pip has installed packages
FOLDERS = [sysconfig.get_path("stdlib"), *(path for path in sys.path if path and any(Path(path).glob("*.dist-info")))]
INSTALLED = tuple(os.path.join(os.path.abspath(folder), "") for folder in FOLDERS)


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
    table, form = as_table(X, model)
    if not len(table):
        raise Refusal("X has no rows")
    columns = columns_of(table, form)
    features = describe(model, table, columns)
    if unknown := about.keys() - {feature["name"] for feature in features}:
        raise Refusal(f"`features` describes {min(unknown)}, which is no column of X")
    for feature in features:
        feature["description"] = about.get(feature["name"])
    metadata = what_it_predicts(model, X, table, columns, targets) | {
        "features": features,
        "title": title,
        "description": description,
        "trained": origin(model, len(table), score),
    }
    made = probes(X, table, columns, features)
    asked = [(probe, ask(model, probe, columns, metadata)) for probe in made]
    try:
        content, report = as_onnx(model, features, metadata, table, asked)
        return path.with_suffix(".onnx"), content, report
    except Refusal as refusal:
        content, report = as_pickle(model, columns, metadata, asked)
        return path.with_suffix(".pkl"), content, f"{refusal}, so {report}"


def check(model: Any) -> None:
    if type(model).__module__.startswith("xgboost.") and type(model).__name__ == "Booster":
        raise Refusal(
            "a Booster of xgboost has not scikit-learn's API, so fit an XGBClassifier or XGBRegressor instead"
        )
    if not hasattr(model, "predict"):
        raise Refusal(f"{type(model).__name__} has no predict()")


def copy_for_one_thread(model: Any) -> Any:
    """Return a copy of the model that computes in one thread: the service runs several workers."""
    model = cloudpickle.loads(
        dumps(getattr(model, "best_estimator_", model))
    )  # what a search has found, not the search
    for step in onnx_model.estimators(model):
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
    folder = os.path.join(os.path.dirname(os.path.abspath(file)), "")
    return not folder.startswith(INSTALLED) and not (folder == HERE and module.__name__ in OURS)


def what_it_predicts(model: Any, X: Any, table: pd.DataFrame, columns: Any, names: list[str] | None) -> dict[str, Any]:
    """Return the classes, or the type of the numbers, and how many values the model predicts for a row."""
    found = np.asarray(model.predict(to_input(to_rows(table.head(20)), columns)))
    count = 1 if found.ndim == 1 else int(np.prod(found.shape[1:]))
    if len(found) != len(table.head(20)):
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
        raise Refusal(f"it predicts {type(value).__name__}, which JSON does not have, so fit it with y.astype(str)")
    is_detector = detects_outliers(model)
    if predicts == "integer" and not classes and not is_detector and not hasattr(model, "labels_"):
        predicts = "number"  # of a regressor whose y was whole
    return {
        "classes": classes,
        "predicts": predicts,
        "targets": None if count == 1 else names or count,
        "probabilities": bool(classes) and has_probabilities(model, table, columns, len(classes)),
        "score": count == 1 and is_detector and hasattr(model, "score_samples"),
    }


def detects_outliers(model: Any) -> bool:
    """Return whether a model is an outlier detector."""
    with contextlib.suppress(Exception):  # a class that is not derived from scikit-learn's cannot be asked
        return is_outlier_detector(model)
    return False


def has_probabilities(model: Any, table: pd.DataFrame, columns: Any, count: int) -> bool:
    with contextlib.suppress(Exception):  # SVC has the method, whether or not it can be used
        return np.shape(model.predict_proba(to_input(to_rows(table.head(2)), columns)))[1:] == (count,)
    return False


def origin(model: Any, rows: int, score: float | None) -> dict[str, Any]:
    """Return when and by what the model was trained. The day, not the second, so that the same training gives the same
    file; SOURCE_DATE_EPOCH (https://reproducible-builds.org) sets it."""
    now = os.environ.get("SOURCE_DATE_EPOCH")
    day = datetime.fromtimestamp(int(now) if now else time.time(), UTC).date().isoformat()
    packages = {type(step).__module__.split(".")[0] for step in onnx_model.estimators(model)} | {"sklearn"}
    distributions = importlib.metadata.packages_distributions()  # none for the user's own modules
    installed = sorted({name for package in packages for name in distributions.get(package, [])})
    versions = {name: importlib.metadata.version(name) for name in installed}
    return {"date": day, "rows": rows, "score": score, "python": sys.version.split()[0]} | {"packages": versions}


def as_onnx(
    model: Any, features: list[dict], metadata: dict, table: pd.DataFrame, asked: list[tuple[Probe, list[Answer]]]
) -> tuple[bytes, str]:
    """Return the file, and what it costs. Raises Refusal if ONNX does not give the model's own answers."""
    model = onnx_model.without_samplers(model)
    if reason := onnx_model.fault(model, features):
        raise Refusal(reason)
    whole = [i for i, feature in enumerate(features) if feature["type"] == "integer"]
    largest = max((abs(float(table.iloc[:, i].max())) for i in whole), default=0)
    first = None
    for number in onnx_model.precisions(model, features, largest):
        content = onnx_model.convert(model, features, metadata, number)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model.onnx")
            file.write_bytes(content)
            try:
                loaded, run = run_onnx.load(file)
                wrong = difference(run, loaded, asked)
            except Exception:  # ONNX Runtime raises a dozen unrelated types
                wrong = "all rows, because it cannot run the converted model"
            if not wrong:
                count = sum(len(probe.rows) for probe, _ in asked)
                return (
                    content,
                    f"ONNX gives the model's own answers to {count} rows, known and new; {cost(run, asked, LIGHT)}",
                )
        first = first or wrong
    raise Refusal(f"ONNX answers otherwise to {first}")


def as_pickle(
    model: Any, columns: Columns, metadata: dict, asked: list[tuple[Probe, list[Answer]]]
) -> tuple[bytes, str]:
    """Return the file, and what it costs. Raises Refusal if the model answers otherwise once it is loaded again."""
    pickle = dumps((model, columns))
    last = onnx_model.kind(model.steps[-1][1] if hasattr(model, "steps") else model)
    # where the prediction is the most probable class, it is not computed twice
    ways = [True, False] if metadata["probabilities"] and last in onnx_model.VOTERS else [False]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.pkl")
        for vote in ways:
            first = json.dumps(metadata | {"vote": vote, "sha256": hashlib.sha256(pickle).hexdigest()})
            file.write_bytes(first.encode() + b"\n" + pickle)
            loaded, run = run_pickle.load(file)
            wrong = difference(run, loaded, asked)
            if not wrong:
                return file.read_bytes(), f"the packages that trained it serve it; {cost(run, asked, None)}"
    raise Refusal(f"once it is saved and loaded, it answers otherwise to {wrong}")


def cost(run: Any, asked: list, packages: tuple[str, ...] | None) -> str:
    """Return what this way to serve costs, measured here: the size of the packages, and the time for a row."""
    row = [
        next(row for row, answer in zip(asked[0][0].rows, asked[0][1], strict=True) if answer.predictions is not None)
    ]
    times = []
    for _ in range(7):
        start = time.perf_counter()
        run(row)
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
            run_pickle.read(file)
        except ValueError as error:
            if "damaged" not in str(error):
                raise Refusal(
                    f"{file.name} is there already and is not one of ours, so give it another name"
                ) from error


def load(path: Path) -> Any:
    """Load a model that joblib, pickle or skops has saved. Raises Refusal."""
    try:
        with warnings.catch_warnings(record=True, action="always") as caught:
            if path.suffix == ".skops":
                import skops.io

                model = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
            else:
                import joblib  # it reads plain pickles, too

                model = joblib.load(path)
    except Exception as error:  # pickles fail in all kinds of ways
        text = " ".join(str(error).split())[:200].rstrip(".")
        raise Refusal(f"{path.name} cannot be read here ({type(error).__name__}: {text}); {saved_by(path)}") from error
    for each in caught:
        if hasattr(each.message, "original_sklearn_version"):
            old, new = each.message.original_sklearn_version, importlib.metadata.version("scikit-learn")
            print(
                f"Warning: scikit-learn {old} has saved {path.name}, and this is {new}. Compare some predictions, or "
                f"put scikit-learn=={old} into requirements-train.in.",
                file=sys.stderr,
            )
            break
    return model


def saved_by(path: Path) -> str:
    """Return which version of scikit-learn has written a file, as far as it shows, and which one this is."""
    here = f"this is scikit-learn {importlib.metadata.version('scikit-learn')} on Python {sys.version.split()[0]}"
    found = re.search(rb"_sklearn_version.{1,12}?([0-9]+\.[0-9]+[.0-9a-z]*)", path.read_bytes(), re.DOTALL)
    if found:
        version = found[1].decode()
        return (
            f"scikit-learn {version} has saved it, and {here}: install the same version of both, {ubuntu_for(version)}"
        )
    return f"{here}, so install the versions that saved it, and every package that it needs, {ubuntu_for('')}"


def ubuntu_for(version: str) -> str:
    """Return the releases of Ubuntu whose Python can install a version of scikit-learn; all for an unknown one."""
    number = [int(part) for part in re.findall(r"\d+", version)[:3]]
    # the first version that has wheels for the Python of a release
    releases = {"ubuntu:24.04 (Python 3.12)": [1, 3, 1], "ubuntu:26.04 (Python 3.14)": [1, 7, 2]}
    fits = [release for release, least in releases.items() if not number or number >= least]
    return f"FROM {' or '.join(fits)}" if fits else "or train it again, since ubuntu:24.04 is too new for it"


def texts_of(model: Any) -> set[str]:
    """Return the columns that the model encodes as categories of text, such as the zip code 01234."""
    found = set()
    for step in onnx_model.estimators(model):
        known = zip(getattr(step, "feature_names_in_", []), getattr(step, "categories_", []), strict=False)
        found |= {str(name) for name, values in known if any(isinstance(value, str) for value in values)}
    return found


def rows_of(data: Path, model: Any) -> Any:
    """Return the rows of a CSV file in a form that the model accepts. Raises Refusal."""
    try:
        table = pd.read_csv(data, dtype=dict.fromkeys(texts_of(model), "str"))
    except ValueError as error:  # of the parser, or of the encoding
        text = " ".join(str(error).split())[:200].rstrip(".")
        raise Refusal(f"{data.name} cannot be read as a CSV file in UTF-8 ({text})") from error
    if table.empty:
        raise Refusal(f"{data.name} has no rows")
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        table.columns = [next((name for name in names if str(name) == column), column) for column in table]
        if missing := [str(name) for name in names if name not in table]:
            raise Refusal(f"{data.name} has no column {missing[0]}, which the model was fitted with")
        table = table[list(names)]
    dates = table.copy()
    for name in table.select_dtypes(["str", "object"]):
        with contextlib.suppress(ValueError, TypeError):
            dates[name] = pd.to_datetime(table[name], format="ISO8601")
    texts = [table[name] for name in table.select_dtypes(["str", "object"])] if table.shape[1] == 1 else []
    for X in (table, dates, *texts, table.to_numpy()):
        with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
            model.predict(X[:3])
            return X
    raise Refusal(
        f"its predict() fails on the rows of {data.name}, which must have the columns that it was fitted with"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Write model.onnx or model.pkl for a model that is trained already.")
    parser.add_argument("model", type=Path, help="a file that joblib, pickle or skops has written")
    parser.add_argument("data", type=Path, help="a CSV file with rows that the model was trained on, or like them")
    arguments = parser.parse_args()
    for path in (arguments.model, arguments.data):
        if not path.is_file():
            sys.exit(f"There is no file {path}.")
    try:
        model = load(arguments.model)
        X = rows_of(arguments.data, model)
    except Refusal as refusal:
        sys.exit(f"This model cannot be served: {refusal}.")
    export(model, X)


if __name__ == "__main__":
    main()
