"""`gpu.py` on the CPU: every stage takes its path, a crash costs one stage, and cells go on where a machine stopped."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import gpu
import pytest
from on_gpu import cells, page
from on_gpu.cells import Job
from on_gpu.pack import Pack

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "gpu.py"


def tiny(folder: Path, *words: str, reached: int = 0) -> dict[str, Any]:
    """The results of a tiny run on the CPU."""
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--tiny", "--out", str(folder / "out"),
               "--runs", str(folder / "runs"), *words]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads((folder / "out" / "gpu.json").read_text())
    assert "failed" not in results, results["failed"]
    assert f"**{reached} of 9 reached" in done.stdout
    return results


def pack(folder: Path, **changed: Any) -> Pack:
    """A pack in this process."""
    options = {"out": str(folder / "out"), "runs": str(folder / "runs"), "device": "cpu", "tiny": False, "cells": "",
               "data": "synthetic", "seconds": 1000.0, "began": None, "records": []}  # fmt: skip
    return Pack(Namespace(**(options | changed)))


@pytest.mark.slow
def test_the_checks_pass_on_the_cpu_and_parts_of_an_epoch_are_timed(tmp_path: Path) -> None:
    results = tiny(tmp_path, "--only", "machine,correctness,beside", reached=1)  # no step waits
    rows = results["correctness"]["rows"]
    assert not [row for row in rows if row["passed"] is False]
    checks = {row["check"] for row in rows}
    assert {"the golden trajectory is that of the device: efficient", "fp32 means fp32"} & checks
    assert "no step waits for the device even after a resume: sgd" in checks
    assert results["beside"]["journal_ms"] > 0


@pytest.mark.slow
def test_ways_are_timed_and_profiled_on_the_cpu(tmp_path: Path) -> None:
    results = tiny(tmp_path, "--only", "speed,profile")
    ways = {row["way"] for row in results["speed"]["rows"]}
    assert {"lab, graph + compiled", "textbook, PIL images, loader with workers", "fast: lab, bf16"} <= ways
    assert all(row["remark"] for row in results["speed"]["rows"] if row["way"] == "lab, graph")
    assert len(results["profile"]["rows"]) == 3


@pytest.mark.slow
def test_cells_that_an_archive_holds_are_not_trained_again(tmp_path: Path) -> None:
    first = tiny(tmp_path, "--only", "cells")
    assert [row["trained"] for row in first["cells"]["rows"]] == [2, 2]
    second = tiny(
        tmp_path / "later", "--only", "cells", "--records", str(tmp_path / "out"), "--cells", "stages1-4-seed0"
    )
    assert second["cells"]["restored"] == 4
    assert [row["trained"] for row in second["cells"]["rows"]] == [0]


@pytest.mark.slow  # how far it comes in its seconds depends on what else the machine does
def test_a_cell_that_the_time_cuts_off_goes_on_on_the_next_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "se_ratio model.width=8 model.blocks=[1] --variants r16 --seeds 0 train.epochs={}"
    job = Job(name="long", words=words.format(3000))
    monkeypatch.setattr(cells, "STOP", 12.0)
    here = pack(tmp_path, seconds=60.0)
    cells.train(here, job, tmp_path / "runs")
    (row,) = here.rows("cells")
    assert (row["trained"], row["ended"], row["code"]) == (0, "told to save and stop", 130)
    cells.store(here, tmp_path / "runs")
    (state,) = here.results["records"]["state"]
    assert state.endswith("checkpoint.pt")
    assert cells.restore([str(tmp_path / "out")], tmp_path / "next") == 1
    assert (tmp_path / "next" / state).read_bytes() == (tmp_path / "runs" / state).read_bytes()


def test_state_that_does_not_fit_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        folder = tmp_path / "runs" / f"cell{i}"
        folder.mkdir(parents=True)
        (folder / "cell.json").write_text('{"recipe": {}}')
        (folder / "checkpoint.pt").write_bytes(bytes(range(256)) * 400)
    monkeypatch.setattr(cells, "PART", 60_000)
    here = pack(tmp_path)
    cells.store(here, tmp_path / "runs")
    assert len(here.results["records"]["state"]) == 2
    assert len(here.results["records"]["left_out"]) == 1
    assert all(part.stat().st_size <= 60_000 for part in (tmp_path / "out").glob("state.tgz.*"))


def test_a_crash_says_its_signal_and_where_it_was(tmp_path: Path) -> None:
    log = tmp_path / "crash.txt"
    log.write_text("a warning\nFatal Python error: Segmentation fault\n\nCurrent thread:\n  File golden\n")
    assert gpu.how_it_ended(-11, log).startswith("its process ended with SIGSEGV; Fatal Python error")
    assert gpu.how_it_ended(1, tmp_path / "none") == "its process ended with code 1; no trace"


def test_a_stage_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--only", "speeed"]) == 2
    assert "no stage named 'speeed'" in capsys.readouterr().err


def results(ms: float, **more: Any) -> dict[str, Any]:
    """Results as a run writes them, with two ways at width 64."""
    ways = {"lab, graph + compiled": ms, "textbook, images on the device, TF32": 9.0}
    rows = [
        {"width": 64, "way": way, "recipe": "efficient", "batch": 128, "ms": [each, each, each], "product": 750.0,
         "images_per_second": 128_000 / each, "tflops": 613.6 / each, "share": 613.6 / each / 750.0}
        for way, each in ways.items()
    ]  # fmt: skip
    run = {
        "date": "2026-11-27 06:26 UTC",
        "tiny": False,
        "device": "cuda",
        "commit": "da225a5",
        "data": "",
        "seconds": 1,
    }
    return {"schema": 1, "run": run, "speed": {"rows": rows}, **more}


def test_goals_are_reached_or_missed_by_their_numbers() -> None:
    fast, slow = (page.goals(results(ms)) for ms in (3.0, 4.0))
    assert [goal.is_reached for goal in fast[:3]] == [True, True, True]
    assert [goal.is_reached for goal in slow[:3]] == [False, False, False]
    assert "missed by 4,000 images/s" in page.page([results(4.0)])


def test_a_way_whose_graph_was_refused_reaches_no_goal() -> None:
    tree = results(3.0)
    tree["speed"]["rows"][0]["remark"] = "operation not permitted"
    assert page.goals(tree)[0].verdict == "not measured: no graph: operation not permitted"
    assert "(no graph: operation not permitted)" in page.page([tree])


def test_a_whole_cell_is_the_sum_of_its_parts() -> None:
    beside = {"input_ms": 0.1, "evaluation_ms": 200.0, "journal_ms": 1.0, "checkpoint_ms": 300.0}
    parts = page.cell(results(3.0, beside=beside))
    assert isinstance(parts, dict)
    assert parts["steps"] == pytest.approx(200 * 391 * 0.003)
    assert parts["evaluation"] == pytest.approx(60)
    assert parts["total"] == pytest.approx(sum(parts[name] for name in ("steps", "evaluation", "journal", "saving")))
    assert parts["saving"] / parts["total"] < 0.021


def test_a_later_file_replaces_an_earlier_one_and_jobs_are_collected() -> None:
    job = {"job": "precision", "command": "cifar-lab run-ablation precision", "trained": 12, "seconds": 80.0,
           "ended": "by itself", "code": 0, "table": ["s8/s0: epoch 1/2", "| a table |"]}  # fmt: skip
    text = page.page([results(4.0, cells={"rows": [job]}), results(3.0, cells={"rows": [job]})])
    assert text.count("`cifar-lab run-ablation precision`: cells trained: 12, in") == 2
    assert "| a table |" in text
    assert "epoch 1/2" not in text
    assert "42,667" in text
    assert "32,000 images/s" not in text


def test_a_failed_check_and_a_failed_stage_are_on_the_page() -> None:
    check = {"check": "twice: adam, bf16", "passed": False, "detail": "NOT bit-equal"}
    text = page.page([results(3.0, correctness={"rows": [check]}, failed={"speed": "its process ended with SIGSEGV"})])
    assert "| twice | adam, bf16 | **failed** | NOT bit-equal |" in text
    assert "- speed: its process ended with SIGSEGV" in text


def test_checks_that_passed_alike_share_a_row_and_a_later_file_replaces_a_check() -> None:
    def checks(*rows: tuple[str, bool]) -> dict[str, Any]:
        return {"rows": [{"check": name, "passed": passed, "detail": "2 steps"} for name, passed in rows]}

    first = results(3.0, correctness=checks(("twice: adam", True), ("twice: fast", False), ("resumed: fast", True)))
    text = page.page([first, results(3.0, correctness=checks(("twice: fast", True)))])
    assert "3 of 3 checks passed" in text
    assert "| twice | adam; fast | passed | 2 steps |" in text
    assert "| resumed | fast | passed | 2 steps |" in text


def test_the_page_in_docs_is_made_from_the_files_beside_it() -> None:
    docs = Path(__file__).parents[3] / "docs"
    names = ("machine", "speed", "profile", "beside", "processes", "correctness", "cells-stage8", "cells-precision")
    assert page.page([page.read(docs / "gpu" / f"{name}.json") for name in names]) == (docs / "gpu.md").read_text()


def test_an_archive_in_xz_is_unpacked_beside_it_once(tmp_path: Path) -> None:
    packed = tmp_path / "images.zip.xz"
    packed.write_bytes(lzma.compress(b"images"))
    assert gpu.unpacked(str(packed)) == str(tmp_path / "images.zip")
    assert (tmp_path / "images.zip").read_bytes() == b"images"
    packed.unlink()
    assert gpu.unpacked(str(packed)) == str(tmp_path / "images.zip")
