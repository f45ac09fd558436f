"""Can everybody read the page: by night, on a phone, on paper or with a screen reader?"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from browsing import ask, expect, put, questions, refuse, remove, wait

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["browser_fixtures"]
pytestmark = pytest.mark.browser

LONG = {
    "id": "a" * 90,
    "title": "Donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtengesellschaft",
    "text": f"The harbour of {'Llanfair' * 12} has {'1' * 80} ships.",
}
VIEWS = [
    "/#/ask",
    "/#/ask?q=How many ships has the harbour of Llanfair%3F&answers=20",
    "/#/ask?q=How many ships has the harbour of Llanfair%3F&least=1",
    "/#/why?q=How many ships has the harbour of Llanfair%3F",
    "/#/fill-mask?text=The harbour of Llanfair has [MASK] ships.",
    "/#/documents",
    f"/#/document/{'a' * 90}?start=4&end=11",
]
# Every element with words of its own: its colour against the nearest background behind it.
CONTRASTS = """() => {
  const parse = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].reduce((sum, value, place) => {
    const part = value / 255;
    const linear = part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    return sum + linear * [0.2126, 0.7152, 0.0722][place];
  }, 0);
  const background = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const [r, g, b, alpha = 1] = parse(getComputedStyle(e).backgroundColor);
      if (alpha === 1 && b !== undefined) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const weak = [];
  for (const element of document.body.querySelectorAll("*")) {
    const has = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!has || !element.checkVisibility() || element.tagName === "NOSCRIPT") continue;
    const pair = [parse(getComputedStyle(element).color), background(element)].map(luminance);
    const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    const { tagName, className } = element;
    if (contrast < 4.5) weak.push(`${tagName}.${className}: ${contrast.toFixed(2)}`);
  }
  return weak;
}"""


@pytest.fixture(autouse=True)
def _long_words(page: "Page") -> Iterator[None]:
    put(page, LONG)
    yield
    remove(page, LONG["id"])


def open_everything(page: "Page") -> None:
    wait(page)
    for summary in page.locator("main details:not([open]) > summary").all():
        summary.click()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_background(page: "Page", view: str, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(view)
    open_everything(page)
    assert page.evaluate(CONTRASTS) == []


def test_night_is_dark_and_day_is_light(page: "Page") -> None:
    shades = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.goto("/")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        shades.append(int(colour.removeprefix("rgb(").split(",")[0]))
    assert shades[0] > 220
    assert shades[1] < 40


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_has_to_be_scrolled_sideways(page: "Page", view: str) -> None:
    for width in (320, 375, 640, 1280):  # 640 is a window of 1280 at 200%
        page.set_viewport_size({"width": width, "height": 700})
        page.goto(view)
        open_everything(page)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, width
        cut_off = page.evaluate("""[...document.querySelectorAll("main *")]
            .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1)
            .filter((e) => !e.closest("thead")).map((e) => e.tagName + "." + e.className)""")
        assert cut_off == [], width


@pytest.mark.parametrize("view", VIEWS)
def test_controls_have_names_and_the_page_its_landmarks(page: "Page", view: str) -> None:
    page.goto(view)
    open_everything(page)
    for role in ("banner", "navigation", "main", "contentinfo"):
        assert page.get_by_role(role).count() == 1, role
    assert page.locator("h1").count() == 1
    for role in ("button", "link", "textbox", "spinbutton"):
        for control in page.get_by_role(role).all()[:12]:
            expect(control).to_have_accessible_name(re.compile(r"\S"))
    current = page.locator("nav [aria-current=page]")
    assert current.count() == (0 if "/document/" in view else 1)
    page.locator("main label").evaluate_all(
        "labels => labels.forEach((label) => { if (!label.control) throw new Error('no control') })"
    )


def test_a_table_on_a_phone_is_still_a_table(page: "Page") -> None:
    page.set_viewport_size({"width": 375, "height": 700})
    page.goto(VIEWS[3])
    wait(page)
    table = page.get_by_role("table")
    rows = table.get_by_role("row").filter(has=page.get_by_role("cell"))
    assert rows.count() >= 2
    assert rows.first.get_by_role("cell").count() == 3
    assert rows.first.get_by_role("rowheader").count() == 1
    shown = rows.first.locator("td").first.evaluate("e => getComputedStyle(e, '::before').content")
    assert shown == '"p(z|x)"'


def test_bars_are_as_long_as_their_shares(page: "Page") -> None:
    page.goto(VIEWS[3])
    wait(page)
    for bar in page.locator(".evidence .bar").all():
        share, drawn = bar.evaluate("""e => [Number(e.style.getPropertyValue("--share")),
            parseFloat(getComputedStyle(e, "::before").width) / e.clientWidth]""")
        assert drawn == pytest.approx(share, abs=0.01)


def test_results_do_not_jump_while_waiting(page: "Page") -> None:
    page.goto("/")
    ask(page, questions(page)[0])
    before = page.locator(".results").bounding_box()
    page.route("**/v1/answer", lambda route: None)  # never answers
    box = page.get_by_label("Your question")
    box.fill(questions(page)[1])
    box.press("Enter")
    expect(page.locator(".results")).to_have_attribute("aria-busy", "true")
    assert page.locator(".results").bounding_box() == before
    page.unroute_all(behavior="ignoreErrors")


def test_the_navigation_stands_still_from_view_to_view(page: "Page") -> None:
    def places() -> list[float]:
        wait(page)
        left: list[float] = page.locator("nav a").evaluate_all(
            "links => links.map((link) => link.getBoundingClientRect().left)"
        )
        return left

    page.goto("/#/ask")
    first = places()
    page.goto("/#/documents")
    assert places() == first


def test_changes_are_announced(page: "Page") -> None:
    page.goto("/")
    ask(page, questions(page)[0])
    status = page.get_by_role("status").filter(has_text="answer")
    expect(status).to_contain_text("the first: ")
    refuse(page, "/v1/answer", 503, "busy")
    ask(page, questions(page)[1])
    expect(page.get_by_role("alert").filter(has_text="busy")).to_be_visible()


def test_paper_shows_the_answers_without_the_controls(page: "Page") -> None:
    page.goto("/")
    ask(page, questions(page)[0])
    page.emulate_media(media="print")
    expect(page.locator("main .card").first).to_be_visible()
    assert page.locator("nav, form, main button").filter(visible=True).count() == 0
