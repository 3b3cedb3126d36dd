"""Turn an upright picture into what the network was trained on, as export.py wrote it into the model file.

`photo` resizes it. `digit` makes it look like MNIST's: these digits were scaled to fit 20x20 pixels, anti-aliased, and
placed with their centre of mass in the middle of 28x28 (LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied
to document recognition, Proc. IEEE 86(11), 1998, section III.A). A network trained on them reads other pictures only if
they look the same, so `digit` takes these steps:

1. `load`      reduce it to a few hundred pixels    5. `without_lines`  if the paper is ruled
2. `to_grey`   keep what separates ink from paper   6. `find_digits`    strokes, not lines and specks
3. `is_light`  light ink on dark paper?             7. `fit`            20x20, centred in 28x28
4. `find_ink`  ink relative to the paper

`look` repeats them on the inside of a frame, and with all the pixels of a small digit.
"""

import contextlib
import math
import numpy as np
from collections.abc import Iterable, Iterator
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter, ImageOps
from typing import Any

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Ints = NDArray[np.intp]
Box = tuple[int, int, int, int]
Taps = tuple[Ints, Floats]
Part = tuple[Floats, Box]

METHODS = ("photo", "digit")
FILTERS = ("bilinear", "bicubic", "nearest", "lanczos", "box", "hamming")
RESIZE = ("bilinear", "bicubic", "nearest", *(f"pil-{method}" for method in FILTERS))
GREY = ("1", "L", "LA", "I;16", "I")
STRIP = 1_000_000  # pixels that are converted at a time: a whole copy of a large scan would take too much memory
WORK = 192  # longest side, in pixels, at which the ink is searched for
GRID = 64  # longest side at which the paper's brightness is estimated
SMALL = 28  # a digit of fewer pixels at WORK is looked at again, with all its pixels
BLOCKS = 8  # parts of the width in which ruled lines are searched for
THIN = 2  # pixels; a line is at most twice as thick
STEEP = 0.1  # of a ruled line: rows for each column
FAINT = 0.15  # of a ruled line, compared to the strongest ink: those that are fainter do no harm
OTHERS = 11  # further parts that may be digits
LEVELS = np.arange(256)
OUTPUT = np.arange(-14, 14, dtype=np.float32)[:, np.newaxis]  # pixels of the result, from its centre
BLANK = "There is no digit to see: nothing stands out clearly from the background."


class NothingToSee(ValueError):
    """The picture shows nothing that the network could classify. Its text goes to the sender, as a 422."""


def prepare(image: Image.Image, metadata: dict[str, Any]) -> list[Floats]:
    """Return what the network sees, and after it the other digits that there may be, if it reads digits.

    Each is (height, width, channels) float32, 0..255, red before blue; 1 channel is grey. `image` is decoded and
    upright, in any mode and size. `metadata` is what export.py wrote into the model file: `preprocess`, `size`,
    `channels` and `resize` count here; model.py applies the range. Raises NothingToSee.
    """
    if metadata["preprocess"] == "digit":
        return [part * 255 for part in digits(image)]
    return [photo(image, metadata["size"], metadata["channels"], metadata["resize"])]


def check(metadata: dict[str, Any]) -> None:
    """Run `photo` on a small picture, black and white. Raises ValueError if it fails, or if the result does not fit."""
    if metadata["preprocess"] == "digit":
        return
    image = Image.new("RGB", (96, 64), "white")
    image.paste("black", (0, 0, 48, 64))
    wanted = (*metadata["size"], metadata["channels"])
    try:
        (pixels,) = prepare(image, metadata)
        if pixels.shape != wanted:
            raise ValueError(f"it returns an array {pixels.shape}, and the network takes {wanted}")
        if pixels.max() <= 1:
            raise ValueError("its pixels do not go from 0 to 255; the network's own range comes after it")
    except NothingToSee:  # then it is the reader's own, and does not like this picture
        return
    except Exception as error:
        raise ValueError(f"photo() in preprocess.py does not work: {type(error).__name__}: {error}") from error


def smallest(metadata: dict[str, Any]) -> int | None:
    """Return how small the decoder may make a large JPEG, in pixels; None if only all of its pixels give the answer."""
    return 256 if metadata["preprocess"] == "digit" else None


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


def strips(image: Image.Image, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield a picture from top to bottom in strips of some rows, a multiple: the first row of each, and the strip."""
    step = max(1, STRIP // (image.width * multiple)) * multiple
    if image.height <= step:
        yield 0, image
        return
    for top in range(0, image.height, step):
        yield top, image.crop((0, top, image.width, min(top + step, image.height)))


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


def digit(image: Image.Image) -> Floats:
    """Return the digit in `image` as MNIST would show it: (28, 28, 1) float32, 0 (background) to 1 (ink).

    `image` is decoded and upright, in any mode and size, dark on light or light on dark. If there are
    several digits, the one with the most ink counts, with the strokes close to it.

    Raises NothingToSee, with a sentence for the sender, if there is no digit to see.
    """
    return fit(look(image)[0][0])


def digits(image: Image.Image) -> list[Floats]:
    """Return `digit(image)`, and after it up to OTHERS further parts that may be digits, those with the most ink first.

    Each is (28, 28, 1) float32, 0 to 1. A part is at least 0.4 times as high as the digit; whether it is
    a digit, only the network can tell. Raises NothingToSee, as `digit` does.
    """
    return [fit(part) for part, _ in look(image)]


def look(image: Image.Image) -> list[Part]:
    """Return the digit's ink and where it is, and then other parts that may be digits. Raises NothingToSee."""
    grey = to_grey(load(image))
    parts = find_parts(grey)
    where = around(parts)
    size = max(where[1] - where[0], where[3] - where[2])
    if size < SMALL and grey.width < image.width:
        with contextlib.suppress(NothingToSee):
            near, there = close_up(image, where, image.width / grey.width)
            if max(abs(new - old) for new, old in zip(there, where, strict=True)) < 0.2 * size + 1:
                return near  # it is the same, and not a speck beside it
    return parts


def close_up(image: Image.Image, where: Box, scale: float) -> tuple[list[Part], list[float]]:
    """Look at a small digit with all its pixels: return its parts again, and where they are in the reduced picture.

    `where` is in the picture reduced by `scale`. As much paper as the digit is large stays on each side.
    """
    top, bottom, left, right = where
    size = max(bottom - top, right - left)
    x, y = max(0, round(scale * (left - size))), max(0, round(scale * (top - size)))
    end, last = min(image.width, round(scale * (right + size))), min(image.height, round(scale * (bottom + size)))
    near = to_grey(load(image.crop((x, y, end, last))))
    parts = find_parts(near)
    zoom = (end - x) / near.width
    return parts, [(zoom * v + by) / scale for v, by in zip(around(parts), (y, y, x, x), strict=True)]


def around(parts: list[Part]) -> Box:
    """Return top, bottom, left, right of all parts together."""
    top, bottom, left, right = zip(*(where for _, where in parts), strict=True)
    return min(top), max(bottom), min(left), max(right)


def find_parts(grey: Image.Image) -> list[Part]:
    """Return the digit, and then the other parts that may be digits, in a picture of mode L. Raises NothingToSee."""
    ruled = find_ink(grey)
    ink = without_lines(ruled)
    try:
        parts = find_digits(ink)
    except NothingToSee:  # the lines were the digit
        ink = ruled
        parts = find_digits(ink)
    box = inner_box(*parts[0], ink)
    if box:  # a sheet of paper on a table, or a drawn frame: the digit is inside
        with contextlib.suppress(NothingToSee):  # nothing is inside: the frame was the digit
            if is_filled(*parts[0], box):
                return find_digits(without_lines(find_ink(grey.crop(box))))
            left, top, right, bottom = box
            inside = ink[top:bottom, left:right]
            found = find_digits(inside)
            if inside.max() > 0.25 * ink.max() and is_apart(found[0][1], box):  # else the frame is a 0, 6 or 8
                return found
    return parts


def load(image: Image.Image) -> Image.Image:
    """Reduce a picture to at most WORK x WORK pixels, in mode L, RGB, RGBa (if not opaque) or F."""
    if image.mode.startswith(("I", "F")):
        mode = "F"
    elif image.has_transparency_data:
        mode = "RGBA"
    else:
        mode = "L" if image.mode in ("1", "L") else "RGB"
    factor = math.ceil(max(image.size) / WORK)
    if min(image.size) < 5 * factor:
        width, height = image.size
        raise NothingToSee(f"There is no digit to see: {width} x {height} pixels are too few.")
    parts = []
    for _, strip in strips(image, factor):
        part = strip if strip.mode == mode else strip.convert(mode)
        if mode == "RGBA":  # RGBa is multiplied by alpha, which averages need
            part = part.convert("RGBa")
        parts.append(part.reduce(factor) if factor > 1 else part)
    small = parts[0]
    if len(parts) > 1:
        small = Image.new(small.mode, (small.width, sum(part.height for part in parts)))
        for number, part in enumerate(parts):
            small.paste(part, (0, number * parts[0].height))
    if mode == "RGBA" and small.getchannel("a").getextrema() == (255, 255):
        return small.convert("RGBA").convert("RGB")
    return small


def to_grey(image: Image.Image) -> Image.Image:
    """Return a grey picture, mode L, along the line through the colours of ink and paper.

    The line is the first principal component of the edges' colours (Pearson 1901): this is
    the luminance for grey ink, and the difference for yellow ink on white paper or red ink on green.
    """
    if image.mode == "F":  # 16 bits or more, of unknown range
        values = np.nan_to_num(np.asarray(image), posinf=0, neginf=0).clip(-1e37, 1e37)
        spread = max(float(np.ptp(values)), 1e-6)
        return Image.fromarray(((values - values.min()) * (255 / spread)).astype(np.uint8))
    if image.mode == "RGBa":
        image = on_paper(image)
    if image.mode == "L":
        return image
    small = shrink(image, 16)
    blurred = small.filter(ImageFilter.BoxBlur(3))
    edges = (np.asarray(small, np.float32) - np.asarray(blurred)).reshape(-1, 3)
    line = np.linalg.eigh(edges.T @ edges).eigenvectors[:, -1]
    line /= np.abs(line).sum() * (1 if line.sum() >= 0 else -1)
    lowest = 255 * line[line < 0].sum()
    return image.convert("L", (*line.tolist(), -float(lowest)))


def on_paper(image: Image.Image) -> Image.Image:
    """Put an RGBa picture on paper: of its own colour if it is mostly opaque and shows something, else in contrast."""
    small = np.asarray(shrink(image, GRID).convert("RGBA")).reshape(-1, 4)
    seen = small[small[:, 3] > 127, :3]
    if 2 * len(seen) > len(small) and np.ptp(seen.astype(int), 0).max() > 64:
        red, green, blue = (int(quantile(seen[:, band], 0.5)) for band in range(3))
    else:
        if 4 * len(seen) > len(small):  # thick strokes fill it; most of a picture should be paper
            image = ImageOps.expand(image.reduce(2) if max(image.size) > WORK // 2 else image, max(image.size) // 6)
        seen = small[small[:, 3] > 0, :3]
        red = green = blue = 255 if not len(seen) or seen.mean() < 128 else 0
    paper = Image.new("RGB", image.size, (red, green, blue))
    image = image.convert("RGBA")
    paper.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return paper


def shrink(image: Image.Image, longest: int) -> Image.Image:
    """Reduce a picture to `longest` pixels on the longer side, and at least 3 on the other."""
    scale = min(1, longest / max(image.size))
    size = max(3, round(image.width * scale)), max(3, round(image.height * scale))
    return image.resize(size, Image.Resampling.BOX)


def is_light(grey: Image.Image) -> bool:
    """Return whether the ink is lighter than the paper. A small copy of the picture is enough.

    Ink is thin, so the detail that a median filter removes is skewed to the side of the ink, even
    under shadows. If the strokes are as thick as the gaps, the border decides: it is paper. It counts
    less where it is bright and dark itself.
    """
    small = shrink(grey, 16)
    level = np.asarray(small, np.int32)
    flat = level.ravel()
    detail = flat - np.asarray(small.filter(ImageFilter.MedianFilter(5)), float).ravel()
    square = detail * detail
    skew = float(square @ detail) / (float(square.sum()) ** 1.5 / math.sqrt(len(detail)) + 1e-3)
    level = np.asarray(grey)
    border = np.sort(np.concatenate((level[0], level[-1], level[:, 0], level[:, -1])))
    paper, spread = int(border[len(border) // 2]), int(border[len(border) * 9 // 10]) - int(border[len(border) // 10])
    mean = float(flat.sum()) / len(flat)
    deviation = math.sqrt(max(float(flat @ flat) / len(flat) - mean * mean, 0))
    return skew + 5 * (mean - paper) / (deviation + 2 * spread + 1e-6) > 0


def find_ink(grey: Image.Image) -> Floats:
    """Return how much darker than the paper around it each pixel is: 0 paper, 1 black.

    The paper under the ink is estimated by a morphological closing (Serra 1982): dark strokes that
    are narrower than two fifths of the picture vanish, shadows and their edges stay. Dividing by it
    removes uneven light, since a shadow dims ink and paper by the same factor. At the edge of a shadow
    the estimate is too coarse: there, what is between the paper's brightness on both sides is paper.
    """
    small = shrink(grey, GRID)
    if is_light(small):
        grey, small = ImageChops.invert(grey), ImageChops.invert(small)
    paper = np.asarray(small, np.int16)
    for _ in "yx":  # once for each axis; .T swaps them
        paper = median3(paper).T
    reach = max(1, paper.shape[0] // 5), max(1, paper.shape[1] // 5)
    for axis in (0, 1):
        paper = extend(paper, 2 * reach[axis]).T
    paper = -largest(-largest(paper, reach), reach)
    closed = Image.fromarray(np.minimum(paper, 255).astype(np.uint8))
    light = np.asarray(closed.resize(grey.size, Image.Resampling.BILINEAR), np.float32)
    if has_edge(paper):
        bounds = (closed.filter(ImageFilter.MinFilter(3)), closed.filter(ImageFilter.MaxFilter(3)))
        dark, light = (np.asarray(b.resize(grey.size, Image.Resampling.BILINEAR), np.float32) for b in bounds)
        light = np.minimum(np.maximum(np.asarray(grey), dark), light)
    ink = light - np.asarray(grey)
    ink /= np.maximum(light, 32)  # near black there is only noise
    # In noise or texture the closing is too bright. Most of the picture is paper, so move it to 0.
    ink -= min(max(quantile(ink, 0.5), 0), 0.15)
    return ink


def has_edge(paper: NDArray[np.int16]) -> bool:
    """Return whether the paper's brightness has a step of more than a twentieth, as at the edge of a shadow."""
    step = max(np.abs(paper[1:] - paper[:-1]).max(), np.abs(paper[:, 1:] - paper[:, :-1]).max())
    return bool(20 * step > paper.max())


def median3(rows: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return the median of each row and its neighbours: less noise, edges stay sharp."""
    above, here, below = rows[:-2], rows[1:-1], rows[2:]
    inner = np.maximum(np.minimum(above, here), np.minimum(np.maximum(above, here), below))
    return np.concatenate((rows[:1], inner, rows[-1:]))


def extend(rows: NDArray[np.int16], by: int) -> NDArray[np.int16]:
    """Continue a slope past both ends, by `by` rows each, so that a shadow does not end there.

    It only becomes darker: what is dark near the end may be ink, and the opposite of ink is no light.
    """
    before, after = 2 * rows[0] - rows[by:0:-1], 2 * rows[-1] - rows[-2 : -2 - by : -1]
    return np.concatenate((np.minimum(before, rows[0]), rows, np.minimum(after, rows[-1])))


def largest(array: NDArray, reach: tuple[int, int]) -> NDArray:
    """Return the largest value within `reach` rows and columns. The result is smaller by `reach` at each end."""
    for by in reach:
        width = 1
        while width < 2 * by + 1:  # the window doubles with each step
            step = min(width, 2 * by + 1 - width)
            array = np.maximum(array[:-step], array[step:])
            width += step
        array = array.T
    return array


def quantile(values: NDArray, part: float) -> float:
    """Return the value that `part` of some 5000 of the values lie below."""
    some = np.sort(values.ravel()[:: max(1, values.size // 5000)])  # np.partition is slow on ties
    return float(some[int(part * (len(some) - 1))])


def without_lines(ink: Floats) -> Floats:
    """Remove ruled lines: thin, straight, and from one side of the picture to the other.

    As Yu and Jain do (A generic system for form dropout, IEEE Trans. PAMI 18(11), 1996): find the
    lines, remove them, and mend the strokes that crossed them.
    """
    if min(ink.shape) < GRID:  # a line may be as thick as a stroke
        return ink
    for _ in "yx":
        for _ in range(2):  # lines in a photo are not quite parallel
            if not has_lines(ink):
                break
            ink = unruled(ink)
        ink = ink.T
    return ink


def has_lines(ink: Floats) -> bool:
    """Return whether there may be level lines: the picture's left and right edges both show something thin."""
    faint = FAINT * ink.max()
    if min(ink[:, :3].max(), ink[:, -3:].max()) < faint:
        return False  # as in most pictures
    ends = peaks(np.stack((ink[:, :3].sum(1), ink[:, -3:].sum(1))) / np.float32(3))
    return bool((ends.max(1) > np.maximum(faint, 5 * np.median(ends, 1))).all())


def peaks(profile: NDArray) -> NDArray:
    """Return what is thin in each row of `profile`: the difference from its morphological opening (Serra 1982)."""
    padded = np.pad(profile, ((0, 0), (2 * THIN, 2 * THIN)), mode="edge")
    return profile - largest(-largest(-padded, (0, THIN)), (0, THIN))


def unruled(ink: Floats) -> Floats:
    """Remove lines that are nearly level, as `without_lines` says."""
    height, width = ink.shape
    step = width // BLOCKS
    blocks = ink[:, : BLOCKS * step].reshape(height, BLOCKS, step).sum(2).T / np.float32(step)
    thin = peaks(np.concatenate((np.stack((ink[:, :3].sum(1), ink[:, -3:].sum(1))) / np.float32(3), blocks)))
    thin[:2, 1:-1] = largest(thin[:2], (0, 1))
    place = np.array([1.5, width - 1.5, *((np.arange(BLOCKS) + 0.5) * step)]) / width - 0.5
    # Of all slopes the one at which the blocks show most at the same height as both ends of a line
    rise = round(STEEP * width)  # rows, over the whole width
    slope = np.arange(-rise, rise + 1)
    far = rise // 2 + 1
    rows = np.arange(-far, height + far)  # where a line is in the middle of the width
    thin = np.pad(thin, ((0, 0), (2 * far, 2 * far)))
    at = rows + 2 * far + np.rint(slope[:, np.newaxis, np.newaxis] * place[:, np.newaxis]).astype(int)
    found = thin[np.arange(len(thin))[:, np.newaxis], at]
    found = np.minimum(found, 2 * np.minimum(found[:, :1], found[:, 1:2]))
    total = found.sum(1)
    best = (total * total).sum(1).argmax()
    seen = np.sort(found[best, 2:], 0)[BLOCKS // 2]  # a digit may hide the line in the other half of the blocks
    line = seen > max(0.5 * FAINT * ink.max(), 0.25 * seen.max())
    if not line.any():
        return ink
    seen, line = around_rows(seen), around_rows(line)
    shift = np.rint(slope[best] * ((np.arange(width) + 0.5) / width - 0.5)).astype(int)
    level = np.pad(ink, ((2 * far, 2 * far), (0, 0)))[rows[:, np.newaxis] + 2 * far + shift, np.arange(width)]
    ruled = level[line]
    strength = np.zeros(len(level), np.float32)
    strength[line] = np.minimum(np.sort(ruled, 1)[:, int(0.6 * width)], 2 * seen[line])
    strength = around_rows(strength)[line, np.newaxis]
    level[line] = np.where(ruled < 2 * strength, 0, ruled)  # what is twice as dark is ink
    level[line] = np.maximum(level[line], np.minimum(bridged(level)[line], ruled))
    return level[np.arange(height)[:, np.newaxis] + far - shift, np.arange(width)]


def around_rows(values: NDArray) -> NDArray:
    """Return the largest of each value and its two neighbours."""
    return largest(np.pad(values, 1)[np.newaxis], (0, 1))[0]


def bridged(ink: Floats) -> Floats:
    """Return the ink that is both above and below each pixel, straight or diagonally, within a line's thickness."""
    reach = 2 * THIN + 1
    height, width = ink.shape
    padded = np.pad(ink, reach)
    result = np.zeros_like(ink)
    for lean in (-1, 0, 1):
        sides = []
        for way in (-1, 1):
            side = np.zeros_like(ink)
            for by in range(way, way * (reach + 1), way):
                top, left = reach + by, reach + lean * by
                np.maximum(side, padded[top : top + height, left : left + width], out=side)
            sides.append(side)
        np.maximum(result, np.minimum(*sides), out=result)
    return result


def find_digits(ink: Floats) -> list[Part]:
    """Return the digit's ink alone, full strokes at 1, cut out with a margin of one pixel, and
    where it is in `ink`: top, bottom, left, right. After it come up to OTHERS parts that may be digits, too.

    Pixels above 0.4 of Otsu's threshold form connected parts. The one with the most ink is the
    digit, together with good parts close to it (broken strokes).
    """
    parts = find_parts_above(ink, 0.4)
    top, bottom, left, right = parts[0][1]
    if right - left > 1.2 * (bottom - top):  # perhaps the digits of a number that touch
        more = find_parts_above(ink, 0.8)
        if len(more) > len(parts) and more[0][1][1] - more[0][1][0] > 0.8 * (bottom - top):
            return more
    return parts


def find_parts_above(ink: Floats, share: float) -> list[Part]:
    """Return what `find_digits` does, from the pixels above this share of Otsu's threshold."""
    # The standard deviation of Gaussian noise. The lower quartile ignores strokes and their edges.
    noise = 2.22 * quantile(np.abs(ink[::3, 1:] - ink[::3, :-1]), 0.25)
    floor = max(3 * noise, 0.04)
    seen = ink[ink > floor]
    if not seen.size:
        raise NothingToSee(BLANK)
    high = otsu(seen)
    padded = np.zeros((ink.shape[0] + 4, ink.shape[1] + 4), np.float32)
    padded[2:-2, 2:-2] = ink
    width = padded.shape[1]
    mask = padded.ravel() > max(floor, share * high)
    pixels = mask.nonzero()[0]
    value = padded.ravel()[pixels]
    # Join runs of neighbouring pixels to parts, not single pixels: there are far fewer runs.
    changes = (mask[1:] != mask[:-1]).nonzero()[0] + 1
    start, end = changes[::2], changes[1::2]
    length = end - start
    first = length.cumsum() - length
    mass = np.add.reduceat(value * value, first, dtype=float)
    peak = np.maximum.reduceat(value, first)
    y, x = np.divmod(start, width)
    groups = of_digits(label(start, end, width), y - 2, x - 2, length, mass, peak, high, ink.shape)
    parts: list[Part] = []
    for mine in groups:
        rows, columns, mine = y[mine], (x[mine], (x + length)[mine]), np.repeat(mine, length)
        own = np.sort(value[mine])
        level = float(own[int(len(own) * 0.8)])
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0].min()), int(columns[1].max())
        if max(bottom - top, right - left) < 5 or level < max(0.1, 8 * noise):
            if parts:
                continue
            raise NothingToSee(BLANK)
        black = max(2 * noise, 0.08 * level)
        digit = (padded[top - 1 : bottom + 1, left - 1 : right + 1] - black) / (level - black)
        mask[pixels] = mine
        strokes = mask.reshape(padded.shape)[top - 2 : bottom + 2, left - 2 : right + 2]
        strokes = largest(strokes, (1, 1))  # and the grey edge around them
        where = top - 2, bottom - 2, left - 2, right - 2
        parts.append((np.minimum(np.maximum(digit, 0), 1) * strokes, where))
    return parts


def of_digits(
    part: Ints,
    y: Ints,
    x: Ints,
    width: Ints,
    mass: NDArray,
    peak: Floats,
    high: float,
    shape: tuple[int, ...],
) -> list[Mask]:
    """Return which runs of `width` pixels from (y, x), with this ink, belong to the digit, and to others.

    Parts along the border, or from one side to another, are probably ruled lines, shadows or the
    edge of a table. They count as the digit only if there is nothing else.
    """
    if part.max() == 0:  # there is only one part
        return [part == 0]
    height, across = shape
    order = part.argsort(kind="stable")
    count = np.bincount(part)
    begin = count.cumsum() - count

    def each(ufunc: np.ufunc, values: NDArray) -> NDArray:  # over the runs of each part
        return ufunc.reduceat(values[order], begin)

    outer = (y == 0) | (y == height - 1)
    rim = each(np.add, np.where(outer, width, 1 * (x == 0) + (x + width == across)))
    mass, peak = each(np.add, mass), each(np.maximum, peak)
    top, bottom = y[order][begin], each(np.maximum, y)
    left, right = each(np.minimum, x), each(np.maximum, x + width - 1)
    length = np.maximum(bottom - top, right - left) + 1
    sides = 1 * (top == 0) + (left == 0) + (bottom == height - 1) + (right == across - 1)
    line = (rim > 0.3 * length) | (sides > 1)
    main = (mass * (peak > high) * (1 - 0.95 * line)).argmax()
    good = (peak > 0.75 * high) & (mass > 0.02 * mass[main]) & ~line
    groups: list[Mask] = []
    high_enough = 0.0
    while len(groups) <= OTHERS:
        keep = np.arange(len(mass)) == main
        for _ in range(3):  # a part that joins may be close to others
            good &= ~keep
            if not good.any():
                break
            first, last = top[keep].min(), bottom[keep].max()
            start, end = left[keep].min(), right[keep].max()
            size = max(last - first, end - start) + 1
            longer = np.maximum(length, size)
            above = np.maximum(top - last, first - bottom) - 1  # the gap, in rows
            beside = np.maximum(left - end, start - right) - 1
            # As high as this one, and beside it: the next digit of a number.
            tall = np.minimum(bottom - top, last - first) + 1 > 0.7 * (np.maximum(bottom - top, last - first) + 1)
            wide = np.maximum(right, end) - np.minimum(left, start) > 0.55 * (last - first + 1)
            overlap = -beside > 0.25 * np.minimum(right - left, end - start)
            # A smaller gap sideways: the next digit of a number may stand there.
            near = (above < 0.25 * longer) & (beside < 0.12 * longer)
            keep |= good & near & ~(tall & wide & ~overlap)
        good &= ~keep
        tallest = bottom[keep].max() - top[keep].min() + 1
        if not groups:
            high_enough = 0.4 * tallest
            good &= (sides == 0) | (sides[main] > 0)
        if tallest >= high_enough:
            groups.append(keep[part])
        if not good.any():
            break
        main = (mass * good).argmax()
    return groups


def otsu(values: Floats) -> float:
    """Return the threshold that best separates `values` (0..1) into two classes (Otsu 1979).

    Each value is weighted by its size, so that faint texture does not outweigh a small digit.
    """
    weight = np.bincount((values * 255).astype(np.uint8), minlength=256) * LEVELS
    below, moment = weight.cumsum(), (weight * LEVELS).cumsum()
    spread = np.maximum(below * (below[-1] - below), 1).astype(float)
    between = (moment[-1] * (below / below[-1]) - moment) ** 2 / spread
    return float(between.argmax()) / 255


def label(start: Ints, end: Ints, width: int) -> Ints:
    """Return for each run of pixels, from `start` to before `end` in rows of `width`, the number,
    0.., of its 8-connected part.

    Union-find in whole arrays: neighbours hook the larger root to the smaller one until all
    agree (Shiloach and Vishkin 1982), a few rounds whatever the picture.
    """
    mine = np.arange(len(start))
    ones, others = [], []
    for shift in (-width, width):  # the first run that touches, in the row above and below
        near = np.minimum(end.searchsorted(start + shift), len(start) - 1)
        touch = (start[near] <= end + shift) & (end[near] >= start + shift)
        ones.append(mine[touch])
        others.append(near[touch])
    one, other = np.concatenate(ones), np.concatenate(others)
    root = mine.copy()
    while one.size:
        np.minimum.at(root, np.maximum(one, other), np.minimum(one, other))
        for _ in range(len(root).bit_length()):  # each step halves the way to the root
            root = root[root]
        one, other = root[one], root[other]
        differ = one != other
        one, other = one[differ], other[differ]
    return ((root == mine).cumsum() - 1)[root]


def inner_box(digit: Floats, where: Box, ink: Floats) -> Box | None:
    """Return left, top, right, bottom of the inside of a large sheet or frame, None if it is neither.

    A sheet or frame runs along all four sides of its bounding box; a digit touches each side in a
    few places only.
    """
    first, last, start, end = where
    y, x = round((last - first) * 0.12), round((end - start) * 0.12)
    if min(y, x) < 3 or last - first < 0.3 * ink.shape[0] or end - start < 0.3 * ink.shape[1]:
        return None
    part = digit[1:-1, 1:-1] > 0
    sides = part[:y].any(0), part[-y:].any(0), part[:, :x].any(1), part[:, -x:].any(1)
    if min(np.count_nonzero(side) / side.size for side in sides) < 0.85:
        return None
    return start + x, first + y, end - x, last - y


def is_filled(digit: Floats, where: Box, box: Box) -> bool:
    """Return whether most of the `inner_box` is ink: a sheet, not a frame."""
    left, top, right, bottom = box
    first, _, start, _ = where
    inside = digit[top - first + 1 : bottom - first + 1, left - start + 1 : right - start + 1]
    return bool(np.count_nonzero(inside) > 0.8 * inside.size)


def is_apart(where: Box, box: Box) -> bool:
    """Return whether what was found inside a frame stands apart from it and is as high as a digit: the middle
    stroke of an 8, or what is left of thick strokes, is not."""
    top, bottom, left, right = where
    width, height = box[2] - box[0], box[3] - box[1]
    touches = top <= 0 or left <= 0 or bottom >= height or right >= width
    return not touches and bottom - top > 0.25 * height and bottom - top > 0.5 * (right - left)


def fit(digit: Floats) -> Floats:
    """Scale the digit to 20x20 and put its centre of mass at (14, 14) of 28x28, like MNIST."""
    unit = (max(digit.shape) - 2) / 20  # pixels of the digit for one pixel of the result, without the margin
    small = scaling(digit.sum(1), unit) @ digit @ scaling(digit.sum(0), unit).T
    strokes = np.sort(small[small > 0.1 * small.max()])
    full = strokes[int(len(strokes) * 0.8)]  # thin strokes came out grey
    return np.minimum(small / full, 1)[..., np.newaxis]


def scaling(ink: Floats, unit: float) -> Floats:
    """Return the (28, n) matrix that scales n pixels by 1 / `unit`, with the centre of `ink` at 14.

    Each row is a triangle around its pixel, `unit` wide to each side, as in Pillow's BILINEAR.
    """
    pad = math.ceil(15 * unit)  # the background counts too
    pixel = np.arange(-pad, len(ink) + pad, dtype=np.float32)
    centre = float(ink @ pixel[pad:-pad]) / float(ink.sum())
    at = np.float32(centre) + np.float32(unit) * OUTPUT
    weight = np.maximum(1 - np.abs(pixel - at) / max(unit, 1), 0)
    return weight[:, pad:-pad] / weight.sum(1, keepdims=True)
