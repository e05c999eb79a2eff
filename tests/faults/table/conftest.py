"""Fixtures of the fault table: the tally of a row, and the tiny studies that faults are caused in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.table.lab import Lab, Material, write_images, write_study
from faults.table.rows import BY_NAME
from faults.table.tally import Tally, counting

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every row of the table, and let `-k` choose it by the row's name."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.faults)
            item.extra_keyword_matches.add(row_of(item.name))


def row_of(test: str) -> str:
    """Return the name of the row that a test fills: `test_server_moved[sqlite]` fills `server_moved_sqlite`."""
    return test.removeprefix("test_").replace("[", "_").rstrip("]")


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Count the tries of the row that the test is named after."""
    with counting(BY_NAME[row_of(request.node.name)]) as counted:
        yield counted


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Images, ablations, a cache that holds the images, and an MLflow store without runs, made once."""
    root = tmp_path_factory.mktemp("material")
    write_images(root / "images", train=6, test=2)
    (root / "ablations").mkdir()
    write_study(root / "ablations" / "tiny.py")
    return Material(root=root)


@pytest.fixture
def lab(material: Material, tmp_path: Path) -> Iterator[Lab]:
    """A folder of its own for one study, whose processes end with the test."""
    made = Lab(folder=tmp_path, material=material)
    yield made
    made.end()


@pytest.fixture
def mounted(tmp_path: Path, tally: Tally) -> Iterator[Path]:
    """A folder in which file systems may be mounted; whatever is mounted below is unmounted in the end."""
    from faults.table import mounts

    if os.geteuid() != 0 or shutil.which("mount") is None:
        tally.skip("only root can mount a file system")
    place = tmp_path / "mounted"
    place.mkdir()
    yield place
    mounts.unmount_below(place)
