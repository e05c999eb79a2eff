"""Contract of every built-in ablation. One parametrised test trains all variants for two batches."""

from __future__ import annotations

import re

import pytest
import torch

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import Ablation
from cifar_lab.config.baselines import EFFICIENT_RESNET, FAST, RESNET18
from cifar_lab.config.scale import SCALES, Scale, require_distinct
from cifar_lab.data import load
from cifar_lab.data.dataset import Dataset
from cifar_lab.data.splits import split
from cifar_lab.execution.resolved_recipes import origins
from cifar_lab.models.cost import BUDGET, network_cost
from cifar_lab.models.resnet import build_resnet
from cifar_lab.train.loop import fit
from cifar_lab.train.trainer import Trainer

FILES = {path.stem: path for path in registry.built_in().glob("[!_]*.py")}
ABLATIONS = [ablation for ablation in registry.discover() if ablation.name in FILES]  # packages may bring more
VARIANTS = [(ablation, variant.name) for ablation in ABLATIONS for variant in ablation.variants]
BATCH = 4
REGISTRY = registry.built_in().parent / "docs" / "registry.md"

NAMES = {
    "augmentation", "batch_norm", "batch_size", "block_counts", "dropout", "extra_fc", "grad_clip", "kernel_sizes",
    "label_smoothing", "layers", "lookahead", "lr_schedule", "mixup_cutmix", "noise_floor", "optimizers",
    "optimizers_cosine", "se_placement", "se_ratio", "se_ratio_x_lookahead", "shortcut_kernels", "weight_decay",
    "width", "writeup_ladder",
}  # fmt: skip

OURS = {
    "activation", "augmix", "distillation", "fast", "fewer_epochs", "policies", "policies_x_mixing", "precision", "sam",
    "stem_pool", "stochastic_depth", "weight_averaging",
}  # fmt: skip
"""About our own recipe for few epochs, methods of other papers, and how the lab computes, not of the writeup."""

VARIED_BY_THE_WRITEUP = [
    ("block_counts", {"model.blocks"}, "Decreasing residual blocks resulted in decreased accuracy"),
    ("kernel_sizes", {"model.kernel"}, "equivalent or worse"),
    ("batch_norm", {"model.batch_norm"}, "equivalent or worse"),
    ("batch_norm", {"model.batch_norm"}, "helped with speeding up convergence"),
    ("extra_fc", {"model.extra_fc"}, "didn't have much effect"),
    ("optimizers", {"optim.name"}, "SGD with Nesterov best"),
    ("grad_clip", {"optim.clip.by"}, "speeds up convergence, above all in the first epochs"),
    ("lr_schedule", {"schedule.name"}, "converge to minima rather than oscillate"),
    ("weight_decay", {"optim.weight_decay"}, "crucial"),
    ("weight_decay", {"optim.weight_decay"}, "prevent overfitting"),
    ("augmentation", {"data.crop", "data.flip", "data.normalise"}, "crucial"),
    ("augmentation", {"data.crop", "data.flip"}, "prevent overfitting"),
    ("mixup_cutmix", {"data.mixup", "data.cutmix"}, "improves robustness and accuracy"),
    ("lookahead", {"optim.lookahead.enabled"}, "more effective exploration"),
    ("se_ratio", {"model.se.placement"}, "significantly improved"),
    ("se_ratio", {"model.se.reduction"}, "lower"),
]
"""Every row of the writeup's factors: the ablation, its paths, and the words for what came of it."""

COUNTED = [
    ("block_counts", "b2222", 11_173_962),
    ("block_counts", "b2111", 4_977_226),
    ("block_counts", "b443", 4_697_162),
    ("block_counts", "b333", 4_327_754),
    ("block_counts", "b552", 3_885_898),
    ("se_ratio", "none", 4_697_162),
    ("se_ratio", "r16", 4_697_742),
    ("se_ratio", "r4", 4_699_290),
    ("extra_fc", "fc48", 4_997_210),
    ("shortcut_kernels", "s3x3", 5_025_422),
    ("writeup_ladder", "s1", 4_977_226),
    ("writeup_ladder", "s8", 4_697_742),
    ("writeup_ladder", "s9", 4_699_290),
]
"""Parameters that the writeup names, or that its networks were found to have."""


def _trained_once() -> list[tuple[Ablation, str]]:
    """The variants, less those whose recipe an ablation before trains: they share their cells."""
    return list({ablation.recipe(name).digest(): (ablation, name) for ablation, name in reversed(VARIANTS)}.values())


def _find(name: str) -> Ablation:
    return next(ablation for ablation in ABLATIONS if ablation.name == name)


def _parameters(ablation: str, variant: str) -> int:
    return network_cost(_find(ablation).recipe(variant).model).parameters


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
    """Ten training images of two classes: two batches of four, one image a class held out as val, one to test."""
    whole = load("synthetic")
    train = [i for c in range(2) for i in (whole.train_labels == c).nonzero()[0][:5]]
    test = [i for c in range(2) for i in (whole.test_labels == c).nonzero()[0][:1]]
    return Dataset(
        name=whole.name,
        kind=whole.kind,
        classes=whole.classes[:2],
        train_images=whole.train_images[train],
        train_labels=whole.train_labels[train],
        test_images=whole.test_images[test],
        test_labels=whole.test_labels[test],
        hash="few",
    )


def test_the_whole_study_is_there_and_no_file_is_broken() -> None:
    assert registry.discover().broken() == []
    assert set(FILES) == NAMES | OURS == {ablation.name for ablation in ABLATIONS}


@pytest.mark.parametrize(("ablation", "variant"), VARIANTS, ids=[f"{a.name}-{v}" for a, v in VARIANTS])
def test_a_variant_honours_the_budget_or_declares_that_it_does_not(ablation: Ablation, variant: str) -> None:
    over = network_cost(ablation.recipe(variant).model).parameters > BUDGET
    assert over == ablation.variant(variant).over_budget


@pytest.mark.parametrize(("ablation", "variant"), _trained_once(), ids=[f"{a.name}-{v}" for a, v in _trained_once()])
def test_a_variant_trains_two_batches(ablation: Ablation, variant: str, few_images: Dataset) -> None:
    recipe = (
        SCALES["smoke"]
        .apply(ablation.recipe(variant))
        .override({"train.batch_size": BATCH, "train.epochs": 1, "data.val_fraction": 0.2})
    )
    torch.set_num_threads(1)
    parts = split(few_images, recipe.data, recipe.train.protocol, torch.device("cpu"))
    teachers = []
    if recipe.train.distill.weight:
        recipe = recipe.override({"train.distill.teacher": "a" * 64})
        teachers = [build_resnet(recipe.model, seed=1, images=few_images.shape)]
    net = build_resnet(recipe.model, seed=0, images=few_images.shape)
    trainer = Trainer(recipe, 0, net, parts, "fp32", teachers)
    before = [parameter.clone() for parameter in trainer.parameters]
    observer = Nobody()
    outcome = fit(trainer, observer)
    assert outcome.status == "finished"
    assert trainer.steps_per_epoch == 2
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.parameters, strict=True))
    assert 0 <= observer.values["val/acc"] <= 1


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.name)
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES.keys())
def test_no_two_variants_build_the_same_thing_at_any_scale(ablation: Ablation, scale: Scale) -> None:
    recipes = {variant.name: scale.apply(ablation.recipe(variant.name)) for variant in ablation.variants}
    require_distinct(recipes, scale, origins(ablation, recipes))


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.name)
def test_the_question_the_source_and_the_run_time_are_said(ablation: Ablation) -> None:
    docstring = FILES[ablation.name].read_text().split('"""')[1]
    assert docstring.splitlines()[0].endswith(".")
    assert "ource:" in docstring
    assert "Run time" in docstring
    assert ablation.question.endswith("?")


# What the files say


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.name)
def test_the_run_time_is_that_of_the_recipes(ablation: Ablation) -> None:
    """`N PFLOP a cell, M cells`, or `N to M PFLOP a cell`, by 45,000 images, 6 FLOPs a MAC and pass of a step; a chain
    says it a seed, as does a study with teachers, whose forward passes take 2 FLOPs a MAC.
    """
    recipes = [ablation.recipe(variant.name) for variant in ablation.variants]
    macs = [recipe.passes * network_cost(recipe.model).macs for recipe in recipes]
    for i, variant in enumerate(ablation.variants):
        taught = sum(network_cost(ablation.recipe(name).model).macs for name in variant.teachers)
        macs[i] += taught * max(1, len(variant.teacher_seeds)) // 3
    petaflops = [recipe.train.epochs * 45_000 * 6 * each / 1e15 for recipe, each in zip(recipes, macs, strict=True)]
    docstring = " ".join(FILES[ablation.name].read_text().split('"""')[1].split())
    said = re.search(r"Run time: (?:(\d+) to )?(\d+) PFLOP a (?:cell, (\w+) cells|seed);", docstring)
    assert said is not None
    low, high, cells = said.groups()
    if cells is None:
        assert int(high) == round(sum(petaflops))
        return
    assert (int(low or high), int(high)) == (round(min(petaflops)), round(max(petaflops)))
    words = {"six": 6, "ten": 10, "fifteen": 15, "eighteen": 18}
    assert (words.get(cells) or int(cells)) == len(recipes) * len(ablation.seeds)


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.name)
def test_a_claim_quotes_and_names_its_source(ablation: Ablation) -> None:
    for claim in ablation.claims:
        assert claim.quote.strip()
        assert claim.source.strip()
        assert (claim.scale, claim.protocol) == ("writeup", "writeup")


def test_nothing_is_claimed_twice_about_the_same_cells() -> None:
    said = [
        (claim.metric, *((ablation.recipe(name).digest(), ablation.ancestors(name)) for name in claim.variants))
        for ablation in ABLATIONS
        for claim in ablation.claims
    ]
    assert len(set(said)) == len(said)


@pytest.mark.parametrize("ablation", [a for a in ABLATIONS if not a.chain], ids=lambda ablation: ablation.name)
def test_the_control_is_the_baseline(ablation: Ablation) -> None:
    assert ablation.recipe(ablation.control) == ablation.baseline


@pytest.mark.parametrize("ablation", [a for a in ABLATIONS if a.name in NAMES], ids=lambda ablation: ablation.name)
def test_the_baseline_is_as_the_writeup_had_it(ablation: Ablation) -> None:
    assert ablation.baseline in (EFFICIENT_RESNET, RESNET18, RESNET18.override({"schedule.name": "cosine"}))


@pytest.mark.parametrize(("name", "paths", "words"), VARIED_BY_THE_WRITEUP)
def test_what_the_writeup_varied_is_varied_and_what_it_says_is_quoted(name: str, paths: set[str], words: str) -> None:
    assert paths <= set(_find(name).factors)
    assert words in " ".join(FILES[name].read_text().split())


JUDGED_BY = [
    ("weight_decay", "prevent overfitting", {"gap"}),
    ("augmentation", "prevent overfitting", {"gap"}),
    ("batch_norm", "helped with speeding up convergence", {"convergence"}),
    ("grad_clip", "speeds up convergence, above all in the first epochs", {"convergence", "early convergence"}),
    ("lr_schedule", "helps converge to minima rather than oscillate", {"accuracy", "oscillation"}),
    ("lookahead", "more effective exploration", {"accuracy", "convergence"}),
]
"""Metrics by which a statement about more than the final accuracy is judged."""


@pytest.mark.parametrize(("name", "quote", "metrics"), JUDGED_BY)
def test_a_statement_about_a_curve_is_judged_by_a_metric_of_the_curve(name: str, quote: str, metrics: set[str]) -> None:
    assert {claim.metric for claim in _find(name).claims if claim.quote == quote} == metrics


def test_optimizers_differ_from_optimizers_cosine_by_the_schedule_alone() -> None:
    constant, cosine = _find("optimizers"), _find("optimizers_cosine")
    assert [variant.name for variant in constant.variants] == [variant.name for variant in cosine.variants]
    for variant in constant.variants:
        recipe = constant.recipe(variant.name)
        assert recipe.schedule.name == RESNET18.schedule.name == "constant"
        assert cosine.recipe(variant.name) == recipe.override({"schedule.name": "cosine"})
    assert not cosine.claims


@pytest.mark.parametrize(
    ("variant", "fingerprint"), [("sgd_nesterov", "4f672bd9a4dc015a"), ("muon", "dd665c4ad188a70a")]
)
def test_cells_trained_under_the_cosine_schedule_keep_their_fingerprints(variant: str, fingerprint: str) -> None:
    """Compare with the fingerprints of the time when `optimizers` had the cosine schedule."""
    recipe = _find("optimizers_cosine").recipe(variant)
    assert recipe.fingerprint(seed=0, data_hash="c" * 64).startswith(fingerprint)


def test_the_fast_recipe_trains_the_writeups_blocks_and_channels() -> None:
    fast, efficient = FAST.model, EFFICIENT_RESNET.model
    assert (fast.blocks, fast.width, fast.se) == (efficient.blocks, efficient.width, efficient.se)
    assert FAST.train.epochs == EFFICIENT_RESNET.train.epochs


def test_each_variant_of_fast_takes_one_part_out_and_the_last_takes_all() -> None:
    fast = _find("fast")
    assert fast.recipe("efficient") == EFFICIENT_RESNET
    for variant in fast.variants[1:-1]:
        taken = fast.recipe(variant.name).flat()
        differs = {path for path, value in taken.items() if value != FAST.flat()[path]}
        assert differs == set(variant.diff)
        assert {taken[path] == EFFICIENT_RESNET.flat()[path] for path in differs} == {True}


def test_fewer_epochs_trains_both_recipes_a_third_as_long() -> None:
    fewer = _find("fewer_epochs")
    epochs = [fewer.recipe(name).train.epochs for name in ("efficient", "efficient_third", "fast_third")]
    assert epochs == [600, 200, 200]
    assert fewer.recipe("fast_third") == FAST
    assert SCALES["small"].apply(fewer.recipe("efficient")).train.epochs == 30


def test_precision_leaves_nothing_to_the_device() -> None:
    precision = _find("precision")
    assert [precision.recipe(variant.name).train.precision for variant in precision.variants] == ["fp32", "bf16"]
    assert precision.baseline.override({"train.precision": "auto"}) == EFFICIENT_RESNET


def test_a_wide_network_that_pools_has_about_the_work_of_one_that_does_not() -> None:
    pool = _find("stem_pool")
    full, pooled, wide = (network_cost(pool.recipe(variant.name).model) for variant in pool.variants)
    assert full.parameters == pooled.parameters < wide.parameters <= BUDGET
    stem = 32 * 32 * (54 * 27 + 54 * 48)
    assert pooled.macs - stem == pytest.approx((full.macs - stem) / 4, rel=0.001)
    assert wide.macs == pytest.approx(full.macs, rel=0.03)


# Golden counts


@pytest.mark.parametrize(("ablation", "variant", "parameters"), COUNTED)
def test_a_network_has_the_parameters_that_it_had(ablation: str, variant: str, parameters: int) -> None:
    assert _parameters(ablation, variant) == parameters


def test_66_channels_and_48_features_are_the_most_that_fit() -> None:
    assert _parameters("width", "w66") == 4_995_554
    assert network_cost(EFFICIENT_RESNET.override({"model.width": 67}).model).parameters > BUDGET
    assert network_cost(RESNET18.override({"model.extra_fc": 64}).model).parameters == 5_005_578


def test_fewer_and_more_layers_have_as_many_blocks_and_nearly_as_many_parameters() -> None:
    layers = _find("layers")
    for variant in layers.variants:
        assert sum(layers.recipe(variant.name).model.blocks) == 11
        assert _parameters("layers", variant.name) == pytest.approx(4_697_742, rel=0.01)
    assert [_parameters("layers", name) for name in ("two", "four")] == [4_676_176, 4_671_565]


def test_a_forward_pass_of_the_final_network_costs_what_was_counted() -> None:
    assert 2 * network_cost(EFFICIENT_RESNET.model).macs == 1_597_380_608


# docs/registry.md


def _rows() -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in REGISTRY.read_text().splitlines()]
    return {row[0].strip("`"): row for row in cells if row and row[0].startswith("`")}


def test_the_registrys_page_names_every_ablation_and_fits_a_screen() -> None:
    assert set(_rows()) == NAMES | OURS
    assert max(len(line) for line in REGISTRY.read_text().splitlines()) <= 160


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.name)
def test_the_registrys_page_has_the_variants_the_control_and_what_is_over_the_budget(ablation: Ablation) -> None:
    shown = _rows()[ablation.name][3].split(", ")
    assert [name.strip("*†") for name in shown] == [variant.name for variant in ablation.variants]
    assert [name.strip("*†") for name in shown if "**" in name] == [ablation.control]
    assert [name.endswith("†") for name in shown] == [variant.over_budget for variant in ablation.variants]
