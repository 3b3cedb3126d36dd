"""The READMEs and the pages in docs/ are run: every command in order, and its output is compared with what they show.

In a block marked `console`, a line after `$ ` is a command, and the lines below it are what it prints. In a block
marked `pycon`, doctest runs the lines after `>>> `. `...` stands for any output. A block marked `python predict.py` is
the content of that file. Only a comment before a block, `<!-- not tested: why -->`, exempts it. A block marked `text`
holds nothing to run.
"""

import doctest
import os
import pytest
import re
import shutil
import subprocess
from collections.abc import Iterator
from examples import IMAGES, ROOT, docker
from helpers import eventually
from markdown_it import MarkdownIt
from pathlib import Path

COMMAND_SECONDS = 900
READMES = ["README.md", "benchmarks/README.md", *(f"{example}/README.md" for example in IMAGES)]
PAGES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md"))

pytestmark = [pytest.mark.docker, pytest.mark.compose]


def blocks(page: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, language and content of the code blocks of a page that are not exempt."""
    exempt = False
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "fence" and not exempt and token.map:
            yield token.map[0] + 1, token.info, token.content
        if token.type in ("fence", "html_block"):
            exempt = bool(re.fullmatch(r"<!-- not tested: .+ -->\s*", token.content))


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with the output that is shown below it."""
    assert block.startswith("$ "), f"a console block starts with a command: {block}"
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        end = 1
        while lines[end - 1].endswith("\\\n"):  # the command goes on
            end += 1
        yield "".join(lines[:end]), "".join(lines[end:])


def matches(shown: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("..."))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


def install(environment: Path) -> None:
    """Put the packages of simple_ml's training into a virtual environment, just before a page installs them.

    pip then checks them instead of unpacking 400 MB, which the Dockerfile of simple_ml does, too.
    """
    (packages,) = (ROOT / ".venv/simple_ml-train").glob("lib/python*/site-packages")
    there = environment / packages.relative_to(ROOT / ".venv/simple_ml-train")
    for path in [path for path in packages.iterdir() if not (there / path.name).exists()]:
        if path.is_dir():
            shutil.copytree(path, there / path.name, copy_function=os.link)
        else:
            os.link(path, there / path.name)


DOCKER = f"""\
#!/bin/sh
# Other tests start containers, too: those of the pages get a label, and the latest one is the latest of these
case "$*" in
    "run "*) shift; set -- run --label page "$@" ;;
    "ps -lq") set -- "$@" --filter label=page ;;
esac
exec {shutil.which("docker")} "$@"
"""


class Terminal:
    """A shell in a folder that remembers where `cd` went. To its `docker ps -lq`, only the pages' containers count."""

    def __init__(self, folder: Path, tools: Path):
        self.folder = folder
        (tools / "docker").write_text(DOCKER)
        (tools / "docker").chmod(0o755)
        ours = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        # to compile packages takes longer than to install them, and to compress an image well, longer than the rest
        self.environment = ours | {"PIP_NO_COMPILE": "1", "GZIP": "-1"}
        self.environment["PATH"] = f"{tools}:{os.environ['PATH']}"

    def run(self, command: str) -> str:
        if re.search(r"pip install .*(scikit-learn|requirements-train\.txt)", command):
            install(self.folder / ".venv")
        script = f"{command}\ncode=$?; pwd >&9; exit $code"
        reader, writer = os.pipe()
        shell = subprocess.run(
            ["bash", "-c", f"exec 9>&{writer}\n{script}"],
            cwd=self.folder,
            env=self.environment,
            pass_fds=[writer],
            stdin=subprocess.DEVNULL,
            capture_output=True,  # stderr is not compared: it holds progress, which curl leaves out on a terminal
            text=True,
            timeout=COMMAND_SECONDS,
        )
        os.close(writer)
        with open(reader) as folder:
            self.folder = Path(folder.readline().strip())
        assert shell.returncode == 0, f"$ {command}\nexit code {shell.returncode}\n{shell.stdout}{shell.stderr}"
        return shell.stdout


@pytest.fixture
def clone(tmp_path) -> Iterator[Path]:
    """A copy of what the repository holds, as `git clone` would give it. Its containers are removed in the end."""
    made = shutil.ignore_patterns(".git", ".venv", ".run", ".*_cache", "__pycache__", "model.onnx", "model.pkl", "sbom")
    shutil.copytree(ROOT, tmp_path / "clone", ignore=made)
    yield tmp_path / "clone"
    for name in docker("ps", "--all", "--quiet", "--filter", "label=page").split():
        docker("rm", "--force", name)


@pytest.mark.parametrize("page", [*READMES, *PAGES])
def test_page(page, clone, tmp_path_factory):
    tools = tmp_path_factory.mktemp("tools")
    terminal = Terminal((clone / page).parent if page in READMES else clone, tools)
    names: dict[str, object] = {}
    for line, language, content in blocks(ROOT / page):
        if language == "console":
            for command, shown in commands(content):
                printed = terminal.run(command)
                assert matches(shown, printed), f"{page}, line {line}:\n$ {command}{printed}\nbut it shows:\n{shown}"
                if command.startswith("docker run -d"):
                    wait_until_it_answers(docker("ps", "--latest", "--quiet", "--filter", "label=page"))
        elif language == "pycon":
            os.chdir(terminal.folder)
            test = doctest.DocTestParser().get_doctest(content, names, page, page, line)
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            assert runner.run(test, clear_globs=False).failed == 0
            names = test.globs
        elif language.startswith("python "):
            (terminal.folder / language.removeprefix("python ")).write_text(content)
        else:
            assert language == "text", f"{page}, line {line}: nothing runs a block of {language or 'no language'}"


def wait_until_it_answers(name: str) -> None:
    """Return once the app in a container answers, which is seconds before Docker calls it healthy."""
    ask = "import http.client as c; a = c.HTTPConnection('127.0.0.1', 5000); a.request('GET', '/'); a.getresponse()"
    command = ["docker", "exec", name, "python3", "-c", ask]
    eventually("it answers", lambda: subprocess.run(command, capture_output=True).returncode == 0)


def test_every_page_is_tested():
    folders = [folder for folder in ROOT.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    found = {str(path.relative_to(ROOT)) for folder in folders for path in folder.rglob("*.md")}
    found = {page for page in found if "/." not in page}  # such as .venv
    by_make_bench = {f"benchmarks/results/{name}.md" for name in ("conditions", "results")}
    assert found | {"README.md"} == {*READMES, *PAGES} | by_make_bench


def test_matching():
    assert matches("a ... d\n", "a b\nc d\n")
    assert not matches("a ... d\n", "a b\nc\n")
    assert list(commands("$ a \\\n  b\nshown\n$ c\n")) == [("a \\\n  b\n", "shown\n"), ("c\n", "")]
