"""Predict for all pictures in a folder, without the service: `python3 batch.py pictures > answers.csv`.

The answers are those of the service, one in each line, after the path of the file. A file that gets no answer is named
on stderr, and the cells of its answer are empty. Folders inside the folder are read, too; hidden files are not.
"""

import argparse
import csv
import io
import json
import os
import signal
import stat
import sys
from pathlib import Path
from preprocess import Way, way
from runtime import Network, model_file
from runtime.decode import NoAnswer, decoded
from tqdm import tqdm
from typing import NoReturn
from web.body import MAX_BYTES


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Predict for all pictures in a folder. Answers go to stdout, as CSV, and bad files to stderr.",
        epilog="Exit code: 0; 1 if a file got no answer, and its cells are empty; 2 if the folder cannot be read.",
    )
    parser.add_argument("folder", type=Path, help="pictures, also in folders inside it")
    parser.add_argument("--strict", action="store_true", help="stop at the first bad file")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    # with a buffer, which the image's PYTHONUNBUFFERED takes away; a name that is not in UTF-8 gets backslashes
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace", newline="\n", closefd=False)
    try:
        network = Network(model_file())
        network.check()
        sys.exit(predict(arguments.folder, network, way(network.card), arguments.strict))
    except (OSError, ValueError) as error:
        stop(in_words(error))


def stop(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)


def in_words(error: Exception) -> str:
    """Return what is wrong as one line."""
    text = str(error)
    if isinstance(error, FileNotFoundError):
        where = 'A container has only the folders that are mounted: -v "$PWD:/data:ro"'
        text = f"There is no {error.filename} here. {where}"
    elif isinstance(error, PermissionError):
        todo = 'Start the container with --user "$(id -u)", or let all read it: chmod -R a+rX'
        text = f"User {os.getuid()} may not read {error.filename}. {todo}"
    elif isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror}"
    return printable(text)


def printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def predict(folder: Path, network: Network, preparation: Way, strict: bool) -> bool:
    """Write the answer to each file in a folder. Return whether there was a bad file."""
    paths = files(folder)
    labels = [] if network.card.task == "number" else network.labels
    header = ["prediction", *(f"probability {label}" for label in labels), *preparation.fields]
    write([["file", *header]])
    bad = 0
    hidden = sys.stdout.isatty() or None  # None: unless stderr is a terminal
    for path in tqdm(paths, unit="file", disable=hidden):
        try:
            answer = answer_to(folder / path, network, preparation)
        except (OSError, ValueError) as error:
            bad += 1
            tqdm.write(f"{printable(path)}: {in_words(error)}", sys.stderr)
            if strict:
                sys.exit(1)
            answer = [""] * len(header)
        write([[path, *answer]])
    if bad:
        print(f"{bad} of {len(paths)} files got no answer.", file=sys.stderr)
    return bad > 0


def files(folder: Path) -> list[str]:
    """Return the paths of all files in a folder and the folders inside it, sorted. Raises OSError, and ValueError."""

    def fail(error: OSError) -> NoReturn:
        raise error

    found = []
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked = [name for name in folders if (Path(place) / name).is_symlink()]  # they are not read, but named
        inside = [name for name in names if not name.startswith(".")]
        found += [os.path.relpath(os.path.join(place, name), folder) for name in [*linked, *inside]]
    if not found:
        raise ValueError(f"There is no file in {folder}.")
    return sorted(found)


def answer_to(path: Path, network: Network, preparation: Way) -> list:
    """Return the answer to a picture, in cells. Raises NoAnswer and OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise NoAnswer("This is not a file. A link to a folder is not followed.")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES)
    if len(data) == MAX_BYTES:
        raise NoAnswer(f"The file must be smaller than {MAX_BYTES} bytes.")
    with decoded(io.BytesIO(data), preparation.smallest, network.shape[1]) as image:
        picture, *others = preparation.prepare(image, network.card)
    answer = network.predict(picture).fields() | preparation.more(network.predict, others)
    prediction, shares = answer.pop("prediction"), answer.pop("probabilities", {})
    several = json.dumps(prediction, ensure_ascii=False) if isinstance(prediction, list) else prediction
    return [several, *shares.values(), *answer.values()]


def write(lines: list[list]) -> None:
    """Write lines of CSV to stdout, now."""
    try:
        csv.writer(sys.stdout, lineterminator="\n").writerows(lines)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries to write the rest at its end
        if isinstance(error, BrokenPipeError):  # as in `python3 batch.py … | head`
            sys.exit(128 + signal.SIGPIPE)
        stop(f"The answers cannot be written: {error.strerror}.")


if __name__ == "__main__":
    main()
