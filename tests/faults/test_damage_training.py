"""Damage to an unfinished cell: it ends with the numbers of an undisturbed training, or names the damage."""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made.damage import FLIPS, TIMED, damage
from safetensors.numpy import load_file

from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.data import load
from cifar_lab.errors import CellError, DamageError, Interrupted
from cifar_lab.execution.provenance import provenance
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.journal import Journal, read_events, read_points
from cifar_lab.train import checkpoint, loop

TRIES = int(os.environ.get("CIFAR_LAB_FAULTS", "20"))
RECIPE = Recipe().override(
    {"model.blocks": [1], "model.width": 8, "train.epochs": 3, "train.batch_size": 10, "data.val_fraction": 0.2}
)


def numbers(record: CellRecord) -> dict[str, Any]:
    """All that must not depend on what happened on the way."""
    result = record.result()
    assert result is not None, record.state()
    points = {p.epoch: {k: v for k, v in p.values.items() if k not in TIMED} for p in read_points(record.folder)}
    weights = {name: array.tobytes() for name, array in load_file(record.weights).items()}
    return {"metrics": {k: v for k, v in result.metrics.items() if k not in TIMED}, "points": points, "w": weights}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, few_images: Path) -> CellJob:
    dataset = load(str(few_images))
    return CellJob(
        fingerprint=RECIPE.fingerprint(seed=0, data_hash=dataset.hash), recipe=RECIPE, seed=0, data=str(few_images),
        data_hash=dataset.hash, runs=tmp_path_factory.mktemp("whole"),
        execution=Execution(device="cpu", threads=1, precision="auto"), provenance=provenance(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(job: CellJob) -> dict[str, Any]:
    train_cell(job)
    return numbers(job.record)


@pytest.fixture(scope="module")
def stopped(job: CellJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder whose cell was stopped after its second epoch, every epoch saved."""
    runs = tmp_path_factory.mktemp("stopped")
    steps = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "SAVING_SHARE", 1e9)
        with pytest.raises(Interrupted):
            train_cell(replace(job, runs=runs), stop=lambda: next(steps) >= 13)
    assert CellRecord(runs / job.fingerprint).checkpoint.exists()
    return runs


@pytest.fixture
def again(job: CellJob, stopped: Path, tmp_path: Path) -> CellJob:
    """The stopped cell, in a folder of its own."""
    shutil.copytree(stopped, tmp_path / "runs")
    return replace(job, runs=tmp_path / "runs")


def test_a_stopped_cell_ends_with_the_numbers_of_an_undisturbed_one(
    again: CellJob, undisturbed: dict[str, Any]
) -> None:
    train_cell(again)
    assert numbers(again.record) == undisturbed
    assert [event.epoch for event in read_events(again.record.folder) if event.kind == "resume"] != [0]


@pytest.mark.parametrize("number", range(TRIES))
@pytest.mark.parametrize("file", ["checkpoint.pt", "journal.jsonl", "cell.json"])
def test_whatever_is_damaged_it_ends_with_these_numbers_or_names_the_damage(
    again: CellJob, undisturbed: dict[str, Any], file: str, number: int
) -> None:
    what = damage(again.record.folder / file, random.Random(f"{file} {number}"))
    if again.record.damage() is not None:
        with pytest.raises(DamageError, match=re.escape(f"{file}: damaged")):
            train_cell(again)
    else:
        train_cell(again)
        assert numbers(again.record) == undisturbed, what


@pytest.mark.parametrize("kind", FLIPS)
def test_a_damaged_checkpoint_is_kept_aside_and_named_and_the_cell_begins_anew(
    again: CellJob, undisturbed: dict[str, Any], kind: str
) -> None:
    before = FLIPS[kind](again.record.checkpoint.read_bytes(), random.Random(1))
    again.record.checkpoint.write_bytes(before)
    train_cell(again)
    assert (again.record.folder / "checkpoint.pt.damaged").read_bytes() == before
    (told,) = [event for event in read_events(again.record.folder) if event.kind == "damaged"]
    assert (told.file, told.kept) == ("checkpoint.pt", "checkpoint.pt.damaged")
    assert "not a readable checkpoint" in told.why
    assert numbers(again.record) == undisturbed


def _of_another_cell(path: Path) -> None:
    checkpoint.save(path, checkpoint.load_checkpoint(path) or {}, "0" * 64)


def _of_something_else(path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, path)


def _of_another_network_by_an_earlier_version(path: Path) -> None:
    state = checkpoint.load_checkpoint(path) or {}
    del state["fingerprint"]
    state["net"] = {name: tensor[..., :1] for name, tensor in state["net"].items() if tensor.ndim}
    torch.save(state, path)


@pytest.mark.parametrize(
    ("replaced", "why"),
    [
        (_of_another_cell, "the checkpoint of another cell, 000000000000"),
        (_of_something_else, "not the checkpoint of a training: 'counters' is missing"),
        (_of_another_network_by_an_earlier_version, "does not fit this cell"),
    ],
)
def test_a_checkpoint_of_other_content_is_refused_and_the_cell_begins_anew(
    again: CellJob, undisturbed: dict[str, Any], replaced: Callable[[Path], None], why: str
) -> None:
    replaced(again.record.checkpoint)
    train_cell(again)
    (told,) = [event for event in read_events(again.record.folder) if event.kind == "damaged"]
    assert why in told.why
    assert numbers(again.record) == undisturbed


def test_a_checkpoint_of_an_earlier_version_is_gone_on_from(again: CellJob, undisturbed: dict[str, Any]) -> None:
    state = checkpoint.load_checkpoint(again.record.checkpoint) or {}
    torch.save({name: value for name, value in state.items() if name != "fingerprint"}, again.record.checkpoint)
    train_cell(again)
    assert not [event for event in read_events(again.record.folder) if event.kind == "damaged"]
    assert numbers(again.record) == undisturbed


def test_a_journal_that_lost_an_epoch_is_not_gone_on_from(again: CellJob, undisturbed: dict[str, Any]) -> None:
    journal = again.record.journal
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(line for line in lines if b'"points"' not in line or b'"epoch": 1,' not in line))
    train_cell(again)
    told = [event for event in read_events(again.record.folder) if event.kind == "damaged"]
    assert [event.file for event in told] == ["journal.jsonl", "checkpoint.pt"]
    assert told[0].why == "the metrics of epoch 1 are not there"
    assert numbers(again.record) == undisturbed


def test_a_journal_that_is_damaged_while_its_cell_is_trained_makes_no_result(
    again: CellJob, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Journal.write

    def write_and_damage(self: Journal, event: str, **fields: object) -> None:
        write(self, event, **fields)
        if event == "end":
            content = again.record.journal.read_bytes()
            again.record.journal.write_bytes(content.replace(b'"val/acc": 0', b'"val/acc": 1', 1))

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write", write_and_damage)
        with pytest.raises(CellError, match=r"journal\.jsonl: damaged: line \d+"):
            train_cell(again)
    assert again.record.result() is None
    assert again.record.state() == "failed"
    train_cell(again)
    assert numbers(again.record) == undisturbed


@pytest.mark.parametrize("number", range(TRIES))
def test_a_warm_start_never_begins_with_damaged_weights(
    job: CellJob, undisturbed: dict[str, Any], tmp_path: Path, number: int
) -> None:
    shutil.copytree(job.runs, tmp_path / "runs")
    recipe = RECIPE.override({"init_from": job.fingerprint, "train.epochs": 1})
    fingerprint = recipe.fingerprint(seed=0, data_hash=job.data_hash)
    child = replace(job, runs=tmp_path / "runs", recipe=recipe, fingerprint=fingerprint)
    parent = CellRecord(tmp_path / "runs" / job.fingerprint)
    damage(parent.weights, random.Random(number))
    with pytest.raises(CellError, match=r"weights\.safetensors: damaged: its checksum does not match"):
        train_cell(child)
