"""Do `realm serve`, `realm mcp` and `realm ask --json` agree, and refuse what cannot work?"""

import asyncio
import builtins
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from starlette.testclient import TestClient
from typer.testing import CliRunner, Result

from realm.cli.main import app as command_line
from realm.corpus.documents import Document
from realm.errors import SettingError
from realm.living.corpus import LivingCorpus
from realm.living.view import View
from realm.serving.agent_tools import agent_tools
from realm.serving.app import create_app
from realm.serving.gate import LOOPBACK, Access
from realm.serving.opening import describe
from realm.serving.ports import Corpus
from realm.serving.results import versions_of
from realm.serving.service import Service, ServiceSettings
from realm.serving.suggestions import example_gaps
from realm.serving.tokens import read_tokens
from realm.stages import Run
from small_run import PROGRAM, make_run

QUESTION = "Where is Tavil?"
LONG = "0123456789abcdef"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, corpus_source: Path, trunk_folder: Path) -> Run:
    path = tmp_path_factory.mktemp("runs") / "small"
    return make_run(path, corpus_source, trunk_folder, names=("pretrain", "finetune"))


@pytest.fixture
def corpus(run: Run) -> Iterator[Corpus]:
    corpus = LivingCorpus.open(run)
    yield corpus
    corpus.close()


def realm(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command_line, [str(argument) for argument in arguments])


def error_of(result: Result) -> str:
    assert result.exit_code == 2, result.output
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    return line


def test_the_command_line_prints_what_http_answers(run: Run, corpus: Corpus) -> None:
    service = Service(corpus, describe(run, corpus), ServiceSettings())
    client = TestClient(create_app(service, Access()), base_url="http://localhost")
    response = client.post("/v1/answer", json={"question": QUESTION})
    printed = realm("ask", QUESTION, "--run", run.path, "--json")
    assert json.loads(printed.stdout) == response.json()
    assert list(json.loads(printed.stdout)) == list(response.json())
    assert len(response.json()["answers"]) == 5
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    shown = readme.split("```json\n")[1].split("```")[0]
    assert names_in(json.loads(shown)) == names_in(response.json())


def names_in(value: Any) -> Any:
    """The names in it, in their order; of a list only those in its first element."""
    match value:
        case dict():
            return [(name, names_in(inner)) for name, inner in value.items()]
        case [first, *_]:
            return [names_in(first)]
    return None


def test_agents_get_the_same(run: Run, corpus: Corpus) -> None:
    server = agent_tools("small", corpus, versions_of(run))

    async def call() -> list[Any]:
        async with Client(server) as client:
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == ["search", "ask", "read_document"]
            assert all(tool.description for tool in tools)
            calls = (
                ("ask", {"question": QUESTION, "top_k": 2}),
                ("search", {"query": "comet", "k": 3}),
                ("read_document", {"document_id": "article-3", "start": 6, "max_characters": 4}),
                ("read_document", {"document_id": "nobody"}),
                ("ask", {"question": " "}),
            )
            return [await client.call_tool(name, arguments) for name, arguments in calls]

    asked, searched, read, unknown, blank = asyncio.run(call())
    printed = realm("ask", QUESTION, "--run", run.path, "--json", "--top-k", "2")
    assert asked.structured_content == json.loads(printed.stdout)
    assert len(searched.structured_content["passages"]) == 3
    assert read.structured_content["text"] == "is a"
    assert read.structured_content["num_characters"] > 100
    assert unknown.is_error
    assert "no document 'nobody'" in unknown.content[0].text
    assert blank.is_error


def test_an_agent_reads_whatever_it_finds(
    tmp_path: Path, corpus_source: Path, trunk_folder: Path
) -> None:
    """Ids that no address can have are ids all the same."""
    run = make_run(tmp_path / "run", corpus_source, trunk_folder, names=("pretrain", "finetune"))
    corpus = LivingCorpus.open(run)
    corpus.put([Document("../notes", "", PORT["text"])])
    server = agent_tools("small", corpus, versions_of(run))

    async def call() -> Any:
        async with Client(server) as client:
            return await client.call_tool("read_document", {"document_id": "../notes"})

    assert asyncio.run(call()).structured_content["text"] == PORT["text"]
    corpus.close()


def test_an_agents_program_starts_the_command(run: Run) -> None:
    """Over standard input and output, on which nothing but messages may be written."""
    settings = ("precision=fp32", "attention=eager", f"num_threads={torch.get_num_threads()}")
    computing = [word for setting in settings for word in ("--set", setting)]
    arguments = ["-c", PROGRAM, "mcp", "--run", str(run.path), *computing]

    async def call() -> Any:
        started = StdioServerParameters(command=sys.executable, args=arguments)
        async with Client(started) as client:
            return await client.call_tool("ask", {"question": QUESTION, "top_k": 2})

    result = asyncio.run(call())
    printed = realm("ask", QUESTION, "--run", run.path, "--json", "--top-k", "2")
    assert result.structured_content == json.loads(printed.stdout)


def test_an_agent_learns_what_the_run_lacks(corpus: Corpus, run: Run) -> None:
    server = agent_tools("small", corpus, versions_of(run), missing_answers="no reader: train one")

    async def call() -> Any:
        async with Client(server) as client:
            return await client.call_tool("ask", {"question": QUESTION})

    result = asyncio.run(call())
    assert result.is_error
    assert "no reader: train one" in result.content[0].text


def test_the_thread_that_loads_the_model_ends(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers would slow down the thread that answers."""
    threads = []

    class Watched(LivingCorpus):
        def view(self) -> View:
            threads.append(threading.current_thread())
            return super().view()

    monkeypatch.setattr("realm.living.corpus.LivingCorpus", Watched)
    monkeypatch.setattr("realm.serving.process.run_server", lambda *_, **__: None)
    monkeypatch.setattr("realm.serving.process.log_to_standard_error", lambda: None)
    monkeypatch.setattr("realm.memory.keep_freed_memory", lambda: True)
    assert realm("serve", "--run", run.path, "--port", "0").exit_code == 0
    assert threads
    assert not any(thread.is_alive() for thread in threads)


@contextmanager
def client_of(run: Run) -> Iterator[TestClient]:
    """The service over a run, with the documents that it really has."""
    corpus = LivingCorpus.open(run)
    service = Service(corpus, describe(run, corpus), ServiceSettings())
    with TestClient(create_app(service, Access()), base_url="http://localhost") as client:
        yield client
    corpus.close()


def test_a_run_whose_reader_was_never_taught(
    tmp_path: Path, corpus_source: Path, trunk_folder: Path
) -> None:
    run = make_run(tmp_path / "run", corpus_source, trunk_folder, names=())
    with client_of(run) as client:
        assert client.get("/v1/info").json()["can"]["answer"] is False
        refused = client.post("/v1/answer", json={"question": QUESTION})
        found = client.post("/v1/retrieve", json={"queries": [QUESTION]})
    assert refused.status_code == 409
    assert "no reader that was taught to answer" in refused.json()["detail"]
    assert "`realm finetune --run" in refused.json()["detail"]
    assert found.status_code == 200
    assert len(found.json()["results"][0]["passages"]) == 5
    error = error_of(realm("ask", QUESTION, "--run", run.path))
    assert error == f"error: {refused.json()['detail']}", "the shell says the same"


def test_a_reader_that_was_pre_trained_alone_answers(
    tmp_path: Path, corpus_source: Path, trunk_folder: Path
) -> None:
    run = make_run(tmp_path / "run", corpus_source, trunk_folder, names=("pretrain",))
    (tmp_path / "questions.jsonl").unlink()  # and it moved to a machine without its questions
    with client_of(run) as client:
        info = client.get("/v1/info").json()
        result = client.post("/v1/answer", json={"question": QUESTION}).json()
    assert info["can"]["answer"] is True
    assert info["model"].startswith("pretrain:")
    assert info["examples"][:2] == ["What is Ida Renquist?", "What is Lomvar Bridge?"]
    printed = realm("ask", QUESTION, "--run", run.path, "--json")
    assert json.loads(printed.stdout) == result


PORT = {"title": "Quillan", "text": "Quillan Marsh has a lighthouse. Odalys Brankovic built it."}
ASK_OF_PORT = "Quillan Marsh has a lighthouse. Odalys Brankovic built it."


def test_documents_that_were_put_are_found_at_once_and_those_removed_never(
    tmp_path: Path, corpus_source: Path, trunk_folder: Path
) -> None:
    run = make_run(tmp_path / "run", corpus_source, trunk_folder, names=("pretrain", "finetune"))

    def found(client: TestClient, **body: Any) -> set[tuple[str, str]]:
        body = {"queries": [ASK_OF_PORT], "k": 100, **body}
        (result,) = client.post("/v1/retrieve", json=body).json()["results"]
        return {(p["document_id"], p["text"]) for p in result["passages"]}

    with client_of(run) as client:
        before = found(client)
        put = client.put("/v1/documents/ports/quillan", json=PORT)
        assert put.json()["edits"][0]["action"] == "added"
        assert found(client) - before == {("ports/quillan", PORT["text"])}
        answered = client.post(
            "/v1/answer", json={"question": ASK_OF_PORT, "num_passages": 100, "candidates": True}
        ).json()
        assert "ports/quillan" in {one["document_id"] for one in answered["candidates"]}
        assert answered["corpus_version"] == put.json()["corpus_version"]
        other = {**PORT, "text": "Quillan Marsh has no lighthouse any more."}
        assert client.put("/v1/documents/ports/quillan", json=other).json()["edits"][0][
            "action"
        ] == "replaced"  # fmt: skip
        assert found(client) - before == {("ports/quillan", other["text"])}
        assert client.delete("/v1/documents/ports/quillan").status_code == 200
        assert found(client) == before
        assert client.get("/v1/documents/ports/quillan").status_code == 404


def test_gaps_to_try_are_sentences_of_the_corpus(
    tmp_path: Path, corpus_source: Path, trunk_folder: Path
) -> None:
    run = make_run(tmp_path / "run", corpus_source, trunk_folder, names=("pretrain",))
    assert example_gaps(run) == ()
    run.spans()
    gaps, store = example_gaps(run), run.corpus()
    texts = [store.text(row) for row in range(len(store))]
    assert 0 < len(gaps) <= 4
    for gap in gaps:
        before, after = gap.split("[MASK]")
        assert before
        assert any(before in text and after in text and gap not in text for text in texts)


def test_a_port_in_use_is_said_before_anything_is_loaded(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LivingCorpus, "open", lambda *_: pytest.fail("loaded"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = error_of(realm("serve", "--run", run.path, "--port", str(port)))
    assert error.startswith(f"error: cannot listen at 127.0.0.1:{port} (address already in use)")


BAD: dict[str, tuple[list[str], str]] = {
    "no run": (["--run", "nowhere"], "nowhere is no run"),
    "no token file": (["--token-file", "nowhere"], "the token file nowhere cannot be read"),
    "unknown limit": (["--set", "service.queue=3"], "queue_size"),
    "no limit but an option": (["--set", "service.can_edit=false"], "can_edit"),
    "no limit": (["--set", "service.queue_size=0"], "queue_size"),
    "unknown host": (["--host", "256.0.0.1"], "cannot listen at 256.0.0.1"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_served(
    run: Run, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket, "getaddrinfo", _no_such_host(socket.getaddrinfo))
    options, expected = BAD[name]
    assert expected in error_of(realm("serve", "--run", run.path, "--port", "0", *options))


def _no_such_host(lookup: Callable[..., Any]) -> Callable[..., Any]:
    def find(host: str, *arguments: Any, **options: Any) -> Any:
        if host.startswith("256."):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return lookup(host, *arguments, **options)

    return find


@pytest.mark.parametrize(
    ("host", "options", "with_tokens", "expected"),
    [
        ("127.0.0.1", [], False, (True, LOOPBACK)),
        ("127.0.0.1", [], True, (True, ())),
        ("0.0.0.0", [], False, (False, ())),
        ("0.0.0.0", ["--allow-edits"], False, (True, ())),
        ("0.0.0.0", [], True, (True, ())),
    ],
)
def test_who_may_edit_and_by_which_name(
    run: Run,
    host: str,
    options: list[str],
    with_tokens: bool,
    expected: tuple[bool, tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A proxy on this machine that asks for tokens is called by a name of its own."""
    started: list[tuple[bool, tuple[str, ...]]] = []

    def remember(service: Service, access: Access) -> None:
        started.append((service.settings.can_edit, access.hosts))

    monkeypatch.setattr("realm.serving.app.create_app", remember)
    monkeypatch.setattr("realm.serving.process.bind", lambda host, port: socket.socket())
    monkeypatch.setattr("realm.serving.process.run_server", lambda *_, **__: None)
    monkeypatch.setattr("realm.serving.process.log_to_standard_error", lambda: None)
    monkeypatch.setattr("realm.memory.keep_freed_memory", lambda: True)
    if with_tokens:
        file = tmp_path / "tokens"
        file.write_text(f"edit {LONG}\n", encoding="utf-8")
        options = [*options, "--token-file", str(file)]
    result = realm("serve", "--run", run.path, "--port", "0", "--host", host, *options)
    assert result.exit_code == 0, result.output
    assert started == [expected]
    is_said = "everyone who can reach 0.0.0.0 may read" in result.stderr
    assert is_said == (host != "127.0.0.1" and not with_tokens)


@pytest.mark.parametrize(("command", "module"), [("serve", "fastapi"), ("mcp", "mcp")])
def test_without_the_extra_it_says_what_to_install(
    run: Run, command: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    error = error_of(realm(command, "--run", run.path))
    assert error.endswith(f"install it with `pip install 'realm-lm[{command}]'`")


def test_asking_needs_none_of_the_extras(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("realm.serving")]:
        monkeypatch.delitem(sys.modules, name)
    importing = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        assert name.split(".")[0] not in ("fastapi", "starlette", "uvicorn", "mcp")
        return importing(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert realm("ask", QUESTION, "--run", run.path, "--json").exit_code == 0


BAD_TOKENS = {
    "": "has no token",
    "# nothing\n\n": "has no token",
    f"write {LONG}": "line 1: write `read TOKEN` or `edit TOKEN`",
    f"read {LONG}\nedit": "line 2",
    f"read {LONG} {LONG}": "line 1",
    "read short": "fewer than 16 characters",
    f"read {LONG}\u00e9": "ASCII alone",
}


@pytest.mark.parametrize("text", BAD_TOKENS)
def test_token_files_that_protect_nothing(text: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingError, match=BAD_TOKENS[text]):
        read_tokens(file, lambda warning: None)


def test_a_token_has_the_greatest_right_that_it_is_given(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"read {LONG}\nedit {LONG}\nread {LONG}\nread x{LONG}\n", encoding="utf-8")
    warnings: list[str] = []
    file.chmod(0o640)
    tokens = read_tokens(file, warnings.append)
    assert len(warnings) == 1
    rights = [tokens.right_of(token) for token in (LONG, f"x{LONG}", LONG[:-1], "", "\ud800")]
    assert rights == ["edit", "read", None, None, None]
