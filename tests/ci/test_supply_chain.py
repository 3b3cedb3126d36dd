"""What the images are made of: exactly the packages that are locked, and a model that is the same whoever trains it."""

import os
import pytest
import re
import shutil
import subprocess
from examples import ROOT
from helpers import python
from pathlib import Path

DOCKERFILES = sorted(ROOT.glob("*/Dockerfile*"))


def installs(dockerfile: Path) -> list[str]:
    """Return the commands of a Dockerfile that install Python packages."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE).replace("\\\n", "")
    return re.findall(r"(?:RUN|&&) (pip install [^&\n]*)", text)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_install_checks_hashes(dockerfile):
    assert "pip" not in dockerfile.read_text() or installs(dockerfile)
    assert all("--require-hashes" in command and "-r requirements" in command for command in installs(dockerfile))


def test_a_package_with_another_hash_does_not_get_in(tmp_path):
    """The command of the Dockerfile, run outside of a build, which would install the whole system first."""
    (command,) = installs(ROOT / "hello_world" / "Dockerfile")
    _, *arguments = command.replace("/packages", "packages").split()
    pip = [ROOT / ".venv" / "scripts" / "bin" / "python", "-m", "pip"]
    text = (ROOT / "hello_world" / "requirements.txt").read_text()
    (tmp_path / "requirements.txt").write_text(re.sub(r"sha256:\w{4}", "sha256:0000", text))
    answer = subprocess.run([*pip, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 1
    assert "PACKAGES DO NOT MATCH THE HASHES" in answer.stderr
    assert not (tmp_path / "packages").exists()


def test_training_twice_gives_the_same_file(tmp_path):
    """`train.py` is run for real, in and from different folders, with other hashes and another number of threads."""
    trainings = []
    for number in ("1", "2"):
        folder = tmp_path / number
        folder.mkdir()
        for path in (ROOT / "simple_ml").glob("*.py"):
            shutil.copy(path, folder)
        environment = os.environ | {"PYTHONHASHSEED": number, "OMP_NUM_THREADS": number, "SOURCE_DATE_EPOCH": "86400"}
        cwd = folder if number == "1" else tmp_path
        command = [python("simple_ml-train"), folder / "train.py"]
        trainings.append(subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True))
    for training in trainings:
        assert "cross-validated" in training.communicate(timeout=60)[0]
        assert training.returncode == 0
    assert (tmp_path / "1" / "model.onnx").read_bytes() == (tmp_path / "2" / "model.onnx").read_bytes()
    assert b"1970-01-02" in (tmp_path / "1" / "model.onnx").read_bytes()  # the day of SOURCE_DATE_EPOCH
