"""The table of a dry run: every job with its state and the time it will take."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ddrl_sched.config import clean
from ddrl_sched.display import count, duration
from ddrl_sched.jobs.request import Plan

SHOWN = ("scheduler", "env=", "workload.load=")  # how overrides start that other columns show
REFUSED = "refused"  # state of a job whose settings are wrong


def refused(label: str, message: str) -> Plan:
    """The plan of a job that cannot be done."""
    return Plan("-", REFUSED, label, "-", None, message=message)


def plan_table(plans: Sequence[Plan], overrides: Sequence[Sequence[str]]) -> str:
    """The jobs of a dry run, one line each, and what they will take; a training that jobs share counts once.

    `overrides`: of each job; those that several jobs share are left out.
    """
    plans = _sharing(plans)
    said = [
        [clean(word) for word in words if plan.state == REFUSED or not word.startswith(SHOWN)]
        for plan, words in zip(plans, overrides, strict=True)
    ]
    varied = ["  ".join(word for word in words if any(word not in other for other in said)) for words in said]
    head = ("job", "state", "time", "scheduler", "scenario", "load", "" if not any(varied) else "also")
    rows = [
        (plan.job_id, plan.state, duration(plan.estimate_s), plan.label, plan.scenario, _load(plan), words)
        for plan, words in zip(plans, varied, strict=True)
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    counts = ", ".join(f"{n} {state}" for state, n in Counter(plan.state for plan in plans).items())
    rest = sum(plan.estimate_s or 0.0 for plan in plans if plan.state != "done")
    total = f"{count(len(plans), 'job')}: {counts}; one at a time: {duration(rest)}"
    return "\n".join(line.rstrip() for line in [*lines, "", total])


def _load(plan: Plan) -> str:
    if plan.load is None:
        return "-" if plan.state == REFUSED else ""
    return str(plan.load)


def _sharing(plans: Sequence[Plan]) -> list[Plan]:
    """Plans in which a training that an earlier job does, or has done, takes no time."""
    trained: set[str] = set()
    changed = []
    for plan in plans:
        if plan.training in trained and plan.estimate_s is not None:
            plan = replace(plan, estimate_s=plan.estimate_s - plan.training_s)
        changed.append(plan)
        if plan.training is not None:
            trained.add(plan.training)
    return changed
