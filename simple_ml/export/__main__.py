"""Write model.onnx or model.pkl for a model that is trained already: `python3 -m export model.joblib rows.csv`."""

import argparse
import contextlib
import importlib.metadata
import pandas as pd
import re
import sys
import warnings
from pathlib import Path
from typing import Any

if not __package__:
    sys.exit("Go to the folder that holds export/, and run `python3 -m export` there.")

from export import export
from export.columns import Refusal, estimators
from export.outputs import check


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
        if own := re.search(r"attribute '(\w+)' on <module '(?:export.)?__main__'", text):
            todo = "so call export(model, rows) in the notebook itself, or move it to a module beside train.py"
            raise Refusal(f"{own[1]} in {path.name} is defined in the notebook that saved it, {todo}") from error
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
    for step in estimators(model):
        known = zip(getattr(step, "feature_names_in_", []), getattr(step, "categories_", []), strict=False)
        found |= {str(name) for name, values in known if any(isinstance(value, str) for value in values)}
    return found


def rows_of(data: Path, model: Any, predictions: str | None) -> tuple[Any, Any]:
    """Return the rows of a CSV file in a form that the model accepts, and the column of predictions or None.

    Raises Refusal.
    """
    try:
        table = pd.read_csv(data, dtype=dict.fromkeys(texts_of(model), "str"))
    except ValueError as error:  # of the parser, or of the encoding
        text = " ".join(str(error).split())[:200].rstrip(".")
        raise Refusal(f"{data.name} cannot be read as a CSV file in UTF-8 ({text})") from error
    if table.empty:
        raise Refusal(f"{data.name} has no rows")
    given = None
    if predictions is not None:
        if predictions not in table:
            raise Refusal(f"{data.name} has no column {predictions}, for --predictions")
        given = table.pop(predictions)
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        table.columns = [next((name for name in names if str(name) == column), column) for column in table]
        if missing := [str(name) for name in names if name not in table]:
            raise Refusal(f"{data.name} has no column {missing[0]}, which the model was fitted with")
        table = table[list(names)]
    elif "Unnamed: 0" in table and table["Unnamed: 0"].tolist() == list(range(len(table))):
        del table["Unnamed: 0"]  # the index that to_csv() writes
    dates = table.copy()
    for name in table.select_dtypes(["str", "object"]):
        with contextlib.suppress(ValueError, TypeError):
            dates[name] = pd.to_datetime(table[name], format="ISO8601")
    texts = [table[name] for name in table.select_dtypes(["str", "object"])] if table.shape[1] == 1 else []
    for X in (table, dates, *texts, table.to_numpy()):
        with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
            model.predict(X[:3])
            return X, given
    raise Refusal(
        f"its predict() fails on the rows of {data.name}, which must have the columns that it was fitted with"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python3 -m export", description="Write model.onnx or model.pkl for a model that is trained already."
    )
    parser.add_argument("model", type=Path, help="a file that joblib, pickle or skops has written")
    parser.add_argument("data", type=Path, help="a CSV file with rows that the model was trained on, or like them")
    parser.add_argument(
        "--predictions",
        metavar="COLUMN",
        help="the column that holds what the notebook itself predicts: compare with it",
    )
    arguments = parser.parse_args()
    for path in (arguments.model, arguments.data):
        if not path.is_file():
            sys.exit(f"There is no file {path}.")
    try:
        model = load(arguments.model)
        check(model)
        rows, predictions = rows_of(arguments.data, model, arguments.predictions)
    except Refusal as refusal:
        sys.exit(f"This model cannot be served: {refusal}.")
    export(model, rows, predictions=predictions)


if __name__ == "__main__":
    main()
