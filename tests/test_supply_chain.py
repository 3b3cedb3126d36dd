"""What the images are made of: packages that are the locked ones, listed, audited; labels; a model that is the same."""

import contextlib
import http.server
import json
import os
import pytest
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from conftest import EXAMPLES, ROOT, docker, free_port
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

LABEL = "org.opencontainers.image"


def pins(example: str) -> dict[tuple[str, str], set[str]]:
    """Return the hashes of each package and version in an example's requirements.txt."""
    text = (ROOT / example / "requirements.txt").read_text()
    found = re.findall(r"^([\w.-]+)==([^\s;\\]+)(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    return {(name, version): set(re.findall(r"sha256:(\w{64})", rest)) for name, version, rest in found}


def test_sbom():
    subprocess.run([sys.executable, "scripts/sbom.py", *EXAMPLES], cwd=ROOT, check=True)
    schema = JsonStrictValidator(SchemaVersion.V1_6)
    for example in EXAMPLES:
        text = (ROOT / "sbom" / f"{example}.json").read_text()
        assert schema.validate_str(text) is None
        parts = json.loads(text)["components"]
        hashes = {
            (part["name"], part["version"]): {
                each["content"] for source in part["externalReferences"] for each in source.get("hashes", [])
            }
            for part in parts
        }
        assert hashes == pins(example)
        assert all(hashes.values())
        licences = {part["name"]: part.get("licenses") for part in parts}
        assert licences["flask"] == [{"license": {"acknowledgement": "declared", "id": "BSD-3-Clause"}}]


@contextlib.contextmanager
def osv(*vulnerable: str) -> Iterator[tuple[str, set[str]]]:
    """Stand in for osv.dev, which not every machine can reach, and answer as it does: (address, what it was asked)."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            pin = f"{query['package']['name']}=={query['version']}"
            asked.add(pin)
            advisory = {"id": f"TEST-{pin}", "summary": "bad", "affected": [{"package": query["package"]}]}
            body = json.dumps({"vulns": [advisory]} if pin in vulnerable else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    asked: set[str] = set()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
        finally:
            server.shutdown()
            thread.join()


def audit(url: str) -> tuple[int, str]:
    """Run what `make lint` runs, with another service: exit code, and what was printed."""
    environment = os.environ | {"OSV_URL": url, "NO_PROXY": "127.0.0.1"}
    answer = subprocess.run(
        [sys.executable, "scripts/audit.py"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    return answer.returncode, answer.stdout + answer.stderr


KNOWN = "jinja2==2.4.1"  # what audit.py asks first, to see whether the service can be believed


def test_audit_asks_for_every_locked_version():
    with osv(KNOWN) as (url, asked):
        code, printed = audit(url)
    assert code == 0, printed
    locked = {f"{name}=={version}" for example in EXAMPLES for name, version in pins(example)}
    assert locked < asked


def test_audit_fails_on_a_vulnerability():
    name, version = next(pin for pin in pins("hello_world") if pin[0] == "granian")
    with osv(KNOWN, f"{name}=={version}") as (url, _):
        code, printed = audit(url)
    assert code == 1
    assert f"TEST-{name}=={version}" in printed


@pytest.mark.parametrize("known", [None, ()], ids=["no service", "a service that knows nothing"])
def test_an_audit_that_cannot_be_done_says_so(known):
    with contextlib.nullcontext((f"http://127.0.0.1:{free_port()}", ())) if known is None else osv() as (url, _):
        code, printed = audit(url)
    assert code == 0
    assert printed.startswith(f"Not audited: {url} ")
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_install_checks_hashes(example):
    for path in (ROOT / example).glob("Dockerfile*"):
        text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", "")
        installs = [command for command in re.split(r"\n|&&", text) if "pip install" in command]
        assert all("--require-hashes -r requirements" in command for command in installs)
        assert installs or path.suffix == ".copy"


@pytest.mark.docker
def test_a_package_with_another_hash_does_not_get_in(built, tmp_path):
    built("hello_world")  # so that all before the packages is there already
    folder = shutil.copytree(ROOT / "hello_world", tmp_path / "hello_world")
    text = (folder / "requirements.txt").read_text()
    (folder / "requirements.txt").write_text(re.sub(r"sha256:\w{4}", "sha256:0000", text))
    answer = subprocess.run(["docker", "build", folder], capture_output=True, text=True)
    assert answer.returncode == 1
    assert "PACKAGES DO NOT MATCH THE HASHES" in answer.stdout + answer.stderr


@pytest.mark.docker
@pytest.mark.parametrize("example", EXAMPLES)
def test_labels_and_user(built, example):
    """What is not said is empty, and not what the base image says of itself; the user is a number for Kubernetes."""
    config = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", built(example)))
    assert config["User"] == "10001:10001"
    assert config["Labels"][f"{LABEL}.title"] == EXAMPLES[example]
    assert [config["Labels"][f"{LABEL}.{name}"] for name in ("source", "revision", "version")] == ["", "", ""]


@pytest.mark.docker
def test_another_revision_has_other_labels_and_the_same_layers(built):
    built("hello_world")
    layers = []
    for revision in ("4ac2f7e", "27fa1a2"):
        labels = {"source": "https://example.com/us/services", "revision": revision, "version": "1.0"}
        arguments = [part for name, value in labels.items() for part in ("--build-arg", f"{name.upper()}={value}")]
        tag = f"{EXAMPLES['hello_world']}:{revision}"
        docker("build", "--tag", tag, *arguments, ROOT / "hello_world")
        image = json.loads(docker("image", "inspect", tag))[0]
        docker("rmi", tag)
        assert {f"{LABEL}.{name}": value for name, value in labels.items()}.items() <= image["Config"]["Labels"].items()
        layers.append(image["RootFS"]["Layers"])
    assert layers[0] == layers[1]


def test_training_twice_gives_the_same_file(tmp_path):
    """`train.py` is run for real, as the Dockerfile does: in other folders, from other folders, with other hashes."""
    models = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        for name in ("train.py", "export.py"):
            shutil.copy(ROOT / "simple_ml" / name, folder)
        command = [ROOT / ".venv" / "simple_ml-train" / "bin" / "python", folder / "train.py"]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        cwd = folder if seed == "1" else tmp_path
        printed = subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True, text=True).stdout
        assert "cross-validated" in printed
        models.append((folder / "model.onnx").read_bytes())
    assert models[0] == models[1]
