"""Which words of a sentence name something?

Two taggers behind one seam. `RuleTagger` needs nothing but the corpus: names are phrases of
capitalised words, told apart from the beginnings of sentences by how the corpus writes the
same words elsewhere. The other one is `model_tagger.ModelTagger`.

A tagger gets one sentence a text, so that no span can cross a sentence.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable


class Span(NamedTuple):
    """A range of characters and what it names."""

    start: int
    end: int
    label: str


@runtime_checkable
class EntityTagger(Protocol):
    """Finds named entities, sentence by sentence."""

    name: str

    def tag(self, texts: Sequence[str], documents: Sequence[int] | None = None) -> list[list[Span]]:
        """Return the spans of each sentence in order; `documents` numbers the one of each."""
        ...


# Capital letters of Latin (with Vietnamese), Greek, Cyrillic and Armenian.
_UPPER = "".join(chr(c) for c in (*range(0x41, 0x590), *range(0x1E00, 0x1F00)) if chr(c).isupper())
_CAPITALISED = (
    rf"(?:d['\u2019]|al-)?[{_UPPER}](?:\w|['\u2019](?!s\b)(?=\w)|-(?=[{_UPPER}\d])"
    rf"|-(?:[a-z]{{1,4}}-){{1,2}}(?=[{_UPPER}]))*"
)
# A single initial stands inside a name: "World War I." ends a sentence.
_INITIALS = rf"(?:(?:[{_UPPER}]\.){{2,}}(?:[{_UPPER}]\b)?|[{_UPPER}]\.(?=\s?[{_UPPER}]))"
_TITLE = r"(?:Mr|Mrs|Ms|Dr|St|Mt|Ft|Prof|Gen|Col|Capt|Lt|Maj|Sgt|Rev|Sen|Rep|Gov)\.(?=\s)"
_NAME_WORD = rf"(?:\d{{1,3}}(?:st|nd|rd|th)(?=\s[{_UPPER}])|{_TITLE}|{_INITIALS}|{_CAPITALISED})"
_CONNECTOR = (
    r"(?:of\sthe|of|the|for\sthe|de\sla|de\slos|de|del|della|di|da|do|dos|du|des|la|le|el"
    r"|van\sder|van\sden|van|von\sder|von|zu|ten|ter|den|der|al|bin|ibn|y|e|i|&)"
)
_NAME = re.compile(
    rf"(?<![\w'\u2019-]){_NAME_WORD}(?:(?:['\u2019]s)?\s(?:{_CONNECTOR}\s)?{_NAME_WORD})*"
    # Boeing 747, Apollo 11: a number that ends the phrase
    r"(?:[\s-]\d{1,3}(?![\w%°])(?!(?:[,.:\u2013-]|\s[\u2013-]\s)\d)(?!\s\w))?"
    r"(?:,?\s(?:Jr|Sr|Inc|Ltd|Co|Corp)\b\.?|,\sD\.C\.)?"
)
_BEGINS_NAME = re.compile(_NAME_WORD)

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_MAGNITUDE = r"(?:\s(?:hundred|thousand|million|billion|trillion)\b)"
_UNIT = (
    r"(?:%|°[CF]?|(?:percent|per\scent|kilomet(?:re|er)s?|met(?:re|er)s?|centimet(?:re|er)s?"
    r"|millimet(?:re|er)s?|km²?|km2|m²|m2|cm|mm|ft|feet|foot|inch(?:es)?|miles?|mi|yards?|acres?"
    r"|hectares?|ha|square\s\w+|cubic\s\w+|kilograms?|kg|grams?|pounds?|lbs?|tons?|tonnes?"
    r"|lit(?:re|er)s?|gallons?|degrees?|knots|mph|km/h|hp|kW|MW|GW|watts?|volts?|hertz|Hz|kHz|MHz"
    r"|GHz|[KMGT]B|bits?|bytes?|people|inhabitants|residents|seats|dollars?|euros?|points?"
    r"|years?|months?|weeks?|days?|hours?|minutes?|seconds?)(?!\w|/[a-z]))"
)
_QUANTITY = re.compile(
    r"(?<![\w.,-])(?:"
    rf"(?:US|A|C)?[$€£¥]\s?(?:{_NUMBER}){_MAGNITUDE}?(?!\w)"
    rf"|(?:{_NUMBER})(?:{_MAGNITUDE}(?:[\s-]{_UNIT})?|[\s-]?{_UNIT}))"
)

_WORD = re.compile(r"(?:\w\.)+\w?|\w+(?:['\u2019-]\w+)*")
_APOSTROPHE = re.compile(r"['\u2019]")
_LOWER_PART = re.compile(r"-([^\W\d_]+)")
_POSSESSIVE = re.compile(r"['\u2019]s\s(?=\S)")
_OPENING = frozenset("\"'\u201c\u2018(\u00ab[:;\u2013\u2014-\u2026?!.")
_FUNCTION_WORDS = frozenset(
    _WORD.findall("""
    a about after against all along also although among an and another any are around as at
    because been before behind being below between both but by can conversely despite did do does
    during each either even every few for from furthermore had has have he hence her here his how
    however i if in into is it its later like likewise many may meanwhile more moreover most much
    my near neither nevertheless no nonetheless nor not now of off on once one only onto or other
    our over per several she since so some such than that the their them then there therefore
    these they this those though through throughout thus to today two three under unlike until up
    upon was we were what when where whereas whether which while who whose why will with within
    without you your
    """)
)
# Capitalised, but nothing that a reader could be asked for.
_UNINFORMATIVE = _FUNCTION_WORDS | frozenset(
    _WORD.findall("""
    monday tuesday wednesday thursday friday saturday sunday mr mrs ms dr sir st no nos vol pp ed
    eds jr sr inc ltd co corp ii iii iv vi vii viii ix xi xii am pm bc ad
    """)
)
_MAX_NAME_WORDS = 10


class RuleTagger:
    """Tags capitalised phrases as `entity` and numbers with a unit as `number`."""

    name = "rules"

    def __init__(self, before_name: Counter[str], elsewhere: Counter[str]) -> None:
        self._before_name = before_name
        self._elsewhere = elsewhere

    @classmethod
    def fit(cls, sentences: Iterable[str]) -> "RuleTagger":
        """Count how the words inside sentences are written, before capitals and elsewhere."""
        before_name, elsewhere = Counter[str](), Counter[str]()
        for sentence in sentences:
            words = _WORD.findall(sentence)
            is_capital = [word[0].isupper() for word in words[2:]]
            is_capital.append(False)
            following = list(zip(words[1:], is_capital, strict=False))
            before_name.update(word for word, flag in following if flag)
            elsewhere.update(word for word, flag in following if not flag)
        return cls(before_name, elsewhere)

    def tag(self, texts: Sequence[str], documents: Sequence[int] | None = None) -> list[list[Span]]:
        """Return the spans of each sentence in order; names and numbers may overlap."""
        return [[*self._names(text), *_quantities(text)] for text in texts]

    def _names(self, text: str) -> Iterator[Span]:
        for match in _NAME.finditer(text):
            start, end = match.span()
            # "Chiang Kai-shek" goes on, "Paris-based" does not.
            part = _LOWER_PART.match(text, end)
            if part is not None and part[1] not in self._elsewhere:
                end = part.end()
            is_beginning = not start or text[:start].rstrip()[-1:] in _OPENING
            for first, last in self._split(text, start, end):
                kept = self._trim(text[first:last], is_beginning and first == start)
                if kept:
                    yield Span(last - len(kept), last, "entity")

    def _split(self, text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Part "England's Queen Victoria" in two, but keep "King's College" together."""
        for possessive in _POSSESSIVE.finditer(text, start, end):
            following = _WORD.match(text, possessive.end())
            if following is None or self._share(following[0], self._elsewhere, unseen=1.0) > 0.8:
                yield start, possessive.start()
                start = possessive.end()
        yield start, end

    def _trim(self, phrase: str, is_beginning: bool) -> str:
        """Take words off the front that are no part of the name."""
        while phrase and not self._begins_name(phrase, is_beginning):
            phrase = phrase.partition(" ")[2]
            is_beginning = False
        num_words = phrase.count(" ") + 1
        if num_words > _MAX_NAME_WORDS or (num_words == 1 and not self._is_telling(phrase)):
            return ""
        return phrase

    def _begins_name(self, phrase: str, is_beginning: bool) -> bool:
        word, _, rest = phrase.partition(" ")
        if word in ("The", "A", "An") or not _BEGINS_NAME.match(phrase):
            return False
        if not is_beginning:
            return True
        if word.lower() in _FUNCTION_WORDS:
            return False
        # Two words in capitals need no witness, a single one does.
        context = self._before_name if _BEGINS_NAME.match(rest) else self._elsewhere
        return self._share(word, context, unseen=1.0 if rest else 0.0) >= 0.5

    def _is_telling(self, word: str) -> bool:
        stem = _APOSTROPHE.split(word.lower().rstrip("."))[0]
        if len(word.rstrip(".")) < 2 or stem in _UNINFORMATIVE:
            return False
        return self._share(word, self._elsewhere, unseen=1.0) >= 0.3

    def _share(self, word: str, context: Counter[str], unseen: float) -> float:
        """How often the word is written like this rather than in lower case."""
        num_written, num_lower = context[word], context[word.lower()]
        if not num_written + num_lower:
            return unseen
        return num_written / (num_written + num_lower)


def _quantities(text: str) -> Iterator[Span]:
    for match in _QUANTITY.finditer(text):
        yield Span(match.start(), match.end(), "number")


NO_ENTITY = "O"
BEGINNING = ("B-", "S-", "U-")  # the last two begin and end with one word
_PREFIXES = (*BEGINNING, "I-", "E-", "L-")


def split_tag(tag: str) -> tuple[str, str]:
    """The prefix of a tag, empty for a bare label, and its label."""
    return (tag[:2], tag[2:]) if tag[:2] in _PREFIXES else ("", tag)


class TaggedWord(NamedTuple):
    """A word in tokens: the one that speaks for it, and its characters."""

    position: int
    start: int
    end: int


def words_of(offsets: Sequence[Sequence[int]], words: Sequence[int | None]) -> list[TaggedWord]:
    """The words of a text in tokens; special tokens are of none.

    The first token of a word speaks for all of it. A sign that stands for its capital is no word
    of its own: it begins at the same character.
    """
    found: list[TaggedWord] = []
    last_word = None
    for position, (word, (start, end)) in enumerate(zip(words, offsets, strict=True)):
        if word is None:
            continue
        if word == last_word:
            found[-1] = found[-1]._replace(end=end)
        else:
            if found and found[-1].start == start:
                found.pop()
            found.append(TaggedWord(position, start, end))
        last_word = word
    return found


def join_tags(
    tags: Sequence[str], offsets: Sequence[Sequence[int]], words: Sequence[int | None]
) -> list[Span]:
    """Join tags of tokens (IOB1, IOB2, BIOES, BILOU or bare labels) to spans of characters."""
    spans: list[Span] = []
    last_label = NO_ENTITY
    for position, start, end in words_of(offsets, words):
        prefix, label = split_tag(tags[position])
        if label == last_label != NO_ENTITY and prefix not in BEGINNING:
            spans[-1] = spans[-1]._replace(end=end)
        elif label != NO_ENTITY:
            spans.append(Span(start, end, label))
        last_label = label
    return spans
