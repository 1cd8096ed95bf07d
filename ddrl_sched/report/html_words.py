"""The verdicts of a report as words of a page."""

import math
from collections.abc import Sequence
from html import escape

from ddrl_sched.report.material import NOT_REAL, short_titles
from ddrl_sched.report.numbers import number, percentage, unit_of, with_interval
from ddrl_sched.report.statistics import Estimate
from ddrl_sched.report.verdict import Rival, Verdict

KNOWS = {
    "static": "knows speeds and links only",
    "announced": "knows queues as last announced",
    "own": "knows its own queue and what it has placed",
    "tracked": "knows announced queues and what its station has sent since",
    "probed": "may ask servers for their queues before it sends",
    "running": "knows the exact state of all servers at every moment, as no real system does",
    "clairvoyant": "knows the future",
}
MOST = 12  # verdicts that stand in full
MOST_NAMES = 6


def verdict_section(found: Sequence[Verdict]) -> str:
    """Which scheduler to take, per world and load."""
    titles = short_titles([verdict.world for verdict in found])
    cards = [_card(verdict, titles[verdict.world]) for verdict in found]
    parts = [f'<p class="overall">{_overall(found)}</p>', f'<ul class="verdicts">{"".join(cards[:MOST])}</ul>']
    if len(cards) > MOST:
        rest = f'<ul class="verdicts">{"".join(cards[MOST:])}</ul>'
        parts.append(f"<details><summary>{len(cards) - MOST} more worlds and loads</summary>{rest}</details>")
    parts.append(
        '<p class="note">The scheduler with the least mean delay among those that keep up with the tasks and that a '
        "real system could run. In brackets: 95 % intervals. Not distinguishable: the measured difference may be luck "
        "of these traces and seeds (paired test over the same traces, 5 % level, Holm's correction for all rivals of "
        "a world). Stars in the tables correct for all pairs of a table, which is stricter: a pair may lack a star "
        "there and be significant here. A solid bar at the left: the first place is significant; a dashed one: it is "
        "open.</p>"
    )
    return "\n".join(parts)


def _overall(found: Sequence[Verdict]) -> str:
    """One sentence over all worlds."""
    able = [verdict for verdict in found if verdict.best]
    if not able:
        return "No scheduler keeps up with the tasks."
    among = [{verdict.best, *verdict.alike} for verdict in able]
    always = [name for name in dict.fromkeys(verdict.best for verdict in able) if all(name in some for some in among)]
    always += sorted(set.intersection(*among) - set(always))
    n_best = sum(always[0] == verdict.best for verdict in able) if always else 0
    one_world = len({verdict.world[:3] for verdict in found}) == 1
    everywhere = f"at all {len(able)} loads" if one_world else f"in all {len(able)} worlds and loads"
    everywhere += " at which any keeps up" if len(able) < len(found) else ""
    if not any(verdict.rivals for verdict in able) and len({verdict.best for verdict in able}) == 1:
        return f"{_bold(able[0].best)} keeps up; there is no other to compare it with."
    if all(verdict.info in NOT_REAL for verdict in able):
        return "Nothing to take: no real system knows what those that keep up know."
    if len(able) == 1:
        return f"Take {_bold(able[0].best)}{'' if able[0].decisive else ', or another that cannot be told from it'}."
    if not always:
        return "No single scheduler is among the best everywhere: choose by the load."
    if len(always) == 1 and n_best == len(able):
        return f"Take {_bold(always[0])}: least mean delay {everywhere}{_not_certain(able)}."
    others = f"; so {'are' if len(always) > 2 else 'is'} {_names(always[1:])}" if len(always) > 1 else ""
    return f"{_bold(always[0])} is the best or not distinguishable from it {everywhere}{others}."


def _not_certain(found: Sequence[Verdict]) -> str:
    n = sum(bool(verdict.alike) for verdict in found)
    return f", though in {n} of them another may be as good" if n else ""


def _card(verdict: Verdict, title: str) -> str:
    certain = "" if verdict.decisive else ' class="open"'
    lines = [f'<p class="where">{escape(title)}</p>']
    if verdict.best:
        lines.append(f'<p class="take">{_bold(verdict.best)}: {_delay(verdict.delay_s)}</p>')
        lines.append(f"<p>{_sure(verdict)}</p>")
        lines += [f"<p>{text}</p>" for rival in verdict.baselines[:3] if (text := _against(rival))]
    else:
        lines.append('<p class="take">No scheduler keeps up.</p>')
    lines.append(f'<p class="small">{_small(verdict)}</p>')
    return f"<li{certain}>{''.join(lines)}</li>"


def _sure(verdict: Verdict) -> str:
    if not verdict.rivals:
        return "Nothing to compare it with."
    if any(math.isnan(rival.p) for rival in verdict.rivals):
        return "How sure that is cannot be told: there are too few traces."
    if verdict.decisive:
        nearest = verdict.rivals[0]
        fewer = percentage(nearest.less_pct.value)
        n = len(verdict.rivals)
        every = "its only rival" if n == 1 else "both rivals" if n == 2 else f"all {n} rivals"
        return f"Significant: less delay than {every}; {fewer} % less than the next, {_name(nearest.name)}."
    return f"Not distinguishable: {_names(verdict.alike)}."


def _against(rival: Rival) -> str:
    """ "38.1 % [35.0, 41.0] less delay than drlcoedge"."""
    value = rival.less_pct.value
    if math.isnan(value):
        return ""
    ends = (value, rival.less_pct.lo, rival.less_pct.hi)
    if value < 0:
        ends = (-value, -rival.less_pct.hi, -rival.less_pct.lo)
    amount = with_interval(ends, percentage).replace(" [", " % [") + ("" if math.isfinite(ends[1]) else " %")
    open_ = "" if rival.worse or math.isnan(rival.p) or value < 0 else " (may be luck)"
    return f"{amount} {'more' if value < 0 else 'less'} delay than {_name(rival.name)}{open_}."


def _small(verdict: Verdict) -> str:
    parts = [_counts(verdict)]
    if verdict.one_training:
        parts.append(f"Trained only once, with luck that is not counted: {_names(verdict.one_training)}.")
    if verdict.best and verdict.info in KNOWS:
        parts.append(f"It {KNOWS[verdict.info]}.")
    if verdict.unreal:
        told = ", ".join(
            f"{_name(name)} {_delay(Estimate(mean, math.nan, math.nan))}" for name, mean in verdict.unreal[:2]
        )
        parts.append(f"With knowledge that no real system has: {told}.")
    if verdict.behind:
        parts.append(f"Does not keep up: {_names(verdict.behind)}.")
    return " ".join(parts)


def _counts(verdict: Verdict) -> str:
    seeds = f", {verdict.n_seeds} seeds" if verdict.n_seeds > 1 else ""
    return f"{verdict.n_traces} trace{'s' * (verdict.n_traces != 1)}{seeds}."


def _delay(estimate: Estimate) -> str:
    """ "15.9 ms [15.5, 16.2]"."""
    scale, unit = unit_of(estimate.value)
    text = with_interval([scale * x for x in (estimate.value, estimate.lo, estimate.hi)], number)
    value, _, interval = text.partition(" ")
    return f"{value} {unit}" + (f" {interval}" if interval else "")


def _plain(value: float) -> Estimate:
    return Estimate(value, math.nan, math.nan)


def _names(names: Sequence[str]) -> str:
    told = ", ".join(map(_name, names[:MOST_NAMES]))
    return told + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")


def _name(name: str) -> str:
    return f"<code>{escape(name)}</code>"


def _bold(name: str) -> str:
    return f"<b>{escape(name)}</b>"
