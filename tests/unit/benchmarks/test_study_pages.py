"""Pages of a study: every number is that of `compare` and `verify` on its records."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import study_pages

import cifar_lab
from cifar_lab.report.table_formats import as_markdown
from cifar_lab.store.packed_study import study_folder

HOUSE = Path(__file__).parents[3]
STUDY = HOUSE / "docs" / "results" / "study.zip"
REGISTRY = HOUSE / "docs" / "results" / "registry.zip"


def _write(study: Path | str, folder: Path) -> None:
    study_pages.main([str(study), "-o", str(folder)])


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "pages"
    folder.mkdir()
    (folder / "of_before.md").write_text("gone\n")
    _write(STUDY, folder)
    return folder


def test_each_measured_ablation_has_a_page_with_its_comparison(pages: Path) -> None:
    names = {page.stem for page in pages.glob("*.md")} - {"README"}
    assert {"batch_norm", "optimizers", "se_ratio"} <= names
    assert "of_before" not in names
    for name in names:
        compared = cifar_lab.compare(name, runs=STUDY)
        assert as_markdown(compared) in (pages / f"{name}.md").read_text() + "\n"


def test_the_index_has_a_row_for_each_page_and_counts_what_they_say(pages: Path) -> None:
    index = (pages / "README.md").read_text()
    names = {page.stem for page in pages.glob("*.md")} - {"README"}
    rows = [line for line in index.splitlines() if line.startswith("| [")]
    assert {line.split("](")[1].split(".md)")[0] for line in rows} == names
    row = next(line for line in rows if "[batch_norm]" in line)
    compared = cifar_lab.compare("batch_norm", runs=STUDY)
    best = max(compared.rows, key=lambda each: each.mean or 0)
    assert f"{best.variant} {100 * (best.mean or 0):.2f}" in row
    assert f"{sum(each.verdict == 'worse' for each in compared.rows)} worse" in row
    assert "--scale small/5 data cifar10-jpeg" in index


def test_a_search_has_a_page_with_what_the_commands_print_and_its_confirmation() -> None:
    assert study_pages.read_searches(study_folder(REGISTRY)) == ["writeup_small"]
    page = "\n".join(study_pages.search_page("writeup_small", str(REGISTRY)))
    assert "$ cifar-lab sweep-best writeup_small --runs " in page
    assert "scale small · cifar10-jpeg · data.train_fraction=0.2 train.precision=bf16\n" in page
    assert "8 trials with a value, 22 pruned, 17 infeasible" in page
    assert "a winner's curse of +1.09 points" in page
    assert as_markdown(cifar_lab.compare("confirm_writeup_small", runs=REGISTRY)).rstrip() in page


def test_a_folder_without_records_leaves_the_pages_as_they_are(
    tmp_path: Path, pages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "pages"
    shutil.copytree(pages, kept)
    (tmp_path / "runs").mkdir()
    with pytest.raises(SystemExit):
        _write(tmp_path / "runs", kept)
    assert "no finished cell" in capsys.readouterr().err
    assert (kept / "README.md").is_file()


def test_the_pages_of_the_registry_are_those_of_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that `make results` changes nothing: all numbers in docs/results/registry are read from the records."""
    kept = HOUSE / "docs" / "results" / "registry"
    monkeypatch.chdir(HOUSE)  # the pages name the file as it was typed
    _write("docs/results/registry.zip", tmp_path / "pages")
    made = {page.name: page.read_text() for page in (tmp_path / "pages").glob("*.md")}
    assert made == {page.name: page.read_text() for page in kept.glob("*.md")}
