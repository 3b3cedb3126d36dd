"""From a picture of a digit to the 28x28 grey picture that MNIST holds. First sketch."""

import math
import numpy as np
from PIL import Image, ImageFilter, ImageOps

WORK = 256  # longest side, in pixels, at which the ink is searched for
GRID = 16  # longest side at which the paper's brightness is estimated


def prepare(image: Image.Image, shape: tuple[int, int, int] = (28, 28, 1)) -> np.ndarray:
    """Return the digit as float32 of `shape`, 0..1, bright ink on a dark background."""
    grey = to_grey(load(image))
    ink = find_ink(grey)
    mask = digit_mask(ink)
    return fit(ink, mask, shape)


def load(image: Image.Image) -> Image.Image:
    image.draft(None, (WORK, WORK))
    if image.mode.startswith(("I", "F")):
        image = image.convert("F")
    elif image.mode in ("P", "PA", "1", "LA") or "transparency" in image.info:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGB")
    factor = math.ceil(max(image.size) / WORK)
    if factor > 1:
        image = image.reduce(factor)
    return ImageOps.exif_transpose(image)


def to_grey(image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        array = np.asarray(image)
        low, high = array.min(), array.max()
        return (array - low) * np.float32(255 / max(high - low, 1e-6))
    if image.mode == "RGBA":
        alpha = np.asarray(image.getchannel("A"), dtype=np.float32) / 255
        grey = np.asarray(image.convert("RGB").convert("L"), dtype=np.float32)
        if alpha.min() < 1:
            mean = (grey * alpha).sum() / max(alpha.sum(), 1e-6)
            if alpha.mean() > 0.5:
                paper = np.median(grey[alpha > 0.5])
            else:
                paper = 255 if mean < 128 else 0
            grey = grey * alpha + paper * (1 - alpha)
        return grey
    return np.asarray(image.convert("L"), dtype=np.float32)


def find_ink(grey: np.ndarray) -> np.ndarray:
    """Darkness relative to the paper, 0..1, float32, whatever the polarity and light."""
    height, width = grey.shape
    scale = min(1, GRID / max(height, width))
    size = max(2, round(width * scale)), max(2, round(height * scale))
    small = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX))
    y, x = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
    border = np.ones(small.shape, bool)
    border[1:-1, 1:-1] = False
    terms = np.stack([np.ones_like(x), x, y], -1)
    plane = terms @ np.linalg.lstsq(terms[border], small[border], rcond=None)[0]
    if (small - plane).mean() > 0:
        grey, small = 255 - grey, 255 - small
    paper = Image.fromarray(small.clip(0, 255).astype(np.uint8))
    paper = paper.filter(ImageFilter.MaxFilter(7)).filter(ImageFilter.MinFilter(7))
    light = paper.resize((width, height), Image.Resampling.BILINEAR)
    return (1 - grey / np.maximum(np.asarray(light, dtype=np.float32), 1)).clip(0, 1)


def otsu(values: np.ndarray) -> float:
    """The threshold that parts `values` (0..1) best in two classes (Otsu 1979)."""
    count, edges = np.histogram(values, 128, (0, 1))
    weight = count.cumsum()
    total = (count * edges[1:]).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (total[-1] * weight / weight[-1] - total) ** 2 / (weight * (weight[-1] - weight))
    return float(edges[1:][np.nanargmax(np.where(np.isfinite(between), between, -1))])


def components(mask: np.ndarray) -> np.ndarray:
    """Label the 8-connected parts of a mask, 0..n-1 for its pixels in order."""
    height, width = mask.shape
    number = np.cumsum(mask.ravel()).reshape(mask.shape) - 1
    pairs = []
    for a, b in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[:-1, :-1], np.s_[1:, 1:]),
        (np.s_[:-1, 1:], np.s_[1:, :-1]),
    ):
        both = mask[a] & mask[b]
        pairs.append((number[a][both], number[b][both]))
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    root = np.arange(int(mask.sum()))
    while True:
        ra, rb = root[a], root[b]
        if (ra == rb).all():
            return np.unique(root, return_inverse=True)[1]
        np.minimum.at(root, np.maximum(ra, rb), np.minimum(ra, rb))
        while (root != root[root]).any():
            root = root[root]


def digit_mask(ink: np.ndarray) -> np.ndarray:
    if ink.max() < 0.05:
        raise ValueError("There is no digit to see: the picture is blank.")
    high = otsu(ink)
    low = high * 0.5
    mask = ink > low
    label = components(mask)
    mass = np.bincount(label, ink[mask])
    peak = np.zeros(len(mass))
    np.maximum.at(peak, label, ink[mask])
    keep = (peak > high) & (mass > 0.08 * mass[peak > high].max())
    out = np.zeros(ink.shape, bool)
    out[mask] = keep[label]
    return out


def fit(ink: np.ndarray, mask: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Scale the digit into 20x20 of 28x28 and centre its mass (LeCun et al. 1998)."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    level = np.percentile(ink[mask], 80)
    digit = np.where(mask, (ink / level).clip(0, 1), 0)[top:bottom, left:right]
    height, width = digit.shape
    unit = max(height, width) / 20  # source pixels per target pixel
    total = digit.sum()
    cy = (digit.sum(1) @ (np.arange(height) + 0.5)) / total
    cx = (digit.sum(0) @ (np.arange(width) + 0.5)) / total
    pad = math.ceil(15 * unit)
    canvas = Image.fromarray(np.pad(digit, pad).astype(np.float32))
    x, y = cx + pad - 14.5 * unit, cy + pad - 14.5 * unit
    x, y = max(x, 0), max(y, 0)
    box = (x, y, min(x + 28 * unit, canvas.width), min(y + 28 * unit, canvas.height))
    out = np.asarray(canvas.resize((28, 28), Image.Resampling.BILINEAR, box))
    peak = np.percentile(out[out > 0.1 * out.max()], 80)
    return (out / peak).clip(0, 1).astype(np.float32).reshape(shape)
