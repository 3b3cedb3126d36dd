"""The demo's preparation: a picture of a digit becomes one of MNIST's form. For other pictures, delete this folder.

preprocess.py imports it only if the model file asks for it.
"""

import contextlib
from collections.abc import Callable, Sequence
from digit.parts import OTHERS, digits
from numpy.typing import NDArray
from PIL import Image
from runtime.decode import NothingToSee
from typing import Any

SMALLEST = 256  # pixels: a large JPEG of this size shows all that counts
FIELDS = {
    "others": {
        "type": "integer",
        "minimum": 0,
        "maximum": OTHERS,
        "description": f"How many further digits there are, counted up to {OTHERS}",
        "examples": [0],
    }
}
PAGE = {
    "invitation": "Draw a digit, or send pictures of digits: photos, scans, screenshots.",
    "file": "digit.png",
    "draw": True,
    "words": {"others": "and {} more in the picture"},  # what the page says of a field of the answer
}


def prepare(image: Image.Image, card: object) -> list[NDArray]:
    """Return the digit, and then parts that may be further digits, each (28, 28, 1) float32, 0 to 255."""
    return [part * 255 for part in digits(image)]


def others(predict: Callable[[NDArray], Any], pictures: Sequence[NDArray]) -> dict[str, int]:
    """Return how many of the further parts are digits."""
    count = 0
    for picture in pictures:
        with contextlib.suppress(NothingToSee):
            predict(picture)
            count += 1
    return {"others": count}
