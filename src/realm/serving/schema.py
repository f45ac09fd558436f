"""What may be sent to the service?

Nothing is computed here. Limits stand in the models, so that the published description has them.
"""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from realm.serving.examples import DOCUMENT

MAX_QUESTION_CHARACTERS = 2_000
MAX_QUESTIONS = 64
MAX_DOCUMENTS = 1_000
MAX_ID_CHARACTERS = 4_000
MAX_TITLE_CHARACTERS = 2_000
MAX_K = 100
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


def _refuse_controls(text: str) -> str:
    found = _CONTROLS.search(text)
    if found is not None:
        raise ValueError(
            f"has the control character U+{ord(found[0]):04X} at {found.start()}: remove it"
        )
    return text


def _refuse_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("has nothing but blanks: give some words")
    return text


def _refuse_dots(document_id: str) -> str:
    """Browsers and other clients would leave such parts out of the address."""
    if {".", ".."} & set(document_id.split("/")):
        raise ValueError("has the part . or .. between slashes, which no address can have")
    return document_id


Clean = AfterValidator(_refuse_controls)
Reachable = AfterValidator(_refuse_dots)
Worded = AfterValidator(_refuse_blank)
QuestionText = Annotated[
    str, Field(min_length=1, max_length=MAX_QUESTION_CHARACTERS, pattern=r"\S"), Worded
]
DocumentId = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARACTERS), Clean, Reachable]
DocumentTitle = Annotated[str, Field(max_length=MAX_TITLE_CHARACTERS), Clean]
DocumentText = Annotated[str, Field(min_length=1, pattern=r"\S"), Clean, Worded]
Offset = Annotated[int, Field(ge=0)]
TopK = Annotated[int, Field(ge=1, le=MAX_K)]


class Received(BaseModel):
    """A request's body: unknown keys are refused, strings are not taken for numbers."""

    model_config = ConfigDict(extra="forbid", strict=True)


class AnswerRequest(Received):
    """One question, or several that are answered in their order."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["question"]}, {"required": ["questions"]}],
            "examples": [
                {"question": "Who designed the Lomvar Bridge?", "top_k": 3},
                {"questions": ["Where is Tavil?", "Who was Ida Renquist?"]},
            ],
        }
    )

    question: QuestionText = Field(default="", description="One question.")
    questions: Annotated[list[QuestionText], Field(min_length=1, max_length=MAX_QUESTIONS)] = Field(
        default=[], description="Several questions, instead of one."
    )
    top_k: TopK = Field(default=5, description="Most answers to a question.")
    num_passages: TopK | None = Field(
        default=None, description="Passages that are read for a question; by default the run's."
    )
    min_probability: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        default=0.0, description="Abstain where the first answer is less probable than this."
    )
    candidates: bool = Field(
        default=False, description="Also say what each passage that was read makes of the answer."
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if {"question", "questions"} <= self.model_fields_set:
            raise ValueError("give either question or questions, not both")
        if not {"question", "questions"} & self.model_fields_set:
            raise ValueError("question is missing: give question or questions")
        return self


class RetrieveRequest(Received):
    """Queries whose best passages are wanted."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"queries": ["bridge"], "k": 3}]})

    queries: Annotated[list[QuestionText], Field(min_length=1, max_length=MAX_QUESTIONS)]
    k: TopK = Field(default=5, description="Passages for each query.")


class FillMaskRequest(Received):
    """A text with gaps."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "Tavil is a [MASK] at the sea.", "top_k": 3}]}
    )

    text: QuestionText = Field(description="Text with [MASK] where words are missing.")
    answer: Annotated[str, Field(max_length=MAX_QUESTION_CHARACTERS)] = Field(
        default="", description="Look into these words instead of the likeliest."
    )
    top_k: TopK = Field(default=5, description="Most fillings.")
    retrieval: bool = Field(default=True, description="False reads the null passage alone.")


class DocumentBody(Received):
    """A document without its id."""

    model_config = ConfigDict(json_schema_extra={"examples": [DOCUMENT]})

    title: DocumentTitle = ""
    text: DocumentText


class NewDocument(DocumentBody):
    """A document."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": "ports/keld", **DOCUMENT}]})

    id: DocumentId


class BulkRequest(Received):
    """Documents that are added or replaced together: all or none."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"documents": [{"id": "ports/keld", **DOCUMENT}]}]}
    )

    documents: Annotated[list[NewDocument], Field(min_length=1, max_length=MAX_DOCUMENTS)]

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        ids = [document.id for document in self.documents]
        if len(set(ids)) < len(ids):
            raise ValueError("documents has an id twice: give every document an id of its own")
        return self


class ListQuery(BaseModel):
    """Which documents are listed."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(max_length=MAX_TITLE_CHARACTERS), Clean] = Field(
        default="",
        description="Words that the id, the title or the text holds, in whichever case.",
        examples=["bridge"],
    )
    # Any id: documents that were not put by HTTP may have one that HTTP would refuse.
    after: str = Field(
        default="", description="The `next` of the page before.", examples=["ports/keld"]
    )
    limit: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=50, description="Most documents.", examples=[20]
    )
