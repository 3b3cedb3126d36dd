"""Pages in a real Chromium: how a test opens one, and what is asked of every page."""

import json
import pytest
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from playwright.sync_api import Browser, Error, Page
from typing import Any, Literal

AXE = "4.14.1"  # axe-core's version
VIEWS: dict[str, dict] = {
    "phone": {"has_touch": True, "is_mobile": True, "viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
    "desktop": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
}
SCREENS: list[tuple[int, int, Literal["light", "dark"]]] = [
    (320, 568, "light"),
    (390, 844, "dark"),
    (1280, 800, "light"),
]
Visit = Callable[..., Page]


@pytest.fixture(scope="session")
def axe(npm_install) -> str:
    """The script of axe-core, which checks a page for accessibility."""
    return (npm_install("axe-core", AXE) / "axe-core" / "axe.min.js").read_text()


@pytest.fixture
def view(request: pytest.FixtureRequest) -> dict:
    """A phone, or what a test with BOTH runs on: there a finger does other things than a mouse."""
    return VIEWS[getattr(request, "param", "phone")]


BOTH = pytest.mark.parametrize("view", VIEWS, indirect=True)


@pytest.fixture(scope="session")
def checked() -> set[tuple]:
    """The states of pages that axe-core has checked: most tests end in one that another has left, too."""
    return set()


STATE = """JSON.stringify([...new Set([...document.querySelectorAll("*")].map(
    ({ tagName, className, hidden, textContent }) => [tagName, className, hidden, !textContent].join()))])"""


def load(page: Page, address: str) -> None:
    """Open an address, and again if Chromium has stopped because Docker started or ended a container beside it."""
    for _ in range(2):
        try:
            page.goto(address)
            return
        except Error as error:
            if "net::ERR_NETWORK_CHANGED" not in str(error):
                raise
    page.goto(address)


@pytest.fixture
def visit(browser: Browser, axe: str, view: dict, checked: set[tuple]) -> Iterator[Visit]:
    """Open an address; after the test, check that the page has kept all that is asked of every page.

    No error in the console (but for `refusals` answers that the test has provoked; None: any number), no request to
    another host, and on each of SCREENS nothing wider than the screen, and no violation of accessibility that axe-core
    could find.
    """

    def open_page(address: str, refusals: int | None = 0) -> Page:
        context = browser.new_context(**view, permissions=["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on(
            "console", lambda message: console.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: console.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))
        page.on("dialog", lambda dialog: pytest.fail(f"a dialog: {dialog.message}"))
        load(page, address)
        opened.append((page, address, refusals))
        return page

    console: list[str] = []
    requested: list[str] = []
    opened: list[tuple[Page, str, int | None]] = []
    yield open_page
    for page, address, refusals in opened:
        for width, height, scheme in SCREENS:
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            state = width, page.title(), page.evaluate(STATE)
            if state not in checked:
                if not page.evaluate("Boolean(window.axe)"):
                    page.evaluate(axe)
                violations = page.evaluate("axe.run().then((result) => result.violations)")
                assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations] == []
                checked.add(state)
        refused = [
            text for text in console if "Failed to load resource: the server responded with a status of 4" in text
        ]
        assert refusals is None or len(refused) == refusals
        assert [text for text in console if text not in refused] == []
        assert [url for url in requested if not url.startswith((address, "blob:", "data:"))] == []
        page.context.close()


def downloaded(page: Page, link: str) -> bytes:
    with page.expect_download() as download:
        page.click(link)
    return Path(download.value.path()).read_bytes()


def run(command: str, folder: Path) -> Any:
    """Run a command that a page shows, as people do who paste it into a terminal, and return its answer."""
    return json.loads(subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, check=True).stdout)
