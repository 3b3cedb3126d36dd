"""How the tests check a service against its OpenAPI document."""

import json
import os
import requests
import subprocess
import sys
from examples import ROOT
from jsonschema import Draft202012Validator
from pathlib import Path

HERE = Path(__file__).parent


def document(url: str) -> dict:
    answer = requests.get(f"{url}/openapi.json", timeout=10)
    assert answer.headers["Content-Type"] == "application/json"
    return answer.json()


def assert_as_documented(answer: requests.Response, openapi: dict) -> None:
    """Check that an answer to POST /predict has a documented status, content type and shape."""
    content = openapi["paths"]["/predict"]["post"]["responses"][str(answer.status_code)]["content"]
    schema = content[answer.headers["Content-Type"]]["schema"] | {"components": openapi["components"]}
    Draft202012Validator(schema).validate(answer.json())


def fuzz(url: str, folder: Path, cases: int, **environment: str) -> dict:
    """Let schemathesis look for an answer that is not as documented, and return its report."""
    command: list[str | Path] = [Path(sys.executable).with_name("schemathesis")]
    command += ["--config-file", HERE / "schemathesis.toml"]
    command += ["run", f"{url}/openapi.json", "--checks", "all", "--mode", "all", "--max-examples", str(cases)]
    command += ["--generation-deterministic", "--suppress-health-check", "too_slow", "--request-timeout", "60"]
    command += ["--report", "json", "--report-json-path", folder / "report.json", "--no-color"]
    # Hypothesis keeps a table of all characters there. To make it takes as long as the rest.
    environment = os.environ | {"HYPOTHESIS_STORAGE_DIRECTORY": str(ROOT / ".hypothesis")} | environment
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace")
    assert run.returncode == 0, "\n".join(line[:500] for line in (run.stdout + run.stderr).splitlines())
    return json.loads((folder / "report.json").read_text())
