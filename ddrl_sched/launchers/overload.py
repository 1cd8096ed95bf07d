"""Announcing loads at which no scheduler keeps up: once for each load and world of a command."""

from collections.abc import Sequence

from ddrl_sched.config import Settings, clean
from ddrl_sched.display import note
from ddrl_sched.jobs.request import JobSpec, World
from ddrl_sched.jobs.state import done_folder


class Overload:
    """What has been said about the loads of a command."""

    def __init__(self, worlds: Sequence[World]) -> None:
        self._n_worlds = len({world.name for world in worlds})
        self._noted: set[tuple[float, str]] = set()
        self._looked: set[str] = set()  # hashes of worlds whose load only a finished job knows

    @classmethod
    def of(cls, specs: Sequence[JobSpec[Settings]]) -> "Overload":
        """Note the loads that the jobs were given, before they run."""
        worlds = [spec.world for spec in specs if spec.world is not None]
        overload = cls(worlds)
        for world in worlds:
            overload._note(world.load, world, "workload.load=")
        return overload

    def found(self, load: float | None, spec: JobSpec[Settings]) -> None:
        """Note the load of a job that was given none."""
        if spec.world is not None and spec.world.load is None:
            self._note(load, spec.world, "workload.load=null is a load of ")

    def ended(self, spec: JobSpec[Settings], state: str) -> None:
        """Look up the load of a job that was given none, now that it is done; once for each world."""
        if state != "done" or spec.world is None or spec.world.load is not None:
            return
        if spec.world.hash not in self._looked:
            self._looked.add(spec.world.hash)
            self.found(_load_of(spec), spec)

    def _note(self, load: float | None, world: World, said: str) -> None:
        if load is None or load < 1 or (load, world.name) in self._noted:
            return
        self._noted.add((load, world.name))
        where = f" in {clean(world.name)}" if self._n_worlds > 1 else ""
        note(f"note: {said}{load:.6g}{where}: overload, queues grow as long as a trace lasts")


def _load_of(spec: JobSpec[Settings]) -> float | None:
    """The load of what a finished job has evaluated, as its folder says; None where it evaluated nothing."""
    folder = done_folder(spec)
    if folder is None or not (table := folder / "eval.parquet").is_file():
        return None
    from pyarrow import parquet  # lazy: the job that wrote it has loaded it

    (load, *_) = parquet.read_table(table, columns=["load"])["load"].to_pylist() or [None]
    return load if load is None else float(load)
