"""Answers are slices of the user's documents, and probabilities are probabilities."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from realm.corpus.build import build_corpus
from realm.corpus.passages import CorpusSettings
from realm.corpus.store import PassageStore
from realm.errors import ArtifactError
from realm.index.snapshot import IndexSettings, write_snapshot
from realm.models.checkpoint import Model, save_checkpoint
from realm.models.embedder import evaluating
from realm.openqa import pointing
from realm.openqa.answerer import Answered, Answerer, open_answerer
from realm.openqa.labels import normalise_answer
from realm.openqa.objective import (
    OpenQaSettings,
    embed_questions,
    read_passages,
)
from realm.retrieval.retriever import Retriever
from small_world import ARTICLES

QUESTIONS = [
    "Who designed the Lomvar Bridge?",
    "When was the Orsk Observatory founded?",
    "Where?",
    "Which queen opened a bridge over the river Sorna in the north of Velland in 1871?",
]

Make = Callable[..., Answerer]


@pytest.fixture(scope="module")
def ragged_store(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> PassageStore:
    """The articles with line breaks, tabs and runs of blanks: offsets have to see through them."""
    folder = tmp_path_factory.mktemp("ragged")
    source = folder / "corpus.jsonl"
    rows = [
        {"id": f"ragged-{number}", "title": title, "text": "\n " + text.replace(" ", " \n\t ")}
        for number, (title, text) in enumerate(ARTICLES.items())
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = CorpusSettings(passage_tokens=40, num_workers=1)
    path = folder / "corpus"
    return build_corpus([source], path, tokenizer_file=tokenizer_file, settings=settings)


@pytest.fixture
def make(small_model: Model, ragged_store: PassageStore, tmp_path: Path) -> Make:
    """Makes an answerer of an untrained model."""
    small_model.embedder = small_model.embedder.with_own_query_tower()
    snapshot = write_snapshot(
        tmp_path / "snapshot", small_model, ragged_store, checkpoint="a", step=0
    )

    def make_answerer(**values: object) -> Answerer:
        settings = OpenQaSettings.model_validate({"reader_passages": 4, **values})
        retriever = Retriever(snapshot.index(IndexSettings()))
        return Answerer(small_model, ragged_store, snapshot, retriever, settings)

    return make_answerer


def test_answers_are_slices_of_the_documents(make: Make, ragged_store: PassageStore) -> None:
    assert len(ragged_store) > 12, "some documents have several passages"
    starts = set()
    for answered in make().answer(QUESTIONS, top_k=50):
        assert answered.answers
        for answer in answered.answers:
            document = ragged_store.document(answer.document_id)
            slice_ = document.text[answer.start : answer.end]
            assert " ".join(slice_.split()) == answer.text
            assert slice_ == slice_.strip()
            passage = answer.passage
            assert passage.text[passage.answer_start : passage.answer_end] == answer.text
            assert passage.title == document.title
            starts.add((answer.document_id, answer.start))
    assert len(starts) > 20


def test_batched_equals_one_by_one(make: Make) -> None:
    answerer = make()
    questions = QUESTIONS * 5  # more than one batch
    together = answerer.answer(questions, top_k=4)
    assert [answered.question for answered in together] == questions
    for question, answered in zip(QUESTIONS, together, strict=False):
        (alone,) = answerer.answer([question], top_k=4)
        assert [a.text for a in alone.answers] == [a.text for a in answered.answers]
        for one, other in zip(alone.answers, answered.answers, strict=True):
            assert (one.document_id, one.start, one.end) == (
                other.document_id, other.start, other.end,
            )  # fmt: skip
            assert one.probability == pytest.approx(other.probability, rel=1e-3)
        assert alone.null_probability == pytest.approx(answered.null_probability, rel=1e-3)


def test_all_questions_are_looked_up_in_one_search(make: Make) -> None:
    answerer, sizes = make(), []
    search = answerer.retriever.search

    class Counting:
        def search(self, questions: Sequence[str], vectors: Tensor, k: int) -> Tensor:
            sizes.append(len(questions))
            return search(questions, vectors, k)

    answerer.retriever = Counting()
    assert len(answerer.answer(QUESTIONS * 5)) == 20
    assert sizes == [20]
    assert answerer.answer([]) == []


@pytest.mark.parametrize(("null_passage", "num_read"), [(False, 4), (True, 5)])
def test_the_null_passage_is_read_where_it_counts(
    make: Make, null_passage: bool, num_read: int
) -> None:
    answerer, read = make(null_passage=null_passage), []
    hook = answerer.model.reader.register_forward_hook(
        lambda reader, inputs, hidden: read.append(len(hidden))
    )
    answerer.answer(QUESTIONS[:1])
    hook.remove()
    assert sum(read) == num_read


@pytest.mark.parametrize("null_passage", [False, True])
def test_probabilities(make: Make, null_passage: bool) -> None:
    for answered in make(null_passage=null_passage).answer(QUESTIONS, top_k=1000):
        probabilities = [answer.probability for answer in answered.answers]
        assert probabilities == sorted(probabilities, reverse=True)
        assert all(0 < probability <= 1 for probability in probabilities)
        assert sum(probabilities) + answered.null_probability <= 1 + 1e-5
        assert (answered.null_probability > 0) == null_passage
        beliefs = {a.passage.passage_id: a.passage.retrieval_probability for a in answered.answers}
        assert 0 < sum(beliefs.values()) <= 1 + 1e-5


def test_the_same_words_in_several_passages_are_one_answer(
    make: Make, small_model: Model, ragged_store: PassageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pointing, "_SPANS_LOOKED_AT", 10**6)
    answerer = make(reader_passages=12)
    (answered,) = answerer.answer(QUESTIONS[:1], top_k=10**6)
    keys = [normalise_answer(answer.text) for answer in answered.answers]
    assert len(keys) == len(set(keys))
    totals, best = sums_by_hand(answerer, small_model, ragged_store, QUESTIONS[0])
    several = 0
    for key, answer in zip(keys, answered.answers, strict=True):
        assert answer.probability == pytest.approx(totals[key], rel=1e-3)
        assert (answer.document_id, answer.passage.text) == best[key][1:]
        several += answer.probability > 1.01 * best[key][0]
    assert several > 10
    # "Tavil", "Tavil." and "the Tavil" would be one answer.
    assert keys.count("tavil") == 1


def sums_by_hand(
    answerer: Answerer, model: Model, store: PassageStore, question: str
) -> tuple[dict[str, float], dict[str, tuple[float, str, str]]]:
    """Probability of every answer, and of its best span with where it stands."""
    with evaluating(model.modules()):
        vectors = embed_questions(model, [question])
        rows = answerer.retriever.search([question], vectors, 12)
        reading = read_passages(
            model, store, answerer.snapshot, [question], vectors, rows, answerer.settings
        )
    probabilities = reading.joint[0].softmax(dim=-1)[:-1].view(reading.spans.shape[1:])
    totals: dict[str, float] = defaultdict(float)
    best: dict[str, tuple[float, str, str]] = {}
    for place, row in enumerate(rows[0].tolist()):
        passage, spans = store.passage(row), store.token_spans(row)
        for first, width in torch.nonzero(probabilities[place]).tolist():
            probability = float(probabilities[place, first, width])
            text = passage.text[spans[first][0] : spans[first + width][1]]
            if _splits_a_word(passage.text, int(spans[first][0]), int(spans[first + width][1])):
                continue
            key = normalise_answer(text)
            totals[key] += probability
            best[key] = max(
                best.get(key, (0.0, "", "")), (probability, passage.document_id, passage.text)
            )
    return totals, best


def _splits_a_word(text: str, start: int, end: int) -> bool:
    before, after = text[:start][-1:], text[end:][:1]
    return (before.isalnum() and text[start].isalnum()) or (
        after.isalnum() and text[end - 1].isalnum()
    )


def test_answers_are_whole_words(make: Make) -> None:
    for answered in make().answer(QUESTIONS, top_k=100):
        for answer in answered.answers:
            passage = answer.passage
            assert not _splits_a_word(passage.text, passage.answer_start, passage.answer_end)


def test_the_same_question_has_the_same_answers(make: Make) -> None:
    assert make().answer(QUESTIONS) == make().answer(QUESTIONS)


def test_a_training_model_answers_alike(make: Make, small_model: Model) -> None:
    small_model.modules().train()
    answered = make().answer(QUESTIONS[:1])
    assert small_model.reader.training
    small_model.modules().eval()
    assert make().answer(QUESTIONS[:1]) == answered
    assert not small_model.reader.training


def test_a_corpus_smaller_than_the_beam(make: Make, ragged_store: PassageStore) -> None:
    exactly = make(reader_passages=len(ragged_store)).answer(QUESTIONS)
    more = make(reader_passages=len(ragged_store) + 7).answer(QUESTIONS)
    for one, other in zip(exactly, more, strict=True):
        assert [a.text for a in one.answers] == [a.text for a in other.answers]
        for ours, theirs in zip(one.answers, other.answers, strict=True):
            assert ours.probability == pytest.approx(theirs.probability, rel=1e-3)


def test_no_more_answers_than_asked_for(make: Make) -> None:
    (few,) = make().answer(QUESTIONS[:1], top_k=2)
    (many,) = make().answer(QUESTIONS[:1], top_k=9)
    assert len(few.answers) == 2
    assert len(many.answers) == 9
    assert many.answers[:2] == few.answers
    answerer = make()
    assert answerer.answer([]) == []
    assert answerer.search([], 5).scores.shape == answerer.retrieve([], 5).shape == (0, 5)


def test_an_empty_question_is_answered_too(make: Make) -> None:
    (answered,) = make().answer([""])
    assert isinstance(answered, Answered)


def test_programs_get_plain_values(make: Make) -> None:
    (answered,) = make().answer(QUESTIONS[:1], top_k=1)
    values = json.loads(json.dumps(answered.as_dict()))
    assert set(values) == {"question", "answers", "null_probability"}
    (answer,) = values["answers"]
    assert set(answer) == {"text", "probability", "document_id", "start", "end", "passage"}
    assert answer["passage"]["answer_start"] < answer["passage"]["answer_end"]


def test_retrieved_rows_are_those_that_are_read(make: Make) -> None:
    answerer = make()
    rows = answerer.retrieve(QUESTIONS, 4)
    assert rows.shape == (4, 4)
    for best, answered in zip(rows.tolist(), answerer.answer(QUESTIONS, top_k=50), strict=True):
        read = {answerer.store.passage(row).passage_id for row in best}
        assert {answer.passage.passage_id for answer in answered.answers} <= read


def test_a_model_with_another_snapshot_is_refused(
    make: Make, small_model: Model, ragged_store: PassageStore, tmp_path: Path
) -> None:
    answerer = make()
    snapshot = answerer.snapshot
    for name, made_with in (("fits", snapshot.manifest.fingerprint), ("other", "0123")):
        inputs = {"snapshot": made_with}
        save_checkpoint(tmp_path / name, small_model, step=0, inputs=inputs)

    def reopen(name: str) -> Answerer:
        return open_answerer(
            tmp_path / name, ragged_store, snapshot,
            settings=answerer.settings, retriever=answerer.retriever,
        )  # fmt: skip

    assert reopen("fits").answer(QUESTIONS[:1])[0].answers
    with pytest.raises(ArtifactError, match="another snapshot"):
        reopen("other")
