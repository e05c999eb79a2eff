"""Grouping of invocations into settings, and the options that select each of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from made import records

from cifar_lab.data import load
from cifar_lab.errors import TrackingError
from cifar_lab.store.record_files import DataSource
from cifar_lab.store.selection import select, selector


def test_a_plain_setting_goes_first_where_scale_or_data_is_typed_without_overrides(runs: Any) -> None:
    plain = runs.study()
    changed = runs.study(recipe="b", overrides={"train.epochs": 3})
    assert select(runs.folder, "se_ratio").latest.id == changed, "nothing is typed: the latest"
    for scale, data in (("small", None), (None, "cifar10")):
        setting = select(runs.folder, "se_ratio", scale=scale, data=data)
        assert (setting.latest.id, [other.id for other in setting.others]) == (plain, [changed])
    assert select(runs.folder, "se_ratio", scale="small", overrides={"train.epochs": 3}).latest.id == changed


def test_where_no_setting_is_plain_the_latest_that_matches_is_read(runs: Any) -> None:
    runs.study(recipe="a", overrides={"train.epochs": 3})
    latest = runs.study(recipe="b", overrides={"train.epochs": 4})
    runs.study(recipe="c", data=records.SYNTHETIC)
    assert select(runs.folder, "se_ratio", data="cifar10").latest.id == latest


def test_the_same_images_at_another_path_select_the_setting(runs: Any, few_images: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(few_images, tmp_path / "copy")
    there = DataSource(name="images", kind="images", hash=load(str(few_images)).hash, source=str(few_images))
    wanted = runs.study(data=there)
    runs.study(recipe="b")
    assert select(runs.folder, "se_ratio", data=str(copy)).latest.id == wanted
    for part in ("test", "train"):
        next((copy / part / "class0").iterdir()).unlink()
    for other in (copy, tmp_path, tmp_path / "nowhere"):
        with pytest.raises(TrackingError, match="never as asked for"):
            select(runs.folder, "se_ratio", data=str(other))


def test_what_a_hint_prints_selects_that_setting_and_no_other(runs: Any) -> None:
    first = runs.study(baseline="old")
    runs.study(recipe="b", baseline="new")
    (other,) = select(runs.folder, "se_ratio").others
    assert selector(other) == f"--invocation {first} (--scale small --data cifar10)"
    assert select(runs.folder, "se_ratio", invocation=first).latest.id == first
