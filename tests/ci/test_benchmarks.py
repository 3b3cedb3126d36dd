"""The report of the benchmarks, from figures that are made up. The measuring itself is `make bench`."""

import importlib
import io
import pytest
import re
import subprocess
import sys
from examples import ROOT
from support.inprocess import modules_of

PYTHON = ROOT / ".venv" / "benchmarks" / "bin" / "python"
RESULTS = """\
workload,server,measure,at,repeat,value
GET /,FastAPI,requests/s,16,0,1000
GET /,FastAPI,requests/s,16,1,3000
GET /,FastAPI,requests/s,16,2,1100
GET /,ours,requests/s,16,0,2200
GET /,ours,p50,16,0,1.5
GET /,ours,p99,16,0,12
GET /,ours,rate,,0,200
GET /,ours,answered/s,,0,150
hello,ours,first answer,,0,0.25
MobileNetV2,ours,requests/s,4,0,12
MobileNetV2,FastAPI + Keras,requests/s,4,0,8
resnet50,ours,memory,,0,600
iris batch,ours,ms,1,0,2
iris batch,ours,ms,1000,0,5
front_door,alone,requests/s,8,0,1000
front_door,through it,requests/s,8,0,600
front_door,alone,requests/s,8,1,1200
front_door,through it,requests/s,8,1,780
front_door,through it,p99,8,0,14
"""
SEVEN = (ROOT / "image_classification" / "samples" / "seven.png").read_bytes()
LIMITS: dict[str, tuple[str, str, dict]] = {
    "hello": ("hello_world", "/", {}),
    "row": ("simple_ml", "/predict", {"method": "POST", "json": {"f1": 4, "f2": 5, "f3": 10}}),
    "picture": ("image_classification", "/predict", {"method": "POST", "data": {"file": (io.BytesIO(SEVEN), "7.png")}}),
}


def test_report(tmp_path):
    (tmp_path / "results.csv").write_text(RESULTS)
    (tmp_path / "conditions.md").write_text("- a machine\n")
    (tmp_path / "failed.txt").write_text("- MLflow: no answer\n")
    subprocess.run([PYTHON, ROOT / "benchmarks" / "report.py", tmp_path], check=True)
    text = (tmp_path / "results.md").read_text()
    assert "\n| ours | 2,200 | - | - | - | - | - | - | - | - | - |\n| FastAPI | 1,100 |" in text
    assert "| `GET /`: FastAPI · Flask's own server | 1.0 · 12 | 2.00 · - |" in text  # over the median of FastAPI's
    assert "\n| ours | 12.0 | - | 600 MB |\n| FastAPI + Keras | 8.00 | - | - |" in text
    assert "| MobileNetV2: FastAPI + Keras · BentoML + Keras · LitServe + Keras | 1 · 1 · 1 | 1.50 · - · - |" in text
    assert "182% at the most (GET /, FastAPI)" in text
    ours, fastapi = "| ours | 2,200 | 1.50 / 12.0 | only 150/s |", "| FastAPI | 1,100 | - / - | - |"
    assert f"{ours}\n{fastapi}" in text  # the fastest first
    assert "| ours | 0.25 s | - MB | - |" in text
    assert "| rows | 1 | 1,000 |" in text
    assert "requests/s are 0.62 of those alone" in text
    assert "| through it | 690 | - | 14.0 |" in text
    assert "- MLflow: no answer" in text
    assert {path.name for path in tmp_path.glob("*.svg")} == {"throughput.svg", "batches.svg", "cost.svg"}


def test_performance_page_has_the_table_of_the_whole_run():
    page = ROOT / "docs" / "performance.md"
    rows = (ROOT / "benchmarks" / "results" / "results.csv").read_text().splitlines()
    found = re.search("(?s)<!-- by make bench -->\n(.*)<!-- end -->", page.read_text())
    table = [line for line in found[1].splitlines() if line.startswith("| ")]
    assert table[0].startswith("| requests/s | GET / |")
    written = (ROOT / "benchmarks" / "results" / "results.md").read_text()
    assert len(rows) > 100
    assert "\n".join(table) in "\n".join(line for line in written.splitlines() if line.startswith("| "))
    assert (page.parent / re.search(r"!\[.*\]\((.*)\)", found[1])[1]).exists()


def test_a_part_can_be_asked_for():
    command = [PYTHON, ROOT / "benchmarks" / "bench.py", "--groups", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    for group in "hello", "iris", "forest", "frame", "picture", "mobilenet_v2", "resnet50", "door":
        assert group in done.stderr


@pytest.mark.parametrize("module", ["hello", "row", "picture"])
def test_the_limits_answer(module, monkeypatch):
    """They use what the examples are made of, which changes."""
    example, path, request = LIMITS[module]
    monkeypatch.chdir(ROOT / example)
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "limits")
    with modules_of(ROOT / example):
        limits = importlib.import_module(module)
        assert limits.route.test_client().open(path, **request).status_code == 200
        started: list[str] = []
        assert b"".join(limits.bare({"wsgi.input": io.BytesIO()}, lambda status, headers: started.append(status)))
        assert started == ["200 OK"]
    del sys.modules[module]
