"""Cells as they are stored: recipe, metrics, curve, logits and the trained network of each."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from cifar_lab.config.built_in_names import MODELS
from cifar_lab.config.images import CIFAR10_SHAPE, ImageShape
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import CellError, RecipeError, TrackingError, UsageError, nearest
from cifar_lab.report.notebook import Tabular
from cifar_lab.store.cell_record import CellRecord, State
from cifar_lab.store.invocation_index import InvocationIndex, read_index
from cifar_lab.store.journal import read_points
from cifar_lab.store.selection import CellName, cell_names, find_cell
from cifar_lab.store.stopped_cell import count_states, standing
from cifar_lab.text import many

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

_log = logging.getLogger(__name__)
FINGERPRINT = 64
"""Length of a fingerprint, and so of the name of a cell's folder."""
Part = Literal["test", "val", "train"]
PARTS: tuple[Part, ...] = get_args(Part)
"""Parts of the data that logits are kept of."""
EPOCHS = 10
"""Number of epochs that a notebook shows of a cell."""
SHORT = 12
"""Digits of a fingerprint that are shown."""


@dataclass(frozen=True, kw_only=True, repr=False)
class StoredCell(Tabular):
    """One cell of a runs folder. Its `to_frame` is the curve: one row for each epoch."""

    fingerprint: str
    state: State
    standing: str
    """State, or of a missing cell that goes on from its checkpoint `stopped after epoch 1 of 2`."""
    recipe: Recipe | None
    """Recipe as trained; None for a cell without a readable record."""
    seed: int | None
    metrics: Mapping[str, float]
    """Numbers of the result by name, `test/acc` from 0 to 1 and so on; empty for a cell that has not ended."""
    names: tuple[CellName, ...]
    """Ablation, variant and seed under which it was asked for, the latest first."""
    data: str
    """Name of its images; empty where unknown."""
    data_hash: str = ""
    """Hash of its images, 64 hex digits; empty where unknown."""
    classes: tuple[str, ...] = ()
    """Names of the classes in the order of the logits; empty where unknown."""
    side: int = CIFAR10_SHAPE.side
    """Side in pixels of the images that it was trained on."""
    damage: str | None = None
    """File and rule that a damaged record breaks, in one line; None for a sound one."""
    folder: Path

    @cached_property
    def curve(self) -> dict[str, list[tuple[int, float]]]:
        """Return (epoch from 1, value) by metric, in order of epoch.

        Raises:
            DamageError: the journal is damaged.
        """
        found: dict[str, list[tuple[int, float]]] = {}
        for point in read_points(self.folder):
            for metric, value in point.values.items():
                found.setdefault(metric, []).append((point.epoch, value))
        return found

    def logits(self, part: Part = "test") -> tuple[np.ndarray, np.ndarray]:
        """Return the logits of the final weights, (images, classes) float32, and the labels, (images,).

        Those of `train`, all training images in the order of the data, are there after `evaluate --train-logits`.

        Raises:
            UsageError: there is no such part, or the cell has not finished.
            DamageError: the file is damaged, or is not the one that the result was written with.
            TrackingError: there are no logits of this part.
        """
        from cifar_lab.train.cell_artifacts import read_logits

        if part not in PARTS:
            raise UsageError(f"logits of {part!r}: no such part{nearest(str(part), PARTS)}")
        self._require_finished("logits")
        if part == "train":
            from cifar_lab.inference.stored_logits import read_train_logits

            return read_train_logits(CellRecord(self.folder))
        return read_logits(CellRecord(self.folder), part)

    def network(self, device: str = "cpu") -> nn.Module:
        """Build the network with its final weights, in evaluation mode, on `device` (as torch names it, `cuda:1`).

        It takes images as `prepare` returns them, and returns logits, (images, classes).

        Raises:
            UsageError: the cell has not finished.
            DamageError: the weights are damaged, or are not those of the result.
            TrackingError: they are of another network.
        """
        from cifar_lab.execution.trained_weights import load_weights
        from cifar_lab.models.registry import build_network

        recipe = self._require_finished("weights")
        record = CellRecord(self.folder)
        net = build_network(recipe.model, seed=0, images=_shape_of(record))
        try:
            load_weights(net, record)
        except CellError as error:
            raise TrackingError(str(error)) from error
        self._warn_of_changed_code(record, recipe)
        return net.to(device).eval()

    def prepare(self, images: Any, device: str = "cpu") -> Tensor:
        """Convert images to the network's input, (N, 3, side, side), normalised as in training.

        Args:
            images: as `cifar_lab.predict` takes them, pixels from 0 to 255, uint8: (N, side, side, 3), (N, 3, side,
                side) or (N, 3 · side²), an array, a tensor or a list of images.
            device: as torch names it, `cuda:1`.

        Raises:
            UsageError: the cell has not finished.
            DataError: the images have another shape or type.
        """
        import torch

        from cifar_lab.data.augmentation import normalise_only
        from cifar_lab.inference.input_images import Fit, images_of_array

        recipe = self._require_finished("network")
        pixels = images_of_array(images, "images", Fit(self.side)).images
        return normalise_only(torch.tensor(pixels, device=device), recipe.data)

    def records(self) -> list[dict[str, Any]]:
        """Return the epochs with their metrics, None where an epoch lacks one."""
        epochs = sorted({epoch for points in self.curve.values() for epoch, _ in points})
        values = {metric: dict(points) for metric, points in self.curve.items()}
        return [{"epoch": epoch, **{name: of.get(epoch) for name, of in values.items()}} for epoch in epochs]

    def shown(self) -> list[dict[str, Any]]:
        """Return the last epochs with their metrics."""
        return self.records()[-EPOCHS:]

    def caption(self) -> str:
        """Return names, state and test accuracy in one line."""
        named = ", ".join(map(str, self.names)) or "of no ablation"
        accuracy = f", test {100 * self.metrics['test/acc']:.2f} %" if "test/acc" in self.metrics else ""
        return f"{self.fingerprint[:SHORT]} · {named} · {self.standing}{accuracy}"

    def as_row(self) -> dict[str, Any]:
        """Return the cell as one flat record: identity, metrics, and the recipe by dotted path."""
        latest = self.names[0] if self.names else None
        named = {
            "fingerprint": self.fingerprint,
            "ablation": latest.ablation if latest else None,
            "variant": latest.variant if latest else None,
            "seed": self.seed,
            "state": self.state,
            "data": self.data,
        }
        return {**named, **self.metrics, **(self.recipe.flat() if self.recipe is not None else {})}

    def _warn_of_changed_code(self, record: CellRecord, recipe: Recipe) -> None:
        """Warn if the network is a user's and code of the recipe has changed: an edit may be a comment or a layer."""
        cell = record.cell()
        if cell is None or recipe.model.name in MODELS.built_in:
            return
        try:
            names = cell.changed_code()
        except RecipeError as error:  # of an optimizer, for example: the network is there
            _log.warning("warning: %s: %s; whether its network changed is not known", self.fingerprint[:SHORT], error)
            return
        if names:
            said = "warning: %s: %s changed since it was trained, and what its network answers may have, too"
            _log.warning(said, self.fingerprint[:SHORT], names)

    def _require_finished(self, what: str) -> Recipe:
        if self.recipe is None or self.state != "finished":
            why = f": {self.damage}" if self.damage else ""
            raise UsageError(f"{self.fingerprint[:SHORT]} is {self.standing}, not finished, and has no {what}{why}")
        return self.recipe


class StoredCells(Tabular):
    """Cells of a runs folder, in order of ablation, variant and seed; iterable, with a length."""

    def __init__(self, cells: tuple[StoredCell, ...]) -> None:
        self.cells = cells

    def __iter__(self) -> Iterator[StoredCell]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, place: int) -> StoredCell:
        return self.cells[place]

    def records(self) -> list[dict[str, Any]]:
        """Return one flat record for each cell: identity, metrics, and the recipe by dotted path; None for unknown."""
        rows = [cell.as_row() for cell in self.cells]
        columns = dict.fromkeys(name for row in rows for name in row)
        return [{name: row.get(name) for name in columns} for row in rows]

    def shown(self) -> list[dict[str, Any]]:
        """Return identity, state and test accuracy in % of each cell."""
        kept = ("ablation", "variant", "seed")
        return [
            {
                "fingerprint": row["fingerprint"][:SHORT],
                **{name: row[name] for name in kept},
                "state": cell.standing,
                "accuracy %": f"{100 * row['test/acc']:.2f}" if row.get("test/acc") is not None else "",
            }
            for cell, row in zip(self.cells, self.records(), strict=True)
        ]

    def caption(self) -> str:
        """Return the numbers of cells, and of those in each state."""
        states = Counter(cell.state for cell in self.cells)
        stopped = sum(cell.standing != cell.state for cell in self.cells)
        counts = count_states(dict(states.most_common()), stopped)
        return many(len(self), "cell") + (f": {counts}" if counts else "")


def load_cell(runs: Path, name: str) -> StoredCell:
    """Return the cell in `runs` with the name ABLATION/VARIANT/sN or these first digits, whatever its state.

    Raises:
        UsageError: the name has another form, or names no cell or several.
        TrackingError: there is none, or more than one.
    """
    return _stored(find_cell(runs, name), read_index(runs), cell_names(runs))


def load_cells(runs: Path) -> StoredCells:
    """Return every cell in `runs`, also those that failed or are damaged; none where there is no such folder."""
    index, known = read_index(runs), cell_names(runs)
    folders = [path for path in runs.glob("*") if len(path.name) == FINGERPRINT and path.is_dir()]
    cells = [_stored(CellRecord(folder), index, known) for folder in folders]
    cells.sort(key=lambda cell: (cell.names[:1], cell.fingerprint))
    return StoredCells(tuple(cells))


def _stored(found: CellRecord, index: InvocationIndex, known: Mapping[str, list[CellName]]) -> StoredCell:
    content = found.read()
    cell, result, state = content.cell, content.result, content.state
    latest = index.requests(found.fingerprint)[-1:]
    if state == "missing" and any(note.is_pruned(found.fingerprint) for note, _ in latest):
        state = "pruned"
    return StoredCell(
        fingerprint=found.fingerprint,
        state=state,
        standing=standing(found, state),
        recipe=cell.recipe.resolve() if cell is not None else None,
        seed=cell.seed if cell is not None else None,
        metrics=dict(result.metrics) if result is not None else {},
        names=tuple(known.get(found.fingerprint, ())),
        data=cell.data.name if cell is not None else "",
        data_hash=cell.data.hash if cell is not None else "",
        classes=tuple(cell.classes) if cell is not None else (),
        side=cell.shape.side if cell is not None else CIFAR10_SHAPE.side,
        damage=content.damage,
        folder=found.folder,
    )


def _shape_of(record: CellRecord) -> ImageShape:
    """Return the shape of the images that a cell was trained on."""
    cell = record.cell()
    return cell.shape if cell is not None else CIFAR10_SHAPE
