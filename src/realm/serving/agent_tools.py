"""Which tools does an agent get over the Model Context Protocol?

Three that read: `search`, `ask` and `read_document`. Results are those of the HTTP service.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from realm.errors import RealmError
from realm.serving.ports import Corpus
from realm.serving.results import Asked, Versions, answer_results, retrieval_results
from realm.serving.schema import Offset, QuestionText, TopK

_INSTRUCTIONS = (
    "Search a collection of documents by meaning, ask it questions, and read its documents. "
    "Answers are spans of the documents, each with the passage that it stands in; where "
    "`abstained` is true none of them is to be relied on. `start` and `end` count characters of "
    "the document, as read_document does."
)
_READS_ONLY = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_MOST_CHARACTERS = 100_000  # of a document at once


def agent_tools(
    name: str, corpus: Corpus, versions: Versions, *, missing_answers: str = ""
) -> MCPServer[Any]:
    """A server with the three tools; `missing_answers` says why the run answers no questions."""
    server: MCPServer[Any] = MCPServer(
        f"realm: {name}", version=version("realm-lm"), instructions=_INSTRUCTIONS,
        log_level="WARNING",
    )  # fmt: skip
    one_at_a_time = threading.Lock()  # the model works for one caller

    @server.tool(annotations=_READS_ONLY)
    def search(query: QuestionText, k: TopK = 5) -> dict[str, Any]:
        """Find the passages that fit a query best, by meaning, with the ids of their documents."""
        with one_at_a_time, _told():
            return retrieval_results(corpus.view(), [query], k)[0]

    @server.tool(annotations=_READS_ONLY)
    def ask(question: QuestionText, top_k: TopK = 3) -> dict[str, Any]:
        """Answer a question with spans of the documents, each with the passage it stands in."""
        if missing_answers:
            raise ToolError(missing_answers)
        with one_at_a_time, _told():
            return answer_results(corpus.view(), versions, [Asked(question, top_k)])[0]

    @server.tool(annotations=_READS_ONLY)
    def read_document(
        document_id: Annotated[str, Field(min_length=1)],
        start: Offset = 0,
        max_characters: Annotated[int, Field(ge=1, le=_MOST_CHARACTERS)] = 20_000,
    ) -> dict[str, Any]:
        """Read a document, or a part of a long one, by the id that search and ask give."""
        with _told():
            document = corpus.document(document_id)
        end = min(len(document.text), start + max_characters)
        return {
            "document_id": document_id,
            "title": document.title,
            "text": document.text[start:end],
            "start": start,
            "end": max(start, end),
            "num_characters": len(document.text),
        }

    return server


@contextmanager
def _told() -> Iterator[None]:
    """Tell the agent what it can mend."""
    try:
        yield
    except RealmError as error:
        raise ToolError(str(error)) from error
