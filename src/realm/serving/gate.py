"""What happens to every request before and after it is worked on?

Before: who sent it, to whom, and how much of it is there. After: the headers that keep a page
harmless, one line in the access log without the words of anybody, and the metrics.
"""

import asyncio
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from realm.serving.problems import ProblemError, as_problem, busy, problem_response
from realm.serving.service import Service
from realm.serving.tokens import Right, Tokens

ACCESS_LOG = logging.getLogger("realm.serving.access")
ERROR_LOG = logging.getLogger("realm.serving.errors")
HEALTH = ("/healthz", "/readyz")
METRICS = "/metrics"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")  # that are counted by their names
_EDITING = ("PUT", "PATCH", "DELETE")
_DOCUMENTS = "/v1/documents"
_MOST_DIGITS = 18  # of a length that is looked at
_DISCARDED = 4  # times the most that a body may have
_DISCARD_SECONDS = 2.0


@dataclass(frozen=True)
class Access:
    """Who is let in: those with a token, or, without tokens, everyone who can connect.

    `hosts` are the names by which the service may be called; empty allows all. On the loopback
    without tokens only its own names do: a page elsewhere that has its name resolved to this
    machine is refused.
    """

    tokens: Tokens | None = None
    hosts: tuple[str, ...] = LOOPBACK


class Gate:
    """Stands before the application."""

    def __init__(self, app: ASGIApp, service: Service, access: Access) -> None:
        self._app, self._service, self._access = app, service, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        response = _Response(send)
        with self._counted(scope, response):
            try:
                if scope["method"] == "HEAD":  # the server leaves the body out
                    scope = {**scope, "method": "GET"}
                self._check(scope)
                receive = await self._read(scope, receive)
                await self._app(scope, receive, response.send)
            except Exception as error:
                problem = as_problem(error)
                if problem.status == 500:
                    ERROR_LOG.exception("a request failed", extra={"facts": {}})
                if response.status:
                    raise  # too late for another response
                await problem_response(problem)(scope, receive, response.send)

    @contextmanager
    def _counted(self, scope: Scope, response: "_Response") -> Iterator[None]:
        """Count a request while it runs, and write down what became of it."""
        service, began = self._service, time.perf_counter()
        is_work = scope["path"] not in HEALTH
        service.num_running += is_work
        try:
            yield
        finally:
            service.num_running -= is_work
            seconds = time.perf_counter() - began
            method, endpoint = scope["method"], _endpoint(scope)
            if method not in _METHODS:
                method = "other"  # anybody can invent methods: they must not fill the memory
            status = response.status or 499
            service.metrics.request_seconds.labels(method, endpoint).observe(seconds)
            service.metrics.responses.labels(method, endpoint, str(status)).inc()
            facts = {
                "method": method,
                "endpoint": endpoint,
                "status": status,
                "milliseconds": round(1000 * seconds, 1),
            }
            ACCESS_LOG.info("request", extra={"facts": facts})

    def _check(self, scope: Scope) -> None:
        path, method, headers = scope["path"], scope["method"], Headers(scope=scope)
        self._check_host(headers)
        if path in HEALTH or path == "/" or path.startswith("/static/"):
            return
        is_edit = path.startswith(_DOCUMENTS) and method not in ("GET", "HEAD", "OPTIONS")
        self._check_token(headers, "edit" if is_edit or method in _EDITING else "read")
        if is_edit and not self._service.settings.can_edit:
            raise ProblemError(
                403, "editing is switched off: start the service with --token-file or --allow-edits"
            )
        if method in ("POST", "PUT"):
            _check_content_type(headers)
        if self._service.is_draining and path != METRICS:  # the end is watched as well
            raise busy("the service is shutting down: try again soon")

    def _check_host(self, headers: Headers) -> None:
        name = re.sub(r":\d*$", "", headers.get("host", "").lower()).strip("[]")
        if self._access.hosts and name not in self._access.hosts:
            raise ProblemError(421, "this service is not called by that name: use its address")

    def _check_token(self, headers: Headers, needed: Right) -> None:
        tokens = self._access.tokens
        if tokens is None:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        right = tokens.right_of(token.strip()) if scheme.lower() == "bearer" else None
        if right is None:
            challenge = {"WWW-Authenticate": 'Bearer realm="realm"'}
            raise ProblemError(401, "send a token: Authorization: Bearer TOKEN", headers=challenge)
        if needed == "edit" and right != "edit":
            raise ProblemError(403, "this token reads: editing needs an `edit` token")

    async def _read(self, scope: Scope, receive: Receive) -> Receive:
        """Read the body, no further than its limit, before anything is worked on."""
        settings = self._service.settings
        is_documents = scope["path"].startswith(_DOCUMENTS)
        limit = settings.max_document_bytes if is_documents else settings.max_body_bytes
        try:
            async with asyncio.timeout(settings.deadline_seconds):
                body = await _body(Headers(scope=scope), receive, limit)
        except TimeoutError:
            raise ProblemError(408, "the body did not come in time: send it again") from None
        messages = [body]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        return replay


class _Response:
    """Adds headers to what is sent and remembers its status."""

    def __init__(self, send: Send) -> None:
        self._send, self.status = send, 0

    async def send(self, message: Message) -> None:
        """Pass a message of the application on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            if self.status in (408, 413):
                headers["Connection"] = "close"  # the rest of the body is not read
        await self._send(message)


async def _body(headers: Headers, receive: Receive, limit: int) -> Message:
    """The whole body as one message.

    Raises:
        ProblemError: it is, or says that it is, over the limit; no more of it is read.
    """
    declared = headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > _MOST_DIGITS or int(declared) > limit):
        await _discard(receive, _DISCARDED * limit)
        raise _too_large(limit)
    parts: list[bytes] = []
    size, has_more = 0, True
    while has_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ProblemError(400, "the client went away")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        has_more = message.get("more_body", False)
        if size > limit:
            if has_more:
                await _discard(receive, _DISCARDED * limit)
            raise _too_large(limit)
    return {"type": "http.request", "body": b"".join(parts), "more_body": False}


async def _discard(receive: Receive, limit: int) -> None:
    """Read on for a while: a client that is still sending would never see the answer."""
    size, has_more = 0, True
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            while has_more and size < limit:
                message = await receive()
                size += len(message.get("body", b""))
                has_more = message["type"] == "http.request" and message.get("more_body", False)


def _too_large(limit: int) -> ProblemError:
    return ProblemError(413, f"the body has more than {limit:,} bytes: send less at once")


def _check_content_type(headers: Headers) -> None:
    """JSON alone: a form of another site can send anything else without being asked."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ProblemError(415, "send JSON: Content-Type: application/json")


def _endpoint(scope: Scope) -> str:
    """The path as the service knows it: ids and inventions of clients stay out of the logs."""
    path = scope["path"]
    if path == "/" or path in HEALTH:
        return str(path)
    if path.startswith("/static/"):
        return "/static"
    route = getattr(scope.get("route"), "path", None)
    return str(route) if route else "other"
