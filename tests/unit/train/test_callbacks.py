"""Callbacks: when they are called, what they log, what they keep, and that trainings without them pay nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from made import extensions
from made.tiny_cells import stop_in_first_epoch, tiny_job
from unit.train.test_step import SMALL, trainer

from cifar_lab import extension
from cifar_lab.config.overrides import parse_overrides
from cifar_lab.config.recipe import CallbackConfig, Recipe
from cifar_lab.errors import CellError, RecipeError
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.store.journal import read_events, read_points
from cifar_lab.store.journal_events import EagerEvent
from cifar_lab.testing import check_callback
from cifar_lab.train.callbacks import Callback, Callbacks, _overrides, require_callback
from cifar_lab.train.step import why_no_graph

MADE, BROKEN = "made.extensions", "made.broken_extensions"


def callbacks(*names: str, **options: Any) -> Callbacks:
    named = [{"name": f"{MADE}:{name}", "options": options} for name in names]
    return Callbacks(Recipe().override({"train.callbacks": named}).train.callbacks)


def job_with(runs: Path, images: Path, *names: str, **diff: object) -> CellJob:
    job = tiny_job(runs, images)
    recipe = job.recipe.override({"train.callbacks": [f"{MADE}:{name}" for name in names], **diff})
    return replace(job, recipe=recipe, fingerprint=recipe.fingerprint(seed=job.seed, data_hash=job.data_hash))


def test_hooks_are_called_in_their_order(few_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[extensions.Diary] = []
    monkeypatch.setattr(extensions.Diary, "__init__", lambda self: written.append(self))
    job = job_with(tmp_path, few_images, "FullDiary")
    assert train_cell(job)
    [diary] = written
    steps = sum(call.startswith("step 0/") for call in diary.calls)
    whole = [f"{what} {{epoch}}/{step}" for step in range(steps) for what in ("backward", "step")]
    epochs = [[each.format(epoch=epoch) for each in whole] + [f"epoch {epoch}/{steps}"] for epoch in range(2)]
    assert steps > 1
    assert diary.calls == ["begin 0/0", *epochs[0], *epochs[1], "end"]


def test_metrics_are_in_the_journal_under_the_callbacks_name(few_images: Path, tmp_path: Path) -> None:
    job = job_with(tmp_path, few_images, "Noise")
    assert train_cell(job)
    added = [point.values["Noise/added"] for point in read_points(job.record.folder)]
    assert len(added) == 2
    assert 0 < added[0] < added[1] < 0.1


def test_a_stopped_cell_resumes_bit_for_bit(few_images: Path, tmp_path: Path) -> None:
    ends = []
    for name in ("straight", "stopped"):
        job = job_with(tmp_path / name, few_images, "Noise", "Diary")
        if name == "stopped":
            stop_in_first_epoch(job)
        assert train_cell(job)
        ends.append((job.record.weights.read_bytes(), read_points(job.record.folder)[-1].values["Noise/added"]))
    assert ends[0] == ends[1]


def test_a_callback_changes_what_is_trained(few_images: Path, tmp_path: Path) -> None:
    plain, noisy = tiny_job(tmp_path, few_images), job_with(tmp_path, few_images, "Noise")
    assert plain.fingerprint != noisy.fingerprint
    assert train_cell(plain)
    assert train_cell(noisy)
    assert plain.record.weights.read_bytes() != noisy.record.weights.read_bytes()


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("AlienState", "the state of AlienState holds set; a checkpoint holds tensors"),
        ("NotANumber", "NotANumber returns norm=nan, not a finite number"),
        ("OddName", "OddName returns 'norm of α'; a name has letters, digits"),
        ("ManyNumbers", r"ManyNumbers returns norms=tensor\(\[1., 1., 1.\]\), not a finite number"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_one_line(name: str, rule: str, few_images: Path, tmp_path: Path) -> None:
    job = job_with(tmp_path, few_images, name)
    with pytest.raises(CellError, match=rule):
        train_cell(job)
    failure = job.record.failure()
    assert failure is not None
    assert re.search(rule, failure.error)


def test_a_factory_that_returns_something_else_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"not_a_callback: its factory returns object, not a .*Callback"):
        callbacks("not_a_callback")


@pytest.mark.parametrize("name", ["Misspelt", "Mistyped", "misspelt"])
def test_a_method_that_reads_like_a_hook_and_is_none_is_refused_with_the_nearest_hook(name: str) -> None:
    """Refuse it in planning and in training: nothing else would say that it is never called."""
    [named] = Recipe().override({"train.callbacks": [f"{BROKEN}:{name}"]}).train.callbacks
    for refuse in (lambda: require_callback(named), lambda: Callbacks((named,))):
        with pytest.raises(RecipeError, match=r"is no hook: no training calls it; did you mean 'after_e") as caught:
            refuse()
        assert "\n" not in str(caught.value)


def test_methods_of_its_own_and_those_of_another_base_are_no_misspelt_hooks() -> None:
    for name in ("Helpful", "ServesTwoFrameworks"):
        require_callback(CallbackConfig(name=f"{BROKEN}:{name}"))
    for name in ("Noise", "FullDiary", "StatelessNoise"):
        require_callback(CallbackConfig(name=f"{MADE}:{name}"))


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (['train.callbacks=["diary"]'], "should be"),
        ([f'train.callbacks=["{MADE}:Nois"]'], "no 'Nois' there; did you mean 'Noise'?"),
        ([f'train.callbacks=[{{"name":"{MADE}:Noise","options":{{"sise":1}}}}]'], "did you mean 'size'?"),
        ([f'train.callbacks=["{MADE}:Noise","{MADE}:Noise"]'], "train.callbacks names two callbacks 'Noise'"),
        (['train.callbacks=["mylab:val"]'], "train.callbacks: 'val' is measured already"),
    ],
)
def test_a_recipe_names_callbacks_that_are_there(words: list[str], rule: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe().override(parse_overrides(words))
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)


def test_source_options_and_order_are_in_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "user_callbacks_a.py"
    path.write_text("def one(*, size: int = 2): ...\ndef two(): ...\n")
    one, two = "user_callbacks_a:one", "user_callbacks_a:two"
    plain = Recipe().override({"train.callbacks": [one, two]})
    before = plain.digest()
    assert plain.override({"train.callbacks": [{"name": one, "options": {"size": 2}}, two]}).digest() == before
    assert plain.override({"train.callbacks": [{"name": one, "options": {"size": 3}}, two]}).digest() != before
    assert plain.override({"train.callbacks": [two, one]}).digest() != before
    assert [each["name"] for each in plain.active()["train"]["callbacks"]] == [one, two]
    path.write_text(path.read_text() + "# changed\n")
    extension.describe_version.cache_clear()
    assert plain.digest() != before


def test_hooks_of_a_step_make_steps_eager_and_others_do_not() -> None:
    assert callbacks("Diary").why_eager == ""
    assert callbacks("Diary", "Noise").why_eager == "train.callbacks: each step calls Noise"
    assert callbacks("FullDiary", "Noise").why_eager == "train.callbacks: each step calls FullDiary, Noise"
    assert not Callbacks(())


def test_a_hook_of_the_object_counts_like_one_of_its_class() -> None:
    class Counting(Callback):
        def __init__(self) -> None:
            self.after_step = lambda run: None  # type: ignore[method-assign]

    assert _overrides(Counting(), "after_step")
    assert not _overrides(Counting(), "after_backward")


@pytest.mark.parametrize("asked", [{"graph": True}, {"compile": True}], ids=["as a graph", "compiled"])
def test_the_journal_says_why_steps_are_eager(
    asked: dict[str, bool], few_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "cifar_lab.execution.worker.compiled", lambda net: pytest.fail("a step with callbacks is not compiled")
    )
    job = job_with(tmp_path, few_images, "Noise")
    assert train_cell(replace(job, execution=replace(job.execution, **asked)))
    whys = [event.why for event in read_events(job.record.folder) if isinstance(event, EagerEvent)]
    assert len(whys) == 1
    assert asked != {"compile": True} or whys == ["train.callbacks: each step calls Noise"]


@pytest.mark.parametrize(
    ("diff", "why"),
    [
        ({}, ""),
        ({"train.callbacks": [f"{MADE}:Diary"]}, ""),
        ({"train.callbacks": [f"{MADE}:Noise"]}, "train.callbacks: each step calls Noise"),
        ({"optim.sam.rho": 0.05}, ""),
        ({"model.stochastic_depth": 0.2}, ""),
        (
            {"optim.sam.rho": 0.05, "model.stochastic_depth": 0.2},
            "sharpness-aware minimization seeds dropout's generator twice in a step",
        ),
    ],
    ids=["plain", "epochs", "steps", "sam", "depth", "sam and depth"],
)
def test_a_graph_is_refused_for_hooks_of_a_step_and_repeated_draws(diff: dict[str, object], why: str) -> None:
    run = trainer(Recipe().override({**SMALL, **diff}))
    on_a_gpu = SimpleNamespace(**{**vars(run), "device": torch.device("cuda"), "rate": torch.zeros(())})
    assert why_no_graph(on_a_gpu) == why  # type: ignore[arg-type]


def test_random_numbers_depend_on_purpose_epoch_and_step() -> None:
    run = trainer(Recipe().override(SMALL))

    def drawn(purpose: str, epoch: int, step: int) -> float:
        run.epoch, run.step = epoch, step
        return torch.rand(1, generator=run.random(purpose)).item()

    assert drawn("noise", 1, 2) == drawn("noise", 1, 2)
    assert len({drawn("noise", 1, 2), drawn("noise", 2, 1), drawn("noise", 1, 3), drawn("masks", 1, 2)}) == 4


def test_the_contract_check_accepts_what_resumes_and_catches_what_does_not() -> None:
    check_callback(f"{MADE}:Noise", {"size": 0.1})
    check_callback(f"{MADE}:Diary")
    with pytest.raises(AssertionError, match="a resumed training ends with other numbers"):
        check_callback(f"{MADE}:StatelessNoise")
    with pytest.raises(AssertionError, match="the same recipe and seed give other numbers"):
        check_callback(f"{MADE}:GlobalNoise")
    with pytest.raises(CellError, match="the state of AlienState holds set"):
        check_callback(f"{MADE}:AlienState")


def test_a_record_names_callbacks_without_importing_them() -> None:
    tree = Recipe().model_dump(mode="json")
    tree["train"]["callbacks"] = [{"name": "no_such_package:callback", "options": {}}]
    assert Recipe.model_validate_json(json.dumps(tree)).train.callbacks[0].key == "callback"
