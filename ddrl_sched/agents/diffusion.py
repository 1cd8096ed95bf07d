"""Denoising diffusion (Ho et al. 2020) as a policy: schedules, the denoiser, the chain that turns a start into logits.

Axes: K learners, n observations, A logits, O observed numbers, D width of the time embedding, T steps. Step t = 1..T is
entry t - 1 of every list of coefficients; the chain runs from t = T down to 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddrl_sched.agents.nets import ACTIVATIONS, Activation, mlp, mlp_specs
from ddrl_sched.agents.stack import ParamSpec

Schedule = Literal["vp", "cosine", "linear"]
Predict = Literal["noise", "x0"]


@dataclass(frozen=True)
class Chain:
    """Numbers of the reverse chain, one per step: x_(t-1) = from_x0 x_0 + from_x x_t + sigma z."""

    from_x0: list[float]  # [T]
    from_x: list[float]  # [T]
    sigma: list[float]  # [T] standard deviation of a step's noise; 0 = none
    signal: list[float]  # [T] sqrt(abar_t): x_t = signal x_0 + noise z
    noise: list[float]  # [T] sqrt(1 - abar_t)


def betas(schedule: Schedule, steps: int, beta_min: float, beta_max: float) -> NDArray[np.float64]:
    """Variances beta_1..beta_T of the forward steps.

    vp: the variance-preserving process of Xiao et al. 2022 (as in Diffusion-QL and D2SAC), rates beta_min..beta_max.
    cosine: Nichol and Dhariwal 2021, offset 0.008, at most 0.999; beta_min and beta_max are not used.
    linear: beta_min and beta_max are themselves the first and the last variance (Ho et al.: 1e-4 and 0.02).

    Raises:
        ValueError: linear, and a bound is not between 0 and 1.
    """
    t = np.arange(1, steps + 1, dtype=np.float64)
    if schedule == "vp":
        return 1 - np.exp(-beta_min / steps - 0.5 * (beta_max - beta_min) * (2 * t - 1) / steps**2)
    if schedule == "cosine":
        abar = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1 - abar[1:] / abar[:-1], 0.999)
    if not 0 < beta_min <= beta_max < 1:
        raise ValueError(
            f"agent.beta_min {beta_min} and agent.beta_max {beta_max}: schedule linear takes them as variances,"
            " 0 < beta_min <= beta_max < 1"
        )
    return np.linspace(beta_min, beta_max, steps)


def reverse_chain(beta: NDArray[np.float64], *, final_noise: bool) -> Chain:
    """Coefficients of the posterior of x_(t-1) given x_t and x_0 (Ho et al. eq. 7).

    The last step's posterior has no variance; with `final_noise` it gets beta_1, the larger choice of that paper.
    """
    abar = np.cumprod(1 - beta)
    before = np.concatenate([[1.0], abar[:-1]])
    variance = beta * (1 - before) / (1 - abar)
    variance[0] = beta[0] if final_noise else 0.0
    return Chain(
        from_x0=(np.sqrt(before) * beta / (1 - abar)).tolist(),
        from_x=(np.sqrt(1 - beta) * (1 - before) / (1 - abar)).tolist(),
        sigma=np.sqrt(variance).tolist(),
        signal=np.sqrt(abar).tolist(),
        noise=np.sqrt(1 - abar).tolist(),
    )


def time_embedding(steps: int, width: int) -> Tensor:
    """[T, width] sines and cosines of t = 1..T at geometric frequencies from 1 to 1e-4. `width` is even."""
    half = width // 2
    frequency = 10_000.0 ** (-np.arange(half) / max(half - 1, 1))
    angle = np.arange(1, steps + 1)[:, None] * frequency
    return torch.from_numpy(np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32))


def denoiser_specs(n_logits: int, time_width: int, n_obs: int, hidden: Sequence[int]) -> list[ParamSpec]:
    """A perceptron over [x, time, obs]; its first matrix is held in three parts, so that obs enters once per chain."""
    fan_in = n_logits + time_width + n_obs
    parts = [("weight_x", n_logits), ("weight_time", time_width), ("weight_obs", n_obs), ("bias0", 1)]
    first = [ParamSpec(name, rows, hidden[0], fan_in) for name, rows in parts]
    return first + mlp_specs(hidden[0], hidden[1:], n_logits, first=1)


@dataclass(frozen=True)
class Denoiser:
    """The parts of the chain that no training changes."""

    chain: Chain
    embedding: Tensor  # [T, D]
    activation: Activation
    predict: Predict
    bound: float | None  # largest |x_0|

    @property
    def steps(self) -> int:
        """T."""
        return len(self.chain.sigma)

    @property
    def squashes(self) -> bool:
        """Whether the output of the network goes through tanh."""
        return self.predict == "noise" or self.bound is not None

    @property
    def noisy_steps(self) -> list[int]:
        """Entries of the steps that add noise, in the order of the chain."""
        return [t for t in reversed(range(self.steps)) if self.chain.sigma[t] > 0]


def denoised(denoiser: Denoiser, params: Mapping[str, Tensor], obs: Tensor, x: Tensor, step: Tensor) -> Tensor:
    """What the network answers in one step [K, n, A]: x_0 / bound, or the noise; both within 1 unless unbounded.

    obs [K, n, O], x [K, n, A] where the step begins, step [K, n] its entry. By autograd, for losses without a chain.
    """
    time = denoiser.embedding[step]  # [K, n, D]
    first = torch.baddbmm(params["bias0"], obs, params["weight_obs"])
    first = first + torch.bmm(time, params["weight_time"]) + torch.bmm(x, params["weight_x"])
    y = mlp(params, ACTIVATIONS[denoiser.activation](first), denoiser.activation, first=1)
    return torch.tanh(y) if denoiser.squashes else y


def denoising_loss(
    denoiser: Denoiser, params: Mapping[str, Tensor], obs: Tensor, weight: Tensor, *, step: Tensor, noise: Tensor
) -> Tensor:
    """[K] mean squared error of denoising towards every action, weighted by weight [K, M, A] (sums to one over A).

    The end of the chain that stands for action a is +bound at a and -bound elsewhere. Ding et al. 2024 (QVPO) weigh
    sampled actions so by their values; a finite choice can take all of them. step [K, M], noise [K, M, A, A] normal.
    """
    k, m, a = weight.shape
    assert denoiser.bound is not None
    end = denoiser.bound * (2.0 * torch.eye(a) - 1.0)  # [A, A]
    of_step = torch.tensor([denoiser.chain.signal, denoiser.chain.noise])[:, step][..., None, None]  # [2, K, M, 1, 1]
    x = (of_step[0] * end + of_step[1] * noise).reshape(k, m * a, a)
    y = denoised(denoiser, params, obs.repeat_interleave(a, 1), x, step.repeat_interleave(a, 1)).view(k, m, a, a)
    target = noise if denoiser.predict == "noise" else end / denoiser.bound
    return ((y - target).square().mean(-1) * weight).sum(-1).mean(-1)


@dataclass(frozen=True)
class StepCache:
    """What the gradient of one step of the reverse process needs.

    y = tanh(output of the network), or the output where unbounded.
    """

    x: Tensor  # [K, n, A] where the step began
    before: list[Tensor]  # [K, n, H] of every hidden layer, before its activation
    after: list[Tensor]  # the same after it
    y: Tensor  # [K, n, A]
    end: Tensor | None  # [K, n, A] x_0 before it was clamped, None where nothing is clamped


def reverse_process(
    denoiser: Denoiser,
    params: Mapping[str, Tensor],
    obs: Tensor,
    start: Tensor,
    noise: Tensor | None,
    *,
    caches: list[StepCache] | None = None,
) -> Tensor:
    """Logits [K, n, A] at the end of the chain from obs [K, n, O] and start [K, n, A], unknown to autograd.

    `noise` [K, noisy steps, n, A] is standard normal; None follows the means. Fills `caches` in the order of the
    chain, t = T..1.
    """
    activate = ACTIVATIONS[denoiser.activation]
    layers = later_layers(params)
    time = torch.matmul(denoiser.embedding, params["weight_time"]).unsqueeze(2).unbind(1)  # T of [K, 1, H]
    of_obs = torch.baddbmm(params["bias0"], obs, params["weight_obs"])  # [K, n, H], the same in all steps
    noises = iter(()) if noise is None else iter(noise.unbind(1))
    x = start
    for t in reversed(range(denoiser.steps)):
        before = [torch.add(of_obs, time[t]).baddbmm_(x, params["weight_x"])]
        after = [activate(before[0])]
        for weight, bias in layers[:-1]:
            before.append(torch.baddbmm(bias, after[-1], weight))
            after.append(activate(before[-1]))
        y = torch.baddbmm(layers[-1][1], after[-1], layers[-1][0])
        if denoiser.squashes:
            np.tanh(y.numpy(), out=y.numpy())  # several times as fast as torch's
        mean, begin, end = posterior_mean(denoiser, t), x, None
        if mean.clamped is None:
            x = torch.mul(x, mean.keep).add_(y, alpha=mean.gain)
        else:
            end = torch.mul(x, mean.clamped[0]).add_(y, alpha=mean.clamped[1])
            x = torch.mul(x, mean.keep).add_(end.clamp(-denoiser.bound, denoiser.bound), alpha=mean.gain)  # type: ignore[operator]
        if noise is not None and denoiser.chain.sigma[t] > 0:
            x.add_(next(noises), alpha=denoiser.chain.sigma[t])
        if caches is not None:
            caches.append(StepCache(begin, before, after, y, end))
    return x


class PosteriorMean(NamedTuple):
    """Mean of x_(t-1): keep x + gain y, or with `clamped` = (a, b): keep x + gain clamp(a x + b y)."""

    keep: float
    gain: float
    clamped: tuple[float, float] | None


def posterior_mean(denoiser: Denoiser, t: int) -> PosteriorMean:
    """The mean from_x0 x_0 + from_x x_t of a step, in as few passes as it takes."""
    c = denoiser.chain
    if denoiser.predict == "x0":  # x_0 = output, or bound tanh(output)
        return PosteriorMean(c.from_x[t], c.from_x0[t] * (denoiser.bound or 1.0), None)
    from_x, from_noise = 1 / c.signal[t], -c.noise[t] / c.signal[t]  # x_0 = (x_t - noise tanh(output)) / signal
    if denoiser.bound is None:
        return PosteriorMean(c.from_x[t] + c.from_x0[t] * from_x, c.from_x0[t] * from_noise, None)
    return PosteriorMean(c.from_x[t], c.from_x0[t], (from_x, from_noise))


def later_layers(params: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(weight, bias) of the layers behind the first one."""
    return [(params[f"weight{i}"], params[f"bias{i}"]) for i in range(1, sum(name[:4] == "bias" for name in params))]
