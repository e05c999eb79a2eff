"""`sweep` from the command line: tiny networks, really trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from made.cifar_files import sized_folder
from made.spaces import Told

from cifar_lab.cli import run
from cifar_lab.config.baselines import RESNET18
from cifar_lab.models.cost import network_cost
from cifar_lab.search.storage import open_storage
from cifar_lab.search.stored_trials import COUNTS
from cifar_lab.search.study import load_study, setting_of
from cifar_lab.store.invocation_index import read_index

SPACE = '''
"""Which tiny network?"""
from cifar_lab import RESNET18
from cifar_lab.search.dimension import Choice, Integer, Real
from cifar_lab.search.space import Space

SPACE = Space(
    question="Which tiny network?",
    baseline=RESNET18.override({"model.width": 32, "model.blocks": (1, 1)}),
    dimensions=(
        Integer(path="model.width", low=32, high=128, step=32),
        Real(path="optim.lr", low=0.001, high=1.0, log=True),
        Choice(path="model.dropout", values=(0.0, 0.3)),
    ),
)
'''
BUDGET = 400_000


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny.py").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def line(trials: int, *more: str) -> list[str]:
    return ["sweep", "--space", "tiny.py", "--trials", str(trials), "--scale", "smoke",
            "--sampler", "random", "--pruner", "none", "--max-params", str(BUDGET), "--offline", "-y",
            *more]  # fmt: skip


def printed(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> Any:
    capsys.readouterr()
    assert run(arguments) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_sweep_trains_what_is_wanted_and_only_what_fits(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = printed(capsys, line(3, "--json"))
    assert {"study", "trained", "total", "infeasible", "pruned", "failed", "best"} <= set(tree)
    assert (tree["study"], tree["total"], tree["failed"]) == ("tiny", 3, 0)
    assert {"value", "parameters", "recipe"} <= set(tree["best"])
    assert tree["best"]["parameters"] <= BUDGET
    (note,) = read_index(here / "runs").invocations
    assert all(cell.parameters <= BUDGET for cell in note.cells)
    assert (note.ablation, note.control, note.metric) == ("sweep.tiny", "t000", "val/acc")

    again = printed(capsys, line(3, "--json"))
    assert (again["trained"], again["total"]) == (0, 3)
    more = printed(capsys, line(4, "--json"))
    assert (more["trained"] <= 1, more["total"]) == (True, 4)

    assert run(["sweep-best", "tiny", "-o", "best.json"]) == 0
    written = json.loads((here / "best.json").read_text())
    assert written["model"]["width"] in {32, 64, 96, 128}
    capsys.readouterr()
    assert run(["train", "--recipe", "best.json", "--scale", "smoke", "--seeds", "7", "--offline", "-y", "--json"]) == 0
    assert run(["compare", "sweep.tiny", "--json"]) == 0


def test_a_sweep_counts_the_outputs_of_its_images(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sized_folder(here / "pictures", classes=3, side=20)
    of_ten = network_cost(RESNET18.override({"model.width": 32, "model.blocks": [1, 1]}).model).parameters
    smallest = of_ten - 7 * (
        64 + 1
    )  # three outputs, each with a weight for each of the last layer's channels and a bias
    searched = [*line(1, "--data", "pictures", "train.batch_size=10"), "--json"]
    assert run([*searched, "--max-params", str(smallest - 1)]) == 2
    assert f"the smallest seen: {smallest:,} parameters" in capsys.readouterr().err
    tree = printed(capsys, [*searched, "--max-params", str(smallest)])
    (note,) = read_index(here / "runs").invocations
    study = load_study(open_storage(None, here / "runs", print), "tiny")
    counted = [tree["best"]["parameters"], note.cells[0].parameters, study.trials[0].user_attrs[COUNTS]["parameters"]]
    assert counted == [smallest] * 3
    assert setting_of(study).budget.images == (3, 20)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["model.width=64"], "searched by the space"),
        (["--space", "nosuch"], "no space named 'nosuch'"),
        (["--sampler", "tpee"], "tpe"),
        (["--pruner", "hyperbandd"], "hyperband"),
        (["--objective", "accuracy,speed"], "no objective named 'speed'"),
        (["--objective", "params"], "accuracy comes first"),
        (["--max-params", "600"], "the smallest seen: 77,866 parameters"),
        (["train.protocol=writeup"], "looks at val only"),
        (["--storage", "postgresql://me:hidden@127.0.0.1:1/x"], "me:***@127.0.0.1"),
    ],
)
def test_bad_input_is_one_line_and_trains_nothing(
    more: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line(2, *more)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "hidden" not in error
    assert not list((here).glob("runs/*/cell.json"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--sampler", "foo"], "no sampler named 'foo'"),
        (["--pruner", "foo"], "no pruner named 'foo'"),
        (["--objective", "speed"], "no objective named 'speed'"),
        (["--space", "nosuch"], "no space named 'nosuch'"),
        (["train.epoch=3"], "did you mean 'train.epochs'?"),
        (["model.blocks=[9,9,9]"], "within 400,000 parameters"),
        (["--max-params", "600"], "within 600 parameters"),
        (["--storage", "host=db password=hidden"], "host=*** password=***"),
        (["--study", "a/b"], "--study takes"),
    ],
)
def test_words_space_recipe_and_budget_are_checked_before_data_are_read(
    more: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line(2, "--data", "nowhere.zip", *more)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "nowhere.zip" not in error
    assert "hidden" not in error
    assert {path.name for path in here.iterdir()} == {"tiny.py"}, "something was made"


def test_a_search_that_is_not_confirmed_leaves_no_study(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_lab.cli.sweep.ASK_ABOVE", 0.0)
    asked = [word for word in line(3) if word != "-y"]
    assert run(asked) == 2
    assert "needs -y" in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["tiny.py"]


@pytest.mark.slow
def test_a_trial_that_failed_before_is_no_failure_once_all_that_was_wanted_is_there(here: Path) -> None:
    assert run(line(1)) == 0
    study = load_study(open_storage(None, here / "runs"), "tiny")
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    assert run(line(2)) == 0
    assert run(line(2)) == 0


@pytest.mark.parametrize("command", ["sweep-best", "sweep-importance", "sweep-report", "sweep-confirm", "ablate-best"])
def test_a_study_that_is_not_there_is_said(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "nosuch"]) == 2
    assert "is not there" in capsys.readouterr().err
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"model": {"widht": 3}}', "did you mean 'model.width'"),
        ("[1]", "a JSON object"),
        ("{", "recipe bad.json: not JSON"),
    ],
)
def test_a_recipe_file_that_is_none_is_refused(
    text: str, said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "bad.json").write_text(text)
    assert run(["train", "--recipe", "bad.json", "--scale", "smoke", "--offline", "-y"]) == 2
    assert said in capsys.readouterr().err


# The page


@pytest.fixture
def told(here: Path) -> Path:
    """A folder with a study that nobody trained, `wide`, in a file whose name holds a password."""
    made = Told(storage=open_storage(str(here / "password=s3cret"), here))
    for accuracy in (0.8, 0.85, 0.82):
        made.trained(accuracy)
    return here


def test_sweep_report_writes_a_page_of_a_study(told: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["sweep-report", "wide", "--storage", "password=s3cret"]
    assert run(line) == 0
    assert capsys.readouterr().out == "sweep.html\n"
    text = (told / "sweep.html").read_text(encoding="utf-8")
    assert "Best of wide: 85.00 % on val" in text
    assert "s3cret" not in text
    found = printed(capsys, [*line, "-o", "page.html", "--json"])
    assert found == {"path": str(told / "page.html"), "study": "wide", "bytes": len(text.encode())}
    assert (told / "page.html").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["wide", "-o", "nowhere/sweep.html"], "-o nowhere/sweep.html: no such folder: nowhere"),
        (["wide", "-o", "."], "a folder; a file is wanted"),
        (["wdie"], "no study named 'wdie'; did you mean 'wide'?"),
    ],
)
def test_a_page_that_cannot_be_made_is_one_line_and_nothing_is_written(
    more: list[str], said: str, told: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(told.iterdir())
    assert run(["sweep-report", *more, "--storage", "password=s3cret"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert set(told.iterdir()) == before


# Confirmation


@pytest.mark.slow
def test_a_confirmation_trains_fresh_seeds_once_and_is_resumed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = printed(capsys, line(3, "--confirm-top", "1", "--confirm-seeds", "1-2", "--json"))["confirmation"]
    winners = {each["variant"] for each in tree["recipes"]}
    assert tree["seeds"] == [1, 2]
    assert len(winners) == 2
    assert "baseline" in winners
    results = {path: path.stat().st_mtime_ns for path in here.glob("runs/*/result.json")}
    lost = next(
        here / "runs" / cell.fingerprint / "result.json"
        for note in read_index(here / "runs").of_ablation("confirm_tiny") for cell in note.cells if cell.seed == 2
    )  # fmt: skip
    lost.unlink()
    again = printed(capsys, ["sweep-confirm", "tiny", "--top", "1", "--seeds", "1-2", "--offline", "-y", "--json"])
    assert again["recipes"] == tree["recipes"]
    after = {path: path.stat().st_mtime_ns for path in here.glob("runs/*/result.json")}
    assert [path for path in results if results[path] != after[path]] == [lost]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--confirm-seeds", "1-3"], "--confirm-seeds goes with --confirm-top"),
        (["--confirm-top", "2", "--confirm-seeds", "0-3"], "seed 0 is the search's own"),
        (["--confirm-top", "2", "--confirm-seeds", "4"], "one seed shows no deviation"),
        (["--confirm-top", "2", "--confirm-seeds", "x"], "--confirm-seeds reads 0-4"),
    ],
)
def test_a_confirmation_that_cannot_be_is_refused_before_the_search(
    more: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line(2, *more)) == 2
    assert said in capsys.readouterr().err
    assert not (here / "runs").exists()
