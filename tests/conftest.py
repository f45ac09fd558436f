"""What holds in every test: no network, shapes checked, and a small world to work in."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import torch
from jaxtyping import install_import_hook
from tokenizers import Tokenizer

from small_world import make_tokenizer, write_corpus, write_trunk

if TYPE_CHECKING:
    from realm.corpus.store import PassageStore
    from realm.index.snapshot import Snapshot
    from realm.models.checkpoint import Model
    from realm.retrieval.lexical import LexicalIndex
    from realm.spans.annotate import SpanStore
    from realm.training.loop import Hooks, Training

# Before anything of realm is imported: its annotated functions and records check their shapes.
install_import_hook("realm", "shape_checks.check_shapes")
# Libraries that would ask a server first go straight to their caches.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# A busy machine is no failure.
hypothesis.settings.register_profile("any-machine", deadline=None)
hypothesis.settings.load_profile("any-machine")

_LOCAL = ("127.", "::1", "localhost")


@pytest.fixture(scope="session", autouse=True)
def _offline() -> Iterator[None]:
    """Fail the test that opens a connection which leaves the machine."""

    def guarded(connect: Callable[..., Any]) -> Callable[..., Any]:
        def refuse_or_connect(self: socket.socket, address: Any) -> Any:
            is_local = self.family == socket.AF_UNIX or str(address[0]).startswith(_LOCAL)
            if not is_local:
                pytest.fail(f"a test tried to reach {address}: tests are offline")
            return connect(self, address)

        return refuse_or_connect

    lookup = socket.getaddrinfo

    def guarded_lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name and not name.startswith((*_LOCAL, "0.0.0.0")):
            pytest.fail(f"a test looked up {name}: tests are offline")
        return lookup(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
        patch.setattr(socket, "getaddrinfo", guarded_lookup)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_measuring() -> Iterator[None]:
    """What is quickest differs from moment to moment: nothing is measured, unless a test asks."""
    from realm.models import precision

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "quickest_precision", lambda shape, use: "fp32")
        patch.setattr(precision, "quickest_attention", lambda *facts: "eager")
        patch.setattr(precision, "best_num_threads", lambda *facts: torch.get_num_threads())
        yield


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `corpus.jsonl` and `trunk/`; read it, do not write into it."""
    folder = tmp_path_factory.mktemp("small-world")
    write_corpus(folder / "corpus.jsonl")
    write_trunk(folder / "trunk", make_tokenizer())
    return folder


@pytest.fixture(scope="session")
def corpus_source(small_world: Path) -> Path:
    """Twelve short articles as JSON lines."""
    return small_world / "corpus.jsonl"


@pytest.fixture(scope="session")
def trunk_folder(small_world: Path) -> Path:
    """A tiny BERT without weights: two layers, 32 wide, reads 128 wordpieces."""
    return small_world / "trunk"


@pytest.fixture(scope="session")
def tokenizer_file(trunk_folder: Path) -> Path:
    """The `tokenizer.json` of the tiny trunk."""
    return trunk_folder / "tokenizer.json"


@pytest.fixture(scope="session")
def tokenizer(tokenizer_file: Path) -> Tokenizer:
    """The tokenizer of the tiny trunk."""
    return Tokenizer.from_file(str(tokenizer_file))


@pytest.fixture(scope="session")
def small_store(corpus_source: Path, tokenizer_file: Path, small_world: Path) -> "PassageStore":
    """The articles as twelve passages of two to four sentences, one for each article."""
    from realm.corpus.build import build_corpus
    from realm.corpus.passages import CorpusSettings

    settings = CorpusSettings(passage_tokens=64, num_workers=1)
    path = small_world / "corpus"
    return build_corpus([corpus_source], path, tokenizer_file=tokenizer_file, settings=settings)


@pytest.fixture(scope="session")
def small_spans(small_store: "PassageStore", small_world: Path) -> "SpanStore":
    """Names and dates in the passages; every passage has some."""
    from realm.spans.annotate import annotate

    return annotate(small_store, small_world / "spans")


@pytest.fixture(scope="session")
def small_lexical(small_store: "PassageStore", small_world: Path) -> "LexicalIndex":
    """BM25 over the passages."""
    from realm.retrieval.lexical import build_lexical_index

    return build_lexical_index(small_store, small_world / "lexical")


@pytest.fixture
def small_model(trunk_folder: Path) -> "Model":
    """A model on the tiny trunk, always with the same random weights; tests may change it."""
    from realm.examples.packing import PackingSettings
    from realm.models.checkpoint import new_model
    from realm.models.embedder import EmbedderSettings
    from realm.models.reader import ReaderSettings

    torch.manual_seed(0)
    return new_model(
        EmbedderSettings(trunk=str(trunk_folder), projection_width=16),
        ReaderSettings(trunk=str(trunk_folder), span_width=24, max_answer_tokens=4),
        PackingSettings(query_tokens=32, passage_tokens=64),
    )


@pytest.fixture
def small_snapshot(small_model: "Model", small_store: "PassageStore", tmp_path: Path) -> "Snapshot":
    """The passages as the small model sees them at first."""
    from realm.index.snapshot import write_snapshot

    path = tmp_path / "small-snapshot"
    return write_snapshot(path, small_model, small_store, checkpoint="start", step=0)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> "list[Training]":
    """Every training that a test runs, in order."""
    from realm.training.loop import Training

    trainings, run = [], Training.run

    def recorded(training: "Training", hooks: "Hooks") -> Path:
        trainings.append(training)
        return run(training, hooks)

    monkeypatch.setattr(Training, "run", recorded)
    return trainings
