"""The READMEs are run: every command as written, in order, and what it prints is compared with what they show.

In a block marked `console`, a line after `$ ` is a command and the lines below it are what it prints. In one marked
`pycon`, doctest runs the lines after `>>> `. In what is shown, `...` stands for anything. Only a comment before a
block, `<!-- not tested: why -->`, exempts it.
"""

import doctest
import os
import pytest
import re
import shutil
import subprocess
from collections.abc import Iterator
from conftest import EXAMPLES, ROOT, docker
from markdown_it import MarkdownIt
from pathlib import Path
from test_docker import health

COMMAND_SECONDS = 900
GUIDE = "docs/operating.md"
READMES = ["README.md", "benchmarks/README.md", *(f"{example}/README.md" for example in EXAMPLES)]


def blocks(readme: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, language and content of the code blocks of a README that are not exempt."""
    exempt = False
    for token in MarkdownIt().parse(readme.read_text()):
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


class Terminal:
    """A shell in a folder that remembers where `cd` went."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}

    def run(self, command: str) -> str:
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
    """A copy of what the repository holds, as `git clone` would give it, and no container left from it."""
    made = shutil.ignore_patterns(".git", ".venv", ".run", ".*_cache", "__pycache__", "model.onnx")
    shutil.copytree(ROOT, tmp_path / "clone", ignore=made)
    before = set(docker("ps", "--all", "--quiet").split())
    yield tmp_path / "clone"
    for name in set(docker("ps", "--all", "--quiet").split()) - before:
        docker("rm", "--force", name)


@pytest.mark.docker
@pytest.mark.parametrize("readme", [*READMES, pytest.param(GUIDE, marks=pytest.mark.compose)])
def test_readme(readme, clone):
    terminal = Terminal(clone if readme == GUIDE else (clone / readme).parent)
    names: dict[str, object] = {}
    for line, language, content in blocks(ROOT / readme):
        if language == "console":
            for command, shown in commands(content):
                printed = terminal.run(command)
                assert matches(shown, printed), f"{readme}, line {line}:\n$ {command}{printed}\nbut it shows:\n{shown}"
                if command.startswith("docker run -d"):
                    assert health(docker("ps", "--latest", "--quiet")) == "healthy"
        else:
            assert language == "pycon", f"{readme}, line {line}: nothing runs a block of {language or 'no language'}"
            os.chdir(terminal.folder)
            test = doctest.DocTestParser().get_doctest(content, names, readme, readme, line)
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            assert runner.run(test, clear_globs=False).failed == 0
            names = test.globs


def test_every_readme_is_tested():
    found = {str(path.relative_to(ROOT)) for path in ROOT.glob("**/README.md") if ".venv" not in path.parts}
    assert found - {".pytest_cache/README.md"} == set(READMES)


def test_matching():
    assert matches("a ... d\n", "a b\nc d\n")
    assert not matches("a ... d\n", "a b\nc\n")
    assert list(commands("$ a \\\n  b\nshown\n$ c\n")) == [("a \\\n  b\n", "shown\n"), ("c\n", "")]
