"""passing_arguments with other functions in predict.py: answers, errors, documentation, client and page.

The app runs in this process, except where the server itself matters.
"""

import contextlib
import importlib
import os
import pytest
import re
import requests
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from examples import ROOT, free_port
from helpers import assert_problem, copy_of, eventually, process, python
from openapi_spec_validator import OpenAPIV31SpecValidator
from pathlib import Path
from playwright.sync_api import Page, expect
from run import SETTINGS
from support.inprocess import modules_of
from support.pages import downloaded
from support.pages import run as run_command
from support.schemas import HERE, assert_as_documented, document, fuzz
from test_attack import workers
from test_client import as_library
from test_client import run as run_client
from typing import Any, NamedTuple
from werkzeug.serving import make_server

README = (ROOT / "passing_arguments" / "README.md").read_text()
NOTEBOOK, SENTIMENT, FORECAST = re.findall(r"^```python \w+\.py\n(.+?)^```$", README, re.DOTALL | re.MULTILINE)
START = """
from dataclasses import dataclass
from datetime import date
from pydantic import Base64Bytes, BaseModel, Field
from typing import Annotated, Any, Literal
"""


class Function(NamedTuple):
    code: str
    good: dict[str, Any]  # a body, and the answer
    bad: dict[str, tuple[int, str]]  # a body, the status, and what the answer says
    words: list[str]  # that the client gets
    printed: str  # by the client
    shown: str | list[str]  # on the page, in a table if it is a list
    entered: dict[str, str] | None = None  # into the fields of the page, where the example is not enough


FUNCTIONS = {
    "text and label": Function(
        SENTIMENT,
        good={'"I liked it"': "positive", '"bored"': "negative"},
        bad={
            "I liked it": (400, r'not JSON .*Send one text in double quotes, such as "What a good film!"\.'),
            "5": (422, r"valid string\. Send one text"),
            '["a"]': (422, "valid string"),
            '" "': (422, r"^The review is empty\.$"),
            '"' + "a" * 100_000 + '"': (413, "smaller than 100000 bytes"),
        },
        words=["text=I was bored"],
        printed="negative\n",
        shown="positive",
    ),
    "series and forecast": Function(
        FORECAST,
        good={
            '{"values": [1, 2, 3]}': [4.0, 5.0, 6.0],
            '{"values": [1.5, 2.5], "steps": 1}': [3.5],
        },
        bad={
            "[1, 2]": (422, r"an object\. Send an object with values, steps, such as .*112, 118, 132, 129"),
            '{"steps": 2}': (422, "#/values: This is missing"),
            '{"values": [1, 2], "step": 2}': (422, "#/step: Unknown name"),
            '{"values": [1, NaN]}': (422, "#/values/1: .*finite"),
            '{"values": [1, -Infinity]}': (422, "#/values/1: .*finite"),
            '{"values": [1, "2"], "steps": 1.5}': (422, "#/values/1: .*valid number.* #/steps: .*valid integer"),
            '{"values": [1, 1e10]}': (422, "#/values/1: .*less than or equal to 1000000000"),
            '{"values": [1, 2], "steps": true}': (422, "#/steps: .*valid integer"),
            '{"values": [1]}': (422, "#/values: .*at least 2 items"),
        },
        words=["values=[1, 2, 3]", "steps=1"],
        printed="[4.0]\n",
        shown="[139.0,145.5]",
        entered={"steps": "2"},
    ),
    "an object with defaults": Function(
        START
        + """
def predict(
    word: str,
    times: Annotated[int, Field(ge=0, le=9, description="how often")] = 2,
    *,
    big: bool = False,
    end: str | None = None,
    day: Annotated[str, Field(examples=["Monday"])] = "Sunday",
) -> str:
    return (word.upper() if big else word) * times + (end or "") + day
""",
        good={
            '{"word": "ab"}': "ababSunday",
            '{"word": "ab", "times": 1, "big": true, "end": "!", "day": ""}': "AB!",
            '{"word": "ab", "end": null}': "ababSunday",
        },
        bad={
            "{}": (422, r"Send an object with word, times, big, end, day\. #/word: This is missing"),
            '{"word": "ab", "big": 1}': (422, "#/big: .*valid boolean"),
            '{"word": "ab", "times": 10}': (422, "#/times: .*less than or equal to 9"),
            '{"word": "ab", "end": 5}': (422, "#/end: .*valid string$"),
        },
        words=["5", "big=true"],
        printed="55Sunday\n",
        shown="ABMonday",
        entered={"word": "ab", "times": "1", "big": "yes"},
    ),
    "a list of lists": Function(
        START
        + """
def predict(rows: Annotated[list[list[float]], Field(examples=[[[1, 2], [3]]])]) -> float:
    return max(-1e300, min(sum(map(sum, rows)), 1e300))
""",
        good={"[[1, 2], [3.5]]": 6.5, "[]": 0, "[[]]": 0},
        bad={
            "[[1, 2], [NaN]]": (422, "#/1/0: .*finite"),
            "[[1, 2], [3, true]]": (422, "#/1/1: .*valid number"),
            "[1]": (422, "#/0: .*valid array"),
            "{}": (422, r"valid array\. Send JSON, such as \[\[1, 2\], \[3\]\]\."),
        },
        words=["[[1, 2], [3.5]]"],
        printed="6.5\n",
        shown="6.0",
    ),
    "Literal": Function(
        START
        + """
def predict(language: Annotated[Literal["de", "en"], Field(examples=["en"])]) -> Literal["hallo", "hello"]:
    return {"de": "hallo", "en": "hello"}[language]
""",
        good={'"de"': "hallo", '"en"': "hello"},
        bad={
            '"fr"': (422, r"Input should be 'de' or 'en'\. Send one of \"de\", \"en\", such as \"en\"\."),
            "de": (400, "not JSON"),
            "0": (422, "should be 'de'"),
        },
        words=["de"],
        printed="hallo\n",
        shown="hallo",
        entered={"language": "de"},
    ),
    "Literal of numbers": Function(
        START
        + """
def predict(stars: Literal[1, 2, 3] | None, no: Literal[False, 0] = 0) -> int:
    return (stars or 0) + no
""",
        good={'{"stars": 2}': 2, '{"stars": null, "no": false}': 0},
        bad={
            '{"stars": true}': (422, "#/stars: Input should not be true or false"),
            '{"stars": 4}': (422, "#/stars: Input should be 1, 2 or 3"),
        },
        words=["stars=3"],
        printed="3\n",
        shown="2",
        entered={"stars": "2"},
    ),
    "a dataclass": Function(
        START
        + """
@dataclass
class Flower:
    length: Annotated[float, Field(ge=0, le=100)]
    width: Annotated[float, Field(ge=0, le=100)] = 1.0

@dataclass
class Answer:
    species: str
    sizes: dict[str, float]
    more: list[int]

def predict(flower: Annotated[Flower, Field(examples=[{"length": 2}])]) -> Answer:
    return Answer("setosa", {"area": flower.length * flower.width}, [2**53 + 1])
""",
        good={
            '{"length": 4, "width": 0.5}': {"species": "setosa", "sizes": {"area": 2.0}, "more": [2**53 + 1]},
            '{"length": 4}': {"species": "setosa", "sizes": {"area": 4.0}, "more": [2**53 + 1]},
        },
        bad={
            "{}": (422, r"Send JSON, such as \{\"length\": 2\}\. #/length: This is missing"),
            "5": (422, "Input should be an object"),
            '{"length": "4"}': (422, "#/length: .*valid number"),
            '{"length": NaN}': (422, "#/length: .*finite"),
            '{"length": 4, "height": 5}': (422, "#/height: Unknown name"),
        },
        words=['{"length": 4}'],
        printed='{"species": "setosa", "sizes": {"area": 4.0}, "more": [9007199254740993]}\n',
        shown=["species", "setosa", "sizes", "area2.0", "area", "2.0", "more", "[9007199254740993]"],
    ),
    "a model of one's own": Function(
        START
        + """
class Point(BaseModel):
    x: float
    y: float | None = None

def predict(point: Annotated[Point | list[Point], Field(examples=[{"x": 1}])]) -> Point | list[Point]:
    return point
""",
        good={'{"x": 1, "y": 2}': {"x": 1, "y": 2}, '[{"x": 1}]': [{"x": 1, "y": None}]},
        bad={
            '{"x": "1"}': (422, "#/x: .*valid number"),
            '[{"x": 1, "y": true}]': (422, "#/0/y: .*valid number"),
            '{"x": NaN}': (422, "finite"),
            '{"x": 1e999}': (422, "finite"),
        },
        words=['{"x": 1}'],
        printed='{"x": 1.0, "y": null}\n',
        shown=["x", "1.0", "y", "null"],
    ),
    "Base64Bytes": Function(
        START
        + """
def predict(file: Annotated[Base64Bytes, Field(description="any file")]) -> Base64Bytes:
    return bytes(reversed(file))
""",
        good={'"AP8="': "/wA=", '""': "", '"AP\\n8="': "/wA="},
        bad={
            '"####"': (422, "Input should be base64. Send one file in base64"),
            '"AP8"': (422, "base64"),
            '"_w=="': (422, "base64"),
            "5": (422, "valid bytes"),
        },
        words=["two.bin"],
        printed="/wA=\n",
        shown="/wA=",
        entered={"file": "two.bin"},
    ),
    "a large integer": Function(
        START
        + """
def predict(number: Annotated[int, Field(examples=[2**53 + 1], ge=-10**30, le=10**30)]) -> dict[str, int]:
    return {"next": number + 1}
""",
        good={"9007199254740993": {"next": 9007199254740994}, "-1": {"next": 0}},
        bad={
            "1.0": (422, "valid integer"),
            "true": (422, "valid integer"),
            "1e3": (422, "valid integer"),
            "1" * 32: (422, r"equal to 1e\+30"),
        },
        words=["9007199254740993"],
        printed='{"next": 9007199254740994}\n',
        shown=["next", "9007199254740994"],
    ),
    "a date": Function(
        START
        + """
def predict(day: date) -> date:
    return day.replace(year=2000)
""",
        good={'"2024-01-31"': "2000-01-31"},
        bad={
            "2024-01-31": (400, r'Send one date in double quotes, as in "2024-01-31"\.'),
            '"31.1.2024"': (422, "valid date"),
        },
        words=["2024-01-31"],
        printed="2000-01-31\n",
        shown="2000-01-31",
        entered={"day": "2024-01-31"},
    ),
    "anything": Function(
        START
        + """
def predict(anything: Any) -> Any:
    return anything
""",
        good={"null": None, '{"a": [1, "b", null, true]}': {"a": [1, "b", None, True]}},
        bad={"NaN": (422, "finite"), '{"a": [-1e999]}': (422, "finite"), "[Infinity]": (422, "finite")},
        words=['{"a": 1}'],
        printed='{"a": 1}\n',
        shown=["a<b>", 'x, ["y",null,1.50]', "c", "{}"],
        entered={"anything": '{"a<b>": "x, [\\"y\\",null,1.50]", "c": {}}'},
    ),
}


@contextlib.contextmanager
def app_of(folder: Path, code: str) -> Iterator[Any]:
    """Import app.py anew beside another predict.py, and return the Flask app."""
    copy_of("passing_arguments", folder)
    (folder / "predict.py").write_text(code)
    with contextlib.chdir(folder), modules_of(folder):
        yield importlib.import_module("app").app


@pytest.fixture(scope="module")
def notebook(tmp_path_factory) -> Path:
    """The folder in which the README's notebook has left its model."""
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "notebook.py").write_text(NOTEBOOK)
    subprocess.run([sys.executable, "notebook.py"], cwd=folder, check=True)
    return folder


@pytest.fixture
def serve(tmp_path, notebook) -> Iterator[Callable[[str], str]]:
    """serve(code) serves a function in this process, and returns its address."""
    with contextlib.ExitStack() as stack:

        def start(code: str) -> str:
            (tmp_path / "sentiment.joblib").write_bytes((notebook / "sentiment.joblib").read_bytes())
            app = stack.enter_context(app_of(tmp_path, code))
            server = make_server("127.0.0.1", 0, app, threaded=True)
            threading.Thread(target=server.serve_forever).start()
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.port}"

        yield start


@pytest.fixture(params=FUNCTIONS)
def function(request) -> Function:
    return FUNCTIONS[request.param]


@pytest.fixture
def upload(tmp_path) -> Path:
    """A file of two bytes."""
    file = tmp_path / "two.bin"
    file.write_bytes(b"\0\xff")
    return file


def post(url: str, body: str, **options: Any) -> requests.Response:
    return requests.post(f"{url}/predict", data=body.encode(), timeout=60, **options)


def said(problem: dict) -> str:
    """Return all that an error says in one line."""
    return " ".join(
        [problem["detail"], *(f"{each['pointer']}: {each['detail']}" for each in problem.get("errors", []))]
    )


def test_answers(serve, function):
    url = serve(function.code)
    openapi = document(url)
    OpenAPIV31SpecValidator(openapi).validate()
    for body, expected in function.good.items():
        for content_type in ("application/json", "application/x-www-form-urlencoded"):
            answer = post(url, body, headers={"Content-Type": content_type})
            assert (answer.status_code, answer.json()) == (200, expected), body
            assert answer.text.endswith("\n")
            assert_as_documented(answer, openapi)
    for body, (status, says) in function.bad.items():
        answer = post(url, body)
        assert re.search(says, said(assert_problem(answer, status))), (body, answer.text)
        assert_as_documented(answer, openapi)
    for body in ("", "[", "five", "NaN", "[" * 400, '"\\ud800"'):
        assert_problem(answer := post(url, body), answer.status_code)
        assert answer.status_code in (400, 422)


def test_schemathesis_finds_nothing(serve, function, tmp_path):
    hooks = {"SCHEMATHESIS_HOOKS": str(HERE / "schemathesis_functions.py")}
    report = fuzz(serve(function.code), tmp_path, 30, **hooks)
    assert report["operations"]["tested"] == 3
    assert report["valid_rates"]["POST /predict"]["fuzzing"]["accepted"] > 1


def test_client(serve, function, upload):
    url = serve(function.code) + "/predict"
    printed = run_client("passing_arguments", *function.words, "--url", url, folder=upload.parent)
    assert printed == (0, function.printed, "")


def test_client_as_a_library(serve):
    """Parameters by name, or in a dictionary. (One value: test_client.py)"""
    url = serve(FUNCTIONS["series and forecast"].code) + "/predict"
    code = "import sys; from client import predict; url = sys.argv[1]; "
    both = "predict(values=[1, 2, 3], steps=1, url=url), predict({'values': [1, 2, 3], 'steps': 1}, url)"
    assert as_library("passing_arguments", f"{code} print({both}, predict(values=[1, 2], url=url))", url) == (
        "[4.0] [4.0] [3.0, 4.0, 5.0]\n"
    )


def test_client_sends_bytes_in_base64(serve):
    url = serve(FUNCTIONS["Base64Bytes"].code) + "/predict"
    code = "import sys; from client import predict; print(predict(bytes([0, 255]), sys.argv[1]))"
    assert as_library("passing_arguments", code, url) == "/wA=\n"


def test_client_with_too_many_values(serve):
    url = serve(FUNCTIONS["series and forecast"].code) + "/predict"
    said = "Too many values: the service takes values, steps.\n"
    assert run_client("passing_arguments", "[1, 2]", "1", "2", "--url", url) == (1, "", said)


def fill(page: Page, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        field = page.get_by_label(name)
        if isinstance(value, Path):
            field.set_input_files(value)
        elif field.evaluate("(field) => field.tagName") == "SELECT":
            field.select_option(label=value)
        else:
            field.fill(value)
    page.get_by_role("button", name="Predict").click()


@pytest.mark.browser
@pytest.mark.npm
def test_page(serve, visit, function, upload):
    page = visit(serve(function.code))
    fill(page, {name: upload if value == "two.bin" else value for name, value in (function.entered or {}).items()})
    if isinstance(function.shown, list):
        cells = page.locator("#answer th, #answer td")
        eventually("it is answered", lambda: cells.all_text_contents() == function.shown, 10)
    else:
        expect(page.locator("#answer")).to_have_text(function.shown)


@pytest.mark.browser
@pytest.mark.npm
def test_page_says_what_is_wrong(serve, visit):
    page = visit(serve(FUNCTIONS["series and forecast"].code), refusals=1)
    fill(page, {"values": "[1, two]", "steps": "1.5"})
    expect(page.locator("#answer.wrong")).to_contain_text("values: Input should be a valid array")
    expect(page.locator("#answer.wrong")).to_contain_text("steps: Input should be a valid integer")


@pytest.mark.browser
@pytest.mark.npm
def test_the_command_of_a_page_runs(serve, visit, tmp_path, upload):
    """With quotes and line ends in a text, and with a file that is too long for a command."""
    code = "def predict(text: str, scan: Base64Bytes) -> dict[str, Any]:\n    return {'a': text, 'size': len(scan)}\n"
    page = visit(serve(f"{START}MAX_BYTES = 10**6\n{code}"))
    for size in (2, 3000):
        upload.write_bytes(bytes(size))
        fill(page, {"text": "it's \\ \"5\"\nand 'more'", "scan": upload})
        eventually("it is answered", lambda size=size: page.locator("td").all_text_contents()[1:] == [str(size)], 10)
        if size > 2000:
            (tmp_path / "body.json").write_bytes(downloaded(page, "#link a"))
        answer = run_command(page.locator("#curl").inner_text(), tmp_path)
        assert answer == {"a": "it's \\ \"5\"\nand 'more'", "size": size}


# --- a function that fails


FAILS = (
    START
    + """
from sklearn.linear_model import LinearRegression

model = LinearRegression().fit([[0, 1, 2], [1, 1, 1]], [0, 1])

def check(how):
    if how == "own":
        raise ValueError("Write how.")

def predict(how: str) -> float:
    check(how)
    if how == "own without a text":
        raise ValueError
    if how == "scikit-learn":
        return model.predict([[1, 2]])[0]
    if how == "exit":
        raise SystemExit(3)
    return {"one": 1.0}[how]
"""
)


def test_a_function_that_raises(serve, caplog):
    """Only a ValueError of its own tells the client what is wrong."""
    url = serve(FAILS)
    assert post(url, '"one"').json() == 1.0
    assert assert_problem(post(url, '"own"'), 422)["detail"] == "Write how."
    assert_problem(post(url, '"own without a text"'), 422)
    for body, reason in {'"scikit-learn"': "X has 2 features, but", '"two"': "KeyError: 'two'"}.items():
        answer = post(url, body)
        assert_problem(answer, 500)
        assert "features" not in answer.text
        assert "two" not in answer.text
        assert_as_documented(answer, document(url))
        assert reason in caplog.text
        assert "Traceback" in caplog.text
    assert post(url, '"one"').json() == 1.0


ANSWERS = {  # what predict() returns, the type that it says, and the answer; or what the log says instead
    "np.float64(0.5)": ("float", 0.5),
    "np.float32(0.5)": ("float", 0.5),
    "np.int64(2**53 + 1)": ("int", 2**53 + 1),
    "np.bool_(True)": ("bool", True),
    "np.str_('a')": ("Literal['a', 'b']", "a"),
    "{np.str_('a'): np.float64(1)}": ("dict[str, float]", {"a": 1.0}),
    "[np.int64(1)]": ("list[int]", [1]),
    "(1, 2)": ("list[int]", [1, 2]),
    "None": ("float | None", None),
    "2": ("float", 2),
    "np.array([1.0])": ("list[float]", "ndarray, not with list.float.: JSON has no ndarray .*.tolist"),
    "np.ones(1)": ("float", "ndarray, not with float"),
    "[[1.0], np.ones(1)]": ("list[list[float]]", "ndarray"),
    "float('nan')": ("float", "NaN or Infinity"),
    "np.float64('inf')": ("float", "NaN or Infinity"),
    "{'a': [float('nan')]}": ("Any", "NaN or Infinity"),
    "[1, float('nan')] ": ("list[float | None]", "NaN or Infinity"),
    "None ": ("float", "not with float: it should be a valid number"),
    "True": ("int", "not with int: it should be a valid integer"),
    "2.5": ("int", "not with int: it should be a valid integer"),
    "'c'": ("Literal['a', 'b']", "it should be 'a' or 'b'"),
    "[1, 'a']": ("list[int]", "1 should be a valid integer"),
    "{'a': 1}": ("Point", "b should|b: |Field required|missing"),
    "Point('x', 1)": ("Point", "a should be a valid number"),
    "Point(1, float('nan'))": ("Point", "NaN or Infinity"),
    "object()": ("Any", "JSON has no object"),
    "'\\ud800'": ("str", "surrogates"),
    "10**5000": ("int", "out of range"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_a_function_returns(serve, caplog, answer):
    """It is of the type that the signature says, or it is a 500 and a sentence in the log. Never NaN."""
    kind, expected = ANSWERS[answer]
    point = "@dataclass\nclass Point:\n    a: float\n    b: float\n\n"
    url = serve(f"{START}import numpy as np\n{point}def predict(n: int) -> {kind}:\n    return {answer.strip()}\n")
    got = post(url, "1")
    if not isinstance(expected, str) or expected == "a":
        assert (got.status_code, got.json()) == (200, expected)
        assert_as_documented(got, document(url))
    else:
        assert_problem(got, 500)
        assert re.search(rf"TypeError: predict\(\) answered with [^\n]*({expected})", caplog.text)
        assert post(url, '"1"').status_code == 422


FIVE = "x: Annotated[int, Field(examples=[5])]"
STARTS = {  # the parameters and the rest of a function, and the sentence with which the start ends
    "(x: np.ndarray) -> float: ...": "JSON cannot express `x: numpy.ndarray`",
    "(x: int) -> pd.DataFrame: ...": "JSON cannot express `-> pandas.*DataFrame`",
    "(x: list[Callable]) -> int: ...": "JSON cannot express `x: list",
    "(x) -> int: ...": "write the parameter `x` as `x: type`",
    "(*x: int) -> int: ...": r"write the parameter `\*x: int` as",
    "(x: int, /) -> int: ...": "write the parameter `x: int` as",
    "(x: int = Field(3)) -> int: ...": r"`x: Annotated\[type, Field\(...\)\]`",
    "(x: int): ...": "write the type of the answer",
    "() -> int: ...": "has no parameter",
    "_it() -> int: ...": "has no function predict",
    f"({FIVE}) -> int:\n    raise ValueError('no')": "its example 5 fails in line 11: ValueError: no$",
    f"({FIVE}) -> int:\n    return {{}}['a']": "fails in line 11: KeyError: 'a'$",
    f"({FIVE}) -> int:\n    return 'a'": r"fails: TypeError: predict\(\) answered with str, not with int: it should be",
    "(x: Annotated[int, Field(examples=['five'])]) -> int: ...": "fails: Input should be a valid integer$",
    f"({FIVE}, y: Annotated[str, Field(examples=[6])]) -> int: ...": "fails: #/y: .*valid string$",
}


@pytest.mark.parametrize("rest", STARTS)
def test_the_start_ends_with_a_sentence(tmp_path, rest):
    code = (
        f"{START}import numpy as np\nimport pandas as pd\nfrom collections.abc import Callable\n\ndef predict{rest}\n"
    )
    sentence = rf"^predict\.py: [^\n]*{STARTS[rest]}"
    with pytest.raises(SystemExit, match=sentence) as end, app_of(tmp_path, code):
        pass
    assert "\n" not in str(end.value)


# --- the server itself


COUNTS = """
import os
from concurrent.futures import ThreadPoolExecutor
from pydantic import Field
from typing import Annotated

def note(what):
    with open("notes", "a") as file:
        print(what, os.getpid(), file=file)

note("loaded")
pool = ThreadPoolExecutor(1)
pool.submit(int).result()  # now it has a thread

def predict(x: Annotated[int, Field(examples=[7])]) -> int:
    note(f"predict({x})")
    if x == 8 and not os.fork():
        os._exit(0)
    return pool.submit(int, x).result()
"""


@contextlib.contextmanager
def service(folder: Path, code: str, **environment: Any) -> Iterator[tuple[str, int]]:
    """Run the real server with another predict.py: (address, process id)."""
    copy_of("passing_arguments", folder)
    (folder / "predict.py").write_text(code)
    with process("passing_arguments", folder, **environment) as (url, server):
        yield url, server.pid


@pytest.mark.parametrize("method", ["fork", "spawn"])  # the second is that of macOS, and of Granian in Python 3.14
def test_each_worker_loads_it_once(tmp_path, method):
    """And answers its example once. A thread that was started above the function would be missing after a fork."""
    site = f"import multiprocessing\nmultiprocessing.set_start_method('{method}')\n"
    (tmp_path / "sitecustomize.py").write_text(site)
    with service(tmp_path, COUNTS, PYTHONPATH=str(tmp_path)) as (url, _):
        for x in range(20):
            assert post(url, str(x)).json() == x
        notes = tmp_path / "notes"
        eventually("both have answered their example", lambda: notes.read_text().count("predict(7)") == 3)
        assert requests.get(f"{url}/healthz", timeout=10).ok
    lines = [line.split() for line in notes.read_text().splitlines()]
    loaded = [pid for what, pid in lines if what == "loaded"]
    sevens = [pid for what, pid in lines if what == "predict(7)"]
    assert len(loaded) == len(set(loaded)) == 2
    assert set(sevens) == set(loaded)
    assert len(sevens) == 3  # each worker's example, and the request


def test_a_worker_survives_what_a_function_raises(tmp_path):
    code = re.sub(r"^from sklearn.*|^model =.*", "", FAILS, flags=re.MULTILINE)
    with service(tmp_path, code) as (url, pid):
        before = workers(pid)
        for _ in range(10):
            assert post(url, '"own"').status_code == 422
            assert post(url, '"two"').status_code == 500
            assert post(url, '"exit"').status_code == 500
            assert post(url, '"one"').json() == 1.0
        assert workers(pid) == before


NO_START = {
    "import nowhere": "ModuleNotFoundError: No module named 'nowhere'",  # with its traceback
    "def predict(x): ...": r"^predict\.py: write the parameter `x` as `x: type`",
    # Granian gives up if a worker ends twice within 5.5 seconds
    "import time\ntime.sleep(6)\ndef predict(x: int): ...": r"^predict\.py: write the type of the answer",
}


@pytest.mark.parametrize("code", NO_START)
def test_the_server_ends(tmp_path, code):
    copy_of("passing_arguments", tmp_path)
    (tmp_path / "predict.py").write_text(code)
    server = subprocess.run(
        [python("passing_arguments"), "app.py"],
        cwd=tmp_path,
        env=os.environ | SETTINGS | {"GRANIAN_PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert server.returncode == 1
    assert re.search(NO_START[code], server.stderr, re.MULTILINE)
    assert ("Traceback" in server.stderr) == ("nowhere" in code)


def test_the_limit_of_the_body(serve):
    """4,096 bytes if predict.py says nothing."""
    url = serve("def predict(text: str) -> int:\n    return len(text)\n")
    assert post(url, '"' + "a" * 4093 + '"').json() == 4093
    answer = post(url, '"' + "a" * 4094 + '"')
    assert "smaller than 4096 bytes" in assert_problem(answer, 413)["detail"]
    assert "4096 bytes" in document(url)["paths"]["/predict"]["post"]["responses"]["413"]["description"]
