"""Measure image_classification's container: processor time of a request by size of picture, and memory under photos."""

import io
import numpy as np
import requests
from concurrent.futures import ThreadPoolExecutor
from measure import PORT, docker, inside, processor_seconds
from PIL import Image, ImageDraw
from run import IMAGES, ROOT, SAFE, build

EXAMPLE = "image_classification"
SAMPLES = ROOT / EXAMPLE / "samples"
URL = f"http://127.0.0.1:{PORT}/predict"
PHOTOS = 60  # of 12 megapixels, sent at once


def encoded(image: Image.Image, format: str) -> bytes:
    file = io.BytesIO()
    image.save(file, format, quality=90)
    return file.getvalue()


def pictures() -> dict[str, bytes]:
    """One of MNIST's, enlarged, which compresses badly; one drawn, as browsers send it; a photo, grainy as phones'."""
    seven = Image.open(SAMPLES / "seven.png")
    drawn = Image.new("RGBA", (1600, 1600), "white")
    ImageDraw.Draw(drawn).line([(450, 400), (1150, 400), (750, 1250)], "black", 100, joint="curve")
    photo = np.asarray(
        Image.open(SAMPLES / "three_photo.jpg").resize((4000, 3000), Image.Resampling.BICUBIC), np.float32
    )
    grain = np.random.default_rng(0).normal(0, 6, photo.shape)
    grainy = Image.fromarray((photo + grain).clip(0, 255).astype(np.uint8))
    return {
        "28x28 PNG": encoded(seven.resize((28, 28), Image.Resampling.LANCZOS), "PNG"),
        "400x400 PNG, grey": encoded(seven.resize((400, 400), Image.Resampling.BICUBIC), "PNG"),
        "400x400 PNG, RGB": encoded(seven.convert("RGB").resize((400, 400), Image.Resampling.BICUBIC), "PNG"),
        "400x400 PNG, RGBA, a drawing": encoded(drawn.resize((400, 400), Image.Resampling.BOX), "PNG"),
        "4000x3000 JPEG": encoded(grainy, "JPEG"),
    }


def post(session: requests.Session, picture: bytes) -> None:
    answer = session.post(URL, files={"file": picture}, timeout=120)
    answer.raise_for_status()


def peak_memory(name: str) -> int:
    """Return the most bytes that a container has used, from control groups version 2 or 1."""
    folder = "/sys/fs/cgroup"
    return int(inside(name, f"cat {folder}/memory.peak 2>/dev/null || cat {folder}/memory/memory.max_usage_in_bytes"))


def main() -> None:
    build(EXAMPLE)
    name = docker("run", "--detach", "--publish", f"127.0.0.1:{PORT}:5000", *SAFE, IMAGES[EXAMPLE])
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(max_retries=20))
    try:
        files = pictures()
        print("| picture | bytes | processor time of a request |")
        print("| --- | --- | --- |")
        for title, picture in files.items():
            count = 30 if len(picture) > 10**6 else 1000
            for _ in range(max(10, count // 10)):
                post(session, picture)
            before = processor_seconds(name)
            for _ in range(count):
                post(session, picture)
            spent = (processor_seconds(name) - before) / count
            print(f"| {title} | {len(picture):,} | {1000 * spent:.2f} ms |", flush=True)
        photo = files["4000x3000 JPEG"]
        with ThreadPoolExecutor(PHOTOS) as pool:
            list(pool.map(lambda _: post(requests.Session(), photo), range(PHOTOS)))
        peak = peak_memory(name) / 1e6
        print(f"{PHOTOS} photos of 12 megapixels at once: {peak:.0f} MB of memory at the most, all answered")
    finally:
        docker("rm", "--force", name)


if __name__ == "__main__":
    main()
