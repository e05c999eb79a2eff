"""Augmentation policies: AutoAugment, RandAugment, TrivialAugment and AugMix, each image with its own draw.

A policy draws, for each image, rows of a table: an operation of `image_operations` with its parameters. So the draws of
an epoch are whole numbers, and a step needs no value of the host. Operations, probabilities and magnitudes are those of
`torchvision.transforms.v2`, where the papers leave a choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar_lab.config.augmentation_policy import PolicyConfig
from cifar_lab.data import image_operations
from cifar_lab.data.image_operations import OPERATIONS

CHAINS, DEPTH = 3, 3
"""Chains of AugMix, and the most operations in one."""
MIX_ALPHA = 1.0
"""Parameter of the Dirichlet and Beta distributions of AugMix's weights."""
GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
ENHANCING = ("Brightness", "Color", "Contrast", "Sharpness")
SIGNED = frozenset({*GEOMETRIC, *ENHANCING})
"""Operations whose magnitude is negative for half of the images."""
Rows = NDArray[np.int32]

SUB_POLICIES: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("Invert", 0.1, 0), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 0), ("Equalize", 0.9, 0)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 0), ("Equalize", 0.5, 0)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, 0), ("AutoContrast", 0.4, 0)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 0)),
    (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 0), ("Equalize", 0.6, 0)),
    (("Color", 0.9, 9), ("Equalize", 0.6, 0)),
    (("AutoContrast", 0.8, 0), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 0)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 0), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, 0), ("Invert", 0.1, 0)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 0)),
)
"""AutoAugment's policy for CIFAR-10 (Cubuk et al., 2019): twice operation, probability, level of magnitude."""


@dataclass(frozen=True, kw_only=True)
class MagnitudeSpace:
    """Operations of a policy, and their magnitudes on `levels` equal steps from 0 to the largest one."""

    operations: tuple[str, ...]
    levels: int
    shear: float
    translate: float | Callable[[int], float]
    """Pixels, or a function from the side of the images to pixels."""
    rotate: float
    """Degrees."""
    enhance: float
    """Largest change of the factor of brightness, colour, contrast and sharpness, which is 1 for no change."""
    bits: tuple[int, int]
    """Bits that posterising keeps at level 0, and at most how many fewer."""
    bilinear: bool = False

    def magnitudes(self, operation: str, side: int) -> list[float]:
        """Return the magnitude of each level; empty for operations without one."""
        if operation == "Posterize":
            first, fewer = self.bits
            return (first - torch.arange(self.levels) / ((self.levels - 1) / fewer)).round().tolist()
        if operation == "Solarize":
            return torch.linspace(1, 0, self.levels).tolist()
        translate = self.translate if isinstance(self.translate, float) else self.translate(side)
        largest = {
            "ShearX": self.shear, "ShearY": self.shear, "TranslateX": translate, "TranslateY": translate,
            "Rotate": self.rotate, **dict.fromkeys(ENHANCING, self.enhance),
        }  # fmt: skip
        return torch.linspace(0, largest[operation], self.levels).tolist() if operation in largest else []


PLAIN = ("AutoContrast", "Equalize")
RAND_AUGMENT = MagnitudeSpace(
    operations=("Identity", *GEOMETRIC, *ENHANCING, "Posterize", "Solarize", *PLAIN), levels=31,
    shear=0.3, translate=lambda side: 150 / 331 * side, rotate=30.0, enhance=0.9, bits=(8, 4),
)  # fmt: skip
AUTO_AUGMENT = MagnitudeSpace(
    operations=(*GEOMETRIC, *ENHANCING, "Posterize", "Solarize", *PLAIN, "Invert"), levels=10,
    shear=0.3, translate=lambda side: 150 / 331 * side, rotate=30.0, enhance=0.9, bits=(8, 4),
)  # fmt: skip
TRIVIAL_AUGMENT = MagnitudeSpace(
    operations=RAND_AUGMENT.operations, levels=31,
    shear=0.99, translate=32.0, rotate=135.0, enhance=0.99, bits=(8, 6),
)  # fmt: skip
AUG_MIX = MagnitudeSpace(
    operations=(*GEOMETRIC, "Posterize", "Solarize", *PLAIN), levels=10, bilinear=True,
    shear=0.3, translate=lambda side: side / 3, rotate=30.0, enhance=0.9, bits=(4, 4),
)  # fmt: skip
AUG_MIX_ALL = replace(AUG_MIX, operations=(*AUG_MIX.operations, *ENHANCING))


class OperationTable(NamedTuple):
    """Rows of operations with their parameters; row 0 changes nothing."""

    kinds: Tensor
    """(rows,) int64: place in `OPERATIONS`, counted from 1; 0 for none."""
    parameters: Tensor
    """(rows, 6) float32."""
    used: tuple[int, ...]
    """Kinds that occur, on the host."""


class PolicyDraws(NamedTuple):
    """Draws of a policy for n images."""

    rows: Rows
    """(n, operations): rows of the policy's table, applied from left to right; AugMix: its chains side by side.

    With consistency the chains of the second view follow those of the first, and so do the weights.
    """
    weights: NDArray[np.float32]
    """(n, 1 + chains): AugMix's weights of the image itself and of each chain; (n, 0) for other policies."""


def draw_policy(policy: PolicyConfig, n: int, random: np.random.Generator) -> PolicyDraws:
    """Draw the operations of n images; none for the policy "none"."""
    weights = np.empty((n, 0), np.float32)
    if policy.name == "none":
        return PolicyDraws(np.empty((n, 0), np.int32), weights)
    if policy.name == "autoaugment":
        return PolicyDraws(_draw_sub_policies(n, random), weights)
    space = _space(policy.name, policy.all_ops)
    if policy.name == "randaugment":
        levels = np.full((n, policy.num_ops), policy.magnitude)
        return PolicyDraws(_draw_rows(space, levels, random), weights)
    if policy.name == "trivialaugment":
        return PolicyDraws(_draw_rows(space, random.integers(0, space.levels, (n, 1)), random), weights)
    views = [_draw_chains(space, policy.severity, n, random) for _ in range(max(1, policy.views - 1))]
    return PolicyDraws(*(np.hstack(parts) for parts in zip(*views, strict=True)))


def _draw_chains(space: MagnitudeSpace, severity: int, n: int, random: np.random.Generator) -> PolicyDraws:
    """Draw one view by AugMix for each of n images."""
    rows = _draw_rows(space, random.integers(0, severity, (n, CHAINS * DEPTH)), random)
    depth = random.integers(1, DEPTH, (n, CHAINS, 1), endpoint=True)
    rows = np.where(np.arange(DEPTH) < depth, rows.reshape(n, CHAINS, DEPTH), 0).reshape(n, -1)
    own = random.beta(MIX_ALPHA, MIX_ALPHA, (n, 1))
    chains = (1 - own) * random.dirichlet([MIX_ALPHA] * CHAINS, n)
    return PolicyDraws(rows, np.hstack([own, chains]).astype(np.float32))


def policy_views(images: Tensor, rows: Tensor, weights: Tensor, policy: PolicyConfig) -> Tensor:
    """Return the images after the policy or, for AugMix's consistency, the images and then two views of each.

    The arguments are those of `apply_policy`; the result is (N, 3, side, side), or (3 · N, 3, side, side), uint8.
    """
    if policy.views == 1:
        return apply_policy(images, rows, weights, policy)
    drawn = zip(rows.chunk(policy.views - 1, dim=1), weights.chunk(policy.views - 1, dim=1), strict=True)
    return torch.cat([images, *(apply_policy(images, *view, policy) for view in drawn)])


def apply_policy(images: Tensor, rows: Tensor, weights: Tensor, policy: PolicyConfig) -> Tensor:
    """Apply the operations that were drawn to each image.

    Args:
        images: (N, 3, side, side) uint8; the result has the same shape and type.
        rows: (N, operations) int32, as drawn by `draw_policy`, on the same device.
        weights: (N, 1 + chains) float32, or (N, 0).
        policy: policy of the draws.
    """
    table = operation_table(_space(policy.name, policy.all_ops), images.shape[-1], images.device)
    grouped = images.device.type == "cpu"
    if policy.name != "augmix":
        return apply_operations(images, rows, table, grouped=grouped)
    chained = rows.view(-1, CHAINS, DEPTH).transpose(0, 1).reshape(-1, DEPTH)
    chains = apply_operations(images.repeat(CHAINS, 1, 1, 1), chained, table, grouped=grouped).chunk(CHAINS)
    own, *shares = weights[:, :, None, None, None].unbind(1)
    mixed = images * own
    for chain, share in zip(chains, shares, strict=True):
        mixed += chain * share
    return mixed.to(torch.uint8)


def apply_operations(images: Tensor, rows: Tensor, table: OperationTable, *, grouped: bool) -> Tensor:
    """Apply to each image the operations of its rows, (N, operations) int32, from left to right.

    Grouped, an operation is computed for the images that drew it; choosing them waits for a device other than the CPU.
    Otherwise it is computed for all and kept for those. The results are the same.
    """
    images = images.clone()
    for drawn in rows.unbind(1):
        kinds, parameters = table.kinds.index_select(0, drawn), table.parameters.index_select(0, drawn)
        for kind in table.used:
            chosen, operation = kinds == kind, OPERATIONS[kind - 1]
            if not grouped:
                images = torch.where(chosen[:, None, None, None], operation(images, parameters), images)
            elif len(at := chosen.nonzero().squeeze(1)):
                changed = operation(images.index_select(0, at), parameters.index_select(0, at))
                images.index_copy_(0, at, changed)
    return images


@cache  # otherwise every step would wait for a copy to the device
def operation_table(space: MagnitudeSpace, side: int, device: torch.device) -> OperationTable:
    """Return the operations of `space` for images of `side` pixels; `_row_numbers` has the place of each."""
    kinds: list[int] = [0]
    parameters: list[tuple[float, ...]] = [(0.0,) * 6]
    for operation in space.operations:
        for magnitude in _signed(operation, space.magnitudes(operation, side)):
            kind, values = _operation(operation, magnitude, side, bilinear=space.bilinear)
            kinds.append(kind)
            parameters.append((*values, *(0.0,) * (6 - len(values))))
    used = tuple(sorted(set(kinds) - {0}))
    return OperationTable(torch.tensor(kinds, device=device), torch.tensor(parameters, device=device), used)


def _signed(operation: str, magnitudes: list[float]) -> list[float]:
    """Return the magnitudes, and then their negatives if the operation has a sign; one 0 if it has no magnitude."""
    if not magnitudes:
        return [0.0]
    return [*magnitudes, *(-each for each in magnitudes)] if operation in SIGNED else magnitudes


@cache
def _row_numbers(space: MagnitudeSpace) -> Rows:
    """Return the row of the table by operation, level, and whether the magnitude is negative."""
    numbers, row = [], 1
    for operation in space.operations:
        magnitudes = space.magnitudes(operation, side=32)  # their number is that of any side
        levels = row + np.arange(space.levels) % max(1, len(magnitudes))
        numbers.append(np.stack([levels, levels + len(magnitudes) * (operation in SIGNED)], axis=1))
        row += len(_signed(operation, magnitudes))
    return np.array(numbers, np.int32)


def _draw_rows(space: MagnitudeSpace, levels: NDArray[np.integer], random: np.random.Generator) -> Rows:
    """Draw an operation and a sign for each of `levels`."""
    operations = random.integers(0, len(space.operations), levels.shape)
    rows: Rows = _row_numbers(space)[operations, levels, random.integers(0, 2, levels.shape)]
    return rows


def _draw_sub_policies(n: int, random: np.random.Generator) -> Rows:
    names = AUTO_AUGMENT.operations
    operations = np.array([[names.index(name) for name, _, _ in pair] for pair in SUB_POLICIES])
    probabilities = np.array([[probability for _, probability, _ in pair] for pair in SUB_POLICIES])
    levels = np.array([[level for _, _, level in pair] for pair in SUB_POLICIES])
    chosen = random.integers(0, len(SUB_POLICIES), n)
    applied = random.random((n, 2)) < probabilities[chosen]
    rows = _row_numbers(AUTO_AUGMENT)[operations[chosen], levels[chosen], random.integers(0, 2, (n, 2))]
    return np.where(applied, rows, 0)


def _space(name: str, all_ops: bool) -> MagnitudeSpace:
    spaces = {"autoaugment": AUTO_AUGMENT, "randaugment": RAND_AUGMENT, "trivialaugment": TRIVIAL_AUGMENT}
    return spaces.get(name, AUG_MIX_ALL if all_ops else AUG_MIX)


def _operation(name: str, magnitude: float, side: int, *, bilinear: bool) -> tuple[int, Sequence[float]]:
    """Return the kind of an operation and its parameters, as `image_operations` takes them."""
    matrix = _matrix(name, magnitude, side)
    if matrix is not None:
        half = torch.tensor(side / 2)
        warp = image_operations.warp_bilinear if bilinear else image_operations.warp_nearest
        return OPERATIONS.index(warp) + 1, (torch.tensor(matrix) / half).tolist()
    kinds = {
        "Brightness": (image_operations.adjust_brightness, (1 + magnitude,)),
        "Color": (image_operations.adjust_color, (1 + magnitude, -magnitude)),
        "Contrast": (image_operations.adjust_contrast, (1 + magnitude, -magnitude)),
        "Sharpness": (image_operations.adjust_sharpness, (1 + magnitude, -magnitude)),
        "Posterize": (image_operations.posterize, (256 - 2.0 ** (8 - magnitude),)),
        "Solarize": (image_operations.solarize, (255 * magnitude,)),
        "Invert": (image_operations.solarize, (0.0,)),
        "AutoContrast": (image_operations.autocontrast, ()),
        "Equalize": (image_operations.equalize, ()),
    }
    if name not in kinds:
        return 0, ()
    operation, parameters = kinds[name]
    return OPERATIONS.index(operation) + 1, parameters


def _matrix(name: str, magnitude: float, side: int) -> tuple[float, ...] | None:
    """Return the affine map from a pixel's place to its source's, in pixels from the centre; None if there is none."""
    if name == "Rotate":
        cos, sin = math.cos(math.radians(magnitude)), math.sin(math.radians(magnitude))
        return cos, -sin, 0.0, sin, cos, 0.0
    moved = float(int(magnitude))
    return {
        "ShearX": (1.0, magnitude, magnitude * side / 2, 0.0, 1.0, 0.0),  # about the upper left corner
        "ShearY": (1.0, 0.0, 0.0, magnitude, 1.0, magnitude * side / 2),
        "TranslateX": (1.0, 0.0, -moved, 0.0, 1.0, 0.0),
        "TranslateY": (1.0, 0.0, 0.0, 0.0, 1.0, -moved),
    }.get(name)
