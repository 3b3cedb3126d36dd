"""Turn an upright picture into what the network was trained on, in the way that the model file says.

`photo` resizes it. Another way may find several pictures in one, and add fields to the answer: digit/ does.
"""

import numpy as np
from collections.abc import Callable, Iterable, Iterator, Sequence
from numpy.typing import NDArray
from PIL import Image
from runtime import Answer
from runtime.card import Card
from runtime.decode import STRIP, NothingToSee, strips
from typing import Any, NamedTuple

Floats = NDArray[np.float32]
Taps = tuple[NDArray[np.intp], Floats]

GREY = ("1", "L", "LA", "I;16", "I")
PAGE = {"invitation": "Send pictures: photos, scans, screenshots.", "file": "photo.jpg", "draw": False, "words": {}}


def photo(
    image: Image.Image,
    size: tuple[int, int],
    channels: int,
    resize: str,
    fit: str = "stretch",
    crop: float | None = None,
) -> Floats:
    """Return a picture as the notebook loads it, (height, width, channels) float32, 0..255. Transparency is dropped.

    `size` is (height, width). `resize` is "bilinear", "bicubic" or "nearest", as in image_dataset_from_directory and
    tf.image.resize, which look at the nearest pixels only; "cv2-linear" or "cv2-area" as cv2.resize; "pil-bilinear",
    "pil-nearest" and so on, as in load_img and torchvision, where each pixel of a large picture counts; or "none".
    `fit` and `crop` say which part of the picture it is: see `cuts`.
    """
    rows, columns = cuts((image.height, image.width), size, resize, fit, crop)
    mode = "L" if channels == 1 else "RGB"
    if resize.startswith("pil-"):
        pixels = pillow(image, mode, Image.Resampling[resize.removeprefix("pil-").upper()], rows, columns)
    else:
        # TensorFlow rounds down when it makes a colour PNG grey, Pillow and OpenCV do not
        of_tensorflow = channels == 1 and image.format == "PNG" and image.mode not in GREY and resize[:3] != "cv2"
        matrix = (0.299, 0.587, 0.114, -0.5) if of_tensorflow else None
        if resize == "cv2-area" and (rows.resized > rows.used or columns.resized > columns.used):
            resize = "cv2-area-linear"  # it takes two pixels in each direction as soon as one direction is enlarged
        weigh = whole_levels if resize in ("cv2-linear", "cv2-area-linear") else weighted
        pixels = weigh(*gathered(levels(image, mode, matrix), taps(rows, resize), taps(columns, resize)))
        pixels = np.rint(pixels) if resize == "cv2-area" else pixels
    if pixels.shape[:2] == size:
        return pixels.reshape(*size, channels)
    whole = np.zeros((*size, channels), np.float32)  # black around it
    whole[rows.before :, columns.before :][: rows.kept, : columns.kept] = pixels.reshape(*pixels.shape[:2], channels)
    return whole


class Cut(NamedTuple):
    """What becomes of the rows, or of the columns, of a picture."""

    start: float  # the first pixel of the part that is resized
    used: float  # how many pixels this part has
    resized: int  # how many pixels it becomes
    first: int  # the first of them that is kept
    kept: int  # how many are kept
    before: int = 0  # black pixels before them


def cuts(old: tuple[int, int], new: tuple[int, int], resize: str, fit: str, crop: float | None) -> tuple[Cut, Cut]:
    """Return how a picture of (height, width) pixels becomes one of `new`: its rows and its columns.

    - "stretch": the whole picture, whatever its shape.
    - "crop": its middle, which is cut out first, in whole pixels, as Keras's crop_to_aspect_ratio and fastai do it.
    - "crop-exact": the same in fractions of a pixel, as Pillow's ImageOps.fit does it.
    - "pad": the whole picture in its shape, with black around it, as tf.image.resize_with_pad and ImageOps.pad do it.

    With a share as `crop`, the picture is resized so that `new` is this share of it, and then the middle is kept:
    "stretch" as torchvision's Resize((256, 256)) and CenterCrop(224), "crop" as its Resize(256) and CenterCrop(224)
    with 0.875. Without a `resize`, the middle is kept as it is, with black around it, as in resize_with_crop_or_pad;
    with "crop" as CenterCrop alone rounds it.
    """
    if resize == "none":
        each_side = zip(old, new, strict=True)
        return tuple(middle(a, a, b) if fit == "crop" else whole(a, b) for a, b in each_side)  # type: ignore[return-value]
    (height, width), (rows, columns) = old, new
    if crop:
        if fit == "stretch":
            sizes = [int(wanted / crop + 1e-3) for wanted in new]
        else:
            short = int(min(new) / crop + 1e-3)
            sizes = [short * side // min(old) for side in old]
        return tuple(middle(*each) for each in zip(old, sizes, new, strict=True))  # type: ignore[return-value]
    if fit == "pad":
        ratio = max(np.float32(width) / np.float32(columns), np.float32(height) / np.float32(rows))
        exact = [np.float32(side) / ratio for side in old]
        if resize.startswith("pil-"):
            sizes = [max(1, round(float(side))) for side in exact]
            before = [round((wanted - side) * 0.5) for wanted, side in zip(new, sizes, strict=True)]
        else:
            sizes = [max(1, int(side)) for side in exact]
            before = [int(max(0.0, wanted - float(side)) / 2) for wanted, side in zip(new, exact, strict=True)]
        each = zip(old, sizes, before, strict=True)
        return tuple(Cut(0, side, small, 0, small, black) for side, small, black in each)  # type: ignore[return-value]
    used: list[float] = [height, width]
    if fit == "crop":
        used = [min(height, max(1, int(width * rows / columns))), min(width, max(1, int(height * columns / rows)))]
    elif fit == "crop-exact":
        used = [min(height, width * rows / columns), min(width, height * columns / rows)]
    free = [(side - part) / 2 for side, part in zip(old, used, strict=True)]
    starts = [int(each) for each in free] if fit == "crop" else free
    each_way = zip(starts, used, new, strict=True)
    return tuple(Cut(start, part, wanted, 0, wanted) for start, part, wanted in each_way)  # type: ignore[return-value]


def middle(old: int, resized: int, new: int) -> Cut:
    """Return the middle of resized pixels, as torchvision's CenterCrop cuts it."""
    if resized < new:
        return Cut(0, old, resized, 0, resized, (new - resized) // 2)
    return Cut(0, old, resized, round((resized - new) / 2), new)


def whole(old: int, new: int) -> Cut:
    """Return the middle of pixels that are not resized, as tf.image.resize_with_crop_or_pad cuts it."""
    first, count = max((old - new) // 2, 0), min(old, new)
    return Cut(first, count, count, 0, count, max((new - old) // 2, 0))


def pillow(image: Image.Image, mode: str, method: Image.Resampling, rows: Cut, columns: Cut) -> Floats:
    """Return the pixels as Pillow resizes them."""
    if (rows.kept, columns.kept) != (rows.resized, columns.resized) and rows.resized * columns.resized <= STRIP:
        every = [cut._replace(first=0, kept=cut.resized) for cut in (rows, columns)]
        return pillow(image, mode, method, *every)[rows.first :, columns.first :][: rows.kept, : columns.kept]
    (top, bottom), (left, right) = (
        (cut.start + cut.first * cut.used / cut.resized, cut.start + (cut.first + cut.kept) * cut.used / cut.resized)
        for cut in (rows, columns)
    )
    bottom, right = min(bottom, image.height), min(right, image.width)
    if image.mode != mode:
        # first the width, strip by strip, and of what is enlarged only the columns that count
        smaller = columns.kept < right - left
        edge = 0 if smaller else max(0, int(left) - 4)
        narrow = Image.new(mode, (columns.kept if smaller else min(int(right) + 5, image.width) - edge, image.height))
        for y, strip in levels(image, mode):
            if strip.height == image.height:
                narrow, smaller, edge = strip, False, 0
            elif smaller:
                part = left, 0, right, strip.height
                narrow.paste(strip.resize((columns.kept, strip.height), method, part), (0, y))
            else:
                narrow.paste(strip.crop((edge, 0, edge + narrow.width, strip.height)), (0, y))
        image, left, right = (narrow, 0, narrow.width) if smaller else (narrow, left - edge, right - edge)
    return np.asarray(image.resize((columns.kept, rows.kept), method, (left, top, right, bottom)), np.float32)


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


def taps(cut: Cut, method: str) -> Taps:
    """Return which pixels in a row make each of those that are kept, and how much they count: two arrays (n, count).

    As tf.image.resize: pixels have their centres at 0.5, 1.5 and so on; "bicubic" is Keys' kernel with a = -0.5
    (IEEE Trans. ASSP 29(6), 1981). "cv2-area" is how much of each pixel lies in the new one.
    """
    kind: Any = np.float64 if method.startswith("cv2") else np.float32
    old = int(cut.used)
    place, step = np.arange(cut.first, cut.first + cut.kept, dtype=kind), kind(cut.used / cut.resized)
    centre = (place + kind(0.5)) * step
    if method in ("nearest", "none"):
        return np.minimum(centre.astype(int), old - 1)[np.newaxis] + int(cut.start), np.ones((1, cut.kept), np.float32)
    if method == "cv2-area":
        index = np.floor(place * step + 1e-9).astype(int) + np.arange(int(np.ceil(step)) + 1)[:, np.newaxis]
        weight = (np.minimum(index + 1, (place + 1) * step) - np.maximum(index, place * step)).clip(0) / step
    elif method == "cv2-area-linear":
        index = np.floor(place * step + 1e-9).astype(int) + np.arange(2)[:, np.newaxis]
        second = (place + 1) - (index[0] + 1) / step
        second = np.where(second > 0, second - np.floor(second), 0)
        weight = np.stack([1 - second, second])
    elif method == "cv2-linear":
        left = (centre - 0.5).astype(np.float32)  # as OpenCV rounds it
        index = np.floor(left).astype(int) + np.arange(2)[:, np.newaxis]
        second = left - np.floor(left)
        weight = np.stack([1 - second, second])
    else:
        reach = 2 if method == "bicubic" else 1
        index = np.floor(centre - 0.5).astype(int) + np.arange(1 - reach, 1 + reach)[:, np.newaxis]
        distance = np.abs(index + 0.5 - centre)
        weight = 1 - distance
        if method == "bicubic":
            near, far = (1.5 * distance - 2.5) * distance**2 + 1, ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
            weight = np.where(distance < 1, near, far) * ((index >= 0) & (index < old))
            weight /= weight.sum(0)
    return index.clip(0, old - 1) + int(cut.start), weight.astype(np.float32)


def gathered(parts: Iterable[tuple[int, Image.Image]], rows: Taps, columns: Taps) -> tuple[NDArray, Taps, Taps]:
    """Return the pixels that count, (height, width, channels), from strips, and the `taps` of both axes in them."""
    (y, row_weights), (x, column_weights) = rows, columns
    used_y, used_x = np.unique(y), np.unique(x)
    found = []
    for top, strip in parts:
        here = used_y[(used_y >= top) & (used_y < top + strip.height)] - top
        found.append(np.asarray(strip)[here][:, used_x])
    pixels = np.concatenate(found).reshape(len(used_y), len(used_x), -1)
    return pixels, (used_y.searchsorted(y), row_weights), (used_x.searchsorted(x), column_weights)


def weighted(pixels: NDArray, rows: Taps, columns: Taps) -> Floats:
    """Return the weighted sum of pixels, (height, width, channels) float32."""
    tall = sum(pixels[at] * weight[:, None, None] for at, weight in zip(*rows, strict=True))
    return sum(tall[:, at] * weight[:, None] for at, weight in zip(*columns, strict=True))


def whole_levels(pixels: NDArray, rows: Taps, columns: Taps) -> Floats:
    """Return the same as OpenCV calculates it for 8 bits: in whole numbers, with weights of 11 bits (resize.cpp)."""
    (y, row_weights), (x, column_weights) = rows, columns
    down, across = (np.rint(weights * 2048).astype(np.int32) for weights in (row_weights, column_weights))
    wide = sum(pixels[:, at].astype(np.int32) * weight[:, None] for at, weight in zip(x, across, strict=True)) >> 4
    levels = sum((wide[at] * weight[:, None, None]) >> 16 for at, weight in zip(y, down, strict=True))
    return ((levels + 2) >> 2).astype(np.float32)


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
        return [photo(image, card.size, card.channels, card.resize, card.fit, card.crop)]

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
