"""What does the page get to see of a server, where no model has been trained?

A server in one thread that keeps documents in memory, finds sentences by their words in common
with the question and takes for the answer what has a capital letter or a digit. Its answers have
the form that the HTTP service promises.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

REPOSITORY = Path(__file__).parents[2]
STATIC = REPOSITORY / "src/realm/serving/static"
ARTICLES = REPOSITORY / "src/realm/demo/articles.jsonl"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
CONTENT_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
GAP = "[MASK]"
CAN_EVERYTHING = {"answer": True, "retrieve": True, "fill_mask": True, "edit": True, "add": True}
_SENTENCES_A_PASSAGE = 3
_WORD = re.compile(r"\w+")
_TELLING = re.compile(r"\d[\d,.]*\d|\d|[A-Z]\w+(?: [A-Z]\w+)*")
_FREQUENT = frozenset(
    _WORD.findall(
        "a an and are as at be by did do does for from had has he her his how in is it its of on "
        "or she that the their them they this to was were what when where which who whose why with"
    )
)


class Refused(Exception):
    """A problem that is told to the client."""

    def __init__(self, status: int, detail: str, field: str = "") -> None:
        super().__init__(detail)
        self.status, self.detail, self.field = status, detail, field


@dataclass(frozen=True)
class StoredPassage:
    passage_id: int
    document_id: str
    title: str
    text: str
    start: int  # character of the document


class StubCorpus:
    """Documents in memory, their passages and their words."""

    def __init__(self, articles: Path = ARTICLES) -> None:
        lines = articles.read_text(encoding="utf-8").splitlines()
        self.documents = {row["id"]: row for row in map(json.loads, lines)}
        self.base, self.num_edits, self.can = set(self.documents), 0, dict(CAN_EVERYTHING)

    @property
    def version(self) -> str:
        return f"3f9c2a71d04be85566aa01:{self.num_edits}"

    def passages(self) -> Iterator[StoredPassage]:
        number = 0
        for row in self.documents.values():
            for start, text in cut(row["text"]):
                yield StoredPassage(number, row["id"], row["title"], text, start)
                number += 1

    def summary(self, document_id: str) -> dict[str, Any]:
        row = self.documents[document_id]
        origin = "base" if document_id in self.base else "edited"
        num_passages = len(list(cut(row["text"])))
        return {
            "id": document_id, "title": row["title"], "num_passages": num_passages,
            "origin": origin,
        }  # fmt: skip

    def put(self, documents: list[dict[str, str]]) -> dict[str, Any]:
        for number, row in enumerate(documents):
            if not row["text"].strip():
                raise Refused(422, "The document has no text.", f"documents.{number}.text")
        edits = []
        for row in documents:
            action = "replaced" if row["id"] in self.documents else "added"
            self.documents[row["id"]] = row
            self.base.discard(row["id"])
            num_passages = self.summary(row["id"])["num_passages"]
            edits.append({"id": row["id"], "action": action, "num_passages": num_passages})
        self.num_edits += len(edits)
        return {"edits": edits, "corpus_version": self.version}

    def remove(self, document_id: str) -> dict[str, Any]:
        num_passages = len(list(cut(self.document(document_id)["text"])))
        del self.documents[document_id]
        self.num_edits += 1
        edit = {"id": document_id, "action": "removed", "num_passages": num_passages}
        return {"edits": [edit], "corpus_version": self.version}

    def document(self, document_id: str) -> dict[str, Any]:
        if document_id not in self.documents:
            raise Refused(404, f"There is no document {document_id!r}.")
        return {**self.documents[document_id], **self.summary(document_id)}

    def listed(self, text: str, after: str, limit: int) -> dict[str, Any]:
        found = sorted(
            i for i, row in self.documents.items()
            if i > after and text.lower() in f"{i} {row['title']} {row['text']}".lower()
        )  # fmt: skip
        following = found[limit - 1] if len(found) > limit else None
        return {"documents": [self.summary(i) for i in found[:limit]], "next": following}

    def retrieve(self, query: str, k: int) -> list[tuple[float, StoredPassage]]:
        asked = words(query)
        scored = [(overlap(asked, f"{p.title} {p.text}"), p) for p in self.passages()]
        return sorted(scored, key=lambda pair: (-pair[0], pair[1].passage_id))[:k]

    def info(self) -> dict[str, Any]:
        return {
            "name": "stub", "model": "stub-model-0c77", "snapshot": "stub-snapshot-51d2",
            "snapshot_age_seconds": 11_000.0, "corpus_version": self.version,
            "num_documents": len(self.documents), "num_passages": len(list(self.passages())),
            "can": self.can,
            "examples": [
                "In what year was Uranus recognised as a planet?",
                "Who turned the refractor of the Berlin Observatory to Neptune?",
                "How long does Neptune take to circle the Sun?",
                f"William Herschel was born in {GAP} in 1738.",
                f"Uranus needs {GAP} years to travel once around the Sun.",
            ],
        }  # fmt: skip


def cut(text: str) -> Iterator[tuple[int, str]]:
    """Passages of three sentences, each with the character where it starts."""
    ends = [found.end() for found in re.finditer(r"[.!?](?=\s)", text)]
    ends = [*ends[_SENTENCES_A_PASSAGE - 1 :: _SENTENCES_A_PASSAGE], len(text)]
    start = 0
    for end in ends:
        if text[start:end].strip():
            start += len(text[start:end]) - len(text[start:end].lstrip())
            yield start, text[start:end]
        start = end


@cache
def words(text: str) -> frozenset[str]:
    return frozenset({word for word in _WORD.findall(text.lower()) if word not in _FREQUENT})


def overlap(asked: frozenset[str], text: str) -> float:
    return len(asked & words(text)) / (len(asked) or 1)


def normalised(scores: list[float]) -> list[float]:
    """Scores as probabilities, the high ones made higher."""
    powers = [10 ** (5 * score) for score in scores]
    return [power / sum(powers) for power in powers]


def spans(question: str, text: str) -> list[tuple[float, int, int]]:
    """Telling words of a passage that are not in the question, best first, with their places."""
    asked, found = words(question), []
    begin = 0
    for part in re.split(r"(?<=[.!?])\s+", text):
        begin = text.index(part, begin)
        for telling in _TELLING.finditer(part):
            if words(telling[0]) and not words(telling[0]) & asked:
                score = overlap(asked, part) - (0.1 if telling.start() == 0 else 0.0)
                found.append((score, begin + telling.start(), begin + telling.end()))
    return sorted(found, key=lambda span: -span[0])


def answer(corpus: StubCorpus, body: dict[str, Any]) -> dict[str, Any]:
    question = required(body, "question")
    read = corpus.retrieve(question, body.get("num_passages", 5))
    beliefs = normalised([score for score, _ in read] + [0.1])
    best: dict[str, dict[str, Any]] = {}
    for belief, (score, passage) in zip(beliefs, read, strict=False):
        for likelihood, (_, start, end) in zip(
            (0.6, 0.2, 0.1), spans(question, passage.text), strict=False
        ):
            text = passage.text[start:end]
            best.setdefault(
                text, answer_of(passage, start, end, belief, belief * likelihood * score)
            )
    ranked = sorted(best.values(), key=lambda a: -a["probability"])
    answers = ranked[: body.get("top_k", 5)]
    least = body.get("min_probability", 0.0)
    result = {
        "question": question, "answers": answers, "null_probability": beliefs[-1],
        "abstained": not answers or answers[0]["probability"] < least,
        "model": "stub-model-0c77", "snapshot": "stub-snapshot-51d2",
        "corpus_version": corpus.version,
    }  # fmt: skip
    if body.get("candidates"):
        text = answers[0]["text"] if answers else ""
        result["candidates"] = candidates(read, beliefs, text)
    return result


def answer_of(
    passage: StoredPassage, start: int, end: int, belief: float, probability: float
) -> dict[str, Any]:
    return {
        "text": passage.text[start:end], "probability": probability,
        "document_id": passage.document_id,
        "start": passage.start + start, "end": passage.start + end,
        "passage": {
            "passage_id": passage.passage_id, "title": passage.title, "text": passage.text,
            "answer_start": start, "answer_end": end, "retrieval_probability": belief,
        },
    }  # fmt: skip


def candidates(
    read: list[tuple[float, StoredPassage]], beliefs: list[float], text: str
) -> list[dict[str, Any]]:
    found = []
    for belief, (score, passage) in zip(beliefs, read, strict=False):
        start = passage.text.find(text) if text else -1
        has = start >= 0
        found.append({
            "passage_id": passage.passage_id, "document_id": passage.document_id,
            "title": passage.title, "text": passage.text, "start": passage.start,
            "end": passage.start + len(passage.text), "retrieval_probability": belief,
            "reading_probability": 0.6 * score if has else 0.0,
            "contribution": belief * 0.6 * score if has else 0.0,
            "answer_start": start if has else None,
            "answer_end": start + len(text) if has else None,
        })  # fmt: skip
    null = {
        "passage_id": None, "document_id": None, "title": "", "text": "",
        "start": None, "end": None, "retrieval_probability": beliefs[-1],
        "reading_probability": 0.0, "contribution": 0.0, "answer_start": None, "answer_end": None,
    }  # fmt: skip
    return [*found, null]


def retrieve(corpus: StubCorpus, body: dict[str, Any]) -> dict[str, Any]:
    results = []
    for query in body["queries"]:
        passages = [
            {
                "passage_id": p.passage_id, "document_id": p.document_id, "title": p.title,
                "text": p.text, "score": score, "start": p.start, "end": p.start + len(p.text),
            }
            for score, p in corpus.retrieve(query, body.get("k", 5))
        ]  # fmt: skip
        results.append({"query": query, "passages": passages})
    return {
        "results": results, "snapshot": "stub-snapshot-51d2", "corpus_version": corpus.version
    }  # fmt: skip


def fill_mask(corpus: StubCorpus, body: dict[str, Any]) -> dict[str, Any]:
    text = required(body, "text")
    if GAP not in text:
        raise Refused(422, f"the text has no {GAP}: write {GAP} where words are missing", "text")
    read = corpus.retrieve(text.replace(GAP, ""), 5)
    beliefs = normalised([score for score, _ in read] + [0.1])
    proposed = [p.text[s:e] for _, p in read for _, s, e in spans(text, p.text)[:2]]
    fillings = [
        {"text": word, "probability": 0.5 * 0.6**n, "probability_without_retrieval": 0.02 / (n + 1)}
        for n, word in enumerate(dict.fromkeys([body.get("answer") or proposed[0], *proposed]))
    ][: body.get("top_k", 5)]
    without = [
        {"text": word, "probability": 0.01, "probability_without_retrieval": 0.3 / (n + 1)}
        for n, word in enumerate(["London", "Paris", "Rome", "the", "Vienna"])
    ]
    null = {
        "passage_id": None, "document_id": None, "title": "", "text": "",
        "start": None, "end": None, "retrieval_probability": beliefs[-1],
        "answer_probability": 0.02, "retrieval_utility": 0.0,
    }  # fmt: skip
    rows = [
        {
            "passage_id": p.passage_id, "document_id": p.document_id, "title": p.title,
            "text": p.text, "start": p.start, "end": p.start + len(p.text),
            "retrieval_probability": belief,
            "answer_probability": 0.8 * score, "retrieval_utility": 3.5 * score - 0.9,
        }
        for belief, (score, p) in zip(beliefs, read, strict=False)
    ]  # fmt: skip
    return {
        "query": text, "answer": fillings[0], "retrieval_utility": 1.37,
        "candidates": [null, *rows], "fillings": fillings, "fillings_without_retrieval": without,
    }  # fmt: skip


def required(body: dict[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not value.strip():
        raise Refused(422, f"The {field} is empty: give a {field}.", field)
    return value


class Handler(BaseHTTPRequestHandler):
    """Answers one request; the server holds the corpus."""

    protocol_version = "HTTP/1.1"
    corpus: StubCorpus

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/":
            self._file(STATIC / "index.html")
        elif path.startswith("/static/"):
            self._file(STATIC / Path(path).name)
        else:
            self._answer(lambda body: self._get(path))

    def do_POST(self) -> None:
        actions: dict[str, Callable[[StubCorpus, dict[str, Any]], dict[str, Any]]] = {
            "/v1/answer": answer,
            "/v1/retrieve": retrieve,
            "/v1/fill-mask": fill_mask,
            "/v1/documents": lambda corpus, body: corpus.put(body["documents"]),
        }
        self._answer(lambda body: actions[self.path](self.corpus, body))

    def do_DELETE(self) -> None:
        self._answer(lambda body: self.corpus.remove(self._document_id()))

    def _get(self, path: str) -> dict[str, Any]:
        if path == "/v1/info":
            return self.corpus.info()
        if path == "/v1/documents":
            query = {
                name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()
            }
            limit = int(query.get("limit", "50"))
            return self.corpus.listed(query.get("text", ""), query.get("after", ""), limit)
        return self.corpus.document(self._document_id())

    def _document_id(self) -> str:
        return unquote(urlsplit(self.path).path.removeprefix("/v1/documents/"))

    def _answer(self, act: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, content, kind = 200, act(json.loads(body or b"{}")), "application/json"
        except Refused as refused:
            status, kind = refused.status, "application/problem+json"
            content = {"type": "about:blank", "title": "Refused", "status": status}
            content |= {"detail": refused.detail, "field": refused.field}
        self._send(status, json.dumps(content).encode(), kind)

    def _file(self, path: Path) -> None:
        if path.is_file():
            self._send(200, path.read_bytes(), CONTENT_TYPES[path.suffix])
        else:
            self._send(404, b"", "text/plain")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def stub_server(corpus: StubCorpus) -> Iterator[str]:
    """Serve until the block is left; yields the server's address."""
    handler = type("HandlerOfCorpus", (Handler,), {"corpus": corpus})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
