"""Exchange between Optuna and the engine: trials asked, values told, and trials counted."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from made import records
from optuna.trial import TrialState

from cifar_lab.config.baselines import RESNET18
from cifar_lab.config.execution import Execution
from cifar_lab.config.scale import SCALES
from cifar_lab.errors import UsageError
from cifar_lab.execution.engine import SettledCell
from cifar_lab.execution.worker import CellJob
from cifar_lab.search import ask_tell, storage, stored_trials
from cifar_lab.search import study as studies
from cifar_lab.search.ask_tell import FAILED_IN_A_ROW, TrialQueue
from cifar_lab.search.budget import SearchBudget
from cifar_lab.search.dimension import Choice, Integer, Real
from cifar_lab.search.space import Space
from cifar_lab.search.study import StudySettings, open_study
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import Journal

SPACE = Space(
    question="Which tiny network?",
    baseline=RESNET18.override({"model.width": 32, "model.blocks": (1, 1)}),
    dimensions=(
        Integer(path="model.width", low=32, high=128, step=32),
        Real(path="optim.lr", low=0.001, high=1.0, log=True),
        Choice(path="model.dropout", values=(0.0, 0.3)),
    ),
)
STOPPED = "stopped, state saved"


def setting(**changed: Any) -> StudySettings:
    fields: dict[str, Any] = {
        "study": "tiny", "space": SPACE, "scale": SCALES["smoke"], "budget": SearchBudget(max_params=400_000),
        "data": {"name": "synthetic", "kind": "synthetic", "hash": "d" * 64, "source": "synthetic"},
        "overrides": {"train.epochs": 3},
    }  # fmt: skip
    return StudySettings(**(fields | changed))


@dataclass
class Search:
    """A study on disk, and one runner of it; cells are trained by the test."""

    folder: Path
    wanted: int = 5
    setting: StudySettings = field(default_factory=setting)
    sampler: optuna.samplers.BaseSampler = field(default_factory=lambda: optuna.samplers.RandomSampler(seed=0))
    pruner: optuna.pruners.BasePruner = field(default_factory=optuna.pruners.NopPruner)
    stopped: list[str] = field(default_factory=list)
    url: str | None = None

    def __post_init__(self) -> None:
        self.study = open_study(storage.open_storage(self.url, self.folder), self.setting, self.sampler, self.pruner)
        self.asking = TrialQueue(
            study=self.study, setting=self.setting, wanted=self.wanted, make_job=self.job,
            stop=self.stopped.append, begun=lambda *_: None, told=lambda _: None,
        )  # fmt: skip

    def job(self, number: int, diff: dict[str, Any]) -> CellJob:
        recipe = self.setting.recipe(diff)
        return CellJob(
            fingerprint=recipe.fingerprint(seed=0, data_hash="d" * 64), recipe=recipe, seed=0, data="synthetic",
            data_hash="d" * 64, runs=self.folder, provenance=records.PROVENANCE,
            execution=Execution(device="cpu", threads=1, precision="fp32", compile=False),
        )  # fmt: skip

    def take(self) -> CellJob:
        found = self.asking.take(set())
        assert isinstance(found, CellJob)
        return found

    def finish(self, job: CellJob, accuracy: float = 0.5, status: str = "finished") -> None:
        write_result(job.record, accuracy, status)
        self.asking.ended(job, None)

    def counts(self) -> stored_trials.TrialCounts:
        return stored_trials.count_trials(stored_trials.all_trials(self.study))

    def trial(self, number: int) -> optuna.trial.FrozenTrial:
        return stored_trials.all_trials(self.study)[number]


def write_result(record: CellRecord, accuracy: float, status: str = "finished") -> None:
    metrics = {
        "val/acc": accuracy,
        **({"test/acc": 0.99} if status == "finished" else {}),
    }  # diverged: of an epoch before
    records.end(record, metrics, status=status, epoch=3)


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return Search(tmp_path / "runs")


def run(search: Search, accuracy: Callable[[int], float] = lambda n: 0.3 + 0.01 * n) -> int:
    """Train all that is wanted; how many cells that were."""
    trained = 0
    while len(search.asking):
        found = search.asking.take(set())
        if isinstance(found, SettledCell):
            search.asking.ended(found.job, found.error)
        elif found is not None:
            search.finish(found, accuracy(trained))
            trained += 1
    return trained


# What is asked


def test_the_baseline_is_trial_0(search: Search) -> None:
    job = search.take()
    assert job.recipe == search.setting.recipe({})
    assert search.trial(0).user_attrs[stored_trials.CELL] == job.fingerprint


def test_optunas_own_tools_are_told_what_the_values_are(search: Search) -> None:
    assert search.study.metric_names == ["accuracy on val"]


def test_candidates_over_the_budget_are_told_and_never_trained(search: Search) -> None:
    trained = run(search)
    counts = search.counts()
    assert counts.infeasible > 0, "the space goes beyond the budget"
    assert (counts.trained, counts.counted) == (5, 5)
    assert trained <= 5
    for trial in stored_trials.all_trials(search.study):
        assert stored_trials.is_infeasible(trial) == (stored_trials.parameters(trial) > 400_000)
        assert stored_trials.is_infeasible(trial) == (stored_trials.CELL not in trial.user_attrs)


def test_an_infeasible_trial_has_one_state_and_no_value_whenever_it_is_told(search: Search) -> None:
    for _ in range(5):  # so many workers at once: none of them has a result yet
        search.take()
    early = [trial for trial in stored_trials.all_trials(search.study) if stored_trials.is_infeasible(trial)]
    assert early, "the space goes beyond the budget"
    assert (search.counts().infeasible, search.counts().failed, search.counts().pruned) == (len(early), 0, 0)
    later = Search(search.folder, wanted=9)
    later.study.sampler = optuna.samplers.RandomSampler(seed=3)  # its own is seeded by chance
    run(later)
    every = [trial for trial in stored_trials.all_trials(search.study) if stored_trials.is_infeasible(trial)]
    assert len(every) > len(early)
    assert {(trial.state, trial.values and tuple(trial.values)) for trial in every} == {(TrialState.PRUNED, None)}
    assert all(trial.user_attrs[stored_trials.INFEASIBLE] and trial.constraints["parameters"] > 0 for trial in every)


def test_optunas_own_best_trial_was_trained(search: Search) -> None:
    run(search, lambda _: 0.5)  # all alike: an invented value would tie with them
    best = [trial for trial in search.study.trials if trial.state == TrialState.COMPLETE and trial.value == 0.5]
    assert all(stored_trials.CELL in trial.user_attrs for trial in best)
    assert search.study.best_trial.number in {trial.number for trial in best}


def test_infeasible_trials_of_earlier_versions_are_read_as_infeasible(search: Search) -> None:
    run(search)
    before = search.counts()
    for state, value in ((TrialState.COMPLETE, 0.4), (TrialState.FAIL, None)):
        trial = search.study.ask()
        trial.set_constraint("parameters", 0.25)
        search.study.tell(trial, value, state=None if value else state)
    after = search.counts()
    assert (after.infeasible, after.trained, after.failed) == (before.infeasible + 2, before.trained, before.failed)


def test_as_many_as_were_wanted_and_run_again_nothing_more(search: Search) -> None:
    run(search)
    again = Search(search.folder)
    assert len(again.asking) == 0
    assert again.asking.take(set()) is None
    assert run(Search(search.folder, wanted=7)) <= 2
    assert search.counts().trained == 7


def test_a_cell_that_is_finished_answers_a_trial_at_once(search: Search) -> None:
    job = search.job(0, {})
    write_result(job.record, 0.7)
    found = search.asking.take(set())
    assert isinstance(found, SettledCell)
    search.asking.ended(found.job, found.error)
    assert (search.trial(0).value, search.trial(0).user_attrs[stored_trials.REUSED]) == (0.7, True)


def test_a_smaller_budget_than_any_candidate_ends_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_tell, "OVER_IN_A_ROW", 50)
    tight = Search(tmp_path / "runs", setting=setting(budget=SearchBudget(max_params=10)))
    with pytest.raises(UsageError, match="50 candidates in a row were over the budget"):
        tight.asking.take(set())


# What is told


def test_the_value_is_the_accuracy_on_val(search: Search) -> None:
    search.finish(search.take(), 0.625)
    assert search.trial(0).value == 0.625


def test_a_cell_that_diverged_is_a_result_with_the_least_value(search: Search) -> None:
    search.finish(search.take(), status="diverged")
    trial = search.trial(0)
    assert (trial.state, trial.value, trial.user_attrs[stored_trials.DIVERGED]) == (TrialState.COMPLETE, 0.0, True)
    assert (stored_trials.best(search.study), stored_trials.pareto_front(search.study)) == (None, [])


def test_a_cell_that_failed_is_no_result_and_not_counted(search: Search) -> None:
    job = search.take()
    job.record.folder.mkdir(parents=True)
    records.fail(job.record, "boom")
    search.asking.ended(job, "boom")
    assert search.trial(0).state == TrialState.FAIL
    assert (search.counts().failed, search.counts().counted, len(search.asking)) == (1, 0, 5)


def test_trials_that_fail_without_end_stop_the_search(search: Search) -> None:
    def fail_one() -> None:
        job = search.take()
        job.record.folder.mkdir(parents=True, exist_ok=True)
        records.fail(job.record, "boom")
        search.asking.ended(job, "boom")

    for _ in range(FAILED_IN_A_ROW - 1):
        fail_one()
    with pytest.raises(UsageError, match="in a row failed: boom"):
        fail_one()


class _AfterTwo(optuna.pruners.BasePruner):
    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.last_step == 2


def test_pruners_see_val_accuracy_each_epoch_and_stop_the_cell(tmp_path: Path) -> None:
    search = Search(tmp_path / "runs", pruner=_AfterTwo())
    _, job = search.take(), search.take()  # the first is the baseline's
    job.record.folder.mkdir(parents=True)
    journal = Journal(job.record.folder)
    journal.write("start")
    for epoch, accuracy in enumerate((0.2, 0.4), start=1):
        journal.points(epoch, {"val/acc": accuracy, "test/acc": 0.9})
        journal.write("checkpoint", epoch=epoch, step=0)
        search.asking.progress(job)
    assert search.stopped == [job.fingerprint]
    assert search.asking.pruned_at(job) == 2
    search.asking.ended(job, STOPPED)
    number = next(
        t.number
        for t in stored_trials.all_trials(search.study)
        if t.user_attrs.get(stored_trials.CELL) == job.fingerprint
    )
    trial = search.trial(number)
    assert (trial.state, trial.user_attrs[stored_trials.PRUNED_AT]) == (TrialState.PRUNED, 2)
    assert trial.intermediate_values == {1: 0.2, 2: 0.4}
    assert search.counts().counted == 2, "a pruned trial was trained, and counts"


def _after_an_epoch(job: CellJob) -> Journal:
    """Return the journal of a cell with the points and the checkpoint of its first epoch."""
    job.record.folder.mkdir(parents=True)
    journal = Journal(job.record.folder)
    journal.write("start")
    journal.points(1, {"val/acc": 0.2})
    journal.write("checkpoint", epoch=1, step=0)
    return journal


def test_a_trial_that_was_stopped_is_told_each_epoch_once(search: Search, recwarn: pytest.WarningsRecorder) -> None:
    job = search.take()
    journal = _after_an_epoch(job)
    search.asking.progress(job)
    search.asking.ended(job, STOPPED)
    again = Search(search.folder)
    assert again.take().fingerprint == job.fingerprint
    journal.write("resume", epoch=1, step=0)
    journal.points(2, {"val/acc": 0.4})
    journal.write("checkpoint", epoch=2, step=0)
    again.asking.progress(job)
    assert again.trial(0).intermediate_values == {1: 0.2, 2: 0.4}
    assert not [warning for warning in recwarn if "already reported" in str(warning.message)]


class _Always(optuna.pruners.BasePruner):
    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return True


def test_the_baseline_is_never_pruned(tmp_path: Path) -> None:
    search = Search(tmp_path / "runs", pruner=_Always())
    baseline, other = search.take(), search.take()
    for job in (baseline, other):
        _after_an_epoch(job)
        search.asking.progress(job)
    assert search.stopped == [other.fingerprint]


def test_of_two_objectives_both_are_told_and_nothing_is_pruned(tmp_path: Path) -> None:
    search = Search(tmp_path / "runs", setting=setting(objectives=("accuracy", "params")))
    search.finish(search.take(), 0.5)
    assert search.trial(0).values == [0.5, float(stored_trials.parameters(search.trial(0)))]


# Runners that die, and runners beside one another


def test_a_trial_whose_runner_died_is_gone_on_with_by_the_next(search: Search) -> None:
    lost = search.take()
    other = Search(search.folder)
    found = other.take()
    assert found.fingerprint == lost.fingerprint
    other.finish(found, 0.4)
    assert (other.trial(0).state, other.trial(0).value) == (TrialState.COMPLETE, 0.4)
    assert len(stored_trials.all_trials(other.study)) == 1


def test_a_trial_that_is_trained_elsewhere_is_left_alone(search: Search) -> None:
    job = search.take()
    with job.record.owned(patience=1.0):
        other = Search(search.folder, wanted=5)
        found = other.take()
        assert found.fingerprint != job.fingerprint
        assert other.counts().running == 2


def test_an_interrupted_trial_stays_open(search: Search) -> None:
    job = search.take()
    search.asking.ended(job, STOPPED)
    assert search.trial(0).state == TrialState.RUNNING
    assert Search(search.folder).take().fingerprint == job.fingerprint


def test_trials_that_were_stopped_are_no_trials_that_were_not_begun(search: Search) -> None:
    search.finish(search.take())
    jobs = [search.take(), search.take()]
    assert len(search.asking) == 2, "of 5: one is done, and two are being trained"
    for job in jobs:
        search.asking.ended(job, STOPPED)
    assert (len(search.asking), search.asking.elsewhere) == (2, 0)


def test_a_failed_trial_is_replaced_also_if_it_was_the_last(search: Search) -> None:
    jobs = [search.take() for _ in range(5)]
    assert len(search.asking) == 0
    for job in jobs[:-1]:
        search.finish(job)
    jobs[-1].record.folder.mkdir(parents=True)
    records.fail(jobs[-1].record, "boom")
    search.asking.ended(jobs[-1], "boom")
    assert len(search.asking) == 1


def test_a_running_trial_is_stopped_once_its_runner_has_ended_and_nobody_has_its_cell(search: Search) -> None:
    job = search.take()
    number = search.trial(0)._trial_id

    def stopped(owner: dict[str, Any]) -> int:
        optuna.trial.Trial(search.study, number).set_user_attr(stored_trials.OWNER, owner)
        return len(stored_trials.stopped_trials(search.study, search.folder))

    alive = {"host": socket.gethostname(), "pid": os.getppid(), "run": "another"}
    alive["began"] = psutil.Process(os.getppid()).create_time()
    assert stopped(alive) == 0
    assert stopped({**alive, "host": "another"}) == 0, "it may not have begun its cell yet"
    assert stopped(_ended_process()) == 1
    with job.record.owned(patience=1.0):
        assert stored_trials.stopped_trials(search.study, search.folder) == set(), "its process lives on"


def test_two_runners_do_not_go_beyond_what_is_wanted(tmp_path: Path) -> None:
    one = Search(tmp_path / "runs", wanted=3)
    other = Search(tmp_path / "runs", wanted=3, sampler=optuna.samplers.RandomSampler(seed=7))
    first, second = one.take(), one.take()
    with first.record.owned(patience=1.0), second.record.owned(patience=1.0):
        third = other.take()
        with third.record.owned(patience=1.0):
            assert one.asking.take({first.fingerprint, second.fingerprint}) is None
    assert one.counts().counted == 3


def test_a_runner_waits_for_the_last_trial_of_another_and_takes_it_over_if_that_one_dies(tmp_path: Path) -> None:
    one, other = (Search(tmp_path / "runs", wanted=2) for _ in range(2))
    own = one.take()
    with own.record.owned(patience=1.0):
        last = other.take()
    with last.record.owned(patience=1.0):
        one.finish(own)
        assert one.asking.take(set()) is None
        assert (len(one.asking), one.asking.elsewhere) == (1, 1)
    taken = one.asking.take(set())  # nobody holds it any more
    assert isinstance(taken, CellJob)
    one.finish(taken)
    assert (len(one.asking), one.counts().trained) == (0, 2)


def test_nothing_waits_for_another_runner_while_there_is_a_trial_to_begin(tmp_path: Path) -> None:
    one, other = Search(tmp_path / "runs", wanted=2), Search(tmp_path / "runs", wanted=2)
    with other.take().record.owned(patience=1.0):
        assert (len(one.asking), one.asking.elsewhere, one.asking.waited_for) == (2, 1, 0)
        one.finish(one.take())
        assert one.asking.take(set()) is None
        assert (len(one.asking), one.asking.waited_for) == (1, 1)


def test_a_runner_does_not_wait_for_trials_beyond_what_it_wants(tmp_path: Path) -> None:
    one, other = Search(tmp_path / "runs", wanted=1), Search(tmp_path / "runs", wanted=2)
    one.finish(one.take())
    with other.take().record.owned(patience=1.0):
        assert one.asking.take(set()) is None
        assert len(one.asking) == 0


def _ended_process() -> dict[str, Any]:
    """The owner record of a runner on this host that is no more."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    began = psutil.Process(done.pid).create_time()
    done.wait()
    return {"host": socket.gethostname(), "pid": done.pid, "began": began, "run": "another"}


def test_a_trial_that_a_killed_runner_left_without_a_cell_is_ended_at_once(search: Search) -> None:
    search.finish(search.take())
    search.study.ask().set_user_attr(stored_trials.OWNER, _ended_process())
    run(Search(search.folder))
    assert (search.counts().running, search.counts().failed, search.counts().trained) == (0, 1, 5)


def test_the_baseline_that_a_killed_runner_left_without_a_cell_is_asked_for_again(search: Search) -> None:
    search.study.ask().set_user_attr(stored_trials.OWNER, _ended_process())
    other = Search(search.folder)
    assert run(other) == 5
    assert stored_trials.retried(stored_trials.all_trials(other.study)) == {0}
    again = next(trial for trial in stored_trials.all_trials(other.study) if stored_trials.retried_trials(trial))
    assert again.user_attrs[stored_trials.CELL] == search.job(0, {}).fingerprint
    assert (other.counts().failed, other.counts().running) == (0, 0)


def test_a_candidate_over_the_budget_that_a_killed_runner_left_is_infeasible(search: Search) -> None:
    search.finish(search.take())
    lost = search.study.ask({"model.width": optuna.distributions.IntDistribution(32, 128, step=32)})
    lost.set_user_attr(stored_trials.OWNER, _ended_process())
    lost.set_user_attr(stored_trials.INFEASIBLE, True)
    lost.set_constraint("parameters", 0.5)
    run(Search(search.folder))
    assert search.trial(lost.number).state == TrialState.PRUNED
    assert stored_trials.is_infeasible(search.trial(lost.number))


def test_a_trial_of_a_runner_that_is_alive_and_has_not_begun_its_cell_is_left_to_it(search: Search) -> None:
    job = search.take()
    alive = {"host": socket.gethostname(), "pid": os.getppid(), "run": "another"}
    alive["began"] = psutil.Process(os.getppid()).create_time()
    optuna.trial.Trial(search.study, search.trial(0)._trial_id).set_user_attr(stored_trials.OWNER, alive)
    assert Search(search.folder).take().fingerprint != job.fingerprint
    assert search.trial(0).user_attrs[stored_trials.OWNER] == alive


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """With heartbeats, and trials that are taken for lost after a second."""
    monkeypatch.setattr(storage, "HEARTBEAT", 1)
    monkeypatch.setattr(storage, "GRACE", 1)
    monkeypatch.setattr(ask_tell, "LOOK_EVERY", 0.0)
    return f"sqlite:///{tmp_path}/studies.db"


def test_on_a_database_a_trial_that_was_lost_at_once_is_asked_for_again_and_is_no_failure(
    tmp_path: Path, database: str
) -> None:
    lost = Search(tmp_path / "runs", wanted=2, url=database).take()
    time.sleep(2.5)
    other = Search(tmp_path / "runs", wanted=2, url=database)
    run(other)
    counts = other.counts()
    assert (counts.trained, counts.running, counts.failed) == (2, 0, 0)
    again = next(trial for trial in stored_trials.all_trials(other.study) if stored_trials.retried_trials(trial))
    assert (stored_trials.retried_trials(again), again.user_attrs[stored_trials.CELL]) == ([0], lost.fingerprint)
    assert stored_trials.retried(stored_trials.all_trials(other.study)) == {0}


def test_a_trial_that_two_runners_asked_for_at_once_is_withdrawn(tmp_path: Path) -> None:
    search = Search(tmp_path / "runs", wanted=1, setting=setting(budget=SearchBudget()))
    search.take()
    search.asking._left = 1  # as it was before the other one asked
    late = search.study.ask()
    assert search.asking._begin(late) is None
    assert stored_trials.is_surplus(search.trial(1))
    assert search.counts().counted == 1


def test_a_trial_whose_runner_died_before_it_had_a_cell_is_given_up(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    search.finish(search.take())  # the baseline, which would be asked for again
    search.study.ask()
    search.asking._look()
    assert search.counts().running == 1, "it may be on its way"
    monkeypatch.setattr(stored_trials, "UNBEGUN", -1.0)
    search.asking._look()
    assert (search.counts().running, search.counts().failed) == (0, 1)


# The study


def test_a_study_whose_maker_was_killed_before_it_was_whole_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "PATIENCE", 0.0)
    optuna.create_study(study_name="tiny", storage=storage.open_storage(None, tmp_path / "runs"), direction="maximize")
    search = Search(tmp_path / "runs")
    assert search.take().recipe == search.setting.recipe({})


def test_a_study_of_another_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "PATIENCE", 0.0)
    theirs = optuna.create_study(
        study_name="tiny", storage=storage.open_storage(None, tmp_path / "runs"), direction="maximize"
    )
    theirs.tell(theirs.ask(), 1.0)
    with pytest.raises(UsageError, match="it is not of cifar-lab"):
        Search(tmp_path / "runs")


@pytest.mark.parametrize(
    ("changed", "word"),
    [({"budget": SearchBudget(max_params=300_000)}, "max_params"), ({"overrides": {"train.epochs": 4}}, "overrides"),
     ({"scale": SCALES["small"]}, "scale"), ({"objectives": ("accuracy", "params")}, "objectives")],
)  # fmt: skip
def test_a_study_that_searches_something_else_is_refused(tmp_path: Path, changed: dict[str, Any], word: str) -> None:
    Search(tmp_path / "runs")
    with pytest.raises(UsageError, match=word):
        Search(tmp_path / "runs", setting=setting(**changed))


def test_the_best_is_that_on_val_and_the_front_has_no_trial_that_another_beats_in_both(search: Search) -> None:
    run(search, lambda n: (0.3, 0.6, 0.5, 0.2, 0.4)[n % 5])
    best = stored_trials.best(search.study)
    assert best is not None
    results = [trial for trial in stored_trials.all_trials(search.study) if stored_trials.is_result(trial)]
    assert best.value == max(trial.value or 0.0 for trial in results)
    front = stored_trials.pareto_front(search.study)
    assert best in front
    for trial in front:
        assert not any(
            stored_trials.parameters(other) <= stored_trials.parameters(trial)
            and (other.value or 0.0) > (trial.value or 0.0)
            for other in results
        )
