"""Open an uploaded picture safely: known formats only, limited in size and in memory, upright."""

import contextlib
import fcntl
import threading
import warnings
from collections.abc import Iterator
from flask import abort
from pi_heif import register_heif_opener
from PIL import (  # noqa: F401
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from typing import IO

# phones may write MPO, a kind of JPEG, or HEIC, a kind of HEIF
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "HEIF")
MAX_PIXELS = 50_000_000
MAX_SIDE = 65_535  # pixels, as in a JPEG
MAX_RLE_PIXELS = 5_000_000  # in a run-length encoded BMP, which Pillow decodes in Python, ten times as slowly
BMP_RLE = (1, 2)  # the compressions BI_RLE8 and BI_RLE4
MAX_MEMORY = 208_000_000  # bytes while a picture is decoded: compose.yaml gives two workers and their bodies 512 MB
SMALL = 16_000_000  # bytes: pictures that take more are decoded one at a time, whatever the number of workers
ORIENTATION = 0x0112  # in EXIF: how the phone was held
PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # bytes in Pillow; 4 in other modes
DECODER = {"WEBP": 12, "HEIF": 4}  # bytes for each pixel that the decoder takes besides, as measured

Image.preinit()  # load the decoders now, not in the first request: these and the ones above, not all forty
register_heif_opener(thumbnails=False, decode_threads=1)
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
PngImagePlugin.MAX_TEXT_MEMORY = 4_000_000  # bytes of comments
warnings.simplefilter("error", Image.DecompressionBombWarning)

TOO_LARGE = (
    f"The picture is too large. It may have {MAX_PIXELS} pixels, {MAX_SIDE} a side, a run-length encoded BMP "
    f"{MAX_RLE_PIXELS}, and decoding it may take {MAX_MEMORY // 10**6} MB. Send it smaller, or as JPEG."
)
HOW_TO_SEND = 'Send the file itself, as it is on the disk: curl -F "file=@photo.jpg" or curl --data-binary @photo.jpg'
one_small = threading.Lock()


def memory(image: Image.Image, file: IO[bytes], smallest: int | None, width: int) -> int:
    """Return how many bytes it takes to decode a picture and to resize it to a width; the file itself not counted.

    A JPEG is then set to be decoded at 1/2, 1/4 or 1/8 of its size, if `smallest` pixels are enough. Raises what a
    damaged file makes Pillow raise.
    """
    pixels = image.width * image.height
    extra = 4 * min(width, image.width) * image.height
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        content = file.read()
        file.seek(0)
        if content.count(b"\xff\xda") > 1:  # several scans (progressive): it keeps all coefficients
            samples = [high * wide for _, high, wide, _ in image.layer]  # of each colour, which may be stored smaller
            extra += 2 * pixels * sum(samples) // max(samples)
        if smallest:
            image.draft(None, (smallest, smallest))
            pixels = image.width * image.height
    elif isinstance(image, TiffImagePlugin.TiffImageFile) and image.info.get("compression") not in (None, "raw"):
        tags = image.tag_v2
        columns = tags.get(TiffImagePlugin.TILEWIDTH, image.width)
        rows = tags.get(TiffImagePlugin.TILELENGTH) or min(tags.get(TiffImagePlugin.ROWSPERSTRIP, 2**32), image.height)
        bits = sum(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
        extra += columns * rows * max(4, bits // 8)
    if image.format == "TIFF" and image.getexif().get(ORIENTATION, 1) != 1:  # Pillow makes an upright copy at once
        extra += pixels * PIXEL.get(image.mode, 4)
    if image.format in ("WEBP", "HEIF", "TIFF"):  # are copied once more
        extra += file.seek(0, 2)
        file.seek(0)
    return extra + pixels * (PIXEL.get(image.mode, 4) + DECODER.get(image.format or "", 0))


def not_a_picture(file: IO[bytes]) -> str:
    """Say what a file is, if it is something that is often sent instead of a picture, and what to send."""
    file.seek(0)
    start = file.read(100).lstrip(b'" \t\r\n')  # base64 may come in quotes
    if start[4:12] in (b"ftypavif", b"ftypavis"):
        return f"AVIF is not supported. Send one of {', '.join(FORMATS)}."
    if start.startswith((b"data:", b"iVBORw0KGgo", b"/9j/", b"R0lGOD", b"UklGR")):
        return f"This is a picture in base64. {HOW_TO_SEND}"
    if start.startswith((b"{", b"[")):
        return f"This is JSON. {HOW_TO_SEND}"
    return f"This is not a picture. Send one of {', '.join(FORMATS)}."


@contextlib.contextmanager
def room(size: int) -> Iterator[None]:
    """Wait until there is memory for so many bytes, and hold it until the block ends."""
    if size <= SMALL:
        with one_small:
            yield
        return
    with open(__file__, "rb") as file:  # any file that all workers can lock
        fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
        yield


@contextlib.contextmanager
def decoded(file: IO[bytes], smallest: int | None, width: int) -> Iterator[Image.Image]:
    """Yield the picture in a file, upright, and hold its memory until the block ends.

    A large JPEG may be decoded at a fraction of its size, but not below `smallest` pixels; None: at its full size.
    `width` is that of the network's input, in pixels. Answers 413 if the picture is too large, 415 if it is not a
    picture, and 422 if it is damaged.
    """
    with contextlib.ExitStack() as stack:
        try:
            image = Image.open(file, formats=FORMATS)
            size = memory(image, file, smallest, width)
            rle = image.info.get("compression") in BMP_RLE and image.width * image.height > MAX_RLE_PIXELS
            if rle or size > MAX_MEMORY or max(image.size) > MAX_SIDE:
                raise Image.DecompressionBombError
            stack.enter_context(room(size))
            image.load()
            copy = image.width * image.height * PIXEL.get(image.mode, 4)  # if it has to be turned
            if size + copy > MAX_MEMORY and image.getexif().get(ORIENTATION, 1) != 1:
                raise Image.DecompressionBombError
            ImageOps.exif_transpose(image, in_place=True)  # upright
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            abort(413, TOO_LARGE)
        except UnidentifiedImageError:
            abort(415, not_a_picture(file))
        except Exception as error:  # a damaged or hostile file makes a decoder raise whatever it likes
            abort(422, f"The picture is damaged ({' '.join(str(error).split())}).")
        yield image
