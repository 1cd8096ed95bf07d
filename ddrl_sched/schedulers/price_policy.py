"""Schedulers that learn prices: a diffusion actor over servers sets them, the world's exact split and choice obey.

The actor answers, for every task and server, a price per unit share and whether to ask the server for its backlog.
For every task it answers four factors of the kernel's rule (edge.types.Decision: congestion, unseen_work_factor,
own_work_price, min_wait_ratio), how far to trust announced waits, and what asking one server more costs. Without a
price the rule is the myopic optimum of its information class, so learning starts from a strong policy. One network for
all servers and stations: its cost grows linearly with the servers, and it fits any number of them. The team's mean
delay is what counts, so weights are searched by evolution strategies on the simulator itself (run/evolve.py).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ddrl_sched.agents.diffusion import Denoiser, Schedule, betas, denoiser_specs, reverse_chain, time_embedding
from ddrl_sched.agents.evolution import EvolutionSettings, EvolutionStrategy
from ddrl_sched.agents.finite import AnswerError, check_answers
from ddrl_sched.agents.nets import Hidden, mlp, mlp_specs
from ddrl_sched.agents.stack import Generators, ParamSpec, Stack, first_weights, zero_last_layer
from ddrl_sched.config import LARGEST, InputError, Settings, validate, validate_record
from ddrl_sched.edge.types import Decision, Floats, Scenario
from ddrl_sched.provenance import without_provenance
from ddrl_sched.schedulers.actions import table
from ddrl_sched.schedulers.base import View
from ddrl_sched.schedulers.probing import own_load, probing_worth, rank_of_others
from ddrl_sched.schedulers.server_sets import all_servers, externality_s, of_servers, still_to_come

PER_SERVER = ("price", "probe")
PER_TASK = ("congestion", "unseen_work_factor", "own_work_price", "min_wait_ratio")  # of the kernel's rule
OUTPUTS = (*PER_SERVER, *PER_TASK, "trust", "rank")
N_SEEN, N_SECONDS = 14, 6  # numbers of one server that the network sees; those in seconds that a price may add up
Positive = Annotated[float, Field(gt=0.0, le=LARGEST)]
Factor = Annotated[float, Field(ge=0.0, le=LARGEST)]
MAX_GB = 32  # of the weights of all candidates


class StartSettings(Settings):
    """Where learning starts; what is not learned stays there."""

    probe: Annotated[
        float, Field(ge=-LARGEST, le=LARGEST)
    ]  # a server is asked where this, the worth of asking and the actor's output together are positive
    worth: Factor  # weight of the worth of asking, log(wait expected there / time that asking takes)
    rank: Factor = 0.0  # what asking falls by is this times log j for the j-th server of rank_of_others
    congestion: Factor
    unseen_work_factor: Factor
    own_work_price: Factor
    min_wait_ratio: Factor
    trust: Annotated[float, Field(gt=0.0, le=100.0)]  # share of the announced waits that counts, 1 = all


class ScaleSettings(Settings):
    """Fixed constants: numbers in seconds are observed as log(1 + value / constant)."""

    time_s: Positive  # of sending and computing a whole task
    wait_s: Positive
    price_s: Positive  # unit of the actor's prices


class ActorSettings(Settings):
    """The network."""

    kind: Literal["mlp", "diffusion"]
    hidden: Hidden
    bound: Annotated[float, Field(gt=0.0, le=50.0)]  # largest |output|; factors of a task are start x exp(output)
    steps: Annotated[int, Field(ge=1, le=1000)]  # T of the reverse chain
    schedule: Schedule
    beta_min: Annotated[float, Field(gt=0.0, le=1e4)]
    beta_max: Annotated[float, Field(gt=0.0, le=1e4)]
    time_width: Annotated[int, Field(gt=0, le=1024, multiple_of=2)]
    start: Literal["zero", "noise"]  # where the chain starts; noise: fresh for every decision


class PriceSettings(Settings):
    """The yaml of a price policy."""

    name: Literal["price_policy"]
    info: Literal["announced", "tracked", "probed", "running"]
    candidates: Literal["single", "any_subset", "all"]  # sets compared by the rule; all: every server, no comparison
    split: Literal["whole", "equal_finish"]
    learn: list[
        Literal[
            "price", "probe", "congestion", "unseen_work_factor", "own_work_price", "min_wait_ratio", "trust", "rank"
        ]
    ]
    rate_memory_s: Positive  # time constant of the station's own count of arrivals
    keep_to_asked: bool = False  # where servers were asked, only they and the own one are used
    ask_noise: Factor  # in training: scale of a logistic number added to `probe` for each task
    ask_noise_final: Annotated[float, Field(ge=0.0, le=1.0)]  # fraction of it in the last generation, linear between
    start: StartSettings
    scale: ScaleSettings
    actor: ActorSettings
    evolution: dict[str, Any]


def price_settings(data: Mapping[str, Any]) -> PriceSettings:
    """The yaml of a price policy, checked. Raises InputError naming keys."""
    settings = validate(PriceSettings, without_provenance(data), "scheduler")
    evolution_settings(settings)
    if not settings.learn or len(set(settings.learn)) < len(settings.learn):
        raise InputError(f"scheduler.learn: at least one of {', '.join(OUTPUTS)}, each once")
    for name in ("probe", "rank"):
        if name in settings.learn and settings.info != "probed":
            raise InputError(f"scheduler.learn: {name} needs scheduler.info probed")
    if settings.info != "probed" and (settings.start.rank > 0.0 or settings.keep_to_asked):
        key = "keep_to_asked" if settings.keep_to_asked else "start.rank"
        raise InputError(f"scheduler.{key}: needs scheduler.info probed, otherwise no server is asked")
    if settings.info == "probed" and settings.candidates == "all":
        raise InputError("scheduler.candidates: all asks nobody, scheduler.info cannot be probed")
    for name in (*PER_TASK, "rank"):
        if name in settings.learn and getattr(settings.start, name) == 0.0:
            raise InputError(f"scheduler.start.{name}: must be above 0 where it is learned (it is multiplied)")
    return settings


def evolution_settings(settings: PriceSettings) -> EvolutionSettings:
    """The checked numbers of the search. Raises InputError naming scheduler.evolution keys."""
    numbers: EvolutionSettings = validate_record(EvolutionSettings, settings.evolution, "scheduler.evolution")
    return numbers


class PricePolicy:
    """A price policy of several training seeds, one set of weights each (K = seeds).

    Replica r of a View belongs to row r // (R / rows) of the weights in use.
    """

    cadence = "epoch"

    def __init__(self, settings: PriceSettings, scenario: Scenario, n_seeds: int, generators: Generators) -> None:
        _check_world(settings, scenario)
        self.info: str = settings.info
        self.choose_info = "tracked" if settings.info == "probed" else settings.info
        self.rate_memory_s = settings.rate_memory_s
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
        self._sets = None
        if settings.candidates != "all":
            self._sets = table(settings.candidates, scenario.home, scenario.n_stations)

    def act_with(self, candidates: Stack | None, progress: float = 0.0) -> None:
        """Decide with these candidates from now on, as in training (None: with the learners' own weights).

        `progress` in [0, 1] of the training says how noisy asking is.
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
        seen, seconds = observe(view, self.settings)
        rows = len(self._stack.flat)
        learner = replica // (valid.shape[0] // rows)
        count = np.bincount(learner, minlength=rows)
        place = np.arange(len(learner)) - np.repeat(np.cumsum(count) - count, count)
        packed = np.zeros((rows, int(count.max(initial=0)), *seen.shape[2:]), np.float32)
        packed[learner, place] = seen[replica, item]
        output = self._output(packed)[learner, place]  # [n, E, outputs]
        answer = np.zeros((*valid.shape, *output.shape[1:]))
        answer[replica, item] = output
        return self._decision(view, answer, seconds)

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

    def _decision(self, view: View, answer: Floats, seconds: Sequence[Floats]) -> Decision:
        s, learn = self.settings, self.settings.learn
        everyone = all_servers(view)
        price_s = None
        if "price" in learn:
            price_s = self._linear_price(seconds) + s.scale.price_s * answer[..., learn.index("price")]
        trust = self._factor("trust", answer)
        if trust is not None:
            less_s = (trust - 1.0)[..., None] * seconds[0]
            price_s = less_s if price_s is None else price_s + less_s
        if s.candidates == "all":
            return Decision("given", s.info, split=s.split, select=everyone, price_s=price_s)
        probe = select = None
        if s.info == "probed":
            probe = everyone & (self._probe_score(view, answer) > 0.0)
            if s.keep_to_asked:
                own = view.local
                asked = probe & ~own
                select = everyone & (asked | own | ~asked.any(-1, keepdims=True))
        return Decision(
            "best",
            s.info,
            split=s.split,
            candidates=self._sets,
            select=select,
            probe=probe,
            price_s=price_s,
            mean_work_gcycle=view.mean_work_gcycle,
            **{name: self._factor(name, answer) for name in PER_TASK},  # type: ignore[arg-type]
        )

    def _probe_score(self, view: View, answer: Floats) -> Floats:
        """[R, M, E] a server is asked where this is positive: start.probe, worth, rank and the actor's output together.

        In training a number drawn for each task (the same for all candidates of a seed) is added: whether asking
        pays shows in every comparison, however sure the actor is.
        """
        start = self.settings.start
        ask = np.full(answer.shape[:3], start.probe)
        if start.worth > 0.0:
            ask += start.worth * probing_worth(view)
        rank = self._factor("rank", answer)
        if rank is not None:
            ask -= rank[..., None] * np.log(rank_of_others(view))
        learn = self.settings.learn
        if "probe" in learn:
            ask += answer[..., learn.index("probe")]
        if self._probe_noise > 0.0 and not {"probe", "rank"}.isdisjoint(learn):
            uniform = np.stack([g.random(answer.shape[1]) for g in self._drawn_by])
            noise = np.log(uniform) - np.log1p(-uniform)
            ask += self._probe_noise * np.repeat(noise, len(answer) // len(noise), 0)[..., None]
        return ask

    def _factor(self, name: str, answer: Floats) -> Floats | None:
        """Factor [R, M] of the kernel's rule: start x exp(mean output over the servers); None where it does nothing."""
        start = float(getattr(self.settings.start, name))
        if name in self.settings.learn:
            factor: Floats = start * np.exp(answer[..., self.settings.learn.index(name)].mean(-1))
            return factor
        return (
            None
            if start == (1.0 if name in ("unseen_work_factor", "trust") else 0.0)
            else np.full(answer.shape[:2], start)
        )

    def weights(self) -> dict[str, Tensor]:
        """Copies of the learned layers."""
        return self.search.weights()

    def load_weights(self, weights: dict[str, Tensor]) -> None:
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


def _actor(settings: PriceSettings) -> Any:
    """f(params, seen [K, n, N_SEEN], start [K, n, outputs]) -> outputs [K, n, outputs] within +-bound."""
    a = settings.actor
    if a.kind == "mlp":
        return lambda params, seen, start: a.bound * torch.tanh(mlp(params, seen, "relu"))
    try:
        chain = reverse_chain(betas(a.schedule, a.steps, a.beta_min, a.beta_max), final_noise=False)
    except ValueError as error:
        raise InputError(f"scheduler.{str(error).replace('agent.', 'actor.')}") from None
    denoiser = Denoiser(chain, time_embedding(a.steps, a.time_width), "relu", "x0", a.bound)
    return lambda params, seen, start: denoiser.logits(params, seen, start, None)


def _check_world(settings: PriceSettings, scenario: Scenario) -> None:
    published = ("all", ["price"], "running")
    if scenario.published and (settings.candidates, settings.learn, settings.info) != published:
        raise InputError(
            f"scheduler: under the published rule {scenario.rule} a price policy can have candidates all, "
            "learn [price] and info running only"
        )
    if settings.candidates == "any_subset" and 2**scenario.n_servers > 4096:
        raise InputError(f"scheduler.candidates: any_subset is for few servers, this world has {scenario.n_servers}")


def observe(view: View, settings: PriceSettings) -> tuple[NDArray[np.float32], list[Floats]]:
    """What the actor sees of every server [R, M, E, N_SEEN], and N_SECONDS numbers in seconds [R, M, E].

    Seen: wait (own class, as of the start of the interval), computing, sending and overhead of the whole task, whether
    the server is the own one, its speed, the age of the announcement; the backlog of all, of the own and of the least
    busy server; work and overhead of the task relative to the mean; the load by the station's own count of arrivals;
    the tasks still expected in the slot from the own station and from that of the server (slotted worlds, else 0).
    """
    tasks, scenario, scale = view.tasks, view.scenario, settings.scale
    assert view.wait_s is not None
    assert view.age_s is not None
    wait_s, speed = view.wait_s, scenario.speed_gcps
    unit_s, send_s, own = view.work_s, view.send_s, view.local
    overhead_s = tasks.overhead_gcycle[..., None] / speed
    coming: Floats = np.zeros(1)
    external_s: tuple[Floats, ...] = ()
    slot_mean, own_coming, their_coming = 1.0, coming, coming
    if view.slot_tasks is not None:
        coming = still_to_come(view, view.slot_tasks, see_all=settings.info == "running")
        external_s = externality_parts_s(view, coming)
        slot_mean = max(float(view.slot_tasks.sum()), 1e-9)
        own_coming = np.take_along_axis(coming, tasks.origin[..., None], -1)
        their_coming = of_servers(scenario, coming)
    load = own_load(view)
    relative = np.log(np.maximum(tasks.work_gcycle / view.mean_work_gcycle, 1e-6))
    seen = np.empty((*wait_s.shape, N_SEEN), np.float32)
    for column, value in enumerate((wait_s / scale.wait_s, *(x / scale.time_s for x in (unit_s, send_s, overhead_s)))):
        seen[..., column] = np.log1p(value.astype(np.float32))
    seen[..., 4] = own
    seen[..., 5] = np.log(speed / speed.mean())
    backlogs = [wait_s @ speed / speed.sum(), (wait_s * own).sum(-1), wait_s.min(-1)]
    backlogs = [np.log1p(value / scale.wait_s) for value in backlogs]
    per_task = (view.age_s / scenario.announce_s, *backlogs, relative, 2.0 * load - 1.0)
    for column, value in enumerate(per_task, start=6):
        seen[..., column] = value[..., None]
    seen[..., 12] = own_coming / slot_mean
    seen[..., 13] = their_coming / slot_mean
    return seen, [wait_s, unit_s, send_s, overhead_s, *external_s]


def externality_parts_s(view: View, coming: Floats) -> tuple[Floats, Floats]:
    """The externality of sets.externality_s in its two parts: the own port and the server's own station."""
    whole = externality_s(view, coming)
    at_server = of_servers(view.scenario, coming) * view.tasks.work_gcycle[..., None] / view.scenario.speed_gcps
    return whole - at_server, at_server
