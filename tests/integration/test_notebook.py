"""The notebooks and the code on the page of the API run, and give what they say."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))


@pytest.mark.slow
def test_the_notebook_runs_and_its_numbers_agree(folder: Path) -> None:
    found = runpy.run_path(str(DOCS / "notebooks/first_ablation.py"))
    assert (found["result"].trained, found["result"].undone) == (6, {})
    means = found["frame"].set_index("variant")["mean"]
    assert found["means"][0.1] == pytest.approx(means["ls10"])
    assert found["means"][0.0] == pytest.approx(means["off"])
    assert found["agreement"] > 0.95
    assert len(found["cell"].to_frame()) == 2
    assert (found["again"].trained, found["again"].reused) == (0, 6)


@pytest.mark.slow
def test_own_parts_are_compared_with_a_baseline_and_a_change_of_their_file_is_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = runpy.run_path(str(DOCS / "notebooks/own_network.py"))
    sys.modules.pop("own_parts", None)
    assert (found["result"].trained, found["result"].undone) == (9, {})
    frame = found["frame"].set_index("variant")
    assert list(frame.index) == ["resnet", "patches", "patches_signs"]
    assert (frame["n"] == 3).all()
    own = 3 * 16 * 24 + 24 + 2 * 24 + 24 * 24 * 9 + 24 + 24 * 4 + 4
    assert frame["parameters"]["patches"] == frame["parameters"]["patches_signs"] == own
    macs = 3 * 16 * 24 * 16 + 24 * 24 * 9 * 16 + 24 * 4
    assert frame["macs"]["patches"] == pytest.approx(macs, rel=0.02)
    assert (frame["mean"][["patches", "patches_signs"]] > 0.3).any(), "chance is 0.25: something was learned"
    assert "its source has changed" in found["refused"]
    assert "restart the kernel" in found["refused"]


@pytest.mark.slow
def test_the_table_that_is_read_follows_its_rules(folder: Path) -> None:
    found = runpy.run_path(str(DOCS / "notebooks/read_a_table.py"))
    frame, more = found["frame"], found["more"]
    assert (found["three"].trained, found["five"].trained, found["five"].reused) == (9, 6, 9)
    others = ["tiny_rate", "smoothed"]
    assert list(found["by_hand"][others]) == pytest.approx(list(frame["difference"][others]))
    assert list(found["low"][others]) == pytest.approx(list(frame["interval_low"][others]))
    assert list(found["high"][others]) == pytest.approx(list(frame["interval_high"][others]))
    assert found["margin"] == pytest.approx(0.02)
    assert found["decided"] == dict(frame["verdict"][others])
    assert frame["verdict"]["tiny_rate"] == "worse"
    assert (found["widths"][5][others] < found["widths"][3][others]).all()
    judged = {row["variant"]: row for row in found["judged"]["rows"]}
    for name in others:
        assert judged[name]["verdict"] == more["verdict"][name]
        interval = [100 * more["interval_low"][name], 100 * more["interval_high"][name]]
        assert judged[name]["interval"] == pytest.approx(interval)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_installs_what_is_missing_before_it_imports_it(path: Path) -> None:
    tree = ast.parse(path.read_text())
    installs = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.If) and "pip" in ast.unparse(node)]
    imports = [
        node.lineno for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and "cifar_lab" in ast.unparse(node)
    ]  # fmt: skip
    assert len(installs) == 1
    assert installs[0] < min(imports)
    assert f"notebooks/{path.stem}\n" in (DOCS / "index.md").read_text(), "in the table of contents"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_converts_to_ipynb_with_all_its_cells(path: Path, tmp_path: Path) -> None:
    import jupytext
    import nbformat

    output = tmp_path / f"{path.stem}.ipynb"
    line = [sys.executable, "-m", "jupytext", "--to", "ipynb", "--output", str(output), str(path)]
    subprocess.run(line, check=True, capture_output=True)
    notebook = nbformat.read(output, as_version=4)
    nbformat.validate(notebook)
    assert len(notebook.cells) == len(jupytext.read(path).cells) == path.read_text().count("\n# %%")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            compile(cell.source, path.name, "exec")


@pytest.mark.slow
def test_a_kernel_executes_the_converted_notebook(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import jupytext
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent))
    notebook = jupytext.read(DOCS / "notebooks/first_ablation.py")
    NotebookClient(
        notebook, timeout=550, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [data for cell in code for output in cell.outputs for data in output.get("data", {}).values()]
    assert any("6 trained, 0 reused" in text for text in shown)
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
    assert code[-1].outputs[-1]["data"]["text/plain"] == "(0, 6)"


@pytest.mark.slow
def test_a_command_in_a_cell_prints_a_line_for_each_event_and_redraws_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent))
    small = "model.width=4 model.blocks=[1] train.epochs=2"
    command = f"!{sys.executable} -m cifar_lab train {small} --scale smoke --device cpu --offline -y"
    notebook = new_notebook(cells=[new_code_cell(command)])
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    text = "".join(output.get("text", "") for output in notebook.cells[0].outputs)
    events = [line for line in text.splitlines() if line.startswith("efficient/s0: ")]
    assert [line.split()[1].strip(",") for line in events] == ["training", "epoch", "epoch", "test"], text
    assert not re.search(r"\x1b\[[0-9;?]*[A-HJKfhl]", text), "colours alone: no cursor is moved, nothing erased"


@pytest.mark.slow
def test_the_code_of_the_page_runs_and_prints_what_is_below_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (DOCS / "api.md").read_text()
    names: dict[str, object] = {}
    for code, shown in re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", page, flags=re.DOTALL):
        exec(compile(code, "api.md", "exec"), names)
        lines = capsys.readouterr().out.splitlines()
        printed = [line for line in lines if not re.search(r" of \d+\]$| to train, |: epoch \d+ of ", line)]
        assert [_words(line) for line in printed if line.strip()] == [
            _words(x) for x in shown.splitlines() if x.strip()
        ]


def _words(line: str) -> str:
    """A line without what differs between machines: numbers, times and fingerprints."""
    return " ".join(re.sub(r"[0-9a-f]{12}|[0-9T.-]*\d|NaN", "#", line).split())
