"""Write what an example takes from PyPI into sbom/EXAMPLE.json, in the format of CycloneDX (https://cyclonedx.org).

Versions and hashes are those of requirements.txt; licences those that the packages state, where they are installed.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SBOM = ROOT / "sbom"


def cyclonedx(*arguments: str | Path) -> dict[str, Any]:
    """Return what CycloneDX's own command prints."""
    options = ["--no-validate", "--output-reproducible", "--spec-version", "1.6"]  # a test validates what comes of it
    command = [Path(sys.executable).with_name("cyclonedx-py"), *arguments, *options]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        raise SystemExit(answer.stderr)
    return json.loads(answer.stdout)


def sbom(example: str) -> str:
    bom = cyclonedx("requirements", ROOT / example / "requirements.txt")
    installed = {part["purl"]: part for part in cyclonedx("environment", ROOT / ".venv" / example)["components"]}
    for part in bom["components"]:
        stated = installed.get(part["purl"], {})  # nothing for what another system or another Python takes
        part |= {key: stated[key] for key in ("description", "licenses") if key in stated}
    bom["metadata"]["component"] = {"type": "application", "bom-ref": example, "name": example}
    return json.dumps(bom, indent=2) + "\n"


def main() -> None:
    SBOM.mkdir(exist_ok=True)
    for example in sys.argv[1:]:
        (SBOM / f"{example}.json").write_text(sbom(example))
        print(f"sbom/{example}.json")


if __name__ == "__main__":
    main()
