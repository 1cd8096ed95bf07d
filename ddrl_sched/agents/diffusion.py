"""Denoising diffusion (Ho et al. 2020) as a policy: the reverse chain that turns a start into action logits.

Axes: K learners, n observations, A logits, O observed numbers, D width of the time embedding, T steps. Step t = 1..T is
entry t - 1 of every list of coefficients; the chain runs from t = T down to 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddrl_sched.agents.nets import ACTIVATIONS, Activation, mlp, mlp_leaves
from ddrl_sched.agents.stack import Leaf

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


def denoiser_leaves(n_logits: int, time_width: int, n_obs: int, hidden: Sequence[int]) -> list[Leaf]:
    """A perceptron over [x, time, obs]; its first matrix is held in three parts, so that obs enters once per chain."""
    fan_in = n_logits + time_width + n_obs
    parts = [("weight_x", n_logits), ("weight_time", time_width), ("weight_obs", n_obs), ("bias0", 1)]
    first = [Leaf(name, rows, hidden[0], fan_in) for name, rows in parts]
    return first + mlp_leaves(hidden[0], hidden[1:], n_logits, first=1)


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
    def noisy_steps(self) -> list[int]:
        """Entries of the steps that add noise, in the order of the chain."""
        return [t for t in reversed(range(self.steps)) if self.chain.sigma[t] > 0]

    def logits(self, leaves: Mapping[str, Tensor], obs: Tensor, start: Tensor, noise: Tensor | None) -> Tensor:
        """Logits [K, n, A] from obs [K, n, O] and start [K, n, A].

        `noise` [K, noisy steps, n, A] is standard normal; None walks along the means.
        """
        # biases are widened once per chain, so that their gradients are summed once, not at every step
        wide = {k: w.expand(-1, obs.shape[1], -1) if k.startswith("bias") else w for k, w in leaves.items()}
        time = torch.matmul(self.embedding, leaves["weight_time"]).unsqueeze(2).unbind(1)  # T of [K, 1, H]
        seen = torch.baddbmm(wide["bias0"], obs, leaves["weight_obs"])  # [K, n, H]
        noises = iter(()) if noise is None else iter(noise.unbind(1))
        x = start
        for t in reversed(range(self.steps)):
            hidden = torch.baddbmm(seen + time[t], x, leaves["weight_x"])
            output = mlp(wide, ACTIVATIONS[self.activation](hidden), self.activation, first=1)
            x = self._mean(t, x, output)
            if noise is not None and self.chain.sigma[t] > 0:
                x = torch.add(x, next(noises), alpha=self.chain.sigma[t])
        return x

    def _mean(self, t: int, x: Tensor, output: Tensor) -> Tensor:
        """Mean of x_(t-1) given x_t and the output: from_x0 x_0 + from_x x_t, in as few passes as it takes."""
        c = self.chain
        if self.predict == "x0":  # x_0 = output, or bound tanh(output)
            end = output if self.bound is None else output.tanh()
            return torch.add(c.from_x[t] * x, end, alpha=c.from_x0[t] * (self.bound or 1.0))
        from_x, from_noise = 1 / c.signal[t], -c.noise[t] / c.signal[t]  # x_0 = (x_t - noise tanh(output)) / signal
        if self.bound is None:
            keep = c.from_x[t] + c.from_x0[t] * from_x
            return torch.add(keep * x, output.tanh(), alpha=c.from_x0[t] * from_noise)
        x0 = torch.add(from_x * x, output.tanh(), alpha=from_noise).clamp(-self.bound, self.bound)
        return torch.add(c.from_x[t] * x, x0, alpha=c.from_x0[t])
