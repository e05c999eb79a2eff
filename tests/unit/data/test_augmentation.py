"""Augmentation: every image by its own draw, and each method as its paper and torchvision have it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from made.extensions import grey, tint
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from cifar_lab.config.augmentation_policy import AugmentationConfig, PolicyConfig, RandomErasingConfig
from cifar_lab.config.recipe import DataConfig
from cifar_lab.config.seeding import stream
from cifar_lab.data.augmentation import (
    MEAN,
    STD,
    Batch,
    augment,
    crop_and_flip,
    cutmix,
    cutout,
    draw_epoch,
    mixup,
    normalise_only,
)
from cifar_lab.data.augmentation_policy import apply_policy, draw_policy
from cifar_lab.data.augmentation_registry import draw_own
from cifar_lab.data.random_erasing import draw_erased_boxes

PLAIN = DataConfig(crop=0, flip=False)
OWN = tuple(AugmentationConfig(name=f"made.extensions:{name}") for name in ("grey", "tint"))
EVERYTHING = DataConfig(
    crop=4, flip=True, cutout=8, mixup=0.8, cutmix=1.0, policy=PolicyConfig(name="augmix"),
    random_erasing=RandomErasingConfig(probability=0.5), augmentations=OWN,
)  # fmt: skip


def pixels(n: int = 16) -> Tensor:
    return torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


def float_batch(n: int = 16) -> Batch:
    labels = torch.arange(n) % 10
    return normalise_only(pixels(n), PLAIN), torch.nn.functional.one_hot(labels, 10).float()


def partner_of(batch: Batch) -> Batch:
    return batch[0].roll(1, 0), batch[1].roll(1, 0)


# Crop, flip and normalise


def test_crop_flip_and_normalise_are_torchvisions_on_each_image() -> None:
    images, data = pixels(), DataConfig(crop=4, flip=True)
    draws = draw_epoch(data, 16, seed=0, epoch=0)
    augmented, _ = augment(images, torch.zeros(16, dtype=torch.int64), draws, data)
    for i in range(16):
        top, left = draws.crop[i].tolist()
        image = tv.crop(tv.pad(images[i].permute(2, 0, 1), [4]), top, left, 32, 32)
        image = tv.horizontal_flip(image) if draws.flip[i] else image
        expected = tv.normalize(tv.to_dtype(image, torch.float32, scale=True), list(MEAN), list(STD))
        torch.testing.assert_close(augmented[i], expected, rtol=1e-5, atol=1e-6)


def test_every_corner_of_the_padded_image_can_be_cropped() -> None:
    images = pixels(81)
    corners = torch.cartesian_prod(torch.arange(9), torch.arange(9)).int()
    crops = crop_and_flip(images, corners, torch.zeros(81, dtype=torch.bool), padding=4)
    padded = np.pad(images.numpy(), [(0, 0), (4, 4), (4, 4), (0, 0)])
    for crop, image, (top, left) in zip(crops.numpy(), padded, corners.tolist(), strict=True):
        assert (crop == image[top : top + 32, left : left + 32]).all()


@pytest.mark.parametrize(
    "data", [PLAIN, DataConfig(crop=0, flip=True), DataConfig(crop=2, flip=False), DataConfig(), EVERYTHING], ids=str
)
def test_images_come_out_as_channels_last_floats(data: DataConfig) -> None:
    images, _ = augment(pixels(), torch.zeros(16, dtype=torch.int64), draw_epoch(data, 16, seed=0, epoch=0), data)
    assert images.shape == (16, 3, 32, 32)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_with_all_off_an_image_is_only_normalised() -> None:
    labels = torch.arange(16)
    images, targets = augment(pixels(), labels, draw_epoch(PLAIN, 16, seed=0, epoch=0), PLAIN)
    assert images.equal(normalise_only(pixels(), PLAIN))
    assert targets is labels


def test_without_normalisation_pixels_are_scaled_to_the_unit_interval() -> None:
    images = normalise_only(pixels(), DataConfig(normalise=False))
    torch.testing.assert_close(images, pixels().permute(0, 3, 1, 2) / 255)


def test_images_normalised_first_in_inference_mode_can_still_be_trained_on() -> None:
    with torch.inference_mode():
        normalise_only(pixels(), PLAIN)
    convolution = torch.nn.Conv2d(3, 2, 3)
    convolution(normalise_only(pixels(), PLAIN)).sum().backward()
    assert convolution.weight.grad is not None


# Cutout


def test_cutout_blanks_the_box_and_nothing_else() -> None:
    images, _ = float_batch(2)
    blanked = cutout(images, torch.tensor([[0, 28, 4, 32], [10, 10, 26, 26]]))
    expected = images.clone()
    expected[0, :, 0:4, 28:32] = 0
    expected[1, :, 10:26, 10:26] = 0
    assert blanked.equal(expected)


@pytest.mark.parametrize("side", [1, 7, 8, 32])
def test_cutout_is_a_square_centred_on_any_pixel_and_clipped_at_the_border(side: int) -> None:
    boxes = draw_epoch(DataConfig(cutout=side), 20_000, seed=0, epoch=0).cutout.numpy()
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() == 0
    assert boxes.max() == 32
    assert (height.min(), height.max()) == (width.min(), width.max()) == ((side + 1) // 2, side)
    whole = min(1, (33 - side) / 32) ** 2  # the share of centres from which nothing is clipped
    assert ((height == side) & (width == side)).mean() == pytest.approx(whole, abs=0.02)


# MixUp and CutMix


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_mixup_is_torchvisions(lam: float, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = float_batch()
    monkeypatch.setattr(v2.MixUp, "make_params", lambda *_: {"lam": lam})
    images, targets = mixup(batch, partner_of(batch), torch.full((16,), lam))
    expected_images, expected_targets = v2.MixUp(num_classes=10)(batch[0], batch[1].argmax(1))
    torch.testing.assert_close(images, expected_images)
    torch.testing.assert_close(targets, expected_targets)


@pytest.mark.parametrize("box", [(3, 5, 20, 9), (0, 0, 32, 32), (7, 7, 7, 7)])
def test_cutmix_is_torchvisions(box: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    batch = float_batch()
    top, left, bottom, right = box
    kept = 1 - (bottom - top) * (right - left) / 1024
    params = {"box": (left, top, right, bottom), "lam_adjusted": kept}
    monkeypatch.setattr(v2.CutMix, "make_params", lambda *_: params)
    images, targets = cutmix(batch, partner_of(batch), torch.tensor([box] * 16))
    expected_images, expected_targets = v2.CutMix(num_classes=10)(batch[0], batch[1].argmax(1))
    assert images.equal(expected_images)
    torch.testing.assert_close(targets, expected_targets)


def test_each_image_is_mixed_by_its_own_draw() -> None:
    (images, targets), lam = float_batch(4), torch.tensor([1.0, 0.75, 0.5, 0.0])
    mixed, mixed_targets = mixup((images, targets), partner_of((images, targets)), lam)
    for i in range(4):
        torch.testing.assert_close(mixed[i], lam[i] * images[i] + (1 - lam[i]) * images[i - 1])
        torch.testing.assert_close(mixed_targets[i], lam[i] * targets[i] + (1 - lam[i]) * targets[i - 1])


def test_with_both_on_each_image_takes_one_of_them_by_a_fair_coin() -> None:
    draws = draw_epoch(EVERYTHING, 20_000, seed=0, epoch=0)
    cut = draws.mixup == 1
    assert cut.float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert (draws.cutmix[~cut, :2] == draws.cutmix[~cut, 2:]).all()


def test_with_both_on_an_image_is_what_the_one_it_takes_makes_of_it() -> None:
    data = DataConfig(crop=0, flip=False, mixup=0.8, cutmix=1.0)
    draws, (images, targets) = draw_epoch(data, 16, seed=0, epoch=0), float_batch()
    augmented, augmented_targets = augment(pixels(), targets.argmax(1), draws, data)
    by_mixup = mixup((images, targets), partner_of((images, targets)), draws.mixup)
    by_cutmix = cutmix((images, targets), partner_of((images, targets)), draws.cutmix)
    for i, (own, other) in enumerate(zip(by_mixup[0], by_cutmix[0], strict=True)):
        cut = draws.mixup[i] == 1
        assert augmented[i].equal(other if cut else own)
        assert augmented_targets[i].equal((by_cutmix if cut else by_mixup)[1][i])


def test_mixed_targets_are_probabilities() -> None:
    draws = draw_epoch(EVERYTHING, 64, seed=0, epoch=0)
    _, targets = augment(pixels(64), torch.arange(64) % 7, draws, EVERYTHING, classes=7)
    assert targets.shape == (64, 7)
    assert (targets >= 0).all()
    torch.testing.assert_close(targets.sum(1), torch.ones(64))


def test_a_batch_of_one_mixes_with_itself() -> None:
    data = DataConfig(crop=0, flip=False, mixup=1.0)
    images, targets = augment(pixels(1), torch.tensor([3]), draw_epoch(data, 1, seed=0, epoch=0), data)
    torch.testing.assert_close(images, normalise_only(pixels(1), data))
    assert targets.argmax() == 3


@pytest.mark.parametrize(
    ("alpha", "quantile"),
    [
        (0.5, lambda q: np.sin(np.pi * q / 2) ** 2),  # the arcsine distribution
        (1.0, lambda q: q),
        (2.0, lambda q: 0.5 - np.sin(np.arcsin(1 - 2 * q) / 3)),  # the root of 3x² - 2x³ = q
    ],
)
def test_lambda_has_the_quantiles_of_the_beta_distribution(
    alpha: float, quantile: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> None:
    lam, q = draw_epoch(DataConfig(mixup=alpha), 50_000, seed=0, epoch=0).mixup.numpy(), np.linspace(0.02, 0.98, 25)
    assert_allclose(np.quantile(lam, q), quantile(q), atol=0.01)


def test_lambda_is_a_number_however_small_or_great_alpha_is() -> None:
    for alpha in (1e-3, 1e3):
        lam = draw_epoch(DataConfig(mixup=alpha), 1000, seed=0, epoch=0).mixup
        assert ((lam >= 0) & (lam <= 1)).all()
        assert lam.mean().item() == pytest.approx(0.5, abs=0.05)


def test_cutmix_boxes_are_distributed_as_torchvisions() -> None:
    transform, image = v2.CutMix(alpha=0.7, num_classes=10), torch.zeros(1, 3, 32, 32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = np.array([transform.make_params([image])["box"] for _ in range(4000)])[:, [1, 0, 3, 2]]
    ours = draw_epoch(DataConfig(cutmix=0.7), 50_000, seed=0, epoch=0).cutmix.numpy()
    assert_allclose(ours.mean(0), theirs.mean(0), atol=0.6)
    assert_allclose(np.corrcoef(ours.T), np.corrcoef(theirs.T), atol=0.05)
    levels = [0.1, 0.3, 0.5, 0.7, 0.9]
    our_areas, their_areas = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) / 1024 for b in (ours, theirs))
    assert_allclose(np.quantile(our_areas, levels), np.quantile(their_areas, levels), atol=0.03)


# Policies, random erasing, and augmentations of users


def test_the_order_is_crop_flip_policy_own_pixels_normalise_own_floats_cutout_erasing_mixup() -> None:
    """Compose the steps by hand in the documented order; no two of them commute on these images."""
    data = EVERYTHING.model_copy(update={"cutmix": 0.0, "policy": PolicyConfig(name="randaugment", num_ops=3)})
    images, labels, draws = pixels(), torch.arange(16) % 10, draw_epoch(data, 16, seed=0, epoch=0)
    augmented, targets = augment(images, labels, draws, data)
    step = crop_and_flip(images, draws.crop, draws.flip, padding=4).permute(0, 3, 1, 2)
    step = apply_policy(step, draws.policy, draws.policy_weights, data.policy)
    step = grey().apply(step, draws.own[:, :1])
    step = tint().apply(normalise_only(step.permute(0, 2, 3, 1).contiguous(), data), draws.own[:, 1:])
    step = cutout(cutout(step, draws.cutout), draws.erased)
    one_hot = torch.nn.functional.one_hot(labels, 10).float()
    expected = mixup((step, one_hot), partner_of((step, one_hot)), draws.mixup)
    torch.testing.assert_close((augmented, targets), expected)


def test_each_augmentation_of_a_user_has_random_numbers_of_its_own() -> None:
    draws = draw_epoch(DataConfig(augmentations=(*OWN, *OWN)), 5000, seed=0, epoch=0).own
    assert draws.shape == (5000, 8)
    assert_allclose(np.corrcoef(draws.numpy().T), np.eye(8), atol=0.06)
    assert 0 <= draws.min() < 0.01 < 0.99 < draws.max() < 1
    other_order = draw_epoch(DataConfig(augmentations=(OWN[1], OWN[0])), 5000, seed=0, epoch=0).own
    assert other_order.equal(draws[:, [1, 2, 3, 0]]), "the numbers belong to the name"


def test_draws_belong_to_the_image_wherever_it_comes_in_the_epoch() -> None:
    draws, order = draw_epoch(EVERYTHING, 500, seed=1, epoch=2), np.random.default_rng(stream(1, "order", 2))
    order = order.permutation(500)
    policy = draw_policy(EVERYTHING.policy, 500, np.random.default_rng(stream(1, "policy", 2)))
    boxes = draw_erased_boxes(EVERYTHING.random_erasing, 500, 32, np.random.default_rng(stream(1, "erasing", 2)))
    own = draw_own(EVERYTHING.augmentations, 500, seed=1, epoch=2)
    assert (draws.policy.numpy() == policy.rows[order]).all()
    assert (draws.policy_weights.numpy() == policy.weights[order]).all()
    assert (draws.erased.numpy() == boxes[order]).all()
    assert (draws.own.numpy() == own[order]).all()


# Draws


def test_a_draw_depends_on_seed_and_epoch_and_nothing_else() -> None:
    draws = vars(draw_epoch(EVERYTHING, 100, seed=1, epoch=2))
    same = vars(draw_epoch(EVERYTHING, 100, seed=1, epoch=2))
    assert all(value.equal(draws[name]) for name, value in same.items())
    for seed, epoch in ((0, 2), (1, 3)):
        other = vars(draw_epoch(EVERYTHING, 100, seed=seed, epoch=epoch))
        assert not any(value.equal(draws[name]) for name, value in other.items())


@pytest.mark.parametrize(
    "data",
    [
        DataConfig(cutout=16),
        DataConfig(policy=PolicyConfig(name="autoaugment")),
        DataConfig(mixup=0.2),
        DataConfig(cutmix=1.0),
        EVERYTHING,
        DataConfig(normalise=False),
    ],
    ids=str,
)
def test_order_crops_and_flips_are_the_same_whatever_else_is_on(data: DataConfig) -> None:
    plain, other = draw_epoch(DataConfig(), 1000, seed=3, epoch=7), draw_epoch(data, 1000, seed=3, epoch=7)
    assert other.order.equal(plain.order)
    assert other.crop.equal(plain.crop)
    assert other.flip.equal(plain.flip)


def test_order_crops_and_flips_come_from_streams_of_their_own() -> None:
    draws = draw_epoch(DataConfig(crop=4), 1000, seed=3, epoch=7)
    order, crop, flip = (np.random.default_rng(stream(3, purpose, 7)) for purpose in ("order", "crop", "flip"))
    assert (draws.order.numpy() == order.permutation(1000)).all()
    assert (draws.crop.numpy() == crop.integers(0, 9, (1000, 2), dtype=np.int32)).all()
    assert (draws.flip.numpy() == (flip.random(1000) < 0.5)).all()


def flips_by_image(data: DataConfig, epoch: int, seed: int = 0) -> NDArray[np.bool_]:
    draws = draw_epoch(data, 500, seed=seed, epoch=epoch)
    flips = np.empty(500, dtype=bool)
    flips[draws.order.numpy()] = draws.flip.numpy()
    return flips


def test_alternating_each_image_is_mirrored_every_second_epoch() -> None:
    data = DataConfig(alternating_flip=True)
    first, second, third = (flips_by_image(data, epoch) for epoch in range(3))
    assert (first != second).all()
    assert (first == third).all()
    assert 200 < first.sum() < 300
    assert (first != flips_by_image(data, 0, seed=1)).any()


def test_alternating_changes_neither_the_order_nor_the_crops_and_off_is_off() -> None:
    plain, alternating = (draw_epoch(DataConfig(alternating_flip=on), 500, seed=0, epoch=3) for on in (False, True))
    assert (plain.order == alternating.order).all()
    assert (plain.crop == alternating.crop).all()
    assert not draw_epoch(DataConfig(flip=False, alternating_flip=True), 500, seed=0, epoch=1).flip.any()


def test_what_is_off_is_drawn_as_no_change() -> None:
    draws = draw_epoch(PLAIN, 1000, seed=3, epoch=7)
    assert draws.order.equal(draw_epoch(DataConfig(), 1000, seed=3, epoch=7).order)
    assert not draws.crop.any()
    assert not draws.flip.any()
    assert (draws.mixup == 1).all()
    assert draws.policy.shape == draws.policy_weights.shape == draws.own.shape == (1000, 0)
    for box in (draws.cutout, draws.cutmix, draws.erased):
        assert box[:, :2].equal(box[:, 2:])


def test_coins_of_the_mix_are_the_same_for_any_alpha() -> None:
    first = draw_epoch(DataConfig(mixup=2.0, cutmix=1.0), 1000, seed=0, epoch=0)
    second = draw_epoch(DataConfig(mixup=1.0, cutmix=0.3), 1000, seed=0, epoch=0)
    assert (first.mixup == 1).equal(second.mixup == 1)


def test_the_order_is_a_permutation_crops_are_uniform_and_half_the_images_flip() -> None:
    draws = draw_epoch(DataConfig(crop=4), 45_000, seed=0, epoch=0)
    assert draws.order.sort().values.equal(torch.arange(45_000))
    counts = torch.bincount(draws.crop[:, 0] * 9 + draws.crop[:, 1], minlength=81)
    assert_allclose(counts, 45_000 / 81, rtol=0.2)
    assert draws.flip.float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_a_slice_of_the_draws_augments_a_batch_as_within_the_epoch() -> None:
    data = EVERYTHING.model_copy(update={"mixup": 0.0, "cutmix": 0.0})
    draws, images, labels = draw_epoch(data, 16, seed=0, epoch=0), pixels(), torch.zeros(16, dtype=torch.int64)
    whole, _ = augment(images, labels, draws, data)
    part, _ = augment(images[4:10], labels[4:10], draws[4:10], data)
    assert part.equal(whole[4:10])


def test_a_batch_reads_no_value_back_from_the_device() -> None:
    """Tensors on the meta device have no values: whoever waits for one there fails."""
    draws = draw_epoch(EVERYTHING, 16, seed=0, epoch=0, device="meta")
    labels = torch.zeros(16, dtype=torch.int64, device="meta")
    images, targets = augment(pixels().to("meta"), labels, draws[0:16], EVERYTHING)
    assert images.shape == (16, 3, 32, 32)
    assert targets.shape == (16, 10)
