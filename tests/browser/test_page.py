"""Can a person ask, see the words that answer, and understand what went wrong?"""

import re
from typing import TYPE_CHECKING, Any

import pytest
from browsing import (
    ASK_OF_LIGHTHOUSE,
    CARDS,
    LIGHTHOUSE,
    ask,
    assert_marked,
    cards_of,
    change_info,
    expect,
    info,
    put,
    questions,
    refuse,
    remove,
    wait,
)  # fmt: skip

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytest_plugins = ["browser_fixtures"]
pytestmark = pytest.mark.browser

HURT = "window.hurt = true"
EVIL = {
    "id": f"x/\"><script>{HURT}</script>&'%41 ?#",
    "title": f"<img src=x onerror='{HURT}'>\"Wendover\" <b>Fort</b>",
    "text": f'The <script>{HURT}</script> fort of "Wendover" was <img src=x onerror="{HURT}"> '
    "defended by <b>Ilse Tamarind</b> &amp; &lt;others&gt;. It fell in the end.",
}
ASK_OF_EVIL = "Who defended the fort of Wendover?"


@pytest.fixture
def lighthouse(page: "Page") -> Any:
    put(page, LIGHTHOUSE)
    yield
    remove(page, LIGHTHOUSE["id"])


def test_the_box_has_the_focus_and_an_example_is_answered(page: "Page") -> None:
    page.goto("/")
    box = page.get_by_label("Your question")
    expect(box).to_be_focused()
    example = questions(page)[0]
    page.get_by_role("button", name=example, exact=True).click()
    wait(page)
    expect(box).to_have_value(example)
    expect(box).to_be_focused()
    expect(page.locator("main .status").first).to_contain_text(re.compile(r"\d (ms|s)$"))
    assert_marked(page.locator(CARDS))
    assert "#/ask?q=" in page.url


def test_an_answer_says_how_probable_it_is_in_words_and_numbers(page: "Page") -> None:
    page.goto("/")
    ask(page, questions(page)[0])
    first = page.locator(CARDS).first
    words = "almost certain|likely|more likely than not|possible|doubtful|a guess"
    expected = re.compile(rf"^\s*[<>]?[\d.]+%\s+({words})$")
    expect(first.locator(".probability")).to_have_text(expected)
    share = float(first.locator(".bar").evaluate("e => e.style.getPropertyValue('--share')"))
    assert 0 < share <= 1


@pytest.mark.usefixtures("lighthouse")
def test_words_behind_emoji_are_marked_and_seen_in_the_document(page: "Page") -> None:
    page.goto("/")
    ask(page, ASK_OF_LIGHTHOUSE)
    cards = cards_of(page, LIGHTHOUSE["title"])
    assert_marked(cards)
    words = cards.first.locator(".answer").text_content()
    nearest = page.locator(".nearest > summary")
    if nearest.count():  # a real model may abstain
        nearest.click()
    cards.first.get_by_role("link", name=LIGHTHOUSE["title"]).click()
    expect(page.locator("main h1")).to_have_text(LIGHTHOUSE["title"])
    expect(page.locator("article mark")).to_have_text(words)
    expect(page.locator("article mark")).to_be_in_viewport()
    expect(page.locator("article")).to_have_text(LIGHTHOUSE["text"])
    page.go_back()
    expect(page.get_by_label("Your question")).to_have_value(ASK_OF_LIGHTHOUSE)
    assert_marked(cards_of(page, LIGHTHOUSE["title"]))


def test_the_passage_is_brought_into_view_in_a_long_document(page: "Page") -> None:
    filler = "Nothing of note happens on this line of the long log. " * 400
    document = {"id": "long-log", "title": "Long log", "text": filler + LIGHTHOUSE["text"]}
    start = document["text"].index("Odalys")
    put(page, document)
    page.goto(f"/#/document/long-log?start={start}&end={start + 16}")
    expect(page.locator("article mark")).to_have_text("Odalys Brankovic")
    expect(page.locator("article mark")).to_be_in_viewport()
    assert page.evaluate("scrollY") > 1000
    expect(page.locator("article mark")).to_be_focused()
    remove(page, "long-log")


@pytest.mark.parametrize(
    ("before", "marked", "notice"),
    [
        ("", "Odalys Brankovic", None),
        ("It was rewritten. ", "Odalys Brankovic", "its words stand elsewhere now"),
        (None, None, "its words are no longer there"),
    ],
)
def test_a_document_that_changed_since_it_was_cited(
    page: "Page", before: str | None, marked: str | None, notice: str | None
) -> None:
    text = LIGHTHOUSE["text"]
    start = text.index("Odalys")
    put(page, {**LIGHTHOUSE, "text": "Nothing is left." if before is None else before + text})
    words = "&words=Odalys+Brankovic"
    page.goto(f"/#/document/{LIGHTHOUSE['id']}?start={start}&end={start + 16}{words}")
    expect(page.locator("article")).to_be_visible()
    if marked:
        expect(page.locator("article mark")).to_have_text(marked)
    else:
        expect(page.locator("article mark")).to_have_count(0)
    if notice:
        expect(page.locator("main .notice")).to_contain_text(notice)
    else:
        expect(page.locator("main .notice")).to_have_count(0)
    assert page.title().startswith("Quillan Marsh")
    remove(page, LIGHTHOUSE["id"])


def test_back_leads_to_the_questions_where_nothing_was_before(page: "Page") -> None:
    put(page, LIGHTHOUSE)
    address = f"/#/document/{LIGHTHOUSE['id']}"
    page.goto(address)
    page.get_by_role("link", name="All documents").click()
    expect(page.locator("main h1")).to_have_text("Documents")
    page.go_back()
    expect(page.locator("main h1")).to_have_text(LIGHTHOUSE["title"])
    page.get_by_role("link", name="← Back").click()
    expect(page.get_by_label("Your question")).to_be_visible()
    remove(page, LIGHTHOUSE["id"])


def test_an_address_asks_and_the_back_button_goes_from_question_to_question(page: "Page") -> None:
    first, second = questions(page)[:2]
    page.goto("/")
    ask(page, first)
    ask(page, second)
    page.reload()
    expect(page.get_by_label("Your question")).to_have_value(second)
    assert_marked(page.locator(CARDS))
    page.go_back()
    expect(page.get_by_label("Your question")).to_have_value(first)
    wait(page)
    assert_marked(page.locator(CARDS))
    assert first in page.title()


def test_a_document_of_markup_stays_text(page: "Page") -> None:
    put(page, EVIL)
    page.goto("/")
    ask(page, ASK_OF_EVIL)
    assert_marked(cards_of(page, EVIL["title"]))
    views = [
        f"/#/why?q={ASK_OF_EVIL}",
        f"/#/fill-mask?text={EVIL['text'].split()[0]} fort of Wendover was defended by [MASK].",
        "/#/documents?text=Wendover",
    ]
    for view in views:
        page.goto(view)
        wait(page)
        expect(page.locator("main").get_by_text(EVIL["title"], exact=True).first).to_be_attached()
    page.get_by_role("link", name=EVIL["title"]).click()
    expect(page.locator("main h1")).to_have_text(EVIL["title"])
    expect(page.locator("article")).to_have_text(EVIL["text"])
    expect(page.locator("main code")).to_have_text(EVIL["id"])
    page.reload()
    expect(page.locator("article")).to_have_text(EVIL["text"])
    assert page.locator("main :is(img, script, b)").count() == 0
    assert page.evaluate("window.hurt") is None
    remove(page, EVIL["id"])


def test_everything_can_be_done_from_the_keyboard(page: "Page") -> None:
    question = questions(page)[0]
    page.goto("/")
    expect(page.get_by_label("Your question")).to_be_focused()
    page.keyboard.type(question)
    page.keyboard.press("Enter")
    expect(page.locator(CARDS).first).to_be_attached()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('.card') !== null"):
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.locator(f"{CARDS} .source a").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("article mark")).to_be_in_viewport()
    expect(page.locator("article mark")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(f"{CARDS} .source a").first).to_be_focused()
    page.keyboard.press("/")
    box = page.get_by_label("Your question")
    expect(box).to_be_focused()
    expect(box).to_have_value(question)
    page.keyboard.press("Escape")
    expect(box).to_have_value("")
    page.keyboard.type("and / or")
    expect(box).to_have_value("and / or")


def test_the_skip_link_leads_past_the_navigation(page: "Page") -> None:
    page.goto("/#/documents")
    wait(page)
    page.locator("#skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(page.locator("main h1")).to_have_text("Documents")


def test_abstaining_is_said_plainly_and_folds_the_nearest_answers(page: "Page") -> None:
    page.goto("/")
    page.get_by_text("Options").click()
    page.get_by_label("Stay silent below (%)").fill("100")
    ask(page, questions(page)[0])
    said = page.get_by_role("heading", name="The documents do not seem to answer this")
    expect(said).to_be_visible()
    expect(page.locator(CARDS).first).to_be_hidden()
    page.locator(".nearest > summary").click()
    expect(page.locator(CARDS).first).to_be_visible()
    assert "least=1" in page.url


def test_no_answer_at_all_is_said_plainly(page: "Page") -> None:
    nothing = {
        "question": "?", "answers": [], "null_probability": 1.0, "abstained": True, "model": "m",
        "snapshot": "s", "corpus_version": info(page)["corpus_version"], "candidates": [],
    }  # fmt: skip
    page.route("**/v1/answer", lambda route: route.fulfill(json=nothing))
    for view in ("ask", "why"):
        page.goto(f"/#/{view}?q=Nothing")
        expect(page.get_by_text("No passage that was read holds an answer.")).to_be_visible()
    assert page.locator(".nearest").count() == 0


def test_an_empty_question_is_refused_at_the_box(page: "Page") -> None:
    page.goto("/")
    ask(page, "   ")
    expect(page.get_by_role("alert")).to_have_text("Write a question first.")
    expect(page.get_by_label("Your question")).to_have_attribute("aria-invalid", "true")


@pytest.mark.parametrize(
    ("status", "heading", "detail"),
    [
        (503, "The server is busy", "more questions are waiting than the service takes"),
        (500, "The server failed", "something went wrong inside"),
        (413, "This is too long", "the body has 10,000,000 bytes: send less"),
    ],
)
def test_what_the_server_refuses_is_shown_and_can_be_tried_again(
    page: "Page", status: int, heading: str, detail: str
) -> None:
    refuse(page, "/v1/answer", status, detail, **{"Retry-After": "2"})
    page.goto("/")
    ask(page, questions(page)[0])
    alert = page.locator("main .problem")
    expect(alert).to_have_attribute("role", "alert")
    expect(alert.get_by_role("heading")).to_have_text(heading)
    expect(alert).to_contain_text(detail)
    expect(alert).to_contain_text("Try again in 2 seconds.")
    page.unroute("**/v1/answer")
    alert.get_by_role("button", name="Try again").click()
    wait(page)
    assert_marked(page.locator(CARDS))


def test_a_question_that_the_server_refuses_is_marked_at_its_box(page: "Page") -> None:
    refuse(page, "/v1/answer", 422, "question: too long for the model: shorten it")
    page.goto("/")
    ask(page, questions(page)[0])
    expect(page.get_by_role("alert")).to_have_text("question: too long for the model: shorten it")
    box = page.get_by_label("Your question")
    expect(box).to_have_attribute("aria-invalid", "true")
    expect(box).to_have_accessible_description("question: too long for the model: shorten it")
    expect(box).to_be_focused()


def test_a_server_that_is_gone_is_told_from_one_that_refuses(page: "Page") -> None:
    page.goto("/")
    expect(page.get_by_label("Your question")).to_be_focused()
    page.route("**/v1/answer", lambda route: route.fulfill(status=503, body="not json"))
    ask(page, "Is anybody there?")
    expect(page.locator(".problem h2")).to_have_text("The server is busy")
    page.unroute("**/v1/answer")
    page.evaluate("() => { window.fetch = () => Promise.reject(new TypeError('no')); }")
    ask(page, "Is anybody there?")
    expect(page.locator(".problem h2")).to_have_text("The server cannot be reached")


def test_a_question_can_be_asked_before_the_server_tells_of_itself(page: "Page") -> None:
    waiting: list[Route] = []
    page.route("**/v1/info", lambda route: waiting.append(route))
    page.goto("/")
    box = page.get_by_label("Your question")
    expect(box).to_be_focused()
    place = box.bounding_box()
    expect(page.locator("nav [aria-current=page]")).to_have_text("Ask")
    page.keyboard.type("Is anybody ")
    waiting.pop().continue_()
    expect(page.get_by_text("For example")).to_be_visible()
    page.keyboard.type("there?")
    expect(box).to_have_value("Is anybody there?")
    assert box.bounding_box() == place
    page.reload()
    question = questions(page)[0]
    box.fill(question)
    box.press("Enter")
    for route in waiting:
        route.continue_()
    wait(page)
    expect(box).to_have_value(question)
    expect(box).to_be_focused()
    assert_marked(page.locator(CARDS))


def test_a_server_that_is_down_from_the_beginning_is_said_below_the_box(page: "Page") -> None:
    refuse(page, "/v1/info", 503, "the run is being read")
    page.goto("/")
    expect(page.locator(".problem")).to_contain_text("the run is being read")
    box = page.get_by_label("Your question")
    box.fill("Is anybody there?")
    page.unroute("**/v1/info")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("For example")).to_be_visible()
    expect(box).to_have_value("Is anybody there?")


def test_a_token_is_asked_for_once_and_sent_from_then_on(page: "Page") -> None:
    sent: list[str | None] = []

    def guard(route: "Route") -> None:
        given = route.request.headers.get("authorization")
        sent.append(given)
        if given == "Bearer opensesame-opensesame":
            route.continue_()
        else:
            problem = {"status": 401, "title": "Unauthorized", "detail": "the token is missing"}
            route.fulfill(status=401, json=problem)

    page.route("**/v1/**", guard)
    page.goto("/")
    dialogue = page.get_by_role("dialog", name="A token is needed")
    expect(dialogue).to_contain_text("the token is missing")
    expect(dialogue.get_by_label("Token")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".problem h2")).to_have_text("A token is needed")
    page.get_by_role("button", name="Try again").click()
    page.keyboard.type("wrong-token")
    page.keyboard.press("Enter")
    expect(dialogue.get_by_label("Token")).to_have_value("")
    dialogue.get_by_label("Token").fill("opensesame-opensesame")
    dialogue.get_by_role("button", name="Continue").click()
    ask(page, questions(page)[0])
    assert_marked(page.locator(CARDS))
    page.reload()
    expect(page.get_by_label("Your question")).to_be_visible()
    expect(dialogue).to_have_count(0)
    assert sent[0] is None
    assert sent[-1] == "Bearer opensesame-opensesame"


def test_a_slow_answer_does_not_replace_a_newer_one(page: "Page") -> None:
    waiting: list[Route] = []
    first, second = questions(page)[:2]
    page.route(
        "**/v1/answer",
        lambda route: waiting.append(route) if first in (route.request.post_data or "")
        else route.continue_(),
    )  # fmt: skip
    page.goto("/")
    box = page.get_by_label("Your question")
    box.fill(first)
    box.press("Enter")
    expect(page.locator("main .status").first).to_have_text("Reading…")
    ask(page, second)
    shown = page.locator(CARDS).first.text_content()
    assert len(waiting) == 1
    page.unroute("**/v1/answer")
    page.wait_for_timeout(100)
    assert page.locator(CARDS).first.text_content() == shown
    expect(page.locator("main .status").first).not_to_have_text("Reading…")


def test_a_question_that_was_left_before_its_answer_is_asked_again(page: "Page") -> None:
    first, second = questions(page)[:2]
    page.goto("/")
    ask(page, first)
    page.route("**/v1/answer", lambda route: None)  # never answers
    box = page.get_by_label("Your question")
    box.fill(second)
    box.press("Enter")
    expect(page.locator(".results")).to_have_attribute("aria-busy", "true")
    expect(page.get_by_role("link", name="Why?")).to_have_count(0)  # it was the first question's
    page.locator(f"{CARDS} .source a").first.click()
    expect(page.locator("article")).to_be_visible()
    page.unroute_all(behavior="ignoreErrors")
    with page.expect_request("**/v1/answer") as asked:
        page.go_back()
    assert asked.value.post_data_json["question"] == second
    expect(box).to_have_value(second)
    wait(page)
    assert_marked(page.locator(CARDS))


def test_why_shows_what_each_passage_does_and_the_null_passage_last(page: "Page") -> None:
    page.goto("/")
    ask(page, questions(page)[0])
    page.get_by_role("link", name="Why?").click()
    rows = page.get_by_role("table").locator("tbody tr")
    expect(rows.last).to_contain_text("The null passage")
    assert rows.count() >= 2
    assert page.get_by_role("columnheader").all_text_contents() == [
        "Passage z", "p(z|x)", "p(y|z,x)", "contributes",
    ]  # fmt: skip
    contributions = []
    for row in rows.all():
        shares = row.locator(".bar").evaluate_all(
            "bars => bars.map(bar => Number(bar.style.getPropertyValue('--share')))"
        )
        contributions.append(shares[2])
    assert contributions[:-1] == sorted(contributions[:-1], reverse=True)
    assert contributions[0] > 0
    assert contributions[-1] == 0
    assert rows.first.locator("mark").count() == 1
    words = rows.first.locator("mark").inner_text()
    rows.first.locator(".source a").click()
    passage = page.locator("article mark")
    expect(passage).to_be_in_viewport()
    expect(passage).to_contain_text(words)
    page.go_back()
    page.get_by_role("link", name="All answers").click()
    assert_marked(page.locator(CARDS))


def test_a_gap_is_filled_with_and_without_retrieval(page: "Page") -> None:
    if not info(page)["can"]["fill_mask"]:
        pytest.skip("the server has no model that fills gaps")
    page.goto("/#/fill-mask")
    box = page.get_by_label("A sentence with [MASK]")
    box.fill("Uranus needs ")
    page.get_by_role("button", name="Fill", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("Write [MASK] where words are missing.")
    page.get_by_role("button", name="Insert [MASK]").click()
    expect(box).to_be_focused()
    page.keyboard.type(" years to travel once around the Sun.")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="With retrieval", exact=True)).to_be_visible()
    lists = page.locator(".fillings")
    assert lists.count() == 2
    assert lists.first.locator("li").count() >= 3
    filling = page.locator(".filled mark").text_content()
    assert lists.first.locator("li a").first.text_content() == filling
    expect(page.get_by_role("table").locator("tbody tr").last).to_contain_text("The null passage")
    expect(page.get_by_role("columnheader").last).to_have_text("utility")
    other = lists.first.locator("li a").nth(1)
    words = str(other.text_content())
    other.click()
    expect(page.locator(".filled mark")).to_have_text(words)
    expect(page.get_by_label("Look into this filling (optional)")).to_have_value(words)


def test_views_that_the_run_cannot_fill_say_why(page: "Page") -> None:
    can = {"answer": False, "retrieve": True, "fill_mask": False, "edit": False, "add": False}
    change_info(page, can=can)
    page.goto("/")
    expect(page.locator(".notice")).to_contain_text("realm finetune")
    ask(page, questions(page)[0])
    expect(page.locator("main li.card").first).to_be_visible()
    page.get_by_role("link", name="Why", exact=True).click()
    expect(page.locator(".notice")).to_contain_text("realm finetune")
    page.get_by_role("link", name="Fill a gap").click()
    expect(page.locator(".notice")).to_contain_text("realm pretrain")
    page.get_by_role("link", name="Documents").click()
    expect(page.locator(".notice")).to_contain_text("can be read here, not changed")
    expect(page.locator(".documents li").first).to_be_visible()
    assert page.get_by_role("button", name="Remove").count() == 0
    assert page.get_by_text("Add documents").count() == 0


def test_the_footer_names_run_and_model_and_the_age_of_the_snapshot(page: "Page") -> None:
    model = "finetune:d7847e7ccf753665"
    change_info(page, name="laptop", model=model, snapshot_age_seconds=3 * 86400 + 5)
    page.goto("/")
    footer = page.get_by_role("contentinfo")
    expect(footer).to_contain_text("Run laptop")
    expect(footer).to_contain_text("Model finetune:d7847e7c")
    expect(footer).to_contain_text("Snapshot made 3 days ago")
    expect(footer).to_contain_text(re.compile(r"[\d,]+ passages? of [\d,]+ documents?"))
