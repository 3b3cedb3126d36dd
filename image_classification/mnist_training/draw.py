"""Draw what the network learns beside MNIST: pictures without a digit, and digits in other forms.

A network that has learned only digits takes every picture for a digit. If it also learns pictures without a digit, it
doubts other such pictures, too (outlier exposure: Hendrycks, Mazeika, Dietterich, ICLR 2019).
"""

import math
import numpy as np
from collections.abc import Callable, Iterator
from HersheyFonts import HersheyFonts
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIDE = 96  # pixels of a drawing
Points = NDArray[np.float64]
Strokes = list[Points]  # each (n, 2), x and y from 0 to 1

ROMAN = ["futural", "futuram", "rowmans", "rowmand", "rowmant", "timesr", "timesrb", "timesi", "timesib", "timesg"]
SCRIPT = ["scripts", "scriptc", "cursive"]
GOTHIC = ["gothgbt", "gothgrt", "gothiceng", "gothicger", "gothicita", "gothitt"]
LETTERS = {  # of Hershey's fonts (1967), without those that look like a digit
    **dict.fromkeys(ROMAN, "ACEFHJKLMNPRTUVWXYacdefhkmnprtuvwx#%*+<=>?@~"),
    **dict.fromkeys(SCRIPT, "ACFHKMNPRTUVWXacdehkmnprtuvwx"),
    **dict.fromkeys(GOTHIC, "ABCEFHKLMNPRTUVWXadehkmnprtuvwx"),
    "greek": "ACDEFGHKLMNPRSTUWXYacfghklmnprtuwy",
    **dict.fromkeys(["cyrillic", "cyrilc_1"], "#$%AEDFGHIKLMNPQRSTUWXY[_adefghiklmnpqrstuwxy"),
    "japanese": "$%&'()*+,-./0156789:ABDEFGIKMNPTUVWXZ[^_`abcdefghlnoqr",
    "symbolic": "AJKLMNOPQRSTUVWXYZ[^_abcdefghijklmnop",
    "markers": "CDEFGHIJKLMNOPcdefghijklmnop",
    "astrology": "!#$%&+?@[]^_{|}",
    "mathupp": "!#%@ijklmn",
}
# the ends of the seven segments of a display, and which of them are lit for each digit
SEGMENTS = [((0, 0), (1, 0)), ((0, 0), (0, 1)), ((1, 0), (1, 1)), ((0, 1), (1, 1))]
SEGMENTS += [((0, 1), (0, 2)), ((1, 1), (1, 2)), ((0, 2), (1, 2))]
LIT = ["012456", "25", "02346", "02356", "1235", "01356", "013456", "025", "0123456", "012356"]


def glyphs(letters: dict[str, str]) -> list[Strokes]:
    """Return the strokes of letters, which are given for each font."""
    found = []
    for font, characters in letters.items():
        fonts = HersheyFonts()
        fonts.load_default_font(font)
        for character in characters:
            strokes = [np.array(stroke, float) for stroke in fonts.strokes_for_text(character) if len(stroke) > 1]
            if strokes:
                found.append(unit(strokes))
    return found


def unit(strokes: Strokes) -> Strokes:
    """Move and scale strokes so that the longer side goes from 0 to 1, and the other one is in the middle."""
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    size = max((high - low).max(), 1e-6)
    return [(stroke - (low + high) / 2) / size + 0.5 for stroke in strokes]


def by_hand(strokes: Strokes, rng: np.random.Generator, amount: float = 1) -> Strokes:
    """Lean, turn, stretch and bend strokes as a hand would."""
    angle, shear, stretch = rng.uniform(-0.2, 0.2), rng.uniform(-0.25, 0.25), rng.uniform(-0.3, 0.3)
    cos, sin = math.cos(amount * angle), math.sin(amount * angle)
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, amount * shear], [0, 1]])
    turn = turn @ np.diag([math.exp(amount * stretch), 1])
    waves = rng.uniform(-1, 1, (2, 2, 2)) * 5, rng.uniform(0, 6.3, (2, 2)), rng.uniform(0, 0.04, (2, 2)) * amount
    result = []
    for stroke in strokes:
        fine = dense(stroke, 0.04)
        for frequency, phase, height in zip(*waves, strict=True):
            fine = fine + height * np.sin(fine @ frequency + phase)
        result.append((fine - 0.5) @ turn.T)
    return unit(result)


def dense(stroke: Points, step: float) -> Points:
    """Return the same line with a point at least every `step`."""
    length = np.hypot(*np.diff(stroke, axis=0).T)
    at = np.concatenate([[0], np.cumsum(length)])
    fine = np.linspace(0, at[-1], max(2, math.ceil(at[-1] / step) + 1))
    return np.stack([np.interp(np.union1d(at, fine), at, stroke[:, axis]) for axis in (0, 1)], 1)


def drawing(strokes: Strokes, width: float) -> Image.Image:
    """Draw strokes in white on black, mode L. `width` is the pen's, where the drawing is 1."""
    image = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    room = SIDE * (0.86 - width)
    pen = max(1.0, width * SIDE)
    for stroke in strokes:
        points = [(x, y) for x, y in (stroke - 0.5) * room + SIDE / 2]
        draw.line(points, fill=255, width=round(pen), joint="curve")
        if pen > 2:
            for x, y in points[:: len(points) - 1 or 1]:
                draw.circle((x, y), pen / 2, fill=255)
    return image


def pen(rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(math.log(0.03), math.log(0.16)))


def smooth(knots: Points) -> Points:
    """Return a curve along the knots, with rounded corners."""
    at = np.linspace(0, len(knots) - 1, 12 * len(knots))
    curve = np.stack([np.interp(at, np.arange(len(knots)), knots[:, axis]) for axis in (0, 1)], 1)
    weights = np.hanning(15) / np.hanning(15).sum()
    return np.stack([np.convolve(np.pad(c, 7, "edge"), weights, "valid") for c in curve.T], 1)


def circle(x: float, y: float, radius: float, start: float = 0, end: float = 2 * math.pi) -> Points:
    angle = np.linspace(start, end, 30)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1)


def line(*points: tuple[float, float]) -> Points:
    return np.array(points, float)


# ---- Pictures without a digit. Each function returns one, mode L, light on dark.


def sign(rng: np.random.Generator) -> Image.Image:
    """A simple drawing: a face, a house, an arrow, a heart, a sun, a spiral, a grid, waves and so on."""
    turn = np.linspace(0, 2 * math.pi * rng.uniform(2, 4), 80)
    corners = int(rng.integers(4, 9))
    tips = np.arange(2 * corners + 1) * math.pi / corners
    star = np.stack([np.sin(tips), -np.cos(tips)], 1) * np.where(np.arange(2 * corners + 1) % 2, 0.45, 1)[:, None]
    t = np.linspace(0, 2 * math.pi, 40)
    heart = np.stack([16 * np.sin(t) ** 3, -13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t)], 1)
    mouth = circle(0.5, 0.5 + rng.uniform(-0.1, 0.1), rng.uniform(0.2, 0.3), 0.4, math.pi - 0.4)
    eyes = [circle(0.5 + side * 0.18, 0.35, 0.03) for side in (-1, 1)]
    house = [line((0, 1), (0, 0.4), (0.5, 0), (1, 0.4), (1, 1), (0, 1)), line((0, 0.4), (1, 0.4))]
    door = [line((0.4, 1), (0.4, 0.65), (0.6, 0.65), (0.6, 1))]
    arrow = [line((0, 0.5), (1, 0.5)), line((0.7, 0.2), (1, 0.5), (0.7, 0.8))]
    wave = np.stack([turn / turn[-1], 0.15 * np.sin(turn * 2)], 1)
    cross = [line((0, 0), (1, 1)), line((0, 1), (1, 0))]
    plus = [line((0.5, 0), (0.5, 1)), line((0, 0.5), (1, 0.5))]
    rays = [line((0.5 + 0.32 * c, 0.5 + 0.32 * s), (0.5 + 0.5 * c, 0.5 + 0.5 * s)) for c, s in circle(0, 0, 1)[::4]]
    grid = [line((k / 3, 0), (k / 3, 1)) for k in range(4)] + [line((0, k / 3), (1, k / 3)) for k in range(4)]
    things: list[Strokes] = [
        [circle(0.5, 0.5, 0.5), *eyes, mouth],
        [circle(0.5, 0.5, 0.5), *eyes],
        house,
        house + door,
        arrow,
        cross,
        plus,
        cross + plus,
        [circle(0.5, 0.5, 0.5), *plus],
        [circle(0.5, 0.5, 0.5), *cross],
        [circle(0.5, 0.5, 0.5), circle(0.5, 0.5, rng.uniform(0.1, 0.35))],
        [circle(0.5, 0.5, 0.25), *rays],
        [heart],
        [star],
        [np.stack([turn * np.cos(turn), turn * np.sin(turn)], 1)],
        [wave],
        [wave, wave + np.array([0, 0.3])],
        grid,
        grid[1:3] + grid[5:7],
        [line((0, 0.6), (0.35, 1), (1, 0))],
        [line((0, 1), (0.5, 0), (1, 1), (0, 1))],
        [circle(0.5, 0.3, 0.3), line((0.5, 0.6), (0.5, 1)), line((0.25, 0.8), (0.75, 0.8))],
        [line((0, 0), (0, 1)), line((0, 0.5), (1, 0.5)), line((1, 0), (1, 1))],
        [line((0, 0), (0.25, 1), (0.5, 0.3), (0.75, 1), (1, 0))],
        [circle(0.3, 0.5, 0.3), circle(0.7, 0.5, 0.3)],
        [line((0, 0.3), (1, 0.3)), line((0, 0.7), (1, 0.7))],
        [line((0, 0.2), (1, 0.2)), line((0, 0.5), (1, 0.5)), line((0, 0.8), (1, 0.8))],
    ]
    strokes = unit(things[rng.integers(len(things))])
    for _ in range(rng.integers(4) if rng.random() < 0.3 else 0):  # quarters of a turn
        strokes = [np.stack([1 - y, x], 1) for x, y in (stroke.T for stroke in strokes)]
    return drawing(by_hand(strokes, rng), pen(rng))


def scribble(rng: np.random.Generator) -> Image.Image:
    """Long curves that cross themselves, or many short strokes."""
    strokes = []
    many = rng.random() < 0.4
    for _ in range(rng.integers(4, 12) if many else rng.integers(1, 4)):
        knots = rng.random((3 if many else rng.integers(7, 20), 2))
        curve = smooth(knots) if rng.random() < 0.7 else knots
        strokes.append(curve * rng.uniform(0.3, 1, 2))
    return drawing(unit(strokes), pen(rng) / 1.5)


def hand(rng: np.random.Generator) -> Image.Image:
    """A palm, a wrist and some fingers."""
    image = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    x, y = SIDE * rng.uniform(0.45, 0.55), SIDE * 0.65
    draw.ellipse((x - 20, y - 18, x + 20, y + 22), fill=255)
    draw.line((x, y, x + rng.uniform(-10, 10), SIDE), fill=255, width=int(rng.integers(18, 30)))
    for angle in np.linspace(-1.1, 1.1, 5)[rng.random(5) < 0.7]:
        angle += rng.uniform(-0.15, 0.15)
        length, width = rng.uniform(28, 48), int(rng.integers(6, 12))
        end = x + length * math.sin(angle), y - length * math.cos(angle)
        draw.line((x, y, *end), fill=255, width=width)
        draw.circle(end, width / 2, fill=255)
    return image.rotate(float(rng.uniform(-50, 50)), Image.Resampling.BILINEAR)


def blob(rng: np.random.Generator) -> Image.Image:
    """Filled shapes that overlap, with holes in them: spots, shadows, corners of things."""
    image = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 7)):
        x, y = rng.uniform(0.25, 0.75, 2) * SIDE
        kind, fill = rng.random(), 255 if rng.random() < 0.75 else 0
        if kind < 0.4:
            width, height = rng.uniform(3, 28, 2)
            draw.ellipse((x - width, y - height, x + width, y + height), fill=fill)
        else:
            count = int(rng.integers(3, 8))
            angle, reach = np.sort(rng.uniform(0, 2 * math.pi, count)), rng.uniform(6, 40, count)
            draw.polygon([(x + r * math.cos(a), y + r * math.sin(a)) for a, r in zip(angle, reach, strict=True)], fill)
    return image


def texture(rng: np.random.Generator) -> Image.Image:
    """Noise whose coarse parts are stronger than its fine ones, as in photos (Field, J. Opt. Soc. Am. A 4, 1987)."""
    y, x = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij")
    squash = rng.uniform(0.4, 2.5)
    frequency = np.hypot(y * squash, x / squash) + 1 / SIDE
    waves = np.fft.fft2(rng.normal(size=(SIDE, SIDE))) / frequency ** rng.uniform(1, 2.5)
    values = np.fft.ifft2(waves).real
    values = (values - values.mean()) / values.std()
    if rng.random() < 0.5:  # only the peaks
        values = np.clip((values - rng.uniform(0.2, 1.2)) * rng.uniform(1, 6), 0, 1) * 4 - 2
    return Image.fromarray((values * 50 + 100).clip(0, 255).astype(np.uint8))


def leaves(rng: np.random.Generator) -> Image.Image:
    """Things of all sizes that hide each other, each of one brightness: "dead leaves", which have the statistics of
    photos (Lee, Mumford, Huang: Int. J. Computer Vision 41, 2001)."""
    image = Image.new("L", (SIDE, SIDE), int(rng.integers(256)))
    draw = ImageDraw.Draw(image)
    for size in np.sort(2 / rng.uniform(0.03, 0.6, rng.integers(8, 90)))[::-1]:
        x, y = rng.uniform(0, SIDE, 2)
        other, fill = size * rng.uniform(0.3, 1), int(rng.integers(256))
        shape = draw.ellipse if rng.random() < 0.6 else draw.rectangle
        shape((x - size, y - other, x + size, y + other), fill=fill)
    return image


def word(letters: list[Strokes], rng: np.random.Generator) -> Image.Image:
    """Letters that touch, as in text."""
    strokes: Strokes = []
    for place in range(rng.integers(2, 6)):
        letter = by_hand(letters[rng.integers(len(letters))], rng, 0.5)
        strokes += [stroke + np.array([place * 0.75, 0]) for stroke in letter]
    right = max(stroke[:, 0].max() for stroke in strokes)
    height = rng.uniform(0.4, 0.7)
    strokes += [line((0, height), (right, height))] if rng.random() < 0.6 else []  # so that they are one part
    return drawing(unit(strokes), pen(rng) / 2)


def pair(images: NDArray[np.uint8], rng: np.random.Generator) -> Image.Image:
    """Two or three digits of MNIST that touch."""
    columns = []
    for image in images[rng.integers(len(images), size=rng.choice([2, 2, 3]))]:
        used = (image > 60).any(0).nonzero()[0]
        columns.append(image[:, used[0] : used[-1] + 1])
    wide = columns[0].astype(int)
    for more in columns[1:]:
        narrow = min(wide.shape[1], more.shape[1])
        by = next((n for n in range(1, narrow) if touch(wide, more, n)), min(3, narrow - 1)) + 1
        both = np.zeros((28, wide.shape[1] + more.shape[1] - by), int)
        both[:, : wide.shape[1]] = wide
        both[:, -more.shape[1] :] = np.maximum(both[:, -more.shape[1] :], more)
        wide = both
    return Image.fromarray(wide.astype(np.uint8)).resize((3 * wide.shape[1], 84), Image.Resampling.BILINEAR)


def touch(one: NDArray, other: NDArray, overlap: int) -> bool:
    """Return whether the ink of two pictures meets if the last `overlap` columns of one are the first of the other."""
    return bool((np.minimum(one[:, -overlap:], other[:, :overlap]) > 100).any())


def no_digits(count: int, images: NDArray[np.uint8], labels: NDArray, seed: int) -> Iterator[Image.Image]:
    """Yield `count` pictures without a digit, or with several that touch, mode L. `images` and `labels` are MNIST's."""
    rng = np.random.default_rng(seed)
    letters = glyphs(LETTERS)
    turned = images[np.isin(labels, [2, 3, 4, 5, 7])]
    kinds: list[Callable[[], Image.Image]] = [
        lambda: drawing(by_hand(letters[rng.integers(len(letters))], rng), pen(rng)),
        lambda: sign(rng),
        lambda: scribble(rng),
        lambda: hand(rng),
        lambda: blob(rng),
        lambda: texture(rng),
        lambda: leaves(rng),
        lambda: word(letters, rng),
        lambda: pair(images, rng),
        lambda: Image.fromarray(np.rot90(turned[rng.integers(len(turned))], rng.choice([1, 3]))),
    ]
    shares = [0.42, 0.16, 0.09, 0.03, 0.05, 0.06, 0.05, 0.07, 0.04, 0.03]
    for kind in rng.choice(len(kinds), count, p=shares):
        yield kinds[kind]()


def form(value: int, rng: np.random.Generator) -> Strokes:
    """Return the strokes of a 1, 3, 7 or 8 as many people write them, but hardly anyone in MNIST: a 1 on a long foot,
    a 3 whose top is flat, a narrow 7 whose top rises, an 8 that is open at the top."""
    belly = smooth(line((0.35, 0.4), (0.7, 0.42), (0.85, 0.6), (0.8, 0.85), (0.55, 1), (0.25, 1), (0, 0.88)))
    return {
        1: [line((0.2, rng.uniform(0.15, 0.4)), (0.5, 0), (0.5, 1)), line((rng.uniform(-0.1, 0.4), 1), (1.2, 1))],
        3: [np.concatenate([line((0.05, 0), (rng.uniform(0.6, 0.8), 0)), belly])],
        7: [line((0, rng.uniform(0, 0.12)), (rng.uniform(0.45, 0.65), 0), (rng.uniform(0, 0.25), 1))],
        8: [smooth(line((0.8, 0), (0.3, 0), (0.2, 0.3), (0.8, 0.7), (0.5, 1.1), (0.1, 0.8), (0.7, 0.3), (0.9, 0.1)))],
    }[value]


def other_digits(count: int, seed: int) -> Iterator[tuple[Image.Image, int]]:
    """Yield `count` digits, mode L, and their values: of typefaces, of seven-segment displays, boxy ones, and other
    forms of handwriting."""
    rng = np.random.default_rng(seed)
    fonts = [*ROMAN, *SCRIPT, *GOTHIC[:2]]
    printed = [glyphs({font: "0123456789"}) for font in fonts]
    for value in rng.integers(10, size=count):
        kind = rng.random()
        if kind < 0.2 and value in (1, 3, 7, 8):
            yield drawing(by_hand(form(value, rng), rng), pen(rng)), int(value)
            continue
        if kind < 0.65:
            strokes = printed[rng.integers(len(fonts))][value]
            if value == 0 and rng.random() < 0.3:
                strokes = [circle(0.5, 0.5, 0.5)]
            yield drawing(by_hand(strokes, rng), pen(rng)), int(value)
            continue
        gap, wide, slant = rng.choice([0, 0, 0.04]), rng.uniform(0.7, 1.3), rng.uniform(0, 0.25)
        ends = [np.array(SEGMENTS[int(segment)], float) for segment in LIT[value]]
        ends = [(1 - gap) * each + gap * each.mean(0) for each in ends]  # shorter
        strokes = [np.stack([wide * x + slant * (1 - y), y], 1) for x, y in (each.T for each in ends)]
        yield drawing(by_hand(unit(strokes), rng, rng.choice([0, 0.3, 0.6])), max(pen(rng), gap)), int(value)


def european(image: np.ndarray, label: int, rng: np.random.Generator) -> np.ndarray:
    """Return a copy of the image, (28, 28) uint8: a 1 with a flag and perhaps a foot, or a 7 with a bar.
    This is how people write in much of the world, but it is rare in MNIST."""
    rows, columns = np.nonzero(image > 127)
    top, bottom = rows.min(), rows.max()
    height = bottom - top
    zoom = 4  # drawn larger, since Pillow's lines are not smooth
    canvas = Image.fromarray(image).resize((28 * zoom, 28 * zoom), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(canvas)

    def bar(y: float, x: float, angle: float, length: float, width: float) -> None:
        """From (y, x); the angle is clockwise from straight down."""
        ends = [(x, y), (x - length * math.sin(angle), y + length * math.cos(angle))]
        ends = [(zoom * (x + 0.5), zoom * (y + 0.5)) for x, y in ends]
        draw.line(ends, fill=255, width=round(zoom * width))
        for end in ends:
            draw.circle(end, zoom * width / 2, fill=255)

    if label == 1:
        head, foot = columns[rows == top].mean(), columns[rows == bottom].mean()
        lean = math.atan2(head - foot, height)
        width = max(1.5, 0.75 * image.sum() / 255 / math.hypot(height, np.ptp(columns)))
        angle = rng.uniform(lean + 0.35, max(lean + 0.35, 1.2))  # never level: that is a 7
        bar(top + width / 2, head, angle, height * rng.uniform(0.2, 0.6), width)
        if abs(lean) < 0.25 and rng.random() < 0.4:
            angle, length = math.pi / 2 + rng.uniform(-0.15, 0.15), height * rng.uniform(0.15, 0.55)
            bar(bottom, foot, angle, length, width)
            bar(bottom, foot, angle + math.pi, length, width)
    else:
        row = round(top + height * rng.uniform(0.42, 0.6))
        column = max(columns[rows == row], default=columns.mean()) - 1
        angle, length = math.pi / 2 + rng.uniform(-0.4, 0.2), height * rng.uniform(0.15, 0.28)
        bar(row, column, angle, length, 2)
        bar(row, column, angle + math.pi, length, 2)
    return np.asarray(canvas.resize((28, 28), Image.Resampling.BOX))
