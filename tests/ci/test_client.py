"""Every client.py, as a command and as a library, against the real servers."""

import contextlib
import importlib.util
import io
import os
import pytest
import re
import socket
import subprocess
import sys
import time
from examples import ROOT, docker, free_port
from helpers import process
from pathlib import Path
from unittest import mock

CLIENTS = {"passing_arguments": ["5"], "simple_ml": ["4", "5", "10"], "image_classification": ["samples/seven.png"]}
PRINTED = {"passing_arguments": "25\n", "simple_ml": "virginica\n"}
SEVEN = r"samples/seven\.png: 7 \(\d\d\.\d %\)\n|samples/seven\.png: 7 \(100\.0 %\)\n"


def command(example: str, *arguments: str | Path) -> subprocess.Popen:
    """Start `python3 client.py` in an example's folder."""
    return subprocess.Popen(
        [sys.executable, "client.py", *arguments],
        cwd=ROOT / example,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )


def finish(client: subprocess.Popen) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr."""
    printed, said = client.communicate(timeout=60)
    assert "Traceback" not in said, said
    return client.returncode, printed, said


def run(example: str, *arguments: str | Path, folder: Path | None = None) -> tuple[int, str, str]:
    """Do what `python3 client.py` does, in this process, since it takes most of a second to start another one."""
    spec = importlib.util.spec_from_file_location("client", ROOT / example / "client.py")
    assert spec
    assert spec.loader
    client = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(client)
    printed, said = io.StringIO(), io.StringIO()
    code: int | str | None = 0
    with (
        contextlib.chdir(folder or ROOT / example),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(said),
        mock.patch.object(sys, "argv", ["client.py", *map(str, arguments)]),
    ):
        try:
            client.main()
        except SystemExit as end:
            code = end.code
    if isinstance(code, str):
        return 1, printed.getvalue(), said.getvalue() + code + "\n"
    return int(code or 0), printed.getvalue(), said.getvalue()


def as_library(example: str, code: str, *arguments: str) -> str:
    """Run Python code in an example's folder, and return what it prints."""
    answer = subprocess.run(
        [sys.executable, "-B", "-c", code, *arguments], cwd=ROOT / example, capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def assert_good(example: str, result: tuple[int, str, str]) -> None:
    code, printed, said = result
    assert (code, said) == (0, "")
    assert re.fullmatch(SEVEN, printed) if example == "image_classification" else printed == PRINTED[example]


@pytest.fixture
def url(server, example) -> str:
    """The address of the example that is the test's parameter."""
    return server(example) + "/predict"


@pytest.fixture
def square_url(server) -> str:
    return server("passing_arguments") + "/predict"


@pytest.fixture
def table_url(server) -> str:
    return server("simple_ml") + "/predict"


@pytest.fixture
def picture_url(server) -> str:
    return server("image_classification") + "/predict"


@pytest.mark.parametrize("example", CLIENTS)
def test_good(example, url):
    assert_good(example, finish(command(example, *CLIENTS[example], "--url", url)))


@pytest.mark.parametrize("example", CLIENTS)
def test_a_proxy_is_not_asked_for_this_machine(example, url, monkeypatch):
    """A company's proxy, here a dead one, cannot reach a server on this machine."""
    monkeypatch.delenv("no_proxy")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for host in ("127.0.0.1", "localhost"):
        assert_good(example, run(example, *CLIENTS[example], "--url", url.replace("127.0.0.1", host)))


@pytest.mark.parametrize("example", CLIENTS)
def test_help(example):
    code, printed, _ = finish(command(example, "--help"))
    assert code == 0
    assert "--url" in printed
    assert "http://localhost:5000/predict" in printed


@pytest.mark.parametrize("example", CLIENTS)
def test_nothing_to_send(example):
    code, printed, said = run(example)
    assert (code, printed) == (2, "")
    assert said.startswith("usage: client.py")


# passing_arguments


@pytest.mark.parametrize(
    ("number", "square"),
    [
        ("-3", "9"),
        ("2.5", "6.25"),
        ("5.0", "25.0"),
        ("1e3", "1000000.0"),
        ("9" * 154, str((10**154 - 1) ** 2)),  # no float holds this one
    ],
)
def test_passing_arguments(number, square, square_url):
    assert run("passing_arguments", number, "--url", square_url) == (0, f"{square}\n", "")


@pytest.mark.parametrize(
    ("number", "says"),
    [
        ("five", "Input should be .* a valid number. Send one number, such as 5 or 2.5."),
        ("", "Input should be .* a valid number. Send one number, such as 5 or 2.5."),
        ("NaN", "Input should be .* a finite number. .*"),
        ("[5]", "Input should be .* a valid number. .*"),
        ("1e999", "Input should be .* a finite number. .*"),
        ("fünf", "Input should be .* a valid number. .*"),
        ("\udcff", "The body is not JSON.*"),  # as Python reads a byte that is not UTF-8
    ],
)
def test_passing_arguments_bad(number, says, square_url):
    code, printed, said = run("passing_arguments", number, "--url", square_url)
    assert (code, printed) == (1, "")
    assert re.fullmatch(says + "\n", said)


def test_passing_arguments_as_a_library(square_url):
    code = "import sys; from client import predict; print(predict(5, sys.argv[1]) + predict(0.5, url=sys.argv[1]))"
    assert as_library("passing_arguments", code, square_url) == "25.25\n"
    code = "import sys; from client import predict; print(predict(number=5, url=sys.argv[1]))"
    assert as_library("passing_arguments", code, square_url) == "25\n"
    code = "import sys; from client import predict; print(predict(10**153 + 1, sys.argv[1]) == (10**153 + 1) ** 2)"
    assert as_library("passing_arguments", code, square_url) == "True\n"


# simple_ml


@pytest.mark.parametrize(
    ("arguments", "species"),
    [
        (["5.1", "3.5", "1.4"], "setosa"),
        (["f3=6", "f1=6.3", "f2=3.3"], "virginica"),
        (["6.3", "3.3", "f3=6"], "virginica"),
        (["5,1", "3.5", "1.4"], "setosa"),
        (["-5.1", "-.5e1", "-1e-3"], "versicolor"),
    ],
)
def test_simple_ml(arguments, species, table_url):
    assert run("simple_ml", *arguments, "--url", table_url) == (0, f"{species}\n", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["four", "5"], r"[^\n]*\. f1: [^\n]*number, not \"four\"; f3: [^\n]*missing\n"),
        (["4", "5", "10", "11"], r"[^\n]*\. f4: [^\n]*\n"),
        (["4", "5", "nan"], r"[^\n]*\. f3: [^\n]*number, not an empty cell\n"),
        (["f1=", "f2=true", "f3=10"], r"[^\n]*\. f1: [^\n]*an empty cell; f2: [^\n]*number, not \"true\"\n"),
        (["4", "5", "1,500"], r"[^\n]*\. f3: 1,500 may be 1500 or a decimal[^\n]*\n"),
    ],
)
def test_simple_ml_bad(arguments, says, table_url):
    code, printed, said = run("simple_ml", *arguments, "--url", table_url)
    assert (code, printed) == (1, "")
    assert re.fullmatch(says, said), said


@pytest.mark.parametrize(
    "content",
    [
        "f1,f2,f3\n5.1,3.5,1.4\n6.3,3.3,6\n",
        "f1, f2, f3\n5.1, 3.5, 1.4\n\n6.3, 3.3, 6",
        '\ufeff"f3","f1","f2"\r\n1.4,5.1,3.5\r\n6,6.3,3.3\r\n',  # as Excel writes it
        "\ufefff1;f2;f3\r\n5,1;3,5;1,4\r\n6,3;3,3;6\r\n",
    ],
)
def test_simple_ml_csv(content, table_url, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text(content, newline="")
    assert run("simple_ml", file, "--url", table_url) == (0, "setosa\nvirginica\n", "")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"f1,f2,f3\n5.1,3.5,1.4\n6.3,,6\n", r"[^\n]*\. 1/f2: [^\n]*\n"),
        (b"f1,f2,f3\n5.1,3.5,1.4\n6.3,6\n", r"Row 2 has 2 cells, and there are 3 names above.\n"),
        (b"f1,f2,f3\n5.1,3.5,1.4,9\n", r"Row 1 has 4 cells, and there are 3 names above.\n"),
        (b"f1,f2,f3\n", r"There is no row below the line with the names.\n"),
        (b"", r"The first line must name the columns: f1, f2, f3.\n"),
        (b"f1,f2,f3\n\xff,1,2\n", r"[^\n]*UTF-8[^\n]*\n"),
        (b'f1,f2,f3\n"' + b"1" * 200_000, r"[^\n]*field larger than[^\n]*\n"),
    ],
)
def test_simple_ml_bad_csv(content, says, table_url, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes(content)
    code, printed, said = run("simple_ml", file, "--url", table_url)
    assert (code, printed) == (1, "")
    assert re.fullmatch(says, said), said


def test_simple_ml_says_which_columns_are_not_used(table_url, tmp_path):
    """Such as the index that pandas writes, which has no name."""
    file = tmp_path / "rows.csv"
    file.write_text(",f1,f2,f3,species\n0,5.1,3.5,1.4,setosa\n")
    said = 'Not used by the model: "", species\n'
    assert run("simple_ml", file, "--url", table_url) == (0, "setosa\n", said)


def test_simple_ml_without_the_file(table_url):
    code, _, said = run("simple_ml", "nowhere.csv", "--url", table_url)
    assert code == 1
    assert "No such file" in said


def test_simple_ml_writes_a_file_for_excel(table_url, tmp_path):
    rows, file = tmp_path / "rows.csv", tmp_path / "answers.csv"
    rows.write_text("f1;f2;f3;note\n5,1;3,5;1,4;=1+1\n")
    assert run("simple_ml", rows, "--output", file, "--url", table_url)[:2] == (0, "setosa\n")
    header, answer = file.read_bytes().decode("utf-8-sig").splitlines()
    assert header.startswith("f1;f2;f3;note;prediction;probability setosa;")
    assert answer.startswith("5,1;3,5;1,4;'=1+1;setosa;0,98")


def test_simple_ml_as_a_library(table_url):
    code = """
import sys
from client import predict
flower = {"f1": 4, "f2": 5, "f3": 10}
print(predict(flower, sys.argv[1])["prediction"], [row["prediction"] for row in predict([flower] * 2, sys.argv[1])])
"""
    assert as_library("simple_ml", code, table_url) == "virginica ['virginica', 'virginica']\n"


# image_classification


def test_image_classification_many(picture_url):
    """All samples, and between them a file that is not a picture: it is named, and the others are read."""
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    files = [f"samples/{name}.png" for name in names]
    code, printed, said = run("image_classification", files[0], "app.py", *files[1:], "--url", picture_url)
    assert code == 1
    assert [line.split(" (")[0] for line in printed.splitlines()] == [f"{file}: {i}" for i, file in enumerate(files)]
    assert re.fullmatch(r"app\.py: This is not a picture\.[^\n]*\n", said)


def test_image_classification_without_the_file(picture_url):
    code, printed, said = run("image_classification", "samples/nowhere.png", "--url", picture_url)
    assert (code, printed) == (1, "")
    assert re.fullmatch(r"[^\n]*No such file[^\n]*samples/nowhere.png'\n", said)


def test_image_classification_too_large(picture_url, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(33 * 2**20))
    code, printed, said = run("image_classification", tmp_path / "large.png", "--url", picture_url)
    assert (code, printed) == (1, "")
    assert "must be smaller than" in said


def test_image_classification_as_a_library(picture_url):
    code = 'import sys; from client import predict; print(predict("samples/seven.png", sys.argv[1])["prediction"])'
    assert as_library("image_classification", code, picture_url) == "7\n"


# What all three have in common. The function that sends a request is the same text in all three (test_layout.py), so
# what it does when there is no answer is tested with one of them.


@pytest.mark.parametrize("example", CLIENTS)
def test_an_error_is_an_exception(example, url):
    """Its text is the sentence for people, and it holds the whole answer for programs."""
    wrong = {"passing_arguments": "'five'", "simple_ml": "{'f1': 4}", "image_classification": "'app.py'"}[example]
    code = f"""
import requests, sys
from client import predict
try:
    predict({wrong}, sys.argv[1])
except requests.HTTPError as error:
    print(error.response.status_code, error)
"""
    assert re.match(r"4\d\d [A-Z]\w+ ", as_library(example, code, url))


def test_no_server():
    """They try for ten seconds, all three at once here, and print one sentence."""
    url = f"http://localhost:{free_port()}/predict"
    before = time.monotonic()
    clients = [command(example, *arguments, "--url", url) for example, arguments in CLIENTS.items()]
    for client in clients:
        assert finish(client) == (1, "", f"{url.removesuffix('/predict')} does not answer. Is the service running?\n")
        assert 10 <= time.monotonic() - before < 30


def test_a_server_that_starts_late():
    """A connection is refused at first."""
    port = free_port()
    client = command("simple_ml", *CLIENTS["simple_ml"], "--url", f"http://localhost:{port}/predict")
    time.sleep(1)
    assert client.poll() is None
    with process("simple_ml", GRANIAN_PORT=str(port), GRANIAN_WORKERS="1"):
        assert_good("simple_ml", finish(client))


@pytest.mark.docker
def test_a_container_that_starts_late(image):
    """Docker accepts a connection before the app listens, and then resets it."""
    port = free_port()
    late = ["--entrypoint", "sh", image("simple_ml"), "-c", "sleep 1; exec python3 app.py"]
    name = docker("run", "--detach", "--publish", f"127.0.0.1:{port}:5000", *late)
    try:
        client = command("simple_ml", *CLIENTS["simple_ml"], "--url", f"http://127.0.0.1:{port}/predict")
        assert_good("simple_ml", finish(client))
    finally:
        docker("rm", "--force", name)


def test_a_service_that_hangs():
    """It accepts the connection and never answers: the client says so, and does not try again."""
    code = """
import client, requests, sys, time
client.ANSWER_SECONDS = 0.5
before = time.monotonic()
try:
    client.predict({}, sys.argv[1])
except requests.Timeout as error:
    print(error, time.monotonic() - before < 5)
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/predict"
        assert as_library("simple_ml", code, url) == f"{url} did not answer within 0.5 seconds. True\n"


@pytest.mark.parametrize(
    ("example", "url"),
    [
        ("passing_arguments", "nowhere"),
        ("simple_ml", "nowhere"),
        ("image_classification", "nowhere"),
        ("simple_ml", "ftp://localhost/predict"),
        ("simple_ml", "http://"),
        ("simple_ml", "http://localhost:99999/predict"),
    ],
)
def test_not_an_address(example, url):
    code, printed, said = run(example, *CLIENTS[example], "--url", url)
    assert (code, printed) == (1, "")
    assert said.count("\n") == 1


@pytest.mark.parametrize("example", CLIENTS)
def test_something_else_answers(example, tmp_path):
    """Such as a web server, or on macOS AirPlay, which has port 5000 there."""
    port = free_port()
    other = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(other, cwd=tmp_path, stderr=subprocess.DEVNULL) as server:
        try:
            url = f"http://127.0.0.1:{port}/predict"
            code, printed, said = run(example, *CLIENTS[example], "--url", url)
            assert (code, printed) == (1, "")
            assert re.search(rf"{url} answered 501 [^\n]*\. Is this the service's address\?\n$", said)
        finally:
            server.terminate()
