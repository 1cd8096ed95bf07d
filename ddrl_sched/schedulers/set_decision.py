"""What a set of servers that a learned policy chose means: a Decision with the split of its settings."""

from typing import TYPE_CHECKING

from ddrl_sched.edge.types import Bools, Decision, Scenario

if TYPE_CHECKING:
    from ddrl_sched.schedulers.learned_settings import LearnedSettings  # torch comes with it


def set_decision(settings: "LearnedSettings", scenario: Scenario, select: Bools) -> Decision:
    """The chosen sets [R, M, E] with the split of the settings; with info probed the chosen servers are probed."""
    probing = settings.info == "probed"
    split = settings.split
    if split == "by_world":
        one = settings.actions.name == "single"
        split = "whole" if one else "equal_finish" if not scenario.published else "cwa"
    return Decision(
        choice="given",
        info=settings.choose,
        split=split,
        split_info="probed" if probing else None,  # in published worlds that is the running work
        select=select,
        probe_selected=probing and not scenario.published,
    )
