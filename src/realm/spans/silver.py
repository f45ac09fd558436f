"""What do articles say of names, without anybody having marked one?

"Tavil is a village in Velland": the first sentence of an encyclopedia's article tells what its
title names, so the articles themselves mark names by kind (Nothman et al. 2013). Names of other
articles, and longer names that begin or end as most titles of one kind do ("... River",
"Clara ..."), are marked too. What may be a name of unknown kind is left open: a tagger learns
from the rest that it is no name, and from those words nothing.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import NamedTuple

import numpy as np

from realm.corpus.documents import Document
from realm.corpus.passages import split_sentences
from realm.progress import Progress, no_progress
from realm.spans.conll import TaggedFile, TaggedSentence
from realm.spans.entities import RuleTagger, Span
from realm.spans.kinds import KINDS, PERSON, kind_of_definition

_ADDED_TO_NAME = re.compile(r"\s*\([^()]*\)$|,\s.*")  # Tavil (river); Tavil, Velland
_QUOTED = re.compile(r'"[^"]*"|\u201c[^\u201d]*\u201d')
_FIRST_WORD = re.compile(r"^\W*\w+")
_BEGINNING = 700  # characters of an article that are read: most of it is about its title
_LEAST_LENGTH = 3  # shorter names are written for too many things
# A word that begins or ends so many titles, nearly all of one kind, tells that kind.
_LEAST_TITLES, _LEAST_SHARE = 10, 0.95


class Article(NamedTuple):
    """The beginning of an article whose title names something of a known kind."""

    name: str
    kind: str
    text: str


def read_article(document: Document) -> Article | None:
    """Read what the title names, or nothing where that is not told or the title is no name."""
    name = _ADDED_TO_NAME.sub("", document.title)
    text = document.text[:_BEGINNING]
    common_noun = name[:1].lower() + name[1:]
    if len(name) < _LEAST_LENGTH or name == common_noun or _written(common_noun).search(text):
        return None
    kind = kind_of_definition(text)
    whole_words = text.rpartition(" ")[0] if len(document.text) > _BEGINNING else text
    return Article(name, kind, whole_words) if kind else None


class Names:
    """What names are known of: as wholes, and by their first and last words."""

    def __init__(self, kinds_by_name: Mapping[str, set[str]]) -> None:
        """Take names with what they name in various articles; those of several kinds tell none."""
        known = [
            (name, kind)
            for name, kinds in kinds_by_name.items()
            if len(kinds) == 1
            for kind in kinds
        ]
        self._whole = dict(known)
        longer = [(name.split(" "), kind) for name, kind in known if " " in name]
        self._first = _telling((words[0], kind) for words, kind in longer)
        self._last = _telling((words[-1], kind) for words, kind in longer)

    def kind_of(self, name: str) -> str | None:
        """The kind of a name, or nothing where it is not known."""
        kind = self._whole.get(name)
        first, *rest = name.split(" ")
        if not rest:  # one word that names a person names others too
            return None if kind == PERSON else kind
        return kind or self._last.get(rest[-1]) or self._first.get(first)


def mark_articles(
    documents: Iterable[Document],
    *,
    num_articles: int,
    seed: int,
    progress: Progress = no_progress,
) -> TaggedFile:
    """Mark the names at the beginnings of so many articles, alike many of each kind.

    All documents are read, for the names in their titles.
    """
    kinds_by_name: dict[str, set[str]] = defaultdict(set)
    samples = {kind: _Sample(num_articles // len(KINDS), seed) for kind in KINDS}
    with progress("articles", None) as advance:
        for number, document in enumerate(documents, start=1):
            article = read_article(document)
            if article is not None:
                kinds_by_name[article.name].add(article.kind)
                samples[article.kind].offer(article)
            advance(number, "")
    articles = [article for sample in samples.values() for article in sample.kept]
    sentences = [split_sentences(article.text) for article in articles]
    names, rules = Names(kinds_by_name), RuleTagger.fit(chain.from_iterable(sentences))
    marked = [
        [mark_sentence(text, article, names, rules) for text in texts]
        for article, texts in zip(articles, sentences, strict=True)
    ]
    # Sentences without a name that is known would take half of the time, and teach little.
    told = [[sentence for sentence in document if sentence.spans] for document in marked]
    return TaggedFile("articles", told, frozenset(KINDS))


def mark_sentence(text: str, article: Article, names: Names, rules: RuleTagger) -> TaggedSentence:
    """Mark the names in a sentence of an article, and leave open what else may be one.

    A person's article writes the parts of the name alone. The first word of a sentence has its
    capital anyhow: nothing is said of it unless it is known.
    """
    phrases = [(span.start, span.end) for span in rules.tag([text])[0] if span.label == "entity"]
    own = _places(article.name, text)
    phrases = [phrase for phrase in phrases if not _overlaps(phrase, own)]
    if article.kind == PERSON:
        parts = chain.from_iterable(_places(part, text) for part in article.name.split(" "))
        taken = [*own, *phrases]
        own += [part for part in parts if part in phrases or not _overlaps(part, taken)]
        phrases = [phrase for phrase in phrases if phrase not in own]
    spans = [Span(*place, article.kind) for place in own]
    kinds = {phrase: names.kind_of(text[slice(*phrase)]) for phrase in phrases}
    spans += [Span(*phrase, kind) for phrase, kind in kinds.items() if kind]
    unsure = [phrase for phrase, kind in kinds.items() if not kind]
    unsure += [match.span() for match in chain(_QUOTED.finditer(text), _FIRST_WORD.finditer(text))]
    return TaggedSentence(text, tuple(sorted(spans)), tuple(unsure))


def _places(name: str, text: str) -> list[tuple[int, int]]:
    return [match.span() for match in _written(name).finditer(text)]


def _overlaps(place: tuple[int, int], others: Iterable[tuple[int, int]]) -> bool:
    return any(place[0] < end and start < place[1] for start, end in others)


class _Sample:
    """So many of a stream of unknown length, each with the same chance."""

    def __init__(self, size: int, seed: int) -> None:
        self.kept: list[Article] = []
        self._size, self._num_offered = size, 0
        self._generator = np.random.default_rng(seed)

    def offer(self, article: Article) -> None:
        self._num_offered += 1
        if len(self.kept) < self._size:
            self.kept.append(article)
        elif (place := int(self._generator.integers(self._num_offered))) < self._size:
            self.kept[place] = article


def _written(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")


def _telling(words: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The words that go with one kind, of pairs of both."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for word, kind in words:
        counts[word][kind] += 1
    found = {}
    for word, count in counts.items():
        ((kind, number),) = count.most_common(1)
        if count.total() >= _LEAST_TITLES and number >= _LEAST_SHARE * count.total():
            found[word] = kind
    return found
