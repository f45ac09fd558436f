"""What is the plain text of an article in wikitext?

Its paragraphs remain, and the list items that are sentences. Templates, references, tables,
files, categories, headings and the sections at the end (notes, links, literature) go.
"""

import re
from collections.abc import Callable, Iterator
from itertools import cycle, takewhile
from typing import Any

import mwparserfromhell
from mwparserfromhell import nodes

# References are cut before parsing: they are half of the wikitext and never nest.
_REFERENCES = re.compile(
    r"<!--.*?-->|<ref\b[^<>]*/>|<ref\b[^<>]*>.*?</ref\s*>|__[A-Z]{3,}__", re.DOTALL | re.IGNORECASE
)
_BACK_MATTER = re.compile(
    r"see also|references?|(?:foot|end)?notes(?: and references)?|notes and citations|citations?"
    r"|external links?|further reading|sources|(?:selected |annotated )?bibliography|works cited",
    re.IGNORECASE,
)
_NAMESPACE_LINK = re.compile(
    r"\s*(?:file|image|media|category|wikipedia|template|[a-z]{2,3}|simple)\s*:(?!\s)",
    re.IGNORECASE,
)
_FILE_NAME = re.compile(
    r"[^#]*\.(?:jpe?g|png|gif|svg|tiff?|ogg|ogv|webm|pdf|djvu)\s*", re.IGNORECASE
)
_DROPPED_TAGS = {
    *("gallery", "graph", "hr", "imagemap", "mapframe", "maplink", "ref", "references", "score"),
    *("source", "syntaxhighlight", "table", "templatestyles", "timeline"),
}
_BLOCK_TAGS = {
    *("blockquote", "center", "div", "dl", "h1", "h2", "h3", "h4", "ol", "p", "poem", "ul"),
}
_ITEM = "\x02"  # marks the beginning of a list item until lines are sorted out
_MARKUP_LINE = re.compile(r"[|!{}]|#\w+:")
_SENTENCE_END = re.compile(r"[.!?][\"')\]\u201d\u2019]*$")
_TORN_BEGINNING = re.compile(_ITEM + r"[,.;:)](?!\.)")
_REPAIRS = [
    # The last of the marks behind emphasised words is an apostrophe where an s follows.
    (re.compile(r"(?<!')('{2,3})(?!')([^']+)\1'(?=s\b)"), r"\2'"),
    (re.compile(r"'{2,}"), ""),
    (re.compile(r"[\u200b\u200e\u200f\ufeff\u00ad]"), ""),
    (re.compile(r"\s+"), " "),
    (re.compile(r"\(\s*(?:[,;:\u2013-]\s*)+"), "("),  # what a removed pronunciation leaves behind
    (re.compile(r"(?:\s*[,;:])+\s*\)"), ")"),
    (re.compile(r"\(\s*(?:or|and|from|in)?\s*\)|\[\s*\]"), ""),
    (re.compile(r"([([])\s+"), r"\1"),
    (re.compile(r"\s+([)\]])"), r"\1"),
    (re.compile(r" +([,.;:?!])(?=\s|$)"), r"\1"),
    (re.compile(r"([,;])(?:\s*[,;])+"), r"\1"),
    (re.compile(r" {2,}"), " "),
]
_FORMULA_REPAIRS = [
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"(\1)/(\2)"),
    (re.compile(r"\\(?:left|right|displaystyle|text\w*|math\w+|mbox|bigl?|bigr)(?![a-z])"), ""),
    (re.compile(r"\\[lcd]?dots[a-z]?\b"), "..."),
    (re.compile(r"\\[^a-zA-Z]"), " "),
    (re.compile(r"\\([a-zA-Z]+)"), r"\1 "),
    (re.compile(r"[{}]|^\s*:|\b(?:rm|bf|it) "), ""),
    (re.compile(r"~"), " "),
]
MAX_FORMULA_CHARACTERS = 60
MIN_PARAGRAPH_WORDS = 5


def plain_text(wikitext: str) -> str:
    """The paragraphs of an article, with an empty line between them."""
    try:
        code = mwparserfromhell.parse(_REFERENCES.sub("", wikitext), skip_style_tags=True)
    except mwparserfromhell.parser.ParserError:  # markup beyond repair: one article, not the dump
        return ""
    text = _render(_without_back_matter(code.nodes))
    paragraphs = filter(_is_prose, map(_repair, _paragraphs(text)))
    return "\n\n".join(paragraph.removeprefix(_ITEM) for paragraph in paragraphs)


def _without_back_matter(all_nodes: list[Any]) -> Iterator[Any]:
    """Leave out headings, and sections that hold references and links with all below them."""
    dropped_level = 7
    for node in all_nodes:
        if isinstance(node, nodes.Heading):
            if node.level <= dropped_level:
                title = _render(node.title.nodes).strip(" '\n")
                dropped_level = node.level if _BACK_MATTER.fullmatch(title) else 7
            yield "\n\n"
        elif dropped_level == 7:
            yield node


def _render(content: Any) -> str:
    return "".join(map(_render_node, content))


def _render_node(node: Any) -> str:
    match node:
        case str():
            return node
        case nodes.Text():
            return str(node.value)
        case nodes.HTMLEntity():
            return str(node.normalize())
        case nodes.Wikilink():
            return _render_link(node)
        case nodes.ExternalLink():
            if node.title is not None:
                return _render(node.title.nodes)
            return "" if node.brackets else str(node.url)
        case nodes.Tag():
            return _render_tag(node)
        case nodes.Template():
            return _render_template(node)
        case nodes.Argument() | nodes.Comment() | nodes.Heading():
            return ""
    return str(node)


def _render_link(link: Any) -> str:
    target = _render(link.title.nodes)
    if _NAMESPACE_LINK.match(target) or _FILE_NAME.fullmatch(target):
        return ""
    if link.text is not None:
        return _render(link.text.nodes)
    return target.strip().removeprefix(":").partition("#")[0] or target


def _render_tag(tag: Any) -> str:
    name = str(tag.tag).strip().lower()
    if name in {"li", "dd", "dt"} and tag.wiki_markup:
        return _ITEM
    if name == "br":
        return "\n" if tag.wiki_markup else " "
    if name == "math":
        return _render_formula(str(tag.contents))
    if name in _DROPPED_TAGS or tag.contents is None:
        return ""
    content = _render(tag.contents.nodes)
    if name == "li":
        return f"\n{_ITEM}{content}\n"
    return f"\n\n{content}\n\n" if name in _BLOCK_TAGS else content


def _render_formula(formula: str) -> str:
    """Spell out a short formula of a sentence; a long one goes, as tables do."""
    if "\\begin" in formula:
        return ""
    for pattern, replacement in _FORMULA_REPAIRS:
        formula = pattern.sub(replacement, formula)
    text = " ".join(formula.split())
    return text if len(text) <= MAX_FORMULA_CHARACTERS else ""


def _render_template(template: Any) -> str:
    name = str(template.name).strip().lower().replace("_", " ")
    render = _TEMPLATES.get(name)
    if render is None and name.startswith("lang-"):
        render = _argument(1)
    return render(_Arguments(template)) if render else ""


class _Arguments:
    """The positional arguments of a template as text, counted from 1."""

    def __init__(self, template: Any) -> None:
        self._template = template

    def __getitem__(self, number: int) -> str:
        if not self._template.has(number):
            return ""
        return _render(self._template.get(number).value.nodes).strip()

    def is_named(self, name: str, value: str) -> bool:
        """Whether the argument `name` is given and has this value."""
        return bool(self._template.has(name) and self._template.get(name).value.strip() == value)


def _argument(number: int) -> Callable[[_Arguments], str]:
    return lambda arguments: arguments[number]


def _as_of(arguments: _Arguments) -> str:
    month = arguments[2]
    if month.isdecimal() and 1 <= int(month) <= len(_MONTHS):
        month = _MONTHS[int(month) - 1]
    day = arguments[3] if month else ""
    return " ".join(filter(None, ["As of", day, month, arguments[1]]))


def _convert(arguments: _Arguments) -> str:
    if arguments[2] in {"-", "to", "and", "by", "x", "\u2013", "or"}:
        middle = "\u2013" if arguments[2] in {"-", "\u2013"} else f" {arguments[2]} "
        return f"{arguments[1]}{middle}{arguments[3]} {_UNITS.get(arguments[4], arguments[4])}"
    text = f"{arguments[1]} {_UNITS.get(arguments[2], arguments[2])}"
    if _NUMBER.fullmatch(arguments[3]) and arguments[4] in _UNITS:  # 6 feet 2 inches
        text += f" {arguments[3]} {_UNITS[arguments[4]]}"
    return text


def _fraction(arguments: _Arguments) -> str:
    whole = f"{arguments[1]} {arguments[2]}/{arguments[3]}"
    return whole if arguments[3] else "/".join(filter(None, [arguments[1], arguments[2]]))


def _coordinates(arguments: _Arguments) -> str:
    """Coordinates inside a sentence; those that only stand beside the title go."""
    values = list(takewhile(bool, (arguments[number] for number in range(1, 9))))
    if arguments.is_named("display", "title") or len(values) < 2:
        return ""
    marks = {"N": "N ", "S": "S ", "E": "E", "W": "W"}
    units = cycle("\u00b0\u2032\u2033")
    text = ""
    for value in values:
        if value in marks:
            text += marks[value]
            units = cycle("\u00b0\u2032\u2033")
        elif re.fullmatch(r"-?[\d.]+", value):
            text += value + next(units)
    return text if any(mark in text for mark in "EW") else ", ".join(values[:2])


def _concatenated(arguments: _Arguments) -> str:
    return "".join(arguments[number] for number in range(1, 9))


_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:/\d+)?")
_UNITS = {
    **{"sqmi": "square miles", "mi2": "square miles", "sqft": "square feet", "acre": "acres"},
    **{"km2": "km\u00b2", "m2": "m\u00b2", "m3": "m\u00b3", "C": "\u00b0C", "F": "\u00b0F"},
    **{"ft": "feet", "mi": "miles", "in": "inches", "yd": "yards", "lb": "pounds"},
    **{"oz": "ounces", "pt": "pints", "ch": "chains"},
}

_TEMPLATES: dict[str, Callable[[_Arguments], str]] = {
    **dict.fromkeys(
        [
            *("nowrap", "nobr", "small", "smaller", "big", "sc", "em", "strong", "mono", "code"),
            *("quote", "blockquote", "cquote", "quotation", "hlist", "linktext", "vanchor"),
            *("nihongo", "angbr", "abbr", "tooltip", "flag", "flagcountry", "key", "keypress"),
            *("dts", "nts", "formatnum", "kbd", "math", "mvar", "var", "sub", "sup", "unicode"),
            "val",
        ],
        _argument(1),
    ),
    "lang": _argument(2),
    "transl": _argument(2),
    "transliteration": _argument(2),
    "convert": _convert,
    "cvt": _convert,
    "as of": _as_of,
    "frac": _fraction,
    "fraction": _fraction,
    "sfrac": _fraction,
    "coord": _coordinates,
    "chem": _concatenated,
    "chem2": _concatenated,
    "simplenuclide2": lambda arguments: f"{arguments[1]}-{arguments[2]}",
    "'s": lambda _: "'s",
    "'": lambda _: "'",
    "nbsp": lambda _: " ",
    "spaces": lambda _: " ",
    "spaced ndash": lambda _: " \u2013 ",
    "snd": lambda _: " \u2013 ",
    "ndash": lambda _: "\u2013",
    "mdash": lambda _: "\u2014",
    "\u00b7": lambda _: " \u00b7 ",
    "!": lambda _: "|",
    "circa": lambda arguments: f"c. {arguments[1]}".strip(),
    "c.": lambda arguments: f"c. {arguments[1]}".strip(),
}


def _paragraphs(text: str) -> Iterator[str]:
    """Join lines as MediaWiki does, up to an empty line, a list item or leftover markup."""
    lines: list[str] = []
    for line in [*text.split("\n"), ""]:
        stripped = line.strip()
        is_item = _ITEM in line
        if lines and (not stripped or is_item or _MARKUP_LINE.match(stripped)):
            yield " ".join(lines)
            lines = []
        if is_item:
            yield _ITEM + stripped.replace(_ITEM, " ").strip()
        elif stripped and not _MARKUP_LINE.match(stripped):
            lines.append(stripped)


def _repair(paragraph: str) -> str:
    for pattern, replacement in _REPAIRS:
        paragraph = pattern.sub(replacement, paragraph)
    return paragraph.strip(" ")


def _is_prose(paragraph: str) -> bool:
    """Whether a paragraph has enough words, and a list item the end of a sentence."""
    is_item = paragraph.startswith(_ITEM)
    is_fragment = is_item and not _SENTENCE_END.search(paragraph)
    is_torn = _TORN_BEGINNING.match(paragraph) is not None
    return len(paragraph.split()) >= MIN_PARAGRAPH_WORDS and not is_fragment and not is_torn
