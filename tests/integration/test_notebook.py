"""The notebook and the code on the page of the API run, and give what they say."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
def test_the_notebook_runs_and_its_numbers_agree(folder: Path) -> None:
    found = runpy.run_path(str(DOCS / "notebooks/first_ablation.py"))
    assert (found["result"].trained, found["result"].undone) == (6, {})
    means = found["frame"].set_index("variant")["mean"]
    assert found["means"][0.1] == pytest.approx(means["ls10"])
    assert found["means"][0.0] == pytest.approx(means["off"])
    assert found["agreement"] > 0.95
    assert len(found["cell"].to_frame()) == 2


@pytest.mark.slow
def test_the_code_of_the_page_runs_and_prints_what_is_below_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (DOCS / "api.md").read_text()
    names: dict[str, object] = {}
    for code, shown in re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", page, flags=re.DOTALL):
        exec(compile(code, "api.md", "exec"), names)
        printed = [line for line in capsys.readouterr().out.splitlines() if not re.search(r" of \d+\]$", line)]
        assert [_words(line) for line in printed if line.strip()] == [
            _words(x) for x in shown.splitlines() if x.strip()
        ]


def _words(line: str) -> str:
    """A line without what differs between machines: numbers, times and fingerprints."""
    return " ".join(re.sub(r"[0-9a-f]{12}|[0-9T.-]*\d|NaN", "#", line).split())
