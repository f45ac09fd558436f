"""Which paths answer questions?"""

from typing import Any

from fastapi import APIRouter, Depends, Request

from realm.errors import SourceError
from realm.serving.description import no_parameters, problems
from realm.serving.problems import about
from realm.serving.responses import (
    AnswerResult,
    AnswerResults,
    FillMaskResult,
    RetrieveResults,
)
from realm.serving.results import Asked, Json, Manner
from realm.serving.schema import AnswerRequest, FillMaskRequest, RetrieveRequest
from realm.serving.service import Service
from realm.serving.waiting import unless_gone


def question_routes(service: Service) -> APIRouter:
    """Answer, retrieve, fill gaps: all through the queue of questions."""
    router = APIRouter(
        prefix="/v1", tags=["questions"], dependencies=[Depends(no_parameters)],
        responses=problems(400, 401, 408, 413, 415, 421, 422, 503, 504),
    )  # fmt: skip

    @router.post(
        "/answer", operation_id="answer", summary="Answer questions, with the evidence",
        response_model=AnswerResult | AnswerResults, response_model_exclude_unset=True,
        responses=problems(409),
    )  # fmt: skip
    async def answer(request: Request, body: AnswerRequest) -> Any:
        """Questions that come at the same time, from whomever, are answered together.

        `question` gives one result, `questions` an object with `results`. A service that abstains
        says so and gives its answers as what comes nearest. 409 where the run has no reader.
        """
        is_one = "question" in body.model_fields_set
        asked = [
            Asked(question, body.top_k, body.min_probability)
            for question in ([body.question] if is_one else body.questions)
        ]
        manner = Manner(body.num_passages, body.candidates)
        results = await unless_gone(request, service.answer(asked, manner))
        return results[0] if is_one else {"results": results}

    @router.post(
        "/retrieve", operation_id="retrieve", summary="Find passages",
        response_model=RetrieveResults,
    )  # fmt: skip
    async def retrieve(request: Request, body: RetrieveRequest) -> Any:
        """The best passages of each query, with their inner products and their place."""
        found = service.retrieve(body.queries, body.k)
        results, version = await unless_gone(request, found)
        snapshot = service.served.versions.snapshot
        return {"results": results, "snapshot": snapshot, "corpus_version": version}

    _add_fill_mask(router, service)
    return router


def _add_fill_mask(router: APIRouter, service: Service) -> None:
    @router.post(
        "/fill-mask", operation_id="fill_mask", summary="Fill the gaps of a text",
        response_model=FillMaskResult, responses=problems(409),
    )  # fmt: skip
    async def fill_mask(request: Request, body: FillMaskRequest) -> Json:
        """What fills each `[MASK]`, and what each passage has to do with it.

        409 where the run has no masked head.
        """
        filled = service.fill_mask(body.text, body.answer, body.top_k, retrieval=body.retrieval)
        try:
            return await unless_gone(request, filled)
        except SourceError as error:
            raise about(
                "answer" if str(error).startswith("the answer") else "text", error
            ) from None
