"""Ask whether a locked package has a known vulnerability: pip-audit with OSV (https://osv.dev), where it is reached."""

import os
import re
import requests
import subprocess
import sys
import tempfile
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
URL = os.environ.get("OSV_URL", "https://api.osv.dev/v1/query")  # or of a copy of your own
KNOWN = {"package": {"name": "jinja2", "ecosystem": "PyPI"}, "version": "2.4.1"}  # vulnerable, for certain


def service_answers() -> bool:
    """Say whether the service can be believed: a proxy's page, or an empty list for all that is asked, is no answer."""
    try:
        return bool(requests.post(URL, json=KNOWN, timeout=10).json()["vulns"])
    except (requests.RequestException, KeyError, TypeError):
        return False


def locked() -> list[list[str]]:
    """Return what all requirements.txt name, for whichever Python, in lists that hold no package twice."""
    versions: dict[str, dict[str, str]] = {}
    for path in sorted(ROOT.glob("*/requirements*.txt")):
        for name, version, hash in re.findall(r"^([\w.-]+)==(\S+).*\n\s+(--hash=\S+)", path.read_text(), re.MULTILINE):
            versions.setdefault(name, {})[version] = f"{name}=={version} {hash}"
    rounds = zip_longest(*(lines.values() for lines in versions.values()))
    return [[line for line in lines if line] for lines in rounds]


def main() -> int:
    if not service_answers():
        print(f"Not audited: {URL} cannot be reached (OSV_URL=... names another service that answers as OSV does).")
        return 0
    command = [str(Path(sys.executable).with_name("pip-audit")), "--progress-spinner=off", "--disable-pip"]
    command += ["--vulnerability-service=osv", f"--osv-url={URL}"]
    worst = 0
    for lines in locked():  # pip-audit takes no two versions of a package at once, and leaves out another Python's
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("\n".join(lines))
            file.flush()
            print(f"pip-audit: {len(lines)} packages", flush=True)
            worst = max(worst, subprocess.run([*command, "--requirement", file.name]).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
