"""How does a run become a service for browsers, programs and agents?"""

import gc
import importlib
from collections.abc import Sequence
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Annotated

import typer

from realm.cli.options import (
    RunToAskOption,
    SetOption,
    ShippedOption,
    SourceOption,
    open_to_answer,
)
from realm.cli.terminal import say
from realm.errors import ResourceError
from realm.memory import uncollected

if TYPE_CHECKING:
    from realm.serving.gate import Access
    from realm.serving.service import Service, ServiceLimits, ServiceSettings
    from realm.stages import Run

_SECTION = "service."
_ACCESS = "Access"

TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Let in only who sends one of its tokens: lines `read TOKEN` or `edit TOKEN`.",
        rich_help_panel=_ACCESS,
    ),
]
AllowEditsOption = Annotated[
    bool,
    typer.Option(
        help="Let everyone edit who can connect, at another address than this machine's own.",
        rich_help_panel=_ACCESS,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("serve")(serve)
    app.command("mcp")(mcp)


def serve(  # noqa: PLR0913  (each is an option that an operator looks for by itself)
    run: RunToAskOption = None,
    model: ShippedOption = "",
    sources: SourceOption = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 for every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port to listen at; 0 takes a free one.")
    ] = 8000,
    token_file: TokenFileOption = None,
    allow_edits: AllowEditsOption = False,
    log_questions: Annotated[
        bool,
        typer.Option("--log-questions", help="Write questions to the log; else none of them is."),
    ] = False,
    drain_seconds: Annotated[
        float,
        typer.Option(min=0, help="How long requests may take to finish after SIGTERM."),
    ] = 30.0,
    assignments: SetOption = None,
) -> None:
    """Serve a run over HTTP, with a web page: answers with evidence, and documents.

    `realm serve --model realm-mini --source FOLDER` needs no training.

    The page is at /, the description of the service at /openapi.json, metrics
    for Prometheus at /metrics, health at /healthz and /readyz. Standard error
    gets a line of JSON for each request, without its words.

    Without tokens the service is for this machine: at 127.0.0.1 everyone here
    may read and edit; elsewhere everyone may read, and edit with --allow-edits.

    SIGTERM lets running requests finish; a second one does not.

    --set changes settings of the run for this process, and with
    service.NAME=VALUE limits of the service: batch_size (questions answered
    together), batch_passages (passages read together), queue_size (questions
    that may wait), deadline_seconds, max_body_bytes, max_document_bytes.
    """
    with uncollected():  # until all is there that stays
        _need("fastapi", "uvicorn", "prometheus_client", command="serve", extra="serve")
        from realm.serving.process import bind

        access, can_edit = _access(host, token_file, is_open=allow_edits)
        limits, changes = _limits_and_changes(assignments or ())
        settings = limits.with_rights(can_edit=can_edit, log_questions=log_questions)
        with bind(host, port) as listener:  # first of all: a port in use is said at once
            opened = open_to_answer(run, model, sources or (), changes)
            _run(opened, listener, access, settings, drain_seconds)


def _limits_and_changes(assignments: Sequence[str]) -> "tuple[ServiceLimits, list[str]]":
    """The limits that are set of the service, and what is left: settings of the run."""
    from realm.serving.service import service_limits

    limits = [a.removeprefix(_SECTION) for a in assignments if a.startswith(_SECTION)]
    return service_limits(limits), [a for a in assignments if not a.startswith(_SECTION)]


def _access(host: str, token_file: Path | None, *, is_open: bool) -> "tuple[Access, bool]":
    """Who is let in, and whether anybody may edit."""
    from realm.serving.gate import LOOPBACK, Access
    from realm.serving.tokens import read_tokens

    tokens = read_tokens(token_file, say) if token_file else None
    is_local = host in LOOPBACK
    if tokens is None and not is_local:
        say(f"everyone who can reach {host} may read the corpus: give --token-file to change that")
    can_edit = tokens.can_edit if tokens else is_local or is_open
    # A page elsewhere that has its name resolved to this machine sends no token, and a proxy on
    # this machine passes on the name by which it was called itself.
    return Access(tokens, LOOPBACK if is_local and tokens is None else ()), can_edit


def _run(
    run: "Run",
    listener: socket,
    access: "Access",
    settings: "ServiceSettings",
    drain_seconds: float,
) -> None:
    from realm.serving.app import create_app
    from realm.serving.process import address_of, log_to_standard_error, run_server

    service = _service(run, settings)
    app = create_app(service, access)
    gc.freeze()  # what is there stays, and is not looked through again
    gc.enable()
    log_to_standard_error()

    def say_ready() -> None:
        say(f"{run.path} is served at {address_of(listener)}")

    run_server(app, listener, service, drain_seconds=drain_seconds, on_ready=say_ready)


def _service(run: "Run", settings: "ServiceSettings") -> "Service":
    """The run with its model loaded, so that the first question need not wait for it."""
    from realm.living.corpus import LivingCorpus
    from realm.memory import keep_freed_memory
    from realm.serving.opening import describe
    from realm.serving.service import Service
    from realm.serving.threads import in_passing

    keep_freed_memory()
    corpus = LivingCorpus.open(run)
    in_passing(corpus.view)
    return Service(corpus, describe(run, corpus), settings)


def mcp(
    run: RunToAskOption = None,
    model: ShippedOption = "",
    sources: SourceOption = None,
    assignments: SetOption = None,
) -> None:
    """Give a run to an agent as tools: search, ask, read_document (MCP, over standard input).

    An agent's program starts this command itself; its settings want the command `realm` and the
    arguments `mcp --run RUN`.
    """
    _need("mcp", command="mcp", extra="mcp")
    from realm.living.corpus import LivingCorpus
    from realm.serving.agent_tools import agent_tools
    from realm.serving.opening import no_answers
    from realm.serving.results import versions_of

    opened = open_to_answer(run, model, sources or (), assignments)
    corpus = LivingCorpus.open(opened)
    name = opened.path.resolve().name
    tools = agent_tools(name, corpus, versions_of(opened), missing_answers=no_answers(opened))
    try:
        tools.run("stdio")
    finally:
        corpus.close()


def _need(*modules: str, command: str, extra: str) -> None:
    """Say how to install what a command needs."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ResourceError(
                f"`realm {command}` needs the package {error.name}: install it with "
                f"`pip install 'realm-lm[{extra}]'`"
            ) from error
