"""How do the tests see the page: which browser, which server, and what must hold in every test?"""

import os
import re
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

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
    """A Chromium of the system, else the one that Playwright has installed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program)
        except sync_api.Error as error:
            pytest.skip(f"no Chromium: run `make test-browser` ({str(error).splitlines()[0]})")
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


def put(page: Any, *documents: dict[str, str]) -> None:
    """Add documents past the page."""
    response = page.request.post("/v1/documents", data={"documents": list(documents)})
    assert response.ok, response.text()


def remove(page: Any, *ids: str) -> None:
    """Remove documents past the page, those that are there."""
    for document_id in ids:
        response = page.request.delete(f"/v1/documents/{quote(document_id, safe='')}")
        assert response.status in (200, 404), response.text()


def info(page: Any) -> dict[str, Any]:
    """What the server can do."""
    described: dict[str, Any] = page.request.get("/v1/info").json()
    return described


def change_info(page: Any, **changes: Any) -> None:
    """Let the page see another description of the server."""

    def answer(route: Any) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), **changes})

    page.route("**/v1/info", answer)


def refuse(page: Any, path: str, status: int, detail: str, **headers: str) -> None:
    """Answer one path with a problem."""
    problem = {"type": "about:blank", "title": "Problem", "status": status, "detail": detail}
    page.route(
        f"**{path}",
        lambda route: route.fulfill(
            status=status, json=problem,
            headers={"Content-Type": "application/problem+json", **headers},
        ),
    )  # fmt: skip
