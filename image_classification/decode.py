"""Open an uploaded picture safely: known formats only, limited in size, upright."""

import warnings
from flask import abort
from pi_heif import register_heif_opener
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401
from typing import IO

FORMATS = (
    "PNG",
    "JPEG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "HEIF",
)  # phones may write MPO, a kind of JPEG, or HEIC, a kind of HEIF
MAX_PIXELS = 50_000_000
MAX_RLE_PIXELS = 5_000_000  # in a run-length encoded BMP, which Pillow decodes in Python, ten times as slowly
BMP_RLE = (1, 2)  # the compressions BI_RLE8 and BI_RLE4
DRAFT = 256  # pixels: a larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size, but not below this

Image.preinit()  # load the decoders now, not in the first request: these and the two above, not all forty
register_heif_opener(thumbnails=False, decode_threads=1)
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)


def decode(file: IO[bytes]) -> Image.Image:
    """Return the picture in a file, upright. A large JPEG is decoded at a fraction of its size.

    Answers 413 if it has too many pixels, 415 if it is not a picture, and 422 if it is damaged.
    """
    try:
        image = Image.open(file, formats=FORMATS)
        if image.info.get("compression") in BMP_RLE and image.width * image.height > MAX_RLE_PIXELS:
            raise Image.DecompressionBombError
        image.draft(None, (DRAFT, DRAFT))
        ImageOps.exif_transpose(image, in_place=True)  # upright, as the phone was held; decodes it, too
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        abort(413, f"The picture may have at most {MAX_PIXELS} pixels, a run-length encoded BMP {MAX_RLE_PIXELS}.")
    except UnidentifiedImageError:
        abort(415, f"This is not a picture. Send one of {', '.join(FORMATS)}.")
    except Exception as error:  # a damaged or hostile file makes a decoder raise whatever it likes
        abort(422, f"The picture is damaged ({' '.join(str(error).split())}).")
    return image
