"""Policies: each operation is torchvision's at each magnitude, and operations are drawn as the papers say."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose
from torch import Tensor
from torchvision.transforms import v2

from cifar_lab.config.augmentation_policy import PolicyConfig
from cifar_lab.data import augmentation_policy
from cifar_lab.data.augmentation_policy import (
    AUG_MIX,
    AUG_MIX_ALL,
    AUTO_AUGMENT,
    CHAINS,
    DEPTH,
    GEOMETRIC,
    RAND_AUGMENT,
    SIGNED,
    SUB_POLICIES,
    TRIVIAL_AUGMENT,
    MagnitudeSpace,
    OperationTable,
    apply_operations,
    apply_policy,
    draw_policy,
    operation_table,
)
from cifar_lab.data.image_operations import OPERATIONS

CPU = torch.device("cpu")
THEIRS: dict[str, tuple[MagnitudeSpace, Any]] = {
    "autoaugment": (AUTO_AUGMENT, v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)),
    "randaugment": (RAND_AUGMENT, v2.RandAugment()),
    "trivialaugment": (TRIVIAL_AUGMENT, v2.TrivialAugmentWide()),
    "augmix": (AUG_MIX_ALL, v2.AugMix()),
}
EVERY = [(name, operation) for name, (space, _) in THEIRS.items() for operation in space.operations]
POLICIES = [
    PolicyConfig(name="autoaugment"),
    PolicyConfig(name="randaugment", num_ops=3, magnitude=17),
    PolicyConfig(name="trivialaugment"),
    PolicyConfig(name="augmix", severity=7),
    PolicyConfig(name="augmix", all_ops=True),
]


def pictures(side: int = 32) -> Tensor:
    """Noise, a smooth picture, one colour, two levels, and a picture of few greys."""
    chance = torch.Generator().manual_seed(side)
    noise = torch.randint(0, 256, (3, 3, side, side), generator=chance)
    coarse = torch.randint(0, 256, (2, 3, 5, 5), generator=chance).float()
    smooth = F.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 255).long()
    colour = torch.full((1, 3, side, side), 77)
    return torch.cat([noise, smooth, colour, noise[:1] // 128 * 200, smooth[:1] // 64 + 100]).to(torch.uint8)


def by_torchvision(name: str, image: Tensor, operation: str, magnitude: float) -> Tensor:
    """Return what the class of torchvision makes of one image."""
    theirs = THEIRS[name][1]
    options = {"interpolation": theirs.interpolation, "fill": theirs._fill}
    return theirs._apply_image_or_video_transform(image, operation, magnitude, **options)


def rows_of(space: MagnitudeSpace, side: int) -> list[tuple[str, float]]:
    """Return the operation and the magnitude of each row of the table."""
    rows = [("Identity", 0.0)]
    for operation in space.operations:
        magnitudes = space.magnitudes(operation, side) or [0.0]
        signs = (1, -1) if operation in SIGNED else (1,)
        rows += [(operation, sign * magnitude) for sign in signs for magnitude in magnitudes]
    return rows


# Operations and magnitudes


@pytest.mark.parametrize(("name", "operation"), EVERY, ids=[f"{a}-{b}" for a, b in EVERY])
@pytest.mark.parametrize("side", [32, 20])
def test_an_operation_is_torchvisions_on_each_image(name: str, operation: str, side: int) -> None:
    space, images = THEIRS[name][0], pictures(side)
    table = operation_table(space, side, CPU)
    for row, (drawn, magnitude) in enumerate(rows_of(space, side)):
        if drawn != operation:
            continue
        rows = torch.full((len(images), 1), row, dtype=torch.int32)
        made = apply_operations(images, rows, table, grouped=True)
        expected = torch.stack([by_torchvision(name, image, operation, magnitude) for image in images])
        difference = (made.int() - expected.int()).abs()
        if operation in GEOMETRIC:  # a source exactly between two pixels may be rounded to either
            assert (difference > 1).float().mean() <= 0.02, magnitude
        else:
            assert difference.max() <= 1, magnitude
        assert (difference > 0).float().mean() <= 0.02, magnitude


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("side", [32, 96])
def test_operations_and_magnitudes_are_torchvisions(name: str, side: int) -> None:
    space, theirs = THEIRS[name]
    assert set(space.operations) == set(theirs._AUGMENTATION_SPACE)
    for operation, (magnitudes, is_signed) in theirs._AUGMENTATION_SPACE.items():
        expected = magnitudes(space.levels, side, side)
        assert space.magnitudes(operation, side) == ([] if expected is None else expected.tolist()), operation
        assert (operation in SIGNED) == is_signed


def test_the_levels_and_the_defaults_are_torchvisions() -> None:
    assert RAND_AUGMENT.levels == v2.RandAugment().num_magnitude_bins
    assert TRIVIAL_AUGMENT.levels == v2.TrivialAugmentWide().num_magnitude_bins
    assert AUG_MIX.levels == v2.AugMix()._PARAMETER_MAX
    rand, mix, config = v2.RandAugment(), v2.AugMix(), PolicyConfig()
    assert (config.num_ops, config.magnitude, config.severity) == (rand.num_ops, rand.magnitude, mix.severity)
    assert (mix.mixture_width, mix.chain_depth, mix.alpha) == (CHAINS, -1, augmentation_policy.MIX_ALPHA)
    assert set(AUG_MIX.operations) == set(v2.AugMix._PARTIAL_AUGMENTATION_SPACE)


def test_the_policy_for_cifar10_is_torchvisions() -> None:
    theirs = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)._policies
    assert [[(name, p, level or 0) for name, p, level in pair] for pair in theirs] == [list(p) for p in SUB_POLICIES]


def test_every_operation_belongs_to_a_policy() -> None:
    kinds = {kind for space, _ in THEIRS.values() for kind in operation_table(space, 32, CPU).used}
    assert kinds == set(range(1, len(OPERATIONS) + 1))


# What is made of a batch


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_an_image_is_what_torchvisions_operations_make_of_it_in_the_order_drawn(policy: PolicyConfig) -> None:
    images = pictures().repeat(4, 1, 1, 1)
    draws = draw_policy(policy, len(images), np.random.default_rng(5))
    rows, weights = (torch.from_numpy(each) for each in draws)
    made = apply_policy(images, rows, weights, policy)
    space = AUG_MIX if policy.name == "augmix" and not policy.all_ops else THEIRS[policy.name][0]
    named = rows_of(space, 32)

    def run(image: Tensor, numbers: list[int]) -> Tensor:
        for number in numbers:
            operation, magnitude = named[number]
            image = by_torchvision(policy.name, image, operation, magnitude) if operation != "Identity" else image
        return image

    for i, image in enumerate(images):
        if policy.name != "augmix":
            expected = run(image, rows[i].tolist())
        else:
            mixed = weights[i, 0] * image
            for chain in range(CHAINS):
                mixed += weights[i, 1 + chain] * run(image, rows[i].view(CHAINS, DEPTH)[chain].tolist())
            expected = mixed.to(torch.uint8)
        far = (made[i].int() - expected.int()).abs() > 2
        assert far.float().mean() <= 0.02, [named[number] for number in rows[i].tolist()]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_an_image_does_not_depend_on_its_batch(policy: PolicyConfig) -> None:
    images = pictures().repeat(3, 1, 1, 1)
    rows, weights = (torch.from_numpy(each) for each in draw_policy(policy, len(images), np.random.default_rng(1)))
    whole = apply_policy(images, rows, weights, policy)
    for at in (torch.tensor([3]), torch.arange(7, 2, -1), torch.arange(10, 24)):
        assert apply_policy(images[at], rows[at], weights[at], policy).equal(whole[at])


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_the_images_given_are_left_alone(policy: PolicyConfig) -> None:
    images, before = pictures(), pictures()
    rows, weights = (torch.from_numpy(each) for each in draw_policy(policy, len(images), np.random.default_rng(1)))
    assert not apply_policy(images, rows, weights, policy).equal(before)
    assert images.equal(before)


@pytest.mark.parametrize("space", [AUTO_AUGMENT, RAND_AUGMENT, TRIVIAL_AUGMENT, AUG_MIX_ALL], ids=lambda s: str(s.bits))
def test_computed_for_all_images_an_operation_gives_what_it_gives_for_some(space: MagnitudeSpace) -> None:
    """Compare the way of a GPU, which never chooses images, with the way of the CPU."""
    table, images = operation_table(space, 32, CPU), pictures().repeat(20, 1, 1, 1)
    rows = torch.randint(0, len(table.kinds), (len(images), 3), generator=torch.Generator().manual_seed(2)).int()
    one, other = (apply_operations(images, rows, table, grouped=grouped) for grouped in (True, False))
    assert one.equal(other)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_no_value_is_read_back_from_the_device(policy: PolicyConfig) -> None:
    """Tensors on the meta device have no values: whoever waits for one there fails."""
    draws = [torch.from_numpy(each).to("meta") for each in draw_policy(policy, 8, np.random.default_rng(0))]
    made = apply_policy(pictures().to("meta"), *draws, policy)
    assert (made.shape, made.dtype) == ((8, 3, 32, 32), torch.uint8)


# Draws


def counted(space: MagnitudeSpace, rows: Any) -> Counter[str]:
    named = rows_of(space, 32)
    return Counter(named[row][0] for row in np.asarray(rows).ravel().tolist())


@pytest.mark.parametrize(("name", "column"), [("randaugment", 0), ("randaugment", 1), ("trivialaugment", 0)])
def test_operations_are_drawn_uniformly(name: str, column: int) -> None:
    space = THEIRS[name][0]
    rows = draw_policy(PolicyConfig(name=name), 28_000, np.random.default_rng(0)).rows[:, column]
    counts = counted(space, rows)
    assert set(counts) == set(space.operations)
    assert_allclose([counts[operation] for operation in space.operations], 28_000 / 14, rtol=0.1)


def test_two_operations_of_an_image_are_independent() -> None:
    rows = draw_policy(PolicyConfig(name="randaugment"), 39_200, np.random.default_rng(0)).rows
    named = [operation for operation, _ in rows_of(RAND_AUGMENT, 32)]
    pairs = Counter((named[a], named[b]) for a, b in rows.tolist())
    assert len(pairs) == 14 * 14
    assert_allclose(list(pairs.values()), 39_200 / 14**2, rtol=0.4)


def test_trivialaugment_draws_every_level_and_sign_alike() -> None:
    rows = draw_policy(PolicyConfig(name="trivialaugment"), 200_000, np.random.default_rng(0)).rows
    named = rows_of(TRIVIAL_AUGMENT, 32)
    levels = Counter(named[row] for row in rows.ravel().tolist())
    for operation in ("Rotate", "Solarize"):
        magnitudes = TRIVIAL_AUGMENT.magnitudes(operation, 32)[1:]
        signs = (1, -1) if operation in SIGNED else (1,)
        found = [levels[operation, sign * magnitude] for magnitude in magnitudes for sign in signs]
        assert_allclose(found, 200_000 / 14 / 31 / len(signs), rtol=0.35)


@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_randaugment_has_one_magnitude_with_a_random_sign(magnitude: int) -> None:
    policy = PolicyConfig(name="randaugment", num_ops=1, magnitude=magnitude)
    rows = draw_policy(policy, 10_000, np.random.default_rng(0)).rows
    named = rows_of(RAND_AUGMENT, 32)
    drawn = [named[row] for row in rows.ravel().tolist()]
    for operation in RAND_AUGMENT.operations:
        magnitudes = RAND_AUGMENT.magnitudes(operation, 32)
        expected = magnitudes[magnitude] if magnitudes else 0.0
        found = [value for name, value in drawn if name == operation]
        assert {abs(value) for value in found} == {expected}
        if operation in SIGNED and magnitude:
            assert np.mean(np.array(found) < 0) == pytest.approx(0.5, abs=0.08)


def test_autoaugment_draws_sub_policies_uniformly_and_each_half_by_its_probability() -> None:
    rows = draw_policy(PolicyConfig(name="autoaugment"), 200_000, np.random.default_rng(0)).rows
    for column in range(2):
        expected = Counter[str]()
        for pair in SUB_POLICIES:
            operation, probability, _ = pair[column]
            expected[operation] += probability * 200_000 / 25
            expected["Identity"] += (1 - probability) * 200_000 / 25
        found = counted(AUTO_AUGMENT, rows[:, column])
        assert set(found) == {operation for operation, count in expected.items() if count}
        for operation, count in expected.items():
            assert found[operation] == pytest.approx(count, rel=0.1)


def test_autoaugment_uses_the_magnitudes_of_its_sub_policies_and_no_others() -> None:
    rows = draw_policy(PolicyConfig(name="autoaugment"), 200_000, np.random.default_rng(0)).rows
    named = rows_of(AUTO_AUGMENT, 32)
    for column in range(2):
        used = {(pair[column][0], pair[column][2]) for pair in SUB_POLICIES if pair[column][1]}
        expected = {(name, (AUTO_AUGMENT.magnitudes(name, 32) or [0.0] * 10)[level]) for name, level in used}
        found = {(named[row][0], abs(named[row][1])) for row in rows[:, column].tolist() if row}
        assert found == expected


@pytest.mark.parametrize("all_ops", [False, True])
def test_augmix_draws_chains_of_one_to_three_operations_of_low_severity(all_ops: bool) -> None:
    draws = draw_policy(PolicyConfig(name="augmix", severity=4, all_ops=all_ops), 20_000, np.random.default_rng(0))
    space = AUG_MIX_ALL if all_ops else AUG_MIX
    chains = draws.rows.reshape(-1, DEPTH)
    depth = (chains > 0).sum(1)
    assert (np.sort(chains == 0, axis=1) == (chains == 0)).all(), "what is left out comes last"
    assert_allclose(np.bincount(depth, minlength=4) / len(chains), [0, 1 / 3, 1 / 3, 1 / 3], atol=0.01)
    counts = counted(space, chains[chains > 0])
    assert set(counts) == set(space.operations)
    assert_allclose(list(counts.values()), sum(counts.values()) / len(space.operations), rtol=0.05)
    named = rows_of(space, 32)
    levels = space.magnitudes("Rotate", 32)
    found = {abs(named[row][1]) for row in chains.ravel().tolist() if named[row][0] == "Rotate"}
    assert found == set(levels[:4])


def test_augmixs_weights_are_distributed_as_torchvisions() -> None:
    """Dirichlet of (1, 1, 1), times a uniform share: the means are 1/2 and 1/6, and the weights sum to 1."""
    weights = draw_policy(PolicyConfig(name="augmix"), 40_000, np.random.default_rng(0)).weights
    assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert_allclose(weights.mean(0), [1 / 2, 1 / 6, 1 / 6, 1 / 6], atol=0.005)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch._sample_dirichlet(torch.ones(40_000, 2))
        chains = torch._sample_dirichlet(torch.ones(40_000, CHAINS)) * theirs[:, 1:]
    levels = [0.1, 0.3, 0.5, 0.7, 0.9]
    assert_allclose(np.quantile(weights[:, 0], levels), np.quantile(theirs[:, 0], levels), atol=0.01)
    assert_allclose(np.quantile(weights[:, 2], levels), np.quantile(chains[:, 1], levels), atol=0.01)


def test_a_table_has_one_neutral_row_and_one_for_each_magnitude() -> None:
    table: OperationTable = operation_table(RAND_AUGMENT, 32, CPU)
    assert len(table.kinds) == len(rows_of(RAND_AUGMENT, 32)) == 1 + 9 * 62 + 2 * 31 + 3
    assert table.parameters.shape == (len(table.kinds), 6)
