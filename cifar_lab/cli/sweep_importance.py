"""`sweep-importance`: rank the dimensions of a study by importance."""

from __future__ import annotations

from cifar_lab.cli import console
from cifar_lab.cli import options as o
from cifar_lab.cli.sweep_storage import Name, Storage, loaded_study


def sweep_importance(
    name: Name, storage: Storage = None, runs: o.RunsOrZip = o.DEFAULT_RUNS, as_json: o.Json = False
) -> int:
    """Show the importance of each dimension for the accuracy, and how far resampled trials move it; few rank none."""
    from cifar_lab.report.importance_table import EVALUATORS, RESAMPLED, explain_importances, importance_rows
    from cifar_lab.search import stored_trials
    from cifar_lab.search.importance import importances

    with loaded_study(name, storage, runs) as study:
        found = importances(study)
        values = [trial.values[0] for trial in stored_trials.sound(study)]
    if as_json:
        console.print_json(found.as_dict())
        return 0
    for evaluator in found.shares:
        headings = (EVALUATORS[evaluator], "share", RESAMPLED, "leads")
        rows = importance_rows(found, evaluator)
        console.out.print(console.table("", headings, rows, right=headings[1:]))
        console.out.print()
    for line in explain_importances(found, values):
        console.out.print(line, style="dim" if found.shares else "", markup=False, soft_wrap=True)
    return 0
