"""What an agent decides: one of n actions, or n binary gates jointly. All formulas of actions, values and entropies.

Leading axes `...` are those of the caller, for example [K, M]. A critic gives n_q numbers per observation:
Categorical: Q(s, a) for every action a. Gates: V(s) and n gains g_i(s), with Q(s, a) = V(s) + sum_i a_i g_i(s), so
that expectations under independent gates are exact and the cost grows linearly with n.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus


@dataclass(frozen=True)
class Categorical:
    """One of n actions. Actions are int64 [...]."""

    n: int

    @property
    def n_logits(self) -> int:
        """Width A of the actor's output."""
        return self.n

    @property
    def n_q(self) -> int:
        """Width of a critic's output."""
        return self.n

    @property
    def n_uniforms(self) -> int:
        """Uniform numbers that one sampled action needs."""
        return 1

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Shape of one action."""
        return ()

    @property
    def action_dtype(self) -> torch.dtype:
        """Type of actions."""
        return torch.int64

    @property
    def max_entropy(self) -> float:
        """Entropy of the uniform policy, nats."""
        return math.log(self.n)

    def probs(self, logits: Tensor) -> Tensor:
        """Probability of every action [..., n]."""
        return logits.softmax(-1)

    def entropy(self, logits: Tensor) -> Tensor:
        """Entropy of the policy [...], nats."""
        log_probs = logits.log_softmax(-1)
        return -(log_probs.exp() * log_probs).sum(-1)

    def expected_q(self, q: Tensor, probs: Tensor) -> Tensor:
        """Mean of Q over the policy's actions [...]."""
        return (q * probs).sum(-1)

    def q_of(self, q: Tensor, action: Tensor) -> Tensor:
        """Q of the given actions [...]; `action` may lack q's leading axes."""
        return q.gather(-1, action.expand(q.shape[:-1]).unsqueeze(-1)).squeeze(-1)

    def lower_q(self, q: Tensor, probs: Tensor) -> Tensor:
        """The cautious one of twin critics q [2, ..., n_q]: the smaller value of every action."""
        return torch.minimum(q[0], q[1])

    def prob_of(self, probs: Tensor, action: Tensor) -> Tensor:
        """Probability of the given actions [...]."""
        return self.q_of(probs, action)

    def greedy(self, logits: Tensor) -> Tensor:
        """The most probable action."""
        return logits.argmax(-1)

    def greedy_q(self, q: Tensor) -> Tensor:
        """The action of highest Q."""
        return q.argmax(-1)

    def sample(self, probs: Tensor, uniforms: Tensor) -> Tensor:
        """Actions by inverting the distribution at `uniforms` [..., 1]; an action of probability 0 never comes."""
        cumulative = probs.cumsum(-1)
        passed = (cumulative <= uniforms * cumulative[..., -1:]).sum(-1)
        return passed.clamp_(max=self.n - 1)

    def random(self, uniforms: Tensor) -> Tensor:
        """Actions without preference."""
        return (uniforms.squeeze(-1) * self.n).long().clamp_(max=self.n - 1)


@dataclass(frozen=True)
class Gates:
    """n binary gates, open = 1, chosen jointly. Actions are int8 [..., n].

    k = 0: any set, the empty one included (its meaning is the caller's). k > 0: exactly k open gates, for agents that
    choose by value (DQN); the probabilities below are those of independent gates and hold for k = 0 only.
    """

    n: int
    k: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.k <= self.n:
            raise ValueError(f"gates: exactly {self.k} of {self.n} cannot be open")

    @property
    def n_logits(self) -> int:
        """Width A of the actor's output."""
        return self.n

    @property
    def n_q(self) -> int:
        """Width of a critic's output: V and n gains."""
        return 1 + self.n

    @property
    def n_uniforms(self) -> int:
        """Uniform numbers that one sampled action needs."""
        return self.n

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Shape of one action."""
        return (self.n,)

    @property
    def action_dtype(self) -> torch.dtype:
        """Type of actions."""
        return torch.int8

    @property
    def max_entropy(self) -> float:
        """Entropy of n fair coins, nats."""
        return self.n * math.log(2.0)

    def probs(self, logits: Tensor) -> Tensor:
        """Probability that each gate is open [..., n]."""
        return logits.sigmoid()

    def entropy(self, logits: Tensor) -> Tensor:
        """Entropy of the joint choice [...], nats: the sum over independent gates."""
        return (softplus(logits) - logits * logits.sigmoid()).sum(-1)

    def expected_q(self, q: Tensor, probs: Tensor) -> Tensor:
        """Mean of Q over all 2^n sets [...], exact."""
        return q[..., 0] + (q[..., 1:] * probs).sum(-1)

    def q_of(self, q: Tensor, action: Tensor) -> Tensor:
        """Q of the given sets [...]."""
        return self.expected_q(q, action.to(q.dtype))

    def lower_q(self, q: Tensor, probs: Tensor) -> Tensor:
        """The cautious one of twin critics q [2, ..., n_q]: the one that expects less of the policy.

        Taking the smaller of each gain would stack n errors on top of each other.
        """
        value = self.expected_q(q, probs)
        return torch.where((value[0] <= value[1]).unsqueeze(-1), q[0], q[1])

    def prob_of(self, probs: Tensor, action: Tensor) -> Tensor:
        """Probability of the given sets [...]."""
        return torch.where(action > 0, probs, 1 - probs).prod(-1)

    def greedy(self, logits: Tensor) -> Tensor:
        """The most probable set (k > 0: of that size)."""
        return self._best(logits)

    def greedy_q(self, q: Tensor) -> Tensor:
        """The set of highest Q (k > 0: of that size)."""
        return self._best(q[..., 1:])

    def sample(self, probs: Tensor, uniforms: Tensor) -> Tensor:
        """Sets drawn gate by gate at `uniforms` [..., n]."""
        return (uniforms < probs).to(torch.int8)

    def random(self, uniforms: Tensor) -> Tensor:
        """Sets without preference: fair coins, or k gates out of n."""
        return self._best(0.5 - uniforms)

    def _best(self, gains: Tensor) -> Tensor:
        """Open what gains (k = 0), or the k largest."""
        if self.k == 0:
            return (gains > 0).to(torch.int8)
        best = gains.topk(self.k, dim=-1).indices
        return torch.zeros_like(gains, dtype=torch.int8).scatter_(-1, best, 1)


ActionDistribution = Categorical | Gates
