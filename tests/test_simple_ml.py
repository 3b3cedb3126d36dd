"""simple_ml: features in, a species out. (Other models: tests/ci/test_any_model.py)"""

import json
import pytest
import requests
from helpers import assert_problem

FLOWER = {"f1": 4, "f2": 5, "f3": 10}
SPECIES = ["setosa", "versicolor", "virginica"]


@pytest.fixture(params=["process", "pickle", pytest.param("container", marks=pytest.mark.docker)])
def where(request) -> str:
    return request.param


@pytest.fixture
def url(server) -> str:
    return server("simple_ml") + "/predict"


def test_one_flower(url):
    answer = requests.post(url, data=json.dumps(FLOWER), timeout=10)
    assert answer.text.endswith("\n")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["prediction"] == "virginica"
    assert list(answer.json()["probabilities"]) == SPECIES
    assert sum(answer.json()["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_list_keeps_its_order(url):
    flowers = [{"f1": 5.1, "f2": 3.5, "f3": 1.4}, {"f1": 6.3, "f2": 3.3, "f3": 6.0}] * 50
    answers = requests.post(url, json=flowers, timeout=10).json()
    assert [answer["prediction"] for answer in answers] == ["setosa", "virginica"] * 50
    assert answers[0] == requests.post(url, json=flowers[0], timeout=10).json()


def test_a_list_of_one_is_a_list(url):
    assert len(requests.post(url, json=[FLOWER], timeout=10).json()) == 1


def test_100_000_rows(url):
    assert len(requests.post(url, json=[FLOWER] * 100_000, timeout=60).json()) == 100_000


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", "text/plain", ""])
def test_whatever_the_content_type(url, content_type):
    answer = requests.post(url, data=json.dumps(FLOWER), headers={"Content-Type": content_type}, timeout=10)
    assert answer.json()["prediction"] == "virginica"


def test_order_of_the_fields_does_not_matter(url):
    turned = dict(reversed(FLOWER.items()))
    assert requests.post(url, json=turned, timeout=10).json() == requests.post(url, json=FLOWER, timeout=10).json()


@pytest.mark.parametrize(
    ("body", "status", "pointers"),
    [
        ("", 400, []),
        ("f1=4", 400, []),
        ('{"f1": 4,', 400, []),
        (b"\xff\xfe", 415, []),  # it starts as UTF-16 does
        (b"\xff\xff", 415, []),
        ('{"f1": "Köln"}'.encode("latin-1"), 415, []),
        ("[" * 10_000, 400, []),
        ("5", 422, ["#"]),
        ("null", 422, ["#"]),
        ('"4,5,10"', 422, ["#"]),
        ("[]", 422, ["#"]),
        ("[[4, 5, 10]]", 422, ["#/0"]),
        ("{}", 422, ["#/f1", "#/f2", "#/f3"]),
        ('{"f1": 4, "f2": 5}', 422, ["#/f3"]),
        ('{"f1": 4, "f2": 5, "f3": 10, "f4": 1}', 422, ["#/f4"]),
        ('{"f1": "4", "f2": null, "f3": true}', 422, ["#/f1", "#/f2", "#/f3"]),
        ('{"f1": "", "f2": [], "f3": {}}', 422, ["#/f1", "#/f2", "#/f3"]),
        ('{"f1": NaN, "f2": Infinity, "f3": -Infinity}', 422, ["#/f1", "#/f2", "#/f3"]),
        ('{"f1": 1e39, "f2": -1e39, "f3": 1e999}', 422, ["#/f1", "#/f2", "#/f3"]),
        ('{"f1": 4, "f2": 5, "f3": 1' + "0" * 400 + "}", 422, ["#/f3"]),
        ('[{"f1": 4, "f2": 5, "f3": 10}, {"f1": 4, "f2": 5}, 7]', 422, ["#/1/f3", "#/2"]),
    ],
)
def test_bad_input(url, body, status, pointers):
    problem = assert_problem(requests.post(url, data=body, timeout=10), status)
    assert [error["pointer"] for error in problem.get("errors", [])] == pointers
    assert all(error["detail"] for error in problem.get("errors", []))


def test_a_thousand_errors_make_a_short_answer(url):
    answer = requests.post(url, json=[{}] * 1000, timeout=10)
    problem = assert_problem(answer, 422)
    assert "3000" in problem["detail"]
    assert len(answer.content) < 5000


def test_a_megabyte_of_digits(url):
    answer = requests.post(url, data='{"f1": 4, "f2": 5, "f3": 1' + "0" * 10**6 + "}", timeout=10)
    assert answer.status_code in (400, 422)
    assert_problem(answer, answer.status_code)


def test_the_last_of_two_equal_keys_counts(url):
    answer = requests.post(url, data='{"f1": "no", "f1": 4, "f2": 5, "f3": 10}', timeout=10)
    assert answer.json()["prediction"] == "virginica"
