"""The figures are pictures, and what they average is right."""

from __future__ import annotations

import csv
import io
import subprocess
import sys

import pytest
from PIL import Image

from cifar_lab.report.charts import cell_png
from cifar_lab.store.confusion import format_confusion, parse_confusion

CONFUSION = "label,cat,dog\ncat,3,1\ndog,0,0\n"
FOUR = {
    "figures/learning_rate.png",
    "figures/accuracy.png",
    "figures/accuracy_by_interval.png",
    "figures/loss.png",
}


def _points(epochs: int, split: str = "val") -> list[tuple[int, dict[str, float]]]:
    values = {f"{split}/acc": 0.5, f"{split}/loss": 1.0, "train/loss": 1.1, "lr": 0.1}
    return [(epoch, values) for epoch in range(1, epochs + 1)]


@pytest.mark.parametrize(("epochs", "split"), [(1, "val"), (25, "test")])
def test_a_cell_has_the_four_figures_and_its_confusion(epochs: int, split: str) -> None:
    drawn = cell_png.draw_cell_figures(_points(epochs, split), CONFUSION, "r4/s0")
    assert set(drawn) == {*FOUR, "confusion.png"}
    for content in drawn.values():
        picture = Image.open(io.BytesIO(content))
        assert picture.format == "PNG"
        assert picture.width >= 640


def test_what_was_not_measured_is_not_drawn() -> None:
    assert cell_png.draw_cell_figures([], None, "r4/s0") == {}
    assert set(cell_png.draw_cell_figures([(1, {"lr": 0.1})], None, "r4/s0")) == {"figures/learning_rate.png"}


def test_an_interval_is_the_mean_of_its_ten_epochs_and_the_last_may_be_shorter() -> None:
    curve = [(epoch, float(epoch)) for epoch in range(1, 24)]
    assert cell_png.intervals(curve) == [(1, 10, 5.5), (11, 20, 15.5), (21, 23, 22.0)]


def test_epochs_without_a_value_do_not_shift_the_intervals() -> None:
    assert cell_png.intervals([(9, 1.0), (11, 3.0)]) == [(9, 9, 1.0), (11, 11, 3.0)]


def test_drawing_needs_no_pyplot_no_torch_and_no_mlflow() -> None:
    code = (
        "import sys; from cifar_lab.report.charts import cell_png;"
        "cell_png.draw_cell_figures([(1, {'lr': 0.1})], None, 'x');"
        "sys.exit(bool({'matplotlib.pyplot', 'torch', 'mlflow'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["cat", "a,b", 'the "cat"', "=cmd|calc!A1", "+1", "-x", "@x", "'=x", "a\nb"])
def test_a_class_of_any_name_is_a_cell_of_the_table_and_no_formula(name: str) -> None:
    classes = [name, "dog"]
    text = format_confusion(classes, [[3, 1], [0, 4]])
    assert parse_confusion(text) == (classes, [[3, 1], [0, 4]])
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
