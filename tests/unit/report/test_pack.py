"""A packed study: the same records give the same bytes, only records go in, and what is read back is what went in."""

from __future__ import annotations

import hashlib
import json
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from made.run_records import R4, R16, Runs
from made.spaces import Told

from cifar_lab.cli import run
from cifar_lab.errors import TrackingError
from cifar_lab.report import pack
from cifar_lab.results.compare import compare
from cifar_lab.search.storage import open_storage
from cifar_lab.store import checksum
from cifar_lab.store.invocation import FOLDER
from cifar_lab.store.packed_study import FILES, unpack
from cifar_lab.store.runs_folder import STUDIES

NEVER = ("lock", "owner.json", "checkpoint.pt", "cell.json.damaged", ".result.json.1.partial")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def study(runs: Runs) -> Runs:
    """Two ablations that share the control's cells, in a folder with all that must not be packed."""
    cells = {name: [runs.cell(name, seed) for seed in range(3)] for name in ("r16", "r4", "off")}
    for name, accuracies in {"r16": R16, "r4": R4, "off": R4}.items():
        for asked, accuracy in zip(cells[name], accuracies, strict=True):
            folder = runs.end(asked, accuracy).folder
            for never in NEVER:
                (folder / never).write_text("never")
            (folder / pack.WEIGHTS).write_bytes(bytes(1000))
    runs.ask([*cells["r16"], *cells["r4"]])
    runs.ask([*cells["r16"], *cells["off"]], ablation="other")
    return runs


def packed(runs: Runs, *ablations: str, name: str = "study.zip", **how: Any) -> Path:
    path = runs.folder.parent / name
    pack.write_zip(pack.gather(runs.folder, ablations, **how), path)
    return path


def names(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_records_and_notes_come_back_to_the_byte(study: Runs) -> None:
    back = unpack(packed(study, weights=True))
    kept = {path.relative_to(back): path.read_bytes() for path in back.rglob("*") if path.is_file()}
    there = [path for path in study.folder.rglob("*") if path.is_file() and path.name not in NEVER]
    assert kept == {path.relative_to(study.folder): path.read_bytes() for path in there}
    assert len(kept) == 9 * 3 + 2


def test_only_what_is_asked_for_is_packed(study: Runs) -> None:
    of_one = names(packed(study, "other"))
    folders = {name.split("/")[1] for name in of_one if name.startswith("runs/")} - {FOLDER}
    assert folders == {study.cell(name, seed).fingerprint for name in ("r16", "off") for seed in range(3)}
    assert not any(name.endswith((*NEVER, pack.WEIGHTS)) for name in of_one)
    assert {name for name in of_one if name.startswith("tables/")} == {"tables/other.md", "tables/other.tex"}
    with pytest.raises(TrackingError, match=r"'othr' has not been run in .*did you mean 'other'"):
        pack.gather(study.folder, ["othr"])


def test_the_same_records_give_the_same_bytes_at_any_place_and_time(
    study: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = packed(study).read_bytes()
    elsewhere = study.folder.rename(study.folder.with_name("elsewhere"))
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert packed(Runs(elsewhere)).read_bytes() == first
    assert packed(Runs(unpack(packed(Runs(elsewhere)))), name="../../../again.zip").read_bytes() == first


def test_a_zip_gives_the_numbers_of_its_folder(study: Runs) -> None:
    back = unpack(packed(study))
    assert compare(back, "se_ratio").as_dict() == compare(study.folder, "se_ratio").as_dict()
    assert compare(back, "se_ratio").rows[0].mean == pytest.approx(sum(R16) / 3)


def test_the_metadata_name_each_file_with_size_and_digest(study: Runs) -> None:
    with zipfile.ZipFile(packed(study)) as archive:
        crate = json.loads(archive.read("ro-crate-metadata.json"))
        content = {name: archive.read(name) for name in archive.namelist()}
        assert archive.testzip() is None
    by_id = {each["@id"]: each for each in crate["@graph"]}
    assert len(by_id) == len(crate["@graph"])
    assert by_id["ro-crate-metadata.json"]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    for name, data in content.items():
        if name != "ro-crate-metadata.json":
            size, digest = str(len(data)), hashlib.sha256(data).hexdigest()
            assert (by_id[name]["contentSize"], by_id[name]["sha256"]) == (size, digest)
    reached, todo = set[str](), ["./"]
    while todo:
        reached.add(todo.pop())
        todo += [part["@id"] for id in reached for part in by_id[id].get("hasPart", []) if part["@id"] not in reached]
    assert reached - {"./"} - set(content) == {f"runs/{study.cell(v, s).fingerprint}/" for v in ("r16", "r4", "off")
                                               for s in range(3)}  # fmt: skip
    assert set(content) - reached == {"ro-crate-metadata.json"}
    assert by_id["./"]["datePublished"] == "2026-09-21"
    assert by_id["./"]["license"].startswith("None is stated for these records; none is claimed for the images")
    action = by_id[f"#{next(study.folder.glob('invocations/*-se_ratio.json')).stem}"]
    assert action["description"] == "cifar-lab run-ablation se_ratio"
    assert {"@id": "runs/" + study.cell("r4", 0).fingerprint + "/"} in action["result"]
    linked = [link["@id"] for each in crate["@graph"] for links in each.values() if isinstance(links, list)
              for link in links if isinstance(link, dict)]  # fmt: skip
    assert set(linked) <= set(by_id)


def test_requirements_have_the_versions_that_most_cells_were_trained_with(study: Runs) -> None:
    odd = study.folder / study.cell("r4", 0).fingerprint / "cell.json"
    tree = checksum.read_sealed(odd)
    tree["provenance"]["versions"]["torch"] = "2.8.0"
    checksum.write_sealed(odd, tree)
    text = pack.gather(study.folder).beside["requirements.txt"]
    assert "torch==2.9.1  # 8 cells; also 2.8.0 (1 cell)\n" in text
    assert "# commit of cifar-lab: 0123456789abcdef" in text


def test_a_study_of_any_name_is_packed_and_read_back(study: Runs) -> None:
    study.ask([study.cell("r16", 0)], ablation="sweep.my study+1")
    path = packed(study)
    assert (unpack(path) / FOLDER / "20261122T210003.000-sweep.my study+1.json").is_file()
    with zipfile.ZipFile(path) as archive:
        ids = {each["@id"] for each in json.loads(archive.read("ro-crate-metadata.json"))["@graph"]}
        readme = archive.read("README.md").decode()
    assert {"tables/sweep.my%20study+1.md", "#20261122T210003.000-sweep.my%20study+1"} < ids
    assert "(tables/sweep.my%20study%2B1.md)" in readme


@pytest.fixture
def search(study: Runs) -> Runs:
    """The same folder with a search, `wide`."""
    made = Told(storage=open_storage(None, study.folder))
    made.trained(0.8)
    made.trained(0.85)
    study.ask([study.cell("t000", 0)], ablation="sweep.wide")
    return study


@pytest.mark.parametrize("ablations", [(), ("sweep.wide",), ("other", "sweep.wide")])
def test_the_trials_of_a_search_are_packed_and_read_as_in_their_folder(
    search: Runs, ablations: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    path = packed(search, *ablations)
    for line in ("sweep-status --json", "sweep-best wide --json", "sweep-importance wide --json"):
        told = []
        for runs in (search.folder, path, path):
            assert run([*line.split(), "--runs", str(runs)]) == 0
            told.append(capsys.readouterr().out)
        assert told[0] == told[1] == told[2]
        assert "wide" in told[0] or "importance" in line
    page = search.folder.parent / "page.html"
    assert run(["sweep-report", "wide", "--runs", str(path), "-o", str(page)]) == 0
    assert "runs/studies.journal" in page.read_text()
    assert str(search.folder.parent) not in page.read_text()
    capsys.readouterr()
    assert run(["sweep-best", "wid", "--runs", str(path)]) == 2
    assert capsys.readouterr().err == "cifar-lab: no study named 'wid'; did you mean 'wide'?\n"


def test_the_readme_names_the_commands_that_read_a_search(search: Runs) -> None:
    read = "cifar-lab sweep-report wide --runs study.zip -o wide.html"
    whole = pack.gather(search.folder).beside["README.md"]
    assert read in whole
    assert "cifar-lab compare other --runs study.zip" in whole
    alone = pack.gather(search.folder, ["sweep.wide"]).beside["README.md"]
    assert read in alone
    assert not re.search(r"(compare|report|run-ablation) (sweep|ABLATION)", alone)


def test_ablations_are_packed_without_the_searches_beside_them(search: Runs) -> None:
    assert "runs/studies.journal" not in names(packed(search, "other"))
    assert pack.gather(search.folder).records == pack.gather(search.folder, ["other", "se_ratio"]).records


def test_a_search_whose_trials_are_in_a_database_is_packed_with_a_warning(
    search: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    output = search.folder.parent / "study.zip"
    for has_trials in (True, False):
        if not has_trials:
            (search.folder / STUDIES).unlink()
        assert run(["pack", "--runs", str(search.folder), "-o", str(output)]) == 0
        assert ("the trials of searches are not in" in capsys.readouterr().err) is not has_trials


def test_a_password_in_the_trials_is_not_packed(search: Runs) -> None:
    with (search.folder / STUDIES).open("a") as file:
        file.write('{"op_code":2,"user_attr":{"url":"postgresql://me:hunter2hunter@host/db"}}\n')
    with pytest.raises(TrackingError, match=r"studies\.journal: not packed: it holds what looks like a password"):
        pack.gather(search.folder)


def test_a_password_is_never_packed(study: Runs) -> None:
    (study.folder / study.cell("r4", 0).fingerprint / "code.diff").write_text(
        "+url = 'https://me:hunter2hunter@host/'\n"
    )
    with pytest.raises(TrackingError, match=r"code\.diff: not packed: it holds what looks like a password"):
        pack.gather(study.folder)


def test_a_damaged_record_is_packed_as_it_is_and_named(study: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    path = study.folder / study.cell("r4", 1).fingerprint / "result.json"
    path.write_text(path.read_text().replace("0.9,", "0.95,"))
    output = study.folder.parent / "study.zip"
    assert run(["pack", "--runs", str(study.folder), "-o", str(output)]) == 1
    assert f"{path}: damaged: its checksum does not match" in capsys.readouterr().err
    with zipfile.ZipFile(output) as archive:
        assert archive.read(f"runs/{path.parent.name}/result.json") == path.read_bytes()
        table = archive.read("tables/se_ratio.md").decode()
        assert f"runs/{path.parent.name}/result.json: damaged" in table
        assert str(study.folder) not in table
    assert run(["compare", "se_ratio", "--runs", str(output)]) == 1
    assert f"{path.parent.name}/result.json: damaged" in "".join(capsys.readouterr().out.split("\n"))


def test_a_file_that_cannot_be_read_any_more_is_named_and_nothing_is_written(study: Runs) -> None:
    output = study.folder.parent / "study.zip"
    output.write_text("the one before")
    parcel = pack.gather(study.folder)
    gone = study.folder / study.cell("r4", 1).fingerprint / "result.json"
    gone.unlink()
    with pytest.raises(TrackingError, match=rf"{gone}: cannot be read \(No such file or directory\)"):
        pack.write_zip(parcel, output)
    assert output.read_text() == "the one before"
    assert [path.name for path in output.parent.glob(".*.partial")] == []


def test_nothing_to_pack_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pack", "--runs", str(tmp_path / "none"), "-o", str(tmp_path / "a.zip")]) == 2
    assert "nothing to pack: nothing has been run in" in capsys.readouterr().err
    assert not (tmp_path / "a.zip").exists()


def test_what_is_packed_can_be_read_back(study: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FILES, "result.json", 10)
    with pytest.raises(TrackingError, match=r"result.json: not packed: \d+ bytes, 10 at most"):
        pack.gather(study.folder)


def test_the_command_says_what_it_wrote(study: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    output = study.folder.parent / "study.zip"
    assert run(["pack", "se_ratio", "--runs", str(study.folder), "-o", str(output), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["records"], told["invocations"], told["ablations"]) == (6, 1, ["se_ratio"])
    assert told["bytes"] == output.stat().st_size
    assert told["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert told["files"] == len(names(output))
