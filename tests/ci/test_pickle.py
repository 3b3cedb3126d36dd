"""The tests of simple_ml once more, for a model.pkl: good and bad input, limits, hostile and generated JSON."""

import pytest
import requests
import subprocess
from collections.abc import Callable, Iterator
from helpers import assert_problem, copy_of, process, python
from schemas import fuzz
from test_attack import (  # noqa: F401
    Server,
    test_a_long_key,
    test_duplicate_keys,
    test_json,
    test_many_keys,
    unharmed,
    workers,
)
from test_contract import LIMITS, test_predict_refuses_nonsense  # noqa: F401
from test_simple_ml import (  # noqa: F401
    test_100_000_rows,
    test_a_list_keeps_its_order,
    test_a_list_of_one_is_a_list,
    test_a_megabyte_of_digits,
    test_a_thousand_errors_make_a_short_answer,
    test_bad_input,
    test_one_flower,
    test_order_of_the_fields_does_not_matter,
    test_the_last_of_two_equal_keys_counts,
    url,
)


@pytest.fixture(scope="module")
def pickled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The model of train.py, with a step more that does nothing, but is Python code, which ONNX cannot hold."""
    folder = copy_of("simple_ml", tmp_path_factory.mktemp("simple_ml"))
    train = (folder / "train.py").read_text()
    train = train.replace("import StandardScaler", "import FunctionTransformer, StandardScaler")
    train = train.replace("make_pipeline(", "make_pipeline(FunctionTransformer(lambda X: X), ")
    (folder / "train.py").write_text(train)
    subprocess.run([python("simple_ml-train"), "train.py"], cwd=folder, check=True)
    assert (folder / "model.pkl").exists()
    with process("simple_ml", folder, "simple_ml-train") as (address, server):
        yield Server("simple_ml", address, server.pid, workers(server.pid))


@pytest.fixture
def server(pickled: Server) -> Callable[[str], str]:
    return lambda example: pickled.url


@pytest.fixture
def predicting(pickled: Server) -> str:
    return pickled.url


@pytest.fixture
def simple_ml(pickled: Server) -> Iterator[str]:
    with unharmed(pickled):
        yield f"{pickled.url}/predict"


@pytest.fixture
def json_url(simple_ml: str) -> str:
    return simple_ml


def test_a_large_body(simple_ml):
    assert_problem(requests.post(simple_ml, data=b"1" * LIMITS["simple_ml"], timeout=30), 413)


def test_schemathesis_finds_nothing(pickled, tmp_path):
    fuzz(pickled.url, tmp_path, 60)


def test_no_worker_has_died(pickled):
    assert workers(pickled.pid) == pickled.workers
