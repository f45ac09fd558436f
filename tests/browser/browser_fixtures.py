"""Which browser and which server are tested, and what must hold in every test?"""

import os
import re
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from stub_server import StubCorpus, stub_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ADDRESS = "REALM_PAGE_URL"  # of a server that is to be tested in place of the stub
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# The browser itself reports a response with an error; the page has to show it, which is tested.
_REPORTED_STATUS = re.compile(r"Failed to load resource: the server responded with a status of")


@pytest.fixture(scope="session")
def chromium() -> "Iterator[Browser]":
    """A Chromium of the system, else the one that Playwright has installed.

    Nothing is skipped: who selects these tests wants them to run (`make test-browser`).
    """
    from playwright import sync_api

    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program)
        except sync_api.Error as error:
            reason = str(error).splitlines()[0]
            pytest.fail(f"no Chromium: run `make test-browser` ({reason})", pytrace=False)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of the server that is tested."""
    given = os.environ.get(ADDRESS, "").rstrip("/")
    if given:
        yield given
        return
    with stub_server(StubCorpus()) as address:
        yield address


@pytest.fixture
def page(chromium: "Browser", server: str) -> "Iterator[Page]":
    """An empty window; after the test nothing may have gone wrong or left the server."""
    context = chromium.new_context(base_url=server, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(10_000)
    wrong: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.extend(_errors(message.type, message.text)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    assert wrong == []
    elsewhere = [url for url in asked if urlsplit(url).netloc != urlsplit(server).netloc]
    assert [url for url in elsewhere if not url.startswith("data:")] == []


def _errors(kind: str, text: str) -> list[str]:
    is_error = kind in ("error", "warning") and not _REPORTED_STATUS.match(text)
    return [text] if is_error else []
