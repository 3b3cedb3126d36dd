"""hello_world: what the browser shows."""

import pytest
import requests


@pytest.fixture
def url(server) -> str:
    return server("hello_world")


def test_hello(url):
    assert requests.get(url, timeout=10).text == "Hello World\n"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/", 405)])
def test_errors_are_pages_of_flask(url, method, path, status):
    answer = requests.request(method, url + path, timeout=10)
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("path", ["openapi.json", "docs", "predict"])
def test_nothing_else_is_there(url, path):
    assert requests.get(f"{url}/{path}", timeout=10).status_code == 404
