"""What the files themselves keep to: how long they are, and which texts are the same in several folders."""

import ast
import json
import pytest
import re
import run
from examples import IMAGES, ROOT
from pathlib import Path

LINES = {"hello_world": 25, "passing_arguments": 80, "simple_ml": 80, "image_classification": 80}  # of app.py
WORDS = {
    "README.md": 1400,
    "simple_ml/README.md": 1700,
    "image_classification/README.md": 2300,
    "benchmarks/README.md": 900,
    "docs/batch.md": 500,
    "docs/operating.md": 3900,
    "docs/prediction_log.md": 1000,
}
CLIENTS = ["passing_arguments", "simple_ml", "image_classification"]
DOCKERFILES = sorted(ROOT.glob("*/Dockerfile*"))
TOO_NEW = {  # what the Docker of Debian 12 (20.10) or its legacy builder cannot read
    "HEALTHCHECK --start-interval": r"--start-interval",
    "RUN --mount": r"^(RUN|COPY|ADD) --(mount|network|security|link|chmod|parents|exclude|checksum)",
    "heredoc": r"^(RUN|COPY|ADD) .*<<",
    "# syntax=": r"(?i)\A(#.*\n)*# *syntax *=",
}
# how many Python files and folders an example shows, and which of its rooms each may import
SHOWN = {"simple_ml": (4, 4), "image_classification": (6, 7)}
ROOMS = {
    "simple_ml": {
        "runtime": {"runtime"},
        "web": {"web", "runtime"},
        "export": {"export", "runtime"},
        "app.py": {"runtime", "web"},
        "batch.py": {"runtime", "web"},
        "train.py": {"export"},
        "client.py": set(),
    },
    "image_classification": {
        "runtime": {"runtime"},
        "web": {"web", "runtime"},
        "preprocess.py": {"runtime", "digit"},
        "digit": {"digit", "runtime"},
        "export": {"export", "runtime", "preprocess"},
        "mnist_training": {"mnist_training", "runtime", "digit"},
        "app.py": {"runtime", "web", "preprocess"},
        "batch.py": {"runtime", "web", "preprocess"},
        "train.py": {"export", "mnist_training"},
        "evaluate.py": set(),
        "client.py": set(),
    },
}
PREDICTING = ("runtime", "preprocess.py", "digit", "export")
HTTP = {"flask", "werkzeug", "granian", "multipart", "http"}


@pytest.mark.parametrize("example", ROOMS)
def test_all_rooms_are_named_here(example):
    found = [path for path in (ROOT / example).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    assert {path.name for path in found} == ROOMS[example].keys()


@pytest.mark.parametrize("example", IMAGES)
def test_app_is_short(example):
    assert len((ROOT / example / "app.py").read_text().splitlines()) <= LINES[example]


@pytest.mark.parametrize("page", WORDS)
def test_page_is_short(page):
    assert len((ROOT / page).read_text().split()) <= WORDS[page]


@pytest.mark.parametrize("example", SHOWN)
def test_few_files_lie_beside_each_other(example):
    found = [path for path in (ROOT / example).iterdir() if path.name != "__pycache__"]
    files = [path.name for path in found if path.suffix == ".py"]
    folders = [path.name for path in found if path.is_dir() and not path.name.startswith(".")]
    assert len(files) <= SHOWN[example][0], files
    assert len(folders) <= SHOWN[example][1], folders


def imported(file: Path) -> set[str]:
    """Return the first part of each name that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize(("example", "room"), [(example, room) for example in ROOMS for room in ROOMS[example]])
def test_imports_run_one_way(example, room):
    """What serves imports nothing of export/, and what predicts nothing of HTTP."""
    place = ROOT / example / room
    ours = {path.stem for path in (ROOT / example).iterdir() if path.suffix == ".py" or path.is_dir()}
    for file in place.glob("*.py") if place.is_dir() else [place]:
        assert imported(file) & ours <= ROOMS[example][room], file
        assert room not in PREDICTING or not imported(file) & HTTP, file


def test_the_readme_of_passing_arguments_is_short():
    """Without its examples: predict.py, and what to type."""
    page = (ROOT / "passing_arguments" / "README.md").read_text()
    assert len(re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE).split()) <= 320
    assert len((ROOT / "passing_arguments" / "predict.py").read_text().splitlines()) <= 20


def same(paths: list[Path], pattern: str) -> str:
    """Check that the text that a pattern finds is the same in all files, and return it."""
    found = {path: re.search(pattern, path.read_text(), re.DOTALL | re.MULTILINE) for path in paths}
    assert all(found.values()), found
    texts = {match[0] for match in found.values() if match}
    assert len(texts) == 1, texts
    return texts.pop()


def test_clients_post_alike():
    text = same([ROOT / example / "client.py" for example in CLIENTS], r"^def post\(.+?^def send\(.+?\n\n\n")
    assert "START_SECONDS" in text


def test_what_hangs_ends_alike():
    places = [ROOT / "passing_arguments", ROOT / "simple_ml" / "web", ROOT / "image_classification" / "web"]
    same([place / "predict_timeout.py" for place in places], ".+")


def test_predictions_are_logged_alike():
    """Only what a line is for, and how JSON is written, differs: it stands above."""
    files = [ROOT / example / "web" / "prediction_log.py" for example in SHOWN]
    assert "def write(" in same(files, r"^MAX_LOGGED = .+")


def test_apps_start_alike():
    assert "cli(default_map=settings" in same([ROOT / example / "app.py" for example in IMAGES], r"^if __name__ == .*")


def test_batches_end_alike():
    files = [ROOT / example / "batch.py" for example in SHOWN]
    assert "BrokenPipeError" in same(files, r"^def write\(.+?\n\n\n")
    assert "sys.exit(2)" in same(files, r"^def stop\(.+?\n\n\n")
    assert "SIGTERM" in same(files, r"^    for number in .+?\n.*?\n")


@pytest.mark.parametrize(
    "pattern",
    [
        r"^HEALTHCHECK .*?[^\\]$",
        r"^ENV GRANIAN_WORKERS.*?$",
        r"^ENV PYTHONPATH.*?$",
        r"^USER .*?$",
        r"^EXPOSE .*?$",
        r"^ENTRYPOINT .*?$",
        r"^CMD .*?$",
    ],
    ids=lambda pattern: pattern[1:].split(" .")[0],
)
def test_dockerfiles_run_alike(pattern):
    same([ROOT / example / "Dockerfile" for example in IMAGES], pattern)


def test_processes_have_the_settings_of_containers():
    """`make run` without Docker, and the processes of these tests."""
    line = same([ROOT / example / "Dockerfile" for example in IMAGES], r"^ENV GRANIAN_WORKERS.*?$")
    assert line == "ENV " + " ".join(f"{name}={value}" for name, value in run.SETTINGS.items())


def test_the_dev_container_has_docker_and_the_ports_of_the_quick_start():
    """VS Code and Codespaces read it as JSON with comments; without any, every tool can."""
    config = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert any("docker-in-docker" in feature for feature in config["features"])
    assert config["forwardPorts"] == [5000, 5001, 5002, 5003, 5004]
    assert [each["label"] for each in config["portsAttributes"].values()][1:] == list(IMAGES)


@pytest.mark.parametrize("feature", TOO_NEW)
@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docker_20_can_build_it(dockerfile, feature):
    assert not re.search(TOO_NEW[feature], dockerfile.read_text(), re.MULTILINE)
