"""Comparison of an ablation's variants: its numbers and where they come from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cifar_lab.errors import UsageError, nearest
from cifar_lab.results.stats.convergence import EpochsToThreshold

if TYPE_CHECKING:
    from cifar_lab.store.invocation import VariancePrior

MIXED = "mixed"
"""In place of a protocol where the variants differ in it."""
UNFINISHED = ("missing", "running", "failed", "diverged", "pruned", "damaged")
"""States of cells that are not part of the mean; a `ComparisonRow` counts each."""


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """One variant. Accuracies, differences and intervals are fractions; mappings by seed hold finished cells."""

    variant: str
    against: str | None
    """Variant that it is compared with; None for the control."""
    n: int
    mean: float | None
    std: float | None
    values: dict[int, float]
    """Value by seed."""
    mean_interval: tuple[float, float] | None
    """95 % interval of `mean`, for this variant alone."""
    difference: float | None
    difference_std: float | None
    differences: dict[int, float]
    """Difference by seed, over the seeds that both have."""
    interval: tuple[float, float] | None
    """Interval of `difference`, at `level`: the intervals of all rows hold jointly."""
    level: float | None
    """The nominal confidence of `interval`; none for a moderated one, which has none by itself."""
    welch: tuple[float, float] | None
    """Welch interval at the same level, as if the seeds were not paired."""
    correlation: float | None
    """Correlation between variant and control over the seeds."""
    effect: float | None
    """Effect size: `difference` over `difference_std`, bias-corrected (Hedges' g of pairs)."""
    p_value: float | None
    """Two-sided p-value of the sign-flip test."""
    p_holm: float | None
    """`p_value`, adjusted for the number of compared rows (Holm)."""
    p_exact: bool | None
    p_smallest: float | None
    """Smallest p-value possible with so many pairs, before adjustment."""
    verdict: str | None
    """better, worse, equivalent or undecided; diverged if every cell was; None if nothing was compared."""
    reason: str | None
    """Reason why there is no interval."""
    seeds_needed: dict[str, int | None]
    """Number of pairs for power 0.8, by difference in points (`0.1`); None if more than 10,000."""
    pairs: int
    missing: int
    running: int
    failed: int
    diverged: int
    mixed_execution: bool
    parameters: int
    parameters_trained: int
    macs: int
    seconds: float | None
    """Mean training time of a cell in seconds."""
    images_seen: float | None
    pruned: int = 0
    """Number of cells that a search stopped early."""
    one_view: float | None = None
    """Mean accuracy on test with one view of an image, of the cells whose recipe has test-time augmentation."""
    deviation: float | None = None
    """Moderated deviation of the differences, where the intervals are moderated."""
    critical: float | None = None
    """Half the width of a moderated interval in standard errors."""
    epochs: int | None = None
    """Number of epochs of a finished training."""
    gap: float | None = None
    """Mean over cells of the accuracy on clean training images minus that on the watched ones (overfitting)."""
    gap_difference: float | None = None
    """Mean over seeds of the paired differences in `gap`."""
    auc: float | None = None
    """Mean of the watched accuracy over all epochs: the area under the curve with the epochs scaled to length one."""
    auc_difference: float | None = None
    epochs_to: dict[str, EpochsToThreshold] = field(default_factory=dict)
    """First epoch that reached a threshold, by threshold."""
    epochs_to_difference: dict[str, EpochsToThreshold] = field(default_factory=dict)
    """Difference in the epoch that reached a threshold, by threshold, over the seeds in which both reached it."""
    rises: tuple[float, ...] = ()
    """Rise of the accuracy over the last tenth of the epochs, for each cell."""
    continues: bool = False
    """True if it starts from the weights of another variant."""
    damaged: int = 0
    """Number of cells with damaged records, which are not used."""
    same_as: str | None = None
    """Earlier variant with bit-identical numbers in every seed that both have."""

    @property
    def rise(self) -> float | None:
        """Mean of `rises`; None without any."""
        return sum(self.rises) / len(self.rises) if self.rises else None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "rise": self.rise}


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Contrast of a 2 × 2 study; the intervals of its three contrasts hold jointly."""

    name: str
    """`model.se.reduction`, or `model.se.reduction × optim.lookahead` for the interaction."""
    pairs: int
    difference: float | None
    interval: tuple[float, float] | None
    level: float | None
    """Confidence of Student's interval; None for a moderated one."""
    verdict: str | None
    """better, worse, equivalent or undecided for a main effect; present, absent or undecided for the interaction."""
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class StoppingSummary:
    """Stopping rule that determined the number of seeds."""

    looks: tuple[int, ...]
    """Number of seeds at each planned look."""
    seen: int
    """Number of looks taken."""
    levels: tuple[float, ...]
    """Nominal confidence of an interval at each look."""
    spending: str
    before: int = 0
    """Number of seeds that were compared before the rule was begun."""
    dropped: bool = False
    """True if the rule was given up later: its intervals are then not valid at the looks."""
    family: str | None = None
    """How the differences of moderated intervals hang together; None for Student's."""
    critical: tuple[float, ...] = ()
    """Critical value of the moderated intervals at each look; empty for Student's."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The rows of one ablation at one scale, with their provenance."""

    ablation: str
    scale: str
    protocol: str
    """holdout, writeup, or `MIXED`."""
    metric: str
    control: str
    data: str
    overrides: dict[str, Any]
    invocation: str
    """Latest invocation of the setting."""
    invocations: int
    rows: tuple[ComparisonRow, ...]
    margin: float
    """Equivalence margin, as a fraction."""
    confidence: float = 0.95
    """Joint confidence of all intervals of differences."""
    comparisons: int = 1
    """How many those are: rows with something to be compared with."""
    design: str = "student"
    """The method of the intervals: `student` at Šidák's level, or `moderated`."""
    effects: tuple[Effect, ...] = ()
    """Main effects and interaction of a 2 × 2 study; empty for others."""
    stopping: StoppingSummary | None = None
    """Stopping rule, if seeds were added sequentially."""
    prior: VariancePrior | None = None
    """Variance of earlier cells of the control, if the interval of the only difference rests on it."""
    margin_before: tuple[float, str] | None = None
    """Different margin used before, and the invocation that changed it."""
    chain: bool = False
    """True if each row is compared with another row, the stage before."""
    others: tuple[str, ...] = ()
    """Other settings that match the request."""
    redeclared: str = ""
    """Other recipes and variants that the ablation had in earlier invocations of its name; empty for none."""
    damage: tuple[str, ...] = ()
    """Damage of the records and notes behind the rows: file and rule, one per line."""
    made: tuple[str, ...] = ()
    """Provenance of the numbers: command, hardware, versions, hours, date; one per line."""

    def as_dict(self) -> dict[str, Any]:
        rows = [row.as_dict() for row in self.rows]
        return {**asdict(self), "threshold": self.threshold, "rows": rows}

    @property
    def threshold(self) -> str | None:
        """Threshold that `epochs to` is shown for: the highest that all cells of the control reached, else any cell."""
        some = [x for row in self.rows for x, found in row.epochs_to.items() if found.reached]
        whole = [x for x in some if self.reached_by_control(x)]
        return max(whole or some, key=float, default=None)

    def reached_by_control(self, threshold: str) -> bool:
        """Tell whether every finished cell of the control reached the threshold."""
        of_control = (row.epochs_to.get(threshold) for row in self.rows if row.variant == self.control)
        return any(found is not None and found.of and found.reached == found.of for found in of_control)

    @property
    def watched(self) -> str:
        """Name of the images that are evaluated in every epoch."""
        return {"holdout": "val", "writeup": "test"}.get(self.protocol, "val (test, under protocol writeup)")

    def only(self, variants: Collection[str]) -> Comparison:
        """Return the comparison with the rows of `variants` and of what these are compared with.

        Intervals and verdicts stay: they hold for all rows together.

        Raises:
            UsageError: a variant has no row.
        """
        names = [row.variant for row in self.rows]
        for name in variants:
            if name not in names:
                raise UsageError(f"{self.ablation}: variant '{name}' was not run{nearest(name, names)}")
        against = {row.against for row in self.rows if row.variant in variants}
        rows = tuple(row for row in self.rows if row.variant in variants or row.variant in against)
        return replace(self, rows=rows, effects=self.effects if len(rows) == len(self.rows) else ())
