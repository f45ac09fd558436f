"""How do gradients move the weights?

AdamW with linear warm-up and decay; with BERT's own optimiser and schedule, those of the released
code, as settings. Where a model computes in half precision, the optimiser
keeps masters in single precision: an update is often smaller than the last bit of a bfloat16.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from realm.config import Settings
from realm.models.checkpoint import unique_parameters
from realm.training.distributed import ProcessGroup

_Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class OptimSettings(Settings):
    """Learning rate and its schedule, decay and clipping."""

    learning_rate: float = Field(default=3e-5, ge=0.0)
    embedder_learning_rate: float | None = Field(default=None, ge=0.0)
    """Rate of the retriever's half; `None` is the same as the reader's."""
    schedule: Literal["linear", "bert"] = "linear"
    """`bert` is the released code's: its warm-up has a length of its own, and the decay is counted
    from step 0, so that the rate falls a little at once when the warm-up ends."""
    warmup_share: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the steps over which the rate rises from zero; `schedule=bert` has its own."""
    weight_decay: float = Field(default=0.01, ge=0.0)
    clip_norm: float | None = Field(default=1.0, gt=0.0)
    """Longest norm of all gradients together; `None` clips nothing."""
    betas: tuple[_Beta, _Beta] = (0.9, 0.999)
    epsilon: float = Field(default=1e-6, gt=0.0)
    bias_correction: bool = True
    """Whether the moments are corrected for having started at zero; BERT's optimiser goes
    without, so that its first steps are up to three times as long."""
    rests: tuple[str, ...] = ()
    """Parameters whose names hold one of these stay as they are. With `word_embeddings` at rest in
    every training, all trunks of a model keep one table of words: half of a small one."""


class Optimizer:
    """AdamW over the trainable parameters of a module, by name."""

    def __init__(self, module: nn.Module, settings: OptimSettings) -> None:
        self.settings = settings
        for name, parameter in module.named_parameters():
            if any(part in name for part in settings.rests):
                parameter.requires_grad_(False)
        self.parameters = {
            name: parameter
            for name, parameter in unique_parameters(module).items()
            if parameter.requires_grad
        }
        self.masters = {
            name: parameter.detach().float().clone() for name, parameter in self.parameters.items()
        }
        groups = self._groups()
        common: dict[str, Any] = {"betas": settings.betas, "eps": settings.epsilon}
        self._adam = (
            torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True, **common)
            if settings.bias_correction
            else BertAdam(groups, common)
        )

    def step(self, factor: float, group: ProcessGroup) -> Tensor:
        """Apply the gathered gradients at `factor` of the full rate; return their norm."""
        self._take_gradients()
        gradients = [m.grad for m in self.masters.values() if m.grad is not None]
        group.average(gradients)
        norm = nn.utils.clip_grad_norm_(self.masters.values(), self.settings.clip_norm or math.inf)
        for options in self._adam.param_groups:
            options["lr"] = options["full_rate"] * factor
        self._adam.step()
        self._copy_to_model()
        return norm

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts by name, for a checkpoint."""
        tensors = {}
        for name, master in self.masters.items():
            for key, value in self._adam.state.get(master, {}).items():
                tensors[f"{key}:{name}"] = torch.as_tensor(value)
        return tensors

    def restore(self, weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        """Take masters and moments back from a checkpoint."""
        for name, master in self.masters.items():
            master.copy_(weights[name])
        self._adam.state.clear()
        for label, value in state.items():
            key, _, name = label.partition(":")
            master = self.masters[name]
            # All of it beside the weights: the fused kernel wants its step counts there as well.
            self._adam.state[master][key] = value.to(master.device, copy=True)
        self._copy_to_model()

    @torch.no_grad()
    def _copy_to_model(self) -> None:
        torch._foreach_copy_(list(self.parameters.values()), list(self.masters.values()))

    def _take_gradients(self) -> None:
        """Give the masters their parameters' gradients, in the memory of the last ones."""
        narrow, wide = [], []
        for name, parameter in self.parameters.items():
            gradient, master = parameter.grad, self.masters[name]
            parameter.grad = None
            if gradient is None or gradient.dtype == master.dtype:
                master.grad = gradient
                continue
            if master.grad is None:
                master.grad = torch.empty_like(master)
            narrow.append(gradient)
            wide.append(master.grad)
        if narrow:
            torch._foreach_copy_(wide, narrow)

    def _groups(self) -> list[dict[str, Any]]:
        """The masters by rate and decay: a group is one call, and there are a hundred weights."""
        settings = self.settings
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for name, master in self.masters.items():
            rate = settings.learning_rate
            if name.startswith("embedder.") and settings.embedder_learning_rate is not None:
                rate = settings.embedder_learning_rate
            # The weights of norms are vectors, whatever a trunk calls them.
            is_decayed = master.ndim > 1 and "bias" not in name
            decay = settings.weight_decay if is_decayed else 0.0
            groups.setdefault((rate, decay), []).append(master)
        return [
            {"params": masters, "full_rate": rate, "weight_decay": decay}
            for (rate, decay), masters in groups.items()
        ]


class BertAdam(torch.optim.Optimizer):
    """Adam with decoupled decay and without bias correction, as BERT was trained.

    m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2,   w = w - rate (m / (sqrt v + eps) + decay w)
    """

    def __init__(self, groups: Sequence[dict[str, Any]], defaults: dict[str, Any]) -> None:
        super().__init__(groups, {"lr": 0.0, **defaults})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        first, second = state["exp_avg"], state["exp_avg_sq"]
        first.lerp_(gradient, 1 - group["betas"][0])
        second.mul_(group["betas"][1]).addcmul_(gradient, gradient, value=1 - group["betas"][1])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.addcdiv_(first, second.sqrt().add_(group["eps"]), value=-group["lr"])


def scheduled_factor(step: int, num_steps: int, settings: OptimSettings) -> float:
    """The share of the full rate that a step of a training moves at."""
    if settings.schedule == "bert":
        return bert_rate_factor(step, num_steps)
    return rate_factor(step, num_steps, settings.warmup_share)


def bert_rate_factor(step: int, num_steps: int) -> float:
    """The released code's schedule: a tenth of the steps warms up, at least 100, at most 10,000."""
    warmup = min(10_000, max(100, num_steps // 10))
    return step / warmup if step < warmup else max(0.0, 1 - step / num_steps)


def rate_factor(step: int, num_steps: int, warmup_share: float) -> float:
    """Linear warm-up, then linear decay to zero, as a share of the full rate."""
    warmup = max(1, round(num_steps * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (num_steps - step) / max(1, num_steps - warmup))
