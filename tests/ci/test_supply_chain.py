"""What the images are made of: exactly the packages that are locked, and a model that is the same whoever trains it."""

import os
import pytest
import re
import subprocess
import sys
from audit import LEAST
from examples import IMAGES, ROOT
from helpers import copy_of, python
from packaging.version import Version
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


LOCKED = sorted(path for example in IMAGES for path in (ROOT / example).glob("requirements*.txt"))


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("requirements", LOCKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_package_has_a_wheel_for_arm(tmp_path, requirements, version):
    """For Linux with the glibc of Ubuntu 24.04. Without a wheel, a build in an image fails, as there is no compiler."""
    wheels = ["--python-platform", "aarch64-manylinux_2_39", "--python-version", version, "--only-binary", ":all:"]
    install = ["pip", "install", "--dry-run", "--target", tmp_path, "--no-deps", "--require-hashes", "-r", requirements]
    command = [python("scripts").with_name("uv"), *install, "--python", sys.executable, *wheels]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


def test_libheif_is_safe():
    """The one that the service loads."""
    command = [python("image_classification"), "-c", "import pillow_heif; print(pillow_heif.libheif_version())"]
    version = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert Version(version) >= Version(LEAST["libheif"][0])


def test_training_twice_gives_the_same_file(tmp_path):
    """`train.py` is run for real, in and from different folders, with other hashes and another number of threads."""
    trainings = []
    for number in ("1", "2"):
        folder = copy_of("simple_ml", tmp_path / number)
        environment = os.environ | {"PYTHONHASHSEED": number, "OMP_NUM_THREADS": number, "SOURCE_DATE_EPOCH": "86400"}
        cwd = folder if number == "1" else tmp_path
        command = [python("simple_ml-train"), folder / "train.py"]
        trainings.append(subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True))
    for training in trainings:
        assert "cross-validated" in training.communicate(timeout=60)[0]
        assert training.returncode == 0
    assert (tmp_path / "1" / "model.onnx").read_bytes() == (tmp_path / "2" / "model.onnx").read_bytes()
    assert b"1970-01-02" in (tmp_path / "1" / "model.onnx").read_bytes()  # the day of SOURCE_DATE_EPOCH
