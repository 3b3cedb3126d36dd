"""What several files of tests share: an example as a process, waiting, and the check of an error."""

import contextlib
import os
import requests
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from examples import ROOT, free_port, wait_until_healthy
from pathlib import Path
from run import SETTINGS


def python(example: str) -> Path:
    """Return the Python that sees the packages of an example."""
    return ROOT / ".venv" / example / "bin" / "python"


def copy_of(example: str, folder: Path) -> Path:
    """Copy the folder of an example, without its model, and return the copy."""
    unwanted = shutil.ignore_patterns("model.onnx", "model.pkl", "model.tflite", "__pycache__")
    return shutil.copytree(ROOT / example, folder, ignore=unwanted, dirs_exist_ok=True)


@contextlib.contextmanager
def process(
    example: str, folder: Path | None = None, packages: str | None = None, log: Path | None = None, **environment: str
) -> Iterator[tuple[str, subprocess.Popen]]:
    """Run `python3 app.py` of an example, or of a copy of its folder, until the block ends: (address, process).

    It sees its own packages, or those of another virtual environment. It has the settings that a container has, and
    others from `environment`. What it prints goes to the file `log`, if there is one.
    """
    settings = SETTINGS | {"GRANIAN_PORT": str(free_port())} | environment
    port = int(settings["GRANIAN_PORT"] or settings["PORT"])
    output = log.open("w") if log else None
    server = subprocess.Popen(
        [python(packages or example), "app.py"],
        cwd=folder or ROOT / example,
        env=os.environ | settings,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    )
    try:
        wait_until_healthy(port, lambda: server.poll() is None)
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.terminate()
        server.wait(20)
        if output:
            output.close()


def pickled(folder: Path) -> Path:
    """Copy simple_ml, and train a model there that ONNX cannot hold: it has a step of Python code that does nothing."""
    text = (copy_of("simple_ml", folder) / "train.py").read_text()
    text = text.replace("import StandardScaler", "import FunctionTransformer, StandardScaler")
    text = text.replace("make_pipeline(S", "make_pipeline(FunctionTransformer(lambda X: X), S")
    (folder / "train.py").write_text(text)
    subprocess.run([python("simple_ml-train"), "train.py"], cwd=folder, check=True, capture_output=True)
    assert (folder / "model.pkl").exists()
    return folder


def eventually(what: str, is_so: Callable[[], object], seconds: float = 60) -> None:
    """Return once `is_so()` is true; until then it may also fail, because a service does not answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.RequestException):
            if is_so():
                return
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} seconds: {what}")


def assert_problem(answer: requests.Response, status: int) -> dict:
    """Check that an answer is an error in the standard format (RFC 9457), and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.text.endswith("\n")
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in answer.text
    return problem
