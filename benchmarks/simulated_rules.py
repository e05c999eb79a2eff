"""Estimate how often stopping rules err, and the coverage of a single comparison with a prior, in simulated studies.

    python benchmarks/simulated_rules.py --studies 100000      # markdown on standard output

Both have moderated intervals. The worlds are those that they are calibrated for (`results.stats.worlds.CLASS`), and
some outside. Boundaries, critical values, deviations and decisions are the product's own functions; what is computed in
blocks is first checked against its intervals, study by study and look by look.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import time
from collections.abc import Iterable, Sequence

import critical_values
import numpy as np
import scipy
from markdown_table import table
from simulation import averaged, error_of, intervals, is_wrong, percent, product_design

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import Ablation
from cifar_lab.results.claim_families import ClaimFamily, claim_families
from cifar_lab.results.stats.decision import decide_verdict
from cifar_lab.results.stats.factorial import CONTRASTS
from cifar_lab.results.stats.group_sequential import (
    last_look_widening,
    levels,
    looks,
    moderated_at_looks,
    moderated_boundaries,
    other_critical,
)  # fmt: skip
from cifar_lab.results.stats.history_prior import history_critical_value, history_interval
from cifar_lab.results.stats.moderated import Family, family_of, moderated_seeds_needed, moderated_variances
from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE
from cifar_lab.results.stats.paired import student
from cifar_lab.results.stats.power import seeds_needed
from cifar_lab.results.stats.sequential_power import (
    BETTER,
    VERDICTS,
    LookDesign,
    decide_at_looks,
    decide_by_moments,
    moments_at_looks,
)  # fmt: skip
from cifar_lab.results.stats.worlds import CLASS, FAMILIES, NullWorld

_SEED = 20261128  # not one that the product or its calibration draws with
SCENARIOS: tuple[tuple[str, float], ...] = (
    ("none", 0.0), ("none", 1.5), ("none", 3.0), ("one by 5", 0.0), ("one by 5", 1.5), ("all by the margin", 1.5),
    ("all by the margin", 3.0),
)  # fmt: skip
"""True differences, and the margin, in deviations of a cell."""
OUTSIDE = (
    NullWorld(deviations="first × 5", correlation=0.0),
    NullWorld(deviations="second × 5", correlation=0.0),
    NullWorld(deviations="second × 3", correlation=0.9),
    NullWorld(deviations="log-normal 1", correlation=0.0),
    NullWorld(deviations="equal", correlation=0.0, shape="t3"),
    NullWorld(deviations="equal", correlation=0.0, shape="exponential"),
)
"""Worlds outside the class that intervals are calibrated for."""


def truth_of(scenario: str, margin: float, comparisons: int) -> np.ndarray:
    """Return the true difference of each comparison."""
    truth = np.full(comparisons, margin if scenario == "all by the margin" else 0.0)
    if scenario == "one by 5":
        truth[-1] = 5.0
    return truth


def rule_errors(kind: str, world: NullWorld, plan: tuple[int, ...], comparisons: int, studies: int) -> dict[str, float]:
    """Estimate the share of studies with a false verdict under a rule that starts now, by scenario.

    `kind`: of `FAMILIES`; the same studies serve all scenarios.
    """
    arms, pick = FAMILIES[kind]
    design = product_design(plan, comparisons, "control" if kind == "control" else "any")

    def measure(block: int, random: np.random.Generator) -> list[float]:
        drawn = pick(world.draw(block, arms(comparisons), plan[-1], random)).astype(float)
        means, variances = moments_at_looks(drawn, plan)
        shares = []
        for scenario, margin in SCENARIOS:
            truth = truth_of(scenario, margin, comparisons)
            decided, _ = decide_by_moments(means + truth, variances, design, margin)
            shares.append(is_wrong(decided, truth, margin).any(1).mean())
        return shares

    worlds = (*CLASS, *OUTSIDE)
    key = (6, list(FAMILIES).index(kind), worlds.index(world), plan[-1], comparisons)
    return dict(zip((f"{s}, margin {m:g}" for s, m in SCENARIOS), averaged(measure, studies, *key), strict=True))


def check_rule(plan: tuple[int, ...] = (5, 8, 12), comparisons: int = 4, studies: int = 100) -> None:
    """Check that the product's functions, study by study and look by look, decide as the simulated blocks do.

    Raises:
        AssertionError: they do not.
    """
    world, random = NullWorld(deviations="log-normal 0.5", correlation=0.0), np.random.default_rng(_SEED)
    truth, margin = np.array([0.0, 1.0, 3.0, 0.0])[:comparisons], 2.0
    drawn = FAMILIES["control"][1](world.draw(studies, comparisons + 1, plan[-1], random)).astype(float)
    drawn += truth[:, None]
    design = product_design(plan, comparisons, "control")
    decided, pairs = decide_at_looks(drawn, design, margin)
    critical = dict(zip(design.looks, design.critical, strict=True))
    for study in range(studies):
        values = {str(j): dict(enumerate(each.tolist())) for j, each in enumerate(drawn[study])}
        seen, said = dict.fromkeys(values, 0), dict.fromkeys(values, "undecided")
        for n in plan:
            seen |= {name: n for name, verdict in said.items() if verdict == "undecided"}
            made = moderated_at_looks(values, seen, critical, "control")
            said = {name: str(decide_verdict(made[name].interval, margin)) for name in values}
        assert [VERDICTS[i] for i in decided[study]] == list(said.values()), study
        assert pairs[study].tolist() == list(seen.values()), study


def outside_looks(
    differences: np.ndarray, truth: np.ndarray, seeds: np.ndarray, plan: tuple[int, ...], critical: Sequence[float]
) -> np.ndarray:
    """Tell for each study whether the interval of any difference excludes the truth at any look that it takes.

    Args:
        differences: of seeds (studies, k, seeds).
        truth: true differences, (k,).
        seeds: number of seeds that each difference has in the end, (studies, k).
        plan: number of seeds at each look.
        critical: critical value of each look.
    """
    means, variances = moments_at_looks(differences, plan)
    frozen, wrong = variances[0].copy(), np.zeros(len(differences), dtype=bool)
    for n, mean, own, value in zip(plan, means, variances, critical, strict=True):
        takes = seeds >= n
        frozen[takes] = own[takes]
        half = value * np.sqrt(moderated_variances(frozen, np.minimum(n, seeds) - 1.0) / n)
        wrong |= (takes & (np.abs(mean - truth) > half)).any(axis=1)
    return wrong


def effects_of(arms: np.ndarray) -> np.ndarray:
    """Return the main effects and half of the interaction of a 2 × 2 study, (studies, 3, seeds), of its four arms."""
    neither, first, second, both = np.moveaxis(arms, 1, 0)
    alone, beside = first - neither, both - second
    return np.stack([(alone + beside) / 2, ((second - neither) + (both - first)) / 2, (beside - alone) / 2], axis=1)


def effect_error(world: NullWorld, plan: tuple[int, ...], studies: int) -> float:
    """Estimate the share of 2 × 2 studies in which the interval of any effect excludes the truth at any look."""
    critical = product_design(plan, CONTRASTS, "control").critical

    def measure(block: int, random: np.random.Generator) -> list[float]:
        effects = effects_of(world.draw(block, 4, plan[-1], random)).astype(float)
        seeds = np.full(effects.shape[:2], plan[-1])
        return [outside_looks(effects, np.zeros(3), seeds, plan, critical).mean()]

    return float(averaged(measure, studies, 8, (*CLASS, *OUTSIDE).index(world), plan[-1])[0])


def claim_error(
    ablation: Ablation, family: ClaimFamily, world: NullWorld, plan: tuple[int, ...], studies: int
) -> dict[str, float]:
    """Estimate the share of studies in which the interval of any claim of a question excludes the truth at any look.

    The rule decides the rows of the table, and so the seeds of each arm; a claim takes the looks that both of its
    variants take. By scenario; in `one by 5` it is the last variant that differs.
    """
    names, rows = [variant.name for variant in ablation.variants], compared_rows(ablation)
    names.sort(key=lambda name: name != ablation.control)
    kind = family_of(other for _, other in rows)
    design = product_design(plan, len(rows), kind)
    mine, others, first, second = (
        [names.index(pair[side]) for pair in pairs] for pairs in (rows, family.pairs) for side in (0, 1)
    )
    cases = [case for case in SCENARIOS if case[0] != "all by the margin"]

    def measure(block: int, random: np.random.Generator) -> list[float]:
        null, shares = world.draw(block, len(names), plan[-1], random).astype(float), []
        for scenario, margin in cases:
            shift = truth_of(scenario, margin, len(names))
            arms = null + shift[:, None]
            _, taken = decide_at_looks(arms[:, mine] - arms[:, others], design, margin)
            of_arms = np.zeros(arms.shape[:2], dtype=int)
            for row, ends in enumerate(zip(mine, others, strict=True)):
                for arm in ends:
                    of_arms[:, arm] = np.maximum(of_arms[:, arm], taken[:, row])
            seeds = np.minimum(of_arms[:, first], of_arms[:, second])
            claims = arms[:, first] - arms[:, second]
            shares.append(outside_looks(claims, shift[first] - shift[second], seeds, plan, design.critical).mean())
        return shares

    key = (9, len(rows), len(family.pairs), (*CLASS, *OUTSIDE).index(world), plan[-1])
    return dict(zip((f"{s}, margin {m:g}" for s, m in cases), averaged(measure, studies, *key), strict=True))


def compared_rows(ablation: Ablation) -> list[tuple[str, str]]:
    """Return each variant of an ablation with the one that it is compared with."""
    against = {variant.name: ablation.compared_with(variant.name) for variant in ablation.variants}
    return [(name, other) for name, other in against.items() if other is not None]


def served_families(plan: tuple[int, ...]) -> Iterable[tuple[Ablation, ClaimFamily]]:
    """Yield the questions of the built-in claims that a rule's critical values serve; each shape once."""
    shapes = set()
    for ablation in registry.discover():
        rows = compared_rows(ablation)
        for family in claim_families(ablation).values():
            own, other = (len(rows), family_of(b for _, b in rows)), (len(family.pairs), family.kind)
            if own[0] < 2 or (own, other) in shapes:
                continue
            shapes.add((own, other))
            critical = product_design(plan, *own).critical
            if other_critical(tuple(zip(plan, critical, strict=True)), own, other, 1 - CONFIDENCE):
                yield ablation, family


def half_widths(plan: tuple[int, ...], own: tuple[int, Family], k: int) -> str:
    """Return how wide the moderated intervals of k differences are at each look, over Student's: equal deviations."""
    random, critical = np.random.default_rng(_SEED), product_design(plan, *own).critical
    drawn = FAMILIES["control"][1](CLASS[0].draw(20_000, k + 1, plan[-1], random)).astype(float)
    shown = []
    for n, value, level in zip(plan, critical, levels(plan, error_of(k)), strict=True):
        own_variances = drawn[..., :n].var(axis=-1, ddof=1)
        moderated = value * np.sqrt(moderated_variances(own_variances, n - 1.0) / n).mean()
        shown.append(f"{moderated / (student(0.0, 1.0, n, level)[1] * np.sqrt(own_variances).mean()):.2f}")
    return ", ".join(shown)


def others_table(studies: int) -> Iterable[str]:
    def worst(found: Iterable[tuple[float, str]]) -> list[str]:
        share, where = max(found)
        return [percent(share), where]

    def effects(plan: tuple[int, ...]) -> list[object]:
        shown = [
            worst((effect_error(world, plan, studies), title(world)) for world in some) for some in (CLASS, OUTSIDE)
        ]
        return ["effects of a 2 × 2 study", 3, plan[-1], *shown[0], *shown[1], half_widths(plan, (3, "control"), 3)]

    def claims(plan: tuple[int, ...], ablation: Ablation, family: ClaimFamily) -> list[object]:
        shown = [
            worst(
                (share, f"{title(world)}; {scenario}")
                for world in some
                for scenario, share in claim_error(ablation, family, world, plan, studies).items()
            )
            for some in (CLASS, OUTSIDE)
        ]
        rows = compared_rows(ablation)
        own, k = (len(rows), family_of(other for _, other in rows)), len(family.pairs)
        name = f"{k} claims of {len(rows)} differences ({ablation.name})"
        return [name, k, plan[-1], *shown[0], *shown[1], half_widths(plan, own, k)]

    plan = looks(12)
    cases = itertools.chain([effects(plan)], (claims(plan, *each) for each in served_families(plan)))
    heading = (
        "intervals",
        "k",
        "K",
        "wrong, worst of the class",
        "where",
        "worst outside",
        "where",
        "width over Student's",
    )
    return table(heading, cases)


def title(world: NullWorld) -> str:
    return f"{world.deviations}, {world.correlation:g} {world.shape}".removesuffix(" normal")


def history_coverage(world: NullWorld, pairs: int, cells: int, studies: int) -> tuple[float, float]:
    """Estimate the coverage of one comparison with a prior of earlier cells, and its width over Student's.

    The coverage is the lower of two: the control's seeds are among the earlier cells, or none of them is.
    """
    critical = history_critical_value(pairs, cells)

    def measure(block: int, random: np.random.Generator) -> list[float]:
        shares = critical_values.history_statistics(world, [cells], [pairs], block, random)[pairs][0]
        return [(each <= critical).mean() for each in shares]

    worlds = (*CLASS, *OUTSIDE)
    coverages = averaged(measure, studies, 7, worlds.index(world), pairs, cells)
    control, variant = world.draw(4000, 2, cells, np.random.default_rng(_SEED)).astype(float).transpose(1, 0, 2)
    own = (variant - control)[:, :pairs]
    before = control.var(axis=1, ddof=1)
    made = [history_interval(d.tolist(), float(v), cells) for d, v in zip(own, before, strict=True)]
    width = np.mean([each.interval[1] - each.interval[0] for each in made if each is not None])
    low, high = intervals(own, CONFIDENCE)
    return float(coverages.min()), float(width / (high - low).mean())


def rule_table(studies: int) -> Iterable[str]:
    def row(kind: str, k: int, most: int) -> list[object]:
        shares: list[object] = []
        for worlds in (CLASS, OUTSIDE):
            found = [
                (share, scenario, title(world))
                for world in worlds
                for scenario, share in rule_errors(kind, world, looks(most), k, studies).items()
            ]
            share, scenario, name = max(found)
            shares += [percent(share), f"{name}; {scenario}"]
        return [kind, k, most, *shares]

    shapes = [("control", 2), ("control", 4), ("control", 7), ("chain", 4), ("chain", 8), ("disjoint", 4)]
    cases = (row(kind, k, most) for kind, k in shapes for most in (12, 20))
    return table(("family", "k", "K", "wrong, worst of the class", "where", "worst outside", "where"), cases)


def history_table(studies: int) -> Iterable[str]:
    def row(world: NullWorld) -> list[object]:
        shown = []
        for pairs, cells in itertools.product((2, 3), (5, 10, 20)):
            share, width = history_coverage(world, pairs, cells, studies)
            shown.append(f"{percent(share)} ({width:.2f})")
        shape = "" if world.shape == "normal" else f", {world.shape}"
        return ["class" if world in CLASS else "outside", f"{world.deviations}{shape}", world.correlation, *shown]

    heading = (f"n = {n}, m = {m}" for n, m in itertools.product((2, 3), (5, 10, 20)))
    return table(("", "deviations", "correlation", *heading), map(row, (*CLASS, *OUTSIDE)))


def seeds_table(studies: int) -> Iterable[str]:
    """Yield how often a rule shows a difference whose K is what the column `seeds` says, for one look and for the last.

    A single difference has deviations of 1 and Student's interval; of four against one control, with a deviation of 1
    for each cell, the first differs.
    """
    rng, plan = np.random.default_rng(_SEED), looks(20)

    def row(k: int, effect: float, seeds: str, most: int | None) -> list[object]:
        assert most is not None, "these differences are large enough for some number of seeds"
        own = looks(most)
        cells = rng.standard_normal((studies, k + 1, most))
        differences = cells[:, 1:] if k == 1 else cells[:, 1:] - cells[:, :1]
        differences[:, 0] += effect
        design = (LookDesign(looks=own, levels=levels(own, 1 - CONFIDENCE)) if k == 1 else
                  LookDesign(looks=own, critical=moderated_boundaries(own, k, "control", 1 - CONFIDENCE)))  # fmt: skip
        verdicts, _ = decide_at_looks(differences, design, 0.0)
        return [k, effect, seeds, most, percent((verdicts[:, 0] == BETTER).mean())]

    wider = last_look_widening(plan, moderated_boundaries(plan, 4, "control", 1 - CONFIDENCE), 4, "control")
    last = levels(plan, 1 - CONFIDENCE)[-1]
    one = [row(1, effect, said, seeds_needed(effect, 1.0, level))
           for effect in (0.5, 0.8) for said, level in (("one look", CONFIDENCE), ("last look", last))]  # fmt: skip
    four = [row(4, effect, said, moderated_seeds_needed(effect, 2**0.5, 4, wider=factor))
            for effect in (0.8, 1.2) for said, factor in (("one look", 1.0), ("last look", wider))]  # fmt: skip
    return table(("k", "difference", "seeds of", "K", "shown"), [*one, *four])


TABLES = {
    "Seeds that a rule needs: studies that show a difference": seeds_table,
    "Effects and claims under a rule: studies in which any interval excludes the truth at any look": others_table,
    "Stopping rules with moderated intervals: studies with a false verdict": rule_table,
    "One comparison with a prior: coverage (mean width over Student's)": history_table,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100_000, help="simulated studies behind each number")
    parser.add_argument("--only", default="", help="only tables with these words in their title")
    options = parser.parse_args()
    begun = time.perf_counter()
    check_rule()
    print(f"{options.studies:,} simulated studies a number, all in %")
    for heading, lines in TABLES.items():
        if options.only.lower() not in heading.lower():
            continue
        print(f"\n## {heading}\n")
        for line in lines(options.studies):
            print(line, flush=True)
    versions = f"python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}"
    print(f"\n{versions}; {time.perf_counter() - begun:,.0f} s on {platform.machine()}")


if __name__ == "__main__":
    main()
