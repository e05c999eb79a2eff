"""The plan: which cells, in which order, how far they are, and what is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import records

from cifar_lab.ablation.ablation import Ablation, Variant
from cifar_lab.ablation.registry import discover
from cifar_lab.config import scale
from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.config.recipe import Recipe
from cifar_lab.data.dataset import Dataset
from cifar_lab.errors import AblationError, BudgetError, RecipeError, UsageError
from cifar_lab.execution.plan import Plan, as_dict, make_plan
from cifar_lab.execution.resolved_recipes import parse_seeds
from cifar_lab.models.cost import network_cost
from cifar_lab.store.cell_record import CellRecord

SMALL_NET = EFFICIENT_RESNET.override({"model.blocks": [1, 1]})


def images(data_hash: str = "d" * 64) -> Dataset:
    """Two black images a class, to train on and to test."""
    labels = np.tile(np.arange(10), 2)
    black = np.zeros((20, 32, 32, 3), np.uint8)
    return Dataset(
        name="black", kind="path", classes=tuple("abcdefghij"), hash=data_hash,
        train_images=black, train_labels=labels, test_images=black, test_labels=labels,
    )  # fmt: skip


def study(name: str = "se_ratio", **changed: Any) -> Ablation:
    """SE with reduction 16 (the control), 4 and none."""
    fields: dict[str, Any] = {
        "name": name,
        "question": "Which reduction?",
        "source": "a paper",
        "baseline": SMALL_NET,
        "factors": ("model.se.reduction", "model.se.placement"),
        "variants": (
            Variant(name="r16"),
            Variant(name="r4", diff={"model.se.reduction": 4}),
            Variant(name="none", diff={"model.se.placement": "none"}),
        ),
        "control": "r16",
    }
    return Ablation(**(fields | changed))


def widths(over_budget: bool = False) -> Ablation:
    """64 channels (the control), and 96."""
    wide = Variant(name="w96", diff={"model.width": 96}, over_budget=over_budget)
    return study(factors=("model.width",), variants=(Variant(name="w64"), wide), control="w64")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def plan(runs: Path, ablation: Ablation | None = None, at: str = "small", **asked: Any) -> Plan:
    return make_plan(
        ablation or study(),
        scale=scale.find_scale(at),
        source="synthetic",
        runs=runs,
        **({"dataset": images()} | asked),
    )


# Cells


def test_seeds_come_first_so_that_a_half_finished_study_is_balanced(runs: Path) -> None:
    assert [cell.name for cell in plan(runs).cells] == [
        "r16/s0", "r4/s0", "none/s0", "r16/s1", "r4/s1", "none/s1", "r16/s2", "r4/s2", "none/s2",
    ]  # fmt: skip


def test_seeds_and_variants_can_be_chosen(runs: Path) -> None:
    chosen = plan(runs, variants=["r4", "r16"], seeds=(5, 3))
    assert [(cell.variant, cell.seed) for cell in chosen.cells] == [("r4", 5), ("r16", 5), ("r4", 3), ("r16", 3)]


def test_a_variant_that_is_named_twice_is_trained_once(runs: Path) -> None:
    chosen = plan(runs, variants=["r4", "r16", "r4"], seeds=(0,))
    assert [cell.name for cell in chosen.cells] == ["r4/s0", "r16/s0"]


def test_an_unknown_variant_is_refused_with_study_and_nearest(runs: Path) -> None:
    with pytest.raises(AblationError, match=r"se_ratio: variant 'r44' .*did you mean 'r4'\?"):
        plan(runs, variants=["r16", "r44"])


def test_a_cell_holds_what_is_declared_and_what_is_trained(runs: Path) -> None:
    cell = plan(runs).cells[1]
    assert cell.declared == SMALL_NET.override({"model.se.reduction": 4})
    assert cell.recipe == scale.find_scale("small").apply(cell.declared)
    assert cell.fingerprint == cell.recipe.fingerprint(seed=0, data_hash="d" * 64)


def test_every_cell_has_a_fingerprint_of_its_own_and_other_images_another(runs: Path) -> None:
    here = {cell.fingerprint for cell in plan(runs).cells}
    there = {cell.fingerprint for cell in plan(runs, dataset=images("e" * 64)).cells}
    assert len(here) == len(there) == 9
    assert not here & there


def test_two_studies_that_share_a_cell_train_it_once(runs: Path) -> None:
    factor = "optim.lookahead.enabled"
    on_off = (Variant(name="on"), Variant(name="off", diff={factor: False}))
    other = study("lookahead", factors=(factor,), variants=on_off, control="on")
    shared = {cell.fingerprint for cell in plan(runs).cells} & {cell.fingerprint for cell in plan(runs, other).cells}
    assert shared == {cell.fingerprint for cell in plan(runs, other, variants=["on"]).cells}
    assert len(shared) == 3


def test_a_plan_writes_nothing(runs: Path) -> None:
    plan(runs)
    assert not runs.exists()


# States


def begin(runs: Path, fingerprint: str) -> CellRecord:
    return records.begin(CellRecord(runs / fingerprint))


def test_states_are_what_the_records_say(runs: Path) -> None:
    finished, diverged, failed, running, begun, *_ = (cell.fingerprint for cell in plan(runs).cells)
    records.end(begin(runs, finished))
    records.end(begin(runs, diverged), status="diverged")
    records.fail(begin(runs, failed))
    begin(runs, begun)
    with begin(runs, running).lock().acquire():
        made = plan(runs)
    states = ["finished", "diverged", "failed", "running", "missing", "missing", "missing", "missing", "missing"]
    assert [cell.state for cell in made.cells] == states
    assert [cell.is_done for cell in made.cells] == [True, True] + [False] * 7
    assert made.to_train() == list(made.cells[3:])  # what another runner trains is waited for


def test_a_log_or_a_checkpoint_does_not_make_a_cell_finished(runs: Path) -> None:
    record = begin(runs, plan(runs).cells[0].fingerprint)
    record.checkpoint.write_bytes(b"")
    record.weights.write_bytes(b"")
    (record.folder / "journal.jsonl").write_text('{"event": "end", "status": "finished"}\n')
    assert plan(runs).cells[0].state == "missing"


def test_a_cell_knows_the_state_it_is_in_by_now(runs: Path) -> None:
    cell = plan(runs).cells[0]
    records.end(begin(runs, cell.fingerprint))
    assert (cell.state, cell.now(runs)) == ("missing", "finished")


def test_sharpness_aware_minimization_takes_two_passes_a_step(runs: Path) -> None:
    assert [as_dict(cell, {})["passes"] for cell in plan(runs, discover().find("sam"), seeds=(0,)).cells] == [
        1, 1, 2, 2, 2,
    ]  # fmt: skip


def test_the_json_of_a_cell(runs: Path) -> None:
    made = plan(runs)
    records.end(begin(runs, made.cells[0].fingerprint))
    done, todo, *_ = plan(runs).cells
    estimates = {cell.fingerprint: 12.5 for cell in made.cells}
    assert as_dict(todo, estimates) == {
        "fingerprint": todo.fingerprint,
        "variant": "r4",
        "seed": 0,
        "state": "missing",
        "estimate_seconds": 12.5,
        "parameters": network_cost(todo.declared.model).parameters,
        "parameters_trained": network_cost(todo.recipe.model).parameters,
        "macs": network_cost(todo.recipe.model).macs,
        "passes": 1,
        "teacher_macs": 0,
    }
    assert as_dict(todo, {})["estimate_seconds"] is None
    assert (as_dict(done, estimates)["state"], as_dict(done, estimates)["estimate_seconds"]) == ("finished", None)


# Overrides


def test_overrides_win_over_the_scale_which_shrinks_the_rest(runs: Path) -> None:
    recipe = plan(runs, overrides={"train.epochs": 30}).cells[0].recipe
    assert (recipe.train.epochs, recipe.model.width) == (30, 16)
    recipe = plan(runs, overrides={"model.width": 48}, at="smoke").cells[0].recipe
    assert (recipe.train.epochs, recipe.model.width) == (2, 48)


def test_overrides_reach_every_variant(runs: Path) -> None:
    made = plan(runs, overrides={"optim.lr": 0.05})
    assert {cell.recipe.optim.lr for cell in made.cells} == {0.05}
    assert {cell.declared.optim.lr for cell in made.cells} == {0.05}
    assert dict(made.overrides) == {"optim.lr": 0.05}


def test_the_protocol_is_the_recipes_and_an_override_may_set_it(runs: Path) -> None:
    assert [plan(runs, at=name).protocol for name in scale.SCALES] == ["holdout"] * 3
    assert plan(runs, overrides={"train.protocol": "writeup"}).protocol == "writeup"


@pytest.mark.parametrize("asked", [{"data.mixup": 1}, {"data.mixup": 1.0}])
def test_one_override_has_one_spelling_in_the_plan(runs: Path, asked: dict[str, Any]) -> None:
    """`data.mixup=1` and `data.mixup=1.0` are one setting to `compare`, which reads the overrides as JSON."""
    assert repr(dict(plan(runs, overrides=asked).overrides)) == "{'data.mixup': 1.0}"


@pytest.mark.parametrize(
    "overrides", [{"model.se.reduction": 8}, {"model.se.placement": "none"}, {"model.se.reduction": 4}]
)
def test_an_override_that_makes_variants_coincide_is_refused_naming_both(runs: Path, overrides: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"'r16' and '(r4|none)'"):
        plan(runs, overrides=overrides)


def test_variants_that_coincide_at_the_scale_are_refused_unless_one_is_left_out(runs: Path) -> None:
    two = (Variant(name="r16"), Variant(name="r32", diff={"model.se.reduction": 32}))
    r32 = study(variants=two, factors=("model.se.reduction",))
    with pytest.raises(UsageError, match=r"'r16' and 'r32'.*small"):
        plan(runs, r32)
    assert len(plan(runs, r32, variants=["r32"]).cells) == 3
    assert len(plan(runs, r32, at="writeup").cells) == 6


def test_an_override_that_does_not_fit_is_refused(runs: Path) -> None:
    with pytest.raises(RecipeError, match=r"model\.kernel=\[3, 3, 3\]"):
        plan(runs, overrides={"model.kernel": [3, 3, 3]})


# The budget

W64 = network_cost(SMALL_NET.model).parameters
W96 = network_cost(SMALL_NET.override({"model.width": 96}).model).parameters


@pytest.mark.parametrize(
    ("diff", "rule"),
    [
        ({"data.augmentations": ["made.extensions:floats"]}, "returns .* torch.float32 on cpu, not .* torch.uint8"),
        ({"model.name": "made.broken_extensions:frozen"}, "it has no trainable parameters"),
        ({"model.name": "made.broken_extensions:lazy"}, "has no shape before the first images"),
    ],
)
def test_a_users_code_that_would_fail_in_the_cell_is_refused(runs: Path, diff: dict[str, Any], rule: str) -> None:
    rates = study(factors=("optim.lr",), variants=(Variant(name="r16"), Variant(name="low", diff={"optim.lr": 1e-3})))
    with pytest.raises(RecipeError, match=rule):
        plan(runs, rates, overrides=diff)


@pytest.mark.parametrize("at", scale.SCALES)
def test_the_budget_judges_the_network_as_declared_at_every_scale(runs: Path, at: str) -> None:
    with pytest.raises(BudgetError) as caught:
        plan(runs, widths(), at=at, max_params=W96 - 1)
    said = str(caught.value)
    assert all(word in said for word in ("se_ratio", "'w96'", f"{W96:,}", f"{W96 - 1:,}", "over_budget"))
    assert "\n" not in said
    assert len(plan(runs, widths(), at=at, max_params=W96).cells) == 6


def test_the_budget_judges_with_the_overrides(runs: Path) -> None:
    with pytest.raises(BudgetError, match="'r16'"):
        plan(runs, overrides={"model.width": 96}, max_params=W64)
    assert plan(runs, widths(), overrides={"model.kernel": 1}, max_params=W64).cells


def test_the_budget_is_five_million_unless_said_otherwise(runs: Path) -> None:
    over = study(baseline=EFFICIENT_RESNET.override({"model.width": 67}))
    with pytest.raises(BudgetError, match="5,000,000"):
        plan(runs, over)
    assert plan(runs, over, max_params=6_000_000).cells


def test_a_variant_that_declares_it_may_be_over_the_budget_and_no_other(runs: Path) -> None:
    assert len(plan(runs, widths(over_budget=True), max_params=W64).cells) == 6
    with pytest.raises(BudgetError, match="'w64'"):
        plan(runs, widths(over_budget=True), max_params=W64 - 1)


def test_a_variant_that_is_left_out_is_not_judged(runs: Path) -> None:
    assert len(plan(runs, widths(), variants=["w64"], max_params=W64).cells) == 3


# Seeds as they are typed


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0", (0,)),
        ("0-4", (0, 1, 2, 3, 4)),
        ("0,2,5", (0, 2, 5)),
        ("0-2,7", (0, 1, 2, 7)),
        ("7,0-2", (7, 0, 1, 2)),
        ("3-3", (3,)),
        ("0, 2", (0, 2)),
        (" 1 ", (1,)),
        ("007", (7,)),
    ],
)
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text",
    ["", ",", "a", "0,a", "4-0", "0-", "-1", "--1", "0,", "0,,1", "1.5", "1e3", "0:4", "0..4", "0 1", "0–4", "²", "0-²",
     "None", "[0,1]", "0-1-2"],
)  # fmt: skip
def test_what_is_no_list_of_seeds_is_refused_as_it_was_typed(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_seeds(text)
    assert f"'{text}'" in str(caught.value)
    assert "0-4" in str(caught.value)


@pytest.mark.parametrize("text", ["0,0", "0-2,1", "1,01", "0-1,1-2"])
def test_a_seed_that_is_named_twice_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="twice"):
        parse_seeds(text)


# Teachers


WEIGHT = "train.distill.weight"


def classroom(*more: Variant, **changed: Any) -> Ablation:
    """A student alone, a wide teacher over a small budget, a student of it, and one of three students."""
    variants = (
        Variant(name="none"),
        Variant(name="wide", diff={"model.width": 96}, over_budget=True),
        Variant(name="taught", distills_from="wide", diff={WEIGHT: 0.5}),
        Variant(name="both", distills_from=("none", "wide"), diff={WEIGHT: 0.5}),
        Variant(name="seeds", distills_from="none", teacher_seeds=(0, 1, 2), diff={WEIGHT: 0.5}),
        *more,
    )
    return study(factors=("model.width", WEIGHT), variants=variants, control="none", **changed)


def test_a_teacher_is_in_the_fingerprint_of_its_student_and_comes_before_it(runs: Path) -> None:
    found = {cell.name: cell for cell in plan(runs, classroom(), seeds=(0, 1), max_params=W64).cells}
    wide, taught = found["wide/s1"], found["taught/s1"]
    assert taught.recipe.teachers == taught.needs == (wide.fingerprint,)
    assert found["taught/s0"].recipe.teachers == (found["wide/s0"].fingerprint,)
    assert set(found["both/s0"].recipe.teachers) == {found["none/s0"].fingerprint, found["wide/s0"].fingerprint}
    order = list(found)
    assert order.index("wide/s1") < order.index("taught/s1")
    assert found["none/s0"].needs == ()
    assert taught.cost == found["none/s1"].cost, "parameters are the student's alone"
    assert (taught.teacher_macs, found["none/s1"].teacher_macs) == (wide.cost.macs, 0)
    assert as_dict(taught, {})["teacher_macs"] == wide.cost.macs


def test_an_ensemble_of_seeds_is_the_same_for_every_seed_and_joins_the_plan(runs: Path) -> None:
    found = {cell.name: cell for cell in plan(runs, classroom(), variants=["seeds"], seeds=(5, 6)).cells}
    assert list(found) == ["none/s5", "none/s0", "none/s1", "none/s2", "seeds/s5", "none/s6", "seeds/s6"]
    teachers = tuple(sorted(found[f"none/s{seed}"].fingerprint for seed in range(3)))
    assert found["seeds/s5"].recipe.teachers == found["seeds/s6"].recipe.teachers == teachers
    assert found["seeds/s5"].lineage == found["seeds/s6"].lineage
    lineages = {cell.lineage for cell in plan(runs, classroom(), seeds=(0,), max_params=W64).cells}
    assert len(lineages) == 5, "each variant has one of its own"


def test_teachers_of_teachers_join_the_plan(runs: Path) -> None:
    made = classroom(Variant(name="third", distills_from="taught", diff={WEIGHT: 0.9}))
    found = {cell.name: cell for cell in plan(runs, made, variants=["third"], seeds=(0,)).cells}
    assert list(found) == ["wide/s0", "taught/s0", "third/s0"]
    assert found["third/s0"].needs == (found["taught/s0"].fingerprint, found["wide/s0"].fingerprint)


def test_a_student_of_another_teacher_is_another_variant_and_one_without_weight_is_none(runs: Path) -> None:
    made = classroom(Variant(name="narrow", distills_from="none", diff={WEIGHT: 0.5}))
    assert len(plan(runs, made, seeds=(0,), max_params=W64).cells) == 8, "six of seed 0, and two more teachers"
    with pytest.raises(UsageError, match="'none' and 'taught' build the same network"):
        plan(runs, classroom(), variants=["none", "taught"], overrides={WEIGHT: 0.0})


def test_an_override_of_the_factor_is_named_where_it_makes_variants_alike(runs: Path) -> None:
    smoothing = "train.label_smoothing"
    made = study(
        factors=(smoothing, "model.width"), control="off",
        variants=(Variant(name="off"), Variant(name="on", diff={smoothing: 0.1}),
                  Variant(name="wider", diff={"model.width": 65})),
    )  # fmt: skip
    with pytest.raises(UsageError, match=f"'off' and 'on' .*: {smoothing}=0.3 sets what the ablation varies, for eve"):
        plan(runs, made, overrides={smoothing: 0.3, "train.epochs": 3})
    with pytest.raises(UsageError, match=r"'off' and 'wider' .* with these overrides; leave one out with --variants"):
        plan(runs, made, overrides={"train.epochs": 3})  # as one channel in 65 is lost at this scale


@pytest.mark.parametrize(
    ("variants", "overrides", "said"),
    [
        (["none"], {WEIGHT: 0.5}, "'none': train.distill.weight=0.5 without a teacher"),
        (["taught"], {"train.distill.teacher": ["a" * 64]}, "'taught' distills from wide; leave train.distill.teacher"),
    ],
)
def test_weights_without_a_teacher_and_two_sources_of_teachers_are_refused(
    runs: Path, variants: list[str], overrides: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        plan(runs, classroom(), variants=variants, overrides=overrides)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_teacher_may_be_any_finished_cell_by_its_fingerprint(runs: Path) -> None:
    records.begin(CellRecord(runs / ("a" * 64)), macs=7_000)
    records.begin(CellRecord(runs / ("b" * 64)), macs=None)
    typed = {"train.distill.teacher": ["b" * 64, "a" * 64], WEIGHT: 0.5}
    found = plan(runs, classroom(), variants=["none"], seeds=(0,), overrides=typed).cells[0]
    assert found.recipe.teachers == ("a" * 64, "b" * 64)
    assert found.needs == ()
    assert found.teacher_macs == 7_000, "that of the other one is not known"


@pytest.mark.parametrize(
    ("diff", "said"),
    [({}, "no such cell in"), ({"data.normalise": False}, "cannot be the teacher: it is trained on images scaled")],
)
def test_a_typed_teacher_that_cannot_be_is_refused_by_the_plan(runs: Path, diff: dict[str, Any], said: str) -> None:
    if diff:
        records.begin(CellRecord(runs / ("a" * 64)), recipe=Recipe().override(diff))
    with pytest.raises(UsageError, match=f"train.distill.teacher=aaaa.*{said}"):
        plan(runs, classroom(), variants=["none"], overrides={"train.distill.teacher": "a" * 64, WEIGHT: 0.5})
