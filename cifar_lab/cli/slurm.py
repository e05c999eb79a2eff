"""`--engine slurm`: submit cells to a cluster's queue; and the hidden command that a task of it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.cli import arguments, console
from cifar_lab.cli import options as o
from cifar_lab.cli.app import CONTEXT
from cifar_lab.cli.engine import SLURM
from cifar_lab.cli.training import CommandOutcome, RunOptions
from cifar_lab.cli.typed_command import recorded_command
from cifar_lab.errors import UsageError
from cifar_lab.redaction import NOTIFY_URLS
from cifar_lab.text import many

if TYPE_CHECKING:
    from cifar_lab.execution.engine import Listener
    from cifar_lab.execution.plan import Plan
    from cifar_lab.execution.request import Request
    from cifar_lab.execution.slurm import SlurmOptions
    from cifar_lab.store.submission import SubmittedRequest

Partition = Annotated[str | None, typer.Option(help="Slurm: partition of the job.")]
Account = Annotated[str | None, typer.Option(help="Slurm: account that is charged.")]
Gres = Annotated[str | None, typer.Option(help="Slurm: generic resources of a task, gpu:1.")]
TimeLimit = Annotated[
    str | None,
    typer.Option(
        "--time", metavar="TIME", help="Slurm: time limit of a task, 90 (minutes) or 1:30:00.",
        show_default="1.5 times the estimate",
    ),
]  # fmt: skip
CellsPerTask = Annotated[
    int | None,
    typer.Option("--cells-per-task", metavar="N", min=1, help="Slurm: cells that a task begins.",
                 show_default="about an hour's"),
]  # fmt: skip
MaxParallel = Annotated[
    int | None, typer.Option("--max-parallel", metavar="N", min=1, help="Slurm: maximum number of tasks at a time.")
]
Sbatch = Annotated[
    list[str] | None,
    typer.Option("--sbatch", metavar="OPTION", help="Slurm: further #SBATCH option, --mem=8G; repeatable."),
]
CLUSTER_ONLY = "--{name} goes with --engine slurm only"


def slurm_options(
    engine: str, *, partition: str | None, account: str | None, gres: str | None, time: str | None,
    cells_per_task: int | None, max_parallel: int | None, sbatch: list[str] | None,
) -> SlurmOptions | None:  # fmt: skip
    """Return the options of a submission; None for another engine.

    Raises:
        UsageError: an option goes with Slurm only, or has no valid form.
    """
    given = {"partition": partition, "account": account, "gres": gres, "time": time, "cells-per-task": cells_per_task,
             "max-parallel": max_parallel, "sbatch": sbatch}  # fmt: skip
    if engine != SLURM:
        if lone := [name for name, value in given.items() if value is not None]:
            raise UsageError(CLUSTER_ONLY.format(name=lone[0]))
        return None
    from cifar_lab.execution import slurm

    texts = [
        ("partition", partition),
        ("account", account),
        ("gres", gres),
        *(("sbatch", line) for line in sbatch or []),
    ]
    for name, text in texts:
        if text is not None and ("\n" in text or not text.strip()):
            raise UsageError(f"--{name} takes one line of text, got {text!r}")
    slurm.require_further(sbatch or [])
    slurm.require_slurm()
    return slurm.SlurmOptions(
        partition=partition or "", account=account or "", gres=gres or "",
        minutes=slurm.parse_minutes(time) if time is not None else None,
        cells_per_task=cells_per_task, max_parallel=max_parallel, further=tuple(sbatch or ()),
    )  # fmt: skip


def require_submittable(given: Mapping[str, object]) -> None:
    """Check that no option is given whose work needs a runner that stays; `given`: values by option.

    Raises:
        UsageError: one is.
    """
    if lone := [name for name, value in given.items() if value]:
        raise UsageError(f"{lone[0]} does not go with --engine slurm, which submits and returns")


def require_no_notification(urls: Sequence[str] | None) -> None:
    """Check that no `--notify` was typed; addresses in the environment are left out, and a line says so.

    Raises:
        UsageError: one was: its secrets would have to be written into the job's script.
    """
    if not urls:
        return
    hint = "Slurm sends mail itself: --sbatch=--mail-type=END,FAIL"
    context = CONTEXT.get()
    source = context.get_parameter_source("notify") if context is not None else None
    if source is not None and source.name == "ENVIRONMENT":
        console.say(f"{NOTIFY_URLS} is not used with --engine slurm, which submits and returns. {hint}")
        return
    raise UsageError(f"--notify does not go with --engine slurm, which submits and returns. {hint}")


def submit_ablation(
    ablation: Ablation, options: RunOptions, cluster: SlurmOptions, folders: list[Path] | None
) -> CommandOutcome:
    """Submit the missing cells of an ablation that no earlier submission has, and return at once.

    Raises:
        UsageError: the runs are on an object store, which --engine slurm cannot use, or an argument is invalid.
        TrackingError: the runs folder cannot be written, or the MLflow store not be used.
    """
    from cifar_lab.execution.slurm_task import SUMMARY, awaited, submit_plan
    from cifar_lab.mlflow_sync.uri import require_places
    from cifar_lab.store.mirror import mirror_of

    if (mirror := mirror_of(options.runs)) is not None:
        raise UsageError(f"--runs {mirror.address}: --engine slurm needs a folder that all nodes share")
    plan = _resolve(ablation, options, cluster)
    require_places(options.runs, offline=options.offline)
    taken = awaited(options.runs)
    cells = plan.to_train(retry_failed=options.retry_failed)
    if others := [cell for cell in cells if cell.fingerprint in taken]:
        jobs = sorted({taken[cell.fingerprint].name.partition("_")[0] for cell in others}, key=int)
        of = f"{many(len(others), 'cell')} of an earlier submission {'is' if len(others) == 1 else 'are'}"
        console.say(
            f"{of} in the queue already, with the options of then; `scancel {' '.join(jobs)}` takes them out of it"
        )
    cells = [cell for cell in cells if cell.fingerprint not in taken]
    tree: dict[str, Any] = {"ablation": ablation.name, "cells": [cell.fingerprint for cell in cells], "job": None}
    if not cells:
        console.say(f"{ablation.name}: nothing to submit; {sum(cell.is_done for cell in plan.cells)} "
                    f"of {many(len(plan.cells), 'cell')} are done")  # fmt: skip
        return CommandOutcome(0, tree)
    done = submit_plan(
        plan, cells, _request(ablation, plan, options, folders), runs=options.runs, options=cluster,
        command=replace(recorded_command(), labels=dict(options.labels), note=options.note), offline=options.offline,
    )  # fmt: skip
    limit = console.duration(60.0 * done.plan.minutes)
    console.say(f"Slurm job {done.job}: {many(done.cells, 'cell')} in {many(done.plan.tasks, 'task')} of {limit} "
                "at most; you can log off")  # fmt: skip
    elsewhere = "" if options.runs == o.DEFAULT_RUNS.resolve() else f" --runs {options.runs}"
    console.say(f"progress: cifar-lab status {ablation.name}{elsewhere} · stop: scancel {done.job}")
    console.say(f"afterwards job {done.following} writes {done.folder / SUMMARY} and report.html beside it")
    return CommandOutcome(0, {**tree, "job": done.job, "tasks": done.plan.tasks, "minutes": done.plan.minutes,
                              "following_job": done.following, "folder": str(done.folder)})  # fmt: skip


def _resolve(ablation: Ablation, options: RunOptions, cluster: SlurmOptions) -> Plan:
    """Return the plan, with estimates unless a time limit is given.

    Raises:
        UsageError: tasks are to have a GPU, and there is none here to estimate their time on.
    """
    from cifar_lab.execution import request

    if cluster.minutes is not None:
        return request.resolve_plan(ablation, options.typed, data=options.data, runs=options.runs, say=console.say)
    resolved = request.resolve_request(
        ablation, options.typed, data=options.data, runs=options.runs, say=console.say, compile=options.compile,
        graph=options.graph,
    )  # fmt: skip
    if "gpu" in cluster.gres and resolved.execution.device == "cpu":
        raise UsageError(f"--gres {cluster.gres}: no GPU here to estimate the time of a task on; give --time, 2:00:00")
    return resolved.plan


def _request(ablation: Ablation, plan: Plan, options: RunOptions, folders: list[Path] | None) -> SubmittedRequest:
    from cifar_lab.store.submission import SubmittedRequest

    typed = options.typed
    return SubmittedRequest(
        ablation=ablation.name, folders=tuple(str(path.resolve()) for path in folders or []), scale=typed.scale.name,
        data=plan.source, overrides=dict(plan.overrides), max_params=typed.max_params,
        variants=tuple(typed.variants) if typed.variants is not None else None, seeds=typed.seeds,
        device=typed.device, workers=typed.workers, cells_per_gpu=typed.cells_per_gpu, compile=options.compile,
        graph=options.graph, retry_failed=options.retry_failed, patience=options.patience,
    )  # fmt: skip


def slurm_task(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a submission.")],
) -> int:
    """Train one task's share of a submission; batch scripts of --engine slurm run this."""
    from cifar_lab.cli.display import Display
    from cifar_lab.execution import request
    from cifar_lab.execution.slurm_task import arguments_of, train_task
    from cifar_lab.store.submission import read_submission

    submission = read_submission(folder.resolve())
    if submission is None:
        raise UsageError(f"{folder}: no submission is there")
    asked, runs = submission.request, Path(submission.runs)
    ablation = arguments.find_ablation(asked.ablation, [Path(each) for each in asked.folders], runs)
    resolved = request.resolve_request(
        ablation, arguments_of(asked), data=asked.data, runs=runs, say=console.say, compile=asked.compile,
        graph=asked.graph, trains=True,
    )  # fmt: skip

    def open_display(resolved: Request) -> AbstractContextManager[Listener]:
        plan = resolved.plan
        return Display({cell.fingerprint: cell.name for cell in plan.cells}, estimates=plan.estimates,
                       workers=resolved.workers)  # fmt: skip

    outcome = train_task(submission, resolved, open_listener=open_display, say=console.say)
    console.say(f"{outcome.trained} trained here")
    if outcome.interrupted is not None:
        console.say(str(outcome.interrupted))
        return outcome.interrupted.exit_code
    return 1 if outcome.failed else 0
