"""Returns over several steps: by hand, and against a plain loop over whole episodes."""

import numpy as np
import pytest

from ddrl_sched.agents.base import Spaces
from ddrl_sched.agents.distributions import Categorical
from ddrl_sched.agents.n_step import EnvStep, NStep
from ddrl_sched.agents.replay_buffer import Replay

SPACES = Spaces(1, Categorical(4))


def stored(memory, k):
    """(obs, action, reward, discount, next_obs) of all transitions of learner k, oldest first."""
    state = memory.state_dict()
    columns = [state[name][k, : memory.size[k]].numpy() for name in ("obs", "action", "reward", "discount", "next_obs")]
    return [tuple(float(np.squeeze(value)) for value in row) for row in zip(*columns, strict=True)]


def played(n_steps, gamma, steps):
    """Memory after `steps`: lists [t][k] of (reward, terminated, ended); obs is t, action t % 4, next_obs t + 0.5."""
    n = len(n_steps)
    memory = Replay(n, 1000, SPACES, keeps_latent=False)
    window = NStep(np.array(n_steps), np.array(gamma), 1)
    for t, of_learners in enumerate(steps):
        reward, terminated, ended = (np.array(column) for column in zip(*of_learners, strict=True))
        at = np.full((n, 1), t, np.float32)
        window.push(EnvStep(at, np.full(n, t % 4), reward, at + 0.5, terminated, ended), memory)
    return memory


GOES_ON, FALLS, IS_CUT = (False, False), (True, True), (False, True)


def test_one_step():
    memory = played([1], [0.5], [[(3.0, *GOES_ON)], [(4.0, *FALLS)], [(5.0, *IS_CUT)]])
    assert stored(memory, 0) == [(0, 0, 3, 0.5, 0.5), (1, 1, 4, 0, 1.5), (2, 2, 5, 0.5, 2.5)]


def test_three_steps_wait_and_the_end_lets_all_go():
    memory = played([3], [0.5], [[(1.0, *GOES_ON)], [(2.0, *GOES_ON)]])
    assert stored(memory, 0) == []
    steps = [[(1.0, *GOES_ON)], [(2.0, *GOES_ON)], [(4.0, *GOES_ON)], [(8.0, *FALLS)]]
    memory = played([3], [0.5], steps)
    assert stored(memory, 0) == [
        (0, 0, 1 + 1 + 1, 0.125, 2.5),
        (1, 1, 2 + 2 + 2, 0, 3.5),
        (2, 2, 8, 0, 3.5),
        (3, 3, 8, 0, 3.5),
    ]


def test_a_cut_episode_counts_on_with_the_steps_it_had():
    memory = played([3], [0.5], [[(1.0, *GOES_ON)], [(2.0, *IS_CUT)], [(4.0, *GOES_ON)]])
    assert stored(memory, 0) == [(0, 0, 2, 0.25, 1.5), (1, 1, 2, 0.5, 1.5)]


@pytest.mark.parametrize("seed", range(3))
def test_many_learners_against_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    n_steps, gamma = [1, 2, 5, 5], [0.9, 0.5, 0.99, 0.8]
    ended = rng.random((60, 4)) < 0.15
    terminated = ended & (rng.random((60, 4)) < 0.5)
    reward = rng.standard_normal((60, 4))
    memory = played(
        n_steps, gamma, [list(zip(*row, strict=True)) for row in zip(reward, terminated, ended, strict=True)]
    )
    for k in range(4):
        wanted = []
        for t in range(60):
            cut = np.flatnonzero(ended[t:, k])
            last = min([t + n_steps[k] - 1, *(t + cut[:1])])
            if last < 60:
                total = sum(gamma[k] ** i * reward[t + i, k] for i in range(last - t + 1))
                discount = 0.0 if terminated[last, k] else gamma[k] ** (last - t + 1)
                wanted.append((t, t % 4, total, discount, last + 0.5))
        assert stored(memory, k) == [pytest.approx(row, rel=1e-6, abs=1e-6) for row in wanted]
