"""Comparison of an ablation's variants: its numbers, with header and footer for their interpretation."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cifar_lab.config.overrides import format_overrides
from cifar_lab.errors import UsageError, nearest
from cifar_lab.results.final_metrics import PEAK
from cifar_lab.results.stats.convergence import EpochsToThreshold, one_tenth, still_rises
from cifar_lab.results.stats.decision import RULE
from cifar_lab.text import in_points

if TYPE_CHECKING:
    from cifar_lab.store.invocation import VariancePrior

MIXED = "mixed"
"""In place of a protocol where the variants differ in it."""
MIXED_EXECUTION = "* this row, or this row and the control, mix executions (device, threads, precision, compile)"
SHORT = 12
"""Digits of a fingerprint that a note shows."""
MOST_NAMED = 3
"""Rows that a note names one by one where it is about all of them."""
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

    def words(self, *, all_decided: bool) -> list[str]:
        """Return the lines of the footer on the rule."""
        if self.dropped:
            return ["a stopping rule was dropped after results were seen: intervals are not protected against looking"]
        looks, last = ", ".join(map(str, self.looks)), self.seen == len(self.looks)
        until = "and not all is decided" if last and not all_decided else "until all is decided"
        lines = [
            f"seeds are added by a rule, {until}: looks after {looks} seeds, {self.seen} taken; the intervals hold at "
            f"every look (alpha spending: {self.spending}), {self._method()}",
            "the seeds needed: by the intervals of the last look; p: as if there had been one look; "
            "Δ of a variant that was decided early is biased away from 0",
        ]
        if self.before:
            many = "1 seed was" if self.before == 1 else f"{self.before} seeds were"
            lines.append(
                f"{many} compared before the rule was begun: what could be concluded then is not accounted for"
            )
        return lines

    def _method(self) -> str:
        """Return how wide the intervals of each look are."""
        if not self.critical:
            return "Student's, each at the level of its look"
        return f"± {', '.join(f'{value:.2f}' for value in self.critical)} moderated standard errors"


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

    def header(self) -> list[str]:
        """Return the lines that stand above a table: what was compared, on which data, and by what."""
        setting = format_overrides(self.overrides)
        lines = [f"{self.ablation} · scale {self.scale} · {self.data}" + (f" · {setting}" if setting else "")]
        against = "the stage before" if self.chain else self.control
        compared = any(row.difference is not None for row in self.rows)
        lines.append(self._metric() + (f" · Δ against {against}, paired by seed" if compared else ""))
        more = f", the latest of {self.invocations} in this setting" if self.invocations > 1 else ""
        lines.append(f"invocation {self.invocation}{more}")
        return lines

    def _metric(self) -> str:
        if self.metric == PEAK:
            return "peak accuracy on test over the epochs: selected on test"
        if self.metric == "val/acc":
            return "accuracy on val, of the last weights; a search does not look at test"
        if self.protocol == MIXED:
            return "accuracy on test, of the last weights; protocols differ: writeup looked at it in every epoch"
        return "accuracy on test, of the last weights, looked at once"

    def footer(self) -> list[str]:
        """Return what must be known before a number is believed."""
        lines = self._caveats()
        if self.comparisons and any(row.differences for row in self.rows):
            lines += self._statistics()
        if any(row.continues and row.epochs_to for row in self.rows):
            lines.append("a stage that goes on from another begins warm: its speed is compared with nothing")
        return lines + self._last()

    def notes(self) -> list[str]:
        """Return the part of `footer` that may change how the result is read; nothing of the method."""
        differs = self.comparisons and any(row.differences for row in self.rows)
        return self._caveats() + (self._rules() if differs else []) + self._last()

    def intervals(self) -> list[str]:
        """Return what the intervals hold for, in a line; none without intervals."""
        together = f", together for {self.comparisons} comparisons" if self.comparisons > 1 else ""
        has_some = any(row.interval is not None for row in self.rows)
        return [f"interval: {100 * self.confidence:.0f} % confidence{together}"] if has_some else []

    def _caveats(self) -> list[str]:
        lines = [f"damaged, and not used: {line}" for line in self.damage]
        if any(row.mixed_execution for row in self.rows):
            lines.append(MIXED_EXECUTION)
        return lines + [self.redeclared] * bool(self.redeclared)

    def _last(self) -> list[str]:
        """Return which curves still rise, and the other settings."""
        lines = []
        if rising := [row for row in self.rows if still_rises(row.rises)]:
            words = _rises(rising) if len(rising) == len(self.rows) > MOST_NAMED else ", ".join(map(_rise, rising))
            order = ": a longer training may change the order" if len(self.rows) > 1 else ""
            lines.append(f"still rising: {words} points in {_end(rising)}{order}")
        return lines + [f"also there: {other}" for other in self.others]

    def _statistics(self) -> list[str]:
        """The rule, what its intervals hold for, and what so few seeds cannot show."""
        lines = [
            f"{self._interval()}, over seeds; for this test set and this split",
            f"margin: {in_points(self.margin)}; {RULE}",
        ]
        return lines + self._rules() + self._smallest()

    def _rules(self) -> list[str]:
        """Return how the margin and the number of seeds were changed or fixed."""
        lines = []
        if self.margin_before is not None:
            margin, since = self.margin_before
            lines.append(f"the margin was {in_points(margin)} before invocation {since}, when results could be seen")
        if self.stopping is not None:
            verdicts = [row.verdict for row in self.rows] + [effect.verdict for effect in self.effects]
            lines += self.stopping.words(all_decided="undecided" not in verdicts)
        return lines + self._prior()

    def _prior(self) -> list[str]:
        """Return the variance prior of a single comparison, with the cells that it comes from."""
        if self.prior is None:
            return []
        names, cells = ", ".join(self.prior.ablations), [each[:SHORT] for each in self.prior.fingerprints]
        return [
            f"variance prior: {len(cells)} cells of the control that were finished before this study began ({names}), "
            f"± {100 * math.sqrt(self.prior.variance):.2f} points each: {', '.join(cells)}"
        ]

    def _interval(self) -> str:
        """Return one line that names the method of the intervals."""
        percent = f"interval: {100 * self.confidence:.0f} %"
        moderated = [row for row in self.rows if row.critical is not None]
        if moderated and self.prior is not None:
            return f"{percent}, ± {moderated[0].critical:.2f} standard errors moderated by earlier cells of the control"
        if moderated:
            values = sorted({f"{row.critical:.2f}" for row in moderated}, reverse=True)
            by_look = ", by the look that it was decided at" if len(values) > 1 else ""
            many = f"{len(moderated)} difference{'s' if len(moderated) > 1 else ''}"
            return f"{percent} together ({many}), ± {' or '.join(values)} moderated standard errors{by_look}"
        together = "" if self.comparisons == 1 else f" together ({self.comparisons} differences, Šidák)"
        return f"{percent}{together}, Student"

    def _smallest(self) -> list[str]:
        """Return the limits of few pairs: no interval from one pair, no small p-value from several."""
        compared = [row for row in self.rows if row.differences]
        lines = []
        if alone := [row.variant for row in compared if row.pairs == 1]:
            who = "" if len(alone) == len(compared) else f"{', '.join(alone)}: "
            lines.append(
                f"{who}one seed shows no deviation and decides nothing; see how much chance moves: noise_floor"
            )
        some = sorted({row.pairs for row in compared if row.pairs > 1})
        if some:
            floor, k = 2.0 ** (1 - some[-1]), len(compared)
            pairs = f"{some[0]} to {some[-1]} pairs" if len(some) > 1 else f"{some[0]} pairs"
            corrected = f", {min(1.0, k * floor):.3g} where it is the smallest of {k}" if k > 1 else ""
            lines.append(f"{pairs}: no sign-flip p is below {floor:.3g}{corrected}")
        return lines


def _rise(row: ComparisonRow) -> str:
    return f"{row.variant} {100 * (row.rise or 0):+z.1f}"


def _rises(rising: list[ComparisonRow]) -> str:
    """Return the range of the rises of all rows: `every row, +6.1 to +12.4`."""
    rises = [100 * (row.rise or 0) for row in rising]
    return f"every row, {min(rises):+z.1f} to {max(rises):+z.1f}"


def _end(rising: list[ComparisonRow]) -> str:
    """Return `the last tenth of 200 epochs`; for a short training, the last epoch."""
    lengths = sorted({row.epochs for row in rising if row.epochs is not None})
    part = "the last epoch" if lengths and one_tenth(lengths[-1]) == 1 else "the last tenth"
    if len(lengths) == 1:
        return f"{part} of {lengths[0]}" + ("" if part == "the last epoch" else " epochs")
    return part + (f" of {lengths[0]} to {lengths[-1]} epochs" if lengths else " of the epochs")
