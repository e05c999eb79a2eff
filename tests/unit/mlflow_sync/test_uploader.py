"""Equality of MLflow with the journals: each cell once, each point once, whenever it is shipped."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from made import records

from cifar_lab.errors import DamageError
from cifar_lab.mlflow_sync import cell_sync, parent_run
from cifar_lab.mlflow_sync import uploader as module
from cifar_lab.mlflow_sync.cell_relations import InvocationHistory
from cifar_lab.mlflow_sync.client import MLflowStore
from cifar_lab.mlflow_sync.invocation_sync import cell_uploads, has_all, sync_invocations
from cifar_lab.mlflow_sync.parent_run import ComparisonFiles
from cifar_lab.mlflow_sync.upload_target import UploadTarget
from cifar_lab.mlflow_sync.uploader import Uploader
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.record_files import ResultFile

Runs = Callable[..., dict[str, Any]]


def draw(record: CellRecord) -> dict[str, bytes]:
    return {"figures/loss.png": b"png", "confusion.png": b"png"}


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def ship(study: Any, store: MLflowStore, said: list[str]) -> Iterator[Callable[..., Uploader]]:
    """`ship(invocation)`: a shipper that is at work, until the test ends; what it says is in pytest's output, too."""
    made: list[Uploader] = []

    def say(line: str) -> None:
        said.append(line)
        print(line)

    def ship(invocation: Any, **options: Any) -> Uploader:
        options = {"draw": draw, "say": say, "interval": 0.05, **options}
        made.append(Uploader(study.runs, invocation, lambda: store, **options))
        made[-1].start()
        return made[-1]

    yield ship
    for shipper in made:
        shipper.drain(0)


@pytest.fixture
def sync_all(study: Any, store: MLflowStore, said: list[str]) -> Callable[[], tuple[int, int]]:
    def sync_all() -> tuple[int, int]:
        notes = read_index(study.runs).invocations
        return sync_invocations(study.runs, notes, store, draw=draw, say=said.append)[:2]

    return sync_all


def result_of(study: Any, variant: str, seed: int) -> ResultFile:
    result = study.record(variant, seed).result()
    assert result is not None
    return result


def _artifacts(client: Any, run: Any, folder: str | None = None) -> set[str]:
    return {item.path for item in client.list_artifacts(run.info.run_id, folder)}


def _history(client: Any, run: Any, name: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_ablation_is_an_experiment_an_invocation_a_run_and_a_cell_a_run_below_it(
    study: Any, ship: Any, runs_of: Runs, client: Any, said: list[str]
) -> None:
    invocation = study.invocation()
    study.all()
    assert ship(invocation).drain(60) == 0
    (parent,) = runs_of("se_ratio", "invocation").values()
    cells = runs_of("se_ratio")
    assert sorted(cells) == ["r16/s0", "r16/s1", "r4/s0", "r4/s1"]
    assert (parent.info.run_name, parent.info.status) == ("smoke · synthetic · 2 variants × 2 seeds", "FINISHED")
    assert parent.data.tags["invocation"] == invocation.id
    assert parent.data.metrics["mean/test/acc/r4"] == 0.75
    assert parent.data.metrics["delta/test/acc/r4"] == 0.0
    assert {run.data.tags["mlflow.parentRunId"] for run in cells.values()} == {parent.info.run_id}
    assert "Which ratio?" in client.get_experiment_by_name("se_ratio").tags["mlflow.note.content"]
    assert parent.data.tags["command"] == "cifar-lab run-ablation se_ratio"
    assert said == []


def test_a_cell_tells_its_recipe_where_it_ran_and_how_it_ended(
    study: Any, ship: Any, runs_of: Runs, client: Any
) -> None:
    study.whole("r4", 1)
    ship(study.invocation()).drain(60)
    run = runs_of("se_ratio")["r4/s1"]
    assert run.info.status == "FINISHED"
    assert run.data.params["model.se.reduction"] == "4"
    assert run.data.params["model.blocks"] == "[4, 4, 3]"
    assert run.data.params["model.extra_fc"] == "none"
    assert (run.data.params["variant"], run.data.params["seed"]) == ("r4", "1")
    tags = {
        "ablation": "se_ratio",
        "variant": "r4",
        "seed": "1",
        "scale": "smoke",
        "control": "false",
        "role": "cell",
        "protocol": "holdout",
        "data": "synthetic",
        "fingerprint": study.asked("r4", 1).fingerprint,
        "git_commit": "c0ffee",
        "git_dirty": "false",
        "status": "finished",
        "cifar_lab.shipped_to": str(result_of(study, "r4", 1).time),
        "version.torch": "2.9",
        "hardware.cores": "2",
        "execution.device": "cpu",
    }
    assert {name: run.data.tags[name] for name in tags} == tags
    inputs = {each.dataset.name: each for each in run.inputs.dataset_inputs}
    contexts = {"synthetic train": "training", "synthetic val": "validation", "synthetic test": "test"}
    assert {name: each.tags[0].value for name, each in inputs.items()} == contexts
    assert len({each.dataset.digest for each in inputs.values()}) == 3
    assert all("d" * 64 in each.dataset.source for each in inputs.values())
    assert _artifacts(client, run) == {
        "cell.json",
        "confusion.csv",
        "confusion.png",
        "figures",
        "journal.jsonl",
        "predictions.npz",
        "recipe.json",
        "result.json",
        "weights.safetensors",
    }
    assert _artifacts(client, run, "figures") == {"figures/loss.png"}


def test_nothing_of_a_search_shows_a_result_on_test(study: Any, sync_all: Any, runs_of: Runs, client: Any) -> None:
    study.whole()
    study.invocation(metric="val/acc")
    sync_all()
    run = runs_of("se_ratio")["r4/s0"]
    assert not [name for name in run.data.metrics if "test/" in name]
    files = {"cell.json", "figures", "journal.jsonl", "recipe.json", "result.json", "weights.safetensors"}
    assert _artifacts(client, run) == files
    result = Path(client.download_artifacts(run.info.run_id, "result.json")).read_text()
    assert "test/" not in result


def test_curves_keep_their_epochs_and_results_their_names(study: Any, ship: Any, runs_of: Runs, client: Any) -> None:
    study.whole()
    ship(study.invocation()).drain(60)
    run = runs_of("se_ratio")["r4/s0"]
    assert _history(client, run, "val/acc") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert run.data.metrics["test/acc"] == 0.25
    assert run.data.metrics["final/val/acc"] == 0.3
    assert run.data.metrics["val/best_acc"] == 0.3


def test_a_journal_is_shipped_as_it_grows(study: Any, ship: Any, runs_of: Runs, client: Any) -> None:
    invocation = study.invocation()
    shipper = ship(invocation)
    journal = study.begin()
    study.train(journal, range(1, 2))
    _until(lambda: client.get_experiment_by_name("se_ratio") is not None and "r4/s0" in runs_of("se_ratio"))
    _until(lambda: "cifar_lab.shipped_to" in runs_of("se_ratio")["r4/s0"].data.tags)
    run = runs_of("se_ratio")["r4/s0"]
    assert run.info.status == "RUNNING"
    study.train(journal, range(2, 4))
    study.finish()
    assert shipper.drain(60) == 0
    run = runs_of("se_ratio")["r4/s0"]
    assert [epoch for epoch, _ in _history(client, run, "val/acc")] == [1, 2, 3]
    assert run.info.status == "FINISHED"
    assert run.data.tags["cifar_lab.shipped_to"] == str(result_of(study, "r4", 0).time)


def test_what_was_shipped_is_not_shipped_again(
    study: Any, ship: Any, sync_all: Any, runs_of: Runs, client: Any
) -> None:
    study.all()
    ship(study.invocation()).drain(60)
    ship(study.invocation(time="20260102T000000.000")).drain(60)
    assert sync_all() == (0, 0)
    assert len(runs_of("se_ratio")) == 4
    assert len(runs_of("se_ratio", "invocation")) == 2
    assert len(_history(client, runs_of("se_ratio")["r4/s0"], "val/acc")) == 3


def test_a_shipment_that_broke_off_is_sent_again_and_stored_once(
    study: Any, sync_all: Any, runs_of: Runs, client: Any
) -> None:
    study.invocation()
    study.whole()
    assert sync_all() == (1, 0)
    run = runs_of("se_ratio")["r4/s0"]
    client.set_tag(run.info.run_id, "cifar_lab.shipped_to", "1")
    assert sync_all() == (1, 0)
    assert len(_history(client, runs_of("se_ratio")["r4/s0"], "val/acc")) == 3
    assert len(_history(client, run, "test/acc")) == 1
    assert sync_all() == (0, 0)


def test_a_cell_that_another_ablation_reuses_has_a_run_of_its_own_there(
    study: Any, sync_all: Any, runs_of: Runs
) -> None:
    study.invocation()
    study.all()
    study.invocation("blocks", time="20990101T000000.000")
    assert sync_all() == (8, 0)
    first, second = runs_of("se_ratio")["r4/s0"], runs_of("blocks")["r4/s0"]
    assert second.data.tags["reused_from"] == first.info.run_id
    assert "reused_from" not in first.data.tags
    assert second.data.metrics == first.data.metrics


def test_a_failure_is_shipped_with_its_trace_and_a_retry_goes_on_in_the_same_run(
    study: Any, ship: Any, runs_of: Runs, client: Any
) -> None:
    invocation = study.invocation()
    journal = study.begin()
    study.train(journal, range(1, 3))
    failed_at = time.time_ns() // 1_000_000
    records.fail(study.record("r4", 0), "OSError: no", "Traceback…", time=failed_at)
    ship(invocation).drain(60)
    run = runs_of("se_ratio")["r4/s0"]
    assert (run.info.status, run.data.tags["status"], run.info.end_time) == ("FAILED", "failed", failed_at)
    assert "failure.txt" in _artifacts(client, run)
    assert runs_of("se_ratio", "invocation")[invocation.id].info.status == "FAILED"

    time.sleep(0.002)
    journal.write("resume", epoch=2, step=0)
    study.train(journal, range(3, 4))
    study.finish()
    ship(study.invocation(time="20260102T000000.000")).drain(60)
    again = runs_of("se_ratio")["r4/s0"]
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "FINISHED")
    assert [epoch for epoch, _ in _history(client, again, "val/acc")] == [1, 2, 3]


def test_a_cell_that_failed_before_it_began_is_shown_too(study: Any, sync_all: Any, runs_of: Runs) -> None:
    study.invocation()
    study.record("r4", 0).folder.mkdir()
    records.fail(study.record("r4", 0), "DataError: no", "Traceback…", time=5)
    assert sync_all() == (1, 0)
    assert runs_of("se_ratio")["r4/s0"].info.status == "FAILED"
    study.whole()
    assert sync_all() == (1, 0)
    run = runs_of("se_ratio")["r4/s0"]
    assert (run.info.status, run.data.params["model.se.reduction"]) == ("FINISHED", "4")


def test_a_diverged_cell_is_a_result(study: Any, sync_all: Any, runs_of: Runs) -> None:
    study.invocation()
    study.whole(status="diverged")
    sync_all()
    run = runs_of("se_ratio")["r4/s0"]
    assert (run.info.status, run.data.tags["status"]) == ("FINISHED", "diverged")


def test_a_cell_that_was_stopped_is_killed_and_complete_as_far_as_it_goes(
    study: Any, ship: Any, sync_all: Any, runs_of: Runs
) -> None:
    invocation = study.invocation()
    study.train(study.begin(), range(1, 3))
    assert ship(invocation).drain(60) == 0
    assert runs_of("se_ratio")["r4/s0"].info.status == "KILLED"
    assert runs_of("se_ratio", "invocation")[invocation.id].info.status == "KILLED"
    assert sync_all() == (0, 0)


def test_a_cell_that_is_redone_has_a_new_run(study: Any, sync_all: Any, runs_of: Runs, client: Any) -> None:
    import shutil

    study.invocation()
    study.whole()
    sync_all()
    old = runs_of("se_ratio")["r4/s0"]
    shutil.rmtree(study.record("r4", 0).folder)
    time.sleep(0.002)
    study.whole()
    assert sync_all() == (1, 0)
    assert runs_of("se_ratio")["r4/s0"].info.run_id != old.info.run_id
    assert client.get_run(old.info.run_id).data.tags["role"] == "superseded"


def test_a_figure_that_cannot_be_drawn_is_said_and_stops_nothing(
    study: Any, ship: Any, runs_of: Runs, said: list[str]
) -> None:
    def fail(record: CellRecord) -> dict[str, bytes]:
        raise ValueError("no points")

    study.whole()
    assert ship(study.invocation(), draw=fail).drain(60) == 0
    assert said == ["r4/s0: no figures: ValueError: no points"]
    assert runs_of("se_ratio")["r4/s0"].data.tags["cifar_lab.shipped_to"] == str(result_of(study, "r4", 0).time)


def test_one_cell_that_cannot_be_shipped_is_said_once_and_stops_no_other(
    study: Any, ship: Any, runs_of: Runs, said: list[str]
) -> None:
    study.all()
    (study.record("r4", 0).folder / "cell.json").write_text("{}")
    assert ship(study.invocation()).drain(60) == 1
    assert len(said) == 1
    assert said[0].startswith("MLflow does not get r4/s0: ")
    assert sorted(runs_of("se_ratio")) == ["r16/s0", "r16/s1", "r4/s1"]


def test_a_store_that_comes_back_gets_everything(
    study: Any, store: MLflowStore, runs_of: Runs, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", (0.01, 0.1))
    answers = iter([module.StoreUnavailable("away"), module.StoreUnavailable("away"), store])

    def open_store() -> MLflowStore:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    study.all()
    shipper = Uploader(study.runs, study.invocation(), open_store, draw=draw, say=said.append, interval=0.05)
    shipper.start()
    assert shipper.drain(60) == 0
    assert said[1:] == ["MLflow is back, and gets what it lacks"]
    assert said[0].startswith("away; going on without it")
    assert len(runs_of("se_ratio")) == 4


def test_what_was_trained_while_the_store_was_away_is_left(
    study: Any, ship: Any, store: MLflowStore, runs_of: Runs, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", (0.01, 0.1))
    shipper = ship(study.invocation(seeds=1))
    journal = study.begin()
    study.train(journal, range(1, 2))
    _until(lambda: shipper._shipments[0].run is not None and shipper._shipments[0].is_settled)

    def refuse(*_: Any, **__: Any) -> None:
        raise module.StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_call", refuse)
        study.train(journal, range(2, 4))
        study.finish()
        study.whole("r16")
        _until(lambda: len(said) == 1)
        shipper._closing.set()
        assert sum(each.is_behind() for each in shipper._shipments) == 2
        assert shipper.drain(0.5) == 2


def test_a_cell_that_could_not_be_read_for_a_moment_is_shipped_while_others_are_trained(
    study: Any, ship: Any, runs_of: Runs, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.1)
    errors = [DamageError("cell.json: damaged")]
    really = CellRecord.cell
    monkeypatch.setattr(CellRecord, "cell", lambda record: _raise(errors.pop()) if errors else really(record))
    ship(study.invocation())
    study.whole()
    _until(lambda: client.get_experiment_by_name("se_ratio") is not None and "r4/s0" in runs_of("se_ratio"))
    _until(lambda: runs_of("se_ratio")["r4/s0"].info.status == "FINISHED")


def test_a_record_that_could_not_be_read_at_the_first_look_is_shipped_later(
    study: Any, ship: Any, runs_of: Runs, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [DamageError("result.json: damaged")]
    really = CellRecord.failure
    monkeypatch.setattr(CellRecord, "failure", lambda record: _raise(errors.pop()) if errors else really(record))
    study.whole()
    shipper = ship(study.invocation())
    _until(lambda: client.get_experiment_by_name("se_ratio") is not None and "r4/s0" in runs_of("se_ratio"))
    assert shipper.drain(60) == 0


def _raise(error: Exception) -> NoReturn:
    raise error


def test_a_run_begins_when_its_training_begins(study: Any, ship: Any, runs_of: Runs, client: Any) -> None:
    """Before the journal says so there is `cell.json` only, and the run would seem to have lasted since the asking."""
    shipper = ship(study.invocation())
    (journal := study.begin())._path.unlink()
    _until(lambda: client.get_experiment_by_name("se_ratio") is not None)
    time.sleep(0.3)
    assert runs_of("se_ratio") == {}
    journal.write("start")
    study.train(journal, range(1, 4))
    study.finish()
    assert shipper.drain(60) == 0
    info = runs_of("se_ratio")["r4/s0"].info
    assert 0 < info.end_time - info.start_time < 60_000


def test_what_never_began_is_not_waited_for(study: Any, ship: Any, sync_all: Any, runs_of: Runs) -> None:
    study.begin()._path.unlink()
    assert ship(study.invocation()).drain(60) == 0
    assert sync_all() == (0, 0)
    assert runs_of("se_ratio") == {}


def test_a_cell_that_failed_before_it_began_lasted_no_time(study: Any, sync_all: Any, runs_of: Runs) -> None:
    study.invocation()
    study.record("r4", 0).folder.mkdir()
    failed_at = time.time_ns() // 1_000_000
    records.fail(study.record("r4", 0), "DataError: no", "Traceback…", time=failed_at)
    sync_all()
    info = runs_of("se_ratio")["r4/s0"].info
    assert info.start_time == info.end_time == failed_at


def test_a_cell_tells_how_it_differs_from_the_control_whichever_ends_last(
    study: Any, ship: Any, runs_of: Runs, client: Any
) -> None:
    shipper = ship(study.invocation())
    study.whole("r4", 0, accuracy=0.75)
    study.whole("r16", 1, accuracy=0.5)
    _until(lambda: client.get_experiment_by_name("se_ratio") is not None and len(runs_of("se_ratio")) == 2)
    _until(lambda: runs_of("se_ratio")["r4/s0"].info.status == "FINISHED")
    assert not _deltas(runs_of("se_ratio")["r4/s0"])
    study.whole("r16", 0, accuracy=0.5)
    study.whole("r4", 1, accuracy=0.25)
    assert shipper.drain(60) == 0
    cells = runs_of("se_ratio")
    assert {name: run.data.metrics["delta/test/acc"] for name, run in cells.items()} == {
        "r4/s0": 0.25,
        "r4/s1": -0.25,
        "r16/s0": 0.0,
        "r16/s1": 0.0,
    }
    assert cells["r4/s1"].data.tags["compared_with"] == "r16/s1"
    assert cells["r4/s1"].data.metrics["delta/val/acc"] == 0.0


def test_a_difference_is_sent_once(study: Any, ship: Any, sync_all: Any, runs_of: Runs, client: Any) -> None:
    study.all()
    ship(study.invocation()).drain(60)
    run = runs_of("se_ratio")["r4/s0"]
    assert sync_all() == (0, 0)
    client.set_tag(run.info.run_id, "cifar_lab.delta_to", "lost")
    assert sync_all() == (1, 0)
    assert sync_all() == (0, 0)
    assert len(_history(client, run, "delta/test/acc")) == 1


def test_a_control_that_is_asked_for_later_completes_what_was_there(study: Any, ship: Any, runs_of: Runs) -> None:
    study.whole("r4", 0, accuracy=0.75)
    ship(study.invocation(variants=("r4",), seeds=1)).drain(60)
    assert not _deltas(runs_of("se_ratio")["r4/s0"])
    study.whole("r16", 0, accuracy=0.5)
    ship(study.invocation(variants=("r16",), seeds=1, time="20260102T000000.000")).drain(60)
    assert runs_of("se_ratio")["r4/s0"].data.metrics["delta/test/acc"] == 0.25


def test_a_stage_of_a_chain_is_compared_with_the_stage_before(study: Any, sync_all: Any, runs_of: Runs) -> None:
    study.recipes["r2"] = study.recipes["r4"].override({"model.se.reduction": 2})
    study.invocation(seeds=1, against={"r4": "r16", "r2": "r4"})
    for variant, accuracy in {"r16": 0.25, "r4": 0.75, "r2": 0.5}.items():
        study.whole(variant, 0, accuracy=accuracy)
    assert sync_all() == (3, 0)
    cells = runs_of("se_ratio")
    assert cells["r4/s0"].data.metrics["delta/test/acc"] == 0.5
    assert cells["r2/s0"].data.metrics["delta/test/acc"] == -0.25


def test_another_control_replaces_the_differences(study: Any, sync_all: Any, runs_of: Runs) -> None:
    study.whole("r4", 0, accuracy=0.75)
    study.whole("r16", 0, accuracy=0.5)
    study.invocation(seeds=1)
    sync_all()
    study.invocation(seeds=1, control="r4", time="20990101T000000.000")
    assert sync_all() == (2, 0)
    deltas = {name: run.data.metrics["delta/test/acc"] for name, run in runs_of("se_ratio").items()}
    assert deltas == {"r4/s0": 0.0, "r16/s0": -0.25}
    assert sync_all() == (0, 0)


def test_a_diverged_cell_and_a_lone_variant_have_no_difference(study: Any, sync_all: Any, runs_of: Runs) -> None:
    study.whole("r16", 0)
    study.whole("r4", 0, status="diverged")
    study.invocation(seeds=1)
    study.invocation("alone", seeds=1, variants=("r16",), time="20990101T000000.000")
    sync_all()
    assert not _deltas(runs_of("se_ratio")["r4/s0"])
    assert not _deltas(runs_of("alone")["r16/s0"])


def test_a_cell_that_two_settings_share_is_in_the_view_of_both(study: Any, sync_all: Any, runs_of: Runs) -> None:
    study.all()
    study.invocation()
    study.invocation(overrides={"optim.lr": 0.1}, time="20260102T000000.000")
    assert sync_all() == (4, 0)
    tags = runs_of("se_ratio")["r4/s0"].data.tags
    assert [value for tag, value in tags.items() if tag.startswith("cifar_lab.setting.")] == ["current", "current"]
    assert sync_all() == (0, 0)


def _deltas(run: Any) -> set[str]:
    return {name for name in run.data.metrics if name.startswith("delta/")}


def _note(runs_of: Runs, invocation: Any) -> str:
    return str(runs_of("se_ratio", "invocation")[invocation.id].data.tags["mlflow.note.content"])


def test_the_run_of_an_invocation_has_the_table_and_a_link_to_each_cell(
    study: Any, ship: Any, runs_of: Runs, client: Any
) -> None:
    study.all()
    invocation = study.invocation()
    table = ComparisonFiles("- header\n\n| variant | n |\n|---|---|\n| r4 | 2 |\n\n| more |\n", "variant,n\nr4,2\n")
    ship(invocation, tabulate=lambda _: table).drain(60)
    note, parent = _note(runs_of, invocation), runs_of("se_ratio", "invocation")[invocation.id]
    assert note.startswith("| variant | n |\n|---|---|\n| r4 | 2 |\n\n`cifar-lab run-ablation se_ratio`")
    assert "\n\n- header\n\n| more |\n\nCells:\n" in note
    for run in runs_of("se_ratio").values():
        seed = run.data.tags["seed"]
        assert f"[s{seed}](#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}?" in note
    assert _artifacts(client, parent) == {"comparison.md", "comparison.csv"}


def test_sync_brings_a_note_up_to_date_and_leaves_one_that_is(study: Any, store: MLflowStore, runs_of: Runs) -> None:
    study.all()
    invocation = study.invocation()
    record = study.record("r4", 0)
    for name in ("one", "two", "two"):
        record.write_result(record.result().model_copy(update={"metrics": {"test/acc": len(name) / 10}}))
        sync_invocations(
            study.runs,
            [invocation],
            store,
            draw=draw,
            say=print,
            tabulate=lambda _, name=name: ComparisonFiles(name, name),
        )
        assert name in _note(runs_of, invocation)


def test_a_table_that_cannot_be_made_is_said_and_stops_nothing(
    study: Any, ship: Any, runs_of: Runs, said: list[str]
) -> None:
    def fail(invocation: Any) -> None:
        raise ValueError("no numbers")

    study.all()
    invocation = study.invocation()
    assert ship(invocation, tabulate=fail).drain(60) == 0
    assert said == [f"{invocation.id}: no table: ValueError: no numbers"]
    assert "[s1](" in _note(runs_of, invocation)


def test_a_report_that_cannot_be_made_is_said_and_the_table_stays(
    study: Any, ship: Any, runs_of: Runs, client: Any, said: list[str]
) -> None:
    def fail() -> dict[str, str]:
        raise ValueError("no numbers")

    study.all()
    invocation = study.invocation()
    assert ship(invocation, tabulate=lambda _: ComparisonFiles("| table |", "", fail)).drain(60) == 0
    assert said == [f"{invocation.id}: no report: ValueError: no numbers"]
    parent = runs_of("se_ratio", "invocation")[invocation.id]
    assert _artifacts(client, parent) == {"comparison.md", "comparison.csv"}


def test_a_note_keeps_within_the_limit_and_says_what_it_leaves_out(
    study: Any, store: MLflowStore, runs_of: Runs
) -> None:
    study.recipes = {f"r{n}": study.recipes["r4"].override({"model.se.reduction": n}) for n in range(1, 41)}
    invocation = study.invocation(seeds=3)
    shipments = cell_uploads(study.runs, invocation, module.InvocationHistory(read_index(study.runs)), draw, print)
    for shipment in shipments:
        shipment.run = "f" * 32
    note = parent_run.parent_note(invocation, ComparisonFiles("| table |", ""), "1", shipments)
    assert len(note) < 8000
    assert note.startswith("| table |")
    links, left = note.count("- r"), int(re.findall(r"- (\d+) more variants have no room", note)[0])
    assert links + left == 40
    longer = parent_run.parent_note(invocation, ComparisonFiles("| table |" * 1000, ""), "1", shipments)
    assert len(longer) < 8000
    assert "comparison.md" in longer


def test_sync_names_a_record_that_is_damaged_and_ships_the_others(
    study: Any, sync_all: Any, said: list[str], runs_of: Runs
) -> None:
    study.all()
    invocation = study.invocation()
    whole = (path := study.record("r4", 0).folder / "result.json").read_text()
    path.write_text("[]")
    assert sync_all() == (3, 1)
    assert said == [f"MLflow does not get r4/s0: {path}: damaged: [] is not an object"]
    assert sorted(runs_of("se_ratio")) == ["r16/s0", "r16/s1", "r4/s1"]
    assert runs_of("se_ratio", "invocation")[invocation.id].info.status == "RUNNING", "it is not known how it ended"
    path.write_text(whole)
    assert sync_all() == (1, 0)
    assert len(runs_of("se_ratio")) == 4
    assert runs_of("se_ratio", "invocation")[invocation.id].info.status == "FINISHED"


def test_a_file_that_is_not_as_the_cell_left_it_is_not_uploaded(
    study: Any, sync_all: Any, said: list[str], runs_of: Runs, client: Any
) -> None:
    study.whole()
    record = study.record("r4", 0)
    record.write_result(record.result().model_copy(update={"files": record.digests()}))
    study.invocation(seeds=1, variants=("r4",))
    whole = record.weights.read_bytes()
    record.weights.write_bytes(b"weighty")
    assert sync_all() == (0, 1)
    (line,) = said
    assert f"{record.weights}: damaged" in line
    run = runs_of("se_ratio")["r4/s0"]
    assert (_artifacts(client, run), run.info.status) == (set(), "RUNNING")
    record.weights.write_bytes(whole)
    assert sync_all() == (1, 0)
    assert "weights.safetensors" in _artifacts(client, runs_of("se_ratio")["r4/s0"])


def test_a_cell_whose_control_is_damaged_is_left_too(study: Any, sync_all: Any, said: list[str]) -> None:
    study.all()
    study.invocation()
    (study.record("r16", 1).folder / "result.json").write_text("{")
    assert sync_all() == (2, 2)
    assert {line.partition(": ")[0].split()[-1] for line in said} == {"r16/s1", "r4/s1"}


def test_who_asks_for_the_same_again_is_known_to_have_it_all(study: Any, ship: Any, store: MLflowStore) -> None:
    study.all()
    first = study.invocation()
    assert not has_all(study.runs, first, store), "nobody asked before it"
    assert ship(first).drain(60) == 0
    again = study.invocation(time="20260101T000001.000")
    assert has_all(study.runs, again, store)
    other = study.invocation(time="20260101T000002.000", variants=("r16",))
    assert not has_all(study.runs, other, store), "it asks for less"
    assert not has_all(study.runs, study.invocation(time="20260101T000003.000"), store), "the one before asked for less"


def test_what_was_trained_anew_or_not_shipped_is_not_known(study: Any, ship: Any, store: MLflowStore) -> None:
    study.all()
    first = study.invocation()
    again = study.invocation(time="20260101T000001.000")
    assert not has_all(study.runs, again, store), "nothing was shipped"
    assert ship(first).drain(60) == 0
    assert has_all(study.runs, again, store)
    record = study.record("r4", 0)
    result = record.result()
    record.write_result(result.model_copy(update={"time": result.time + 1}))
    assert not has_all(study.runs, again, store)


def test_cells_that_the_store_has_are_not_looked_up_one_by_one(
    study: Any, ship: Any, store: MLflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.all()
    assert ship(study.invocation()).drain(60) == 0
    asked = []
    monkeypatch.setattr(store, "find", lambda experiment, **tags: asked.append(tags))
    monkeypatch.setattr(store, "find_each", lambda *given, **tags: asked.append(tags))
    again = study.invocation(time="20260101T000001.000")
    assert ship(again).drain(60) == 0
    assert {tags["role"] for tags in asked} == {"invocation"}, "no cell"


def _many(study: Any, seeds: int) -> Any:
    """An invocation of two variants whose cells have all ended."""
    for seed in range(seeds):
        for variant in study.recipes:
            study.whole(variant, seed)
    return study.invocation(seeds=seeds)


def test_a_cell_takes_a_fixed_number_of_calls(
    study: Any, sync_all: Any, store: MLflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    really = store._call
    monkeypatch.setattr(store, "_call", lambda *given, **named: calls.append(1) or really(*given, **named))
    counts = []
    for seeds in (1, 2, 4):
        _many(study, seeds)
        calls.clear()
        assert sync_all()[1] == 0
        counts.append(len(calls))
    first, second, third = counts
    assert third - second <= 4 * 11 + 8, "two more variants of two seeds: 11 calls each, and those of an invocation"
    assert second - first <= 2 * 11 + 8


def test_the_runs_of_an_experiment_are_read_once_for_all_invocations(
    study: Any, store: MLflowStore, sync_all: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.all()
    for second in range(4):
        study.invocation(time=f"20260101T00000{second}.000")
    assert sync_all() == (4, 0)
    lists, tables = [], []
    really = store.list_runs
    monkeypatch.setattr(store, "list_runs", lambda *given: lists.append(given) or really(*given))
    os.utime(study.record("r4", 0).folder / "cell.json")
    notes = read_index(study.runs).invocations
    sync_invocations(study.runs, notes, store, draw=draw, say=print, tabulate=lambda note: tables.append(note.id))
    assert lists == [("se_ratio",), ("se_ratio", None)], "at the beginning, and its last page at the end"
    assert tables == [notes[0].id], "one table for one setting"


def test_a_shipped_cell_is_read_no_more_and_its_lock_file_is_closed(
    study: Any, ship: Any, runs_of: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    invocation = _many(study, 3)
    shipper = ship(invocation, is_shared=True)
    for cell in invocation.cells:
        shipper.train(cell.fingerprint)
    _until(lambda: all(shipment.is_final for shipment in shipper._shipments))
    _until(lambda: not shipper._claims._held)
    reads: list[str] = []
    really = CellRecord.result
    monkeypatch.setattr(CellRecord, "result", lambda record: reads.append(record.fingerprint) or really(record))
    time.sleep(0.3)  # several looks at the journals
    assert reads == []
    monkeypatch.setattr(CellRecord, "result", really)
    assert shipper.drain(60) == 0
    assert len(runs_of("se_ratio")) == 6


def test_a_cell_whose_reference_has_not_ended_is_looked_at_again(study: Any, ship: Any, runs_of: Runs) -> None:
    study.whole("r4", 0)
    invocation = study.invocation(seeds=1)
    shipper = ship(invocation, is_shared=True)
    for cell in invocation.cells:
        shipper.train(cell.fingerprint)
    own = next(each for each in shipper._shipments if each.asked.variant == "r4")
    _until(lambda: own.is_settled and own.run is not None)
    assert not own.is_final
    study.whole("r16", 0)
    _until(lambda: own.is_final)
    assert _deltas(runs_of("se_ratio")["r4/s0"]), "while the shipper is at work"
    assert shipper.drain(60) == 0


def test_cells_of_many_get_no_figures_and_that_is_said_once(
    study: Any, sync_all: Any, runs_of: Runs, client: Any, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_sync, "MOST_DRAWN", 3)
    _many(study, 2)
    assert sync_all() == (4, 0)
    assert [line for line in said if "figures" in line] == [cell_sync.UNDRAWN.format(ablation="se_ratio", cells=4)]
    names = _artifacts(client, runs_of("se_ratio")["r4/s0"])
    assert "confusion.csv" in names
    assert not {"figures", "confusion.png"} & names


def test_the_run_of_a_new_cell_is_searched_by_its_time_and_that_of_another_runner_is_found(
    study: Any, sync_all: Any, store: MLflowStore, runs_of: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    invocation = _many(study, 2)
    history = InvocationHistory(read_index(study.runs))
    late = cell_uploads(study.runs, invocation, history, draw, print)
    for upload in late:
        upload.look([])  # before the other runner has begun
    assert sync_all() == (4, 0)
    place = UploadTarget.of(invocation, store, study.runs, history, print)
    times, really = list[int](), store.find_each
    monkeypatch.setattr(store, "find_each", lambda *given, **tags: times.append(given[1]) or really(*given, **tags))
    for upload in late:
        upload.ship(store, place, closing=True)
    assert len(runs_of("se_ratio")) == 4, "each cell has one run"
    assert sorted(times) == sorted(run.info.start_time for run in runs_of("se_ratio").values())
