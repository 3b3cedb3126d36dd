"""image_classification takes the notebook's own predictions as proof: it finds how the notebook prepared pictures."""

import csv
import numpy as np
import pytest
import shutil
import subprocess
from collections.abc import Callable, Iterator
from helpers import copy_of, python
from pathlib import Path
from PIL import Image, ImageOps
from support import torch_networks
from support.inprocess import service
from support.torch_networks import CASES, EXAMPLE, NETWORKS, modules
from types import SimpleNamespace
from typing import Any

FOUND = {  # what is found, with nothing told
    "resnet": "mean 123.675,116.28,103.53 scale 58.395,57.12,57.375, RGB, pil-bilinear, centre crop 0.875",
    "torchscript": "0..1, RGB, pil-bilinear, stretched",
    "state": "-1..1, grey, pil-bilinear, stretched",
    "fastai": "mean 123.675,116.28,103.53 scale 58.395,57.12,57.375, RGB, pil-bilinear, cropped",
}


folder = torch_networks.folder


@pytest.fixture(scope="module", autouse=True)
def ours() -> Iterator[SimpleNamespace]:
    yield from modules("export", "export.predictions", "preprocess", "runtime")


def refused(ours: SimpleNamespace, name: str, folder: Path, tmp_path: Path, predictions: Any, **options: Any) -> str:
    """Return the sentence in which an export is refused."""
    given = {"pictures": folder, "predictions": predictions} | options
    export_it = NETWORKS / f"{name}.onnx", CASES[name]["labels"], tmp_path / "model.onnx"
    with pytest.raises(SystemExit) as error:
        ours.export(*export_it, **given)
    sentence = str(error.value)
    assert sentence.startswith("This network cannot be served: ")
    assert "\n" not in sentence
    assert not list(tmp_path.glob("model.*"))
    return sentence


def as_csv(path: Path, answers: dict[str, list], labels: list[str] | None = None) -> Path:
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        if labels:
            lines.writerow(["file", *labels])
        lines.writerows([name, *values] for name, values in answers.items())
    return path


@pytest.mark.parametrize("name", FOUND)
def test_it_finds_how_the_notebook_prepares_pictures(name, ours, folder, tmp_path, capsys):
    case = CASES[name]
    answers = case["answers"]
    given = {  # in each form in which people have them
        "resnet": lambda: answers,
        "torchscript": lambda: lambda path: [answers[Path(path).name]],
        "state": lambda: as_csv(tmp_path / "own.csv", answers),
        "fastai": lambda: {path: dict(zip(case["labels"], values, strict=True)) for path, values in answers.items()},
    }[name]()
    export_it = NETWORKS / f"{name}.onnx", case["labels"], tmp_path / "model.onnx"
    ours.export(*export_it, pictures=folder, predictions=given)
    way = capsys.readouterr().out.splitlines()[-1]
    assert way.startswith(f"{FOUND[name]}: 24 of 24 files agree with the notebook to ")
    card = ours.runtime.Network(tmp_path / "model.onnx").card
    assert card.task == case["options"]["task"]
    assert (card.proof.compared, card.proof.with_predictions) == (24, True)
    assert card.proof.kept >= 12
    assert card.proof.difference < 0.001
    assert {"onnxruntime", "pillow", "numpy"} <= card.proof.versions.keys()
    if name == "resnet":
        copy = copy_of("image_classification", tmp_path / "copy")
        shutil.copy(tmp_path / "model.onnx", copy)
        with service(copy) as client:
            assert client.get("/healthz").json["input"] == FOUND[name]  # `proof` says how it was compared
            said = "The file gives the notebook's own predictions: compared on 24 pictures, largest difference "
            assert client.get("/healthz").json["proof"].startswith(said)
            for path, want in answers.items():
                answer = client.post("/predict", data=(folder / path).read_bytes()).json
                assert list(answer["probabilities"].values()) == pytest.approx(want, abs=0.001)


def test_a_csv_file_with_names_may_have_the_labels_in_any_order(ours, folder, tmp_path):
    case = CASES["state"]
    turned = {name: values[::-1] for name, values in case["answers"].items()}
    path = as_csv(folder / "own.csv", turned, case["labels"][::-1])
    said = ours.predictions.read(path, None, case["labels"])
    assert said.values.tolist() == [*case["answers"].values()]
    path.unlink()


def shuffled(answers: dict) -> dict:
    return dict(zip(answers, [*answers.values()][5:] + [*answers.values()][:5], strict=True))


def test_false_predictions_are_refused(ours, folder, tmp_path):
    wrong = refused(ours, "torchscript", folder, tmp_path, shuffled(CASES["torchscript"]["answers"]))
    assert "no way to prepare pictures that was tried gives the notebook's predictions; the nearest is " in wrong
    assert ".png differs most, by " in wrong
    assert "the nearest is " in refused(ours, "torchscript", folder, tmp_path, CASES["fastai"]["answers"])
    likely = {name: CASES["state"]["labels"][int(np.argmax(v))] for name, v in CASES["state"]["answers"].items()}
    assert "the nearest is " in refused(ours, "state", folder, tmp_path, shuffled(likely))


def test_labels_alone_say_too_little_or_are_enough_with_the_rest_told(ours, folder, tmp_path, capsys):
    case = CASES["state"]
    likely = {name: case["labels"][int(np.argmax(values))] for name, values in case["answers"].items()}
    sentence = refused(ours, "state", folder, tmp_path, likely)
    assert "ways to prepare pictures give these predictions for all 24 files" in sentence
    assert "--resize" in sentence
    few = dict([*likely.items()][:19])
    assert "19 files that can be compared, and it takes 20" in refused(ours, "state", folder, tmp_path, few)
    options = {"resize": "pil-bilinear", "fit": "stretch", "range": "-1..1", "task": "logits"}
    export_it = NETWORKS / "state.onnx", case["labels"], tmp_path / "model.onnx"
    ours.export(*export_it, pictures=folder, predictions=likely, **options)
    assert "24 of 24 files" in capsys.readouterr().out


def test_pictures_that_all_ways_show_alike_decide_nothing(ours, folder, tmp_path, capsys):
    """Squares of the input's size: how another shape was resized remains open, and is to be said."""
    case = CASES["state"]
    network = ours.runtime.Network(exported(ours, "state", tmp_path / "told" / "model.onnx"))
    squares = tmp_path / "squares"
    squares.mkdir()
    own = {}
    for path in sorted(folder.glob("*.png"))[:12]:
        image = ImageOps.fit(Image.open(path), (64, 64))
        image.save(squares / path.name)
        own[path.name] = network.probabilities(np.asarray(image.convert("L"), np.float32)[..., None])
    sentence = refused(ours, "state", squares, tmp_path, own)
    assert "of another shape (or say --fit and --crop)" in sentence
    assert "larger than the input, with fine detail (or say --resize)" in sentence
    export_it = NETWORKS / "state.onnx", case["labels"], tmp_path / "model.onnx"
    ours.export(*export_it, pictures=squares, predictions=own, resize="cv2-area", fit="crop")
    assert capsys.readouterr().out.splitlines()[-1].startswith("-1..1, grey, cv2-area, cropped: 12 of 12 files agree")


def exported(ours: SimpleNamespace, name: str, path: Path) -> Path:
    path.parent.mkdir()
    ours.export(NETWORKS / f"{name}.onnx", CASES[name]["labels"], path, **CASES[name]["options"])
    return path


PREDICTIONS: dict[str, tuple[Callable[[dict], Any], str]] = {
    "too few": (lambda answers: dict([*answers.items()][:7]), "7 files that can be compared, and it takes 8"),
    "one label": (lambda answers: {name: [0.8, 0.1, 0.1] for name in answers}, "at least 2 labels"),
    "a constant": (lambda answers: dict.fromkeys(answers, "sun"), "at least 3 labels"),
    "another file": (lambda answers: answers | {"other.png": [1, 0, 0]}, "other.png"),
    "other labels": (lambda answers: {name: {"cat": 1, "dog": 0} for name in answers}, "cat, dog"),
    "too many numbers": (lambda answers: {name: [*values, 0] for name, values in answers.items()}, "4 numbers"),
    "no numbers": (lambda answers: {name: ["?", "?", "?"] for name in answers}, "neither a label nor numbers"),
    "NaN": (lambda answers: {name: [float("nan")] * 3 for name in answers}, "[nan, nan, nan], which is not finite"),
    "numbers of labels": (
        lambda answers: {name: np.argmax(values) for name, values in answers.items()},
        "labels[number]",
    ),
    "a list": (lambda answers: [*answers.values()], "`predictions` is a function"),
    "scores": (lambda answers: {name: np.log(values) * 9 for name, values in answers.items()}, "--task"),
    "no file": (lambda answers: "missing.csv", "missing.csv"),
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_predictions_that_prove_nothing_are_refused(name, ours, folder, tmp_path):
    make, wanted = PREDICTIONS[name]
    assert wanted in refused(ours, "torchscript", folder, tmp_path, make(CASES["torchscript"]["answers"]))


def test_files_that_exif_turns_are_left_out(ours, folder, tmp_path, capsys):
    """The service turns them upright, and most notebooks do not."""
    case, copy = CASES["torchscript"], tmp_path / "pictures"
    shutil.copytree(folder, copy)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(copy / "sun-00.png").save(copy / "sun-00.png", exif=exif)
    told = {key: value for key, value in case["options"].items() if key != "size"} | {"bgr": False, "fit": "stretch"}
    export_it = NETWORKS / "torchscript.onnx", case["labels"], tmp_path / "model.onnx"
    ours.export(*export_it, pictures=copy, predictions=case["answers"], **told)
    line = capsys.readouterr().out.splitlines()[-1]
    assert "23 of 23 files agree" in line
    assert line.endswith("left out, since the service turns them upright: 1")


def test_pictures_without_predictions_are_no_proof_of_the_notebook(ours, folder, tmp_path, capsys):
    path = tmp_path / "model.onnx"
    ours.export(NETWORKS / "state.onnx", CASES["state"]["labels"], path, pictures=folder, **CASES["state"]["options"])
    assert capsys.readouterr().out.rstrip().endswith("not compared with your notebook")
    proof = ours.runtime.Network(path).card.proof
    assert proof.compared > 24  # and random ones
    assert (proof.with_predictions, proof.difference < 0.001) == (False, True)


SIZES = [(96, 96), (64, 80), (224, 224), (48, 31)]  # height, width
OLD = [(320, 240), (33, 71), (257, 193), (224, 224), (20, 300)]  # width, height


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8))


def centre(image: Image.Image, height: int, width: int) -> Image.Image:
    """CenterCrop of torchvision, for pictures that are large enough."""
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


@pytest.mark.parametrize("old", OLD)
@pytest.mark.parametrize("size", SIZES)
def test_fit_is_that_of_pillow_and_torchvision(old, size, ours):
    photo, image, (height, width) = ours.preprocess.photo, noise(*old), size
    lanczos, bicubic, bilinear = Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BILINEAR
    got = photo(image, size, 3, "pil-lanczos", "crop-exact")
    assert (got == np.asarray(ImageOps.fit(image, (width, height), lanczos))).all()
    got = photo(image, size, 3, "pil-bicubic", "pad")
    assert (got == np.asarray(ImageOps.pad(image, (width, height), bicubic))).all()
    short = int(min(size) / 0.875 + 1e-3)
    resized = image.resize([short * side // min(image.size) for side in image.size], bilinear)
    if resized.height >= height and resized.width >= width:
        got = photo(image, size, 3, "pil-bilinear", "crop", 0.875)
        assert (got == np.asarray(centre(resized, height, width))).all()
    whole = image.resize((int(width / 0.8 + 1e-3), int(height / 0.8 + 1e-3)), bilinear)
    assert (photo(image, size, 3, "pil-bilinear", "stretch", 0.8) == np.asarray(centre(whole, height, width))).all()


def test_area_is_the_mean_of_what_lies_below(ours):
    """In whole levels, as cv2.INTER_AREA."""
    image = noise(90, 60)
    got = ours.preprocess.photo(image, (20, 30), 3, "cv2-area")
    assert got == pytest.approx(np.asarray(image, float).reshape(20, 3, 30, 3, 3).mean((1, 3)), abs=0.501)
    got = ours.preprocess.photo(image, (24, 36), 3, "cv2-area")  # 2.5 pixels each
    fine = np.asarray(image, float).repeat(2, 0).repeat(2, 1).reshape(24, 5, 36, 5, 3).mean((1, 3))
    assert got == pytest.approx(fine, abs=0.501)


def test_linear_is_that_of_opencv(ours):
    """What cv2.resize of version 4.9 and 5.0 answered: whole levels, a little lower than they would be rounded."""
    image = Image.fromarray((np.arange(5 * 4 * 3).reshape(5, 4, 3) * 37 % 256).astype(np.uint8))
    got = ours.preprocess.photo(image, (3, 7), 3, "cv2-linear")[..., 0].astype(int).tolist()
    assert got == OF_OPENCV


OF_OPENCV = [[63, 72, 86, 144, 189, 106, 54], [120, 160, 223, 159, 94, 157, 197], [177, 156, 122, 130, 139, 105, 84]]

OF_TENSORFLOW = """
import keras, numpy as np, sys, tensorflow as tf
from PIL import Image
from preprocess import photo
OLD, SIZES = {old}, {sizes}
for width, height in OLD:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(pixels)
    for size in SIZES:
        keras_crop = keras.preprocessing.image.smart_resize(pixels.astype("float32"), size)
        for name, got, want in [
            ("crop", photo(image, size, 3, "bilinear", "crop"), keras_crop),
            ("pad", photo(image, size, 3, "bilinear", "pad"), tf.image.resize_with_pad(pixels, *size)),
            ("none", photo(image, size, 3, "none"), tf.image.resize_with_crop_or_pad(pixels, *size)),
        ]:
            assert np.abs(got - np.asarray(want)).max() < 0.01, (name, width, height, size)
print("all")
"""


def test_fit_is_that_of_keras_and_tensorflow():
    code = OF_TENSORFLOW.format(old=OLD, sizes=SIZES)
    command = [python("image_classification-train"), "-c", code]
    done = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, timeout=120)
    assert done.stdout == "all\n", done.stderr


def test_a_standardized_picture_is_that_of_tensorflow(ours, tmp_path):
    """(x - mean) / max(deviation, 1 / sqrt(numbers)): a plain picture has no deviation."""
    options = CASES["torchscript"]["options"] | {"range": "0..255", "standardize": "picture"}
    path = tmp_path / "model.onnx"
    ours.export(NETWORKS / "torchscript.onnx", CASES["torchscript"]["labels"], path, **options)
    network, picture = ours.runtime.Network(path), np.asarray(noise(64, 64), np.float32)
    want = ((picture - picture.mean()) / picture.std()).transpose(2, 0, 1)[np.newaxis]
    assert network.tensor(picture) == pytest.approx(want, abs=1e-4)
    assert not network.tensor(np.full((64, 64, 3), 90, np.float32)).any()
    assert network.card.way == "0..255, standardized by picture, RGB, pil-bilinear, stretched"
