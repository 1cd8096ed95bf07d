"""What the outputs of a price policy mean: prices, probes and factors become a Decision. Arrays only, no network.

Outputs are arrays [R, M, E, outputs], one output for each name of PriceSettings.learn, within +-actor.bound.
"""

from collections.abc import Sequence

import numpy as np

from ddrl_sched.config import InputError
from ddrl_sched.edge.types import Bools, Decision, Floats, Scenario
from ddrl_sched.schedulers.actions import table
from ddrl_sched.schedulers.base import View
from ddrl_sched.schedulers.price_settings import PER_TASK, PriceSettings
from ddrl_sched.schedulers.probing import probing_worth, rank_of_others
from ddrl_sched.schedulers.server_sets import all_servers


def price_decision(
    view: View,
    settings: PriceSettings,
    answer: Floats,
    seconds: Sequence[Floats],
    *,
    sets: Bools | None,
    linear_s: Floats | None = None,
    noise: Floats | None = None,
) -> Decision:
    """Prices, probes and factors for the window; the kernel chooses among `sets` and splits by them.

    `seconds`: the numbers in seconds of observe_servers; `linear_s` [R, M, E] is added to the price, `noise` [R, M] to
    the scores of probing.
    """
    learn = settings.learn
    everyone = all_servers(view)
    price_s = None
    if "price" in learn:
        price_s = settings.scale.price_s * answer[..., learn.index("price")]
        if linear_s is not None:
            price_s = linear_s + price_s
    trust = _factor(settings, "trust", answer)
    if trust is not None:
        less_s = (trust - 1.0)[..., None] * seconds[0]
        price_s = less_s if price_s is None else price_s + less_s
    if settings.candidates == "all":
        return Decision("given", settings.info, split=settings.split, select=everyone, price_s=price_s)
    probe = select = None
    if settings.info == "probed":
        probe = everyone & (_probe_score(view, settings, answer, noise) > 0.0)
        if settings.keep_to_asked:
            select = _probed_or_own(probe, view.local)
    return Decision(
        "best",
        settings.info,
        split=settings.split,
        candidates=sets,
        select=select,
        probe=probe,
        price_s=price_s,
        mean_work_gcycle=view.mean_work_gcycle,
        **{name: _factor(settings, name, answer) for name in PER_TASK},  # type: ignore[arg-type]
    )


def sets_of(settings: PriceSettings, scenario: Scenario) -> Bools | None:
    """[B, S, E] the sets that the rule compares; None: it does not compare any."""
    if settings.candidates == "all":
        return None
    return table(settings.candidates, scenario.home, scenario.n_stations)


def check_world(settings: PriceSettings, scenario: Scenario) -> None:
    """InputError where a price policy of these settings cannot decide in a world."""
    published = ("all", ["price"], "running")
    if scenario.published and (settings.candidates, settings.learn, settings.info) != published:
        raise InputError(
            f"scheduler: under the published rule {scenario.rule} a price policy can have candidates all, "
            "learn [price] and info running only"
        )
    if settings.candidates == "any_subset" and 2**scenario.n_servers > 4096:
        raise InputError(f"scheduler.candidates: any_subset is for few servers, this world has {scenario.n_servers}")


def _probe_score(view: View, settings: PriceSettings, answer: Floats, noise: Floats | None) -> Floats:
    """[R, M, E] start.probe, worth, rank and the output together; servers are probed where it is positive."""
    start, learn = settings.start, settings.learn
    score = np.full(answer.shape[:3], start.probe)
    if start.worth > 0.0:
        score += start.worth * probing_worth(view)
    rank = _factor(settings, "rank", answer)
    if rank is not None:
        score -= rank[..., None] * np.log(rank_of_others(view))
    if "probe" in learn:
        score += answer[..., learn.index("probe")]
    if noise is not None:
        score += noise[..., None]
    return score


def _factor(settings: PriceSettings, name: str, answer: Floats) -> Floats | None:
    """Factor [R, M] of the kernel's rule: start x exp(mean output over the servers); None where it does nothing."""
    start = float(getattr(settings.start, name))
    if name in settings.learn:
        factor: Floats = start * np.exp(answer[..., settings.learn.index(name)].mean(-1))
        return factor
    neutral = 1.0 if name in ("unseen_work_factor", "trust") else 0.0
    return None if start == neutral else np.full(answer.shape[:2], start)


def _probed_or_own(probe: Bools, own: Bools) -> Bools:
    """[R, M, E] servers that may be used: the probed ones and the own one; all where no other server is probed."""
    others = probe & ~own
    usable: Bools = others | own | ~others.any(-1, keepdims=True)
    return usable
