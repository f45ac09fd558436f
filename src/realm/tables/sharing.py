"""What may one run take over from another, because the same settings made it?

Rows of a table differ late: the corpus, its spans and words, the warm start and often the
pre-training are the same. Each part of a run has a key, the settings that it and all before it
are made by; where another run has finished a part of that key, its files are linked, and the
stages find it as made. So nothing is made twice, and every row is an ordinary run.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from realm.artifact import fingerprint_of, is_finished, read_manifest
from realm.config import plain_value_of, value_of
from realm.errors import RealmError
from realm.experiment import Experiment
from realm.models.trunk import locate_trunk, read_tokenizer
from realm.run_folder import RunFolder
from realm.training.state import latest_checkpoint


@dataclass(frozen=True)
class Part:
    """A directory of a run, and what it is made by."""

    path: str
    settings: tuple[str, ...] = ()
    """Dotted names of the settings that make it, beside those of the parts that it needs."""
    needs: tuple[str, ...] = ()
    trained_with: tuple[str, ...] = ()
    """Of a training: the groups of settings that its checkpoints name, its own first."""
    where_set: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Settings that count only where another one, the key, is set."""


PARTS = (
    Part("corpus", ("sources", "corpus", "vocabulary_of")),
    Part("queries/corpus", ("pretrain_sources",), ("corpus",)),
    Part("spans", ("spans",), ("corpus",)),
    Part("queries/spans", ("spans",), ("queries/corpus", "spans")),
    Part("lexical", ("lexical",), ("corpus",)),
    Part("trunk/model", ("trunk", "packing"), ("corpus",)),
    Part(
        "start/checkpoint",
        (
            "embedder", "reader", "packing", "warm_start.embedder.loop.seed",
            "warm_start.embedder.principal_components_sample",
            "warm_start.embedder.projection_start",
        ),
        ("trunk/model",),
    ),
    Part("start/trunk-vectors", ("embedder", "packing"), ("trunk/model",)),
    Part("start/snapshot", (), ("start/checkpoint",)),
    Part(
        "warm-start/pairs",
        ("warm_start.reader.objective.num_queries", "warm_start.reader.objective.depth"),
        ("spans", "lexical"),
    ),
    Part(
        "warm-start/embedder", ("warm_start.questions",), ("start/checkpoint", "lexical"),
        ("warm_start.embedder",), {"warm_start.questions": ("train_questions",)},
    ),
    Part(
        "warm-start/reader", ("warm_start.embedder.loop.seed",),
        ("trunk/model", "warm-start/pairs"), ("warm_start.reader", "reader", "packing"),
    ),
    Part("warm-start/checkpoint", (), ("warm-start/embedder", "warm-start/reader")),
    Part("warm-start/snapshot", (), ("warm-start/checkpoint",)),
    Part(
        "pretrain", (), ("warm-start/checkpoint", "queries/spans"),
        ("pretrain", "index", "spans"),
    ),
    Part("index", ("selection.pretrain",), ("pretrain",)),
    Part(
        "finetune", ("train_questions", "retrieval.embedder"), ("index",), ("finetune", "index"),
        {"finetune.num_development_questions": ("retrieval", "dev_questions")},
    ),
)  # fmt: skip
PART_BY_PATH = {part.path: part for part in PARTS}


def key_of(part: Part, experiment: Experiment) -> str:
    """A name for all settings that make a part: runs whose keys are equal may share it."""
    names = (*part.settings, *part.trained_with)
    for setting, further in part.where_set.items():
        names += further if value_of(experiment, setting) else ()
    values = [_what_counts(experiment, name) for name in names]
    needed = [key_of(PART_BY_PATH[path], experiment) for path in part.needs]
    return fingerprint_of([part.path, values, needed])


def trained_by(part: Part, experiment: Experiment) -> str:
    """The fingerprint by which a training's checkpoints name their settings."""
    return fingerprint_of([plain_value_of(experiment, name) for name in part.trained_with])


def keys_of_trainings(experiment: Experiment) -> set[str]:
    """The keys of all that a run of these settings has to train."""
    return {key_of(part, experiment) for part in PARTS if _steps_of(part, experiment)}


def keys_in_the_making(run: RunFolder) -> set[str]:
    """Of these keys, those of trainings that are not finished yet."""
    trained = [part for part in PARTS if _steps_of(part, run.experiment)]
    return {key_of(part, run.experiment) for part in trained if not _is_made(run, part)}


def take_over(run: RunFolder, others: Iterable[RunFolder]) -> dict[str, str]:
    """Link every part that another run has finished and this one would make in the same way.

    Parts that this run has begun stay as they are. Returned are the parts that are another run's,
    by path, with the directory that each is from.
    """
    taken = {}
    others = list(others)
    for part in PARTS:
        if (run.path / part.path).exists() or _is_being_made(run, part):
            continue
        key = key_of(part, run.experiment)
        for other in others:
            if key_of(part, other.experiment) == key and _may_lend(other, part):
                _link(other.path / part.path, run.path / part.path)
                taken[part.path] = str(other.path)
                break
    return taken


def _is_made(run: RunFolder, part: Part) -> bool:
    """Whether a part is finished and was made by the settings that the run has now."""
    path = run.path / part.path
    if not part.trained_with:
        return is_finished(path)
    newest = latest_checkpoint(path)
    if newest is None:
        return False
    manifest = read_manifest(newest)
    is_same = manifest.inputs.get("settings") == trained_by(part, run.experiment)
    return is_same and manifest.settings["step"] >= _steps_of(part, run.experiment)


def _may_lend(run: RunFolder, part: Part) -> bool:
    """Whether a part is finished, and with it every training that it comes from."""
    return _is_made(run, part) and all(
        _is_made(run, needed) for needed in _all_needs(part) if _steps_of(needed, run.experiment)
    )


def _all_needs(part: Part) -> Iterator[Part]:
    for path in part.needs:
        yield PART_BY_PATH[path]
        yield from _all_needs(PART_BY_PATH[path])


def _steps_of(part: Part, experiment: Experiment) -> int:
    """Of a training; 0 where nothing is trained."""
    if not part.trained_with:
        return 0
    return int(value_of(experiment, f"{part.trained_with[0]}.loop.num_steps"))


def _is_being_made(run: RunFolder, part: Part) -> bool:
    """Whether the run has begun, and not finished, something that the part is made from."""
    return any(
        (run.path / needed.path).exists() and not _is_made(run, needed)
        for needed in _all_needs(part)
    )


def _what_counts(experiment: Experiment, name: str) -> Any:
    """The value of a setting; of a tokenizer what it says, wherever it is from."""
    value = plain_value_of(experiment, name)
    return _tokenizer(value) if name == "vocabulary_of" else value


@cache
def _tokenizer(trunk: str) -> str:
    try:
        return fingerprint_of(read_tokenizer(locate_trunk(trunk)).to_str())
    except RealmError:  # it will be said where the tokenizer is needed
        return trunk


def _link(source: Path, target: Path) -> None:
    """Let a directory appear whole at a second place, without its files taking more room."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}.linking")
    shutil.rmtree(staging, ignore_errors=True)  # of a run that was killed
    hidden = shutil.ignore_patterns(".*")
    for is_last in (False, False, True):
        try:
            shutil.copytree(source, staging, copy_function=_link_file, ignore=hidden)
            break
        except (shutil.Error, FileNotFoundError):  # a row at its end drops what it needs no more
            if is_last:
                raise
            shutil.rmtree(staging, ignore_errors=True)
    staging.rename(target)


def _link_file(source: str, target: str) -> None:
    # Artifacts never change, so that a second name is as good as a copy; logs are appended to.
    if not source.endswith(".jsonl"):
        with suppress(OSError):  # a file system without links
            os.link(source, target)
            return
    shutil.copy2(source, target)
