"""Sequential addition of seeds: the stopping rule, the cells of each look, and the undecided comparisons.

The boundaries are computed in `results.stats.group_sequential`; the command that takes one look after another is in
`cli.until_decided`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from cifar_lab.errors import UsageError
from cifar_lab.execution.plan import Plan
from cifar_lab.execution.runner import invocation_of
from cifar_lab.results.comparison import Comparison
from cifar_lab.results.contrasts import design_of, rule_of, was_dropped
from cifar_lab.results.stats import group_sequential
from cifar_lab.results.stats.moderated import family_of
from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE, per_comparison
from cifar_lab.store.invocation import MODERATED, RecordedCommand, StoppingRule
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.selection import Selection

DECIDED = frozenset({"better", "worse", "equivalent", "diverged"})


def make_rule(plan: Plan, most: int, setting: Selection | None) -> StoppingRule:
    """Create the stopping rule for `plan` with `most` seeds; the error is shared by all differences of its ablation.

    Raises:
        UsageError: `most` is below `group_sequential.FEWEST`, the plan has no comparison, results of `setting` were
            seen under another rule, or its rule was dropped.

    Several differences have moderated intervals, with critical values that are simulated here and stored in the rule.
    They serve its claims and the effects of a 2 × 2 study, too. A single difference has Student's interval, and so does
    a setting that began under Student's.
    """
    if most < group_sequential.FEWEST:
        raise UsageError(f"--max-seeds {most}: a rule that may stop early needs {group_sequential.FEWEST} at least")
    comparisons = len(plan.ablation.variants) - 1
    if comparisons < 1:
        raise UsageError(f"'{plan.ablation.name}' compares nothing: there is nothing to decide")
    looks = group_sequential.looks(most)
    if setting is not None and was_dropped(setting.invocations):
        raise UsageError("--until-decided: the rule of these cells was dropped, and another cannot be begun on results")
    known = rule_of(setting.invocations) if setting is not None else None
    if known is not None:
        if (known.looks, known.comparisons) != (looks, comparisons):
            raise UsageError(
                f"--max-seeds {most}: these cells were begun with --max-seeds {known.looks[-1]}, and a rule is fixed "
                "before its first look; --drop-rule gives it up"
            )
        _require_margin(plan, known)
        return known
    others = [plan.ablation.compared_with(variant.name) for variant in plan.ablation.variants]
    family = family_of(other for other in others if other is not None)
    is_moderated = comparisons > 1 and (setting is None or design_of(setting.invocations) == MODERATED)
    critical = group_sequential.moderated_boundaries(looks, comparisons, family, 1 - CONFIDENCE) if is_moderated else ()
    return StoppingRule(
        looks=looks,
        family=family if is_moderated else None,
        critical=critical,
        moderates_all=is_moderated,
        levels=group_sequential.levels(looks, 1 - per_comparison(CONFIDENCE, comparisons)),
        comparisons=comparisons,
        confidence=CONFIDENCE,
        margin=plan.ablation.margin(plan.scale.name),
        before=_compared_before(plan, setting),
    )


def _require_margin(plan: Plan, rule: StoppingRule) -> None:
    now = plan.ablation.margin(plan.scale.name)
    if rule.margin is not None and rule.margin != now:
        raise UsageError(
            f"'{plan.ablation.name}' declares a margin of {100 * now:g} points, and the rule of these cells was begun "
            f"with {100 * rule.margin:g}: results have been seen since; put it back, or --drop-rule"
        )


def _compared_before(plan: Plan, setting: Selection | None) -> int:
    """Count the seeds of `setting` with a complete pair from before a rule was begun."""
    if setting is None:
        return 0
    asked, ablation = {cell.fingerprint for cell in setting.cells}, plan.ablation
    seen = {(cell.variant, cell.seed) for cell in plan.cells if cell.is_done and cell.fingerprint in asked}
    return len({seed for variant, seed in seen if (ablation.compared_with(variant), seed) in seen})


def has_rule(setting: Selection | None) -> bool:
    """Tell whether a rule is in force."""
    return setting is not None and rule_of(setting.invocations) is not None


def require_droppable(setting: Selection | None) -> None:
    """Check that `setting` has or had a stopping rule; dropping it twice is allowed, to resume an interrupted command.

    Raises:
        UsageError: there was none.
    """
    if not has_rule(setting) and not (setting is not None and was_dropped(setting.invocations)):
        raise UsageError("--drop-rule: no stopping rule was begun at this scale, on this data, with these overrides")


def find_setting(plan: Plan, runs: Path) -> Selection | None:
    """Return the setting of `plan` with its earlier invocations; None without any."""
    wanted = invocation_of(plan, None, command=RecordedCommand(typed="")).key
    same = tuple(read_index(runs).with_key(wanted))
    return Selection(invocations=same) if same else None


def part(plan: Plan, seeds: int, undecided: Collection[str] | None, runs: Path) -> Plan:
    """Return the part of `plan` for a look: the first `seeds` of the `undecided` variants and of their controls.

    `undecided`: None for all variants. The states of the cells are read anew.
    """
    ablation = plan.ablation
    others = {ablation.compared_with(name) for name in undecided or ()}
    kept = [
        cell
        for cell in plan.cells
        if cell.seed < seeds and (undecided is None or cell.variant in undecided or cell.variant in others)
    ]
    needed = {fingerprint for cell in kept for fingerprint in cell.needs} | {cell.fingerprint for cell in kept}
    cells = [cell for cell in plan.cells if cell.fingerprint in needed]
    return replace(plan, cells=tuple(replace(cell, state=cell.now(runs)) for cell in cells))


def has_new(plan: Plan, setting: Selection) -> bool:
    """Tell whether some cell of `plan` is not done, or was not asked for in `setting` yet."""
    asked = {cell.fingerprint for cell in setting.cells}
    return any(not cell.is_done or cell.fingerprint not in asked for cell in plan.cells)


def union(parts: Sequence[Plan], runs: Path) -> Plan:
    """Return the union of `parts` as one plan, with the current states of its cells."""
    cells = {cell.fingerprint: cell for plan in parts for cell in plan.cells}
    return replace(parts[0], cells=tuple(replace(cell, state=cell.now(runs)) for cell in cells.values()))


def undecided(comparison: Comparison) -> list[str]:
    """Return the compared variants without a decision; of a 2 × 2 study all, until its effects are decided."""
    compared = [row for row in comparison.rows if row.against is not None]
    if any(effect.verdict not in DECIDED for effect in comparison.effects):
        return [row.variant for row in compared if row.verdict != "diverged"]
    return [row.variant for row in compared if row.verdict not in DECIDED]
