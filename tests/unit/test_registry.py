"""Ablations are found by folder, and a file that cannot be read hides no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cifar_lab.errors import RegistryError
from cifar_lab.registry import discover

GOOD = """\
from cifar_lab.ablation import Ablation, Variant
from cifar_lab.recipe import EFFICIENT_RESNET

ABLATION = Ablation(
    question="Mine?",
    source="me",
    baseline=EFFICIENT_RESNET,
    factors=(),
    variants=(Variant(name="a"),),
    control="a",
)
"""

BROKEN = {
    "an open bracket": ("x = 1\nABLATION = Ablation(\n", 2, "SyntaxError"),
    "no Python": ("my ablation\n", 1, "SyntaxError"),
    "a null byte": ("x = 1\0\n", 1, "SyntaxError"),
    "a package that is not there": ("# mine\n\nimport nothing_of_this_name\n", 3, "nothing_of_this_name"),
    "an exception at import": ('def f():\n    raise ValueError("first\\nsecond")\n\n\nf()\n', 2, "first"),
    "an exception without a word": ("\nraise ValueError\n", 2, "ValueError"),
    "an exit": ("import sys\n\nsys.exit(3)\n", 3, "SystemExit"),
    "endless recursion": ("def f():\n    return f()\n\n\nf()\n", 2, "RecursionError"),
    "no ABLATION": ("QUESTION = 1\n", 1, "ABLATION"),
    "nothing": ("", 1, "ABLATION"),
    "an ABLATION of another type": ("ABLATION = {}\n", 1, "ABLATION"),
    "a recipe error": (
        GOOD + 'EFFICIENT_RESNET.override({"model.widht": 3})\n',
        12,
        "did you mean 'model.width'?",
    ),
    "an ablation error": (GOOD.replace('control="a"', 'control="b"'), 4, "control 'b'"),
}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A user's folder with one ablation, `mine`."""
    (tmp_path / "mine.py").write_text(GOOD)
    return tmp_path


def test_the_built_in_studies_are_found_and_named_after_their_files() -> None:
    found = discover()
    assert {"se_ratio", "block_counts", "lookahead", "noise_floor"} <= set(found.names())
    assert found.find("se_ratio").name == "se_ratio"
    assert [ablation.name for ablation in found] == found.names() == sorted(found.names())


def test_a_users_folder_adds_to_the_built_in_studies(mine: Path) -> None:
    found = discover(mine)
    assert set(found.names()) == {*discover().names(), "mine"}
    assert found.find("mine").question == "Mine?"


def test_of_two_files_of_one_name_the_users_is_taken_and_of_two_users_the_later(mine: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    (mine / "se_ratio.py").write_text(GOOD)
    assert discover(mine).find("se_ratio").question == "Mine?"
    (later / "se_ratio.py").write_text(GOOD.replace("Mine?", "Later?"))
    assert discover(mine, later).find("se_ratio").question == "Later?"
    assert discover(later, mine).find("se_ratio").question == "Mine?"
    assert discover(mine, later).names().count("se_ratio") == 1


def test_only_files_that_are_meant_as_studies_are_read(mine: Path) -> None:
    for name in ("_parts.py", "__init__.py", "notes.txt", "mine.py.bak"):
        (mine / name).write_text("raise ValueError")
    (mine / "deeper").mkdir()
    (mine / "deeper" / "other.py").write_text(GOOD)
    found = discover(mine)
    assert found.broken() == []
    assert set(found.names()) - set(discover().names()) == {"mine"}


@pytest.mark.parametrize(("text", "line", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_reported_by_name_and_line_and_hides_no_other(
    mine: Path, text: str, line: int, said: str
) -> None:
    (mine / "broken.py").write_text(text)
    (mine / "zebra.py").write_text(GOOD)
    found = discover(mine)
    (broken,) = found.broken()
    assert broken.name == "broken"
    assert broken.reason.startswith(f"broken.py:{line}: ")
    assert said in broken.reason
    assert "\n" not in broken.reason
    assert {"mine", "zebra", "se_ratio"} <= set(found.names())
    assert "broken" not in found.names()
    with pytest.raises(RegistryError) as caught:
        found.find("broken")
    assert str(caught.value) == broken.reason


def test_a_file_that_is_no_text_is_reported(mine: Path) -> None:
    (mine / "broken.py").write_bytes(b'x = "\xff"\n')
    (broken,) = discover(mine).broken()
    assert "broken.py:1" in broken.reason
    assert "mine" in discover(mine).names()


def test_every_broken_file_is_reported(mine: Path) -> None:
    for i, (text, _, _) in enumerate(BROKEN.values()):
        (mine / f"broken{i}.py").write_text(text)
    assert len(discover(mine).broken()) == len(BROKEN)
    assert "mine" in discover(mine).names()


def test_a_users_broken_file_is_not_quietly_replaced_by_the_built_in_of_its_name(mine: Path) -> None:
    (mine / "se_ratio.py").write_text("ABLATION = Ablation(\n")
    with pytest.raises(RegistryError, match=r"se_ratio\.py:1: SyntaxError"):
        discover(mine).find("se_ratio")


@pytest.mark.parametrize(("typed", "meant"), [("se_ration", "se_ratio"), ("SE-Ratio", "se_ratio"), ("mien", "mine")])
def test_an_unknown_name_is_refused_with_the_nearest(mine: Path, typed: str, meant: str) -> None:
    with pytest.raises(RegistryError) as caught:
        discover(mine).find(typed)
    assert f"'{typed}'" in str(caught.value)
    assert f"did you mean '{meant}'?" in str(caught.value)


def test_a_name_like_no_other_is_refused_with_all_that_there_are(mine: Path) -> None:
    with pytest.raises(RegistryError, match=r"one of: .*lookahead.*mine.*se_ratio"):
        discover(mine).find("qqqqqqqq")


def test_a_folder_that_is_not_there_is_refused_by_name(mine: Path) -> None:
    for folder in (mine / "nowhere", mine / "mine.py"):
        with pytest.raises(RegistryError, match=str(folder)):
            discover(folder)


def test_a_folder_may_be_empty(tmp_path: Path) -> None:
    assert discover(tmp_path).names() == discover().names()


def test_reading_leaves_nothing_in_the_users_folder(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (mine / "broken.py").write_text("raise ValueError")
    discover(mine).names()
    assert sorted(path.name for path in mine.rglob("*")) == ["broken.py", "mine.py"]
    assert sys.dont_write_bytecode is False


def test_a_file_that_changed_is_read_anew(mine: Path) -> None:
    discover(mine).names()
    (mine / "mine.py").write_text(GOOD.replace("Mine?", "New?"))
    assert discover(mine).find("mine").question == "New?"


def test_files_are_modules_of_their_own(mine: Path) -> None:
    """A study called like a module of Python's does not become it."""
    (mine / "json.py").write_text(GOOD)
    assert discover(mine).find("json").question == "Mine?"
    assert hasattr(sys.modules["json"], "dumps")


def test_finding_studies_loads_neither_torch_nor_numpy() -> None:
    program = (
        "import sys; from cifar_lab.registry import discover; assert discover().names();"
        "sys.exit(' '.join({'torch', 'numpy', 'scipy', 'torchvision', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
