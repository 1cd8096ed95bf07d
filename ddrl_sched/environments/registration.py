"""The ids under which Gymnasium knows the environments.

The number behind -v rises whenever the same seed and actions give other observations or rewards: when physics,
workloads, random streams, observations or rewards change. A test holds the numbers of one short episode of each id.
"""

import gymnasium

EDGE = "ddrl_sched/Edge-v0"


def register_all() -> None:
    """Make the ids known to gymnasium.make and gymnasium.make_vec."""
    if EDGE not in gymnasium.registry:
        gymnasium.register(
            EDGE,
            entry_point="ddrl_sched.environments.edge_env:EdgeEnv",
            vector_entry_point="ddrl_sched.environments.vector_env:EdgeVectorEnv",
        )
