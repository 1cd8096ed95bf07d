"""Where a scheduler comes from: keys of its yaml that say what was published of it, and name its random numbers.

None of them has an effect on what it decides. A yaml copied to another file name keeps them, so that nothing depends on
what a file is called.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from ddrl_sched.config import Positive, Settings, validate
from ddrl_sched.edge.env_settings import Rule

Method = Annotated[str, Field(min_length=1, max_length=80)]
Percent = Annotated[float, Field(ge=-1e6, le=1e6)]


def _published(rule: Rule) -> Rule:
    if rule == "clean":
        raise ValueError("must be a published rule set, got 'clean'")
    return rule


class Provenance(Settings):
    """The keys; all may be missing."""

    published_as: Method | None = None  # name of the method in the papers
    # published rule set in which it was introduced (env.rule own)
    published_rule: Annotated[Rule, AfterValidator(_published)] | None = None
    published_delay_s: Positive | None = None  # mean delay that was published for it
    # published reduction of the delay (CartPole: gain of the reward) against other methods; {} = by the mean delays
    published_gain_pct: Annotated[dict[Method, Percent], Field(max_length=100)] | None = None
    family: Method | None = None  # gains over published methods are stated for settings of one family
    stream: Method | None = None  # name of its random numbers; null: that of its class


KEYS = tuple(Provenance.model_fields)
CLAIMS = tuple(key for key in KEYS if key != "stream")  # no result depends on them


def provenance_of(scheduler: Mapping[str, object]) -> Provenance:
    """What the group `scheduler` says of it. Raises InputError naming keys."""
    return validate(Provenance, {key: scheduler[key] for key in KEYS if key in scheduler}, "scheduler")


def without_claims(settings: Mapping[str, object]) -> dict[str, object]:
    """Settings of a job without what was published of its scheduler, on which no result depends."""
    scheduler = settings.get("scheduler")
    if not isinstance(scheduler, Mapping):
        return dict(settings)
    return {**settings, "scheduler": {key: value for key, value in scheduler.items() if key not in CLAIMS}}


def without_provenance(scheduler: Mapping[str, object]) -> dict[str, object]:
    """The keys that have an effect on what it decides."""
    return {key: value for key, value in scheduler.items() if key not in KEYS}
