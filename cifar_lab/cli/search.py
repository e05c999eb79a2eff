"""`sweep` and its company: search hyperparameters under the budget, and see what was found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar_lab import scale as scales
from cifar_lab.ablation import Ablation, Variant
from cifar_lab.cli import asked, console
from cifar_lab.cli import options as o
from cifar_lab.cli.confirm import ASK_ABOVE, confirm
from cifar_lab.errors import UsageError, nearest
from cifar_lab.overrides import parse_overrides

if TYPE_CHECKING:
    from cifar_lab.run.cell import Job
    from cifar_lab.search.space import Space
    from cifar_lab.search.storage import BaseStorage
    from cifar_lab.search.study import Optuna, Setting
    from cifar_lab.search.trials import Trial

STORAGE = "CIFAR_LAB_STORAGE"
Study = Annotated[str, typer.Option("--study", metavar="NAME", help="What the search is called; the same goes on.")]
Name = Annotated[str, typer.Argument(metavar="STUDY", help="Name of a study.")]
MaybeName = Annotated[str | None, typer.Argument(metavar="[STUDY]", help="Name of a study; none: all of them.")]
RecipeFile = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the best recipe there.")]
Storage = Annotated[
    str | None,
    typer.Option("--storage", metavar="URL", envvar=STORAGE, help="postgresql://…, or a journal file.",
                 show_default="runs/studies.journal", show_envvar=True),
]  # fmt: skip
Trials = Annotated[int, typer.Option("--trials", min=1, help="How many are wanted in all; what is there counts.")]
SpaceName = Annotated[str, typer.Option("--space", metavar="NAME|FILE", help="What is searched.")]
Sampler = Annotated[str, typer.Option("--sampler", help="tpe, gp, nsgaii, random or cmaes.")]
Pruner = Annotated[str, typer.Option("--pruner", help="hyperband, median or none.")]
Objective = Annotated[str, typer.Option("--objective", help="accuracy; accuracy,params; accuracy,macs.")]
MaxMacs = Annotated[str | None, typer.Option("--max-macs", help="Budget of multiply-accumulates: 800M.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the trials and of the sampler.")]


def sweep(
    study: Study, overrides: o.Overrides = None, trials: Trials = 50, space: SpaceName = "writeup",
    max_params: o.MaxParams = "5M", max_macs: MaxMacs = None, sampler: Sampler = "tpe", pruner: Pruner = "hyperband",
    objective: Objective = "accuracy", seed: Seed = 0, scale: o.ScaleName = "writeup", data: o.Data = None,
    storage: Storage = None, device: o.Device = "auto", workers: o.Workers = "auto", compile: o.CompileEach = False,
    graph: o.Graph = None, cells_per_gpu: o.CellsPerGpu = "auto", offline: o.Offline = False,
    runs: o.Runs = o.DEFAULT_RUNS, yes: o.Yes = False, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Search hyperparameters under the parameter budget; run again, it adds only what is missing."""
    setting, found = _resolve(
        study, overrides, space, max_params, max_macs, objective, seed, scale, data, runs.resolve(), device, workers,
        compile, graph, cells_per_gpu,
    )  # fmt: skip
    from cifar_lab.cli.display import Display
    from cifar_lab.run.execution import choose
    from cifar_lab.search import samplers
    from cifar_lab.search import storage as stores
    from cifar_lab.search import trials as results
    from cifar_lab.search.artifacts import artifacts
    from cifar_lab.search.cells import Cells, name_of
    from cifar_lab.search.study import open_study
    from cifar_lab.search.sweep import run_sweep

    stores.quiet()
    epochs = setting.recipe({}).train.epochs
    made = samplers.make_sampler(sampler, seed=seed)
    pruning = samplers.make_pruner("none" if len(setting.objectives) > 1 else pruner, epochs=epochs)
    opened = open_study(stores.open_storage(storage, runs.resolve()), setting, made, pruning)
    left = trials - results.count(results.of(opened)).counted
    execution, count = choose(device, workers, trials, compile=compile, graph=graph, cells_per_gpu=found.cells_per_gpu)
    found = found._replace(execution=execution, workers=count)
    _confirm(found, left, yes)
    names: dict[str, str] = {}

    def named(job: Job, number: int) -> None:
        names[job.fingerprint] = name_of(number)

    cells = Cells(setting=setting, dataset=found.plan.dataset, source=found.plan.source, runs=runs.resolve(),
                  execution=found.execution)  # fmt: skip
    with Display(names, is_search=True) as display:
        report = run_sweep(
            opened, setting, cells, wanted=trials, workers=found.workers, watcher=display, say=console.say, named=named,
            files=lambda _: artifacts(opened, runs.resolve(), storage), places=found.places, offline=offline,
        )  # fmt: skip
    tree = {**_tree(opened), "trained": report.trained}
    if as_json:
        console.print_json(tree)
    else:
        _print_study(opened)
    if report.interrupted is not None:
        console.say(f"{report.interrupted}; the same command goes on from there")
        return report.interrupted.exit_code
    return 1 if tree["failed"] else 0


def _resolve(
    study: str, overrides: list[str] | None, space: str, max_params: str, max_macs: str | None, objective: str,
    seed: int, scale: str, data: str | None, runs: Path, device: str, workers: str, compile: bool,
    graph: bool | None, cells_per_gpu: str,
) -> tuple[Setting, asked.Request]:  # fmt: skip
    """Everything that was typed, cheap checks first; the request is that of the baseline, for time and data."""
    chosen, diff = scales.find(scale), parse_overrides(overrides or [])
    from cifar_lab.search.budget import Budget
    from cifar_lab.search.spaces import find
    from cifar_lab.search.study import Setting

    found = find(space)
    if clash := [path for path in diff if path in found.paths()]:
        raise UsageError(f"{clash[0]} is searched by the space '{found.name}': it cannot be set as well")
    if found.baseline.override(diff).train.protocol != "holdout":
        raise UsageError("a search looks at val only, which train.protocol=writeup does not have")
    macs = asked.parse_count(max_macs) if max_macs else None
    budget = Budget(max_params=asked.parse_count(max_params), max_macs=macs)
    budget.require_room(found)
    request = asked.resolve(
        _baseline(study, found), scale_name=scale, data=data, runs=runs, overrides=overrides, variants=None,
        seeds=str(seed), max_params=str(2**62), device=device, workers=workers, compile=compile, graph=graph,
        cells_per_gpu=cells_per_gpu, trains=True, is_sweep=True,
    )  # fmt: skip
    dataset = request.plan.dataset
    named = {"name": dataset.name, "kind": dataset.kind, "hash": dataset.hash, "source": request.plan.source}
    setting = Setting(
        study=study, space=found, scale=chosen, data=named, overrides=dict(request.plan.overrides), budget=budget,
        objectives=_objectives(objective), seed=seed, space_source=_place(space),
    )  # fmt: skip
    return setting, request


def _place(space: str) -> str:
    """A file's path from anywhere."""
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
    """The space's baseline as a study of its own: what a trial takes, and on which data."""
    return Ablation(
        name=f"sweep.{study}", question=space.question, source=space.name, baseline=space.baseline, factors=(),
        variants=(Variant(name="baseline"),), control="baseline",
    )  # fmt: skip


def _confirm(found: asked.Request, left: int, yes: bool) -> None:
    """More than an hour on a CPU is asked about; a trial is taken for as long as the baseline."""
    plan = found.plan
    one = next(iter(plan.estimates.values()), 0.0)
    seconds = max(0, left) * one / found.workers
    if found.execution.device == "cpu" and seconds > ASK_ABOVE:
        said = f"{left} trials, about {console.duration(seconds)} with {found.workers} workers at the baseline's size"
        confirm("Go on?", f"{said}: more than an hour on a CPU", yes)


def sweep_status(
    name: MaybeName = None, storage: Storage = None, runs: o.Runs = o.DEFAULT_RUNS, as_json: o.Json = False
) -> int:
    """How far a study is; without a name, all of them."""
    from cifar_lab.search import trials as results
    from cifar_lab.search.study import load_study, names

    opened = _open(storage, runs)
    studies = [load_study(opened, each) for each in ([name] if name is not None else names(opened))]
    if as_json:
        trees = [_tree(study) for study in studies]
        console.print_json(trees[0] if name is not None else trees)
        return 0
    rows = []
    for study in studies:
        counts, best = results.count(results.of(study)), results.best(study)
        kinds = [counts.trained, counts.pruned, counts.running, counts.infeasible, counts.failed]
        rows.append((study.study_name, *map(str, kinds), f"{100 * best.values[0]:.2f}" if best else ""))
    columns = ("study", "trained", "pruned", "running", "infeasible", "failed", "best val %")
    console.out.print(console.table("", columns, rows, right=columns[1:]) if rows else f"no study in {_where(storage)}")
    return 0


def sweep_best(
    name: Name,
    output: RecipeFile = None,
    storage: Storage = None,
    runs: o.Runs = o.DEFAULT_RUNS,
    as_json: o.Json = False,
) -> int:
    """The best recipe of a study, and the front of accuracy against parameters; `-o` writes it for `train --recipe`."""
    from cifar_lab.search.study import load_study

    study = load_study(_open(storage, runs), name)
    tree = _tree(study)
    if tree["best"] is None:
        raise UsageError(f"no trial of {name} has a value yet")
    if output is not None:
        _write(output, json.dumps(tree["best"]["recipe"], indent=1) + "\n")
        console.say(f"written: {output}; train it with fresh seeds: cifar-lab train --recipe {output} --seeds 1-3")
    if as_json:
        console.print_json(tree)
    else:
        _print_study(study)
    return 0


def sweep_importance(
    name: Name, storage: Storage = None, runs: o.Runs = o.DEFAULT_RUNS, as_json: o.Json = False
) -> int:
    """Which dimensions the accuracy followed: fANOVA and PED-ANOVA side by side."""
    from cifar_lab.report.search import no_importances
    from cifar_lab.search import trials
    from cifar_lab.search.importance import FEWEST, importances
    from cifar_lab.search.study import load_study

    study = load_study(_open(storage, runs), name)
    found = importances(study)
    if as_json:
        console.print_json(found)
        return 0
    if not found:
        console.out.print(no_importances([trial.values[0] for trial in trials.sound(study)], FEWEST))
        return 0
    first = next(iter(found.values()))
    rows = [(each, *(f"{values[each]:.3f}" for values in found.values())) for each in first]
    console.out.print(console.table("", ("parameter", "fANOVA", "PED-ANOVA"), rows, right=("fANOVA", "PED-ANOVA")))
    console.out.print(
        "fANOVA: share of the variance over the whole space · PED-ANOVA: what tells the best tenth from the rest",
        style="dim",
    )
    return 0


def ablate_best(
    name: Name, overrides: o.Overrides = None, seeds: o.Seeds = "1-3", variants: o.Variants = None,
    data: o.Data = None, storage: Storage = None, device: o.Device = "auto", workers: o.Workers = "auto",
    cells_per_gpu: o.CellsPerGpu = "auto", offline: o.Offline = False, runs: o.Runs = o.DEFAULT_RUNS,
    yes: o.Yes = False, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Put each tuned factor back to the baseline's value, one at a time and all at once, as an ordinary ablation."""
    from cifar_lab.cli.train import run_ablation
    from cifar_lab.search import ablate
    from cifar_lab.search import trials as results
    from cifar_lab.search.study import load_study, setting_of

    study = load_study(_open(storage, runs), name)
    best, setting = results.best(study), setting_of(study)
    if best is None:
        raise UsageError(f"no trial of {name} has a value yet")
    made = ablate.ablate_best(setting, best.params)
    folder = runs / "ablations"
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / f"{made.name}.py", ablate.as_file(made))
    console.say(f"written: {folder / made.name}.py; see it with: cifar-lab describe {made.name} --ablations {folder}")
    known = [f"{path}={json.dumps(value)}" for path, value in setting.overrides.items()]
    return run_ablation(
        made.name, overrides=[*known, *(overrides or [])], scale=setting.scale.name,
        data=data or setting.data["source"], variants=variants, seeds=seeds, device=device, workers=workers,
        cells_per_gpu=cells_per_gpu, offline=offline, runs=runs, ablations=[folder], yes=yes, as_json=as_json,
    )  # fmt: skip


def _open(storage: str | None, runs: Path) -> BaseStorage:
    from cifar_lab.search import storage as stores

    stores.quiet()
    return stores.open_existing(storage, runs.resolve())


def _where(storage: str | None) -> str:
    from cifar_lab.tracking.uri import redacted

    return redacted(storage) if storage is not None else "runs/studies.journal"


def _write(path: Path, text: str) -> None:
    from cifar_lab.tracking import atomic

    try:
        atomic.write(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error


def _tree(study: Optuna) -> dict[str, Any]:
    from cifar_lab.search import trials as results
    from cifar_lab.search.study import setting_of

    setting, counts, best = setting_of(study), results.count(results.of(study)), results.best(study)
    return {
        "study": study.study_name,
        "total": counts.trained + counts.pruned,
        "with_value": counts.trained,
        "infeasible": counts.infeasible,
        "pruned": counts.pruned,
        "failed": counts.failed,
        "running": counts.running,
        "best": _best_tree(setting, best) if best is not None else None,
        "front": [_best_tree(setting, trial) for trial in results.front(study)],
    }


def _best_tree(setting: Setting, trial: Trial) -> dict[str, Any]:
    from cifar_lab.search import trials as results

    recipe = setting.declared(results.diff_of(trial))
    return {
        "trial": trial.number,
        "value": trial.values[0],
        "parameters": results.parameters(trial),
        "fingerprint": trial.user_attrs.get(results.CELL),
        "diff": results.diff_of(trial),
        "recipe": recipe.model_dump(mode="json"),
    }


def _print_study(study: Optuna) -> None:
    """Counts, the front, and the best recipe as a diff."""
    from cifar_lab.search.study import setting_of

    tree, setting, out = _tree(study), setting_of(study), console.out
    out.print(f"{tree['study']} · space {setting.space.name} · scale {setting.scale.name} · {setting.data['name']}",
              markup=False, soft_wrap=True)  # fmt: skip
    counted = [f"{tree['with_value']} trials with a value"]
    counted += [f"{tree[word]} {word}" for word in ("pruned", "running", "infeasible", "failed") if tree[word]]
    out.print(", ".join(counted), markup=False, soft_wrap=True)
    if tree["best"] is None:
        return
    rows = [
        (f"t{each['trial']:03}" + (" best" if each["trial"] == tree["best"]["trial"] else ""),
         f"{100 * each['value']:.2f}", f"{each['parameters']:,}", _words(setting, each["diff"]))
        for each in tree["front"]
    ]  # fmt: skip
    out.print("\naccuracy against parameters: what no other trial beats in both", style="dim")
    out.print(console.table("", ("trial", "val %", "parameters", "differs from the baseline by"), rows,
                            right=("val %", "parameters")))  # fmt: skip
    out.print("one seed a trial, chosen on val: the best is flattered by its luck; fresh seeds tell, "
              "`cifar-lab ablate-best`", style="dim", soft_wrap=True)  # fmt: skip


def _words(setting: Setting, diff: dict[str, Any]) -> str:
    plain = setting.space.baseline.flat()
    now = setting.space.baseline.override(diff).flat()
    changed = [f"{path}={_short(value)}" for path, value in now.items() if value != plain[path]]
    return ", ".join(changed) or "nothing"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else json.dumps(value, separators=(",", ":"))
