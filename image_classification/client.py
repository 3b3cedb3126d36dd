"""Send pictures to the service, and print what it reads: `python3 client.py *.png`. Needs requests.

In Python: `from client import predict`, and `predict("samples/seven.png")["prediction"]` is 7.
"""

import argparse
import requests
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

URL = "http://localhost:5000/predict"
START_SECONDS = 10  # how long to try again while nothing listens: the container may be starting
ANSWER_SECONDS = 30


def predict(path: str | Path, url: str = URL) -> dict[str, Any]:
    """Return the answer for a picture: {"prediction": ..., "probabilities": {...}}."""
    return post(url, files={"file": Path(path).read_bytes()})


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


def main() -> None:
    parser = argparse.ArgumentParser(description="Print what each picture shows, and how sure that is.")
    parser.add_argument("pictures", nargs="+", metavar="picture", help="a file, such as samples/seven.png")
    parser.add_argument("--url", default=URL, help="where the service is (%(default)s)")
    arguments = parser.parse_args()
    refused = False
    for path in arguments.pictures:
        try:
            answer = predict(path, arguments.url)
            print(f"{path}: {answer['prediction']} ({100 * max(answer['probabilities'].values()):.1f} %)", flush=True)
        except requests.HTTPError as error:  # of this picture; the next one may do
            print(f"{path}: {error}", file=sys.stderr)
            refused = True
        except OSError as error:
            sys.exit(str(error))
    sys.exit(refused)


if __name__ == "__main__":
    main()
