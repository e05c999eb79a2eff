"""`sweep` and related commands: search hyperparameters within the budget, and show the results."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cifar_lab.ablation.ablation import Ablation, Variant
from cifar_lab.cli import arguments, console
from cifar_lab.cli import options as o
from cifar_lab.cli.engine import LOCAL, RayAddress, StayingEngineName, engine_nodes, require_engine
from cifar_lab.cli.notify import Notify, add_line, request_notification
from cifar_lab.cli.prompt import ASK_ABOVE, confirm
from cifar_lab.cli.sweep_confirm import (
    ConfirmSeeds,
    ConfirmTop,
    confirm_options,
    confirm_study,
    print_confirmation,
    require_confirmation,
)
from cifar_lab.cli.sweep_output import print_counts, print_study, study_sentence, study_tree, tree_or_problem
from cifar_lab.cli.sweep_storage import (
    Name,
    Storage,
    loaded_study,
    opened_storage,
    require_shared_storage,
    write_output,
)
from cifar_lab.cli.typed_command import recorded_command
from cifar_lab.config import scale as scales
from cifar_lab.config.built_in_names import MODELS
from cifar_lab.config.images import ImageShape
from cifar_lab.config.overrides import parse_overrides
from cifar_lab.errors import UsageError, nearest
from cifar_lab.execution.request import Request, resolve_request
from cifar_lab.execution.stop_signals import end_of_time
from cifar_lab.text import many

if TYPE_CHECKING:
    from cifar_lab.execution.worker import CellJob
    from cifar_lab.search.budget import SearchBudget
    from cifar_lab.search.space import Space
    from cifar_lab.search.stored_trials import TrialCounts
    from cifar_lab.search.study import StudySettings
    from cifar_lab.search.sweep import SweepReport

Study = Annotated[
    str | None,
    typer.Option(
        "--study", metavar="NAME", help="Study name; an existing study is resumed.", show_default="name of the space"
    ),
]
MaybeName = Annotated[str | None, typer.Argument(metavar="[STUDY]", help="Name of a study; none: all of them.")]
BestRecipeFile = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the best recipe there.")
]
Trials = Annotated[int, typer.Option("--trials", min=1, help="Total number of trials, including existing ones.")]
SpaceName = Annotated[
    str, typer.Option("--space", metavar="NAME|FILE", help="Search space: a built-in name or a file.")
]
Sampler = Annotated[str, typer.Option("--sampler", help="Sampler: tpe, gp, nsgaii, random or cmaes.")]
Pruner = Annotated[str, typer.Option("--pruner", help="Pruner: hyperband, median or none.")]
Objective = Annotated[str, typer.Option("--objective", help="Objectives: accuracy; accuracy,params; accuracy,macs.")]
MaxMacs = Annotated[str | None, typer.Option("--max-macs", help="Budget of multiply-accumulates: 800M.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the trials and of the sampler.")]


def sweep(
    study: Study = None, overrides: o.Overrides = None, trials: Trials = 50, space: SpaceName = "writeup",
    max_params: o.MaxParams = "5M", max_macs: MaxMacs = None, sampler: Sampler = "tpe", pruner: Pruner = "hyperband",
    objective: Objective = "accuracy", seed: Seed = 0, scale: o.ScaleName = "writeup", data: o.Data = None,
    storage: Storage = None, device: o.Device = "auto", workers: o.Workers = "auto", compile: o.CompileEach = False,
    graph: o.Graph = None, cells_per_gpu: o.CellsPerGpu = "auto", confirm_top: ConfirmTop = None,
    confirm_seeds: ConfirmSeeds = None, hours: o.Hours = None, engine: StayingEngineName = LOCAL,
    ray_address: RayAddress = None, offline: o.Offline = False, notify: Notify = None,
    runs: o.Runs = o.DEFAULT_RUNS, yes: o.Yes = False, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Search hyperparameters under the parameter budget; run again, it adds only what is missing."""
    request_notification(notify, f"sweep {study or space}")
    require_engine(engine, ray_address)
    until = end_of_time(hours)
    from cifar_lab.search import samplers
    from cifar_lab.search.study_name import require_storage, require_study_name

    if study is not None:
        require_study_name(study)
    require_storage(storage)
    require_shared_storage(storage, runs)
    samplers.require_sampler(sampler, pruner, seed=seed)
    require_confirmation(confirm_top, confirm_seeds, seed)
    asks = _asked_for(overrides, space, max_params, max_macs, objective, scale, data)
    if study is None:
        study = asks.space.name
        require_study_name(study)

    from cifar_lab.cli.display import Display
    from cifar_lab.execution.settings import choose_execution, choose_on_cluster
    from cifar_lab.mlflow_sync.upload import open_upload
    from cifar_lab.search import storage as stores
    from cifar_lab.search import stored_trials
    from cifar_lab.search.study import open_study, require_all_trials, study_names
    from cifar_lab.search.sweep import run_sweep
    from cifar_lab.search.sweep_page import sweep_files
    from cifar_lab.search.trial_jobs import TrialJobs, trial_name
    from cifar_lab.store.mirror import mirror_of

    stores.quiet()
    with stores.reaching(storage), engine_nodes(engine, ray_address) as nodes:
        place = stores.open_storage(storage, runs.resolve(), console.say)  # damage is reported before data are read
        typed = arguments.parse(
            scale_name=scale, overrides=overrides, variants=None, seeds=str(seed), max_params=str(2**62),
            device=device, workers=workers, cells_per_gpu=cells_per_gpu,
        )  # fmt: skip
        found = resolve_request(
            _baseline(study, asks.space), typed._replace(nodes=nodes), data=data, runs=runs.resolve(), say=console.say,
            compile=compile, graph=graph, trains=True, is_sweep=True,
        )  # fmt: skip
        setting = _settings(study, asks, found, seed=seed, space_source=_place(space), sampler=sampler, pruner=pruner)
        made = samplers.make_sampler(sampler, seed=seed)
        pruning = samplers.make_pruner(setting.pruner, epochs=setting.recipe({}).train.epochs)
        open_asked = partial(open_study, place, setting, made, pruning)
        existing = open_asked() if study in study_names(place) else None  # a new one is created once it is confirmed
        if existing is not None:
            require_all_trials(existing, runs.resolve())
        counts = stored_trials.count_trials(stored_trials.all_trials(existing) if existing is not None else ())
        stopped = len(stored_trials.stopped_trials(existing, runs.resolve())) if existing is not None else 0
        left = max(0, trials - counts.counted) + stopped
        choose = choose_execution if nodes is None else partial(choose_on_cluster, nodes)
        execution, count = choose(
            device, workers, trials, compile=compile, graph=graph, cells_per_gpu=found.cells_per_gpu
        )
        found = found._replace(execution=execution, workers=count)
        _say_plan(found, left, counts, stopped)
        _confirm(found, left, yes)
        opened = existing if existing is not None else open_asked()
        names: dict[str, str] = {}

        def called(job: CellJob, number: int) -> None:
            names[job.fingerprint] = trial_name(number)

        cells = TrialJobs(setting=setting, dataset=found.plan.dataset, source=found.plan.source, runs=runs.resolve(),
                      execution=found.execution, command=recorded_command())  # fmt: skip
        upload = open_upload(
            runs.resolve(), lambda _: sweep_files(opened, runs.resolve(), storage), console.say, offline=offline,
            is_shared=mirror_of(runs.resolve()) is not None,
        )  # fmt: skip
        with Display(names, is_search=True, total=left) as display:
            report = run_sweep(
                opened, setting, cells, wanted=trials, workers=found.workers, watcher=display, say=console.say,
                named=called, upload=upload, places=found.places, until=until,
                engine=engine,
            )  # fmt: skip
        tree: dict[str, Any] = {**study_tree(opened, runs.resolve()), "trained": report.trained}
        if not as_json:
            print_study(opened, runs.resolve())
        code = _conclude(study, report, tree, trials)
        if report.interrupted is None and confirm_top is not None and code == 0:
            options = confirm_options(
                data=data, device=device, workers=workers, compile=compile or None, graph=graph,
                cells_per_gpu=cells_per_gpu, retry_failed=False, until=until, offline=offline, runs=runs, yes=yes,
                engine=engine, ray_address=ray_address,
            )  # fmt: skip
            code, confirmation = confirm_study(opened, options, confirm_top, confirm_seeds, "--confirm-seeds", storage)
            from cifar_lab.report.confirmation_table import confirmation_sentences

            for sentence in confirmation_sentences(confirmation) if confirmation is not None else ():
                add_line(sentence)
            tree["confirmation"] = confirmation.as_dict() if confirmation is not None else None
            if confirmation is not None and not as_json:
                print_confirmation(confirmation)
        if as_json:
            console.print_json(tree)
    return code


def _settings(study: str, asks: _Asked, found: Request, **chosen: Any) -> StudySettings:
    """Return the settings of a study; `chosen`: its seed, sampler and pruner, and where its space comes from.

    Raises:
        UsageError: no candidate of the space is within the budget, counted for the classes of the images.
    """
    from cifar_lab.search.study import StudySettings

    plan, dataset = found.plan, found.plan.dataset
    budget = replace(asks.budget, images=dataset.shape)
    budget.require_room(asks.space, overrides=plan.overrides)
    if len(asks.objectives) > 1:
        chosen["pruner"] = "none"
    named = {"name": dataset.name, "kind": dataset.kind, "hash": dataset.hash, "source": plan.source}
    return StudySettings(
        study=study, space=asks.space, scale=plan.scale, data=named, overrides=dict(plan.overrides), budget=budget,
        objectives=asks.objectives, **chosen,
    )  # fmt: skip


def _conclude(study: str, report: SweepReport, tree: dict[str, Any], trials: int) -> int:
    """Say how a search ended, and return the exit code; a failed trial that was replaced is no failure."""
    interrupted = str(report.interrupted) if report.interrupted is not None else ""
    add_line(f"{study}: {report.trained} trained. {study_sentence(tree)}", interruption=interrupted)
    if report.interrupted is None:
        return 0 if tree["total"] >= trials else 1
    goes_on = "the same command goes on from"
    goes_on = f"{tree['stopped']} stopped, {goes_on} them" if tree["stopped"] else f"{goes_on} there"
    console.say(f"{report.interrupted}; {goes_on}")
    return report.interrupted.exit_code


class _Asked(NamedTuple):
    """Search space, budget and objectives."""

    space: Space
    budget: SearchBudget
    objectives: tuple[str, ...]


def _asked_for(
    overrides: list[str] | None, space: str, max_params: str, max_macs: str | None, objective: str, scale: str,
    data: str | None,
) -> _Asked:  # fmt: skip
    """Check all arguments before anything is read or created: words, then the space, the recipe and the budget."""
    scales.find_scale(scale)
    diff, objectives = parse_overrides(overrides or []), _objectives(objective)
    macs = arguments.parse_count(max_macs) if max_macs is not None else None
    limit = arguments.parse_count(max_params)
    from cifar_lab.search.budget import SearchBudget
    from cifar_lab.search.spaces import find_space

    found = find_space(space)
    if clash := [path for path in diff if path in found.paths()]:
        raise UsageError(f"{clash[0]} is searched by the space '{found.name}': it cannot be set as well")
    if found.baseline.override(diff).train.protocol != "holdout":
        raise UsageError("a search looks at val only, which train.protocol=writeup does not have")
    budget = SearchBudget(max_params=limit, max_macs=macs)
    if data is None:  # CIFAR-10, or synthetic images of its shape
        budget.require_room(found, overrides=diff)
    elif found.baseline.override(diff).model.name in MODELS.built_in and "model.name" not in found.paths():
        fewest = replace(budget, max_macs=None, images=ImageShape(classes=2))
        fewest.require_room(found, overrides=diff)  # and exactly once the images are known
    return _Asked(found, budget, objectives)


def _place(space: str) -> str:
    """Return the absolute path of a space's file; the name of a built-in space is unchanged."""
    return str(Path(space).resolve()) if space.endswith(".py") else space


def _objectives(text: str) -> tuple[str, ...]:
    from cifar_lab.search.study import OBJECTIVES

    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in OBJECTIVES:
            raise UsageError(f"--objective: no objective named '{name}'{nearest(name, OBJECTIVES)}")
    if names[0] != "accuracy" or len(set(names)) != len(names):
        raise UsageError(f"--objective {text}: accuracy comes first, each once")
    return names


def _baseline(study: str, space: Space) -> Ablation:
    """Return an ablation of the space's baseline alone, to estimate a trial and to load the data."""
    return Ablation(
        name=f"sweep.{study}", question=space.question, source=space.name, baseline=space.baseline, factors=(),
        variants=(Variant(name="baseline"),), control="baseline",
    )  # fmt: skip


def _say_plan(found: Request, left: int, counts: TrialCounts, stopped: int) -> None:
    """Say how many trials are to be trained, of which some were stopped, how many are there, and about how long."""
    words = [f"{many(left, 'trial')} to train" if left else "no trial to train"]
    words[0] += f" ({stopped} stopped before)" if stopped else ""
    words += [f"{counts.trained + counts.pruned} done already"] if counts.trained + counts.pruned else []
    if running := counts.running - stopped:
        words.append(f"{running} with other runners")
    if seconds := _seconds(found, left):
        words.append(f"about {console.duration(seconds)} at the baseline's size")
    console.say(", ".join(words))


def _seconds(found: Request, left: int) -> float:
    """Estimate the time of the trials that are left, each as the baseline; 0 if it is unknown."""
    return left * next(iter(found.plan.estimates.values()), 0.0) / min(found.workers, max(1, left))


def _confirm(found: Request, left: int, yes: bool) -> None:
    """Ask to confirm more than an hour on a CPU, estimating each trial by the baseline."""
    seconds = _seconds(found, left)
    if found.execution.device == "cpu" and seconds > ASK_ABOVE:
        said = f"{left} trials, about {console.duration(seconds)} with {found.workers} workers at the baseline's size"
        confirm("Go on?", f"{said}: more than an hour on a CPU", yes)


def sweep_status(
    name: MaybeName = None, storage: Storage = None, runs: o.RunsOrZip = o.DEFAULT_RUNS, as_json: o.Json = False
) -> int:
    """Show the progress of a study; without a name, of all. A study that cannot be read hides no other."""
    from cifar_lab.search.study import load_study, study_names

    runs = runs.resolve()
    with opened_storage(storage, runs) as opened:
        if name is not None:
            study = load_study(opened, name, runs)
            if as_json:
                console.print_json(study_tree(study, runs))
            else:
                print_counts([study], runs, _where(storage))
            return 0
        studies, problems = [], {}
        for each in study_names(opened):
            try:
                studies.append(load_study(opened, each, runs))
            except UsageError as error:
                problems[each] = str(error)
        if as_json:
            console.print_json(
                [tree_or_problem(each, runs) for each in studies]
                + [{"study": each, "error": problem} for each, problem in problems.items()]
            )
        else:
            print_counts(studies, runs, _where(storage))
        for problem in problems.values():
            console.say(problem)
    return 1 if problems else 0


def sweep_best(
    name: Name, output: BestRecipeFile = None, storage: Storage = None, runs: o.RunsOrZip = o.DEFAULT_RUNS,
    as_json: o.Json = False,
) -> int:  # fmt: skip
    """Show the best recipe of a study, and the front of accuracy and parameters; `-o` saves it for `train --recipe`."""
    with loaded_study(name, storage, runs) as study:
        tree = study_tree(study, runs.resolve())
        if tree["best"] is None:
            raise UsageError(f"no trial of {name} has a value yet")
        if output is not None:
            write_output(output, json.dumps(tree["best"]["recipe"], indent=1) + "\n")
            console.say(f"written: {output}; train it with fresh seeds: cifar-lab train --recipe {output} --seeds 1-3")
        if as_json:
            console.print_json(tree)
        else:
            print_study(study, runs.resolve())
    return 0


def ablate_best(
    name: Name, overrides: o.Overrides = None, seeds: o.Seeds = "1-3", variants: o.Variants = None,
    data: o.Data = None, storage: Storage = None, device: o.Device = "auto", workers: o.Workers = "auto",
    cells_per_gpu: o.CellsPerGpu = "auto", retry_failed: o.RetryFailed = False, hours: o.Hours = None,
    engine: StayingEngineName = LOCAL, ray_address: RayAddress = None,
    offline: o.Offline = False, runs: o.Runs = o.DEFAULT_RUNS, yes: o.Yes = False,
    everything: o.Everything = False, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Ablate the tuned settings of a study: revert each to the baseline's value, one at a time and all at once."""
    require_engine(engine, ray_address)
    from cifar_lab.cli.compare import print_comparison
    from cifar_lab.cli.training import RunOptions, option_words, print_outcome, run_one
    from cifar_lab.search import ablate_best, stored_trials
    from cifar_lab.search.study import setting_of
    from cifar_lab.store.ablation_file import folder_of, keep

    with loaded_study(name, storage, runs) as study:
        best, setting = stored_trials.best(study), setting_of(study)
    if best is None:
        raise UsageError(f"no trial of {name} has a value yet")
    ablation = ablate_best.best_recipe_ablation(setting, best.params)
    ablation, folder = keep(ablation, runs, by="`cifar-lab ablate-best`"), folder_of(runs)
    console.say(
        f"written: {folder / ablation.name}.py; see it with: cifar-lab describe {ablation.name} --ablations {folder}"
    )
    typed = arguments.parse(
        scale_name=setting.scale.name, overrides=overrides, variants=variants, seeds=seeds, max_params="5M",
        device=device, workers=workers, cells_per_gpu=cells_per_gpu,
    )  # fmt: skip
    if twice := [path for path in typed.overrides if path in setting.overrides]:
        raise UsageError(f"{twice[0]} is set twice: the study has it already")
    options = RunOptions(
        typed=typed._replace(overrides={**setting.overrides, **typed.overrides}),
        data=data or setting.data["source"], runs=runs.resolve(), retry_failed=retry_failed,
        until=end_of_time(hours), offline=offline, yes=yes,
        print_table=None if as_json else partial(print_comparison, everything=everything),
        words=option_words(variants, seeds, device, workers, cells_per_gpu, runs, [folder]), engine=engine,
        ray_address=ray_address,
    )  # fmt: skip
    return print_outcome(run_one(ablation, options), as_json)


def _where(storage: str | None) -> str:
    from cifar_lab.redaction import redacted

    return redacted(storage) if storage is not None else "runs/studies.journal"
