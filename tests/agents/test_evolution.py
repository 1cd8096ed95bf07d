"""Evolution strategies: mirrored candidates, steps that know no unit of cost, learners that search as if alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ddrl_sched.agents.evolution import EvolutionSettings, EvolutionStrategy
from ddrl_sched.agents.stack import ParamSpec
from ddrl_sched.seeding import stream

SPECS = [ParamSpec("weight0", 2, 3, 2), ParamSpec("bias0", 1, 3, 2)]
SETTINGS = EvolutionSettings(pairs=6, sigma=0.1, lr=0.05, lr_final=0.2)


def search(n_learners, first=0, settings=SETTINGS):
    generators = [stream(0, "learner", first + k) for k in range(n_learners)]
    return EvolutionStrategy(SPECS, torch.zeros(n_learners, 9), settings, generators)


def bowl(flat, target):
    """Cost [K, 2H] of candidates: squared distance to the learner's target [K, P]."""
    candidates = flat.numpy().reshape(len(target), -1, flat.shape[1])
    return ((candidates - target[:, None]) ** 2).sum(-1)


def climb(es, target, generations, factor=1.0):
    for g in range(generations):
        cost = factor * bowl(es.ask().flat, target)
        es.tell(cost[None], g / generations)
    return es.stack.flat.numpy().copy()


def test_candidates_come_in_mirrored_pairs():
    es = search(2)
    es.stack.flat[:] = torch.arange(18.0).view(2, 9)
    candidates = es.ask().flat.view(2, 2, 6, 9)
    np.testing.assert_allclose(candidates.mean(1).numpy(), es.stack.flat[:, None].expand(2, 6, 9).numpy(), atol=1e-5)
    changes = (candidates[:, 0] - candidates[:, 1]).numpy() / 2
    assert np.abs(changes.std() / SETTINGS.sigma - 1) < 0.2


def test_finds_the_bottom_of_a_bowl():
    target = np.linspace(-1, 1, 9)[None]
    found = climb(search(1), target, 200)
    assert np.abs(found - target).max() < 0.15


def test_the_unit_of_cost_does_not_matter():
    target = np.linspace(-1, 1, 9)[None]
    np.testing.assert_allclose(
        climb(search(1), target, 20), climb(search(1), target, 20, factor=1e4), rtol=1e-3, atol=1e-5
    )


def test_a_case_with_large_costs_does_not_drown_the_others():
    es = search(1)
    for g in range(150):
        flat = es.ask().flat
        near, far = bowl(flat, np.full((1, 9), 0.5)), 1e6 * bowl(flat, np.full((1, 9), -0.5))
        es.tell(np.stack([near, far]), g / 150)
    assert np.abs(es.stack.flat.numpy()).max() < 0.2  # between the two, not at the loud one


@pytest.mark.parametrize(("unit", "smaller_wins"), [("case", True), ("all", False)])
def test_whether_a_case_weighs_by_its_differences(unit, smaller_wins):
    """Two cases against one that is a hundred times as steep: those win by number, this one by weight."""
    es = search(1, settings=replace(SETTINGS, unit=unit))
    here, there = np.ones((1, 9)), -np.ones((1, 9))
    for g in range(300):
        flat = es.ask().flat
        es.tell(np.stack([bowl(flat, here), bowl(flat, here), 100 * bowl(flat, there)]), g / 300)
    assert (es.stack.flat.mean() > 0) == smaller_wins


def test_a_learner_in_a_stack_searches_as_alone():
    target = np.stack([np.linspace(-1, 1, 9), np.linspace(2, 0, 9)])
    together = climb(search(2), target, 15)
    np.testing.assert_array_equal(together[0], climb(search(1), target[:1], 15)[0])
    np.testing.assert_array_equal(together[1], climb(search(1, first=1), target[1:], 15)[0])


def test_continues_bit_for_bit_from_its_state():
    target = np.linspace(-1, 1, 9)[None]
    es, other = search(1), search(1)
    climb(es, target, 5)
    other.load_state_dict(es.state_dict())
    np.testing.assert_array_equal(climb(es, target, 5), climb(other, target, 5))
    assert es.generation == other.generation == 10


def test_state_of_another_shape_is_refused():
    small = EvolutionStrategy(SPECS[:1], torch.zeros(1, 6), SETTINGS, [stream(0, "x")])
    with pytest.raises(ValueError, match="shape"):
        search(1).load_state_dict(small.state_dict())
