"""Where a scheduler comes from: keys of its yaml that say what was published of it and on which traces it was chosen.

One more key names its random numbers.

None of them has an effect on what it decides. A yaml copied to another file name keeps them, so that nothing depends on
what a file is called.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from ddrl_sched.config import Name, Positive, Seed, Settings, validate
from ddrl_sched.edge.env_settings import Rule

Method = Annotated[str, Field(min_length=1, max_length=80)]
Percent = Annotated[float, Field(ge=-1e6, le=1e6)]


def _published(rule: Rule) -> Rule:
    if rule == "clean":
        raise ValueError("must be a published rule set, got 'clean'")
    return rule


class ChosenOn(Settings):
    """Traces on which settings of a scheduler were chosen. What is not given holds whatever it is."""

    world: Name  # env.name
    seed: Seed  # evaluate.seed; of CartPole, whose training is what is judged, seed
    workload: Name | None = None  # workload.name
    loads: Annotated[list[Positive], Field(min_length=1, max_length=100)] | None = None  # workload.load
    traces: Annotated[int, Field(ge=1)] | None = None  # the first ones alone

    def holds_for(self, settings: Mapping[str, object]) -> bool:
        """Whether a job of these settings, which may be a stranger's, is judged on the same traces."""
        env, workload, evaluate = (_group(settings, name) for name in ("env", "workload", "evaluate"))
        seed = settings.get("seed") if env.get("kind") == "gym" else evaluate.get("seed")
        return (
            (self.world, self.seed) == (env.get("name"), seed)
            and self.workload in (None, workload.get("name"))
            and (self.loads is None or workload.get("load") in self.loads)
        )


class Provenance(Settings):
    """The keys; all may be missing."""

    published_as: Method | None = None  # name of the method in the papers
    # published rule set in which it was introduced (env.rule own)
    published_rule: Annotated[Rule, AfterValidator(_published)] | None = None
    published_delay_s: Positive | None = None  # mean delay that was published for it
    # published reduction of the delay (CartPole: gain of the reward) against other methods; {} = by the mean delays
    published_gain_pct: Annotated[dict[Method, Percent], Field(max_length=100)] | None = None
    family: Method | None = None  # gains over published methods are stated for settings of one family
    # traces on which its settings were chosen, by a search or by hand; null: on none, or it is not known
    chosen_on: Annotated[list[ChosenOn], Field(max_length=100)] | None = None
    stream: Method | None = None  # name of its random numbers; null: that of its class


KEYS = tuple(Provenance.model_fields)
CLAIMS = tuple(key for key in KEYS if key != "stream")  # no result depends on them


def provenance_of(scheduler: Mapping[str, object]) -> Provenance:
    """What the group `scheduler` says of it. Raises InputError naming keys."""
    return validate(Provenance, {key: scheduler[key] for key in KEYS if key in scheduler}, "scheduler")


def without_claims(settings: Mapping[str, object]) -> dict[str, object]:
    """Settings of a job without what its scheduler's yaml says of where it comes from: no result depends on it."""
    scheduler = settings.get("scheduler")
    if not isinstance(scheduler, Mapping):
        return dict(settings)
    return {**settings, "scheduler": {key: value for key, value in scheduler.items() if key not in CLAIMS}}


def without_provenance(scheduler: Mapping[str, object]) -> dict[str, object]:
    """The keys that have an effect on what it decides."""
    return {key: value for key, value in scheduler.items() if key not in KEYS}


def choice_remark(scheduler: Mapping[str, object], settings: Mapping[str, object]) -> str:
    """What a report says of a job whose scheduler was chosen on the traces it is judged on; else ""."""
    for chosen in provenance_of(scheduler).chosen_on or []:
        if chosen.holds_for(settings):
            key = "seed" if _group(settings, "env").get("kind") == "gym" else "evaluate.seed"
            first = f", the first {chosen.traces}" if chosen.traces else ""
            return f"its settings were chosen on the traces it is judged on ({key} {chosen.seed}{first})"
    return ""


def _group(settings: Mapping[str, object], name: str) -> Mapping[str, object]:
    group = settings.get(name)
    return group if isinstance(group, Mapping) else {}
