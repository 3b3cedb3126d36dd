"""Make a picture of a digit look like those of MNIST, on which the network was trained.

These digits were scaled to fit 20x20 pixels, anti-aliased, and placed with their centre of mass in the middle of 28x28
(LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, Proc. IEEE 86(11), 1998,
section III.A). A network trained on them reads other pictures only if they look the same.

ink.py finds the ink. Then `find_digits` keeps the strokes of a digit, not lines and specks, and `fit` puts it into
28x28. `look` repeats this on the inside of a frame, and with all the pixels of a small digit.
"""

import contextlib
import math
import numpy as np
from digit.ink import cell, find_ink, largest, load, opaque_box, quantile, to_grey, without_lines
from numpy.typing import NDArray
from PIL import Image
from runtime.decode import NothingToSee
from typing import NamedTuple

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Ints = NDArray[np.intp]
Box = tuple[int, int, int, int]
Part = tuple[Floats, Box]

SMALL = 28  # a digit of fewer pixels at WORK is looked at again, with all its pixels
BOXY = 0.65  # of its height: the width that a 0 or 8 with straight sides gets, if it is wider
OTHERS = 11  # further parts that may be digits
STRONG = 0.75  # of Otsu's threshold: the peak of a part that may be a stroke
SPECK = 0.02  # of the main part's ink: what has less is a speck
ON_RIM = 0.3  # of its length: a part of which more lies along the border is a line
LINE = 0.95  # share of its ink that does not count for a line
SOLID, FLAT, CORNER = 0.4, 1.5, 0.5  # so full of ink, so much wider than high, so far from the centre: a badge
LEAST_HEIGHT = 0.4  # of the digit: lower parts are no digits
GAP_ABOVE, GAP_BESIDE = 0.25, 0.12  # of the longer one: parts of a digit are nearer, most of all sideways
AS_HIGH, TOO_WIDE, OVERLAP = 0.7, 0.55, 0.25  # so high, so wide together and not above each other: the next digit
LEVELS = np.arange(256.0)
OUTPUT = np.arange(-14, 14, dtype=np.float32)[:, np.newaxis]  # pixels of the result, from its centre
BLANK = "There is no digit to see: nothing stands out clearly from the background."


class Parts(NamedTuple):
    """The connected parts of a picture, as columns (n,): first and last rows and columns, and what else decides."""

    top: Ints
    bottom: Ints
    left: Ints
    right: Ints
    mass: NDArray  # of the squared ink
    peak: Floats  # the strongest ink
    rim: Ints  # pixels along the border of the picture
    sides: Ints  # of the picture that it touches, 0 to 4
    badge: Mask  # solid, wider than high, and in a corner of the picture: as the name of a program is

    def length(self) -> Ints:
        return np.maximum(self.bottom - self.top, self.right - self.left) + 1


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
    small = load(image)
    if small.mode == "RGBa" and (box := opaque_box(small)):
        scale = image.width / small.width
        left, top, right, bottom = (round(scale * side) for side in box)
        image = image.crop((left, top, min(right, image.width), min(bottom, image.height)))
        small = load(image)
    grey = to_grey(small)
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
    paper = cell(grey)
    if paper:
        with contextlib.suppress(NothingToSee):  # the lines were the digit
            found = find_parts(grey.crop(paper))
            if is_apart(found[0][1], paper):
                left, top, _, _ = paper
                return [(digit, (y + top, end + top, x + left, last + left)) for digit, (y, end, x, last) in found]
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
            if inside.max() > 0.25 * ink.max() and is_apart(found[0][1], box):
                return found
        parts[0] = narrow(*parts[0])  # the frame is the digit
    return parts


def narrow(digit: Floats, where: Box) -> Part:
    """Return a boxy 0 or 8 as narrow as most people write it. What is clearly wider than high is no digit."""
    height, width = digit.shape
    if not BOXY * height < width < 1.1 * height:
        return digit, where
    size = round(BOXY * height), height
    return np.asarray(Image.fromarray(digit).resize(size, Image.Resampling.BILINEAR)), where


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
    number = label(start, end, width)
    if number.max() == 0:  # there is only one part
        digits = [np.array([True])]
    else:
        digits = of_digits(parts_of(number, y - 2, x - 2, length, mass, peak, ink.shape), high)
    parts: list[Part] = []
    for each in digits:
        mine = each[number]
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


def parts_of(part: Ints, y: Ints, x: Ints, width: Ints, mass: NDArray, peak: Floats, shape: tuple[int, ...]) -> Parts:
    """Return the table of the parts, from runs of `width` pixels at (y, x) with this ink; `part` numbers them, 0..."""
    height, across = shape
    order = part.argsort(kind="stable")
    count = np.bincount(part)
    begin = count.cumsum() - count

    def each(ufunc: np.ufunc, values: NDArray) -> NDArray:  # over the runs of each part
        return ufunc.reduceat(values[order], begin)

    top, bottom = y[order][begin], each(np.maximum, y)
    left, right = each(np.minimum, x), each(np.maximum, x + width - 1)
    outer = (y == 0) | (y == height - 1)
    rim = each(np.add, np.where(outer, width, 1 * (x == 0) + (x + width == across)))
    sides = 1 * (top == 0) + (left == 0) + (bottom == height - 1) + (right == across - 1)
    mass, peak = each(np.add, mass), each(np.maximum, peak)
    high, wide = bottom - top + 1, right - left + 1
    corner = (np.abs((top + bottom) / height - 1) > CORNER) & (np.abs((left + right) / across - 1) > CORNER)
    badge = (mass > SOLID * peak * peak * high * wide) & (wide > FLAT * high) & corner
    return Parts(top, bottom, left, right, mass, peak, rim, sides, badge)


def of_digits(parts: Parts, high: float) -> list[Mask]:
    """Return which parts belong to the digit, and then which ones belong to each of up to OTHERS further digits.

    `high` is Otsu's threshold. Parts along the border, or from one side to another, are probably ruled lines, shadows
    or the edge of a table. They, and a badge, count as the digit only if there is nothing else.
    """
    line = (parts.rim > ON_RIM * parts.length()) | (parts.sides > 1)
    main = (parts.mass * (parts.peak > high) * (1 - LINE * (line | parts.badge))).argmax()
    # above or below the digit, it may be a stroke of a 5
    line |= parts.badge & ((parts.left > parts.right[main]) | (parts.right < parts.left[main]))
    good = (parts.peak > STRONG * high) & (parts.mass > SPECK * parts.mass[main]) & ~line
    digits: list[Mask] = []
    least_height = 0.0
    while len(digits) <= OTHERS:
        digit = np.arange(len(line)) == main
        for _ in range(3):  # a part that joins may be close to others
            good &= ~digit
            if not good.any():
                break
            digit |= good & are_close(parts, digit)
        good &= ~digit
        height = parts.bottom[digit].max() - parts.top[digit].min() + 1
        if not digits:
            least_height = LEAST_HEIGHT * height
            good &= (parts.sides == 0) | (parts.sides[main] > 0)  # others are at the border only if the digit is, too
        if height >= least_height:
            digits.append(digit)
        if not good.any():
            break
        main = (parts.mass * good).argmax()
    return digits


def are_close(parts: Parts, digit: Mask) -> Mask:
    """Return which parts are so close to a digit that they belong to it, and are not the next digit of a number."""
    top, bottom = parts.top[digit].min(), parts.bottom[digit].max()
    left, right = parts.left[digit].min(), parts.right[digit].max()
    longer = np.maximum(parts.length(), max(bottom - top, right - left) + 1)
    above = np.maximum(parts.top - bottom, top - parts.bottom) - 1  # the gap, in rows; negative if they overlap
    beside = np.maximum(parts.left - right, left - parts.right) - 1
    lower, higher = (f(parts.bottom - parts.top, bottom - top) + 1 for f in (np.minimum, np.maximum))
    together = np.maximum(parts.right, right) - np.minimum(parts.left, left)
    overlap = -beside > OVERLAP * np.minimum(parts.right - parts.left, right - left)
    next_digit = (lower > AS_HIGH * higher) & (together > TOO_WIDE * (bottom - top + 1)) & ~overlap
    return (above < GAP_ABOVE * longer) & (beside < GAP_BESIDE * longer) & ~next_digit


def otsu(values: Floats) -> float:
    """Return the threshold that best separates `values` (0..1) into two classes (Otsu 1979).

    Each value is weighted by its size, so that faint texture does not outweigh a small digit.
    """
    weight = np.bincount((values * 255).astype(np.uint8), minlength=256) * LEVELS
    below, moment = weight.cumsum(), (weight * LEVELS).cumsum()
    spread = np.maximum(below * (below[-1] - below), 1)
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
