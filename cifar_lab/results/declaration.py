"""Restrict a setting, whose invocations share an ablation's name, to the cells of one declaration of that name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.ablation.lineage import lineages_at
from cifar_lab.errors import UsageError
from cifar_lab.store.invocation import Invocation, unite
from cifar_lab.store.record_files import CrossedVariants
from cifar_lab.store.selection import Selection, has_baseline_of


class DeclaredFields(NamedTuple):
    """Fields of an invocation's note that describe how its ablation compares variants."""

    control: str
    against: dict[str, str]
    margin: float
    crossing: CrossedVariants | None


def declared_fields(ablation: Ablation, scale: str) -> DeclaredFields:
    """Return the fields of a note of `ablation` at a scale, by its name."""
    others = {each.name: ablation.compared_with(each.name) for each in ablation.variants}
    crossing = ablation.crossing()
    return DeclaredFields(
        control=ablation.control,
        against={name: other for name, other in others.items() if other is not None},
        margin=ablation.margin(scale),
        crossing=CrossedVariants(**crossing.model_dump()) if crossing is not None else None,
    )


def of_declaration(setting: Selection, ablation: Ablation) -> Selection:
    """Return the setting with the cells of the recipes of `ablation` alone, compared as it declares.

    Its latest invocation stays, perhaps without cells.

    Raises:
        UsageError: there is no such scale any more, or the setting's overrides or code of the user's fit no variant.
    """
    latest = setting.latest
    lineages = lineages_at(ablation, latest.scale, latest.overrides)
    *earlier, last = (_restricted(each, lineages, ablation.control) for each in setting.invocations)
    last = replace(last, **declared_fields(ablation, latest.scale)._asdict())
    kept = (*(each for each in earlier if each.cells), last)
    words = _redeclared(setting.invocations, lineages, [each.name for each in ablation.variants], "left out")
    return replace(setting, invocations=kept, redeclared=words)


def _restricted(note: Invocation, lineages: Mapping[str, str], control: str) -> Invocation:
    """Return a note with the cells of these lineages; its variance prior is that of its control."""
    cells = tuple(cell for cell in note.cells if lineages.get(cell.variant) == cell.recipe)
    if len(cells) == len(note.cells):
        return note
    has_control = note.control == control and any(cell.variant == control for cell in cells)
    changes: dict[str, Any] = {} if has_control else {"prior": None}
    return replace(note, cells=cells, **changes)


def redeclared(setting: Selection, now: Ablation | None = None) -> str:
    """Return in one line how an ablation was declared otherwise in earlier invocations of a setting; empty: it was not.

    Of a setting that was not restricted, the declaration is that of its latest invocation, as far as its note has it.
    `now`: the declaration of this moment, if it is known; it may have been changed since that invocation.
    """
    if setting.redeclared is not None:
        return setting.redeclared
    latest, lineages = setting.latest, {cell.variant: cell.recipe for cell in unite(list(setting.invocations))}
    names: Collection[str] = {latest.control, *latest.against} if latest.against else lineages
    unlike = ""
    if now is not None and has_baseline_of(now, latest):
        with suppress(UsageError):  # scale, overrides or code of the setting are not there any more
            of_now = lineages_at(now, latest.scale, latest.overrides)
            names = [each.name for each in now.variants]
            changed = [name for name in lineages if name in names and of_now.get(name) != lineages[name]]
            unlike = "; not the recipe of the declaration of now: " + ", ".join(changed) if changed else ""
    words = _redeclared(setting.invocations, lineages, names, "kept in this table, which has all that ran by this name")
    return (words + unlike).removeprefix("; ")


def _redeclared(
    invocations: Sequence[Invocation], lineages: Mapping[str, str], names: Collection[str], removed: str
) -> str:
    """Describe the cells of other recipes, and the variants that are not among `names`."""
    others: dict[str, str] = {}
    gone: dict[str, None] = {}
    for note in invocations:
        for cell in note.cells:
            if cell.variant not in names:
                gone[cell.variant] = None
            elif lineages.get(cell.variant) != cell.recipe:
                others[cell.variant] = note.id
    parts = [f"{name} was another recipe in invocation {id}, left out" for name, id in others.items()]
    if gone:
        is_one = len(gone) == 1
        parts.append(f"{', '.join(gone)} {'is' if is_one else 'are'} not in the declaration of now, {removed}")
    return "; ".join(parts)
