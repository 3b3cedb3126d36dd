"""Send rows of features to the service and print its predictions. Needs `pip install requests`.

`python3 client.py 4 5 10` sends f1, f2 and f3. `python3 client.py age=39 smoker=no` names the features.
`python3 client.py rows.csv` sends a CSV file whose first line holds the names, as Excel, R or pandas write it.

In Python: `from client import predict`, then `predict({"f1": 4, "f2": 5, "f3": 10})["prediction"]` is "virginica".
"""

import argparse
import csv
import io
import re
import requests
import sys
import time
from pathlib import Path
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


def row_of(values: list[str]) -> str:
    """Return a row as CSV: `4 5 10` are f1, f2 and f3, and `age=39` has its name."""
    pairs = [word.split("=", 1) if "=" in word else (f"f{i}", word) for i, word in enumerate(values, 1)]
    file = io.StringIO()
    csv.writer(file).writerows(zip(*pairs, strict=True))
    return file.getvalue()


def say_what_is_ignored(answer: requests.Response, **_: Any) -> None:
    if ignored := answer.headers.get("Ignored-Columns"):
        print(f"Not used by the model: {unquote(ignored)}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Print the prediction for a row of features, or for each row of a CSV file."
    )
    parser.add_argument("values", nargs="+", help="4 5 10 (for f1, f2, f3), or age=39 smoker=no, or rows.csv")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write the rows and all answers to a file for Excel, too"
    )
    parser.add_argument("--url", default=URL, help="address of the service (default: %(default)s)")
    # a blank before them, because otherwise -1e-3 would be an option
    arguments = parser.parse_args([re.sub(r"^-(?=[\d.])", " -", word) for word in sys.argv[1:]])
    try:
        file = Path(arguments.values[0])
        is_file = file.suffix.lower() == ".csv"
        body = file.read_bytes() if is_file else row_of(arguments.values).encode()
        as_json = {"Content-Type": "text/csv", "Accept": "application/json"}
        hooks = {"response": say_what_is_ignored}
        for answer in post(arguments.url, data=body, headers=as_json, hooks=hooks):
            print(answer["prediction"])
        if arguments.output:
            table = send("POST", f"{arguments.url}?for=excel", data=body, headers={"Content-Type": "text/csv"})
            Path(arguments.output).write_bytes(table.content)
    except (OSError, ValueError) as error:
        sys.exit(str(error) if is_file else str(error).replace(" 0/", " "))  # of the only row


if __name__ == "__main__":
    main()
