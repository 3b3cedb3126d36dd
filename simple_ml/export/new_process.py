"""Ask a model file in a new process, as the service will: in another folder, with none of what train.py has set.

`with NewProcess(content, name, packages) as run:` starts it. The process runs this file, too, beside the folder
runtime/ alone.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from runtime import runtime_of
from runtime.card import Answers, NoAnswer
from typing import Any

KEPT = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT", "ORT_DISABLE_TELEMETRY")  # environment variables
SERVING = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
RUNTIME = Path(__file__).resolve().parent.parent / "runtime"


class NewProcess:
    """A new process with a model file. `failures` holds what the model raised there, `opened` the files it opened, and
    `peak` is the memory that it took to load it, in MB."""

    def __init__(self, content: bytes, name: str, packages: Iterable[str]) -> None:
        """`packages` are the folders in which packages are installed: only these are imported there."""
        self.content, self.name, self.packages = content, name, packages

    def __enter__(self) -> "NewProcess":
        self.failures: list[str] = []
        self.opened: set[str] = set()
        self.folder = tempfile.TemporaryDirectory()
        shutil.copytree(RUNTIME, Path(self.folder.name, "runtime"))
        Path(self.folder.name, self.name).write_bytes(self.content)
        environment = {name: os.environ[name] for name in KEPT if name in os.environ} | SERVING
        environment["PYTHONPATH"] = os.pathsep.join([self.folder.name, *self.packages])
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", __file__, Path(self.folder.name, self.name)],
            cwd=self.folder.name,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        first = self.reply()
        if failure := first.get("failure"):
            self.__exit__()
            raise ValueError(failure)
        self.peak: int = first["peak"]
        return self

    def reply(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            ended = self.process.wait()
            return {"failure": f"the process ended{f' by {signal.Signals(-ended).name}' if ended < 0 else ''}"}
        reply = json.loads(line)
        self.opened |= set(reply.get("opened", []))
        return reply

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.folder.cleanup()

    def predict(self, rows: list[dict]) -> Answers:
        """Return the answers to rows, as a runtime does. Raises NoAnswer."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has ended, as reply() says
            print(json.dumps(rows), file=self.process.stdin, flush=True)
        reply = self.reply()
        if "answers" in reply:
            return Answers(**reply["answers"])
        self.failures.append(reply["failure"])
        raise NoAnswer(reply["failure"], reply.get("rows", [0]))


def main(file: Path) -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a model prints is no reply
    opened: set[str] = set()
    sys.addaudithook(lambda event, args: opened.add(str(args[0])) if event == "open" else None)

    def answer(reply: dict[str, Any]) -> None:
        print(json.dumps(reply | {"opened": sorted(opened)}), file=replies, flush=True)
        opened.clear()

    try:
        run = runtime_of(file)
    except Exception as error:  # whatever a pickle raises when it is loaded
        return answer({"failure": text_of(error)})
    answer({"peak": peak()})
    for line in sys.stdin:
        try:
            answer({"answers": asdict(run.predict(json.loads(line)))})
        except NoAnswer as error:
            answer({"failure": text_of(error.__cause__ or error), "rows": error.rows})


def peak() -> int:
    """Return how much memory this process has had at most, in MB; 0 where the system is not Linux."""
    with contextlib.suppress(OSError):
        if found := re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text()):
            return int(found[1]) * 1024 // 10**6
    return 0


def text_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(".")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
