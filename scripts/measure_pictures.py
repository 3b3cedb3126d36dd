"""Measure image_classification's container: processor time by size of picture, and memory under many photos."""

import io
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from examples import IMAGES, ROOT, ask, build, container, container_memory, form, processor_seconds
from PIL import Image, ImageDraw

EXAMPLE = "image_classification"
SAMPLES = ROOT / EXAMPLE / "samples"
PHOTO = "4000x3000 JPEG"
PHOTOS = 40  # sent at once


def encode_picture(image: Image.Image, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, format, quality=90)
    return file.getvalue()


def pictures() -> dict[str, bytes]:
    """Return an enlarged digit of MNIST, which compresses badly; a drawing, as browsers send it; and a grainy photo."""
    seven = Image.open(SAMPLES / "seven.png")
    drawing = Image.new("RGBA", (1600, 1600), "white")
    ImageDraw.Draw(drawing).line([(450, 400), (1150, 400), (750, 1250)], "black", 100, joint="curve")
    photo = Image.open(SAMPLES / "three_photo.jpg").resize((4000, 3000), Image.Resampling.BICUBIC)
    grainy = np.asarray(photo, np.float32) + np.random.default_rng(0).normal(0, 6, (3000, 4000, 3))
    return {
        "28x28 PNG": encode_picture(seven.resize((28, 28), Image.Resampling.LANCZOS)),
        "400x400 PNG, grey": encode_picture(seven.resize((400, 400), Image.Resampling.BICUBIC)),
        "400x400 PNG, RGB": encode_picture(seven.convert("RGB").resize((400, 400), Image.Resampling.BICUBIC)),
        "400x400 PNG, RGBA, a drawing": encode_picture(drawing.resize((400, 400), Image.Resampling.BOX)),
        PHOTO: encode_picture(Image.fromarray(grainy.clip(0, 255).astype(np.uint8)), "JPEG"),
    }


def main() -> None:
    build(EXAMPLE)
    files = pictures()
    with container(IMAGES[EXAMPLE]) as (port, name):
        print("| picture | bytes | processor time of a request |")
        print("| --- | --- | --- |")
        for title, picture in files.items():
            request = form(picture)
            count = 30 if title == PHOTO else 1000
            ask(port, request, count=max(10, count // 10))
            before = processor_seconds(name)
            ask(port, request, count=count)
            spent = (processor_seconds(name) - before) / count
            print(f"| {title} | {len(picture):,} | {1000 * spent:.2f} ms |", flush=True)
        with ThreadPoolExecutor(PHOTOS) as pool:
            list(pool.map(lambda _: ask(port, form(files[PHOTO]), timeout=120), range(PHOTOS)))
        peak = container_memory(name, peak=True) / 1e6
        print(f"{PHOTOS} photos of 12 megapixels at once: {peak:.0f} MB of memory at the most, all answered")


if __name__ == "__main__":
    main()
