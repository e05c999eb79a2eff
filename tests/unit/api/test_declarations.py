"""Several declarations of one name in one runs folder: each call shows the numbers of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import cifar_lab
from cifar_lab import errors
from cifar_lab.ablation.ablation import Ablation, Claim, Variant
from cifar_lab.config.recipe import Recipe
from cifar_lab.report import table_notes

pytestmark = pytest.mark.slow

TINY = Recipe().override(
    {"model.blocks": [1], "model.width": 8, "train.batch_size": 10, "train.epochs": 2, "data.val_fraction": 0.2}
)
CALL: dict[str, Any] = {"runs": "records", "scale": "writeup"}
TRAIN: dict[str, Any] = {**CALL, "offline": True, "say": None}


def declared(*, baseline: Recipe = TINY, **momenta: float) -> Ablation:
    """An ablation named `momentum`, of the control and a variant for each momentum, with a claim about `m5`."""
    return Ablation(
        name="momentum",
        question="does momentum matter?",
        source="the tests",
        baseline=baseline,
        factors=("optim.momentum",),
        variants=(
            Variant(name="base"),
            *(Variant(name=name, diff={"optim.momentum": value}) for name, value in momenta.items()),
        ),
        control="base",
        seeds=(0, 1),
        claims=(Claim(quote="less is worse", source="the tests", better="base", worse="m5"),),
    )


FIRST, SECOND, NEVER = declared(m5=0.5, m2=0.2), declared(m5=0.4), declared(m5=0.123)


@pytest.fixture(scope="module")
def results(few_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder, the results of the first declaration and the second, and that of the first run again."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("declarations")
        patch.chdir(folder)
        return folder, *(cifar_lab.run(each, data=str(few_images), **TRAIN) for each in (FIRST, SECOND, FIRST, SECOND))


@pytest.fixture(autouse=True)
def here(results: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(results[0])


def values(comparison: Any, variant: str = "m5") -> dict[int, float]:
    return next(dict(row.values) for row in comparison.rows if row.variant == variant)


def measured(ablation: Ablation, few_images: Path, variant: str = "m5") -> dict[int, float]:
    """The accuracies of a variant by seed, read from the cells that `plan` names."""
    rows = cifar_lab.plan(ablation, data=str(few_images), say=None, **CALL).records()
    cells = {row["seed"]: row["fingerprint"] for row in rows if row["variant"] == variant}
    return {seed: cifar_lab.load_cell(each, runs="records").metrics["test/acc"] for seed, each in cells.items()}


@pytest.mark.parametrize("ablation", [FIRST, SECOND])
def test_a_comparison_has_the_cells_of_its_declaration_alone(ablation: Ablation, few_images: Path) -> None:
    comparison = cifar_lab.compare(ablation, **CALL)
    assert [row.variant for row in comparison.rows] == [variant.name for variant in ablation.variants]
    assert values(comparison) == measured(ablation, few_images)
    assert comparison.comparisons == len(ablation.variants) - 1


def test_what_was_never_trained_is_missing(few_images: Path) -> None:
    comparison = cifar_lab.compare(NEVER, **CALL)
    assert [(row.variant, row.n, row.missing) for row in comparison.rows] == [("base", 2, 0), ("m5", 0, 2)]
    assert values(comparison, "base") == measured(NEVER, few_images, "base")
    assert comparison.redeclared.startswith("m5 was another recipe in invocation ")
    assert comparison.redeclared.endswith("; m2 is not in the declaration of now, left out")
    assert comparison.redeclared in table_notes.notes(comparison)


def test_a_declaration_with_another_baseline_was_not_run() -> None:
    other = declared(baseline=TINY.override({"optim.lr": 0.5}), m5=0.5)
    with pytest.raises(errors.TrackingError, match=r"^'momentum' has not been run in .* with the baseline of this"):
        cifar_lab.compare(other, **CALL)
    assert [each.status for each in cifar_lab.verify(other, **CALL)] == ["not measured"]


def test_a_run_shows_the_table_of_what_it_ran(results: Any, few_images: Path) -> None:
    for ablation, result in zip((FIRST, SECOND, FIRST, SECOND), results[1:], strict=True):
        assert result.comparison.comparisons == len(ablation.variants) - 1
        assert values(result.comparison) == measured(ablation, few_images)
        assert [row.variant for row in result.comparison.rows] == [variant.name for variant in ablation.variants]


def test_claims_are_judged_by_the_cells_of_their_declaration(few_images: Path) -> None:
    for ablation in (FIRST, SECOND):
        (finding,) = cifar_lab.verify(ablation, **CALL)
        assert finding.measured is not None
        assert finding.measured["means"]["m5"] == pytest.approx(sum(measured(ablation, few_images).values()) / 2)
    (finding,) = cifar_lab.verify(NEVER, **CALL)
    assert finding.status == "not measured"


def test_the_name_alone_shows_all_that_ran_by_it_and_says_so(few_images: Path) -> None:
    comparison = cifar_lab.compare("momentum", **CALL)
    assert [row.variant for row in comparison.rows] == ["base", "m5", "m2"]
    assert values(comparison) == measured(SECOND, few_images)
    assert "m5 was another recipe in invocation " in comparison.redeclared
    assert "m2 is not in the declaration of now, kept in this table" in comparison.redeclared
    assert comparison.redeclared in table_notes.footer(comparison)


def test_variants_that_the_overrides_do_not_fit_are_left_out_of_the_table(few_images: Path) -> None:
    mixing = Ablation(
        name="mixing", question="does it help?", source="the tests", baseline=TINY, factors=("data.mixup",),
        variants=(Variant(name="off"), Variant(name="on", diff={"data.mixup": 1.0})), control="off", seeds=(0, 1),
    )  # fmt: skip
    views = {"data.policy.name": "augmix", "data.policy.consistency": 12.0}  # refuses images that are mixed
    result = cifar_lab.run(mixing, data=str(few_images), variants=["off"], overrides=views, **TRAIN)
    assert [(row.variant, row.n) for row in result.comparison.rows] == [("off", 2)]
    assert [row.variant for row in cifar_lab.compare(mixing, **CALL).rows] == ["off"]
