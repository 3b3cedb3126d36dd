"""Look for flaws in locked packages: published ones, unsafe native libraries in wheels, and projects that have ended.

Prints a line for each finding, and "not looked up" for what no source could tell. Ends with 1 if there is a problem.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import re
import requests
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from examples import ROOT
from packaging.version import Version
from pathlib import Path
from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, ProjectStatus, PyPISimple

LEAST = {  # native libraries that read what strangers send: the first safe version, and the flaw before it
    "libheif": ("1.23.3", "GHSA-x8r2-mggj-j6wr"),  # as in pillow-heif 1.7.0; 1.23.2 ended CVE-2026-84383
    "libde265": ("1.1.2", "GHSA-xp3h-6f5r-8cxp"),
    "libwebp": ("1.3.2", "CVE-2023-4863"),
    "libtiff": ("4.7.1", "CVE-2025-9900"),
    "libjpeg-turbo": ("2.0.6", "CVE-2020-35538"),
    "openblas": ("0.3.18", "CVE-2021-4048"),
}
# Packages without an SBOM that know the versions of their libraries: the end of their name, and how to ask the module
ASK = {
    "heif": 'm.libheif_info()["decoders"] | {"libheif": m.libheif_version()}',
    "numpy": '{"openblas": m.show_config(mode="dicts")["Build Dependencies"]["blas"]["version"]}',
}
ENDED = re.compile(r"discontinued|deprecated|unmaintained|no longer (maintained|developed)|abandoned|obsolete", re.I)
OK, PROBLEM, UNKNOWN = "ok", "problem", "not looked up"
UV = ROOT / ".venv" / "scripts" / "bin" / "uv"
Finding = tuple[str, str]  # one of the three, and what it is about


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


def published(lock: Path) -> Iterator[Finding]:
    """Yield the published flaws of packages, as pip-audit knows them."""
    options = ["--format", "json", "--progress-spinner", "off", "--disable-pip", "--require-hashes", "--requirement"]
    done = run(sys.executable, "-m", "pip_audit", *options, lock)
    packages: list[dict] = [{"name": f"all packages: {done.stderr.strip()}"}]
    if done.stdout:
        packages = json.loads(done.stdout)["dependencies"]
    for package in packages:
        yield from ((PROBLEM, f"{package['name']}: {flaw['id']}") for flaw in package.get("vulns", []))
    skipped = [package["name"] for package in packages if "vulns" not in package]
    if len(packages) > len(skipped):
        yield OK, f"published flaws: asked for {len(packages) - len(skipped)} packages"
    if skipped:
        yield UNKNOWN, f"published flaws of {', '.join(skipped)}"


def libraries(package: importlib.metadata.Distribution, folder: Path) -> dict[str, str]:
    """Return the versions of the libraries inside an installed package: from its SBOM (PEP 770), or by asking it."""
    found = {}
    for file in package.files or []:
        if file.parent.name == "sboms" and file.suffix == ".json":
            for part in json.loads(Path(str(file.locate())).read_text()).get("components", []):
                if not part.get("purl", "").startswith(f"pkg:pypi/{package.name}@"):
                    found[part["name"].split(" / ")[-1].lower()] = part.get("version") or "?"
    for end, question in ASK.items():
        if not found and package.name.endswith(end):
            code = f"import json, {package.name.replace('-', '_')} as m; print(json.dumps({question}))"
            done = run(sys.executable, "-c", code, PYTHONPATH=str(folder))
            found = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def native(folder: Path) -> Iterator[Finding]:
    """Yield the native libraries inside the packages that are installed in a folder."""
    for package in importlib.metadata.distributions(path=[str(folder)]):
        files = [file for file in package.files or [] if ".so" in file.suffixes]
        where, versions, unknown = f"{package.name} {package.version}", libraries(package, folder), []
        for name, text in sorted(versions.items()):
            number = re.search(r"\d+(\.\d+)+", text)
            if name in LEAST and number:
                least, flaw = LEAST[name]
                verdict = OK if Version(number[0]) >= Version(least) else PROBLEM
                yield verdict, f"{name} {number[0]} in {where}: safe from {least} on ({flaw})"
            else:
                unknown.append(f"{name} {number[0] if number else text}")
        bundled = {file.name.split("-")[0].lower() for file in files if file.parent.name.endswith(".libs")}
        unknown += sorted(lib for lib in bundled if not any(lib in name or name in lib for name in versions))
        if unknown or (files and not versions):
            more = f" and {len(unknown) - 30} more" if len(unknown) > 30 else ""
            yield UNKNOWN, f"{', '.join(unknown[:30]) or 'libraries'}{more} in {where}"


def installed(lock: Path) -> Iterator[Finding]:
    with tempfile.TemporaryDirectory() as folder:
        options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", folder]
        done = run(UV, "pip", "install", *options, "--python", sys.executable, "--requirement", lock)
        if done.returncode:
            yield UNKNOWN, f"native libraries: {done.stderr.strip()}"
        yield from native(Path(folder))


def index() -> str:
    """Return the address of the package index that pip is set to."""
    configured = run(sys.executable, "-m", "pip", "config", "get", "global.index-url").stdout.strip()
    return os.environ.get("PIP_INDEX_URL") or configured or PYPI_SIMPLE_ENDPOINT


def maintained(client: PyPISimple, name: str) -> Finding:
    """Return what the index says of a project: its status (PEP 792), its summary, and the day of its last release."""
    status = summary = day = UNKNOWN
    with contextlib.suppress(requests.RequestException, NoSuchProjectError, ValueError):
        page = client.get_project_page(name, timeout=30)
        if page.status or Version(page.repository_version or "1.0") >= Version("1.4"):  # by PEP 792
            status = str(page.status or ProjectStatus.ACTIVE)
        day = max((f"{package.upload_time:%Y-%m-%d}" for package in page.packages if package.upload_time), default=day)
    with contextlib.suppress(requests.RequestException, ValueError, KeyError):  # PyPI's own interface, not a standard
        answer = client.s.get(client.endpoint.removesuffix("simple/") + f"pypi/{name}/json", timeout=30)
        answer.raise_for_status()
        summary = answer.json()["info"]["summary"] or ""
    line = f"{name}: status {status}, last release {day}, summary {summary}"
    if ENDED.search(summary) or status not in (ProjectStatus.ACTIVE, UNKNOWN):
        return PROBLEM, line
    return UNKNOWN if UNKNOWN in (status, summary, day) else OK, line


def direct(lock: Path) -> list[str]:
    """Return the packages that requirements.in itself names, from the comments in requirements.txt."""
    blocks = re.findall(r"^([\w.-]+)==(.*\n(?:[ ].*\n)*)", lock.read_text(), re.MULTILINE)
    return sorted({name for name, block in blocks if "-r requirements" in block})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("served", nargs="*", type=Path, help="requirements.txt of what is served: all is looked up")
    parser.add_argument("--others", nargs="*", type=Path, default=[], help="others: only their published flaws")
    arguments = parser.parse_args()
    client, counts = PyPISimple(index()), dict.fromkeys((OK, PROBLEM, UNKNOWN), 0)
    for lock in [*arguments.served, *arguments.others]:
        print(lock)
        findings = [*published(lock)]
        if lock in arguments.served:
            findings += [*installed(lock), *(maintained(client, name) for name in direct(lock))]
        for verdict, what in findings:
            counts[verdict] += 1
            print(f"  {verdict:13}  {what}", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    sys.exit(counts[PROBLEM] > 0)


if __name__ == "__main__":
    main()
