"""Labelled images to evaluate on: the test images of a cell's own data, or those of another source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cifar_lab.data import NAMES, load
from cifar_lab.data.dataset import Dataset, Images, Labels
from cifar_lab.data.messages import title
from cifar_lab.data.progress import silent
from cifar_lab.errors import DataError, UsageError
from cifar_lab.inference.run_names import ChosenRun, ChosenRuns, require_same_classes, require_same_side

DRAW_SEED = 0
"""Seed of the draw where fewer images are evaluated than there are."""


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Images with labels in the order of the classes of the runs."""

    images: Images
    """(N, 32, 32, 3) uint8."""
    labels: Labels
    """(N,)."""
    classes: tuple[str, ...]
    source: str
    """Name of the data."""
    all_images: int
    """Number of images that these were drawn from."""
    index: Labels
    """(N,): positions among all images."""
    own: Dataset | None = None
    """Data that the runs were trained on, if the images are its test images."""

    def __len__(self) -> int:
        return len(self.images)

    def described(self) -> str:
        """Return number and source in one line."""
        if len(self) == self.all_images:
            return f"{len(self):,} test images of {self.source}"
        return f"{len(self):,} of {self.all_images:,} test images of {self.source}, drawn by seed {DRAW_SEED}"


def own_data(run: ChosenRun, say: Callable[[str], None] = silent) -> Dataset:
    """Return the data that a run was trained on, from the source in its record.

    Raises:
        UsageError: no note names the source.
        DataError: the source is not there, or holds other images than those of the training.
    """
    if not run.source:
        raise UsageError(f"{run.name}: no note names the source of its images; give --data (in Python data=…)")
    dataset = load(run.source, say=say)
    if run.cell.data_hash and dataset.hash != run.cell.data_hash:
        raise DataError(
            f"data {run.source} holds other images (hash {dataset.hash[:12]}) than {run.name} was trained on "
            f"({run.cell.data_hash[:12]}); --data {run.source} (in Python data=…) evaluates on them anyway"
        )
    return dataset


def labelled_images(
    chosen: ChosenRuns, data: str | None, *, count: int | None = None, say: Callable[[str], None] = silent
) -> LabelledImages:
    """Return the test images of `data`, or without it those of the data that the runs were trained on.

    Args:
        chosen: the runs.
        data: `cifar10`, `synthetic` or a path, also of a test set alone; None for the runs' own.
        count: number of images to draw; None for all.
        say: function that shows one line.

    Raises:
        UsageError: the runs were trained on different images or classes, or `count` is not positive.
        DataError: images cannot be read, are not those of the record, or have other classes.
    """
    classes = require_same_classes(chosen)
    if count is not None and count < 1:
        raise UsageError(f"images {count}: at least one image is needed")
    if data is None:
        hashes = {run.cell.data_hash for run in chosen.runs}
        if len(hashes) > 1:
            raise UsageError(
                "the runs were trained on different images; give those to evaluate on by --data (in Python data=…)"
            )
        dataset = own_data(chosen.runs[0], say)
    elif (alone := _test_set(data, classes, chosen, say)) is not None:
        return alone if count is None or count >= len(alone) else _drawn(alone, count)
    else:
        dataset = load(data, say=say)
    labels = _in_order(dataset, classes)
    whole = LabelledImages(
        images=dataset.test_images, labels=labels, classes=classes, source=dataset.name, all_images=len(labels),
        index=np.arange(len(labels)), own=dataset if data is None else None,
    )  # fmt: skip
    return whole if count is None or count >= len(whole) else _drawn(whole, count)


def _test_set(
    data: str, classes: tuple[str, ...], chosen: ChosenRuns, say: Callable[[str], None]
) -> LabelledImages | None:
    """Return a test set without training images beside it; None for other sources."""
    path = Path(data).expanduser()
    if data in NAMES or not path.exists():
        return None
    from cifar_lab.data.sources import naming_source
    from cifar_lab.inference.test_set import read_test_set

    with naming_source(path):
        found = read_test_set(path, classes, require_same_side(chosen))
    if found is None:
        return None
    for note in found.notes:
        say(note)
    return LabelledImages(
        images=found.images, labels=found.labels, classes=classes, source=title(path.name),
        all_images=len(found.labels), index=np.arange(len(found.labels)),
    )  # fmt: skip


def _in_order(dataset: Dataset, classes: tuple[str, ...]) -> Labels:
    """Return the test labels as indices into `classes`."""
    if dataset.classes == classes:
        return np.asarray(dataset.test_labels)
    missing = [name for name in dataset.classes if name not in classes]
    if missing:
        raise DataError(f"data {dataset.name} has the class '{missing[0]}', which the runs do not know")
    place = np.array([classes.index(name) for name in dataset.classes])
    return np.asarray(place[dataset.test_labels])


def _drawn(whole: LabelledImages, count: int) -> LabelledImages:
    chosen = np.sort(np.random.default_rng(DRAW_SEED).choice(len(whole), size=count, replace=False))
    return replace(whole, images=whole.images[chosen], labels=whole.labels[chosen], index=chosen)
