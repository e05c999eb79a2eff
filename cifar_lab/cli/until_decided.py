"""`--until-decided`: take looks until everything is decided or the maximum of seeds is reached."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar_lab.cli import console
from cifar_lab.cli.plan_tree import plan_tree, result_tree
from cifar_lab.cli.prompt import confirm
from cifar_lab.errors import UsageError
from cifar_lab.terminal import is_terminal

if TYPE_CHECKING:
    from cifar_lab.cli.training import CommandOutcome
    from cifar_lab.execution.plan import Plan
    from cifar_lab.execution.request import Request, RequestArguments
    from cifar_lab.results.comparison import Comparison

UntilDecided = Annotated[
    bool, typer.Option("--until-decided", help="Add seeds by a rule fixed beforehand, and stop where all is decided.")
]
USUAL = 20
"""Default for the maximum number of seeds."""
MaxSeeds = Annotated[
    int | None,
    typer.Option(
        "--max-seeds", metavar="K", show_default=str(USUAL), help="With --until-decided: the most seeds, 12 or more."
    ),
]
DropRule = Annotated[
    bool,
    typer.Option(
        "--drop-rule",
        help="Give up the rule of an earlier --until-decided: seeds are as asked for, and tables say so. "
        "Without it, the rule holds for fixed seeds too.",
    ),
]


def most_seeds(until_decided: bool, max_seeds: int | None, seeds: str | None, drop_rule: bool = False) -> int | None:
    """Return the maximum number of seeds; None if their number is fixed.

    Raises:
        UsageError: the options contradict each other.
    """
    if not until_decided:
        if max_seeds is not None:
            raise UsageError("--max-seeds goes with --until-decided; without it, name the seeds: --seeds 0-9")
        return None
    if drop_rule:
        raise UsageError("--drop-rule gives up the rule that --until-decided goes by; type one of them")
    if seeds is not None:
        raise UsageError("--until-decided adds seeds from 0 up by its own rule; leave --seeds out")
    return USUAL if max_seeds is None else max_seeds


def with_looks(typed: RequestArguments, most: int | None) -> RequestArguments:
    """Return the arguments with the seeds of all looks, `most` from 0 up; unchanged if the number is fixed.

    Raises:
        UsageError: these are more seeds than a request may have.
    """
    from cifar_lab.execution.resolved_recipes import MOST_SEEDS

    if most is None:
        return typed
    if most > MOST_SEEDS:
        raise UsageError(f"--max-seeds takes {MOST_SEEDS} seeds at most, got {most}")
    return typed._replace(seeds=tuple(range(max(most, 1))))


def run_looks(
    found: Request, runs: Path, most: int, run: Callable[..., CommandOutcome],
    print_table: Callable[[Comparison], None] | None, yes: bool,
) -> CommandOutcome:  # fmt: skip
    """Run the part of `found` for each look; its plan holds the maximum number of seeds.

    `run(part, stopping=rule)` runs one of them. A new rule is confirmed if there is a terminal, unless `yes`.
    """
    from cifar_lab.execution import stopping_rule
    from cifar_lab.report.summary import comparison_headline
    from cifar_lab.results.compare import tabulate

    plan = found.plan
    before = stopping_rule.find_setting(plan, runs)
    rule = stopping_rule.make_rule(plan, most, before)
    said = f"looks after {', '.join(map(str, rule.looks))} seeds, {most} at most; this rule is fixed once it is begun"
    if stopping_rule.has_rule(before) or yes or not is_terminal(sys.stdin):
        console.say(said)
    else:
        confirm("Begin?", said, yes)
    outcomes: list[CommandOutcome] = []
    parts: list[Plan] = []
    undecided: list[str] | None = None
    for taken, seeds in enumerate(rule.looks, start=1):
        parts.append(stopping_rule.part(plan, seeds, undecided, runs))
        setting = stopping_rule.find_setting(plan, runs)
        if setting is None or not outcomes or stopping_rule.has_new(parts[-1], setting):
            outcomes.append(run(found._replace(plan=parts[-1]), stopping=rule))
            setting = stopping_rule.find_setting(plan, runs)
        assert setting is not None, "an invocation was written"
        comparison = tabulate(setting, runs)
        if outcomes[-1].code or outcomes[-1].interrupted:
            break
        undecided = stopping_rule.undecided(comparison)
        console.say(f"look {taken} of {len(rule.looks)}, {seeds} seeds: {_words(comparison)}")
        if not undecided:
            break
    if print_table is not None:
        print_table(comparison)
    tree = _tree(found, stopping_rule.union(parts, runs), outcomes, comparison)
    return outcomes[-1]._replace(tree=tree, sentence=comparison_headline(comparison))


def confirm_drop(plan: Plan, runs: Path, yes: bool) -> None:
    """Ask to confirm dropping the rule of `plan`'s setting, unless it was dropped before.

    Raises:
        UsageError: there is no rule.
    """
    from cifar_lab.execution import stopping_rule

    setting = stopping_rule.find_setting(plan, runs)
    stopping_rule.require_droppable(setting)
    if stopping_rule.has_rule(setting):
        confirm("Drop it?", "Dropping the stopping rule cannot be undone, and every table will say so", yes)


def _words(comparison: Comparison) -> str:
    return ", ".join(
        f"{row.variant} {row.verdict or 'undecided'}" for row in comparison.rows if row.against is not None
    )


def _tree(found: Request, plan: Plan, outcomes: list[CommandOutcome], comparison: Comparison) -> dict[str, Any]:
    """Return one plan of all looks as JSON; `reused` are the cells that no look trained."""
    trained = sum(outcome.tree["trained"] for outcome in outcomes if outcome.tree is not None)
    done = sum(cell.is_done for cell in plan.cells)
    others = sum(outcome.tree["by_another_runner"] for outcome in outcomes if outcome.tree is not None)
    counts = {"trained": trained, "by_another_runner": others, "reused": done - trained - others}
    return {**plan_tree(found._replace(plan=plan)), **counts, **result_tree(plan, comparison)}
