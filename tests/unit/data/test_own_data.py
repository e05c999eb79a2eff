"""A user's data set is identified by its present images, and workers have the images that a plan was made for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made.tiny_cells import tiny_job

from cifar_lab import extension
from cifar_lab.data import load
from cifar_lab.errors import CellError, DataError
from cifar_lab.execution.worker import train_cell

SOURCE = """
from pathlib import Path
import numpy as np
from cifar_lab.data.dataset import ImageArrays
from cifar_lab.extension import Extension

def stored(*, root: str = "imgs"):
    with (Path(__file__).parent / "calls").open("a") as calls:
        calls.write("called\\n")
    images = np.load(Path(root) / "images.npy")
    labels = np.arange(len(images)) % 10
    return tuple("abcdefghij"), ImageArrays(images, labels, images, labels)

kept = Extension(factory=stored, version="1")
"""
NAME = "own_images"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_root: Path) -> Iterator[Path]:
    """The current folder, with the module of the data set beside the images that it reads."""
    (tmp_path / f"{NAME}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "imgs", 0)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    """Forget the module, as another process would not know it."""
    sys.modules.pop(NAME, None)
    extension.describe_version.cache_clear()
    extension.imported_source.cache_clear()


def write(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(seed).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    np.save(folder / "images.npy", images)


def calls(place: Path) -> int:
    path = place / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_images_that_changed_are_other_images(place: Path) -> None:
    first = load(f"{NAME}:stored?root=imgs")
    write(place / "imgs", 1)
    second = load(f"{NAME}:stored?root=imgs")
    write(place / "imgs", 0)
    assert first.hash != second.hash
    assert load(f"{NAME}:stored?root=imgs").hash == first.hash


def test_a_relative_path_is_one_of_the_current_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = {name: load(f"{NAME}:{name}").hash for name in ("stored", "kept")}
    write(place / "elsewhere" / "imgs", 1)
    monkeypatch.chdir(place / "elsewhere")
    second = {name: load(f"{NAME}:{name}").hash for name in ("stored", "kept")}
    assert first["stored"] == first["kept"] != second["stored"] == second["kept"]


def test_images_that_are_gone_are_missed(place: Path) -> None:
    load(f"{NAME}:stored")
    (place / "imgs" / "images.npy").unlink()
    with pytest.raises(DataError, match="FileNotFoundError"):
        load(f"{NAME}:stored")


def test_a_version_states_that_the_images_stay(place: Path) -> None:
    first = load(f"{NAME}:kept")
    write(place / "imgs", 1)
    assert load(f"{NAME}:kept").hash == first.hash
    assert calls(place) == 1
    (place / f"{NAME}.py").write_text(SOURCE.replace('"1"', '"2"'))
    forget()
    second = load(f"{NAME}:kept")
    assert second.hash != first.hash
    write(place / "imgs", 2)
    (place / f"{NAME}.py").write_text(SOURCE.replace('"1"', '"2"') + "# another way to read them\n")
    forget()
    assert load(f"{NAME}:kept").hash not in {first.hash, second.hash}, "its source changed"


def test_code_that_changed_since_it_was_imported_makes_no_images(place: Path) -> None:
    load(f"{NAME}:stored")
    (place / f"{NAME}.py").write_text(SOURCE + "# changed\n")
    with pytest.raises(DataError, match="its source has changed since it was imported"):
        load(f"{NAME}:stored")


def test_workers_have_the_images_of_the_plan(place: Path) -> None:
    source = f"{NAME}:stored?root=imgs"
    planned = load(source)
    made = calls(place)
    write(place / "imgs", 1)
    again = load(source, planned=planned.hash)
    assert (again.hash, again.name, again.kind) == (planned.hash, planned.name, "registered")
    assert np.array_equal(again.train_images, planned.train_images)
    assert isinstance(again.train_images, np.memmap)
    assert calls(place) == made, "kept images are mapped, not made again"
    assert load(f"{NAME}:stored?root=./imgs", planned=planned.hash).name == "stored?root=./imgs"


def test_a_cell_is_trained_on_the_images_of_its_plan_or_not_at_all(place: Path, few_images: Path) -> None:
    source = f"{NAME}:stored"
    job = tiny_job(place / "runs", few_images)
    hash = load(source).hash
    fingerprint = job.recipe.fingerprint(seed=0, data_hash=hash)
    own = replace(job, data=source, data_hash=hash, fingerprint=fingerprint)
    write(place / "imgs", 1)
    assert train_cell(own)
    assert own.record.cell().data.hash == hash  # type: ignore[union-attr]
    other = replace(own, seed=1, data_hash="0" * 64, fingerprint=job.recipe.fingerprint(seed=1, data_hash="0" * 64))
    with pytest.raises(CellError, match="the images changed since the plan was made"):
        train_cell(other)


def test_a_function_that_ends_the_program_is_named_once(place: Path) -> None:
    (place / f"{NAME}.py").write_text("import sys\n\ndef stored():\n    sys.exit(3)\n")
    forget()
    with pytest.raises(DataError) as caught:
        load(f"{NAME}:stored")
    assert str(caught.value) == f"data '{NAME}:stored': datasets {NAME}:stored: SystemExit: 3"
