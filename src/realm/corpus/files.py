"""How does one text file become the title and the text of one document?

The text of Markdown and plain text is the file's text as it stands, so that offsets count in
the user's own file. HTML gives its visible text.
"""

import re
from pathlib import Path

from bs4 import BeautifulSoup
from bs4.dammit import EncodingDetector, UnicodeDammit
from bs4.element import NavigableString
from bs4.exceptions import ParserRejectedMarkup

from realm.errors import SourceError

# Browsers take these names for the encoding that has quotation marks where they have nothing.
_LATIN = {"iso-8859-1", "iso8859-1", "latin-1", "latin1", "us-ascii", "ascii"}
_UNKNOWN_DECLARATION = re.compile(
    r"<!\[(?!\s*(temp|cdata|ignore|include|rcdata|if|else|endif)\b)", re.IGNORECASE
)
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(\S.*)$", re.MULTILINE)
_CLOSING_SIGNS = re.compile(r"(^|[ \t])#+$")  # those of "C#" close nothing
_HIDDEN_TAGS = [
    *("head", "iframe", "noscript", "object", "script", "style", "svg", "template", "title"),
]
_BLOCK_TAGS = [
    *("address", "article", "aside", "blockquote", "br", "caption", "dd", "details", "div", "dl"),
    *("dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5"),
    *("h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "summary", "table"),
    *("tbody", "tfoot", "thead", "tr", "ul"),
]


def read_text(path: Path) -> tuple[str, str]:
    """Title and text of a plain text file."""
    return path.stem, _decode(path.read_bytes(), path)


def read_markdown(path: Path) -> tuple[str, str]:
    """Title and text of a Markdown file; its first heading is the title."""
    text = _decode(path.read_bytes(), path)
    return first_heading(text) or path.stem, text


def read_html(path: Path) -> tuple[str, str]:
    """Title and visible text of a web page, with an empty line between its blocks."""
    content = path.read_bytes()
    declared = (EncodingDetector.find_declared_encoding(content, is_html=True) or "utf-8").lower()
    if declared in {"utf-8", "utf8"}:
        markup = _decode(content, path)
    else:
        encoding = "windows-1252" if declared in _LATIN else declared
        # A byte order mark, which it looks for next, is surer than what a page says of itself.
        markup = (
            UnicodeDammit(content, user_encodings=[encoding], is_html=True).unicode_markup or ""
        )
    page = _parsed(markup or "\n")
    title = " ".join(page.title.get_text().split()) if page.title is not None else ""
    return title or path.stem, _visible_text(page)


def _parsed(markup: str) -> BeautifulSoup:
    try:
        return BeautifulSoup(markup, "html.parser")
    except ParserRejectedMarkup:  # `<![` before a word that no declaration begins with
        return BeautifulSoup(_UNKNOWN_DECLARATION.sub("&lt;![", markup), "html.parser")


def first_heading(text: str) -> str:
    """The words of the first heading in Markdown; empty where there is none."""
    heading = _HEADING.search(text)
    words = heading.group(1).rstrip() if heading else ""
    return _CLOSING_SIGNS.sub("", words).rstrip()


def _decode(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SourceError(
            f"{path}, line {line}: byte {error.start} is not UTF-8: convert the file to UTF-8"
        ) from error


def _visible_text(page: BeautifulSoup) -> str:
    for tag in page.find_all(_HIDDEN_TAGS) + page.find_all(hidden=True):
        tag.extract()
    as_it_is = {id(string) for pre in page.find_all("pre") for string in pre.find_all(string=True)}
    for string in page.find_all(string=True):
        if type(string) is not NavigableString:  # a comment or another declaration
            string.extract()
        elif id(string) not in as_it_is:
            string.replace_with(re.sub(r"\s+", " ", string))
    for tag in page.find_all(["td", "th"]):
        tag.append(" ")
    for tag in page.find_all(_BLOCK_TAGS):
        tag.insert_before("\n\n")
        tag.insert_after("\n\n")
    lines = [line.strip() for line in page.get_text().split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
