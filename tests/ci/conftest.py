"""What the tests of this folder need besides Docker. Nothing is left out: a missing tool is an error at the start."""

import fcntl
import gc
import json
import os
import pytest
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from examples import ROOT
from pathlib import Path
from playwright.sync_api import Browser, sync_playwright
from support.pages import axe, checked, view, visit  # noqa: F401

# Debian's chromium-headless-shell is Chromium without what surrounds a page: its tests take half of the time
BROWSERS = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"]
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), "chromium")
OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP plain.test 127.0.0.1"),
]
NEEDS = {  # the marks of tests, and a command that works where they can run
    "compose": ["docker", "compose", "version"],
    "npm": ["npm", "--version"],
    "browser": [CHROMIUM, "--version"],
    "kubectl": ["kubectl", "version", "--client"],
}

# For the format "iri", which no document here has, jsonschema imports a package that takes a second in each process.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
# TensorFlow's threads take processor time from other tests even while they wait.
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}

# The garbage collector would look at all imported and collected objects again and again: a twentieth of the time.
gc.disable()

TOGETHER = {
    "names": ["test_readme", "test_make"],
    "networks": ["test_swarm", "test_front_door", "test_compose", "test_faults"],
}
APART = ["test_any_model", "test_notebooks"]  # their tests share nothing, so they fill what time the others leave
# groups that take the longest: they start first, so that no process is left alone with one in the end
LONGEST = ["names", "networks", "test_large_pictures", "browser", "test_images", "test_networks"]
LONGEST += ["test_health", "test_functions", "test_telemetry", "test_train", "test_worked_examples", "test_openapi"]


def rank(item: pytest.Item) -> int:
    """Return the place of a test's group among the LONGEST, and after them for others."""
    mark = item.get_closest_marker("xdist_group")
    return LONGEST.index(mark.args[0]) if mark and mark.args[0] in LONGEST else len(LONGEST)


def works(command: list[str]) -> bool:
    return bool(shutil.which(command[0])) and subprocess.run(command, capture_output=True).returncode == 0


def pytest_itemcollected(item: pytest.Item) -> None:
    """Say which tests must not run beside each other, in different processes of pytest-xdist.

    The tests of a file share their servers, and those of pages share the browser. The READMEs and `make run` use the
    same ports and names of containers. A Swarm that begins or ends changes Docker's networks, so slow clients of other
    containers could wait for ever.
    """
    alone = item.nodeid if item.path.stem in APART else item.path.stem
    group = next((group for group, files in TOGETHER.items() if item.path.stem in files), alone)
    if item.get_closest_marker("browser") and not item.get_closest_marker("docker"):
        group = "browser"
    item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)  # after `-m` and `-k`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=rank)
    for mark, command in NEEDS.items():
        if any(mark in item.keywords for item in items) and not works(command):
            raise pytest.UsageError(f"`{' '.join(command)}` does not work here, and tests in tests/ci need it.")


@pytest.fixture
def where() -> str:
    """The tests of this folder ask processes; that containers answer alike, the tests in tests/ show."""
    return "process"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One for all files: a second cannot start beside it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def npm_install() -> Callable[[str, str], Path]:
    """npm_install("newman", "6.2.2") installs a package from npm, unless it is there, and returns its node_modules."""

    def install(package: str, version: str) -> Path:
        folder = ROOT / ".venv" / package
        manifest = folder / "node_modules" / package / "package.json"
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second run of pytest may be installing it
            if not manifest.exists() or json.loads(manifest.read_text())["version"] != version:
                quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error"]
                command: list[str | Path] = ["npm", "install", *quiet, "--prefix", folder, f"{package}@{version}"]
                subprocess.run(command, check=True, timeout=300)
        return folder / "node_modules"

    return install
