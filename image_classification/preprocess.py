"""Turn an upright picture into what the network was trained on, in the way that the model file says.

`photo` resizes it. Another way may find several pictures in one, and add fields to the answer: digit/ does.
"""

import numpy as np
from collections.abc import Callable, Iterable, Iterator, Sequence
from numpy.typing import NDArray
from PIL import Image
from runtime import Answer
from runtime.card import Card
from runtime.decode import NothingToSee, strips
from typing import Any, NamedTuple

Floats = NDArray[np.float32]
Taps = tuple[NDArray[np.intp], Floats]

GREY = ("1", "L", "LA", "I;16", "I")
PAGE = {"invitation": "Send pictures: photos, scans, screenshots.", "file": "photo.jpg", "draw": False, "words": {}}


def photo(image: Image.Image, size: tuple[int, int], channels: int, resize: str) -> Floats:
    """Return a picture as Keras loads it, (height, width, channels) float32, 0..255. Transparency is dropped.

    `size` is (height, width). `resize` is "bilinear", "bicubic" or "nearest", as in image_dataset_from_directory and
    tf.image.resize, which look at the nearest pixels only; or "pil-bilinear", "pil-nearest" and so on, as in load_img
    and torchvision, where each pixel of a large picture counts.
    """
    height, width = size
    mode = "L" if channels == 1 else "RGB"
    if not resize.startswith("pil-"):
        # TensorFlow rounds down when it makes a colour PNG grey, Pillow does not
        from_colour = channels == 1 and image.format == "PNG" and image.mode not in GREY
        matrix = (0.299, 0.587, 0.114, -0.5) if from_colour else None
        rows, columns = taps(image.height, height, resize), taps(image.width, width, resize)
        return interpolate(levels(image, mode, matrix), rows, columns).reshape(height, width, channels)
    method = Image.Resampling[resize.removeprefix("pil-").upper()]
    if image.mode != mode:
        narrow = Image.new(mode, (min(width, image.width), image.height))
        for top, strip in levels(image, mode):
            if strip.height == image.height:
                narrow = strip
            else:  # first the width, strip by strip
                narrow.paste(strip.resize((narrow.width, strip.height), method), (0, top))
        image = narrow
    return np.asarray(image.resize((width, height), method), np.float32).reshape(height, width, channels)


def levels(image: Image.Image, mode: str, matrix: tuple | None = None) -> Iterator[tuple[int, Image.Image]]:
    """Yield `strips` of a picture in mode L or RGB. `matrix` says how much red, green and blue make grey."""
    extrema: Any = image.getextrema() if image.mode in ("I", "F") else None  # the lowest and the highest value
    for top, strip in strips(image):
        if strip.mode in ("I", "F"):  # 32 bits, of unknown range
            values = (np.asarray(strip, np.float64) - extrema[0]) * (255 / max(extrema[1] - extrema[0], 1e-6))
            strip = Image.fromarray(np.nan_to_num(values).clip(0, 255).astype(np.uint8))
        elif strip.mode.startswith("I;16"):
            strip = Image.fromarray((np.asarray(strip) >> 8).astype(np.uint8))
        yield top, strip.convert("RGB").convert("L", matrix) if matrix else strip.convert(mode)


def taps(old: int, new: int, method: str) -> Taps:
    """Return which of `old` pixels in a row make each of `new` pixels, and how much they count: two arrays (n, new).

    As tf.image.resize: pixels have their centres at 0.5, 1.5 and so on; "bicubic" is Keys' kernel with a = -0.5
    (IEEE Trans. ASSP 29(6), 1981).
    """
    centre = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * np.float32(old / new)
    if method == "nearest":
        return np.minimum(centre.astype(int), old - 1)[np.newaxis], np.ones((1, new), np.float32)
    reach = 1 if method == "bilinear" else 2
    first = np.floor(centre - 0.5).astype(int)
    index = first + np.arange(1 - reach, 1 + reach)[:, np.newaxis]
    distance = np.abs(index + 0.5 - centre)
    weight = 1 - distance
    if method == "bicubic":
        near, far = (1.5 * distance - 2.5) * distance**2 + 1, ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
        weight = np.where(distance < 1, near, far) * ((index >= 0) & (index < old))
        weight /= weight.sum(0)
    return index.clip(0, old - 1), weight.astype(np.float32)


def interpolate(parts: Iterable[tuple[int, Image.Image]], rows: Taps, columns: Taps) -> Floats:
    """Return the weighted sum of pixels, (height, width, ...) float32, from strips and the `taps` of both axes."""
    (y, row_weights), (x, column_weights) = rows, columns
    used_y, used_x = np.unique(y), np.unique(x)
    found = []
    for top, strip in parts:
        here = used_y[(used_y >= top) & (used_y < top + strip.height)] - top
        found.append(np.asarray(strip)[here][:, used_x])
    pixels = np.concatenate(found).reshape(len(used_y), len(used_x), -1)
    y, x = used_y.searchsorted(y), used_x.searchsorted(x)
    tall = sum(pixels[at] * weight[:, None, None] for at, weight in zip(y, row_weights, strict=True))
    return sum(tall[:, at] * weight[:, None] for at, weight in zip(x, column_weights, strict=True))


class Way(NamedTuple):
    """A way to prepare pictures."""

    # What the network sees, and after it the pictures for `more`: each (height, width, channels) float32, 0..255, red
    # before blue; 1 channel is grey. The picture is decoded and upright, in any mode and size. Raises NothingToSee.
    prepare: Callable[[Image.Image, Card], list[Floats]]
    smallest: int | None  # how small the decoder may make a large JPEG, in pixels; None: all of its pixels count
    fields: dict[str, Any]  # further fields of an answer, as JSON Schema with examples
    more: Callable[[Callable[[Floats], Answer], Sequence[Floats]], dict[str, Any]]  # returns these fields
    page: dict[str, Any]  # what the page says


def photos() -> Way:
    def prepare(image: Image.Image, card: Card) -> list[Floats]:
        return [photo(image, card.size, card.channels, card.resize)]

    return Way(prepare, smallest=None, fields={}, more=lambda predict, pictures: {}, page=PAGE)


def digits() -> Way:
    import digit  # not above: only a network that reads digits needs it

    return Way(digit.prepare, smallest=digit.SMALLEST, fields=digit.FIELDS, more=digit.others, page=digit.PAGE)


WAYS = {"photo": photos, "digit": digits}  # by the name in the model file


def way(card: Card) -> Way:
    """Return the way to prepare pictures for a network. Raises ValueError if it is not there, or does not work."""
    try:
        found = WAYS[card.preprocess]()
    except (KeyError, ModuleNotFoundError) as error:
        raise ValueError(f"the preparation {card.preprocess!r} is not there: {error}") from error
    check(found, card)
    return found


def check(way: Way, card: Card) -> None:
    """Prepare a small picture, a black bar on white. Raises ValueError if that fails, or if the result does not fit."""
    image = Image.new("RGB", (96, 64), "white")
    image.paste("black", (42, 8, 54, 56))
    wanted = (*card.size, card.channels)
    try:
        for pixels in way.prepare(image, card):
            if pixels.shape != wanted:
                raise ValueError(f"it returns an array {pixels.shape}, and the network takes {wanted}")
            if pixels.max() <= 1:
                raise ValueError("its pixels do not go from 0 to 255; the network's own range comes after it")
    except NothingToSee:  # then it is the reader's own, and does not like this picture
        return
    except Exception as error:
        what = f"{card.preprocess}() in preprocess.py"
        raise ValueError(f"{what} does not work: {type(error).__name__}: {error}") from error
