"""`describe recipe`: every field, as it is typed, with its range."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cifar_lab.cli import run
from cifar_lab.cli.recipe_fields import fields
from cifar_lab.config.overrides import parse_overrides
from cifar_lab.config.recipe import Recipe, paths


def test_every_field_has_one_line() -> None:
    assert [field.path for field in fields()] == list(paths())
    assert len({field.line for field in fields()}) == len(list(paths())), "each has its own"
    assert all(field.line.endswith(".") and "\n" not in field.line for field in fields())


def test_defaults_are_those_of_a_recipe() -> None:
    assert parse_overrides([f"{field.path}={field.default}" for field in fields()]) == Recipe().flat()


@pytest.mark.parametrize(
    ("path", "range"),
    [
        ("model.blocks", "list of 1 to 5, each 1 or more"),
        ("model.kernel", "1 to 11 or list, each 1 to 11"),
        ("model.extra_fc", "1 or more or none"),
        ("model.dropout", "0 to below 1"),
        ("model.se.placement", "none, stem, block"),
        ("data.flip", "true, false"),
        ("data.policy.name", "none, autoaugment, randaugment, trivialaugment, augmix"),
        ("data.random_erasing.area", "list of 2, each above 0, up to 1"),
        ("data.augmentations", "list, each module:function"),
        ("data.val_fraction", "above 0, below 1"),
        ("optim.lr", "above 0"),
        ("optim.lookahead.alpha", "above 0, up to 1"),
        ("schedule.milestones", "list, each 0 to 1"),
        ("train.batch_size", "1 to 1,000,000"),
        ("init_from", "fingerprint or none"),
        ("train.metrics", "list, each top5, or module:function"),
        ("train.callbacks", "list, each module:function"),
        ("train.swa.rate", "above 0 or none"),
    ],
)
def test_ranges_are_in_words(path: str, range: str) -> None:
    assert {field.path: field.range for field in fields()}[path] == range


def test_a_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["describe", "recipe"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["path", *paths()], "one line each where no terminal wraps them"
    assert run(["describe", "recipe", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree[0] == {
        "path": "model.blocks", "default": "[4,4,3]", "range": "list of 1 to 5, each 1 or more",
        "line": "Residual blocks of each layer.",
    }  # fmt: skip


def test_an_ablation_of_that_name_goes_first(
    tmp_path: Path, tiny_ablation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.py").write_text((tiny_ablation / "tiny.py").read_text())
    assert run(["describe", "recipe", "--ablations", str(tmp_path)]) == 0
    assert "Does dropout matter" in capsys.readouterr().out
