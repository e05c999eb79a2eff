"""A setting: the invocations that ask one question, and the cells that answer it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.ablation.lineage import lineages_at
from cifar_lab.config.overrides import format_overrides
from cifar_lab.config.scale import baseline_identity, find_scale
from cifar_lab.errors import DamageError, DataError, TrackingError, UsageError, nearest
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.comparison_key import ComparisonKey
from cifar_lab.store.invocation import CellRef, Invocation, unite
from cifar_lab.store.invocation_index import InvocationIndex, read_index
from cifar_lab.store.runs_folder import find_record

_SEED = re.compile(r"(.+)/s(\d+)", re.ASCII)


class CellName(NamedTuple):
    """Name of a cell in an ablation."""

    ablation: str
    variant: str
    seed: int

    def __str__(self) -> str:
        return f"{self.ablation} {self.variant}/s{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """One ablation at one scale, on some data, with some overrides."""

    invocations: tuple[Invocation, ...]
    """All invocations of the setting, the oldest first."""
    others: tuple[Invocation, ...] = ()
    """Latest invocation of every other setting that matches the request."""
    redeclared: str | None = None
    """What is left out of a setting that is restricted to one declaration; None: it is not (`results.declaration`)."""

    @property
    def latest(self) -> Invocation:
        return self.invocations[-1]

    @property
    def cells(self) -> list[CellRef]:
        """Return the cells of all invocations, each variant and seed once."""
        return unite(list(self.invocations))

    def title(self) -> str:
        """`scale small · CIFAR-10 · train.epochs=3`."""
        scale, data, overrides = self.latest.scale, self.latest.data.name, self.latest.overrides
        return " · ".join(filter(None, [f"scale {scale}", data, format_overrides(overrides)]))

    def as_dict(self) -> dict[str, Any]:
        latest = self.latest
        data = {"name": latest.data.name, "hash": latest.data.hash}
        named = {"ablation": latest.ablation, "scale": latest.scale, "data": data, "overrides": latest.overrides}
        return {**named, "invocation": latest.id, "invocations": len(self.invocations)}


def select(
    runs: Path, ablation: str, *, scale: str | None = None, data: str | None = None,
    overrides: Mapping[str, Any] | None = None, invocation: str | None = None, declared: Ablation | None = None,
) -> Selection:  # fmt: skip
    """Return the setting of the latest matching invocation of `ablation`, or of the one with the id `invocation`.

    Without `overrides`, any match; if `scale` or `data` is given, a setting without overrides is preferred.
    `declared`: an ablation of that name, whose baseline the invocation has; one that asked for its recipes alone is
    preferred.

    Raises:
        TrackingError: nothing in `runs` matches.
        DamageError: notes that might match cannot be read.
    """
    index = read_index(runs)
    own = index.of_ablation(ablation)
    if not own:
        if lost := index.damage_of(ablation):
            raise DamageError(f"'{ablation}': no note of it can be read: {lost[0]}; `cifar-lab fsck` checks the folder")
        run = sorted({entry.ablation for entry in index.invocations})
        raise TrackingError(f"'{ablation}' has not been run in {runs}{nearest(ablation, run)}")
    if invocation is not None:
        chosen = _named(invocation, own, index)
        if declared is not None and not has_baseline_of(declared, chosen):
            raise TrackingError(f"invocation {invocation}: its baseline is not that of this declaration")
        return _selection(index, chosen.key)
    if declared is not None and not (own := [entry for entry in own if has_baseline_of(declared, entry)]):
        line = f"'{ablation}' has not been run in {runs} with the baseline of this declaration"
        raise TrackingError(f"{line}; its name alone stands for all that was run by it")
    matching = _matching(own, scale, data, overrides)
    if declared is not None:
        matching = _of_its_recipes(declared, matching) or matching
    if not matching:
        settings = "; ".join(map(typed, _latest(own)))
        raise TrackingError(f"'{ablation}' was run as {settings}, never as asked for")
    plain = [entry for entry in matching if not entry.overrides]
    is_plain = (scale is not None or data is not None) and not overrides and plain
    chosen = (plain if is_plain else matching)[-1]
    others = [entry for entry in matching if entry.key != chosen.key]
    return _selection(index, chosen.key, others)


def named_cells(setting: Selection, name: str) -> list[CellRef]:
    """Return the cells that ABLATION, ABLATION/VARIANT or ABLATION/VARIANT/sN names in a setting of that ablation.

    Raises:
        UsageError: the setting has no such variant, or not with that seed.
    """
    ablation, _, rest = name.partition("/")
    if not rest:
        return setting.cells
    names = {cell.variant for cell in setting.cells}
    match = _SEED.fullmatch(rest) if rest not in names else None
    variant, seed = (match[1], int(match[2])) if match else (rest, None)
    if variant not in names:
        raise UsageError(f"{ablation} has no variant '{variant}'{nearest(variant, sorted(names))}")
    own = [cell for cell in setting.cells if cell.variant == variant]
    found = [cell for cell in own if seed in (None, cell.seed)]
    if not found:
        seeds = ", ".join(f"s{cell.seed}" for cell in own)
        raise UsageError(f"{ablation}/{variant} has no seed {seed}; it has {seeds}")
    return found


def find_cell(runs: Path, name: str) -> CellRecord:
    """Return the cell in `runs` with the name ABLATION/VARIANT/sN, or whose fingerprint begins so, ignoring case.

    Of a name with a slash, the latest setting of the ablation is meant.

    Raises:
        UsageError: the text has another form, or names no cell or several.
        TrackingError: no cell matches, or more than one.
    """
    if re.fullmatch("[0-9a-fA-F]{1,64}", name):
        return find_record(runs, name.lower())
    if "/" not in name:
        raise UsageError(
            f"a cell is ABLATION/VARIANT/sN, or the first digits (0-9, a-f) of a fingerprint; got '{name}'"
        )
    cells = named_cells(select(runs, name.partition("/")[0]), name)
    if len(cells) > 1:
        seeds = ", ".join(f"s{cell.seed}" for cell in cells)
        raise UsageError(f"'{name}' names {len(cells)} cells, one is wanted; add a seed of {seeds}")
    return find_record(runs, cells[0].fingerprint)


def read_settings(runs: Path, *, scale: str | None = None, data: str | None = None) -> list[Selection]:
    """Return every matching setting in `runs`; that of the latest invocation comes last."""
    index = read_index(runs)
    keys = dict.fromkeys(invocation.key for invocation in _matching(index.invocations, scale, data, None))
    return sorted((_selection(index, key) for key in keys), key=lambda setting: setting.latest.id)


def cell_names(runs: Path) -> dict[str, list[CellName]]:
    """Return all names of every cell, by fingerprint, the latest name first."""
    names: dict[str, dict[CellName, None]] = {}
    for invocation in reversed(read_index(runs).invocations):
        for cell in invocation.cells:
            names.setdefault(cell.fingerprint, {})[CellName(invocation.ablation, cell.variant, cell.seed)] = None
    return {fingerprint: list(each) for fingerprint, each in names.items()}


def _selection(index: InvocationIndex, key: ComparisonKey, others: Iterable[Invocation] = ()) -> Selection:
    return Selection(invocations=tuple(index.with_key(key)), others=tuple(_latest(others)))


def _matching(
    invocations: Sequence[Invocation], scale: str | None, data: str | None, overrides: Mapping[str, Any] | None
) -> list[Invocation]:
    """Return the invocations that match; `data` at a path where none was run matches by the hash of its images."""
    matching = [entry for entry in invocations if _matches(entry, scale, data, overrides)]
    if matching or data is None or (hash := _hash(data)) is None:
        return matching
    return [entry for entry in invocations if entry.data.hash == hash and _matches(entry, scale, None, overrides)]


def _hash(data: str) -> str | None:
    """Return the hash of the images at a path; None for what is not there or cannot be read as images."""
    from cifar_lab.data import NAMES, load

    if data in NAMES or not Path(data).expanduser().exists():
        return None
    try:
        return load(data).hash
    except DataError:
        return None


def _matches(invocation: Invocation, scale: str | None, data: str | None, overrides: Mapping[str, Any] | None) -> bool:
    known = {invocation.data.kind, invocation.data.name, invocation.data.source}
    return (
        (scale is None or invocation.scale == scale)
        and (data is None or data in known or str(Path(data).resolve()) in known)
        and (not overrides or invocation.overrides == dict(overrides))
    )


def has_baseline_of(ablation: Ablation, entry: Invocation) -> bool:
    """Tell whether an invocation had the baseline of `ablation`, whatever the numerics version; older notes name none.

    A note of another version, whose scale is not there, had another one.
    """
    try:
        mine = baseline_identity(ablation.baseline, find_scale(entry.scale))
    except UsageError:
        return False
    return entry.baseline.partition("/")[0] in ("", mine.partition("/")[0])


def _of_its_recipes(ablation: Ablation, entries: Sequence[Invocation]) -> list[Invocation]:
    """Return the invocations that asked for recipes of `ablation` alone."""
    made: dict[ComparisonKey, dict[str, str]] = {}
    for entry in entries:
        if entry.key not in made:
            made[entry.key] = {}
            with suppress(UsageError):  # scale, overrides or code are not there any more
                made[entry.key] = lineages_at(ablation, entry.scale, entry.overrides)
    return [e for e in entries if all(made[e.key].get(cell.variant) == cell.recipe for cell in e.cells)]


def _named(id: str, own: list[Invocation], index: InvocationIndex) -> Invocation:
    entry = index.find(id)
    if entry is not None and entry.ablation == own[0].ablation:
        return entry
    if entry is not None:
        raise TrackingError(f"invocation {id}: of '{entry.ablation}', not of '{own[0].ablation}'")
    raise TrackingError(f"invocation {id}: no such invocation{nearest(id, [entry.id for entry in own])}")


def _latest(invocations: Iterable[Invocation]) -> list[Invocation]:
    """Return the latest invocation of each setting."""
    return list({entry.key: entry for entry in invocations}.values())


def selector(invocation: Invocation) -> str:
    """Return the options that select an invocation's setting and no other, with a description."""
    return f"--invocation {invocation.id} ({typed(invocation)})"


def typed(invocation: Invocation) -> str:
    """Return the setting of an invocation as its options and overrides are typed."""
    options = shlex.join(["--scale", invocation.scale, "--data", invocation.data.source])
    return f"{options} {format_overrides(invocation.overrides)}".rstrip()
