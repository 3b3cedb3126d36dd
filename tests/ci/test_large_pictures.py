"""Pictures at the limit of pixels, in every mode and format, many at once: no worker runs out of memory."""

import concurrent.futures
import pytest
import random
import requests
import tarfile
import time
import yaml
from collections.abc import Callable, Iterator
from examples import ROOT, container, workers
from helpers import assert_problem
from pathlib import Path

pytestmark = pytest.mark.docker
HERE = Path(__file__).parent
LIMIT = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["image_classification"]["deploy"]["resources"]
MEMORY = LIMIT["limits"]["memory"]


def pictures(*names: str) -> dict[str, bytes]:
    """Return files by their names: the given ones, or all."""
    found = {f"HEIC {path.stem}": path.read_bytes() for path in sorted((HERE / "heic").iterdir())}
    with tarfile.open(HERE / "large_pictures.tar.xz") as archive:  # written by support/large_pictures.py
        for member in archive:
            content = archive.extractfile(member)
            assert content
            found[member.name] = content.read()
    return {name: found[name] for name in names} if names else found


REFUSED = {  # with a 413, since they decode to too much; the other pictures are answered
    "progressive JPEG CMYK of 50 megapixels",
    "PNG of 50 megapixels that is turned",
    "WebP of 50 megapixels",
    "HEIC RGB 10 bits",
    "HEIC RGB 444",
    "HEIC RGBA 422",
    "too long",
    "too large",
}
HEAVIEST = "progressive JPEG CMYK"
# those that take the most memory of the other formats (GIF and BMP: a byte for each pixel): sent twice, for two workers
HEAVY = ["PNG that is turned", "TIFF RGBA, one strip", "WebP colourful, lossless", "HEIC RGBA 444 10 bits"]


@pytest.fixture(scope="module")
def server(image: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """A container with the memory that compose.yaml gives it: (address, id)."""
    with container(image("image_classification"), "--memory", MEMORY, "--memory-swap", MEMORY) as (port, name):
        yield f"http://127.0.0.1:{port}", name


def answers_to(server: tuple[str, str], files: list[bytes]) -> list[requests.Response]:
    """Send files, sixteen at once; none may kill a worker."""
    url, name = server

    def post(content: bytes) -> requests.Response:
        """Send a picture, and again when the service asks for it, because too many bytes have come at once."""
        while (answer := requests.post(f"{url}/predict", data=content, timeout=300)).status_code == 503:
            time.sleep(int(answer.headers["Retry-After"]))
        return answer

    before = workers(name)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(post, files))
    assert workers(name) == before
    return answers


def test_sixteen_at_once_of_the_heaviest(server):
    for answer in answers_to(server, [*pictures(HEAVIEST).values()] * 16):
        assert answer.status_code == 200, answer.text
        assert answer.json()["prediction"] == 7


def test_sixteen_at_once_of_every_mode_and_format(server):
    files = pictures()
    assert {*REFUSED, *HEAVY, HEAVIEST} <= files.keys()
    queue = random.Random(0).sample([*files, *HEAVY], len(files) + len(HEAVY))
    answers = answers_to(server, [files[name] for name in queue])
    for name, answer in zip(queue, answers, strict=True):
        if name in REFUSED:
            assert "too large" in assert_problem(answer, 413)["detail"], name
        else:
            assert answer.status_code == 200, (name, answer.text)
            assert answer.json()["prediction"] == 7, name
