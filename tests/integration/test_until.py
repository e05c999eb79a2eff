"""`run-ablation --until-decided`: seeds are added by a rule, and only for what is not decided."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made import records
from scipy import stats

from cifar_lab.cli import run
from cifar_lab.results.stats.group_sequential import levels, looks, moderated_boundaries
from cifar_lab.results.stats.moderated import critical_value
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import read_invocation

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
    tree = json.loads(capsys.readouterr().out)
    found = {row["variant"]: row for row in tree["rows"]}
    assert rules[0]["family"] == "control"
    assert (tree["design"], tree["stopping"]["critical"]) == ("moderated", rules[0]["critical"])
    for name, look, seeds in (("slow", 0, 5), ("drop", 2, 12)):
        row = found[name]
        assert (row["pairs"], row["critical"], row["level"]) == (seeds, rules[0]["critical"][look], None)
        half = row["critical"] * row["deviation"] / seeds**0.5
        assert row["interval"] == pytest.approx([row["difference"] - half, row["difference"] + half])


def test_the_rule_has_the_boundaries_of_its_family(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish_all(cells(capsys), {"slow": -0.3})
    ended(capsys)
    assert notes(here)[0]["stopping"]["critical"] == list(moderated_boundaries(looks(12), 2, "control", 1 - 0.95))
    assert notes(here)[0]["design"] == "moderated"
    assert run(["compare", "three", "--ablations", "mine", "--all"]) == 0
    values = ", ".join(f"{value:.2f}" for value in notes(here)[0]["stopping"]["critical"])
    assert f"± {values} moderated standard errors" in capsys.readouterr().out


def test_a_rule_of_one_difference_has_students_boundaries(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "".join(each for each in ABLATION.splitlines(keepends=True) if "dropout" not in each or "factors" in each)
    text = text.replace('("optim.lr", "model.dropout")', '("optim.lr",)')
    (here / "mine" / "three.py").write_text(text)
    finish_all(cells(capsys), {"slow": -0.3})
    ended(capsys)
    rule = notes(here)[0]["stopping"]
    assert (rule["family"], rule["critical"], rule["levels"]) == (None, [], list(levels(looks(12), 1 - 0.95)))


OLD_RULE = Path(records.__file__).parent / "old_rule"
"""Notes of a study that began when rules had Student's boundaries; its cells were made by `finish_all`."""


def test_a_rule_that_began_with_students_boundaries_keeps_them_and_goes_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish_all(cells(capsys), {"slow": -0.3})
    shutil.copytree(OLD_RULE, here / "runs" / "invocations")
    before = [note["stopping"] for note in notes(here)]
    assert all("critical" not in rule for rule in before)
    ended(capsys)
    assert run(["compare", "three", "--ablations", "mine", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["design"], tree["stopping"]["critical"], tree["stopping"]["seen"]) == ("student", [], 3)
    for row, look, seeds in zip(tree["rows"][1:], (0, 2), (5, 12), strict=True):
        level, critical = before[0]["levels"][look], row["critical"]
        pairs = list(row["differences"].values())
        expected = stats.ttest_1samp(pairs, 0).confidence_interval(level)
        assert (len(pairs), critical, row["level"]) == (seeds, None, level)
        assert row["interval"] == pytest.approx((expected.low, expected.high))
    printed = [f"{100 * end:.2f}" for row in tree["rows"][1:] for end in row["interval"]]
    assert printed == ["-32.78", "-27.30", "-1.40", "1.40"], "what the version that began the study printed"


def test_a_study_that_began_with_students_intervals_gets_no_moderated_rule(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish_all(cells(capsys), {"slow": -0.3})
    (here / "runs" / "invocations").mkdir(parents=True)
    path = min(OLD_RULE.iterdir())
    first = read_invocation(path)
    assert first is not None
    replace(first, stopping=None).write(here / "runs")
    ended(capsys)
    assert notes(here)[-1]["stopping"]["critical"] == []
    assert notes(here)[-1]["design"] == "student"


def plan_until(*more: str) -> list[str]:
    return ["plan", "three", "--ablations", "mine", "--scale", "smoke", "--until-decided", "--max-seeds", "12", *more]


def test_plan_says_what_a_rule_will_take_and_say(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(plan_until("--json")) == 0
    tree = json.loads(capsys.readouterr().out)
    rule = tree["stopping"]
    assert (rule["looks"], len(rule["critical"]), rule["comparisons_asked"]) == ([5, 8, 12], 3, 2)
    assert len(tree["cells"]) == 36
    assert [each["difference"] for each in rule["chances"]] == pytest.approx([0, 0.01, 0.02, 0.04])
    for each in rule["chances"]:
        assert sum(each[name] for name in ("better", "worse", "equivalent", "undecided")) == pytest.approx(1)
        assert 5 <= each["seeds"] <= 12
    assert run(plan_until()) == 0
    shown = capsys.readouterr().out
    assert "looks after 5, 8, 12 seeds; intervals ±" in shown
    assert "36 cells at most" in shown
    rows = [line.split() for line in shown.splitlines() if line.strip().startswith("+")]
    assert [row[0] for row in rows] == ["+0.00", "+1.00", "+2.00", "+4.00"]
    assert [row[1] for row in rows] == [f"{100 * each['better']:.1f}" for each in rule["chances"]]
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--until-decided", "--max-seeds", "11"], "needs 12 at least"),
        (["--until-decided", "--seeds", "0-3"], "leave --seeds out"),
        (["--max-seeds", "12"], "goes with --until-decided"),
    ],
)
def test_plan_refuses_options_that_make_no_rule(
    options: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan", "three", "--ablations", "mine", "--scale", "smoke", *options]) == 2
    assert said in capsys.readouterr().err
    assert here.exists()


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
    monkeypatch.setattr("cifar_lab.cli.until_decided.is_terminal", lambda _: True)
    monkeypatch.setattr("cifar_lab.cli.prompt.is_terminal", lambda _: True)
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
    assert [row["critical"] for row in tree["rows"] if row["critical"]] == [critical_value(2, 12)] * 2
    assert [row["pairs"] for row in tree["rows"] if row["critical"]] == [12, 12]
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
