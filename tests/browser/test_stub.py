"""Does the stub keep to what the service promises, so that the page is tested on the truth?"""

import json
import urllib.request
from typing import Any

import pytest
from stub_server import POLICY, StubCorpus, stub_server

from realm.serving import gate, responses

DOCUMENT = {"id": "quillan", "title": "Quillan", "text": "Quillan Marsh has a lighthouse."}
CALLS: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "AnswerResult": ("POST", "/v1/answer", {"question": "Who found Uranus?", "candidates": True}),
    "RetrieveResults": ("POST", "/v1/retrieve", {"queries": ["Uranus", "Neptune"]}),
    "FillMaskResult": ("POST", "/v1/fill-mask", {"text": "Uranus was found by [MASK]."}),
    "DocumentList": ("GET", "/v1/documents?limit=3", None),
    "EditResult": ("POST", "/v1/documents", {"documents": [DOCUMENT]}),
    "DocumentOut": ("GET", "/v1/documents/quillan", None),
    "Info": ("GET", "/v1/info", None),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_it_sends_is_what_the_service_sends(name: str) -> None:
    method, path, body = CALLS[name]
    corpus = StubCorpus()
    corpus.put([DOCUMENT])
    content = None if body is None else json.dumps(body).encode()
    with stub_server(corpus) as address:
        request = urllib.request.Request(address + path, content, method=method)
        with urllib.request.urlopen(request, timeout=20) as response:
            sent = json.load(response)
            policy = response.headers["Content-Security-Policy"]
    model = getattr(responses, name)
    assert model.model_validate(sent).model_dump(exclude_unset=True) == sent
    assert policy == POLICY == gate._HEADERS["Content-Security-Policy"]
