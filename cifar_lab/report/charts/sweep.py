"""Plots of a search: history, accuracy against cost, parallel coordinates, importances."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median_low

from markupsafe import Markup

from cifar_lab.config.overrides import as_typed
from cifar_lab.report.ablation_page import PageFigure
from cifar_lab.report.charts import svg
from cifar_lab.report.charts.svg import AxisScale
from cifar_lab.report.sweep_page_data import DimensionSummary, SweepPageData, TrialSummary
from cifar_lab.report.table_content import points

HEIGHT, LANE = 230.0, 16.0
"""Heights in pixels of a panel, and of the lane below it for trials without an accuracy."""
OUTLIER = 4
"""Multiple of the typical trial's distance from the best beyond which a value is clipped."""
NEAR = 0.02
"""Distance from the best within which a value is never clipped."""
ROW, LOWER = 64.0, 12.0
"""Pixels between two axes of parallel coordinates, and between a label and a lower one."""
LETTERS = 34
"""Characters that fit side by side under an axis, on a phone."""
WHOLE, NAME, TICK = 36, 20, 16
"""Maximum characters of a dimension's name above its axis, of one beside its bar, and of the label of a choice."""
NOT_ASKED, KEPT = 0.96, 0.88
"""Position on an axis of trials that did not sample it, and the share of the axis left to the others."""
LETTER = 8.2
"""Maximum width in pixels of a character of a dimension's name."""
BAR, PAIR = 0.3, 0.52
"""Width of the longest bar, and start of the second column, as shares."""
COSTS = (("parameters", "parameters as declared", "max_params"), ("macs", "multiply-accumulates an image", "max_macs"))
UNIT = 1e6
BEYOND = 2.5
"""Multiple of the budget at which the cost axis ends."""
EVALUATORS = {"fanova": "fANOVA", "ped_anova": "PED-ANOVA"}


def accuracies(search: SweepPageData) -> AxisScale | None:
    """Return the accuracy axis in percent; values far below the others are put at its low end. None without values."""
    values = [trial.value for trial in search.results if trial.value is not None]
    every = values + [trial.last for trial in search.trials if trial.last is not None]
    if not every:
        return None
    best = max(values or every)
    lowest = best - max(NEAR, OUTLIER * (best - median_low(values or every)))
    return svg.linear([100 * value for value in every if value >= lowest], room=0.08)


# History


def history(search: SweepPageData) -> PageFigure | None:
    """Plot accuracy by trial with the best so far, and below them the trials without a value; None without an axis."""
    y = accuracies(search)
    if y is None:
        return None
    x = svg.linear([trial.number for trial in search.trials], room=0.03, whole=True)
    parts = [svg.x_axis(x, HEIGHT + LANE, "trial"), svg.y_axis(y, HEIGHT, "accuracy on val, %")]
    baseline, steps = search.baseline, _best_so_far(search, x.high)
    if baseline is not None and baseline.value is not None:
        parts += _reference(y.y(100 * baseline.value, HEIGHT))
    if steps:
        line = svg.stairs(steps, x, y, HEIGHT, "best so far", "s1 solid")
        parts.append(svg.lines(HEIGHT, line))
    new = {number for number, _, _ in steps}
    for trial in search.trials:
        parts += _tried(trial, x.x(trial.number), y, "seed on" if trial.number in new else "seed")
    reached = [trial.last if trial.value is None else trial.value for trial in search.trials]
    below = sum(100 * value < y.low for value in reached if value is not None)
    caption = f"{below} far below the others, drawn at the low end." if below else ""
    words = f"accuracy on val by trial: {len(search.results)} trials with a value"
    return PageFigure("", svg.drawing(*parts, height=HEIGHT + LANE, words=words, left=svg.room(y)), caption)


def history_key(search: SweepPageData) -> list[tuple[Markup, str]]:
    """Return the legend of the history's marks that occur."""
    states = {trial.state for trial in search.trials}
    found = [(_sample(svg.dot("15", 8, "")), "trial with a value")] if search.results else []
    found += [(_sample(_stroke("line s1 solid"), svg.dot("15", 8, "", "seed on")), "best so far")] if found else []
    if "pruned" in states:
        found.append((_sample(svg.cross("15", 8, "", "beyond")), "pruned, at its last reported value"))
    if "diverged" in states:
        found.append((_sample(svg.cross("15", 8, "", "diverged")), "diverged"))
    if "infeasible" in states:
        found.append((_sample(_tick("15", 2, 14, "")), "infeasible: over the budget, not trained"))
    if "failed" in states:
        found.append((_sample(_tick("15", 2, 14, "", "failed")), "failed"))
    return found


def _best_so_far(search: SweepPageData, end: float) -> list[tuple[float, float, float]]:
    """Return steps (from trial, to trial, percent) of the best value so far."""
    found: list[tuple[int, float]] = []
    for trial in search.results:
        if trial.value is not None and (not found or 100 * trial.value > found[-1][1]):
            found.append((trial.number, 100 * trial.value))
    ends = [number for number, _ in found[1:]] + [end] if found else []
    return [(number, last, value) for (number, value), last in zip(found, ends, strict=True)]


def _tried(trial: TrialSummary, x: str, y: AxisScale, class_: str) -> Iterator[Markup]:
    """Yield the mark of a trial; nothing for a running one."""
    low, high = HEIGHT + 4, HEIGHT + LANE
    if trial.state == "diverged":
        yield svg.cross(x, (low + high) / 2, f"{trial.name}: diverged", "diverged")
    elif trial.value is not None:
        yield svg.dot(x, y.y(100 * trial.value, HEIGHT), _said(trial), class_)
    elif trial.last is not None:
        said = f"{trial.name}: pruned after epoch {trial.pruned_at} at {points(trial.last)} %"
        yield svg.cross(x, y.y(100 * trial.last, HEIGHT), said, "beyond")
    elif trial.state in {"infeasible", "failed"}:
        yield _tick(x, low, high, f"{trial.name}: {trial.note or trial.state}{_weight(trial)}", trial.state)


def _reference(y: float) -> list[Markup]:
    line = svg.tag("line", class_="reference", x1=0, x2="100%", y1=y, y2=y)
    return [line, svg.tag("text", "baseline", class_="tick end", x="100%", y=y - 5)]


# Cost


def costs(search: SweepPageData) -> list[PageFigure]:
    """Plot accuracy against parameters, and against MACs if these are limited or an objective."""
    y = accuracies(search)
    if y is None or not search.results:
        return []
    named = [each for each in COSTS if each[0] == "parameters" or search.max_macs or "macs" in search.objectives]
    return [_cost(search, y, *each) for each in named]


def _cost(search: SweepPageData, y: AxisScale, name: str, title: str, limited: str) -> PageFigure:
    limit: int | None = getattr(search, limited)
    found = [(trial, getattr(trial, name)) for trial in search.trials if getattr(trial, name) is not None]
    x = _cost_scale([value for _, value in found], limit)
    parts = [svg.x_axis(x, HEIGHT, f"{title}, millions"), svg.y_axis(y, HEIGHT, "accuracy on val, %")]
    if limit is not None:
        said = f"over the budget of {limit:,}"
        parts = [svg.shade(x, limit / UNIT, x.high, HEIGHT, said), *parts, *_limit(x, limit)]
    front = search.front(name)
    if front:
        at = [getattr(trial, name) / UNIT for trial in front]
        ends = [*at[1:], max(at[-1], min(x.high, limit / UNIT if limit is not None else x.high))]
        steps = [(a, b, 100 * (trial.value or 0.0)) for a, b, trial in zip(at, ends, front, strict=True)]
        parts.append(svg.lines(HEIGHT, svg.stairs(steps, x, y, HEIGHT, "front", "s1 solid")))
    for trial, value in found:
        parts += _costing(trial, x.x(value / UNIT), y, is_front=trial in front)
    many = sum(value / UNIT > x.high for _, value in found)
    caption = f"{many} infeasible beyond {x.high:g} million, drawn at the end of the axis." if many else ""
    return PageFigure(
        "", svg.drawing(*parts, height=HEIGHT, words=f"accuracy on val against {title}", left=svg.room(y)), caption
    )


def _cost_scale(values: Sequence[float], limit: int | None) -> AxisScale:
    """Return the cost axis in millions; logarithmic if the largest is more than four times the smallest."""
    ends = [value / UNIT for value in values] + ([limit / UNIT] if limit is not None else [])
    low, high = min(ends), max(ends)
    if limit is not None:
        high = min(high, BEYOND * limit / UNIT)
    if high <= 4 * low:
        return svg.linear([low, high], count=4, room=0.09)
    return fine(low / 1.15, high * 1.1)


def fine(low: float, high: float) -> AxisScale:
    """Return a logarithmic axis with ticks at 1, 2 and 5 times powers of ten; for many decades, powers only."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    ticks = [tick for tick in every if low * 0.999 <= tick <= high * 1.001]
    if len(ticks) > 7:
        ticks = [tick for tick in ticks if math.isclose(math.log10(tick), round(math.log10(tick)))]
    return AxisScale(low=low, high=high, ticks=tuple(ticks) or (low, high), is_log=True)


def _limit(x: AxisScale, limit: int) -> list[Markup]:
    at = x.x(limit / UNIT)
    words = f"budget {limit / UNIT:g} M"
    left = x.share(limit / UNIT) > 0.5
    label = svg.tag("text", words, class_=f"limit{' end' if left else ''}", x=at, dx=-6 if left else 6, y=HEIGHT - 8)
    return [svg.tag("line", svg.tag("title", words), class_="limit", x1=at, x2=at, y1=0, y2=HEIGHT), label]


def _costing(trial: TrialSummary, x: str, y: AxisScale, *, is_front: bool) -> Iterator[Markup]:
    if trial.state == "infeasible":
        said = f"{trial.name}: infeasible{_weight(trial)}"
        yield svg.tag(
            "svg", svg.tag("path", svg.tag("title", said), d="M-2 -9h4v9h-4z"), class_="lane hollow", x=x, y=HEIGHT
        )
    elif trial.value is not None:
        yield svg.dot(x, y.y(100 * trial.value, HEIGHT), _said(trial), "seed on" if is_front else "seed")


def cost_key(search: SweepPageData) -> list[tuple[Markup, str]]:
    found = [
        (_sample(svg.dot("15", 8, "")), "trial with a value"),
        (_sample(_stroke("line s1 solid"), svg.dot("15", 8, "", "seed on")), "front: no other beats it in both"),
    ]
    if any(trial.state == "infeasible" for trial in search.trials):
        hollow = svg.tag("svg", svg.tag("path", d="M-2 -9h4v9h-4z"), class_="lane hollow", x="15", y=13)
        found.append((_sample(hollow), "infeasible, not trained"))
    return found


# Parallel coordinates


def parallel(search: SweepPageData) -> PageFigure:
    """Plot parallel coordinates: one axis for accuracy and one per dimension, one line per trial with a value."""
    score = accuracies(search) or svg.linear([])
    ranked = list(reversed(search.ranked))  # so that the best are drawn on top
    ranks = {trial.number: i / (len(ranked) - 1) if len(ranked) > 1 else 0.5 for i, trial in enumerate(ranked)}
    ordered = search.ordered
    height = ROW * len(ordered)
    down, across = AxisScale(low=-height, high=0.0, ticks=()), AxisScale(low=0.0, high=1.0, ticks=())
    top = {trial.number for trial in search.best_tenth}
    axles = [ParallelAxis(dimension, ranked, ranks) for dimension in ordered]
    paths, dots = [], []
    for trial in ranked:
        at = [score.share(100 * (trial.value or 0.0)), *(axle.at(trial) for axle in axles)]
        class_ = "first" if trial is search.best else "top" if trial.number in top else "rest"
        corners = [(share, -ROW * i) for i, share in enumerate(at)]
        paths.append(svg.line(corners, across, down, height, _said(trial), class_))
        if class_ != "rest":
            dots += [svg.dot(f"{100 * share:.2f}%", -y, _said(trial), "seed") for share, y in corners]
    parts = [svg.lines(height, *paths), *_scored(score)]
    for i, axle in enumerate(axles):
        parts += axle.drawn(ROW * (i + 1))
    words = f"accuracy on val and {len(ordered)} dimensions: {len(ranked)} trials"
    drawn = svg.drawing(*parts, *dots, height=height, words=words, class_="parallel", left=16)
    return PageFigure("", drawn, " ".join(_reading(search, axles)))


def _reading(search: SweepPageData, axles: Sequence[ParallelAxis]) -> Iterator[str]:
    """Yield sentences on how to read parallel coordinates."""
    if search.importances:
        yield "Dimensions by importance, the first on top."
    if len(search.results) > 1 and any(axle.dimension.labels for axle in axles):
        yield "Trials with the same choice stand side by side, the better ones on the right."
    if any(axle.has_gaps for axle in axles):
        yield "“not asked”: another choice left nothing to ask for."


def parallel_key(search: SweepPageData) -> list[tuple[Markup, str]]:
    found = [(_sample(_stroke("line first"), class_="parallel"), "the best")]
    if len(search.best_tenth) > 1:
        found.append(
            (_sample(_stroke("line top"), class_="parallel"), f"the best tenth, {len(search.best_tenth)} trials")
        )
    return [*found, (_sample(_stroke("line rest"), class_="parallel"), "the other trials with a value")]


class ParallelAxis:
    """One axis of parallel coordinates: position of each trial, and its drawing."""

    def __init__(self, dimension: DimensionSummary, trials: Sequence[TrialSummary], ranks: Mapping[int, float]) -> None:
        self.dimension, self._ranks = dimension, ranks
        self.has_gaps = any(dimension.name not in trial.params for trial in trials)
        self._part = KEPT if self.has_gaps else 1.0
        if not dimension.labels:
            low, high = dimension.low, dimension.high
            plain = AxisScale(low=low, high=high, ticks=svg.linear([low, high], count=4, room=0.0).ticks)
            self._scale = fine(low, high) if dimension.is_log else plain

    def at(self, trial: TrialSummary) -> float:
        """Return the position as a share of the width. Equal choices are side by side, the best on the right."""
        labels, slot = self.dimension.labels, (self._ranks[trial.number] - 0.5) * 0.5
        if self.dimension.name not in trial.params:
            return NOT_ASKED + 0.06 * slot
        taken = trial.params[self.dimension.name]
        if labels:
            return self._part * (labels.index(taken) + 0.5 + slot) / len(labels)
        assert not isinstance(taken, str), "a range holds numbers"
        return self._part * self._scale.share(taken)

    def drawn(self, y: float) -> Iterator[Markup]:
        """Yield the axis with its name above and its labels below, alternating in height if there are many."""
        yield svg.tag("line", class_="axle", x1=0, x2=_percent(self._part), y1=y, y2=y)
        name = self.dimension.name
        yield svg.tag("text", svg.tag("title", name), _clipped(name, WHOLE), class_="name", x=0, dx=-12, y=y - 14)
        named = [(share, _clipped(text, TICK)) for share, text in self._named()]
        is_crowded = sum(len(text) + 2 for _, text in named) > LETTERS
        for i, (share, text) in enumerate(named):
            lower = LOWER if is_crowded and i % 2 else 0.0
            yield svg.tag("line", class_="axle", x1=_percent(share), x2=_percent(share), y1=y - 3, y2=y + 3)
            class_ = f"tick mid{' crowded' if is_crowded else ''}"
            yield svg.tag("text", text, class_=class_, x=_percent(share), y=y + 15 + lower)
        if self.has_gaps:
            yield svg.tag("text", "not asked", class_="tick end", x="100%", dx=10, y=y + 15)

    def _named(self) -> Iterator[tuple[float, str]]:
        labels = self.dimension.labels
        if labels:
            yield from ((self._part * (i + 0.5) / len(labels), as_typed(each)) for i, each in enumerate(labels))
        else:
            yield from (
                (self._part * self._scale.share(tick), text)
                for tick, text in zip(self._scale.ticks, self._scale.labels(), strict=True)
            )


def _scored(scale: AxisScale) -> Iterator[Markup]:
    """Yield the uppermost axis, of accuracy."""
    yield svg.tag("line", class_="axle", x1=0, x2="100%", y1=0, y2=0)
    yield svg.tag("text", "accuracy on val, %", class_="name", x=0, dx=-12, y=-14)
    for tick, text in zip(scale.ticks, scale.labels(), strict=True):
        yield svg.tag("text", text, class_="tick mid", x=scale.x(tick), y=15)


# Importances


def importances(search: SweepPageData) -> PageFigure:
    """Plot a row per dimension: its importance by each evaluator, as a bar and a number."""
    found = {name: shares for name, shares in search.importances.items() if shares}
    names = [each.name for each in search.ordered if any(each.name in shares for shares in found.values())]
    row, left = 26.0, 14 + LETTER * max(len(_clipped(name, NAME)) for name in names)
    most = max(share for shares in found.values() for share in shares.values()) or 1.0
    parts = []
    for column, (evaluator, shares) in enumerate(found.items()):
        parts.append(
            svg.tag("text", EVALUATORS.get(evaluator, evaluator), class_="axis", x=_percent(PAIR * column), y=-8)
        )
        for i, name in enumerate(names):
            if name in shares:
                parts += _bar(shares[name], most, PAIR * column, row * i, f"{name}, {evaluator}", column)
            else:
                parts.append(svg.tag("text", "–", class_="tick", x=_percent(PAIR * column), y=row * i + 15))
    for i, name in enumerate(names):
        title = svg.tag("title", name)
        parts.append(svg.tag("text", title, _clipped(name, NAME), class_="name end", x=0, dx=-10, y=row * i + 15))
    missing = [each.name for each in search.ordered if each.name not in names]
    caption = (
        "fANOVA: share of the variance over the whole space. PED-ANOVA: what tells the best tenth from the rest. They "
        "answer two questions, and may rank differently."
    )
    is_partial = any(name not in shares for shares in found.values() for name in names)
    caption += " –: not every trial was asked for it." if is_partial else ""
    caption += f" Not every trial was asked for: {', '.join(missing)}." if missing else ""
    words = "importances: " + "; ".join(f"{name} {share:.3f}" for name, share in next(iter(found.values())).items())
    return PageFigure("", svg.drawing(*parts, height=row * len(names), words=words, class_="bars", left=left), caption)


def _bar(share: float, most: float, x: float, y: float, words: str, column: int) -> Iterator[Markup]:
    width = BAR * share / most
    said = svg.tag("title", f"{words}: {share:.3f}")
    class_ = "share second" if column else "share"
    yield svg.tag("rect", said, class_=class_, x=_percent(x), y=y + 4, width=_percent(width), height=14)
    yield svg.tag("text", f"{share:.3f}", class_="tick", x=_percent(x + width), dx=5, y=y + 15)


# Words and samples


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _said(trial: TrialSummary) -> str:
    return f"{trial.name}: {points(trial.value)} %{_weight(trial)}"


def _weight(trial: TrialSummary) -> str:
    return "" if trial.parameters is None else f", {trial.parameters:,} parameters"


def _tick(x: str, y1: float, y2: float, words: str, class_: str = "") -> Markup:
    title = svg.tag("title", words) if words else Markup("")
    return svg.tag("line", title, class_=f"lane {class_}".strip(), x1=x, x2=x, y1=y1, y2=y2)


def _stroke(class_: str) -> Markup:
    return svg.tag("line", class_=class_, x1=0, x2=30, y1=8, y2=8)


def _sample(*marks: Markup, class_: str = "") -> Markup:
    """Return a sample of a line and mark for a legend."""
    return svg.tag("svg", *marks, class_=f"swatch {class_}".strip(), width=30, height=16, aria_hidden="true")
