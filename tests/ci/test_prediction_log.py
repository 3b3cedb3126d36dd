"""Which model answered, and what: the header Model-Version, and the lines that PREDICTION_LOG prints."""

import contextlib
import hashlib
import io
import json
import math
import os
import pytest
import re
import requests
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from examples import ROOT, request_of
from flask.testing import FlaskClient
from helpers import eventually, process
from importlib import import_module
from pathlib import Path
from PIL import Image
from run import SETTINGS
from support.inprocess import modules_of, service
from support.model_files import MODEL, with_card
from test_attack import workers
from typing import Any
from urllib.parse import urlsplit

FILES = {"simple_ml": ROOT / "simple_ml" / "model.onnx", "image_classification": MODEL}
ROW = {"f1": 4, "f2": 5, "f3": 10}
SEVEN = (ROOT / "image_classification" / "samples" / "seven.png").read_bytes()
LONGEST = 4096

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def printed(capfdbinary) -> Lines:
    """Return the lines that were printed since the last call, of which each must be JSON of at most LONGEST bytes."""

    def lines() -> list[dict[str, Any]]:
        text = capfdbinary.readouterr().out
        assert text[-1:] in (b"", b"\n")
        assert all(len(line) < LONGEST for line in text.split(b"\n"))
        return [strictly(line) for line in text.split(b"\n")[:-1]]

    return lines


def strictly(line: bytes) -> dict[str, Any]:
    """Return a line of JSON, which has no NaN and no Infinity."""
    return json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


@contextlib.contextmanager
def logging(monkeypatch: pytest.MonkeyPatch, example: str, setting: str = "1") -> Iterator[FlaskClient]:
    monkeypatch.setenv("PREDICTION_LOG", setting)
    with service(ROOT / example) as client:
        yield client


def version_of(example: str) -> str:
    return hashlib.sha256(FILES[example].read_bytes()).hexdigest()[:12]


@pytest.mark.parametrize("example", FILES)
def test_every_answer_has_the_version_of_the_model(example, printed):
    """Also an error; and nothing is printed, because that is off."""
    method, path, body = request_of(example)[:3]
    with service(ROOT / example) as client:
        answers = [client.open(path, method=method, data=body), client.post("/predict", data=b"[")]
        answers += [client.post("/predict", data=bytes(33_554_432)), client.delete("/healthz")]
        answers += [client.get(page) for page in ("/", "/healthz", "/openapi.json", "/docs/", "/nowhere")]
        document, health = client.get("/openapi.json").json, client.get("/healthz").json
    assert {answer.status_code for answer in answers} >= {200, 404, 405, 413}
    assert {answer.headers["Model-Version"] for answer in answers} == {version_of(example)} == {health["version"]}
    for path in ("/predict", "/healthz"):
        (operation,) = document["paths"][path].values()
        assert all("Model-Version" in answer["headers"] for answer in operation["responses"].values())
    assert document["components"]["headers"]["Model-Version"]["schema"]["type"] == "string"
    assert printed() == []


@pytest.mark.parametrize("example", FILES)
def test_another_file_has_another_version(example, tmp_path):
    with service(with_card(FILES[example], lambda card: card.update(title="Another"), tmp_path)) as client:
        version = client.get("/healthz").headers["Model-Version"]
    assert re.fullmatch("[0-9a-f]{12}", version)
    assert version != version_of(example)


@pytest.mark.parametrize("example", FILES)
@pytest.mark.parametrize("setting", ["", "0"])
def test_off(example, setting, monkeypatch, printed):
    with logging(monkeypatch, example, setting) as client:
        assert client.open(request_of(example)[1], method="POST", data=request_of(example)[2]).status_code == 200
    assert printed() == []


@pytest.mark.parametrize("example", FILES)
@pytest.mark.parametrize("setting", ["yes", "answer", "ANSWERS", " 1", "2"])
def test_another_setting_is_refused(example, setting, monkeypatch):
    with pytest.raises(SystemExit) as end, logging(monkeypatch, example, setting):
        pass
    todo = "set it to 1, to answers (without the input), or to 0 (off)"
    assert str(end.value) == f"PREDICTION_LOG={setting} cannot be used: {todo}."


def never() -> Iterator[dict[str, Any]]:
    yield pytest.fail("nothing asks for it")


@pytest.mark.parametrize("example", FILES)
@pytest.mark.parametrize("setting", ["0", "answers"])
def test_what_is_not_logged_is_not_made(example, setting, monkeypatch, printed):
    with logging(monkeypatch, example, setting) as client, client.application.test_request_context():
        client.application.preprocess_request()
        answers = iter([{"prediction": 1}]) if setting == "answers" else never()
        assert import_module("app").log(never(), answers, 1) is None
    assert printed() == []  # log() itself writes nothing: what it has made is written after the answer


def test_a_row(monkeypatch, printed):
    """What the model does not use is not logged: it may be a name. Nor is anything else of the request."""
    with logging(monkeypatch, "simple_ml") as client:
        row = ROW | {"patient": "Ada Lovelace"}
        answer = client.post("/predict?who=Ada", json=row, headers={"X-API-Key": "Ada", "User-Agent": "Ada"})
    (line,) = printed()
    assert list(line) == ["time", "version", "ms", "row", "rows", "input", "answer"]
    assert (line["input"], line["answer"]) == (ROW, answer.json)
    assert (line["version"], line["row"], line["rows"]) == (version_of("simple_ml"), 1, 1)
    assert 0 < line["ms"] < 60_000
    assert abs(datetime.now(UTC) - datetime.fromisoformat(line["time"])) < timedelta(minutes=1)


def test_answers_alone(monkeypatch, printed):
    with logging(monkeypatch, "simple_ml", "answers") as client:
        client.post("/predict", json=ROW)
    with logging(monkeypatch, "image_classification", "answers") as client:
        client.post("/predict", data=SEVEN)
    row, picture = printed()
    assert list(row) == ["time", "version", "ms", "row", "rows", "answer"]
    assert list(picture) == ["time", "version", "ms", "file", "files", "answer"]


@pytest.mark.parametrize("how", ["json", "csv", "csv with text", "json for csv", "excel"])
def test_a_list_of_rows(how, monkeypatch, printed):
    rows = [ROW, ROW | {"f3": 1.25}, ROW | {"f1": -3}]
    table = "f1,f2,f3\n" + "".join(",".join(map(str, row.values())) + "\n" for row in rows)
    if how == "csv with text":  # then it is not read as a plain table of numbers
        table = table.replace("f3\n", "f3,note\n").replace("10\n", "10,Ada\n").replace("25\n", "25,Ada\n")
    accept = {"json for csv": {"Accept": "application/json"}}.get(how, {})
    path = "/predict?for=excel" if how == "excel" else "/predict"
    with logging(monkeypatch, "simple_ml") as client:
        answers = client.post("/predict", json=rows).json
        before = printed()
        answer = client.post(path, data=table, headers={"Content-Type": "text/csv"} | accept) if how != "json" else None
    assert answer is None or answer.status_code == 200
    lines = before if how == "json" else printed()
    assert [line["input"] for line in lines] == rows
    assert [line["answer"] for line in lines] == answers
    assert [(line["row"], line["rows"]) for line in lines] == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("csv", [False, True])
def test_of_many_rows_the_first_hundred(csv, monkeypatch, printed):
    rows = [ROW | {"f1": number} for number in range(2500)]
    table = "f1,f2,f3\n" + "".join(f"{number},5,10\n" for number in range(2500))
    with logging(monkeypatch, "simple_ml") as client:
        kind = {"data": table, "content_type": "text/csv"} if csv else {"json": rows}
        assert client.post("/predict", **kind).status_code == 200
    lines = printed()
    assert [line["input"]["f1"] for line in lines] == [line["row"] - 1 for line in lines] == [*range(100)]
    assert {line["rows"] for line in lines} == {2500}


def test_what_is_refused_is_not_logged(monkeypatch, printed):
    """It is no answer of the model. Of several pictures, one that is refused is enough: no answer is sent."""
    with logging(monkeypatch, "simple_ml") as client:
        for body in ("[", "{}", json.dumps([ROW, ROW | {"f1": "four"}])):
            assert client.post("/predict", data=body).status_code in (400, 422)
    with logging(monkeypatch, "image_classification") as client:
        white = io.BytesIO()
        Image.new("L", (90, 90), 255).save(white, "PNG")
        assert client.post("/predict?input=1", data=white.getvalue()).status_code == 422
        files = [(io.BytesIO(SEVEN), "seven.png"), (io.BytesIO(b"Ada"), "ada.png")]
        assert client.post("/predict", data={"file": files}).status_code == 415
    assert printed() == []


@pytest.mark.parametrize("name", ["seven.png", "three_photo.jpg", "three_photo.heic"])
def test_a_picture(name, monkeypatch, printed):
    """Its size and its checksum: never the picture, also not as the network saw it, and not its name."""
    content = (ROOT / "image_classification" / "samples" / name).read_bytes()
    with logging(monkeypatch, "image_classification") as client:
        answer = client.post("/predict?input=1", data={"file": [(io.BytesIO(content), "ada.png")]}).json
        raw = client.post("/predict", data=content).json
    seen, line = printed()
    assert list(seen) == ["time", "version", "ms", "file", "files", "input", "answer"]
    assert seen["input"] == line["input"]
    assert line["input"] == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert seen["answer"] == line["answer"] == raw == {key: answer[key] for key in answer if key != "input"}
    assert line["version"] == version_of("image_classification")


def test_several_pictures(monkeypatch, printed):
    with logging(monkeypatch, "image_classification") as client:
        files = [(io.BytesIO(SEVEN), f"{number}.png") for number in range(101)]
        answers = client.post("/predict", data={"file": files}).json
    lines = printed()
    assert [line["answer"] for line in lines] == answers[:100]
    assert [(line["file"], line["files"]) for line in lines] == [(number, 101) for number in range(1, 101)]


TEXT = 'Zürich \u2028\x00"\\ 日本 ' * 10
SAID = {
    "a long text": {"input": {"a": 1.5, "text": TEXT * 100, "z": None}, "answer": {"prediction": 1}},
    "many columns": {"input": {f"column {number}": number / 7 for number in range(3000)}, "answer": {"prediction": 1}},
    "long names": {"input": {TEXT * 9 + str(number): TEXT * 9 for number in range(50)}, "answer": {"prediction": 1}},
    "many classes": {"input": {"a": 1}, "answer": {"prediction": TEXT * 9, "probabilities": {TEXT * 9: 0.1, "b": 0.9}}},
    "many targets": {"input": {"a": 1}, "answer": {"prediction": [number / 7 for number in range(5000)]}},
    "all": {
        "input": {f"c{number}": "x" * 90 for number in range(60)},
        "answer": {"prediction": "y" * 9000},
    },
}


@pytest.mark.parametrize("example", FILES)
@pytest.mark.parametrize("case", SAID)
def test_what_is_too_long_is_cut_and_marked(example, case):
    with modules_of(ROOT / example):
        log = import_module("web.prediction_log")
    said = SAID[case]
    about = {"time": "2024-01-31T09:30:00.000+00:00", "version": "0123456789ab", "ms": 0.123, "row": 1, "rows": 1}
    text = log.line(about, said)
    assert LONGEST / 5 < len(text) <= LONGEST
    line = strictly(text)
    assert line.pop("cut") is True
    assert list(line) == [*about, *said]
    assert about.items() <= line.items()
    assert line["answer"] == said["answer"] or case in ("many classes", "many targets", "all")
    if case == "a long text":
        assert (line["input"]["a"], line["input"]["z"]) == (1.5, None)
        assert said["input"]["text"].startswith(line["input"]["text"].removesuffix("…"))
        assert len(line["input"]["text"]) > 400
    most = LONGEST - len(log.line(about, {"answer": ""}))
    assert "cut" not in strictly(log.line(about, {"answer": "x" * most}))
    assert "cut" in strictly(log.line(about, {"answer": "x" * (most + 1)}))


@pytest.mark.parametrize("example", FILES)
def test_a_number_that_is_none(example):
    with modules_of(ROOT / example):
        log = import_module("web.prediction_log")
    line = strictly(
        log.line({"row": 1}, {"input": {"a": math.nan, "b": -math.inf}, "answer": {"prediction": math.inf}})
    )
    assert line == {"row": 1, "input": {"a": None, "b": None}, "answer": {"prediction": None}}


@pytest.mark.parametrize("example", FILES)
def test_a_full_disk_keeps_no_answer_back(example, monkeypatch):
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with logging(monkeypatch, example) as client:
        monkeypatch.setattr(os, "write", full)
        assert client.post("/predict", data=request_of(example)[2]).status_code == 200


@pytest.mark.parametrize("example", FILES)
def test_a_slow_log_keeps_no_other_request_waiting(example, monkeypatch):
    """When lines are written, the request has given back what it held of the worker."""
    held = []
    with logging(monkeypatch, example) as client:
        body = import_module("web.body")

        def slow(_: int, text: bytes) -> int:
            long_body = getattr(body, "one_long_body", body.lock)  # image_classification has no such lock
            held.append((long_body.locked(), body.free))
            return len(text)

        monkeypatch.setattr(os, "write", slow)
        data = json.dumps([ROW] * 400) if example == "simple_ml" else SEVEN
        assert client.post("/predict", data=data).status_code == 200
        assert set(held) == {(False, body.MAX_BYTES_AT_ONCE)}


def test_two_workers_share_a_pipe(tmp_path):
    """Each of their lines is whole, however long it is, and however slowly somebody reads. No worker ends for that."""
    names = {"f1": "a" * 1500, "f2": "b" * 1500, "f3": "c" * 1500}

    def longer(card: dict) -> None:
        for column in card["columns"]:
            column["name"] = names[column["name"]]

    folder = with_card(FILES["simple_ml"], longer, tmp_path / "simple_ml")
    row = {names[name]: value for name, value in ROW.items()}
    os.mkfifo(tmp_path / "log")
    text = bytearray()

    def read() -> None:
        with (tmp_path / "log").open("rb", buffering=0) as pipe:
            for number, piece in enumerate(iter(lambda: pipe.read(5000), b"")):
                text.extend(piece)
                # so that it is full, and workers wait for it in turn; and once for longer than PREDICT_TIMEOUT
                time.sleep(5 if number == 100 else 0.0005)

    reader = threading.Thread(target=read)
    reader.start()
    with process("simple_ml", folder, log=tmp_path / "log", PREDICTION_LOG="1", PREDICT_TIMEOUT="3") as (url, server):
        assert SETTINGS["GRANIAN_WORKERS"] == "2"
        children = sorted(workers(server.pid))
        listens = f":{urlsplit(url).port:04X} 00000000:0000 0A "  # as proc_pid_net(5) says
        eventually("both listen on a socket", lambda: Path("/proc/net/tcp").read_text().count(listens) == 2)
        before = [cpu(child) for child in children]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: requests.post(f"{url}/predict", json=[row] * 40, timeout=60), range(60)))
        assert all(answer.ok for answer in answers)
        assert sum(cpu(child) > was for child, was in zip(children, before, strict=True)) >= 2  # both have worked
    reader.join(60)
    lines = [strictly(line) for line in text.split(b"\n") if line.startswith(b"{")]
    assert len(lines) == 60 * 40
    assert all(len(line) < LONGEST for line in text.split(b"\n"))
    assert {line["row"] for line in lines} == {*range(1, 41)}
    assert all(line["cut"] is True and line["answer"]["prediction"] == "virginica" for line in lines)


def cpu(pid: int) -> int:
    """Return how many ticks of processor time a process has taken."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def test_a_week_of_inputs_is_compared_with_the_training(monkeypatch, capfdbinary, tmp_path):
    """The lines of docs/prediction_log.md, on a log of two models."""
    page = (ROOT / "docs" / "prediction_log.md").read_text()
    (code,) = re.findall(r"^```python\n(.+?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(code.splitlines()) <= 12
    with logging(monkeypatch, "simple_ml") as client:
        for f1, f2 in [(4.3, 3), (7.9, 3), (8, 4), (-2.5, 3)]:
            client.post("/predict", json={"f1": f1, "f2": f2, "f3": 3})
        log = capfdbinary.readouterr().out
    others = [line.replace(version_of("simple_ml").encode(), b"01234567890e") for line in log.splitlines(keepends=True)]
    (tmp_path / "predictions.jsonl").write_bytes(log + b"".join(others).replace(b'"f3":3.0', b'"f3":99'))
    monkeypatch.chdir(tmp_path)
    with modules_of(ROOT / "simple_ml"):
        exec(code, {})
    assert capfdbinary.readouterr().out.decode().splitlines() == [
        "f1: -2.5 to 8.0, in training 4.3 to 7.9. Outside 50.0%, missing 0.0%",
        "f2: 3.0 to 4.0, in training 2.0 to 4.4. Outside 0.0%, missing 0.0%",
        "f3: 3.0 to 3.0, in training 1.0 to 6.9. Outside 0.0%, missing 0.0%",
    ]
