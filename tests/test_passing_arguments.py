"""passing_arguments: a number in, its square out. (Other functions: tests/ci/test_functions.py)"""

import pytest
import requests
from helpers import assert_problem


@pytest.fixture
def url(server) -> str:
    return server("passing_arguments") + "/predict"


@pytest.mark.parametrize(
    ("body", "square"),
    [
        ("5", "25"),
        ("-3", "9"),
        ("2.5", "6.25"),
        ("0", "0"),
        (" 5\n", "25"),
        ("5.0", "25.0"),
        ("1e3", "1000000.0"),
        ("1e-200", "0.0"),
        ("9007199254740993", str(9007199254740993**2)),  # no float holds this one
        ("9" * 154, str((10**154 - 1) ** 2)),
        ("-1e154", "1e+308"),
    ],
)
def test_square(url, body, square):
    answer = requests.post(url, data=body, timeout=10)
    assert (answer.status_code, answer.text) == (200, square + "\n")
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", "text/plain", ""])
def test_whatever_the_content_type(url, content_type):
    assert requests.post(url, data="5", headers={"Content-Type": content_type}, timeout=10).json() == 25


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("", 400, "not JSON"),
        ("five", 400, "not JSON"),
        ("5 6", 400, "not JSON"),
        ("05", 400, "not JSON"),
        (b"\xff", 400, "not JSON"),
        ("[" * 4000, 400, "not JSON"),
        ("true", 422, "a valid number"),
        ("null", 422, "a valid number"),
        ('"5"', 422, "a valid number"),
        ("[5]", 422, "a valid number"),
        ('{"number": 5}', 422, "a valid number"),
        ("NaN", 422, "a finite number"),
        ("Infinity", 422, "a finite number"),
        ("-Infinity", 422, "a finite number"),
        ("1e999", 422, "a finite number"),
        ("1.01e154", 422, "less than or equal to 1e+154"),
        ("1" * 156, 422, "less than or equal to 1e+154"),
        ("-" + "1" * 156, 422, "greater than or equal to -1e+154"),
        ("9" * 4095, 422, "less than or equal to 1e+154"),
        ("9" * 5000, 413, "smaller than 4096 bytes"),
    ],
)
def test_bad_input(url, body, status, says):
    problem = assert_problem(requests.post(url, data=body, timeout=10), status)
    assert says in problem["detail"]
    assert problem["detail"].endswith("Send one number, such as 5 or 2.5.") or status == 413
