"""simple_ml reads CSV as pandas read the training data, whoever wrote it: Excel, R, pandas, a person."""

import csv
import importlib
import io
import json
import numpy as np
import pandas as pd
import pytest
import sys
from collections.abc import Callable, Iterator
from flask.testing import FlaskClient
from helpers import copy_of
from pathlib import Path
from sklearn.linear_model import LinearRegression, LogisticRegression
from support.inprocess import service
from support.models import MISSING, Column, Model, as_sent, export, with_range

TOWNS = pd.DataFrame(
    {
        "town": ["Köln", " Bonn", "NA", "Ulm, Süd"] * 15,
        "cellar": ["dry", "damp", None, "dry"] * 15,
        "rent": np.arange(60) * 25.5,
        "rooms": [1, 2, 3, 4] * 15,
        "size, m2": np.arange(60) + 10.0,
        "own": [True, False, True, True] * 15,
        "since": pd.date_range("2024-01-01", periods=60),
    }
)


def said(X: pd.DataFrame) -> np.ndarray:
    """Say how each row was read."""
    if (X["town"] == "Nowhere").any():
        raise LookupError("no such town")
    X = X.assign(since=X["since"].dt.strftime("%Y-%m-%d")).astype(object)
    return X.where(X.notna(), "-").astype(str).agg("|".join, axis="columns").to_numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The service for a function that says how it has read a row."""
    folder = copy_of("simple_ml", tmp_path_factory.mktemp("csv") / "simple_ml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        export(said, TOWNS)
    return folder


@pytest.fixture(scope="module")
def client(folder) -> Iterator[FlaskClient]:
    with service(folder) as client:
        yield client


def post(client: FlaskClient, body: str | bytes, path: str = "/predict", **headers: str):
    data = body.encode() if isinstance(body, str) else body
    return client.post(path, data=data, headers={"Content-Type": "text/csv"} | headers)


def predictions(client: FlaskClient, body: str | bytes) -> list[str]:
    answer = post(client, body, Accept="application/json")
    assert answer.status_code == 200, answer.text
    return [each["prediction"] for each in answer.json]


HEADER = 'town,cellar,rent,rooms,"size, m2",own,since\n'
SEMICOLONS = 'town;cellar;rent;rooms;"size, m2";own;since\n'
ROW = "Köln,dry,1500.5,3,20,yes,2024-01-31"
READ = "Köln|dry|1500.5|3|20.0|True|2024-01-31"


READABLE = [
    (HEADER + ROW, READ),
    ("\ufeff" + HEADER + ROW + "\r\n", READ),
    ((HEADER + ROW).encode("utf-16"), READ),
    ((HEADER + ROW + "\n").replace("\n", "\r\n"), READ),
    ((HEADER + ROW + "\n").replace("\n", "\r"), READ),
    ("\n".join([HEADER.strip(), "", ROW, "", ""]), READ),
    ('town;cellar;rent;rooms;"size, m2";own;since\nKöln;dry;1500,5;3;20,0;1;2024-01-31', READ),
    ("sep=;\ntown;cellar;rent;rooms;size, m2;own;since\nKöln;dry;1500,5;3;20,0;TRUE;2024-01-31", READ),
    ("town\tcellar\trent\trooms\tsize, m2\town\tsince\nKöln\tdry\t1500,5\t3\t20\ttrue\t2024-01-31", READ),
    (HEADER + 'Köln,dry,"1500,5",3, 20 ,YES,2024-01-31', READ),
    (HEADER + "Köln,dry,+15005e-1,3,20.,yes,2024-01-31", READ),
    ('id,"size, m2",own,since,rooms,rent,cellar,town\n7,20,yes,2024-01-31,3,1500.5,dry,Köln', READ),
    (" town , cellar, rent,rooms,'size, m2'".replace("'", '"') + ",own,since\n" + ROW, READ),
    # a text keeps its blank where training had one, and NA where it was a text
    (HEADER + ROW.replace("Köln", " Bonn"), READ.replace("Köln", " Bonn")),
    (HEADER + ROW.replace("Köln", "NA"), READ.replace("Köln", "NA")),
    (HEADER + ROW.replace("Köln", '"Ulm, Süd"'), READ.replace("Köln", "Ulm, Süd")),
    *((HEADER + ROW.replace("dry", word), READ.replace("dry", "-")) for word in MISSING),
]


@pytest.mark.parametrize(("body", "read"), READABLE)
def test_read(client, body, read):
    assert predictions(client, body) == [read]


def test_as_pandas_reads_it(client):
    """Whatever pandas writes, with any gaps, is read as pandas itself would read it."""
    table = TOWNS.copy()
    text = table.to_csv(index=False)
    again = pd.read_csv(
        io.StringIO(text), parse_dates=["since"], keep_default_na=False, na_values={"cellar": list(MISSING)}
    )
    assert predictions(client, text) == said(again.convert_dtypes().astype(TOWNS.dtypes.to_dict())).tolist()


def test_as_json(client):
    rows = as_sent(TOWNS, None)
    assert predictions(client, TOWNS.to_csv(index=False)) == [
        each["prediction"] for each in client.post("/predict", json=rows).json
    ]


def row(**cells: str) -> str:
    names = ["town", "cellar", "rent", "rooms", "size, m2", "own", "since"]
    values = dict(zip(names, ROW.split(","), strict=True)) | cells
    file = io.StringIO()
    csv.writer(file).writerows([names, values.values()])
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (row(rent="1,500"), 422, "#/0/rent 1,500 may be 1500 or a decimal"),
        (row(rent="1.234.567"), 422, "1.234.567 may be 1234567 or a decimal"),
        (row(rent="1,234.5"), 422, 'not "1,234.5"'),
        (
            HEADER.replace(",", ";").replace("size; m2", "size, m2") + "Köln;dry;1.500;3;20,5;yes;2024-01-31",
            422,
            "1.500 may be",
        ),
        (row(rent="1_000"), 422, 'not "1_000"'),
        (row(rent="12 €"), 422, 'not "12 €"'),
        (row(rent="inf"), 422, 'not "inf"'),
        (row(rent="1" * 10_000), 422, "#/0/rent"),
        (row(rent="1e999"), 422, "#/0/rent"),
        (row(own="maybe"), 422, 'not "maybe"'),
        (row(since="31.1.2024"), 422, 'not "31.1.2024"'),
        (row(rooms="x" * 1_000_000), 400, "cannot be read"),
        (
            (HEADER + ROW).encode("cp1252"),
            415,
            "Line 2 of the CSV file is not in UTF-8. In Excel, save it as 'CSV UTF-8'",
        ),
        (b"PK\x03\x04" + bytes(100), 415, "Excel workbook"),
        ((HEADER + ROW).replace("cellar", "town"), 400, "Two columns have the name town"),
        (HEADER + ROW + ",1", 400, "Row 1 has 8 cells, and there are 7 names above."),
        (HEADER + ROW.replace("Köln,", ""), 400, "Row 1 has 6 cells"),
        (HEADER + ROW.replace("Köln", '"Köln') + "\n" + ROW, 400, "cannot be read"),
        (HEADER + ROW.replace("Köln", "K\0ln"), 400, "NUL"),
        (HEADER, 400, "no row below"),
        ("\r" + HEADER + ROW, 400, "must name the columns"),
        ('sep="\n' + HEADER + ROW, 400, "names above"),
        ("", 400, "must name the columns: town, cellar"),
        (ROW, 400, "must name the columns"),
        ("," * 100_000 + "\n" + ROW, 400, "must name the columns"),
        ("town" + "," * 100_000 + "\n" + ROW, 400, "100001 names"),
        (HEADER.replace("rent,", "") + ROW.replace("1500.5,", ""), 422, "#/0/rent This feature is missing"),
        (
            HEADER.replace("since", "since,Rent") + ROW + ",5",
            422,
            "#/0/Rent The model has no such feature. Did you mean rent?",
        ),
        (HEADER + f"{ROW}\n" * 100_001, 400, "more than 100000 rows"),
    ],
    ids=range(29),
)
def test_refused(client, body, status, says):
    answer = post(client, body)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json"), answer.text[:300]
    errors = [f"{each['pointer']} {each['detail']}" for each in answer.json.get("errors", [])]
    assert says in " ".join([answer.json["detail"], *errors])
    assert len(answer.data) < 3000


def test_the_answer_is_csv(client):
    answer = post(client, HEADER + f"{ROW}\n" * 2)
    assert answer.content_type == "text/csv; charset=utf-8"
    assert answer.text == f"prediction\n{READ}\n{READ}\n"
    assert post(client, HEADER + ROW, Accept="*/*").text == f"prediction\n{READ}\n"
    assert post(client, HEADER + ROW, Accept="application/json").json == [{"prediction": READ}]
    answer = client.post("/predict", data=HEADER + ROW, content_type="TEXT/CSV; charset=utf-8; header=present")
    assert answer.text == f"prediction\n{READ}\n"


def test_only_csv_is_not_read_as_json(client):
    for kind in ("text/plain", "application/csv", "application/x-www-form-urlencoded", ""):
        assert client.post("/predict", data=HEADER + ROW, content_type=kind).status_code == 400


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_excel_runs_nothing(client, start):
    body = 'note;town;cellar;rent;rooms;"size, m2";own;since\n' + f"{start}1+1;{start}x;dry;-15,5;3;20;yes;2024-01-31\n"
    content = post(client, body, "/predict?for=excel").data.decode("utf-8")
    assert content.startswith("\ufeffnote;town;")
    (answer,) = csv.reader(io.StringIO(content.splitlines()[1]), delimiter=";")
    assert answer[:4] == [f"'{start}1+1", f"'{start}x", "dry", "-15,5"]
    assert answer[-1].removeprefix("'").startswith(f"{start}x|dry|-15.5|3|")


def test_yes_and_no_as_json_writes_them(tmp_path, monkeypatch):
    folder = copy_of("simple_ml", tmp_path / "simple_ml")
    monkeypatch.chdir(folder)
    export(LogisticRegression().fit(TOWNS[["rent"]], TOWNS.rent > 700), TOWNS[["rent"]])
    with service(folder) as client:
        header, *lines = post(client, "rent\n25.5\n1500\n").text.splitlines()
    assert header == "prediction,probability false,probability true"
    assert [line.split(",")[0] for line in lines] == ["false", "true"]


def logged(capfdbinary: pytest.CaptureFixture) -> list[dict]:
    return [json.loads(line) for line in capfdbinary.readouterr().out.split(b"\n") if line.startswith(b"{")]


def test_the_log_holds_cells_as_json_has_them(folder, monkeypatch, capfdbinary):
    monkeypatch.setenv("PREDICTION_LOG", "1")
    with service(folder) as client:
        rows = [row | {"since": row["since"][:10]} for row in as_sent(TOWNS.head(4), said)]
        assert (rows[1]["town"], rows[2]["cellar"]) == (" Bonn", None)
        answers = client.post("/predict", json=rows).json
        assert post(client, TOWNS.head(4).to_csv(index=False)).status_code == 200
    lines = logged(capfdbinary)
    assert [line["input"] for line in lines] == rows * 2
    assert [line["answer"] for line in lines] == answers * 2


def test_the_ranges_of_training(folder):
    """They are in the model file, for docs/prediction_log.md; no page and no document shows them."""
    columns = {column.name: column for column in Model(folder / "model.pkl").card.columns}
    assert {name: (column.lowest, column.highest) for name, column in columns.items()} == {
        "town": (None, None),
        "cellar": (None, None),
        "rent": (0.0, 59 * 25.5),
        "rooms": (1, 4),
        "size, m2": (10.0, 69.0),
        "own": (None, None),
        "since": (None, None),
    }


@pytest.mark.parametrize(
    ("values", "kind", "ends"),
    [
        ([1.5, np.nan, np.inf, -np.inf, -2], "number", (-2.0, 1.5)),
        ([np.nan], "number", (None, None)),
        (pd.array([3, None, 1], "Int64"), "integer", (1, 3)),
        (pd.Categorical([3, 1, 3], categories=[9, 3, 1]), "integer", (1, 3)),
        (pd.to_datetime(["2024-01-01"]), "date", (None, None)),
        (["a", "b"], "text", (None, None)),
        ([True, False], "boolean", (None, None)),
    ],
)
def test_the_lowest_and_the_highest(values, kind, ends):
    column = with_range(Column("a", kind, nullable=True, categories=None, example=None), pd.Series(values))
    assert (column.lowest, column.highest) == ends
    assert "Infinity" not in json.dumps(ends)


def test_several_values_in_an_answer(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.setenv("PREDICTION_LOG", "1")
    folder = copy_of("simple_ml", tmp_path / "simple_ml")
    monkeypatch.chdir(folder)
    X = TOWNS[["rent", "rooms"]]
    export(LinearRegression().fit(X, np.c_[X.rent, X.rooms]), X, targets=["a", "b"])
    with service(folder) as client:
        lines = post(client, "rent,rooms\n25.5,2\n").text.splitlines()
        assert lines[0] == "prediction a,prediction b"
        assert list(map(float, lines[1].split(","))) == pytest.approx([25.5, 2], abs=1e-3)
        (line,) = logged(capfdbinary)
        assert line["answer"] == client.post("/predict", json={"rent": 25.5, "rooms": 2}).json
        assert line["answer"]["prediction"].keys() == {"a", "b"}
        boxed = client.post("/predict", json={"rent": [4], "rooms": [5]})
        assert (boxed.status_code, "auto_unbox = TRUE" in boxed.json["detail"]) == (422, True)
        for body in ('"{}"', "rent=4&rooms=5", "{'rent': 4}"):
            assert "send json=row" in client.post("/predict", data=body).json["detail"]


@pytest.mark.parametrize(("kind", "columns"), [("onnx", 3), ("onnx", 60), ("pkl", 3)])
def test_a_plain_table_of_numbers(kind, columns, tmp_path, monkeypatch):
    """It takes a shorter way, to the same answers as JSON."""
    folder = copy_of("simple_ml", tmp_path / "simple_ml")
    monkeypatch.chdir(folder)
    X = pd.DataFrame(np.arange(50.0 * columns).reshape(50, columns) % 7.3, columns=[f"c{i}" for i in range(columns)])
    X["c1"] = X["c1"].round().astype(int)
    model = LinearRegression().fit(X, X.sum(axis=1))
    export(model if kind == "onnx" else (lambda X: X["c0"] * 2 + X["c1"] - X[f"c{columns - 1}"]), X)
    assert (folder / f"model.{kind}").exists()
    with service(folder) as client:
        answers = client.post("/predict", json=as_sent(X, model)).json
        turned = X[X.columns[::-1]].to_csv(index=False)
        assert post(client, turned, Accept="application/json").json == answers


@pytest.fixture
def batch(client, tmp_path, monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    """batch(body) runs batch.py, a few lines at a time: its exit code, and what it prints to stdout and stderr."""
    module = importlib.import_module("batch")  # of the folder of the service
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # main() replaces it

    def run(body: str | bytes, *options: str, most: int = 7) -> tuple[int, str, str]:
        monkeypatch.setattr(module, "MAX_ROWS", most)
        (tmp_path / "rows.csv").write_bytes(body.encode() if isinstance(body, str) else body)
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["batch.py", str(tmp_path / "rows.csv"), *options])
        with pytest.raises(SystemExit) as ended:
            module.main()
        printed = capfd.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def test_batch_answers_what_the_service_answers(batch, client):
    for body, _ in READABLE:
        code, answers, _ = batch(body)
        assert (code, answers) == (0, post(client, body).text), body


def test_batch_names_each_bad_row(batch, client):
    """Each row is compared with what the service answers to it alone."""
    names, *_ = csv.reader([HEADER])
    cells: dict[str, list[str]] = {
        "town": ["Köln", "Nowhere", 'a "word"', "two\nlines", "a\r\n\r\nb", " Bonn"],
        "rent": ["1500.5", "-3", "1e999", "four", "1,500", ""],
        "rooms": ["3", "2.5"],
        "own": ["yes", "0", "maybe"],
        "since": ["2024-01-31", "31.1.2024"],
    }
    random = np.random.default_rng(0)
    rows = []
    for _ in range(200):
        values = dict(zip(names, ROW.split(","), strict=True))
        name = str(random.choice([*cells]))
        values |= {"town": str(random.choice(cells["town"])), name: str(random.choice(cells[name]))}
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerow(list(values.values()) + ["more"] * (random.random() < 0.05))
        rows.append(file.getvalue() + "\n" * (random.random() < 0.1))
    rows[120] = '"Köln"x,dry,1500.5,3,20,yes,2024-01-31\n'
    code, answers, said = batch(HEADER + "".join(rows))
    expected, bad = [["prediction"]], []
    for number, row in enumerate(rows, 1):
        answer = post(client, HEADER + row)
        if answer.status_code == 200:
            expected.append(next(csv.reader(io.StringIO(answer.text.split("\n", 1)[1], newline=""))))
            continue
        expected.append([""])
        details = "; ".join(
            f"{each['pointer'].split('/')[-1]}: {each['detail']}" for each in answer.json.get("errors", [])
        )
        text = details or answer.json["detail"].replace("The CSV file", "It").replace("Row 1 has", "It has")
        if "no answer for this row" in text:
            text = f"{answer.json['detail']} (LookupError: no such town)"
        bad.append(f"Row {number}: {text}")
    assert said.splitlines() == [*bad, f"{len(bad)} of 200 rows got no answer."]
    assert list(csv.reader(io.StringIO(answers, newline=""))) == expected
    assert (code, 20 < len(bad) < 180) == (1, True)
    first = next(number for number, cells in enumerate(expected) if cells == [""])
    code, answers, said = batch(HEADER + "".join(rows), "--strict")
    assert (code, said.splitlines()) == (1, bad[:1])
    assert list(csv.reader(io.StringIO(answers, newline=""))) == expected[:first]


@pytest.mark.parametrize("last", ["1500,5", "1500"])
def test_batch_decides_for_the_whole_file(batch, client, last):
    """If any number has a decimal comma, 1.500 may be 1500 in all rows."""
    row = "Köln;dry;{};3;20;yes;2024-01-31\n"
    body = SEMICOLONS + row.format("1.500") + row.format("7") * 30 + row.format(last)
    code, answers, said = batch(body)
    assert post(client, body).status_code == (422 if "," in last else 200)
    assert (code, "Row 1: rent: 1.500 may be 1500 or a decimal" in said) == ((1, True) if "," in last else (0, False))
    assert len(answers.splitlines()) == 33


@pytest.mark.parametrize(
    "body",
    [
        HEADER,
        "",
        ROW,
        b"PK\x03\x04" + bytes(100),
        HEADER + f"{ROW}\n" * 100 + "K\0ln",
        (HEADER + ROW).encode() + b"\n\xe4\n",
        (HEADER + f"{ROW}\n" * 50_000).encode() + b"\n\xe4\n",
        (HEADER + ROW).encode() + b"\xc3",
        (HEADER + ROW).encode("utf-16")[:-1],
        (HEADER + ROW).replace("cellar", "town"),
        "town" + "," * 100_000 + "\n" + ROW,
        HEADER.replace("rent,", "") + ROW.replace("1500.5,", ""),
        HEADER.replace("since", "since,Rent") + ROW + ",5",
    ],
    ids=range(13),
)
def test_batch_refuses_what_the_service_refuses(batch, client, body):
    code, _, said = batch(body)
    problem = post(client, body).json
    errors = [f"{each['pointer'].split('/')[-1]}: {each['detail']}" for each in problem.get("errors", [])]
    assert (code, said) == (2, ("; ".join(errors) or problem["detail"]) + "\n")


def test_batch_stops_where_it_cannot_tell_the_rows_apart(batch):
    """After a quotation mark that is not closed, nobody knows where a row begins."""
    body = HEADER + f"{ROW}\n" * 20 + ROW.replace("Köln", '"Köln') + f"\n{ROW}" * 20
    code, answers, said = batch(body)
    assert (code, len(answers.splitlines())) == (2, 21)
    assert said.startswith("Row 21: It cannot be read (")
    assert "nor can the rows after it" in said


def test_batch_says_what_is_ignored(batch):
    code, _, said = batch("id," + HEADER + f"7,{ROW}")
    assert (code, said) == (0, "Not used by the model: id\n")
