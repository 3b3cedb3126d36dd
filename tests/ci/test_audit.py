"""`make audit`: it finds flaws inside wheels and projects that have ended, and says what it cannot look up."""

import audit
import http.server
import json
import pytest
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from examples import ROOT
from pathlib import Path
from pypi_simple import PyPISimple

# What an index says of projects with made-up names: the version of its interface, and their status and summary
PROJECTS: dict[str, tuple[str, str | None, str | None]] = {
    "lively": ("1.4", None, "Reads pictures."),
    "shelved": ("1.4", "archived", "Reads pictures."),
    "replaced": ("1.4", "deprecated", "Reads pictures."),
    "unsafe": ("1.4", "quarantined", "Reads pictures."),
    "says-so": ("1.4", None, "DISCONTINUED. Use lively."),
    "says-so-here": ("1.1", None, "No longer maintained: use lively."),
    "of-an-old-index": ("1.1", None, "Reads pictures."),
    "of-another-index": ("1.4", None, None),
}


class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        _, kind, name, *_ = self.path.split("/")
        interface, status, summary = PROJECTS.get(name, ("", None, None))
        file = {
            "filename": f"{name}-1.0-py3-none-any.whl",
            "url": "x",
            "hashes": {},
            "upload-time": "2026-06-10T16:02:50Z",
        }
        page = {"meta": {"api-version": interface}, "name": name, "versions": ["1.0"], "files": [file]}
        if status:
            page["project-status"] = {"status": status}
        is_known = interface if kind == "simple" else summary
        self.send_response(200 if is_known else 404)
        self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
        self.end_headers()
        self.wfile.write(json.dumps(page if kind == "simple" else {"info": {"summary": summary}}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/simple/"
        server.shutdown()


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("lively", (audit.OK, "status active, last release 2026-06-10, summary Reads pictures.")),
        ("shelved", (audit.PROBLEM, "status archived")),
        ("replaced", (audit.PROBLEM, "status deprecated")),
        ("unsafe", (audit.PROBLEM, "status quarantined")),
        ("says-so", (audit.PROBLEM, "summary DISCONTINUED. Use lively.")),
        ("says-so-here", (audit.PROBLEM, "status not looked up, last release 2026-06-10, summary No longer")),
        ("of-an-old-index", (audit.UNKNOWN, "status not looked up, last release 2026-06-10, summary Reads")),
        ("of-another-index", (audit.UNKNOWN, "status active, last release 2026-06-10, summary not looked up")),
        ("nowhere", (audit.UNKNOWN, "status not looked up, last release not looked up, summary not looked up")),
    ],
)
def test_what_the_index_says_of_a_project(address, name, finding):
    verdict, line = audit.maintained(PyPISimple(address), name)
    assert verdict == finding[0]
    assert line.startswith(f"{name}: status ")
    assert finding[1] in line


def test_an_index_that_does_not_answer():
    assert audit.maintained(PyPISimple("http://127.0.0.1:9/simple/"), "lively")[0] == audit.UNKNOWN


def test_the_index_is_the_one_that_pip_is_set_to(address, monkeypatch, tmp_path):
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {address}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert audit.index() == address
    monkeypatch.setenv("PIP_INDEX_URL", "http://example.com/simple/")
    assert audit.index() == "http://example.com/simple/"


@pytest.fixture
def install(tmp_path) -> Callable[..., None]:
    """install(name, files) puts a package, as a wheel would, into tmp_path."""

    def put(name: str, **files: str) -> None:
        info = f"{name}-1.0.dist-info"
        texts = {f"{info}/METADATA": f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n"}
        texts |= {path.replace("INFO", info): text for path, text in files.items()}
        texts[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in texts)
        for path, text in texts.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)

    return put


def sbom(**versions: str) -> str:
    return json.dumps(
        {"bomFormat": "CycloneDX", "components": [{"name": n, "version": v} for n, v in versions.items()]}
    )


def test_native_libraries(install, tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "LEAST", {"libold": ("1.10.0", "GHSA-1"), "libnew": ("1.2", "GHSA-2")})
    monkeypatch.setattr(audit, "ASK", {"asked": "m.versions()"})
    listed = {
        "INFO/sboms/a.cdx.json": sbom(LibOld="1.9.9", libnew="1.2", libnobody="3.1"),
        "b.libs/libmore-12ab.so.1": "",
    }
    install("with_sbom", **listed)
    install("to-be-asked", **{"to_be_asked.py": 'def versions(): return {"libold": "the library, version 1.10.1"}'})
    install("that-fails-when-asked", **{"that_fails_when_asked.py": "1 / 0", "c.libs/libold-34cd.so.7": ""})
    install("silent", **{"silent/_silent.cpython-311-x86_64-linux-gnu.so": ""})
    install("plain", **{"plain.py": ""})
    assert sorted(audit.native(tmp_path)) == [
        (audit.UNKNOWN, "libnobody 3.1, libmore in with_sbom 1.0"),
        (audit.UNKNOWN, "libold in that-fails-when-asked 1.0"),
        (audit.UNKNOWN, "libraries in silent 1.0"),
        (audit.OK, "libnew 1.2 in with_sbom 1.0: safe from 1.2 on (GHSA-2)"),
        (audit.OK, "libold 1.10.1 in to-be-asked 1.0: safe from 1.10.0 on (GHSA-1)"),
        (audit.PROBLEM, "libold 1.9.9 in with_sbom 1.0: safe from 1.10.0 on (GHSA-1)"),
    ]


PIP_AUDIT = {  # as pip-audit prints it
    "dependencies": [
        {"name": "lively", "version": "1.0", "vulns": []},
        {"name": "holed", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]},
        {"name": "nowhere", "skip_reason": "Dependency not found on PyPI and could not be audited: nowhere (1.0)"},
    ],
    "fixes": [],
}


@pytest.mark.parametrize(
    ("printed", "findings"),
    [
        (
            json.dumps(PIP_AUDIT),
            [
                (audit.PROBLEM, "holed: PYSEC-1"),
                (audit.OK, "published flaws: asked for 2 packages"),
                (audit.UNKNOWN, "published flaws of nowhere"),
            ],
        ),
        ("", [(audit.UNKNOWN, "published flaws of all packages: no network")]),
    ],
)
def test_published_flaws(monkeypatch, printed, findings):
    monkeypatch.setattr(audit, "run", lambda *_: subprocess.CompletedProcess([], 1, printed, "no network\n"))
    assert [*audit.published(Path("requirements.txt"))] == findings


def test_packages_that_requirements_in_names():
    named = (ROOT / "image_classification" / "requirements.in").read_text().splitlines()
    expected = sorted(line.split("#")[0].split("<")[0].split(">")[0].strip() for line in named)
    assert audit.direct(ROOT / "image_classification" / "requirements.txt") == expected


@pytest.mark.parametrize(("version", "problems"), [("1.6.0", ["libde265 1.1.1", "libheif 1.23.2"]), ("1.7.0", [])])
def test_an_unsafe_wheel_fails(address, monkeypatch, tmp_path, version, problems):
    """With real wheels: the last one with an unsafe libheif, and the first one with a safe one."""
    uv = [ROOT / ".venv" / "scripts" / "bin" / "uv", "pip", "compile", "--quiet", "--no-deps", "--generate-hashes"]
    (tmp_path / "requirements.in").write_text(f"pillow-heif=={version}\npillow\n")
    subprocess.run([*uv, "requirements.in", "--output-file", "requirements.txt"], cwd=tmp_path, check=True)
    monkeypatch.setenv("PIP_INDEX_URL", address)
    command = [sys.executable, ROOT / "scripts" / "audit.py", tmp_path / "requirements.txt"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == bool(problems), done.stdout + done.stderr
    lines = [line.split("  ", 2) for line in done.stdout.splitlines()[1:-1]]
    assert [what.split(" in ")[0].strip() for _, verdict, what in lines if verdict == audit.PROBLEM] == problems
    assert "not looked up  pillow-heif: status not looked up" in done.stdout
    assert f", {len(problems)} problem, " in done.stdout.splitlines()[-1]
