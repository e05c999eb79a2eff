"""Families of claims: the difference claims that answer one question, whose intervals hold together at 95 %."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cifar_lab.ablation.ablation import Ablation, Claim, Metric
from cifar_lab.results.stats.group_sequential import moderated_at_looks
from cifar_lab.results.stats.history_prior import history_interval
from cifar_lab.results.stats.moderated import Family, moderated_intervals
from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE, per_comparison
from cifar_lab.results.stats.paired import Interval, Values
from cifar_lab.results.stats.replicates import differences_by_seed
from cifar_lab.store.invocation import VariancePrior

Pair = tuple[str, str]
"""Two variants in alphabetical order: their difference is the first less the second."""
FamilyKey = tuple[str, Metric]
"""Question and metric of a family."""


@dataclass(frozen=True, kw_only=True)
class ClaimFamily:
    """Difference claims that answer one question by one metric."""

    question: str
    metric: Metric
    claims: tuple[Claim, ...]

    @property
    def level(self) -> float:
        """Confidence of Student's interval of each claim, so that all of the family hold together (Šidák)."""
        return per_comparison(CONFIDENCE, len(self.claims))

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Distinct differences that the claims speak of, in order; claims that turn one around speak of the same."""
        return tuple(dict.fromkeys(pair_of(claim) for claim in self.claims))

    @property
    def kind(self) -> Family:
        """Return how the differences hang together: `control` if one variant is in all of them."""
        return "control" if set.intersection(*(set(pair) for pair in self.pairs)) else "any"

    def moderated(self, values: Mapping[str, Values], prior: VariancePrior | None = None) -> dict[Pair, Interval]:
        """Return the simultaneous intervals of the differences that have two seeds or more.

        Args:
            values: the metric by variant and seed.
            prior: that of a study with a single comparison, for which alone it is used.

        Returns:
            An entry for each difference; empty where Student's intervals serve: fewer than two vary, without a prior.
        """
        names = {_name(pair): pair for pair in self.pairs}
        differences = {name: list(own.values()) for name, own in self._differences(values).items()}
        if len(differences) == 1 and prior is not None:
            made = {name: history_interval(own, prior.variance, len(prior.fingerprints))
                    for name, own in differences.items()}  # fmt: skip
            return {names[name]: each.interval for name, each in made.items() if each is not None}
        return {names[name]: each.interval for name, each in moderated_intervals(differences, self.kind).items()}

    def moderated_at_looks(
        self, values: Mapping[str, Values], seen: Mapping[Pair, int], critical: Mapping[int, float]
    ) -> dict[Pair, Interval]:
        """Return the intervals of the differences under a stopping rule, each at its own last look.

        Args:
            values: the metric by variant and seed.
            seen: number of seeds at the last complete look of each pair; 0 for none.
            critical: the critical value of each look, by its number of seeds.
        """
        names, looks = {_name(pair): pair for pair in self.pairs}, {_name(pair): n for pair, n in seen.items()}
        made = moderated_at_looks(self._differences(values), looks, critical, self.kind)
        return {names[name]: each.interval for name, each in made.items()}

    def _differences(self, values: Mapping[str, Values]) -> dict[str, Values]:
        return {
            _name((first, second)): differences_by_seed(values.get(first, {}), values.get(second, {}))
            for first, second in self.pairs
        }


def _name(pair: Pair) -> str:
    return "/".join(pair)


def pair_of(claim: Claim) -> Pair:
    """Return the difference that a claim of two variants speaks of."""
    first, second = sorted(claim.variants)
    return first, second


def family_key(ablation: Ablation, claim: Claim) -> FamilyKey:
    """Return the question that a claim answers, with its metric: claims with the same key are one family.

    The question is the claim's `question`, in a chain that of the ablation (which of the stages differ is one search
    among all of them), else the statement that is quoted.
    """
    return claim.question or (ablation.question if ablation.chain else claim.quote), claim.metric


def claim_families(ablation: Ablation) -> dict[FamilyKey, ClaimFamily]:
    """Return the families of the difference claims of an ablation, by key, in the order of the claims."""
    grouped: dict[FamilyKey, list[Claim]] = {}
    for claim in ablation.claims:
        if claim.worse is not None:
            grouped.setdefault(family_key(ablation, claim), []).append(claim)
    return {
        (question, metric): ClaimFamily(question=question, metric=metric, claims=tuple(claims))
        for (question, metric), claims in grouped.items()
    }
