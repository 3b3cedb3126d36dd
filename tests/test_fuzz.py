"""A short run of each target of `make fuzz`, the same each time; `make fuzz` itself is long, and goes on each time."""

import os
import platform
import pytest
import re
import subprocess
import sys
from conftest import ROOT

TARGETS = ["passing_arguments", "simple_ml", "image_classification", "image_classification_form"]
RUNS = 1000


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="Atheris has wheels for Linux on x86-64 alone"
)
@pytest.mark.parametrize("target", TARGETS)
def test_fuzz_finds_nothing(target, tmp_path):
    command = [ROOT / ".venv" / "fuzz" / "bin" / "python", "fuzz/fuzz.py", target, "-seed=1", f"-runs={RUNS}"]
    environment = os.environ | {"FUZZ_FOLDER": str(tmp_path)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace")
    assert run.returncode == 0, run.stderr
    done = re.search(r"^Done (\d+) runs", run.stderr, re.MULTILINE)
    assert done
    assert int(done[1]) >= RUNS
