"""Find out how a notebook prepares pictures from what it predicts for some files, and prove it on others."""

import numpy as np
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from export.predictions import FILES, SAME, TOLERANCE, Predictions
from export.task import Refusal, parse_range
from functools import cache, lru_cache
from importlib import metadata
from numpy.typing import NDArray
from pathlib import Path
from PIL import Image
from preprocess import Way
from runtime import PROBABILITIES, Network
from runtime.card import Card, Proof, Task
from runtime.decode import NoAnswer, decoded
from typing import Any, NamedTuple

# TensorFlow decodes JPEGs in a faster way: most levels differ by 1 at most, some by up to 6. Where its own JPEGs prove
# the way, the answers may differ more.
TOLERANCE_JPEG, MOST_JPEG = 0.03, 0.1
KEPT = 4  # files that are for the proof, at least
LOOSE = 0.1  # a way that differs by more on one file is given up
SECONDS = 15  # about how long all ways may take on the first file; otherwise the likely ones are found first
MOST_SECONDS = 180  # after which no more groups are begun
GROUP = 3  # ways to read the colours that are looked at together

# as in public code: Keras's "caffe" mode, torchvision and timm, OpenAI's CLIP, CIFAR-10, and MNIST
RANGES = ["0..1", "0..255", "-1..1", "-0.5..0.5"]
RANGES_OF_COLOURS = [
    "mean 123.675,116.28,103.53 scale 58.395,57.12,57.375",
    "mean 123.68,116.779,103.939 scale 1",
    "mean 122.7709,116.7460,104.0937 scale 68.5005,66.6322,70.3231",
    "mean 125.307,122.961,113.8575 scale 62.985,62.0925,66.7080",
    "mean 125.307,122.961,113.8575 scale 51.5865,50.847,51.255",
]
RANGES_OF_GREY = ["mean 33.3285 scale 78.5655"]
RESIZES = [
    "bilinear",
    "pil-bilinear",
    "pil-nearest",
    "cv2-linear",
    "cv2-area",
    "pil-bicubic",
    "bicubic",
    "pil-lanczos",
    "nearest",
]
RESIZES += ["pil-box", "pil-hamming"]
SHARES = [0.875, 1.0, 224 / 232, 0.9, 0.95, 0.96, 224 / 246, 224 / 236]  # of the crop, in torchvision and timm
# differ by a pixel or a level at the most
ALIKE = [{"nearest", "pil-nearest"}, {"crop", "crop-exact"}, {"bilinear", "cv2-linear"}]


class Place(NamedTuple):
    """Which pixels of a picture the network sees."""

    resize: str
    fit: str
    crop: float | None


class Colour(NamedTuple):
    """Which numbers they become."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    bgr: bool
    standardize: str | None


class Guess(NamedTuple):
    """One way in which the notebook may have done it."""

    place: Place
    colour: Colour
    task: Task

    def on(self, card: Card) -> Card:
        return replace(card, **self.place._asdict(), **self.colour._asdict(), task=self.task)


def places(card: Card, told: Mapping[str, Any]) -> list[Place]:
    """Return all ways to resize, the usual ones first."""
    if card.preprocess != "photo":
        return [Place(card.resize, card.fit, card.crop)]
    found = []
    for resize in [told["resize"]] if told["resize"] else [*RESIZES, "none"]:
        if resize == "none":
            found += [Place(resize, fit, None) for fit in ("stretch", "crop")]
            continue
        found += [Place(resize, fit, None) for fit in ("stretch", "crop", "pad")]
        found += [Place(resize, "crop-exact", None)] if resize.startswith("pil-") else []
        if resize in ("pil-bilinear", "pil-bicubic", told["resize"]):
            found += [Place(resize, "crop", share) for share in SHARES]
            found += [Place(resize, "stretch", 0.875)]
        elif resize == "bilinear":
            found += [Place(resize, "crop", 0.875)]
    if told["fit"]:  # then a crop that is not given is none
        found = [Place(place.resize, told["fit"], told["crop"]) for place in found]
    elif told["crop"]:
        found = [place._replace(crop=told["crop"]) for place in found if place.fit in ("stretch", "crop")]
    return list(dict.fromkeys(found))


def colours(card: Card, told: Mapping[str, Any]) -> list[Colour]:
    """Return all ways to make numbers of pixels, the usual ones first."""
    grey = card.channels == 1
    texts = [told["range"]] if told["range"] else RANGES + (RANGES_OF_GREY if grey else RANGES_OF_COLOURS)
    ranges = [tuple(map(tuple, parse_range(text))) for text in texts]
    found = []
    for bgr in [False] if grey else [False, True] if told["bgr"] is None else [bool(told["bgr"])]:
        for mean, scale in ranges:
            found.append(Colour(mean, scale, bgr, told["standardize"]))
            if bgr and len(mean) > 1 and not told["range"]:  # made for red before blue, and used on blue before red
                found.append(Colour(mean[::-1], scale[::-1], bgr, told["standardize"]))
        if not told["range"] and not told["standardize"]:
            found.append(Colour((0.0,), (1.0,), bgr, "picture"))
    return found


class Search:
    """The answers of a network to files, each prepared in many ways."""

    def __init__(self, network: Network, way: Way, predictions: Predictions, tensorflow: bool = False) -> None:
        self.network, self.way, self.predictions, self.card = network, way, predictions, network.card
        self.tensorflow = tensorflow  # decodes the JPEGs
        self.picture = lru_cache(128)(self.prepared)  # each is read in many colours, and takes up to a megabyte
        self.outputs = cache(self.asked)
        self.opened: dict[Path, Image.Image] = {}

    def image(self, path: Path) -> Image.Image:
        if path not in self.opened and self.tensorflow and is_jpeg(path):
            pixels = sys.modules["tensorflow"].io.decode_jpeg(path.read_bytes()).numpy()
            self.opened[path] = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
        if path not in self.opened:
            try:
                with path.open("rb") as file, decoded(file, self.way.smallest, self.card.size[1]) as image:
                    self.opened[path] = image.copy()
                    self.opened[path].format = image.format
            except NoAnswer as error:
                raise Refusal(f"{path} cannot be compared: {error}".rstrip(".")) from error
        return self.opened[path]

    def prepared(self, place: Place, path: Path) -> NDArray:
        try:
            return self.way.prepare(self.image(path), replace(self.card, **place._asdict()))[0]
        except NoAnswer as error:
            raise Refusal(f"{path} cannot be compared: {error}".rstrip(".")) from error

    def asked(self, place: Place, colour: Colour, path: Path) -> NDArray:
        return self.run(colour, self.picture(place, path))

    def run(self, colour: Colour, picture: NDArray) -> NDArray:
        self.network.use(replace(self.card, **colour._asdict()))
        try:
            return self.network.outputs(picture)
        except NoAnswer:
            return np.full(max(1, len(self.card.labels)), np.inf, np.float32)

    def answer(self, guess: Guess, path: Path) -> NDArray:
        with np.errstate(all="ignore"):
            return PROBABILITIES[guess.task](self.outputs(guess.place, guess.colour, path))

    def difference(self, guess: Guess, number: int) -> float:
        """Return how far the answer is from the notebook's for a file."""
        path, wanted = self.predictions.files[number], self.predictions.values[number]
        if self.predictions.kind == "labels":
            return float(self.answer(guess, path).argmax() != wanted)
        got = (
            self.outputs(guess.place, guess.colour, path)
            if self.predictions.kind == "scores"
            else self.answer(guess, path)
        )
        if self.predictions.kind == "scores" and len(got) == 1 and len(wanted) == 2:
            wanted = wanted[1:]
        difference = float(np.abs(got - wanted).max()) / self.predictions.unit if len(got) == len(wanted) else np.inf
        return difference if np.isfinite(difference) else 1e9

    def forget(self, path: Path) -> None:
        """Free the memory of a picture that is not looked at again."""
        self.opened.pop(path, None)


def is_jpeg(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".jpeg", ".jpe", ".jfif")


def allowed(path: Path, kind: str) -> float:
    if kind == "labels":
        return 0.5
    return TOLERANCE_JPEG if is_jpeg(path) else TOLERANCE


def find(
    network: Network, way: Way, predictions: Predictions, told: Mapping[str, Any], tasks: Sequence[Task]
) -> tuple[Card, str]:
    """Return the card by which a network answers as the notebook, with the proof, and a note on it.

    `told` holds what the reader says of range, bgr, standardize, resize, fit and crop; None is to be found. Raises
    Refusal, with the nearest way, if no way or more than one fits.
    """
    card, search = network.card, Search(network, way, predictions)
    order = by_label(
        predictions, sorted(range(len(predictions.files)), key=lambda number: telling(predictions, search, number))
    )
    half = len(order) // 2
    looked = order[: 2 * half : 2][: max(FILES - KEPT, half if predictions.kind == "labels" else 6)]
    kept = [number for number in range(len(order)) if number not in looked]
    for number in kept:
        search.forget(predictions.files[number])
    everywhere, shades = places(card, told), colours(card, told)
    guesses = fitting(search, looked, everywhere, shades, tasks)
    numbers = [*looked, *kept]
    worst = followed(search, guesses, numbers)
    fit, note = fits(predictions, worst, numbers), ""
    if max(map(max, worst.values() if not fit else [worst[fit[0]]])) > TOLERANCE and tensorflow_decodes(predictions):
        # then with TensorFlow's JPEGs, where the right way is exact, and only its JPEGs differ in the service
        faster = Search(network, way, predictions, tensorflow=True)
        exact = followed(faster, guesses, numbers)
        if found := [guess for guess in fits(predictions, exact, numbers) if max(exact[guess]) <= TOLERANCE]:
            served = {guess: [search.difference(guess, number) for number in numbers] for guess in found[:1]}
            if max(served[found[0]]) <= MOST_JPEG:
                search, worst, fit = faster, exact, found
                note = f"; JPEGs differ by up to {max(served[found[0]]):.1g}, since TensorFlow decodes them faster"
    files = [predictions.files[number] for number in numbers]
    if not fit:
        nearest = min(worst, key=lambda guess: float(np.mean(np.minimum(worst[guess], 1))))
        far = int(np.argmax(worst[nearest]))
        by = "its label" if predictions.kind == "labels" else f"{worst[nearest][far]:.2g}"
        raise Refusal(
            "no way to prepare pictures that was tried gives the notebook's predictions; the nearest is "
            f"{described(nearest, card)}, where {files[far].name} differs most, by {by}"
        )
    best = fit[0]
    limit = max(3 * max(worst[best]), SAME / 100) if predictions.kind != "labels" else 1
    rivals = [guess for guess in fit if guess != best and max(worst[guess]) <= limit and not alike(guess, best)]
    if others := [guess for guess in rivals if differs(search, best, guess, predictions.files)]:
        raise Refusal(ambiguous(best, others, card, len(files)))
    difference = max(served[best]) if note else max(worst[best])
    proof = Proof(
        compared=len(files),
        kept=len(kept),
        difference=float(f"{difference:.2g}") if predictions.kind != "labels" else 0.0,
        with_predictions=True,
        versions=versions(),
    )
    network.use(card)
    return replace(best.on(card), proof=proof), note


def followed(search: Search, guesses: list[Guess], numbers: list[int]) -> dict[Guess, list[float]]:
    """Return how far guesses are from the notebook on each file; those that are far are left out on the way."""
    found: dict[Guess, list[float]] = {guess: [] for guess in guesses}
    for number in numbers:
        for guess, differences in found.items():
            differences.append(search.difference(guess, number))
        limit = max(LOOSE, sorted(max(each) for each in found.values())[:3][-1])
        found = {guess: each for guess, each in found.items() if max(each) <= limit}
        search.forget(search.predictions.files[number])
    return found


def fits(predictions: Predictions, differences: dict[Guess, list[float]], numbers: list[int]) -> list[Guess]:
    """Return the guesses that agree with the notebook on all files: the best first, the usual one among equals."""
    limits = [allowed(predictions.files[number], predictions.kind) for number in numbers]
    fit = [
        guess
        for guess, found in differences.items()
        if all(difference <= limit for difference, limit in zip(found, limits, strict=True))
    ]
    least = min((max(differences[guess]) for guess in fit), default=0)
    return sorted(fit, key=lambda guess: max(*differences[guess], least + SAME / 100))  # stable


def tensorflow_decodes(predictions: Predictions) -> bool:
    """Return whether the notebook may have decoded JPEGs by TensorFlow: it is here, and there are some."""
    return (
        "tensorflow" in sys.modules
        and predictions.kind != "labels"
        and any(is_jpeg(path) for path in predictions.files)
    )


def measured(network: Network, way: Way, predictions: Predictions, most: float) -> Card:
    """Return the card of a file with weights of 8 bits, whose answers differ more, with the difference."""
    card, search = network.card, Search(network, way, predictions)
    shade = Colour(card.mean, card.scale, card.bgr, card.standardize)
    guess = Guess(Place(card.resize, card.fit, card.crop), shade, card.task)
    found = []
    for number, path in enumerate(predictions.files):
        found.append(search.difference(guess, number))
        search.forget(path)
    if predictions.kind != "labels" and not max(found) <= most:
        far = predictions.files[int(np.argmax(found))].name
        raise Refusal(f"with 8 bits {far} differs by {max(found):.2g} from the notebook: export it without `quantize`")
    network.use(card)
    assert card.proof
    return replace(card, proof=replace(card.proof, difference=float(f"{max(found):.2g}")))


def telling(predictions: Predictions, search: Search, number: int) -> float:
    """Return how much a file says of the way: in doubt, of another shape, large, coloured."""
    image, (height, width) = search.image(predictions.files[number]), search.card.size
    shape = abs(np.log(image.width / image.height * height / width))
    larger = np.log(max(1, image.width * image.height / (height * width))) / 5
    doubt = 0.0
    if predictions.kind == "probabilities":
        doubt = float(
            1 + np.log10(max(1e-8, np.abs(predictions.values[number].round() - predictions.values[number]).max())) / 8
        )
    return min(shape, 0.7) + min(larger, 1) + doubt + 0.5 * (image.mode not in ("1", "L", "LA", "I;16"))


def by_label(predictions: Predictions, order: list[int]) -> list[int]:
    """Return files so that different labels come first, and of each label the last one of an order."""
    heaps: dict[int, list[int]] = {}
    for number in order:
        value = predictions.values[number]
        heaps.setdefault(int(value if predictions.kind == "labels" else value.argmax()), []).append(number)
    found = []
    while heaps := {label: heap for label, heap in heaps.items() if heap}:
        found += [heap.pop() for heap in heaps.values()]
    return found


def fitting(
    search: Search, looked: list[int], everywhere: list[Place], shades: list[Colour], tasks: Sequence[Task]
) -> list[Guess]:
    """Return the guesses that are near the notebook's predictions on the files to look at, or the nearest ones.

    All are tried on the first file, and those that are near on the next one, and so on. Where that takes long, the ways
    to read the colours are ordered first, by their answers to three files that are resized in the most different ways.
    """
    first = search.predictions.files[looked[0]]
    search.outputs(everywhere[0], shades[0], first)
    start = time.process_time()
    search.run(shades[0], search.picture(everywhere[0], first))
    seconds = time.process_time() - start
    total = len(everywhere) * len(shades) * seconds
    groups = [shades]
    if total > SECONDS and len(shades) > GROUP:
        print(f"Looking for how the notebook prepares pictures: about {total / 3 + 10:.0f} s …", file=sys.stderr)
        rough = [place for place in everywhere if place.resize in ("bilinear", "pil-bilinear", "pil-nearest", "none")]
        rough = [place for place in rough or everywhere if place.crop is None and place.fit != "crop-exact"][:11]
        rougher = {shade: [Guess(place, shade, task) for place in rough for task in tasks] for shade in shades}
        far: dict[Colour, list[float]] = {shade: [] for shade in shades}
        ranked = shades
        for number, count in zip(looked, (len(shades), 4 * GROUP, 2 * GROUP), strict=False):
            for shade in ranked[:count]:
                far[shade].append(min(min(1, search.difference(guess, number)) for guess in rougher[shade]))
            ranked = sorted(shades, key=lambda shade: (-len(far[shade]), np.mean(far[shade])))
        groups = [ranked[at : at + GROUP] for at in range(0, len(ranked), GROUP)]
    near: list[tuple[float, Guess]] = []
    for count, group in enumerate(groups, 1):
        for place in everywhere:
            for shade in group:
                guesses = [Guess(place, shade, task) for task in tasks]
                near += [(search.difference(guess, looked[0]), guess) for guess in guesses]
        if len(groups) > 1:
            print(f"… {count} of {len(groups)} groups of ranges", file=sys.stderr)
        ranks = followed_closely(search, near, looked[1:])
        if ranks or time.process_time() - start > MOST_SECONDS:
            break
    if not ranks:  # to name the nearest
        near.sort(key=lambda each: each[0])
        ranks = {guess: max(search.difference(guess, number) for number in looked) for _, guess in near[:12]}
    best = min(ranks.values())
    usual = [guess for _, guess in near if ranks.get(guess, np.inf) <= max(3 * best, 2 * SAME)]
    return sorted(usual, key=lambda guess: max(ranks[guess], best + SAME / 10))  # stable: the usual ones first


def followed_closely(search: Search, near: list[tuple[float, Guess]], numbers: list[int]) -> dict[Guess, float]:
    """Return the largest difference of guesses on further files, the nearest first; who falls behind is left out."""
    ranks: dict[Guess, float] = {}
    limit = LOOSE
    for difference, guess in sorted(near, key=lambda each: each[0]):
        for number in numbers:
            if difference > limit:
                break
            difference = max(difference, search.difference(guess, number))
        if difference <= limit:
            ranks[guess] = difference
            limit = min(limit, max(3 * difference, 2 * SAME))
    return ranks


def alike(one: Guess, other: Guess) -> bool:
    """Return whether two guesses differ by half a pixel only."""
    if one.colour != other.colour or one.task != other.task or one.place.crop != other.place.crop:
        return False
    if one.place.resize == other.place.resize == "none":
        return True
    pairs = [(one.place.resize, other.place.resize), (one.place.fit, other.place.fit)]
    return all(a == b or {a, b} in ALIKE for a, b in pairs)


def differs(search: Search, best: Guess, other: Guess, files: Iterable[Path]) -> bool:
    """Return whether two guesses give different answers: to the files, or to pictures that are made for it."""
    if best.task != other.task:
        return True
    for path in files:
        if np.abs(search.answer(best, path) - search.answer(other, path)).max() > SAME:
            return True
    for picture in probes(search.card.size):
        pixels = [
            search.way.prepare(picture, replace(search.card, **guess.place._asdict()))[0] for guess in (best, other)
        ]
        values = [search.run(guess.colour, x) for guess, x in zip((best, other), pixels, strict=True)]
        one, two = (PROBABILITIES[best.task](value) for value in values)
        if np.abs(one - two).max() > SAME * search.predictions.unit:
            return True
    return False


@cache
def probes(size: tuple[int, int]) -> list[Image.Image]:
    """Return pictures that every way shows differently: wide, tall, and large, in colours, with fine detail."""
    random, (height, width) = np.random.default_rng(0), size
    found = []
    for rows, columns, step in [(height, 2 * width + 1, 1), (3 * height, width + 9, 3), (2 * height + 3, 2 * width, 2)]:
        tile = random.integers(0, 256, (rows // step + 1, columns // step + 1, 3), np.uint8)
        found.append(Image.fromarray(tile.repeat(step, 0).repeat(step, 1)[:rows, :columns]))
    return found


def described(guess: Guess, card: Card) -> str:
    return guess.on(card).way


def ambiguous(best: Guess, others: list[Guess], card: Card, count: int) -> str:
    """Say which ways fit, and what would tell them apart."""
    kinds = {
        "of another shape (or say --fit and --crop)": lambda guess: guess.place[1:],
        "larger than the input, with fine detail (or say --resize)": lambda guess: guess.place.resize,
        "in strong colours (or say --bgr)": lambda guess: guess.colour.bgr,
        "of other brightness (or say --range)": lambda guess: (guess.colour.mean, guess.colour.scale),
        "in doubt (or say --task)": lambda guess: guess.task,
    }
    what = [kind for kind, of in kinds.items() if any(of(guess) != of(best) for guess in others)]
    ways = "; ".join(dict.fromkeys(described(guess, card) for guess in [best, *others[:2]]))
    more = f" and {len(others) - 2} more" if len(others) > 2 else ""
    return (
        f"{1 + len(others)} ways to prepare pictures give these predictions for all {count} files ({ways}{more}), and "
        f"other answers to other pictures: add files with probabilities, {', '.join(what)}"
    )


def versions() -> dict[str, str]:
    found = {}
    for name in ("tensorflow", "keras", "torch", "onnxruntime", "ai-edge-litert", "pillow", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
