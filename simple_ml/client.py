"""Send rows of features to the service, and print its predictions. Needs requests: `pip install requests`.

`python3 client.py 4 5 10` sends f1, f2 and f3; `python3 client.py age=39 smoker=no` names the features;
`python3 client.py rows.csv` sends a file whose first line has the names.

In Python: `from client import predict`, and `predict({"f1": 4, "f2": 5, "f3": 10})["prediction"]` is "virginica".
"""

import argparse
import csv
import math
import requests
import sys
import time
from typing import Any
from urllib.parse import unquote

URL = "http://localhost:5000/predict"
START_SECONDS = 10  # how long to try again while nothing listens: the container may be starting
ANSWER_SECONDS = 30


def predict(rows: dict | list[dict], url: str = URL) -> Any:
    """Return the answer for a row, {"prediction": ...}, or a list of them for a list of rows."""
    return post(url, json=rows)


def post(url: str, **body: Any) -> Any:
    """Return a service's answer; raise a requests.RequestException that says in a sentence why there is none."""
    give_up = time.monotonic() + START_SECONDS
    while True:
        try:
            answer = requests.post(url, timeout=ANSWER_SECONDS, **body)
            break
        except requests.Timeout as error:
            raise requests.Timeout(f"{url} did not answer within {ANSWER_SECONDS} seconds.") from error
        except requests.ConnectionError as error:  # refused; or reset, as Docker does until the app listens
            if time.monotonic() > give_up:
                raise requests.ConnectionError(f"{url} does not answer. Is the service running there?") from error
            time.sleep(0.5)
    kind = answer.headers.get("Content-Type")
    if answer.ok and kind == "application/json":
        return answer.json()
    if kind != "application/problem+json":
        raise requests.HTTPError(f"{url} answered {answer.status_code} {answer.reason}. Is this the service's address?")
    problem = answer.json()  # RFC 9457
    errors = [f"{unquote(each['pointer']).removeprefix('#/')}: {each['detail']}" for each in problem.get("errors", [])]
    raise requests.HTTPError(" ".join([problem["detail"], "; ".join(errors)]).strip(), response=answer)


def read(path: str) -> list[dict]:
    """Return the rows of a CSV file; raise ValueError for a row that is not as long as the header."""
    rows = []
    with open(path, newline="", encoding="utf-8-sig") as file:  # -sig: Excel starts a file with a byte order mark
        lines = csv.reader(file, skipinitialspace=True)
        names = next(lines, [])
        for cells in filter(None, lines):
            if len(cells) != len(names):
                raise ValueError(f"{path}, line {lines.line_num}: {len(cells)} cells under {len(names)} names.")
            rows.append(dict(zip(names, map(value, cells), strict=True)))
    return rows


def value(text: str) -> float | bool | str | None:
    """Return what a cell means in JSON: empty is null, and what looks like true, false or a number is one."""
    words = {"": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return float(text) if math.isfinite(float(text)) else text
    except ValueError:
        return text


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the prediction for a row of features, or for each of a file.")
    parser.add_argument("values", nargs="+", help="4 5 10 (as f1, f2, f3), or age=39 smoker=no, or rows.csv")
    parser.add_argument("--url", default=URL, help="where the service is (%(default)s)")
    arguments = parser.parse_args()
    pairs = [word.split("=", 1) if "=" in word else (f"f{i}", word) for i, word in enumerate(arguments.values, 1)]
    try:
        is_file = arguments.values[0].lower().endswith(".csv")
        rows = read(arguments.values[0]) if is_file else {name: value(text) for name, text in pairs}
        answers = predict(rows, arguments.url)
        for answer in answers if is_file else [answers]:
            print(answer["prediction"])
    except (OSError, ValueError, csv.Error) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
