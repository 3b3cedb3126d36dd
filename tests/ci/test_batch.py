"""batch.py of simple_ml and image_classification: as a program, in a container, and picture by picture as the service.

test_csv.py compares how it reads rows with the service.
"""

import csv
import importlib
import io
import numpy as np
import os
import pytest
import shlex
import signal
import subprocess
import sys
import termios
import yaml
from examples import ROOT, SAFE, docker
from helpers import python
from pathlib import Path
from support.inprocess import service

PROGRAM = [python("simple_ml"), ROOT / "simple_ml" / "batch.py"]
HEADER = "f1,f2,f3\n"


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """300,000 rows."""
    file = tmp_path_factory.mktemp("many") / "rows.csv"
    file.write_text(
        HEADER + "".join(f"{row % 40 / 10 + 4},{row % 7 / 2},{row % 60 / 10 + 1}\n" for row in range(300_000))
    )
    return file


def run(*arguments: str | Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=60, **options)


def run_main(folder: str, monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run batch.py in this process, in which the service of a folder has been imported, and return its exit code."""
    module = importlib.import_module("batch")
    assert module.__file__ == str(ROOT / folder / "batch.py")
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # main() replaces it
    monkeypatch.setattr(sys, "argv", ["batch.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        module.main()
    return int(ended.value.code or 0)


def test_many_rows_take_no_more_memory(many, tmp_path):
    """A tenth of them takes as much, but for what the allocator keeps."""
    few = tmp_path / "few.csv"
    few.write_text("".join(many.read_text().splitlines(keepends=True)[:30_001]))
    peaks, lines = [], []
    for file in (few, many):
        with (tmp_path / "answers.csv").open("w") as answers:
            process = subprocess.Popen([*PROGRAM, file], stdout=answers)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss / 1000)  # MB
        lines.append((tmp_path / "answers.csv").read_text().count("\n"))
    assert lines == [30_001, 300_001]
    assert peaks[1] < peaks[0] + 10


def test_a_table_of_numbers(tmp_path, monkeypatch, capfd):
    """It takes a shorter way to the answers, unless there is a bad row."""
    file, random = tmp_path / "rows.csv", np.random.default_rng(0)
    table = random.uniform(0.1, 8, (400, 3)).round(1)
    bad = sorted(random.choice(400, 60, replace=False).tolist())
    with service(ROOT / "simple_ml") as client:

        def posted(text: str):
            return client.post("/predict", data=text, content_type="text/csv")

        np.savetxt(file, table, fmt="%.1f", delimiter=",", header="f1,f2,f3", comments="")
        assert run_main("simple_ml", monkeypatch, file) == 0
        whole, said = capfd.readouterr()
        assert (whole, said) == (posted(file.read_text()).text, "")  # the same bytes

        table[bad, 0] = 1e36
        np.savetxt(file, table, fmt="%.1f", delimiter=",", header="f1,f2,f3", comments="")
        monkeypatch.setattr(importlib.import_module("batch"), "MAX_ROWS", 90)
        assert run_main("simple_ml", monkeypatch, file) == 1
        answers, said = capfd.readouterr()
        (problem,) = posted(HEADER + "1e36,2,3").json["errors"]
        assert said.count(problem["detail"].partition(",")[0]) == 60
        assert said.splitlines()[-1] == "60 of 400 rows got no answer."
        assert [int(line.split()[1][:-1]) - 1 for line in said.splitlines()[:-1]] == bad
        for row, (line, before) in enumerate(zip(answers.splitlines()[1:], whole.splitlines()[1:], strict=True)):
            (label, *shares), (known, *others) = line.split(","), before.split(",")
            if row in bad:
                assert line == ",,,"
            else:  # the last digit depends on which rows the model gets together, in the service, too
                assert label == known
                assert list(map(float, shares)) == pytest.approx(list(map(float, others)), abs=2e-6)

        for wrong, says in ((tmp_path, "is not a file"), (tmp_path / "x.csv", "here. A container has only")):
            assert run_main("simple_ml", monkeypatch, wrong) == 2
            assert says in capfd.readouterr().err


def test_the_job_replaces_a_file_only_by_a_complete_one(tmp_path):
    """The command of kubernetes/batch.yaml: it fails for a bad row, and changes nothing without a feature."""
    job = next(yaml.safe_load_all((ROOT / "kubernetes" / "batch.yaml").read_text()))
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    *shell, script = container["command"]
    script = script.replace("python3 batch.py", shlex.join(map(str, PROGRAM))).replace("/data", str(tmp_path))
    rows, answers = tmp_path / "rows.csv", tmp_path / "answers.csv"
    for content, code, count in ((HEADER + "5,3,1\n", 0, 1), (HEADER + "5,3,1\nsix,3,1\n", 1, 2), ("f1\n5\n", 2, 2)):
        rows.write_text(content)
        assert subprocess.run([*shell, script], capture_output=True, timeout=60).returncode == code
        assert len(answers.read_text().splitlines()) == 1 + count


def test_help():
    assert "--strict" in run("--help").stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_stopped(many, number):
    with subprocess.Popen([*PROGRAM, many], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(100_000)  # it is at work
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(10) == 128 + number
        assert process.stderr.read() == b""


def test_a_closed_pipe_and_a_full_disk(many):
    for command, said in (
        ("| head -1", ""),
        ("> /dev/full", "The answers cannot be written: No space left on device.\n"),
    ):
        shell = 'set -o pipefail; "$@" ' + command
        ended = subprocess.run(
            ["bash", "-c", shell, "bash", *PROGRAM, many], capture_output=True, text=True, timeout=60
        )
        assert (ended.returncode, ended.stderr) == (141 if "head" in command else 2, said)


def test_progress_on_a_terminal_only(tmp_path):
    (tmp_path / "rows.csv").write_text(HEADER + "1,2,3\nx,2,3\n")
    assert run(tmp_path / "rows.csv").stderr.count("\n") == 2
    leader, follower = os.openpty()
    termios.tcsetwinsize(follower, (24, 80))
    process = subprocess.Popen([*PROGRAM, tmp_path / "rows.csv"], stdout=subprocess.DEVNULL, stderr=follower)
    os.close(follower)
    said = b""
    with open(leader, "rb", buffering=0) as terminal:
        try:
            while piece := terminal.read(1000):
                said += piece
        except OSError:  # Linux says so at the end
            pass
    assert process.wait(10) == 1
    assert "100%" in said.decode()
    assert 'Row 2: f1: Input should be a valid number, not "x"\r\n' in said.decode()


def test_pictures(tmp_path, monkeypatch, capfd):
    """Each file is compared with what the service answers to it."""
    folder = tmp_path / "pictures"
    for name in ("seven.png", "three_photo.jpg", "three_photo.heic", "LICENSE"):
        place = folder / ("three" if "three" in name else "")
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes((ROOT / "image_classification" / "samples" / name).read_bytes())
    (folder / "cut.png").write_bytes((folder / "seven.png").read_bytes()[:200])
    (folder / "empty.png").touch()
    (folder / ".DS_Store").touch()
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "seven.png").write_bytes(b"")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "link").symlink_to("three")
    os.mkfifo(folder / "pipe")
    with (folder / "long.png").open("wb") as file:
        file.truncate(32 * 2**20)
    names = ["LICENSE", "cut.png", "empty.png", "gone.png", "link", "long.png", "pipe", "seven.png"]
    names += ["three/three_photo.heic", "three/three_photo.jpg"]
    with service(ROOT / "image_classification") as client:
        assert run_main("image_classification", monkeypatch, folder) == 1
        answers, said = capfd.readouterr()
        rows = list(csv.DictReader(io.StringIO(answers)))
        assert [row["file"] for row in rows] == names
        for row in rows:
            file = folder / row.pop("file")
            if not file.is_file() or file.name == "long.png":
                assert set(row.values()) == {""}
                continue
            answer = client.post("/predict", data=file.read_bytes())
            if answer.status_code != 200:
                assert set(row.values()) == {""}
                assert f"{file.name}: {answer.json['detail']}\n" in said
            else:
                shares = {f"probability {label}": share for label, share in answer.json["probabilities"].items()}
                whole = {"prediction": answer.json["prediction"], **shares, "others": answer.json["others"]}
                assert row == {name: str(value) for name, value in whole.items()}
        assert "long.png: The file must be smaller than 33554432 bytes.\n" in said
        assert "gone.png: There is no" in said
        for name in ("link", "pipe"):
            assert f"{name}: This is not a file." in said
        assert said.endswith("7 of 10 files got no answer.\n")
        assert run_main("image_classification", monkeypatch, folder, "--strict") == 1
        answers, said = capfd.readouterr()
        assert (answers.count("\n"), said.count("\n")) == (1, 1)
        assert run_main("image_classification", monkeypatch, folder / ".hidden" / "seven.png") == 2
        assert "seven.png: Not a directory" in capfd.readouterr().err
        app, runtime = importlib.import_module("app"), importlib.import_module("runtime")
        with monkeypatch.context() as patch:  # a network that gives a picture several labels
            several = runtime.Answer(["a", "ü"], {"a": 0.9, "ü": 0.8})
            patch.setattr(runtime.Network, "predict", lambda *_: several)
            answer = importlib.import_module("batch").answer_to(folder / "seven.png", app.network, app.preparation)
            assert answer == ['["a", "ü"]', 0.9, 0.8, 0]
        (tmp_path / "none").mkdir()
        assert run_main("image_classification", monkeypatch, tmp_path / "none") == 2
        assert "There is no file in" in capfd.readouterr().err


@pytest.mark.docker
@pytest.mark.parametrize("example", ["simple_ml", "image_classification"])
def test_in_a_container(image, tmp_path, example):
    """Also with the command of the nightly job in kubernetes/, and where user 10001 may not read the files."""
    tmp_path.chmod(0o777)
    data = tmp_path / ("rows.csv" if example == "simple_ml" else "seven.png")
    data.write_bytes(b"f1,f2,f3\n4,5,10\n")
    if example == "image_classification":
        data.write_bytes((ROOT / example / "samples" / "seven.png").read_bytes())
    where = "/data/rows.csv" if example == "simple_ml" else "/data"
    command = ["docker", "run", "--rm", *SAFE, "-v", f"{tmp_path}:/data:ro", image(example), "batch.py", where]
    data.chmod(0o644)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout.count("\n")) == (0, 2), ended.stderr
    if example == "simple_ml":
        job, _ = yaml.safe_load_all((ROOT / "kubernetes" / "batch.yaml").read_text())
        (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        entrypoint, *arguments = container["command"]
        docker("run", "--rm", *SAFE, "-v", f"{tmp_path}:/data", "--entrypoint", entrypoint, image(example), *arguments)
        assert (tmp_path / "answers.csv").read_text() == ended.stdout
    data.chmod(0o600)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == (2 if example == "simple_ml" else 1)
    assert f'User 10001 may not read /data/{data.name}. Start the container with --user "$(id -u)"' in ended.stderr
