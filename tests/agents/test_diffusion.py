"""Schedules by hand, the laws of the reverse chain, and the denoiser against a plain loop."""

import numpy as np
import pytest
import torch

from ddrl_sched.agents.diffusion import (
    Denoiser,
    betas,
    denoiser_specs,
    denoising_loss,
    reverse_chain,
    time_embedding,
)
from ddrl_sched.agents.reverse_gradient import chain_logits
from ddrl_sched.agents.stack import Adam, Stack, differentiate, first_weights, rates_by_rows
from tests.agent_builders import generators

RATES = {"vp": (0.1, 10.0), "cosine": (1.0, 1.0), "linear": (1e-4, 0.02)}


def test_vp_schedule_by_hand():
    # T = 2: exponents 0.1/2 + 9.9/2 (2t - 1)/4 = 1.2875 and 3.7625
    np.testing.assert_allclose(betas("vp", 2, 0.1, 10.0), [1 - np.exp(-1.2875), 1 - np.exp(-3.7625)], rtol=1e-12)
    # whatever T, the signal left at the end is exp(-(beta_min + beta_max) / 2)
    for steps in (1, 5, 50):
        assert np.prod(1 - betas("vp", steps, 0.1, 10.0)) == pytest.approx(np.exp(-5.05), rel=1e-9)


def test_cosine_schedule_by_hand():
    # T = 1: all signal goes, capped at 0.999; T = 2: cos^2 of 45.36 and 0.714 degrees
    assert betas("cosine", 1, 1.0, 1.0).tolist() == [0.999]
    half = np.cos(np.radians(90 * 0.508 / 1.008)) ** 2 / np.cos(np.radians(90 * 0.008 / 1.008)) ** 2
    np.testing.assert_allclose(betas("cosine", 2, 1.0, 1.0), [1 - half, 0.999], rtol=1e-12)


def test_linear_schedule_by_hand():
    np.testing.assert_allclose(betas("linear", 3, 0.1, 0.3), [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"agent\.beta_max 10"):
        betas("linear", 3, 0.1, 10.0)


@pytest.mark.parametrize("schedule", ["vp", "cosine", "linear"])
@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_a_reverse_step_undoes_a_forward_step_in_distribution(schedule, steps):
    """If x_t has mean signal x_0 and variance noise^2, then so has x_(t-1), with the numbers of t - 1."""
    chain = reverse_chain(betas(schedule, steps, *RATES[schedule]), final_noise=False)
    signal, noise = [1.0, *chain.signal], [0.0, *chain.noise]
    for t in range(steps):
        assert chain.from_x0[t] + chain.from_x[t] * signal[t + 1] == pytest.approx(signal[t], abs=1e-12)
        variance = (chain.from_x[t] * noise[t + 1]) ** 2 + chain.sigma[t] ** 2
        assert variance == pytest.approx(noise[t] ** 2, abs=1e-12)
    assert (chain.from_x0[0], chain.from_x[0], chain.sigma[0]) == (pytest.approx(1.0), 0.0, 0.0)


def test_time_embedding_by_hand():
    embedding = time_embedding(3, 4)
    expected = [[np.sin(t), np.sin(1e-4 * t), np.cos(t), np.cos(1e-4 * t)] for t in (1, 2, 3)]
    np.testing.assert_allclose(embedding.numpy(), expected, rtol=1e-5)


def test_the_time_embedding_tells_steps_apart():
    embedding = time_embedding(10, 16)
    apart = (embedding[:, None] - embedding[None]).norm(dim=-1)
    assert (apart + torch.eye(10)).min() > 0.1


def make(
    predict="x0",
    bound=None,
    steps=4,
    final_noise=False,
    n_logits=3,
    n_obs=2,
    hidden=(6, 5),
    n_learners=2,
    activation="relu",
):
    chain = reverse_chain(betas("vp", steps, 0.1, 10.0), final_noise=final_noise)
    specs = denoiser_specs(n_logits, 8, n_obs, hidden)
    stack = Stack(specs, first_weights(specs, generators(n_learners)))
    return Denoiser(chain, time_embedding(steps, 8), activation, predict, bound), stack


def plain_chain(stack, k, obs, start, noise, predict, bound, steps, activation):
    """One observation of learner k in double precision, from the definition (Ho et al., algorithm 2)."""
    w = {name: param[k].detach().double().numpy() for name, param in stack.params.items()}
    first = np.concatenate([w["weight_x"], w["weight_time"], w["weight_obs"]])
    beta = betas("vp", steps, 0.1, 10.0)
    alpha, x = 1 - beta, start.astype(np.float64)
    abar = np.cumprod(alpha)
    for t in reversed(range(steps)):
        h = activation(np.concatenate([x, time_embedding(steps, 8)[t].numpy(), obs]) @ first + w["bias0"][0])
        out = activation(h @ w["weight1"] + w["bias1"][0]) @ w["weight2"] + w["bias2"][0]
        if predict == "noise":
            x0 = (x - np.sqrt(1 - abar[t]) * np.tanh(out)) / np.sqrt(abar[t])
            x0 = x0 if bound is None else np.clip(x0, -bound, bound)
        else:
            x0 = out if bound is None else bound * np.tanh(out)
        if t == 0:
            return x0
        eps = (x - np.sqrt(abar[t]) * x0) / np.sqrt(1 - abar[t])  # the noise that x0 implies
        mean = (x - beta[t] / np.sqrt(1 - abar[t]) * eps) / np.sqrt(alpha[t])
        x = mean + np.sqrt(beta[t] * (1 - abar[t - 1]) / (1 - abar[t])) * noise[steps - 1 - t]
    raise AssertionError


@pytest.mark.parametrize("predict", ["x0", "noise"])
@pytest.mark.parametrize("bound", [None, 0.7])
def test_denoiser_equals_a_plain_loop(predict, bound):
    denoiser, stack = make(predict, bound)
    rng = np.random.default_rng(0)
    obs, start = rng.standard_normal((2, 5, 2)), rng.standard_normal((2, 5, 3))
    noise = rng.standard_normal((2, len(denoiser.noisy_steps), 5, 3))
    given = [torch.from_numpy(a.astype(np.float32)) for a in (obs, start, noise)]
    logits = chain_logits(denoiser, stack.params, *given).detach().numpy()
    for k in range(2):
        for i in range(5):
            expected = plain_chain(
                stack, k, obs[k, i], start[k, i], noise[k, :, i], predict, bound, 4, lambda v: np.maximum(v, 0)
            )
            np.testing.assert_allclose(logits[k, i], expected, rtol=2e-4, atol=2e-4)


def autograd_chain(denoiser, w, obs, start, noise):
    """The chain in operations that autograd knows, in the precision of the weights."""
    activate = {"relu": torch.relu, "mish": torch.nn.functional.mish}[denoiser.activation]
    c, x, bound = denoiser.chain, start, denoiser.bound
    for t, z in zip(reversed(range(denoiser.steps)), noise.unbind(1), strict=True):
        time = (denoiser.embedding[t].to(x) @ w["weight_time"]).unsqueeze(1)
        output = activate(x @ w["weight_x"] + time + obs @ w["weight_obs"] + w["bias0"])
        layer = 1
        while f"weight{layer + 1}" in w:
            output, layer = activate(output @ w[f"weight{layer}"] + w[f"bias{layer}"]), layer + 1
        output = output @ w[f"weight{layer}"] + w[f"bias{layer}"]
        if denoiser.predict == "noise":
            end = (x - c.noise[t] * output.tanh()) / c.signal[t]
            end = end if bound is None else end.clamp(-bound, bound)
        else:
            end = output if bound is None else bound * output.tanh()
        x = c.from_x0[t] * end + c.from_x[t] * x + c.sigma[t] * z
    return x


@pytest.mark.parametrize("predict", ["x0", "noise"])
@pytest.mark.parametrize("bound", [None, 0.7])
@pytest.mark.parametrize("activation", ["relu", "mish"])
@pytest.mark.parametrize("hidden", [(6,), (6, 5), (4, 5, 6)])
def test_the_gradient_by_hand_is_that_of_autograd(predict, bound, activation, hidden):
    denoiser, stack = make(predict, bound, final_noise=True, hidden=hidden, activation=activation)
    draw = torch.Generator().manual_seed(0)
    shapes = ((2, 7, 2), (2, 7, 3), (2, 4, 7, 3), (2, 7, 3))
    *given, weight = (torch.randn(*shape, generator=draw) for shape in shapes)
    logits = chain_logits(denoiser, stack.params, *given)
    differentiate((weight * logits).sum(), [stack])
    doubles = {name: param.detach().double().requires_grad_() for name, param in stack.params.items()}
    expected = autograd_chain(denoiser, doubles, *(array.double() for array in given))
    gradients = torch.autograd.grad((weight * expected).sum(), list(doubles.values()))
    torch.testing.assert_close(logits.double(), expected, rtol=1e-4, atol=1e-4)
    flat = torch.cat([gradient.flatten(1) for gradient in gradients], 1)
    torch.testing.assert_close(stack.grad.double(), flat, rtol=1e-3, atol=1e-4 * flat.abs().max().item())


def constant(stack, value):
    """Make the network answer `value` whatever it sees."""
    with torch.no_grad():
        stack.params["weight2"].zero_()
        stack.params["bias2"].fill_(value)


def test_a_denoiser_that_knows_the_end_arrives_there_from_anywhere():
    denoiser, stack = make("x0")
    constant(stack, 1.5)
    draw = torch.Generator().manual_seed(0)
    start, noise = torch.randn(2, 9, 3, generator=draw), torch.randn(2, 3, 9, 3, generator=draw)
    logits = chain_logits(denoiser, stack.params, torch.zeros(2, 9, 2), start, noise)
    torch.testing.assert_close(logits, torch.full((2, 9, 3), 1.5))


def test_final_noise_spreads_the_end_by_beta_1():
    denoiser, stack = make("x0", final_noise=True)
    constant(stack, 1.5)
    assert denoiser.noisy_steps == [3, 2, 1, 0]
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 4, 4000, 3, generator=draw)
    logits = chain_logits(denoiser, stack.params, torch.zeros(2, 4000, 2), torch.zeros(2, 4000, 3), noise)
    assert logits.mean().item() == pytest.approx(1.5, abs=0.02)
    assert logits.std().item() == pytest.approx(np.sqrt(betas("vp", 4, 0.1, 10.0)[0]), rel=0.02)


def test_a_noise_predictor_that_sees_nothing_leaves_a_wide_gaussian_and_walks_stay_bounded():
    """Answer 0: x_(t-1) has its own spread; the end of x_T ~ N(0, 1) is N(0, 1/abar) without posterior noise."""
    denoiser, stack = make("noise")
    constant(stack, 0.0)
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(2, 4000, 3, generator=draw)
    logits = chain_logits(denoiser, stack.params, torch.zeros(2, 4000, 2), start, None)
    torch.testing.assert_close(logits, start * np.exp(5.05 / 2), rtol=1e-4, atol=1e-4)
    bounded, stack = make("noise", bound=2.0)
    constant(stack, 0.0)
    assert chain_logits(bounded, stack.params, torch.zeros(2, 4000, 2), start, None).abs().max() <= 2.0


def test_the_largest_weight_matrix_is_initialised_as_one_layer():
    """The three parts of the first matrix share the fan-in of the concatenated input."""
    _, stack = make(n_logits=30, n_obs=62, hidden=(50,))  # fan-in 30 + 8 + 62 = 100
    for name in ("weight_x", "weight_time", "weight_obs"):
        largest = stack.params[name].abs().max().item()
        assert 0.095 < largest <= 0.1


@pytest.mark.parametrize("predict", ["x0", "noise"])
@pytest.mark.parametrize("activation", ["relu", "mish"])
def test_the_denoising_loss_equals_a_plain_loop(predict, activation):
    denoiser, stack = make(predict, 2.0, activation=activation)
    draw = torch.Generator().manual_seed(0)
    obs, noise = torch.randn(2, 5, 2, generator=draw), torch.randn(2, 5, 3, 3, generator=draw)
    weight = torch.rand(2, 5, 3, generator=draw)
    step = torch.randint(4, (2, 5), generator=draw)
    loss = denoising_loss(denoiser, stack.params, obs, weight, step=step, noise=noise)
    w = {name: param.detach().double() for name, param in stack.params.items()}
    activate = {"relu": torch.relu, "mish": torch.nn.functional.mish}[activation]
    for k in range(2):
        total = 0.0
        for i in range(5):
            t = int(step[k, i])
            for a in range(3):
                end = torch.full((3,), -2.0, dtype=torch.float64)
                end[a] = 2.0
                x = denoiser.chain.signal[t] * end + denoiser.chain.noise[t] * noise[k, i, a].double()
                seen = torch.cat([x, denoiser.embedding[t].double(), obs[k, i].double()])
                first = torch.cat([w[name][k] for name in ("weight_x", "weight_time", "weight_obs")])
                hidden = activate(seen @ first + w["bias0"][k, 0])
                hidden = activate(hidden @ w["weight1"][k] + w["bias1"][k, 0])
                y = torch.tanh(hidden @ w["weight2"][k] + w["bias2"][k, 0])
                wanted = noise[k, i, a].double() if predict == "noise" else end / 2.0
                total += weight[k, i, a].item() * ((y - wanted) ** 2).mean().item()
        assert loss[k].item() == pytest.approx(total / 5, rel=1e-4)


@pytest.mark.parametrize(("predict", "apart"), [("x0", 0.06), ("noise", 0.2)])
def test_denoising_weighted_by_a_policy_teaches_that_policy(predict, apart):
    """Chains from noise then end at the actions as often as they weigh, another policy for another observation.

    Not exactly: a chain starts from noise of mean zero, where forward steps (vp) keep 8 % of their start; and noise
    beyond the 1 that tanh allows blurs the policy.
    """
    denoiser, stack = make(predict, 3.0, steps=20, hidden=(64, 64), n_learners=1)
    wanted = torch.tensor([[[0.7, 0.2, 0.1], [0.05, 0.15, 0.8]]])
    obs = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    optimiser, draw = Adam(rates_by_rows(stack.flat, [3e-3])), torch.Generator().manual_seed(0)
    many = {"obs": obs.repeat(1, 128, 1), "weight": wanted.repeat(1, 128, 1)}
    for _ in range(1500):
        step = torch.randint(20, (1, 256), generator=draw)
        noise = torch.randn(1, 256, 3, 3, generator=draw)
        differentiate(denoising_loss(denoiser, stack.params, step=step, noise=noise, **many).sum(), [stack])
        optimiser.step()
    start = torch.randn(1, 4000, 3, generator=draw)
    noise = torch.randn(1, len(denoiser.noisy_steps), 4000, 3, generator=draw)
    with torch.no_grad():
        probs = chain_logits(denoiser, stack.params, obs.repeat(1, 2000, 1), start, noise).softmax(-1)
    reached = probs.view(2000, 2, 3).mean(0)
    torch.testing.assert_close(reached, wanted[0], rtol=0, atol=apart)
