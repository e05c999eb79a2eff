"""Detect the layout of a source from its file names alone.

The folder itself and up to three nested folders are searched, the outermost first:

    train/<class>/*, test/<class>/*        any letter case; val/, valid/, validation/ where there is no test/
    data_batch_1 … 5, test_batch           cifar-10-batches-py
    train, test, meta                      cifar-100-python
    data_batch_1.bin … 5.bin, test_batch.bin   cifar-10-batches-bin
    train-*.parquet, test-*.parquet        a dataset hub's files, also train/0000.parquet
    trainLabels.csv, train/1.png …         Kaggle's
    *.npy                                  the members of an npz
    cifar-10-python.tar.gz, …              one archive of CIFAR-10 or CIFAR-100
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from cifar_lab.data import cifar_batches
from cifar_lab.data.file_tree import FileTree
from cifar_lab.data.messages import shown
from cifar_lab.errors import DataError

Kind = Literal["python", "cifar100", "binary", "parquet", "kaggle", "classes", "npz", "archive"]
"""Kinds of layouts, in order of precedence."""

DEEPEST = 3
"""Maximum depth of folders that wrap the data."""
MOST_FOLDERS = 2000
"""Maximum number of folders searched."""
SPLIT_NAMES = {"train": "train", "test": "test", **dict.fromkeys(("val", "valid", "validation"), "val")}
USUAL_NAMES = {
    split: re.compile(rf"({words})[-_ ]?(set|data|images|imgs|split)?", re.IGNORECASE)
    for split, words in (("train", "train|training"), ("test", "test|testing"), ("val", "val|valid|validation|eval"))
}
"""Forms of names that folders of a split usually have."""
EXPECTED = "expected train/<class>/* and test/<class>/*"
ARCHIVES = (
    *("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz", "cifar-10-batches-py.tar.gz"),
    *("cifar-10-batches-py-target_archive", "cifar-10-batches-py_archive"),
)
"""Names that torchvision, Keras and browsers give to the archives of CIFAR-10."""
ARCHIVES_100 = ("cifar-100-python.tar.gz",)
LABELS_CSV = "trainlabels.csv"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Kind of a source, with its files."""

    kind: Kind
    folder: str
    """Folder that the names below are relative to, with a trailing slash, or empty."""
    train: tuple[str, ...]
    """Full names of the training files, sorted; of all files for a kind that is not split by files."""
    test: tuple[str, ...] = ()
    is_val: bool = False
    """True if the test files are those of val/, as there is no test/."""

    @property
    def files(self) -> tuple[str, ...]:
        """Full names of all files."""
        return self.train + self.test


def detect_layout(files: FileTree) -> Layout:
    """Return the layout of `files`.

    Raises:
        DataError: there is none, with what was found instead, or there are two ambiguous ones.
    """
    incomplete: list[str] = []
    depth, candidates = 0, list[Layout]()
    for level, folder in _folders(files):
        if candidates and level > depth:
            break
        depth = level
        if (layout := _complete(files, folder)) is not None:
            candidates.append(layout)
        elif _splits(files, folder):
            incomplete.append(folder)
    if candidates:
        first = min(candidates, key=lambda layout: get_args(Kind).index(layout.kind))
        if len(same := [layout.folder for layout in candidates if layout.kind == first.kind]) > 1:
            raise DataError(f"it holds more than one data set: {', '.join(map(shown, same[:4]))}; give one of them")
        return first
    if "" in incomplete:
        return _classes(files, "", _splits(files, ""))
    if incomplete:
        alone = " and ".join(f"{name}/" for name in _splits(files, incomplete[0]).values())
        raise DataError(f"no train/ with test/ beside it; {EXPECTED}; {shown(incomplete[0])} has {alone} alone")
    raise DataError(f"no images in train/; {EXPECTED}{_holds(files)}")


def _folders(files: FileTree) -> Iterator[tuple[int, str]]:
    """Yield (depth, folder) of the root and the folders below, the outermost first."""
    level = [""]
    count = 0
    for depth in range(DEEPEST + 1):
        below: list[str] = []
        for folder in level:
            yield depth, folder
            if (count := count + 1) > MOST_FOLDERS:
                return
            is_split = folder.rstrip("/").rpartition("/")[2].lower() in SPLIT_NAMES
            below += [] if is_split else [f"{folder}{name}/" for name in _listing(files, folder)[0]]
        level = below


def _listing(files: FileTree, folder: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return names of (folders, files); empty for an unreadable folder, unless it is the root."""
    try:
        return files.listing(folder.rstrip("/"))
    except PermissionError:
        if not folder:
            raise
        return (), ()


def _splits(files: FileTree, folder: str) -> dict[str, str]:
    """Return {train, test, val: name of the folder} of the splits in `folder`, ignoring letter case."""
    splits: dict[str, str] = {}
    for name in _listing(files, folder)[0]:
        if (split := SPLIT_NAMES.get(name.lower())) is not None:
            if split in splits and {split, name.lower()} == {split}:
                raise DataError(f"both {shown(folder + splits[split])} and {shown(folder + name)} are there; keep one")
            splits.setdefault(split, name)
    return splits


def _complete(files: FileTree, folder: str) -> Layout | None:
    """Return the layout whose files are in `folder` itself; None if none is complete."""
    layouts = (match(files, folder) for match in _MATCHES)
    return next((layout for layout in layouts if layout is not None), None)


def _match_batches(files: FileTree, folder: str, kind: Kind, ending: str) -> Layout | None:
    there = _listing(files, folder)[1]
    wanted = [f"{name}{ending}" for name in (*cifar_batches.TRAIN, cifar_batches.TEST)]
    missing = [name for name in wanted if name not in there]
    if len(missing) > len(wanted) // 2:
        return None
    if missing:
        raise DataError(f"{shown(missing[0])} is missing beside the other batches in {shown(folder or './')}")
    meta = f"batches.meta{'.txt' if ending else ''}"
    return Layout(kind=kind, folder=folder, train=tuple(folder + n for n in (*wanted, meta) if n in there))


def _match_cifar100(files: FileTree, folder: str) -> Layout | None:
    there = _listing(files, folder)[1]
    wanted = (cifar_batches.TRAIN_100, cifar_batches.TEST_100, cifar_batches.META_100)
    if not set(wanted) <= set(there):
        return None
    return Layout(kind="cifar100", folder=folder, train=tuple(folder + name for name in wanted))


def _match_parquet(files: FileTree, folder: str) -> Layout | None:
    names = [name for name in _listing(files, folder)[1] if name.lower().endswith(".parquet")]
    for split in _splits(files, folder).values():
        inside = _listing(files, f"{folder}{split}/")[1]
        names += [f"{split}/{name}" for name in inside if name.lower().endswith(".parquet")]
    by_split: dict[str, list[str]] = {"train": [], "test": [], "val": []}
    for name in sorted(names):
        words = [SPLIT_NAMES[word] for word in re.split(r"[^a-z]+", name.lower()) if word in SPLIT_NAMES]
        if words:
            by_split[words[0]].append(folder + name)
    if not by_split["train"]:
        return None
    if not (held_out := by_split["test"] or by_split["val"]):
        raise DataError(f"{shown(by_split['train'][0])} is there, but no test-*.parquet beside it")
    return Layout(
        kind="parquet", folder=folder, train=tuple(by_split["train"]), test=tuple(held_out),
        is_val=not by_split["test"],
    )  # fmt: skip


def _match_kaggle(files: FileTree, folder: str) -> Layout | None:
    csv = next((name for name in _listing(files, folder)[1] if name.lower() == LABELS_CSV), None)
    if csv is None:
        return None
    train = _splits(files, folder).get("train", "train")
    images = _listing(files, f"{folder}{train}/")[1] if train in _listing(files, folder)[0] else ()
    if not images:
        raise DataError(f"{shown(folder + csv)} is there, but no images in train/ beside it; unpack train.7z first")
    return Layout(
        kind="kaggle", folder=folder, train=(folder + csv, *(f"{folder}{train}/{name}" for name in images)),
    )  # fmt: skip


def _match_classes(files: FileTree, folder: str) -> Layout | None:
    splits = _splits(files, folder)
    if "train" not in splits or not ({"test", "val"} & splits.keys()):
        return None
    if _listing(files, f"{folder}{splits['train']}/") == ((), ()) and folder == "":
        return None  # an empty folder; the data may be deeper
    return _classes(files, folder, splits)


def _match_npz(files: FileTree, folder: str) -> Layout | None:
    names = [name for name in _listing(files, folder)[1] if name.endswith(".npy")]
    return Layout(kind="npz", folder="", train=tuple(names)) if names and not folder else None


def _match_archive(files: FileTree, folder: str) -> Layout | None:
    there = _listing(files, folder)[1]
    name = next((name for name in (*ARCHIVES, *ARCHIVES_100) if name in there), None)
    if name is None:
        npz = [name for name in there if name.lower().endswith(".npz")]
        name = npz[0] if len(npz) == 1 else None
    return Layout(kind="archive", folder=folder, train=(folder + name,)) if name else None


_MATCHES: tuple[Callable[[FileTree, str], Layout | None], ...] = (
    partial(_match_batches, kind="python", ending=""), _match_cifar100,
    partial(_match_batches, kind="binary", ending=".bin"), _match_parquet,
    _match_kaggle, _match_classes, _match_npz, _match_archive,
)  # fmt: skip
"""Functions that recognise a layout, in order of precedence within one folder."""


def _classes(files: FileTree, folder: str, splits: dict[str, str]) -> Layout:
    """Return the layout of train/<class>/* and its test; a missing split is rejected later."""

    def below(split: str | None) -> tuple[str, ...]:
        if split is None:
            return ()
        names: list[str] = []
        pending = [f"{folder}{split}/"]
        while pending:
            here = pending.pop()
            listing = files.listing(here.rstrip("/"))
            names += [here + name for name in listing.files]
            deeper = [f"{here}{name}/" for name in listing.folders]
            if here.count("/") - folder.count("/") > 1 and deeper:
                raise DataError(f"{shown(deeper[0].rstrip('/'))} is not a file; {EXPECTED}")
            pending += deeper
        return tuple(sorted(names))

    is_val = "test" not in splits and "val" in splits
    return Layout(
        kind="classes", folder=folder, train=below(splits.get("train")),
        test=below(splits.get("val" if is_val else "test")), is_val=is_val,
    )  # fmt: skip


def _holds(files: FileTree) -> str:
    """Describe what the root holds instead, and how to rename folders that have a usual name of a split."""
    folders, names = _listing(files, "")
    entries = [f"{name}/" for name in folders] + list(names)
    if not entries:
        return "; it is empty"
    shortened = [shown(entry).strip("'\"") for entry in entries[:3]]
    more = f" and {len(entries) - 3:,} more" if len(entries) > 3 else ""
    usual = {split: [name for name in folders if form.fullmatch(name)] for split, form in USUAL_NAMES.items()}
    renamed = [f"{shown(found[0])} to '{split}'" for split, found in usual.items() if len(found) == 1]
    hint = f"; rename {', '.join(renamed)}" if len(usual["train"]) == 1 else ""
    return f"; it holds {', '.join(shortened)}{more}{hint}"
