"""The pages in a real Chromium, as people use them: with mouse, finger, keyboard, clipboard and files.

The last state of every test is checked as a whole on two phones, light and dark, and on a desktop: see `visit`.
`SCREENSHOTS=1` also writes the pictures of the README anew.
"""

import base64
import csv
import io
import math
import os
import pytest
import re
import requests
import subprocess
from collections.abc import Iterator
from examples import ROOT
from PIL import Image, ImageDraw
from playwright.sync_api import FilePayload, Page, expect
from support.pages import BOTH, Visit, downloaded, load, run

PLAIN = "plain.test"  # this machine under a name that, unlike localhost, a browser does not trust without https
SAMPLES = ROOT / "image_classification" / "samples"
DOCS = ROOT / "docs" / "images"

pytestmark = [pytest.mark.browser, pytest.mark.npm]


@pytest.fixture
def square(server, visit) -> Visit:
    return lambda **options: visit(server("passing_arguments"), **options)


@pytest.fixture
def flowers(server, visit) -> Visit:
    return lambda **options: visit(server("simple_ml"), **options)


@pytest.fixture
def digits(server, visit) -> Visit:
    return lambda **options: visit(server("image_classification"), **options)


def three(width: float) -> list[tuple[float, float]]:
    """Points along a 3 on a paper of this width."""
    upper = [(0.5 + 0.2 * math.sin(turn), 0.32 - 0.18 * math.cos(turn)) for turn in range_of(-60, 160)]
    lower = [(0.5 + 0.22 * math.sin(turn), 0.68 - 0.2 * math.cos(turn)) for turn in range_of(10, 235)]
    return [(x * width, y * width) for x, y in upper + lower]


def range_of(start: int, end: int) -> list[float]:
    return [math.radians(degrees) for degrees in range(start, end, 15)]


def draw_three(page: Page, touch: bool) -> None:
    """Draw with the finger where there is a touch screen, else with the mouse."""
    paper = page.locator("#paper")
    paper.scroll_into_view_if_needed()
    box = paper.bounding_box()
    assert box
    points = [(box["x"] + x, box["y"] + y) for x, y in three(box["width"])]
    if touch:
        screen = page.context.new_cdp_session(page)
        for number, (x, y) in enumerate(points):
            kind = "touchMove" if number else "touchStart"
            screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        screen.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        return
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points:
        page.mouse.move(*point)
    page.mouse.up()


def drop(page: Page, name: str, content: bytes, kind: str) -> None:
    """Drop a file onto the page."""
    data = page.evaluate_handle(
        """([name, content, type]) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(atob(content), (byte) => byte.charCodeAt())], name, { type }));
            return data;
        }""",
        [name, base64.b64encode(content).decode(), kind],
    )
    page.dispatch_event("h1", "dragover", {"dataTransfer": data})
    expect(page.locator("#drop")).to_have_class("over")
    page.dispatch_event("h1", "drop", {"dataTransfer": data})
    expect(page.locator("#drop")).not_to_have_class("over")


def paste_text(page: Page, field: str, text: str) -> None:
    page.evaluate("(text) => navigator.clipboard.writeText(text)", text)
    page.focus(field)
    page.keyboard.press("Control+V")


def table(page: Page) -> list[list[str]]:
    return [row.locator("th, td").all_text_contents() for row in page.locator("#table tr").all()]


def test_hello_world(server, browser, view):
    context = browser.new_context(**view)
    page = context.new_page()
    load(page, server("hello_world"))
    assert page.inner_text("body").strip() == "Hello World"
    context.close()


def test_square(square):
    page = square()
    for number, its_square in {"-3": "9", "2.5": "6.25", "9" * 100: str((10**100 - 1) ** 2)}.items():
        page.fill("input", number)
        page.keyboard.press("Enter")
        expect(page.locator("#answer")).to_have_text(its_square)


def test_square_of_a_word(square):
    page = square(refusals=1)
    page.fill("input", "five's")
    page.keyboard.press("Enter")
    expect(page.locator("#answer.wrong")).to_contain_text("such as 5 or 2.5")


@BOTH
def test_one_flower(flowers):
    page = flowers()
    for name, value in {"f1": "4", "f2": "5", "f3": "10"}.items():
        page.get_by_label(name).fill(value)
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_have_text("virginica")
    expect(page.locator(".bars li")).to_have_count(3)
    expect(page.locator(".bars li").last).to_have_text(re.compile(r"^virginica\d+\.\d %$"))
    page.get_by_label("f1").fill("5")  # an answer does not stay beside other numbers
    expect(page.locator("#answer")).to_have_text("")


@BOTH
def test_one_flower_by_keyboard_alone(flowers):
    page = flowers()
    for key in [
        "Tab",
        "Tab",
        "5",
        "Tab",
        "3",
        "Tab",
        "1",
        "Tab",
        "Enter",
    ]:  # tabbing into a field selects what is in it
        page.keyboard.press(key)
    expect(page.locator("#answer")).to_have_text("setosa")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_one_bad_flower(flowers):
    page = flowers(refusals=1)
    page.get_by_label("f2").fill("1e39")
    page.get_by_role("button", name="Predict", exact=True).click()
    expect(page.locator("#answer.wrong")).to_contain_text("f2: Input should be less than or equal to")
    expect(page.locator(".bars li")).to_have_count(0)


@BOTH
def test_paste_a_table(flowers):
    page = flowers()
    paste_text(page, "#rows", "f1\tf2\tf3\n5.1\t3.5\t1.4\n6.3\t3.3\t6.0\n")
    page.get_by_role("button", name="Predict all").click()
    expect(page.locator("#summary")).to_have_text("Rows: 2.")
    header, first, second = table(page)
    assert header[:3] == ["row", "prediction", "probability setosa"]
    assert (first[:2], second[:2]) == (["1", "setosa"], ["2", "virginica"])


def test_drop_a_csv_file(flowers):
    """Other order, other columns, quotes, an empty line, Windows' line ends and byte order mark; and HTML as a cell."""
    rows = [["f3", 'a "name"', "f1", "f2"], ["1.4", "<img src=x onerror=alert(1)>", "5.1", "3.5"]]
    rows += [["6", 'one, "two"\nthree', "6.3", "3.3"], []]
    file = io.StringIO(newline="")
    csv.writer(file).writerows(rows)
    page = flowers()
    drop(page, "rows.csv", file.getvalue().encode("utf-8-sig"), "text/csv")
    expect(page.locator("#summary")).to_have_text('Rows: 2. Not used by the model: a "name".')
    got = list(csv.reader(io.StringIO(downloaded(page, "#csv").decode("utf-8-sig"), newline="")))
    classes = ["probability setosa", "probability versicolor", "probability virginica"]
    assert got[0] == [*rows[0], "prediction", *classes]
    assert [row[:5] for row in got[1:]] == [[*rows[1], "setosa"], [*rows[2], "virginica"]]
    assert [sum(map(float, row[5:])) for row in got[1:]] == pytest.approx([1, 1], abs=1e-5)


def test_choose_a_long_csv_file(flowers, tmp_path):
    """A long table is shown in part and downloaded as a whole, and the command reads what it sends from a file."""
    (tmp_path / "rows.csv").write_text("f1;f2;f3\n" + "5.1;3.5;1.4\n" * 5000)
    page = flowers()
    page.set_input_files("[type=file]", tmp_path / "rows.csv")
    expect(page.locator("#summary")).to_have_text("Rows: 5000. The first 100:")
    assert len(table(page)) == 101
    assert downloaded(page, "#csv").count(b";setosa;") == 5000
    command = page.inner_text("#curl")
    assert command.endswith("--data-binary @rows.csv")
    printed = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=True, text=True).stdout
    assert printed.count("\nsetosa,") == 5000


def test_bad_tables(flowers):
    page = flowers(refusals=None)
    for text, *says in [
        [
            "f2,f1,f3\n1,2,3\n4,no,\n",
            'Row 2, f1: Input should be a valid number, not "no"',
            "Row 2, f3: Input should be",
        ],
        ["5.1,3.5,1.4\n", "The first line must name the columns: f1, f2, f3."],
        ["f1,f2\n5.1,3.5\n", "Row 1, f3: This feature is missing"],
        ["f1,f2,f3\n", "There is no row below the line with the names."],
        ["f1,f2,f3\n1,2,3\n1,2,3,4\n", "Row 2 has 4 cells, and there are 3 names above."],
        ["f1,f2,f3\n" + "1,2,3\n" * 100_001, "100000"],
    ]:
        drop(page, "rows.csv", text.encode(), "text/csv")
        for words in says:
            expect(page.locator("#summary.wrong")).to_contain_text(words)
        expect(page.locator("#table")).to_be_hidden()


EVIL = """<b onclick='alert(1)'>"Rome"</b>"""


@pytest.fixture(scope="module")
def another_model(tmp_path_factory) -> Iterator[str]:
    """The address of simple_ml with a model of text with known values, whole numbers, yes/no, and what may be empty."""
    from sklearn.preprocessing import OneHotEncoder
    from support.models import BUYS, GAPS, people, serve

    X = GAPS.replace({"city": {"Rome": EVIL}})
    with serve(people(OneHotEncoder()).fit(X, BUYS), X, tmp_path_factory.mktemp("model")) as url:
        yield url


def test_form_of_another_model(another_model, visit, tmp_path):
    """Of which a value holds quotes and tags."""
    page = visit(another_model)
    page.get_by_label("city").select_option(EVIL)
    page.get_by_label("age").fill("41")
    page.get_by_label("income").fill("")
    page.get_by_label("member").select_option("no")
    page.get_by_role("button", name="Predict", exact=True).click()
    row = {"city": EVIL, "age": 41, "income": None, "member": False}
    answer = requests.post(f"{another_model}/predict", json=row, timeout=10).json()
    expect(page.locator("#answer")).to_have_text(str(answer["prediction"]))
    assert run(page.inner_text("#curl"), tmp_path) == answer
    paste_text(page, "#rows", 'member\tage\tincome\tcity\nFALSE\t41\t\t"' + EVIL.replace('"', '""') + '"\n')
    page.get_by_role("button", name="Predict all").click()
    expect(page.locator("#table td").nth(1)).to_have_text(str(answer["prediction"]))


@BOTH
def test_draw_a_three(digits, view):
    page = digits(refusals=None)  # half of a 3 may be none
    draw_three(page, "has_touch" in view)
    drawing = page.locator("#drawing")
    expect(drawing.locator(".prediction")).to_have_text("3")
    expect(drawing.locator(".bars li")).to_have_count(10)
    seen = drawing.locator("canvas")
    expect(seen).to_be_visible()
    assert seen.evaluate("(canvas) => [canvas.width, canvas.height]") == [28, 28]
    bright = (
        "(canvas) => Math.max(...canvas.getContext('2d').getImageData(0, 0, 28, 28).data.filter((_, i) => i % 4 === 0))"
    )
    assert seen.evaluate(bright) > 200
    page.get_by_role("button", name="Clear").click()
    expect(drawing.locator(".prediction")).to_contain_text("as you draw")
    expect(drawing.locator(".bars li")).to_have_count(0)


def test_a_cleared_paper_is_not_sent(digits):
    """A blank picture would be refused, and the refusal stand in the browser's console."""
    page = digits()
    page.locator("#paper").scroll_into_view_if_needed()
    page.evaluate("""() => {
        const { left, top } = document.querySelector("#paper").getBoundingClientRect();
        draw({ clientX: left + 50, clientY: top + 50 });
        document.querySelector("#clear").click();
    }""")
    page.wait_for_timeout(300)
    expect(page.locator("#drawing .prediction")).to_contain_text("as you draw")


@BOTH
def test_a_dot_is_ink(digits):
    page = digits(refusals=None)
    page.locator("#paper").click()
    expect(page.locator("#drawing canvas")).to_be_visible()


def test_a_picture_without_a_digit_is_refused_and_shown(digits):
    cross = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(cross).line([(40, 40), (160, 160)], 0, 20)
    ImageDraw.Draw(cross).line([(160, 40), (40, 160)], 0, 20)
    page = digits(refusals=1)
    page.get_by_label("Choose pictures").set_input_files(picture_file(cross))
    expect(page.locator("#results .prediction")).to_contain_text("this does not look like a digit")
    expect(page.locator("#results canvas")).to_be_visible()


def test_several_digits_are_counted(digits):
    both = Image.new("L", (600, 300), 255)
    for place, name in enumerate(["two", "seven"]):
        both.paste(Image.open(SAMPLES / f"{name}.png").convert("L").resize((200, 200)), (50 + 300 * place, 50))
    page = digits()
    page.get_by_label("Choose pictures").set_input_files(picture_file(both))
    expect(page.locator("#results .more")).to_have_text("and 1 more in the picture")
    page.get_by_label("Choose pictures").set_input_files(SAMPLES / "three.png")
    expect(page.locator("#results .prediction")).to_have_text("3")
    expect(page.locator("#results .more")).to_have_text("")


def picture_file(image: Image.Image) -> FilePayload:
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"name": "picture.png", "mimeType": "image/png", "buffer": file.getvalue()}


@BOTH
def test_one_request_at_a_time_as_one_draws(digits, view):
    page = digits(refusals=None)
    under_way: list[int] = [0]
    most: list[int] = []

    def count(change: int) -> None:
        under_way[0] += change
        most.append(under_way[0])

    page.on("request", lambda _: count(1))
    page.on("response", lambda _: count(-1))  # not "requestfinished", which may come after the next request
    for _ in range(5):
        draw_three(page, "has_touch" in view)
    expect(page.locator("#drawing .prediction")).to_have_text("3")
    assert max(most) == 1


@BOTH
def test_choose_two_pictures(digits):
    page = digits()
    page.get_by_label("Choose pictures").set_input_files([SAMPLES / "one.png", SAMPLES / "three.png"])
    expect(page.locator("#results .prediction")).to_have_text(["1", "3"])
    expect(page.locator("#results .name")).to_have_text(["one.png", "three.png"])
    for image in page.locator("#results img").all():
        expect(image).to_be_visible()


def test_one_bad_file_does_not_spoil_the_others(digits):
    """And its name is only text."""
    white = io.BytesIO()
    Image.new("L", (28, 28), "white").save(white, "PNG")
    files = [
        {"name": "<img src=x onerror=alert(1)>.txt", "mimeType": "text/plain", "buffer": b"seven"},
        {"name": "white.png", "mimeType": "image/png", "buffer": white.getvalue()},
        {"name": "three.png", "mimeType": "image/png", "buffer": (SAMPLES / "three.png").read_bytes()},
    ]
    page = digits(refusals=2)
    page.get_by_label("Choose pictures").set_input_files(files)
    answers = page.locator("#results .prediction")
    expect(answers).to_have_text([re.compile("^This is not a picture"), re.compile("[a-z]+ .*[.]$"), "3"])
    expect(page.locator("#results .name").first).to_have_text("<img src=x onerror=alert(1)>.txt")


def test_drop_a_picture(digits):
    page = digits()
    drop(page, "three.png", (SAMPLES / "three.png").read_bytes(), "image/png")
    expect(page.locator("#results .prediction")).to_have_text("3")
    expect(page.locator("#results .bars li")).to_have_count(10)


def test_paste_a_picture(digits):
    page = digits()
    page.evaluate(
        """async (bytes) => {
            const picture = new Blob([new Uint8Array(bytes)], { type: "image/png" });
            await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
        }""",
        list((SAMPLES / "seven.png").read_bytes()),
    )
    page.keyboard.press("Control+V")
    expect(page.locator("#results .prediction")).to_have_text("7")


@BOTH
def test_take_a_photo(digits, view):
    """The camera is offered where there is a touch screen; the browser then opens it itself."""
    page = digits()
    camera = page.get_by_label("Take a photo")
    if "has_touch" not in view:
        expect(camera).to_be_hidden()
        return
    assert camera.get_attribute("capture") == "environment"
    camera.set_input_files(SAMPLES / "three_photo.jpg")
    expect(page.locator("#results .prediction")).to_have_text("3")


@BOTH
@pytest.mark.parametrize("example", ["passing_arguments", "simple_ml", "image_classification"])
def test_copy_the_command(server, visit, view, tmp_path, example):
    """Over plain HTTP, where browsers keep navigator.clipboard back; and what is copied runs, and answers the same."""
    draws = example == "image_classification"  # the page asks while one draws, and half of a 3 may get a 422
    page = visit(server(example).replace("127.0.0.1", PLAIN), refusals=None if draws else 0)
    assert page.evaluate("isSecureContext") is False
    if draws:
        draw_three(page, "has_touch" in view)
        (tmp_path / "digit.png").write_bytes(downloaded(page, "#save"))
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    page.evaluate("document.querySelector('main').append(document.createElement('textarea'))")
    field = page.locator("textarea").last
    field.evaluate("(field) => { field.ariaLabel = 'what was copied'; }")
    field.focus()
    page.keyboard.press("Control+V")
    command = field.input_value().replace(PLAIN, "127.0.0.1")
    assert command.startswith("curl ")
    answer = run(command, tmp_path)
    if example == "passing_arguments":
        assert answer == 25
    else:
        assert answer["prediction"] == {"simple_ml": "versicolor", "image_classification": 3}[example]


@pytest.mark.parametrize("example", ["passing_arguments", "simple_ml"])
def test_the_service_has_gone(server, visit, example):
    page = visit(server(example))
    page.evaluate("() => { window.fetch = () => Promise.reject(new TypeError('Failed to fetch')); }")
    page.locator("form button").first.click()
    expect(page.locator(".wrong").first).to_contain_text("The service cannot be reached")


@pytest.mark.parametrize("example", ["simple_ml", "image_classification"])
def test_screenshots(server, browser, tmp_path, example):
    context = browser.new_context(viewport={"width": 760, "height": 600}, device_scale_factor=2)
    page = context.new_page()
    load(page, server(example))
    if example == "simple_ml":
        page.get_by_role("button", name="Predict", exact=True).click()
        page.fill("#rows", "flower\tf1\tf2\tf3\nA\t5.1\t3.5\t1.4\nB\t6.3\t3.3\t6.0\nC\t5.9\t3.0\t4.2\n")
        page.get_by_role("button", name="Predict all").click()
        page.wait_for_selector("#table table")
    else:
        page.get_by_label("Choose pictures").set_input_files([SAMPLES / "seven.png", SAMPLES / "three_photo.jpg"])
        expect(page.locator("#results .prediction")).to_have_text(["7", "3"])
        draw_three(page, touch=False)
        expect(page.locator("#drawing .prediction")).to_have_text("3")
    curl = page.locator("#curl")  # with the port that the README has
    curl.evaluate("(curl) => { curl.textContent = curl.textContent.replace(location.host, 'localhost:5000'); }")
    folder = DOCS if os.environ.get("SCREENSHOTS") == "1" else tmp_path
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    picture.convert("RGB").quantize(128).save(folder / f"{example}.png", optimize=True)  # a third of the bytes
    context.close()
