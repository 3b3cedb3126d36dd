"""New processes that need not import the libraries: forked from a process that has imported these and nothing else.

A proof in a new process takes more than a second, most of it for the imports.
"""

import contextlib
import gc
import os
import runpy
import sys
import warnings
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import DEVNULL, PIPE
from unittest import mock

__all__ = ["DEVNULL", "PIPE", "Popen"]

LIBRARIES = ["cloudpickle", "numpy", "onnxruntime", "pandas", "sklearn.compose", "sklearn.ensemble", "sklearn.pipeline"]
context = get_context("forkserver")
context.set_forkserver_preload(LIBRARIES)


class Popen:
    """The part of subprocess.Popen that new_process.py uses, for `python -P -W ignore FILE ARGUMENT`."""

    def __init__(self, command: list, cwd: str, env: dict[str, str], **_: object) -> None:
        stdin, ours = context.Pipe(duplex=False)
        theirs, stdout = context.Pipe(duplex=False)
        words = [str(word) for word in command[command.index("ignore") + 1 :]]
        self.process = context.Process(target=run, args=(words, cwd, env, stdin, stdout), daemon=True)
        with mock.patch.dict(os.environ, {name: env[name] for name in env if name.endswith("_THREADS")}):
            self.process.start()
        self.stdin = os.fdopen(os.dup(ours.fileno()), "w")
        self.stdout = os.fdopen(os.dup(theirs.fileno()))
        for each in (stdin, ours, theirs, stdout):
            each.close()

    def wait(self) -> int:
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()

    def communicate(self) -> None:
        self.wait()
        self.process.close()
        self.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()


def run(words: list[str], cwd: str, env: dict[str, str], stdin: Connection, stdout: Connection) -> None:
    gc.freeze()  # the libraries stay
    os.dup2(stdin.fileno(), 0)
    os.dup2(stdout.fileno(), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    stdin.close()
    stdout.close()
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = words
    sys.path = [*env["PYTHONPATH"].split(os.pathsep), *installed()]
    for name in [name for name in sys.modules if name.partition(".")[0] == __name__.partition(".")[0]]:
        del sys.modules[name]
    warnings.simplefilter("ignore")
    runpy.run_path(words[0], run_name="__main__")


def installed() -> Iterator[str]:
    """Yield where Python's own modules and packages are, without the folders that the tests add."""
    for path in sys.path:
        if any(Path(path).is_relative_to(prefix) for prefix in (sys.prefix, sys.base_prefix)):
            yield path
