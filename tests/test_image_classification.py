"""image_classification: pictures in, labels out."""

import base64
import io
import numpy as np
import pytest
import requests
import struct
import zlib
from examples import ROOT
from helpers import assert_problem
from PIL import Image, ImageDraw, ImageFont

SAMPLES = ROOT / "image_classification" / "samples"


@pytest.fixture
def url(server) -> str:
    return server("image_classification") + "/predict"


def drawing(size: int = 200, ink="black", paper="white", mode: str = "RGB") -> Image.Image:
    """Draw a 7 with a thick pen."""
    image = Image.new(mode, (size, size), paper)
    points = [(size * x, size * y) for x, y in [(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)]]
    ImageDraw.Draw(image).line(points, fill=ink, width=size // 12, joint="curve")
    return image


def to_file(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def send(url: str, *files: bytes, name: str = "digit.png", **options) -> requests.Response:
    return requests.post(url, files=[("file", (name, file)) for file in files], timeout=60, **options)


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.*")), ids=lambda path: path.name)
def test_samples(url, sample):
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    answer = send(url, sample.read_bytes()).json()
    assert names[answer["prediction"]] == sample.stem.split("_")[0]
    assert answer["probabilities"][str(answer["prediction"])] == max(answer["probabilities"].values())


def test_answer(url):
    answer = send(url, to_file(drawing())).json()
    assert answer["prediction"] == 7
    assert list(answer["probabilities"]) == list("0123456789")
    assert 0.9 < sum(answer["probabilities"].values()) <= 1.001  # the rest: it may show no digit
    assert answer["others"] == 0


@pytest.mark.parametrize("count", [2, 5, 12, 15])
def test_others_are_counted_up_to_11(url, count):
    image = Image.new("RGB", (200 * count, 200), "white")
    for place in range(count):
        image.paste(drawing(), (200 * place, 0))
    answer = send(url, to_file(image)).json()
    assert answer["prediction"] == 7
    assert answer["others"] == min(count - 1, 11)


@pytest.mark.parametrize("width", [80, 120, 160])
@pytest.mark.parametrize("value", [0, 8])
def test_boxy_digits(url, value, width):
    """As on a display, or drawn with straight lines; the last ones are as wide as high."""
    image = Image.new("L", (260, 220), 255)
    ImageDraw.Draw(image).rectangle((40, 30, 40 + width, 190), outline=0, width=14)
    if value == 8:
        ImageDraw.Draw(image).line((40, 110, 40 + width, 110), 0, 14)
    answer = send(url, to_file(image)).json()
    assert answer["prediction"] == value
    assert answer["probabilities"][str(value)] > 0.9


def letter(text: str) -> Image.Image:
    image = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(image).text((100, 100), text, 0, ImageFont.load_default(140), "mm")
    return image


def house() -> Image.Image:
    image = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(image).line([(50, 170), (50, 90), (100, 40), (150, 90), (150, 170), (50, 170)], 0, 10, "curve")
    ImageDraw.Draw(image).line([(50, 90), (150, 90)], 0, 10)
    return image


@pytest.mark.parametrize(
    "picture", [*map(letter, "ACEFHKMNRTUVWX#@%kw"), house()], ids=[*"ACEFHKMNRTUVWX#@%kw", "house"]
)
def test_a_picture_without_a_digit_is_refused(url, picture):
    answer = send(url, to_file(picture), params={"input": "1"})
    assert_problem(answer, 422)
    assert "this does not look like a digit" in answer.json()["detail"]
    assert np.max(answer.json()["input"]) > 200
    assert "input" not in send(url, to_file(picture)).json()


def test_several_pictures(url):
    one, three = (SAMPLES / "one.png").read_bytes(), (SAMPLES / "three.png").read_bytes()
    assert [answer["prediction"] for answer in send(url, one, three, one).json()] == [1, 3, 1]


def test_picture_as_the_body(url):
    answer = requests.post(url, data=to_file(drawing()), headers={"Content-Type": "image/png"}, timeout=10)
    assert answer.json()["prediction"] == 7


def test_input_shows_what_the_network_saw(url):
    seen = np.array(send(url, to_file(drawing()), params={"input": "1"}).json()["input"])
    assert seen.shape == (28, 28)
    assert seen.min() == 0
    assert seen.max() > 200


@pytest.mark.parametrize("format", ["PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF"])
def test_formats_by_content(url, format):
    assert send(url, to_file(drawing(), format), name="digit.txt").json()["prediction"] == 7


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16", "I", "F"])
def test_modes(url, mode):
    image = drawing().convert("L").convert("I").point(lambda x: x * 257) if mode.startswith("I") else drawing()
    format = "TIFF" if mode in ("CMYK", "F", "I") else "PNG"
    assert send(url, to_file(image.convert(mode), format)).json()["prediction"] == 7


def test_light_on_dark(url):
    assert send(url, to_file(drawing(ink="white", paper="black"))).json()["prediction"] == 7


def test_transparent_paper(url):
    assert send(url, to_file(drawing(paper=(0, 0, 0, 0), mode="RGBA"))).json()["prediction"] == 7


def test_exif_rotation(url):
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me by 90 degrees clockwise to see me upright"
    turned = drawing().transpose(Image.Transpose.ROTATE_90)
    assert send(url, to_file(turned, "JPEG", exif=exif)).json()["prediction"] == 7


@pytest.mark.parametrize("size", [28, 100, 400, 3000])
def test_sizes(url, size):
    assert send(url, to_file(drawing(size), "JPEG")).json()["prediction"] == 7


def png_bomb(side: int) -> bytes:
    """Return a small PNG that claims to be `side` pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    header = side.to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def rle_bmp(width: int, height: int) -> bytes:
    """Return a small file, a run-length encoded BMP: a 7 of 28 x 28 pixels in its corner, all else is black."""
    seven = np.asarray(drawing(28).convert("L"))[::-1]  # from the bottom up
    rows = [b"".join(bytes([1, value]) for value in row.tolist()) for row in seven] + [b""] * (height - 28)
    data = b"".join(row + b"\0\0" for row in rows) + b"\0\1"
    palette = b"".join(bytes([value] * 3 + [0]) for value in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return struct.pack("<2sIII", b"BM", 1078 + len(data), 0, 1078) + header + palette + data


def test_a_small_run_length_encoded_bmp(url):
    assert send(url, rle_bmp(28, 28)).json()["prediction"] == 7


def svg() -> bytes:
    return b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><path d="M1 1h7l-4 7"/></svg>'


@pytest.mark.parametrize(
    ("file", "status"),
    [
        pytest.param(b"", 415, id="empty"),
        pytest.param(b"seven", 415, id="text"),
        pytest.param(svg(), 415, id="svg"),
        pytest.param(b"%PDF-1.7\n", 415, id="pdf"),
        pytest.param(png_bomb(60_000), 413, id="bomb"),
        pytest.param(png_bomb(7_100), 413, id="51 megapixels"),
        pytest.param(png_bomb(11_000), 413, id="121 megapixels"),
        pytest.param(rle_bmp(7000, 7000), 413, id="rle bmp"),  # would take seconds
        pytest.param(png_bomb(100), 422, id="short png"),
        pytest.param(png_bomb(0), 415, id="0x0"),
        pytest.param(to_file(drawing(), "JPEG")[:1500], 422, id="truncated jpeg"),
        pytest.param(to_file(drawing())[:200], 422, id="truncated png"),
        pytest.param((SAMPLES / "three_photo.heic").read_bytes()[:5000], 422, id="truncated heic"),
        pytest.param(to_file(Image.new("L", (28, 28), "white")), 422, id="white"),
        pytest.param(to_file(Image.new("L", (28, 28), "black")), 422, id="black"),
        pytest.param(to_file(Image.new("L", (300, 300), 127)), 422, id="grey"),
        pytest.param(to_file(Image.new("L", (1, 1), 127)), 422, id="one pixel"),
        pytest.param(to_file(Image.new("RGBA", (99, 99))), 422, id="transparent"),
    ],
)
def test_bad_pictures(url, file, status):
    assert_problem(send(url, file), status)
    assert send(url, to_file(drawing())).json()["prediction"] == 7


def test_one_bad_picture_of_several(url):
    answer = send(url, to_file(drawing()), b"seven")
    assert_problem(answer, 415)
    assert answer.json()["detail"].startswith("File 2: This is not a picture.")
    assert send(url, b"seven").json()["detail"].startswith("This is not a picture.")


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "multipart/form-data", 400),
        (b"", "multipart/form-data; boundary=x", 400),
        (b"--x\r\nnonsense", "multipart/form-data; boundary=x", 400),
        (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--x--\r\n',  # nothing chosen
            "multipart/form-data; boundary=x",
            400,
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\na\r\n' * 10_000,
            "multipart/form-data; boundary=x",
            413,
        ),
    ],
)
def test_bad_forms(url, body, content_type, status):
    assert_problem(requests.post(url, data=body, headers={"Content-Type": content_type}, timeout=30), status)


def test_a_chunked_form_that_is_too_large(url):
    """It has no Content-Length, and may not be cut off and called damaged."""

    def parts():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(33):
            yield bytes(2**20)
        yield b"\r\n--x--\r\n"

    answer = requests.post(url, data=parts(), headers={"Content-Type": "multipart/form-data; boundary=x"}, timeout=60)
    assert_problem(answer, 413)


def test_other_field(url):
    answer = requests.post(url, files={"image": to_file(drawing())}, timeout=10)
    assert "file" in assert_problem(answer, 400)["detail"]


@pytest.mark.parametrize(
    "name",
    [
        b'; filename="sch\xf6n.png"',  # in a Windows code page
        '; filename="schön 日本.png"'.encode(),
        b"; filename*=UTF-8''sch%C3%B6n.png",
        b"; filename=two words.png",
        b'; filename=""',
        b"",
    ],
    ids=["code page", "UTF-8", "filename*", "no quotes", "empty", "none"],
)
def test_any_file_name(url, name):
    head = b'--x\r\nContent-Disposition: form-data; name="file"' + name + b"\r\n\r\n"
    body = head + to_file(drawing()) + b"\r\n--x--\r\n"
    answer = requests.post(url, data=body, headers={"Content-Type": "multipart/form-data; boundary=x"}, timeout=10)
    assert answer.json()["prediction"] == 7


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (base64.b64encode(to_file(drawing())), "base64"),
        (b"data:image/png;base64," + base64.b64encode(to_file(drawing())), "base64"),
        (b'{"file": "' + base64.b64encode(to_file(drawing())) + b'"}', "JSON"),
        (b"\0\0\0\x20ftypavif" + bytes(100), "AVIF"),
    ],
    ids=["base64", "data URL", "JSON", "AVIF"],
)
def test_the_answer_says_how_to_send_a_picture(url, body, kind):
    detail = assert_problem(requests.post(url, data=body, timeout=10), 415)["detail"]
    assert kind in detail
    assert "Send" in detail
