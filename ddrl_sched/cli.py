"""The command line `ddrl`. Imports typer alone; each command imports what it needs when it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ddrl_sched import stopping

app = typer.Typer(
    help="Fair, fast benchmark of schedulers for generative AI tasks on collaborating edge servers.",
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
)

Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="What differs from conf/.")]
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


@app.command()
def train(
    overrides: Overrides = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Run folder of an interrupted job to finish.")] = None,
    multirun: Multirun = False,
    cfg: Cfg = None,
    resolve: Resolve = False,
    package: Package = None,
    info: Info = None,
    config_dir: ConfigDir = None,
    hydra_help: HydraHelp = False,
    accept_code: AcceptCode = False,
    retry_failed: RetryFailed = False,
    debug: Debug = False,
) -> None:
    """Train a learned scheduler and keep its weights."""
    flags = _hydra_flags(cfg, resolve, package, info, config_dir, hydra_help)
    folder = str(resume.resolve()) if resume else None
    options = {"resume": folder, "accept_code": accept_code, "retry_failed": retry_failed, "debug": debug}
    _launch("train", overrides, flags, options, multirun=multirun)


@app.command(name="eval")
def evaluate(
    overrides: Overrides = None,
    run: Annotated[Path | None, typer.Option("--run", help="Run folder with the trained weights.")] = None,
    multirun: Multirun = False,
    cfg: Cfg = None,
    resolve: Resolve = False,
    package: Package = None,
    info: Info = None,
    config_dir: ConfigDir = None,
    hydra_help: HydraHelp = False,
    accept_code: AcceptCode = False,
    retry_failed: RetryFailed = False,
    debug: Debug = False,
) -> None:
    """Evaluate a scheduler on held-out traces."""
    flags = _hydra_flags(cfg, resolve, package, info, config_dir, hydra_help)
    folder = str(run.resolve()) if run else None
    options = {"run": folder, "accept_code": accept_code, "retry_failed": retry_failed, "debug": debug}
    _launch("eval", overrides, flags, options, multirun=multirun)


@app.command()
def sweep(
    overrides: Overrides = None,
    dry_run: DryRun = False,
    cfg: Cfg = None,
    resolve: Resolve = False,
    package: Package = None,
    info: Info = None,
    config_dir: ConfigDir = None,
    hydra_help: HydraHelp = False,
    accept_code: AcceptCode = False,
    retry_failed: RetryFailed = False,
    debug: Debug = False,
) -> None:
    """Train and evaluate every combination of a=1,2 b=3,4, or of an experiment. Finished jobs are skipped."""
    flags = _hydra_flags(cfg, resolve, package, info, config_dir, hydra_help)
    options = {"accept_code": accept_code, "retry_failed": retry_failed, "debug": debug}
    _launch("sweep", overrides, flags, options, multirun=True, dry_run=dry_run)


@app.command()
def report(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Run folders, or folders of them.")],
    baseline: Annotated[list[str] | None, typer.Option("--baseline", help="Compare with it; may be repeated.")] = None,
    format: Annotated[Literal["table", "markdown", "csv", "latex", "json"], typer.Option(help="Form.")] = "table",
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the tables and figures.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if a folder had to be left out.")] = False,
    debug: Debug = False,
) -> None:
    """Compare what has been run."""
    with _plain_errors(debug):
        from ddrl_sched.report.tables import main as tables

        raise typer.Exit(tables(paths, baseline or [], format, out, strict) or 0)


@app.command(name="list")
def list_choices(config_dir: ConfigDir = None, debug: Debug = False) -> None:
    """List schedulers, scenarios, workloads and experiments."""
    with _plain_errors(debug):
        from ddrl_sched.listing import conf_dir, listing

        typer.echo(listing([conf_dir(), *([config_dir] if config_dir else [])]))


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(metavar="IN.npz", help="Scenario, tasks and decisions.")],
    out: Annotated[Path, typer.Option("--out", metavar="OUT.npz", help="Where the delays go.")],
    debug: Debug = False,
) -> None:
    """Compute the delays of given decisions (of another program, in any language)."""
    with _plain_errors(debug):
        from ddrl_sched.edge.replay import replay as play

        play(file, out)


def main() -> None:
    """Entry point: signals first, for the imports that follow take seconds."""
    stopping.listen()
    app()


def _launch(command: str, overrides: list[str] | None, flags: list[str], options: dict[str, Any], **how: bool) -> None:
    with _plain_errors(options["debug"]):
        from ddrl_sched.launch import launch

        raise typer.Exit(launch(command, overrides or [], flags, options, **how))


def _hydra_flags(
    cfg: str | None, resolve: bool, package: str | None, info: str | None, config_dir: Path | None, hydra_help: bool
) -> list[str]:
    values = {"--cfg": cfg, "--package": package, "--info": info, "--config-dir": config_dir}
    flags = [word for flag, value in values.items() if value is not None for word in (flag, str(value))]
    return flags + ["--resolve"] * resolve + ["--hydra-help"] * hydra_help


@contextmanager
def _plain_errors(debug: bool) -> Iterator[None]:
    """Every error becomes one message and an exit status; with `debug` the traceback comes first."""
    try:
        yield
    except typer.Exit:
        raise
    except (Exception, KeyboardInterrupt) as error:
        import traceback

        from ddrl_sched.failures import explain

        if debug:
            traceback.print_exc()
        status, message = explain(error)
        typer.echo(f"error: {message}", err=True)
        raise typer.Exit(status) from None


if __name__ == "__main__":
    main()
