"""Find the ink in a picture of a digit: how much darker than the paper around it each pixel is.

1. `load`      reduce it to a few hundred pixels    4. `find_ink`       ink relative to the paper
2. `to_grey`   keep what separates ink from paper   5. `without_lines`  if the paper is ruled
3. `is_light`  light ink on dark paper?

parts.py goes on from there.
"""

import math
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from runtime.decode import NothingToSee, strips

Floats = NDArray[np.float32]

WORK = 192  # longest side, in pixels, at which the ink is searched for
GRID = 64  # longest side at which the paper's brightness is estimated
BLOCKS = 8  # parts of the width in which ruled lines are searched for
THIN = 2  # pixels; a line is at most twice as thick
STEEP = 0.1  # of a ruled line: rows for each column
OUTER = 5  # a fifth of the picture at each side: where the lines of a cell are
LINED = 0.6  # of the strongest ink: the mean of a row that is a line of a cell
FAINT = 0.15  # of a ruled line, compared to the strongest ink: those that are fainter do no harm


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
    if is_opaque(small):
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


def is_opaque(pixels: NDArray) -> bool:
    """Return whether pixels, (n, 4), are mostly opaque and show something."""
    seen = pixels[pixels[:, 3] > 127, :3].astype(int)
    return 2 * len(seen) > len(pixels) and bool(np.ptp(seen, 0).max() > 64)


def opaque_box(image: Image.Image) -> tuple[int, int, int, int] | None:
    """Return left, top, right, bottom of a small opaque picture in a transparent one (mode RGBa); None if none is."""
    box = image.getchannel("a").getbbox()
    if not box or 4 * (box[2] - box[0]) * (box[3] - box[1]) > image.width * image.height:
        return None
    return box if is_opaque(np.asarray(image.crop(box).convert("RGBA")).reshape(-1, 4)) else None


def shrink(image: Image.Image, longest: int) -> Image.Image:
    """Reduce a picture to `longest` pixels on the longer side, and at least 3 on the other."""
    scale = min(1, longest / max(image.size))
    size = max(3, round(image.width * scale)), max(3, round(image.height * scale))
    return image if size == image.size else image.resize(size, Image.Resampling.BOX)


def is_light(grey: Image.Image, level: NDArray) -> bool:
    """Return whether the ink is lighter than the paper. A small copy of the picture is enough. `level` is its pixels.

    Ink is thin, so the detail that a median filter removes is skewed to the side of the ink, even
    under shadows. If the strokes are as thick as the gaps, the border decides: it is paper. It counts
    less where it is bright and dark itself.
    """
    small = shrink(grey, 16)
    flat = np.asarray(small, float).ravel()
    detail = flat - np.asarray(small.filter(ImageFilter.MedianFilter(5))).ravel()
    square = detail * detail
    skew = float(square @ detail) / (float(detail @ detail) ** 1.5 / math.sqrt(len(detail)) + 1e-3)
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
    level: Floats = np.asarray(grey, np.float32)
    paper: NDArray[np.int16] = level.astype(np.int16) if small is grey else np.asarray(small, np.int16)
    if is_light(small, paper):
        level, paper = 255 - level, 255 - paper
    for _ in "yx":  # once for each axis; .T swaps them
        paper = median3(paper).T
    reach = max(1, paper.shape[0] // 5), max(1, paper.shape[1] // 5)
    for axis in (0, 1):
        paper = extend(paper, 2 * reach[axis]).T
    paper = largest(paper, reach)
    light: Floats | np.float32 = np.float32(paper.max())
    if light > paper.min():  # else the paper is plain, as in a drawing, and one number is enough
        paper = -largest(-paper, reach)
        closed = Image.fromarray(paper.astype(np.uint8))
        if has_edge(paper):
            dark = enlarged(closed.filter(ImageFilter.MinFilter(3)), grey.size)
            bright = enlarged(closed.filter(ImageFilter.MaxFilter(3)), grey.size)
            light = np.minimum(np.maximum(level, dark), bright)
        else:
            light = enlarged(closed, grey.size)
    ink: Floats = light - level
    ink /= np.maximum(light, 32)  # near black there is only noise
    # In noise or texture the closing is too bright. Most of the picture is paper, so move it to 0.
    ink -= min(max(quantile(ink, 0.5), 0), 0.15)
    return ink


def enlarged(image: Image.Image, size: tuple[int, int]) -> Floats:
    """Return the grey levels of a picture, enlarged to `size`, (width, height)."""
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32)


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
    some = values.ravel()[:: max(1, values.size // 5000)]
    place, lowest = int(part * (len(some) - 1)), some.min()
    if np.count_nonzero(some == lowest) > place:  # as on plain paper, and faster than sorting
        return float(lowest)
    return float(np.sort(some)[place])  # np.partition is slow on ties


def cell(grey: Image.Image) -> tuple[int, int, int, int] | None:
    """Return left, top, right, bottom of the paper inside thick lines that run along two or more sides of a picture,
    as in a cell cut out of a form; None if there are none."""
    if min(grey.size) < GRID:
        return None
    level = np.asarray(grey, np.float32)
    lowest, highest = grey.getextrema()
    ends: list[int] = []
    lines = 0
    for rows in (level, level.T):
        mean = rows @ np.full(rows.shape[1], 1 / rows.shape[1], np.float32)  # a third of the time of mean(1)
        paper = np.sort(mean)[len(mean) // 2]
        part = np.abs(mean - paper) / max(highest - paper, paper - lowest, 1)
        for near in (part, part[::-1]):  # from each end
            inner = 0
            thick = (near[: len(near) // OUTER] > LINED).nonzero()[0]
            if thick.size:
                lines += 1
                inner = int(thick[-1]) + 3
                while near[inner - 2] > LINED / 2 and inner < len(near) // 3:  # it is not quite level, and blurred
                    inner += 1
            ends.append(inner)
    top, bottom, left, right = ends
    return (left, top, grey.width - right, grey.height - bottom) if lines > 1 else None


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
    # windows[block, by] is that block, moved by so many rows
    windows = sliding_window_view(np.pad(thin, ((0, 0), (2 * far, 2 * far))), len(rows), axis=1)
    found = windows[np.arange(len(thin)), far + np.rint(slope[:, np.newaxis] * place).astype(int)]
    found = np.minimum(found, 2 * np.minimum(found[:, :1], found[:, 1:2]))
    total = found.sum(1)
    best = (total * total).sum(1).argmax()
    seen = np.sort(found[best, 2:], 0)[BLOCKS // 2]  # a digit may hide the line in the other half of the blocks
    line = seen > max(0.5 * FAINT * ink.max(), 0.25 * seen.max())
    if not line.any():
        return ink
    seen, line = around_rows(seen), around_rows(line)
    shift = np.rint(slope[best] * ((np.arange(width) + 0.5) / width - 0.5)).astype(int)
    at, columns = rows[:, np.newaxis] + 2 * far + shift, np.arange(width)
    ink = np.pad(ink, ((2 * far, 2 * far), (0, 0)))
    level = ink[at, columns]
    ruled = level[line]
    strength = np.zeros(len(level), np.float32)
    strength[line] = np.minimum(np.sort(ruled, 1)[:, int(0.6 * width)], 2 * seen[line])
    strength = around_rows(strength)[line, np.newaxis]
    level[line] = np.where(ruled < 2 * strength, 0, ruled)  # what is twice as dark is ink
    level[line] = np.maximum(level[line], np.minimum(bridged(level, line.nonzero()[0]), ruled))
    ink[at[line], columns] = level[line]
    return ink[2 * far : 2 * far + height]


def around_rows(values: NDArray) -> NDArray:
    """Return the largest of each value and its two neighbours."""
    return largest(np.pad(values, 1)[np.newaxis], (0, 1))[0]


def bridged(ink: Floats, rows: NDArray[np.intp]) -> Floats:
    """Return, for each pixel of these rows, the ink that is both above and below it, straight or diagonally, within a
    line's thickness: (len(rows), width)."""
    reach = 2 * THIN + 1
    width = ink.shape[1]
    padded = np.pad(ink, reach)
    near = {by: padded[rows + reach + by] for by in range(-reach, reach + 1)}
    result = np.zeros((len(rows), width), np.float32)
    for lean in (-1, 0, 1):
        sides = []
        for way in (-1, 1):
            side = np.zeros_like(result)
            for by in range(way, way * (reach + 1), way):
                left = reach + lean * by
                np.maximum(side, near[by][:, left : left + width], out=side)
            sides.append(side)
        np.maximum(result, np.minimum(*sides), out=result)
    return result
