"""`judge` reads tables as people have them, and refuses in one line what it cannot read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cifar_lab.cli import run

ROWS = [("base", 0, 95.0), ("base", 1, 95.2), ("base", 2, 94.9), ("new", 0, 95.6), ("new", 1, 95.7), ("new", 2, 95.5)]
TABLE = "variant,seed,value\n" + "".join(f"{name},{seed},{value}\n" for name, seed, value in ROWS)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (path := tmp_path / "made.csv").write_text(TABLE)
    return path


def judged(capsys: Any, *words: object) -> tuple[int, str, str]:
    code = run(["judge", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_table_of_a_file_says_what_the_rule_decides(table: Path, capsys: Any) -> None:
    code, out, _ = judged(capsys, table, "--control", "base", "--margin", 0.2)
    assert code == 0
    assert "control" in out
    assert "better" in out
    assert "margin: 0.20; equivalent:" in out
    assert "interval: 95 %; paired by seed, Student" in out
    assert "note" not in out.partition("\n")[0]


def test_json_has_every_number(table: Path, capsys: Any) -> None:
    _, out, _ = judged(capsys, table, "--control", "base", "--margin", 0.2, "--json")
    tree = json.loads(out)
    assert (tree["comparisons"], tree["look"], tree["rows"][1]["verdict"]) == (1, None, "better")
    assert tree["rows"][1]["difference"] == pytest.approx(0.5667, abs=1e-3)


@pytest.mark.parametrize("delimiter", [";", "\t", ","])
def test_exports_with_other_columns_and_separators_are_read(delimiter: str, tmp_path: Path, capsys: Any) -> None:
    heading = delimiter.join(["Name", "State", "seed", "test_acc"])
    lines = [delimiter.join([name, "finished", str(seed), f"{value}%"]) for name, seed, value in ROWS]
    (path := tmp_path / "export.csv").write_bytes(("\ufeff" + "\r\n".join([heading, *lines])).encode())
    code, out, _ = judged(
        capsys, path, "--control", "base", "--margin", 0.2, "--variant", "Name", "--value", "test_acc", "--json"
    )
    assert (code, json.loads(out)["rows"][1]["verdict"]) == (0, "better")


@pytest.mark.parametrize("word", ["", "nan", "NaN", "None", "diverged", "inf"])
def test_a_training_without_a_number_decides_nothing(word: str, tmp_path: Path, capsys: Any) -> None:
    (path := tmp_path / "made.csv").write_text(TABLE + f"base,3,95.1\nnew,3,{word}\n")
    _, out, _ = judged(capsys, path, "--control", "base", "--margin", 0.2)
    assert "undecided" in out
    assert "better without 1 that came to no number" in " ".join(out.split())


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("variant,seed,valeu\na,0,1\n", [], "no column 'value'; did you mean 'valeu'?; --value names another"),
        (TABLE, ["--control", "bsae"], "--control bsae: "),
        (TABLE, ["--margin", "0"], "--margin 0: a difference that does not matter is above 0"),
        (TABLE, ["--margin", "nan"], "--margin nan"),
        (TABLE + "new,2,95.1\n", [], "line 8: variant 'new' has seed 2 twice"),
        (TABLE + "new,9,ninety\n", [], "line 8, column 'value': 'ninety' is no number"),
        (TABLE + ",9,95\n", [], "line 8: a variant and a seed are needed"),
        ("variant,seed,value\n", [], "has no rows"),
        ("", [], "no column 'variant'"),
        ("variant,seed,value\nbase,0,1\n", [], "'base' is the only variant"),
        ("variant,seed,value\nbase,0\nnew,0,1\n", [], ""),
    ],
)
def test_bad_input_is_one_line(text: str, words: list[str], said: str, tmp_path: Path, capsys: Any) -> None:
    (path := tmp_path / "made.csv").write_text(text)
    asked = {"--control": "base", "--margin": "0.2", **dict(zip(words[::2], words[1::2], strict=True))}
    code, out, err = judged(capsys, path, *(word for pair in asked.items() for word in pair))
    if said:
        assert (code, out) == (2, "")
        assert said in " ".join(err.split())
    assert len(err.strip().splitlines()) <= 1


def test_files_that_are_no_tables_are_refused(tmp_path: Path, capsys: Any) -> None:
    (binary := tmp_path / "b.csv").write_bytes(b"variant,seed,value\n\xff\xfe,0,1\n")
    for path, said in ((tmp_path / "none.csv", "no such file"), (tmp_path, "no such file"), (binary, "is not UTF-8")):
        code, _, err = judged(capsys, path, "--control", "a", "--margin", 1)
        assert (code, len(err.strip().splitlines())) == (2, 1)
        assert said in err


def test_a_ledger_counts_looks_and_widens_each(table: Path, tmp_path: Path, capsys: Any) -> None:
    book = tmp_path / "looks.jsonl"

    def look(*words: object) -> dict[str, Any]:
        code, out, err = judged(capsys, table, "--control", "base", "--margin", 0.2, "--ledger", book, "--json", *words)
        assert code == 0, err
        return json.loads(out)

    def width(tree: dict[str, Any]) -> float:
        low, high = tree["rows"][1]["interval"]
        return high - low

    first = look()
    assert (first["look"], first["confidence"]) == (1, pytest.approx(0.975))
    assert look()["look"] == 1, "the same question about the same numbers is no new look"
    table.write_text(TABLE + "base,3,95.1\nnew,3,95.6\n")
    second = look()
    assert (second["look"], second["confidence"]) == (2, pytest.approx(1 - 0.05 / 6))
    table.write_text(TABLE)
    assert width(look()) == pytest.approx(width(first))
    assert len(book.read_text().splitlines()) == 2
    book.write_text(book.read_text() + "{}\n")
    code, _, err = judged(capsys, table, "--control", "base", "--margin", 0.2, "--ledger", book)
    assert (code, "line 3: not an entry" in " ".join(err.split())) == (2, True)
