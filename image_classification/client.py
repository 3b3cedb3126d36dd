"""Send pictures to the service and print its predictions: `python3 client.py *.png`. Needs `pip install requests`.

In Python: `from client import predict`, then `predict("samples/seven.png")["prediction"]` is 7.
"""

import argparse
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


def predict(path: str | Path, url: str = URL) -> dict[str, Any]:
    """Return the prediction for a picture, such as {"prediction": ..., "probabilities": {...}}."""
    return post(url, files={"file": Path(path).read_bytes()})


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


def in_words(answer: dict[str, Any]) -> str:
    """Return an answer as a line: what is predicted, how probable it is, and further fields that hold something."""
    answer = dict(answer)
    prediction, probabilities = answer.pop("prediction"), answer.pop("probabilities", None)
    more = "".join(f", {name}: {value}" for name, value in answer.items() if value)
    if probabilities is None:  # a number
        return f"{prediction}{more}"
    labels = prediction if isinstance(prediction, list) else [prediction]
    words = ", ".join(f"{label} ({100 * probabilities[str(label)]:.1f} %)" for label in labels) or "none of the labels"
    return words + more


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the prediction for each picture, and its probability.")
    parser.add_argument("pictures", nargs="+", metavar="picture", help="a picture file, such as samples/seven.png")
    parser.add_argument("--url", default=URL, help="address of the service (default: %(default)s)")
    arguments = parser.parse_args()
    refused = False
    for path in arguments.pictures:
        try:
            answer = predict(path, arguments.url)
            print(f"{path}: {in_words(answer)}", flush=True)
        except requests.HTTPError as error:  # only this picture is bad, the next one may be good
            print(f"{path}: {error}", file=sys.stderr)
            refused = True
        except OSError as error:
            sys.exit(str(error))
    sys.exit(refused)


if __name__ == "__main__":
    main()
