"""What may a newcomer ask this run, and which gaps may they fill?"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from realm.corpus.store import PassageStore
from realm.errors import RealmError
from realm.examples.question import read_questions
from realm.experiment import expand
from realm.serving.ports import Corpus
from realm.spans.annotate import SpanStore
from realm.stages import Run

_NUM_EXAMPLES = 4
_LONGEST_EXAMPLE = 120  # characters; longer ones make poor buttons
_LARGEST_FILE = 32_000_000  # bytes; a greater question file is not read for four examples
_ROWS_LOOKED_AT = 200


def example_questions(run: Run, corpus: Corpus) -> Sequence[str]:
    """A few questions of the run's own question files, or else about a few titles."""
    for source in (*run.experiment.dev_questions, *run.experiment.train_questions):
        if found := list(islice(_short_questions(Path(expand(source))), _NUM_EXAMPLES)):
            return found
    titles = (document.title for document in corpus.list(limit=10 * _NUM_EXAMPLES))
    return [f"What is {title}?" for title in islice(filter(None, titles), _NUM_EXAMPLES)]


def example_gaps(run: Run) -> Sequence[str]:
    """A few sentences of the corpus in which a salient span of one wordpiece is hidden."""
    try:
        store, spans = run.corpus(), SpanStore.open(run.path / "spans")
    except RealmError:  # imported runs have none
        return ()
    rows = spans.rows_with_spans()
    step = max(1, len(rows) // _ROWS_LOOKED_AT)
    gaps = (gap for row in rows[step // 2 :: step].tolist() for gap in _gaps(store, spans, row))
    return list(islice(gaps, _NUM_EXAMPLES))


def _short_questions(file: Path) -> Iterator[str]:
    try:
        if file.stat().st_size > _LARGEST_FILE:
            return
        questions = [question.question for question in read_questions(file)]
    except (OSError, RealmError):  # the run may have moved to a machine without them
        return
    # Neighbours are often about one article: take them from all over the file.
    short = [question for question in questions if len(question) <= _LONGEST_EXAMPLE]
    step = max(1, len(short) // _NUM_EXAMPLES)
    yield from short[step // 2 :: step]


def _gaps(store: PassageStore, spans: SpanStore, row: int) -> Iterator[str]:
    """The first short sentence of a passage with such a gap, if it has one."""
    text, places, sentences = store.text(row), store.token_spans(row), store.sentences(row)
    for span in spans.of(row):
        first, last = sentences[span["sentence"]].tolist()
        begin, end = int(places[first][0]), int(places[last - 1][1])
        is_short = end - begin <= _LONGEST_EXAMPLE
        if is_short and begin < span["start"] and span["token_end"] - span["token_start"] == 1:
            yield f"{text[begin : span['start']]}[MASK]{text[span['end'] : end]}"
            return
