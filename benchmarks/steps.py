"""How long does a training step take in the loop that trains?"""

import statistics
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import Repeat
from realm.training.loop import Hooks, LoopSettings, Objective, Scalars, Training


def steps_side(
    objective: Objective, batch_size: int, num_steps: int, loop: Mapping[str, Any] | None = None
) -> Repeat:
    """A side that trains so many steps, after one to warm up, and reports examples a second.

    `loop` are settings of the loop that are not the usual ones.
    """

    def repeat() -> list[float]:
        seconds: list[float] = []

        def keep(step: int, row: Scalars) -> None:
            seconds.append(row["step_seconds"])

        # Each step is waited for: its time is its own.
        length = {"num_steps": num_steps + 1, "save_every": num_steps + 1, "log_every": 1}
        settings = LoopSettings.model_validate({**length, **(loop or {})})
        with TemporaryDirectory() as folder:
            Training(objective, settings, Path(folder), {}).run(Hooks(on_progress=keep))
        return [batch_size / statistics.mean(seconds[1:])]

    return repeat
