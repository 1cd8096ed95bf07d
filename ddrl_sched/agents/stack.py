"""K learners as one set of weights [K, P] with one random generator each, trained side by side.

Axes: K learners, P weights of one learner, n observations, M minibatch, A logits, O observed numbers.
A stack is trained by summing the losses over learners (never averaging), clipping every learner's gradient by itself
and drawing every learner's randomness from its own generator: then each learner trains as it would alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.adam import adam

Generators = Sequence[np.random.Generator]
GeneratorState = Mapping[str, object]  # of its bit generator, in plain words and numbers


@dataclass(frozen=True)
class ParamSpec:
    """One weight matrix of every learner: [K, rows, columns]. A bias has one row."""

    name: str
    rows: int
    columns: int
    fan_in: int  # inputs of the layer it belongs to, which sets the size of the first weights


class Stack:
    """The weights of K equal networks in one buffer, and the same memory seen as one matrix per layer.

    `flat` [K, P] and `grad` [K, P] are what optimisers, target copies and clipping work on. `params[name]`
    [K, rows, columns] are views of `flat` for torch.baddbmm; `differentiate` gathers their gradients in `grad`.
    """

    def __init__(self, specs: Sequence[ParamSpec], flat: Tensor, *, trained: bool = True) -> None:
        self.flat = flat
        self.grad = torch.zeros_like(flat)
        self.flat.grad = self.grad if trained else None
        sizes = [spec.rows * spec.columns for spec in specs]
        parts = torch.split(flat, sizes, dim=1)
        self.params = {
            spec.name: part.view(len(flat), spec.rows, spec.columns).requires_grad_(trained)
            for spec, part in zip(specs, parts, strict=True)
        }

    def weights(self) -> dict[str, Tensor]:
        """A copy of every layer's weights by name."""
        return {
            name: param.detach().clone(memory_format=torch.contiguous_format) for name, param in self.params.items()
        }

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take over weights of the same names and shapes.

        Raises:
            ValueError: a name is missing or unknown, or a shape differs; nothing is changed then.
        """
        expected = {name: tuple(param.shape) for name, param in self.params.items()}
        check_shapes("weights", weights, expected)
        with torch.no_grad():
            for name, param in self.params.items():
                param.copy_(weights[name])


def differentiate(loss: Tensor, stacks: Sequence[Stack]) -> None:
    """Write the gradient of `loss`, a sum over learners, into every stack's `grad`; all parameters must take part.

    Gradients are fetched rather than left to accumulate in the parameters: preset strided `.grad` views work, but each
    costs an addition and torch warns that they break its layout contract.
    """
    fetched = iter(torch.autograd.grad(loss, [param for stack in stacks for param in stack.params.values()]))
    for stack in stacks:
        torch.cat([next(fetched).flatten(1) for _ in stack.params], dim=1, out=stack.grad)


def first_weights(specs: Sequence[ParamSpec], generators: Generators) -> Tensor:
    """[K, P] uniform in +-1/sqrt(fan_in), each learner's row from its own generator."""
    bound = np.concatenate([np.full(spec.rows * spec.columns, spec.fan_in**-0.5, np.float32) for spec in specs])
    return torch.from_numpy((2 * uniforms(generators, (len(bound),)) - 1) * bound)


def clip_per_learner(grad: Tensor, largest: float | None) -> Tensor:
    """Scale the rows of `grad` [K, P] in place to at most this norm (None: leave them); the norms [K] from before."""
    norm = torch.linalg.vector_norm(grad, dim=1)
    if largest is not None:
        grad.mul_((largest / norm.clamp(min=largest)).unsqueeze(1))
    return norm


def check_shapes(what: str, given: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """ValueError unless `given` has exactly these tensors."""
    if set(given) != set(expected):
        raise ValueError(
            f"{what}: expected tensors named {sorted(expected)}, found {sorted(given)}; another agent wrote them"
        )
    for name, shape in expected.items():
        if tuple(given[name].shape) != shape:
            raise ValueError(
                f"{what}: {name} is of shape {list(given[name].shape)}, expected {list(shape)} (learners, inputs,"
                " outputs); learners, observation, actions and agent.hidden must be those of the training"
            )


S = TypeVar("S")


def one_each(settings: S | Sequence[S], n_learners: int, free: Sequence[str]) -> list[S]:
    """A settings record for every learner, from one for all or one each.

    Raises:
        ValueError: their number is wrong, or they differ in another number than those in `free`.
    """
    each = list(settings) if isinstance(settings, Sequence) else [settings] * n_learners
    if len(each) != n_learners:
        raise ValueError(f"{len(each)} settings for {n_learners} learners")
    for name in vars(each[0]).keys() - set(free):
        if any(getattr(s, name) != getattr(each[0], name) for s in each):
            raise ValueError(f"agent.{name} must be the same for all learners of a stack")
    return each


def rates_by_rows(flat: Tensor, rates: Sequence[float]) -> list[tuple[Tensor, float]]:
    """What Adam takes for rate rates[k] in row k of `flat` (with a gradient): neighbours of equal rate together."""
    assert flat.grad is not None
    starts = [k for k in range(len(rates)) if k == 0 or rates[k] != rates[k - 1]]
    if len(starts) == 1:
        return [(flat, rates[0])]
    parts = []
    for start, end in zip(starts, [*starts[1:], len(rates)], strict=True):
        part = flat[start:end]
        part.grad = flat.grad[start:end]
        parts.append((part, rates[start]))
    return parts


def zero_last_layer(stack: Stack) -> None:
    """Zero the last layer: the networks answer zero to everything."""
    last = max(int(name.removeprefix("bias")) for name in stack.params if name.startswith("bias"))
    with torch.no_grad():
        for name in (f"weight{last}", f"bias{last}"):
            stack.params[name].zero_()


class Adam:
    """Adam (Kingma and Ba 2015) with a learning rate per stack, by torch's fused kernel.

    The functional form: building a torch.optim.Adam imports torch's compiler, six CPU seconds in every process.
    """

    def __init__(self, rates: Sequence[tuple[Tensor, float]]) -> None:
        self._rates = rates
        self._steps = [torch.tensor(0.0) for _ in rates]
        self._means = [torch.zeros_like(flat) for flat, _ in rates]
        self._squares = [torch.zeros_like(flat) for flat, _ in rates]

    @torch.no_grad()
    def step(self, rate_factor: float = 1.0) -> None:
        """One step along every tensor's `.grad`, at its learning rate times `rate_factor`."""
        moments = zip(self._rates, self._means, self._squares, self._steps, strict=True)
        for (flat, rate), mean, square, step in moments:
            assert flat.grad is not None
            adam(
                [flat], [flat.grad], [mean], [square], [], [step],
                fused=True, amsgrad=False, beta1=0.9, beta2=0.999, lr=rate * rate_factor, weight_decay=0.0, eps=1e-8,
                maximize=False,
            )  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        """Everything that evolves, by name; shares memory with the optimiser."""
        kinds = {"adam_step": self._steps, "adam_mean": self._means, "adam_square": self._squares}
        return {f"{kind}{i}": tensor for kind, tensors in kinds.items() for i, tensor in enumerate(tensors)}


def uniforms(
    generators: Generators, shape: tuple[int, ...], count: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """float32 [K, *shape] uniform in [0, 1); learner k draws the first count[k] along the first axis, the rest is 0."""
    return _drawn(generators, shape, count, 0, normal=False)


def normals(
    generators: Generators, shape: tuple[int, ...], count: NDArray[np.int64] | None = None, axis: int = 0
) -> NDArray[np.float32]:
    """float32 [K, *shape] standard normal; learner k draws the first count[k] along `axis` of shape, the rest is 0."""
    return _drawn(generators, shape, count, axis, normal=True)


def _drawn(
    generators: Generators, shape: tuple[int, ...], count: NDArray[np.int64] | None, axis: int, *, normal: bool
) -> NDArray[np.float32]:
    """One draw per learner, only as many numbers as it needs: alone it would draw the same."""
    drawn = (np.empty if count is None else np.zeros)((len(generators), *shape), np.float32)
    for k, generator in enumerate(generators):
        draw = generator.standard_normal if normal else generator.random
        if count is None or count[k] == shape[axis]:
            draw(dtype=np.float32, out=drawn[k])
        else:
            size = (*shape[:axis], int(count[k]), *shape[axis + 1 :])
            drawn[k][tuple(slice(length) for length in size)] = draw(size, dtype=np.float32)
    return drawn


def generator_states(generators: Generators) -> list[GeneratorState]:
    """The generators' states in plain words and numbers."""
    return [dict(generator.bit_generator.state) for generator in generators]


def load_generator_states(generators: Generators, states: Sequence[GeneratorState]) -> None:
    """Put generators (PCG64) where `generator_states` found them."""
    if len(states) != len(generators):
        raise ValueError(f"state of {len(states)} learners, expected {len(generators)}")
    for generator, state in zip(generators, states, strict=True):
        generator.bit_generator.state = state
