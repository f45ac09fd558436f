"""Best first by embedding, joined with BM25 where it is asked for."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from realm.corpus.store import PassageStore
from realm.index.exact import ExactIndex
from realm.retrieval.lexical import LexicalIndex, reciprocal_rank_fusion
from realm.retrieval.retriever import RetrievalSettings, Retriever

QUESTIONS = ["Who wrote The Grey Harbour?", "Which comet came back in 1956?", "the"]


def some_index(count: int = 12) -> ExactIndex:
    return ExactIndex(torch.randn(count, 8, generator=torch.Generator().manual_seed(0)).half())


def some_vectors(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)


def test_without_words_the_embedding_decides() -> None:
    index, vectors = some_index(), some_vectors()
    rows = Retriever(index).search(QUESTIONS, vectors, 5)
    assert torch.equal(rows, index.search(vectors, 5).rows)


def test_a_corpus_smaller_than_asked_for() -> None:
    rows = Retriever(some_index(2)).search(QUESTIONS, some_vectors(), 5)
    assert rows.shape == (3, 5)
    assert sorted(rows[0, :2].tolist()) == [0, 1]
    assert (rows[:, 2:] == -1).all()


def test_words_may_rank_alone(small_lexical: LexicalIndex) -> None:
    retriever = Retriever(some_index(), small_lexical, ranks_by_vector=False)
    rows = retriever.search(QUESTIONS, some_vectors(), 14)
    assert rows.shape == (3, 14)
    assert np.array_equal(rows.numpy(), small_lexical.search(QUESTIONS, 14)[0])
    assert rows[0, 0] >= 0
    assert (rows[2] == -1).all(), "no passage shares a word that counts"


def test_something_has_to_rank() -> None:
    with pytest.raises(ValidationError, match="nothing ranks"):
        RetrievalSettings(embedder=False)


def test_both_rankings_are_fused(small_store: PassageStore, small_lexical: LexicalIndex) -> None:
    index, vectors = some_index(), some_vectors()
    rows = Retriever(index, small_lexical).search(QUESTIONS, vectors, 4)
    assert rows.shape == (3, 4)
    by_vector = index.search(vectors, 12).rows.numpy()
    by_words, _ = small_lexical.search(QUESTIONS, 12)
    for question in range(3):
        scores = {
            row: sum(
                1 / (61 + ranking[question].tolist().index(row))
                for ranking in (by_vector, by_words)
                if row in ranking[question]
            )
            for row in range(12)
        }
        best = sorted(scores, key=lambda row: (-round(scores[row], 12), row))[:4]
        assert rows[question].tolist() == best
    # BM25 knows no word of the last question: the embedding alone decides.
    assert rows[2].tolist() == by_vector[2, :4].tolist()


def test_depth_below_the_asked_for_decides_too(
    small_store: PassageStore, small_lexical: LexicalIndex
) -> None:
    """A passage that is good in both rankings beats the best of either."""
    vectors = some_vectors(1)
    by_words = small_lexical.search(QUESTIONS[:1], 12)[0][0].tolist()
    # The embedding ranks BM25's second passage second, behind one that BM25 does not find.
    absent = next(row for row in range(12) if row not in by_words)
    scores = torch.zeros(12)
    scores[absent], scores[by_words[1]] = 2.0, 1.0
    unit = vectors.detach() / vectors.detach().square().sum()
    retriever = Retriever(ExactIndex(scores[:, None] * unit), small_lexical)
    assert retriever.search(QUESTIONS[:1], vectors, 1).tolist() == [[by_words[1]]]


def test_one_by_one(small_store: PassageStore, small_lexical: LexicalIndex) -> None:
    vectors = some_vectors()
    retriever = Retriever(some_index(), small_lexical)
    together = retriever.search(QUESTIONS, vectors, 6)
    for number, question in enumerate(QUESTIONS):
        alone = retriever.search([question], vectors[number : number + 1], 6)
        assert torch.equal(alone[0], together[number])
    assert np.array_equal(
        together.numpy(),
        reciprocal_rank_fusion(
            [some_index().search(vectors, 12).rows.numpy(), small_lexical.search(QUESTIONS, 12)[0]],
            6,
        ),
    )
