"""Prove that a model file answers as the model itself, in a new process; and what `predictions` of a notebook say."""

import contextlib
import importlib.metadata
import os
import pandas as pd
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from export.columns import Refusal
from export.new_process import NewProcess
from export.notebook import check_predictions
from export.probe import Asked, Comparison, difference
from pathlib import Path
from runtime.card import Card, Proof
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent.parent
# where Python is, and where pip has installed packages
PACKAGES = [path for path in sys.path if path and any(Path(path).glob("*.dist-info"))]
INSTALLED = tuple(os.path.join(os.path.abspath(folder), "") for folder in [sysconfig.get_path("stdlib"), *PACKAGES])
NEW_PROCESS = "in a new process, as the service starts it,"
OUTSIDE = (
    "what train.py sets or holds outside of the model (an environment variable, an option of pandas, a file beside it) "
    "is not there when the service runs, so keep it inside of the model or of the function"
)
LOADED = (
    "CatBoost does so for a model with texts that was saved and loaded before, so give export() the model as fit() "
    "left it"
)


class Truth(NamedTuple):
    """What the model itself answers."""

    asked: Asked  # the first are rows of X, as a list
    whole: pd.DataFrame  # all rows as they came
    predictions: Any  # what the notebook says of them, or None

    @property
    def lists(self) -> Asked:
        return [(probe, expected) for probe, expected in self.asked if not probe.alone]

    def comparison(self, card: Card) -> Comparison:
        return Comparison(card, self.asked[0][1])


@contextlib.contextmanager
def started(name: str, content: bytes) -> Iterator[NewProcess]:
    """Run a model file in a new process until the block ends. Raises Refusal if it cannot be loaded there."""
    with contextlib.ExitStack() as stack:
        try:
            run = stack.enter_context(NewProcess(content, name, PACKAGES))
        except ValueError as error:
            todo = LOADED if str(error) == "the process ended by SIGSEGV" else OUTSIDE
            raise Refusal(f"{NEW_PROCESS} it cannot be loaded ({error}); {todo}") from error
        yield run


def prove(run: NewProcess, card: Card, truth: Truth, packages: list[str]) -> Card:
    """Return the card with the proof. Raises Refusal if the file answers differently in a new process."""
    compare, names = truth.comparison(card), {column.name for column in card.columns}
    asked = [
        (probe._replace(rows=[{key: row[key] for key in row if key in names} for row in probe.rows]), expected)
        for probe, expected in truth.asked
    ]
    wrong = difference(run, compare, asked)
    if file := next((path for path in sorted(run.opened) if is_beside(path)), None):
        raise Refusal(
            f"it opens {os.path.basename(file)} when it predicts, and the image does not hold this file, so "
            "read it once in train.py, outside of the function, and the model file keeps what it holds"
        )
    if wrong:
        reason = f" ({run.failures[-1]})" if run.failures else ""
        raise Refusal(f"{NEW_PROCESS} it gives different answers for {wrong}{reason}; {OUTSIDE}")
    if truth.predictions is not None:
        check_predictions(run, truth.whole, truth.predictions, card, compare)
    proof = Proof(
        rows=sum(len(probe.rows) for probe, _ in asked if not probe.alone),
        alone=sum(len(probe.rows) for probe, _ in asked if probe.alone),
        kinds=list(dict.fromkeys(probe.what for probe, _ in asked)),
        difference=float(f"{compare.largest:.3g}"),
        predictions=0 if truth.predictions is None else len(truth.whole),
        packages={package: importlib.metadata.version(package) for package in packages},
    )
    return replace(card, proof=proof)


def is_beside(path: str) -> bool:
    """Say whether a file is one of those beside train.py, which the image for serving does not hold."""
    if path.isdigit() or path.startswith("<"):  # the number of an open file
        return False
    whole = os.path.abspath(path)
    beside = not os.path.isabs(path) or whole.startswith((os.path.join(HERE, ""), os.path.join(os.getcwd(), "")))
    return beside and not whole.startswith(INSTALLED)
