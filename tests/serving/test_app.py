"""Does every path answer as documented, from one corpus that is edited between the tests?"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from memory_corpus import VERSIONS, MemoryCorpus, make_corpus, make_service
from starlette.testclient import TestClient

from realm.corpus.documents import Document
from realm.serving import gate
from realm.serving import service as service_module
from realm.serving.app import create_app
from realm.serving.gate import Access
from realm.serving.results import Asked, Manner, answer_results
from realm.serving.service import Service
from realm.serving.threads import in_passing

QUESTION = "Who designed the Lomvar Bridge?"
KELD = {"title": "Port Keld", "text": "Port Keld was founded in 1742. It is a port."}


@pytest.fixture(scope="module")
def corpus(
    tmp_path_factory: pytest.TempPathFactory, trunk_folder: Path, corpus_source: Path
) -> MemoryCorpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"), trunk_folder, corpus_source)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text("<title>small</title>", encoding="utf-8")
    (folder / "page.css").write_text("p { color: red }", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def service(corpus: MemoryCorpus) -> Service:
    return make_service(corpus)


@pytest.fixture(scope="module")
def client(service: Service, page: Path) -> Iterator[TestClient]:
    app = create_app(service, Access(), page=page)
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def post(client: TestClient, path: str, body: Any, status: int = 200) -> Any:
    response = client.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json()


def test_an_answer_is_what_the_answerer_says(client: TestClient, corpus: MemoryCorpus) -> None:
    result = post(client, "/v1/answer", {"question": QUESTION, "top_k": 3})
    (expected,) = answer_results(corpus.view(), VERSIONS, [Asked(QUESTION, 3)])
    assert result == json.loads(json.dumps(expected))
    assert list(result) == list(expected), "in the order in which the command line prints"
    assert len(result["answers"]) == 3
    assert "candidates" not in result
    for answer in result["answers"]:
        document = corpus.document(answer["document_id"])
        assert document.text[answer["start"] : answer["end"]] == answer["text"]
    versions = {key: result[key] for key in ("model", "snapshot", "corpus_version")}
    assert versions == {
        "model": VERSIONS.model, "snapshot": VERSIONS.snapshot, "corpus_version": corpus.version,
    }  # fmt: skip


def test_several_questions_are_answered_in_their_order(client: TestClient) -> None:
    questions = [QUESTION, "Where is Tavil?", QUESTION]
    results = post(client, "/v1/answer", {"questions": questions})["results"]
    assert [result["question"] for result in results] == questions
    alone = post(client, "/v1/answer", {"question": questions[1]})
    assert [a["text"] for a in results[1]["answers"]] == [a["text"] for a in alone["answers"]]


def test_the_number_of_passages_that_are_read(client: TestClient) -> None:
    body = {"question": QUESTION, "candidates": True}
    by_default = post(client, "/v1/answer", body)["candidates"]
    more = post(client, "/v1/answer", {**body, "num_passages": 7})["candidates"]
    assert (len(by_default), len(more)) == (5, 8)
    assert more[-1]["passage_id"] is None
    assert sum(c["retrieval_probability"] for c in more) == pytest.approx(1, abs=1e-5)


def test_questions_with_many_passages_share_small_batches(corpus: MemoryCorpus) -> None:
    service = make_service(corpus, batch_passages=20)
    client = TestClient(create_app(service, Access()), base_url="http://localhost")
    num_batches = []
    for num_passages in (None, 6, 100):
        before = corpus.num_views
        body: dict[str, Any] = {"questions": [QUESTION] * 6}
        if num_passages is not None:
            body["num_passages"] = num_passages
        assert len(post(client, "/v1/answer", body)["results"]) == 6
        num_batches.append(corpus.num_views - before)
    assert num_batches == [1, 2, 6]


def test_a_batch_is_no_larger_for_questions_with_few_passages(corpus: MemoryCorpus) -> None:
    service = make_service(corpus, batch_size=2, batch_passages=20)
    client = TestClient(create_app(service, Access()), base_url="http://localhost")
    before = corpus.num_views
    post(client, "/v1/answer", {"questions": [QUESTION] * 6, "num_passages": 1})
    assert corpus.num_views - before == 3


def test_abstaining(client: TestClient) -> None:
    probability = post(client, "/v1/answer", {"question": QUESTION})["answers"][0]["probability"]
    for threshold, abstained in ((probability * 0.99, False), (probability * 1.01, True)):
        body = {"question": QUESTION, "min_probability": threshold}
        result = post(client, "/v1/answer", body)
        is_likelier_null = result["null_probability"] > probability
        assert result["abstained"] == (abstained or is_likelier_null)
        assert result["answers"], "what comes nearest is given as well"


def test_retrieval(client: TestClient, corpus: MemoryCorpus) -> None:
    body = {"queries": ["the bridge over the Sorna", "comet"], "k": 3}
    found = post(client, "/v1/retrieve", body)
    assert found["corpus_version"] == corpus.version
    assert [result["query"] for result in found["results"]] == body["queries"]
    for result in found["results"]:
        scores = [passage["score"] for passage in result["passages"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        for passage in result["passages"]:
            text = corpus.document(passage["document_id"]).text
            assert text[passage["start"] : passage["end"]] == passage["text"]


def test_more_passages_than_there_are(client: TestClient, corpus: MemoryCorpus) -> None:
    found = post(client, "/v1/retrieve", {"queries": ["comet"], "k": 100})
    assert len(found["results"][0]["passages"]) == corpus.num_passages


def test_filling_gaps_with_and_without_retrieval(client: TestClient) -> None:
    body = {"text": "Tavil is a [MASK] .", "top_k": 3}
    filled = post(client, "/v1/fill-mask", body)
    assert len(filled["fillings"]) == 3
    assert len(filled["candidates"]) == 4
    alone = post(client, "/v1/fill-mask", {**body, "retrieval": False})
    (null,) = alone["candidates"]
    assert (null["passage_id"], null["retrieval_probability"]) == (None, 1.0)
    assert alone["fillings"] == alone["fillings_without_retrieval"]
    # In either case the same is said of what the reader expects without a passage.
    expected = [f["probability_without_retrieval"] for f in filled["fillings_without_retrieval"]]
    assert [f["probability"] for f in alone["fillings"]] == pytest.approx(expected, rel=1e-4)
    given = post(client, "/v1/fill-mask", {**body, "answer": "port"})
    assert given["answer"]["text"] == "port"


def test_an_id_is_taken_to_its_last_character(client: TestClient) -> None:
    """File names may hold ends of lines; no id may stand for another one."""
    ids = ["line", "line\n", "li\nne", "line\r\n"]
    documents = [{"id": id, "text": f"This is number {n}."} for n, id in enumerate(ids)]
    post(client, "/v1/documents", {"documents": documents})
    for document in documents:
        path = f"/v1/documents/{quote(document['id'])}"
        shown = client.get(path).json()
        assert {name: shown[name] for name in ("id", "text")} == document
        (removed,) = client.delete(path).json()["edits"]
        assert removed["id"] == document["id"]
        assert client.get(path).status_code == 404


def test_a_document_comes_changes_and_goes(client: TestClient) -> None:
    path, other = "/v1/documents/ports/keld%3F", "/v1/documents/ports%2Fkeld%3F"

    def best(query: str) -> list[str]:
        found = post(client, "/v1/retrieve", {"queries": [query], "k": 100})
        return [passage["document_id"] for passage in found["results"][0]["passages"]]

    added = client.put(path, json=KELD)
    assert added.status_code == 200, added.text
    assert added.json()["edits"] == [{"id": "ports/keld?", "action": "added", "num_passages": 1}]
    assert "ports/keld?" in best("Port Keld")
    shown = client.get(other).json()
    assert shown == {"id": "ports/keld?", **KELD, "origin": "edited", "num_passages": 1}
    assert client.put(path, json={"text": "Another."}).json()["edits"][0]["action"] == "replaced"
    assert client.get(path).json()["text"] == "Another."
    assert client.get(path).json()["title"] == ""
    removed = client.delete(path).json()
    assert removed["edits"] == [{"id": "ports/keld?", "action": "removed", "num_passages": 1}]
    assert "ports/keld?" not in best("Port Keld")
    for response in (client.get(path), client.delete(path)):
        assert response.status_code == 404
        assert response.json()["field"] == "id"


def test_many_documents_at_once(client: TestClient, corpus: MemoryCorpus) -> None:
    before = corpus.num_documents
    documents = [{"id": f"new-{n}", **KELD} for n in range(3)]
    result = post(client, "/v1/documents", {"documents": documents})
    assert [edit["id"] for edit in result["edits"]] == ["new-0", "new-1", "new-2"]
    assert result["corpus_version"] == corpus.version
    assert corpus.num_documents == before + 3
    for n in range(3):
        client.delete(f"/v1/documents/new-{n}")


def test_listing_page_by_page(client: TestClient, corpus: MemoryCorpus) -> None:
    seen, after = [], ""
    while after is not None:
        page = client.get("/v1/documents", params={"after": after, "limit": 5}).json()
        seen += [document["id"] for document in page["documents"]]
        after = page["next"]
    assert seen == sorted(f"article-{n}" for n in range(12))
    found = client.get("/v1/documents", params={"text": "BRIDGE"}).json()
    titles = [document["title"] for document in found["documents"]]
    assert titles == ["Ida Renquist", "Lomvar Bridge", "Queen Maritha", "Sorna"]
    assert found["next"] is None


def test_any_id_that_a_list_gives_leads_to_the_next_page(
    client: TestClient, corpus: MemoryCorpus
) -> None:
    """Other ways to put documents allow more."""
    names = ["a/../b", "a/./c", "article\x01", "b" * 5_000]
    corpus.put([Document(name, "", "Port Keld.") for name in names])
    seen, after = [], ""
    while after is not None:
        page = client.get("/v1/documents", params={"after": after, "limit": 1}).json()
        seen += [document["id"] for document in page["documents"]]
        after = page["next"]
    corpus.remove(names)
    assert set(names) < set(seen)
    assert len(seen) == 12 + len(names)


def test_info(client: TestClient, corpus: MemoryCorpus) -> None:
    info = client.get("/v1/info").json()
    assert time.time() - info.pop("snapshot_age_seconds") < 60, "made at the beginning of time"
    assert info == {
        "name": "small", "model": VERSIONS.model, "snapshot": VERSIONS.snapshot,
        "corpus_version": corpus.version, "num_documents": 12, "num_passages": 12,
        "can": {"answer": True, "retrieve": True, "fill_mask": True, "edit": True, "add": True},
        "examples": ["Where is Tavil?"],
    }  # fmt: skip


def test_health_and_draining(client: TestClient, service: Service) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok"}
    service.is_draining = True
    try:
        assert client.get("/healthz").status_code == 200
        refused = [client.get("/readyz"), client.post("/v1/answer", json={"question": QUESTION})]
        assert [(r.status_code, r.headers["Retry-After"]) for r in refused] == [(503, "1")] * 2
        assert client.get("/metrics").status_code == 200, "the end is watched as well"
    finally:
        service.is_draining = False


@pytest.mark.parametrize("path", ["/healthz", "/v1/info", "/v1/documents"])
def test_head_asks_what_get_asks(client: TestClient, path: str) -> None:
    asked, whole = client.head(path), client.get(path)
    assert asked.status_code == whole.status_code == 200
    assert asked.headers["content-type"] == whole.headers["content-type"]


def test_metrics(corpus: MemoryCorpus, page: Path) -> None:
    client = TestClient(
        create_app(make_service(corpus), Access(), page=page), base_url="http://localhost"
    )
    post(client, "/v1/answer", {"questions": ["Where?", "Who?"], "min_probability": 1.0})
    client.put("/v1/documents/x", json=KELD)
    client.delete("/v1/documents/x")
    client.get("/v1/nothing/of/the/kind")
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    values = dict(
        line.rsplit(" ", 1) for line in response.text.splitlines() if not line.startswith("#")
    )
    expected = {
        "realm_questions_total": 2, "realm_abstentions_total": 2, "realm_batch_size_sum": 2,
        'realm_edits_total{action="added"}': 1, 'realm_edits_total{action="removed"}': 1,
        "realm_queue_length": 0, "realm_documents": 12, "realm_passages": 12,
        'realm_request_seconds_count{endpoint="/v1/answer",method="POST"}': 1,
        'realm_request_seconds_count{endpoint="/v1/documents/{id:any}",method="PUT"}': 1,
        'realm_responses_total{endpoint="other",method="GET",status="404"}': 1,
    }  # fmt: skip
    assert {name: float(values[name]) for name in expected} == expected
    assert float(values["realm_snapshot_age_seconds"]) > 1e9


def test_requests_are_counted_while_they_run_but_health_checks_never(
    corpus: MemoryCorpus, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service(corpus)
    running: list[int] = []
    client = TestClient(create_app(service, Access(), page=page), base_url="http://localhost")
    for path in ("/v1/info", "/healthz", "/v1/info"):
        with monkeypatch.context() as patch:
            # Headers are added to what is sent: the request still runs.
            patch.setattr(gate._Response, "send", recorded(gate._Response.send, service, running))
            assert client.get(path).status_code == 200
        assert service.num_running == 0
    assert running == [1, 0, 1]


def recorded(send: Any, service: Service, running: list[int]) -> Any:
    """The function that sends, which first notes how many requests run when a response begins."""

    async def send_and_note(response: Any, message: Any) -> None:
        if message["type"] == "http.response.start":
            running.append(service.num_running)
        await send(response, message)

    return send_and_note


def test_only_abstentions_are_counted_as_such(
    corpus: MemoryCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [{"abstained": True}, {"abstained": False}, {"abstained": False}]
    monkeypatch.setattr(service_module, "answer_results", lambda *_: results)
    service = make_service(corpus)
    asyncio.run(service.answer([Asked(QUESTION, 1)] * 3, Manner()))
    assert service.metrics.abstentions._value.get() == 1


def test_methods_that_are_invented_do_not_add_up(corpus: MemoryCorpus, page: Path) -> None:
    client = TestClient(
        create_app(make_service(corpus), Access(), page=page), base_url="http://localhost"
    )
    for path in ("/healthz", "/v1/documents/x", "/nothing"):
        for method in ("INVENTED", "PATCH"):
            client.request(method, path)
    shown = client.get("/metrics").text
    for path in ("/healthz", "/v1/documents/{id:any}", "other"):
        name = f'realm_request_seconds_count{{endpoint="{path}",method="other"}} 2.0'
        assert name in shown.splitlines()
    assert "INVENTED" not in shown


def test_the_page_and_its_headers(client: TestClient) -> None:
    page = client.get("/")
    assert (page.status_code, page.text) == (200, "<title>small</title>")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert client.get("/static/page.css").text == "p { color: red }"
    for path in ("/", "/static/page.css", "/v1/info", "/nothing"):
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"].split("; ")
        assert policy[:2] == ["default-src 'none'", "script-src 'self'"]
        assert {"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} <= set(policy)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


def test_without_the_page_there_is_still_the_service(corpus: MemoryCorpus, tmp_path: Path) -> None:
    app = create_app(make_service(corpus), Access(), page=tmp_path / "none")
    client = TestClient(app, base_url="http://localhost")
    assert client.get("/").json()["detail"].startswith("this installation has no page")
    assert client.get("/static/page.css").status_code == 404
    assert client.get("/v1/info").status_code == 200


def test_a_run_without_a_reader_retrieves(corpus: MemoryCorpus, page: Path) -> None:
    lacking = {"missing": {"answer": "runs/x has no fine-tuned reader: run `realm finetune`"}}
    service = make_service(corpus, served=lacking)
    client = TestClient(create_app(service, Access(), page=page), base_url="http://localhost")
    problem = post(client, "/v1/answer", {"question": QUESTION}, 409)
    assert problem["detail"] == lacking["missing"]["answer"]
    assert post(client, "/v1/retrieve", {"queries": ["comet"]})["results"][0]["passages"]
    assert client.get("/v1/info").json()["can"]["answer"] is False


def test_batched_answers_are_those_of_one_alone(corpus: MemoryCorpus) -> None:
    view, manner = corpus.view(), Manner(num_passages=3, candidates=True)
    asked = [Asked(QUESTION, 1), Asked("Where is Tavil?", 4, 0.99), Asked("Who was Lind?", 2)]
    together = answer_results(view, VERSIONS, asked, manner)
    assert [len(result["answers"]) for result in together] == [1, 4, 2]
    for one, result in zip(asked, together, strict=True):
        (alone,) = answer_results(view, VERSIONS, [one], manner)
        assert [a["text"] for a in alone["answers"]] == [a["text"] for a in result["answers"]]
        assert alone["abstained"] == result["abstained"]
        for ours, theirs in zip(alone["candidates"], result["candidates"], strict=True):
            assert ours["passage_id"] == theirs["passage_id"]
            assert ours["reading_probability"] == pytest.approx(
                theirs["reading_probability"], rel=1e-3
            )


def test_an_edit_leaves_no_thread_that_computed(
    corpus: MemoryCorpus, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workers would slow down the thread that answers."""
    threads = []

    def put(documents: Any) -> Any:
        threads.append(threading.current_thread())
        return MemoryCorpus.put(corpus, documents)

    monkeypatch.setattr(corpus, "put", put)
    assert client.put("/v1/documents/passing", json=KELD).status_code == 200
    assert client.delete("/v1/documents/passing").status_code == 200
    (thread,) = threads
    assert not thread.is_alive()


def test_work_in_passing_gives_what_it_gave() -> None:
    threads: list[threading.Thread] = []

    def work() -> int:
        threads.append(threading.current_thread())
        return 7

    assert in_passing(work) == 7
    assert threads[0].daemon, "a process that ends does not wait for it"
    assert not threads[0].is_alive()
    with pytest.raises(ZeroDivisionError):
        in_passing(lambda: 1 / 0)


def test_the_end_is_told_how_long_it_may_take(
    corpus: MemoryCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge of the corpus may go on for longer."""
    given: list[float | None] = []
    monkeypatch.setattr(corpus, "close", lambda timeout=None: given.append(timeout))
    make_service(corpus).close(timeout=3.0)
    (seconds,) = given
    assert seconds is not None
    assert 0 < seconds <= 3.0
