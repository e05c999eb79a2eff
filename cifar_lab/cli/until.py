"""`run-ablation --until-decided`: one look after another, until nothing is open or all seeds are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar_lab.cli import console, show
from cifar_lab.errors import UsageError

if TYPE_CHECKING:
    from cifar_lab.cli.asked import Request
    from cifar_lab.cli.train import Outcome
    from cifar_lab.report.comparison import Comparison
    from cifar_lab.run.plan import Plan
    from cifar_lab.tracking.invocation import Stopping

UntilDecided = Annotated[
    bool, typer.Option("--until-decided", help="Add seeds by a rule fixed beforehand, and stop where all is decided.")
]
MaxSeeds = Annotated[
    int | None, typer.Option("--max-seeds", metavar="K", help="With --until-decided: the most seeds, 12 or more.")
]
USUAL = 20
"""Seeds at most, unless said otherwise."""


def most_seeds(until_decided: bool, max_seeds: int | None, seeds: str | None) -> int | None:
    """How many seeds there may be at most; None where their number is fixed.

    Raises:
        UsageError: the options do not go together.
    """
    if not until_decided:
        if max_seeds is not None:
            raise UsageError("--max-seeds goes with --until-decided; without it, name the seeds: --seeds 0-9")
        return None
    if seeds is not None:
        raise UsageError("--until-decided adds seeds from 0 up by its own rule; leave --seeds out")
    return USUAL if max_seeds is None else max_seeds


def run_looks(
    found: Request, runs: Path, most: int, run: Callable[[Request, Stopping], Outcome],
    print_table: Callable[[Comparison], None] | None,
) -> Outcome:  # fmt: skip
    """Run the parts of `found` that each look asks for; its plan holds all seeds there may be."""
    from cifar_lab.run import looks
    from cifar_lab.run.results import tabulate

    plan = found.plan
    rule = looks.make_rule(plan, most, looks.find_setting(plan, runs))
    console.say(f"looks after {', '.join(map(str, rule.looks))} seeds; the rule is in the runs folder")
    outcomes: list[Outcome] = []
    parts: list[Plan] = []
    undecided: list[str] | None = None
    for taken, seeds in enumerate(rule.looks, start=1):
        parts.append(looks.part(plan, seeds, undecided, runs))
        setting = looks.find_setting(plan, runs)
        if setting is None or not outcomes or looks.has_new(parts[-1], setting):
            outcomes.append(run(found._replace(plan=parts[-1]), rule))
            setting = looks.find_setting(plan, runs)
        assert setting is not None, "an invocation was written"
        comparison = tabulate(setting, runs)
        if outcomes[-1].code:
            break
        undecided = looks.undecided(comparison)
        console.say(f"look {taken} of {len(rule.looks)}, {seeds} seeds: {_words(comparison)}")
        if not undecided:
            break
    if print_table is not None:
        print_table(comparison)
    return outcomes[-1]._replace(tree=_tree(found, looks.union(parts, runs), outcomes))


def _words(comparison: Comparison) -> str:
    return ", ".join(
        f"{row.variant} {row.verdict or 'undecided'}" for row in comparison.rows if row.against is not None
    )


def _tree(found: Request, plan: Plan, outcomes: list[Outcome]) -> dict[str, Any]:
    """One plan of all looks; `reused` are the cells that no look trained."""
    trained = sum(outcome.tree["trained"] for outcome in outcomes if outcome.tree is not None)
    done = sum(cell.is_done for cell in plan.cells)
    return {**show.plan_tree(found._replace(plan=plan)), "trained": trained, "reused": done - trained}
