"""From a picture of a digit to the 28x28 grey picture that MNIST holds.

MNIST's digits were scaled to fit 20x20 pixels, anti-aliased, and placed with their centre of
mass in the middle of 28x28 (LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to
document recognition, Proc. IEEE 86(11), 1998, section III.A). A network trained on them reads
other pictures only if they look the same, so `prepare` takes these steps:

1. `load`      decode small, turn as EXIF says      4. `find_ink`    ink relative to the paper
2. `to_grey`   the colours that part ink and paper  5. `find_digit`  strokes, not lines and specks
3. `is_light`  light ink on dark paper?             6. `fit`         20x20, centred in 28x28
"""

import contextlib
import math
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter, ImageOps

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Ints = NDArray[np.intp]
Box = tuple[int, int, int, int]

WORK = 256  # longest side, in pixels, at which the ink is searched for
GRID = 64  # longest side at which the paper's brightness is estimated
BLANK = "There is no digit to see: nothing stands out clearly from the background."


def prepare(image: Image.Image, shape: tuple[int, int, int] = (28, 28, 1)) -> Floats:
    """Return the digit in `image` the way MNIST would hold it.

    `image` comes from `Image.open`, not yet decoded, in any mode, size and polarity. Of several
    digits the one with the most ink is taken, with the strokes close to it.

    Returns float32 of `shape` (height, width, 1), 0 (background) to 1 (ink).
    Raises ValueError, with a sentence for the sender, if there is no digit to see; and what
    Pillow raises (OSError, SyntaxError, ...) if the picture cannot be decoded.
    """
    grey = to_grey(load(image))
    ink = find_ink(grey)
    digit, where = find_digit(ink)
    box = inner_box(digit, where, ink)
    if box:  # a sheet of paper on a table, or a drawn frame: the digit is inside it
        with contextlib.suppress(ValueError):  # nothing inside: it was the digit
            digit, where = find_digit(find_ink(grey.crop(box)))
    return fit(digit, shape)


def load(image: Image.Image) -> Image.Image:
    """Decode to at most WORK x WORK pixels, upright, in mode L, RGB, RGBA or F."""
    width, height = image.size
    image.draft(None, (WORK, WORK))  # a JPEG decodes at 1/2, 1/4 or 1/8 in a fraction of the time
    if image.mode.startswith(("I", "F")):
        mode = "F"
    elif image.has_transparency_data:
        mode = "RGBA"
    else:
        mode = "L" if image.mode in ("1", "L") else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    image = image.reduce(math.ceil(max(image.size) / WORK))
    if min(image.size) < 5:
        raise ValueError(f"There is no digit to see: {width} x {height} pixels are too few.")
    ImageOps.exif_transpose(image, in_place=True)
    return image


def to_grey(image: Image.Image) -> Image.Image:
    """Return mode L, along the line through the colours of ink and paper.

    The line is the first principal component of the edges' colours (Pearson 1901): luminance for
    grey ink, and what differs for yellow ink on white paper or for red ink on green.
    """
    if image.mode == "F":  # 16 bits or more, of unknown range
        values = np.nan_to_num(np.asarray(image), posinf=0, neginf=0)
        spread = max(float(np.ptp(values)), 1e-6)
        return Image.fromarray(((values - values.min()) * (255 / spread)).astype(np.uint8))
    if image.mode == "RGBA":
        image = on_paper(image)
    if image.mode == "L":
        return image
    small = shrink(image, 16)
    blurred = small.filter(ImageFilter.BoxBlur(3))
    edges = (np.asarray(small, np.float32) - np.asarray(blurred, np.float32)).reshape(-1, 3)
    line = np.linalg.eigh(edges.T @ edges).eigenvectors[:, -1]
    line /= np.abs(line).sum() * (1 if line.sum() >= 0 else -1)
    lowest = 255 * line[line < 0].sum()
    return image.convert("L", (*line.tolist(), -float(lowest)))


def on_paper(image: Image.Image) -> Image.Image:
    """Lay an RGBA picture on paper: its own colour if it is mostly opaque, else a contrast."""
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image.convert("RGB")
    small = np.asarray(shrink(image, GRID)).reshape(-1, 4)
    seen = small[small[:, 3] > 127, :3]
    if 2 * len(seen) > len(small):
        red, green, blue = (int(quantile(seen[:, band], 0.5)) for band in range(3))
    else:
        seen = small[small[:, 3] > 0, :3]
        red = green = blue = 255 if not len(seen) or seen.mean() < 128 else 0
    paper = Image.new("RGB", image.size, (red, green, blue))
    paper.paste(image.convert("RGB"), mask=alpha)
    return paper


def shrink(image: Image.Image, longest: int) -> Image.Image:
    """Average down to `longest` pixels on the longer side, at least 3 on the other."""
    scale = min(1, longest / max(image.size))
    size = max(3, round(image.width * scale)), max(3, round(image.height * scale))
    return image.resize(size, Image.Resampling.BOX)


def is_light(grey: Image.Image) -> bool:
    """Whether the ink is lighter than the paper.

    Ink is thin, so what a median takes away is skewed to its side, under shadows too; and the
    picture's border is paper, which decides for strokes as thick as the gaps between them.
    """
    small = shrink(grey, 16)
    level = np.asarray(small, np.float32)
    detail = (level - np.asarray(small.filter(ImageFilter.MedianFilter(5)))).ravel()
    square = detail * detail
    skew = float(square @ detail) / (float(square.sum()) ** 1.5 / math.sqrt(len(detail)) + 1e-3)
    border = quantile(np.concatenate((level[0], level[-1], level[:, 0], level[:, -1])), 0.5)
    return skew + 3 * (float(level.mean()) - border) / (float(level.std()) + 1e-6) > 0


def find_ink(grey: Image.Image) -> Floats:
    """Return how much darker than the paper around it each pixel is: 0 paper, 1 black.

    The paper under the ink is a morphological closing (Serra 1982): dark strokes narrower than
    two fifths of the picture vanish, while shadows and their edges stay. Dividing by it takes
    uneven light away (a shadow dims ink and paper by the same factor).
    """
    if is_light(grey):
        grey = ImageChops.invert(grey)
    paper = np.asarray(shrink(grey, GRID), np.int16)
    for _ in "yx":  # once for each axis; .T swaps them
        paper = median3(paper).T
    reach = max(1, paper.shape[0] // 5), max(1, paper.shape[1] // 5)
    for axis in (0, 1):
        paper = extend(paper, 2 * reach[axis]).T
    paper = -largest(-largest(paper, reach), reach)
    closed = Image.fromarray(paper.clip(0, 255).astype(np.uint8))
    light = np.asarray(closed.resize(grey.size, Image.Resampling.BILINEAR), np.float32)
    ink = (light - np.asarray(grey)) / np.maximum(light, 32)  # near black there is only noise
    # In noise or texture the closing is too bright: most of the picture is paper, so put it at 0.
    return ink - np.float32(min(max(quantile(ink, 0.5), 0), 0.15))


def median3(rows: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return the median of each row and its neighbours: less noise, edges stay sharp."""
    above, here, below = rows[:-2], rows[1:-1], rows[2:]
    inner = np.maximum(np.minimum(above, here), np.minimum(np.maximum(above, here), below))
    return np.concatenate((rows[:1], inner, rows[-1:]))


def extend(rows: NDArray[np.int16], by: int) -> NDArray[np.int16]:
    """Continue a slope past both ends, by `by` rows each, so that a shadow does not end there."""
    before, after = rows[by:0:-1], rows[-2 : -2 - by : -1]
    return np.concatenate((2 * rows[0] - before, rows, 2 * rows[-1] - after))


def largest(array: NDArray, reach: tuple[int, int]) -> NDArray:
    """Return the largest value within `reach` rows and columns; as many are lost at each end."""
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
    some = values.ravel()[:: max(1, values.size // 5000)]
    rank = int(part * (len(some) - 1))
    return float(np.partition(some, rank)[rank])


def find_digit(ink: Floats) -> tuple[Floats, Box]:
    """Return the digit's ink alone, full strokes at 1, cut out with a margin of one pixel, and
    where it is in `ink`: top, bottom, left, right.

    Pixels above 0.4 of Otsu's threshold form connected parts. The one with the most ink is the
    digit, together with good parts close to it (broken strokes).
    """
    # Sigma, if it is Gaussian; the lower quartile, since strokes and their edges are no noise.
    noise = 2.22 * quantile(np.abs(ink[::3, 1:] - ink[::3, :-1]), 0.25)
    floor = max(3 * noise, 0.04)
    seen = ink[ink > floor]
    if not seen.size:
        raise ValueError(BLANK)
    high = otsu(seen)
    mask = ink > max(floor, 0.4 * high)
    y, x = np.divmod(np.flatnonzero(mask), ink.shape[1])  # several times as fast as np.nonzero
    value = ink[y, x]
    part = label(mask, y, x)
    mine = of_digit(part, y, x, value, high, ink.shape)
    y, x, value = y[mine], x[mine], np.sort(value[mine])
    level = float(value[int(len(value) * 0.8)])
    first, last, start, end = (int(v) for v in (y.min(), y.max() + 1, x.min(), x.max() + 1))
    if max(last - first, end - start) < 5 or level < max(0.1, 8 * noise):
        raise ValueError(BLANK)
    black = max(2 * noise, 0.08 * level)
    padded = np.zeros((ink.shape[0] + 2, ink.shape[1] + 2), np.float32)
    padded[1:-1, 1:-1] = ink
    digit = (padded[first : last + 2, start : end + 2] - black) / (level - black)
    strokes = np.zeros((last - first + 4, end - start + 4), np.bool_)
    strokes[y - first + 2, x - start + 2] = True
    strokes = largest(strokes, (1, 1))  # with the grey edge around them
    return np.minimum(np.maximum(digit, 0), 1) * strokes, (first, last, start, end)


def of_digit(
    part: Ints, y: Ints, x: Ints, value: Floats, high: float, shape: tuple[int, ...]
) -> Mask:
    """Return which pixels (y, x), of these parts and with this ink, belong to the digit.

    Parts that run along the border or from one side to another are taken for ruled lines,
    shadows and the table's edge, and only if there is nothing else for the digit.
    """
    height, width = shape
    mass = np.bincount(part, value * value)
    peak, bottom, right = (largest_of(part, v, len(mass)) for v in (value, y, x))
    top, left = (-largest_of(part, -v, len(mass)) for v in (y, x))
    length = np.maximum(bottom - top, right - left) + 1
    sides = 1 * (top == 0) + (left == 0) + (bottom == height - 1) + (right == width - 1)
    rim = np.bincount(part, (y == 0) | (x == 0) | (y == height - 1) | (x == width - 1))
    line = (rim > 0.3 * length) | (sides > 1)
    main = np.argmax(mass * (peak > high) * np.where(line, 0.05, 1))
    keep = np.arange(len(mass)) == main
    good = (peak > 0.75 * high) & (mass > 0.02 * mass[main]) & ~line
    for _ in range(3):  # what joins may bring others near
        first, last = top[keep].min(), bottom[keep].max()
        start, end = left[keep].min(), right[keep].max()
        size = max(last - first, end - start) + 1
        longer = np.maximum(length, size)
        above = np.maximum(top - last, first - bottom) - 1  # the gap, in rows
        beside = np.maximum(left - end, start - right) - 1
        # Less of a gap sideways: there the next digit of a number stands.
        near = good & (above < 0.25 * longer) & (beside < 0.12 * longer) & ~keep
        if not near.any():
            break
        keep |= near
    return keep[part]


def largest_of(part: Ints, value: NDArray, count: int) -> NDArray:
    """Return the largest value of each part."""
    result = np.full(count, value.min())
    np.maximum.at(result, part, value)
    return result


def otsu(values: Floats) -> float:
    """Return the threshold that parts `values` (0..1) best in two classes (Otsu 1979).

    Each value counts by its size, so that a small digit is not outvoted by faint texture.
    """
    levels = np.arange(256)
    weight = np.bincount((values * 255).astype(np.uint8), minlength=256) * levels
    below, moment = weight.cumsum(), (weight * levels).cumsum()
    spread = np.maximum(below * (below[-1] - below), 1).astype(float)
    between = (moment[-1] * (below / below[-1]) - moment) ** 2 / spread
    return float(between.argmax()) / 255


def label(mask: Mask, y: Ints, x: Ints) -> Ints:
    """Return for each pixel (y, x) of `mask` the number, 0.., of its 8-connected part.

    Union-find in whole arrays: neighbours hook the larger root to the smaller one until all
    agree (Shiloach and Vishkin 1982), a few rounds whatever the picture.
    """
    number = np.full((mask.shape[0] + 1, mask.shape[1] + 2), -1)  # with a border of no pixels
    mine = np.arange(len(y))
    number[y, x + 1] = mine
    others = [number[y + dy, x + 1 + dx] for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1))]
    one, other = np.tile(mine, 4), np.concatenate(others)
    one, other = one[other >= 0], other[other >= 0]
    root = mine
    while one.size:
        root = root.copy()
        np.minimum.at(root, np.maximum(one, other), np.minimum(one, other))
        up = root[root]
        while (up != root).any():
            root, up = up, up[up]
        one, other = root[one], root[other]
        differ = one != other
        one, other = one[differ], other[differ]
    return ((root == mine).cumsum() - 1)[root]


def inner_box(digit: Floats, where: Box, ink: Floats) -> Box | None:
    """Return left, top, right, bottom inside a large sheet or frame, None if it is neither.

    These run along all four sides of their bounding box; a digit touches each in a few places.
    """
    first, last, start, end = where
    y, x = round((last - first) * 0.12), round((end - start) * 0.12)
    if min(y, x) < 3 or last - first < 0.3 * ink.shape[0] or end - start < 0.3 * ink.shape[1]:
        return None
    part = digit[1:-1, 1:-1] > 0
    sides = part[:y].any(0), part[-y:].any(0), part[:, :x].any(1), part[:, -x:].any(1)
    if min(side.mean() for side in sides) < 0.85:
        return None
    return start + x, first + y, end - x, last - y


def fit(digit: Floats, shape: tuple[int, int, int]) -> Floats:
    """Scale the digit to 20x20 and put its centre of mass at (14, 14) of 28x28, like MNIST."""
    unit = (max(digit.shape) - 2) / 20  # pixels here for one pixel there, without the margin
    rows, columns = digit.sum(1), digit.sum(0)
    centre_y = rows @ np.arange(len(rows)) / rows.sum() + 0.5
    centre_x = columns @ np.arange(len(columns)) / rows.sum() + 0.5
    pad = math.ceil(15 * unit)
    canvas = Image.new("F", (len(columns) + 2 * pad, len(rows) + 2 * pad))
    canvas.paste(Image.fromarray(digit), (pad, pad))
    x = min(max(pad + centre_x - 14.5 * unit, 0), canvas.width - 28 * unit)
    y = min(max(pad + centre_y - 14.5 * unit, 0), canvas.height - 28 * unit)
    box = (x, y, x + 28 * unit, y + 28 * unit)
    small = np.asarray(canvas.resize((28, 28), Image.Resampling.BILINEAR, box))
    strokes = np.sort(small[small > 0.1 * small.max()])
    full = strokes[int(len(strokes) * 0.8)]  # thin strokes came out grey
    return np.minimum(small / full, 1).astype(np.float32).reshape(shape)
