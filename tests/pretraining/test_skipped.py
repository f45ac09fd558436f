"""Skipped examples are counted, also over a stop, and the counts can be read afterwards."""

from pathlib import Path

import pytest
import torch
from small_pretraining import rows_of, settings_of, train, write_world

from realm.corpus.store import PassageStore
from realm.metric_log import MetricLog, skipped_examples
from realm.models.checkpoint import Model
from realm.pretraining.run import PretrainSettings
from realm.spans.annotate import SpanStore

REASONS = {"too_many_masks", "hidden_beyond_query", "no_other_passage"}


def skipping(max_masks: int) -> PretrainSettings:
    settings = settings_of()
    changes = {"overflow": "skip", "max_masks": max_masks}
    objective = settings.objective.model_copy(update=changes)
    return settings.model_copy(update={"objective": objective})


@pytest.mark.slow
def test_counts_of_a_stopped_run_are_those_of_a_whole_one(
    small_model: Model, small_store: PassageStore, small_spans: SpanStore, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    write_world(tmp_path, small_model, small_store, small_spans)
    train(tmp_path, tmp_path / "whole", skipping(2))

    def stop(step: int, row: object) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, tmp_path / "stopped", skipping(2), stop)
    train(tmp_path, tmp_path / "stopped", skipping(2))
    torch.set_num_threads(threads)
    counts = skipped_examples(tmp_path / "whole")
    assert set(counts) == REASONS
    assert counts["too_many_masks"] > 0
    assert counts["hidden_beyond_query"] == counts["no_other_passage"] == 0
    assert rows_of(tmp_path / "stopped") == rows_of(tmp_path / "whole")
    growing = [row["skipped_too_many_masks"] for row in rows_of(tmp_path / "whole")
               if "skipped_too_many_masks" in row]  # fmt: skip
    assert growing == sorted(growing)
    assert (growing[0], growing[-1]) == (0, counts["too_many_masks"])


def test_the_last_counts_up_to_a_step(tmp_path: Path) -> None:
    assert skipped_examples(tmp_path) == {}
    with MetricLog(tmp_path / "metrics.jsonl", keep_until_step=0) as log:
        log.write(2, {"held_out_loss": 1.0, "skipped_a": 3})
        log.write(3, {"loss": 1.0})
        log.write(4, {"skipped_a": 5})
    assert skipped_examples(tmp_path) == {"a": 5}
    assert skipped_examples(tmp_path, until_step=3) == {"a": 3}
    assert skipped_examples(tmp_path, until_step=1) == {}
