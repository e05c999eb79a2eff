"""`report` end to end: a page of what was run, one line where it cannot be written, nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from cifar_lab.cli import run
from cifar_lab.report.summary import comparison_headline
from cifar_lab.results.compare import compare

HOUSE = Path(__file__).parents[2]


class Ran(NamedTuple):
    """A finished `run-ablation tiny`."""

    runs: Path
    options: list[str]


@pytest.fixture(scope="module")
def ran(tiny_study: Path, tiny_ablation: Path) -> Ran:
    return Ran(tiny_study / "runs", ["--runs", str(tiny_study / "runs"), "--ablations", str(tiny_ablation)])


def test_the_page_of_what_was_run_has_its_numbers_curves_and_provenance(
    ran: Ran, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", "tiny", *ran.options]) == 0
    assert capsys.readouterr().out.strip() == "report.html"
    text = (folder / "report.html").read_text(encoding="utf-8")
    of = compare(ran.runs, "tiny")
    for line in of.made[1:]:
        assert line.partition(": ")[2] in text
    for row in of.rows:
        assert f"{100 * (row.mean or 0):.2f}" in text
    assert comparison_headline(of) in text
    assert "validation accuracy, %" in text
    assert "run-ablation tiny" in text
    assert [path.name for path in folder.iterdir()] == ["report.html"]


def test_json_says_where_the_page_is_what_is_on_it_and_how_long_it_is(
    ran: Ran, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", "tiny", *ran.options, "-o", "page.html", "--json"]) == 0
    size = (folder / "page.html").stat().st_size
    expected = {"path": str(folder / "page.html"), "ablations": ["tiny"], "bytes": size}
    assert json.loads(capsys.readouterr().out) == expected


def test_the_same_runs_give_the_same_page_byte_for_byte(ran: Ran, folder: Path) -> None:
    for name in ("one", "other"):
        assert run(["report", "tiny", *ran.options, "-o", f"{name}.html"]) == 0
    assert (folder / "one.html").read_bytes() == (folder / "other.html").read_bytes()


def test_all_has_the_whole_registry_in_the_order_of_the_writeup(
    ran: Ran, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", "--all", *ran.options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["ablations"]
    assert (told[0], told[1], told[-1]) == ("writeup_ladder", "block_counts", "tiny")
    assert {path.stem for path in (HOUSE / "ablations").glob("[!_]*.py")} < set(told)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert f"Of {len(told)} ablations, 1 is measured" in text
    assert all(f'<article id="{name}"' in text for name in told)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["tiyn"], "did you mean 'tiny'?"),
        (["se_ratio"], "'se_ratio' has not been run"),
        (["tiny", "se_ratio"], "'se_ratio' has not been run"),
        (["tiny", "--scale", "smoke"], "never as asked for"),
        (["tiny", "--scale", "smal"], "did you mean 'small'?"),
        (["tiny", "train.epochs=7"], "never as asked for"),
        (["tiny", "train.epoch=7"], "did you mean 'train.epochs'?"),
        (["tiny", "-o", "nowhere/report.html"], "no such folder: nowhere"),
        (["tiny", "-o", "."], "a file is wanted"),
        ([], "name one ablation or more, or say --all"),
        (["tiny", "--all"], "name one ablation or more, or say --all"),
        (["--all", "train.epoch=7"], "did you mean 'train.epochs'?"),
    ],
)
def test_what_cannot_be_reported_is_one_line_and_nothing_is_written(
    ran: Ran, folder: Path, capsys: pytest.CaptureFixture[str], line: list[str], said: str
) -> None:
    assert run(["report", *line, *ran.options]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert list(folder.iterdir()) == []


def test_an_earlier_page_stays_when_a_new_one_cannot_be_made(ran: Ran, folder: Path) -> None:
    (folder / "report.html").write_text("earlier")
    assert run(["report", "se_ratio", *ran.options]) == 2
    assert (folder / "report.html").read_text() == "earlier"


def test_templates_are_part_of_the_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(HOUSE)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    templates = (HOUSE / "cifar_lab" / "report" / "templates").iterdir()
    assert {f"cifar_lab/report/templates/{path.name}" for path in templates} <= packed
