"""Declarations of ablations: a baseline recipe, factors, variants as minimal diffs, seeds, claims.

An ablation is data. It is validated when created, so that a file that imports is a study that can be run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictInt, model_validator

from cifar_lab.ablation.claim import LESS_IS_BETTER as LESS_IS_BETTER
from cifar_lab.ablation.claim import METRICS as METRICS
from cifar_lab.ablation.claim import Claim as Claim
from cifar_lab.ablation.claim import Metric as Metric
from cifar_lab.ablation.declaration import Declaration, Name
from cifar_lab.config.baselines import EFFICIENT_RESNET, FAST, RESNET18
from cifar_lab.config.distillation_config import why_no_teacher
from cifar_lab.config.overrides import format_overrides
from cifar_lab.config.plain_values import plain
from cifar_lab.config.recipe import Recipe, paths
from cifar_lab.errors import AblationError, RecipeError, UsageError, nearest

Seeds = Annotated[tuple[StrictInt, ...], BeforeValidator(plain)]


class Variant(Declaration):
    """Named minimal diff on the baseline; an empty diff is the baseline itself."""

    name: Name
    diff: Annotated[dict[str, Any], AfterValidator(plain)] = Field(default_factory=dict)
    over_budget: StrictBool = False
    """True if declared to exceed the budget, and trained for reference."""
    base: Name | None = None
    """Earlier variant that `diff` is relative to; None: the one that it continues, else the baseline."""
    continues: Name | None = None
    """Earlier variant from whose final weights, of the same seed, the training starts; None: from scratch."""
    distills_from: Name | tuple[Name, ...] = ()
    """Earlier variant that is the teacher of a distillation, or several that are so together; empty: no teacher."""
    teacher_seeds: Seeds = ()
    """Seeds of the teachers, which then teach every seed of this variant together; empty: the student's own seed."""

    @property
    def teachers(self) -> tuple[str, ...]:
        """Return the names of the variants in `distills_from`."""
        return (self.distills_from,) if isinstance(self.distills_from, str) else self.distills_from

    @property
    def origins(self) -> list[object]:
        """Return what it continues and learns from, as JSON: other origins make one recipe another training."""
        return [self.continues, sorted(self.teachers), sorted(self.teacher_seeds)]


MARGINS = {"smoke": 2.0, "small": 0.5, "writeup": 0.2}
"""Default equivalence margin by scale, in percentage points of accuracy."""


class NamedBaseline(NamedTuple):
    """Baseline recipe with the title that texts give it."""

    title: str
    recipe: Recipe


BASELINES = {
    "efficient": NamedBaseline("Efficient ResNet", EFFICIENT_RESNET),
    "resnet18": NamedBaseline("ResNet-18", RESNET18),
    "fast": NamedBaseline("fast recipe", FAST),
}
"""The writeup's two baselines, of its Table 1 and of its stage 1, and a version of the former for few epochs."""


def find_baseline(name: str) -> Recipe:
    """Return the baseline recipe of this name, `efficient`.

    Raises:
        UsageError: there is none.
    """
    if name not in BASELINES:
        raise UsageError(f"no baseline named '{name}'{nearest(name, BASELINES)}")
    return BASELINES[name].recipe


class FactorialDesign(Declaration):
    """2 × 2 study: two factors, each as in the control or changed."""

    factors: tuple[str, str]
    variants: tuple[Name, Name, Name, Name]
    """Neither changed (the control), the first, the second, both."""


class Ablation(Declaration):
    """A baseline, the factors that vary, the variants, and the control that they are compared with.

    Raises:
        AblationError: unknown path or factor, wrong type or range, a factor without variation, a variant that
            changes a path outside the factors, two variants that resolve to one recipe, a control or claim that names
            no variant, a stage that is based on a later one or continues a training of another network, a
            teacher without a weight or of other images.
    """

    name: str = ""
    """Name of its file; set by the registry."""
    doc: str = ""
    """Docstring of its file; set by the registry."""
    question: str
    source: str
    baseline: Recipe
    factors: tuple[str, ...]
    variants: tuple[Variant, ...]
    control: str
    chain: StrictBool = False
    """True if the variants are stages: the first is the control, and each other is compared with the one before."""
    seeds: Seeds = (0, 1, 2)
    claims: tuple[Claim, ...] = ()
    margins: dict[Literal["smoke", "small", "writeup"], Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Equivalence margin by scale, in percentage points of accuracy; empty: `MARGINS`."""

    @model_validator(mode="after")
    def _is_a_minimal_study(self) -> Self:
        names = [variant.name for variant in self.variants]
        self.require_distinct("variant", names)
        self.require_distinct("seed", self.seeds)
        if any(seed < 0 for seed in self.seeds) or not self.seeds:
            raise AblationError(f"seeds are integers from 0 up, got {list(self.seeds)}")
        _require_known("control", self.control, names)
        if self.chain and self.control != names[0]:
            raise AblationError(f"the control of a chain is its first stage, '{names[0]}', not '{self.control}'")
        self.require_distinct("factor", self.factors)
        for factor in self.factors:
            _require_known("factor", factor, paths())
        for name in [name for claim in self.claims for name in claim.variants]:
            _require_known("claim about a variant", name, names)
        for claim in self.claims:
            self._require_other_settings(claim)
        self._check_diffs()
        for factor in self.factors:
            if not any(factor in variant.diff for variant in self.variants):
                raise AblationError(f"factor '{factor}' is varied by no variant")
        return self

    def _check_diffs(self) -> None:
        made: dict[tuple[str, ...], str] = {}
        for i, variant in enumerate(self.variants):
            earlier = [other.name for other in self.variants[:i]]
            for word, name in (("is based on", variant.base), ("continues", variant.continues)):
                if name is not None:
                    _require_known(f"variant '{variant.name}' {word} an earlier variant:", name, earlier)
            self._require_factors(variant)
            self._require_teachers(variant, earlier)
            try:
                recipe = self.recipe(variant.name)
            except RecipeError as error:
                raise AblationError(f"variant '{variant.name}': {error}") from error
            if variant.continues and _weights(recipe) != _weights(self.recipe(variant.continues)):
                raise AblationError(f"variant '{variant.name}' continues '{variant.continues}' with another network")
            self._require_teachable(variant, recipe)
            descent = (variant.name, *self.ancestors(variant.name))
            lineage = tuple(part for name in descent for part in (self.recipe(name).digest(), self._taught_by(name)))
            if lineage in made:
                raise AblationError(f"variants '{made[lineage]}' and '{variant.name}' resolve to the same recipe")
            made[lineage] = variant.name

    def _require_teachers(self, variant: Variant, earlier: list[str]) -> None:
        """Check that the teachers of a variant are earlier ones, named once each, and that their seeds are valid."""
        what = f"variant '{variant.name}' distills from"
        for name in variant.teachers:
            _require_known(f"{what} an earlier variant:", name, earlier)
        self.require_distinct(f"{what} variant", variant.teachers)
        self.require_distinct(f"{what} seed", variant.teacher_seeds)
        if variant.teacher_seeds and not variant.teachers:
            raise AblationError(f"variant '{variant.name}' has teacher_seeds without a teacher, distills_from=…")
        if any(seed < 0 for seed in variant.teacher_seeds):
            raise AblationError(f"{what} seeds {list(variant.teacher_seeds)}; seeds are integers from 0 up")

    def _require_teachable(self, variant: Variant, recipe: Recipe) -> None:
        """Check that the recipe of a variant with teachers uses them, and that they see the images that it sees."""
        distill = recipe.train.distill
        for name in variant.teachers:
            said = f"variant '{variant.name}' distills from '{name}'"
            if not distill.weight:
                raise AblationError(f"{said} with train.distill.weight=0; give it a weight above 0")
            if distill.teacher:
                raise AblationError(f"{said} and has train.distill.teacher too; leave one of them out")
            if (why := why_no_teacher(self.recipe(name), recipe)) is not None:
                raise AblationError(f"{said}, which cannot be: {why}")

    def _taught_by(self, variant: str) -> str:
        """Return the recipes of the teachers of a variant, and their seeds: two variants may differ in them alone."""
        chosen = self.variant(variant)
        recipes = sorted(f"{self.recipe(name).digest()} {self._taught_by(name)}" for name in chosen.teachers)
        return f"{recipes} {sorted(chosen.teacher_seeds)}" if recipes else ""

    def _require_other_settings(self, claim: Claim) -> None:
        """Check that `under` holds settings that the baseline may have, but has not."""
        said = f"claim '{claim.compares}'"
        try:
            made, own = self.baseline.override(claim.under).flat(), self.baseline.flat()
        except RecipeError as error:
            raise AblationError(f"{said}: under: {error}") from error
        for path in claim.under:
            if made[path] == own[path]:
                raise AblationError(f"{said}: under: the baseline has {format_overrides({path: own[path]})} already")

    def _require_factors(self, variant: Variant) -> None:
        for path in variant.diff:
            if path not in self.factors and path in paths():
                raise AblationError(
                    f"variant '{variant.name}' touches '{path}', which is not a declared factor"
                    f"{nearest(path, self.factors)}"
                )

    @property
    def based_on(self) -> tuple[str, dict[str, Any]]:
        """Return the known baseline that its own is nearest to, and the differences from it."""
        diffs = {title: published.changes_to(self.baseline) for title, published in BASELINES.values()}
        return min(diffs.items(), key=lambda named: len(named[1]))

    @property
    def baseline_in_words(self) -> str:
        """Return `ResNet-18 with schedule.name=cosine`."""
        name, diff = self.based_on
        return f"{name} with {format_overrides(diff)}" if diff else name

    def __repr__(self) -> str:
        names = [f"{each.name} (control)" if each.name == self.control else each.name for each in self.variants]
        varied = ", ".join(self.factors) or "nothing"
        return f"<Ablation {self.name or 'without a name'}: varies {varied}; variants {', '.join(names)}>"

    __str__ = __repr__

    def variant(self, name: str) -> Variant:
        """Return the variant of this name.

        Raises:
            AblationError: there is none.
        """
        _require_known(f"{self.name or 'ablation'}: variant", name, [variant.name for variant in self.variants])
        return next(variant for variant in self.variants if variant.name == name)

    def recipe(self, variant: str) -> Recipe:
        """Return the declared recipe of a variant: the baseline, or the variant that it is based on, with its diff."""
        chosen = self.variant(variant)
        base = chosen.base or chosen.continues
        return (self.recipe(base) if base else self.baseline).override(chosen.diff)

    def ancestors(self, variant: str) -> tuple[str, ...]:
        """Return the variants whose weights it descends from, the nearest first."""
        parent = self.variant(variant).continues
        return (parent, *self.ancestors(parent)) if parent else ()

    def needed(self, variant: str) -> tuple[str, ...]:
        """Return the variants that must be trained before it, which it continues or learns from, each after its own."""
        chosen = self.variant(variant)
        parents = (*((chosen.continues,) if chosen.continues else ()), *chosen.teachers)
        return tuple(dict.fromkeys(name for parent in parents for name in (*self.needed(parent), parent)))

    def compared_with(self, variant: str) -> str | None:
        """Return the variant to compare with: the control, in a chain the stage before; None for the control."""
        names = [other.name for other in self.variants]
        if self.variant(variant).name == self.control:
            return None
        return names[names.index(variant) - 1] if self.chain else self.control

    def margin(self, scale: str) -> float:
        """Return the equivalence margin at `scale` (`small`, `small/5`), as a fraction of accuracy."""
        name: Any = scale.partition("/")[0]
        return self.margins.get(name, MARGINS[name]) / 100

    def crossing(self) -> FactorialDesign | None:
        """Return the 2 × 2 study that this is; None if it is not one."""
        if len(self.factors) != 2 or len(self.variants) != 4 or self.chain:
            return None
        control, one, two = self.recipe(self.control).flat(), *self.factors
        changed: dict[tuple[bool, bool], str] = {}
        for variant in self.variants:
            flat = self.recipe(variant.name).flat()
            changed[flat[one] != control[one], flat[two] != control[two]] = variant.name
        order = [(False, False), (True, False), (False, True), (True, True)]
        values = [{self.recipe(v.name).flat()[factor] for v in self.variants} for factor in self.factors]
        if set(changed) != set(order) or any(len(found) != 2 for found in values):
            return None
        a, b, c, d = (changed[key] for key in order)
        return FactorialDesign(factors=(one, two), variants=(a, b, c, d))


def taught_by(teachers: Sequence[str], seeds: Sequence[int]) -> str:
    """Return `distills from wide`, or `distills from wide of seeds 0, 1, 2` if the teachers have fixed `seeds`."""
    named = f" of {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}" if seeds else ""
    return f"distills from {', '.join(teachers)}{named}"


def _weights(recipe: Recipe) -> object:
    """Return the fields that determine the shapes of a network's weights."""
    return recipe.override({"model.dropout": 0.0}).active()["model"]


def _require_known(what: str, name: str, valid: Iterable[str]) -> None:
    valid = list(valid)
    if name not in valid:
        raise AblationError(f"{what} '{name}' is not there{nearest(name, valid)}")


def single_recipe(name: str, recipe: Recipe, source: str) -> Ablation:
    """Return the ablation of one variant, `name`, under which a recipe is trained alone; `source`: who asked for it."""
    return Ablation(
        name="train",
        question="single recipes, trained by hand",
        source=source,
        baseline=recipe,
        factors=(),
        variants=(Variant(name=name),),
        control=name,
    )
