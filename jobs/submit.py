"""`spp submit`: a recipe becomes a job of a Ray cluster, or a file for Kubernetes."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from ray.job_submission import JobDetails

from jobs import kuberay, ray_jobs, show, steps
from jobs.exit_codes import DONE, INTERRUPTED
from jobs.options import JsonOption, RecipeArgument, SetOption
from jobs.parcel import Parcel, load_for_cluster, paths_of, requirements
from jobs.reaching import quiet
from pipeline.config import Recipe
from pipeline.errors import InputError, RecipeError

ServerOption = Annotated[
    str,
    typer.Option(
        help="The dashboard of the cluster's head.",
        envvar=["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"],
    ),
]
JobOption = Annotated[str, typer.Option(help="How far to go: run, extract, windows, …")]
ClusterRunsOption = Annotated[
    Path, typer.Option(help="Folder for every run's output, which all machines of the cluster see.")
]
ClusterDataOption = Annotated[
    Path | None,
    typer.Option(help="Folder on the cluster that relative paths in the recipe start from."),
]
StoresOption = Annotated[
    str | None, typer.Option(help="Where features go instead, such as s3://bucket/folder.")
]
EnvOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME[=VALUE]", help="A variable for the job; without value: as here."),
]
PipOption = Annotated[
    Path | None, typer.Option(help="A requirements file, for clusters that lack the packages.")
]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Do not follow the job's output.")]
AgainOption = Annotated[
    bool, typer.Option("--again", help="Run it although it is done, for what changed since.")
]
StatusOption = Annotated[bool, typer.Option("--status", help="Only say how far the job is.")]
StopOption = Annotated[bool, typer.Option("--stop", help="Stop the job.")]
KuberayOption = Annotated[
    bool, typer.Option("--kuberay", help="Print a RayJob for Kubernetes, and submit nothing.")
]
ImageOption = Annotated[
    str | None, typer.Option(help="Container image for --kuberay; deploy/README.md makes one.")
]
ClaimOption = Annotated[
    str, typer.Option(help=f"Volume claim that --kuberay mounts at {kuberay.SHARED}.")
]
DONE_BEFORE = (
    "{last} has done it before. If weights, images or boxes changed since under the same names, "
    "--again looks at them, and computes what they change"
)


def submit(
    recipe: RecipeArgument,
    runs: ClusterRunsOption,
    address: ServerOption = "http://127.0.0.1:8265",
    job: JobOption = "run",
    data: ClusterDataOption = None,
    stores: StoresOption = None,
    set_: SetOption = None,
    env: EnvOption = None,
    pip: PipOption = None,
    no_wait: NoWaitOption = False,
    again: AgainOption = False,
    status: StatusOption = False,
    stop: StopOption = False,
    as_json: JsonOption = False,
    on_kubernetes: KuberayOption = False,
    image: ImageOption = None,
    claim: ClaimOption = "spp-shared",
) -> None:
    """Run a recipe as a job of a Ray cluster.

    And follow it; the same command again finds it, or goes on where it stopped.

    Examples:
        spp submit mine.toml --address http://HEAD:8265 --runs /shared/runs --data /shared/data
        spp submit mine.toml --address http://HEAD:8265 --runs /shared/runs --status
        spp submit mine.toml --kuberay --image IMAGE --runs /shared/runs   # for Kubernetes
    """
    if sum((status, stop, on_kubernetes)) > 1:
        raise typer.BadParameter("--status, --stop and --kuberay exclude each other")
    parcel = _parcel(load_for_cluster(recipe, set_, data), job, runs, stores, pip)
    given, named = _variables(env or [])
    if on_kubernetes:
        if image is None:
            raise typer.BadParameter("--kuberay needs --image")
        parcel = replace(parcel, env=given)
        typer.echo(kuberay.manifest(parcel, image, claim, named), nl=False)
        return
    parcel = replace(parcel, env=given | _from_here(named))
    with quiet():
        server = ray_jobs.connect(address)
        known = server.attempts(parcel.name)
        if not known and (status or stop):
            raise InputError(
                f"{server.address} knows of no job {parcel.name}: with the options it was "
                "submitted with, this finds it, as long as the cluster lives"
            )
        if status:
            last = known[-1]
        elif stop:
            last = server.stop(known[-1])
        else:
            say = _silent if as_json else typer.echo
            last = _run(server, parcel, known[-1] if known else None, again, not no_wait, say)
    if as_json:
        show.print_json(ray_jobs.row(last, server.address))
    else:
        show.say(ray_jobs.sentence(last), err=not (status or stop))
    raise typer.Exit(ray_jobs.exit_code(last) if last.status.is_terminal() and not stop else DONE)


def _run(
    server: ray_jobs.JobServer,
    parcel: Parcel,
    last: JobDetails | None,
    again: bool,
    wait: bool,
    say: Callable[..., None],
) -> JobDetails:
    """Start the job where it neither runs nor is done, and follow it."""
    if last is not None and ray_jobs.is_done(last) and not again:
        say(DONE_BEFORE.format(last=ray_jobs.id_of(last)), err=True)
        return last
    if last is None or last.status.is_terminal():
        submitted = server.start(parcel, after=last)
        seen = ", ".join(str(path) for path in (parcel.runs, *paths_of(parcel.recipe)))
        say(f"submitted {submitted} to {server.address}", err=True)
        say(f"all machines of the cluster must see {seen}", err=True)
    else:
        submitted = ray_jobs.id_of(last)
        say(f"{submitted} is there already", err=True)
    if not wait:
        return server.details(submitted)
    try:
        return server.follow(submitted, lambda text: say(text, nl=False))
    except KeyboardInterrupt:
        show.say(
            f"\n{submitted} goes on without you. The same command follows it again; with --status "
            "it says how far it is, with --stop it stops it",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None


def _silent(text: str, **_: bool) -> None:
    """Say nothing: a program wants the answer alone."""
    del text


def _parcel(recipe: Recipe, job: str, runs: Path, stores: str | None, pip: Path | None) -> Parcel:
    if job not in steps.TARGETS:
        raise RecipeError(f"no job is called {job!r}; --job takes {', '.join(steps.TARGETS)}")
    if not runs.is_absolute():
        raise RecipeError(
            f"--runs {runs} is relative, and a submitted job starts in a folder of its own: give "
            "the path by which every machine of the cluster knows it"
        )
    return Parcel(recipe, job, runs, stores, packages=requirements(pip) if pip else ())


def _variables(wanted: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the variables that are given with their values, and those that are only named."""
    split = [each.partition("=") for each in wanted]
    if any(not name for name, _, _ in split):
        raise RecipeError("--env takes NAME or NAME=VALUE")
    given = {name: value for name, equals, value in split if equals}
    return given, [name for name, equals, _ in split if not equals]


def _from_here(names: list[str]) -> dict[str, str]:
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise RecipeError(f"--env {missing[0]}: it is not set here; set it, or give NAME=VALUE")
    return {name: os.environ[name] for name in names}
