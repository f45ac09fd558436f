"""What does the service do, whatever way a request came in?

Questions go through one queue to the thread that owns the model, edits through another to a
thread of their own: neither waits for the other.
"""

import logging
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import Field

from realm.config import Settings, override, read_settings
from realm.corpus.documents import Document
from realm.evaluation.fill_mask import MaskFiller
from realm.living.state import Edit
from realm.living.view import View
from realm.serving.batching import Batcher
from realm.serving.metrics import Metrics
from realm.serving.ports import Corpus
from realm.serving.problems import ProblemError
from realm.serving.results import Asked, Json, Manner, Versions, answer_results, retrieval_results
from realm.serving.threads import in_passing

QUESTION_LOG = logging.getLogger("realm.serving.questions")


class ServiceLimits(Settings):
    """How much the service takes on at once."""

    batch_size: int = Field(default=16, ge=1)
    """Questions that are answered together."""
    batch_passages: int = Field(default=160, ge=1)
    """Passages that are read together: fewer questions where each asks for many, but always one."""
    queue_size: int = Field(default=256, ge=1)
    """Questions that may wait; more are sent away with 503, unless none waits before them."""
    deadline_seconds: float = Field(default=30.0, gt=0)
    """How long a request may take, an edit until it is begun; then 504."""
    max_body_bytes: int = Field(default=1_000_000, ge=1)
    """Largest body of a request with questions."""
    max_document_bytes: int = Field(default=16_000_000, ge=1)
    """Largest body of a request with documents."""

    def with_rights(self, *, can_edit: bool, log_questions: bool) -> "ServiceSettings":
        """The same with what options of their own decide."""
        rights = {"can_edit": can_edit, "log_questions": log_questions}
        return ServiceSettings(**self.model_dump(), **rights)


class ServiceSettings(ServiceLimits):
    """The limits, and what options of their own decide."""

    can_edit: bool = True
    log_questions: bool = False


def service_limits(assignments: Sequence[str]) -> ServiceLimits:
    """The usual limits with some changed (`queue_size=64`).

    Raises:
        SettingError: an unknown name or an impossible value.
    """
    values = override(ServiceLimits().model_dump(), assignments)
    return read_settings(ServiceLimits, values, origin="--set service")


@dataclass(frozen=True)
class Served:
    """What is known of the run that is served; it does not change while it is."""

    name: str
    versions: Versions
    snapshot_made: float
    """Seconds since the epoch."""
    examples: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    """What the run lacks for `answer`, `fill_mask` or `add`, each in a sentence."""
    mask_filler: Callable[[View], MaskFiller] | None = None


@dataclass(frozen=True)
class _Retrieve:
    """The group of queries whose `k` best passages are wanted."""

    k: int


@dataclass(frozen=True, eq=False)
class _Fill:
    """One text with gaps; equal to no other, so that it is a batch of its own."""

    answer: str
    top_k: int
    retrieval: bool


class Service:
    """One corpus, one model, and the queues before them."""

    def __init__(self, corpus: Corpus, served: Served, settings: ServiceSettings) -> None:
        self.corpus, self.served, self.settings = corpus, served, settings
        self.metrics = Metrics()
        self.is_draining = False
        self.num_running = 0
        self._questions = Batcher(
            self._work, name="questions", batch_size=self._batch_size,
            queue_size=settings.queue_size, deadline=settings.deadline_seconds,
            on_batch=self.metrics.batch_size.observe,
        )  # fmt: skip
        self._edits = Batcher(
            self._edit, name="edits", batch_size=lambda edits: 1, queue_size=settings.queue_size,
            deadline=settings.deadline_seconds, sees_through=True,
        )  # fmt: skip
        self._watch()

    async def answer(self, asked: Sequence[Asked], manner: Manner) -> list[Json]:
        """Answer questions, together with those of others."""
        self._require("answer")
        results = await self._questions.submit(manner, asked)
        self.metrics.questions.inc(len(results))
        self.metrics.abstentions.inc(sum(result["abstained"] for result in results))
        return results

    async def retrieve(self, queries: Sequence[str], k: int) -> tuple[list[Json], str]:
        """The best passages of each query, and the version of the corpus they are from.

        Where an edit came between them, the version is that of the last.
        """
        found = await self._questions.submit(_Retrieve(k), queries)
        return [passages for passages, _ in found], found[-1][1]

    async def fill_mask(self, text: str, answer: str, top_k: int, *, retrieval: bool) -> Json:
        """Fill the gaps of one text."""
        self._require("fill_mask")
        (filled,) = await self._questions.submit(_Fill(answer, top_k, retrieval), [text])
        return dict(filled)

    async def put(self, documents: Sequence[Document]) -> Json:
        """Add or replace documents, all or none."""
        (result,) = await self._edits.submit("edits", [lambda: self.corpus.put(documents)])
        return dict(result)

    async def remove(self, ids: Sequence[str]) -> Json:
        """Remove documents, all or none."""
        (result,) = await self._edits.submit("edits", [lambda: self.corpus.remove(ids)])
        return dict(result)

    @property
    def can(self) -> dict[str, bool]:
        """What the service does for this run."""
        missing = self.served.missing
        return {
            "answer": "answer" not in missing,
            "retrieve": True,
            "fill_mask": "fill_mask" not in missing,
            "edit": self.settings.can_edit,
            "add": self.settings.can_edit and "add" not in missing,
        }

    @property
    def snapshot_age_seconds(self) -> float:
        """Since the passages were embedded; those that were edited since are younger."""
        return max(0.0, time.time() - self.served.snapshot_made)

    def close(self, timeout: float = 5.0) -> None:
        """Begin no more work, and let go of the corpus: all within so many seconds."""
        until = time.monotonic() + timeout

        def left() -> float:
            return max(0.0, until - time.monotonic())

        # A corpus that a thread still works with is left: what was acknowledged is on disk.
        if all([self._questions.close(left()), self._edits.close(left())]):
            self.corpus.close(left())

    def _require(self, use: str) -> None:
        if use in self.served.missing:
            raise ProblemError(409, self.served.missing[use])

    def _batch_size(self, group: Hashable) -> int:
        """How many questions of a group are worked on together."""
        size = self.settings.batch_size
        if isinstance(group, Manner) and group.num_passages is not None:
            size = min(size, self.settings.batch_passages // group.num_passages)
        return max(1, size)

    def _work(self, group: Hashable, items: list[Any]) -> Sequence[Any]:
        """One batch, on one view of the corpus."""
        view, served = self.corpus.view(), self.served
        match group:
            case Manner():
                self._log([one.question for one in items])
                return answer_results(view, served.versions, items, group)
            case _Retrieve():
                self._log(items)
                found = retrieval_results(view, items, group.k)
                return [(passages, view.version) for passages in found]
            case _Fill():
                self._log(items)
                assert served.mask_filler is not None
                filler = served.mask_filler(view)
                if not group.retrieval:
                    filler = filler.without_retrieval()
                filled = filler.fill(items[0], answer=group.answer, top_k=group.top_k)
                return [filled.as_dict()]
        raise AssertionError(group)

    def _edit(self, _: Hashable, changes: list[Callable[[], Sequence[Edit]]]) -> Sequence[Json]:
        """One edit, all in one group so that they stay in order; their thread is their lock."""
        edits = in_passing(changes[0])
        for edit in edits:
            self.metrics.edits.labels(edit.action).inc()
        return [{"edits": list(map(asdict, edits)), "corpus_version": self.corpus.version}]

    def _log(self, questions: Sequence[str]) -> None:
        if self.settings.log_questions:
            for question in questions:
                QUESTION_LOG.info("question", extra={"facts": {"question": question}})

    def _watch(self) -> None:
        watch, corpus = self.metrics.watch, self.corpus
        watch("realm_queue_length", "Questions that wait.", lambda: len(self._questions))
        watch("realm_edit_queue_length", "Edits that wait.", lambda: len(self._edits))
        watch("realm_requests_running", "Requests in progress.", lambda: self.num_running)
        watch(
            "realm_snapshot_age_seconds", "Since the passages were embedded.",
            lambda: self.snapshot_age_seconds,
        )  # fmt: skip
        watch("realm_documents", "Documents in the corpus.", lambda: corpus.num_documents)
        watch("realm_passages", "Passages in the corpus.", lambda: corpus.num_passages)
