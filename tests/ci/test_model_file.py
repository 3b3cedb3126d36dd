"""simple_ml's model file: its card, files of other formats, and the reader's own modules beside ours."""

import html
import pickletools
import pytest
import requests
import shutil
import subprocess
from examples import ROOT
from helpers import assert_problem, copy_of, pickled, process, python
from pathlib import Path
from support.inprocess import service
from support.model_files import with_card

OLDER = Path(__file__).with_name("older")  # files that the export of commit 702b4a1 wrote
ROOMS = ("export", "runtime", "web")


def train(folder: Path) -> subprocess.CompletedProcess:
    command: list[str | Path] = [python("simple_ml-train"), "train.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The iris model as model.onnx and as model.pkl."""
    folder = pickled(tmp_path_factory.mktemp("simple_ml"))
    return {"onnx": ROOT / "simple_ml" / "model.onnx", "pkl": folder / "model.pkl"}


def start(folder: Path) -> subprocess.CompletedProcess:
    """Run app.py, which must end by itself."""
    command: list[str | Path] = [python("simple_ml-train"), "app.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("kind", ["onnx", "pkl"])
def test_a_file_of_an_older_export(kind, tmp_path):
    shutil.copy(OLDER / f"model.{kind}", copy_of("simple_ml", tmp_path))
    run = start(tmp_path)
    assert run.returncode == 1
    sentence = "it was made by an older export (format 1, and this is 2): run `python3 train.py`."
    assert run.stderr == f"model.{kind} cannot be used, because {sentence}\n"


@pytest.mark.parametrize("kind", ["onnx", "pkl"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda card: card.update(format=3), "it was made by a newer export (format 3, and this is 2)"),
        (lambda card: card.update(format="2"), "it was made by a newer export (format 2, and this is 2)"),
        (lambda card: card.pop("classes"), "its card is damaged (classes: Field required)"),
        (lambda card: card.update(probabilities="yes"), "its card is damaged (probabilities: "),
        (lambda card: card["columns"][1].update(nullable=1), "its card is damaged (columns.1.nullable: "),
        (lambda card: card["columns"][2].update(type="colour"), "its card is damaged (columns.2.type: "),
        (lambda card: card["training"].update(rows="many"), "its card is damaged (training.rows: "),
    ],
)
def test_a_card_that_does_not_fit(kind, change, reason, files, tmp_path):
    """Every field is checked before the model is served."""
    with_card(files[kind], change, tmp_path)
    with pytest.raises(SystemExit) as end, service(tmp_path):
        pass
    assert str(end.value).startswith(f"model.{kind} cannot be used, because {reason}")
    assert str(end.value).endswith(": run `python3 train.py`.")
    assert "\n" not in str(end.value)


PROOF = {"rows": 773, "alone": 71, "kinds": ["rows of X"], "difference": 7.62e-07, "packages": {"numpy": "2.4.6"}}
COMPARED = (
    "The file gives the model's own answers: compared on 773 rows in lists and 71 alone, largest difference 8e-07."
)


@pytest.mark.parametrize(
    ("proof", "said"),
    [
        (None, "The file does not say how its answers were compared with the model's own: export it again."),
        (PROOF | {"predictions": 0}, f"{COMPARED} It was not compared with the notebook's own predictions."),
        (PROOF | {"predictions": 150}, f"{COMPARED} All 150 answers are the notebook's own predictions."),
    ],
)
def test_the_proof_is_shown(proof, said, files, tmp_path):
    with service(with_card(files["onnx"], lambda card: card.update(proof=proof), tmp_path)) as client:
        health = client.get("/healthz").json
        assert set(health) == {"status", "version", "model", "proof"}
        assert health["proof"] == said
        assert set(health["model"]) == {"title", "description", "trained"}
        assert f"<p>{said}</p>" in html.unescape(client.get("/").text)
        assert client.get("/openapi.json").json["info"]["description"].endswith(f"measurements.\n\n{said}")


@pytest.mark.parametrize("kind", ["onnx", "pkl"])
def test_a_file_from_before_the_proof_and_the_ranges(kind, files, tmp_path):
    """A new field of the card has a default, so the file is served as before."""

    def older(card: dict) -> None:
        assert (card["columns"][0].pop("lowest"), card["columns"][0].pop("highest")) == (4.3, 7.9)
        assert card.pop("proof")["rows"] > 100

    with service(with_card(files[kind], older, tmp_path)) as client:
        assert client.post("/predict", json={"f1": 4, "f2": 5, "f3": 10}).json["prediction"] == "virginica"
        assert "export it again" in client.get("/healthz").json["proof"]


def test_no_file(tmp_path):
    run = start(copy_of("simple_ml", tmp_path))
    expected = "There is no model.onnx or model.pkl here: run `python3 train.py`, which calls export().\n"
    assert (run.returncode, run.stderr) == (1, expected)


def test_nothing_of_ours_is_pickled(files):
    """A pickle that names one of our modules could not be read after the next change of it."""
    pickle = files["pkl"].read_bytes().split(b"\n", 2)[2]
    texts = [argument for _, argument, _ in pickletools.genops(pickle) if isinstance(argument, str)]
    assert "sklearn.pipeline" in texts
    assert not [text for text in texts if text.split(".")[0] in ROOMS]


def test_a_slip_of_ours_is_a_500(files, tmp_path):
    """It is not the sender's 422, and the log has the traceback."""
    shutil.copy(files["onnx"], copy_of("simple_ml", tmp_path))
    slip = "class OnnxModel:\n    def predict(self, rows):\n"
    slip += "        return int('none') if len(rows) == 2 else self.right(rows)\n"
    text = (tmp_path / "runtime" / "onnx.py").read_text().replace("def predict(", "def right(")
    (tmp_path / "runtime" / "onnx.py").write_text(text.replace("class OnnxModel:\n", slip))
    row = {"f1": 4, "f2": 5, "f3": 10}
    with process("simple_ml", tmp_path, log=tmp_path / "log") as (url, _):
        assert_problem(requests.post(f"{url}/predict", json=[row, row], timeout=10), 500)
        assert requests.post(f"{url}/predict", json=row, timeout=10).ok
    assert "ValueError: invalid literal for int()" in (tmp_path / "log").read_text()


OWN = {  # the reader's modules, which train.py imports, and which the model needs when it predicts
    "model.py": "from sklearn.linear_model import LinearRegression as Base\nclass Own(Base):\n pass\n",
    "models/__init__.py": "from models.inner import FACTOR\n",
    "models/inner.py": "FACTOR = 3\n",
    "data.py": "import pandas as pd\nX = pd.DataFrame({'a': range(50), 'b': [i % 7 for i in range(50)]})\n",
    "utils.py": "def same(X):\n return X\n",
    "schema.py": "NAMES = ['a', 'b']\n",
    "columns.py": "from schema import NAMES\ndef chosen(X):\n return X[NAMES]\n",
    "preprocessing.py": (
        "from models import FACTOR\nfrom utils import same\nfrom columns import chosen\n"
        "def prepared(X):\n return same(chosen(X)) * FACTOR\n"
    ),
    "train.py": (
        "from data import X\nfrom export import export\nfrom model import Own\nfrom preprocessing import prepared\n"
        "from sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import FunctionTransformer\n"
        "export(make_pipeline(FunctionTransformer(prepared), Own()).fit(X, X['a'] + 2 * X['b']), X)\n"
    ),
}


def test_the_reader_s_own_modules(tmp_path):
    """They may have any name but those of our folders, and the service needs none of them."""
    copy_of("simple_ml", tmp_path / "train")
    for name, text in OWN.items():
        (tmp_path / "train" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "train" / name).write_text(text)
    run = train(tmp_path / "train")
    assert (run.returncode, run.stderr) == (0, "")
    for where in (tmp_path / "train", copy_of("simple_ml", tmp_path / "serve")):  # with them, and without
        if where.name == "serve":
            shutil.copy(tmp_path / "train" / "model.pkl", where)
        with process("simple_ml", where, "simple_ml-train") as (url, _):
            answer = requests.post(f"{url}/predict", json={"a": 100, "b": 10}, timeout=30).json()
        assert answer["prediction"] == pytest.approx(120)


@pytest.mark.parametrize("room", ROOMS)
def test_a_module_that_our_folder_hides(room, tmp_path):
    (copy_of("simple_ml", tmp_path) / f"{room}.py").touch()
    run = train(tmp_path)
    expected = f"{room}.py is hidden by the folder {room}/, so rename it.\n"
    assert (run.returncode, run.stderr) == (1, expected)
    assert not list(tmp_path.glob("model.*"))


def test_the_command_says_where_it_must_be_started(tmp_path):
    command = [python("simple_ml-train"), ROOT / "simple_ml" / "export", "model.joblib", "rows.csv"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    expected = "Go to the folder that holds export/, and run `python3 -m export` there.\n"
    assert (run.returncode, run.stderr) == (1, expected)
