"""How does a released checkpoint become an ordinary run?

    import/   what came from where, with the BERT configuration and the tokenizer
    start/    the model as it was released, and its embeddings of the passages
    corpus/   the passages of block_records.npy

The stages before fine-tuning have no steps in such a run, so that everything starts from the
released model; whoever sets `pretrain.loop.num_steps` goes on pre-training from there.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor

from realm.artifact import create_artifact, is_finished, read_manifest, remove_artifact
from realm.config import override, read_settings
from realm.corpus.block_records import count_block_records
from realm.errors import ArtifactError, SettingError, SourceError
from realm.experiment import Experiment, read_recipe
from realm.index.encode import embed_null_passage
from realm.index.snapshot import keep_embeddings
from realm.models.checkpoint import save_checkpoint
from realm.models.released import BLOCK_EMBEDDINGS, Part
from realm.models.released_model import (
    Sources,
    build_model,
    embedder_settings,
    gather,
    packing_settings,
    reader_settings,
    write_trunk_folder,
)
from realm.progress import Progress, no_progress
from realm.run_folder import IMPORT
from realm.stages import Run
from realm.stopwatch import measured

KIND = "import"
_INDEXED: tuple[Part, ...] = ("passage embedder", "passage embeddings")  # one of them is enough
NEEDED: dict[str, tuple[tuple[Part, ...], ...]] = {
    "realm evaluate retrieval": (("query embedder",), _INDEXED),
    "realm ask, realm evaluate open-qa": (
        ("query embedder",), ("reader",), ("span head",), _INDEXED,
    ),
    "realm finetune": (("query embedder",), ("reader",), _INDEXED),
    "realm pretrain, realm fill-mask": (
        ("query embedder",), ("passage embedder",), ("reader",), ("masked head",),
    ),
    "another corpus, edits, refresh": (("passage embedder",),),
}  # fmt: skip
"""The parts that each use of an imported run needs; of those named together, one."""


def import_released(
    names: Sequence[str],
    path: Path,
    *,
    passage_embedder: str = "",
    progress: Progress = no_progress,
) -> Run:
    """Make a run of released folders that complete each other.

    Raises:
        SettingError: there is a run already, or two folders bring the same part.
        SourceError: a folder is no REALM checkpoint, lacks a tensor, or has another number of
            block records than of embeddings.
        ArtifactError: an import from other sources was left unfinished here.
    """
    if Run.is_run(path):
        raise SettingError(f"{path} is a run already: give another --run")
    sources = gather(list(names), passage_embedder)
    embeddings = _embeddings(sources)
    fingerprint = _write_import(path / IMPORT, sources)
    run = Run(path, _experiment(sources, path / IMPORT), progress)
    try:
        model = build_model(sources, path / IMPORT)
    except SourceError:
        remove_artifact(path / IMPORT)  # else another folder would be refused here
        raise
    save_checkpoint(path / "start" / "checkpoint", model, step=0, inputs={"import": fingerprint})
    if embeddings is not None:
        # Without the passages' own embedder the null passage has none either: nothing asks for it.
        has_null = "passage embedder" in sources
        null = embed_null_passage(model) if has_null else torch.zeros(embeddings.shape[1])
        _keep_embeddings(run, embeddings, null, progress)
    run.save_recipe()
    return run


def lacking(parts: Collection[str], use: str) -> list[str]:
    """The parts that a use needs and these are not."""
    return [
        " or ".join(alternatives) for alternatives in NEEDED[use] if not {*alternatives} & {*parts}
    ]


def _embeddings(sources: Sources) -> Tensor | None:
    """The released embeddings of the passages, one for each block record."""
    if "passage embeddings" not in sources:
        return None
    folder = sources.by_part["passage embeddings"]
    assert folder.records is not None
    count = count_block_records(folder.records)
    embeddings = folder.tensors[BLOCK_EMBEDDINGS]
    width = folder.configuration.retriever_proj_size
    if tuple(embeddings.shape) != (count, width):
        raise SourceError(
            f"{folder.records} has {count:,} records, but {BLOCK_EMBEDDINGS} has shape "
            f"{tuple(embeddings.shape)} instead of {(count, width)}: they do not belong together"
        )
    return embeddings


def _write_import(path: Path, sources: Sources) -> str:
    settings = {
        "sources": [folder.name for folder in sources.folders],
        "parts": {part: folder.name for part, folder in sources.by_part.items()},
    }
    if is_finished(path) and read_manifest(path).settings != settings:
        raise ArtifactError(
            f"an import from other sources was left unfinished at {path.parent}: delete it, or "
            "give another --run"
        )
    with create_artifact(path, KIND, settings=settings, inputs={}) as staging:
        write_trunk_folder(sources, staging.path)
    return read_manifest(path).fingerprint


def _experiment(sources: Sources, trunk: Path) -> Experiment:
    """The paper's recipe, with the released architecture and the released code's choices."""
    configuration, packing = sources.first.configuration, packing_settings(sources)
    values = read_recipe("paper").model_dump(mode="json")
    records = sources.by_part["passages"].records if "passages" in sources else None
    values |= {
        "sources": [str(records.absolute())] if records else [],
        "train_questions": [],
        "dev_questions": [],
        "embedder": embedder_settings(sources, str(trunk.absolute())).model_dump(),
        "reader": reader_settings(sources, str(trunk.absolute())).model_dump(),
        "packing": packing.model_dump(exclude={"passage_tokens"}),
    }
    changes = [
        "precision=fp32",  # the released numbers; `auto` is quicker on most machines
        f"corpus.passage_tokens={packing.passage_tokens}",
        f"corpus.cut={'documents' if records else 'sentences'}",
        "warm_start.embedder.loop.num_steps=0",
        "warm_start.reader.loop.num_steps=0",
        "pretrain.loop.num_steps=0",
        "pretrain.objective.marginal=token",
        f"pretrain.objective.num_candidates={configuration.num_candidates}",
        f"retrieval.reader_passages={configuration.reader_beam_size}",
        f"finetune.objective.reader_passages={configuration.reader_beam_size}",
        f"finetune.objective.retriever_passages={configuration.searcher_beam_size}",
        "finetune.objective.answers=single_span",
        "finetune.objective.retriever_positives=wordpieces",  # as transformers' port has it
        "finetune.num_development_questions=0",
        "selection.finetune=latest",
    ]
    return read_settings(Experiment, override(values, changes), origin="the released config.json")


def _keep_embeddings(run: Run, embeddings: Tensor, null: Tensor, progress: Progress) -> None:
    store = run.corpus()
    if len(store) != len(embeddings):
        raise ArtifactError(f"{store.path} was made from other block records: delete {run.path}")
    checkpoint = read_manifest(run.path / "start" / "checkpoint").fingerprint
    file = run.path / "stages.jsonl"
    with measured(file, "import"), progress("embeddings kept", len(store)) as advance:
        keep_embeddings(
            run.path / "start" / "snapshot", embeddings, null, store,
            checkpoint=checkpoint, on_progress=lambda done: advance(done, ""),
        )  # fmt: skip
