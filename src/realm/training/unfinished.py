"""What does a tagger's training keep beside what it will write, so that it may be stopped?"""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from realm.artifact import create_artifact, is_finished, open_artifact, remove_artifact
from realm.errors import ArtifactError
from realm.machine import default_device
from realm.models.checkpoint import training_tensors
from realm.training.average import WeightAverage
from realm.training.optim import Optimizer

_UNFINISHED = "unfinished tagger"
_COMPUTE = "compute"


class Unfinished:
    """The weights and moments of a tagger's training, in a folder beside what it will write."""

    def __init__(self, path: Path, settings: dict[str, Any], inputs: dict[str, str]) -> None:
        """`path` is what will be written, by these settings from these inputs."""
        self._path = path.with_name(f"{path.name}.unfinished")
        self._settings, self._inputs = settings, inputs
        self.compute: dict[str, str] = {}
        """Precision and kernel: a training that was stopped goes on with those that it had."""
        if is_finished(self._path):
            self.compute = open_artifact(self._path, _UNFINISHED).settings.get(_COMPUTE, {})

    def restore(self, optimizer: Optimizer, average: WeightAverage) -> int:
        """Take back what was learned; return the number of steps that are done.

        Raises:
            ArtifactError: it was learned with other settings or from other files.
        """
        if not is_finished(self._path):
            return 0
        manifest = open_artifact(self._path, _UNFINISHED)
        settings = {name: v for name, v in manifest.settings.items() if name != _COMPUTE}
        if (settings, manifest.inputs) != (self._settings, self._inputs):
            raise ArtifactError(
                f"{self._path} is of a training with other settings or other files: delete it, or "
                "name another --out"
            )
        weights = load_file(self._path / "weights.safetensors")
        optimizer.restore(weights, training_tensors(self._path))
        kept = load_file(self._path / "average.safetensors", device=str(default_device()))
        average.restore(kept, int(manifest.counts["num_trainings"]))
        return int(manifest.counts["num_steps"])

    def save(self, num_steps: int, optimizer: Optimizer, average: WeightAverage) -> None:
        """Keep what was learned in so many steps, in place of what was kept before."""
        settings = {**self._settings, _COMPUTE: self.compute}
        with create_artifact(
            self._path, _UNFINISHED, settings=settings, inputs=self._inputs
        ) as staging:
            staging.counts.update(num_steps=num_steps, num_trainings=average.count)
            save_file(optimizer.masters, staging.path / "weights.safetensors")
            save_file(average.tensors(), staging.path / "average.safetensors")
            save_file(optimizer.state(), staging.path / "training.safetensors")

    def remove(self) -> None:
        """The training is over: nothing goes on from here."""
        if self._path.exists():
            remove_artifact(self._path)
