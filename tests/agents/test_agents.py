"""Heads against enumeration, stacks against learners on their own, settings, states and the agents' promises."""

import io
import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from ddrl_sched.agents.base import Batch, Spaces
from ddrl_sched.agents.distributions import Categorical, Gates
from ddrl_sched.agents.dqn import DQNSettings
from ddrl_sched.agents.dsac import DSACSettings, fresh_latents, marginal
from ddrl_sched.agents.nets import mlp, mlp_specs
from ddrl_sched.agents.replay_buffer import Replay
from ddrl_sched.agents.sac import SACSettings, actor_loss, critic_loss, critic_target, entropy_of
from ddrl_sched.agents.stack import Adam, Stack, clip_per_learner, differentiate, first_weights, normals
from tests.agent_builders import (
    CHAIN_NUMBERS,
    CONSTRUCTORS,
    DQN_NUMBERS,
    KINDS,
    LATENT,
    SAC_NUMBERS,
    build,
    generators,
    random_batch,
    settings,
)
from tests.paths import REPOSITORY

# --- distributions


def all_sets(n):
    return torch.tensor(list(itertools.product((0, 1), repeat=n)), dtype=torch.int8)


def test_categorical_formulas_by_hand():
    distribution = Categorical(3)
    logits = torch.tensor([math.log(1.0), math.log(2.0), math.log(5.0)])
    probs = distribution.probs(logits)
    torch.testing.assert_close(probs, torch.tensor([1 / 8, 2 / 8, 5 / 8]))
    entropy = -(1 / 8 * math.log(1 / 8) + 2 / 8 * math.log(2 / 8) + 5 / 8 * math.log(5 / 8))
    assert distribution.entropy(logits).item() == pytest.approx(entropy)
    q = torch.tensor([8.0, 4.0, -1.6])
    assert distribution.expected_q(q, probs).item() == pytest.approx(1.0)
    assert distribution.greedy(logits).item() == 2
    assert distribution.greedy_q(q).item() == 0
    assert distribution.q_of(q, torch.tensor(1)).item() == 4.0
    assert distribution.prob_of(probs, torch.tensor(1)).item() == pytest.approx(0.25)
    assert distribution.lower_q(torch.tensor([[1.0, 5.0, 2.0], [3.0, 4.0, 2.0]]), probs).tolist() == [1.0, 4.0, 2.0]
    assert distribution.entropy(torch.zeros(3)).item() == pytest.approx(distribution.max_entropy)


def test_entropies_survive_extreme_logits():
    for distribution in (Categorical(2), Gates(2)):
        logits = torch.tensor([500.0, -500.0], requires_grad=True)
        entropy = distribution.entropy(logits)
        entropy.backward()
        assert entropy.item() == 0.0
        assert torch.isfinite(logits.grad).all()


def test_gates_equal_enumeration_of_all_sets():
    distribution = Gates(4)
    draw = torch.Generator().manual_seed(0)
    logits, q = 2 * torch.randn(4, generator=draw), torch.randn(5, generator=draw)
    sets, probs = all_sets(4), distribution.probs(logits)
    weight = distribution.prob_of(probs, sets)  # of all 16 sets
    values = distribution.q_of(q.expand(16, 5), sets)
    assert weight.sum().item() == pytest.approx(1.0, rel=1e-6)
    assert distribution.expected_q(q, probs).item() == pytest.approx((weight * values).sum().item(), rel=1e-5)
    assert distribution.entropy(logits).item() == pytest.approx(-(weight * weight.log()).sum().item(), rel=1e-5)
    assert distribution.greedy_q(q).tolist() == sets[values.argmax()].tolist()
    assert distribution.greedy(logits).tolist() == sets[weight.argmax()].tolist()
    assert values[5].item() == pytest.approx((q[0] + q[2] + q[4]).item())  # set 0101
    assert distribution.entropy(torch.zeros(4)).item() == pytest.approx(distribution.max_entropy)


def test_gates_take_the_twin_that_expects_less():
    distribution, probs = Gates(2), torch.tensor([0.5, 0.5])
    twins = torch.tensor([[0.0, 4.0, 0.0], [1.0, 1.0, 1.0]])  # expect 2 and 2, then 2 and 1.5
    assert distribution.lower_q(twins, probs).tolist() == twins[0].tolist()
    twins[1, 2] = 0.0
    assert distribution.lower_q(twins, probs).tolist() == twins[1].tolist()


def test_exactly_k_gates_are_the_best_set_of_that_size():
    distribution = Gates(5, k=2)
    q = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    sets = all_sets(5)
    sets = sets[sets.sum(1) == 2]
    for row, chosen in zip(q, distribution.greedy_q(q), strict=True):
        values = distribution.q_of(row.expand(len(sets), 6), sets)
        assert chosen.tolist() == sets[values.argmax()].tolist()
    drawn = distribution.random(torch.rand(4000, 5, generator=torch.Generator().manual_seed(2)))
    assert (drawn.sum(1) == 2).all()
    np.testing.assert_allclose(drawn.float().mean(0), 0.4, atol=0.04)
    with pytest.raises(ValueError, match="6 of 5"):
        Gates(5, k=6)


def test_samples_follow_the_probabilities():
    grid = (torch.arange(1000) + 0.5) / 1000
    distribution, probs = Categorical(4), torch.tensor([0.2, 0.0, 0.5, 0.3])
    counts = torch.bincount(distribution.sample(probs.expand(1000, 4), grid[:, None]), minlength=4)
    np.testing.assert_allclose(counts, [200, 0, 500, 300], atol=1)
    assert distribution.sample(torch.tensor([0.0, 1.0, 0.0, 0.0]), torch.tensor([0.0])).item() == 1
    assert distribution.sample(torch.tensor([0.5, 0.5, 0.0, 0.0]), torch.tensor([1 - 2**-24])).item() == 1
    assert torch.bincount(distribution.random(grid[:, None])).tolist() == [250] * 4
    gates = Gates(2).sample(torch.tensor([0.25, 1.0]), grid[:, None].expand(1000, 2))
    assert gates.sum(0).tolist() == [250, 1000]


# --- stacks ------------------------------------------------------------------------------------------------------


def modules_of(stack, k):
    """Learner k of a perceptron stack as ordinary torch modules."""
    layers = []
    for i in range(len(stack.params) // 2):
        weight, bias = stack.params[f"weight{i}"][k].detach(), stack.params[f"bias{i}"][k, 0].detach()
        linear = torch.nn.Linear(*weight.shape)
        linear.weight.data, linear.bias.data = weight.T.clone(), bias.clone()
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def test_a_stack_equals_separate_networks_in_values_gradients_and_steps():
    specs = mlp_specs(4, [7, 5], 3)
    stack = Stack(specs, first_weights(specs, generators(3)))
    nets = [modules_of(stack, k) for k in range(3)]
    together = Adam([(stack.flat, 0.01)])
    apart = [torch.optim.Adam(net.parameters(), lr=0.01) for net in nets]
    x = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(4):
        y = mlp(stack.params, x, "relu")
        differentiate(y.square().mean((1, 2)).sum(), [stack])
        clip_per_learner(stack.grad, 0.3)
        together.step()
        for k, (net, optimiser) in enumerate(zip(nets, apart, strict=True)):
            optimiser.zero_grad()
            net(x[k]).square().mean().backward()
            torch.testing.assert_close(y[k], net(x[k]), rtol=1e-4, atol=1e-6)
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.3)
            optimiser.step()
    for k, net in enumerate(nets):
        torch.testing.assert_close(stack.params["weight1"][k].detach(), net[2].weight.T.detach(), rtol=1e-3, atol=1e-5)


def test_agents_never_load_the_compiler():
    """torch.optim's classes import torch._dynamo, which costs seconds in every process."""
    code = (
        "import sys, numpy as np\n"
        "from ddrl_sched.agents.base import Spaces\n"
        "from ddrl_sched.agents.distributions import Categorical\n"
        "from tests.agent_builders import build, generators, random_batch\n"
        "spaces = Spaces(2, Categorical(2), 3)\n"
        "for kind in ('dqn', 'sac', 'dsac'):\n"
        "    agent = build(kind, spaces, generators(2))\n"
        "    agent.update(random_batch(np.random.default_rng(0), spaces, 2, 4))\n"
        "    agent.act(np.zeros((2, 1, 2), np.float32), np.ones(2, int), True)\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_clipping_is_per_learner():
    grad = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    assert clip_per_learner(grad, 1.0).tolist() == pytest.approx([5.0, 0.5, 0.0])
    torch.testing.assert_close(grad, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))
    assert clip_per_learner(grad, None)[0].item() == pytest.approx(1.0)
    assert grad[0].tolist() == pytest.approx([0.6, 0.8])


def test_first_weights_depend_on_the_learner_alone():
    specs = mlp_specs(4, [100], 2)
    three, last = first_weights(specs, generators(3)), first_weights(specs, generators(3)[2:])
    assert torch.equal(three[2:], last)
    hidden = three[:, :400]
    assert 0.49 < hidden.abs().max().item() <= 0.5  # 1 / sqrt(4)
    assert three[:, -202:].abs().max().item() <= 0.1  # 1 / sqrt(100)


def test_a_learner_draws_only_what_it_needs():
    drawn = normals(generators(3), (2, 5, 4), np.array([5, 2, 0]), axis=1)
    alone = normals(generators(3)[1:2], (2, 2, 4))
    np.testing.assert_array_equal(drawn[1, :, :2], alone[0])
    assert (drawn[1, :, 2:] == 0).all()
    assert (drawn[2] == 0).all()


# --- agents ------------------------------------------------------------------------------------------------------

SPACES = Spaces(3, Categorical(4), n_latent=6)
GATES = Spaces(3, Gates(4), n_latent=6)


def play(agent, memory, drawn_by, world, rounds):
    """Act, remember, update; `world` [rounds, K, n, 3] is what the learners observe. All actions [rounds, K, n]."""
    actions = []
    k, n = world.shape[1:3]
    index = np.broadcast_to(np.arange(n), (k, n))
    for t in range(rounds):
        count = np.array([1 + (t + learner) % n for learner in LEARNERS[k]])
        acted = agent.act(world[t], count, True, index)
        rows = Batch(world[t], acted.action, world[t, ..., 0], world[t, ..., 1], world[t, ..., ::-1].copy())
        memory.add(replace(rows, latent=acted.latent, next_latent=acted.latent), count)
        metrics = agent.update(memory.sample(8, drawn_by))
        assert all(value.shape == (k,) and np.isfinite(value).all() for value in metrics.values())
        actions.append(np.where(np.arange(n) < count[:, None], acted.action.reshape(k, n, -1)[..., 0], -1))
    return actions


LEARNERS = {3: (0, 1, 2), 1: (1,)}  # who is in a stack of three, and alone


@pytest.mark.parametrize(
    ("kind", "spaces"), [*((kind, spaces) for kind in KINDS for spaces in (SPACES, GATES)), ("denoising", SPACES)]
)
def test_a_learner_trains_in_a_stack_as_it_does_alone(kind, spaces):
    """Same draws exactly; weights to rounding, because batched products may sum in another order."""
    world = np.random.default_rng(5).standard_normal((25, 3, 6, 3), dtype=np.float32)
    runs = {}
    for learners in ((0, 1, 2), (1,)):
        drawn_by = [generators(3)[k] for k in learners]
        agent = build(kind, spaces, drawn_by, **({} if kind == "dqn" else {"alpha_lr": 0.01}))
        memory = Replay(len(learners), 40, spaces, keeps_latent=agent.keeps_latent)
        actions = play(agent, memory, drawn_by, world[:, list(learners)], 25)
        runs[len(learners)] = (actions, agent.weights(), drawn_by[learners.index(1)].bit_generator.state)
    for stacked, alone in zip(runs[3][0], runs[1][0], strict=True):
        np.testing.assert_array_equal(stacked[1], alone[0])
    for name, weight in runs[1][1].items():
        torch.testing.assert_close(runs[3][1][name][1], weight[0], rtol=1e-4, atol=1e-5, msg=name)
    assert runs[3][2] == runs[1][2]


OF_EACH = {
    "dqn": [
        {"lr": 1e-2, "target_copy_every": 3, "greedy_to": 0.5},
        {"lr": 3e-3, "target_copy_every": 4, "greedy_from": 0.2, "greedy_step": 0.02},
        {"lr": 3e-3, "target_copy_every": 7},
    ],
    "sac": [
        {"actor_lr": 1e-2, "tau": 0.5, "alpha_init": 0.3, "alpha_lr": 0.1, "alpha_max": None},
        {"critic_lr": 1e-2, "tau": 0.1, "alpha_init": 0.1, "alpha_lr": 0.02, "alpha_max": 0.11, "target_entropy": 0.3},
        {"target_entropy": 0.6, "alpha_lr": 0.02},
    ],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_of_different_settings_trains_each_learner_as_it_would_alone(kind):
    world = np.random.default_rng(5).standard_normal((25, 3, 6, 3), dtype=np.float32)
    each = [settings(kind, **numbers) for numbers in OF_EACH["dqn" if kind == "dqn" else "sac"]]
    runs = []
    for learners, given in (((0, 1, 2), each), ((1,), each[1])):
        drawn_by = [generators(3)[k] for k in learners]
        agent = CONSTRUCTORS[kind](SPACES, given, drawn_by)
        memory = Replay(len(learners), 40, SPACES, keeps_latent=agent.keeps_latent)
        runs.append((play(agent, memory, drawn_by, world[:, list(learners)], 25), agent.weights()))
    (stacked, weights), (alone, weights_alone) = runs
    np.testing.assert_array_equal([actions[1] for actions in stacked], [actions[0] for actions in alone])
    for name, weight in weights_alone.items():
        torch.testing.assert_close(weights[name][1], weight[0], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_shares_what_its_networks_are_made_of(kind):
    each = [settings(kind), settings(kind, hidden=[16])]
    with pytest.raises(ValueError, match=r"agent\.hidden must be the same"):
        CONSTRUCTORS[kind](SPACES, each, generators(2))
    with pytest.raises(ValueError, match="2 settings for 3 learners"):
        CONSTRUCTORS[kind](SPACES, each, generators(3))


def test_another_learner_gone_wild_disturbs_nobody():
    for kind in ("dqn", "sac", "dsac"):
        weights = []
        for scale in (1.0, np.inf):
            agent = build(kind, SPACES, generators(2))
            batch = random_batch(np.random.default_rng(0), SPACES, 2, 8)
            batch.reward[1] *= scale
            for _ in range(3):
                agent.update(batch)
            weights.append(agent.weights())
        for name, weight in weights[0].items():
            assert torch.equal(weight[0], weights[1][name][0]), (kind, name)


@pytest.mark.parametrize("kind", [*KINDS, "denoising"])
def test_a_saved_state_continues_bit_for_bit(kind):
    world = np.random.default_rng(6).standard_normal((20, 3, 6, 3), dtype=np.float32)

    def fresh(seed):
        drawn_by = generators(3, seed)
        agent = build(kind, SPACES, drawn_by, **({"hidden": [8]} if kind == "dqn" else {"alpha_lr": 0.01}))
        return agent, Replay(3, 40, SPACES, keeps_latent=agent.keeps_latent), drawn_by

    agent, memory, drawn_by = fresh(0)
    play(agent, memory, drawn_by, world, 10)
    file = io.BytesIO()
    torch.save({"agent": agent.state_dict(), "memory": memory.state_dict()}, file)
    play(agent, memory, drawn_by, world[10:], 10)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again, its_memory, its_generators = fresh(1)
    again.load_state_dict(saved["agent"])
    its_memory.load_state_dict(saved["memory"])
    play(again, its_memory, its_generators, world[10:], 10)
    for name, weight in agent.weights().items():
        assert torch.equal(weight, again.weights()[name]), name
    assert agent.state_dict()["generators"] == again.state_dict()["generators"]
    if agent.latent is not None:
        np.testing.assert_array_equal(agent.latent, again.latent)


def test_a_state_of_another_shape_is_refused():
    agent = build("dsac", SPACES, generators(2))
    agent.update(random_batch(np.random.default_rng(0), SPACES, 2, 8))
    for other in (
        build("dsac", SPACES, generators(3)),
        build("dsac", SPACES, generators(2), hidden=[31]),
        build("sac", SPACES, generators(2)),
        build("lad", SPACES, generators(2)),
    ):
        with pytest.raises(ValueError, match="state"):
            other.load_state_dict(agent.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_weights_act_alike_elsewhere_and_other_shapes_are_refused(kind):
    obs = np.random.default_rng(7).standard_normal((2, 5, 3), dtype=np.float32)
    count, index = np.array([5, 5]), np.zeros((2, 5), np.int64)
    agent, twin = (build(kind, SPACES, generators(2, seed)) for seed in (0, 1))
    twin.load_weights(agent.weights())
    if agent.latent is not None:
        twin.latent = agent.latent.copy()
    np.testing.assert_array_equal(agent.act(obs, count, False, index).action, twin.act(obs, count, False, index).action)
    before = twin.weights()
    for other in (
        build(kind, SPACES, generators(3)),
        build(kind, replace(SPACES, n_obs=2), generators(2)),
        build(kind, replace(SPACES, distribution=Categorical(5)), generators(2)),
        build(kind, SPACES, generators(2), hidden=[32, 32]),
    ):
        with pytest.raises(ValueError, match=r"agent\.hidden|another agent"):
            twin.load_weights(other.weights())
    assert all(torch.equal(weight, before[name]) for name, weight in twin.weights().items())


@pytest.mark.parametrize("kind", KINDS)
def test_no_observations_no_actions(kind):
    agent = build(kind, SPACES, generators(2))
    acted = agent.act(np.zeros((2, 0, 3), np.float32), np.zeros(2, np.int64), True, np.zeros((2, 0), np.int64))
    assert acted.action.shape == (2, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_with_its_own_generators_does_not_disturb_training(kind):
    drawn_by = generators(2)
    agent = build(kind, SPACES, drawn_by)
    before = [g.bit_generator.state for g in drawn_by]
    obs, index = np.zeros((2, 4, 3), np.float32), np.zeros((2, 4), np.int64)
    agent.act(obs, np.array([4, 4]), True, index, generators=generators(2, 9))
    assert [g.bit_generator.state for g in drawn_by] == before
    agent.act(obs, np.array([4, 4]), True, index)
    assert [g.bit_generator.state for g in drawn_by] != before


@pytest.mark.parametrize("kind", ["sac", "dsac"])
@pytest.mark.parametrize("spaces", [SPACES, GATES], ids=["categorical", "gates"])
def test_reported_probabilities_are_the_frequencies_of_actions(kind, spaces):
    """SAC: one policy per state. DSAC: probabilities of one noise each; their mean is the policy's."""
    agent = build(kind, spaces, generators(1))
    n = 20_000
    acted = agent.act(np.ones((1, n, 3), np.float32), np.array([n]), True)
    _, group = np.unique(acted.action.reshape(n, -1), axis=0, return_inverse=True)
    n_actions = group.max() + 1  # the mean of 1 / p(a) over drawn actions is the number of possible actions
    assert (1 / acted.prob[0]).mean() == pytest.approx(n_actions, rel=0.05)
    if kind == "sac":  # one state: every action has one probability
        np.testing.assert_allclose(acted.prob[0], (np.bincount(group) / n)[group], atol=0.015)


# --- DQN ---------------------------------------------------------------------------------------------------------


def test_the_greedy_probability_grows_per_update():
    agent = build("dqn", SPACES, generators(1), greedy_from=0.0, greedy_to=0.99, greedy_step=0.3)
    batch = random_batch(np.random.default_rng(0), SPACES, 1, 4)
    seen = []
    for _ in range(5):
        seen.append(agent.greedy_probability)
        agent.update(batch)
    assert seen == pytest.approx([0.0, 0.3, 0.6, 0.9, 0.99])


@pytest.mark.parametrize("probability", [0.0, 0.6, 1.0])
def test_exploration_takes_the_greedy_action_that_often(probability):
    agent = build("dqn", SPACES, generators(1), greedy_from=probability, greedy_to=1.0)
    obs = np.ones((1, 20_000, 3), np.float32)
    greedy = agent.act(obs, np.array([20_000]), False).action
    explored = agent.act(obs, np.array([20_000]), True).action
    assert (explored == greedy).mean() == pytest.approx(probability + (1 - probability) / 4, abs=0.02)


@pytest.mark.parametrize("double", [False, True])
def test_dqn_target_by_hand_and_copy_on_time(double):
    """Target and online networks that are constants: 1.0 + 0.9 x the target network's value of the chosen action."""
    agent = build("dqn", Spaces(1, Categorical(2)), generators(1), double=double, target_copy_every=2, hidden=[4])
    constants = {name: torch.zeros_like(weight) for name, weight in agent.weights().items()}
    agent.load_weights({**constants, "bias1": torch.tensor([[[5.0, 1.0]]])})  # online prefers action 0
    target = agent.state_dict()
    target["tensors"]["target"] = torch.zeros_like(target["tensors"]["target"])
    target["tensors"]["target"][:, -2:] = torch.tensor([2.0, 7.0])
    agent.load_state_dict(target)
    one = np.ones((1, 1), np.float32)
    batch = Batch(one[..., None], np.zeros((1, 1), np.int64), one, 0.9 * one, one[..., None])
    metrics = agent.update(batch)
    expected = 1.0 + 0.9 * (2.0 if double else 7.0)
    assert metrics["loss_critic"][0] == pytest.approx((5.0 - expected) ** 2, rel=1e-5)
    assert metrics["q_mean"][0] == pytest.approx(5.0)
    assert not torch.equal(agent.state_dict()["tensors"]["net"], agent.state_dict()["tensors"]["target"])
    agent.update(batch)
    assert torch.equal(agent.state_dict()["tensors"]["net"], agent.state_dict()["tensors"]["target"])


def test_dqn_decides_by_the_mean_of_its_weights_where_told_so():
    """First the plain mean of all weights so far, then a running one; learning and exploring do not notice it."""
    rng = np.random.default_rng(0)
    agent, plain = (build("dqn", SPACES, generators(2), average=average, lr=0.05) for average in (0.7, 0.0))
    mean = plain.weights()
    for n, kept in enumerate((1 / 2, 2 / 3, 0.7, 0.7), start=1):
        batch = random_batch(rng, SPACES, 2, 8)
        agent.update(batch)
        plain.update(batch)
        mean = {name: kept * weight + (1.0 - kept) * plain.weights()[name] for name, weight in mean.items()}
        for name, weight in agent.weights().items():
            torch.testing.assert_close(weight, mean[name], rtol=1e-5, atol=1e-6, msg=f"{name} after {n}")
    assert torch.equal(agent.state_dict()["tensors"]["net"], plain.state_dict()["tensors"]["net"])
    obs, count = rng.standard_normal((2, 200, 3), dtype=np.float32), np.array([200, 200])
    decided = agent.act(obs, count, False).action
    for average in (0.0, 0.7):
        twin = build("dqn", SPACES, generators(2, 1), average=average)
        twin.load_weights(agent.weights())
        np.testing.assert_array_equal(decided, twin.act(obs, count, False).action)
    np.testing.assert_array_equal(decided, agent.q_values(obs).argmax(-1))
    assert (decided != plain.act(obs, count, False).action).any()
    np.testing.assert_array_equal(agent.act(obs, count, True).action, plain.act(obs, count, True).action)


def test_a_mean_of_weights_is_part_of_the_state():
    rng = np.random.default_rng(0)
    batches = [random_batch(rng, SPACES, 2, 8) for _ in range(6)]
    agent, again = (build("dqn", SPACES, generators(2, seed), average=0.9) for seed in (0, 1))
    for batch in batches[:3]:
        agent.update(batch)
    again.load_state_dict(agent.state_dict())
    for batch in batches[3:]:
        agent.update(batch)
        again.update(batch)
    assert all(torch.equal(weight, again.weights()[name]) for name, weight in agent.weights().items())
    with pytest.raises(ValueError, match="state"):
        build("dqn", SPACES, generators(2)).load_state_dict(agent.state_dict())


# --- SAC and DSAC ------------------------------------------------------------------------------------------------


def test_sac_losses_by_hand():
    distribution = Categorical(2)
    logits = torch.log(torch.tensor([[[0.25, 0.75]]]))  # K = M = 1
    twins = torch.tensor([[[[4.0, 8.0]]], [[[8.0, 4.0]]]])  # smaller of every action: 4, 4
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    one = torch.ones(1, 1)
    batch = Batch(None, None, one, 0.5 * one, None)
    target = critic_target(distribution, batch, logits, twins, 0.1 * one)
    assert target.item() == pytest.approx(1.0 + 0.5 * (4.0 + 0.1 * entropy))
    assert critic_target(distribution, batch, logits, twins, 0 * one).item() == pytest.approx(3.0)
    loss, its_entropy = actor_loss(distribution, logits, twins, 0.1 * one)
    assert loss.item() == pytest.approx(-4.0 - 0.1 * entropy)
    assert its_entropy.item() == pytest.approx(entropy)
    q_action = torch.tensor([[[1.0, 2.0]], [[3.0, 0.0]]])  # [2, K, M] against 1, 0: squares 0 4 4 0
    assert critic_loss(q_action, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(4.0)


@pytest.mark.parametrize("prior", [None, (0.2, 0.7, 0.1)])
def test_the_actor_loss_teaches_the_boltzmann_policy(prior):
    """Minimising it for fixed values gives probabilities proportional to exp(Q / alpha), times the prior's."""
    distribution, alpha = Categorical(3), torch.tensor([[0.5]])
    log_prior = torch.tensor(prior).log() if prior else None
    q = torch.tensor([0.0, 0.5, 1.0]).expand(2, 1, 1, 3)
    logits = torch.zeros(1, 1, 3, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        actor_loss(distribution, logits, q, alpha, log_prior)[0].sum().backward()
        optimiser.step()
    expected = torch.softmax(q[0, 0, 0] / 0.5 + (log_prior if prior else 0.0), 0)
    torch.testing.assert_close(distribution.probs(logits[0, 0]).detach(), expected, rtol=1e-3, atol=1e-3)


def test_entropy_relative_to_a_prior_by_hand():
    distribution, prior = Categorical(2), torch.tensor([0.25, 0.75]).log()
    for policy in ([0.25, 0.75], [0.5, 0.5], [0.9, 0.1]):
        divergence = sum(p * math.log(p / q) for p, q in zip(policy, [0.25, 0.75], strict=True))
        logits = torch.tensor([[policy]]).log()
        assert entropy_of(distribution, logits, prior).item() == pytest.approx(math.log(2) - divergence, abs=1e-6)
        even = torch.full((2,), 0.5).log()
        assert entropy_of(distribution, logits, even).item() == pytest.approx(
            distribution.entropy(logits).item(), abs=1e-6
        )


@pytest.mark.parametrize("kind", ["sac", "dsac", "lad"])
@pytest.mark.parametrize("explore", [True, False])
def test_learning_starts_from_the_prior(kind, explore):
    shares = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    spaces = replace(SPACES, prior=tuple(np.log(shares).tolist()))
    agent = build(kind, spaces, generators(2))
    obs = np.random.default_rng(0).standard_normal((2, 500, 3), dtype=np.float32)
    acted = agent.act(obs, np.array([500, 500]), explore, np.zeros((2, 500), np.int64))
    np.testing.assert_allclose(acted.prob, shares[acted.action], rtol=1e-5)
    if explore:
        counts = np.bincount(acted.action.ravel(), minlength=4) / 1000
        np.testing.assert_allclose(counts, shares, atol=0.05)
    batch = random_batch(np.random.default_rng(0), spaces, 2, 16, with_latent=kind == "lad")
    entropy = agent.update(batch)["entropy"]
    np.testing.assert_allclose(entropy, math.log(4), rtol=1e-5)  # none lost to the prior
    for _ in range(20):
        agent.update(batch)
    again = agent.act(obs, np.array([500, 500]), explore, np.zeros((2, 500), np.int64))
    assert np.abs(again.prob - shares[again.action]).max() > 1e-3


def test_a_prior_needs_a_denoiser_that_can_be_quiet():
    spaces = replace(SPACES, prior=(0.0,) * 4)
    for key, value in {"predict": "noise", "loss": "denoising", "final_noise": True}.items():
        with pytest.raises(ValueError, match=rf"agent\.{key}: must be"):
            build("dsac", spaces, generators(1), **{key: value})


@pytest.mark.parametrize("kind", ["sac", "dsac"])
def test_the_temperature_moves_against_the_entropy_and_stops_at_its_cap(kind):
    batch = random_batch(np.random.default_rng(0), SPACES, 2, 16)
    high = build(kind, SPACES, generators(2), target_entropy=1.38, alpha_lr=0.1, alpha_init=0.05, alpha_max=0.08)
    low = build(kind, SPACES, generators(2), target_entropy=-1.0, alpha_lr=0.1, alpha_init=0.05)
    fixed = build(kind, SPACES, generators(2), target_entropy=-1.0, alpha_lr=0.0, alpha_init=0.05)
    alphas = [[agent.update(batch)["alpha"][0] for _ in range(12)] for agent in (high, low, fixed)]
    assert alphas[0][0] == alphas[1][0] == pytest.approx(0.05)
    assert alphas[0][-1] == pytest.approx(0.08)
    assert (np.diff(alphas[1]) < 0).all()
    assert alphas[1][1] == pytest.approx(0.05 * math.exp(-0.1), rel=1e-3)  # Adam's first step is its rate
    np.testing.assert_allclose(alphas[2], 0.05)


@pytest.mark.parametrize("kind", ["sac", "dsac"])
def test_unreachable_numbers_are_refused(kind):
    with pytest.raises(ValueError, match=r"agent\.target_entropy 1\.4 nats .* 1\.386"):
        build(kind, SPACES, generators(1), target_entropy=1.4)
    build(kind, GATES, generators(1), target_entropy=1.4)  # four coins hold 2.77 nats
    with pytest.raises(ValueError, match=r"agent\.target_entropy"):
        build(kind, GATES, generators(1), target_entropy=2.8)
    with pytest.raises(ValueError, match=r"agent\.alpha_init 2 is above agent\.alpha_max 1"):
        build(kind, SPACES, generators(1), alpha_init=2.0)
    with pytest.raises(ValueError, match="exactly k need dqn"):
        build(kind, replace(SPACES, distribution=Gates(4, k=2)), generators(1))


def test_denoising_needs_actions_and_chains_that_start_from_noise():
    with pytest.raises(ValueError, match=r"agent\.loss: gates"):
        build("denoising", GATES, generators(1))
    for change in ({"bound": None}, {"latent_start": True}):
        with pytest.raises(ValueError, match=r"agent\.loss denoising needs"):
            build("denoising", SPACES, generators(1), **change)


def test_denoising_steers_the_entropy_of_the_policy_it_learns():
    """The temperature rises until softmax(Q / temperature) has the wanted entropy."""
    batch = random_batch(np.random.default_rng(0), SPACES, 2, 64)
    numbers = {"target_entropy": 1.0, "alpha_init": 0.01, "alpha_lr": 0.05, "alpha_max": None, "critic_lr": 1e-6}
    agent = build("denoising", SPACES, generators(2), **numbers)
    entropies = [agent.update(batch)["entropy"] for _ in range(300)]
    assert (entropies[0] < 0.6).all()
    np.testing.assert_allclose(entropies[-1], 1.0, atol=0.02)


def test_latent_actions_need_an_index():
    with pytest.raises(ValueError, match=r"agent\.latent_start"):
        build("lad", replace(SPACES, n_latent=0), generators(1))
    with pytest.raises(ValueError, match=r"agent\.eval_start latent needs"):
        build("dsac", SPACES, generators(1), eval_start="latent")


def test_the_latent_table_keeps_the_last_probabilities_of_each_index():
    agent = build("lad", SPACES, generators(2))
    first = agent.latent.copy()
    np.testing.assert_array_equal(first.shape, (2, 6, 4))
    obs = np.ones((2, 3, 3), np.float32)
    index, count = np.array([[4, 0, 2], [1, 3, 5]]), np.array([3, 1])
    acted = agent.act(obs, count, True, index)
    np.testing.assert_array_equal(acted.latent[0], first[0, [4, 0, 2]])
    written = (agent.latent != first).any(-1)
    assert written.tolist() == [[True, False, True, False, True, False], [False, True, False, False, False, False]]
    np.testing.assert_allclose(agent.latent[written].sum(-1), 1.0, rtol=1e-5)  # probabilities
    chosen = np.take_along_axis(agent.latent[0, [4, 0, 2]], acted.action[0][:, None], axis=1)[:, 0]
    np.testing.assert_array_equal(chosen, acted.prob[0])
    table = agent.latent.copy()
    again = agent.act(obs, count, False, index)  # greedy decisions start there and write too
    np.testing.assert_array_equal(again.latent[0], table[0, [4, 0, 2]])
    assert (agent.latent != table).any(-1).tolist() == written.tolist()


def test_the_start_matters_to_latent_actions_only():
    obs, index, count = np.ones((1, 1, 3), np.float32), np.zeros((1, 1), np.int64), np.array([1])
    probs = {}
    for kind in ("lad", "dsac"):
        for value in (0.0, 3.0):
            agent = build(kind, SPACES, generators(1))
            if agent.latent is not None:
                agent.latent[:] = value * np.arange(4)
            probs[kind, value] = agent.act(obs, count, False, index).prob.item()
    assert probs["lad", 0.0] != probs["lad", 3.0]
    assert probs["dsac", 0.0] == probs["dsac", 3.0]


def test_greedy_decisions_draw_nothing_unless_they_start_from_noise():
    obs, count = np.ones((1, 50, 3), np.float32), np.array([50])
    for start, draws in (("zero", False), ("noise", True)):
        drawn_by = generators(1)
        agent = build("dsac", SPACES, drawn_by, eval_start=start)
        before = drawn_by[0].bit_generator.state
        probs = agent.act(obs, count, False).prob
        assert (drawn_by[0].bit_generator.state != before) == draws
        assert (np.unique(probs).size > 1) == draws


def test_the_marginal_policy_is_the_mean_over_chains():
    logits = torch.tensor([[[[0.0, math.log(3.0)], [math.log(3.0), 0.0], [0.0, 0.0]]]])  # 1/4, 3/4, 1/2 for action 0
    torch.testing.assert_close(marginal(logits).exp(), torch.tensor([[[0.5, 0.5]]]))


@pytest.mark.parametrize("kind", ["dsac", "lad"])
def test_more_chains_state_the_same_policy_more_exactly(kind):
    """The spread of the probabilities shrinks with the root of the number of chains; their mean stays."""
    obs = torch.full((2, 1, 3), 0.5)
    latent = torch.full((2, 1, 4), 0.3)
    probs = {}
    for chains in (1, 16):
        actor = build(kind, SPACES, generators(2), chains=chains, bound=None)._actor
        with torch.no_grad():
            for param in actor.stack.params.values():
                param.mul_(4.0)  # so that the noise matters
            drawn_by = generators(2, 7)
            rows = [actor.logits(obs, latent, actor.draw(1, drawn_by)).softmax(-1) for _ in range(300)]
        probs[chains] = torch.stack(rows)
    spread = {chains: rows.std(0) for chains, rows in probs.items()}
    assert (spread[1] > 0.02).any()
    assert (spread[16] < 0.4 * spread[1] + 1e-3).all()
    torch.testing.assert_close(probs[16].mean(0), probs[1].mean(0), atol=4 * float(spread[1].max()) / 300**0.5, rtol=0)


def test_fresh_latents_are_noise_of_each_learner():
    table = fresh_latents(500, 4, generators(2))
    assert table.shape == (2, 500, 4)
    assert table.std() == pytest.approx(1.0, abs=0.05)
    np.testing.assert_array_equal(table[1:], fresh_latents(500, 4, generators(2)[1:]))


# --- settings ----------------------------------------------------------------------------------------------------

SETTINGS = {
    "dqn": (DQNSettings, DQN_NUMBERS),
    "sac": (SACSettings, SAC_NUMBERS),
    "dsac": (DSACSettings, {**SAC_NUMBERS, **CHAIN_NUMBERS, **LATENT}),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_are_validated_strictly(kind):
    record, numbers = SETTINGS[kind]
    adapter = TypeAdapter(record)

    def check(data):  # strict records are read from JSON
        return adapter.validate_json(json.dumps(data))

    assert check(numbers) == record(**numbers)
    with pytest.raises(ValidationError, match="lr_typo"):
        check({**numbers, "lr_typo": 1.0})
    for key in numbers:
        with pytest.raises(ValidationError, match=key):
            check({name: value for name, value in numbers.items() if name != key})
        with pytest.raises(ValidationError, match=key):
            check({**numbers, key: "two"})
        if isinstance(numbers[key], float):
            with pytest.raises(ValidationError, match=key):
                check({**numbers, key: math.nan})
    with pytest.raises(ValidationError, match="hidden"):
        check({**numbers, "hidden": []})
