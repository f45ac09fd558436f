"""An inverse cloze training of a second; run as a script it is one process of a group.

python small_cloze.py START CORPUS FOLDER BATCH

START is a checkpoint, FOLDER that of the training, BATCH what each process takes at a step.
"""

import sys
from pathlib import Path

import torch

from realm.corpus.store import PassageStore
from realm.models.checkpoint import load_model
from realm.pretraining.warm_start import InverseClozeObjective, InverseClozeSettings
from realm.training.loop import LoopSettings, Training
from realm.training.optim import OptimSettings


def train(start: Path, corpus: Path, folder: Path, batch_size: int, **loop: object) -> Path:
    """Three steps in single precision."""
    # A model that adds much to little steps moves by the gradient's sign: the norm is compared.
    optim = OptimSettings(learning_rate=1e-3)
    values = {
        "num_steps": 3,
        "save_every": 3,
        "log_every": 1,
        "precision": "fp32",
        "attention": "eager",
        "num_threads": 1,
        **loop,
    }
    settings = LoopSettings.model_validate({**values, "optim": optim})
    objective = InverseClozeObjective(
        load_model(start), PassageStore.open(corpus),
        InverseClozeSettings(batch_size=batch_size, token_budget=100), seed=0,
    )  # fmt: skip
    return Training(objective, settings, folder, {}).run()


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
