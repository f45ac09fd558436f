"""Does `realm serve` start, answer, refuse and stop as a process of its own?"""

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from realm.stages import Run
from small_run import make_run, served

READER = "reader-token-0123456789"
QUESTION = "Where is Tavil?"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, corpus_source: Path, trunk_folder: Path) -> Run:
    path = tmp_path_factory.mktemp("runs") / "small"
    return make_run(path, corpus_source, trunk_folder, names=("pretrain", "finetune"))


def get(address: tuple[str, int], path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{address[0]}:{address[1]}{path}", data=content)
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_life(run: Run, tmp_path: Path) -> None:
    """Starts, asks for tokens, answers as the command line does, and ends what it began."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"read {READER}\n", encoding="utf-8")
    tokens.chmod(0o644)
    with served(run.path, "--port", "0", "--token-file", tokens) as (process, address, said):
        assert address[0] == "127.0.0.1"
        assert said[:-1] == [
            f"other users of this machine can read {tokens}: run `chmod 600 {tokens}`"
        ]
        assert get(address, "/v1/info")[0] == 401
        assert get(address, "/v1/info", token="wrong-token-0123456789")[0] == 401
        info = get(address, "/v1/info", token=READER)[1]
        assert info["name"] == "small"
        assert info["can"] == {
            "answer": True,
            "retrieve": True,
            "fill_mask": True,
            "edit": False,
            "add": False,
        }
        assert info["examples"] == ["Where is Tavil?", "Who is Lind?"]
        status, result = get(address, "/v1/answer", {"question": QUESTION}, READER)
        assert status == 200
        assert result["model"] == info["model"]
        filled = get(address, "/v1/fill-mask", {"text": "Tavil is a [MASK]."}, READER)
        assert (filled[0], len(filled[1]["candidates"])) == (200, 4)
        with socket.create_connection(address) as unfinished:
            finish_after_the_signal(process, address, unfinished)
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    assert [line["endpoint"] for line in lines].count("/v1/answer") == 2
    assert not any(QUESTION in json.dumps(line) for line in lines), "questions are not logged"


def test_what_was_acknowledged_survives_a_kill(
    tmp_path: Path, corpus_source: Path, trunk_folder: Path
) -> None:
    run = make_run(tmp_path / "run", corpus_source, trunk_folder, names=("pretrain", "finetune"))
    documents = [{"id": f"log/{n}", "text": f"Entry {n} of the log."} for n in range(3)]
    with served(run.path, "--port", "0") as (process, address, _):
        assert get(address, "/v1/documents", {"documents": documents})[0] == 200
        process.kill()
        process.wait()
    with served(run.path, "--port", "0") as (_, address, _):
        for document in documents:
            status, kept = get(address, f"/v1/documents/{document['id']}")
            assert (status, kept["text"]) == (200, document["text"])
        body = {"queries": ["Entry 2 of the log."], "k": 100}
        (result,) = get(address, "/v1/retrieve", body)[1]["results"]
        found = [p["document_id"] for p in result["passages"]]
        assert {d["id"] for d in documents} <= set(found)


def test_questions_are_logged_where_that_is_asked_for(run: Run) -> None:
    with served(run.path, "--port", "0", "--log-questions") as (process, address, _):
        assert get(address, "/v1/answer", {"question": QUESTION})[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None
        assert QUESTION in process.stderr.read()


def finish_after_the_signal(
    process: "subprocess.Popen[str]", address: tuple[str, int], connection: socket.socket
) -> None:
    """Tell the server to stop between two halves of a request: it is answered all the same."""
    body = json.dumps({"question": QUESTION}).encode()
    head = (
        "POST /v1/answer HTTP/1.1", "Host: localhost", f"Authorization: Bearer {READER}",
        "Content-Type: application/json", f"Content-Length: {len(body)}", "", "",
    )  # fmt: skip
    connection.sendall("\r\n".join(head).encode() + body[:5])
    # It is counted as soon as its head is there.
    running = ""
    while "realm_requests_running 2.0" not in running:
        request = urllib.request.Request(f"http://{address[0]}:{address[1]}/metrics")
        request.add_header("Authorization", f"Bearer {READER}")
        with urllib.request.urlopen(request, timeout=20) as response:
            running = response.read().decode()
    assert get(address, "/readyz")[0] == 200
    process.send_signal(signal.SIGTERM)
    until = time.monotonic() + 10
    while get(address, "/readyz")[0] != 503:
        assert time.monotonic() < until
    assert get(address, "/v1/answer", {"question": "Who?"}, READER)[0] == 503
    assert process.poll() is None
    connection.sendall(body[5:])
    with connection.makefile("rb") as response:
        assert response.readline() == b"HTTP/1.1 200 OK\r\n"
