"""Command lines and ablation files that nobody would write on purpose: one line, an exit code, and nothing trained.

`CIFAR_LAB_FAULTS` sets how many random command lines and, up to 1,000, how many random files are tried.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made.bounded import bounded
from made.examples import examples

from cifar_lab.cli import run
from cifar_lab.config import declaration_file
from cifar_lab.config.recipe import Recipe, paths

LINES = int(os.environ.get("CIFAR_LAB_FAULTS", examples(150)))
FILES = min(1000, LINES) if "CIFAR_LAB_FAULTS" in os.environ else examples(30)
WITHIN = 40
"""Seconds in which a command line comes to its end."""
CODES = {0, 1, 2}

HUGE = ["9" * 5000, "1" + "0" * 30, "2147483648", "-1", "1e400", "nan", "Infinity", "0x10", "٣", "1_000", "+1", "1.0"]
TEXT = st.text(max_size=12) | st.sampled_from(
    ["\x1b]0;title\x07", "a\nb", "\u202e", "\ud800", "../..", "~", "", "%s", "{x}"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=6,
)
VALUE = (
    st.sampled_from(HUGE)
    | st.sampled_from(["[" * 3000, "[3000,1,1]", "[1,1,1,1,1,1]", "none", "true", "'", '"', "[", "{}", "[[1]]"])
    | JSON.map(lambda tree: json.dumps(tree))
    | TEXT
)
OVERRIDE = st.one_of(
    st.builds("{}={}".format, st.sampled_from(paths()), VALUE),
    st.builds("{}={}".format, TEXT, VALUE),
    st.sampled_from(paths()),
    TEXT,
)
OPTIONS = {
    "--scale": st.sampled_from(["smoke", "smoke/", "smoke/0", "smoke/" + "9" * 5000, "Smoke", "small/3"]) | TEXT,
    "--seeds": st.sampled_from(["0", "0-2", "2-0", "-", "0,0", "0-" + "9" * 5000, "0-9999999", ",", "0,"]) | TEXT,
    "--variants": st.sampled_from(["r3", "off", "off,off", ",", "OFF"]) | TEXT,
    "--max-params": st.sampled_from(["5M", "1k", "0", "inf", "nan", "1e400", "M", "-5M", "9" * 400]) | TEXT,
    "--device": st.sampled_from(["gpu", "cuda:99999999999999999999", "cpu", "cuda:", "tpu"]) | TEXT,
    "--workers": st.sampled_from(["1", "0", "auto", "9" * 5000, "1.5"]) | TEXT,
    "--cells-per-gpu": st.sampled_from(["1", "auto", "0"]) | TEXT,
    "--data": st.sampled_from(["{images}", "{images}/train", "{nowhere}", "/dev/null", "x" * 2000]) | TEXT,
    "--ablations": st.sampled_from(["{ablations}", "{nowhere}", "/dev/null"]) | TEXT,
    "--epochs": VALUE,
    "--json": st.none(),
    "--nothing-of-this-name": TEXT,
}
TRIES = {
    "describe": ("--ablations", "--json"),
    "list": ("--ablations", "--json", "--nothing-of-this-name"),
    "plan": tuple(OPTIONS),
    "train": ("--scale", "--seeds", "--max-params", "--device", "--data", "--epochs"),
    "run-ablation": tuple(OPTIONS),
    "compare": ("--scale", "--data", "--ablations", "--json"),
    "status": ("--scale", "--data", "--json"),
    "report": ("--scale", "--data"),
    "verify": ("--scale", "--json"),
}
NAMES = st.sampled_from(["tiny", "se_ratio", "Tiny", "tin", "all", "train", "../tiny"]) | TEXT


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with a name, overrides and options, most of them wrong; none of them trains anything."""
    command = draw(st.sampled_from(sorted(TRIES)))
    words = [command]
    if command not in {"list", "train"}:
        words.append(draw(NAMES))
    if command not in {"list", "describe"}:
        words += draw(st.lists(OVERRIDE, max_size=2))
    for option in draw(st.lists(st.sampled_from(TRIES[command]), max_size=3, unique=True)):
        value = draw(OPTIONS[option])
        words += [option] if value is None else [option, value]
    if command in {"train", "run-ablation"}:  # refused whatever else is right: no network is that small
        words = [word for word in words if word not in {"-y", "--yes"}]
        words += ["--max-params", "1", "--offline", "--runs", "{runs}"]
    return words


def complaints(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("cifar-lab: ")]


@pytest.fixture
def places(folder: Path, few_images: Path, tiny_ablation: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Names that stand for folders here; the network is out of reach, and nothing may be trained."""
    from cifar_lab.data import cifar10
    from cifar_lab.errors import DataError
    from cifar_lab.execution import local_engine

    def refused(*_: object) -> None:
        raise DataError("CIFAR-10 could not be fetched: the tests have no network")

    def trained(*_: object) -> None:
        raise AssertionError("something was to be trained")

    monkeypatch.setattr(cifar10, "find_or_download", refused)
    monkeypatch.setattr(local_engine.LocalEngine, "run", trained)
    return {
        "{images}": str(few_images), "{ablations}": str(tiny_ablation), "{nowhere}": str(folder / "nowhere"),
        "{runs}": str(folder / "runs"),
    }  # fmt: skip


def tried(words: list[str], places: dict[str, str]) -> list[str]:
    line = []
    for word in words:
        for name, place in places.items():
            word = word.replace(name, place)
        line.append(word)
    return line


@settings(
    max_examples=LINES, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(words=command_lines())
def test_a_hostile_command_line_is_one_line_and_an_exit_code(
    words: list[str], places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    line = tried(words, places)
    with bounded(WITHIN, line):
        code = run(line)
    captured = capsys.readouterr()
    assert code in CODES, line
    assert "Traceback" not in captured.err, line
    assert "\x1b" not in captured.err + captured.out, "escape sequences reach the terminal"
    if code == 2:
        assert len(complaints(captured.err)) == 1, (line, captured.err)
        assert len(complaints(captured.err)[0]) < 1600
    if words[0] in {"train", "run-ablation"} and "-h" not in line and "--help" not in line:
        assert code == 2, line


LINE = st.sampled_from(
    [
        "import os; os._exit(0)", "raise KeyboardInterrupt", "raise GeneratorExit", "raise SystemExit(0)",
        "raise BaseException('\\x1b]0;t\\x07')", "1/0", "def f(): return f()\nf()", "x = [] ; x.append(x)",
        "raise type('E', (Exception,), {'__str__': lambda self: 1/0})", "from cifar_lab import *", "import nowhere",
        "raise type('M', (Exception,), {})('x' * 100000)", "Recipe(model=7)", "EFFICIENT_RESNET.override({'a': 1})",
        "EFFICIENT_RESNET.override({'model.width': 10**40})", "Variant(name='UP')", "Variant(name='a', diff=3)",
        "Claim(quote='q', source='s', better='a')", "print('\\x1b[31m')", "ABLATION = Ablation()", "ABLATION = None",
        "ABLATION = Ablation(question='\\x1b]0;t\\x07', source='s', baseline=EFFICIENT_RESNET, factors=(), "
        "variants=(Variant(name='a'),), control='a')",
        "ABLATION = Ablation(question='q' * 100000, source=3, baseline=EFFICIENT_RESNET, factors=(), variants=(), "
        "control='a')",
    ]
)  # fmt: skip
HEAD = "from cifar_lab import EFFICIENT_RESNET, Ablation, Claim, Recipe, Variant\n"
SOURCES = st.one_of(
    st.lists(LINE, max_size=3).map(lambda lines: (HEAD + "\n".join(lines) + "\n").encode()),
    st.binary(max_size=40),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
)
GOOD = HEAD + (
    "ABLATION = Ablation(question='Fine?', source='s', baseline=EFFICIENT_RESNET, factors=(), "
    "variants=(Variant(name='a'),), control='a')\n"
)


@settings(max_examples=FILES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(source=SOURCES)
def test_a_hostile_ablation_file_hides_no_other(
    source: bytes, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declaration_file, "WITHIN", 10.0)
    mine = folder / "mine"
    mine.mkdir(exist_ok=True)
    (mine / "hostile.py").write_bytes(source)
    (mine / "good.py").write_text(GOOD)
    capsys.readouterr()
    with bounded(WITHIN, source):
        code = run(["list", "--json", "--ablations", str(mine)])
    captured = capsys.readouterr()
    assert code == 0
    names = [entry["name"] for entry in json.loads(captured.out)]
    assert "good" in names
    assert "se_ratio" in names
    warnings = [line for line in captured.err.splitlines() if "hostile.py" in line]
    assert len(warnings) == (0 if "hostile" in names else 1), captured.err
    assert "Traceback" not in captured.err
    assert "\x1b" not in captured.err
    assert max(map(len, warnings), default=0) < 600
    with bounded(WITHIN, source):
        assert run(["describe", "hostile", "--ablations", str(mine)]) in CODES
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err


CASES: dict[str, tuple[list[str], str]] = {
    "seeds of 5,000 digits": (["plan", "tiny", "--seeds", "9" * 5000], "--seeds reads 0-4"),
    "a scale of 5,000 digits": (["plan", "tiny", "--scale", "smoke/" + "9" * 5000], "a share of the epochs"),
    "workers of 5,000 digits": (["plan", "tiny", "--workers", "9" * 5000], "workers takes"),
    "brackets without end": (["train", "train.epochs=" + "[" * 200_000], "train.epochs="),
    "a width that overflows": (["plan", "tiny", "model.width=2147483648"], "over the budget"),
    "a layer that overflows": (["train", "model.extra_fc=10000000000000000000"], "model.extra_fc="),
    "thousands of blocks": (["train", "model.blocks=[3000,1,1]"], "over the budget"),
    "a budget without end": (["train", "model.width=2147483648", "--max-params", "9" * 40], "over the budget"),
    "a recipe without end": (["train", "--recipe", "/dev/zero"], "larger than 1 MiB"),
    "a path of 2,000 characters": (["plan", "tiny", "--data", "x" * 2000], "…"),
    "an unknown command": (["run"], "did you mean 'run-ablation'?"),
    "an option that is a path": (["train", "--epochs", "3"], "did you mean train.epochs=3?"),
    "a device by another word": (["train", "--device", "gpu"], "did you mean 'cuda'?"),
    "a path without a value": (["train", "optim.lr"], "write optim.lr=0.1"),
    "a variant like no other": (["plan", "se_ratio", "--variants", "r3"], "one of: none, r16, r8, r4, r2"),
    "a name with an escape": (["describe", "a\x1b]0;title\x07"], "a\\x1b]0;title\\x07"),
    "a word wrong for all": (["run-ablation", "all", "train.protocol=Infinity", "-y"], "train.protocol="),
}


@pytest.mark.parametrize(("words", "said"), CASES.values(), ids=CASES.keys())
def test_what_was_seen_to_go_wrong_is_one_line(
    words: list[str], said: str, places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--ablations", places["{ablations}"]] if "tiny" in words else []
    with bounded(WITHIN, words):
        assert run([*words, *more]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("cifar-lab: ")
    assert said in captured.err
    assert len(captured.err) < 1600


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"a":' * 100_000, b"\xff\xfe", b"", b"[]", b"nul"])
def test_a_hostile_recipe_file_is_one_line(content: bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "recipe.json").write_bytes(content)
    with bounded(WITHIN, content):
        assert run(["train", "--recipe", "recipe.json"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("cifar-lab: recipe recipe.json: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_recipe_file_is_read_in_every_encoding_that_json_may_have(encoding: str, folder: Path) -> None:
    from cifar_lab.config.recipe_file import read_recipe

    path = folder / "recipe.json"
    path.write_bytes(json.dumps({"train": {"epochs": 3}}).encode(encoding))
    assert read_recipe(path) == Recipe().override({"train.epochs": 3})


WORDS: dict[str, list[str]] = {
    "plan": ["plan", "tiny"],
    "run-ablation": ["run-ablation", "tiny", "--offline"],
    "train": ["train", "--offline"],
    "sweep": ["sweep", "--study", "s", "--offline"],
}
WRONG: dict[str, list[str]] = {
    "an override": ["train.epoch=3"], "the budget": ["--max-params", "1k"], "the device": ["--device", "gpu"],
    "the workers": ["--workers", "none"], "the scale": ["--scale", "smok"],
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("command", WORDS)
def test_words_recipes_and_budgets_are_checked_before_any_data_is_fetched(
    command: str, wrong: str, places: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from cifar_lab import data

    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("data was read")

    if (command, wrong) in {("train", "the workers")}:
        pytest.skip("train has one worker")
    monkeypatch.setattr(data, "load", read)
    more = ["--ablations", places["{ablations}"]] if "tiny" in WORDS[command] else []
    assert run([*WORDS[command], *more, *WRONG[wrong]]) == 2
    assert len(complaints(capsys.readouterr().err)) == 1
    assert list(folder.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize("line", ["list", "plan tiny --scale smoke --data synthetic", "describe tiny"])
def test_an_ablation_that_never_returns_hides_no_other(
    line: str, folder: Path, tiny_ablation: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(declaration_file, "WITHIN", 1.0)
    (folder / "endless.py").write_text("while True: pass")
    (folder / "tiny.py").write_text((tiny_ablation / "tiny.py").read_text())
    with bounded(WITHIN, line):
        run([*line.split(), "--ablations", str(folder)])
        assert "tiny" in capsys.readouterr().out
        assert run(["describe", "endless", "--ablations", str(folder)]) == 2
    assert "endless.py:1: did not come to its end within 1 s" in capsys.readouterr().err
