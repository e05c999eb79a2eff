"""Notes of invocations, one per request for cells: `runs/invocations/<time>-<ablation>.json`.

A cell does not know its ablation; `compare` finds the cells of an ablation by these notes.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, TypeAdapter, ValidationError

from cifar_lab.errors import DamageError, plain_rule
from cifar_lab.redaction import redacted_command
from cifar_lab.store import checksum
from cifar_lab.store.comparison_key import ComparisonKey
from cifar_lab.store.mirror import mirror_of
from cifar_lab.store.record_files import CrossedVariants, DataSource, MaybeExecution, Provenance
from cifar_lab.store.stored_json import JsonObject

FOLDER = "invocations"
STAMP = "%Y%m%dT%H%M%S.%f"


def _require_time(id: str) -> str:
    """Check that an id begins with a time."""
    if not re.match(r"[0-9]{8}T[0-9]{6}\.[0-9]{3}-", id):
        raise ValueError("an id begins with its time, 20261122T210000.123-")
    _stamp(id)
    return id


def _stamp(id: str) -> datetime:
    return datetime.strptime(id.partition("-")[0], STAMP).replace(tzinfo=UTC)


STUDENT, MODERATED = "student", "moderated"
"""Methods of the intervals of a table: Student's at Šidák's level, or moderated ones (`results.stats.moderated`)."""


def _require_fingerprint(fingerprint: str) -> str:
    """Check that a fingerprint can be the name of a cell's folder."""
    if not re.fullmatch("[0-9a-f]{64}", fingerprint):
        raise ValueError("a fingerprint has 64 of the digits 0-9 and a-f")
    return fingerprint


@dataclass(frozen=True, kw_only=True)
class CellRef:
    """One cell of an invocation: variant, seed and fingerprint."""

    variant: str
    seed: int
    fingerprint: Annotated[str, AfterValidator(_require_fingerprint)]
    recipe: str
    """Digest of the recipe, the same for every seed of a variant."""
    parameters: int
    """Parameters of the network as declared, which the budget limits."""
    parameters_trained: int
    """Parameters of the network as trained at the scale."""
    macs: int
    """Multiply-accumulates of one forward pass of the trained network."""
    passes: int = 1
    """Forward and backward passes of a training step for each image (`Recipe.passes`)."""
    teachers: tuple[Annotated[str, AfterValidator(_require_fingerprint)], ...] = ()
    """Fingerprints of the cells that it learns from."""
    teacher_macs: int = 0
    """Multiply-accumulates of the teachers' forward passes of one image; 0 if unknown."""


@dataclass(frozen=True, kw_only=True)
class StoppingRule:
    """Stopping rule of a group-sequential design, fixed before the first cell is trained."""

    looks: tuple[int, ...]
    """Number of seeds at each look; the last is the maximum."""
    levels: tuple[float, ...]
    """Nominal confidence of a difference's interval at each look; together they hold with `confidence`."""
    comparisons: int
    """Number of differences that share the error."""
    confidence: float = 0.95
    spending: str = "pocock"
    """Alpha-spending function: Lan and DeMets (1983), Pocock type."""
    margin: float | None = None
    """Equivalence margin when the rule was begun, as a fraction."""
    before: int = 0
    """Number of seeds that were already compared, and could be seen, before the rule was begun."""
    family: Literal["control", "any"] | None = None
    """How the differences hang together, for `critical`; None for Student's intervals."""
    critical: tuple[float, ...] = ()
    """Critical value of the moderated intervals at each look; empty for Student's intervals, as in older rules."""
    moderates_all: bool = False
    """True if the effects of a 2 × 2 study and the claims have moderated intervals too; Student's in older rules."""


DROPPED = StoppingRule(looks=(), levels=(), comparisons=0)
"""Marker for no rule: an invocation that starts with it drops the rule of its setting."""


def _require_rule(rule: StoppingRule | None) -> StoppingRule | None:
    """Check that looks increase, and that each has a level."""
    if rule is None or rule == DROPPED:
        return rule
    if not rule.looks or any(b <= a for a, b in pairwise((0, *rule.looks))):
        raise ValueError("'looks' are numbers of seeds that rise, one at least")
    if len(rule.levels) != len(rule.looks) or not all(0 < level < 1 for level in rule.levels):
        raise ValueError("'levels' are between 0 and 1, one for each look")
    if (rule.critical == ()) != (rule.family is None):
        raise ValueError("'critical' and 'family' are both there or both not")
    if rule.critical and (
        len(rule.critical) != len(rule.looks) or not all(0 < value < math.inf for value in rule.critical)
    ):
        raise ValueError("'critical' has a positive number for each look")
    if rule.moderates_all and not rule.critical:
        raise ValueError("'moderates_all' needs 'critical'")
    return rule


@dataclass(frozen=True, kw_only=True)
class VariancePrior:
    """Variance of earlier cells of the control: a prior for a single comparison of two or three seeds."""

    variance: float
    """Sample variance of the cells' values, as fractions squared."""
    metric: str
    """Metric of these values."""
    fingerprints: tuple[Annotated[str, AfterValidator(_require_fingerprint)], ...]
    """The cells, which were finished when the invocation began."""
    ablations: tuple[str, ...]
    """Names of the ablations that had asked for them."""


def _require_prior(prior: VariancePrior | None) -> VariancePrior | None:
    """Check that a prior has a positive variance, and the cells that make one."""
    if prior is not None and not 0 < prior.variance < math.inf:
        raise ValueError("'variance' is a positive number")
    if prior is not None and len(set(prior.fingerprints)) < max(2, len(prior.fingerprints)):
        raise ValueError("'fingerprints' are two different cells at least")
    return prior


@dataclass(frozen=True, kw_only=True)
class RecordedCommand:
    """Command line, or call of the Python API, that asked for cells: as it was, and as text to be pasted."""

    typed: str
    again: str = ""
    """The same without what acts once, to go on with its cells; empty if unknown."""
    retry: str = ""
    """The same that also trains the failed cells; empty if unknown."""
    labels: dict[str, str] = field(default_factory=dict)
    """Tags of the user for the runs in MLflow."""
    note: str = ""
    """Text of the user for the invocation's run in MLflow, Markdown."""


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """One call of `run-ablation` or `train`, written before the first cell is trained."""

    id: Annotated[str, AfterValidator(_require_time)]
    """`20261122T210000.123-se_ratio`: sorts by time."""
    ablation: str
    question: str
    """Question with source and claims, one per line: the description of the experiment."""
    factors: tuple[str, ...]
    control: str
    scale: str
    protocol: str
    data: DataSource
    overrides: dict[str, Any]
    cells: tuple[CellRef, ...]
    command: str
    execution: MaybeExecution
    """Execution that new cells are trained with; None in a note that trains none."""
    compiling: str = ""
    """Reason for compiling the networks or not, if decided from measured step times."""
    provenance: Provenance = field(default_factory=Provenance)
    baseline: str = ""
    """Digest of the common baseline recipe and of the numerics version; after a change of either, differences from
    earlier cells would mix two effects."""

    against: dict[str, str] = field(default_factory=dict)
    """Maps a variant to the one that it is compared with, if not the control: in a chain, the stage before."""

    margin: float | None = None
    """Equivalence margin in accuracy, as a fraction; None in notes older than margins."""

    crossing: CrossedVariants | None = None
    """Factors and variants of a 2 × 2 study; None for others."""

    stopping: Annotated[StoppingRule | None, AfterValidator(_require_rule)] = None
    """Stopping rule for adding seeds, fixed before the first cell; None for a fixed number of seeds."""

    stopping_dropped: bool = False
    """True if it drops the stopping rule of its setting: from here on the number of seeds may depend on results."""

    metric: str | None = None
    """Metric for comparing cells; None: the test accuracy. A search uses `val/acc`, and never the test set."""

    design: str | None = None
    """The method of the intervals, fixed before the first cell: `MODERATED`; of a note from before it, `STUDENT`."""

    effects_design: str | None = None
    """The same for the effects of a 2 × 2 study, which had `STUDENT` longer."""

    prior: Annotated[VariancePrior | None, AfterValidator(_require_prior)] = None
    """Variance of earlier cells of the control, for a setting with a single comparison; None without enough of them."""

    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    """Additional tags of a cell's run, by fingerprint."""

    remarks: dict[str, str] = field(default_factory=dict)
    """Tags of its own run on what became of it later: trials of a search by outcome, and its confirmation."""

    again: str = ""
    """Command to go on with its cells, which sets no record aside; empty in older notes, which have `command` only."""

    retry: str = ""
    """Command that also trains its failed cells; empty in older notes."""

    labels: dict[str, str] = field(default_factory=dict)
    """Tags of the user for the runs in MLflow: that of the invocation, and those of the cells that it begins."""

    note: str = ""
    """Text of the user for the invocation's run in MLflow, Markdown."""

    def __post_init__(self) -> None:
        # A command may contain a database password, and notes are read by many, also in MLflow.
        for name in ("command", "again", "retry"):
            object.__setattr__(self, name, redacted_command(getattr(self, name)))
        if self.stopping == DROPPED:
            object.__setattr__(self, "stopping", None)
            object.__setattr__(self, "stopping_dropped", True)

    def is_pruned(self, fingerprint: str) -> bool:
        """Tell whether a search stopped the cell early; such a cell is complete."""
        return self.tags.get(fingerprint, {}).get("trial_state") == "pruned"

    def compared_with(self, variant: str) -> str | None:
        """Return the variant that `variant` is compared with; None for the control."""
        return None if variant == self.control else self.against.get(variant, self.control)

    @property
    def time(self) -> int:
        """Return the time of the invocation in ms, from its id."""
        return round(_stamp(self.id).timestamp() * 1000)

    @property
    def key(self) -> ComparisonKey:
        """Return the key of the invocations whose cells may be compared with those of this one."""
        return ComparisonKey(
            ablation=self.ablation,
            baseline=self.baseline,
            scale=self.scale,
            data_hash=self.data.hash,
            overrides=json.dumps(self.overrides, sort_keys=True),
        )

    def asks_for_the_same(self, other: Invocation) -> bool:
        """Tell whether `other` asks for the same cells, and compares them in the same way."""
        mine, theirs = (
            (set(each.cells), each.control, each.against, each.margin, each.crossing, each.stopping, each.metric,
             each.stopping_dropped, each.tags, each.question, each.labels, each.note)
            for each in (self, other)
        )  # fmt: skip
        return mine == theirs

    def after_all(self, runs: Path) -> Invocation:
        """Return this invocation with an id later than all in `runs`, even if the clock was set back."""
        ids = [path.stem for path in invocation_paths(runs) if _is_id(path.stem)]
        latest = max((_stamp(id) for id in ids), default=None)
        if latest is None or _stamp(self.id) > latest:
            return self
        moment = latest + timedelta(milliseconds=1)
        stamp = f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03}"
        return replace(self, id=f"{stamp}-{self.id.partition('-')[2]}")

    def write(self, runs: Path, *, unless_changed: bool = False) -> None:
        """Write the note atomically, with its checksum.

        `unless_changed`: in a copy of an object store, only if the note there is as it was last seen here.

        Raises:
            DamageError: a damaged note exists; its content would be lost.
            WriteConflict: with `unless_changed`, another machine has written the note.
            ObjectStoreError: the store of a copy does not answer, or refuses.
        """
        path = runs / FOLDER / f"{self.id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        read_invocation(path)
        checksum.write_sealed(path, self.as_json())
        if (mirror := mirror_of(runs)) is not None:
            mirror.push(path, unless_changed=unless_changed)

    def as_json(self) -> JsonObject:
        """Return the note as JSON; provenance and execution with the fields that their version wrote."""
        tree: JsonObject = _adapter().dump_python(self, mode="json", exclude_unset=True, warnings="error")
        return {**tree, "execution": tree["execution"] or {}}


def read_invocation(path: Path) -> Invocation | None:
    """Return the invocation of one note; None if it is gone. Fields of later versions are ignored.

    Raises:
        DamageError: it cannot be read, or is invalid; the message names the file and the rule.
    """
    tree = checksum.read_sealed(path)
    if tree is None and not path.exists():
        return None
    try:
        return _adapter().validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = f"'{'.'.join(map(str, first['loc']))}': " if first["loc"] else ""
        raise DamageError(f"{path}: damaged: {place}{plain_rule(first['msg'])}") from error


@cache
def _adapter() -> TypeAdapter[Invocation]:
    return TypeAdapter(Invocation)


def invocation_paths(runs: Path) -> list[Path]:
    """Return the notes in order of their ids, without hidden files, which some systems create.

    Raises:
        DamageError: their folder cannot be read, or is not a folder.
    """
    folder = runs / FOLDER
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except FileNotFoundError:
        if folder.is_symlink():
            raise DamageError(f"{folder}: damaged: a link to nothing, not a folder") from None
        return []
    except OSError as error:
        raise DamageError(f"{folder}: cannot be read ({error.strerror or error}); the notes are in it") from error
    return sorted(folder / name for name in names if name.endswith(".json") and not name.startswith("."))


def _is_id(stem: str) -> bool:
    try:
        return bool(_require_time(stem))
    except ValueError:
        return False


def unite(invocations: list[Invocation]) -> list[CellRef]:
    """Return the cells of invocations of one setting, each (variant, seed) once.

    If a variant's recipe changed between them, only the cells of the latest recipe count.
    """
    latest = {cell.variant: cell.recipe for invocation in invocations for cell in invocation.cells}
    cells = {
        (cell.variant, cell.seed): cell
        for invocation in invocations
        for cell in invocation.cells
        if cell.recipe == latest[cell.variant]
    }
    return list(cells.values())
