"""Why this answer: what did each passage that was read have to do with it (REALM, table 3)?

For every candidate the belief p(z|x), over those that were read and the null passage, and the
likelihood p(y|z,x) of the first answer, given that passage alone.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from realm.corpus.store import PassageStore
from realm.openqa.labels import AnswerRule
from realm.openqa.objective import Reading
from realm.openqa.pointing import PointedSpan, answer_key, likeliest_spans
from realm.retrieval.candidates import NULL_ROW


@dataclass(frozen=True)
class ReadCandidate:
    """One passage that was read, and what it makes of the first answer.

    The null passage has no ids and no place. `start` and `end` are the passage's characters in its
    document. Where the answer does not stand in the passage, its probability is 0 and its place
    None.
    """

    passage_id: int | None
    document_id: str | None
    title: str
    text: str
    start: int | None
    end: int | None
    retrieval_probability: float
    reading_probability: float
    answer_start: int | None
    answer_end: int | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, in the form that programs are promised."""
        return asdict(self)


def explain(
    store: PassageStore,
    reading: Reading,
    number: int,
    answer: str,
    answers: AnswerRule,
) -> tuple[ReadCandidate, ...]:
    """The candidates of one question of a batch, best first, the null passage last.

    `answer` is the text of the first answer, empty where there is none.
    """
    key = answer_key(answer, answers)
    scores = torch.cat((reading.retrieval_scores[number], reading.null_retrieval_scores[[number]]))
    beliefs = scores.softmax(dim=-1).tolist()
    candidates = []
    for place, row in enumerate(reading.rows[number].tolist()):
        if row == NULL_ROW:
            continue
        given_passage = reading.spans[number, place].flatten().softmax(dim=-1)
        given_passage = given_passage.view(1, *reading.spans.shape[2:])
        spans = [
            span
            for span in likeliest_spans(store, [row], given_passage)
            if key and span.key(answers) == key
        ]
        candidates.append(_candidate(store, row, beliefs[place], spans, answers))
    nothing = ReadCandidate(None, None, "", "", None, None, beliefs[-1], 0.0, None, None)
    return (*candidates, nothing)


def _candidate(
    store: PassageStore,
    row: int,
    belief: float,
    spans: list[PointedSpan],
    answers: AnswerRule,
) -> ReadCandidate:
    passage = store.passage(row)
    counted = spans[:1] if answers == "single_span" else spans
    return ReadCandidate(
        passage.passage_id,
        passage.document_id,
        passage.title,
        passage.text,
        passage.source_start,
        passage.source_end,
        belief,
        sum(span.probability for span in counted),
        spans[0].start if spans else None,
        spans[0].end if spans else None,
    )
