"""The reverse chain as one operation of autograd, with its gradient written by hand.

By hand, because autograd's own bookkeeping takes as long as the small matrix products. Axes as in diffusion.py.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ddrl_sched.agents.diffusion import Denoiser, StepCache, later_layers, posterior_mean, reverse_process
from ddrl_sched.agents.nets import GRADIENTS


def chain_logits(
    denoiser: Denoiser, params: Mapping[str, Tensor], obs: Tensor, start: Tensor, noise: Tensor | None
) -> Tensor:
    """`reverse_process` with gradients, which reach the parameters but not obs and start."""
    if not torch.is_grad_enabled():
        return reverse_process(denoiser, params, obs, start, noise)
    inputs = ChainInputs(denoiser, list(params), obs, start, noise)
    logits: Tensor = ReverseChain.apply(inputs, *params.values())  # type: ignore[no-untyped-call]
    return logits


class ChainInputs(NamedTuple):
    """What a chain runs on beside its parameters, whose `names` are kept here; nothing of it has a gradient."""

    denoiser: Denoiser
    names: list[str]
    obs: Tensor
    start: Tensor
    noise: Tensor | None


class ChainContext(FunctionCtx):
    """What the forward pass keeps for the backward pass."""

    inputs: ChainInputs
    caches: list[StepCache]
    saved_tensors: tuple[Tensor, ...]


class ReverseChain(torch.autograd.Function):
    """`reverse_process` forward, `reverse_gradient` backward."""

    @staticmethod
    def forward(ctx: ChainContext, inputs: ChainInputs, *params: Tensor) -> Tensor:
        """Logits at the end of the chain."""
        ctx.inputs, ctx.caches = inputs, []
        ctx.save_for_backward(*params)
        named = dict(zip(inputs.names, params, strict=True))
        return reverse_process(inputs.denoiser, named, inputs.obs, inputs.start, inputs.noise, caches=ctx.caches)

    @staticmethod
    def backward(ctx: ChainContext, of_logits: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient of every parameter, none of the inputs."""
        names = ctx.inputs.names
        named = dict(zip(names, ctx.saved_tensors, strict=True))
        found = reverse_gradient(ctx.inputs.denoiser, named, ctx.inputs.obs, ctx.caches, of_logits)
        return None, *(found[name] for name in names)


def reverse_gradient(
    denoiser: Denoiser, params: Mapping[str, Tensor], obs: Tensor, caches: Sequence[StepCache], of_logits: Tensor
) -> dict[str, Tensor]:
    """Gradient of every parameter from that of the logits [K, n, A]: back through `reverse_process`, t = 1..T.

    Names: `of_x` is the gradient of the loss with respect to x.
    """
    gradient = GRADIENTS[denoiser.activation]
    layers = later_layers(params)
    found = {name: torch.zeros_like(param) for name, param in params.items()}
    of_layers = later_layers(found)
    of_time = torch.zeros(len(obs), denoiser.steps, params["weight_x"].shape[2])
    of_first = torch.zeros_like(caches[0].before[0])  # summed over the steps
    for t, cache in enumerate(reversed(caches)):
        mean = posterior_mean(denoiser, t)
        of_x, of_y = mean.keep * of_logits, mean.gain * of_logits
        if mean.clamped is not None:
            of_end = torch.ops.aten.hardtanh_backward(of_y, cache.end, -denoiser.bound, denoiser.bound)  # type: ignore[operator]
            of_x.add_(of_end, alpha=mean.clamped[0])
            of_y = mean.clamped[1] * of_end
        if denoiser.squashes:
            of_y = torch.ops.aten.tanh_backward(of_y, cache.y)
        for (weight, _), (of_weight, of_bias), before, after in reversed(
            [*zip(layers, of_layers, cache.before, cache.after, strict=True)]
        ):
            of_weight.baddbmm_(after.mT, of_y)
            of_bias.add_(of_y.sum(1, keepdim=True))
            of_y = gradient(torch.bmm(of_y, weight.mT), before, after)
        found["weight_x"].baddbmm_(cache.x.mT, of_y)
        of_time[:, t] = of_y.sum(1)
        of_first.add_(of_y)
        if t + 1 < len(caches):  # the gradient of the start is not needed
            of_logits = of_x.baddbmm_(of_y, params["weight_x"].mT)
    found["weight_time"] = torch.matmul(denoiser.embedding.T, of_time)
    found["weight_obs"], found["bias0"] = torch.bmm(obs.mT, of_first), of_first.sum(1, keepdim=True)
    return found
