"""A training of a second on shards; run as a script it is one process of a group.

python small_group.py START FOLDER BATCH

START is a checkpoint, FOLDER that of the training, BATCH what each process takes at a step.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from realm.models.checkpoint import Model, load_model
from realm.models.embedder import embed
from realm.training.distributed import join_group
from realm.training.loop import Hooks, LoopSettings, Scalars, Training
from realm.training.optim import OptimSettings


class Shard:
    """Bring the embeddings of 40 random queries to a fixed point."""

    def __init__(self, model: Model, batch_size: int) -> None:
        self.model, self._batch_size, self._group = model, batch_size, join_group()

    def trainable(self) -> nn.Module:
        return nn.ModuleDict({"embedder": self.model.embedder})

    def loss(self, step: int) -> tuple[Tensor, Scalars]:
        packer = self.model.packer
        chosen = self._group.batch_at(40, self._batch_size, step=step, seed=0)
        queries = [packer.query(np.random.default_rng(n).integers(5, 100, 6)) for n in chosen]
        vectors = embed(self.model.embedder.query_tower, queries, packer)
        return (vectors - 1).square().mean(), {}


def train(start: Path, folder: Path, batch_size: int) -> Path:
    """Seven steps, a checkpoint at every third."""
    settings = LoopSettings(
        num_steps=7, save_every=3, log_every=1,
        precision="fp32", attention="eager", num_threads=1,
        optim=OptimSettings(learning_rate=1e-3),
    )  # fmt: skip
    training = Training(Shard(load_model(start), batch_size), settings, folder, {})
    return training.run(Hooks(measure=lambda step: {"measured": float(step)}))


def _check_group() -> None:
    group = join_group()
    gradients = [torch.full((3,), float(group.rank)), torch.tensor([[2.0 * group.rank - 1]])]
    group.average(gradients)
    mean = (group.size - 1) / 2
    assert gradients[0].tolist() == [mean] * 3
    assert gradients[1].tolist() == [[2 * mean - 1]]
    assert group.agree(10 + group.rank) == 10
    assert group.total({"one": 1, "rank": group.rank}) == {
        "one": group.size,
        "rank": mean * group.size,
    }
    assert group.is_first == (group.rank == 0)
    group.wait()


if __name__ == "__main__":
    torch.set_num_threads(1)
    _check_group()
    train(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
