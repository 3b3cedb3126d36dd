"""image_classification: what the model file says of its network is checked when the service starts."""

import html
import importlib
import json
import os
import pytest
import subprocess
from dataclasses import MISSING, fields
from examples import ROOT, free_port
from helpers import copy_of, python
from pathlib import Path
from run import SETTINGS
from support.inprocess import modules_of, service
from support.model_files import MODEL, tflite_file, with_card
from zipfile import ZipFile

EXAMPLE = ROOT / "image_classification"

with modules_of(EXAMPLE):
    card = importlib.import_module("runtime.card")

CARD = json.loads(ZipFile(MODEL).read("card.json"))
LABELS = "".join(f"{label}\n" for label in CARD["labels"])
# in model.tflite at commit 702b4a1, before there was a card
METADATA = (
    '{"title": "Handwritten digits", "preprocess": "digit", "resize": "bilinear", "bgr": false, "output": 0, '
    '"unknown": "this does not look like a digit", "size": [28, 28], "channels": 1, "layout": "HWC", "mean": [0.0], '
    '"scale": [255.0], "task": "softmax"}\n'
)


def last_words(folder: Path) -> str:
    """Start the service of a folder, which must fail, and return the last line that it prints."""
    answer = subprocess.run(
        [python("image_classification"), "app.py"],
        cwd=folder,
        env=os.environ | SETTINGS | {"GRANIAN_PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 1
    return answer.stderr.strip().splitlines()[-1]


def test_a_file_of_an_older_export(tmp_path):
    copy = copy_of("image_classification", tmp_path / "image_classification")
    tflite_file(copy / "model.tflite", **{"labels.txt": LABELS, "metadata.json": METADATA})
    assert last_words(copy).endswith(
        "model.tflite cannot be served: made by an older export: run `python3 train.py`, "
        "or `python3 -m export FILE` with the file of the network"
    )


def test_a_file_of_a_newer_export(tmp_path):
    copy = copy_of("image_classification", tmp_path / "image_classification")
    tflite_file(copy / "model.tflite", **{"labels.txt": LABELS, "card.json": json.dumps(CARD | {"format": 3})})
    assert last_words(copy).endswith(
        "model.tflite cannot be served: made by a newer export (format 3): serve it with the files beside that export"
    )


PROOF = {"compared": 12, "kept": 6, "difference": 0.00042, "versions": {"numpy": "2.4.6"}}


@pytest.mark.parametrize(
    ("proof", "said"),
    [
        (None, "The file does not say how its answers were compared with the network's own: export it again."),
        (
            PROOF | {"with_predictions": True},
            "The file gives the notebook's own predictions: compared on 12 pictures, largest difference 0.0004.",
        ),
        (
            PROOF | {"with_predictions": False},
            "The file gives the network's own answers: compared on 12 pictures, random ones included, largest "
            "difference 0.0004. It was not compared with the notebook's own predictions.",
        ),
    ],
)
def test_the_proof_is_shown(proof, said, tmp_path):
    with service(with_card(MODEL, lambda card: card.update(proof=proof), tmp_path)) as client:
        assert client.get("/healthz").json["proof"] == said
        assert f"<p>{said}</p>" in html.unescape(client.get("/").text)
        assert client.get("/openapi.json").json["info"]["description"] == said


def test_the_shipped_file_says_how_it_was_compared():
    assert card.read(json.dumps(CARD)).proven.startswith("The file gives the network's own answers: compared ")


def test_what_is_written_is_read():
    assert json.loads(card.write(card.read(json.dumps(CARD)))) == CARD


WRONG = {
    "title": 7, "task": "guess", "labels": "0123456789", "unknown": 10, "preprocess": None, "resize": "pil",
    "size": [28], "channels": 2, "layout": "WHC", "bgr": "no", "mean": 0, "scale": ["255"], "output": 0.5,
    "fit": "squeeze", "crop": 2, "standardize": "yes", "proof": "yes", "format": "2",
}  # fmt: skip


def test_each_field_has_a_wrong_value_here():
    assert WRONG.keys() == CARD.keys()


@pytest.mark.parametrize("field", WRONG)
def test_every_field_is_checked(field):
    with pytest.raises(ValueError, match=f"\\$.{field}"):
        card.read(json.dumps(CARD | {field: WRONG[field]}))


@pytest.mark.parametrize("field", [field.name for field in fields(card.Card) if field.default is MISSING])
def test_no_field_may_lack(field):
    with pytest.raises(ValueError, match=field):
        card.read(json.dumps({name: value for name, value in CARD.items() if name != field}))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (METADATA, "older export"),
        (json.dumps(CARD | {"format": 1}), "older export"),
        (json.dumps(CARD | {"frame": "center"}), r"newer export \(format 2, frame\)"),
        (json.dumps(CARD | {"size": [0, 28]}), "size"),
        ("[]", "object"),
        ("{", "truncated"),
    ],
)
def test_a_text_that_is_no_card_of_this_format(text, reason):
    with pytest.raises(ValueError, match=reason):
        card.read(text)
