"""hello_world: what the browser shows."""

import pytest
import requests


@pytest.fixture
def url(start, place) -> str:
    return start("hello_world", place)


def test_hello(url):
    assert requests.get(url, timeout=10).text == "Hello World\n"
