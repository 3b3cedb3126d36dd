"""For schemathesis: pictures to upload, real ones and spoilt ones, where it would draw random bytes."""

import io
import schemathesis
from functools import cache
from hypothesis import strategies as st
from itertools import cycle
from pathlib import Path
from PIL import Image, ImageOps
from schemathesis.openapi.checks import RejectedPositiveData

SAMPLES = sorted((Path(__file__).parents[3] / "image_classification" / "samples").glob("*.*"))
MEDIA_TYPES = ["image/png", "image/jpeg", "image/gif", "image/webp", "application/octet-stream"]
FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]
whole: set[bytes] = set()


@cache
def encode(sample: Path, size: int, format: str, light_on_dark: bool) -> bytes:
    image = Image.open(sample).convert("L").resize((size, size))
    file = io.BytesIO()
    (ImageOps.invert(image) if light_on_dark else image).save(file, format)
    whole.add(file.getvalue())
    return file.getvalue()


@st.composite
def spoil(draw: st.DrawFn) -> bytes:
    """Change some bytes of a picture, and cut off its end."""
    file = bytearray(draw(real))
    for place in draw(st.lists(st.integers(0, len(file) - 1), max_size=5)):
        file[place] ^= draw(st.integers(1, 255))
    return bytes(file[: draw(st.integers(0, len(file)))])


pictures = [path for path in SAMPLES if path.suffix in (".png", ".jpg")]
real = st.builds(encode, st.sampled_from(pictures), st.sampled_from([28, 56]), st.sampled_from(FORMATS), st.booleans())
for media_type in MEDIA_TYPES:
    schemathesis.openapi.media_type(media_type, real | spoil())


@schemathesis.hook
def flatmap_body(context, body):
    """Put pictures into the form's field `file`; what is no file there, to be refused, stays."""
    if not isinstance(body, dict) or not isinstance(body.get("file"), list):
        return st.just(body)
    few = st.lists(real | spoil(), min_size=1, max_size=3)  # over and over: to draw 300 takes long
    return few.map(lambda drawn: body | {"file": [*map(replace, body["file"], cycle(drawn))]})


def replace(file, picture):
    return picture if isinstance(file, str | bytes) else file


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Let only pictures that are not whole be refused: which bytes are a picture is more than a document can say."""
    files = case.body.get("file", []) if isinstance(case.body, dict) else [case.body]
    refused = isinstance(failure, RejectedPositiveData) and response.status_code in (415, 422)
    return not refused or all(isinstance(file, bytes) and file in whole for file in files)
