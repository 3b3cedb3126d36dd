"""Measure a running service on pictures in FOLDER/LABEL/, a folder for each label.

    python3 evaluate.py FOLDER [--url URL] [--perturb] [--contact-sheet FILE.png]

Prints how many pictures were classified correctly, and lists the others. Where several labels may be right, a picture
counts as correct if the label of its folder is among them. For pictures in a folder `none`, a 422 is correct.
`--perturb` repeats this with each picture rotated, blurred, under the edge of a shadow, on lined paper and so on.
Needs `pip install requests pillow numpy`.
"""

import argparse
import io
import numpy as np
import requests
from collections.abc import Iterator
from pathlib import Path
from PIL import Image, ImageDraw, ImageFilter, ImageOps

PERTURBATIONS = (
    "rotation +12", "rotation -12", "blur 1 %", "noise 14", "JPEG 15",
    "shadow 45 %", "shadow edge", "lined", "squared", "frame x3", "small and shaded", "inversion", "EXIF 6",
)  # fmt: skip


def perturb(data: bytes, name: str) -> bytes:
    """Return the picture in `data` after one of PERTURBATIONS, or unchanged for "none"."""
    if name == "none":
        return data
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if name in ("shadow edge", "lined", "squared"):  # as on a photo, not as thick as the strokes of a small picture
        image = ImageOps.contain(image, (400, 400), Image.Resampling.BICUBIC)
    pixels = np.asarray(image, np.float32)
    border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    red, green, blue = (int(level) for level in np.median(border, axis=0))
    background = red, green, blue
    options: dict = {"format": "PNG", "compress_level": 1}
    if name.startswith("rotation"):
        angle = float(name.split()[1])
        image = image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=background)
    elif name == "blur 1 %":
        image = image.filter(ImageFilter.GaussianBlur(max(image.size) / 100))
    elif name == "noise 14":
        noise = np.random.default_rng(0).normal(0, 14, pixels.shape)
        image = Image.fromarray((pixels + noise).round().clip(0, 255).astype(np.uint8))
    elif name == "JPEG 15":
        options = {"format": "JPEG", "quality": 15}
    elif name == "shadow 45 %":
        light = np.linspace(1, 0.45, image.width, dtype=np.float32)[:, None]
        image = Image.fromarray((pixels * light).astype(np.uint8))
    elif name == "shadow edge":  # of a hand or a phone: sharp, at any angle, near the middle
        random = np.random.default_rng(image.width * image.height)
        angle, place = random.uniform(0, 2 * np.pi), random.uniform(-0.2, 0.2)
        y, x = (np.indices(pixels.shape[:2]).T / pixels.shape[1::-1] - 0.5).T
        dark = x * np.cos(angle) + y * np.sin(angle) > place
        image = Image.fromarray(np.where(dark[..., None], 0.6 * pixels, pixels).astype(np.uint8))
    elif name in ("lined", "squared"):  # lines that are darker than paper, or lighter than a blackboard
        step = max(image.size) / 9
        lines = [np.arange(side) % step < max(1, step / 16) for side in pixels.shape[:2]]
        ruled = lines[0][:, None] | (lines[1] if name == "squared" else False)
        level = np.abs(np.array(background) - 70)
        stronger = np.minimum if np.mean(background) > 127 else np.maximum
        image = Image.fromarray(np.where(ruled[..., None], stronger(pixels, level), pixels).astype(np.uint8))
    elif name == "frame x3":
        frame = Image.new("RGB", (3 * image.width, 3 * image.height), background)
        frame.paste(image, (image.width // 3, image.height * 5 // 3))
        image = frame
    elif name == "small and shaded":  # a twelfth of the frame's width
        frame = Image.new("RGB", (1600, 1200), background)
        frame.paste(ImageOps.contain(image, (130, 130), Image.Resampling.BICUBIC), (1000, 400))
        light = np.linspace(1, 0.5, frame.width, dtype=np.float32)[:, None]
        image = Image.fromarray((np.asarray(frame) * light).astype(np.uint8))
    elif name == "inversion":
        image = ImageOps.invert(image)
    elif name == "EXIF 6":  # stored rotated by 90 degrees, with the note to rotate it back
        exif = Image.Exif()
        exif[0x0112] = 6
        image, options["exif"] = image.transpose(Image.Transpose.ROTATE_90), exif
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def pictures(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield "label/name" and the content of each picture."""
    for path in sorted(folder.glob("*/*")):
        if path.is_file() and not path.name.startswith("."):
            yield f"{path.parent.name}/{path.name}", path.read_bytes()


def ask(session: requests.Session, url: str, data: bytes, seen: bool) -> tuple[list[str], float, list | None]:
    """Return the predicted labels (none for a 422), the highest probability of them, and the picture that was seen."""
    response = session.post(url, files={"file": data}, params={"input": 1} if seen else None, timeout=60)
    if response.status_code == 422:
        return [], 0.0, response.json().get("input")
    response.raise_for_status()
    answer = response.json()
    if "probabilities" not in answer:
        raise SystemExit("This service predicts a number. evaluate.py measures services that predict labels.")
    prediction = answer["prediction"]
    labels = [str(label) for label in (prediction if isinstance(prediction, list) else [prediction])]
    return labels, max((answer["probabilities"][label] for label in labels), default=0.0), answer.get("input")


def draw(misread: list[tuple[str, bytes, str, list | None]], file: Path) -> None:
    """Save the misread pictures, each beside the picture that the network saw."""
    sheet = Image.new("RGB", (4 * 260, max(1, -(-len(misread) // 4)) * 140), "grey")
    for number, (name, data, prediction, seen) in enumerate(misread):
        left, top = number % 4 * 260, number // 4 * 140
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGBA")
        image = ImageOps.contain(image, (124, 112))
        sheet.paste(image.convert("RGB"), (left, top + 16), image)
        if seen is not None:
            small = Image.fromarray(np.array(seen, np.uint8)).resize((112, 112), 0)
            sheet.paste(small, (left + 130, top + 16))
        ImageDraw.Draw(sheet).text((left + 2, top + 2), f"{name[-26:]} -> {prediction}")
    sheet.save(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder with a sub-folder for each label")
    parser.add_argument(
        "--url", default="http://localhost:5000/predict", help="address of the service (default: %(default)s)"
    )
    parser.add_argument("--perturb", action="store_true", help="repeat with each picture rotated, blurred and so on")
    parser.add_argument("--contact-sheet", type=Path, metavar="FILE.png", help="save the misread pictures in this file")
    options = parser.parse_args()

    session = requests.Session()
    misread: list[tuple[str, bytes, str, list | None]] = []
    for name in ("none", *PERTURBATIONS) if options.perturb else ("none",):
        correct, confident, lines = [], [], []
        for picture, original in pictures(options.folder):
            data = perturb(original, name)
            labels, probability, seen = ask(session, options.url, data, options.contact_sheet is not None)
            prediction, is_correct = " + ".join(labels) or "none", picture.split("/")[0] in (labels or ["none"])
            correct.append(is_correct)
            if probability >= 0.9:
                confident.append(is_correct)
            if not is_correct:
                misread.append((picture, data, prediction, seen))
                lines.append(f"  {picture} -> {prediction} {probability:.2f}")
        if not correct:
            parser.error(f"no pictures in {options.folder}/LABEL, a folder for each label")
        share = f"{name:16} {np.mean(correct):7.2%} of {len(correct)} ({correct.count(False)} misread)"
        if confident:
            share += f", of {len(confident)} predictions with 0.9 or more: {np.mean(confident):.2%}"
        print(share, *lines, sep="\n", flush=True)
    if options.contact_sheet:
        draw(misread, options.contact_sheet)


if __name__ == "__main__":
    main()
