"""The OpenAPI documents: valid, true, and shown at /docs. (Those of other models: test_any_model.py)"""

import os
import pytest
import re
import requests
from examples import ROOT
from html.parser import HTMLParser
from openapi_spec_validator import OpenAPIV31SpecValidator
from support.schemas import HERE, assert_as_documented, document, fuzz
from urllib.parse import urljoin

DOCUMENTED = ["passing_arguments", "simple_ml", "image_classification"]
HOOKS = {"simple_ml": "schemathesis_rows.py", "image_classification": "schemathesis_hooks.py"}
CASES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", 200))  # that schemathesis draws for an operation
SAMPLE = ROOT / "image_classification" / "samples" / "seven.png"


@pytest.fixture(params=DOCUMENTED)
def url(request, server) -> str:
    return server(request.param)


def test_document_is_valid(url):
    openapi = document(url)
    assert openapi["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(openapi).validate()
    assert {"/", "/healthz", "/predict"} == set(openapi["paths"])


@pytest.mark.parametrize("example", ["passing_arguments", "simple_ml"])
def test_examples_are_answered_as_documented(example, server):
    url = server(example)
    openapi = document(url)
    body = openapi["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    shown = [each["value"] for each in body.get("examples", {}).values()] or body["schema"]["examples"]
    assert len(shown) >= 2
    for value in shown:
        answer = requests.post(f"{url}/predict", json=value, timeout=10)
        assert answer.status_code == 200
        assert_as_documented(answer, openapi)


@pytest.mark.parametrize("query", ["", "?input=1"])
def test_pictures_are_answered_as_documented(server, query):
    url, picture = server("image_classification"), SAMPLE.read_bytes()
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
        "passing_arguments": {"five": 400, "1" * 5000: 413, "5".encode("utf-16"): 415, "true": 422},
        "simple_ml": {"f1=4": 400, " " * 8_000_000: 413, "{}".encode("utf-16"): 415, "{}": 422},
        "image_classification": {" " * 32 * 2**20: 413, "seven": 415, SAMPLE.read_bytes()[:1000]: 422},
    }.items(),
)
def test_errors_are_as_documented(example, statuses, server):
    url = server(example)
    openapi = document(url)
    for body, status in statuses.items():
        answer = requests.post(f"{url}/predict", body, headers={"Content-Type": "text/plain"}, timeout=30)
        assert answer.status_code == status
        assert_as_documented(answer, openapi)
    documented = set(openapi["paths"]["/predict"]["post"]["responses"])
    unseen = {"passing_arguments": {"500"}, "simple_ml": {"503"}, "image_classification": {"400", "503"}}[example]
    assert documented - {str(status) for status in statuses.values()} == {"200"} | unseen  # by other tests


@pytest.mark.parametrize("example", DOCUMENTED)
def test_schemathesis_finds_nothing(example, server, tmp_path):
    hooks = {"SCHEMATHESIS_HOOKS": str(HERE / HOOKS[example])} if example in HOOKS else {}
    report = fuzz(server(example), tmp_path, CASES, **hooks)
    assert report["operations"]["tested"] == 3
    assert report["test_cases"]["generated"] >= CASES
    # a share of them, at least, got a prediction
    assert report["valid_rates"]["POST /predict"]["fuzzing"]["accepted"] > CASES / 10


class Addresses(HTMLParser):
    """What a page loads."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name in ("src", "href")]


def test_docs_page(url):
    assert '<a href="docs/">API</a>' in requests.get(url, timeout=10).text
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
