"""Pack ablations into one zip: records, notes, comparisons, and a description of them.

The same records give the same bytes: names are sorted, times fixed, and nothing depends on the day or the machine.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cifar_lab.errors import DamageError, TrackingError, nearest
from cifar_lab.redaction import redacted
from cifar_lab.report import crate, table_formats
from cifar_lab.report.crate import PackContents, PackFile
from cifar_lab.results.compare import tabulate
from cifar_lab.store import atomic_file, checksum, packed_study
from cifar_lab.store.ablation_file import SEARCH
from cifar_lab.store.cell_record import PREDICTIONS, WEIGHTS, CellRecord
from cifar_lab.store.invocation import FOLDER, Invocation, invocation_paths, read_invocation
from cifar_lab.store.record_files import CellFile
from cifar_lab.store.runs_folder import STUDIES
from cifar_lab.store.selection import Selection, read_settings

CITATION = Path(__file__).resolve().parents[2] / "CITATION.cff"
COMPRESSED = {PREDICTIONS, WEIGHTS}
"""Files that do not shrink, and are stored as they are."""
SPOKEN = (".json", ".diff", ".journal")
"""Ends of the names of files in which a command line, an address or code may stand."""
LEVEL = 9
MOST = packed_study.MOST - 10_000
"""Most files of records and notes; the rest is room for comparisons."""
MOMENT = (1980, 1, 1, 0, 0, 0)
"""Time of every member: the earliest that a zip can name."""


@dataclass(frozen=True, kw_only=True)
class StudyPack:
    """Everything that goes into a packed study, before it is written."""

    members: dict[str, Path]
    """Files of records and notes by their name in the zip, sorted."""
    beside: dict[str, str]
    """Texts of the other members by name, but for the metadata."""
    contents: PackContents
    settings: int
    predictions: bool
    """False: the predictions of all records are left out, which the comment of the zip says."""
    damage: tuple[str, ...]
    """Damage of packed records and notes, one per line."""

    @property
    def records(self) -> int:
        return len({name.split("/")[1] for name in self.members} - {FOLDER, STUDIES})

    @property
    def lacks_trials(self) -> bool:
        """True if searches are packed without their trials, as those are in a database."""
        has_searches = any(name.startswith(SEARCH) for name in self.contents.ablations)
        return has_searches and packed_study.TRIALS not in self.members

    @property
    def notes(self) -> int:
        return sum(name.startswith(f"{packed_study.RUNS}{FOLDER}/") for name in self.members)


def gather(runs: Path, ablations: Sequence[str] = (), *, weights: bool = False, predictions: bool = True) -> StudyPack:
    """Collect the records and notes of `ablations` in `runs`, or of all, then also records that no note asks for.

    The trials of all searches are one file, which is packed with any of them (`sweep.NAME` among the ablations).
    Checkpoints, locks, owners, partial files and what was set aside are left out.

    Args:
        runs: the runs folder.
        ablations: names; none for all.
        weights: include `weights.safetensors`.
        predictions: include `predictions.npz`, most of a record without its weights.

    Raises:
        TrackingError: an ablation has not been run in `runs`, or nothing has; or a file holds what looks like a
            password, or is larger than what is read back.
    """
    found = _notes(runs)
    known = sorted({name for _, name, _ in found})
    for name in ablations:
        if name not in known:
            raise TrackingError(f"'{name}' has not been run in {runs}{nearest(name, known)}")
    chosen = [(path, note) for path, name, note in found if not ablations or name in ablations]
    notes = tuple(note for _, note in chosen if isinstance(note, Invocation))
    asked = {cell.fingerprint for note in notes for cell in note.cells}
    if not ablations and runs.is_dir():
        asked |= {path.name for path in runs.iterdir() if re.fullmatch("[0-9a-f]{64}", path.name)}
    members = {f"{packed_study.RUNS}{FOLDER}/{path.name}": path for path, _ in chosen}
    if any(note.ablation.startswith(SEARCH) for note in notes) and (runs / STUDIES).is_file():
        members[packed_study.TRIALS] = runs / STUDIES
    left_out = {name for name, is_packed in ((WEIGHTS, weights), (PREDICTIONS, predictions)) if not is_packed}
    for fingerprint in asked:
        members |= _of_record(CellRecord(runs / fingerprint), left_out)
    if not members:
        raise TrackingError(f"nothing to pack: nothing has been run in {runs}")
    _require_packable(members, runs)
    settings = [each for each in read_settings(runs) if not ablations or each.latest.ablation in ablations]
    cells, last, damage = _look(runs, sorted(asked))
    damage += [str(note) for _, note in chosen if isinstance(note, DamageError)]
    contents = PackContents(notes=notes, cells=cells, last=last)
    beside, titles = _tables(settings, runs)
    beside |= {"README.md": crate.readme(contents, titles, weights=weights, predictions=predictions)}
    beside |= {"requirements.txt": crate.requirements(contents)}
    if CITATION.is_file():
        beside |= {CITATION.name: CITATION.read_text()}
    return StudyPack(members=dict(sorted(members.items())), beside=dict(sorted(beside.items())), contents=contents,
                  settings=len(settings), predictions=predictions, damage=tuple(damage))  # fmt: skip


def write_zip(parcel: StudyPack, output: Path) -> tuple[int, int]:
    """Write the zip atomically; return its number of members and of bytes unpacked.

    Raises:
        TrackingError: a file of a record cannot be read any more.
        OSError: the zip cannot be written.
    """
    files: list[PackFile] = []

    def fill(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.comment = b"" if parcel.predictions else packed_study.WITHOUT_PREDICTIONS
            for name, path in parcel.members.items():
                files.append(_add(archive, name, _content(path)))
            for name, text in parcel.beside.items():
                files.append(_add(archive, name, text.encode()))
            described = crate.metadata(parcel.contents, sorted(files, key=lambda each: each.name))
            files.append(_add(archive, packed_study.METADATA, described.encode()))

    atomic_file.write_atomically(output, fill)
    return len(files), sum(file.size for file in files)


def _content(path: Path) -> bytes:
    try:
        return checksum.content(path)
    except OSError as error:
        raise TrackingError(f"{path}: cannot be read ({error.strerror or error})") from error


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> PackFile:
    """Write one member in a way that depends on its name and content only."""
    info = zipfile.ZipInfo(name, MOMENT)
    info.create_system, info.external_attr = 3, 0o100644 << 16
    info.compress_type = zipfile.ZIP_STORED if name.rpartition("/")[2] in COMPRESSED else zipfile.ZIP_DEFLATED
    archive.writestr(info, content, compresslevel=LEVEL)
    return PackFile(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def _notes(runs: Path) -> list[tuple[Path, str, Invocation | DamageError | None]]:
    """Return the path, the ablation and the content of each note.

    Of one that is damaged the error stands in place of the content, of one that is gone by now None.
    """
    found: list[tuple[Path, str, Invocation | DamageError | None]] = []
    for path in invocation_paths(runs):
        note: Invocation | DamageError | None
        try:
            note = read_invocation(path)
        except DamageError as error:
            note = error
        name = note.ablation if isinstance(note, Invocation) else path.stem.partition("-")[2]
        found.append((path, name, note))
    return found


def _of_record(record: CellRecord, left_out: set[str]) -> dict[str, Path]:
    """Return the existing files of a record that are packed, by their name in the zip."""
    names = [name for name in packed_study.FILES if name not in left_out]
    files = {f"{packed_study.RUNS}{record.fingerprint}/{name}": record.folder / name for name in names}
    return {name: path for name, path in files.items() if record.fetch(path) and path.is_file()}


def _require_packable(members: dict[str, Path], runs: Path) -> None:
    """Check that each file could be read back from a zip, and that none holds what looks like a password."""
    if len(members) > MOST:
        raise TrackingError(f"{runs}: not packed: {len(members):,} files, {MOST:,} at most; name some ablations")
    for name, path in members.items():
        limit, size = packed_study.limit_of(name), path.stat().st_size
        if limit is None:
            raise TrackingError(f"{path}: not packed: no note has such a name")
        if size > limit:
            raise TrackingError(f"{path}: not packed: {size:,} bytes, {limit:,} at most")
        if name.endswith(SPOKEN):
            text = _content(path).decode(errors="replace")
            if redacted(text) != text:
                raise TrackingError(
                    f"{path}: not packed: it holds what looks like a password, and records are packed as they are"
                )


def _look(runs: Path, fingerprints: Sequence[str]) -> tuple[dict[str, CellFile], int | None, list[str]]:
    """Return `cell.json` by fingerprint, the time of the latest result in ms, and the damage of the records."""
    cells, times, damage = {}, [], []
    for fingerprint in fingerprints:
        record = CellRecord(runs / fingerprint)
        try:
            result, cell = record.ended(), record.cell()
        except DamageError as error:
            damage.append(str(error))
            continue
        if cell is not None:
            cells[fingerprint] = cell
        if result is not None:
            times.append(result.time)
    return cells, max(times, default=None), damage


def _tables(settings: Sequence[Selection], runs: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the comparison of each setting as Markdown and LaTeX by name, and the titles of the Markdown ones.

    The latest setting of an ablation has its name, the others the ids of their latest invocations.
    """
    texts: dict[str, str] = {}
    titles: dict[str, str] = {}
    latest = {setting.latest.ablation: setting for setting in settings}
    for setting in settings:
        ablation = setting.latest.ablation
        name = f"tables/{ablation if latest[ablation] is setting else setting.latest.id}"
        comparison = tabulate(setting, runs)
        texts[f"{name}.md"] = _portable(table_formats.as_markdown(comparison), runs)
        texts[f"{name}.tex"] = _portable(table_formats.as_latex(comparison, everything=True), runs)
        titles[f"{name}.md"] = f"{ablation}, {setting.title()}"
    return texts, dict(sorted(titles.items()))


def _portable(text: str, runs: Path) -> str:
    """Return a table without the path of the folder that it was made from, which damage names, and without secrets."""
    for form in (str(runs), table_formats.latex(str(runs))):
        text = text.replace(f"{form}/", packed_study.RUNS)
    return redacted(text)
