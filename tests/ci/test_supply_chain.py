"""The model of simple_ml is the same whoever trains it. (Locked packages: test_layout.py and test_images.py)"""

import os
import shutil
import subprocess
from examples import ROOT
from helpers import python


def test_training_twice_gives_the_same_file(tmp_path):
    """`train.py` is run for real, as the Dockerfile does: in other folders, from other folders, with other hashes."""
    trainings = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        for name in ("train.py", "export.py"):
            shutil.copy(ROOT / "simple_ml" / name, folder)
        environment = os.environ | {"PYTHONHASHSEED": seed}
        cwd = folder if seed == "1" else tmp_path
        command = [python("simple_ml-train"), folder / "train.py"]
        trainings.append(subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True))
    for training in trainings:
        assert "cross-validated" in training.communicate(timeout=60)[0]
        assert training.returncode == 0
    assert (tmp_path / "1" / "model.onnx").read_bytes() == (tmp_path / "2" / "model.onnx").read_bytes()
