"""Tables of a comparison as text, shared by all output formats from the terminal to HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cifar_lab.results.comparison import UNFINISHED, Comparison, ComparisonRow, Effect
from cifar_lab.results.stats.convergence import EpochsToThreshold
from cifar_lab.results.stats.paired import ONE_PAIR
from cifar_lab.text import format_macs

HEADINGS = ("variant", "n", "accuracy %", "± std", "Δ", "interval", "verdict", "note")
CONTROL = "control"
"""The word in the verdict column of the row that the others are compared with."""
NUMBERS = ("n", "accuracy %", "± std", "Δ", "interval")
PUBLISHED = ("variant", "n", "accuracy %", "Δ", "interval", "verdict", "note")
COARSE = 0.005
"""The margin from which accuracies are published with one decimal."""
COST = ("variant", "accuracy %", "one view %", "parameters", "trained", "MACs", "time", "images seen")
"""Columns of the table of costs."""
EVIDENCE = ("variant", "pairs", "Δ ± std", "effect", "p", "p Holm", "r", "Welch", "width", "seeds")
"""Columns of the table of evidence: statistics of each difference, gain from pairing, and seeds needed."""
EFFECTS = ("effect", "pairs", "Δ", "interval", "verdict", "note")
"""Columns of the table of a 2 × 2 study."""
FIT = ("variant", "epochs to", "Δ epochs", "AUC %", "Δ AUC", "gap", "Δ gap", "rise")
"""Columns of the table of fit: speed of convergence, overfitting, and rise at the end of training."""

COST_LEGEND = {
    "parameters": "parameters: as declared, which the budget judges",
    "trained": "trained: of the smaller network of this scale",
    "MACs": "MACs: of one image, forward",
    "time": "time: of training, a cell",
    "images seen": "images seen: of this stage alone, without the one that it goes on from",
    "one view %": "one view: without test-time augmentation",
}
EVIDENCE_LEGEND = {
    "effect": "effect: Δ over its deviation (Hedges)",
    "p": "p: sign-flip, two-sided",
    "r": "r: correlation of the pairs",
    "Welch": "Welch: the interval without pairing",
    "width": "width: paired over unpaired",
    "seeds": "seeds: that show 0.1, 0.2, 0.5 points with power 0.8",
}
EFFECTS_LEGEND = "each factor changed, averaged over the other; ×: how far the effect of one depends on the other"
"""By heading, what a column holds; only columns that are shown have their words in a caption."""


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """Table of strings; empty if nothing is known."""

    caption: str
    """Explanation of the headings."""
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...]
    """Headings of right-aligned columns."""

    def folded(self, width: int, gap: int = 2) -> list[TextTable]:
        """Split into parts of at most `width` characters, each with the first column and at least one other."""
        widths = [max(map(len, column)) + gap for column in zip(self.headings, *self.rows, strict=True)]
        parts, taken = [[0]], widths[0]
        for i in range(1, len(widths)):
            if taken + widths[i] - gap > width and len(parts[-1]) > 1:
                parts.append([0])
                taken = widths[0]
            parts[-1].append(i)
            taken += widths[i]
        return [self._columns(part) for part in parts]

    def _columns(self, kept: list[int]) -> TextTable:
        rows = tuple(tuple(row[i] for i in kept) for row in self.rows)
        return replace(self, headings=tuple(self.headings[i] for i in kept), rows=rows)


def comparison_tables(comparison: Comparison) -> list[TextTable]:
    """Return the tables that have content, the result first, without empty columns."""
    tables = (result_table, effects_table, cost_table, fit_table, evidence_table)
    return [table for build in tables if (table := build(comparison)).rows]


def result_table(comparison: Comparison) -> TextTable:
    """Accuracy, difference and verdict of each variant, and what it costs."""
    return _filled({}, HEADINGS, _result_rows(comparison), NUMBERS)


def published_table(comparison: Comparison) -> TextTable:
    """Return the result as a paper prints it: accuracy with its deviation in one cell, `95.1 ± 0.2`.

    One decimal; two where a difference of less than half a point matters.
    """
    merged = [
        [name, n, f"{mean} ± {std}" if std else mean, *rest]
        for name, n, mean, std, *rest in _result_rows(comparison, 1 if comparison.margin >= COARSE else 2)
    ]
    return _filled({}, PUBLISHED, merged, NUMBERS)


def _result_rows(comparison: Comparison, digits: int = 2) -> list[list[str]]:
    """Return the cells of every row under `HEADINGS`, the control marked where others are compared with it."""
    rows = [row_texts(row, comparison.metric, digits) for row in comparison.rows]
    if any(row.against is not None for row in comparison.rows):
        place = HEADINGS.index("verdict")
        for row, shown in zip(comparison.rows, rows, strict=True):
            shown[place] = CONTROL if row.variant == comparison.control else shown[place]
    return rows


def row_texts(row: ComparisonRow, metric: str = "test/acc", digits: int = 2) -> list[str]:
    """The row's cells under `HEADINGS`; `metric` is what is compared."""
    return [
        row.variant + (" *" if row.mixed_execution else ""),
        str(row.n),
        points(row.mean, digits=digits),
        points(row.std, digits=digits),
        points(row.difference, sign=True, digits=digits),
        span(row.interval, digits),
        row.verdict or "",
        note(row, metric),
    ]


def note(row: ComparisonRow, metric: str = "test/acc") -> str:
    """Return a note on cells that are not in the mean, so that none is dropped silently."""
    counts = {state: getattr(row, state) for state in UNFINISHED}
    words = [f"{count} {word}" for word, count in counts.items() if count]
    if lacks := without_metric(row):
        words.append(f"{lacks} finished without {metric}")
    if row.difference is not None and row.pairs < row.n:
        words.append(f"Δ over {row.pairs} seed{'' if row.pairs == 1 else 's'}")
    if row.reason not in {None, ONE_PAIR} and row.n:  # one pair: stated once in the footer
        words.append(str(row.reason))
    if row.same_as is not None:
        words.append(f"the same numbers as {row.same_as} in every seed")
    return ", ".join(words)


def without_metric(row: ComparisonRow) -> int:
    """Count finished cells without the compared metric: not counted by `n`, but in the epochs to a threshold."""
    return max([0, *(found.of - row.n for found in row.epochs_to.values())])


def count_requested(row: ComparisonRow) -> int:
    """Return the number of requested cells."""
    unfinished: int = sum(getattr(row, state) for state in UNFINISHED)
    return row.n + unfinished + without_metric(row)


def describe_end(row: ComparisonRow, metric: str = "test/acc") -> str:
    """Describe a row without a mean: `diverged in 3 of 3`, else its note."""
    return f"diverged in {row.diverged} of {count_requested(row)}" if row.verdict == "diverged" else note(row, metric)


def cost_table(comparison: Comparison) -> TextTable:
    """Return the costs of each variant; trained parameters only if the scale changed the networks."""
    scaled = any(row.parameters != row.parameters_trained for row in comparison.rows)
    rows = [cost_cells(row, scaled=scaled) for row in comparison.rows]
    legend = dict(COST_LEGEND)
    if not scaled:
        del legend["parameters"]
    if not any(row.continues for row in comparison.rows):
        del legend["images seen"]
    return _filled(legend, COST, rows, COST[1:])


def cost_cells(row: ComparisonRow, *, scaled: bool) -> list[str]:
    """Return the row's cells under `COST`."""
    return [
        row.variant,
        points(row.mean),
        points(row.one_view),
        f"{row.parameters:,}",
        f"{row.parameters_trained:,}" if scaled else "",
        format_macs(row.macs),
        "" if row.seconds is None else f"{row.seconds:,.0f} s",
        "" if row.images_seen is None else f"{row.images_seen:,.0f}",
    ]


def evidence_table(comparison: Comparison) -> TextTable:
    """Return the statistics of the differences; empty if none has an interval."""
    rows = [evidence_cells(row) for row in comparison.rows if row.interval is not None]
    return _filled(EVIDENCE_LEGEND, EVIDENCE, rows, EVIDENCE[1:])


def evidence_cells(row: ComparisonRow) -> list[str]:
    """Return the row's cells under `EVIDENCE`."""
    return [
        row.variant,
        str(row.pairs),
        points(row.difference_std),
        "" if row.effect is None else f"{row.effect:+z.1f}",
        _p(row.p_value, exact=row.p_exact is not False),
        _p(row.p_holm, exact=row.p_exact is not False),
        "" if row.correlation is None else f"{row.correlation:+z.2f}",
        span(row.welch),
        _width(row),
        " / ".join(">10k" if count is None else str(count) for count in row.seeds_needed.values()),
    ]


def effects_table(comparison: Comparison) -> TextTable:
    """Main effects and interaction of a 2 × 2 study."""
    rows = [effect_cells(each) for each in comparison.effects]
    return _filled({"effect": EFFECTS_LEGEND}, EFFECTS, rows, EFFECTS[1:4])


def effect_cells(effect: Effect) -> list[str]:
    """Return the effect's cells under `EFFECTS`."""
    return [
        effect.name,
        str(effect.pairs),
        points(effect.difference, sign=True),
        span(effect.interval),
        effect.verdict or "",
        effect.reason or "",
    ]


def is_interaction(effect: Effect) -> bool:
    """Tell whether a contrast of a 2 × 2 study is the interaction."""
    return "×" in effect.name


def fit_table(comparison: Comparison) -> TextTable:
    """Return speed and generalisation, with the threshold; empty if no cell was finished."""
    x = comparison.threshold
    named = [f"epochs to {100 * float(x):.0f} %" if x is not None and name == "epochs to" else name for name in FIT]
    seen = comparison.watched
    whose = "every cell of the control" if x is not None and comparison.reached_by_control(x) else "any cell"
    legend = {
        named[1]: f"epochs to: the highest threshold that {whose} reached",
        "AUC %": f"AUC: mean {seen} accuracy over epochs",
        "gap": f"gap: clean train less {seen}",
        "rise": "rise: in the last tenth of epochs",
    }
    warm = {row.variant for row in comparison.rows if row.continues}
    rows = [fit_cells(row, x, warm=bool({row.variant, row.against} & warm)) for row in comparison.rows]
    return _filled(legend, named, rows, named[1:])


def fit_cells(row: ComparisonRow, threshold: str | None, *, warm: bool = False) -> list[str]:
    """Return the row's cells under `FIT`: speed of convergence, and generalisation.

    `warm`: this stage or its control starts from another stage's weights, so that their speeds are not comparable.
    """
    x = threshold or ""
    return [
        row.variant,
        "" if row.continues else _epochs(row.epochs_to.get(x)),
        "" if warm else _fewer(row.epochs_to_difference.get(x)),
        points(row.auc),
        "" if warm else points(row.auc_difference, sign=True),
        points(row.gap, sign=True),
        points(row.gap_difference, sign=True),
        points(row.rise, sign=True),
    ]


def points(value: float | None, *, sign: bool = False, digits: int = 2) -> str:
    """A fraction of accuracy in points of a percent: `91.23`, `-0.46`; zero has no minus sign."""
    return "" if value is None else f"{100 * value:{'+' if sign else ''}z.{digits}f}"


def span(interval: tuple[float, float] | None, digits: int = 2) -> str:
    """An interval in points: `[-0.90, +0.02]`; a bound that rounds to zero keeps its sign, as zero may lie outside."""
    return "" if interval is None else f"[{', '.join(f'{100 * end:+.{digits}f}' for end in interval)}]"


def _filled(
    legend: Mapping[str, str], headings: Sequence[str], rows: list[list[str]], numbers: Sequence[str]
) -> TextTable:
    """Return the table without empty columns, with the legend of the others; without rows if only names are left."""
    kept = [i for i in range(len(headings)) if any(row[i] for row in rows)]
    shown = rows if len(kept) > 1 else []
    return TextTable(
        caption=" · ".join(words for heading, words in legend.items() if heading in {headings[i] for i in kept}),
        headings=tuple(headings[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in shown),
        numbers=tuple(headings[i] for i in kept if headings[i] in set(numbers)),
    )


def _p(value: float | None, *, exact: bool) -> str:
    """Format a p-value with four decimals, prefixed by `≈` if sign patterns were sampled."""
    return "" if value is None else ("" if exact else "≈ ") + (f"{value:.4f}" if value >= 0.0001 else "< 0.0001")


def _width(row: ComparisonRow) -> str:
    if row.interval is None or row.welch is None or row.welch[1] <= row.welch[0]:
        return ""
    return f"{(row.interval[1] - row.interval[0]) / (row.welch[1] - row.welch[0]):.2f}"


def _epochs(found: EpochsToThreshold | None) -> str:
    """Format `4.5`, or `4.5 (2 of 3)` if a cell did not reach the threshold, `never` if none did."""
    if found is None or not found.of:
        return ""
    return "never" if found.mean is None else f"{found.mean:.1f}{_part(found)}"


def _fewer(found: EpochsToThreshold | None) -> str:
    """Format `-1.5`, or `-1.5 (2 of 3)` if the other seeds have no difference."""
    return "" if found is None or found.mean is None else f"{found.mean:+z.1f}{_part(found)}"


def _part(found: EpochsToThreshold) -> str:
    return "" if found.reached == found.of else f" ({found.reached} of {found.of})"
