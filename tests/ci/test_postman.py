"""The Postman collection, run by newman against the real servers."""

import json
import pytest
import subprocess
from examples import IMAGES, ROOT
from pathlib import Path

NEWMAN = "6.2.2"
COLLECTION = ROOT / "postman_collection.json"
FOLDERS = {folder["name"]: folder["item"] for folder in json.loads(COLLECTION.read_text())["item"]}


@pytest.fixture(scope="session")
def newman(npm_install) -> Path:
    """The command of newman."""
    return npm_install("newman", NEWMAN) / ".bin" / "newman"


@pytest.mark.npm
@pytest.mark.parametrize("example", IMAGES)
def test_newman(example, server, newman, tmp_path):
    report = tmp_path / "report.json"
    command = [newman, "run", COLLECTION, "--folder", example, "--working-dir", ROOT]
    command += ["--env-var", f"baseUrl_{example}={server(example)}"]
    command += ["--reporters", "cli,json", "--reporter-json-export", report, "--color", "off"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads(report.read_text())["run"]
    assert result["failures"] == []
    assert (result["stats"]["requests"]["total"], result["stats"]["requests"]["failed"]) == (len(FOLDERS[example]), 0)
    written = sum(script(request).count("pm.test(") for request in FOLDERS[example])
    assert (result["stats"]["assertions"]["total"], result["stats"]["assertions"]["failed"]) == (written, 0)


@pytest.mark.npm
def test_newman_fails_where_nothing_listens(newman):
    command = [newman, "run", COLLECTION, "--folder", "hello_world"]
    command += ["--env-var", "baseUrl_hello_world=http://localhost:1"]
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == 1


def test_every_example_is_there():
    assert list(FOLDERS) == list(IMAGES)
    variables = {variable["key"]: variable["value"] for variable in json.loads(COLLECTION.read_text())["variable"]}
    # where `make run` puts them
    assert variables == {f"baseUrl_{name}": f"http://localhost:{5001 + i}" for i, name in enumerate(IMAGES)}


@pytest.mark.parametrize("example", IMAGES)
def test_every_address_is_there(example):
    addresses = {route(request) for request in FOLDERS[example]}
    wanted = {("GET", "/"), ("GET", "/healthz")} | ({("POST", "/predict")} if example != "hello_world" else set())
    assert wanted <= addresses


@pytest.mark.parametrize("example", IMAGES)
def test_every_request_is_checked(example):
    """Each asks its own example, and tests status, content type and body."""
    for request in FOLDERS[example]:
        assert request["request"]["url"]["host"] == [f"{{{{baseUrl_{example}}}}}"]
        assert script(request).count("pm.test(") >= 3, request["name"]
        assert "to.have.status(" in script(request), request["name"]
        assert "Content-Type" in script(request), request["name"]
    if example != "hello_world":  # its errors are the pages of Flask
        assert any("problem+json" in script(request) for request in FOLDERS[example])


def route(item: dict) -> tuple[str, str]:
    return item["request"]["method"], "/" + "/".join(item["request"]["url"]["path"])


def script(item: dict) -> str:
    return "\n".join(line for event in item["event"] for line in event["script"]["exec"])
