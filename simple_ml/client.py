"""Send rows of features to the service and print its predictions. Needs `pip install requests`.

`python3 client.py 4 5 10` sends f1, f2 and f3. `python3 client.py age=39 smoker=no` names the features.
`python3 client.py rows.csv` sends a CSV file whose first line holds the names.

In Python: `from client import predict`, then `predict({"f1": 4, "f2": 5, "f3": 10})["prediction"]` is "virginica".
"""

import argparse
import csv
import math
import re
import requests
import sys
import time
from typing import Any
from urllib.parse import unquote

URL = "http://localhost:5000/predict"
LOCAL = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:|/|$)"  # addresses of this machine
START_SECONDS = 10  # keep trying for so long if nothing listens: the container may still be starting
ANSWER_SECONDS = 30


def predict(rows: dict | list[dict], url: str = URL) -> Any:
    """Return the prediction for a row, {"prediction": ...}, or a list of predictions for a list of rows."""
    return post(url, json=rows)


def post(url: str, **body: Any) -> Any:
    """Return the service's answer. Raises requests.RequestException with a sentence that says what went wrong."""
    give_up = time.monotonic() + START_SECONDS
    with requests.Session() as session:
        session.trust_env = not re.match(LOCAL, url)  # whatever http_proxy says: a proxy cannot reach this machine
        while True:
            try:
                answer = session.post(url, timeout=ANSWER_SECONDS, **body)
                break
            except requests.Timeout as error:
                raise requests.Timeout(f"{url} did not answer within {ANSWER_SECONDS} seconds.") from error
            except requests.ConnectionError as error:  # refused, or reset, as Docker does until the app listens
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
    """Return the rows of a CSV file. Raises ValueError if a row is not as long as the header."""
    rows = []
    with open(path, newline="", encoding="utf-8-sig") as file:  # -sig: Excel writes a byte order mark first
        lines = csv.reader(file, skipinitialspace=True)
        names = next(lines, [])
        for cells in filter(None, lines):
            if len(cells) != len(names):
                raise ValueError(f"{path}, line {lines.line_num}: {len(cells)} cells under {len(names)} names.")
            rows.append(dict(zip(names, map(value, cells), strict=True)))
    return rows


def value(text: str) -> float | bool | str | None:
    """Return a cell as JSON: null if it is empty, true, false or a number if it looks like one, else text."""
    words = {"": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return float(text) if math.isfinite(float(text)) else text
    except ValueError:
        return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Print the prediction for a row of features, or for each row of a CSV file."
    )
    parser.add_argument("values", nargs="+", help="4 5 10 (for f1, f2, f3), or age=39 smoker=no, or rows.csv")
    parser.add_argument("--url", default=URL, help="address of the service (default: %(default)s)")
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
