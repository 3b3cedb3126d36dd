"""image_classification's evaluate.py, against the real service."""

import pytest
import shutil
import subprocess
import sys
from examples import ROOT
from pathlib import Path
from PIL import Image, ImageDraw

EXAMPLE = ROOT / "image_classification"
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def evaluate(url: str, *arguments: str | Path) -> subprocess.CompletedProcess:
    command = [sys.executable, EXAMPLE / "evaluate.py", *arguments, "--url", f"{url}/predict"]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def url(server) -> str:
    return server("image_classification")


def test_folder(url, tmp_path):
    """Ten digits, of which one lies in the folder of another: it counts as misread, as it is and however perturbed."""
    for label, name in enumerate(NAMES):
        folder = tmp_path / str(label if label != 3 else 0)
        folder.mkdir(exist_ok=True)
        shutil.copy(EXAMPLE / "samples" / f"{name}.png", folder)
    answer = evaluate(url, tmp_path, "--perturb", "--contact-sheet", tmp_path / "sheet.png")
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert "90.00% of 10 (1 misread), of" in lines[0]
    assert len([line for line in lines if "% of 10 (" in line]) == 14
    assert len([line for line in lines if line.startswith("  0/three.png -> ")]) == 14
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 4 * 260


def test_a_picture_without_a_digit_belongs_into_the_folder_none(url, tmp_path):
    for folder in "none", "4":
        (tmp_path / folder).mkdir()
        image = Image.new("L", (200, 200), 255)
        ImageDraw.Draw(image).line([(40, 40), (160, 160), (100, 100), (160, 40), (40, 160)], 0, 20)
        image.save(tmp_path / folder / "cross.png")
    answer = evaluate(url, tmp_path)
    assert "50.00% of 2 (1 misread)" in answer.stdout
    assert "  4/cross.png -> none 0.00" in answer.stdout


def test_no_pictures(url, tmp_path):
    answer = evaluate(url, tmp_path)
    assert answer.returncode == 2
    assert "no pictures" in answer.stderr
