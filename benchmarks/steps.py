"""How long does a training step take in the loop that trains?"""

import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import Repeat
from realm.training.loop import Hooks, LoopSettings, Objective, Scalars, Training


def steps_side(objective: Objective, batch_size: int, num_steps: int) -> Repeat:
    """A side that trains so many steps, after one to warm up, and reports examples a second."""

    def repeat() -> list[float]:
        seconds: list[float] = []

        def keep(step: int, row: Scalars) -> None:
            seconds.append(row["step_seconds"])

        settings = LoopSettings(num_steps=num_steps + 1, save_every=num_steps + 1)
        with TemporaryDirectory() as folder:
            Training(objective, settings, Path(folder), {}).run(Hooks(on_progress=keep))
        return [batch_size / statistics.mean(seconds[1:])]

    return repeat
