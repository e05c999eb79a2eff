"""Conditions of a claim in a setting: the names of its metric in a result, and what differs from where it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cifar_lab.ablation.ablation import Claim, Metric
from cifar_lab.config.overrides import format_overrides

NO_SUBJECT = frozenset({"train.protocol", "train.precision"})
"""Overrides ignored when matching a claim: protocol is compared separately, precision is machine-dependent."""
KEYS: Mapping[Metric, tuple[str, ...]] = {
    "convergence": ("val/auc", "test/auc"),
    "early convergence": ("val/early_acc", "test/early_acc"),
    "gap": ("gap",),
    "oscillation": ("val/oscillation", "test/oscillation"),
}
"""Names of a metric in a result, under `holdout` and under `writeup`; that of the accuracy depends on the protocol."""
FROM_CURVES = frozenset[Metric]({"early convergence", "oscillation"})
"""Metrics that results of earlier versions do not hold: they are computed from the journal."""
OTHER_BASELINE = "another baseline than the ablation has now"
MADE_WITH = "made with"
"""Prefix of a note on settings of a claim that its ablation's baseline does not have."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Setting in which a claim is judged, measured or planned."""

    scale: str
    protocol: str
    data: str
    """Name of the data, for messages."""
    is_cifar10: bool
    overrides: Mapping[str, Any]
    has_other_baseline: bool = False
    """True if the ablation had another baseline when the cells were trained."""

    def differs(self, claim: Claim) -> tuple[str, ...]:
        """Describe what differs from the conditions of the claim: `scale small`, `train.epochs=30`; empty: nothing."""
        missing = claim.missing(self.overrides)
        alike = NO_SUBJECT | (claim.under.keys() - missing.keys())
        other = {path: value for path, value in self.overrides.items() if path not in alike}
        words = [f"scale {self.scale}"] if self.scale != claim.scale else []
        words += [f"protocol {self.protocol}"] if self.protocol != claim.protocol else []
        words += [f"data {self.data}"] if not self.is_cifar10 else []
        words += [OTHER_BASELINE] if self.has_other_baseline else []
        words += [f"{MADE_WITH} {format_overrides(missing)}"] if missing else []
        return (*words, *(format_overrides({path: value}) for path, value in other.items()))


def metric_keys(metric: Metric, protocol: str) -> tuple[str, ...]:
    """Return the names in a result of a metric of claims; the accuracy under `writeup` is that of the best epoch."""
    if metric in KEYS:
        return KEYS[metric]
    return ("test/peak_acc",) if protocol == "writeup" else ("test/acc",)
