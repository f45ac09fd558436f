"""How does the service describe itself (OpenAPI), with every error that it may answer?"""

from typing import Any

from fastapi import Request

from realm.serving.problems import MEDIA_TYPE, ProblemError
from realm.serving.responses import problem_schema

DESCRIPTION = (
    "Answers to questions from a corpus that may be edited meanwhile, each with the passage that "
    "it stands in. Errors are `application/problem+json` and name the `field` that they are about. "
    "Where the service was started with a token file, send `Authorization: Bearer TOKEN`."
)
TAGS = [
    {"name": "questions", "description": "Answer, retrieve, fill gaps."},
    {"name": "documents", "description": "Show and edit the corpus."},
    {"name": "service", "description": "What is served, and how it fares."},
]
_MEANINGS = {
    400: "The body is no JSON.",
    401: "A token is missing, or it is unknown.",
    403: "The token does not give the right to edit, or editing is switched off.",
    404: "There is no such document.",
    408: "The body did not come in time.",
    409: "The run that is served lacks what this needs.",
    413: "The body is too large.",
    415: "The body is not `application/json`.",
    421: "The service was called by a name that is not its own.",
    422: "Something in the request is not as it should be; `field` says what.",
    503: "Too much is waiting, or the service is shutting down: try again soon.",
    504: "It was not done in time; nothing was changed.",
}
_PROBLEM = {"$ref": "#/components/schemas/Problem"}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The description of these errors."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        content = {MEDIA_TYPE: {"schema": _PROBLEM}}
        found[status] = {"description": _MEANINGS[status], "content": content}
    if 503 in found:
        seconds = {"schema": {"type": "integer"}, "description": "Seconds."}
        found[503]["headers"] = {"Retry-After": seconds}
    return found


def no_parameters(request: Request) -> None:
    """Refuse a query: a parameter that nobody knows is a mistake of spelling."""
    for name in request.query_params:
        raise ProblemError(422, f"{name} is no parameter of this path", field=name)


def complete(description: dict[str, Any]) -> dict[str, Any]:
    """Add what the routes do not say: the form of a problem, and that tokens are sent."""
    components = description.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = problem_schema()
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    # Without a token file no token is needed: the empty requirement is the alternative.
    for path, operations in description["paths"].items():
        for operation in operations.values():
            if path.startswith("/v1/") or path == "/metrics":
                operation["security"] = [{"token": []}, {}]
    return description
