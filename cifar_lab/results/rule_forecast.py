"""Forecast a stopping rule before training: the chance of each verdict, and the expected number of seeds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.results.claim_power import Deviation, setting_deviation
from cifar_lab.results.claim_setting import Conditions
from cifar_lab.results.stats.moderated import family_of
from cifar_lab.results.stats.sequential_power import LookDesign, RuleChances, expected_differences, rule_chances
from cifar_lab.store.invocation import StoppingRule


@dataclass(frozen=True, kw_only=True)
class RuleForecast:
    """Simulated outcome of a stopping rule, for several true differences of one variant."""

    rule: StoppingRule
    comparisons: int
    """Number of variants that are asked for and compared."""
    margin: float
    """Difference that does not matter, as a fraction."""
    deviation: Deviation
    chances: tuple[RuleChances, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON: the rule, the deviation with its source, and the chances; differences are fractions."""
        return {
            **asdict(self.rule),
            "comparisons_asked": self.comparisons,
            "deviation": self.deviation.difference,
            "source": self.deviation.source,
            "chances": [each.as_dict() for each in self.chances],
        }


def forecast_rule(
    rule: StoppingRule, ablation: Ablation, conditions: Conditions, *, variants: Collection[str], runs: Path,
    data_hash: str | None = None,
) -> RuleForecast:  # fmt: skip
    """Simulate studies under `rule` in which one variant differs from what it is compared with, and the others do not.

    Args:
        rule: the stopping rule.
        ablation: ablation whose variants are compared.
        conditions: setting that it is run in.
        variants: variants that are asked for.
        runs: folder whose cells of the same setting give the deviation; without any, an assumed one serves.
        data_hash: hash of the data; None: any data of the same kind.
    """
    margin = rule.margin if rule.margin is not None else ablation.margin(conditions.scale)
    others = [other for name in variants if (other := ablation.compared_with(name)) is not None]
    deviation = setting_deviation("accuracy", ablation, conditions, runs=runs, data_hash=data_hash)
    is_moderated = bool(rule.critical) and len(others) > 1
    design = LookDesign(looks=rule.looks, levels=rule.levels, critical=rule.critical if is_moderated else ())
    chances = [
        rule_chances(design, len(others), family_of(others), difference, deviation.difference, margin)
        for difference in (expected_differences(margin) if others else ())
    ]
    return RuleForecast(rule=rule, comparisons=len(others), margin=margin, deviation=deviation, chances=tuple(chances))
