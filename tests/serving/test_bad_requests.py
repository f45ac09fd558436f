"""Is every bad request answered with a problem that says what is wrong, and is nothing lost?"""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from memory_corpus import MemoryCorpus, make_corpus, make_service
from starlette.testclient import TestClient

from realm.serving.app import create_app
from realm.serving.gate import Access
from realm.serving.process import bind, run_server
from realm.serving.service import Service
from realm.serving.tokens import Tokens, read_tokens

QUESTION = "Who designed the Lomvar Bridge?"
READER, EDITOR = "reader-token-0123456789", "editor-token-0123456789"
LIMITS = {"max_body_bytes": 200_000, "max_document_bytes": 400_000, "queue_size": 70}


@pytest.fixture(scope="module")
def corpus(
    tmp_path_factory: pytest.TempPathFactory, trunk_folder: Path, corpus_source: Path
) -> MemoryCorpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"), trunk_folder, corpus_source)


@pytest.fixture(scope="module")
def service(corpus: MemoryCorpus) -> Service:
    return make_service(corpus, **LIMITS)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(create_app(service, Access()), base_url="http://127.0.0.1:8000") as client:
        yield client


def client_of(corpus: MemoryCorpus, access: Access, **settings: Any) -> TestClient:
    app = create_app(make_service(corpus, **settings), access)
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


def check(response: httpx.Response, status: int, field: str | None = None) -> dict[str, Any]:
    """The problem that a response holds, which has to be one line for a person."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    expected = {"type", "title", "status", "detail", *(["field"] if field else [])}
    assert set(problem) == expected, problem
    assert problem["status"] == status
    assert problem.get("field") == field
    assert problem["detail"].strip()
    assert "\n" not in problem["detail"]
    return problem


QUESTIONS: dict[str, tuple[Any, str]] = {
    "empty": ({"question": ""}, "question"),
    "blank": ({"question": " \n\t"}, "question"),
    "blank in Unicode": ({"question": "\u3000\u00a0"}, "question"),
    "too long": ({"question": "a" * 2001}, "question"),
    "no text": ({"question": 7}, "question"),
    "null": ({"question": None}, "question"),
    "half a character": ({"question": "\ud800"}, "question"),
    "missing": ({}, "question"),
    "both": ({"question": "a", "questions": ["b"]}, "question"),
    "no questions": ({"questions": []}, "questions"),
    "too many": ({"questions": ["a"] * 65}, "questions"),
    "third is blank": ({"questions": ["a", "b", " "]}, "questions.2"),
    "number as text": ({"question": "a", "top_k": "5"}, "top_k"),
    "no answers": ({"question": "a", "top_k": 0}, "top_k"),
    "too many answers": ({"question": "a", "top_k": 101}, "top_k"),
    "too many passages": ({"question": "a", "num_passages": 101}, "num_passages"),
    "improbable": ({"question": "a", "min_probability": 1.5}, "min_probability"),
    "unknown": ({"question": "a", "topk": 5}, "topk"),
    "unknown, a word of ours": ({"query": "a"}, "query"),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions(client: TestClient, name: str) -> None:
    body, field = QUESTIONS[name]
    content = json.dumps(body)  # with escapes: half a character can be sent in no other way
    headers = {"Content-Type": "application/json"}
    check(client.post("/v1/answer", content=content, headers=headers), 422, field)


def test_what_is_wrong_is_said_in_words(client: TestClient) -> None:
    for empty in ("", " "):
        problem = check(client.post("/v1/answer", json={"question": empty}), 422, "question")
        assert problem["detail"] == "question has nothing but blanks: give some words"
    check(client.post("/v1/answer", json=[]), 422)
    check(client.post("/v1/answer?top_k=3", json={"question": "a"}), 422, "top_k")


@pytest.mark.parametrize(
    "content", [b"{", b"", b"\xff\xfe", b"[" * 100_000, b'{"question": nul}'], ids=range(5)
)
def test_what_is_no_json(client: TestClient, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    status = 400 if content else 422
    check(client.post("/v1/answer", content=content, headers=headers), status)


def test_what_a_form_of_another_site_can_send(client: TestClient, corpus: MemoryCorpus) -> None:
    before = corpus.version
    document = json.dumps({"documents": [{"id": "x", "text": "x"}]})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        headers = {"Content-Type": kind}
        check(client.post("/v1/documents", content=document, headers=headers), 415)
    check(client.post("/v1/documents", content=document), 415)
    assert corpus.version == before


def test_a_page_that_calls_this_machine_by_its_own_name(client: TestClient) -> None:
    for host in ("evil.example", "evil.example:8000", "", "127.0.0.1.evil.example"):
        check(client.get("/v1/info", headers={"Host": host}), 421)
    for host in ("localhost:8000", "LOCALHOST", "127.0.0.1", "[::1]:8000"):
        assert client.get("/v1/info", headers={"Host": host}).status_code == 200


def test_more_than_is_taken(client: TestClient) -> None:
    large = {"question": "a" * 10_000_000}
    problem = check(client.post("/v1/answer", json=large), 413)
    assert "200,000 bytes" in problem["detail"]
    check(client.put("/v1/documents/x", json={"text": "a" * 500_000}), 413)


def test_a_body_without_end_is_not_read_to_the_end(corpus: MemoryCorpus) -> None:
    num_sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal num_sent
        while True:
            num_sent += 1
            yield b"a" * 1000

    async def ask() -> httpx.Response:
        app = create_app(make_service(corpus, max_body_bytes=5_000), Access())
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            headers = {"Content-Type": "application/json"}
            return await client.post("/v1/answer", content=pieces(), headers=headers)

    response = asyncio.run(ask())
    check(response, 413)
    assert response.headers["Connection"] == "close"
    # A few times the limit, so that a sender sees the answer; then no more.
    assert num_sent < 30


def test_a_body_that_comes_too_slowly(corpus: MemoryCorpus) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"question": '
        await asyncio.sleep(60)

    async def ask_slowly() -> httpx.Response:
        _, client = await asking(corpus, deadline_seconds=0.05)
        headers = {"Content-Type": "application/json"}
        return await client.post("/v1/answer", content=pieces(), headers=headers)

    response = asyncio.run(ask_slowly())
    check(response, 408)
    assert response.headers["Connection"] == "close"


DOCUMENTS: dict[str, tuple[Any, str]] = {
    "no text": ({"title": "a"}, "text"),
    "empty text": ({"text": ""}, "text"),
    "blank text": ({"text": " \n "}, "text"),
    "control character": ({"text": "a\x00b"}, "text"),
    "escape": ({"text": "a\x1b[2Jb"}, "text"),
    "control character in the title": ({"title": "\x07", "text": "a"}, "title"),
    "half a character": ({"text": "a\udfff"}, "text"),
    "text is a list": ({"text": ["a"]}, "text"),
    "another id": ({"id": "y", "text": "a"}, "id"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents(client: TestClient, corpus: MemoryCorpus, name: str) -> None:
    body, field = DOCUMENTS[name]
    before = corpus.version
    headers = {"Content-Type": "application/json"}
    check(client.put("/v1/documents/x", content=json.dumps(body), headers=headers), 422, field)
    assert corpus.version == before


def test_of_many_documents_one_bad_one_keeps_all_out(
    client: TestClient, corpus: MemoryCorpus
) -> None:
    before, good = corpus.version, {"id": "good", "text": "Good."}
    for bad, field in (
        ({"id": "bad", "text": " "}, "documents.1.text"),
        ({"id": "", "text": "a"}, "documents.1.id"),
        ({"text": "a"}, "documents.1.id"),
        ({"id": "..", "text": "a"}, "documents.1.id"),
        ({"id": "a/./b", "text": "a"}, "documents.1.id"),
        (good, "documents"),
    ):
        check(client.post("/v1/documents", json={"documents": [good, bad]}), 422, field)
    too_many = [{"id": str(n), "text": "a"} for n in range(1001)]
    check(client.post("/v1/documents", json={"documents": too_many}), 422, "documents")
    assert corpus.version == before


def test_unknown_documents_and_paths(client: TestClient) -> None:
    problem = check(client.get("/v1/documents/nobody"), 404, "id")
    assert "nobody" in problem["detail"]
    check(client.delete("/v1/documents/nobody"), 404, "id")
    check(client.get("/v1/documents/a%00b"), 422, "id")
    check(client.put("/v1/documents/", json={"text": "a"}), 422, "id")
    check(client.get("/v1/nothing"), 404)
    for method, path, allowed in (
        ("GET", "/v1/answer", "POST"),
        ("PATCH", "/v1/documents/a/b", "DELETE, GET, PUT"),
        ("DELETE", "/v1/documents", "GET, POST"),
    ):
        refused = client.request(method, path)
        check(refused, 405)
        assert refused.headers["Allow"] == allowed
    check(client.get("/v1/documents?limit=none"), 422, "limit")
    check(client.get("/v1/documents?page=2"), 422, "page")


def test_texts_without_a_gap(client: TestClient) -> None:
    check(client.post("/v1/fill-mask", json={"text": "No gap."}), 422, "text")
    given = {"text": "A [MASK] and a [MASK].", "answer": "port"}
    check(client.post("/v1/fill-mask", json=given), 422, "answer")


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    file = tmp_path / "tokens"
    file.write_text(f"# for the group\nread {READER}\n\nedit {EDITOR}\n", encoding="utf-8")
    file.chmod(0o600)
    warnings: list[str] = []
    tokens = read_tokens(file, warnings.append)
    assert warnings == []
    return tokens


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_tokens(corpus: MemoryCorpus, tokens: Tokens) -> None:
    client = client_of(corpus, Access(tokens))
    document, path = {"text": "Port Keld."}, "/v1/documents/x"
    for headers in ({}, bearer("x" * 23), bearer(""), {"Authorization": f"Basic {READER}"}):
        for response in (
            client.get("/v1/info", headers=headers),
            client.get("/metrics", headers=headers),
            client.get("/openapi.json", headers=headers),
            client.put(path, json=document, headers=headers),
        ):
            check(response, 401)
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="realm"'
    before = corpus.version
    for response in (
        client.put(path, json=document, headers=bearer(READER)),
        client.delete(path, headers=bearer(READER)),
        client.post("/v1/documents", json={"documents": []}, headers=bearer(READER)),
    ):
        check(response, 403)
    assert corpus.version == before
    for token in (READER, EDITOR):
        response = client.post("/v1/answer", json={"question": "Who?"}, headers=bearer(token))
        assert response.status_code == 200
    assert client.put(path, json=document, headers=bearer(EDITOR)).status_code == 200
    assert client.delete(path, headers=bearer(EDITOR)).status_code == 200
    for open_path in ("/healthz", "/readyz"):
        assert client.get(open_path).status_code == 200


def test_a_token_comes_before_the_body(corpus: MemoryCorpus, tokens: Tokens) -> None:
    check(client_of(corpus, Access(tokens)).post("/v1/answer", content=b"{"), 401)


def test_editing_that_is_switched_off(corpus: MemoryCorpus) -> None:
    client = client_of(corpus, Access(hosts=()), can_edit=False)
    problem = check(client.put("/v1/documents/x", json={"text": "a"}), 403)
    assert "--token-file" in problem["detail"]
    assert client.get("/v1/info", headers={"Host": "anything"}).json()["can"]["edit"] is False


async def asking(corpus: MemoryCorpus, **settings: Any) -> tuple[Service, httpx.AsyncClient]:
    service = make_service(corpus, **settings)
    transport = httpx.ASGITransport(create_app(service, Access()))
    return service, httpx.AsyncClient(transport=transport, base_url="http://localhost")


def ask(client: httpx.AsyncClient, num_questions: int = 1) -> "asyncio.Task[httpx.Response]":
    body = {"questions": [QUESTION] * num_questions}
    return asyncio.ensure_future(client.post("/v1/answer", json=body))


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_full_queue_and_a_deadline(corpus: MemoryCorpus) -> None:
    async def run() -> None:
        service, client = await asking(corpus, queue_size=2, deadline_seconds=0.3)
        num_views = corpus.num_views
        corpus.before_view.clear()  # from now on the model is busy
        first = ask(client)
        await until(lambda: corpus.num_views > num_views)
        waiting = ask(client, 2)
        await until(lambda: len(service._questions) == 2)
        refused = await ask(client)
        check(refused, 503)
        assert refused.headers["Retry-After"] == "1"
        check(await first, 504)
        check(await waiting, 504)
        assert len(service._questions) == 0
        corpus.before_view.set()
        async with asyncio.timeout(10):  # a busy machine may miss the short deadline once more
            while (await ask(client)).status_code != 200:
                pass

    try:
        asyncio.run(run())
    finally:
        corpus.before_view.set()


class HeldUp:
    """Edits of a corpus begin, and go on when they may."""

    def __init__(self, corpus: MemoryCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
        self._corpus = corpus
        self.has_begun, self.may_go_on = threading.Event(), threading.Event()
        monkeypatch.setattr(corpus, "put", self.put)

    def put(self, documents: Any) -> Any:
        self.has_begun.set()
        assert self.may_go_on.wait(timeout=30)
        return MemoryCorpus.put(self._corpus, documents)


def put(client: httpx.AsyncClient, name: str) -> "asyncio.Task[httpx.Response]":
    return asyncio.ensure_future(client.put(f"/v1/documents/{name}", json={"text": "Port Keld."}))


def test_an_edit_that_was_refused_was_not_made(
    corpus: MemoryCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for want of time nor of room; one that has begun is answered when it is done."""
    edits = HeldUp(corpus, monkeypatch)

    async def run() -> None:
        service, client = await asking(corpus, queue_size=1, deadline_seconds=1.0)
        begun = put(client, "begun")
        await until(edits.has_begun.is_set)
        waiting = put(client, "waiting")
        await until(lambda: len(service._edits) == 1)
        refused = await put(client, "refused")
        check(refused, 503)
        assert refused.headers["Retry-After"] == "1"
        check(await waiting, 504)
        assert not begun.done()
        edits.may_go_on.set()
        assert (await begun).json()["edits"][0]["action"] == "added"
        for name, status in (("begun", 200), ("waiting", 404), ("refused", 404)):
            assert (await client.delete(f"/v1/documents/{name}")).status_code == status

    try:
        asyncio.run(run())
    finally:
        edits.may_go_on.set()


def test_edits_do_not_wait_for_questions(corpus: MemoryCorpus) -> None:
    async def run() -> None:
        service, client = await asking(corpus)
        corpus.before_view.clear()
        question = ask(client)
        await until(lambda: service.num_running == 1)
        edited = await client.put("/v1/documents/x", json={"text": "Port Keld."})
        assert edited.status_code == 200
        assert not question.done()
        corpus.before_view.set()
        assert (await question).json()["results"][0]["corpus_version"] == corpus.version
        await client.delete("/v1/documents/x")

    try:
        asyncio.run(run())
    finally:
        corpus.before_view.set()


@contextmanager
def listening(service: Service) -> Iterator[tuple[str, int]]:
    """The address of a service that is really connected to: only there a client can go away."""
    listener, ready = bind("127.0.0.1", 0), threading.Event()
    arguments = create_app(service, Access()), listener, service
    options = {"drain_seconds": 5, "on_ready": ready.set}
    thread = threading.Thread(target=run_server, args=arguments, kwargs=options)
    thread.start()
    try:
        assert ready.wait(timeout=10)
        yield listener.getsockname()
    finally:
        service.is_draining = True
        thread.join(timeout=10)
    assert not thread.is_alive()


def send(address: tuple[str, int], start: str, content: Any) -> socket.socket:
    """Send a request, and do not wait for the answer."""
    connection, body = socket.create_connection(address), json.dumps(content).encode()
    head = f"{start} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
    return connection


async def first_line(connection: socket.socket) -> bytes:
    line: bytes = await asyncio.to_thread(connection.recv, 15)
    connection.close()
    return line


def test_who_goes_away_is_not_answered(corpus: MemoryCorpus) -> None:
    service = make_service(corpus)

    async def run(address: tuple[str, int]) -> None:
        num_views = corpus.num_views
        corpus.before_view.clear()
        connections = []
        for _ in range(3):
            connections.append(send(address, "POST /v1/answer", {"question": QUESTION}))
            await until(lambda: corpus.num_views > num_views)
        await until(lambda: len(service._questions) == 2)
        connections[2].close()
        await until(lambda: len(service._questions) == 1)
        await until(lambda: service.num_running == 2)
        corpus.before_view.set()
        for connection in connections[:2]:
            assert await first_line(connection) == b"HTTP/1.1 200 OK"

    with listening(service) as address:
        try:
            asyncio.run(run(address))
        finally:
            corpus.before_view.set()
    assert service.metrics.questions._value.get() == 2


def test_who_goes_away_edits_nothing_unless_it_has_begun(
    corpus: MemoryCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, edits = make_service(corpus), HeldUp(corpus, monkeypatch)

    async def run(address: tuple[str, int]) -> None:
        connections = []
        for name in ("begun", "gone", "left"):
            start = f"PUT /v1/documents/{name}"
            connections.append(send(address, start, {"text": "Port Keld."}))
            await until(edits.has_begun.is_set)
        await until(lambda: len(service._edits) == 2)
        for connection in connections[:2]:
            connection.close()
        await until(lambda: len(service._edits) == 1)
        await until(lambda: service.num_running == 1)
        edits.may_go_on.set()
        assert await first_line(connections[2]) == b"HTTP/1.1 200 OK"

    with listening(service) as address:
        try:
            asyncio.run(run(address))
        finally:
            edits.may_go_on.set()
    assert {"begun", "left"} <= {edited.id for edited in corpus.list()}
    assert "gone" not in {edited.id for edited in corpus.list()}
    corpus.remove(["begun", "left"])


def test_our_own_mistakes_tell_nothing(
    corpus: MemoryCorpus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("the secret of the inside")

    monkeypatch.setattr(corpus, "view", fail)
    client = client_of(corpus, Access())
    problem = check(client.post("/v1/answer", json={"question": "Who?"}), 500)
    assert "secret" not in problem["detail"]
    assert "the secret of the inside" in caplog.text
    assert "Who?" not in caplog.text
    monkeypatch.undo()
    assert client.post("/v1/answer", json={"question": "Who?"}).status_code == 200
