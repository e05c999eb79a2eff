"""An ablation is checked when it is made: whatever is not a minimal diff is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cifar_lab.ablation.ablation import Ablation, Claim, Variant
from cifar_lab.config.baselines import EFFICIENT_RESNET, RESNET18
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import AblationError

REDUCTION = "model.se.reduction"
R4 = {REDUCTION: 4}


def variants(**diffs: dict[str, Any]) -> tuple[Variant, ...]:
    return tuple(Variant(name=name, diff=diff) for name, diff in diffs.items())


def study(**changed: Any) -> Ablation:
    """SE with reduction 16 (the control) and 4, with `changed` fields."""
    fields: dict[str, Any] = {
        "question": "Which reduction?",
        "source": "a paper",
        "baseline": EFFICIENT_RESNET,
        "factors": (REDUCTION,),
        "variants": variants(r16={}, r4=R4),
        "control": "r16",
    }
    return Ablation(**(fields | changed))


def claim(better: str = "r16", worse: str | None = "r4", **more: Any) -> Claim:
    return Claim(quote="lower", source="stage 9", better=better, worse=worse, **more)


def refusal(**changed: Any) -> str:
    """The message that the study with `changed` is refused with: one line."""
    with pytest.raises(AblationError) as caught:
        study(**changed)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


# What it holds


def test_a_variant_is_the_baseline_with_its_diff() -> None:
    assert study().recipe("r16") == EFFICIENT_RESNET
    assert study().recipe("r4") == EFFICIENT_RESNET.override(R4)
    assert study(baseline=RESNET18, factors=(), variants=variants(r16={})).recipe("r16") == RESNET18


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        (EFFICIENT_RESNET, "Efficient ResNet"),
        (RESNET18, "ResNet-18"),
        (RESNET18.override({"schedule.name": "cosine"}), "ResNet-18 with schedule.name=cosine"),
        (
            EFFICIENT_RESNET.override({"train.epochs": 30, "model.blocks": (4, 3)}),
            "Efficient ResNet with 'model.blocks=[4,3]' train.epochs=30",
        ),
    ],
)
def test_a_baseline_is_named_after_the_published_one_that_it_is_nearest_to(baseline: Recipe, words: str) -> None:
    assert study(baseline=baseline, factors=(), variants=variants(r16={})).baseline_in_words == words


def test_seeds_are_0_to_2_and_claims_none_unless_given() -> None:
    assert (study().seeds, study().claims) == ((0, 1, 2), ())


def test_a_study_of_one_variant_and_no_factor_is_a_yardstick() -> None:
    assert study(factors=(), variants=variants(r16={})).recipe("r16") == Recipe()


def test_a_variant_may_vary_several_factors() -> None:
    pair = {"model.se.placement": "block", REDUCTION: 8}
    made = study(factors=("model.se.placement", REDUCTION), variants=variants(r16={}, b8=pair))
    assert made.recipe("b8").model.se.hidden(64) == 8


def test_claims_about_variants_that_are_there_are_kept() -> None:
    claims = (claim(size=0.3), claim(worse=None, relation="reaches", accuracy=97.08))
    assert study(claims=claims).claims == claims


def test_a_study_is_frozen() -> None:
    for literal, name in ((study(), "control"), (study().variants[0], "name"), (claim(), "better")):
        with pytest.raises(ValidationError):
            setattr(literal, name, "r4")


def test_two_variants_without_a_diff_do_not_share_one() -> None:
    assert Variant(name="a").diff is not Variant(name="b").diff


# What a diff may not be


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("model.se.reductoin", REDUCTION),
        ("se.reduction", REDUCTION),
        ("model.se", REDUCTION),
        ("lr", "optim.lr"),
    ],
)
def test_an_unknown_path_in_a_diff_is_refused_with_the_nearest(typed: str, meant: str) -> None:
    message = refusal(variants=variants(r16={}, r4={typed: 4}))
    assert "'r4'" in message
    assert f"'{typed}'" in message
    assert meant in message


@pytest.mark.parametrize(
    ("value", "shown"),
    [("4", '"4"'), (True, "true"), (4.0, "4.0"), (None, "null"), (0, "0"), (-4, "-4"), ([4], "[4]")],
)
def test_a_wrong_type_or_range_in_a_diff_is_refused_by_variant_path_and_value(value: Any, shown: str) -> None:
    message = refusal(variants=variants(r16={}, r4={REDUCTION: value}))
    assert "'r4'" in message
    assert f"{REDUCTION}={shown}" in message


def test_a_name_in_a_diff_that_is_none_of_its_values_is_refused_with_the_nearest() -> None:
    message = refusal(factors=("optim.name",), variants=variants(r16={}, adam={"optim.name": "adm"}))
    assert "did you mean 'adam'?" in message


def test_a_value_that_json_cannot_say_is_refused() -> None:
    assert "'r4'" in refusal(variants=variants(r16={}, r4={REDUCTION: {4}}))


def test_a_path_outside_the_declared_factors_is_refused_with_the_nearest_factor() -> None:
    message = refusal(variants=variants(r16={}, none={"model.se.placement": "none"}))
    assert "'none'" in message
    assert "'model.se.placement'" in message
    assert f"did you mean '{REDUCTION}'?" in message


def test_a_diff_that_touches_one_factor_and_one_path_outside_is_refused() -> None:
    assert "optim.lr" in refusal(variants=variants(r16={}, r4={**R4, "optim.lr": 0.05}))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {REDUCTION: 16}),
        ({}, {}),
        (R4, dict(R4)),
        ({"model.se.placement": "none"}, {"model.se.placement": "none", REDUCTION: 4}),
        ({"model.kernel": 3}, {"model.kernel": [3, 3, 3]}),
    ],
    ids=["the default said aloud", "both empty", "both alike", "an inactive field", "two spellings"],
)
def test_two_variants_that_resolve_to_one_recipe_are_refused_naming_both(first: Any, second: Any) -> None:
    factors = (REDUCTION, "model.se.placement", "model.kernel")
    message = refusal(factors=factors, variants=variants(one=first, two=second), control="one")
    assert "'one'" in message
    assert "'two'" in message


# What names nothing


@pytest.mark.parametrize(("better", "worse", "lost"), [("r61", "r4", "r61"), ("r16", "r44", "r44")])
def test_a_claim_about_a_variant_that_is_not_there_is_refused_with_the_nearest(
    better: str, worse: str, lost: str
) -> None:
    message = refusal(claims=(claim(), claim(better=better, worse=worse)))
    assert f"'{lost}'" in message
    assert "did you mean 'r" in message


def test_a_control_that_is_not_there_is_refused_with_the_nearest() -> None:
    assert "'r8'" in refusal(control="r8")
    assert "did you mean 'r16'?" in refusal(control="R16")


def test_a_factor_that_is_no_path_is_refused_with_the_nearest() -> None:
    message = refusal(factors=(REDUCTION, "model.se.plaecment"))
    assert "'model.se.plaecment'" in message
    assert "did you mean 'model.se.placement'?" in message


def test_asking_for_a_variant_that_is_not_there_names_study_and_nearest() -> None:
    named = study().model_copy(update={"name": "se_ratio"})
    for ask in (named.variant, named.recipe):
        with pytest.raises(AblationError, match=r"se_ratio: variant 'r5' .*one of: r16, r4"):
            ask("r5")


# What a field may not be


def test_two_variants_of_one_name_are_refused() -> None:
    assert "'r16' is named twice" in refusal(variants=(Variant(name="r16"), Variant(name="r16", diff=R4)))


def test_a_study_without_variants_is_refused() -> None:
    assert "control 'r16'" in refusal(variants=())


@pytest.mark.parametrize("seeds", [(), (0, -1), (0, 1, 0), (True,), ("0",), (0.5,), (1.0,), 3, "0-4"])
def test_seeds_are_distinct_integers_from_0_up(seeds: Any) -> None:
    assert "seed" in refusal(seeds=seeds)


@pytest.mark.parametrize("name", ["", "R 16", "a/b", "a,b", "../x", "a\n", "-v", "ä", "x" * 61, 4])
def test_a_variants_name_is_fit_for_a_command_line_and_a_path(name: Any) -> None:
    with pytest.raises(AblationError, match=r"Variant\.name") as caught:
        Variant(name=name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "typed", "meant"),
    [
        (lambda: study(varients=()), "varients", "variants"),
        (lambda: study(seed=(0,)), "seed", "seeds"),
        (lambda: Variant(name="a", dif={}), "dif", "diff"),  # type: ignore[call-arg]
        (lambda: Variant(name="a", overbudget=True), "overbudget", "over_budget"),  # type: ignore[call-arg]
        (lambda: claim(beter="r4"), "beter", "better"),
    ],
)
def test_a_mistyped_field_is_refused_with_the_nearest(make: Any, typed: str, meant: str) -> None:
    with pytest.raises(AblationError, match=rf"\.{typed}: .*did you mean '{meant}'\?"):
        make()


@pytest.mark.parametrize("field", ["question", "source", "baseline", "factors", "variants", "control"])
def test_a_field_that_is_left_out_is_refused_by_name(field: str) -> None:
    fields = {name: getattr(study(), name) for name in Ablation.model_fields if name != field}
    with pytest.raises(AblationError, match=rf"Ablation\.{field}") as caught:
        Ablation(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("factors", REDUCTION), ("variants", {"r16": {}}), ("control", None), ("baseline", "EFFICIENT_RESNET")],
)
def test_a_field_of_the_wrong_type_is_refused_by_name(field: str, value: Any) -> None:
    assert f"Ablation.{field}" in refusal(**{field: value})


def test_over_budget_is_not_guessed_from_other_types() -> None:
    with pytest.raises(AblationError, match=r"Variant\.over_budget"):
        Variant(name="a", over_budget="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("factors", "said"),
    [((REDUCTION, REDUCTION), "is named twice"), ((REDUCTION, "optim.lr"), "'optim.lr' is varied by no variant")],
)
def test_a_factor_is_declared_once_and_varied(factors: tuple[str, ...], said: str) -> None:
    assert said in refusal(factors=factors)


# What a claim says


@pytest.mark.parametrize(
    ("fields", "compares"),
    [
        ({}, "r16 > r4"),
        ({"size": 1.21}, "r16 > r4 by 1.21"),
        ({"relation": "alike"}, "r16 ≈ r4"),
        ({"relation": "not better"}, "r16 ≥ r4"),
        ({"metric": "convergence"}, "r16 > r4 in convergence"),
        ({"metric": "gap"}, "r16 < r4 in gap"),
        ({"relation": "not better", "metric": "gap"}, "r16 ≤ r4 in gap"),
        ({"metric": "early convergence"}, "r16 > r4 in early convergence"),
        ({"metric": "oscillation"}, "r16 < r4 in oscillation"),
        ({"relation": "reaches", "worse": None, "accuracy": 97.08}, "r16 reaches 97.08 %"),
    ],
)
def test_a_claim_in_signs(fields: dict[str, Any], compares: str) -> None:
    assert claim(**fields).compares == compares


def test_a_claim_is_about_one_variant_or_two() -> None:
    assert claim().variants == ("r16", "r4")
    assert claim(worse=None, relation="reaches", accuracy=90).variants == ("r16",)


def test_a_claim_is_made_as_the_writeup_made_its_own_unless_it_says_otherwise() -> None:
    assert (claim().relation, claim().metric, claim().scale, claim().protocol) == (
        "better", "accuracy", "writeup", "writeup",
    )  # fmt: skip


def test_a_claim_names_settings_that_the_baseline_has_not() -> None:
    made = claim(under={"data.mixup": 1.0, "model.kernel": (5, 3, 3)})
    assert study(claims=(made,)).claims == (made,)
    assert claim().under == {}
    assert made.missing({}) == {"data.mixup": 1.0, "model.kernel": [5, 3, 3]}
    assert made.missing({"data.mixup": 1.0, "train.epochs": 3}) == {"model.kernel": [5, 3, 3]}
    assert made.missing({"data.mixup": 0.5, "model.kernel": [5, 3, 3]}) == {"data.mixup": 1.0}


@pytest.mark.parametrize(
    ("under", "said"),
    [
        ({"data.mixpu": 1.0}, "no such path in a recipe: 'data.mixpu'; did you mean 'data.mixup'?"),
        ({"data.mixup": -1.0}, "data.mixup=-1.0"),
        ({"data.mixup": 1.0, "optim.lr": 0.1}, "the baseline has optim.lr=0.1 already"),
        ({"schedule.name": "cosine"}, "the baseline has schedule.name=cosine already"),
    ],
)
def test_settings_of_a_claim_that_no_baseline_can_have_or_this_one_has_are_refused(
    under: dict[str, Any], said: str
) -> None:
    message = refusal(claims=(claim(under=under),))
    assert "claim 'r16 > r4': under: " in message
    assert said in message


def test_a_number_may_be_off_by_half_a_point_unless_the_claim_says_otherwise() -> None:
    assert claim().tolerance is None
    assert claim(size=1.21).tolerance == 0.5
    assert claim(worse=None, relation="reaches", accuracy=97.08).tolerance == 0.5
    assert claim(size=4, tolerance=1).tolerance == 1


@pytest.mark.parametrize("name", ["worse", "equals", "not_better"])
def test_a_relation_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(AblationError, match=rf"Claim\.relation.*'{name}'"):
        claim(relation=name)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"worse": "r16"}, "'r16' with itself"),
        ({"worse": None}, "worse=… is missing"),
        ({"worse": None, "relation": "alike"}, "worse=… is missing"),
        ({"accuracy": 97.08}, "accuracy=97.08 is for relation 'reaches'"),
        ({"relation": "alike", "size": 0.3}, "size=0.3 is for relation 'better'"),
        ({"relation": "not better", "size": 0.3}, "size=0.3 is for relation 'better'"),
        ({"tolerance": 0.5}, "tolerance=0.5 without a size or an accuracy"),
        ({"relation": "reaches", "accuracy": 90}, "'reaches'.*neither worse="),
        ({"relation": "reaches", "worse": None}, "takes accuracy="),
        ({"relation": "reaches", "worse": None, "accuracy": 90, "metric": "gap"}, "nor another metric"),
        ({"relation": "reaches", "worse": None, "accuracy": 90, "size": 1}, "size=1 is for relation 'better'"),
    ],
)
def test_a_claim_that_does_not_say_one_thing_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(AblationError, match=said) as caught:
        claim(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["size", "accuracy", "tolerance"])
@pytest.mark.parametrize("value", [0, -1.2, 101, "1.2", True, float("nan"), float("inf")])
def test_a_number_of_a_claim_is_in_points_from_0_to_100(field: str, value: Any) -> None:
    with pytest.raises(AblationError, match=rf"Claim\.{field}"):
        claim(**{field: value})


# Stages that stand on one another


EPOCHS, LR, WIDTH = "train.epochs", "optim.lr", "model.width"
FINER = {LR: 0.01}


def chain(**changed: Any) -> Ablation:
    """`long` trains on from `first`, `wide` is a network of its own, and `longer` trains on from `long`."""
    stages = (
        Variant(name="first"),
        Variant(name="long", continues="first", diff={**FINER, EPOCHS: 40}),
        Variant(name="wide", base="first", diff={WIDTH: 32}),
        Variant(name="longer", continues="long", diff={EPOCHS: 30}),
    )
    fields: dict[str, Any] = {"factors": (EPOCHS, LR, WIDTH), "variants": stages, "control": "first", "chain": True}
    return study(**(fields | changed))


def stages(*later: Variant, **changed: Any) -> dict[str, Any]:
    """Fields of a chain of `first`, a finer `second` from scratch, and `later`."""
    named = (Variant(name="first"), Variant(name="second", diff=FINER), *later)
    used = {path for variant in named for path in variant.diff}
    return {"variants": named, "factors": tuple(sorted(used)), "control": "first", "chain": True, **changed}


def test_a_stage_has_the_recipe_of_what_it_stands_on_with_its_diff() -> None:
    made = chain()
    assert made.recipe("first") == EFFICIENT_RESNET
    assert made.recipe("long") == EFFICIENT_RESNET.override({**FINER, EPOCHS: 40})
    assert made.recipe("longer") == EFFICIENT_RESNET.override({**FINER, EPOCHS: 30})
    assert made.recipe("wide") == EFFICIENT_RESNET.override({WIDTH: 32})


def test_a_stage_with_a_base_and_a_parent_takes_the_recipe_of_one_and_the_weights_of_the_other() -> None:
    made = study(**stages(Variant(name="third", base="first", continues="second", diff={EPOCHS: 30})))
    assert made.recipe("third") == EFFICIENT_RESNET.override({EPOCHS: 30})
    assert made.ancestors("third") == ("second",)


def test_a_declared_recipe_names_no_parents_cell() -> None:
    assert all(chain().recipe(variant.name).init_from is None for variant in chain().variants)


def test_ancestors_are_the_stages_whose_weights_it_descends_from_the_nearest_first() -> None:
    made = chain()
    lines = {variant.name: made.ancestors(variant.name) for variant in made.variants}
    assert lines == {"first": (), "long": ("first",), "wide": (), "longer": ("long", "first")}


def test_a_stage_is_compared_with_the_one_before_and_the_first_with_nothing() -> None:
    made = chain()
    pairs = {variant.name: made.compared_with(variant.name) for variant in made.variants}
    assert pairs == {"first": None, "long": "first", "wide": "long", "longer": "wide"}


def test_outside_a_chain_a_variant_is_compared_with_the_control() -> None:
    made = study(variants=variants(r4=R4, r8={REDUCTION: 8}, r16={}))
    assert [made.compared_with(name) for name in ("r4", "r8", "r16")] == ["r16", "r16", None]


def test_a_stage_may_stand_on_another_without_a_chain() -> None:
    made = chain(chain=False)
    assert made.ancestors("longer") == ("long", "first")
    assert made.compared_with("longer") == "first"


def test_the_control_of_a_chain_is_its_first_stage() -> None:
    message = refusal(**stages(control="second"))
    assert "'first', not 'second'" in message
    assert study(**stages(control="second", chain=False)).control == "second"


@pytest.mark.parametrize("field", ["base", "continues"])
@pytest.mark.parametrize("stage", ["third", "fourth", "fifth"], ids=["itself", "a later one", "none"])
def test_a_stage_stands_on_an_earlier_one(field: str, stage: str) -> None:
    third = Variant.model_validate({"name": "third", field: stage, "diff": {EPOCHS: 30}})
    message = refusal(**stages(third, Variant(name="fourth", diff={EPOCHS: 40})))
    assert "'third'" in message
    assert "earlier variant" in message
    assert f"'{stage}' is not there" in message


@pytest.mark.parametrize("field", ["base", "continues"])
def test_a_mistyped_stage_is_refused_with_the_nearest(field: str) -> None:
    third = Variant.model_validate({"name": "third", field: "secnd", "diff": {EPOCHS: 30}})
    assert "did you mean 'second'?" in refusal(**stages(third))


@pytest.mark.parametrize("diff", [{WIDTH: 32}, {"model.blocks": (3, 3, 3)}, {"model.se.placement": "none"}])
def test_a_stage_that_continues_another_network_is_refused(diff: dict[str, Any]) -> None:
    message = refusal(**stages(Variant(name="third", continues="second", diff=diff)))
    assert "'third' continues 'second' with another network" in message


def test_another_network_behind_a_base_is_refused_too() -> None:
    wide = Variant(name="wide", diff={WIDTH: 32})
    message = refusal(**stages(wide, Variant(name="third", base="wide", continues="first")))
    assert "'third' continues 'first' with another network" in message


def test_one_recipe_from_other_weights_is_another_training() -> None:
    again = Variant(name="again", continues="second")
    assert study(**stages(again)).recipe("again") == study(**stages(again)).recipe("second")
    with pytest.raises(AblationError, match="'again' and 'twice' resolve to the same recipe"):
        study(**stages(again, Variant(name="twice", continues="second")))


def test_two_stages_from_scratch_with_one_recipe_are_refused_whatever_they_are_based_on() -> None:
    message = refusal(**stages(Variant(name="third", base="first", diff=FINER)))
    assert "'second' and 'third' resolve to the same recipe" in message


def test_a_diff_on_a_stage_touches_declared_factors_only() -> None:
    third = Variant(name="third", continues="second", diff={EPOCHS: 30})
    assert "'train.epochs', which is not a declared factor" in refusal(**stages(third, factors=(LR,)))


# Teachers


WEIGHT, TEACHER = "train.distill.weight", "train.distill.teacher"


def taught(*students: Variant, **changed: Any) -> Ablation:
    """A small network, a wide one, and `students`."""
    named = (Variant(name="none"), Variant(name="wide", diff={WIDTH: 32}), *students)
    used = {path for variant in named for path in variant.diff}
    return study(**{"factors": tuple(sorted(used)), "variants": named, "control": "none", **changed})


def test_a_student_needs_its_teachers_and_what_they_need() -> None:
    made = taught(
        Variant(name="one", distills_from="wide", diff={WEIGHT: 0.5}),
        Variant(name="two", distills_from=("one", "none"), diff={WEIGHT: 0.5}),
        Variant(name="on", continues="two", distills_from="one", diff={WEIGHT: 0.25}),
    )
    assert made.needed("one") == ("wide",)
    assert made.needed("two") == ("wide", "one", "none")
    assert made.needed("on") == ("wide", "one", "none", "two")
    assert made.recipe("two").train.distill.teacher == (), "a plan names the cells"


def test_students_that_differ_in_their_teachers_alone_are_two_variants() -> None:
    taught(*(Variant(name=f"of-{name}", distills_from=name, diff={WEIGHT: 0.5}) for name in ("none", "wide")))
    taught(
        Variant(name="own", distills_from="wide", diff={WEIGHT: 0.5}),
        Variant(name="all", distills_from="wide", teacher_seeds=(0, 1), diff={WEIGHT: 0.5}),
    )
    with pytest.raises(AblationError, match="'a' and 'b' resolve to the same recipe"):
        taught(*(Variant(name=name, distills_from="wide", diff={WEIGHT: 0.5}) for name in "ab"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"distills_from": "wider"}, "distills from an earlier variant: 'wider' is not there; did you mean 'wide'"),
        ({"distills_from": "s"}, "distills from an earlier variant: 's' is not there"),
        ({"distills_from": ("wide", "wide")}, "'wide' is named twice"),
        ({"distills_from": "wide", "diff": {WEIGHT: 0.0}}, "with train.distill.weight=0; give it a weight above 0"),
        ({"distills_from": "wide", "diff": {WEIGHT: 0.5, TEACHER: "a" * 64}}, "train.distill.teacher too"),
        ({"distills_from": "wide", "diff": {WEIGHT: 0.5, "data.normalise": False}}, "data.normalise"),
        ({"distills_from": "wide", "diff": {WEIGHT: 0.5, "data.split_seed": 1}}, "images that the student holds out"),
        ({"teacher_seeds": (0,), "diff": {WIDTH: 8}}, "teacher_seeds without a teacher"),
        ({"distills_from": "wide", "teacher_seeds": (0, 0), "diff": {WEIGHT: 0.5}}, "'0' is named twice"),
        ({"distills_from": "wide", "teacher_seeds": (-1,), "diff": {WEIGHT: 0.5}}, "integers from 0 up"),
    ],
)
def test_a_teacher_that_cannot_be_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(AblationError, match=said) as caught:
        taught(Variant(name="s", **fields))
    assert "\n" not in str(caught.value)
