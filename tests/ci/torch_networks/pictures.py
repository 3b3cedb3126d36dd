"""Pictures in which a wrong range, order, size, crop or way to resize shows: colours, stripes, and a bar at an edge."""

import numpy as np
from pathlib import Path
from PIL import Image

LABELS = ["sun", "sea", "leaf"]
COLOURS = {"sun": (235, 180, 40), "sea": (40, 90, 200), "leaf": (60, 170, 70)}
SIZES = [(150, 110), (90, 130), (200, 80), (70, 70), (121, 160), (64, 64), (175, 120), (81, 93)]  # width, height


def pictures(folder: Path, count: int = 24) -> None:
    """Write pictures, LABEL-NN.png. The same numbers give the same pictures everywhere."""
    random = np.random.default_rng(7)
    for number in range(count):
        label, (width, height) = LABELS[number % len(LABELS)], SIZES[number % len(SIZES)]
        other = COLOURS[LABELS[(number + 1 + number % 2) % len(LABELS)]]
        share = random.uniform(0, 0.7)  # of another label: the network is to be in doubt about some
        y, x = np.mgrid[:height, :width]
        stripes = 35 * np.sign(np.sin((x if number % 2 else y) * np.pi / (1.2 + number % 4)))
        pixels = (1 - share) * np.array(COLOURS[label]) + share * np.array(other) + stripes[..., None]
        pixels = pixels + random.normal(0, 12, (height, width, 3))
        if label != "leaf":  # what a crop cuts off
            pixels[:, : width // 8 if label == "sun" else None][: None if label == "sun" else height // 8] *= 0.3
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{label}-{number:02}.png")
