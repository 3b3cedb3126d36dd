"""Open an uploaded picture safely: known formats only, limited in size and in memory, upright."""

import contextlib
import fcntl
import threading
import warnings
from collections.abc import Iterator
from PIL import (  # noqa: F401
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from pillow_heif import register_heif_opener
from typing import IO

# phones may write MPO, a kind of JPEG, or HEIC, a kind of HEIF
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "HEIF")
MAX_PIXELS = 50_000_000
MAX_SIDE = 65_535  # pixels, as in a JPEG
MAX_RLE_PIXELS = 5_000_000  # in a run-length encoded BMP, which Pillow decodes in Python, ten times as slowly
BMP_RLE = (1, 2)  # the compressions BI_RLE8 and BI_RLE4
# Bytes while a picture is decoded: compose.yaml gives two workers (56 MB) and their bodies (134 MB) 512 MiB.
MAX_MEMORY = 320_000_000
STRIP = 1_000_000  # pixels that are converted at a time: a whole copy of a large scan would take too much memory
SMALL = 8_000_000  # pictures that take more are decoded one at a time, whatever the number of workers
ORIENTATION = 0x0112  # in EXIF: how the phone was held
# bytes for each pixel at libheif's peak besides the picture, as measured, by chroma: with 8 bits, with 10 or 12
HEIC = {420: (3.3, 3.8), 422: (4.3, 9.3), 444: (5.3, 11.4)}
HEIC_ALPHA = {420: (4.3, 7.8), 422: (7.5, 14.3), 444: (8.5, 16.3)}
PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # bytes in Pillow; 4 in other modes

Image.preinit()  # load the decoders now, not in the first request: these and the ones above, not all forty
register_heif_opener(thumbnails=False, decode_threads=1)
PngImagePlugin.MAX_TEXT_MEMORY = 4_000_000  # bytes of comments
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is checked below

TOO_LARGE = (
    f"The picture is too large. At most {MAX_PIXELS} pixels, {MAX_SIDE} on a side, {MAX_RLE_PIXELS} in a run-length "
    f"encoded BMP, and {MAX_MEMORY // 10**6} MB to decode it. Send it smaller, or as JPEG."
)
HOW_TO_SEND = 'Send the file itself, as it is on the disk: curl -F "file=@photo.jpg" or curl --data-binary @photo.jpg'
NO_LIMIT = contextlib.nullcontext()
one_small = threading.Lock()


class NoAnswer(ValueError):
    """A picture that gets no answer, through no fault of the service. The text goes to the sender."""


class TooLarge(NoAnswer):
    """Decoding it would take too much memory or time."""


class NotAPicture(NoAnswer):
    """It is in none of FORMATS."""


class NothingToSee(NoAnswer):
    """It shows nothing that the network could classify."""


def decoder(image: Image.Image) -> float:
    """Return how many bytes for each pixel a decoder takes at its peak besides the picture, as measured."""
    if image.format == "WEBP":
        return 12
    if image.format != "HEIF":
        return 0
    chroma, bits = image.info.get("chroma", 444), image.info.get("bit_depth", 8)  # not said: what takes the most
    return (HEIC_ALPHA if image.mode == "RGBA" else HEIC)[chroma][bits > 8]


def memory(image: Image.Image, file: IO[bytes], smallest: int | None, width: int) -> int:
    """Return how many bytes it takes to decode a picture and to resize it to a width; the file itself not counted.

    A JPEG is then set to be decoded at 1/2, 1/4 or 1/8 of its size, if `smallest` pixels are enough, or at 1/4 if there
    is not enough memory for all of it. Raises what a damaged file makes Pillow raise.
    """
    pixels = image.width * image.height
    extra = 4 * min(width, image.width) * image.height
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        if has_several_scans(image, file):  # it keeps all coefficients
            samples = [high * wide for _, high, wide, _ in image.layer]  # of each colour, which may be stored smaller
            extra += 2 * pixels * sum(samples) // max(samples)
        file.seek(0)
        if smallest or extra + (1 + turned(image)) * pixels * PIXEL.get(image.mode, 4) > MAX_MEMORY:
            image.draft(None, (smallest or image.width // 4, smallest or image.height // 4))
    elif isinstance(image, TiffImagePlugin.TiffImageFile) and image.info.get("compression") not in (None, "raw"):
        tags = image.tag_v2
        columns = tags.get(TiffImagePlugin.TILEWIDTH, image.width)
        rows = tags.get(TiffImagePlugin.TILELENGTH) or min(tags.get(TiffImagePlugin.ROWSPERSTRIP, 2**32), image.height)
        bits = sum(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
        extra += columns * rows * max(4, bits // 8)
    if image.format in ("WEBP", "HEIF", "TIFF"):  # are copied once more
        extra += file.seek(0, 2)
        file.seek(0)
    if image.format not in ("WEBP", "HEIF") and turned(image):
        extra += image.width * image.height * PIXEL.get(image.mode, 4)  # a copy
    return extra + int(image.width * image.height * (PIXEL.get(image.mode, 4) + decoder(image)))


def has_several_scans(image: JpegImagePlugin.JpegImageFile, file: IO[bytes]) -> bool:
    """Return whether a JPEG comes in several scans: it is progressive, or its first scan lacks a colour.

    Pillow has just read the header of the first scan. Where that is unclear, the answer is yes: it takes more memory.
    """
    colours = len(image.layer)
    length = 6 + 2 * colours  # of the header of a scan with all colours
    file.seek(-length, 1)
    return "progressive" in image.info or file.read(3) != bytes([0, length, colours])


def turned(image: Image.Image) -> bool:
    """Return whether a large picture is to be turned, as far as it is known without decoding a PNG."""
    large = image.width * image.height * 4 > SMALL  # of others it does not matter here, and asking takes time
    return large and (image.format != "PNG" or "exif" in image.info) and image.getexif().get(ORIENTATION, 1) != 1


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


def strips(image: Image.Image, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield a picture from top to bottom in strips of some rows, a multiple: the first row of each, and the strip."""
    step = max(1, STRIP // (image.width * multiple)) * multiple
    if image.height <= step:
        yield 0, image
        return
    for top in range(0, image.height, step):
        yield top, image.crop((0, top, image.width, min(top + step, image.height)))


@contextlib.contextmanager
def room(size: int, limit: contextlib.AbstractContextManager) -> Iterator[None]:
    """Wait, outside `limit`, until there is memory for so many bytes, and hold it until the block ends."""
    if size > SMALL:
        with open(__file__, "rb") as file:  # any file that all workers can lock
            with outside(limit):
                fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            yield
        return
    if not one_small.acquire(blocking=False):  # another thread decodes
        with outside(limit):
            one_small.acquire()
    try:
        yield
    finally:
        one_small.release()


@contextlib.contextmanager
def outside(limit: contextlib.AbstractContextManager) -> Iterator[None]:
    """Leave `limit`, and enter it again when the block ends."""
    limit.__exit__(None, None, None)
    try:
        yield
    finally:
        limit.__enter__()


@contextlib.contextmanager
def reading(file: IO[bytes]) -> Iterator[None]:
    """Turn what Pillow raises into NoAnswer: a damaged or hostile file makes a decoder raise whatever it likes."""
    try:
        yield
    except NoAnswer:
        raise
    except Image.DecompressionBombError as error:
        raise TooLarge(TOO_LARGE) from error
    except UnidentifiedImageError as error:
        raise NotAPicture(not_a_picture(file)) from error
    except Exception as error:
        raise NoAnswer(f"The picture is damaged ({' '.join(str(error).split())}).") from error


@contextlib.contextmanager
def decoded(
    file: IO[bytes], smallest: int | None, width: int, limit: contextlib.AbstractContextManager = NO_LIMIT
) -> Iterator[Image.Image]:
    """Yield the picture in a file, upright, and hold its memory until the block ends.

    A large JPEG may be decoded at a fraction of its size, but not below `smallest` pixels; None: at its full size.
    `width` is that of the network's input, in pixels. The caller may be inside a `limit` of time, which is left while
    this waits for memory. Raises TooLarge, NotAPicture, or NoAnswer for a damaged file.
    """
    with reading(file):
        image: Image.Image = Image.open(file, formats=FORMATS)
        most = MAX_RLE_PIXELS if image.info.get("compression") in BMP_RLE else MAX_PIXELS
        if image.width * image.height > most or max(image.size) > MAX_SIDE:
            raise TooLarge(TOO_LARGE)
        size = memory(image, file, smallest, width)
        was_turned = turned(image)
        if size > MAX_MEMORY:
            raise TooLarge(TOO_LARGE)
    # closed first: its memory is free before the next picture takes it
    with room(size, limit), contextlib.closing(image):
        with reading(file):
            image.load()
            if turned(image) and not was_turned:  # a PNG may say so at its end
                size += image.width * image.height * PIXEL.get(image.mode, 4)
            if size > MAX_MEMORY:
                raise TooLarge(TOO_LARGE)
            ImageOps.exif_transpose(image, in_place=True)  # upright
        yield image
