"""The files beside the records of a packed study: RO-Crate metadata, README and requirements."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from cifar_lab.redaction import redacted_command
from cifar_lab.store.ablation_file import SEARCH
from cifar_lab.store.invocation import FOLDER, Invocation
from cifar_lab.store.packed_study import METADATA
from cifar_lab.store.record_files import CellFile
from cifar_lab.text import many

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
CONFORMS = "https://w3id.org/ro/crate/1.1"
FORMATS = {
    "json": "application/json", "jsonl": "application/x-ndjson", "csv": "text/csv", "md": "text/markdown",
    "tex": "application/x-tex", "txt": "text/plain", "cff": "application/yaml", "diff": "text/x-diff",
    "npz": "application/zip", "safetensors": "application/octet-stream", "journal": "application/x-ndjson",
}  # fmt: skip
"""Media types by the end of a name."""
OWN = "cifar-lab"
NO_PACKAGES = {"python", "cuda", "cudnn", "driver", OWN}
"""Recorded versions of what `pip` does not install by this name."""
EPOCH = "1970-01-01"
NO_LICENCE = "None is stated for these records; none is claimed for the images trained on, which are not included."
"""Value of the field `license`, which RO-Crate demands; it may be a sentence."""


@dataclass(frozen=True, kw_only=True)
class PackFile:
    """Member of a packed study."""

    name: str
    size: int
    """Bytes, unpacked."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class PackContents:
    """Facts about a packed study, from its notes and records."""

    notes: tuple[Invocation, ...]
    """Readable notes, the oldest first."""
    cells: Mapping[str, CellFile]
    """Content of the readable `cell.json`, by fingerprint."""
    last: int | None
    """Time of the latest result in ms; None without one."""

    @property
    def ablations(self) -> list[str]:
        return sorted({note.ablation for note in self.notes})

    @property
    def day(self) -> str:
        """Return the day of the latest result, or else of the latest note: it does not depend on when it was packed."""
        latest = self.last or max((note.time for note in self.notes), default=None)
        return f"{datetime.fromtimestamp(latest / 1000, UTC):%Y-%m-%d}" if latest is not None else EPOCH

    def versions(self) -> dict[str, Counter[str]]:
        """Return how many cells were trained with each version, by package."""
        found: dict[str, Counter[str]] = {}
        for cell in self.cells.values():
            for name, version in cell.provenance.versions.items():
                if version is not None:
                    found.setdefault(name, Counter())[version] += 1
        return found

    def commits(self) -> list[str]:
        """Return the commits that the cells were trained with."""
        return sorted({commit for cell in self.cells.values() if (commit := cell.provenance.git_commit)})

    def names(self) -> dict[str, str]:
        """Return a name of each cell that a note asks for, `se_ratio r4/s0`, by fingerprint."""
        asked = ((note.ablation, cell) for note in self.notes for cell in note.cells)
        return {cell.fingerprint: f"{ablation} {cell.variant}/s{cell.seed}" for ablation, cell in asked}


def requirements(contents: PackContents) -> str:
    """Return the recorded versions as `requirements.txt`: of each package the one that most cells were trained with."""
    lines = ["# Versions recorded with the cells; `pip install -r requirements.txt`."]
    for name, counts in sorted(contents.versions().items()):
        (version, cells), *others = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        also = ", ".join(f"{other} ({many(number, 'cell')})" for other, number in others)
        note = f"  # {many(cells, 'cell')}; also {also}" if also else ""
        lines.append(f"{'# ' if name in NO_PACKAGES else ''}{name}=={version}{note}")
    lines += [f"# commit of cifar-lab: {commit}" for commit in contents.commits()]
    return "\n".join(lines) + "\n"


def readme(contents: PackContents, tables: Mapping[str, str], *, weights: bool, predictions: bool = True) -> str:
    """Return `README.md`: what is here, and how to read it again. `tables`: title of each comparison by its path."""
    cells = Counter(note.ablation for note in contents.notes for _ in note.cells)
    searches = sorted(shlex.quote(name.removeprefix(SEARCH)) for name in cells if name.startswith(SEARCH))
    ablations = sorted(name for name in cells if not name.startswith(SEARCH))
    first = max(ablations, key=lambda name: cells[name], default="ABLATION")
    reading = [f"cifar-lab sweep-report {name} --runs study.zip -o {name}.html" for name in searches]
    adding: list[str] = []
    if ablations or not searches:
        reading.insert(0, f"cifar-lab compare {first} --runs study.zip")
        reading.insert(1, f"cifar-lab report {first} --runs study.zip -o report.html")
        adding = [f"cifar-lab run-ablation {first} --runs study/runs"]
    listed = [f"- [{title}]({quote(path)})" for path, title in tables.items()]
    commits = ", ".join(commit[:12] for commit in contents.commits()) or "not recorded"
    left_out = [name for name, is_here in (("weights", weights), ("predictions", predictions)) if not is_here]
    without = f" {' and '.join(left_out).capitalize()} are not here, and nothing below needs them." if left_out else ""
    return "\n".join(
        [
            "# Records of ablation studies",
            "",
            f"{many(len(contents.cells), 'cell')} and {many(len(contents.notes), 'invocation')} of cifar-lab, as "
            "they were written: `runs/` has a folder for each cell (a recipe trained with one seed) and a note for "
            f"each invocation.{without} Records of newer versions carry checksums; `ro-crate-metadata.json` has the "
            "SHA-256 of every file. No licence is claimed for the images that were trained on; they are not here.",
            "",
            "With cifar-lab installed, the zip is read as it is:",
            "",
            "```",
            *reading,
            "```",
            "",
            "An ablation that is not part of cifar-lab needs its file, too: `--ablations FOLDER`. So does a search "
            "space that is not, at the path that it had when the search began.",
            "",
            "To add seeds or trials, unpack it, and type one of the recorded commands with `--runs study/runs`; what "
            "is there is not trained again:",
            "",
            "```",
            "unzip study.zip -d study",
            *adding,
            "```",
            "",
            "`requirements.txt` has the recorded versions. Commits of the code: " + commits + ".",
            "",
            *(["The comparisons, as LaTeX too:", "", *listed, ""] if listed else []),
            "Recorded commands:",
            "",
            "```",
            *dict.fromkeys(redacted_command(note.command) for note in contents.notes),
            "```",
            "",
        ]
    )


def metadata(contents: PackContents, files: Sequence[PackFile]) -> str:
    """Return the RO-Crate 1.1 metadata of these files, as JSON with an end of line."""
    graph = [
        _descriptor(),
        *_datasets(contents, files),
        *map(_file, files),
        *_software(contents),
        *_actions(contents, files),
    ]
    return (
        json.dumps({"@context": [CONTEXT, {"sha256": "https://schema.org/sha256"}], "@graph": graph}, indent=1) + "\n"
    )


def _descriptor() -> dict[str, Any]:
    return {"@id": METADATA, "@type": "CreativeWork", "about": _id("./"), "conformsTo": _id(CONFORMS)}


def _datasets(contents: PackContents, files: Iterable[PackFile]) -> Iterator[dict[str, Any]]:
    """Yield the root, and a dataset for each record."""
    parts: dict[str, list[str]] = {}
    for file in files:
        folder = file.name.rpartition("/")[0]
        is_record = folder.startswith("runs/") and not folder.endswith(f"/{FOLDER}")
        parts.setdefault(f"{folder}/" if is_record else "./", []).append(file.name)
    records = [folder for folder in parts if folder != "./"]
    yield {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Records of ablation studies: {', '.join(contents.ablations) or 'none'}",
        "description": "What cifar-lab recorded of cells (a recipe trained with one seed): recipe, journal, result.",
        "datePublished": contents.day,
        "license": NO_LICENCE,
        "hasPart": [_id(name) for name in (*parts.get("./", ()), *records)],
        "mentions": [_id(f"#{note.id}") for note in contents.notes],
    }
    names = contents.names()
    for folder in records:
        fingerprint = folder.split("/")[1]
        name = names.get(fingerprint, f"cell {fingerprint[:12]}")
        yield {"@id": folder, "@type": "Dataset", "name": name, "hasPart": [_id(part) for part in parts[folder]]}


def _file(file: PackFile) -> dict[str, Any]:
    kind = FORMATS[file.name.rpartition(".")[2]]
    size = str(file.size)
    name = file.name.rpartition("/")[2]
    return {**_id(file.name), "@type": "File", "name": name, "contentSize": size, "encodingFormat": kind,
            "sha256": file.sha256}  # fmt: skip


def _software(contents: PackContents) -> Iterator[dict[str, Any]]:
    for version in _own_versions(contents):
        yield {"@id": f"#{OWN}-{version}", "@type": "SoftwareApplication", "name": OWN, "version": version}
    for commit in _all_commits(contents):
        yield {"@id": f"#commit-{commit}", "@type": "SoftwareSourceCode", "name": f"{OWN} at {commit[:12]}",
               "version": commit}  # fmt: skip


def _actions(contents: PackContents, files: Iterable[PackFile]) -> Iterator[dict[str, Any]]:
    """Yield each invocation as an action: its command line, the software, and the records that it asked for."""
    there = {file.name for file in files}
    for note in contents.notes:
        asked = dict.fromkeys(f"runs/{cell.fingerprint}/" for cell in note.cells)
        records = [folder for folder in asked if f"{folder}cell.json" in there]
        versions, commit = _of_note(note)
        instruments = [*(f"#{OWN}-{version}" for version in versions), *(f"#commit-{each}" for each in commit)]
        yield {
            **_id(f"#{note.id}"),
            "@type": "CreateAction",
            "name": f"{note.ablation} at scale {note.scale}",
            "description": redacted_command(note.command),
            "startTime": datetime.fromtimestamp(note.time / 1000, UTC).isoformat(timespec="milliseconds"),
            "instrument": [_id(each) for each in instruments],
            "result": [_id(each) for each in (f"runs/{FOLDER}/{note.id}.json", *records)],
        }


def _of_note(note: Invocation) -> tuple[list[str], list[str]]:
    """Return the version and the commit that a note records, each in a list of one or none."""
    version, commit = note.provenance.versions.get(OWN), note.provenance.git_commit
    return [version] if version else [], [commit] if commit else []


def _own_versions(contents: PackContents) -> list[str]:
    found = set(contents.versions().get(OWN, ()))
    return sorted(found.union(*(_of_note(note)[0] for note in contents.notes)))


def _all_commits(contents: PackContents) -> list[str]:
    return sorted(set(contents.commits()).union(*(_of_note(note)[1] for note in contents.notes)))


def _id(name: str) -> dict[str, str]:
    """Return a link to a file, an entity (`#…`) or an address; blanks and the like are written as in an address."""
    return {"@id": quote(name, safe="/#:+")}
