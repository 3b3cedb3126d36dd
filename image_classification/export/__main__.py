"""The command `python3 -m export FILE`: write a network that is in a file as the service's model file."""

import argparse
import sys
from pathlib import Path

if not __package__:
    sys.exit("Go to the folder that holds export/, and run `python3 -m export` there.")

from export import export
from export.task import RANGES
from preprocess import WAYS
from runtime.card import FITS, RESIZES, STANDARDIZES, TASKS


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python3 -m export",
        description="Write a network that is in a file as the file that the service answers with.",
    )
    parser.add_argument("network", metavar="FILE", help=".keras, .h5, .tflite, .onnx, .pt, .pth, .pkl, or a SavedModel")
    parser.add_argument("--labels", type=Path, metavar="labels.txt", help="one label a line, in the outputs' order")
    parser.add_argument("--range", metavar="RANGE", help=f"how pixels were scaled in training: {RANGES}")
    parser.add_argument("--bgr", action=argparse.BooleanOptionalAction, help="blue came before red in training")
    parser.add_argument("--size", metavar="HEIGHTxWIDTH", help="of the pictures in training, if it takes any size")
    parser.add_argument("--resize", choices=RESIZES, help="how pictures were resized in training (usual: bilinear)")
    parser.add_argument("--fit", choices=FITS, help="what became of a picture of another shape (usual: stretch)")
    parser.add_argument("--crop", type=float, metavar="SHARE", help="of the resized picture that was kept, as 0.875")
    parser.add_argument("--standardize", choices=STANDARDIZES, help="each picture then got mean 0 and deviation 1")
    parser.add_argument("--task", choices=TASKS, help="what the outputs are (see runtime/)")
    parser.add_argument("--unknown", metavar="LABEL", help="the label of pictures that fit no other: they get a 422")
    parser.add_argument("--output", metavar="NAME", help="the output to serve, if there are several")
    parser.add_argument("--preprocess", default="photo", choices=WAYS, help="how a picture becomes the input")
    parser.add_argument("--quantize", action="store_true", help="store the weights in 8 bits: smaller, often faster")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="compare the answers on these pictures, too")
    parser.add_argument(
        "--predictions",
        type=Path,
        metavar="FILE.csv",
        help="what the notebook says of files in FOLDER: a name, then probabilities, a label, or a number",
    )
    parser.add_argument("--title", default="Image classification", help="what the page is called")
    parser.add_argument("--trust", action="store_true", help="open a pickle of PyTorch, which runs the code in it")
    parser.add_argument("--path", metavar="FILE", help="what to write (default: model.tflite or model.onnx)")
    arguments = [f"--range={after}" if before == "--range" else after for before, after in pairs(sys.argv[1:])]
    options = vars(parser.parse_args([argument for argument in arguments if argument != "--range"]))
    try:
        labels = read_labels(options.pop("labels"))
        if options["size"]:
            numbers = [int(number) for number in options["size"].split("x")]
            options["size"] = numbers if len(numbers) == 2 else numbers[0]
    except (OSError, ValueError) as error:
        sys.exit(f"--labels or --size: {error}")
    export(labels=labels, **options)


def pairs(arguments: list[str]) -> list[tuple[str, str]]:
    """Return each argument with the one before it, since argparse takes -1..1 for an option."""
    return list(zip(["", *arguments], arguments, strict=False))


def read_labels(path: Path | None) -> list[str]:
    """Return the lines of a file, without the numbers that Teachable Machine puts before them: "0 Cat", "1 Dog"."""
    lines = [line.strip() for line in path.read_text("utf-8-sig").strip().split("\n")] if path else []
    names = [line.removeprefix(f"{number} ").strip() for number, line in enumerate(lines)]
    if lines and all(name != line for name, line in zip(names, lines, strict=True)):
        print(f"{path} numbers its labels. The numbers are left out: {names[0]}, …")
        return names
    return lines


if __name__ == "__main__":
    main()
