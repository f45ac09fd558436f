"""What do the benchmarks work on? Real passages, an untrained model and its index, made once.

Every size is an ordinary run directory under the cache: started again, its stages are opened.
Where speed alone is measured, the whole corpus may do with vectors made up from those of a part:
each a real embedding with noise, so that neighbourhoods stay uneven.
"""

import gzip
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness import Bench
from realm.artifact import is_finished, read_manifest
from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.examples.question import Question, read_questions
from realm.experiment import Experiment, expand, read_recipe, with_overrides
from realm.index.snapshot import Snapshot, keep_embeddings
from realm.models.checkpoint import Model, load_model
from realm.models.precision import ComputeSettings
from realm.models.trunk import locate_trunk, max_positions
from realm.stages import Run

Extent = Literal["tiny", "2000", "6000", "20000", "corpus"]
"""Passages, about; `corpus` is all there is."""
# Documents of the gold paragraphs and of whole articles; an article has about three passages.
_DOCUMENTS = {"2000": (400, 480), "6000": (400, 1_750), "20000": (2_559, 5_250)}
_PART: Extent = "20000"  # of the corpus: embedding this much takes minutes
_NOISE = 0.6  # of a vector's length, before it is brought back to length one
_TINY = 40  # articles of the encyclopedia that ships, so that nothing else has to be there
_GOLD = "${REALM_DATA}/corpora/gold.jsonl.gz"
_ARTICLES = "${REALM_DATA}/corpora/wiki-00.jsonl.gz"
_ALL = (_GOLD, *(f"${{REALM_DATA}}/corpora/wiki-{number:02}.jsonl.gz" for number in range(10)))
_QUESTIONS = {
    "tiny": ("${REALM_DEMO}/questions-test.jsonl",),
    "data": ("${REALM_DATA}/openqa/qed-train.jsonl", "${REALM_DATA}/openqa/squad-train.jsonl"),
}


@dataclass(frozen=True)
class World:
    """A run that has come to its index, which may have been made up from that of another."""

    run: Run
    snapshot: Snapshot
    trained: Run
    """The run whose model embedded."""
    note: str = ""
    """What is not as it seems."""

    @property
    def store(self) -> PassageStore:
        """The passages."""
        return self.run.corpus()

    def model(self) -> Model:
        """The model as the run starts with it, ready to compute."""
        return at_work(load_model(self.trained.checkpoint("start")))

    def passages(self) -> Path:
        """A file of title and text of every passage, one JSON line each, for the peers."""
        file = self.run.path / "passages.jsonl"
        if not file.is_file():
            store = self.store
            rows = (store.passage(row) for row in range(len(store)))
            write_lines(file, ({"title": row.title, "text": row.text} for row in rows))
        return file


def open_world(bench: Bench, extent: Extent) -> World:
    """Open the run of that extent, or make it."""
    run = _run(bench, extent)
    run.start()
    return World(run, run.snapshot("start"), run)


def open_world_to_search(bench: Bench, extent: Extent) -> World:
    """The same, but of the whole corpus vectors are made up where nobody embedded it."""
    if _is_embedded(bench, extent):
        return open_world(bench, extent)
    run, part = _run(bench, extent), open_world(bench, _PART)
    store, null = run.corpus(), part.snapshot.null_embedding
    checkpoint = read_manifest(part.trained.checkpoint("start")).fingerprint
    path = run.path / f"made-up-{checkpoint}"
    vectors, note = vectors_to_search(bench, extent, len(store))
    if not is_finished(path):
        keep_embeddings(path, vectors, null, store, checkpoint=checkpoint, dtype=np.float16)
    return World(run, Snapshot.open(path, store), part.trained, note)


def vectors_to_search(bench: Bench, extent: Extent, count: int) -> tuple[Tensor, str]:
    """So many embeddings in single precision and how they were made.

    Of the whole corpus its own, however many they are, where somebody embedded it.
    """
    is_whole, is_embedded = extent == "corpus", _is_embedded(bench, extent)
    real = open_world(bench, extent if is_embedded else _PART).snapshot.embeddings.float()
    if is_whole and is_embedded:
        return real, ""
    return with_noise(real, count, seed=0), f"vectors made up from {len(real):,} real ones"


def with_noise(vectors: Tensor, count: int, *, seed: int) -> Tensor:
    """So many vectors, each a random one of these with noise, of the same length as before."""
    generator = torch.Generator().manual_seed(seed)
    chosen = vectors[torch.randint(len(vectors), (count,), generator=generator)]
    length: Tensor = chosen.norm(dim=-1, keepdim=True)
    noise = torch.randn(chosen.shape, generator=generator) / chosen.shape[1] ** 0.5
    return torch.nn.functional.normalize(chosen / length + _NOISE * noise, dim=-1) * length


def at_work(model: Model) -> Model:
    """The model in the precision that is quicker on this machine."""
    model.modules().eval()
    return model.compute_with(model.choose_compute(ComputeSettings(), "forward"))


def experiment_for(bench: Bench, extent: Extent) -> Experiment:
    """The small recipe over other documents, with lengths that the trunk can read."""
    folder = locate_trunk(bench.trunk)
    limit = max_positions(folder)
    hidden = int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"])
    values = {
        "sources": list(documents(bench, extent)),
        "corpus.passage_tokens": min(160, limit // 2),
        "packing.query_tokens": min(64, limit // 3),
        "embedder.trunk": bench.trunk,
        "embedder.projection_width": min(128, hidden),
        "reader.trunk": bench.trunk,
        "warm_start.embedder.principal_components_sample": 512,
    }
    assignments = [f"{name}={json.dumps(value)}" for name, value in values.items()]
    return with_overrides(read_recipe("small"), assignments)


def documents(bench: Bench, extent: Extent) -> tuple[str, ...]:
    """The files with the documents of a world."""
    if extent == "corpus":
        return _ALL
    file = bench.cache / f"documents-{extent}.jsonl"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", encoding="utf-8") as stream:
            stream.writelines(_some_documents(extent))
    return (str(file),)


def questions(extent: Extent, count: int) -> list[Question]:
    """The first questions of the kind that goes with a world."""
    files = _QUESTIONS["tiny" if extent == "tiny" else "data"]
    every = (question for file in files for question in read_questions(_existing(file)))
    return list(islice(every, count))


def _run(bench: Bench, extent: Extent) -> Run:
    run = Run(bench.cache / _name(bench, extent), experiment_for(bench, extent))
    run.save_recipe()
    return run


def _is_embedded(bench: Bench, extent: Extent) -> bool:
    """Whether there are real embeddings of that extent, or soon will be."""
    return extent != "corpus" or is_finished(_run(bench, extent).path / "start" / "snapshot")


def _some_documents(extent: Extent) -> Iterable[str]:
    if extent == "tiny":
        text = _existing("${REALM_DEMO}/articles.jsonl").read_text(encoding="utf-8")
        yield from islice(text.splitlines(keepends=True), _TINY)
        return
    for source, count in zip((_GOLD, _ARTICLES), _DOCUMENTS[extent], strict=True):
        with gzip.open(_existing(source), "rt", encoding="utf-8") as lines:
            yield from islice(lines, count)


def _existing(name: str) -> Path:
    path = Path(expand(name))
    if not path.is_file():
        raise SourceError(f"there is no {path}: set REALM_DATA to the folder of the real data")
    return path


def _name(bench: Bench, extent: Extent) -> str:
    return f"{extent}-{locate_trunk(bench.trunk).parent.name}-{Path(bench.trunk).name}"


def write_lines(file: Path, rows: Iterable[dict[str, str]]) -> None:
    """A file of one JSON object a line, which is there whole or not at all."""
    part = file.with_suffix(".part")
    with suppress(FileNotFoundError):
        part.unlink()
    with part.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    part.replace(file)
