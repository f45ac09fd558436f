"""Which paths show and edit documents?"""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.convertors import PathConvertor, register_url_convertor

from realm.corpus.documents import Document
from realm.errors import SourceError
from realm.serving.description import no_parameters, problems
from realm.serving.problems import ProblemError, about
from realm.serving.responses import DocumentList, DocumentOut, EditResult
from realm.serving.results import Json
from realm.serving.schema import BulkRequest, DocumentBody, DocumentId, ListQuery
from realm.serving.service import Service
from realm.serving.waiting import unless_gone

IdOfPath = Annotated[
    DocumentId,
    Path(
        description="The document's id; may hold any character, slashes as well.",
        examples=["ports/keld"],
    ),
]


class _AnyConvertor(PathConvertor):
    """Starlette's own stops at the end of a line, and would find the id without it."""

    regex = "(?s:.*)"


register_url_convertor("any", _AnyConvertor())
_READING = problems(401, 408, 413, 421, 422, 503)
_EDITING = problems(400, 401, 403, 408, 409, 413, 415, 421, 422, 503, 504)


def document_routes(service: Service) -> APIRouter:
    """Show, list, add, replace, remove."""
    router = APIRouter(prefix="/v1/documents", tags=["documents"])
    without_query = {"dependencies": [Depends(no_parameters)]}
    _add_reading(router, service, without_query)
    _add_editing(router, service, without_query)
    return router


def _add_reading(router: APIRouter, service: Service, without_query: dict[str, Any]) -> None:
    corpus = service.corpus

    @router.get(
        "", operation_id="list_documents", summary="List documents",
        response_model=DocumentList, responses=_READING,
    )  # fmt: skip
    def list_documents(query: Annotated[ListQuery, Query()]) -> Json:
        """A page of documents in the order of their ids; `next` is the `after` of the next page."""
        found = list(corpus.list(text=query.text, after=query.after, limit=query.limit + 1))
        page = found[: query.limit]
        after = page[-1].id if len(found) > len(page) else None
        return {"documents": list(map(asdict, page)), "next": after}

    @router.get(
        "/{id:any}", operation_id="get_document", summary="Show a document",
        response_model=DocumentOut, responses={**_READING, **problems(404)}, **without_query,
    )  # fmt: skip
    def get_document(id: IdOfPath) -> Json:
        """A document with its text as it was given: offsets of answers count its characters."""
        try:
            document, summary = corpus.document(id), corpus.summary(id)
        except SourceError as error:
            raise ProblemError(404, str(error), field="id") from None
        return {**asdict(summary), "title": document.title, "text": document.text}


def _add_editing(router: APIRouter, service: Service, without_query: dict[str, Any]) -> None:
    @router.post(
        "", operation_id="put_documents", summary="Add or replace documents",
        response_model=EditResult, responses=_EDITING, **without_query,
    )  # fmt: skip
    async def put_documents(request: Request, body: BulkRequest) -> Json:
        """All or none; on disk and found by the next question when the response is sent."""
        documents = [Document(d.id, d.title, d.text) for d in body.documents]
        try:
            return await unless_gone(request, service.put(documents))
        except SourceError as error:
            raise about("documents", error) from None

    @router.put(
        "/{id:any}", operation_id="put_document", summary="Add or replace a document",
        response_model=EditResult, responses=_EDITING, **without_query,
    )  # fmt: skip
    async def put_document(request: Request, id: IdOfPath, body: DocumentBody) -> Json:
        """On disk and found by the next question when the response is sent."""
        document = Document(id, body.title, body.text)
        try:
            return await unless_gone(request, service.put([document]))
        except SourceError as error:
            raise about("text", error) from None

    @router.delete(
        "/{id:any}", operation_id="delete_document", summary="Remove a document",
        response_model=EditResult, responses={**_EDITING, **problems(404)}, **without_query,
    )  # fmt: skip
    async def delete_document(request: Request, id: IdOfPath) -> Json:
        """Gone for the next question when the response is sent."""
        try:
            return await unless_gone(request, service.remove([id]))
        except SourceError as error:
            raise ProblemError(404, str(error), field="id") from None
