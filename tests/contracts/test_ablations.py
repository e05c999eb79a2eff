"""What every ablation of the registry must be able to do. One parametrised test trains them all for two batches."""

from __future__ import annotations

import pytest
import torch

from cifar_lab import registry
from cifar_lab.ablation import Ablation
from cifar_lab.data import load
from cifar_lab.data.dataset import Dataset
from cifar_lab.data.split import split
from cifar_lab.models.budget import BUDGET, cost
from cifar_lab.models.resnet import build
from cifar_lab.scale import SCALES, require_distinct
from cifar_lab.train.loop import Trainer, fit

ABLATIONS = list(registry.discover())
VARIANTS = [(ablation, variant.name) for ablation in ABLATIONS for variant in ablation.variants]
BATCH = 16


class Nobody:
    """An observer that wants nothing."""

    def step(self, epoch: int, step: int, steps: int) -> None:
        pass

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        self.values = values

    def saved(self, epoch: int, step: int, state: dict[str, object]) -> None:
        pass

    def wants_to_stop(self) -> bool:
        return False


@pytest.fixture(scope="module")
def few_images() -> Dataset:
    """Forty training images, four a class; two batches under holdout."""
    whole = load("synthetic")
    train = [i for c in range(10) for i in (whole.train_labels == c).nonzero()[0][:4]]
    test = [i for c in range(10) for i in (whole.test_labels == c).nonzero()[0][:1]]
    return Dataset(
        name=whole.name,
        kind=whole.kind,
        classes=whole.classes,
        train_images=whole.train_images[train],
        train_labels=whole.train_labels[train],
        test_images=whole.test_images[test],
        test_labels=whole.test_labels[test],
        hash="few",
    )


def test_no_ablation_file_is_broken() -> None:
    assert registry.discover().broken() == []
    assert {"se_ratio", "block_counts", "lookahead", "noise_floor"} <= {ablation.name for ablation in ABLATIONS}


@pytest.mark.parametrize(("ablation", "variant"), VARIANTS, ids=[f"{a.name}-{v}" for a, v in VARIANTS])
def test_a_variant_honours_the_budget_or_declares_that_it_does_not(ablation: Ablation, variant: str) -> None:
    over = cost(ablation.recipe(variant).model).parameters > BUDGET
    assert over == ablation.variant(variant).over_budget


@pytest.mark.parametrize(("ablation", "variant"), VARIANTS, ids=[f"{a.name}-{v}" for a, v in VARIANTS])
def test_a_variant_trains_two_batches(ablation: Ablation, variant: str, few_images: Dataset) -> None:
    recipe = (
        SCALES["smoke"]
        .apply(ablation.recipe(variant))
        .override({"train.batch_size": BATCH, "train.epochs": 1, "data.val_fraction": 0.25})
    )
    torch.set_num_threads(1)
    parts = split(few_images, recipe.data, recipe.train.protocol, torch.device("cpu"))
    trainer = Trainer(recipe, 0, build(recipe.model, seed=0), parts, "fp32")
    before = [parameter.clone() for parameter in trainer.parameters]
    observer = Nobody()
    outcome = fit(trainer, observer)
    assert outcome.status == "finished"
    assert trainer.steps_per_epoch == 2
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.parameters, strict=True))
    assert 0 <= observer.values["val/acc"] <= 1


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.name)
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES.keys())
def test_no_two_variants_build_the_same_thing_at_any_scale(ablation: Ablation, scale: object) -> None:
    require_distinct({v.name: scale.apply(ablation.recipe(v.name)) for v in ablation.variants}, scale)  # type: ignore[attr-defined, arg-type]


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.name)
def test_the_question_the_source_and_the_run_time_are_said(ablation: Ablation) -> None:
    text = (registry.built_in() / f"{ablation.name}.py").read_text()
    docstring = text.split('"""')[1]
    assert docstring.splitlines()[0].endswith("?")
    assert "ource:" in docstring
    assert "Run time" in docstring
    assert ablation.question.endswith("?")
