"""Ablations are found by folder and by package, and what cannot be read hides no other."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_lab.ablation.registry import discover
from cifar_lab.config import declaration_file
from cifar_lab.errors import RegistryError

GOOD = """\
from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

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
    "what ends a generator": ("\nraise GeneratorExit\n", 2, "GeneratorExit"),
    "what Ctrl-C raises": ("x = 1\nraise KeyboardInterrupt\n", 2, "KeyboardInterrupt"),
    "an error of no class of its own": ("\n\nraise BaseException('base')\n", 3, "base"),
    "an error whose message raises": (
        "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\n\n\nraise Mute\n",
        6,
        "Mute",
    ),
    "the end of the process": ("import os\n\nos._exit(0)\n", 1, "ended the process that read it (exit code 0)"),
    "a crash": ("import os\n\nos.kill(os.getpid(), 9)\n", 1, "ended the process that read it (killed by SIGKILL)"),
    "pydantic's own error": (
        "from cifar_lab.config.recipe import Recipe\n\n\nRecipe(model='wide' * 1000)\n",
        4,
        "Recipe.model: should be",
    ),
    "no ABLATION": ("QUESTION = 1\n", 1, "ABLATION"),
    "nothing": ("", 1, "ABLATION"),
    "an ABLATION of another type": ("ABLATION = {}\n", 1, "ABLATION"),
    "a recipe error": (
        GOOD + 'EFFICIENT_RESNET.override({"model.widht": 3})\n',
        11,
        "did you mean 'model.width'?",
    ),
    "a misspelt argument": (GOOD.replace("baseline=", "baselne="), 3, "Ablation.baselne: is not known"),
    "an ablation error": (GOOD.replace('control="a"', 'control="b"'), 3, "control 'b'"),
}


Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with one entry point, and the files of its package, where Python looks."""

    def installed(name: str, value: str, **files: str) -> Path:
        site = tmp_path / f"site-{name}"
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[cifar_lab.ablations]\nstudies = {value}\n")
        for path, text in files.items():
            file = site / f"{path.replace('__', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        monkeypatch.syspath_prepend(str(site))
        return site

    return installed


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


def test_a_file_with_the_old_import_paths_is_read(mine: Path) -> None:
    old = "from cifar_lab.ablation import Ablation, Claim, Variant\nfrom cifar_lab.recipe import EFFICIENT_RESNET"
    (mine / "old.py").write_text(GOOD.replace("from cifar_lab import EFFICIENT_RESNET, Ablation, Variant", old))
    assert discover(mine).find("old").baseline == discover(mine).find("mine").baseline


def test_the_docstring_of_a_file_is_kept_and_a_file_needs_none(mine: Path) -> None:
    (mine / "said.py").write_text('"""Which?\n\n    Source: me.\n"""\n' + GOOD)
    found = discover(mine)
    assert found.find("said").doc == "Which?\n\nSource: me."
    assert found.find("mine").doc == ""


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


def test_a_pipe_in_place_of_a_file_is_reported_and_not_waited_for(mine: Path) -> None:
    os.mkfifo(mine / "broken.py")
    (broken,) = discover(mine).broken()
    assert broken.reason == "broken.py:1: a device or a pipe, not a file"


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
        "import sys; from cifar_lab.ablation.registry import discover; assert discover().names();"
        "sys.exit(' '.join({'torch', 'numpy', 'scipy', 'torchvision', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_a_packages_ablations_are_found_and_the_package_is_not_imported(install: Install) -> None:
    site = install("lab_a", "lab_a.ablations", lab_a__ablations__theirs=GOOD)
    for folder in ("lab_a", "lab_a/ablations"):
        (site / folder / "__init__.py").write_text("raise ValueError('imported')")
    found = discover()
    assert found.broken() == []
    assert found.find("theirs").question == "Mine?"
    assert (found.origin("theirs"), found.origin("se_ratio")) == ("lab_a", "built-in")
    assert "lab_a" not in sys.modules
    assert not list(site.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("lab_b", "lab_b__theirs"),
        ("lab_b.deep.studies", "lab_b__deep__studies__theirs"),
        ("theirs", "theirs"),
        ("lab_b.theirs", "lab_b__theirs"),
    ],
    ids=["the package itself", "folders without __init__.py", "one module", "one module in a package"],
)
def test_a_package_may_be_folders_or_one_module(install: Install, value: str, path: str) -> None:
    install("lab_b", value, **{path: GOOD})
    assert discover().origin("theirs") == "lab_b"
    assert discover().find("theirs").name == "theirs"
    assert discover().broken() == []


def test_an_ablation_of_a_package_may_import_its_neighbours(install: Install) -> None:
    text = GOOD.replace('"Mine?"', "QUESTION").replace("\n\n", "\nfrom lab_c.words import QUESTION\n\n", 1)
    install("lab_c", "lab_c.ablations", lab_c__ablations__theirs=text, lab_c__words='QUESTION = "Ours?"\n')
    assert discover().find("theirs").question == "Ours?"


def test_a_package_replaces_neither_a_built_in_ablation_nor_another_packages(install: Install, mine: Path) -> None:
    install("lab_d", "lab_d", lab_d__se_ratio=GOOD, lab_d__theirs=GOOD.replace("Mine?", "First?"))
    install("lab_e", "lab_e", lab_e__theirs=GOOD.replace("Mine?", "Second?"), lab_e__other=GOOD)
    found = discover()
    assert found.find("se_ratio").question != "Mine?"
    assert found.find("theirs").question == "First?"
    assert found.find("other").question == "Mine?"
    assert [entry.reason for entry in found.broken()] == [
        "package lab_d: se_ratio.py is not used: an ablation 'se_ratio' is there already (built-in)",
        "package lab_e: theirs.py is not used: an ablation 'theirs' is there already (lab_d)",
    ]
    (mine / "theirs.py").write_text(GOOD)
    assert discover(mine).find("theirs").question == "Mine?"
    assert discover(mine).origin("theirs") == str(mine)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("lab_nowhere.ablations", "no module named 'lab_nowhere'"),
        ("lab_f.ablation", "holds no 'ablation'; did you mean 'ablations'?"),
        ("lab_f.ablations.theirs.deeper", "theirs.py holds no 'deeper'"),
        ("lab_f.empty", "no ablation in"),
        ("lab_f.ablations:ABLATION", "a package's name is wanted"),
        ("lab f", "a package's name is wanted"),
        ("itertools", "neither a folder nor a .py file"),
    ],
)
def test_a_package_that_cannot_be_found_is_reported_by_name_and_hides_no_other(
    install: Install, mine: Path, value: str, said: str
) -> None:
    install("lab_f", value, lab_f__ablations__theirs=GOOD, lab_f__empty____init__="")
    install("lab_g", "lab_g", lab_g__good=GOOD)
    found = discover(mine)
    (broken,) = found.broken()
    assert broken.name == "lab_f:studies"
    assert broken.reason.startswith(f"package lab_f: entry point studies = '{value}': ")
    assert said in broken.reason
    assert "\n" not in broken.reason
    assert {"mine", "good", "se_ratio"} <= set(found.names())


def test_a_broken_file_of_a_package_is_reported_with_the_package(install: Install) -> None:
    install("lab_h", "lab_h", lab_h__theirs="x = 1\nraise ValueError('no good')\n", lab_h__good=GOOD)
    (broken,) = discover().broken()
    assert broken.reason == "package lab_h: theirs.py:2: ValueError: no good"
    with pytest.raises(RegistryError, match="package lab_h: theirs"):
        discover().find("theirs")
    assert "good" in discover().names()


def test_a_package_in_a_zip_is_reported(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("lab_i", "lab_zipped.ablations")
    with zipfile.ZipFile(tmp_path / "lab.zip", "w") as archive:
        archive.writestr("lab_zipped/__init__.py", "")
        archive.writestr("lab_zipped/ablations/theirs.py", GOOD)
    monkeypatch.syspath_prepend(str(tmp_path / "lab.zip"))
    (broken,) = discover().broken()
    assert "lab.zip/lab_zipped" in broken.reason


def test_two_entry_points_of_one_package_are_no_clash(install: Install) -> None:
    site = install("lab_j", "lab_j", lab_j__theirs=GOOD)
    (site / "lab_j-1.0.dist-info" / "entry_points.txt").write_text("[cifar_lab.ablations]\na = lab_j\nb = lab_j\n")
    assert discover().broken() == []


def test_what_a_file_prints_stays_out_of_standard_output(mine: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (mine / "mine.py").write_text(GOOD + 'print("hello")\n')
    assert discover(mine).find("mine")
    assert capfd.readouterr() == ("", "hello\n")


def test_names_are_known_before_a_file_is_read(mine: Path) -> None:
    (mine / "broken.py").write_text("raise ValueError")
    assert {"mine", "broken", "se_ratio"} <= set(discover(mine).known())


def test_finding_one_reads_no_other(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mine / "other.py").write_text(GOOD + 'print("read")\n')
    discover(mine).find("mine")
    assert capsys.readouterr().err == ""


def test_a_line_is_named_where_the_folder_is_relative(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mine / "broken.py").write_text("\n\n\n\nraise ValueError('here')\n")
    monkeypatch.chdir(mine.parent)
    reasons = [broken.reason for broken in discover(Path(mine.name)).broken()]
    assert reasons == ["broken.py:5: ValueError: here"]


def test_a_file_that_never_comes_to_its_end_is_given_up_and_hides_no_other(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mine / "endless.py").write_text("while True:\n    pass\n")
    (mine / "good.py").write_text(GOOD)
    monkeypatch.setattr(declaration_file, "WITHIN", 1.0)
    found = discover(mine)
    assert [broken.reason for broken in found.broken()] == ["endless.py:1: did not come to its end within 1 s"]
    assert "good" in found.names()


def test_a_file_with_a_class_of_its_own_is_read_all_the_same(mine: Path) -> None:
    own = GOOD.replace("ABLATION = Ablation(", "class Mine(Ablation):\n    pass\n\n\nABLATION = Mine(")
    (mine / "own.py").write_text(own)
    assert discover(mine).find("own").question == "Mine?"


def test_a_value_of_thousands_of_characters_is_cut_in_the_middle(mine: Path) -> None:
    (mine / "long.py").write_text("raise ValueError('begin ' + 'x' * 5000 + ' end')\n")
    (reason,) = [broken.reason for broken in discover(mine).broken()]
    assert reason.startswith("long.py:1: ValueError: begin xxx")
    assert reason.endswith("xxx end")
    assert len(reason) < 300
