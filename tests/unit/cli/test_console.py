"""Words for counts."""

from __future__ import annotations

from cifar_lab.cli import console


def test_one_is_singular_and_all_else_is_not() -> None:
    assert [console.many(n, "cell") for n in (0, 1, 2, 1200)] == ["0 cells", "1 cell", "2 cells", "1,200 cells"]
