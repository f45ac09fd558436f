"""How do many edits become one memory-mapped piece beside the base corpus?

A segment is a corpus like any other, and a snapshot of it: opened in milliseconds, shared among
processes. It holds the documents that edits have left, and is replaced whole by the next one.
"""

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Float
from torch import Tensor

from realm.artifact import create_artifact, is_finished, remove_artifact, sync_directory
from realm.corpus.build import counts_of
from realm.corpus.columns import Batch, CorpusWriter, make_batch
from realm.corpus.store import KIND, TOKENIZER, PassageStore
from realm.index.snapshot import Snapshot, keep_embeddings, write_snapshot
from realm.living.documents import cut_of
from realm.models.checkpoint import Model
from realm.progress import Progress

_PREFIX = "segment-"
_CORPUS = "corpus"
_DOCUMENTS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Placed:
    """A document in a store, and the id of its first passage."""

    store: PassageStore
    document_row: int
    first_passage_id: int


def segment_name(sequence: int) -> str:
    """The folder of the segment of all edits up to that sequence number."""
    return f"{_PREFIX}{sequence}"


def write_segment(path: Path, documents: Sequence[Placed], base: PassageStore) -> PassageStore:
    """Write documents as a corpus of their own, in which they keep the ids of their passages."""
    path.mkdir(parents=True, exist_ok=True)
    sync_directory(path.parent)
    vocabulary_size = base.tokenizer.get_vocab_size()
    settings = base.settings.model_dump(exclude={"num_workers"})
    with TemporaryDirectory(dir=path, prefix=".") as unfinished:
        writer = CorpusWriter(Path(unfinished), path.name, vocabulary_size=vocabulary_size)
        with (
            writer,
            create_artifact(
                path / _CORPUS, KIND, settings=settings, inputs={"base": base.fingerprint}
            ) as staging,
        ):
            for begin in range(0, len(documents), _DOCUMENTS_AT_ONCE):
                few = documents[begin : begin + _DOCUMENTS_AT_ONCE]
                writer.append(_batch(few, writer.num_passages))
            writer.finish(staging.path)
            shutil.copyfile(base.path / TOKENIZER, staging.path / TOKENIZER)
            staging.counts = counts_of(staging.path)
    return open_segment(path)


def open_segment(path: Path) -> PassageStore:
    """Open the documents of a segment; its files may go while it is in use."""
    return PassageStore.open(path / _CORPUS).map_all()


def keep_segment_vectors(
    path: Path, vectors: Float[Tensor, "passages dim"], store: PassageStore, like: Snapshot
) -> None:
    """Keep the embeddings of a segment's passages beside it, as wide as they are.

    Wider ones would take twice the room, and more time: those of all parts are scanned together.
    """
    null, checkpoint, dtype = like.null_embedding, like.checkpoint, vectors.numpy().dtype.type
    keep_embeddings(path / checkpoint, vectors, null, store, checkpoint=checkpoint, dtype=dtype)


def segment_vectors(
    path: Path, store: PassageStore, model: Model, like: Snapshot, progress: Progress
) -> Float[Tensor, "passages dim"]:
    """The embeddings of a segment's passages by the embedder of a snapshot, made if missing."""
    own = path / like.checkpoint
    if is_finished(own):
        return Snapshot.open(own, store).embeddings
    with progress("added passages embedded by the run's new embedder", len(store)) as advance:
        return write_snapshot(
            own, model, store, checkpoint=like.checkpoint, step=like.step,
            on_progress=lambda done: advance(done, ""),
        ).embeddings  # fmt: skip


def remove_segments_except(folder: Path, names: Collection[str]) -> None:
    """Remove all segments but the named ones: older ones, and what a killed merge left."""
    for path in folder.glob(f"{_PREFIX}*"):
        if path.name not in names:
            remove_artifact(path)


def _batch(documents: Sequence[Placed], num_before: int) -> Batch:
    cuts = [cut_of(placed.store, placed.document_row) for placed in documents]
    batch = make_batch([p.store.document_at(p.document_row) for p in documents], cuts)
    ids = [
        placed.first_passage_id + np.arange(len(cut.passages))
        for placed, cut in zip(documents, cuts, strict=True)
    ]
    # The writer numbers passages as they come, so it is told how far each id is from that.
    numbers = {**batch.numbers, "passage_ids": np.concatenate(ids) - num_before}
    return Batch(batch.documents, batch.texts, numbers)
