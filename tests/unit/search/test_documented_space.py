"""The search space that docs/sweeps.md shows as an example of one's own."""

from __future__ import annotations

import re
from pathlib import Path

from made.documented_commands import HOUSE

from cifar_lab.search.budget import SearchBudget
from cifar_lab.search.dimension import Bundle, Choice, Integer, Real
from cifar_lab.search.spaces import find_space


def test_the_space_of_the_page_is_loaded_from_a_file_and_can_be_searched(tmp_path: Path) -> None:
    page = (HOUSE / "docs/sweeps.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (name,) = set(re.findall(r"--space (\S+\.py)", page))
    (tmp_path / name).write_text(code)
    space = find_space(str(tmp_path / name))
    assert space.name == "mine"
    assert {type(dimension) for dimension in space.dimensions} == {Bundle, Choice, Integer, Real}
    assert space.params_of(space.baseline) is not None, "the page calls it trial 0"
    assert space.diff_of(_params(0.7)) == {
        "model.width": 16, "optim.name": "adam", "optim.lr": 0.0007, "data.mixup": 0.0, "data.cutmix": 1.0,
    }  # fmt: skip
    assert all(SearchBudget().admits(space.baseline.override({"model.width": width})) for width in (16, 64))


def _params(rate: float) -> dict[str, int | str | float]:
    return {"model.width": 16, "optim.name": "adam", "rate": rate, "mixing": "cutmix"}
