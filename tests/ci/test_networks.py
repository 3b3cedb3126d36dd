"""image_classification serves networks as people have them with their own answers, or says in one sentence why not."""

import json
import numpy as np
import os
import pytest
import requests
import shutil
import subprocess
from examples import ROOT
from helpers import copy_of
from pathlib import Path
from support.inprocess import service

PYTHON = ROOT / ".venv" / "image_classification-train" / "bin" / "python"
BUILDER = Path(__file__).parent / "support" / "networks.py"
EIGHT_BITS = {"weights_of_8_bits", "tflite_of_8_bits"}
NETWORKS = [line.split()[1].split("(")[0] for line in BUILDER.read_text().split("@network\n")[1:]]
SEVERAL = {"several_labels", "several_labels_as_scores"}
UNKNOWN = "with_an_unknown_label"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where networks.py has built and exported all of them, in one process, since TensorFlow takes seconds to load."""
    folder = tmp_path_factory.mktemp("networks")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run([PYTHON, BUILDER, folder], check=True, env=os.environ | quiet, capture_output=True, timeout=1200)
    return folder


def probabilities(name: str, values: np.ndarray) -> np.ndarray:
    """Make probabilities of what Keras answers, (n, outputs)."""
    if name.endswith("_as_scores") or name.endswith("_as_a_score"):
        values = 1 / (1 + np.exp(-values.clip(-80, 80)))
    elif values.shape[1] > 1 and name not in SEVERAL and not np.allclose(values.sum(1), 1, atol=0.05):
        values = np.exp(values - values.max(1, keepdims=True))
        values /= values.sum(1, keepdims=True)
    return np.concatenate([1 - values, values], 1) if values.shape[1] == 1 and name != "age" else values


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != UNKNOWN])
def test_it_is_served_with_its_own_answers(folder, tmp_path, name):
    case = json.loads((folder / name / "answers.json").read_text())
    assert "refused" not in case, case["refused"]
    want = probabilities(name, np.array(case["answers"]))
    tolerance = 0.03 if name in EIGHT_BITS else 0.01
    for control, values in case["controls"].items():  # the comparison would notice
        difference = np.abs(probabilities(name, np.array(values)) - want).max()
        assert difference > tolerance, f"another {control} is not noticed"
    copy = copy_of("image_classification", tmp_path / "image_classification")
    shutil.copy(folder / name / "model.tflite", copy)
    with service(copy) as client:
        files = [("file", (path.name, path.read_bytes())) for path in sorted(folder.glob("*.png"))]
        form = requests.Request("POST", "http://localhost", files=files).prepare()
        answers = client.post("/predict", data=form.body, content_type=form.headers["Content-Type"]).json
        page = client.get("/").text
    assert "digit" not in page
    if name == "age":
        assert (
            np.abs([answer["prediction"] for answer in answers] - want.ravel()).max() < tolerance * np.abs(want).max()
        )
        assert all(answer.keys() == {"prediction"} for answer in answers)
        return
    assert all("others" not in answer for answer in answers)
    labels = case["labels"]
    assert len({str(answer["prediction"]) for answer in answers}) > 1
    assert want.max() > 0.5
    assert list(answers[0]["probabilities"]) == labels
    got = np.array([list(answer["probabilities"].values()) for answer in answers])
    assert np.abs(got - want).max() < tolerance
    for answer, values in zip(answers, want, strict=True):
        if name in SEVERAL:
            assert answer["prediction"] == [label for label, p in zip(labels, values, strict=True) if p >= 0.5]
        elif np.sort(values)[-1] - np.sort(values)[-2] > 2 * tolerance:
            assert str(answer["prediction"]) == labels[values.argmax()]


def test_a_picture_that_fits_none_of_the_labels_is_refused(folder, tmp_path):
    case = json.loads((folder / UNKNOWN / "answers.json").read_text())
    copy = copy_of("image_classification", tmp_path / "image_classification")
    shutil.copy(folder / UNKNOWN / "model.tflite", copy)
    refused = []
    with service(copy) as client:
        for path, shares in zip(sorted(folder.glob("*.png")), case["answers"], strict=True):
            answer = client.post("/predict?input=1", data=path.read_bytes(), content_type="image/png")
            refused.append(np.argmax(shares) == 2)
            assert np.shape(answer.json["input"]) == (64, 64, 3)
            if refused[-1]:
                assert answer.status_code == 422
                assert answer.json["detail"] == "This picture fits none of the labels: neither of the coins."
            else:
                assert answer.json["prediction"] == [10, 20][np.argmax(shares)]
                assert answer.json["probabilities"] == pytest.approx({"10": shares[0], "20": shares[1]}, abs=0.01)
        schema = client.get("/openapi.json").json["components"]["schemas"]["Prediction"]
    assert schema["properties"]["prediction"] == {"enum": [10, 20]}
    assert schema["examples"][0]["prediction"] in (10, 20)
    assert len(set(refused)) == 2, "a test of both needs pictures of both"


SENTENCES = {  # and what each must name
    "two inputs": "2 inputs",
    "two outputs": "--output",
    "an output that is not there": "--output",
    "no range": "--range",
    "normalized to an unknown range": "--range",
    "mixed_float16": "float32",
    "mixed_float16 in a file": "float32",
    "several signatures": "serving_default",
    "a range that is none": "'1..0'",
    "any size": "--size",
    "another size": "32x32",
    "too few labels": "3 outputs and 2 labels",
    "too many labels": "3 outputs and 4 labels",
    "no labels": "3 outputs and 0 labels",
    "one label": "1 output and labels: 1",
    "cats and dogs without labels": "--labels",
    "the same label twice": "'a'",
    "a blank label": "blank",
    "a label of two lines": "printed",
    "labels as a text": "list",
    "labels as a dict": "list",
    "unknown is not a label": "'d'",
    "unknown of several": "several",
    "a softmax of one": "always 1",
    "a relu at the end": "--task",
    "sigmoid and categorical": "--task",
    "hinge": "--task",
    "softmax said of scores": "add up to 1",
    "scores said of a softmax": "probabilities already",
    "no numbers": "finite",
    "8 bits change its answers": "`quantize`",
    "segmentation": "outputs",
    "a flat input": "(784,)",
    "four channels": "4",
    "a step that LiteRT lacks": "Igamma",
    "random when it answers": "differently",
    "not built": "keras.Input",
    "digits of another size": "(28, 28, 1)",
    "weights alone": "weights",
    "Lambda in a file": "export(network, labels)",
    "own layer in a file": "export(network, labels)",
    "PyTorch's file": "PyTorch",
    "no file": "missing.keras",
    "damaged": "damaged.keras",
    "damaged tflite": "damaged.tflite",
    "no network": "Keras",
}


@pytest.mark.parametrize("name", SENTENCES)
def test_it_is_refused_in_one_sentence(folder, name):
    sentence = json.loads((folder / "refused.json").read_text())[name]
    assert sentence.startswith("This network cannot be served: "), sentence
    assert SENTENCES[name] in sentence
    assert "\n" not in sentence
    assert len(sentence) < 600
    assert not (folder / "refused.tflite").exists()
