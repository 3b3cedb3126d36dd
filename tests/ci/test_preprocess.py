"""image_classification: digit/ and preprocess.py, on pictures that are drawn here: a seven or a three."""

import importlib
import io
import numpy as np
import pytest
from collections.abc import Callable
from pathlib import Path
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from support.inprocess import modules_of

with modules_of(Path(__file__).parents[2] / "image_classification"):
    digit, preprocess, decode = map(importlib.import_module, ("digit.parts", "preprocess", "runtime.decode"))

SEVEN = ((0.0, 0.0), (0.6, 0.0), (0.2, 1.0))
THREE = ((0.0, 0.05), (0.6, 0.05), (0.25, 0.4), (0.6, 0.65), (0.45, 0.97), (0.0, 0.9))
WHITE, PAPER, INK = (255, 255, 255), (225, 222, 214), (45, 45, 55)


def draw(size=(400, 400), height=200, at=(140, 100), pen=20, ink=INK, paper=PAPER, strokes=SEVEN) -> Image.Image:
    """Draw a digit of `height` pixels with its upper left corner `at`; smooth, like a photo."""
    image = Image.new("RGB", (2 * size[0], 2 * size[1]), paper)
    points = [(2 * (at[0] + height * x), 2 * (at[1] + height * y)) for x, y in strokes]
    pencil = ImageDraw.Draw(image)
    pencil.line(points, ink, 2 * pen, "curve")
    for x, y in points:
        pencil.ellipse((x - pen, y - pen, x + pen, y + pen), ink)
    return image.resize(size, Image.Resampling.BOX)


def reopened(image: Image.Image, format: str = "PNG", **options) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    reopened = Image.open(buffer)
    reopened.load()
    return reopened


def noisy(image: Image.Image, sigma: float = 4) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, sigma, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def lit(image: Image.Image, light: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Image.Image:
    """Multiply the picture with light(x, y), where x and y go from 0 to 1."""
    y, x = np.mgrid[0 : 1 : image.height * 1j, 0 : 1 : image.width * 1j]
    return Image.fromarray((np.asarray(image) * light(x, y)[..., None]).astype(np.uint8))


def ruled(image: Image.Image, step=40, squared=False, ink=(150, 170, 210), width=2) -> Image.Image:
    """Rule the paper, in a pale blue, under the ink."""
    lines = Image.new("RGB", image.size, WHITE)
    pencil = ImageDraw.Draw(lines)
    for v in range(step // 2, max(image.size), step):
        pencil.line((0, v, image.width, v + 12), ink, width)
        if squared:
            pencil.line((v, 0, v - 12, image.height), ink, width)
    return Image.fromarray(np.minimum(np.asarray(image), np.asarray(lines)))


def with_dots(image: Image.Image) -> Image.Image:
    pencil = ImageDraw.Draw(image)
    for x, y in np.random.default_rng(1).integers(0, image.width, (30, 2)).tolist():
        pencil.ellipse((x - 2, y - 2, x + 2, y + 2), (90, 90, 90))
    return image


def with_table(image: Image.Image) -> Image.Image:
    """A sheet of paper on a dark table, a little askew."""
    table = Image.new("RGB", (600, 600), (70, 52, 40))
    mask = Image.new("L", image.size, 255).rotate(4, expand=True)
    table.paste(image.rotate(4, expand=True), (90, 80), mask)
    return table


def shadow(image: Image.Image, soft: float = 0, at: float = 0.45, lean: float = 0) -> Image.Image:
    """Dim the right part to 0.6; the edge is `soft` wide, as a share of the width."""
    return lit(image, lambda x, y: 1 - 0.4 * ((x + lean * y - at - lean / 2) / max(soft, 1e-6) + 0.5).clip(0, 1))


def large(ink=INK) -> Image.Image:
    return draw(height=260, at=(110, 70), pen=16, ink=ink)


def boxy(strokes: str, size=(280, 400), pen=36, gap=0) -> Image.Image:
    """Draw a digit from the seven segments a to g of a pocket calculator."""
    image = Image.new("RGB", size, PAPER)
    left, right, top, bottom = 50, size[0] - 50, 50, size[1] - 50
    middle = size[1] // 2
    lines = {
        "a": (left, top, right, top), "b": (right, top, right, middle), "c": (right, middle, right, bottom),
        "d": (left, bottom, right, bottom), "e": (left, middle, left, bottom), "f": (left, top, left, middle),
        "g": (left, middle, right, middle),
    }  # fmt: skip
    for stroke in strokes:
        x0, y0, x1, y1 = lines[stroke]
        by = gap if gap else -pen // 2
        box = (
            (x0 + by, y0 - pen // 2, x1 - by, y0 + pen // 2)
            if y0 == y1
            else (x0 - pen // 2, y0 + by, x0 + pen // 2, y1 - by)
        )
        ImageDraw.Draw(image).rectangle(box, INK)
    return image


def number(count: int, height: int = 60, gap: float = 0.4) -> Image.Image:
    """Write `count` digits side by side."""
    step = round((0.6 + gap) * height)
    image = Image.new("RGB", (count * step + 40, height + 60), PAPER)
    for place in range(count):
        size = step, height + 60
        drawn = draw(size, height, (round(gap * height / 2), 30), height // 12, strokes=(SEVEN, THREE)[place % 2])
        image.paste(drawn, (20 + place * step, 0))
    return image


def with_frame(image: Image.Image) -> Image.Image:
    ImageDraw.Draw(image).rectangle((40, 30, 360, 370), outline=INK, width=4)
    return image


def in_cell(image: Image.Image, sides: str, width: int = 18) -> Image.Image:
    """Cut out of a form, not quite straight, with its thick lines on these sides: top, bottom, left, right."""
    pencil = ImageDraw.Draw(image)
    far = image.width - 10
    ends = {"t": (-9, 6, 409, 14), "b": (-9, far, 409, far - 8), "l": (20, -9, 12, 409), "r": (far, -9, far + 8, 409)}
    for side in sides:
        pencil.line(ends[side], INK, width)
    return image


def with_badge(image: Image.Image) -> Image.Image:
    """The name of a drawing program, in a corner."""
    pencil = ImageDraw.Draw(image)
    pencil.rounded_rectangle((308, 365, 390, 390), 4, (230, 0, 90))
    pencil.text((320, 370), "Draw 3.0 Lite", "white")
    return image


def with_strip(image: Image.Image) -> Image.Image:
    ImageDraw.Draw(image).rectangle((0, 0, 30, 400), (40, 35, 30))
    return image


def transparent(ink: int) -> Image.Image:
    image = Image.new("RGBA", (400, 400), (ink, ink, ink, 0))
    image.putalpha(ImageOps.invert(draw(ink=(0, 0, 0), paper=WHITE).convert("L")))
    return image


def in_transparent(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGBA", (4 * image.width, 4 * image.height))
    canvas.paste(image.convert("RGB"), (image.width, 2 * image.height))
    return canvas


def sixteen_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 200 + 3000)


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def check(picture: np.ndarray) -> None:
    """Whether it is what MNIST holds: 20 pixels long, centre of mass at (14, 14)."""
    assert picture.shape == (28, 28, 1)
    assert picture.dtype == np.float32
    assert picture.min() == 0
    assert picture.max() == 1
    ink = picture[..., 0]
    rows, columns = np.flatnonzero(ink.max(1) > 0.3), np.flatnonzero(ink.max(0) > 0.3)
    assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 21
    grid = np.arange(28)
    assert ink.sum(1) @ grid / ink.sum() == pytest.approx(14, abs=0.5)
    assert ink.sum(0) @ grid / ink.sum() == pytest.approx(14, abs=0.5)
    assert (ink == 0).mean() > 0.5


PICTURES: dict[str, Callable[[], Image.Image]] = {
    "plain": draw,
    "three": lambda: draw(strokes=THREE),
    "inverted": lambda: ImageOps.invert(draw()),
    "white on black": lambda: draw(ink=WHITE, paper=(0, 0, 0)),
    "chalk": lambda: noisy(draw(ink=(215, 215, 210), paper=(50, 65, 55)), 8),
    "linear shadow": lambda: lit(draw(), lambda x, y: 1 - 0.55 * x),
    "hard shadow": lambda: lit(draw(), lambda x, y: np.where(x + y < 0.9, 0.5, 1)),
    "dark corners": lambda: lit(draw(), lambda x, y: 1 - 0.5 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)),
    "edge of a shadow": lambda: noisy(shadow(large())),
    "edge of a shadow, soft": lambda: noisy(shadow(large(), soft=0.04)),
    "edge of a shadow, aslant": lambda: noisy(shadow(large(), lean=1)),
    "edge of a shadow, in a corner": lambda: noisy(shadow(large(), at=0.6, lean=-1)),
    "mostly in shadow, pale": lambda: noisy(shadow(large((120, 120, 120)), at=0.2, lean=1)),
    "lined": lambda: noisy(ruled(draw())),
    "lined in dark": lambda: noisy(ruled(draw(), ink=(90, 90, 90))),
    "lined in dark, close": lambda: noisy(ruled(draw(), 26, ink=(115, 112, 108), width=4)),
    "squared in dark": lambda: noisy(ruled(draw(), squared=True, ink=(125, 122, 118), width=3)),
    "pencil on lines": lambda: noisy(ruled(draw(ink=(160, 158, 150), pen=12), ink=(180, 178, 170), width=3), 3),
    "squared": lambda: noisy(ruled(draw(), squared=True)),
    "lined, shadow": lambda: lit(ruled(draw()), lambda x, y: 1 - 0.5 * y),
    "pencil": lambda: noisy(draw(ink=(188, 186, 182)), 3),
    "blue ink": lambda: draw(ink=(40, 60, 190)),
    "yellow on white": lambda: draw(ink=(250, 235, 70), paper=WHITE),
    "red on green": lambda: draw(ink=(205, 75, 75), paper=(75, 130, 75)),
    "noise": lambda: noisy(draw(), 25),
    "blurred": lambda: draw().filter(ImageFilter.GaussianBlur(5)),
    "JPEG of low quality": lambda: reopened(draw(), "JPEG", quality=10),
    "specks": lambda: with_dots(draw()),
    "on a table": lambda: with_table(draw()),
    "in a drawn frame": lambda: with_frame(draw()),
    "in a corner of a table": lambda: noisy(in_cell(draw(), "tr"), 3),
    "in the first column of a table": lambda: noisy(in_cell(draw(pen=8), "tlb"), 3),
    "in a cell of a table": lambda: noisy(in_cell(draw(), "tblr"), 3),
    "in a cell on a blackboard": lambda: ImageOps.invert(in_cell(draw(), "lbr")),
    "with a badge": lambda: with_badge(draw(paper=WHITE)),
    "thin, with a badge": lambda: with_badge(draw(paper=WHITE, pen=3)),
    "dark strip at the border": lambda: with_strip(draw()),
    "tiny in a large frame": lambda: draw((1600, 1200), 110, (1200, 900), 11),
    "at the edge": lambda: draw(at=(3, 190)),
    "thick": lambda: draw(pen=42),
    "thin": lambda: draw(pen=3),
    "high and narrow": lambda: draw((160, 900), at=(20, 350)),
    "12 megapixels": lambda: reopened(draw((4000, 3000), 1500, (1500, 700), 150), "JPEG"),
    "28 pixels": lambda: draw((28, 28), 18, (8, 5), 2),
    "8 bits of grey": lambda: draw().convert("L"),
    "16 bits": lambda: reopened(sixteen_bits(draw())),
    "16 bits, TIFF": lambda: reopened(sixteen_bits(ImageOps.invert(draw())), "TIFF"),
    "32 bits": lambda: sixteen_bits(draw()).convert("I"),
    "floats": lambda: reopened(draw().convert("F"), "TIFF"),
    "black and white": lambda: reopened(draw().convert("1")),
    "palette": lambda: reopened(draw().quantize(16)),
    "palette with alpha": lambda: reopened(draw(paper=WHITE).quantize(16), transparency=0),
    "grey with alpha": lambda: reopened(draw().convert("LA")),
    "transparent, black ink": lambda: reopened(transparent(0)),
    "transparent, white ink": lambda: reopened(transparent(255)),
    "small in a transparent one": lambda: in_transparent(draw()),
    "small and dark in a transparent one": lambda: in_transparent(ImageOps.invert(draw())),
    "CMYK": lambda: reopened(draw().convert("CMYK"), "JPEG"),
    "GIF": lambda: reopened(draw(), "GIF"),
    "WebP": lambda: reopened(draw(), "WEBP"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_digit_is_found(name):
    picture = digit.digit(PICTURES[name]())
    check(picture)
    strokes = THREE if name == "three" else SEVEN
    wanted = digit.digit(draw(ink=(0, 0, 0), paper=WHITE, strokes=strokes))
    assert likeness(picture, wanted) > (0.7 if "thi" in name else 0.85)


SEGMENTS = {0: "abcdef", 6: "acdefg", 8: "abcdefg"}


@pytest.mark.parametrize("pen", [28, 36, 56])
@pytest.mark.parametrize("value", SEGMENTS)
def test_digit_is_no_frame(value, pen):
    """A boxy digit with nothing inside is itself the digit."""
    image = boxy(SEGMENTS[value], pen=pen)
    box = 50 - pen // 2, 50 - pen // 2, 230 + pen // 2, 350 + pen // 2
    wanted = Image.new("L", (28, 28))
    ink = ImageOps.invert(image.convert("L").crop(box).point(lambda v: 0 if v < 128 else 255))
    wanted.paste(ink.resize((round(20 * ink.width / ink.height), 20), Image.Resampling.BOX), (8, 4))
    found = digit.digit(noisy(image))[..., 0]
    scores = [likeness(found, np.roll(np.asarray(wanted), by, 1)) for by in range(-4, 5)]
    assert max(scores) > 0.85


@pytest.mark.parametrize("strokes", ["ab", "abc", "abcd", "abged", "acdfg", "abcdfg", "def"])
def test_a_stroke_near_the_border_is_not_the_line_of_a_cell(strokes):
    """A digit with little paper around it has long strokes there, too."""
    image = boxy(strokes)
    near = ImageOps.expand(image.crop((32, 32, image.width - 32, image.height - 32)), 8, PAPER)
    assert likeness(digit.digit(noisy(near)), digit.digit(noisy(image))) > 0.9


@pytest.mark.parametrize(("width", "wanted"), [(180, 0.65), (260, 0.65), (300, 0.65), (400, 1.3)])
@pytest.mark.parametrize("value", [0, 8])
def test_a_boxy_digit_becomes_narrow(value, width, wanted):
    """Up to a square; what is wider is no digit."""
    image = boxy(SEGMENTS[value], size=(width + 100, 400), pen=20)
    rows, columns = (np.nonzero(digit.digit(noisy(image))[..., 0].max(axis) > 0.5)[0] for axis in (1, 0))
    assert (np.ptp(columns) + 1) / (np.ptp(rows) + 1) == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize("ink", [0, 255])
def test_transparent_drawing_may_fill_the_canvas(ink):
    """More than half of it is ink, and all of the ink has one colour."""
    drawn = ImageOps.invert(draw((260, 330), 200, (70, 60), 68, (0, 0, 0), WHITE).convert("L"))
    drawn = drawn.crop(drawn.getbbox())
    assert (np.asarray(drawn) > 127).mean() > 0.5
    image = Image.new("RGBA", drawn.size, (ink, ink, ink, 0))
    image.putalpha(drawn)
    wanted = digit.digit(ImageOps.expand(ImageOps.invert(drawn), 150, 255))
    assert likeness(digit.digit(image), wanted) > 0.95


def test_small_digit_is_seen_with_all_its_pixels():
    """It is a twentieth as high as the picture, in a shadow that grows darker."""
    image = noisy(lit(draw((2000, 1500), 75, (1500, 1000), 4, strokes=THREE), lambda x, y: 1 - 0.5 * x))
    wanted = digit.digit(draw((300, 300), 75, (100, 100), 4, strokes=THREE))
    assert likeness(digit.digit(image), wanted) > 0.97


@pytest.mark.parametrize("count", range(1, 13))
def test_digits_of_a_number_are_seen(count):
    image = noisy(number(count))
    seen = digit.digits(image)
    assert len(seen) == count
    assert np.array_equal(seen[0], digit.digit(image))
    for picture in seen:
        check(picture)
    wanted = [digit.digit(draw(pen=17, strokes=strokes)) for strokes in (SEVEN, THREE)]
    are = [int(likeness(picture, wanted[1]) > likeness(picture, wanted[0])) for picture in seen]
    assert sum(are) == count // 2


def test_no_more_than_twelve_digits_are_seen():
    assert len(digit.digits(number(14, 40))) == 1 + digit.OTHERS


def test_digits_that_nearly_touch_are_seen_apart():
    assert len(digit.digits(number(5, gap=0.3))) == 5


@pytest.mark.parametrize("name", PICTURES)
def test_one_digit_is_one(name):
    """Lines, specks, frames and shadows are no digits."""
    assert len(digit.digits(PICTURES[name]())) == 1


def test_different_digits_stay_different():
    assert likeness(digit.digit(draw()), digit.digit(draw(strokes=THREE))) < 0.6


def test_broken_strokes_stay_together():
    image = draw()
    ImageDraw.Draw(image).rectangle((0, 190, 400, 200), PAPER)
    assert likeness(digit.digit(image), digit.digit(draw())) > 0.85


def test_the_larger_of_two_digits_is_taken():
    image = draw(at=(60, 100))
    image.paste(draw((120, 120), 60, (30, 30), 6, strokes=THREE), (270, 150))
    assert likeness(digit.digit(image), digit.digit(draw())) > 0.95


@pytest.mark.parametrize("invert", [False, True])
def test_mnist_passes_nearly_unharmed(invert):
    image = digit.digit(draw((400, 400)))[..., 0]  # 20 pixels long, centred
    uploaded = reopened(Image.fromarray((255 * (1 - image if invert else image)).astype(np.uint8)))
    again = digit.digit(uploaded)[..., 0]
    assert likeness(again, image) > 0.97


@pytest.mark.parametrize("side", [28, 64, 192])
@pytest.mark.parametrize(("paper", "pencil"), [(220, 40), (20, 200)])
def test_on_plain_paper_the_ink_is_what_differs_from_it(side, paper, pencil):
    level = np.full((side, side), paper, np.uint8)
    level[side // 4 : 3 * side // 4, side // 2 : side // 2 + side // 14] = pencil
    light, dark = (paper, level) if pencil < paper else (255 - paper, 255 - level)
    wanted = (light - dark.astype(np.float32)) / light
    np.testing.assert_allclose(digit.find_ink(Image.fromarray(level)), wanted, atol=1e-6)


@pytest.mark.parametrize("part", [0.25, 0.5])
@pytest.mark.parametrize("plain", [0.0, 0.24, 0.26, 0.49, 0.51, 1.0])
def test_a_quantile_is_a_value_of_those_in_order(part, plain):
    values = np.random.default_rng(0).normal(size=2000).astype(np.float32)
    values[: round(2000 * plain)] = values.min()
    assert digit.quantile(values, part) == np.sort(values)[int(1999 * part)]


BLANK: dict[str, Callable[[], Image.Image]] = {
    "white": lambda: Image.new("RGB", (300, 200), "white"),
    "black": lambda: Image.new("RGB", (300, 200), "black"),
    "grey": lambda: Image.new("L", (28, 28), 128),
    "grey JPEG": lambda: reopened(Image.new("RGB", (300, 200), (128, 120, 90)), "JPEG"),
    "only light": lambda: lit(Image.new("RGB", (300, 200), PAPER), lambda x, y: 1 - 0.5 * x),
    "only noise": lambda: noisy(Image.new("RGB", (300, 200), PAPER), 14),
    "transparent": lambda: Image.new("RGBA", (300, 200), (0, 0, 0, 0)),
    "16 bits": lambda: Image.fromarray(np.full((50, 50), 3000, np.uint16)),
    "not a number": lambda: Image.fromarray(np.full((50, 50), np.nan, np.float32)),
    "one pixel": lambda: Image.new("L", (1, 1)),
    "a line of pixels": lambda: Image.new("L", (3000, 1)),
    "a column of pixels": lambda: Image.new("RGBA", (1, 5000), (0, 0, 0, 90)),
    "nine pixels": lambda: Image.linear_gradient("L").resize((3, 3)),
    "infinite": lambda: Image.fromarray(np.full((50, 50), np.inf, np.float32)),
}


@pytest.mark.parametrize("name", BLANK)
def test_no_digit_is_an_error(name):
    with pytest.raises(ValueError, match="There is no digit to see"):
        digit.digit(BLANK[name]())


MODES = ("1", "L", "P", "PA", "LA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16", "I;16B")


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (5, 5), (9, 7), (5, 1300), (1300, 6), (513, 9), (300, 200)])
@pytest.mark.parametrize("mode", MODES)
def test_any_picture_is_a_digit_or_a_value_error(mode, size):
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8))
    dots = noise.point(lambda v: 255 * (v > 240))
    for image in (noise, dots, dots.filter(ImageFilter.BoxBlur(1))):
        grey = mode in ("PA", "LA", "F") or mode.startswith("I")
        prepare_or_refuse((image.convert("L") if grey else image).convert(mode))


@pytest.mark.parametrize("transparency", [0, bytes([0, 128, 255, 3])])
def test_any_transparency_is_a_digit_or_a_value_error(transparency):
    image = noisy(draw((40, 30), 20, (8, 4), 2), 40)
    palette = image.quantize(4)
    palette.info["transparency"] = transparency
    prepare_or_refuse(palette)
    image.putalpha(noisy(image.convert("RGB"), 90).convert("L"))
    prepare_or_refuse(image)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
def test_any_number_is_a_digit_or_a_value_error(value):
    values = np.array(draw().convert("F"))
    values[::50, ::40] = value
    values[0, 0] = -3e38
    prepare_or_refuse(Image.fromarray(values))


def prepare_or_refuse(image: Image.Image) -> None:
    try:
        picture = digit.digit(image)
    except ValueError:
        return
    assert picture.shape == (28, 28, 1)
    assert 0 <= picture.min() <= picture.max() == 1


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"])
@pytest.mark.parametrize("size", [(10, 10), (3, 500), (100, 11000), (1300, 2100)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_photo_is_resized_as_pillow_does(mode, size, method):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    image, channels = Image.fromarray(noise).convert(mode), 1 if mode == "L" else 3
    for height, width in [(224, 224), (28, 300), (300, 28)]:
        small = image.convert("L" if mode == "L" else "RGB").resize((width, height), Image.Resampling[method.upper()])
        wanted = np.asarray(small, np.float32).reshape(height, width, channels)
        moved = np.abs(preprocess.photo(image, (height, width), channels, f"pil-{method}") - wanted).max()
        in_strips = mode == "RGBA" and image.width * image.height > decode.STRIP  # rounded in another order
        assert moved <= (1 if in_strips else 0)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("kind", ["baseline", "progressive", "a colour for each scan"])
def test_a_jpeg_of_several_scans_is_told_apart(mode, kind):
    """It takes more memory, whatever else it says; one of grey has a single colour in each scan."""
    file = io.BytesIO()
    draw().convert(mode).save(file, "JPEG", progressive=kind == "progressive")
    if kind == "a colour for each scan":
        before, header, after = file.getvalue().partition(b"\xff\xda")
        rest = after[int.from_bytes(after[:2]) :]
        file = io.BytesIO(before + header + bytes([0, 8, 1, 1, 0, 0, 63, 0]) + rest)
    several = kind == "progressive" or (kind != "baseline" and mode != "L")
    assert decode.has_several_scans(Image.open(file), file) == several
