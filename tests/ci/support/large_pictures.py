"""Encode the pictures of test_large_pictures.py, which takes half a minute: `large_pictures.py` writes them all anew.

Those in HEIC, in ../heic, are of the same 7. pillow_heif.encode() has written them, which takes half a minute for each.
"""

import io
import numpy as np
import tarfile
from collections.abc import Callable
from pathlib import Path
from PIL import Image, ImageChops, ImageDraw

SIDE = 7070  # pixels: nearly 50 million in all
ARCHIVE = Path(__file__).parents[1] / "large_pictures.tar.xz"


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


PICTURES = {
    **{f"PNG {mode}": file(mode, "PNG") for mode in ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"]},
    "a scan of an A4 page at 600 dpi": file("RGBA", "PNG", (4960, 7016)),
    **{f"JPEG {mode}": file(mode, "JPEG") for mode in ["L", "RGB", "CMYK"]},
    "progressive JPEG L": file("L", "JPEG", progressive=True),
    "progressive JPEG RGB": file("RGB", "JPEG", progressive=True),
    "progressive JPEG RGB 4:4:4": file("RGB", "JPEG", progressive=True, subsampling=0),
    "progressive JPEG CMYK": file("CMYK", "JPEG", (6200, 6200), progressive=True),
    "progressive JPEG CMYK of 50 megapixels": file("CMYK", "JPEG", progressive=True),
    "PNG that is turned": lambda: turned(6200),
    "PNG of 50 megapixels that is turned": lambda: turned(SIDE),
    **{
        f"TIFF {mode}": file(mode, "TIFF", compression="tiff_adobe_deflate")
        for mode in ["1", "L", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LAB"]
    },
    "TIFF RGBA, one strip": file("RGBA", "TIFF", (6200, 6200), compression="tiff_adobe_deflate", tiffinfo={278: SIDE}),
    "TIFF LZW": file("RGB", "TIFF", (4960, 7016), compression="tiff_lzw"),
    "TIFF raw": file("RGB", "TIFF", (3300, 3300)),
    **{f"GIF {mode}": file(mode, "GIF") for mode in ["L", "P"]},
    "BMP 1": file("1", "BMP"),
    "BMP L": file("L", "BMP", (5600, 5600)),
    "BMP RGB": file("RGB", "BMP", (3300, 3300)),
    **{
        f"WebP {mode}, lossless": file(mode, "WEBP", (4400, 4400), lossless=True, method=0)
        for mode in ["RGB", "colourful"]
    },
    **{f"WebP {mode}": file(mode, "WEBP", (4400, 4400), method=0) for mode in ["RGB", "colourful"]},
    "WebP of 50 megapixels": file("RGB", "WEBP", method=0),
    "too long": file("L", "PNG", (70_000, 60)),
    "too large": file("1", "PNG", (7100, 7100)),
}


def main() -> None:
    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        for name, encode in PICTURES.items():
            content = encode()
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))


if __name__ == "__main__":
    main()
