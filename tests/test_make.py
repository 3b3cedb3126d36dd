"""`make run` and `make test` where no Docker engine answers. (With one, test_readme.py runs the first.)"""

import os
import pytest
import requests
import subprocess
from conftest import EXAMPLES, ROOT, free_port


def make(*arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    environment["DOCKER_HOST"] = "unix:///no/engine"
    command = ["make", "--no-print-directory", *arguments]
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_help_lists_the_targets():
    assert {"run", "run-%", "stop", "logs", "test"} <= {line.split()[0] for line in make().splitlines()}


@pytest.mark.parametrize("example", EXAMPLES)
def test_run_without_an_engine(example):
    port = free_port()
    try:
        printed = make(f"run-{example}", f"PORT={port}")
        assert printed.startswith("Without containers, since ")
        assert f"http://localhost:{port}" in printed
        assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=10).ok
        assert "Started worker-1" in make("logs")
    finally:
        assert f"Stopped {example}" in make("stop")
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/healthz", timeout=10)


def test_no_test_is_skipped_without_an_engine():
    with pytest.raises(AssertionError, match="`docker info` fails"):
        make("test", "ARGS=tests/test_docker.py")
    without = "--collect-only -q -m 'not docker' tests/test_docker.py tests/test_make.py"
    assert "deselected" in make("test", f"ARGS={without}")
