"""Read what a notebook predicts for picture files: a function of a path, a dict, or a .csv file."""

import csv
import numpy as np
from collections.abc import Mapping, Sequence
from export.task import Refusal
from numpy.typing import NDArray
from pathlib import Path
from PIL import Image
from runtime.decode import ORIENTATION
from typing import Any, NamedTuple

TOLERANCE = 0.01  # how far a probability may be from the notebook's
SAME = 0.001  # answers that differ by no more count as one
FILES, LABELLED = 8, 20  # how many files it takes, and with labels alone
MOST = 60  # files that a function of the notebook is asked about


class Predictions(NamedTuple):
    """What the notebook says of files."""

    files: list[Path]
    values: NDArray  # (files, labels) probabilities or scores, (files, 1) numbers, or (files,) numbers of labels
    kind: str  # "probabilities", "scores", "number" or "labels"
    left_out: str = ""

    @property
    def unit(self) -> float:
        return max(1.0, float(np.abs(self.values).max())) if self.kind in ("number", "scores") else 1.0


def read_csv(path: Path) -> dict[str, Any]:
    """Return what a file says: in each line a name, then a probability for each label, or one label, or a number."""
    try:
        rows = [row for row in csv.reader(path.read_text("utf-8-sig").splitlines()) if any(row)]
    except (OSError, ValueError, csv.Error) as error:
        raise Refusal(f"{path} cannot be read ({error})") from error
    names: list[str] = []
    if rows and len(rows[0]) > 1 and not any(Path(path.parent, name).suffix for name in rows[0][:1]):
        names = [name.strip() for name in rows.pop(0)[1:]]  # a line of names
    found: dict[str, Any] = {}
    for name, *cells in rows:
        if name in found:
            raise Refusal(f"{path} has two lines for {name}")
        try:
            numbers: Any = [float(cell) for cell in cells]
        except ValueError:
            numbers = cells
        found[name] = dict(zip(names, numbers, strict=True)) if len(names) == len(cells) > 1 else numbers
        if len(cells) == 1:
            found[name] = cells[0].strip()
    return found


def pictures_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def read(predictions: Any, folder: Path | None, labels: Sequence[str]) -> Predictions:
    """Return what the notebook says, in one form: see export(). Raises Refusal."""
    base = folder or Path()
    if isinstance(predictions, str | Path):
        base = folder or Path(predictions).parent
        predictions = read_csv(Path(predictions))
    if callable(predictions):
        if folder is None:
            raise Refusal("a function as `predictions` needs `pictures`, the folder of the files to ask it about")
        files = readable(pictures_in(folder))
        predictions = {path: predictions(str(path)) for path in files[:: max(1, -(-len(files) // MOST))]}
    if not isinstance(predictions, Mapping):
        raise Refusal("`predictions` is a function of a path, a dict with the path of each file, or a .csv file")
    there = {path: base / path for path in predictions}
    if missing := [str(path) for path, file in there.items() if not file.is_file()]:
        raise Refusal(
            f"`predictions` names {missing[0]}, which is not in {base}: say by `pictures` where the files are"
        )
    answered = [(file, predictions[path]) for path, file in there.items() if predictions[path] is not None]
    upright = [(file, value) for file, value in answered if not turned(file)]
    left_out = f"; left out, since the service turns them upright: {len(answered) - len(upright)}"
    kind, values = one_form([value for _, value in upright], labels, [file.name for file, _ in upright])
    found = Predictions([file for file, _ in upright], values, kind, left_out if len(answered) > len(upright) else "")
    check(found, labels)
    return found


def readable(paths: list[Path]) -> list[Path]:
    found = []
    for path in paths:
        try:
            Image.open(path).close()
            found.append(path)
        except (OSError, ValueError, SyntaxError):
            continue
    return found


def turned(path: Path) -> bool:
    """Return whether EXIF says to turn a picture: the service does it, and most notebooks do not."""
    try:
        with Image.open(path) as image:
            return image.getexif().get(ORIENTATION, 1) != 1
    except (OSError, ValueError, SyntaxError) as error:
        raise Refusal(f"{path} is not a picture") from error


def one_form(answers: list[Any], labels: Sequence[str], names: list[str]) -> tuple[str, NDArray]:
    """Return what kind of values these are, and the values as one array."""
    texts = [str(value.item() if hasattr(value, "item") and np.size(value) == 1 else value) for value in answers]
    if labels and texts and set(texts) <= set(labels):
        return "labels", np.array([labels.index(text) for text in texts])
    rows = []
    for value, name in zip(answers, names, strict=True):
        if isinstance(value, Mapping):
            if set(map(str, value)) != set(labels):
                raise Refusal(f"the predictions for {name} are for {', '.join(map(str, value))}, not for the labels")
            by_label = {str(label): share for label, share in value.items()}
            value = [by_label[label] for label in labels]
        value = value.detach() if hasattr(value, "detach") else value  # PyTorch's
        try:
            row = np.asarray(value, np.float64).ravel()
        except (TypeError, ValueError) as error:
            raise Refusal(f"the prediction for {name} is {str(value)[:60]!r}, neither a label nor numbers") from error
        if len(row) == 1 and len(labels) == 2:
            row = np.array([1 - row[0], row[0]])  # of the second label
        if not np.isfinite(row).all():
            raise Refusal(f"the prediction for {name} is {str(value)[:60]}, which is not finite")
        if len(row) != max(1, len(labels)):
            many = "one number" if len(row) == 1 else f"{len(row)} numbers"
            todo = "give a probability for each, or the label, such as labels[number]" if labels else "give one number"
            raise Refusal(f"the prediction for {name} is {many} for {len(labels)} labels: {todo}")
        rows.append(row)
    values = np.array(rows)
    if not labels:
        return "number", values
    shares = len(values) > 0 and values.min() > -1e-6 and values.max() < 1 + 1e-6
    return ("probabilities" if shares else "scores"), values


def check(found: Predictions, labels: Sequence[str]) -> None:
    """Refuse predictions that prove nothing."""
    count, wanted = len(found.files), LABELLED if found.kind == "labels" else FILES
    if count < wanted:
        raise Refusal(
            f"`predictions` has {count} files that can be compared, and it takes {wanted}"
            + (", since labels alone say little: give probabilities, or more files" if wanted > FILES else "")
        )
    if found.kind == "number":
        if np.ptp(found.values) <= SAME * found.unit:
            raise Refusal("`predictions` are the same for all files, which proves nothing")
        return
    least = 2 if found.kind != "labels" else min(3, len(labels))
    likely = found.values if found.kind == "labels" else found.values.argmax(1)
    if len(np.unique(likely)) < least or (found.kind != "labels" and np.ptp(found.values, axis=0).max() <= TOLERANCE):
        raise Refusal(
            f"`predictions` prove nothing unless at least {least} labels are among them: add pictures of other labels"
        )
