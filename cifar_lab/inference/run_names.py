"""Find the trained cells that a user names: by fingerprint, by ablation, variant and seed, or the best of all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cifar_lab.errors import TrackingError, UsageError, nearest
from cifar_lab.inference.stored_cells import SHORT, StoredCell, load_cell
from cifar_lab.results.best_cell import VAL, best_cell, selection_metric
from cifar_lab.results.contrasts import margin_of
from cifar_lab.store.invocation import CellRef
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.selection import Selection, named_cells, select
from cifar_lab.text import many

FORMS = "FINGERPRINT, ABLATION, ABLATION/VARIANT, ABLATION/VARIANT/sN or best:ABLATION"
BEST = "best:"
MARGIN = 0.005
"""Margin where the runs are not of one setting, which would have its own: 0.5 points."""
_DIGITS = re.compile("[0-9a-f]{4,64}")


@dataclass(frozen=True, kw_only=True)
class ChosenRun:
    """One finished cell, under the name by which it was chosen."""

    cell: StoredCell
    ablation: str
    """Ablation that asked for the cell; empty for none."""
    variant: str
    """Variant in that ablation; the fingerprint for a cell of none."""
    seed: int
    source: str
    """Source of the images that it was trained on, as typed then; empty where unknown."""

    @property
    def name(self) -> str:
        """Return `se_ratio/r4/s0`, or the fingerprint of a cell of no ablation."""
        return f"{self.ablation}/{self.variant}/s{self.seed}" if self.ablation else self.variant


@dataclass(frozen=True, kw_only=True)
class ChosenRuns:
    """Cells that were chosen together, each once."""

    runs: tuple[ChosenRun, ...]
    control: str | None = None
    """Control of the setting, if all runs are of one and it is among them."""
    margin: float = MARGIN
    """Difference that does not matter, as a fraction."""
    notes: tuple[str, ...] = ()
    """Sentences on how a run was chosen and on cells that are left out."""

    def __len__(self) -> int:
        return len(self.runs)

    def variants(self) -> dict[str, list[ChosenRun]]:
        """Return the runs by variant; names of variants carry their ablation if the runs are of several."""
        many = len({run.ablation for run in self.runs}) > 1
        groups: dict[str, list[ChosenRun]] = {}
        for run in self.runs:
            name = f"{run.ablation}/{run.variant}" if many and run.ablation else run.variant
            groups.setdefault(name, []).append(run)
        return groups

    def variant_of(self) -> dict[str, str]:
        """Return the name in `variants` of each run, by fingerprint."""
        return {run.cell.fingerprint: name for name, runs in self.variants().items() for run in runs}

    def base(self, control: str | None) -> str:
        """Return the variant that the others are compared with: `control`, else that of the setting, else the first.

        Raises:
            UsageError: no run is of the variant `control`.
        """
        names = list(self.variants())
        if control is not None and control not in names:
            raise UsageError(f"control {control}: no such variant among the runs{nearest(control, names)}")
        return control or self.control or names[0]


def choose_runs(
    runs: Path, words: Sequence[str], *, scale: str | None = None, invocation: str | None = None
) -> ChosenRuns:
    """Return the finished cells that `words` name, in the setting of the latest matching invocation.

    Args:
        runs: folder of records.
        words: FINGERPRINT (first digits), ABLATION, ABLATION/VARIANT, ABLATION/VARIANT/sN or best:ABLATION.
        scale: scale of the setting; None for any.
        invocation: id of an invocation of the setting; None for the latest.

    Raises:
        UsageError: a word has another form, or names no variant or no finished cell.
        TrackingError: nothing in `runs` matches.
    """
    if not words:
        raise UsageError(f"no run is named; give {FORMS}")
    finder = _Finder(runs, scale, invocation)
    chosen: dict[str, ChosenRun] = {}
    for word in words:
        for run in finder.find(word):
            chosen.setdefault(run.cell.fingerprint, run)
    settings = list(finder.settings.values())
    is_one = len(settings) == 1 and {run.ablation for run in chosen.values()} == set(finder.settings)
    control = settings[0].latest.control if is_one else None
    return ChosenRuns(
        runs=tuple(chosen.values()),
        control=control if control in {run.variant for run in chosen.values()} else None,
        margin=margin_of(settings[0].invocations) if is_one else MARGIN,
        notes=tuple(finder.notes),
    )


class _Finder:
    """Search for runs in one folder; it reads every setting once."""

    def __init__(self, runs: Path, scale: str | None, invocation: str | None) -> None:
        self.runs, self.scale, self.invocation = runs, scale, invocation
        self.settings: dict[str, Selection] = {}
        self.notes: list[str] = []

    def find(self, word: str) -> list[ChosenRun]:
        """Return the runs that one word names.

        Raises:
            UsageError: nothing has that name, or it has not finished.
        """
        if word.startswith(BEST):
            return [self._best(word.removeprefix(BEST))]
        if _DIGITS.fullmatch(word.lower()) and any(self.runs.glob(f"{word.lower()}*")):
            return [self._by_digits(word.lower())]
        ablation = word.partition("/")[0]
        if not ablation or word.endswith("/"):
            raise UsageError(f"'{word}' names no run; give {FORMS}")
        return self._finished(word, ablation, named_cells(self._setting(ablation), word))

    def _setting(self, ablation: str) -> Selection:
        if ablation not in self.settings:
            self.settings[ablation] = select(self.runs, ablation, scale=self.scale, invocation=self.invocation)
        return self.settings[ablation]

    def _finished(self, word: str, ablation: str, cells: Sequence[CellRef]) -> list[ChosenRun]:
        """Return the finished ones of `cells`; the others are noted."""
        source = self.settings[ablation].latest.data.source
        finished, left = [], []
        for ref in cells:
            if not (self.runs / ref.fingerprint).is_dir():
                left.append(f"{ref.variant}/s{ref.seed} missing")
                continue
            cell = load_cell(self.runs, ref.fingerprint)
            if cell.state != "finished":
                left.append(f"{ref.variant}/s{ref.seed} {cell.standing}")
                continue
            finished.append(ChosenRun(cell=cell, ablation=ablation, variant=ref.variant, seed=ref.seed, source=source))
        if not finished:
            raise UsageError(f"{word}: no cell is finished: {', '.join(left[:5])}")
        if left:
            self.notes.append(f"{word}: left out: {', '.join(left)}")
        return finished

    def _best(self, ablation: str) -> ChosenRun:
        """Return the finished cell with the highest validation accuracy; by test accuracy where none has one."""
        candidates = self._finished(f"{BEST}{ablation}", ablation, self._setting(ablation).cells)
        metric = selection_metric(candidates, _metrics)
        best = best_cell(candidates, _metrics, metric)
        how = "by val" if metric == VAL else "by test, as no images were held out: selected on test"
        value = 100 * best.cell.metrics.get(metric, 0.0)
        self.notes.append(f"best of {many(len(candidates), 'finished cell')} {how}: {best.name}, {value:.2f} %")
        return best

    def _by_digits(self, digits: str) -> ChosenRun:
        cell = load_cell(self.runs, digits)
        if cell.state != "finished":
            why = f": {cell.damage}" if cell.damage else ""
            raise UsageError(f"{cell.fingerprint[:SHORT]} is {cell.standing}, not finished{why}")
        requests = read_index(self.runs).requests(cell.fingerprint)
        if not requests:
            short = cell.fingerprint[:SHORT]
            return ChosenRun(cell=cell, ablation="", variant=short, seed=cell.seed or 0, source="")
        note, ref = requests[-1]
        return ChosenRun(cell=cell, ablation=note.ablation, variant=ref.variant, seed=ref.seed, source=note.data.source)


def _metrics(run: ChosenRun) -> Mapping[str, float]:
    return run.cell.metrics


def require_one(chosen: ChosenRuns, advice: str = "add --ensemble to average them, or name one") -> None:
    """Check that one run was chosen, for a command that combines several only on request, or never.

    Raises:
        UsageError: several were.
    """
    if len(chosen) > 1:
        names = ", ".join(run.name for run in chosen.runs[:3])
        more = ", …" if len(chosen) > 3 else ""
        raise UsageError(f"{len(chosen)} runs are named ({names}{more}); {advice}")


def require_same_classes(chosen: ChosenRuns) -> tuple[str, ...]:
    """Return the names of the classes that all runs share.

    Raises:
        TrackingError: a record does not name them.
        UsageError: two runs have other classes.
    """
    first = chosen.runs[0]
    for run in chosen.runs:
        if not run.cell.classes:
            raise TrackingError(f"{run.name}: its record names no classes")
        if run.cell.classes != first.cell.classes:
            raise UsageError(f"{run.name} and {first.name} know other classes")
    return first.cell.classes


def require_same_side(chosen: ChosenRuns) -> int:
    """Return the side in pixels of the images that all runs take.

    Raises:
        UsageError: two runs were trained on images of other sizes.
    """
    first = chosen.runs[0]
    for run in chosen.runs:
        if (side := run.cell.side) != (own := first.cell.side):
            raise UsageError(f"{run.name} takes images of {side}×{side} and {first.name} of {own}×{own}")
    return first.cell.side
