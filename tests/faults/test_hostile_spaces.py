"""Files of spaces as nobody should write them: `sweep --space FILE` works or is one line, whatever is in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made.bounded import bounded
from made.examples import examples
from made.spaces import Told

from cifar_lab.cli import run
from cifar_lab.config import declaration_file
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import SpaceError
from cifar_lab.search.spaces import find_space
from cifar_lab.search.storage import open_storage
from cifar_lab.search.study import setting_of
from cifar_lab.text import printable

TIMES = int(os.environ.get("CIFAR_LAB_FAULTS", examples(30)))
HEAD = """
from cifar_lab import EFFICIENT_RESNET
from cifar_lab.search.dimension import Bundle, Choice, Dimension, Integer, Real
from cifar_lab.search.space import Space
"""
RATE = 'Real(path="optim.lr", low=0.001, high=1.0, log=True)'
BEGIN = f"{HEAD}\nBASE = EFFICIENT_RESNET\n"

FILES = {
    "base exception": "raise BaseException('no')",
    "generator exit": "raise GeneratorExit",
    "system exit": "raise SystemExit(0)",
    "sys.exit with text": "import sys; sys.exit('bye\\nbye')",
    "own base exception": "class E(BaseException): pass\nraise E('no')",
    "str that raises": "class E(Exception):\n    def __str__(self): raise ValueError('again')\nraise E",
    "str that exits": "class E(Exception):\n    def __str__(self): raise SystemExit(3)\nraise E",
    "str that is no str": "class E(Exception):\n    def __str__(self): return 3\nraise E",
    "escape sequences": "raise ValueError('\\x1b]0;title\\x07\\x1b[2J')",
    "many lines": "raise ValueError('a\\n' * 10_000)",
    "long line": "raise ValueError('a' * 10_000_000)",
    "exception group": "raise ExceptionGroup('two', [ValueError('a'), TypeError('b')])",
    "recursion": "def f(): f()\nf()",
    "memory": "raise MemoryError",
    "interrupt": "raise KeyboardInterrupt",
    "syntax": "def",
    "brackets": "x = " + "[" * 100_000,
    "null bytes": "x = '\0'",
    "encoding": "# -*- coding: nosuch -*-",
    "nothing": "",
    "another SPACE": "SPACE = 3",
    "class, not object": f"{HEAD}SPACE = Space",
    "space without checks": f"{HEAD}SPACE = Space.model_construct()",
    "dimensions without checks": (
        f"{HEAD}SPACE = Space.model_construct(question='?', baseline=EFFICIENT_RESNET, dimensions=(3,))"
    ),
    "dimension that raises": (
        f"{HEAD}class Mine(Real):\n    def suggest(self, trial): raise OSError('not now')\n"
        "SPACE = Space(question='?', baseline=EFFICIENT_RESNET,"
        " dimensions=(Mine(path='optim.lr', low=0.1, high=1.0),))"
    ),
    "dimension that answers nonsense": (
        f"{HEAD}class Mine(Real):\n    def suggest(self, trial): return 'x'\n"
        "SPACE = Space(question='?', baseline=EFFICIENT_RESNET,"
        " dimensions=(Mine(path='optim.lr', low=0.1, high=1.0),))"
    ),
    "question that is no text": f"{HEAD}SPACE = Space(question=3, baseline=EFFICIENT_RESNET, dimensions=({RATE},))",
    "too many values": (
        f"{HEAD}SPACE = Space(question='?', baseline=EFFICIENT_RESNET,"
        " dimensions=(Choice(path='train.epochs', values=tuple(range(1, 100_000))),))"
    ),
    "networks beyond all numbers": (
        f"{HEAD}SPACE = Space(question='?', baseline=EFFICIENT_RESNET.override({{'model.width': 2**40}}),"
        " dimensions=(Integer(path='model.width', low=2**30, high=2**62),))"
    ),
}


def refusal(text: str | bytes, folder: Path, capsys: pytest.CaptureFixture[str], name: str = "mine.py") -> str:
    """The line that `sweep --space FILE` says; images are not there, so a space that can be searched ends at these."""
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    line = ["sweep", "--study", "hostile", "--space", name, "--data", "nowhere.zip", "--offline", "-y"]
    capsys.readouterr()
    with bounded():
        assert run([*line, "--scale", "smoke"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    lines = [each for each in captured.err.splitlines() if each.startswith("cifar-lab: ")]
    assert len(lines) == 1, captured.err[:2000]
    assert printable(lines[0]) == lines[0]
    assert len(lines[0]) < 1000
    return lines[0]


@pytest.mark.parametrize("text", FILES.values(), ids=FILES.keys())
def test_a_file_that_cannot_be_a_space_is_one_line(text: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere.zip" not in refusal(text, folder, capsys)
    assert {path.name for path in folder.iterdir()} == {"mine.py"}, "something was made"


def test_a_space_is_taken_from_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"{BEGIN}SPACE = Space(question='?', baseline=BASE, dimensions=({RATE},))"
    assert "nowhere.zip" in refusal(text, folder, capsys)


def test_the_line_of_an_error_is_that_of_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "mine.py:3: ValueError: no" in refusal("x = 1\n\nraise ValueError('no')", folder, capsys)


@pytest.mark.parametrize("place", ["", "a\0.py", "x" * 5000 + ".py", "~nobody-at-all/x.py", "folder.py", "gone.py"])
def test_a_place_that_is_no_file_is_one_line(place: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "folder.py").mkdir()
    assert run(["sweep", "--study", "hostile", "--space", place, "--data", "nowhere.zip"]) == 2
    error = capsys.readouterr().err
    assert len([line for line in error.splitlines() if line.startswith("cifar-lab: ")]) == 1
    assert len(error) < 2000


# Random files

PATHS = st.sampled_from([*Recipe().flat(), "model", "optim.", "", "optim.lr.x", "näme", "a b"])
NUMBERS = st.one_of(
    st.integers(-3, 300), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([10**30, -(10**400), 2**63])
)
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), NUMBERS, st.text(max_size=8), st.sampled_from(["sgd", "adam", "none", "block"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple), st.dictionaries(st.text(max_size=4), inner)
    ),
    max_leaves=6,
)
TUPLES = st.lists(VALUES, max_size=5).map(tuple)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "path": PATHS, "name": st.one_of(st.text(max_size=6), st.sampled_from(["a", "b"])), "low": NUMBERS,
    "high": NUMBERS, "log": st.booleans(), "step": st.integers(-1, 9), "values": TUPLES,
    "when": st.dictionaries(st.sampled_from(["a", "b", "optim.name"]), TUPLES, max_size=2),
    "unit": st.dictionaries(st.sampled_from(["a", "optim.name"]), st.dictionaries(st.text(max_size=4), NUMBERS)),
    "options": st.dictionaries(st.text(max_size=4), st.dictionaries(PATHS, VALUES, max_size=2), max_size=4),
}  # fmt: skip
USUAL = {
    "Choice": ["path", "values"], "Integer": ["path", "low", "high"], "Real": ["path", "low", "high"],
    "Bundle": ["name", "options"],
}  # fmt: skip


SPECIAL = "inf = float('inf')\nnan = float('nan')\n"
"""Definitions that make the `repr` of every number valid Python."""


@st.composite
def dimensions(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(sorted(USUAL)))
    others = draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=2))
    names = dict.fromkeys([*(name for name in USUAL[kind] if draw(st.integers(0, 9)) < 9), *others])
    return f"{kind}({', '.join(f'{name}={draw(FIELDS[name])!r}' for name in names)})"


@st.composite
def files(draw: st.DrawFn) -> str:
    made = draw(st.lists(dimensions(), max_size=4))
    if draw(st.booleans()):
        made.insert(0, RATE)
    diff = draw(st.dictionaries(PATHS, VALUES, max_size=1)) if draw(st.integers(0, 3)) == 0 else {}
    body = (
        f"Space(question='?', baseline=BASE.override({diff!r}), dimensions=({''.join(f'{each}, ' for each in made)}))"
    )
    return f"{BEGIN}{SPECIAL}SPACE = {body}\n"


@settings(max_examples=TIMES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(text=files())
def test_a_random_space_works_or_is_one_line(text: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refusal(text, folder, capsys)


@settings(max_examples=TIMES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(content=st.binary(max_size=200))
def test_random_bytes_are_one_line(content: bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refusal(content, folder, capsys)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import os; os._exit(0)", "ended the process that read it (exit code 0)"),
        ("while True: pass", "did not come to its end within 1 s"),
        (
            f"{HEAD}class Mine(Real):\n    def suggest(self, trial):\n        while True: pass\n"
            "SPACE = Space(question='?', baseline=EFFICIENT_RESNET,"
            " dimensions=(Mine(path='optim.lr', low=0.1, high=1.0),))",
            "did not come to its end within 1 s",
        ),
    ],
)
@pytest.mark.parametrize("forks", [True, False], ids=["forked", "beside threads"])
def test_a_file_that_ends_the_process_or_never_returns_is_one_line(
    text: str, line: str, forks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declaration_file, "WITHIN", 1.0)
    monkeypatch.setattr(declaration_file, "BEGINNING", 4.0)
    monkeypatch.setattr(declaration_file, "can_fork", lambda: forks)
    (tmp_path / "mine.py").write_text(text)
    with bounded(), pytest.raises(SpaceError) as caught:
        find_space(str(tmp_path / "mine.py"))
    assert str(caught.value) == f"mine.py:1: {line}"


def test_a_space_of_a_study_that_never_returns_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declaration_file, "WITHIN", 1.0)
    made = Told(storage=open_storage(None, folder / "runs"))
    (folder / "mine.py").write_text("while True: pass")
    made.study.set_user_attr("setting", {**made.study.user_attrs["setting"], "space_source": str(folder / "mine.py")})
    with bounded(), pytest.raises(SpaceError, match=r"mine\.py:1: did not come to its end within 1 s"):
        setting_of(made.study)
