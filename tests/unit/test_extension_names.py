"""Registered names of extensions: one that two packages claim, one that is built in, and broken ones among others."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cifar_lab import extension
from cifar_lab.ablation.ablation import single_recipe
from cifar_lab.cli import run
from cifar_lab.config.overrides import parse_overrides
from cifar_lab.config.recipe import Recipe
from cifar_lab.config.recipe_file import read_recipe
from cifar_lab.config.scale import find_scale
from cifar_lab.data import load, require_source
from cifar_lab.errors import DataError, RecipeError, UsageError
from cifar_lab.execution.request import RequestArguments, check_request, read_data
from cifar_lab.testing import (
    check_augmentation,
    check_dataset,
    check_metric,
    check_model,
    check_optimizer,
    check_schedule,
)

MADE = "made.extensions"
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with entry points of the groups where Python looks."""

    def installed(package: str, **groups: dict[str, str]) -> None:
        info = tmp_path / f"site-{package}" / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = []
        for group, points in groups.items():
            lines += [f"[cifar_lab.{group}]", *(f"{name} = {value}" for name, value in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(str(info.parent))

    return installed


@pytest.fixture
def clash(install: Install) -> None:
    """Two packages that register `tiny` and `blobs` differently, and `same` alike."""
    install("lab_a", models={"tiny": f"{MADE}:Tiny", "same": f"{MADE}:Tiny", "only": f"{MADE}:Tiny"},
            datasets={"blobs": f"{MADE}:blobs"})  # fmt: skip
    install("lab_b", models={"tiny": f"{MADE}:only_three", "same": f"{MADE}:Tiny"},
            datasets={"blobs": f"{MADE}:broken_blobs"})  # fmt: skip


def test_a_name_of_two_packages_is_refused_and_all_others_work(clash: None) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe().override({"model.name": "tiny"})
    assert str(caught.value) == (
        f'model.name="tiny": is registered by lab_a as {MADE}:Tiny and by lab_b as {MADE}:only_three; '
        "give module:function"
    )
    for name in ("same", "only", f"{MADE}:Tiny"):
        assert Recipe().override({"model.name": name}).model.name == f"{MADE}:Tiny"
    assert set(extension.registered("models")) == {"same", "only"}


@pytest.mark.parametrize("call", [load, require_source])
def test_a_data_set_of_two_packages_is_refused(clash: None, call: Callable[[str], Any]) -> None:
    with pytest.raises(DataError) as caught:
        call("blobs?side=16")
    assert str(caught.value) == (
        f"data 'blobs?side=16': is registered by lab_a as {MADE}:blobs and by lab_b as {MADE}:broken_blobs; "
        "give module:function"
    )
    assert load(f"{MADE}:blobs?side=16").shape.side == 16


def test_names_of_data_sets_need_not_be_identifiers(install: Install) -> None:
    install("lab_a", datasets={"my-blobs": f"{MADE}:blobs"})
    assert load("my-blobs?side=16").shape.side == 16


def test_doctor_names_each_that_cannot_be_used_and_those_that_can(
    clash: None, install: Install, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    (folder / "leaving.py").write_text("raise SystemExit('no licence')\n")
    broken = {"gone": "no_such_package:net", "left": "leaving:net", "odd": "no_target", "resnet": f"{MADE}:Tiny"}
    install("lab_c", models=broken, datasets={"cifar10": f"{MADE}:blobs"}, optimizers={"signed": f"{MADE}:Signed"})
    assert run(["doctor", "--json", "--device", "cpu"]) == 1
    rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)}
    models = rows["own models"]
    assert not models["ok"]
    for reason in (
        "models gone: models no_such_package:net: ModuleNotFoundError: No module named 'no_such_package'",
        "models left: models leaving:net: SystemExit: no licence",
        "models odd: 'no_target' does not read module:function",
        f"models tiny: is registered by lab_a as {MADE}:Tiny and by lab_b as {MADE}:only_three; give module:function",
        f"models resnet: is built in, so that this name never means {MADE}:Tiny of lab_c; give module:function",
    ):
        assert reason in models["found"]
    assert models["found"].endswith(f"; only = {MADE}:Tiny, same = {MADE}:Tiny")
    assert models["found"].count("is registered by") == 1
    assert f"datasets cifar10: is built in, so that this name never means {MADE}:blobs" in rows["own datasets"]["found"]
    assert rows["own optimizers"]["ok"]
    assert rows["own optimizers"]["found"] == f"signed = {MADE}:Signed"


def test_the_use_of_a_built_in_name_that_a_package_registers_too_warns(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("lab_a", models={"resnet": f"{MADE}:Tiny"}, optimizers={"adam": f"{MADE}:Signed"},
            datasets={"synthetic": f"{MADE}:blobs"})  # fmt: skip
    typed = RequestArguments(find_scale("smoke"), {}, variants=None, seeds=None, max_params=5_000_000)
    with caplog.at_level(logging.WARNING, "cifar_lab"):
        check_request(single_recipe("own", Recipe(), "a test"), typed)
        read_data("synthetic", print)
    assert [record.getMessage() for record in caplog.records] == [
        f"warning: models resnet: is built in, so that this name never means {MADE}:Tiny of lab_a; "
        "give module:function",
        f"warning: datasets synthetic: is built in, so that this name never means {MADE}:blobs of lab_a; "
        "give module:function",
    ]
    assert Recipe().model.name == "resnet"


def test_authors_checks_take_registered_names(clash: None, install: Install) -> None:
    install("lab_c", optimizers={"signed": f"{MADE}:Signed"}, metrics={"top_k": f"{MADE}:top_k"},
            augmentations={"grey": f"{MADE}:grey"}, schedules={"halves": f"{MADE}:HALVES"},
            datasets={"shapes": f"{MADE}:blobs"})  # fmt: skip
    assert check_model("only", {"width": 6}) == check_model(f"{MADE}:Tiny", {"width": 6})
    check_optimizer("signed")
    check_metric("top_k", {"k": 3})
    check_augmentation("grey")
    check_schedule("halves")
    assert check_dataset("shapes?side=20").shape.side == 20
    for check, name, rule in (
        (check_model, "onyl", "no extension of models is registered as 'onyl'; did you mean 'only'?"),
        (check_metric, "topk", "no extension of metrics is registered as 'topk'; did you mean 'top_k'?"),
        (check_dataset, "shape?side=20", "no extension of datasets is registered as 'shape'; did you mean 'shapes'?"),
        (check_model, "resnet", "no extension of models is registered as 'resnet'; one of: only, same"),
    ):
        with pytest.raises(AssertionError) as caught:
            check(name)  # type: ignore[operator]
        assert str(caught.value).splitlines()[0] == rule
    with pytest.raises(RecipeError, match=r"^models tiny: is registered by lab_a as .*; give module:function$"):
        check_model("tiny")


def test_a_misspelt_data_set_leads_to_a_registered_one(install: Install, folder: Path) -> None:
    install("lab_a", datasets={"shapes": f"{MADE}:blobs"})
    for typed in ("shape", "shape?side=20", "Shapes"):
        with pytest.raises(DataError, match=r"can be reached; did you mean 'shapes'\?$"):
            require_source(typed)


def test_an_unknown_option_is_named_before_one_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "names_required.py").write_text("def net(*, classes: int, width: int, depth: int): ...\n")
    monkeypatch.chdir(tmp_path)
    for options, rule in (
        ({"wdith": 8}, "no option 'wdith'; did you mean 'width'?"),
        ({"depth": 8}, "the option 'width' is missing"),
    ):
        with pytest.raises(RecipeError) as caught:
            extension.check_options("models", "names_required:net", options)
        assert str(caught.value) == f"models names_required:net: {rule}"


def test_an_option_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^data '.*side=16&side=12': the option 'side' is given twice$"):
        load(f"{MADE}:blobs?side=16&side=12")
    with pytest.raises(RecipeError, match=r"^model.options: 'width' is set twice$"):
        parse_overrides([f"model.name={MADE}:Tiny", 'model.options={"width":8,"width":4}'])
    (tmp_path / "recipe.json").write_text('{"train": {"epochs": 3, "epochs": 4}}')
    with pytest.raises(UsageError, match=r"^recipe .*recipe.json: 'epochs' is set twice$"):
        read_recipe(tmp_path / "recipe.json")
