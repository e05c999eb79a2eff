"""Two runs folders with one experiment: each training has a run, which the other folder leaves alone."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from made.mlflow_study import Study

from cifar_lab.mlflow_sync.cell_runs import surplus_of
from cifar_lab.mlflow_sync.client import ExistingRun, MLflowStore
from cifar_lab.mlflow_sync.invocation_sync import sync_invocations
from cifar_lab.mlflow_sync.parent_run import ComparisonFiles
from cifar_lab.mlflow_sync.uploader import Uploader
from cifar_lab.store.invocation_index import read_index

LATER = "20260102T000000.000"
BESIDE = "experiment se_ratio: another training of {} is there, from another runs folder; both stay"


class Person(NamedTuple):
    """Somebody with a runs folder, and what the program has said to them."""

    study: Study
    store: MLflowStore
    said: list[str]

    def sync(self) -> tuple[int, int]:
        notes = read_index(self.study.runs).invocations
        table = ComparisonFiles("| table |", "")
        return sync_invocations(
            self.study.runs, notes, self.store, draw=lambda _: {}, say=self.said.append, tabulate=lambda _: table
        )[:2]

    def ship(self) -> Uploader:
        invocation = read_index(self.study.runs).invocations[-1]
        return Uploader(
            self.study.runs, invocation, lambda: MLflowStore.open(self.store.uri), draw=lambda _: {},
            say=self.said.append, interval=0.05,
        )  # fmt: skip


@pytest.fixture
def people(tmp_path: Path, store: MLflowStore) -> tuple[Person, Person]:
    """Two people, each of whom has asked for the same two cells."""
    made = []
    for name in ("one", "two"):
        (tmp_path / name / "runs").mkdir(parents=True)
        made.append(Person(Study(tmp_path / name / "runs"), store, []))
    one, two = made
    one.study.invocation(seeds=1)
    two.study.invocation(seeds=1, time=LATER)
    return one, two


def train(person: Person, accuracy: float) -> None:
    time.sleep(0.002)  # begun at another time
    for variant in person.study.recipes:
        person.study.whole(variant, accuracy=accuracy)


def cells(client: Any) -> list[Any]:
    experiment = client.get_experiment_by_name("se_ratio").experiment_id
    return [run for run in client.search_runs([experiment]) if run.data.tags["role"] != "invocation"]


def state(client: Any) -> set[tuple[str, ...]]:
    """Return of each run of a cell: role, variant, invocation, status, accuracy and difference."""
    tags = ("role", "variant", "cifar_lab.below", "status")
    numbers = ("test/acc", "delta/test/acc")
    return {
        (*(run.data.tags[tag] for tag in tags), *(str(run.data.metrics[name]) for name in numbers))
        for run in cells(client)
    }


EXPECTED = {
    ("cell", variant, f"{time}-se_ratio", "finished", accuracy, "0.0")
    for variant in ("r4", "r16")
    for time, accuracy in (("20260101T000000.000", "0.25"), (LATER, "0.75"))
}


def test_both_trainings_stand_and_nobody_uploads_them_again(people: tuple[Person, Person], client: Any) -> None:
    one, two = people
    train(one, 0.25)
    train(two, 0.75)
    assert (one.sync(), two.sync()) == ((2, 0), (2, 0))
    assert (one.said, two.said) == ([], [BESIDE.format("2 cells")])
    for _ in range(2):
        assert (one.sync(), two.sync()) == ((0, 0), (0, 0))
    assert state(client) == EXPECTED
    assert (one.said, two.said) == ([], [BESIDE.format("2 cells")]), "it is said once"


def test_nothing_is_read_once_both_have_everything(
    people: tuple[Person, Person], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = people
    train(one, 0.25)
    train(two, 0.75)
    for person in (one, two, one, two):
        person.sync()
    tags = dict(client.get_experiment_by_name("se_ratio").tags)
    monkeypatch.setattr("cifar_lab.mlflow_sync.invocation_sync.sync_invocation", pytest.fail)
    assert (one.sync(), two.sync(), one.sync()) == ((0, 0),) * 3
    assert client.get_experiment_by_name("se_ratio").tags == tags


def test_uploads_during_training_end_in_the_same_state(people: tuple[Person, Person], client: Any) -> None:
    shippers = [person.ship() for person in people]
    for shipper in shippers:
        shipper.start()
    train(people[0], 0.25)
    train(people[1], 0.75)
    assert [shipper.drain(60) for shipper in shippers] == [0, 0]
    assert state(client) == EXPECTED
    assert [person.sync() for person in people] == [(0, 0), (0, 0)]
    assert state(client) == EXPECTED


def test_who_trains_anew_supersedes_the_own_run_alone(people: tuple[Person, Person], client: Any) -> None:
    one, two = people
    train(one, 0.25)
    train(two, 0.75)
    one.sync()
    two.sync()
    shutil.rmtree(two.study.record("r4", 0).folder)
    time.sleep(0.002)
    two.study.whole("r4", accuracy=0.5)
    assert (two.sync(), one.sync(), two.sync()) == ((1, 0), (0, 0), (0, 0))
    runs = [(run.data.tags["role"], run.data.metrics["test/acc"]) for run in cells(client)]
    assert sorted(runs) == [("cell", 0.25), ("cell", 0.25), ("cell", 0.5), ("cell", 0.75), ("superseded", 0.75)]


def test_a_cell_that_failed_before_it_began_is_taken_over_by_its_own_folder(
    people: tuple[Person, Person], client: Any
) -> None:
    from made import records

    one, two = people
    records.fail(one.study.record("r4", 0), "DataError: no", "Traceback…", time=5)
    train(two, 0.75)
    one.sync()
    two.sync()
    assert Counter(run.info.status for run in cells(client)) == {"FAILED": 1, "FINISHED": 2}
    train(one, 0.25)
    assert (one.sync(), two.sync(), one.sync()) == ((2, 0), (0, 0), (0, 0))
    assert state(client) == EXPECTED


def test_the_table_of_an_invocation_links_its_own_runs(people: tuple[Person, Person], client: Any) -> None:
    one, two = people
    train(one, 0.25)
    train(two, 0.75)
    for person in (one, two, one):
        person.sync()
    experiment = client.get_experiment_by_name("se_ratio").experiment_id
    for parent in client.search_runs([experiment], "tags.role = 'invocation'"):
        own = [run for run in cells(client) if run.data.tags["mlflow.parentRunId"] == parent.info.run_id]
        assert len(own) == 2
        assert all(run.info.run_id in parent.data.tags["mlflow.note.content"] for run in own)
        assert parent.data.metrics["mean/test/acc/r4"] == own[0].data.metrics["test/acc"]


@pytest.fixture
def owner(people: tuple[Person, Person]) -> Person:
    """One person whose two cells are in the store."""
    train(people[0], 0.25)
    people[0].sync()
    return people[0]


@pytest.mark.parametrize("role", ["cell", "invocation"])
def test_a_run_that_was_deleted_uploaded_again_and_restored_is_surplus(role: str, owner: Person, client: Any) -> None:
    experiment = client.get_experiment_by_name("se_ratio").experiment_id
    (run, *_) = client.search_runs([experiment], f"tags.role = '{role}'")
    client.delete_run(run.info.run_id)
    owner.sync()
    client.restore_run(run.info.run_id)
    owner.said.clear()
    assert owner.sync() == (0, 0)
    (line,) = owner.said
    assert line.startswith("1 run in MLflow had a second run of the same")
    roles = Counter(each.data.tags["role"] for each in client.search_runs([experiment]))
    assert roles == {"cell": 2, "invocation": 1, "superseded": 1}
    assert owner.sync() == (0, 0)
    (parent,) = client.search_runs([experiment], "tags.role = 'invocation'")
    below = client.search_runs([experiment], "tags.role = 'cell'")
    assert {each.data.tags["mlflow.parentRunId"] for each in below} == {parent.info.run_id}
    assert all(each.info.run_id in parent.data.tags["mlflow.note.content"] for each in below)
    assert len(owner.said) == 1


def test_cells_are_below_the_new_run_of_an_invocation_whose_run_was_deleted(owner: Person, client: Any) -> None:
    experiment = client.get_experiment_by_name("se_ratio").experiment_id
    (old,) = client.search_runs([experiment], "tags.role = 'invocation'")
    client.delete_run(old.info.run_id)
    assert owner.sync() == (0, 0)
    (new,) = client.search_runs([experiment], "tags.role = 'invocation'")
    assert {each.data.tags["mlflow.parentRunId"] for each in cells(client)} == {new.info.run_id} != {old.info.run_id}


def test_an_experiment_that_was_deleted_is_restored_and_that_is_said(owner: Person, client: Any) -> None:
    """MLflow restores every run with it, also the run of an invocation that was deleted by hand before."""
    experiment = client.get_experiment_by_name("se_ratio").experiment_id
    (old,) = client.search_runs([experiment], "tags.role = 'invocation'")
    client.delete_run(old.info.run_id)
    owner.sync()
    client.delete_experiment(experiment)
    owner.said.clear()
    assert owner.sync() == (0, 0)
    assert owner.said[0] == "experiment se_ratio was deleted in MLflow; restored"
    owner.said.clear()
    assert (owner.sync(), owner.sync()) == ((0, 0), (0, 0))
    (parent,) = client.search_runs([experiment], "tags.role = 'invocation'")
    below = client.search_runs([experiment], "tags.role = 'cell'")
    assert {each.data.tags["mlflow.parentRunId"] for each in below} == {parent.info.run_id}
    roles = Counter(each.data.tags["role"] for each in client.search_runs([experiment]))
    assert roles == {"cell": 2, "invocation": 1, "superseded": 1}


def test_runs_that_failed_before_they_began_are_no_surplus() -> None:
    tags = {"role": "cell", "fingerprint": "f" * 64, "cifar_lab.began": "none"}
    assert surplus_of([ExistingRun(each, "FAILED", tags, {}, has_data=False) for each in "ab"]) == []


def test_status_running_is_there_while_a_cell_is_trained(people: tuple[Person, Person], client: Any) -> None:
    person = people[0]
    person.study.train(person.study.begin(), range(1, 2))
    with person.study.record("r4", 0).lock():
        person.sync()
        (run,) = cells(client)
        assert (run.info.status, run.data.tags["status"]) == ("RUNNING", "running")
    person.sync()
    (run,) = cells(client)
    assert (run.info.status, run.data.tags["status"]) == ("KILLED", "stopped")
