"""Does the service keep to its own description, whatever is sent to it?"""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from memory_corpus import MemoryCorpus, make_corpus, make_service
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from starlette.testclient import TestClient

from realm.corpus.documents import Document
from realm.living.view import View
from realm.serving.app import App, create_app
from realm.serving.gate import Access

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
NUM_EXAMPLES = 15
OPERATIONS = {
    "answer", "retrieve", "fill_mask", "list_documents", "get_document", "put_documents",
    "put_document", "delete_document", "info", "healthz", "readyz", "metrics",
}  # fmt: skip
TAKE_NOTHING = {"info", "healthz", "readyz", "metrics"}


class QuickCorpus(MemoryCorpus):
    """Keeps the documents, and embeds those that it began with alone."""

    def _build(self, documents: dict[str, Document]) -> View:
        return self._view if hasattr(self, "_view") else super()._build(documents)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, trunk_folder: Path, corpus_source: Path) -> App:
    folder = tmp_path_factory.mktemp("corpus")
    corpus = make_corpus(folder, trunk_folder, corpus_source, kind=QuickCorpus)
    return create_app(make_service(corpus), Access(hosts=()))


def operations(description: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        operation["operationId"]: operation
        for operations in description["paths"].values()
        for operation in operations.values()
    }


def bodies(description: dict[str, Any]) -> set[str]:
    """Everything that is sent or received whole, but for what says that a service lives."""
    contents = [
        content
        for operation in operations(description).values()
        for sent in (
            operation.get("requestBody", {"content": {}}),
            *operation["responses"].values(),
        )
        for content in sent["content"].values()
    ]
    schemas = [content["schema"] for content in contents if "schema" in content]
    every = [one for schema in schemas for one in schema.get("anyOf", [schema])]
    return {one["$ref"].split("/")[-1] for one in every if "$ref" in one} - {"Health"}


def test_the_description_is_complete(app: App) -> None:
    description = app.openapi()
    found = operations(description)
    assert set(found) == OPERATIONS
    for name, operation in found.items():
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        for status, response in operation["responses"].items():
            assert response["description"], (name, status)
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], (name, status)
        for parameter in operation.get("parameters", []):
            assert parameter["description"], (name, parameter["name"])
            assert parameter["schema"]["examples"], (name, parameter["name"])
        is_open = name in ("healthz", "readyz")
        assert ("security" in operation) != is_open, name
    schemas = description["components"]["schemas"]
    for name, schema in schemas.items():
        assert schema.get("description"), f"{name} says nothing of itself"
    for name in bodies(description):
        assert schemas[name]["examples"], name
    assert "HTTPValidationError" not in schemas


def test_examples_are_examples(app: App) -> None:
    """Those of responses fit their schema; those of requests are answered (below)."""
    from realm.serving import responses, schema

    schemas = app.openapi()["components"]["schemas"]
    shown = [name for name in schemas if schemas[name].get("examples")]
    assert len(shown) >= 8
    for name in shown:
        for example in schemas[name]["examples"]:
            place = responses if hasattr(responses, name) else schema
            getattr(place, name).model_validate(example)
    shown_as_parameters = set()
    for operation in operations(app.openapi()).values():
        for parameter in operation.get("parameters", []):
            shown_as_parameters.add(parameter["name"])
            for example in parameter["schema"]["examples"]:
                if parameter["in"] == "query":
                    schema.ListQuery.model_validate({parameter["name"]: example})
    assert shown_as_parameters == {"id", "text", "after", "limit"}


@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, GenerationMode.POSITIVE) for name in sorted(OPERATIONS)]
    + [(name, GenerationMode.NEGATIVE) for name in sorted(OPERATIONS - TAKE_NOTHING)],
)
def test_whatever_is_sent(app: App, name: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operation = schema.find_operation_by_id(name)

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=NUM_EXAMPLES, derandomize=True, database=None, deadline=None,
        phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def send(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    send()


def test_parameters_that_nobody_knows(app: App) -> None:
    client = TestClient(app)
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            response = client.request(method, f"{path}?surprise=1", json={})
            assert response.status_code == 422, (method, path)
            assert response.json()["field"] == "surprise"
