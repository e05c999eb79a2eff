"""Detection of a copy of the images in the memory of workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from programs.family_memory import Look, look, told

MEGABYTE = 2**20
SIZE = 64 * MEGABYTE
HOLDER = """
import sys
import numpy as np
images = np.load(sys.argv[1], mmap_mode="r")
images.sum()
kept = images if sys.argv[2] == "shared" else np.array(images)
print("holds", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is watched by Linux's own books")
def test_a_copy_of_the_images_is_private_memory_and_a_shared_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "train_images.npy"
    np.save(path, np.ones((SIZE // 3072, 32, 32, 3), np.uint8))
    seen = {}
    for kind in ("shared", "copied"):
        holders = [_holder(path, "shared"), _holder(path, kind)]
        try:
            for each in holders:
                assert each.stdout is not None
                assert each.stdout.readline() == "holds\n"
            seen[kind] = look([psutil.Process(each.pid) for each in holders])
        finally:
            for each in holders:
                each.communicate()
    for found in seen.values():
        assert found.holders == 2
        assert found.images == pytest.approx(SIZE, rel=0.05)
        assert found.images_resident == pytest.approx(2 * SIZE, rel=0.05)
    assert seen["copied"].private - seen["shared"].private == pytest.approx(SIZE, rel=0.2)


def test_what_is_there_all_the_time_is_told_apart_from_what_is_there_for_a_moment() -> None:
    def seen(private: int, holders: int) -> Look:
        return Look(whole=500, private=private, images=10 * holders, images_resident=10 * holders, holders=holders)

    looks = [seen(0, 0), seen(90, 1), *[seen(100, 2)] * 3, seen(180, 2), seen(95, 1), seen(95, 1), seen(95, 1)]
    assert told(looks) == {"whole": 500, "private": 100, "private_most": 180, "images": 20, "images_resident": 20,
                           "holders": 2}  # fmt: skip


def _holder(path: Path, kind: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", HOLDER, str(path), kind], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)  # fmt: skip
