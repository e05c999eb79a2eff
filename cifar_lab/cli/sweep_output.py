"""Console output of a study: counts, best recipe and front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_lab.cli import console
from cifar_lab.errors import UsageError
from cifar_lab.text import printable

if TYPE_CHECKING:
    from cifar_lab.search.stored_trials import StoredTrial
    from cifar_lab.search.study import OptunaStudy, StudySettings


def print_counts(studies: Sequence[OptunaStudy], runs: Path, where: str) -> None:
    """Print one row per study: number of trials of each kind, and the best accuracy; `runs` has their cells."""
    from cifar_lab.search import stored_trials

    rows = []
    for study in studies:
        counts, best = stored_trials.count_trials(stored_trials.all_trials(study)), stored_trials.best(study)
        stopped = len(stored_trials.stopped_trials(study, runs))
        kinds = [counts.trained, counts.pruned, counts.running - stopped, stopped, counts.infeasible, counts.failed]
        values = (*map(str, kinds), f"{100 * best.values[0]:.2f}" if best else "")
        rows.append((printable(study.study_name), *values))
    columns = ("study", "trained", "pruned", "running", "stopped", "infeasible", "failed", "best val %")
    if rows:
        console.out.print(console.table("", columns, rows, right=columns[1:]))
    else:
        console.show(f"no study in {where}")


def tree_or_problem(study: OptunaStudy, runs: Path) -> dict[str, Any]:
    """Return `study_tree(study, runs)`, or the problem if its settings cannot be read."""
    try:
        return study_tree(study, runs)
    except UsageError as error:
        return {"study": study.study_name, "error": str(error)}


def study_tree(study: OptunaStudy, runs: Path) -> dict[str, Any]:
    """Return counts, the best trial and the front of a study, as JSON; `runs` has its cells.

    Raises:
        UsageError: the study is not one of cifar-lab, or its space has been changed since.
    """
    from cifar_lab.search import stored_trials
    from cifar_lab.search.study import setting_of

    setting, best = setting_of(study), stored_trials.best(study)
    counts = stored_trials.count_trials(stored_trials.all_trials(study))
    stopped = len(stored_trials.stopped_trials(study, runs))
    return {
        "study": study.study_name,
        "total": counts.trained + counts.pruned,
        "with_value": counts.trained,
        "infeasible": counts.infeasible,
        "pruned": counts.pruned,
        "failed": counts.failed,
        "running": counts.running - stopped,
        "stopped": stopped,
        "best": _best_tree(setting, best) if best is not None else None,
        "front": [_best_tree(setting, trial) for trial in stored_trials.pareto_front(study)],
    }


def _best_tree(setting: StudySettings, trial: StoredTrial) -> dict[str, Any]:
    from cifar_lab.search import stored_trials

    recipe = setting.declared(stored_trials.diff_of(trial))
    return {
        "trial": trial.number,
        "value": trial.values[0],
        "parameters": stored_trials.parameters(trial),
        "fingerprint": trial.user_attrs.get(stored_trials.CELL),
        "diff": stored_trials.diff_of(trial),
        "recipe": recipe.model_dump(mode="json"),
    }


def print_study(study: OptunaStudy, runs: Path) -> None:
    """Print counts, the front, and the best recipe as a diff."""
    from cifar_lab.config.overrides import format_overrides
    from cifar_lab.search.study import setting_of

    tree, setting, out = study_tree(study, runs), setting_of(study), console.out
    parts = (f"space {setting.space.name}", f"scale {setting.scale.name}", setting.data["name"])
    console.show(" · ".join(filter(None, (tree["study"], *parts, format_overrides(setting.overrides)))))
    console.show(_counts(tree))
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
              "`cifar-lab sweep-confirm`", style="dim", soft_wrap=True)  # fmt: skip


def _counts(tree: dict[str, Any]) -> str:
    others = ("pruned", "running", "stopped", "infeasible", "failed")
    counted = [f"{tree['with_value']} trials with a value", *(f"{tree[word]} {word}" for word in others if tree[word])]
    return ", ".join(counted)


def study_sentence(tree: dict[str, Any]) -> str:
    """Return the counts of a study and the value of its best trial in one sentence, from the study as JSON."""
    best = tree["best"]
    leader = f"; the best is t{best['trial']:03}, {100 * best['value']:.2f} % on val" if best is not None else ""
    return f"{_counts(tree)}{leader}."


def _words(setting: StudySettings, diff: dict[str, Any]) -> str:
    from cifar_lab.report.sweep_page import differs

    baseline = setting.space.baseline
    return differs(baseline.changes_to(baseline.override(diff)))
