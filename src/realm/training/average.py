"""What is the mean of several trainings that begin at one point?

Trainings that differ in nothing but the order of their examples and what is dropped end in one
basin, and the mean of their weights is as a rule better than each of them, at the price of one
(model soups; Wortsman et al. 2022).
"""

from collections.abc import Mapping

from torch import Tensor

from realm.training.optim import Optimizer

_PREFIXES = ("start", "moments", "sum")


class WeightAverage:
    """Weights and moments that all trainings begin with, and the sum of what they came to."""

    def __init__(self, num_trainings: int) -> None:
        self._num_trainings = num_trainings
        self._start: dict[str, Tensor] = {}
        self._moments: dict[str, Tensor] = {}
        self._sum: dict[str, Tensor] = {}
        self.count = 0
        """How many trainings have ended."""

    def begin(self, optimizer: Optimizer) -> None:
        """The first training begins with what is there, all others with the same again."""
        if self._start:
            optimizer.restore(self._start, self._moments)
        elif self._num_trainings > 1:  # a single one needs nothing kept
            self._start = {name: weight.clone() for name, weight in optimizer.masters.items()}
            self._moments = {name: value.clone() for name, value in optimizer.state().items()}

    def end(self, optimizer: Optimizer) -> None:
        """Add what a training came to."""
        for name, weight in optimizer.masters.items():
            self._sum[name] = self._sum.get(name, 0) + weight
        self.count += 1

    def weights(self) -> dict[str, Tensor]:
        """The mean of all trainings that have ended."""
        return {name: total / self.count for name, total in self._sum.items()}

    def tensors(self) -> dict[str, Tensor]:
        """All of it under names of its own, to be kept."""
        parts = zip(_PREFIXES, (self._start, self._moments, self._sum), strict=True)
        return {f"{prefix}/{name}": t for prefix, part in parts for name, t in part.items()}

    def restore(self, tensors: Mapping[str, Tensor], count: int) -> None:
        """Take back what `tensors` gave after so many trainings."""
        parts = dict(zip(_PREFIXES, (self._start, self._moments, self._sum), strict=True))
        for label, tensor in tensors.items():
            prefix, _, name = label.partition("/")
            parts[prefix][name] = tensor
        self.count = count
