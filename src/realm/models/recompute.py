"""How does a batch fit a machine that cannot hold what its backward pass needs?

Gradient caching (Gao et al. 2021): each part of a batch is run without a graph, the loss is taken
of all outputs together, and in the backward pass each part is run again, alone, with the gradient
of its output. The gradient is the same; memory is that of one part, time that of one more forward
pass.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def run(part: Callable[..., Tensor], *inputs: Tensor, recompute: bool) -> Tensor:
    """Run a part of a batch; with `recompute` nothing but its output is kept for the gradient.

    Dropout draws the same numbers again the second time.
    """
    if not (recompute and torch.is_grad_enabled()):
        return part(*inputs)
    result: Tensor = checkpoint(part, *inputs, use_reentrant=False)
    return result
