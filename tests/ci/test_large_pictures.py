"""Pictures at the limit of pixels, in every mode and format, many at once: no worker runs out of memory."""

import concurrent.futures
import io
import numpy as np
import pytest
import random
import requests
import time
import yaml
from collections.abc import Callable
from examples import ROOT, container, workers
from helpers import assert_problem, latest_container
from pathlib import Path
from PIL import Image, ImageChops, ImageDraw

pytestmark = pytest.mark.docker
SIDE = 7070  # pixels: nearly 50 million in all
LIMIT = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["image_classification"]["deploy"]["resources"]
MEMORY = LIMIT["limits"]["memory"]


def seven(size: tuple[int, int], mode: str) -> Image.Image:
    """Draw a 7, black on white."""
    image = Image.new("L", size, 255)
    points = [(size[0] * x, size[1] * y) for x, y in [(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)]]
    ImageDraw.Draw(image).line(points, fill=0, width=min(size) // 12)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    if mode == "LAB":
        return Image.merge("LAB", [image, Image.new("L", size, 128), Image.new("L", size, 128)])
    if mode in ("I", "F", "1", "L", "LA"):
        return image.convert(mode)
    return image.convert("RGB").convert(mode)


def colourful(size: tuple[int, int]) -> Image.Image:
    """Draw a 7 in so many colours that a lossless WebP keeps each pixel in 4 bytes."""
    image, down = seven(size, "L"), Image.linear_gradient("L").resize(size).point(lambda level: 200 + level // 5)
    across = down.transpose(Image.Transpose.ROTATE_90)
    return Image.merge("RGBA", [image, ImageChops.darker(image, down), ImageChops.darker(image, across), across])


def file(mode: str, format: str, size: tuple[int, int] = (SIDE, SIDE), **options) -> Callable[[], bytes]:
    def encode() -> bytes:
        buffer = io.BytesIO()
        image = colourful(size) if mode == "colourful" else seven(size, mode)
        image.save(buffer, format, **options)
        return buffer.getvalue()

    return encode


def turned(size: int) -> bytes:
    """Return a PNG that says at its end, after its pixels, that it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = 3  # by 180 degrees
    upside_down = seven((size, size), "RGBA").transpose(Image.Transpose.ROTATE_180)
    buffer = io.BytesIO()
    upside_down.save(buffer, "PNG", exif=exif)
    content = buffer.getvalue()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4])
    return content[:start] + content[end:-12] + content[start:end] + content[-12:]  # IEND stays last


def heic(mode: str) -> Callable[[], bytes]:
    """Return a picture of `seven` that pillow_heif.encode() has written, which takes half a minute for each."""
    return (Path(__file__).parent / "heic" / f"{mode}.heic").read_bytes


PICTURES = {  # a file, and whether it is answered with 200; the others decode to too much and get a 413
    **{f"PNG {mode}": (file(mode, "PNG"), 200) for mode in ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"]},
    "a scan of an A4 page at 600 dpi": (file("RGBA", "PNG", (4960, 7016)), 200),
    **{f"JPEG {mode}": (file(mode, "JPEG"), 200) for mode in ["L", "RGB", "CMYK"]},
    "progressive JPEG L": (file("L", "JPEG", progressive=True), 200),
    "progressive JPEG RGB": (file("RGB", "JPEG", progressive=True), 200),
    "progressive JPEG RGB 4:4:4": (file("RGB", "JPEG", progressive=True, subsampling=0), 200),
    "progressive JPEG CMYK": (file("CMYK", "JPEG", (6200, 6200), progressive=True), 200),
    "progressive JPEG CMYK of 50 megapixels": (file("CMYK", "JPEG", progressive=True), 413),
    "PNG that is turned": (lambda: turned(6200), 200),
    "PNG of 50 megapixels that is turned": (lambda: turned(SIDE), 413),
    **{
        f"TIFF {mode}": (file(mode, "TIFF", compression="tiff_adobe_deflate"), 200)
        for mode in ["1", "L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LAB"]
    },
    "TIFF RGBA, one strip": (
        file("RGBA", "TIFF", (6200, 6200), compression="tiff_adobe_deflate", tiffinfo={278: SIDE}),
        200,
    ),
    "TIFF LZW": (file("RGB", "TIFF", (4960, 7016), compression="tiff_lzw"), 200),
    "TIFF raw": (file("RGB", "TIFF", (3300, 3300)), 200),
    **{f"GIF {mode}": (file(mode, "GIF"), 200) for mode in ["L", "P"]},
    "BMP 1": (file("1", "BMP"), 200),
    "BMP L": (file("L", "BMP", (5600, 5600)), 200),
    "BMP RGB": (file("RGB", "BMP", (3300, 3300)), 200),
    **{
        f"WebP {mode}, lossless": (file(mode, "WEBP", (4400, 4400), lossless=True, method=0), 200)
        for mode in ["RGB", "colourful"]
    },
    **{f"WebP {mode}": (file(mode, "WEBP", (4400, 4400), method=0), 200) for mode in ["RGB", "colourful"]},
    "WebP of 50 megapixels": (file("RGB", "WEBP", method=0), 413),
    "HEIC L": (heic("L"), 200),
    "HEIC RGB": (heic("RGB"), 200),  # 6600x6600
    "HEIC RGBA": (heic("RGBA"), 200),  # 6200x6200
    "HEIC RGBA 4:4:4, 10 bits": (heic("RGBA 444 10 bits"), 200),  # 3960x3960
    "HEIC RGB 10 bits": (heic("RGB 10 bits"), 413),
    "HEIC RGB 4:4:4": (heic("RGB 444"), 413),
    "HEIC RGBA 4:2:2": (heic("RGBA 422"), 413),
    "too long": (file("L", "PNG", (70_000, 60)), 413),
    "too large": (file("1", "PNG", (7100, 7100)), 413),
}
# those that take the most memory of each format (GIF and BMP: a byte for each pixel)
LARGEST = [
    "PNG that is turned",
    "progressive JPEG CMYK",
    "TIFF RGBA, one strip",
    "WebP colourful, lossless",
    "HEIC RGBA 4:4:4, 10 bits",
]


def sixteen_at_once(image: Callable[[str], str], files: list[bytes]) -> list[requests.Response]:
    """Send files from sixteen clients to a container with the memory that compose.yaml gives it; none may kill it."""

    def post(content: bytes) -> requests.Response:
        """Send a picture, and again when the service asks for it, because too many bytes have come at once."""
        while (answer := requests.post(f"{url}/predict", data=content, timeout=300)).status_code == 503:
            time.sleep(int(answer.headers["Retry-After"]))
        return answer

    limits = "--memory", MEMORY, "--memory-swap", MEMORY
    with latest_container(), container(image("image_classification"), *limits) as (port, server):
        url = f"http://127.0.0.1:{port}"
        before = workers(server)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(post, files))
        assert workers(server) == before
    return answers


@pytest.mark.parametrize("name", LARGEST)
def test_sixteen_at_once_of_one_kind(image, name):
    for answer in sixteen_at_once(image, [PICTURES[name][0]()] * 16):
        assert answer.status_code == 200, answer.text
        assert answer.json()["prediction"] == 7


def test_sixteen_at_once_of_every_mode_and_format(image):
    files = {name: (encode(), status) for name, (encode, status) in PICTURES.items()}
    queue = random.Random(0).sample([*files], len(files))
    answers = sixteen_at_once(image, [files[name][0] for name in queue])
    for name, answer in zip(queue, answers, strict=True):
        if files[name][1] == 413:
            assert "too large" in assert_problem(answer, 413)["detail"], name
        else:
            assert answer.status_code == 200, (name, answer.text)
            assert answer.json()["prediction"] == 7, name
