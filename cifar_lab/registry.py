"""Where ablations are found: the built-in folder `ablations/`, and folders of the user's own.

A file that cannot be read hides no other: it is reported beside them, by name and line.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cifar_lab.ablation import Ablation
from cifar_lab.errors import CifarLabError, RegistryError, nearest


@dataclass(frozen=True, kw_only=True)
class Broken:
    """An ablation file that could not be read, and why, in one line."""

    name: str
    reason: str


@dataclass(frozen=True)
class Registry:
    """The ablations of some folders; of two with one name the later folder's is taken."""

    folders: tuple[Path, ...]

    @cached_property
    def _read(self) -> dict[str, Ablation | Broken]:
        return {path.stem: _load(path) for folder in self.folders for path in _files(folder)}

    def names(self) -> list[str]:
        """Names of the ablations that can be read, sorted."""
        return [ablation.name for ablation in self]

    def __iter__(self) -> Iterator[Ablation]:
        found = sorted(self._read.items())
        return iter([entry for _, entry in found if isinstance(entry, Ablation)])

    def broken(self) -> list[Broken]:
        """The files that could not be read."""
        return [entry for entry in self._read.values() if isinstance(entry, Broken)]

    def find(self, name: str) -> Ablation:
        """The ablation of that name.

        Raises:
            RegistryError: there is none, or its file is broken.
        """
        entry = self._read.get(name)
        if isinstance(entry, Broken):
            raise RegistryError(entry.reason)
        if entry is None:
            raise RegistryError(f"no ablation named '{name}'{nearest(name, self.names())}")
        return entry


def built_in() -> Path:
    """The folder of the built-in ablations: beside `cifar_lab` in a checkout and in an installed wheel alike."""
    return Path(__file__).resolve().parents[1] / "ablations"


def discover(*user_folders: Path) -> Registry:
    """The built-in ablations and those of `user_folders`.

    Raises:
        RegistryError: a folder is not there.
    """
    for folder in user_folders:
        if not folder.is_dir():
            raise RegistryError(f"--ablations {folder}: no such folder")
    return Registry((built_in(), *user_folders))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))


def _load(path: Path) -> Ablation | Broken:
    """Run the file as a module of its own, and take its `ABLATION`."""
    spec = importlib.util.spec_from_file_location(f"_cifar_lab_ablation_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # leave nothing in a user's folder
    try:
        sys.modules[spec.name] = module  # dataclasses look their module up while it loads
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever it raises hides no other)
        return Broken(name=path.stem, reason=f"{path.name}:{_line(error, path)}: {_said(error)}")
    finally:
        sys.dont_write_bytecode = bytecode
    ablation = getattr(module, "ABLATION", None)
    if not isinstance(ablation, Ablation):
        return Broken(name=path.stem, reason=f"{path.name}:1: defines no ABLATION = Ablation(…)")
    return ablation.model_copy(update={"name": path.stem})


def _line(error: BaseException, path: Path) -> int:
    if isinstance(error, SyntaxError) and error.lineno:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] or 1 if lines else 1


def _said(error: BaseException) -> str:
    first = (str(error) or type(error).__name__).splitlines()[0]
    return first if isinstance(error, CifarLabError) else f"{type(error).__name__}: {first}"
