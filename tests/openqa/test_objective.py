"""The two losses of fine-tuning against sums over everything, written out."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from realm.corpus.store import PassageStore
from realm.examples.question import Question
from realm.examples.wordpieces import wordpieces
from realm.index.encode import pack_joint
from realm.index.snapshot import Snapshot
from realm.models.checkpoint import Model
from realm.models.embedder import evaluating
from realm.models.reader import read, span_scores
from realm.openqa.labels import holds_answer
from realm.openqa.objective import (
    OpenQaObjective,
    OpenQaSettings,
    Reading,
    choose_reading,
    embed_questions,
    read_passages,
)
from realm.retrieval.candidates import NULL_ROW

TAVIL = Question("Where is the port?", ("Tavil",))
NOWHERE = Question("Where is it?", ("Atlantis",))
IN_A_TITLE = Question(
    "What is the poem?", ("Comet Lind returns every 62 years", "the Grey Harbour")
)
NUM_PASSAGES = 12

Make = Callable[..., OpenQaObjective]


@pytest.fixture
def make(small_model: Model, small_store: PassageStore, small_snapshot: Snapshot) -> Make:
    """Makes an objective over all passages for given questions."""
    small_model.embedder = small_model.embedder.with_own_query_tower()

    def make_objective(questions: Sequence[Question], **values: object) -> OpenQaObjective:
        defaults = {"batch_size": len(questions), "reader_passages": NUM_PASSAGES}
        settings = OpenQaSettings.model_validate({**defaults, **values})
        return OpenQaObjective(
            small_model, small_store, small_snapshot, questions, settings, seed=0
        )

    return make_objective


def read_everything(
    model: Model, store: PassageStore, snapshot: Snapshot, question: Question, **values: object
) -> Reading:
    with evaluating(model.modules()):
        texts = [question.question]
        vectors = embed_questions(model, texts)
        rows = torch.arange(NUM_PASSAGES)[None]
        settings = OpenQaSettings.model_validate(values)
        return read_passages(model, store, snapshot, texts, vectors, rows, settings)


def scores_of(reading: Reading, store: PassageStore, texts: Sequence[str]) -> list[float]:
    """Joint scores of all spans that read as one of the texts, by looking at every span."""
    joint = reading.joint[0, :-1].view(reading.spans.shape[1:])
    return [
        float(joint[row, first, last - first])
        for row in range(NUM_PASSAGES)
        for first, last, text in all_spans(store, row, joint.shape[-1])
        if text in texts
    ]


def all_spans(store: PassageStore, row: int, max_tokens: int) -> Iterator[tuple[int, int, str]]:
    """First and last wordpiece and the words of every span of a passage."""
    text, spans = store.text(row), store.token_spans(row).tolist()
    for first in range(len(spans)):
        for last in range(first, min(first + max_tokens, len(spans))):
            yield first, last, text[spans[first][0] : spans[last][1]]


def log_sum(scores: Sequence[float]) -> float:
    return math.log(sum(math.exp(score) for score in scores))


def test_every_occurrence_counts(
    make: Make, small_model: Model, small_store: PassageStore, small_snapshot: Snapshot
) -> None:
    reading = read_everything(small_model, small_store, small_snapshot, TAVIL)
    found = scores_of(reading, small_store, ["Tavil"])
    texts = [small_store.text(row) for row in range(NUM_PASSAGES)]
    # Twice in the passage on Tavil, and once in five others.
    assert texts[3].count("Tavil") == 2
    assert len(found) == sum(text.count("Tavil") for text in texts) == 7
    everything = float(reading.joint.logsumexp(dim=-1))
    _, scalars = make([TAVIL]).loss(0)
    assert scalars["reader_loss"] == pytest.approx(everything - log_sum(found), abs=1e-4)


def test_regular_expressions_are_trained_on_like_the_words_that_they_match(make: Make) -> None:
    question = Question(TAVIL.question, (r"\bTav[a-z]l\b", "Atlantis|Thule"), is_regex=True)
    _, scalars = make([question]).loss(0)
    _, expected = make([TAVIL]).loss(0)
    assert scalars == pytest.approx(expected, abs=1e-5)
    assert scalars["answer_in_beam"] == 1.0


def test_occurrences_of_all_answers_count_but_not_longer_ones_nor_titles(
    make: Make, small_model: Model, small_store: PassageStore, small_snapshot: Snapshot
) -> None:
    reading = read_everything(small_model, small_store, small_snapshot, IN_A_TITLE)
    longest = small_model.reader.settings.max_answer_tokens
    longer = small_model.tokenizer.encode(IN_A_TITLE.answers[0], add_special_tokens=False)
    assert len(longer.ids) > longest
    found = scores_of(reading, small_store, ["Grey Harbour"])
    assert len(found) == 3
    everything = float(reading.joint.logsumexp(dim=-1))
    _, scalars = make([IN_A_TITLE]).loss(0)
    assert scalars["reader_loss"] == pytest.approx(everything - log_sum(found), abs=1e-4)


def test_null_is_right_where_nothing_holds_an_answer(
    make: Make, small_model: Model, small_store: PassageStore, small_snapshot: Snapshot
) -> None:
    reading = read_everything(small_model, small_store, small_snapshot, NOWHERE)
    loss, scalars = make([NOWHERE]).loss(0)
    null = float(reading.joint.log_softmax(dim=-1)[0, -1])
    assert scalars["reader_loss"] == pytest.approx(-null, abs=1e-4)
    assert scalars["retriever_loss"] == 0.0
    assert loss.item() == pytest.approx(-null, abs=1e-4)


def test_nothing_to_learn_is_a_loss_of_zero(make: Make, small_model: Model) -> None:
    loss, scalars = make([NOWHERE, NOWHERE], null_passage=False).loss(0)
    assert loss.item() == 0.0
    assert scalars["answer_in_beam"] == 0.0
    assert scalars["read_correctly"] == 0.0
    loss.backward()
    for name, parameter in small_model.modules().named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name


@pytest.mark.parametrize("null_passage", [False, True])
def test_gradients_are_finite_where_some_questions_have_no_answer(
    make: Make, small_model: Model, null_passage: bool
) -> None:
    loss, _ = make([NOWHERE, TAVIL], null_passage=null_passage).loss(0)
    loss.backward()
    assert loss.isfinite()
    gradients = [p.grad for p in small_model.modules().parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_retriever_ranks_passages_that_hold_an_answer(
    make: Make, small_model: Model, small_store: PassageStore, small_snapshot: Snapshot
) -> None:
    with evaluating(small_model.modules()):
        vector = embed_questions(small_model, [TAVIL.question])[0]
        scores = (small_snapshot.embeddings.float() @ vector).tolist()
    holding = [row for row in range(NUM_PASSAGES) if holds_answer(small_store, row, TAVIL)]
    assert len(holding) == 6
    expected = log_sum(scores) - log_sum([scores[row] for row in holding])
    _, scalars = make([TAVIL]).loss(0)
    assert scalars["retriever_loss"] == pytest.approx(expected, abs=1e-4)
    # Over fewer passages, the best ones alone.
    best = sorted(range(NUM_PASSAGES), key=lambda row: -scores[row])[:9]
    found = [scores[row] for row in best if row in holding]
    _, scalars = make([TAVIL], retriever_passages=9).loss(0)
    expected = log_sum([scores[row] for row in best]) - log_sum(found)
    assert scalars["retriever_loss"] == pytest.approx(expected, abs=1e-4)


def test_positives_as_released(
    make: Make, small_model: Model, small_store: PassageStore, small_snapshot: Snapshot
) -> None:
    # Letters: "avil" stands inside Tavil, "tavil" nowhere. Wordpieces: either case, and of whole
    # words alone, since wordpieces that go on are others than those that begin.
    inside, lower = Question("?", ("avil",)), Question("?", ("tavil",))
    texts = [small_store.text(row) for row in range(NUM_PASSAGES)]
    holding = [row for row, text in enumerate(texts) if "avil" in text]
    with evaluating(small_model.modules()):
        vector = embed_questions(small_model, ["?"])[0]
        scores = (small_snapshot.embeddings.float() @ vector).tolist()
    released = {"retriever_positives": "raw", "reader_positives": "wordpieces"}
    _, scalars = make([inside], **released).loss(0)
    expected = log_sum(scores) - log_sum([scores[row] for row in holding])
    assert scalars["retriever_loss"] == pytest.approx(expected, abs=1e-4)
    _, scalars = make([lower], **released).loss(0)
    assert scalars["retriever_loss"] == 0.0
    reading = read_everything(small_model, small_store, small_snapshot, lower)
    found = scores_of(reading, small_store, ["Tavil"])
    _, scalars = make(
        [lower], retriever_positives="normalised", reader_positives="wordpieces"
    ).loss(0)
    everything = float(reading.joint.logsumexp(dim=-1))
    assert scalars["reader_loss"] == pytest.approx(everything - log_sum(found), abs=1e-4)


def test_retriever_and_reader_have_beams_of_their_own(
    make: Make, small_model: Model, small_store: PassageStore, small_snapshot: Snapshot
) -> None:
    reading = read_everything(small_model, small_store, small_snapshot, TAVIL)
    # Far more are asked for than there are, as 5000 of a small corpus; two are read.
    _, scalars = make([TAVIL], retriever_passages=5000, reader_passages=2, null_passage=False).loss(
        0
    )
    scores = reading.retrieval_scores[0]
    holding = [row for row in range(NUM_PASSAGES) if holds_answer(small_store, row, TAVIL)]
    expected = scores.logsumexp(dim=0) - scores[holding].logsumexp(dim=0)
    assert scalars["retriever_loss"] == pytest.approx(float(expected), abs=1e-4)
    best = scores.topk(2).indices.tolist()
    joint = reading.joint[0, :-1].view(reading.spans.shape[1:])
    found = [
        float(joint[row, first, last - first])
        for row in best
        for first, last, text in all_spans(small_store, row, joint.shape[-1])
        if text == "Tavil"
    ]
    everything = float(joint[best].logsumexp(dim=(0, 1, 2)))
    read = everything - log_sum(found) if found else 0.0
    assert scalars["reader_loss"] == pytest.approx(read, abs=1e-4)


def test_the_query_side_moves_and_the_passages_stay(make: Make, small_model: Model) -> None:
    objective = make([TAVIL])
    loss, _ = objective.loss(0)
    loss.backward()
    embedder = small_model.embedder
    assert all(p.grad is None for p in embedder.passage_tower.parameters())
    query = [p for n, p in embedder.query_tower.named_parameters() if "pooler" not in n]
    assert all(p.grad is not None and p.grad.any() for p in query)
    assert small_model.reader.span_head.output.weight.grad is not None
    names = [name for name, _ in objective.trainable().named_parameters()]
    assert not any("passage_tower" in name for name in names)
    # With the very names of the model, so that a checkpoint takes their masters.
    assert set(names) < {name for name, _ in small_model.modules().named_parameters()}


def test_batched_equals_one_by_one(make: Make) -> None:
    questions = [TAVIL, NOWHERE, IN_A_TITLE]
    together, _ = make(questions, reader_passages=4).loss(0)
    alone = [float(make([q], reader_passages=4).loss(0)[0].detach()) for q in questions]
    assert float(together.detach()) == pytest.approx(sum(alone) / 3, abs=1e-4)


def test_the_loss_falls(make: Make) -> None:
    objective = make([TAVIL, NOWHERE, IN_A_TITLE])
    adam = torch.optim.Adam(objective.trainable().parameters(), lr=3e-3)
    losses: list[Tensor] = []
    for step in range(12):
        loss, _ = objective.loss(step)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.detach())
    assert losses[-1] < 0.5 * losses[0]


def test_a_span_to_point_at_is_an_answer_however_passages_are_judged(make: Make) -> None:
    # Letter by letter no passage holds "TAVIL"; by its words several do.
    question = Question("Where is the port?", ("TAVIL",))
    by_words, _ = make([question]).loss(0)
    raw = make([question], retriever_positives="raw")
    _, scalars = raw.loss(0)
    assert scalars["retriever_loss"] == 0.0
    _, reference = make([question]).loss(0)
    assert scalars["reader_loss"] == pytest.approx(reference["reader_loss"], abs=1e-5)
    assert by_words.item() > 0


def test_one_passage_that_is_read_holds_the_answer_where_the_retriever_found_any() -> None:
    rows = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 8], [5, 6, 7, 8]])
    is_positive = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]]).bool()
    settings = OpenQaSettings(reader_passages=2)
    assert choose_reading(rows, is_positive, settings).tolist() == [[5, 6]] * 3
    settings = OpenQaSettings(reader_passages=2, reader_evidence="ensured")
    assert choose_reading(rows, is_positive, settings).tolist() == [[5, 7], [5, 6], [5, 6]]
    assert rows[0].tolist() == [5, 6, 7, 8]


def test_retrieval_scores_count_by_their_weight_for_spans_and_for_the_null_passage(
    small_model: Model, small_store: PassageStore, small_snapshot: Snapshot
) -> None:
    plain = read_everything(small_model, small_store, small_snapshot, TAVIL)
    heavy = read_everything(small_model, small_store, small_snapshot, TAVIL, retrieval_weight=3.0)
    with evaluating(small_model.modules()):
        vector = embed_questions(small_model, [TAVIL.question])[0]
    added = plain.retrieval_scores[0][:, None, None].expand(plain.spans.shape[1:]).flatten()
    added = torch.cat((added, (vector @ small_snapshot.null_embedding)[None]))
    is_span = plain.joint[0].isfinite()
    torch.testing.assert_close(
        heavy.joint[0][is_span], (plain.joint[0] + 2.0 * added)[is_span], atol=1e-4, rtol=1e-5
    )
    assert added.std() > 0.1  # so that a weight that is ignored would be seen


def test_a_reader_alone_decides_where_scores_count_for_nothing(
    small_model: Model, small_store: PassageStore, small_snapshot: Snapshot
) -> None:
    settings = OpenQaSettings(retrieval_weight=0.0)
    with evaluating(small_model.modules()):
        texts, rows = [TAVIL.question], torch.tensor([[3, -1]])
        vectors = embed_questions(small_model, texts)
        reading = read_passages(
            small_model, small_store, small_snapshot, texts, vectors, rows, settings
        )
    assert torch.equal(reading.joint[0, :-1], reading.spans[0].flatten())
    assert not reading.joint.isnan().any(), "a passage that does not exist has no probability"
    assert reading.joint[0].view(-1)[: reading.spans[0, 0].numel()].isfinite().any()


def test_both_losses_count_alike(make: Make) -> None:
    loss, scalars = make([TAVIL, NOWHERE]).loss(0)
    assert scalars["retriever_loss"] > 0.1
    assert scalars["reader_loss"] > 0.1
    both = scalars["retriever_loss"] + scalars["reader_loss"]
    assert float(loss.detach()) == pytest.approx(both, abs=1e-5)


def test_the_null_passage_is_scored_by_the_reader_and_by_the_retriever(
    small_model: Model, small_store: PassageStore, small_snapshot: Snapshot
) -> None:
    reading = read_everything(small_model, small_store, small_snapshot, TAVIL)
    packer = small_model.packer
    ids = wordpieces(small_model.tokenizer, TAVIL.question)
    with evaluating(small_model.modules()):
        joint = pack_joint(small_store, packer, ids, NULL_ROW)
        groups = read(small_model.reader, [joint], packer=packer, token_budget=999)
        _, silence = span_scores(small_model.reader, groups)
        vector = embed_questions(small_model, [TAVIL.question])[0]
    expected = float(silence[0]) + float(vector @ small_snapshot.null_embedding)
    assert abs(float(silence[0])) > 1e-3
    assert float(reading.joint[0, -1]) == pytest.approx(expected, abs=1e-4)


def test_what_is_read_correctly_is_the_likeliest_span(
    make: Make, small_model: Model, small_store: PassageStore, small_snapshot: Snapshot
) -> None:
    reading = read_everything(small_model, small_store, small_snapshot, TAVIL)
    joint = reading.joint[0, :-1].view(reading.spans.shape[1:])
    spans = [
        (float(joint[row, first, last - first]), text)
        for row in range(NUM_PASSAGES)
        for first, last, text in all_spans(small_store, row, joint.shape[-1])
        if text.isalpha()
    ]
    best, worst = max(spans)[1], min(spans)[1]
    # What the reader prefers above all, unless no words would be right, is made the answer.
    assert float(joint.max()) == pytest.approx(max(spans)[0], abs=1e-5)
    for answer, is_read in ((best, 1.0), (worst, 0.0)):
        question = Question(TAVIL.question, (answer,))
        _, scalars = make([question], null_passage=False).loss(0)
        assert scalars["read_correctly"] == is_read


def test_answers_at_the_end_of_what_is_read_can_be_pointed_at_and_later_ones_cannot(
    make: Make, small_model: Model, small_store: PassageStore, small_snapshot: Snapshot
) -> None:
    lengths = [len(small_store.token_ids(row)) for row in range(NUM_PASSAGES)]
    row = int(np.argmax(lengths))
    word = small_store.text(row).split()[-1].rstrip(".")
    question = Question("What is last?", (word,))
    reading = read_everything(small_model, small_store, small_snapshot, question)
    found = scores_of(reading, small_store, [word])
    everything = float(reading.joint.logsumexp(dim=-1))
    _, scalars = make([question]).loss(0)
    assert scalars["reader_loss"] == pytest.approx(everything - log_sum(found), abs=1e-4)
    packer = small_model.packer
    packer.settings = packer.settings.model_copy(update={"passage_tokens": 12})
    loss, scalars = make([question]).loss(0)
    assert loss.isfinite()
    assert len(found) == 2  # too far back in another passage as well
    # It is held by a passage, and so "nothing" would be wrong as well: there is nothing to learn.
    assert scalars["reader_loss"] == 0.0


def test_gold_ends_where_what_is_read_ends(make: Make, small_store: PassageStore) -> None:
    lind = Question("Who was it?", ("Edvard Lind",))
    objective, width = make([lind]), 4
    row = next(r for r in range(NUM_PASSAGES) if holds_answer(small_store, r, lind))
    *_, (first, last) = objective._spans_of(small_store, row, lind, max_answer_tokens=width)
    assert first < last

    def is_gold(body: int, score: float) -> bool:
        spans = torch.zeros(1, 1, body, width)
        spans[0, 0, first, last - first] = score
        joint = torch.cat((spans.flatten(1), torch.zeros(1, 1)), dim=1)
        reading = Reading(torch.tensor([[row]]), joint[:, :1], joint[0, -1:], spans, joint)
        return bool(objective._gold(reading, [lind])[0, first * width + last - first])

    assert is_gold(last + 1, 0.0)
    assert not is_gold(last, 0.0), "its last wordpiece was cut off"
    assert not is_gold(last + 1, -torch.inf), "cut off, beside a longer passage that was not"


def test_how_often_the_best_passages_hold_an_answer(
    make: Make, small_model: Model, small_store: PassageStore, small_snapshot: Snapshot
) -> None:
    """A word of the passage at the eighth place alone, read where evidence is ensured."""
    text = "Which word?"
    with evaluating(small_model.modules()):
        vector = embed_questions(small_model, [text])[0]
    order = (small_snapshot.embeddings.float() @ vector).argsort(descending=True).tolist()
    texts = [small_store.text(row) for row in order]
    everything = " ".join(texts).lower()
    words = [w for w in texts[7].split() if w.isalpha() and w.islower()]
    word = next(w for w in words if everything.count(w) == 1)
    question = Question(text, (word,))
    _, scalars = make([question], reader_passages=2).loss(0)
    assert (scalars["answer_in_top_5"], scalars["answer_in_beam"]) == (0.0, 1.0)
    assert scalars["reader_loss"] > 0  # that there is no answer in what is read
    null = scalars["reader_loss"]
    _, scalars = make([question], reader_passages=2, reader_evidence="ensured").loss(0)
    reading = read_everything(small_model, small_store, small_snapshot, question)
    joint = reading.joint[0, :-1].view(reading.spans.shape[1:])
    read_rows = [order[0], order[7]]
    outcomes = torch.cat((joint[read_rows].flatten(), reading.joint[0, -1:]))
    found = scores_of(reading, small_store, [word])
    expected = float(outcomes.logsumexp(dim=0)) - log_sum(found)
    assert scalars["reader_loss"] == pytest.approx(expected, abs=1e-4)
    assert scalars["reader_loss"] != pytest.approx(null, abs=1e-4)


def test_a_seed_decides_which_questions_a_step_takes(
    small_model: Model, small_store: PassageStore, small_snapshot: Snapshot
) -> None:
    questions = [Question(f"Question {number}?", ("Tavil",)) for number in range(30)]
    asked = []
    for seed in (0, 0, 1):
        seen: list[str] = []

        class Listening:
            def search(
                self, texts: Sequence[str], vectors: Tensor, k: int, seen: list[str] = seen
            ) -> Tensor:
                seen.extend(texts)
                return torch.zeros(len(texts), 1, dtype=torch.long)

        settings = OpenQaSettings(batch_size=4, reader_passages=1)
        objective = OpenQaObjective(
            small_model, small_store, small_snapshot, questions, settings,
            seed=seed, retriever=Listening(),
        )  # fmt: skip
        objective.loss(0)
        asked.append(seen)
    assert asked[0] == asked[1] != asked[2]
