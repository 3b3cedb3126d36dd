"""Send what predict() takes to the service and print its answer. Needs `pip install requests`.

`python3 client.py 5` sends one value. `python3 client.py text="a good film" steps=3` sends parameters by name.

In Python: `from client import predict`, then `predict(5)` is 25.
"""

import argparse
import base64
import contextlib
import json
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


def predict(value: Any = None, url: str = URL, **parameters: Any) -> Any:
    """Return the answer to a value, or to parameters by name: predict(values=[1, 2], steps=3). Bytes become base64.

    A dictionary of parameters is a value, too, for names such as `url`.
    """
    if len(parameters) == 1 and len(types(url)) == 1:
        (value,) = parameters.values()  # the body is the value of the only parameter
    elif parameters:
        value = parameters
    body = json.dumps(value, default=lambda data: base64.b64encode(data).decode())
    return post(url, data=body.encode(), headers={"Content-Type": "application/json"})


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


def types(url: str) -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each parameter, from the service's /openapi.json; nothing if it has none.

    Raises requests.ConnectionError if nothing answers.
    """
    # another service may have no such document, or no parameters in it
    with contextlib.suppress(requests.Timeout, ValueError, KeyError, TypeError, AttributeError):
        document = send("GET", url.rpartition("/")[0] + "/openapi.json").json()
        return dict(document["components"]["schemas"]["Parameters"]["properties"])
    return {}


def value(text: str, schema: dict[str, Any]) -> Any:
    """Return a word of the command line as JSON: as the service wants it, or else as it looks."""
    options = [option for option in schema.get("anyOf", [schema]) if option != {"type": "null"}]
    if all(option.get("format") == "base64" for option in options):
        return Path(text).read_bytes()
    with contextlib.suppress(ValueError):
        if any(option.get("type") != "string" for option in options):
            return json.loads(text)
    return text  # 01234 is a text where the parameter is one


def main() -> None:
    parser = argparse.ArgumentParser(description="Print what predict() answers.")
    parser.add_argument(
        "values", nargs="+", help="5, or text='a good film' steps=3; for a file its name: scan=page.png"
    )
    parser.add_argument("--url", default=URL, help="address of the service (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        schemas = types(arguments.url) or {"value": {}}
        given = {}
        for i, word in enumerate(arguments.values):
            name, _, text = word.partition("=")
            if name not in schemas:  # a value without a name
                if i == len(schemas):
                    sys.exit(f"Too many values: the service takes {', '.join(schemas)}.")
                name, text = [*schemas][i], word
            given[name] = value(text, schemas[name])
        answer = predict(given[name] if len(schemas) == len(given) == 1 else given, arguments.url)
        print(answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False))
    except OSError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
