"""How does the service start, stop, and say what it does?"""

import json
import logging
import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from realm.errors import ResourceError
from realm.serving.service import Service

_SECONDS_TO_CLOSE = 1  # for connections that are open without a request


def bind(host: str, port: int) -> socket.socket:
    """Take a port, before anything slow is done; port 0 takes a free one.

    Raises:
        ResourceError: the port is in use, or the host is no address of this machine.
    """
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        if listener is not None:
            listener.close()
        reason = (error.strerror or str(error)).lower()
        message = f"cannot listen at {host}:{port} ({reason}): give another address or --port"
        raise ResourceError(message) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """Where a browser finds the service."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}/"


def run_server(
    app: ASGIApp,
    listener: socket.socket,
    service: Service,
    *,
    drain_seconds: float,
    on_ready: Callable[[], None],
) -> None:
    """Serve until told to stop (SIGTERM, SIGINT); then finish what runs, for so many seconds.

    What still runs after that, and after a few seconds in which threads may end, is abandoned.
    """
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, lifespan="off",
        timeout_graceful_shutdown=_SECONDS_TO_CLOSE, ws="none", loop="asyncio", http="h11",
    )  # fmt: skip
    try:
        _DrainingServer(config, service, drain_seconds, on_ready).run(sockets=[listener])
    finally:
        service.close()


def log_to_standard_error() -> None:
    """One line of JSON for each thing that is worth a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    for name in ("realm.serving", "realm.living", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "realm.serving" else logging.WARNING)


class _DrainingServer(uvicorn.Server):
    """Told to stop, it goes on listening until what runs is done, so that it can say so.

    uvicorn itself would close its doors at once, and end with the signal as its status.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        drain_seconds: float,
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._service, self._on_ready = service, on_ready
        self._drain_seconds, self._drained_by = drain_seconds, 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second stops."""
        if self._service.is_draining:
            self.should_exit = self.force_exit = True
        self._service.is_draining = True
        self._drained_by = time.monotonic() + self._drain_seconds

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to stop, once draining is over or takes too long."""
        if self._service.is_draining:
            is_late = time.monotonic() >= self._drained_by
            self.should_exit |= is_late or self._service.num_running == 0
        return await super().on_tick(counter)


class _JsonLines(logging.Formatter):
    """A record as a line of JSON; `facts` of a record are its keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Times are UTC, in milliseconds."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": when, "level": record.levelname.lower(), "message": record.getMessage()}
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
