"""launcher=ray: jobs as Ray Core tasks, here or on a cluster. Ray runs a job again whose worker or node died."""

import os
import signal
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Annotated, Literal

from pydantic import Field

from ddrl_sched.config import InputError, Settings, shown
from ddrl_sched.extras import require
from ddrl_sched.jobs.request import Result
from ddrl_sched.launchers.task import THREADS, Task, lost, unsettled, work


class RaySettings(Settings):
    """conf/launcher/ray.yaml."""

    name: Literal["ray"]
    address: str | None  # of a running cluster ("10.0.0.1:6379", or auto for one of this machine); null: start one here
    n_jobs: Annotated[int, Field(ge=1, le=1000)]  # at once, where it is started here; a cluster has its own CPUs
    cpus_per_job: Annotated[float, Field(gt=0, le=1000)]
    retries: Annotated[int, Field(ge=0, le=100)]  # of a job whose worker or node died
    results: Literal["shared", "fetched"]  # written by the worker into the shared runs_dir, or sent home through Ray


def run(tasks: Sequence[Task], settings: RaySettings) -> Iterator[Result]:
    """The result of every task as it ends. Finished jobs are not sent."""
    ray = require("ray", "ray", "launcher=ray")
    to_send: deque[Task] = deque()
    yield from unsettled(tasks, to_send)
    if to_send:
        with _cluster(ray, settings):
            yield from _send(ray, to_send, settings)


def _send(ray: ModuleType, tasks: Iterable[Task], settings: RaySettings) -> Iterator[Result]:
    remote = ray.remote(work).options(
        num_cpus=settings.cpus_per_job, max_retries=settings.retries, scheduling_strategy="SPREAD"
    )
    fetch = settings.results == "fetched"
    sent = {remote.remote(replace(task, fetch=fetch)): task for task in tasks}
    while sent:
        (ended, *_), _ = ray.wait(list(sent))
        task = sent.pop(ended)
        try:
            yield ray.get(ended)
        except ray.exceptions.RayError as error:
            yield lost(task, error)


@contextmanager
def _cluster(ray: ModuleType, settings: RaySettings) -> Iterator[None]:
    """A connection to the cluster. Ray's own SIGTERM handler is replaced by the one that was there."""
    _check_address(settings.address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here = {} if settings.address else {"num_cpus": settings.n_jobs * settings.cpus_per_job, "include_dashboard": False}
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            settings.address or "local",
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": dict.fromkeys(THREADS, "1")},
            **here,
        )
    except (ConnectionError, ValueError) as error:
        raise InputError(f"launcher.address: cannot join a Ray cluster at {settings.address}: {_root(error)}") from None
    finally:
        signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray.shutdown()


def _root(error: BaseException) -> str:
    """What Ray says about the first cause, such as a missing token, where it says anything."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _check_address(address: str | None) -> None:
    """InputError if nobody listens at host:port; Ray itself would try for many minutes."""
    if address in (None, "auto"):
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"launcher.address: no Ray cluster at {shown(address)} (host:port or auto): {error}") from None
