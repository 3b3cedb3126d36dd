"""Send rows of features to the service and print its predictions. Needs `pip install requests`.

`python3 client.py 4 5 10` sends f1, f2 and f3. `python3 client.py age=39 smoker=no` names the features.
`python3 client.py rows.csv` sends a CSV file whose first line holds the names. It reads files from Excel, too.

In Python: `from client import predict`, then `predict({"f1": 4, "f2": 5, "f3": 10})["prediction"]` is "virginica".
"""

import argparse
import contextlib
import csv
import io
import math
import re
import requests
import sys
import time
from collections.abc import Sequence
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
    answer = send("POST", url, **body)
    kind = answer.headers.get("Content-Type")
    if answer.ok and kind == "application/json":
        return answer.json()
    if kind != "application/problem+json":
        raise requests.HTTPError(f"{url} answered {answer.status_code} {answer.reason}. Is this the service's address?")
    problem = answer.json()  # RFC 9457
    errors = [f"{unquote(each['pointer']).removeprefix('#/')}: {each['detail']}" for each in problem.get("errors", [])]
    raise requests.HTTPError(" ".join([problem["detail"], "; ".join(errors)]).strip(), response=answer)


def send(method: str, url: str, **body: Any) -> requests.Response:
    """Return the answer to a request, and wait for it if the service is still starting."""
    give_up = time.monotonic() + START_SECONDS
    with requests.Session() as session:
        session.trust_env = not re.match(LOCAL, url)  # whatever http_proxy says: a proxy cannot reach this machine
        while True:
            try:
                return session.request(method, url, timeout=ANSWER_SECONDS, **body)
            except requests.Timeout as error:
                raise requests.Timeout(f"{url} did not answer within {ANSWER_SECONDS} seconds.") from error
            except requests.ConnectionError as error:  # refused, or reset, as Docker does until the app listens
                if time.monotonic() > give_up:
                    address = url.rpartition("/")[0]
                    raise requests.ConnectionError(f"{address} does not answer. Is the service running?") from error
                time.sleep(0.5)


def types(url: str) -> dict[str, list[str]]:
    """Return the JSON types that the service takes for each feature, from its /openapi.json; nothing if it has none.

    Raises requests.ConnectionError if nothing answers.
    """
    # another service may have no such document, or none with rows
    with contextlib.suppress(requests.Timeout, ValueError, KeyError, TypeError, AttributeError):
        document = send("GET", url.rpartition("/")[0] + "/openapi.json").json()
        columns = document["components"]["schemas"]["Row"]["properties"].items()
        return {name: [kind.get("type", "") for kind in column.get("anyOf", [column])] for name, column in columns}
    return {}


def read(path: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file, all cells as text. Raises ValueError if a row is not as long as the header."""
    rows = []
    with open(path, "rb") as file:
        content = file.read()
    try:  # Excel writes a byte order mark first, or UTF-16 if asked for "Unicode text"
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8. In Excel, save it as 'CSV UTF-8'.") from error
    marks = {mark: text.partition("\n")[0].count(mark) for mark in ",;\t"}
    lines = csv.reader(
        io.StringIO(text, newline=""), delimiter=max(marks, key=marks.__getitem__), skipinitialspace=True
    )
    names = next(lines, [])
    for cells in filter(None, lines):
        if len(cells) != len(names):
            raise ValueError(f"{path}, line {lines.line_num}: {len(cells)} cells under {len(names)} names.")
        rows.append(dict(zip(names, cells, strict=True)))
    return rows


def value(text: str, kinds: Sequence[str] = ()) -> float | bool | str | None:
    """Return a cell as JSON: as the service wants it, or else null, true, false, a number or text, as it looks."""
    if not text and ("null" in kinds or "string" not in kinds):
        return None
    if "string" in kinds:
        return text  # 01234 is a text where the feature is one
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    decimal = text.replace(",", ".") if kinds and re.fullmatch(r"[-+]?\d+,\d+", text) else text  # 3,5 from Excel
    try:
        return float(decimal) if math.isfinite(float(decimal)) else text
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
        rows = read(arguments.values[0]) if is_file else [dict(pairs)]
        kinds = types(arguments.url)
        rows = [{name: value(text, kinds.get(name, ())) for name, text in row.items()} for row in rows]
        answers = predict(rows if is_file else rows[0], arguments.url)
        if others := [name or "(no name)" for name in rows[0] if kinds and name not in kinds]:
            print(f"Not used by the model: {', '.join(others)}", file=sys.stderr)
        for answer in answers if is_file else [answers]:
            print(answer["prediction"])
    except (OSError, ValueError, csv.Error) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
