"""Networks of records as a model server takes them: raw images in, logits out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cifar_lab.errors import TrackingError
from cifar_lab.inference.raw_image_network import RawImageNetwork
from cifar_lab.inference.stored_cells import load_cell
from cifar_lab.store.cell_record import CellRecord

EXAMPLES = 2
"""Images in the example: from a batch of one, a tracer would take the number as a constant."""


@dataclass(frozen=True, kw_only=True)
class ServableNetwork:
    """Network on the CPU with what a server has to know of it."""

    network: nn.Module
    """Maps images, (N, 3, side, side) uint8, to logits, (N, classes) float32; normalisation is inside."""
    example: NDArray[np.uint8]
    """(2, 3, side, side): an input."""
    classes: tuple[str, ...]
    """Names of the classes in the order of the logits."""


def servable_network(record: CellRecord) -> ServableNetwork:
    """Return the network of a finished cell.

    Raises:
        UsageError: the cell has not finished.
        TrackingError: its weights are missing or damaged.
    """
    stored, cell = load_cell(record.folder.parent, record.fingerprint), record.cell()
    if stored.recipe is None or cell is None:
        raise TrackingError(f"{record.fingerprint[:12]} has no readable record")
    network = RawImageNetwork(stored.network(), stored.recipe, stored.recipe.train.tta).eval()
    side = cell.shape.side
    example = np.random.default_rng(0).integers(0, 256, (EXAMPLES, 3, side, side), dtype=np.uint8)
    return ServableNetwork(network=network, example=example, classes=stored.classes)
