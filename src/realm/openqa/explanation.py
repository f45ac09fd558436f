"""Why this answer: what did each passage that was read have to do with it (REALM, table 3)?

For every candidate the belief p(z|x), over those that were read and the null passage, the
likelihood p(y|z,x) of the first answer, given that passage alone, and what the passage contributes
to the answer's probability. That is not the product of the two: answers come from one distribution
over the spans of all passages, in which a passage also counts by how high its spans score.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

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
    None. `contribution` is the part of the answer's probability that stands in the passage: all
    parts sum to it, unless spans count for themselves; then it is the largest of them.
    """

    passage_id: int | None
    document_id: str | None
    title: str
    text: str
    start: int | None
    end: int | None
    retrieval_probability: float
    reading_probability: float
    contribution: float
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
    beliefs, rows = reading.beliefs(number).tolist(), reading.rows[number].tolist()
    joint = reading.joint[number].softmax(dim=-1)[:-1].view(reading.spans.shape[1:])
    in_all = _spans_of(answer, store, rows, joint, answers)
    candidates = []
    for place, row in enumerate(rows):
        if row == NULL_ROW:
            continue
        given_passage = reading.spans[number, place].flatten().softmax(dim=-1)
        given_passage = given_passage.view(1, *reading.spans.shape[2:])
        spans = _spans_of(answer, store, [row], given_passage, answers)
        passage = store.passage(row)
        candidates.append(
            ReadCandidate(
                passage.passage_id,
                passage.document_id,
                passage.title,
                passage.text,
                passage.source_start,
                passage.source_end,
                beliefs[place],
                _counted(spans, answers),
                _counted([span for span in in_all if span.place == place], answers),
                spans[0].start if spans else None,
                spans[0].end if spans else None,
            )
        )
    nothing = ReadCandidate(None, None, "", "", None, None, beliefs[-1], 0.0, 0.0, None, None)
    return (*candidates, nothing)


def _spans_of(
    answer: str,
    store: PassageStore,
    rows: Sequence[int],
    probabilities: Float[Tensor, "passages body widths"],
    answers: AnswerRule,
) -> list[PointedSpan]:
    """The spans of these passages that are the answer, best first."""
    if not (key := answer_key(answer, answers)):
        return []
    spans = likeliest_spans(store, rows, probabilities)
    return [span for span in spans if span.key(answers) == key]


def _counted(spans: Sequence[PointedSpan], answers: AnswerRule) -> float:
    counted = spans[:1] if answers == "single_span" else spans
    return sum(span.probability for span in counted)
