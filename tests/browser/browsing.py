"""What do the tests do on the page, and past it?"""

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

CARDS = "main .card:has(.answer)"
LIGHTHOUSE = {
    "id": "quillan-marsh",
    "title": "Quillan Marsh",
    "text": "🧭🗼 Quillan Marsh is a small harbour town 🌊 on a cold coast. The lighthouse of "
    "Quillan Marsh was built by Odalys Brankovic. Ships pass it by night and by day.",
}
ASK_OF_LIGHTHOUSE = "Who built the lighthouse of Quillan Marsh?"


def questions(page: "Page") -> list[str]:
    return [example for example in info(page)["examples"] if "[MASK]" not in example]


def ask(page: "Page", question: str) -> None:
    """Put a question into the view that is shown, and wait for what comes."""
    box = page.get_by_role("search").first.get_by_role("textbox").first
    box.fill(question)
    box.press("Enter")
    wait(page)


def wait(page: "Page") -> None:
    expect(page.locator("main h1")).to_be_visible()
    expect(page.locator("main [aria-busy]")).to_have_count(0)


def cards_of(page: "Page", title: str) -> "Locator":
    return page.locator(CARDS, has=page.locator(".source a").get_by_text(title, exact=True))


def assert_marked(cards: "Locator") -> None:
    """In every card the words marked in the passage are the answer."""
    expect(cards.first).to_be_attached()
    for card in cards.all():
        assert card.locator("mark").text_content() == card.locator(".answer").text_content()


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
