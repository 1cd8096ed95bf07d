"""The replay memory against a plain list."""

import numpy as np
import pytest

from ddrl_sched.agents.base import Batch, Spaces
from ddrl_sched.agents.distributions import Categorical, Gates
from ddrl_sched.agents.replay_buffer import Replay
from tests.agent_builders import generators, random_batch


def numbered(start, n):
    """Transitions [K, n] of one learner whose every field says its number."""
    number = np.arange(start, start + n, dtype=np.float32)[None]
    wide = number[..., None]
    return Batch(wide, number.astype(np.int64), number, number, wide)


def held(memory, n_learners=1):
    """The set of rewards that many samples show, per learner."""
    sample = memory.sample(4000, generators(n_learners))
    return [sorted(set(row.tolist())) for row in sample.reward]


def test_a_full_ring_keeps_the_last_transitions():
    memory = Replay(1, 5, Spaces(1, Categorical(99)), keeps_latent=False)
    plain = []
    start = 0
    for n in (3, 1, 4, 0, 5, 7, 2, 11, 1):
        memory.add(numbered(start, n), np.array([n]))
        plain = (plain + list(range(start, start + n)))[-5:]
        start += n
        assert held(memory) == [plain]
    assert memory.size.tolist() == [5]


def test_learners_add_different_counts_and_padding_is_dropped():
    memory = Replay(3, 4, Spaces(1, Categorical(99)), keeps_latent=False)
    reward = np.array([[1, 2, 3], [4, np.nan, np.nan], [5, 6, np.nan]], np.float32)
    rows = Batch(reward[..., None], np.zeros((3, 3), np.int64), reward, reward, reward[..., None])
    memory.add(rows, np.array([3, 1, 2]))
    memory.add(rows, np.array([3, 1, 2]))
    assert memory.size.tolist() == [4, 2, 4]
    assert held(memory, 3) == [[1, 2, 3], [4], [5, 6]]


def test_all_fields_of_a_sample_belong_to_one_transition():
    spaces = Spaces(3, Gates(4), n_latent=2)
    memory = Replay(2, 50, spaces, keeps_latent=True)
    rows = random_batch(np.random.default_rng(1), spaces, 2, 40, with_latent=True)
    memory.add(rows, np.array([40, 30]))
    sample = memory.sample(20, generators(2))
    for k in range(2):
        for m in range(20):
            source = int(np.flatnonzero(rows.reward[k] == sample.reward[k, m])[0])
            for name, value in sample.arrays().items():
                np.testing.assert_array_equal(value[k, m], getattr(rows, name)[k, source], err_msg=name)
    assert sample.action.dtype == np.int8


def test_sampling_is_even():
    memory = Replay(1, 10, Spaces(1, Categorical(99)), keeps_latent=False)
    memory.add(numbered(0, 14), np.array([14]))
    counts = np.bincount(memory.sample(20_000, generators(1)).action[0], minlength=14)
    assert (counts[:4] == 0).all()
    np.testing.assert_allclose(counts[4:], 2000, atol=250)  # 5.9 standard deviations


def test_a_learner_samples_the_same_alone_as_in_a_stack():
    spaces = Spaces(2, Categorical(3))
    rows = random_batch(np.random.default_rng(2), spaces, 3, 9)
    count = np.array([9, 4, 7])
    stacked, alone = Replay(3, 6, spaces, keeps_latent=False), Replay(1, 6, spaces, keeps_latent=False)
    stacked.add(rows, count)
    alone.add(Batch(**{name: value[1:2, :4] for name, value in rows.arrays().items()}), count[1:2])
    together = stacked.sample(8, generators(3))
    single = alone.sample(8, generators(3)[1:2])
    for name, value in single.arrays().items():
        np.testing.assert_array_equal(value[0], getattr(together, name)[1])


def test_ready_waits_for_the_slowest_learner():
    memory = Replay(2, 5, Spaces(1, Categorical(2)), keeps_latent=False)
    rows = random_batch(np.random.default_rng(3), Spaces(1, Categorical(2)), 2, 4)
    memory.add(rows, np.array([4, 2]))
    assert memory.ready(2)
    assert not memory.ready(3)
    with pytest.raises(ValueError, match="no transitions"):
        Replay(2, 5, Spaces(1, Categorical(2)), keeps_latent=False).sample(1, generators(2))


def test_state_goes_on_where_it_was_and_refuses_another_size():
    spaces = Spaces(2, Categorical(3))
    rows = random_batch(np.random.default_rng(4), spaces, 2, 7)
    first, second = (Replay(2, 5, spaces, keeps_latent=False) for _ in range(2))
    first.add(rows, np.array([7, 3]))
    second.load_state_dict(first.state_dict())
    for memory in (first, second):
        memory.add(rows, np.array([1, 4]))
    a, b = first.sample(50, generators(2)), second.sample(50, generators(2))
    for name, value in a.arrays().items():
        np.testing.assert_array_equal(value, getattr(b, name))
    with pytest.raises(ValueError, match="memory's size"):
        Replay(2, 6, spaces, keeps_latent=False).load_state_dict(first.state_dict())
