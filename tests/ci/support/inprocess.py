"""A service asked in this process, which takes a hundredth of the time that a server needs to start."""

import contextlib
import importlib
import numpy as np
import os
import sys
import warnings
from collections.abc import Iterator
from examples import IMAGES, ROOT
from flask.testing import FlaskClient
from pathlib import Path
from unittest import mock


def ours() -> set[str]:
    """Return the names of our modules and packages: the same ones stand in several examples."""
    found = [path for example in IMAGES for path in (ROOT / example).iterdir()]
    return {path.stem for path in found if path.suffix == ".py" or (path / "__init__.py").exists()}


@contextlib.contextmanager
def modules_of(folder: Path) -> Iterator[None]:
    """In the block, `import runtime` and so on mean the modules of a folder; afterwards, those of before are back.

    PREDICT_TIMEOUT is off, because it would end the tests.
    """
    names = ours()
    before = {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] in names}
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()  # a file may be newer than the list of its folder
    try:
        with mock.patch.dict(os.environ, {"PREDICT_TIMEOUT": "0"}):
            yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] in names]:
            del sys.modules[name]
        sys.modules.update(before)


@contextlib.contextmanager
def service(folder: Path) -> Iterator[FlaskClient]:
    """Import the `app` of a folder, with what it imports, afresh, and yield Flask's test client for it."""
    # the app sets all of these for its process
    with modules_of(folder), np.errstate(), warnings.catch_warnings(), mock.patch.dict(os.environ):
        yield importlib.import_module("app").app.test_client()
