"""Networks of finished cells that a training needs: the weights that it starts from, and its teachers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from cifar_lab.config.distillation_config import why_no_teacher
from cifar_lab.config.recipe import Recipe
from cifar_lab.data.dataset import Dataset
from cifar_lab.errors import CellError, DamageError
from cifar_lab.models.registry import build_network
from cifar_lab.store.cell_record import CellRecord, advice_on_damage
from cifar_lab.store.record_files import CellFile


def warm_start(net: nn.Module, parent: CellRecord) -> None:
    """Load the final weights of `parent`, after verifying their checksum against its result.

    Raises:
        CellError: `parent` is not finished, is damaged, or has another network.
    """
    with _named("init_from", parent):
        _require_finished(parent)
        load_weights(net, parent)


def load_teachers(recipe: Recipe, runs: Path, dataset: Dataset, device: torch.device) -> list[nn.Module]:
    """Return the teachers of `recipe`, which is trained on `dataset`, with their final weights on `device`.

    Raises:
        CellError: a teacher is not finished, is damaged, was trained for other classes or on differently prepared
            images, or on images that the student holds out.
    """
    return [_teacher(CellRecord(runs / fingerprint), recipe, dataset, device) for fingerprint in recipe.teachers]


def _teacher(record: CellRecord, student: Recipe, dataset: Dataset, device: torch.device) -> nn.Module:
    with _named("train.distill.teacher", record):
        _require_finished(record)
        cell = record.cell()
        assert cell is not None, "a finished cell has described itself"
        recipe = _recipe_of(cell)
        other = cell.classes and tuple(cell.classes) != tuple(dataset.classes)  # records of earlier versions name none
        if other or cell.side not in {None, dataset.shape.side}:
            raise CellError(f"its classes or the side of its images are not those of {dataset.name}")
        if (why := why_no_teacher(recipe, student, same_images=cell.data.hash == dataset.hash)) is not None:
            raise CellError(why)
        if names := cell.changed_code():
            raise CellError(f"{names} changed since it was trained")
        net = build_network(recipe.model, seed=0, images=dataset.shape, device=device)
        load_weights(net, record)
        return net


def _recipe_of(cell: CellFile) -> Recipe:
    try:
        return cell.recipe.resolve()
    except ValidationError as error:
        raise CellError("this version cannot read its recipe") from error


@contextmanager
def _named(path: str, record: CellRecord) -> Iterator[None]:
    """Name the field of the recipe and the cell in the errors of the context."""
    said = f"{path} {record.fingerprint[:12]}"
    try:
        yield
    except DamageError as error:
        raise CellError(f"{said}: {error}; {advice_on_damage(record.fingerprint)}") from error
    except CellError as error:
        raise CellError(f"{said}: {error}") from error


def _require_finished(record: CellRecord) -> None:
    result = record.result()
    if result is None or not result.is_finished:
        raise CellError("that cell is not finished")


def load_weights(net: nn.Module, record: CellRecord) -> None:
    """Load the final weights of a finished cell into `net`, after verifying their checksum against its result.

    Raises:
        DamageError: the weights are not those of the result, or cannot be read.
        CellError: they are of another network.
    """
    record.require_sound(record.weights)
    try:
        weights = load_file(record.weights)
    except (SafetensorError, OSError) as error:
        raise DamageError(f"{record.weights}: cannot be read ({error})") from error
    if (misfit := _misfit(net.state_dict(), weights)) is not None:
        raise CellError(f"its weights do not fit this network: {misfit}")
    net.load_state_dict(weights)


def _misfit(own: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> str | None:
    """Return the first difference between the names and shapes of two networks' tensors; None if all are equal."""
    for name in [*own, *(name for name in given if name not in own)]:
        shapes = [tuple(side[name].shape) if name in side else None for side in (given, own)]
        if shapes[0] != shapes[1]:
            there, here = (
                "missing" if shape is None else "×".join(map(str, shape)) or "one number" for shape in shapes
            )
            return f"{name} is {there} there, {here} here"
    return None
