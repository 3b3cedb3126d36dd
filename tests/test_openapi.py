"""The OpenAPI documents: valid, true, and shown at /docs. Schemathesis sends what they allow, and what they do not."""

import json
import numpy as np
import os
import pytest
import re
import requests
import subprocess
import sys
from conftest import EXAMPLES, ROOT
from html.parser import HTMLParser
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pathlib import Path
from test_export import SERVED, as_sent, serve
from urllib.parse import urljoin

DOCUMENTED = [example for example in EXAMPLES if example != "hello_world"]
CASES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", 500))  # that schemathesis draws for an operation
CONFIG = ROOT / "tests" / "schemathesis.toml"
SAMPLE = ROOT / "image_classification" / "samples" / "seven.png"


@pytest.fixture(params=DOCUMENTED)
def url(request, start, place) -> str:
    return start(request.param, place)


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
    """Let schemathesis find an answer that is not as documented, or a request that is; return its report."""
    command: list[str | Path] = [Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIG]
    command += ["run", f"{url}/openapi.json", "--checks", "all", "--mode", "all", "--max-examples", str(cases)]
    command += ["--generation-deterministic", "--suppress-health-check", "too_slow", "--request-timeout", "60"]
    command += ["--report", "json", "--report-json-path", folder / "report.json", "--no-color"]
    run = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, errors="replace"
    )
    assert run.returncode == 0, "\n".join(line[:500] for line in (run.stdout + run.stderr).splitlines())
    return json.loads((folder / "report.json").read_text())


def test_document_is_valid(url):
    openapi = document(url)
    assert openapi["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(openapi).validate()
    assert {"/", "/healthz", "/predict"} == set(openapi["paths"])


@pytest.mark.parametrize("example", ["passing_arguments", "simple_ml"])
def test_examples_are_answered_as_documented(example, start, place):
    url = start(example, place)
    openapi = document(url)
    body = openapi["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    shown = [each["value"] for each in body.get("examples", {}).values()] or body["schema"]["examples"]
    assert len(shown) >= 2
    for value in shown:
        answer = requests.post(f"{url}/predict", json=value, timeout=10)
        assert answer.status_code == 200
        assert_as_documented(answer, openapi)


@pytest.mark.parametrize("query", ["", "?input=1"])
def test_pictures_are_answered_as_documented(start, place, query):
    url, picture = start("image_classification", place), SAMPLE.read_bytes()
    openapi = document(url)
    content_types = openapi["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(content_types) == {"multipart/form-data", "image/*", "application/octet-stream"}
    for content_type in ("image/png", "application/octet-stream"):
        answer = requests.post(f"{url}/predict{query}", picture, headers={"Content-Type": content_type}, timeout=10)
        assert answer.status_code == 200
        assert_as_documented(answer, openapi)
    for count in (1, 3):
        answer = requests.post(f"{url}/predict{query}", files=[("file", picture)] * count, timeout=10)
        assert answer.status_code == 200
        assert_as_documented(answer, openapi)


@pytest.mark.parametrize(
    ("example", "statuses"),
    {
        "passing_arguments": {"five": 400, "1" * 5000: 413, "true": 422},
        "simple_ml": {"f1=4": 400, " " * 8_000_000: 413, "{}": 422},
        "image_classification": {" " * 32 * 2**20: 413, "seven": 415, SAMPLE.read_bytes()[:1000]: 422},
    }.items(),
)
def test_errors_are_as_documented(example, statuses, start, place):
    url = start(example, place)
    openapi = document(url)
    for body, status in statuses.items():
        answer = requests.post(f"{url}/predict", body, headers={"Content-Type": "text/plain"}, timeout=30)
        assert answer.status_code == status
        assert_as_documented(answer, openapi)
    documented = set(openapi["paths"]["/predict"]["post"]["responses"])
    unseen = {"passing_arguments": set(), "simple_ml": {"503"}, "image_classification": {"400", "503"}}[example]
    assert documented - {str(status) for status in statuses.values()} == {"200"} | unseen  # by other tests


@pytest.mark.parametrize("example", DOCUMENTED)
def test_schemathesis_finds_nothing(example, start, tmp_path):
    hooks = {"SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("schemathesis_hooks.py"))}
    report = fuzz(start(example, "process"), tmp_path, CASES, **hooks if example == "image_classification" else {})
    assert report["operations"]["tested"] == 3
    assert report["test_cases"]["generated"] >= CASES
    # a share of them, at least, got a prediction
    assert report["valid_rates"]["POST /predict"]["fuzzing"]["accepted"] > CASES / 10


OTHERS = [
    "awkward names",
    "classes are yes and no",
    "linear regression",
    "text category, missing ones known",
    "whole numbers as categories",
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OTHERS)
def test_another_model_has_another_document(name, tmp_path):
    """It names this model's columns and classes, and is as true as the first."""
    model, X, y = SERVED[name]
    with serve(model.fit(X, y), X, tmp_path) as predict:
        url = predict.removesuffix("/predict")
        openapi = document(url)
        OpenAPIV31SpecValidator(openapi).validate()
        row, prediction = (openapi["components"]["schemas"][name] for name in ("Row", "Prediction"))
        assert list(row["properties"]) == row["required"] == list(X)
        assert prediction["properties"]["prediction"].get("enum") == getattr(model, "classes_", np.array(None)).tolist()
        assert ("probabilities" in prediction["required"]) == hasattr(model, "predict_proba")
        fuzz(url, tmp_path, max(1, CASES // 10))


def test_columns_are_documented(tmp_path):
    model, X, y = SERVED["text category, missing ones known"]
    with serve(model.fit(X, y), X, tmp_path) as predict:
        columns = document(predict.removesuffix("/predict"))["components"]["schemas"]["Row"]["properties"]
    number = {"type": "number", "minimum": -1e35, "maximum": 1e35}
    shown = {name: {key: value for key, value in column.items() if key != "title"} for name, column in columns.items()}
    assert shown == {
        "city": {"anyOf": [{"enum": ["Rome", "Vienna", "Zürich"], "type": "string"}, {"type": "null"}]},
        "age": {"type": "integer", "minimum": -(10**35), "maximum": 10**35},
        "income": {"anyOf": [number, {"type": "null"}]},
        "member": {"type": "boolean"},
    }


@pytest.mark.parametrize(
    ("name", "column", "values"),
    [
        ("text category, missing ones known", "age", [30.000000001, 1e-42, 10**35 + 1, True, "30"]),
        ("whole numbers as categories", "age", [True, 1.5, "1", 99]),  # 1 is a category, and to Python True is 1
    ],
)
def test_almost_a_whole_number(name, column, values, tmp_path):
    model, X, y = SERVED[name]
    with serve(model.fit(X, y), X, tmp_path) as predict:
        row = as_sent(X.head(1))[0]
        errors = requests.post(predict, json=[row | {column: value} for value in values], timeout=10).json()["errors"]
        assert [error["pointer"] for error in errors] == [f"#/{number}/{column}" for number in range(len(values))]
        assert requests.post(predict, json=row | {column: 1.0}, timeout=10).status_code == 200


class Addresses(HTMLParser):
    """What a page loads."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name in ("src", "href")]


def test_docs_page(url):
    page = requests.get(f"{url}/docs", timeout=10)
    assert page.url == f"{url}/docs/"
    assert page.headers["Content-Type"].startswith("text/html")
    addresses = [*Addresses(page.text).found, *re.findall(r'"url": "(.*?)"', page.text)]
    assert len(addresses) > 5
    assert "../openapi.json" in addresses
    for address in addresses:
        assert re.match(r"\.{1,2}/\w", address)  # relative: no other host, and a proxy may put it all under a prefix
        assert requests.get(urljoin(page.url, address), timeout=10).status_code == 200
    assert not re.search(r"https?://(?!127\.0\.0\.1)", page.text)


def test_hello_world_has_none(start):
    for path in ("openapi.json", "docs"):
        assert requests.get(f"{start('hello_world', 'process')}/{path}", timeout=10).status_code == 404
