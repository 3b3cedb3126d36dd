"""The servers that the tests talk to over HTTP: as processes, and in containers where a Docker engine answers."""

import contextlib
import functools
import os
import pytest
from collections.abc import Callable, Iterator
from examples import IMAGES, ROOT, container, docker
from helpers import pickled, process
from run import docker_problem

LEFT_OUT = pytest.StashKey[str]()

# A company's proxy cannot reach the servers on this machine.
os.environ["no_proxy"] = ",".join(["localhost,127.0.0.1", os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")])


@pytest.hookimpl(trylast=True)  # after `-m` and `-k`
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where no Docker engine answers, leave out the tests that need one; of tests/ci, nothing may be left out."""
    with_docker = [item for item in items if "docker" in item.keywords]
    if with_docker and (problem := docker_problem()):
        if any(item.path.parent.name == "ci" for item in with_docker):
            raise pytest.UsageError(f"Tests in tests/ci need Docker, but {problem}.")
        items[:] = [item for item in items if item not in with_docker]
        config.hook.pytest_deselected(items=with_docker)
        config.stash[LEFT_OUT] = f"{len(with_docker)} tests left out, because {problem}."


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if LEFT_OUT in config.stash:
        terminalreporter.write_line(config.stash[LEFT_OUT], yellow=True)


@pytest.fixture(scope="session")
def image() -> Callable[[str], str]:
    """image("simple_ml") builds the image of simple_ml once, and returns its name."""

    @functools.cache
    def build(example: str) -> str:
        name = f"{IMAGES[example]}:tested"  # not the name in the README, which would then mean another image
        docker("build", "--tag", name, ROOT / example)
        return name

    return build


@pytest.fixture(scope="session")
def running(
    image: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, str], str]]:
    """running("simple_ml", "container") starts simple_ml once for all tests, and returns its address.

    "process" and "container" serve model.onnx, "pickle" is a process that serves the same model as model.pkl.
    """
    with contextlib.ExitStack() as stack:

        @functools.cache
        def start(example: str, where: str) -> str:
            if where == "process":
                return stack.enter_context(process(example))[0]
            if where == "pickle":
                folder = pickled(tmp_path_factory.mktemp("pickled"))
                return stack.enter_context(process(example, folder, "simple_ml-train"))[0]
            return f"http://127.0.0.1:{stack.enter_context(container(image(example)))[0]}"

        yield start


@pytest.fixture(params=["process", pytest.param("container", marks=pytest.mark.docker)])
def where(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server(running: Callable[[str, str], str], where: str) -> Callable[[str], str]:
    """server("simple_ml") is the address of simple_ml: of a process in one test, and of a container in another."""
    return lambda example: running(example, where)
