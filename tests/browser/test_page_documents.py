"""Can a person add documents, find them, remove them and put them back?"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from browsing import (
    ASK_OF_LIGHTHOUSE,
    LIGHTHOUSE,
    ask,
    assert_marked,
    cards_of,
    expect,
    info,
    put,
    refuse,
    remove,
    wait,
)  # fmt: skip

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytest_plugins = ["browser_fixtures"]
pytestmark = pytest.mark.browser

IDS = [
    "0-first",
    "7",
    "quillan-marsh",
    "quillan-marsh-2",
    "harbour.txt",
    "notes.md",
    "web.html",
    "kept/a",
    "kept/b",
]


@pytest.fixture(autouse=True)
def _without_traces(page: "Page") -> Iterator[None]:
    remove(page, *IDS)
    yield
    page.unroute_all()
    remove(page, *IDS)


def open_adding(page: "Page") -> None:
    page.goto("/#/documents")
    wait(page)
    page.get_by_text("Add documents", exact=True).click()


def upload(page: "Page", **content_by_name: str | bytes) -> None:
    page.get_by_label("Choose files, or drop them here").set_input_files([
        {
            "name": name.replace("__", "."), "mimeType": "application/octet-stream",
            "buffer": text.encode() if isinstance(text, str) else text,
        }
        for name, text in content_by_name.items()
    ])  # fmt: skip


def test_an_added_document_answers_until_it_is_removed(page: "Page") -> None:
    page.goto("/")
    ask(page, ASK_OF_LIGHTHOUSE)
    assert cards_of(page, LIGHTHOUSE["title"]).count() == 0
    before = info(page)["num_documents"]

    page.get_by_role("link", name="Documents").click()
    page.get_by_text("Add documents", exact=True).click()
    page.get_by_label("Title", exact=True).fill(LIGHTHOUSE["title"])
    page.get_by_label("Text", exact=True).fill(LIGHTHOUSE["text"])
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".outcomes li.good")).to_contain_text("was added")
    footer = page.get_by_role("contentinfo")
    expect(footer).to_contain_text(f"{before + 1:,} document")

    page.get_by_role("link", name="Ask", exact=True).click()
    ask(page, ASK_OF_LIGHTHOUSE)
    expect(page.locator(".card .answer", has_text="Brankovic").first).to_be_attached()
    assert_marked(cards_of(page, LIGHTHOUSE["title"]))

    page.goto("/#/documents?text=quillan")
    page.get_by_role("button", name="Remove Quillan Marsh").click()
    undo = page.get_by_role("button", name="Put Quillan Marsh back")
    expect(undo).to_be_focused()
    expect(footer).to_contain_text(f"{before:,} document")
    page.get_by_role("link", name="Ask", exact=True).click()
    ask(page, ASK_OF_LIGHTHOUSE)
    assert cards_of(page, LIGHTHOUSE["title"]).count() == 0

    put_back_from_the_list(page)
    ask(page, ASK_OF_LIGHTHOUSE)
    assert_marked(cards_of(page, LIGHTHOUSE["title"]))


def put_back_from_the_list(page: "Page") -> None:
    page.get_by_role("link", name="Documents").click()
    page.get_by_role("button", name="Put Quillan Marsh back").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Remove Quillan Marsh")).to_be_focused()
    page.get_by_role("link", name="Quillan Marsh").click()
    expect(page.locator("article")).to_have_text(LIGHTHOUSE["text"])
    page.goto("/#/ask")


def test_an_id_from_a_title_replaces_nothing_and_a_given_one_does(page: "Page") -> None:
    put(page, LIGHTHOUSE)
    open_adding(page)

    def add(text: str, document_id: str = "") -> None:
        page.get_by_label("Title", exact=True).fill("Quillan Marsh")
        page.get_by_label("Text", exact=True).fill(text)
        page.get_by_label("Id (optional)").fill(document_id)
        page.get_by_role("button", name="Add", exact=True).click()

    add("Another town of this name.")
    expect(page.locator(".outcomes li").first).to_contain_text("was added")
    add("A later edition.", "quillan-marsh-2")
    expect(page.locator(".outcomes li").first).to_contain_text("was replaced")
    page.locator(".outcomes li").first.get_by_role("link", name="Open").click()
    expect(page.locator("article")).to_have_text("A later edition.")
    page.goto("/#/document/quillan-marsh")
    expect(page.locator("article")).to_have_text(LIGHTHOUSE["text"])


def test_a_document_needs_text(page: "Page") -> None:
    open_adding(page)
    page.get_by_label("Title", exact=True).fill("Nothing")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("alert").first).to_have_text("Paste or write the document's text.")
    expect(page.get_by_label("Text", exact=True)).to_be_focused()


def test_several_files_are_uploaded_each_with_its_own_outcome(page: "Page") -> None:
    open_adding(page)
    markup = (
        "<title>A  web page</title><script>window.hurt = 1;for(let i=0;i<2;i++){}</script>"
        "<!-- <p>no --><article class='card hidden wide' title=it's>"
        "<p style='color: red' onclick=\"window.hurt = 1\">First &lt;b&gt; block</p>"
        "<p hidden>no</p>"
        "<img src=/nowhere onerror='window.hurt = 1'><p>Second\nblock</p></article>"
    )
    lines = (
        '{"id": "kept/a", "title": "A", "text": "One."}\n\n{"id": "kept/b", "text": "Two."}\n'
        '{"id": 7, "title": null, "text": "Seven."}\n'
    )
    blank = '{"id": "kept/c", "text": "Three."}\n{"id": "kept/d", "text": " "}\n'
    upload(
        page, harbour__txt="A harbour 🌊.", notes__md="Intro\n\n## My notes ##\n", web__html=markup,
        rows__jsonl=lines, blank__jsonl=blank, broken__jsonl='{"id": 3}', scan__pdf="%PDF",
        latin__txt=b"caf\xe9", empty__txt=" \n",
    )  # fmt: skip
    expect(page.locator("progress")).to_be_hidden()
    outcomes = page.locator(".outcomes")
    expect(outcomes.locator(".good")).to_have_count(4)
    expect(outcomes.locator(".bad")).to_have_count(5)
    for said in (
        "rows.jsonl 3 documents added", "line 1 needs", "line 2 has no text", "only .txt",
        "not UTF-8", "holds no text",
    ):  # fmt: skip
        expect(outcomes).to_contain_text(said)
    texts = {
        "harbour.txt": ("harbour", "A harbour 🌊."),
        "notes.md": ("My notes", "Intro\n\n## My notes ##\n"),
        "web.html": ("A web page", "First <b> block\n\nSecond block"),
        "kept/b": ("", "Two."),
        "7": ("", "Seven."),
    }
    for document_id, expected in texts.items():
        found = page.request.get(f"/v1/documents/{document_id.replace('/', '%2F')}").json()
        assert (found["title"], found["text"]) == expected
    assert page.evaluate("window.hurt") is None


def test_files_can_be_dropped_and_a_miss_does_not_leave_the_page(page: "Page") -> None:
    open_adding(page)
    drop = """(target, name) => {
        const data = new DataTransfer();
        data.items.add(new File(["A harbour."], name, {type: "text/plain"}));
        const event = new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
        target.dispatchEvent(event);
        return event.defaultPrevented;
    }"""
    assert page.locator("main h1").evaluate(drop, "missed.txt") is True
    assert page.locator(".drop").evaluate(drop, "harbour.txt") is True
    words = """(target) => {
        const data = new DataTransfer();
        data.setData("text/plain", "Words.");
        const event = new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
        target.dispatchEvent(event);
        return event.defaultPrevented;
    }"""
    box = page.get_by_label("Text", exact=True)
    assert box.evaluate(words) is False, "words may be dropped into a box"
    expect(page.locator(".outcomes li")).to_have_count(1)
    expect(page.locator(".outcomes .good")).to_contain_text("harbour.txt")


def test_what_the_server_refuses_is_said_and_nothing_typed_is_lost(page: "Page") -> None:
    open_adding(page)
    refuse(page, "/v1/documents", 422, "the text has the control character U+0001: remove it")
    page.get_by_label("Text", exact=True).fill("Words.")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("alert").first).to_contain_text("control character U+0001")
    expect(page.get_by_label("Text", exact=True)).to_have_value("Words.")


def test_a_document_that_cannot_be_removed_stays_in_the_list(page: "Page") -> None:
    put(page, LIGHTHOUSE)
    page.goto("/#/documents?text=quillan")
    refuse(page, "/v1/documents/quillan-marsh", 503, "the corpus is busy: try again soon")
    page.get_by_role("button", name="Remove Quillan Marsh").click()
    row = page.locator(".documents li")
    expect(row.get_by_role("alert")).to_contain_text("the corpus is busy")
    expect(row.get_by_role("button", name="Remove Quillan Marsh")).to_be_enabled()


def test_undo_outlives_the_list_that_it_stood_in(page: "Page") -> None:
    put(page, LIGHTHOUSE)
    page.goto("/#/documents?text=quillan")
    page.get_by_role("button", name="Remove Quillan Marsh").click()
    undo = page.get_by_role("button", name="Put Quillan Marsh back")
    expect(undo).to_be_focused()
    page.get_by_label("Search titles, texts and ids").fill("nothing is called this")
    expect(page.locator("main .status")).to_contain_text("No document matches")
    expect(undo).to_be_visible()
    page.get_by_text("Add documents", exact=True).click()
    page.get_by_label("Text", exact=True).fill("Another one.")
    page.get_by_label("Id (optional)").fill("kept/a")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".outcomes li.good")).to_contain_text("was added")
    page.get_by_role("link", name="Ask", exact=True).click()
    page.get_by_role("link", name="Documents").click()
    wait(page)
    undo.click()
    expect(page.get_by_role("button", name="Remove Quillan Marsh")).to_be_focused()
    assert page.request.get("/v1/documents/quillan-marsh").json()["text"] == LIGHTHOUSE["text"]


def test_undo_replaces_nothing_and_can_be_dismissed(page: "Page") -> None:
    put(page, LIGHTHOUSE)
    page.goto("/#/documents?text=quillan")
    page.get_by_role("button", name="Remove Quillan Marsh").click()
    undo = page.get_by_role("button", name="Put Quillan Marsh back")
    expect(undo).to_be_focused()
    put(page, {**LIGHTHOUSE, "text": "A later edition."})
    undo.click()
    expect(page.locator(".documents").get_by_role("alert")).to_contain_text("is there again")
    assert page.request.get("/v1/documents/quillan-marsh").json()["text"] == "A later edition."
    page.get_by_role("button", name="Dismiss Quillan Marsh").click()
    expect(undo).to_have_count(0)
    expect(page.locator("main h1")).to_be_focused()


def test_a_new_search_hides_what_would_go_on_behind_the_old_one(page: "Page") -> None:
    for number in range(60):
        put(page, {"id": f"many/{number:02}", "title": f"Number {number}", "text": "One of many."})
    page.goto("/#/documents?text=many")
    more = page.get_by_role("button", name="More")
    expect(more).to_be_visible()
    refuse(page, "/v1/documents?*nothing*", 503, "the corpus is busy: try again soon")
    page.get_by_label("Search titles, texts and ids").fill("nothing")
    expect(page.locator("main").get_by_text("the corpus is busy")).to_be_visible()
    expect(more).to_be_hidden()
    for number in range(60):
        remove(page, f"many/{number:02}")


def test_what_cannot_be_put_back_is_said_before_it_is_removed(page: "Page") -> None:
    put(page, LIGHTHOUSE)
    kept = page.request.get("/v1/documents/quillan-marsh").json()

    def show(route: "Route") -> None:  # as a file may have been, which HTTP would refuse
        if route.request.method == "GET":
            route.fulfill(json={**kept, "text": "A page\x0cand a page\x01."})
        else:
            route.continue_()

    page.route("**/v1/documents/quillan-marsh", show)
    page.goto("/#/documents?text=quillan")
    page.get_by_role("button", name="Remove Quillan Marsh").click()
    for_good = page.get_by_role("button", name="Remove Quillan Marsh for good")
    expect(for_good).to_be_focused()
    said = page.locator(".documents").get_by_role("alert")
    expect(said).to_contain_text("cannot be put back from here: it has control characters")
    assert page.request.get("/v1/documents/quillan-marsh").ok
    for_good.click()
    expect(page.get_by_role("button", name="Dismiss Quillan Marsh")).to_be_focused()
    expect(page.get_by_role("button", name="Put Quillan Marsh back")).to_have_count(0)
    assert page.request.get("/v1/documents/quillan-marsh").status == 404


def test_the_number_of_documents_follows_what_is_removed_and_put_back(page: "Page") -> None:
    put(page, {"id": "0-first", "title": "First", "text": "It is first in the list."})
    number = info(page)["num_documents"]

    def said(number: int) -> str:
        return f" of {number:,}" if number > 50 else f"{number} document"

    page.goto("/#/documents")
    status = page.locator("main .status")
    expect(status).to_contain_text(said(number))
    page.get_by_role("button", name="Remove First", exact=True).click()
    expect(status).to_contain_text(said(number - 1))
    page.get_by_role("button", name="Put First back").click()
    expect(status).to_contain_text(said(number))


def test_the_list_is_searched_and_goes_on(page: "Page") -> None:
    put(page, LIGHTHOUSE)
    page.goto("/#/documents")
    wait(page)
    rows = page.locator(".documents li")
    number = info(page)["num_documents"]
    expect(rows).to_have_count(min(50, number))
    if number > 50:
        page.get_by_role("button", name="More").click()
        expect(rows).to_have_count(min(100, number))
        expect(rows.nth(50).get_by_role("link")).to_be_focused()
    page.get_by_label("Search titles, texts and ids").fill("quillan")
    expect(rows).to_have_count(1)
    assert page.url.endswith("#/documents?text=quillan")
    page.get_by_label("Search titles, texts and ids").fill("nothing is called this")
    expect(page.locator("main .status")).to_contain_text("No document matches")
    expect(page.get_by_role("button", name="More")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(rows).to_have_count(min(50, number))


def test_a_document_that_is_not_there_is_said_so(page: "Page") -> None:
    page.goto("/#/document/no%2Fsuch")
    expect(page.locator(".problem h2")).to_have_text("There is no such document")
    page.get_by_role("link", name="Back").click()
    expect(page.get_by_label("Your question")).to_be_visible()


def test_a_document_that_was_edited_is_read_anew(page: "Page") -> None:
    put(page, LIGHTHOUSE)
    page.goto("/#/documents?text=quillan")
    page.get_by_role("link", name="Quillan Marsh").click()
    expect(page.locator("article")).to_have_text(LIGHTHOUSE["text"])
    page.go_back()
    # What the server says of itself comes late; what was edited must not wait for it.
    page.route("**/v1/info", lambda route: None)
    page.get_by_text("Add documents", exact=True).click()
    page.get_by_label("Text", exact=True).fill("All is new.")
    page.get_by_label("Id (optional)").fill("quillan-marsh")
    page.get_by_role("button", name="Add", exact=True).click()
    page.locator(".outcomes").get_by_role("link", name="Open").click()
    expect(page.locator("article")).to_have_text("All is new.")


def test_a_document_that_was_left_before_its_text_is_read_again(page: "Page") -> None:
    put(page, LIGHTHOUSE)
    page.goto("/")
    page.route("**/v1/documents/*", lambda route: None)  # never answers
    page.goto("/#/document/quillan-marsh")
    expect(page.locator("main h1")).to_have_text("quillan-marsh")
    page.goto("/#/ask")
    expect(page.get_by_label("Your question")).to_be_visible()
    page.unroute_all(behavior="ignoreErrors")
    page.go_back()
    expect(page.locator("article")).to_have_text(LIGHTHOUSE["text"])
