"""Train the missing cells of one ablation: shared by `run-ablation`, `train`, `ablate` and those of a search."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.cli import console
from cifar_lab.cli import options as o
from cifar_lab.cli.engine import LOCAL, engine_nodes
from cifar_lab.cli.notify import add_outcome
from cifar_lab.cli.plan_tree import plan_tree, result_tree
from cifar_lab.cli.prompt import confirm, confirm_long
from cifar_lab.cli.typed_command import recorded_command
from cifar_lab.cli.until_decided import confirm_drop, run_looks
from cifar_lab.errors import UsageError
from cifar_lab.execution import request
from cifar_lab.execution.request import RequestArguments
from cifar_lab.object_store import with_addresses
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.stopped_cell import count_states

if TYPE_CHECKING:
    from cifar_lab.execution.plan import Plan, PlannedCell
    from cifar_lab.execution.runner import RunReport
    from cifar_lab.mlflow_sync.logged_model import ModelLogging
    from cifar_lab.results.comparison import Comparison
    from cifar_lab.store.invocation import StoppingRule

Print = Callable[["Comparison"], None]


class CommandOutcome(NamedTuple):
    """Outcome of a run: its exit code, and the final plan as JSON; None if it could not begin."""

    code: int
    tree: dict[str, Any] | None
    interrupted: str = ""
    """Reason for an early end, by the user or by a full disk; empty otherwise."""
    sentence: str = ""
    """Verdicts, or accuracies where nothing is compared, in one sentence."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a command that trains an ablation."""

    typed: RequestArguments
    data: str | None
    """Source of the images; None for the one of the scale, else CIFAR-10."""
    runs: Path
    """Absolute path of the runs folder."""
    compile: bool | None = None
    graph: bool | None = None
    most: int | None = None
    """Maximum number of seeds of a stopping rule; None for a fixed number."""
    drop_rule: bool = False
    retry_failed: bool = False
    redo: tuple[str, ...] = ()
    """Beginnings of the fingerprints of cells to be trained anew."""
    patience: float | None = None
    """Minimum seconds without progress before a worker counts as stuck; None: from the environment."""
    until: float = math.inf
    """Time on the monotonic clock at which running cells save and stop."""
    offline: bool = False
    models: ModelLogging | None = None
    """Networks to log as MLflow models; None for none."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Tags of the user for the runs in MLflow."""
    note: str = ""
    """Text of the user for the invocation's run in MLflow."""
    yes: bool = False
    """True if nothing is to be confirmed."""
    print_table: Print | None = None
    data_hash: str | None = None
    """Hash that the images must have; None for any."""
    files: Callable[[], Mapping[str, str]] | None = None
    """Function that returns further artifacts of the run in MLflow, by name; called when its cells have ended."""
    words: tuple[str, ...] = ()
    """Options as typed, for the suggestion of a quicker command."""
    engine: str = LOCAL
    ray_address: str | None = None
    """Address of a Ray cluster; None: `cifar_lab.execution.ray_cluster.connected` looks for one."""


def option_words(
    variants: str | None, seeds: str | None, device: str, workers: str, cells_per_gpu: str, runs: Path,
    ablations: list[Path] | None,
) -> tuple[str, ...]:  # fmt: skip
    """Return the options that differ from their defaults as the words of a command line."""
    typed = {"--variants": variants, "--seeds": seeds, "--device": device, "--workers": workers,
             "--cells-per-gpu": cells_per_gpu, "--runs": runs}  # fmt: skip
    usual = (None, "auto", o.DEFAULT_RUNS)
    shown = {flag: with_addresses(str(value)) for flag, value in typed.items() if value not in usual}
    words = [word for pair in shown.items() for word in pair]
    return (*words, *(word for path in ablations or [] for word in ("--ablations", str(path))))


def run_one(ablation: Ablation, options: RunOptions) -> CommandOutcome:
    """Train the missing cells of one ablation on the engine of the options, and print the comparison."""
    if options.engine != LOCAL:
        request.check_request(ablation, options.typed)  # before a cluster is started
    with engine_nodes(options.engine, options.ray_address) as nodes:
        outcome = _run_on_nodes(ablation, replace(options, typed=options.typed._replace(nodes=nodes)))
    add_outcome(ablation.name, outcome)
    return outcome


def _run_on_nodes(ablation: Ablation, options: RunOptions) -> CommandOutcome:
    """Resolve the request, confirm what is long or sets records aside, and train once or until all is decided."""
    runs, yes = options.runs, options.yes
    resolved = _resolve_writable(ablation, options)
    if options.drop_rule:
        confirm_drop(resolved.plan, runs, yes)
    resolved = _set_aside(resolved, runs, options.redo, yes, as_before=_is_executed_as_before(options))
    confirm_long(resolved, runs, yes, options.words)
    if options.most is None:
        from cifar_lab.store.invocation import DROPPED

        return _train_and_print(resolved, options, DROPPED if options.drop_rule else None)
    run_part = partial(_train_and_print, options=replace(options, print_table=None))
    return run_looks(resolved, runs, options.most, run_part, options.print_table, yes)


def _is_executed_as_before(options: RunOptions) -> bool:
    """Tell whether nothing was said on how cells are executed, so that redone ones are executed as they were."""
    typed = options.typed
    return (typed.device, typed.workers, options.compile, options.graph) == ("auto", "auto", None, None)


def print_outcome(outcome: CommandOutcome, as_json: bool) -> int:
    """Print the outcome as JSON if wanted, and return the exit code."""
    if as_json:
        console.print_json(outcome.tree)
    return outcome.code


def _set_aside(
    found: request.Request, runs: Path, prefixes: Sequence[str], yes: bool, *, as_before: bool
) -> request.Request:  # fmt: skip
    """Set the records of the cells to be redone aside, and return the request with these cells missing.

    `as_before`: execute it as those records were, with as many workers as their threads permit.
    """
    from cifar_lab.execution.rerun import executed_as, find_planned_cell, known_as, set_aside

    cells = [find_planned_cell(found.plan, prefix) for prefix in prefixes]
    if not cells:
        return found
    if as_before:
        execution = executed_as(cells, runs, found.execution)
        threads = found.execution.threads * found.workers
        workers = max(1, min(found.workers, threads // execution.threads))
        found = found._replace(execution=execution, workers=workers, compile=execution.compile)
    named = "; ".join(known_as(cell, found.plan, runs) for cell in cells)
    confirm(
        "Go on?", f"Setting aside what was trained of {named}", yes, "`cifar-lab clean` deletes it for good, later."
    )
    return found._replace(plan=set_aside(found.plan, cells, runs))


def _resolve_writable(ablation: Ablation, options: RunOptions) -> request.Request:
    """Resolve the arguments; the output folders are checked after the words and before images are read."""

    def prepare() -> None:
        from cifar_lab.mlflow_sync.uri import require_places

        require_places(options.runs, offline=options.offline)

    resolved = request.resolve_request(
        ablation, options.typed, data=options.data, runs=options.runs, say=console.say, compile=options.compile,
        graph=options.graph, trains=True, prepare=prepare,
    )  # fmt: skip
    dataset = resolved.plan.dataset
    if options.data_hash not in {None, dataset.hash}:
        raise UsageError(
            f"--data {resolved.plan.source}: these are not the images of the search: their sha256 is "
            f"{dataset.hash[:12]}…, not {options.data_hash:.12}…"
        )
    return resolved


def _train_and_print(resolved: request.Request, options: RunOptions, stopping: StoppingRule | None) -> CommandOutcome:
    """Train the missing cells of a request, print the comparison, and report the outcome."""
    from cifar_lab.cli.display import Display
    from cifar_lab.execution.complete import complete
    from cifar_lab.mlflow_sync.upload import open_ablation_upload
    from cifar_lab.report.summary import comparison_headline

    runs, retry_failed = options.runs, options.retry_failed

    def watch(resolved: request.Request, cells: list[PlannedCell]) -> Display:
        console.say(request.plan_in_words(resolved.plan, resolved.workers, retry_failed=retry_failed))
        wanted = {cell.fingerprint: cell.name for cell in cells}
        return Display(wanted, estimates=resolved.plan.estimates, workers=resolved.workers)

    upload = open_ablation_upload(
        runs, resolved.plan.ablation, console.say, offline=options.offline, models=options.models, files=options.files
    )
    command = replace(recorded_command(), labels=dict(options.labels), note=options.note)
    done = complete(
        resolved, runs, command=command, watch=watch, upload=upload, say=console.say,
        retry_failed=retry_failed, stopping=stopping, patience=options.patience, until=options.until,
        engine=options.engine,
    )  # fmt: skip
    report, comparison = done.report, done.comparison
    counts = {"trained": report.trained, "by_another_runner": done.by_another_runner, "reused": report.reused}
    tree = {
        **plan_tree(resolved._replace(plan=done.plan)),
        **counts,
        **result_tree(done.plan, comparison),
    }
    if options.print_table is not None:
        options.print_table(comparison)
    interrupted = str(report.interrupted) if report.interrupted is not None else ""
    code = _conclude(done.plan, report, done.by_another_runner, runs)
    return CommandOutcome(code, tree, interrupted, comparison_headline(comparison))


def _conclude(plan: Plan, report: RunReport, others: int, runs: Path) -> int:
    """Report what was done and what was not; unfinished work makes the exit code 1."""
    undone = [cell for cell in plan.cells if not cell.is_done]
    counts = Counter(cell.state for cell in undone)
    said = [f"{report.trained} trained", *([f"{others} by another runner"] if others else [])]
    said += [f"{report.reused} reused", f"{counts.pop('failed', 0)} failed"]
    stopped = sum(cell.state == "missing" and CellRecord(runs / cell.fingerprint).has_checkpoint for cell in undone)
    console.say(", ".join([*said, *([count_states(counts, stopped)] if counts else [])]))
    for cell in undone:
        if cell.state == "failed":
            console.say(
                f"{cell.name} failed: see {runs / cell.fingerprint / 'failure.json'}; again with --retry-failed"
            )
        if cell.state == "damaged":
            console.say(f"{cell.name} is damaged: {cell.damage(runs)}")
    if report.interrupted is not None:
        console.say(f"{report.interrupted}; the same command goes on from there")
        return report.interrupted.exit_code or int(any(cell.state in {"failed", "damaged"} for cell in undone))
    return 1 if undone else 0
