"""`verify` as a user types it, on cells that are written by hand."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from made import records
from rich.console import Console

from cifar_lab.ablation import registry
from cifar_lab.cli import console, run
from cifar_lab.config.recipe import Recipe
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.record_files import DataSource

WIDTH = 100
JPEG = DataSource(name="cifar10-jpeg", kind="path", hash="d" * 64, source="/images/cifar10-jpeg.zip")
AS_CLAIMED: dict[str, Any] = {"scale": "writeup", "protocol": "writeup", "overrides": {"train.protocol": "writeup"}}
BUILT_IN = [ablation for ablation in registry.discover() if ablation.claims]

STUDY = '''"""Does dropout matter?"""

from cifar_lab.ablation.ablation import Ablation, Claim, Variant
from cifar_lab import EFFICIENT_RESNET

ABLATION = Ablation(
    question="Does dropout matter?",
    source="the tests",
    baseline=EFFICIENT_RESNET,
    factors=("model.dropout",),
    variants=(Variant(name="off"), Variant(name="on", diff={"model.dropout": 0.2})),
    control="off",
    claims=(
        Claim(quote="dropout [bold]helps[/]", source="a paper", better="on", worse="off"),
        Claim(quote="it makes no difference", source="another", better="on", worse="off", relation="alike"),
        Claim(quote="90 %", source="a paper", better="on", relation="reaches", accuracy=90),
    ),
)
'''


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder with one ablation of one's own, `mine`, and a terminal of a hundred columns."""
    (folder / "ablations").mkdir()
    (folder / "ablations" / "mine.py").write_text(STUDY)
    monkeypatch.setenv("CIFAR_LAB_ABLATIONS", str(folder / "ablations"))
    monkeypatch.setattr(console, "out", Console(highlight=False, width=WIDTH))


def ended(accuracies: dict[str, list[float]], ablation: str = "mine", **changed: Any) -> None:
    """Write the records of an invocation of `run-ablation` with these accuracies, one per seed."""
    setting = {"scale": "small", "protocol": "holdout", "data": records.CIFAR10, "overrides": {}, **changed}
    metric = "test/peak_acc" if setting["protocol"] == "writeup" else "test/acc"
    cells = []
    for variant, values in accuracies.items():
        for seed, value in enumerate(values):
            name = hashlib.sha256(f"{ablation}/{setting['scale']}/{variant}/{seed}".encode()).hexdigest()
            record = CellRecord(Path("runs").resolve() / name)
            records.begin(record, seed=seed, recipe=Recipe().override({"train.protocol": setting["protocol"]}))
            metrics = {metric: value, "val/auc": value, "seconds": 1.0, "images_seen": 1.0}
            records.end(record, metrics, epoch=3)
            cells.append(records.cell_ref(name, variant, seed))
    notes = Path("runs/invocations")
    asked = len(list(notes.glob("*.json"))) if notes.exists() else 0
    records.invocation(
        *cells, id=f"20261122T2100{asked:02}.000-{ablation}", ablation=ablation, control="off",
        margin=0.002 if setting["scale"] == "writeup" else 0.005, **setting,
    ).write(Path("runs").resolve())  # fmt: skip


def better(by: float = 0.01) -> dict[str, list[float]]:
    """`on` is ahead of `off` by about this much, around 90 %."""
    on = [0.8995, 0.9005, 0.9000, 0.9010]
    return {"off": [value - by - noise for value, noise in zip(on, (0, 0.001, 0.0005, 0), strict=True)], "on": on}


def said(capsys: pytest.CaptureFixture[str], *line: str, code: int = 0) -> str:
    assert run(["verify", *line]) == code
    return capsys.readouterr().out


def found(capsys: pytest.CaptureFixture[str], *line: str, code: int = 0) -> list[dict[str, Any]]:
    assert run(["verify", *line, "--json"]) == code
    tree: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return tree


# What it says


def test_claims_as_claimed_are_supported_or_refuted_and_a_refuted_one_is_exit_code_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended(better(), **AS_CLAIMED)
    text = said(capsys, "mine", code=1)
    assert re.search(r"on > off +supported +\+1\.04 \[\+0\.96, \+1\.11\] points over 4 pairs", text)
    assert re.search(r"on ≈ off +refuted", text)
    assert re.search(r"on reaches 90 % +supported +90\.03 \[89\.80, 90\.25\] % over 4 seeds", text)
    assert "“dropout [bold]helps[/]”" in text, "a quote is no markup"
    assert text.splitlines()[-1] == "3 claims · 2 supported · 1 refuted"
    assert text.splitlines()[0] == "mine · scale writeup · CIFAR-10 · train.protocol=writeup"
    assert "invocation 20261122T210000.000-mine · less than 0.20 points does not matter" in text


@pytest.mark.parametrize(
    ("ablation", "variants", "together"),
    [
        ("optimizers", ("sgd_nesterov", "sgd", "adam"), ", together for 6 claims"),
        (
            "batch_norm",
            ("on", "off", "off-lr0.01"),
            ", together for claims on the same question and metric (groups of 2, 1)",
        ),
        ("mine", ("off", "on"), ", for each claim by itself"),
        ("mixup_cutmix", ("none", "both"), ""),
    ],
)
def test_it_is_said_how_many_intervals_hold_together(
    ablation: str, variants: tuple[str, ...], together: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = better()
    ended({name: own["on" if i % 2 else "off"] for i, name in enumerate(variants)}, ablation=ablation)
    assert f"interval: 95 % confidence{together}\n" in said(capsys, ablation)


def test_an_accuracy_that_is_reached_is_no_part_of_what_holds_together(capsys: pytest.CaptureFixture[str]) -> None:
    own = better()
    ended({"s1": own["off"], "s2": own["on"]}, ablation="writeup_ladder", **AS_CLAIMED)
    assert "interval: 95 % confidence, together for 8 claims; each accuracy by itself\n" in said(
        capsys, "writeup_ladder", code=1
    )


def test_elsewhere_nothing_is_refuted(capsys: pytest.CaptureFixture[str]) -> None:
    ended(better(), data=JPEG)
    text = said(capsys, "mine")
    assert "mine · scale small · cifar10-jpeg · protocol holdout" in text
    assert "3 claims · 1 direction agrees · 1 direction disagrees · 1 not measured" in text
    assert "a direction agrees or disagrees, and that is all" in text


def test_several_directions_are_counted_in_english(capsys: pytest.CaptureFixture[str]) -> None:
    ended(better(), data=JPEG)
    ended({name: better()["off"] for name in ("r16", "r4")}, ablation="se_ratio", data=JPEG)
    ended({"off": better()["off"], "on": better()["on"]}, ablation="lookahead", data=JPEG)
    assert "3 directions agree ·" in said(capsys, "mine", "lookahead")


def test_the_json_is_all_that_is_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    ended(better(), **AS_CLAIMED)
    first, second, third = found(capsys, "mine", code=1)
    assert (first["ablation"], first["claim"], first["status"]) == ("mine", "dropout [bold]helps[/]", "supported")
    assert first["measured"]["difference"] == pytest.approx(0.010375)
    assert (second["status"], third["status"]) == ("refuted", "supported")
    assert third["measured"]["n"] == {"on": 4}


def test_without_names_it_is_every_ablation_that_claims_something(capsys: pytest.CaptureFixture[str]) -> None:
    ended(better())
    everything = found(capsys)
    assert {entry["ablation"] for entry in everything} == {"mine", *(ablation.name for ablation in BUILT_IN)}
    assert len(everything) == 3 + sum(len(ablation.claims) for ablation in BUILT_IN)
    text = said(capsys)
    assert text.count("status") == 1, "what was not run has no table"
    assert re.search(r"not run, with their claims: .*se_ratio \(2\)", text, re.DOTALL)


def test_nothing_was_run_and_nothing_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert {entry["status"] for entry in found(capsys)} == {"not measured"}
    text = said(capsys, "mine")
    assert text.startswith("mine · not run\n")
    assert "3 claims · 3 not measured" in text


def test_an_ablation_without_claims_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "noise_floor claims nothing" in said(capsys, "noise_floor")
    assert found(capsys, "noise_floor") == []


def test_before_training_each_claim_says_how_likely_its_seeds_settle_it(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "writeup_ladder")
    assert "Chance of being supported, if the claim is true:" in text
    assert re.search(r"  s8 > s7 by 1\.01: \d+ % with 3 seeds at 1\.01 points, \d+ seeds for 80 %\n", text)
    lines = " ".join(text.split())
    assert "s7 > s6 by 0.02: under 1 % with 3 seeds at 0.02 points, no feasible number of seeds settles it" in lines
    assert "deviation of a difference in accuracy: 0.21 points, assumed:" in lines
    powers = {each["compares"]: each["power"] for each in found(capsys, "writeup_ladder")}
    assert (powers["s7 > s6 by 0.02"]["feasible"], powers["s7 > s6 by 0.02"]["seeds_needed"]) == (False, None)
    assert powers["s8 > s7 by 1.01"]["feasible"]
    assert (powers["s8 > s7 by 1.01"]["method"], powers["s8 reaches 97.08 %"]["method"]) == ("moderated", "student")


def test_a_settled_claim_says_nothing_of_its_chance(capsys: pytest.CaptureFixture[str]) -> None:
    ended(better(), **AS_CLAIMED)
    assert "Chance of being supported" not in said(capsys, "mine", code=1)
    assert found(capsys, "mine", code=1)[0]["power"]["seeds"] == 4


# Which setting


def test_scale_data_and_overrides_select_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    ended(better(), **AS_CLAIMED)
    ended(better(), data=JPEG)
    first, second = sorted(path.stem for path in Path("runs/invocations").glob("*.json"))
    other = f"also there: --invocation {second} (--scale small --data /images/cifar10-jpeg.zip)"
    assert other in said(capsys, "mine", code=1), "the claims speak of the first"
    assert found(capsys, "mine", "--invocation", second)[0]["status"] == "direction agrees"
    assert found(capsys, "mine", "--invocation", first, code=1)[0]["status"] == "supported"
    for asked in (["--scale", "writeup"], ["--data", "cifar10"], ["train.protocol=writeup"]):
        assert found(capsys, "mine", *asked, code=1)[0]["status"] == "supported"
    assert found(capsys, "mine", "--data", "cifar10-jpeg")[0]["status"] == "direction agrees"
    text = said(capsys, "mine", "--scale", "smoke")
    assert text.startswith("mine · was run as --scale writeup")
    assert "run, and not as asked for, with their claims: mine (3)" in said(capsys, "--scale", "smoke")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (["min"], "did you mean 'mine'?"),
        (["mine", "--scale", "smal"], "did you mean 'small'?"),
        (["mine", "train.epoch=3"], "did you mean 'train.epochs'?"),
        (["--invocation", "20261122T210000.000-mine"], "is of one ablation"),
        (["mine", "--scale", "small", "--invocation", "20261122T210000.000-mine"], "names a whole setting"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(line: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", *line]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert named in captured.err
    assert len(captured.err.strip().splitlines()) == 1


def test_a_file_that_is_broken_hides_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    Path("ablations/broken.py").write_text("raise ValueError('no good')\n")
    assert run(["verify", "--json"]) == 0
    captured = capsys.readouterr()
    assert "broken.py:1: ValueError: no good" in captured.err
    assert any(entry["ablation"] == "mine" for entry in json.loads(captured.out))


# In a terminal, and at a shell's TAB


@pytest.mark.parametrize("width", [80, WIDTH, 140])
def test_tables_fit_with_the_longest_names_of_the_registry(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "out", Console(highlight=False, width=width))
    for ablation in BUILT_IN:
        values = {variant.name: [0.9, 0.91, 0.905] for variant in ablation.variants}
        values[ablation.control] = [0.904, 0.912, 0.910]
        ended(values, ablation=ablation.name)
    text = said(capsys)
    tables = [part for part in text.split("\n\n") if "\ninvocation " in part]
    assert len(tables) == len(BUILT_IN)
    for table in tables:
        heading = [i for i, line in enumerate(table.splitlines()) if line.startswith("claim ")]
        assert bool(heading) == (width > 80)
        assert max(len(line.rstrip()) for line in table.splitlines()[(heading or [2])[0] :]) <= width
    assert "not run, with their claims: mine (3)" in text
    assert text.splitlines()[0] == text.splitlines()[-1], "the counts first and last"


def test_in_a_narrow_terminal_each_claim_takes_two_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "out", Console(highlight=False, width=60))
    ended(better(), **AS_CLAIMED)
    lines = said(capsys, "mine", code=1).splitlines()
    at = lines.index("“dropout [bold]helps[/]” · on > off")
    assert lines[at + 1] == "  supported  +1.04 [+0.96, +1.11] points over 4 pairs"


@pytest.mark.parametrize("width", [60, WIDTH])
def test_a_reason_that_all_claims_share_is_said_once(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "out", Console(highlight=False, width=width))
    ended({"b2222": [0.9], "b2111": [0.89], "b1111": [0.88], "b443": [0.9], "b333": [0.89]}, ablation="block_counts")
    assert said(capsys, "block_counts").count("one seed: no deviation, no interval") == 1


def test_tab_offers_ablations_and_then_paths(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tab(*words: str) -> list[str]:
        monkeypatch.setenv("_CIFAR_LAB_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "\n".join(["cifar-lab", "verify", *words]))
        monkeypatch.setenv("COMP_CWORD", str(1 + len(words)))
        with pytest.raises(SystemExit):
            run([])
        return capsys.readouterr().out.split()

    assert {"mine", "se_ratio"} <= set(tab(""))
    assert tab("se_ratio", "mi") == ["mine", "mixup_cutmix"]
    assert "train.protocol=" in tab("mine", "train.pro")
    assert tab("mine", "--scale", "s") == ["smoke", "small"]


# docs/registry.md


def test_the_registrys_page_has_every_claim() -> None:
    page = (registry.built_in().parent / "docs" / "registry.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| “")]
    written = [(row[1].strip("`"), row[0].strip("“”"), part.strip()) for row in rows for part in row[2].split(";")]
    claimed = [
        (ablation.name, claim.quote, claim.compares) for ablation in BUILT_IN for claim in ablation.claims
    ]  # fmt: skip
    assert sorted(written) == sorted(claimed)
