"""Registry of ablations: the built-in folder `ablations/`, installed packages, and user folders.

A package provides ablations by an entry point of the group `cifar_lab.ablations`; its files are read like a user's, and
the package itself is not imported. A user folder may replace earlier names; a package may not. A broken file or
package hides no other: it is reported beside them, by name and line.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.config import declaration_file
from cifar_lab.errors import RegistryError, nearest

GROUP = "cifar_lab.ablations"
"""Group of entry points for packages that provide ablations: `mylab = "mylab.ablations"`."""
BUILT_IN = "built-in"
FOLDERS = "CIFAR_LAB_ABLATIONS"
"""Environment variable with user folders, separated as in PATH."""


@dataclass(frozen=True, kw_only=True)
class BrokenAblation:
    """Unusable ablation or package, with the reason in one line."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReportContents:
    """Contents of the full report: the built-in ablations in the order of the writeup."""

    title: str
    introduction: str
    chapters: tuple[tuple[str, str, tuple[str, ...]], ...]
    """For each chapter its title, one sentence, and the names of its ablations."""


@dataclass(frozen=True, kw_only=True)
class AblationSource:
    """Files of ablations, and their origin as shown by `list`: built-in, a package's name, or a folder."""

    name: str
    files: tuple[Path, ...]
    is_package: bool = False
    """True if it may not replace existing names."""

    def say(self, reason: str) -> str:
        """Return `error_line`, prefixed with the package."""
        return f"package {self.name}: {reason}" if self.is_package else reason


@dataclass(frozen=True)
class Registry:
    """Ablations of several sources, read on demand. On equal names, the later folder takes precedence."""

    sources: tuple[AblationSource, ...]
    unread: tuple[BrokenAblation, ...] = ()
    """Packages that are missing or empty."""
    _read: dict[str, Ablation | BrokenAblation] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def _files(self) -> tuple[dict[str, tuple[AblationSource, Path]], list[BrokenAblation]]:
        """Return the file of each name, and the sources with a name already taken; no file is read."""
        chosen: dict[str, tuple[AblationSource, Path]] = {}
        refused = []
        for source in self.sources:
            for path in source.files:
                owner, first = chosen.get(path.stem, (source, None))
                if first is None or not source.is_package:
                    chosen[path.stem] = (source, path)
                elif path != first:
                    refused.append(_refused(source, path, owner=owner))
        return chosen, refused

    def _entry(self, name: str) -> Ablation | BrokenAblation | None:
        if name not in self._read and name in self._files[0]:
            source, path = self._files[0][name]
            self._read[name] = _load(source, path)
        return self._read.get(name)

    def known(self) -> list[str]:
        """Return the names of all files, sorted, readable or not: no file is opened."""
        return sorted(self._files[0])

    def names(self) -> list[str]:
        """Return the names of the readable ablations, sorted."""
        return [ablation.name for ablation in self]

    def __iter__(self) -> Iterator[Ablation]:
        found = [self._entry(name) for name in self.known()]
        return iter([entry for entry in found if isinstance(entry, Ablation)])

    def origin(self, name: str) -> str:
        """Return the origin of the ablation of this name: `built-in`, a package's name, or a folder."""
        return self._files[0][name][0].name

    def broken(self, *, built_in: bool = True) -> list[BrokenAblation]:
        """Return the files and packages that are not usable; the built-in files are read only if `built_in`."""
        found = [self._entry(name) for name in self.known() if built_in or self.origin(name) != BUILT_IN]
        return [*self.unread, *self._files[1], *(entry for entry in found if isinstance(entry, BrokenAblation))]

    def find(self, name: str) -> Ablation:
        """Return the ablation of this name.

        Raises:
            RegistryError: there is none, or its file is broken.
        """
        entry = self._entry(name)
        if isinstance(entry, BrokenAblation):
            raise RegistryError(entry.reason)
        if entry is None:
            raise RegistryError(f"no ablation named '{name}'{nearest(name, self.names())}")
        return entry


def built_in() -> Path:
    """Return the folder of the built-in ablations: in the package of an installed wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "ablations"
    return inside if inside.is_dir() else package.parent / "ablations"


def contents() -> ReportContents:
    """Return title, introduction and chapters of the full report, from the built-in folder's `__init__.py`."""
    module = declaration_file.run_file(built_in() / "__init__.py", "_cifar_lab_ablations")
    return ReportContents(title=module.TITLE, introduction=module.INTRODUCTION, chapters=module.CHAPTERS)


def folders_of_environment() -> list[Path]:
    """Return the user folders that the environment names, in its order; empty names are left out."""
    return [Path(folder) for folder in os.environ.get(FOLDERS, "").split(os.pathsep) if folder]


def discover(*user_folders: Path) -> Registry:
    """Return the built-in ablations, those of installed packages, and those of `user_folders`.

    Raises:
        RegistryError: a folder does not exist.
    """
    for folder in user_folders:
        if not folder.is_dir():
            given = "--ablations, in Python folder=, or CIFAR_LAB_ABLATIONS"
            raise RegistryError(f"no such folder: {folder} ({given})")
    points = sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    found = [_package(point) for point in points]
    packages = [source for source in found if isinstance(source, AblationSource)]
    own = AblationSource(name=BUILT_IN, files=_files(built_in()))
    users = [AblationSource(name=str(folder), files=_files(folder)) for folder in user_folders]
    return Registry((own, *packages, *users), tuple(entry for entry in found if isinstance(entry, BrokenAblation)))


def _files(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.glob("*.py") if not path.name.startswith("_")))


def _package(point: EntryPoint) -> AblationSource | BrokenAblation:
    """Return the files of the module that an entry point names: those in a package, or the module's own."""
    source = AblationSource(name=(point.dist.name if point.dist else None) or point.value, files=(), is_package=True)
    try:
        places = _locate(point.value)
        files = [path for place in places for path in (_files(place) if place.is_dir() else (place,))]
        if not files:
            raise RegistryError(f"no ablation in {places[0]}")
    except Exception as error:  # noqa: BLE001 (whatever a finder raises hides no other)
        reason = source.say(f"entry point {point.name} = '{point.value}': {declaration_file.error_line(error)}")
        return BrokenAblation(name=f"{source.name}:{point.name}", reason=reason)
    return replace(source, files=tuple(files))


def _locate(module: str) -> list[Path]:
    """Return the file or folders of a module, without importing it or its parents.

    Raises:
        RegistryError: it does not exist as files.
    """
    if not all(part.isidentifier() for part in module.split(".")):
        raise RegistryError("a package's name is wanted, as in 'mylab.ablations'")
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        raise RegistryError(f"no module named '{top}'")
    places = [Path(place) for place in spec.submodule_search_locations or [spec.origin or top]]
    for part in rest:
        places = _inside(places, part)
    if not all(place.is_dir() or (place.suffix == ".py" and place.is_file()) for place in places):
        raise RegistryError(f"{places[0]} is neither a folder nor a .py file")
    return places


def _inside(places: list[Path], part: str) -> list[Path]:
    """Return the location of the module `part` in a package: a package, a file, or folders without `__init__.py`."""
    for place in places:
        for found in (place / part, place / f"{part}.py"):
            if (found / "__init__.py").is_file() or found.is_file():
                return [found]
    folders = [place / part for place in places if (place / part).is_dir()]
    if not folders:
        inside = {path.stem for place in places if place.is_dir() for path in place.iterdir()}
        hint = nearest(part, sorted(name for name in inside if name.isidentifier() and not name.startswith("_")))
        raise RegistryError(f"{places[0]} holds no '{part}'{hint}")
    return folders


def _refused(source: AblationSource, path: Path, *, owner: AblationSource) -> BrokenAblation:
    reason = f"{path.name} is not used: an ablation '{path.stem}' is there already ({owner.name})"
    return BrokenAblation(name=f"{source.name}:{path.stem}", reason=source.say(reason))


def _load(source: AblationSource, path: Path) -> Ablation | BrokenAblation:
    """Read the ablation of a file; one that is not built-in is read in a separate process."""
    if source.name == BUILT_IN:
        return _run(source, path)
    try:
        return declaration_file.read_user_file(path, partial(_run, source))
    except declaration_file.ReadingError as error:
        return BrokenAblation(name=path.stem, reason=source.say(str(error)))


def _run(source: AblationSource, path: Path) -> Ablation | BrokenAblation:
    """Run the file as a module, and return its `ABLATION`."""
    try:
        ablation, doc = declaration_file.load_declaration(path, "ABLATION", Ablation)
    except declaration_file.ReadingError as error:
        return BrokenAblation(name=path.stem, reason=source.say(str(error)))
    return ablation.model_copy(update={"name": path.stem, "doc": doc})
