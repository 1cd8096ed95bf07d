"""Networks of stacked learners: multi-layer perceptrons by batched matrix products."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Le, Len
from torch import Tensor

from ddrl_sched.agents.stack import ParamSpec

Activation = Literal["relu", "mish"]
Hidden = Annotated[list[Annotated[int, Gt(0), Le(65_536)]], Len(1, 16)]  # widths of the hidden layers

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu_, "mish": torch.nn.functional.mish}
GRADIENTS: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {  # of (gradient after it, before, after)
    "relu": lambda of_after, before, after: torch.ops.aten.threshold_backward(of_after, after, 0),
    "mish": lambda of_after, before, after: torch.ops.aten.mish_backward(of_after, before),
}


def mlp_specs(n_in: int, hidden: Sequence[int], n_out: int, first: int = 0) -> list[ParamSpec]:
    """Weights and biases of n_in -> hidden... -> n_out; layers are numbered from `first`."""
    widths = [n_in, *hidden, n_out]
    specs = []
    for layer, (rows, columns) in enumerate(pairwise(widths), start=first):
        specs.append(ParamSpec(f"weight{layer}", rows, columns, fan_in=rows))
        specs.append(ParamSpec(f"bias{layer}", 1, columns, fan_in=rows))
    return specs


def mlp(params: Mapping[str, Tensor], x: Tensor, activation: Activation, first: int = 0) -> Tensor:
    """[K, n, n_in] -> [K, n, n_out] through the layers numbered from `first`; the last one is linear."""
    layer = first
    while True:
        x = torch.baddbmm(params[f"bias{layer}"], x, params[f"weight{layer}"])
        layer += 1
        if f"weight{layer}" not in params:
            return x
        x = ACTIVATIONS[activation](x)
