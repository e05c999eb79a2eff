"""Outputs of trained networks for arrays of images, computed as the training computed its evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.data.augmentation import normalise_only
from cifar_lab.data.dataset import Images
from cifar_lab.errors import TrackingError, UsageError, nearest
from cifar_lab.execution.device import find_device
from cifar_lab.execution.settings import prepare_process, usable_cores
from cifar_lab.inference.run_names import ChosenRun
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.train.evaluate import BATCH, ON_A_GPU, TTA, views
from cifar_lab.train.precision import Precision, autocast, resolve_precision

Views = Literal["none", "mirror", "mirror_shift"]
VIEWS: dict[str, TTA] = {
    "none": "none", "mirror": "flip", "mirror_shift": "flip_shift", "flip": "flip", "flip_shift": "flip_shift",
}  # fmt: skip
"""Test-time augmentation by the words of the commands and by those of `train.tta` in a recipe."""
WORDS: dict[TTA, Views] = {"none": "none", "flip": "mirror", "flip_shift": "mirror_shift"}
Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Member:
    """One trained network on its device."""

    run: ChosenRun
    net: nn.Module
    recipe: Recipe
    device: torch.device
    precision: Precision
    tta: TTA

    def how(self) -> str:
        """Return device, precision and test-time augmentation in one line."""
        return f"{self.device}, {self.precision}, test-time augmentation {WORDS[self.tta]}"


def how_all(members: Sequence[Member]) -> str:
    """Return `how` of several networks in one line."""
    return "; ".join(dict.fromkeys(member.how() for member in members))


def parse_views(word: str | None) -> TTA | None:
    """Return the test-time augmentation of this name; None for None, which stands for that of the recipe.

    Raises:
        UsageError: there is none of this name.
    """
    if word is None:
        return None
    if word not in VIEWS:
        raise UsageError(f"tta {word}: no such test-time augmentation{nearest(word, list(WORDS.values()))}")
    return VIEWS[word]


def torch_device(name: str) -> torch.device:
    """Return the torch device of this name; `auto` is the best one of this machine.

    Raises:
        UsageError: the name is unknown, or this machine does not have the device.
    """
    device = find_device(name)
    if device.kind == "cuda":  # the settings of a training, so that stored logits come out again
        prepare_process(Execution(device="cuda", threads=usable_cores(), precision="auto"))
    return torch.device(device.kind if device.index is None else f"cuda:{device.index}")


def load_member(run: ChosenRun, device: torch.device, tta: TTA | None = None) -> Member:
    """Build the network of a run with its final weights.

    The precision is the one that the recipe gets on `device`; `tta` None is that of the recipe.

    Raises:
        DamageError: the weights are damaged, or are not those of the result.
        TrackingError: they are not there, or of another network.
    """
    recipe = run.cell.recipe
    assert recipe is not None, "a finished cell has a recipe"
    record = CellRecord(run.cell.folder)
    if not record.fetch(record.weights):
        raise TrackingError(f"{run.name}: its weights are not there; `cifar-lab pack --weights` takes them along")
    net = run.cell.network(str(device))
    precision = resolve_precision(recipe.train.precision, device)
    return Member(
        run=run,
        net=net,
        recipe=recipe,
        device=device,
        precision=precision,
        tta=recipe.train.tta if tta is None else tta,
    )


def load_members(runs: Sequence[ChosenRun], device: str, tta: str | None) -> list[Member]:
    """Build the networks of several runs on the device of this name; errors are those of `load_member`."""
    views_of_all, place = parse_views(tta), torch_device(device)
    return [load_member(run, place, views_of_all) for run in runs]


def batches(images: Images, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images, (B, 32, 32, 3) uint8, on the device, and their positions, (B,) int64."""
    size = ON_A_GPU if device.type == "cuda" else BATCH
    for start in range(0, len(images), size):
        part = torch.from_numpy(np.array(images[start : start + size])).to(device)
        yield part, torch.arange(start, start + len(part), device=device)


@torch.no_grad()
def batch_logits(member: Member, images: Tensor) -> Tensor:
    """Return the logits of one batch, (B, 32, 32, 3) uint8, as (B, classes) float32 on the device."""
    with autocast(member.precision, member.device):
        seen = views(normalise_only(images, member.recipe.data), member.tta)
        total = sum(weight * member.net(view).float() for weight, view in seen)
    assert isinstance(total, Tensor)
    return total


def compute_logits(member: Member, images: Images) -> Floats:
    """Return the logits of images, (N, 32, 32, 3) uint8, as (N, classes) float32."""
    parts = [batch_logits(member, part).cpu().numpy() for part, _ in batches(images, member.device)]
    return np.concatenate(parts)


def softmax(logits: Floats) -> Floats:
    """Return probabilities, (N, classes) float32."""
    shifted = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float32)
