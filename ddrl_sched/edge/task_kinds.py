"""What a task is: draws of size, work and result for each kind of task, and their means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np
import numpy.typing as npt

from ddrl_sched.edge.env_settings import Choices, EnvSettings, GenerationTasks, ImageTasks, OffloadTasks
from ddrl_sched.edge.types import Floats, Ints

Columns = Mapping[str, Floats]  # key of workload.columns (input_mbit, units, steps, ...) -> values [n]
NO_COLUMNS: Columns = {}
Streams = Callable[[str], np.random.Generator]  # purpose ("sizes", "arrivals", ...) -> generator


@dataclass(frozen=True)
class Sizes:
    """Sizes of the tasks of one trace."""

    input_mbit: Floats  # [n]
    work_gcycle: Floats  # [n]
    result_mbit: Floats  # [n]
    units: Ints  # [n] images, 0 = divisible


def draw_sizes(
    env: EnvSettings, index: Ints, n_indices: int, streams: Streams, draw: Streams, *, given: Columns = NO_COLUMNS
) -> Sizes:
    """Sizes of n tasks with the published indices `index` [n] (all < n_indices where something is drawn per index).

    Each quantity has a stream of its own, and every task its own numbers, whatever happens to it. What is drawn per
    index comes from `draw`, the streams of a whole draw of the world. What is `given` is not drawn.
    """
    drawn = _drawn(env, index, n_indices, streams, draw, given=given)
    sizes = {key: given[key] for key in ("input_mbit", "work_gcycle", "result_mbit") if key in given}
    return replace(drawn, units=_whole(given.get("units", drawn.units)), **sizes)


def _drawn(env: EnvSettings, index: Ints, n_indices: int, streams: Streams, draw: Streams, *, given: Columns) -> Sizes:
    tasks, n = env.tasks, len(index)
    if isinstance(tasks, OffloadTasks):
        size = _uniform(streams("sizes"), tasks.size_mbit, n)
        if tasks.density == "per_index":
            density = _uniform(draw("densities"), tasks.density_gcycle_per_mbit, n_indices)[index]
        else:
            density = _uniform(streams("densities"), tasks.density_gcycle_per_mbit, n)
        return Sizes(size, size * density, _uniform(streams("results"), tasks.result_mbit, n), np.zeros(n, np.int64))
    if isinstance(tasks, GenerationTasks):
        size = _uniform(streams("sizes"), tasks.size_mbit, n)
        if tasks.cost == "per_index":
            work, result = (values[index] for values in _generation(tasks, draw, n_indices, None))
        else:
            work, result = _generation(tasks, streams, n, given.get("steps"))
        return Sizes(size, work, result, np.zeros(n, np.int64))
    if isinstance(tasks, ImageTasks):
        steps = given["steps"] if "steps" in given else _choose(streams("steps"), tasks.steps, n)
        images = given["units"] if "units" in given else _choose(streams("images"), tasks.n_images, n)
        gcycle, mbit = tasks.gcycle_per_step * (steps * images), tasks.result_mbit_per_image * images
        return Sizes(np.full(n, float(tasks.prompt_mbit)), _floats(gcycle), _floats(mbit), _whole(images))
    assert_never(tasks)


def mean_sizes(env: EnvSettings) -> dict[str, float]:
    """Expected input_mbit, work_gcycle and result_mbit of a task."""
    tasks = env.tasks
    if isinstance(tasks, OffloadTasks):
        work = _mean(tasks.size_mbit) * _mean(tasks.density_gcycle_per_mbit)
        return {"input_mbit": _mean(tasks.size_mbit), "work_gcycle": work, "result_mbit": _mean(tasks.result_mbit)}
    if isinstance(tasks, GenerationTasks):
        work = _mean(tasks.gcycle_per_step) * _mean(tasks.steps)
        return {"input_mbit": _mean(tasks.size_mbit), "work_gcycle": work, "result_mbit": _mean(tasks.result_mbit)}
    images, steps = _expected(tasks.n_images), _expected(tasks.steps)
    return {
        "input_mbit": float(tasks.prompt_mbit),
        "work_gcycle": tasks.gcycle_per_step * steps * images,
        "result_mbit": tasks.result_mbit_per_image * images,
    }


def mean_work_gcycle(env: EnvSettings, given: Columns = NO_COLUMNS) -> float:
    """Expected work of a task, without overhead, where a trace file gives some columns.

    Steps and images are taken as they are, so work follows them; a column work_gcycle is scaled to what it is without.
    """
    tasks = env.tasks
    if isinstance(tasks, GenerationTasks) and "steps" in given:
        return _mean(tasks.gcycle_per_step) * float(np.mean(given["steps"]))
    if isinstance(tasks, ImageTasks) and ("steps" in given or "units" in given):
        steps, images = given.get("steps", _expected(tasks.steps)), given.get("units", _expected(tasks.n_images))
        return tasks.gcycle_per_step * float(np.mean(steps * images))
    return mean_sizes(env)["work_gcycle"]


def overhead_gcycle(env: EnvSettings) -> float:
    """Work that every used share repeats."""
    tasks = env.tasks
    return (
        tasks.overhead_steps * tasks.gcycle_per_step if isinstance(tasks, ImageTasks) else float(tasks.overhead_gcycle)
    )


def deadline_s(env: EnvSettings) -> float:
    """Deadline of every task; inf where the yaml says null."""
    return float("inf") if env.tasks.deadline_s is None else float(env.tasks.deadline_s)


def drawn_per_index(env: EnvSettings) -> bool:
    """Whether a task's sizes depend on its index (published worlds)."""
    tasks = env.tasks
    if isinstance(tasks, OffloadTasks):
        return tasks.density == "per_index"
    return isinstance(tasks, GenerationTasks) and tasks.cost == "per_index"


def _generation(tasks: GenerationTasks, streams: Streams, n: int, given: Floats | None) -> tuple[Floats, Floats]:
    per_step = _uniform(streams("densities"), tasks.gcycle_per_step, n)
    steps = streams("steps").integers(tasks.steps[0], tasks.steps[1] + 1, n) if given is None else given
    return per_step * steps, _uniform(streams("results"), tasks.result_mbit, n)


def _uniform(rng: np.random.Generator, bounds: list[float], n: int) -> Floats:
    return bounds[0] + (bounds[1] - bounds[0]) * rng.random(n)


def _choose(rng: np.random.Generator, choices: Choices, n: int) -> Ints:
    """Whole numbers [n]; probabilities are taken relative to their sum."""
    ends = np.cumsum(choices.probabilities)
    return np.array(choices.values)[np.searchsorted(ends[:-1] / ends[-1], rng.random(n), side="right")]


def _expected(choices: Choices) -> float:
    return float(np.dot(choices.values, choices.probabilities))


def _whole(values: npt.ArrayLike) -> Ints:
    return np.asarray(values, dtype=np.int64)


def _floats(values: npt.ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _mean(bounds: list[float] | list[int]) -> float:
    return (bounds[0] + bounds[1]) / 2
