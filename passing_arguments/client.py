"""Send a number to the service and print its square: `python3 client.py 5`. Needs `pip install requests`.

In Python: `from client import predict`, then `predict(5)` is 25.
"""

import argparse
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


def predict(number: int | float | str, url: str = URL) -> int | float:
    """Return the square of a number, which may also be given as text."""
    return post(url, data=str(number).encode(errors="replace"), headers={"Content-Type": "application/json"})


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


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the square of a number.")
    parser.add_argument("number", help="a number, such as 5 or 2.5")
    parser.add_argument("--url", default=URL, help="address of the service (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        print(predict(arguments.number, arguments.url))
    except requests.RequestException as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
