"""Is the web page plain: nothing inline, nothing from elsewhere, no text that becomes markup?"""

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "src/realm/serving/static"
FILES = sorted(STATIC.iterdir())
MODULES = [file for file in FILES if file.suffix == ".js"]
MARKUP_FROM_TEXT = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|srcdoc"
    r"|\beval\b|new Function|setHTMLUnsafe|\.style\s*="
)
LONGEST_MODULE = 330

module = pytest.mark.parametrize("file", MODULES, ids=[file.name for file in MODULES])


@module
def test_the_first_line_says_what_the_module_answers(file: Path) -> None:
    first = file.read_text(encoding="utf-8").splitlines()[0]
    assert re.match(r"// [A-Z].*\?( \(.*\))?$", first), first


@module
def test_text_never_becomes_markup(file: Path) -> None:
    assert MARKUP_FROM_TEXT.search(file.read_text(encoding="utf-8")) is None


@module
def test_modules_are_short(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE


@module
def test_what_is_imported_is_there(file: Path) -> None:
    imported = re.findall(r'^import .* from "(.*)";$', file.read_text(encoding="utf-8"), re.M)
    for name in imported:
        assert name.startswith("./")
        assert (STATIC / name).is_file(), name


def test_every_module_is_used() -> None:
    everything = "".join(file.read_text(encoding="utf-8") for file in FILES)
    unused = [file.name for file in MODULES if f'/{file.name}"' not in everything]
    assert unused == []


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_nothing_comes_from_elsewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text) == []


def test_the_page_has_no_code_or_style_of_its_own() -> None:
    markup = (STATIC / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<style|<script(?![^>]* src=)|\sstyle=|\son\w+=", markup) == []


def test_the_page_is_light() -> None:
    assert sum(file.stat().st_size for file in FILES) < 96_000  # as written, with its comments
