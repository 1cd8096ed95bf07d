"""The command line `ddrl`. Imports typer alone; each command imports what it needs when it runs."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

from ddrl_sched import completion, stopping

app = typer.Typer(
    help="Fair, fast benchmark of schedulers for generative AI tasks on collaborating edge servers.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        from ddrl_sched.fingerprint import code_version

        typer.echo(f"ddrl {version('ddrl-sched')}, code {code_version()[:16]}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Version, and hash of the code as job.json has it.", callback=_tell_version)
]


@app.callback()
def shared_by_all(version: Version = False) -> None:
    """Fair, fast benchmark of schedulers for generative AI tasks on collaborating edge servers."""


Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="What differs from conf/.", autocompletion=completion.overrides),
]
Cfg = Annotated[Literal["job", "hydra", "all"] | None, typer.Option("--cfg", "-c", help="Show the config only.")]
Resolve = Annotated[bool, typer.Option("--resolve", help="With --cfg: resolve interpolations.")]
Package = Annotated[str | None, typer.Option("--package", "-p", help="With --cfg: show only this part.")]
InfoKind = Literal["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
Info = Annotated[InfoKind | None, typer.Option("--info", "-i", help="Show how Hydra finds the config.")]
ConfigDir = Annotated[Path | None, typer.Option("--config-dir", help="Folder with yaml files of your own.")]
HydraHelp = Annotated[bool, typer.Option("--hydra-help", help="Hydra's own help.")]
Multirun = Annotated[bool, typer.Option("--multirun", "-m", help="One job for each combination of a=1,2 b=3,4.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
AcceptCode = Annotated[bool, typer.Option("--accept-code", help="Take finished jobs of another version of the code.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run failed jobs again.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and list the jobs, run nothing.")]


class Shared(NamedTuple):
    """What train, eval and sweep are all given."""

    overrides: list[str]
    hydra_flags: list[str]
    flags: dict[str, Any]  # of ours, by their names in jobs.request.Flags


def shared_options(
    overrides: Overrides = None,
    *,
    cfg: Cfg = None,
    resolve: Resolve = False,
    package: Package = None,
    info: Info = None,
    config_dir: ConfigDir = None,
    hydra_help: HydraHelp = False,
    accept_code: AcceptCode = False,
    retry_failed: RetryFailed = False,
    debug: Debug = False,
) -> Shared:
    """The one list of these options."""
    values = {"--cfg": cfg, "--package": package, "--info": info, "--config-dir": config_dir}
    flags = [word for flag, value in values.items() if value is not None for word in (flag, str(value))]
    flags += ["--resolve"] * resolve + ["--hydra-help"] * hydra_help
    return Shared(overrides or [], flags, {"accept_code": accept_code, "retry_failed": retry_failed, "debug": debug})


def with_shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of `shared_options` beside its own; they reach it as one argument, the first."""
    shared, own = signature(shared_options).parameters, list(signature(command).parameters.values())[1:]

    @wraps(command)
    def run(**given: Any) -> None:
        command(shared_options(**{name: given.pop(name) for name in shared}), **given)

    words, *flags = shared.values()
    parameters = [words, *own, *flags]
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@app.command()
@with_shared_options
def train(
    shared: Shared,
    resume: Annotated[Path | None, typer.Option("--resume", help="Run folder of an interrupted job to finish.")] = None,
    multirun: Multirun = False,
) -> None:
    """Train a learned scheduler and keep its weights."""
    shared.flags["resume"] = resume.resolve() if resume else None
    _launch("train", shared, multirun=multirun)


@app.command(name="eval")
@with_shared_options
def evaluate(
    shared: Shared,
    run: Annotated[Path | None, typer.Option("--run", help="Run folder with the trained weights.")] = None,
    multirun: Multirun = False,
) -> None:
    """Evaluate a scheduler on held-out traces."""
    shared.flags["run"] = run.resolve() if run else None
    _launch("eval", shared, multirun=multirun)


@app.command()
@with_shared_options
def sweep(shared: Shared, dry_run: DryRun = False) -> None:
    """Train and evaluate all combinations of a=1,2 b=3,4.

    Also of an experiment or a study. Finished jobs are skipped.
    """
    from ddrl_sched.key_value import key_value

    if any(key_value(word).key == "study" for word in shared.overrides):
        _study(shared, dry_run=dry_run)
    _launch("sweep", shared, multirun=True, dry_run=dry_run)


@app.command()
def report(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Run folders, or folders of them.")],
    baseline: Annotated[list[str] | None, typer.Option("--baseline", help="Compare with it; may be repeated.")] = None,
    format: Annotated[
        Literal["table", "markdown", "csv", "latex", "json", "html"], typer.Option(help="Form.")
    ] = "table",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the tables as files: csv, json, md, tex; html: the page.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if a folder had to be left out.")] = False,
    training: Annotated[bool, typer.Option("--training", help="How trainings ended, instead of results.")] = False,
    by_seed: Annotated[bool, typer.Option("--by-seed", help="How far apart seeds are, instead of results.")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="All columns in one line, however wide the terminal.")] = False,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", help="Write curves of trainings into a folder, as event files.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Compare what has been run."""
    with _plain_errors(debug):
        if tensorboard is not None:
            from ddrl_sched.report.event_files import main as event_files

            raise typer.Exit(event_files(paths, tensorboard))
        with stopping.postponed():
            from ddrl_sched.config import InputError
            from ddrl_sched.report.table import ReportKind
            from ddrl_sched.report.tables import main as tables

        if training and by_seed:
            raise InputError("--by-seed: not with --training, which is another table")
        if baseline and (training or by_seed):
            raise InputError(
                f"--baseline: not with {'--training' if training else '--by-seed'}, which compares nothing"
            )
        if wide and format != "table":
            raise InputError(f"--wide: not with --format {format}, which is as wide as it is")
        kind: ReportKind = "training" if training else "by_seed" if by_seed else "results"
        raise typer.Exit(tables(paths, baseline or [], format, out, strict, wide=wide, kind=kind))


@app.command()
def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    task: Annotated[int | None, typer.Option("--task", help="Tell one decision: number of a task.")] = None,
    gantt: Annotated[
        str | None, typer.Option("--gantt", metavar="FROM:TO", help="Draw servers and ports in these seconds.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="With --gantt: .svg, .pdf or .png.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="With --task or --gantt: of several.")] = None,
    trace: Annotated[int | None, typer.Option("--trace", help="With --task or --gantt: of several.")] = None,
    debug: Debug = False,
) -> None:
    """Look into one run: state, results, training curve, settings, files; or one task; or servers over time."""
    with _plain_errors(debug):
        from ddrl_sched.config import InputError

        if task is not None and gantt is not None:
            raise InputError("--task: not with --gantt, which is a picture of many")
        if out is not None and gantt is None:
            raise InputError("--out: only with --gantt FROM:TO")
        if task is not None:
            from ddrl_sched.explain_task import main as explain

            raise typer.Exit(explain(run, task, seed, trace))
        if gantt is not None:
            from ddrl_sched.report.gantt import main as draw

            raise typer.Exit(draw(run, gantt, out, seed, trace))
        if seed is not None or trace is not None:
            raise InputError("--seed, --trace: only with --task N or --gantt FROM:TO")
        from ddrl_sched.report.show import main as overview

        raise typer.Exit(overview(run))


@app.command()
def diff(
    one: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    other: Annotated[Path, typer.Argument(metavar="RUN", help="Another one.")],
    debug: Debug = False,
) -> None:
    """What sets two runs apart: settings, versions, results."""
    with _plain_errors(debug):
        from ddrl_sched.report.run_diff import main as differences

        raise typer.Exit(differences(one, other))


@app.command()
def pack(
    sources: Annotated[list[Path], typer.Argument(metavar="SRC...", help="Run folders, or folders of them.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="Where the copies go: a folder of their own.")],
    weights_below: Annotated[
        str, typer.Option("--weights-below", metavar="SIZE", help="Keep the weights of runs where they are smaller.")
    ] = "1MB",
    debug: Debug = False,
) -> None:
    """Copy what a report needs of finished runs."""
    with _plain_errors(debug):
        with stopping.postponed():
            from ddrl_sched.jobs.pack import pack as copy
            from ddrl_sched.jobs.pack import size_of

        typer.echo(copy(sources, target, size_of(weights_below, "--weights-below")))


@app.command(name="list")
def list_choices(
    group: Annotated[
        str | None,
        typer.Argument(metavar="GROUP", help="scheduler, env, workload, ...", autocompletion=completion.groups),
    ] = None,
    text: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="What name or description contain.")] = None,
    config_dir: ConfigDir = None,
    debug: Debug = False,
) -> None:
    """List what can be chosen in every group.

    Schedulers, scenarios, workloads, budgets of training, launchers, experiments and studies.
    """
    with _plain_errors(debug):
        from ddrl_sched import listing
        from ddrl_sched.conf_folder import conf_dir
        from ddrl_sched.display import note

        title = listing.group_title(group) if group else None
        folders = [conf_dir(), *([listing.config_folder(config_dir)] if config_dir else [])]
        unusable: list[str] = []
        typer.echo(listing.listing(folders, title, text or [], unusable, listing.terminal_columns()))
        for why in unusable:
            note(f"left out: {why}")


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(metavar="IN.npz", help="Scenario, tasks and decisions.")],
    out: Annotated[Path, typer.Option("--out", metavar="OUT.npz", help="Where the delays go.")],
    debug: Debug = False,
) -> None:
    """Compute the delays of given decisions.

    They may come from another program, in any language.
    """
    with _plain_errors(debug):
        from ddrl_sched.compiling import watch
        from ddrl_sched.config import clean
        from ddrl_sched.edge.golden_replay import replay as play

        watch()
        play(file, out)
        print(f"written: {clean(out)}")


def main() -> None:
    """The command line, where this module is loaded already; `ddrl_sched.__main__` heeds signals before that."""
    stopping.listen()
    with _plain_errors(debug=False):  # of typer itself, which prints the help
        app(prog_name="ddrl")


def _launch(command: Literal["train", "eval", "sweep"], shared: Shared, **how: bool) -> None:
    with _plain_errors(debug=bool(shared.flags["debug"])):
        with stopping.postponed():  # Python swallows some that come within an import
            from ddrl_sched.jobs.request import Flags
            from ddrl_sched.launch import launch

        raise typer.Exit(launch(command, shared.overrides, shared.hydra_flags, Flags(**shared.flags), **how))


def _study(shared: Shared, *, dry_run: bool) -> None:
    with _plain_errors(debug=bool(shared.flags["debug"])):
        with stopping.postponed():
            from ddrl_sched.jobs.request import Flags
            from ddrl_sched.study import run_study

        raise typer.Exit(run_study(shared.overrides, shared.hydra_flags, Flags(**shared.flags), dry_run=dry_run))


@contextmanager
def _plain_errors(debug: bool) -> Iterator[None]:
    """Every error becomes one message and an exit status; with `debug` the traceback comes first."""
    try:
        with _all_printed():
            yield
    except typer.Exit:
        raise
    except BrokenPipeError:  # whoever reads the output, such as head, has seen enough
        sys.exit(128 + signal.SIGPIPE)
    except (Exception, KeyboardInterrupt) as error:
        import traceback

        from ddrl_sched.failures import explain

        if debug:
            traceback.print_exc()
        status, message = explain(error)
        typer.echo(f"error: {message}", err=True)
        sys.exit(status)


@contextmanager
def _all_printed() -> Iterator[None]:
    """OSError naming standard output if what is printed inside cannot be written there, at whatever moment."""
    try:
        yield
    except Exception:
        _flush()
        raise
    _flush()


def _flush() -> None:
    try:
        print(end="", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python fails again when it ends
        raise OSError(error.errno, error.strerror, "standard output") from None


if __name__ == "__main__":
    main()
