"""Grouping of invocations into settings, and the options that select each of them."""

from __future__ import annotations

from typing import Any

from cifar_lab.run.setting import again, choose, selector
from cifar_lab.tracking.invocation import read_all

SYNTHETIC = {"name": "synthetic", "kind": "synthetic", "hash": "5" * 64, "source": "synthetic"}


def test_a_plain_setting_goes_first_where_scale_or_data_is_typed_without_overrides(runs: Any) -> None:
    plain = runs.study()
    changed = runs.study(recipe="b", overrides={"train.epochs": 3})
    assert choose(runs.folder, "se_ratio").latest.id == changed, "nothing is typed: the latest"
    for scale, data in (("small", None), (None, "cifar10")):
        setting = choose(runs.folder, "se_ratio", scale=scale, data=data)
        assert (setting.latest.id, [other.id for other in setting.others]) == (plain, [changed])
    assert choose(runs.folder, "se_ratio", scale="small", overrides={"train.epochs": 3}).latest.id == changed


def test_where_no_setting_is_plain_the_latest_that_matches_is_read(runs: Any) -> None:
    runs.study(recipe="a", overrides={"train.epochs": 3})
    latest = runs.study(recipe="b", overrides={"train.epochs": 4})
    runs.study(recipe="c", data=SYNTHETIC)
    assert choose(runs.folder, "se_ratio", data="cifar10").latest.id == latest


def test_what_a_hint_prints_selects_that_setting_and_no_other(runs: Any) -> None:
    first = runs.study(baseline="old")
    runs.study(recipe="b", baseline="new")
    (other,) = choose(runs.folder, "se_ratio").others
    assert selector(other) == f"--invocation {first} (--scale small --data cifar10)"
    assert choose(runs.folder, "se_ratio", invocation=first).latest.id == first


def test_a_command_is_typed_again_without_what_it_undid(runs: Any) -> None:
    runs.ask([], command="cifar-lab run-ablation se_ratio --json --redo abc --redo=def --seeds 0-2 --runs 'my runs'")
    assert again(read_all(runs.folder)[0]) == "cifar-lab run-ablation se_ratio --seeds 0-2 --runs 'my runs'"
