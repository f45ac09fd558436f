"""What does an operator see of the service's work (Prometheus)?

One registry for each service, so that two in one process do not share their counts.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """All counts of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.request_seconds = Histogram(
            "realm_request_seconds", "Time until a response was sent.",
            ("method", "endpoint"), buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.responses = Counter(
            "realm_responses", "Responses by status.",
            ("method", "endpoint", "status"), registry=self.registry,
        )  # fmt: skip
        self.batch_size = Histogram(
            "realm_batch_size", "Questions that were worked on together.",
            buckets=_SIZES, registry=self.registry,
        )  # fmt: skip
        self.questions = Counter(
            "realm_questions", "Questions that were answered.", registry=self.registry
        )
        self.abstentions = Counter(
            "realm_abstentions", "Questions that the service abstained from.",
            registry=self.registry,
        )  # fmt: skip
        self.edits = Counter(
            "realm_edits", "Documents that were edited.", ("action",), registry=self.registry
        )

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Ask for a value whenever the metrics are read."""
        Gauge(name, meaning, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All of them, in the form that Prometheus reads."""
        return generate_latest(self.registry)
