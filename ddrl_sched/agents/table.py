"""The one table from an agent's name to its settings, and from settings to the agent."""

from collections.abc import Mapping, Sequence

from ddrl_sched.agents.base import Agent, Spaces
from ddrl_sched.agents.dqn import DQN, DQNSettings
from ddrl_sched.agents.dsac import DSACSettings, dsac
from ddrl_sched.agents.sac import SACSettings, sac
from ddrl_sched.agents.stack import Generators

AgentSettings = DQNSettings | SACSettings  # DSACSettings are SACSettings with numbers of their own
SETTINGS: Mapping[str, type[AgentSettings]] = {"dqn": DQNSettings, "sac": SACSettings, "dsac": DSACSettings}


def build_agent(spaces: Spaces, settings: Sequence[AgentSettings], generators: Generators) -> Agent:
    """An agent of K learners from their settings [K], all of one kind, and their generators [K].

    Raises:
        ValueError: the settings are of different kinds, or differ in what a stack of learners must share.
    """
    if len({type(one) for one in settings}) > 1:
        raise ValueError("agent.name must be the same for all learners of a stack")
    if deep_q := [one for one in settings if isinstance(one, DQNSettings)]:
        return DQN(spaces, deep_q, generators)
    if diffusion := [one for one in settings if isinstance(one, DSACSettings)]:
        return dsac(spaces, diffusion, generators)
    return sac(spaces, [one for one in settings if isinstance(one, SACSettings)], generators)
