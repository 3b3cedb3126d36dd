"""`make fuzz` works: its targets send what they start from. (What schemathesis sends in test_openapi.py is more.)"""

import os
import platform
import pytest
import re
import subprocess
import sys
from examples import ROOT

TARGETS = ["passing_arguments", "simple_ml", "image_classification_form"]


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="Atheris has wheels for Linux on x86-64 alone"
)
@pytest.mark.parametrize("target", TARGETS)
def test_fuzz_starts(target, tmp_path):
    command = [ROOT / ".venv" / "fuzz" / "bin" / "python", "fuzz/fuzz.py", target, "-runs=1"]
    environment = os.environ | {"FUZZ_FOLDER": str(tmp_path)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace")
    assert run.returncode == 0, run.stderr
    assert re.search(r"^Done \d+ runs", run.stderr, re.MULTILINE)
