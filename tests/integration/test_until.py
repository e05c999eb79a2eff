"""`run-ablation --until-decided`: seeds are added by a rule, and only for what is not decided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made import records

from cifar_lab.cli import run
from cifar_lab.results.stats.group_sequential import looks
from cifar_lab.store.cell_record import CellRecord

ABLATION = '''
"""Two rates and a dropout."""
from cifar_lab.ablation.ablation import Ablation, Variant
from cifar_lab import RESNET18

ABLATION = Ablation(
    question="Which?", source="here", baseline=RESNET18.override({"model.width": 32, "model.blocks": (1, 1)}),
    factors=("optim.lr", "model.dropout"),
    variants=(
        Variant(name="plain"),
        Variant(name="slow", diff={"optim.lr": 0.001}),
        Variant(name="drop", diff={"model.dropout": 0.1}),
    ),
    control="plain", margins={"smoke": 1.0},
)
'''
NOISE = (0.010, -0.012, 0.008, -0.009, 0.011, -0.010, 0.012, -0.008, 0.009, -0.011, 0.010, -0.010)
WAVE = (0.011, 0.009, -0.012, -0.010, 0.008, 0.012, -0.009, -0.011, 0.010, 0.010, -0.008, -0.010)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "three.py").write_text(ABLATION)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def line(*more: str) -> list[str]:
    return ["run-ablation", "three", "--ablations", "mine", "--scale", "smoke", "--offline", "-y", *more]


def cells(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Every cell that there may be."""
    assert run(["plan", "three", "--ablations", "mine", "--scale", "smoke", "--seeds", "0-11", "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["cells"]
    return found


def finish(cell: dict[str, Any], accuracy: float, status: str = "finished") -> None:
    """Write the record of a trained cell with this test accuracy."""
    record = CellRecord(Path("runs").resolve() / cell["fingerprint"])
    records.begin(record, seed=cell["seed"])
    metrics = {"seconds": 1.0, "images_seen": 1.0} | ({"test/acc": accuracy} if status == "finished" else {})
    records.end(record, metrics, status=status)


def finish_all(found: list[dict[str, Any]], shift: dict[str, float]) -> None:
    for cell in found:
        wave = NOISE if cell["variant"] == "plain" else WAVE
        finish(cell, 0.5 + shift.get(cell["variant"], 0.0) + wave[cell["seed"]])


def ended(capsys: pytest.CaptureFixture[str], *more: str) -> tuple[dict[str, Any], str]:
    assert run(line("--until-decided", "--max-seeds", "12", "--json", *more)) == 0
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def notes(here: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((here / "runs" / "invocations").glob("*.json"))]


def seeds_of(tree: dict[str, Any]) -> dict[str, int]:
    return {name: sum(cell["variant"] == name for cell in tree["cells"]) for name in ("plain", "slow", "drop")}


def test_a_clear_variant_stops_at_the_first_look_and_an_open_one_goes_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish_all(cells(capsys), {"slow": -0.3})
    tree, said = ended(capsys)
    assert seeds_of(tree) == {"plain": 12, "slow": 5, "drop": 12}
    assert (tree["trained"], tree["reused"]) == (0, 29)
    assert "look 1 of 3, 5 seeds: slow worse, drop undecided" in said


def test_a_rule_that_is_begun_on_results_says_how_many_were_seen(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish_all(cells(capsys), {"slow": -0.3})
    assert run(line("--seeds", "0-2", "--json")) == 0
    capsys.readouterr()
    ended(capsys)
    assert notes(here)[-1]["stopping"]["before"] == 3
    assert run(["compare", "three", "--ablations", "mine"]) == 0
    assert "3 seeds were compared before the rule was begun" in capsys.readouterr().out


def test_the_margin_of_a_rule_cannot_be_changed_after_results(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish_all(cells(capsys), {"slow": -0.3})
    ended(capsys)
    (here / "mine" / "three.py").write_text(ABLATION.replace('"smoke": 1.0', '"smoke": 4.0'))
    assert run(line("--until-decided", "--max-seeds", "12")) == 2
    assert "declares a margin of 4 points, and the rule of these cells was begun with 1" in capsys.readouterr().err


def test_where_all_is_decided_no_seed_is_added(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish_all(cells(capsys), {"slow": -0.3, "drop": 0.3})
    tree, _ = ended(capsys)
    assert seeds_of(tree) == {"plain": 5, "slow": 5, "drop": 5}


def test_a_variant_that_diverged_is_decided(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for cell in cells(capsys):
        wave = NOISE if cell["variant"] == "plain" else WAVE
        shift, status = {"plain": (0.0, "finished"), "drop": (0.3, "finished"), "slow": (0.0, "diverged")}[
            cell["variant"]
        ]
        finish(cell, 0.5 + shift + wave[cell["seed"]], status)
    tree, said = ended(capsys)
    assert seeds_of(tree) == {"plain": 5, "slow": 5, "drop": 5}
    assert "slow diverged" in said


def test_the_rule_is_written_before_the_first_cell_and_compare_reads_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish_all(cells(capsys), {"slow": -0.3})
    ended(capsys)
    rules = [note["stopping"] for note in notes(here)]
    assert all(rule == rules[0] for rule in rules)
    assert (rules[0]["looks"], rules[0]["comparisons"], rules[0]["confidence"]) == (list(looks(12)), 2, 0.95)
    assert run(["compare", "three", "--ablations", "mine", "--json"]) == 0
    found = {row["variant"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert (found["slow"]["pairs"], found["slow"]["level"]) == (5, rules[0]["levels"][0])
    assert (found["drop"]["pairs"], found["drop"]["level"]) == (12, rules[0]["levels"][2])


def test_a_rule_cannot_be_changed_once_it_was_begun(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish_all(cells(capsys), {"slow": -0.3})
    ended(capsys)
    before = len(notes(here))
    assert run(line("--until-decided", "--max-seeds", "16")) == 2
    assert "fixed before its first look" in capsys.readouterr().err
    assert len(notes(here)) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--until-decided", "--max-seeds", "11"], "needs 12 at least"),
        (["--until-decided", "--max-seeds", "0"], "needs 12 at least"),
        (["--until-decided", "--seeds", "0-3"], "leave --seeds out"),
        (["--max-seeds", "12"], "goes with --until-decided"),
    ],
)
def test_options_that_make_no_rule_are_refused(
    options: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line(*options)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert not (here / "runs" / "invocations").exists()


@pytest.mark.slow
def test_only_what_is_missing_is_trained_for_each_look(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for cell in cells(capsys):
        if cell["seed"] < 4 and cell["variant"] != "drop":
            finish(cell, 0.5 + NOISE[cell["seed"]])
    tree, _ = ended(capsys, "--variants", "plain,slow", "train.epochs=1")
    assert tree["trained"] + tree["reused"] == len(tree["cells"])
    assert {cell["state"] for cell in tree["cells"]} <= {"finished", "diverged"}


# The rule is fixed, and can be dropped


def fixed(*more: str, code: int = 0) -> None:
    assert run(line("--seeds", "0-11", "--json", *more)) == code


def compared(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["compare", "three", "--ablations", "mine", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_beforehand_it_says_that_the_rule_is_fixed_and_asks_where_somebody_can_answer(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_all(cells(capsys), {"slow": -0.3, "drop": 0.3})
    asked = [word for word in line("--until-decided", "--max-seeds", "12") if word != "-y"]
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    assert run(asked) == 1
    said = capsys.readouterr().err
    assert "looks after 5, 8, 12 seeds, 12 at most; this rule is fixed once it is begun" in said
    assert not (here / "runs" / "invocations").exists()
    monkeypatch.setattr("typer.confirm", lambda *_, **__: True)
    assert run(asked) == 0
    monkeypatch.setattr("typer.confirm", lambda *_, **__: pytest.fail("it was begun: nothing is asked"))
    assert run(asked) == 0


def test_fixed_seeds_keep_the_rule_until_it_is_dropped_and_then_tables_say_so(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish_all(cells(capsys), {"slow": -0.3})
    ended(capsys)
    fixed()
    assert compared(capsys)["stopping"]["dropped"] is False
    fixed("--drop-rule")
    assert [note["stopping_dropped"] for note in notes(here)][-2:] == [False, True]
    assert notes(here)[-1]["stopping"] is None
    tree = compared(capsys)
    assert tree["stopping"]["dropped"] is True
    assert [row["level"] for row in tree["rows"] if row["level"]] == pytest.approx([0.95**0.5] * 2)
    assert [row["pairs"] for row in tree["rows"] if row["level"]] == [12, 12]
    assert run(["compare", "three", "--ablations", "mine"]) == 0
    assert "a stopping rule was dropped after results were seen" in capsys.readouterr().out
    fixed("--drop-rule")
    assert run(line("--until-decided", "--max-seeds", "12")) == 2
    assert "was dropped" in capsys.readouterr().err


def test_a_rule_that_was_never_begun_is_not_dropped(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line("--drop-rule", "--seeds", "0")) == 2
    assert "no stopping rule was begun" in capsys.readouterr().err
    assert run(line("--drop-rule", "--until-decided")) == 2
    assert not (here / "runs" / "invocations").exists()


def test_the_usual_most_seeds_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run-ablation", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.partition("--max-seeds K")[2].split())
    assert shown.startswith("With --until-decided: the most seeds, 12 or more. [default: (20)]")
