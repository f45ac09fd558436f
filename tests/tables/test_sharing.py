"""Is that shared which is the same, and nothing that differs?"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from realm.artifact import create_artifact, fingerprint_of, is_finished
from realm.config import plain_value_of
from realm.experiment import Experiment, read_recipe, with_overrides
from realm.run_folder import RunFolder
from realm.tables import sharing
from realm.tables.row import MeanLengths
from realm.tables.rows import rows_of
from realm.tables.sharing import PARTS, key_of, take_over
from realm.training.state import checkpoint_path

SMALL = read_recipe("small", ["retrieval.lexical=false"])
EMBEDDER_STEPS = SMALL.warm_start.embedder.loop.num_steps
READER_STEPS = SMALL.warm_start.reader.loop.num_steps
REALM_STEPS = SMALL.pretrain.loop.num_steps
READER_GROUPS = ("warm_start.reader", "reader", "packing")
START = {"start/checkpoint", "start/snapshot"}
AFTER_THE_WARM_START = {
    *("warm-start/checkpoint", "warm-start/snapshot", "pretrain", "index", "finetune"),
}
# Settings of answering and measuring: no part of a run is made by them, or they say how fast.
MAKE_NOTHING = {
    *("precision", "attention", "num_threads", "dev_questions", "selection.finetune"),
    *("retrieval.lexical", "retrieval.reader_passages"),
}


def leaves(group: BaseModel, prefix: str = "") -> Iterator[str]:
    for name in type(group).model_fields:
        value: Any = getattr(group, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_setting_makes_a_part_or_is_known_to_make_none() -> None:
    named = {name for part in PARTS for name in (*part.settings, *part.trained_with)}
    covered = {
        leaf
        for leaf in leaves(Experiment())
        if any(leaf == name or leaf.startswith(f"{name}.") for name in named)
    }
    assert set(leaves(Experiment())) - covered == MAKE_NOTHING


@pytest.mark.parametrize(
    ("change", "remade"),
    [
        ("retrieval.lexical=true", set()),
        ("retrieval.embedder=false", {"finetune"}),
        ("train_questions=['other.jsonl']", {"finetune"}),
        ("finetune.reader_from='warm-start'", {"finetune"}),
        ("selection.pretrain='best'", {"index", "finetune"}),
        ("pretrain.objective.masking='random_span'", {"pretrain", "index", "finetune"}),
        (
            "warm_start.reader.loop.num_steps=7",
            {"warm-start/reader", *AFTER_THE_WARM_START},
        ),
        (
            "embedder.pooling='cls'",
            {*START, "start/trunk-vectors", "warm-start/embedder", *AFTER_THE_WARM_START},
        ),
        (
            "reader.max_answer_tokens=5",
            {*START, "warm-start/embedder", "warm-start/reader", *AFTER_THE_WARM_START},
        ),
        ("embedder.trunk='other'", {part.path for part in PARTS}),
    ],
)
def test_a_change_makes_again_what_depends_on_it(change: str, remade: set[str]) -> None:
    changed = with_overrides(SMALL, ["retrieval.lexical=true", change])
    differing = {part.path for part in PARTS if key_of(part, SMALL) != key_of(part, changed)}
    assert differing == remade


def test_an_embedder_that_learns_from_questions_depends_on_them() -> None:
    (embedder,) = (part for part in PARTS if part.path == "warm-start/embedder")
    supervised = with_overrides(SMALL, ["warm_start.questions.depth=5"])
    others = with_overrides(supervised, ["train_questions=['other.jsonl']"])
    assert key_of(embedder, supervised) != key_of(embedder, others)


def test_a_fine_tuning_that_is_measured_depends_on_how_answers_are_made() -> None:
    (finetune,) = (part for part in PARTS if part.path == "finetune")
    measured = with_overrides(SMALL, ["finetune.num_development_questions=9"])
    hybrid = with_overrides(measured, ["retrieval.lexical=true"])
    assert key_of(finetune, measured) != key_of(finetune, hybrid)


def begin(path: Path, *assignments: str) -> RunFolder:
    path.mkdir()
    return RunFolder(path, with_overrides(SMALL, assignments))


def finish(run: RunFolder, path: str) -> None:
    with create_artifact(run.path / path, "thing", settings={}, inputs={}) as staging:
        (staging.path / "data.bin").write_bytes(b"12345")


def train(run: RunFolder, path: str, step: int, *groups: str) -> None:
    values = [plain_value_of(run.experiment, group) for group in groups]
    inputs = {"settings": fingerprint_of(values)}
    folder = run.path / path
    with create_artifact(
        checkpoint_path(folder, step), "checkpoint", settings={"step": step}, inputs=inputs
    ) as staging:
        (staging.path / "weights").write_bytes(b"1")
    (folder / "metrics.jsonl").write_text('{"step": 1}\n', encoding="utf-8")


def test_files_are_linked_and_logs_are_copied(tmp_path: Path) -> None:
    first, second = begin(tmp_path / "a"), begin(tmp_path / "b", "finetune.loop.num_steps=5")
    for path in ("corpus", "start/trunk-vectors"):
        finish(first, path)
    train(first, "warm-start/embedder", EMBEDDER_STEPS, "warm_start.embedder")
    (tmp_path / "a" / "corpus" / ".corpus.staging-host-1").touch()
    taken = take_over(second, [first])
    paths = ["corpus", "start/trunk-vectors", "warm-start/embedder"]
    assert taken == {path: str(first.path) for path in paths}
    for name in ("corpus/data.bin", "corpus/manifest.json"):
        assert (second.path / name).samefile(first.path / name)
    assert not (second.path / "corpus" / ".corpus.staging-host-1").exists()
    log = second.path / "warm-start/embedder/metrics.jsonl"
    with log.open("a", encoding="utf-8") as stream:
        stream.write('{"step": 2}\n')
    assert (first.path / "warm-start/embedder/metrics.jsonl").read_text("utf-8") == '{"step": 1}\n'
    assert take_over(second, [first]) == {}
    shutil.rmtree(first.path)
    assert (second.path / "corpus" / "data.bin").read_bytes() == b"12345"


def test_what_is_not_finished_or_was_made_otherwise_is_not_taken(tmp_path: Path) -> None:
    first, second = begin(tmp_path / "a"), begin(tmp_path / "b")
    train(first, "warm-start/embedder", EMBEDDER_STEPS - 50, "warm_start.embedder")
    # With the settings of another training:
    train(first, "warm-start/reader", READER_STEPS, "warm_start.embedder")
    finish(first, "index")  # of a pre-training that is not there
    (tmp_path / "a" / "corpus").mkdir()
    assert take_over(second, [first]) == {}


def test_what_the_run_has_begun_itself_stays(tmp_path: Path) -> None:
    first, second = begin(tmp_path / "a"), begin(tmp_path / "b")
    train(first, "warm-start/embedder", EMBEDDER_STEPS, "warm_start.embedder")
    train(first, "warm-start/reader", READER_STEPS, *READER_GROUPS)
    train(first, "pretrain", REALM_STEPS, "pretrain", "index", "spans")
    finish(first, "index")
    train(second, "warm-start/embedder", EMBEDDER_STEPS - 50, "warm_start.embedder")
    # The reader fits any embedder; what was made from another one's warm start does not.
    assert set(take_over(second, [first])) == {"warm-start/reader"}
    train(second, "warm-start/embedder", EMBEDDER_STEPS, "warm_start.embedder")
    assert set(take_over(second, [first])) == {"pretrain", "index"}


def test_a_linking_that_was_stopped_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = begin(tmp_path / "a"), begin(tmp_path / "b")
    finish(first, "corpus")

    def stop(source: str, target: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sharing, "_link_file", stop)
        with pytest.raises(KeyboardInterrupt):
            take_over(second, [first])
    assert not is_finished(second.path / "corpus")
    assert set(take_over(second, [first])) == {"corpus"}
    assert sorted(path.name for path in second.path.iterdir()) == ["corpus"]


def test_what_goes_while_it_is_linked_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row that lends a training may be at its end, and drop what it needs no more."""
    first, second = begin(tmp_path / "a"), begin(tmp_path / "b")
    train(first, "warm-start/embedder", EMBEDDER_STEPS - 50, "warm_start.embedder")
    train(first, "warm-start/embedder", EMBEDDER_STEPS, "warm_start.embedder")
    older = checkpoint_path(first.path / "warm-start/embedder", EMBEDDER_STEPS - 50)
    link = sharing._link_file

    def pruned_meanwhile(source: str, target: str) -> None:
        shutil.rmtree(older, ignore_errors=True)
        link(source, target)

    monkeypatch.setattr(sharing, "_link_file", pruned_meanwhile)
    assert set(take_over(second, [first])) == {"warm-start/embedder"}
    assert not checkpoint_path(second.path / "warm-start/embedder", EMBEDDER_STEPS - 50).exists()


def test_a_file_system_without_links_gets_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = begin(tmp_path / "a"), begin(tmp_path / "b")
    finish(first, "corpus")

    def refuse(source: str, target: str) -> None:
        raise PermissionError(1, "no links here", source)

    monkeypatch.setattr(os, "link", refuse)
    take_over(second, [first])
    assert not (second.path / "corpus/data.bin").samefile(first.path / "corpus/data.bin")
    assert (second.path / "corpus/data.bin").read_bytes() == b"12345"


def test_a_tokenizer_is_the_same_wherever_it_is_from(trunk_folder: Path, tmp_path: Path) -> None:
    (corpus,) = (part for part in PARTS if part.path == "corpus")
    copied, other = tmp_path / "model", tmp_path / "other"
    for folder in (copied, other):
        shutil.copytree(trunk_folder, folder)
    (other / "tokenizer.json").write_text(Tokenizer(WordPiece()).to_str(), encoding="utf-8")
    keys = [
        key_of(corpus, with_overrides(SMALL, [f"embedder.trunk='{folder}'"]))
        for folder in (trunk_folder, copied, other)
    ]
    assert keys[0] == keys[1] != keys[2]


def test_rows_of_a_trunk_from_nothing_share_it() -> None:
    mini = read_recipe("mini")
    rows = {row.name: row for row in rows_of("table1", mini, MeanLengths(30.0, 130.0))}

    def shared(name: str, seed: int = 0) -> set[str]:
        other = rows[name].experiment(mini, seed)
        return {part.path for part in PARTS if key_of(part, mini) == key_of(part, other)}

    # The sentence encoder reads the same wordpieces: the corpus is cut alike.
    data = {"corpus", "queries/corpus", "spans", "queries/spans", "lexical", "warm-start/pairs"}
    # All rows that do not say otherwise share a reader that learned to read.
    read = {"trunk/model", "warm-start/reader"}
    assert shared("minilm") == shared("realm-minilm") == {*data, *read}
    start = {"start/checkpoint", "start/trunk-vectors", "start/snapshot"}
    warm = {"warm-start/embedder", "warm-start/checkpoint", "warm-start/snapshot"}
    assert shared("realm", seed=1) == {*data, *read, *start, *warm}
    assert shared("supervised") == {*data, *read, *start}
