"""The real images, where they are: tests that need them are skipped elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REAL = Path(os.environ.get("CIFAR_LAB_TEST_ZIP") or Path(__file__).parents[3] / "shared" / "data" / "cifar10-jpeg.zip")
NEEDED = pytest.mark.skipif(not REAL.is_file(), reason=f"no real images at {REAL} (CIFAR_LAB_TEST_ZIP names another)")
FEW = ("--data", str(REAL), "data.train_fraction=0.01", "data.val_fraction=0.01")
"""Words of a command that trains on 500 of the real images; all of the test images are evaluated at its end."""
ON_BOTH = pytest.mark.parametrize("data", [(), pytest.param(FEW, marks=NEEDED)], ids=["synthetic", "real"])
"""Runs a test on the embedded images and on the real ones."""
