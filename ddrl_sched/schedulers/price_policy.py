"""Schedulers that learn prices: a diffusion actor sets them, and the world chooses and splits exactly under them.

The actor answers, for every task and server, a price per unit share and whether to probe the server.
For every task it answers four factors of the kernel's rule (edge.types.Decision: congestion, unseen_work_factor,
own_work_price, min_wait_ratio), how far to trust announced waits, and what probing one server more costs. Without a
price the rule is the myopic optimum of its information class, so learning starts from a strong policy. One network for
all servers and stations: its cost grows linearly with the servers, and it fits any number of them. The team's mean
delay is what counts, so weights are searched by evolution strategies on the simulator itself (run/evolve.py).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddrl_sched.agents.diffusion import Denoiser, betas, denoiser_specs, reverse_chain, time_embedding
from ddrl_sched.agents.evolution import EvolutionStrategy
from ddrl_sched.agents.finite import AnswerError, check_answers
from ddrl_sched.agents.nets import mlp, mlp_specs
from ddrl_sched.agents.reverse_gradient import chain_logits
from ddrl_sched.agents.stack import Generators, ParamSpec, Stack, first_weights, zero_last_layer
from ddrl_sched.config import InputError
from ddrl_sched.edge.types import Decision, Floats, Scenario
from ddrl_sched.schedulers.base import View
from ddrl_sched.schedulers.observation import N_SECONDS, N_SEEN, observe_servers
from ddrl_sched.schedulers.packing import packing_of
from ddrl_sched.schedulers.price_decision import check_world, price_decision, sets_of
from ddrl_sched.schedulers.price_settings import PriceSettings, evolution_settings

MAX_GB = 32  # of the weights of all candidates
Network = Callable[[Mapping[str, Tensor], Tensor, Tensor], Tensor]


class PricePolicy:
    """A price policy of several training seeds, one set of weights each (K = seeds).

    Replica r of a View belongs to row r // (R / rows) of the weights in use.
    """

    cadence = "epoch"
    draws = False  # from its own generators, not from the stream of the scheduler

    def __init__(self, settings: PriceSettings, scenario: Scenario, n_seeds: int, generators: Generators) -> None:
        check_world(settings, scenario)
        self.info: str = settings.info
        self.choose_info = "tracked" if settings.info == "probed" else settings.info
        self.rate_memory_s: float | None = settings.rate_memory_s
        self.settings = settings
        self.n_seeds = self.n_learners = n_seeds
        self._actor = _actor(settings)
        specs = actor_specs(settings)
        _check_size(settings, specs, n_seeds)
        self.search = EvolutionStrategy(
            specs, _zero_output(specs, first_weights(specs, generators)), evolution_settings(settings), list(generators)
        )
        self._stack = self.search.stack
        self._generators = self._drawn_by = list(generators)
        self._probe_noise = 0.0
        self._sets = sets_of(settings, scenario)

    def act_with(self, candidates: Stack | None, progress: float = 0.0) -> None:
        """Decide with these candidates from now on, as in training (None: with the learners' own weights).

        `progress` in [0, 1] of the training says how noisy probing is.
        """
        self._stack, self._probe_noise = self.search.stack, 0.0
        if candidates is not None:
            self._stack, self._drawn_by = candidates, self._generators
            self._probe_noise = self.settings.ask_noise * (1.0 + (self.settings.ask_noise_final - 1.0) * progress)

    def start_evaluation(self, n_traces: int, generators: Sequence[np.random.Generator]) -> None:
        """Decide with the learned weights; `generators` [K] give the noise of chains that start from noise."""
        self.act_with(None)
        self._drawn_by = list(generators)

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """Prices, probes and factors for the window; the kernel chooses and splits by them."""
        valid = view.tasks.valid
        replica, item = np.nonzero(valid)
        seen, seconds = observe_servers(view, self.settings)
        rows = len(self._stack.flat)
        packing = packing_of(replica // (valid.shape[0] // rows), rows)
        output = packing.rows(self._output(packing.stacked(seen[replica, item])))  # [n, E, outputs]
        answer = np.zeros((*valid.shape, *output.shape[1:]))
        answer[replica, item] = output
        linear_s = self._linear_price(seconds) if "price" in self.settings.learn else None
        noise = self._noise(answer)
        return price_decision(view, self.settings, answer, seconds, sets=self._sets, linear_s=linear_s, noise=noise)

    @torch.inference_mode()
    def _output(self, packed: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs [K, n, E, outputs] within +-bound for what is seen of servers [K, n, E, N_SEEN]."""
        k, n, e, _ = packed.shape
        seen = torch.from_numpy(packed).view(k, n * e, N_SEEN)
        start = torch.zeros(k, n * e, len(self.settings.learn))
        if self.settings.actor.start == "noise":
            drawn = np.resize(np.arange(len(self._drawn_by)), k)  # candidates of a seed differ, their noise need not
            noise = [self._drawn_by[i].standard_normal(start.shape[1:], np.float32) for i in sorted(set(drawn))]
            start = torch.from_numpy(np.stack(noise)).repeat_interleave(k // len(noise), 0)
        output = self._actor(self._stack.params, seen, start) + torch.bmm(seen, self._stack.params["linear"])
        try:
            check_answers(output)
        except AnswerError as error:  # a seed has k / n_seeds candidates
            raise error.at(k // self.n_seeds, self.search.generation, "candidate") from None
        bound = self.settings.actor.bound
        return output.clamp_(-bound, bound).view(k, n, e, -1).numpy()

    def _linear_price(self, seconds: Sequence[Floats]) -> Floats:
        """[R, M, E] s: learned weights times the numbers in seconds."""
        weight = self._stack.params["price_of_seconds"].detach().numpy()[:, :, 0]  # [K, N_SECONDS]
        weight = np.repeat(weight, len(seconds[0]) // len(weight), 0)
        price_s: Floats = weight[:, 0, None, None] * seconds[0]
        for i, value in enumerate(seconds[1:], start=1):
            if weight[:, i].any():
                price_s += weight[:, i, None, None] * value
        return price_s

    def _noise(self, answer: Floats) -> Floats | None:
        """[R, M] what is added to the scores of probing in training; None where nothing is.

        It is drawn for each task, the same for all candidates of a seed: whether probing pays shows in every
        comparison, however sure the actor is.
        """
        if self._probe_noise <= 0.0 or {"probe", "rank"}.isdisjoint(self.settings.learn):
            return None
        uniform = np.stack([g.random(answer.shape[1]) for g in self._drawn_by])
        noise = np.log(uniform) - np.log1p(-uniform)
        return self._probe_noise * np.repeat(noise, len(answer) // len(noise), 0)

    def weights(self) -> dict[str, Tensor]:
        """Copies of the learned layers."""
        return self.search.weights()

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take over what `weights` gave. ValueError on other names or shapes."""
        self.search.load_weights(weights)


def actor_specs(settings: PriceSettings) -> list[ParamSpec]:
    """Layers of the actor, one network for all servers, its linear part, and the weights of the linear price."""
    a, n_out = settings.actor, len(settings.learn)
    net = mlp_specs(N_SEEN, a.hidden, n_out)
    if a.kind == "diffusion":
        net = denoiser_specs(n_out, a.time_width, N_SEEN, a.hidden)
    return [*net, ParamSpec("linear", N_SEEN, n_out, N_SEEN), ParamSpec("price_of_seconds", N_SECONDS, 1, 1)]


def _check_size(settings: PriceSettings, specs: Sequence[ParamSpec], n_seeds: int) -> None:
    """InputError where the candidates of a generation would take more than MAX_GB; before any of it is taken."""
    weights = sum(spec.rows * spec.columns for spec in specs)
    size_gb = 4e-9 * weights * n_seeds * 3 * evolution_settings(settings).pairs  # changes and both candidates
    if size_gb > MAX_GB:
        text = f"{weights:,} weights of {n_seeds} seeds take {size_gb:.3g} GB for their candidates, at most {MAX_GB} GB"
        raise InputError(f"scheduler.evolution.pairs, scheduler.actor.hidden: {text}")


def _zero_output(specs: Sequence[ParamSpec], flat: Tensor) -> Tensor:
    """The same first weights with an output of zero: learning starts from the rule of `start`."""
    stack = Stack(specs, flat, trained=False)
    zero_last_layer(stack)
    for name in ("linear", "price_of_seconds"):
        stack.params[name].zero_()
    return flat


def _actor(settings: PriceSettings) -> Network:
    """f(params, seen [K, n, N_SEEN], start [K, n, outputs]) -> outputs [K, n, outputs] within +-bound."""
    a = settings.actor
    if a.kind == "mlp":
        return lambda params, seen, start: a.bound * torch.tanh(mlp(params, seen, "relu"))
    try:
        chain = reverse_chain(betas(a.schedule, a.steps, a.beta_min, a.beta_max), final_noise=False)
    except ValueError as error:
        raise InputError(f"scheduler.{str(error).replace('agent.', 'actor.')}") from None
    denoiser = Denoiser(chain, time_embedding(a.steps, a.time_width), "relu", "x0", a.bound)
    return lambda params, seen, start: chain_logits(denoiser, params, seen, start, None)
