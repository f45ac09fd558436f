"""Edits are found at once, exactly as if the corpus had been built anew."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from living_world import found_ids, make_answerer, make_base

from realm.corpus.documents import Document
from realm.corpus.store import PassageStore
from realm.errors import ArtifactError, ResourceError, SourceError
from realm.index.snapshot import write_snapshot
from realm.living import background
from realm.living import corpus as corpus_module
from realm.living.background import BackgroundMerger
from realm.living.corpus import LivingCorpus
from realm.living.journal import Journal
from realm.living.segment import write_segment
from realm.living.state import Edit, UnknownDocument
from realm.models.checkpoint import Model
from realm.openqa.answerer import Answerer
from small_world import ARTICLES

QUESTIONS = [
    "Who designed the Lomvar Bridge?",
    "When was the Orsk Observatory founded?",
    "Which queen opened a bridge over the river Sorna in the north of Velland in 1871?",
    "Zebras?",
]
BASE = [
    Document(f"article-{number}", title, text)
    for number, (title, text) in enumerate(ARTICLES.items())
]


def told(sentence: str, times: int) -> str:
    """A text without two equal passages: these could change places by the last bit of a score."""
    return "  ".join(f"{sentence}\n for time {number}." for number in range(times))


ZEBRA = Document("zoo/zebra", "Zebra", told("The zebra lives in Tavil", 8))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> PassageStore:
    """The articles, cut so that most have several passages."""
    return make_base(tmp_path_factory.mktemp("base"), BASE, tokenizer_file)


@pytest.fixture
def answerer(small_model: Model, base: PassageStore, tmp_path: Path) -> Answerer:
    """What answers from the base alone."""
    snapshot = write_snapshot(tmp_path / "snapshot", small_model, base, checkpoint="a", step=0)
    return make_answerer(small_model, base, snapshot)


@pytest.fixture
def corpus(answerer: Answerer, base: PassageStore, tmp_path: Path) -> Iterator[LivingCorpus]:
    """A living corpus without an edit."""
    corpus = LivingCorpus(tmp_path / "living", base, lambda: answerer)
    yield corpus
    corpus.close()


Rebuild = Callable[[list[Document]], Answerer]


@pytest.fixture
def rebuild(small_model: Model, tmp_path: Path, tokenizer_file: Path) -> Rebuild:
    """Builds corpus and index anew over other documents."""

    def build(documents: list[Document]) -> Answerer:
        number = len(list(tmp_path.glob("rebuilt-*")))
        folder = tmp_path / f"rebuilt-{number}"
        store = make_base(folder, documents, tokenizer_file)
        snapshot = write_snapshot(folder / "snapshot", small_model, store, checkpoint="a", step=0)
        return make_answerer(small_model, store, snapshot)

    return build


def assert_same_search(living: Answerer, rebuilt: Answerer) -> None:
    """Every passage in the same place, with the same score."""
    num = len(rebuilt.store)
    ours, theirs = (a.retrieve(QUESTIONS, num + 3) for a in (living, rebuilt))
    assert (ours[:, num:] == -1).all()
    for query in range(len(QUESTIONS)):
        for our_row, their_row in zip(ours[query, :num], theirs[query, :num], strict=True):
            our_passage = living.store.passage(int(our_row))
            their_passage = rebuilt.store.passage(int(their_row))
            assert our_passage.document_id == their_passage.document_id
            assert our_passage.text == their_passage.text
            assert our_passage.source_start == their_passage.source_start
    torch.testing.assert_close(
        living.snapshot.embeddings_of(ours[:, :num]),
        rebuilt.snapshot.embeddings_of(theirs[:, :num]),
        rtol=0, atol=2e-3,
    )  # fmt: skip


def edited(corpus: LivingCorpus) -> list[Document]:
    """Some edits of every kind, and the documents that are there after them, in their order."""
    new = Document("article-3", "Tavil", told("Tavil is a town now", 7))
    corpus.put([ZEBRA, new])
    corpus.put([Document("short-lived", "", "Nobody will read this.")])
    corpus.remove(["short-lived", "article-5"])
    last = Document("zoo/zebra", "Zebra", told("The zebra has left Tavil", 6))
    corpus.put([last])
    return [d for d in BASE if d.document_id not in ("article-3", "article-5")] + [new, last]


def test_a_search_returns_what_a_rebuilt_index_returns(
    corpus: LivingCorpus, rebuild: Rebuild
) -> None:
    rebuilt = rebuild(edited(corpus))
    assert_same_search(corpus.view().answerer, rebuilt)
    assert corpus.num_passages == len(rebuilt.store)
    assert corpus.num_documents == rebuilt.store.num_documents == 12
    corpus.merge()
    assert_same_search(corpus.view().answerer, rebuilt)
    assert corpus.num_passages == len(rebuilt.store)


def test_answers_are_those_of_a_rebuilt_corpus(corpus: LivingCorpus, rebuild: Rebuild) -> None:
    documents = edited(corpus)
    rebuilt = rebuild(documents)
    text_by_id = {document.document_id: document.text for document in documents}
    for _ in range(2):
        pairs = zip(
            corpus.view().answerer.answer(QUESTIONS), rebuilt.answer(QUESTIONS), strict=True
        )
        for ours, theirs in pairs:
            assert [a.text for a in ours.answers] == [a.text for a in theirs.answers]
            for answer, expected in zip(ours.answers, theirs.answers, strict=True):
                assert answer.probability == pytest.approx(expected.probability, abs=1e-3)
                assert (answer.document_id, answer.start, answer.end) == (
                    expected.document_id, expected.start, expected.end,
                )  # fmt: skip
                slice_ = text_by_id[answer.document_id][answer.start : answer.end]
                assert " ".join(slice_.split()) == answer.text
        corpus.merge()


def test_an_edit_changes_the_next_view_and_no_earlier_one(corpus: LivingCorpus) -> None:
    before = corpus.view()
    assert corpus.put([ZEBRA]) == [Edit("zoo/zebra", "added", 8)]
    between = corpus.view()
    assert corpus.remove(["zoo/zebra"]) == [Edit("zoo/zebra", "removed", 8)]
    num = len(before.answerer.store)
    new = set(range(num, num + 8))
    found = [
        set(found_ids(view.answerer, ["zebra"], num + 8)[0])
        for view in (before, between, corpus.view())
    ]
    assert [ids & new for ids in found] == [set(), new, set()]
    assert [view.version.split(":")[1] for view in (before, between, corpus.view())] == [
        "0", "1", "2",
    ]  # fmt: skip
    # What was found in an earlier view can be read although the document is gone.
    row = int(between.answerer.retrieve(["zebra"], 1)[0, 0])
    assert between.answerer.store.passage(row).text


def test_ids_of_passages_are_stable_and_never_used_again(corpus: LivingCorpus) -> None:
    num = corpus.num_passages
    corpus.put([ZEBRA])
    corpus.put([ZEBRA])
    ids = found_ids(corpus.view().answerer, ["zebra"], 3 * num)[0]
    assert set(ids) - {-1} == {*range(num), *range(num + 8, num + 16)}
    corpus.merge()
    assert set(found_ids(corpus.view().answerer, ["zebra"], 3 * num)[0]) == set(ids)
    corpus.remove(["zoo/zebra"])
    corpus.merge()
    corpus.put([ZEBRA])
    ids = found_ids(corpus.view().answerer, ["zebra"], 3 * num)[0]
    assert set(ids) - {-1} == {*range(num), *range(num + 16, num + 24)}


def test_what_was_edited_is_there_when_it_is_opened_again(
    corpus: LivingCorpus, answerer: Answerer, base: PassageStore, tmp_path: Path
) -> None:
    edited(corpus)
    for _ in range(2):
        again = LivingCorpus(tmp_path / "living", base, lambda: answerer)
        assert again.version == corpus.version
        assert again.list(limit=100) == corpus.list(limit=100)
        views = again.view().answerer, corpus.view().answerer
        ids = [found_ids(view, QUESTIONS, 30) for view in views]
        assert ids[0] == ids[1]
        assert again.document("zoo/zebra").text.startswith("The zebra has left")
        again.close()
        corpus.merge()


def test_documents_are_as_they_were_put(corpus: LivingCorpus) -> None:
    text = " \x00\x07 \ud800 Tavil \r\n has\u00a0 \u2028 bells.\t"
    corpus.put([Document("odd/\x01 id", "T\x02", text)])
    document = corpus.document("odd/\x01 id")
    assert document.text == text.replace("\ud800", "\ufffd")
    assert document.title == "T\x02"
    assert corpus.document("article-0") == BASE[0]
    corpus.merge()
    assert corpus.document("odd/\x01 id") == document


def test_the_list_is_in_the_order_of_ids(corpus: LivingCorpus) -> None:
    edited(corpus)
    everything = corpus.list(limit=100)
    assert [d.id for d in everything] == sorted(
        [d.document_id for d in BASE if d.document_id != "article-5"] + ["zoo/zebra"]
    )
    assert {d.id: d.origin for d in everything if d.origin == "edited"} == {
        "article-3": "edited", "zoo/zebra": "edited",
    }  # fmt: skip
    assert sum(d.num_passages for d in everything) == corpus.num_passages
    pages = [corpus.list(limit=5)]
    while pages[-1]:
        pages.append(corpus.list(after=pages[-1][-1].id, limit=5))
    assert [d for page in pages for d in page] == everything
    for _ in range(2):
        assert [d.id for d in corpus.list(text="HAS LEFT")] == ["zoo/zebra"]
        assert [d.id for d in corpus.list(text="is a town")] == ["article-3"]
        # Article 5 held it too and is gone; article 3 held it and is another now.
        assert [d.id for d in corpus.list(text="grey harbour")] == ["article-11", "article-4"]
        corpus.merge()


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([Document("", "", "text")], "empty id"),
        ([Document("a", "t", " \n\u2003 ")], "'a' has no text"),
        ([Document("b", "t", "\x00\x01\x02")], "'b' has no text"),
        ([Document("c", "", "one"), Document("c", "", "two")], "'c' occurs twice"),
        ([Document("d", "", "fine"), Document("e", "", "")], "'e' has no text"),
    ],
)
def test_what_cannot_be_put_changes_nothing(
    corpus: LivingCorpus, documents: list[Document], message: str
) -> None:
    before = corpus.version
    with pytest.raises(SourceError, match=message):
        corpus.put(documents)
    assert corpus.version == before
    assert corpus.num_documents == 12


@pytest.mark.parametrize("ids", [["nowhere"], ["article-1", "nowhere"], ["article-1"] * 2])
def test_what_cannot_be_removed_changes_nothing(corpus: LivingCorpus, ids: list[str]) -> None:
    with pytest.raises(UnknownDocument, match=f"no document '{ids[-1]}'"):
        corpus.remove(ids)
    assert corpus.num_documents == 12
    assert corpus.document("article-1") == BASE[1]


def test_a_document_can_be_removed_once(corpus: LivingCorpus) -> None:
    corpus.remove(["article-1"])
    for read in (corpus.document, corpus.summary, lambda name: corpus.remove([name])):
        with pytest.raises(UnknownDocument, match="'article-1'"):
            read("article-1")
    assert corpus.put([BASE[1]])[0].action == "added"
    assert corpus.document("article-1") == BASE[1]


def test_a_list_of_nothing_is_refused(corpus: LivingCorpus) -> None:
    for limit in (0, -3):
        with pytest.raises(SourceError, match=f"a list of {limit} documents"):
            corpus.list(limit=limit)


def test_all_documents_can_go(corpus: LivingCorpus) -> None:
    corpus.remove([document.document_id for document in BASE])
    answerer = corpus.view().answerer
    assert (corpus.num_documents, corpus.num_passages, corpus.list()) == (0, 0, [])
    assert (answerer.retrieve(QUESTIONS, 5) == -1).all()
    answered = answerer.answer(QUESTIONS)
    assert all(a.answers == () and a.null_probability == pytest.approx(1.0) for a in answered)
    corpus.merge()
    corpus.put([ZEBRA])
    assert corpus.view().answerer.answer(["zebra"])[0].answers


def test_two_openers_see_each_others_edits(
    corpus: LivingCorpus, answerer: Answerer, base: PassageStore, tmp_path: Path
) -> None:
    other = LivingCorpus(tmp_path / "living", base, lambda: answerer)
    for step in range(3):
        corpus.view()
        other.put([Document(f"theirs-{step}", "", told("A zebra came by", 3)), ZEBRA])
        assert corpus.version == other.version
        corpus.put([Document(f"ours-{step}", "", told("A zebra went", 3))])
        corpus.remove([f"theirs-{step}"])
        ids = [found_ids(c.view().answerer, QUESTIONS, 40) for c in (corpus, other)]
        assert ids[0] == ids[1]
        assert corpus.list(limit=99) == other.list(limit=99)
        (other if step else corpus).merge()
    assert corpus.num_documents == 12 + 1 + 3
    other.close()


@pytest.mark.parametrize("step", ["newest", "Embedded.view"])
def test_what_could_not_be_taken_in_is_taken_in_later(
    corpus: LivingCorpus, answerer: Answerer, base: PassageStore, tmp_path: Path, step: str
) -> None:
    """Of another process's edits, which do not come again."""
    other = LivingCorpus(tmp_path / "living", base, lambda: answerer)
    corpus.view()
    other.put([ZEBRA])
    version = other.version
    other.close()

    def fail(*_: Any) -> None:
        raise OSError("for a moment")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"realm.living.corpus.{step}", fail)
        with pytest.raises(OSError, match="for a moment"):
            corpus.view()
    assert corpus.view().version == version
    assert corpus.document("zoo/zebra") == ZEBRA


def test_an_edit_whose_view_failed_is_in_the_next_one(
    corpus: LivingCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.view()

    def fail(*_: Any) -> None:
        raise OSError("for a moment")

    with monkeypatch.context() as patch:
        patch.setattr("realm.living.corpus.Embedded.view", fail)
        with pytest.raises(OSError, match="for a moment"):
            corpus.remove(["article-1"])
    assert corpus.view().version.endswith(":1")


def test_embeddings_are_kept_while_the_embedder_is_the_same(
    corpus: LivingCorpus, answerer: Answerer, base: PassageStore, tmp_path: Path
) -> None:
    def refuse() -> None:
        raise AssertionError("nothing is to be embedded")

    corpus.put([ZEBRA])
    folder = tmp_path / "living"
    again = LivingCorpus(folder, base, lambda: answerer, require_embedder=refuse)
    views = (again.view().answerer, corpus.view().answerer)
    assert found_ids(views[0], QUESTIONS, 30) == found_ids(views[1], QUESTIONS, 30)
    again.close()


def test_a_new_embedder_embeds_what_was_added_anew(
    corpus: LivingCorpus, rebuild: Rebuild, base: PassageStore, tmp_path: Path,
    small_model: Model,
) -> None:  # fmt: skip
    documents = edited(corpus)
    corpus.merge()
    corpus.put([Document("later", "", told("A zebra came by", 3))])
    corpus.close()
    torch.nn.init.normal_(small_model.embedder.passage_tower.projection.weight)  # type: ignore[union-attr]
    snapshot = write_snapshot(tmp_path / "snapshot-b", small_model, base, checkpoint="b", step=1)
    again = LivingCorpus(
        tmp_path / "living", base, lambda: make_answerer(small_model, base, snapshot)
    )
    later = Document("later", "", told("A zebra came by", 3))
    assert_same_search(again.view().answerer, rebuild([*documents, later]))
    again.close()


def test_edits_of_another_corpus_are_refused(
    corpus: LivingCorpus, tmp_path: Path, tokenizer_file: Path, answerer: Answerer
) -> None:
    corpus.put([ZEBRA])
    other = make_base(tmp_path / "other", BASE[:6], tokenizer_file)
    with pytest.raises(ArtifactError, match="edits of another corpus"):
        LivingCorpus(tmp_path / "living", other, lambda: answerer)


def test_a_run_without_a_passage_embedder_can_be_read(
    answerer: Answerer, base: PassageStore, tmp_path: Path
) -> None:
    def refuse() -> None:
        raise ArtifactError("it has no passage embedder")

    corpus = LivingCorpus(tmp_path / "living", base, lambda: answerer, require_embedder=refuse)
    with pytest.raises(ArtifactError, match="no passage embedder"):
        corpus.put([ZEBRA])
    corpus.remove(["article-0"])
    assert corpus.view().answerer.answer(QUESTIONS)
    corpus.close()


def test_a_full_disk_changes_nothing(corpus: LivingCorpus) -> None:
    corpus.put([ZEBRA])
    version = corpus.version
    connection = corpus._journal._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(ResourceError, match=r"full.*nothing was changed"):
        corpus.put([Document("long", "", "A long story. " * 1_500), ZEBRA])
    assert corpus.version == version
    assert corpus.num_documents == 13
    connection.execute(f"PRAGMA max_page_count = {pages + 10_000}")
    corpus.put([Document("long", "", "A long story. " * 20)])
    assert corpus.num_documents == 14


def test_questions_are_answered_while_documents_come_and_go(corpus: LivingCorpus) -> None:
    """A view holds all of an edit or nothing of it, and never waits for a merge to end."""
    pair = [Document("left", "", told("A zebra came", 2)), Document("right", "", "A zebra left.")]
    failures: list[BaseException] = []
    is_over = Event()

    def ask() -> None:
        try:
            while not is_over.is_set():
                answerer = corpus.view().answerer
                rows = answerer.retrieve(["zebra"], 60)[0]
                found = [answerer.store.passage(int(row)) for row in rows[rows >= 0]]
                ids = [passage.document_id for passage in found]
                assert ("left" in ids) == ("right" in ids)
                assert len({passage.passage_id for passage in found}) == len(found)
        except BaseException as error:  # noqa: BLE001 - it is raised in the test's own thread
            failures.append(error)

    corpus.view()
    threads = [Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(12):
        corpus.put(pair)
        if number % 4 == 3:
            corpus.merge()
        corpus.remove(["left", "right"])
    is_over.set()
    for thread in threads:
        thread.join()
    assert failures == []


def hold_segments_back(monkeypatch: pytest.MonkeyPatch) -> tuple[Event, Event]:
    """A merge says with the first event that it begins to write, and waits for the second."""
    is_writing, may_go_on = Event(), Event()

    def write_when_told(*arguments: Any) -> PassageStore:
        is_writing.set()
        assert may_go_on.wait(timeout=60)
        return write_segment(*arguments)

    monkeypatch.setattr(corpus_module, "write_segment", write_when_told)
    return is_writing, may_go_on


def test_a_merge_holds_up_neither_questions_nor_edits(
    corpus: LivingCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a segment is being written, both are done as always."""
    is_writing, may_go_on = hold_segments_back(monkeypatch)

    def ids_found() -> set[str]:
        answerer = corpus.view().answerer
        rows = answerer.retrieve(["zebra"], 60)[0]
        return {answerer.store.passage(int(row)).document_id for row in rows[rows >= 0]}

    corpus.put([Document("before", "", "A zebra came before the merge.")])
    merging = Thread(target=corpus.merge)
    merging.start()
    assert is_writing.wait(timeout=60)
    try:
        corpus.put([Document("meanwhile", "", "A zebra came meanwhile.")])
        assert {"before", "meanwhile"} <= ids_found()
        corpus.remove(["before"])
        assert "before" not in ids_found()
        assert merging.is_alive(), "all of this was done before the merge had ended"
    finally:
        may_go_on.set()
        merging.join()
    assert "meanwhile" in ids_found()
    assert "before" not in ids_found()


def test_many_documents_are_merged_in_the_background(
    corpus: LivingCorpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(background, "_FEWEST", 3)
    documents = [Document(f"d-{n}", "", f"This is number {n}.") for n in range(4)]
    for document in documents[:2]:
        corpus.put([document])
    assert list((tmp_path / "living").glob("segment-*")) == []
    corpus.put(documents[2:])
    corpus.close()  # waits for the merge
    (segment,) = (tmp_path / "living").glob("segment-*")
    assert segment.name == "segment-4"
    # As wide as the base's, so that one kernel scans both.
    assert {np.load(file).dtype for file in segment.glob("*/embeddings.npy")} == {np.dtype("f2")}


def test_few_recent_documents_beside_many_merged_ones_can_wait() -> None:
    begun = Event()
    merger = BackgroundMerger(begun.set)
    for num_recent, num_merged, is_time in ((999, 0, 0), (1_000, 80_000, 0), (1_000, 8_000, 1)):
        segment = SimpleNamespace(num_documents=num_merged) if num_merged else None
        merger.merge_in_time(cast(Any, SimpleNamespace(recent=range(num_recent), segment=segment)))
        assert merger.wait()
        assert begun.is_set() == is_time


def test_the_segment_before_stays_for_who_is_about_to_open_it(
    corpus: LivingCorpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = []
    for number in range(3):
        corpus.put([Document(f"d-{number}", "", f"This is number {number}.")])
        corpus.merge()
        kept.append(sorted(path.name for path in (tmp_path / "living").glob("segment-*")))
    assert kept == [["segment-1"], ["segment-1", "segment-2"], ["segment-2", "segment-3"]]
    monkeypatch.setattr(corpus_module, "write_segment", None)  # nothing is left to merge
    corpus.merge()


def test_a_merge_that_failed_is_written_down_and_tried_again(
    corpus: LivingCorpus,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no room for a segment")

    monkeypatch.setattr(background, "_FEWEST", 1)
    with monkeypatch.context() as patch:
        patch.setattr(corpus_module, "write_segment", fail)
        corpus.put([ZEBRA])
        assert corpus._merger.wait()
    assert "no room for a segment" in caplog.text
    corpus.put([Document("later", "", "A zebra came later.")])
    corpus.close()
    assert [path.name for path in (tmp_path / "living").glob("segment-*")] == ["segment-2"]


def test_a_segment_is_on_disk_before_the_database_lets_go_of_its_texts(
    corpus: LivingCorpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The folder that its name stands in as well."""
    steps: list[str] = []
    sync, settle = os.fsync, Journal.settle

    def note(descriptor: int) -> None:
        steps.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    def note_too(*arguments: Any) -> None:
        steps.append("settle")
        settle(*arguments)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Journal, "settle", note_too)
    corpus.put([ZEBRA])
    corpus.merge()
    living = (tmp_path / "living").resolve()
    before = steps[: steps.index("settle")]
    assert {str(living), str(living / "segment-1")} <= set(before)


def test_the_end_waits_for_a_merge_no_longer_than_it_is_told(
    corpus: LivingCorpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    is_writing, may_go_on = hold_segments_back(monkeypatch)
    monkeypatch.setattr(background, "_FEWEST", 1)
    corpus.put([ZEBRA])
    assert is_writing.wait(timeout=60)
    corpus.close(timeout=0.01)
    may_go_on.set()
    corpus.close()  # waits
    assert len(list((tmp_path / "living").glob("segment-*"))) == 1


def test_putting_and_removing_nothing_is_no_edit(corpus: LivingCorpus) -> None:
    assert (corpus.put([]), corpus.remove([])) == ([], [])
    assert corpus.version.endswith(":0")


def test_what_is_refused_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remember(*arguments: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", remember)
    journal = Journal(tmp_path / "old", "corpus", 3)
    opened[0].execute("UPDATE facts SET format_version = 99")
    journal.close()
    (tmp_path / "damaged").write_bytes(b"no database " * 1_000)
    for name, message in (("old", "has format version 99"), ("damaged", "is damaged")):
        with pytest.raises(ArtifactError, match=message):
            Journal(tmp_path / name, "corpus", 3)
    assert len(opened) == 3
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


def test_a_damaged_database_is_named(
    base: PassageStore, answerer: Answerer, tmp_path: Path
) -> None:
    (tmp_path / "living").mkdir()
    (tmp_path / "living" / "edits.sqlite").write_bytes(b"no database " * 1_000)
    with pytest.raises(ArtifactError, match="damaged"):
        LivingCorpus(tmp_path / "living", base, lambda: answerer)
