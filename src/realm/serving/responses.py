"""What does the service promise to send back?"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from realm.serving.examples import (
    ANSWER,
    DOCUMENT,
    EDITED,
    EXPLAINED,
    FILLED,
    INFO,
    PROBLEM,
    RETRIEVED,
    SUMMARY,
)
from realm.serving.schema import Offset

Probability = Annotated[float, Field(ge=0, le=1.0001)]  # sums of many may be a rounding above
RetrievalProbability = Annotated[
    Probability,
    Field(description="p(z|x) over the passages that were read and the null passage."),
]
Count = Annotated[int, Field(ge=0)]


class Sent(BaseModel):
    """A response's body: exactly these keys."""

    model_config = ConfigDict(extra="forbid")


class Evidence(Sent):
    """A passage that was read, and where in it the answer stands (characters of its text)."""

    passage_id: int
    title: str
    text: str
    answer_start: Offset
    answer_end: Offset
    retrieval_probability: RetrievalProbability


class AnswerOut(Sent):
    """One answer; `start` and `end` are characters of the document."""

    text: str
    probability: Probability
    document_id: str
    start: Offset
    end: Offset
    passage: Evidence


class CandidateOut(Sent):
    """What a passage that was read makes of the first answer; the null passage has no ids.

    `start` and `end` are the passage's characters in its document.
    """

    passage_id: int | None
    document_id: str | None
    title: str
    text: str
    start: Offset | None
    end: Offset | None
    retrieval_probability: RetrievalProbability
    reading_probability: Probability = Field(description="p(y|z,x), given this passage alone.")
    contribution: Probability = Field(
        description="What stands in this passage of the answer's probability, which is the sum of "
        "all contributions (the largest, where spans count for themselves). Spans of all passages "
        "compete, so it is not the product of the other two."
    )
    answer_start: Offset | None
    answer_end: Offset | None


class AnswerResult(Sent):
    """The answers to one question, best first."""

    model_config = ConfigDict(json_schema_extra={"examples": [ANSWER, EXPLAINED]})

    question: str
    answers: list[AnswerOut]
    null_probability: Probability = Field(description="That no passage that was read answers.")
    abstained: bool = Field(description="The answers are what comes nearest, no more.")
    model: str
    snapshot: str
    corpus_version: str
    candidates: list[CandidateOut] = Field(
        default=[], description="Where asked for: best first, the null passage last."
    )


class AnswerResults(Sent):
    """The answers to several questions, in their order."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"results": [ANSWER]}]})

    results: list[AnswerResult]


class PassageOut(Sent):
    """A passage; `start` and `end` are characters of its document."""

    passage_id: int
    document_id: str
    title: str
    text: str
    score: float
    start: Offset
    end: Offset


class Retrieved(Sent):
    """The best passages of one query, best first."""

    query: str
    passages: list[PassageOut]


class RetrieveResults(Sent):
    """The best passages of all queries, in their order."""

    model_config = ConfigDict(json_schema_extra={"examples": [RETRIEVED]})

    results: list[Retrieved]
    snapshot: str
    corpus_version: str


class FillingOut(Sent):
    """Words for the gaps."""

    text: str
    probability: Probability
    probability_without_retrieval: Probability


class MaskCandidateOut(Sent):
    """What one passage makes of a filling; the null passage has no ids.

    `start` and `end` are the passage's characters in its document.
    """

    passage_id: int | None
    document_id: str | None
    title: str
    text: str
    start: Offset | None
    end: Offset | None
    retrieval_probability: RetrievalProbability
    answer_probability: Probability
    retrieval_utility: float


class FillMaskResult(Sent):
    """The filling that was looked into, what each candidate makes of it, and other fillings."""

    model_config = ConfigDict(json_schema_extra={"examples": [FILLED]})

    query: str
    answer: FillingOut
    retrieval_utility: float
    candidates: list[MaskCandidateOut]
    fillings: list[FillingOut]
    fillings_without_retrieval: list[FillingOut]


class Summary(Sent):
    """A document in a list."""

    id: str
    title: str
    num_passages: Count
    origin: Literal["base", "edited"]


class DocumentList(Sent):
    """A page of documents; `next` is where the page after it begins, null on the last one."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"documents": [SUMMARY], "next": "ports/keld"}]}
    )

    documents: list[Summary]
    next: str | None


class DocumentOut(Summary):
    """A document with its text, as it was given."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**SUMMARY, **DOCUMENT}]})

    text: str


class EditOut(Sent):
    """What became of one document."""

    id: str
    action: Literal["added", "replaced", "removed"]
    num_passages: Count


class EditResult(Sent):
    """What was done; on disk when this is sent."""

    model_config = ConfigDict(json_schema_extra={"examples": [EDITED]})

    edits: list[EditOut]
    corpus_version: str


class Abilities(Sent):
    """What the run that is served can do."""

    answer: bool
    retrieve: bool
    fill_mask: bool
    edit: bool
    add: bool


class Info(Sent):
    """What is served."""

    model_config = ConfigDict(json_schema_extra={"examples": [INFO]})

    name: str
    model: str
    snapshot: str
    snapshot_age_seconds: Annotated[float, Field(ge=0)]
    corpus_version: str
    num_documents: Count
    num_passages: Count
    can: Abilities
    examples: list[str]


class Health(Sent):
    """Whether the service lives, or takes requests."""

    status: Literal["ok"]


class Problem(BaseModel):
    """What went wrong (RFC 9457); `field` names what in the request it was."""

    model_config = ConfigDict(json_schema_extra={"examples": [PROBLEM]})

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None


def problem_schema() -> dict[str, Any]:
    """The JSON schema of a problem; `field` is left out where there is none."""
    schema = Problem.model_json_schema()
    schema["properties"]["field"] = {"title": "Field", "type": "string"}
    return schema
