"""Which training questions can teach anything over this corpus?

Most questions of a public set have no answer in a given corpus. Where no retrieved passage
holds an answer there is nothing to point at; a few such questions teach the system to abstain,
many would only cost time.
"""

from collections.abc import Callable, Sequence

import numpy as np

from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.examples.question import Question
from realm.models.checkpoint import Model
from realm.models.embedder import evaluating
from realm.openqa.labels import holds_answer
from realm.openqa.objective import OpenQaSettings, embed_questions
from realm.retrieval.retriever import Ranker

_AT_ONCE = 64


def select_questions(
    model: Model,
    store: PassageStore,
    retriever: Ranker,
    questions: Sequence[Question],
    settings: OpenQaSettings,
    *,
    seed: int,
    on_progress: Callable[[int], None] | None = None,
) -> list[Question]:
    """Keep questions answered near the top of what is retrieved, and at most a share of others.

    Raises:
        SourceError: no retrieved passage holds an answer to any question.
    """
    answered: list[Question] = []
    unanswered: list[Question] = []
    for begin in range(0, len(questions), _AT_ONCE):
        batch = questions[begin : begin + _AT_ONCE]
        with evaluating(model.embedder):
            texts = [question.question for question in batch]
            vectors = embed_questions(model, texts)
            found = retriever.search(texts, vectors, settings.selection_depth)
        for question, rows in zip(batch, found.tolist(), strict=True):
            is_answered = any(holds_answer(store, row, question) for row in rows)
            (answered if is_answered else unanswered).append(question)
        if on_progress is not None:
            on_progress(begin + len(batch))
    if not answered:
        raise SourceError(
            "no passage of this corpus holds an answer to any training question: give questions "
            "that the documents answer"
        )
    share = min(settings.unanswered_share, 0.999)
    room = round(len(answered) * share / (1 - share))
    chosen = np.random.default_rng((seed, 40)).permutation(len(unanswered))[:room]
    return answered + [unanswered[i] for i in sorted(chosen.tolist())]
