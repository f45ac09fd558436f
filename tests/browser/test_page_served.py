"""Does the page work with a real server: a run, its documents, its headers?

The models are untrained, so that what they answer is chance; where it stands is not. The corpus
has so few passages that all of them are read.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import CARDS, LIGHTHOUSE, ask, assert_marked, expect, wait
from test_page import EVIL

from small_run import make_run, served

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["browser_fixtures"]
pytestmark = pytest.mark.browser

QUESTION = "Who built the lighthouse?"
BASE = (
    ("tavil", "Tavil", "Tavil is a town at the mouth of the Sorna. It has a harbour."),
    ("lind", "Edvard Lind", "Edvard Lind founded the observatory of Orsk in 1894."),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, trunk_folder: Path) -> Iterator[str]:
    """The address of `realm serve` over a run of two documents."""
    folder = tmp_path_factory.mktemp("served")
    source = folder / "base.jsonl"
    rows = [{"id": id, "title": title, "text": text} for id, title, text in BASE]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = make_run(folder / "run", source, trunk_folder, names=("pretrain", "finetune"))
    with served(run.path, "--port", "0") as (_, address, _):
        yield "http://{}:{}".format(*address)


def titles_read(page: "Page") -> set[str]:
    """Documents of the passages that an answer was read in, as the page explains it."""
    page.goto(f"/#/why?q={QUESTION}")
    page.reload()
    wait(page)
    expect(page.get_by_role("table")).to_be_visible()
    return set(page.locator("table .source a").all_text_contents())


def add(page: "Page", title: str, text: str) -> None:
    page.goto("/#/documents")
    wait(page)
    page.get_by_text("Add documents", exact=True).click()
    page.get_by_label("Title", exact=True).fill(title)
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".outcomes li.good")).to_contain_text("was added")


def test_ask_edit_and_ask_again(page: "Page") -> None:
    page.goto("/")
    ask(page, QUESTION)
    nearest = page.locator(".nearest > summary")
    if nearest.count():  # it abstains
        nearest.click()
    assert_marked(page.locator(CARDS))
    base = {title for _, title, _ in BASE}
    assert titles_read(page) == base
    add(page, LIGHTHOUSE["title"], LIGHTHOUSE["text"])
    assert titles_read(page) == base | {LIGHTHOUSE["title"]}
    page.locator("table .source a", has_text=LIGHTHOUSE["title"]).first.click()
    expect(page.locator("article")).to_have_text(LIGHTHOUSE["text"])
    expect(page.locator("article mark")).to_be_in_viewport()
    page.goto("/#/documents?text=quillan")
    page.get_by_role("button", name="Remove Quillan Marsh").click()
    expect(page.get_by_role("button", name="Put Quillan Marsh back")).to_be_focused()
    assert titles_read(page) == base


def test_a_document_of_markup_stays_text(page: "Page") -> None:
    add(page, EVIL["title"], EVIL["text"])
    assert EVIL["title"] in titles_read(page)
    page.locator("table .source a", has_text="Wendover").first.click()
    expect(page.locator("main h1")).to_have_text(EVIL["title"])
    expect(page.locator("article")).to_have_text(EVIL["text"])
    assert page.locator("main :is(img, script, b)").count() == 0
    assert page.evaluate("window.hurt") is None
    page.goto("/#/documents?text=Wendover")
    page.get_by_role("button", name="Remove").first.click()
    expect(page.get_by_role("button", name="Put")).to_be_focused()
