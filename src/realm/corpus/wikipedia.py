"""Which articles does a MediaWiki dump hold?

The dump is read as a stream. Redirects, other namespaces, disambiguations and pages that are
lists, indexes or outlines are left out. Their wikitext is left to `wikitext`, because that is
slow work (1 MB a second) which many processes can share.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from xml.etree import ElementTree

_LIST_TITLE = re.compile(r"(?:Lists?|Index|Outline|Glossary) of |.*\((?:disambiguation)\)$")
_DISAMBIGUATION = re.compile(
    r"\{\{\s*(?:[\w /-]*disambig\w*|dab|hndis|geodis|mathdab|schooldis|roaddis|shipindex|sia"
    r"|set index(?: article)?|surname|given name|mountain index)\s*(?:\||\}\})",
    re.IGNORECASE,
)
_LEADING_REDIRECT = re.compile(r"\s*#redirect\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Article:
    """An article as the dump has it."""

    page_id: str
    title: str
    wikitext: str


def read_articles(stream: BufferedIOBase) -> Iterator[Article]:
    """Stream the articles of a dump, without pages that are no running text.

    Raises:
        ElementTree.ParseError: the XML is not well-formed.
    """
    ancestors: list[ElementTree.Element] = []
    for event, element in ElementTree.iterparse(stream, events=("start", "end")):
        if event == "start":
            ancestors.append(element)
            continue
        ancestors.pop()
        if _local_name(element) == "page":
            article = _article(element)
            if article is not None:
                yield article
            if ancestors:
                ancestors[0].clear()  # the tree would grow to the size of the dump


def _article(page: ElementTree.Element) -> Article | None:
    values = {_local_name(child): child for child in page}
    revision = {_local_name(child): child.text or "" for child in values.get("revision", ())}
    if "title" not in values or "id" not in values:
        raise ElementTree.ParseError("a page has no title or no id")
    title, wikitext = values["title"].text or "", revision.get("text", "")
    is_article = (
        "redirect" not in values
        and ("ns" not in values or values["ns"].text == "0")
        and revision.get("model", "wikitext") == "wikitext"
    )
    is_prose = not (
        _LIST_TITLE.match(title)
        or _LEADING_REDIRECT.match(wikitext)
        or _DISAMBIGUATION.search(wikitext)
    )
    return Article(values["id"].text or "", title, wikitext) if is_article and is_prose else None


def _local_name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
