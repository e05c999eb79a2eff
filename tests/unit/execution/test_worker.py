"""One cell, from its lock to its result: what it writes, where it goes on, and how it fails."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made import records
from safetensors.torch import load_file

from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.data import load
from cifar_lab.errors import CellError, Interrupted, TrackingError
from cifar_lab.execution import worker
from cifar_lab.execution.provenance import provenance
from cifar_lab.execution.runner import goes_on_elsewhere
from cifar_lab.execution.system_metrics import peaks
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.execution.worker_process import TAKEN, exit_code
from cifar_lab.models.resnet import build_resnet
from cifar_lab.store import checksum
from cifar_lab.store.journal import read_events, read_points
from cifar_lab.store.journal_events import AttemptEvent, TeachersEvent
from cifar_lab.store.lease import LeaseLost
from cifar_lab.store.record_files import Hardware, Provenance
from cifar_lab.train import loop
from cifar_lab.train.cell_artifacts import read_logits, read_predictions
from cifar_lab.train.evaluate import Evaluation

TINY = Recipe().override(
    {
        "model.blocks": [1],
        "model.width": 8,
        "train.epochs": 2,
        "train.batch_size": 10,
        "data.val_fraction": 0.2,
    }
)


@pytest.fixture
def job(tmp_path: Path, few_images: Path) -> CellJob:
    dataset = load(str(few_images))
    return CellJob(
        fingerprint=TINY.fingerprint(seed=0, data_hash=dataset.hash),
        recipe=TINY,
        seed=0,
        data=str(few_images),
        data_hash=dataset.hash,
        runs=tmp_path,
        execution=Execution(device="cpu", threads=1, precision="auto"),
        provenance=provenance(),
    )


def test_a_cell_leaves_its_recipe_points_predictions_and_result(job: CellJob) -> None:
    train_cell(job)
    record = job.record
    assert record.state() == "finished"
    tree, result = record.cell(), record.result()
    assert tree is not None
    assert result is not None
    assert tree.recipe.resolve() == TINY
    assert tree.execution.precision in {"fp32", "bf16"}
    assert [point.epoch for point in read_points(record.folder)] == [1, 2]
    stored = np.load(record.predictions)
    assert (stored["predictions"] == stored["labels"]).mean() == pytest.approx(result.metrics["test/acc"])
    rows = [line.split(",") for line in record.confusion.read_text().splitlines()]
    assert rows[0] == ["label", *tree.classes]
    assert sum(int(count) for row in rows[1:] for count in row[1:]) == len(stored["labels"])


def test_with_several_views_the_accuracy_of_one_is_kept_beside_it(job: CellJob) -> None:
    train_cell(job)
    train_cell(several := replace(job, recipe=TINY.override({"train.tta": "flip_shift"}), fingerprint="f" * 64))
    (one, more) = (each.record.result() for each in (job, several))
    assert one is not None
    assert more is not None
    assert "test/acc_without_tta" not in one.metrics
    assert more.metrics["test/acc_without_tta"] == one.metrics["test/acc"]
    assert more.metrics["test/loss"] != one.metrics["test/loss"]


def test_under_the_writeups_protocol_the_peak_is_no_lower_than_what_several_views_reach(
    job: CellJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        worker, "final_metrics", lambda *_: {"test/peak_acc": -1.0}
    )  # a curve below all that is reached
    train_cell(replace(job, recipe=TINY.override({"train.tta": "flip", "train.protocol": "writeup"})))
    result = job.record.result()
    assert result is not None
    assert result.metrics["test/peak_acc"] == result.metrics["test/acc"]


def test_a_stem_that_whitens_is_fitted_before_the_first_step_and_saved(job: CellJob) -> None:
    recipe = TINY.override({"model.stem": "whitening"})
    train_cell(replace(job, recipe=recipe))
    filters = load_file(job.record.weights)["whitening.filters"]
    unfitted = build_resnet(recipe.model, seed=0).state_dict()["whitening.filters"]
    assert filters.isfinite().all()
    assert not torch.equal(filters, unfitted)


@pytest.mark.parametrize("part", [0.0, 0.4, 0.5, 0.9, 1.0])
def test_a_cell_that_another_machine_has_taken_is_left_as_that_one_writes_it(job: CellJob, part: float) -> None:
    """At the first step, the last, and some between; after the last one only the end of the cell is to be written."""
    looks = itertools.count(1)
    train_cell(replace(job, fingerprint="f" * 64), stop=lambda: next(looks) < 0)
    at_step = max(1, round(part * (next(looks) - 1)))
    others = {"host": "other", "machine": "another kernel", "pid": 7, "beat": 0, "time": 1_790_000_000_000, "fence": 1}
    folder, before = job.record.folder, dict[str, bytes]()
    steps = itertools.count(1)

    def taken() -> bool:
        if next(steps) == at_step:
            checksum.write_sealed(folder / "owner.json", others)
            before.update({path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"})
        return False

    with pytest.raises(LeaseLost) as caught:
        train_cell(job, stop=taken)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}
    assert exit_code(caught.value, folder) == TAKEN


@pytest.mark.slow
def test_a_compiled_cell_that_is_stopped_ends_like_one_that_is_not(job: CellJob) -> None:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("no C++ compiler: networks cannot be compiled here")
    parts = {"train.ema": 0.9, "model.stem": "whitening", "train.batch_size": 7, "train.tta": "flip"}
    whole = replace(job, recipe=TINY.override(parts), execution=replace(job.execution, compile=True))
    stopped = replace(whole, fingerprint="e" * 64)
    train_cell(whole)
    steps = itertools.count()
    with pytest.raises(Interrupted):
        train_cell(stopped, stop=lambda: next(steps) == 1)  # within the first epoch, whose last batch is smaller
    train_cell(stopped)
    first, second = (load_file(each.record.weights) for each in (whole, stopped))
    assert all(torch.equal(first[name], second[name]) for name in first)
    points = [[point.values for point in read_points(each.record.folder)] for each in (whole, stopped)]
    of_machine = ("memory/", "system/")
    curves = [[{name: value for name, value in point.items() if "/" in name and not name.startswith(of_machine)}
               for point in each] for each in points]  # fmt: skip
    assert curves[0] == curves[1]


def test_a_finished_cell_is_left_alone(job: CellJob) -> None:
    train_cell(job)
    before = (job.record.folder / "journal.jsonl").read_bytes()
    train_cell(job)
    assert (job.record.folder / "journal.jsonl").read_bytes() == before


def test_a_cell_that_another_process_trains_is_not_trained_twice(job: CellJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LOCK_PATIENCE", 0.1)
    with job.record.lock(), pytest.raises(CellError, match="another process"):
        train_cell(job)


def test_a_failure_keeps_its_trace_and_is_forgotten_once_the_cell_is_finished(
    job: CellJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("\n  the GPU fell out\nafter 3 h")

    with monkeypatch.context() as patch:
        patch.setattr(worker, "fit", broken)
        with pytest.raises(RuntimeError):
            train_cell(job)
    failure = job.record.failure()
    assert failure is not None
    assert failure.error == "RuntimeError: the GPU fell out"
    assert "Traceback" in failure.trace
    assert job.record.state() == "failed"
    assert read_events(job.record.folder)[-1].kind == "failed"
    train_cell(job)
    assert job.record.state() == "finished"


def test_images_that_changed_since_the_plan_are_refused(job: CellJob) -> None:
    with pytest.raises(CellError, match="images changed"):
        train_cell(replace(job, data_hash="0" * 64))


def test_a_network_that_breaks_in_its_last_update_has_diverged(job: CellJob, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = torch.zeros(20, dtype=torch.long)
    broken = Evaluation(float("nan"), 0.1, nothing, nothing, torch.zeros(20, 10))
    monkeypatch.setattr(worker, "evaluate_network", lambda *_: broken)
    train_cell(job)
    assert job.record.state() == "diverged"
    result = job.record.result()
    assert result is not None
    assert "test/acc" not in result.metrics


def test_logits_of_test_and_val_are_kept_and_come_to_the_metrics(job: CellJob) -> None:
    train_cell(job)
    result = job.record.result()
    assert result is not None
    metrics = result.metrics
    for part in ("test", "val"):
        logits, labels = read_logits(job.record, part)  # type: ignore[arg-type]
        assert logits.shape == (len(labels), 10)
        loss = float(torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels).long()))
        assert loss == pytest.approx(metrics[f"{part}/loss"], abs=0.01)
        assert (logits.argmax(1) == labels).mean() == pytest.approx(metrics[f"{part}/acc"], abs=0.06)
    predictions, labels = read_predictions(job.record)
    assert (read_logits(job.record)[1] == labels).all()
    assert (read_logits(job.record)[0].argmax(1) == predictions).mean() > 0.9  # ties of half precision


def test_where_no_image_is_held_out_there_are_no_logits_of_val(job: CellJob) -> None:
    recipe = TINY.override({"train.protocol": "writeup"})
    one = replace(job, recipe=recipe, fingerprint=recipe.fingerprint(seed=0, data_hash=job.data_hash))
    train_cell(one)
    assert len(read_logits(one.record)[0])
    with pytest.raises(TrackingError, match="has no logits of val: no image was held out"):
        read_logits(one.record, "val")


def test_a_record_of_an_older_version_has_no_logits_and_says_so(job: CellJob) -> None:
    train_cell(job)
    path = job.record.predictions
    with np.load(path) as file:
        kept = {name: file[name] for name in ("predictions", "labels", "confidence", "result")}
    np.savez_compressed(path, **kept)
    result = job.record.result()
    assert result is not None
    job.record.write_result(result.model_copy(update={"files": job.record.digests()}))
    assert len(read_predictions(job.record)[0])
    with pytest.raises(TrackingError, match="has no logits of test: an older version wrote it"):
        read_logits(job.record)


def test_a_warm_start_begins_with_its_parents_weights(job: CellJob) -> None:
    train_cell(job)
    recipe = TINY.override({"init_from": job.fingerprint, "optim.lr": 1e-12})
    child = replace(job, recipe=recipe, fingerprint=recipe.fingerprint(seed=0, data_hash=job.data_hash))
    assert child.fingerprint != job.fingerprint
    train_cell(child)
    parent, own = (np.load(one.record.predictions)["predictions"] for one in (job, child))
    assert (parent == own).mean() > 0.9


@pytest.mark.parametrize("parent", ["missing", "another shape"])
def test_a_parent_that_does_not_fit_is_said(job: CellJob, parent: str) -> None:
    train_cell(job)
    diff = {"init_from": "0" * 64} if parent == "missing" else {"init_from": job.fingerprint, "model.width": 9}
    recipe = TINY.override(diff)
    child = replace(job, recipe=recipe, fingerprint=recipe.fingerprint(seed=0, data_hash=job.data_hash))
    with pytest.raises(CellError, match="not finished" if parent == "missing" else "do not fit"):
        train_cell(child)


def test_a_cell_begun_on_a_device_that_is_gone_is_kept(job: CellJob, monkeypatch: pytest.MonkeyPatch) -> None:
    records.begin(job.record, execution={"device": "cuda"})
    job.record.checkpoint.touch()
    monkeypatch.setattr(worker, "is_there", lambda device: device == "cpu")
    with pytest.raises(CellError, match="begun on cuda"):
        train_cell(job)
    assert job.record.checkpoint.exists()


def on_gpu(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.setattr(worker, "_model", lambda device: model)


def test_a_cell_names_the_gpu_that_trains_it(job: CellJob, monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu(monkeypatch, "NVIDIA H100")
    train_cell(job)
    tree = job.record.cell()
    assert tree is not None
    assert tree.execution.gpu == "NVIDIA H100"
    first = read_events(job.record.folder)[0]
    assert isinstance(first, AttemptEvent)
    assert first.execution is not None
    assert first.execution.gpu == "NVIDIA H100"


@pytest.mark.parametrize(
    ("second", "named"), [("NVIDIA H100", "NVIDIA H100"), ("Tesla T4", "NVIDIA H100 then Tesla T4")]
)
def test_a_cell_that_goes_on_upon_another_gpu_names_both(
    job: CellJob, second: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in ("NVIDIA H100", second, second):
        on_gpu(monkeypatch, model)
        steps = itertools.count()
        with pytest.raises(Interrupted):
            train_cell(job, stop=lambda steps=steps: next(steps) == 1)
    tree = job.record.cell()
    assert tree is not None
    assert tree.execution.gpu == named
    attempts = [event for event in read_events(job.record.folder) if isinstance(event, AttemptEvent)]
    assert [each.execution.gpu for each in attempts if each.execution is not None] == ["NVIDIA H100", second, second], (
        "each event has the model of its own attempt"
    )


def test_memory_that_a_process_keeps_of_a_gpu_is_journalled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 5 * 2**20)
    assert peaks("cuda:0") == {"memory/peak_mib": 3.0, "memory/reserved_mib": 5.0}
    assert set(peaks("cpu")) == {"memory/peak_mib"}


def test_it_is_said_where_a_cell_goes_on_upon_another_gpu(job: CellJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def on(*gpus: str) -> str | None:
        return goes_on_elsewhere(replace(job, provenance=Provenance(hardware=Hardware(gpus=gpus))))

    assert on("Tesla T4") is None, "it is not begun"
    on_gpu(monkeypatch, "NVIDIA H100")
    steps = itertools.count()
    with pytest.raises(Interrupted):
        train_cell(job, stop=lambda: next(steps) == 1)
    assert on("Tesla T4", "NVIDIA H100") is None
    assert on() is None
    said = on("Tesla T4", "Tesla T4")
    assert said is not None
    assert said.startswith(f"{job.fingerprint[:12]} was begun on NVIDIA H100 and goes on upon Tesla T4: ")


def test_points_stand_though_the_kill_fell_between_a_checkpoint_in_an_epoch_and_its_line(
    job: CellJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs that were not saved wait for the next checkpoint, which may be in the middle of a later one."""
    monkeypatch.setattr(loop._Saver, "is_due", False)
    longer = job.recipe.override({"train.epochs": 4})
    job = replace(job, recipe=longer, fingerprint=longer.fingerprint(seed=0, data_hash=job.data_hash))
    now = [(0, 0)]

    def progress(epoch: int, step: int, steps: int) -> None:
        now[0] = (epoch, step)

    with pytest.raises(Interrupted):
        train_cell(job, progress, lambda: now[0] == (3, 1))
    lines = (job.record.folder / "journal.jsonl").read_text().splitlines()
    assert '"checkpoint"' in lines[-1], "the stop saved in the middle of an epoch"
    (job.record.folder / "journal.jsonl").write_text("".join(f"{line}\n" for line in lines[:-1]))
    train_cell(job)
    assert [point.epoch for point in read_points(job.record.folder)] == [1, 2, 3, 4]


# Teachers


def student(job: CellJob, **diff: object) -> CellJob:
    """The job of a student of the cell of `job`."""
    fields = {"train.distill.teacher": job.fingerprint, "train.distill.weight": 0.5, "model.width": 4}
    recipe = TINY.override({**fields, **{path.replace("__", "."): value for path, value in diff.items()}})
    return replace(job, recipe=recipe, fingerprint=recipe.fingerprint(seed=0, data_hash=job.data_hash))


def test_a_student_learns_from_a_finished_cell_and_resumes_bit_by_bit(job: CellJob, tmp_path: Path) -> None:
    train_cell(job)
    whole = student(job)
    train_cell(whole)
    stopped = replace(whole, runs=tmp_path / "other")
    shutil.copytree(job.record.folder, stopped.runs / job.fingerprint)
    looks = itertools.count()
    with pytest.raises(Interrupted):
        train_cell(stopped, stop=lambda: next(looks) == 5)
    train_cell(stopped)
    first, second = (load_file(each.record.weights) for each in (whole, stopped))
    assert all(torch.equal(first[name], second[name]) for name in first)
    events = [event for event in read_events(stopped.record.folder) if isinstance(event, TeachersEvent)]
    assert [event.cells for event in events] == [(job.fingerprint,)] * 2


def test_a_teacher_changes_the_weights_of_its_student(job: CellJob) -> None:
    train_cell(job)
    taught, alone = student(job), student(job, train__distill__weight=0.0)
    for each in (taught, alone):
        train_cell(each)
    first, second = (load_file(each.record.weights) for each in (taught, alone))
    assert not all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("diff", "said"),
    [
        ({"train__distill__teacher": "0" * 64}, "train.distill.teacher 000000000000: that cell is not finished"),
        ({"data__normalise": False}, "data.normalise"),
        ({"data__split_seed": 1}, "trained on images that the student holds out"),
        ({"data__val_fraction": 0.1}, "trained on images that the student holds out"),
    ],
)
def test_a_teacher_that_cannot_be_is_said(job: CellJob, diff: dict[str, object], said: str) -> None:
    train_cell(job)
    with pytest.raises(CellError, match=said):
        train_cell(student(job, **diff))


def test_a_damaged_teacher_teaches_nobody(job: CellJob) -> None:
    train_cell(job)
    job.record.weights.write_bytes(b"other weights")
    with pytest.raises(CellError, match=rf"train\.distill\.teacher {job.fingerprint[:12]}: .*weights"):
        train_cell(student(job))


@pytest.mark.parametrize("code", [0, 3])
def test_a_users_code_that_ends_the_program_has_failed(
    job: CellJob, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(*_: object) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(worker, "fit", ends)
    with pytest.raises(CellError, match=f"^SystemExit: {code}$") as caught:
        train_cell(job)
    assert exit_code(caught.value, job.record.folder) == 1
    failure = job.record.failure()
    assert failure is not None
    assert failure.error == f"SystemExit: {code}"
