"""Setting of a declaration: its recipes' cells as asked for, and the variants that were not, as missing cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.ablation.lineage import lineages_at
from cifar_lab.config.images import CIFAR10_SHAPE, ImageShape
from cifar_lab.config.scale import find_scale
from cifar_lab.errors import DamageError, UsageError
from cifar_lab.execution.plan import make_cells
from cifar_lab.execution.runner import asked_of
from cifar_lab.models.cost import LARGEST
from cifar_lab.results.declaration import of_declaration
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.selection import Selection


def whole_declaration(setting: Selection, ablation: Ablation, runs: Path) -> Selection:
    """Return the setting with the cells of `ablation` alone, of all of its variants.

    A variant that was not asked for has the seeds of the others, or those of the ablation; without a recipe that fits
    the setting's scale and overrides, such variants are left out.

    Raises:
        UsageError: no recipe of this declaration fits the setting's scale, overrides and code.
    """
    own = of_declaration(setting, ablation)
    latest, asked = own.latest, {cell.variant for cell in own.cells}
    rest = [name for name in lineages_at(ablation, latest.scale, latest.overrides) if name not in asked]
    if not rest:
        return own
    try:
        _, cells = make_cells(
            ablation, scale=find_scale(latest.scale), images=_shape(setting, runs), data_hash=latest.data.hash,
            runs=runs, overrides=latest.overrides, variants=rest,
            seeds=tuple(sorted({cell.seed for cell in own.cells})) or None, max_params=LARGEST,
        )  # fmt: skip
    except UsageError:  # by the overrides of this setting some variants are alike, or one is not for these images
        return own
    added = [asked_of(cell) for cell in cells if cell.variant in rest]
    places = {variant.name: i for i, variant in enumerate(ablation.variants)}
    whole = sorted((*latest.cells, *added), key=lambda cell: (cell.seed, places[cell.variant]))
    return replace(own, invocations=(*own.invocations[:-1], replace(latest, cells=tuple(whole))))


def _shape(setting: Selection, runs: Path) -> ImageShape:
    """Return the shape of the setting's images, as a readable record has it; that of CIFAR-10 without any."""
    for asked in setting.cells:
        try:
            cell = CellRecord(runs / asked.fingerprint).cell()
        except DamageError:
            continue
        if cell is not None:
            return cell.shape
    return CIFAR10_SHAPE
