"""How does a client learn what went wrong, and which part of its request it was (RFC 9457)?"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPMethod, HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from realm.errors import RealmError, ResourceError, SourceError
from realm.serving.batching import DeadlineError, QueueFullError
from realm.serving.responses import Problem

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_SECONDS = 1
_CLIENT_CLOSED = 499  # nobody reads it: the client went away
_EITHER_OF = "question"  # where a request names no part: what it most likely lacks
_TITLES = {_CLIENT_CLOSED: "Client Closed Request"}


class ProblemError(Exception):
    """Ends a request with a problem that is known beforehand."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.field = status, detail, field
        self.headers = dict(headers or {})


class ClientGoneError(ProblemError):
    """Nobody waits for the answer any more."""

    def __init__(self) -> None:
        super().__init__(_CLIENT_CLOSED, "the client went away")


def problem_response(error: ProblemError) -> JSONResponse:
    """The response that says it."""
    title = _TITLES.get(error.status) or HTTPStatus(error.status).phrase
    problem = Problem(
        type="about:blank", title=title, status=error.status, detail=error.detail, field=error.field
    )
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, error.status, error.headers, media_type=MEDIA_TYPE)


def as_problem(error: Exception) -> ProblemError:
    """What a client is told of an error; nothing of the inside where it is our own mistake."""
    match error:
        case ProblemError():
            return error
        case RequestValidationError():
            return _invalid(error.errors())
        case HTTPException():
            return ProblemError(error.status_code, _said(error), headers=error.headers)
        case QueueFullError():
            return busy("more is waiting than the service takes: try again soon")
        case DeadlineError():
            return ProblemError(504, "this was not done in time: try again, or ask for less")
        case SourceError():
            return ProblemError(422, str(error))
        case ResourceError():
            return busy(str(error))
        case RealmError():
            return ProblemError(409, str(error))
    return ProblemError(500, "something went wrong inside; the service's log says what")


def busy(detail: str) -> ProblemError:
    """Not now: the client shall try again."""
    return ProblemError(503, detail, headers={"Retry-After": str(_RETRY_AFTER_SECONDS)})


def about(field: str, error: SourceError) -> ProblemError:
    """What the corpus or the model says of one part of a request."""
    return ProblemError(422, str(error), field=field)


def add_to(app: FastAPI) -> None:
    """Answer every error with a problem."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        problem = as_problem(error)
        if "Allow" in problem.headers:  # the methods of one route; a path may have several
            problem.headers["Allow"] = ", ".join(filter(partial(_is_taken, request), HTTPMethod))
        return problem_response(problem)

    kinds: tuple[type[Exception], ...] = (
        ProblemError, RequestValidationError, HTTPException, QueueFullError, DeadlineError,
        RealmError,
    )  # fmt: skip
    handler: Callable[..., Any] = handle
    for kind in kinds:
        app.add_exception_handler(kind, handler)


def _is_taken(request: Request, method: HTTPMethod) -> bool:
    """Whether a route of the request's path takes a method."""
    scope = {**request.scope, "method": method}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)


def _said(error: HTTPException) -> str:
    match error.status_code:
        case 404:
            return "there is nothing at this path: see /openapi.json"
        case 405:
            return "this path does not take this method: see /openapi.json"
    return str(error.detail)


def _invalid(errors: Sequence[Any]) -> ProblemError:
    """The first of the errors; a body that is no JSON at all is another status."""
    first = errors[0]
    place = [str(part) for part in first["loc"][1:]]  # behind body, query or path
    if first["type"] == "json_invalid":
        reason = (first.get("ctx") or {}).get("error", "")
        return ProblemError(400, f"the body is no JSON ({reason}): mend it")
    field = ".".join(place)
    if first["type"] == "value_error":
        reason = str(first["ctx"]["error"])
        if not field:  # the whole body: the sentence begins with the part that it is about
            return ProblemError(422, reason, field=_named(reason))
        return ProblemError(422, f"{field} {reason}", field=field)
    if first["type"] == "missing" and not field:
        return ProblemError(422, "the body is missing: send a JSON object")
    reason = first["msg"][:1].lower() + first["msg"][1:]
    if first["type"] in ("string_too_short", "string_pattern_mismatch"):
        return ProblemError(422, f"{field} has nothing but blanks: give some words", field=field)
    return ProblemError(422, f"{field or 'body'}: {reason}", field=field or None)


def _named(reason: str) -> str:
    first = reason.split()[0]
    return first if first in ("question", "documents") else _EITHER_OF
