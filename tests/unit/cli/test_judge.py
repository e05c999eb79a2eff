"""`judge` reads tables as people have them, and refuses in one line what it cannot read."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

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
        ("", [], "is empty"),
        ("variant,seed,value\nbase,0,1\n", [], "'base' is the only variant"),
        ("variant,seed,value\nbase,0\nnew,0,1\n", [], "line 2 has 2 fields, the header has 3"),
        (TABLE + "new,3,95.1,\n", [], "line 8 has 4 fields, the header has 3"),
        (TABLE + "new,3,95,1\n", [], "the header has 3; a number with a decimal comma is two fields: write a decimal"),
        ("variant;seed;value\nbase;0;95,1\n", [], "'95,1' is no number; write a decimal point"),
        (TABLE + "new,2.0,95.1\n", [], "line 8: variant 'new' has seed 2 twice"),
        ("variant,seed,value,value\nbase,0,1,2\n", [], "has column 'value' 2 times"),
        (TABLE + 'new,3,95.1,"open\nbase,3,95.5\n', [], "unexpected end of data"),
        (TABLE + "new,3,1e200\n", [], "line 8, column 'value': '1e200' is too large to be a measurement"),
    ],
)
def test_bad_input_is_one_line(text: str, words: list[str], said: str, tmp_path: Path, capsys: Any) -> None:
    (path := tmp_path / "made.csv").write_text(text)
    asked = {"--control": "base", "--margin": "0.2", **dict(zip(words[::2], words[1::2], strict=True))}
    code, out, err = judged(capsys, path, *(word for pair in asked.items() for word in pair))
    assert (code, out) == (2, "")
    assert said in " ".join(err.split())
    assert len(err.strip().splitlines()) == 1


def test_a_hint_at_decimal_commas_is_given_only_where_there_may_be_one(table: Path, capsys: Any) -> None:
    table.write_text(TABLE + "8,new,3,95.1\n")
    code, _, err = judged(capsys, table, "--control", "base", "--margin", 0.2)
    assert (code, "line 8 has 4 fields" in err, "decimal comma" in err) == (2, True, False)


def test_blank_rows_are_left_out(table: Path, capsys: Any) -> None:
    _, expected, _ = judged(capsys, table, "--control", "base", "--margin", 0.2)
    table.write_text(TABLE.replace("\n", "\n\n,,\n  \n"))
    assert judged(capsys, table, "--control", "base", "--margin", 0.2) == (0, expected, "")


@pytest.mark.parametrize("form", ["{}.0", "0{}", "{}e0", "{}.000000000000000000e+00"])
def test_a_seed_is_its_number_however_it_is_written(form: str, table: Path, capsys: Any) -> None:
    _, expected, _ = judged(capsys, table, "--control", "base", "--margin", 0.2)
    rows = "".join(f"{name},{form.format(seed) if name == 'new' else seed},{value}\n" for name, seed, value in ROWS)
    table.write_text("variant,seed,value\n" + rows)
    assert judged(capsys, table, "--control", "base", "--margin", 0.2) == (0, expected, "")


def test_names_of_seeds_that_are_no_whole_numbers_stay_apart(table: Path, capsys: Any) -> None:
    names = ["1", "1_0", "10", "1.5", "1.50", "s1", str(2**60), str(2**60 + 1)]
    rows = [f"{name},{seed},{95 + at}\n" for name in ("base", "new") for at, seed in enumerate(names)]
    table.write_text("variant,seed,value\n" + "".join(rows))
    _, out, _ = judged(capsys, table, "--control", "base", "--margin", 0.2, "--json")
    assert json.loads(out)["rows"][1]["pairs"] == len(names)


def test_files_that_are_no_tables_are_refused(tmp_path: Path, capsys: Any) -> None:
    (binary := tmp_path / "b.csv").write_bytes(b"variant,seed,value\n\xff\xfe,0,1\n")
    for path, said in (
        (tmp_path / "none.csv", "no such file"),
        (tmp_path, "a folder; a file is wanted"),
        (binary, "is not UTF-8"),
    ):
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


def test_the_same_rows_are_one_look_however_they_are_written(table: Path, tmp_path: Path, capsys: Any) -> None:
    header, *rows = TABLE.splitlines()
    reordered = "\n".join([header, *reversed(rows)])
    texts = [
        TABLE, reordered, "\ufeff" + TABLE.replace("\n", "\r\n"), TABLE.replace(",", ";"), TABLE.replace(".0\n", "%\n"),
        TABLE.replace("seed", "repeat"), TABLE.replace("94.9", "94.8"),
    ]  # fmt: skip
    looks = []
    for text in texts:
        table.write_bytes(text.encode())
        seed = ("--seed", "repeat") if "repeat" in text else ()
        words = (table, "--control", "base", "--margin", 0.2, "--json", "--ledger", tmp_path / "looks.jsonl")
        looks.append(json.loads(judged(capsys, *words, *seed)[1])["look"])
    assert looks == [1, 1, 1, 1, 1, 1, 2]


def test_a_look_of_an_earlier_version_is_known_by_the_digest_of_its_file(
    table: Path, tmp_path: Path, capsys: Any
) -> None:
    book = tmp_path / "looks.jsonl"
    words = (table, "--control", "base", "--margin", 0.2, "--json", "--ledger", book)
    judged(capsys, *words)
    entry = json.loads(book.read_text())
    assert entry["sha256"] == hashlib.sha256(TABLE.encode()).hexdigest()
    del entry["rows"]
    book.write_text(json.dumps(entry) + "\n")
    assert json.loads(judged(capsys, *words)[1])["look"] == 1
    table.write_text(TABLE + "new,3,95.5\n")
    assert json.loads(judged(capsys, *words)[1])["look"] == 2


def test_a_name_with_a_line_break_cannot_look_like_another_row(table: Path, capsys: Any) -> None:
    table.write_text(TABLE + '"new\nfake 3 99",0,95.1\n')
    _, out, _ = judged(capsys, table, "--control", "base", "--margin", 0.2)
    assert "new\\nfake" in out


def test_a_variant_with_fewer_pairs_than_seeds_says_so(table: Path, capsys: Any) -> None:
    table.write_text(TABLE + "new,7,90.0\n")
    _, out, _ = judged(capsys, table, "--control", "base", "--margin", 0.2)
    assert "Δ over 3 of 4 seeds" in out


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["base,0,95.0", "base,1,95.2", "base,2,94.9", "new,0,95.6", "new,1,95.7"], "Δ over 2 of 3 seeds"),
        (["base,0,95.0", "base,1,95.2", "base,8,94.9", "new,0,95.6", "new,1,95.7", "new,9,95"], "Δ over 2 of 4 seeds"),
        ([*TABLE.split()[1:], "base,3,95.1", "new,3,nan"], "1 that came to no number; Δ over 3 of 4 seeds"),
    ],
)
def test_a_seed_that_one_side_lacks_is_noted(rows: list[str], said: str, table: Path, capsys: Any) -> None:
    table.write_text("\n".join(["variant,seed,value", *rows]))
    _, out, _ = judged(capsys, table, "--control", "base", "--margin", 0.2)
    assert said in " ".join(_cells(out, "new"))
    assert "Δ over" not in " ".join(_cells(out, "base"))


def _cells(out: str, variant: str) -> list[str]:
    """Return the words of a variant's row, with the lines that its note goes on in."""
    table, _, _ = out.partition("\n\n")
    lines = table.splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith(f"{variant} "))
    following = itertools.takewhile(lambda line: line.startswith(" "), lines[first + 1 :])
    return " ".join([lines[first], *following]).split()


def test_a_lost_number_is_noted_once(table: Path, capsys: Any) -> None:
    table.write_text(TABLE + "base,3,95.1\nnew,3,nan\nlost,0,nan\nlost,1,nan\n")
    _, out, _ = judged(capsys, table, "--control", "base", "--margin", 0.2)
    assert "without a number" not in out
    assert " ".join(_cells(out, "lost")) == "lost 0 no number"
    _, out, _ = judged(capsys, table, "--control", "lost", "--margin", 0.2)
    assert "2 without a number" in " ".join(_cells(out, "lost"))
    assert "the control has no number" in " ".join(_cells(out, "base"))
    assert "interval:" not in out


@pytest.mark.parametrize("rows", ["base,0,95\nnew,0,96\n", "base,0,95\nnew,0,nan\n", "base,0,95\nnew,1,96\n"])
def test_without_an_interval_no_method_is_named(rows: str, table: Path, capsys: Any) -> None:
    table.write_text("variant,seed,value\n" + rows)
    code, out, _ = judged(capsys, table, "--control", "base", "--margin", 0.2)
    assert (code, "interval:" in out, "margin: 0.20" in out) == (0, False, True)


@pytest.mark.parametrize(
    ("scales", "margin", "said"),
    [
        ((0.01, 0.01), 0.2, "--margin 0.2 is more than the whole range of the values, 0.949 to 0.957"),
        ((0.01, 1), 0.2, "'base' has 0.952 and 'new' has 95.5: fractions and per cent seem to be mixed"),
        ((1, 0.01), 0.2, "'new' has 0.957 and 'base' has 94.9: fractions and per cent seem to be mixed"),
        ((0.01, 0.01), 0.002, ""),
        ((1, 1), 2, ""),
        ((0.01, 0.02), 0.2, ""),
    ],
)
def test_units_that_seem_mixed_are_warned_of_in_one_line(
    scales: tuple[float, float], margin: float, said: str, table: Path, capsys: Any
) -> None:
    scale = dict(zip(("base", "new"), scales, strict=True))
    rows = [f"{name},{seed},{value * scale[name]:.6g}" for name, seed, value in ROWS]
    table.write_text("\n".join(["variant,seed,value", *rows]))
    code, out, err = judged(capsys, table, "--control", "base", "--margin", margin, "--json")
    assert (code, json.loads(out)["margin"], err.count("\n")) == (0, margin, bool(said))
    assert said in err


def test_the_digits_of_small_values_follow_them(table: Path, capsys: Any) -> None:
    table.write_text("variant,seed,value\na,0,0.0012\na,1,0.0014\nb,0,0.0021\nb,1,0.0026\n")
    _, out, _ = judged(capsys, table, "--control", "a", "--margin", 0.5)
    assert "0.0013" in _cells(out, "a")
    assert "+0.0011" in _cells(out, "b") or "+0.0010" in _cells(out, "b")


def test_other_columns_are_another_question_and_another_path_is_not(table: Path, tmp_path: Path, capsys: Any) -> None:
    lines = TABLE.splitlines()
    text = "\n".join([lines[0] + ",other", *(f"{line},{-i}" for i, line in enumerate(lines[1:]))])
    looks = []
    for name, words in (("a", []), ("b", []), ("b", ["--seed", "other"])):
        (path := tmp_path / f"{name}.csv").write_text(text)
        _, out, _ = judged(
            capsys, path, "--control", "base", "--margin", 0.2, "--json", "--ledger", tmp_path / "l", *words
        )
        looks.append(json.loads(out)["look"])
    assert looks == [1, 1, 2]


def test_a_ledger_that_lost_the_end_of_its_line_goes_on_below_it(table: Path, tmp_path: Path, capsys: Any) -> None:
    book = tmp_path / "looks.jsonl"
    for margin in (0.2, 0.3, 0.3):
        code, _, err = judged(capsys, table, "--control", "base", "--margin", margin, "--ledger", book)
        assert code == 0, err
        book.write_text(book.read_text().rstrip("\n"))
    assert len(book.read_text().splitlines()) == 2
    book.write_text(book.read_text()[:-20])
    code, _, err = judged(capsys, table, "--control", "base", "--margin", 0.3, "--ledger", book)
    assert (code, "delete it if writing it was interrupted" in " ".join(err.split())) == (2, True)


@pytest.mark.parametrize("place", [".", "none/looks.jsonl", "/dev/full", "table/looks.jsonl", "latin"])
def test_a_ledger_that_cannot_be_kept_is_one_line_and_leaves_nothing(
    place: str, table: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "latin").write_bytes(b"\xff\n")
    before = sorted(tmp_path.rglob("*"))
    code, out, err = judged(capsys, table, "--control", "base", "--margin", 1, "--ledger", tmp_path / place)
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
    assert sorted(path for path in tmp_path.rglob("*") if path.suffix != ".lock") == before


def test_an_interrupted_write_leaves_the_ledger_as_it_was(
    table: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = tmp_path / "looks.jsonl"
    assert judged(capsys, table, "--control", "base", "--margin", 0.2, "--ledger", book)[0] == 0
    before = book.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", full)
    code, out, err = judged(capsys, table, "--control", "base", "--margin", 0.3, "--ledger", book)
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
    assert book.read_bytes() == before


def test_a_ledger_that_another_process_holds_is_given_up_in_one_line(
    table: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = tmp_path / "looks.jsonl"
    monkeypatch.setattr("cifar_lab.results.ledger.PATIENCE", 0.1)
    with FileLock(f"{book}.lock"):
        code, out, err = judged(capsys, table, "--control", "base", "--margin", 0.3, "--ledger", book)
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
    assert not book.exists()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Database of MLflow with the runs of `ROWS` in an experiment, and one run that is no training."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("store") / "made.db"
    client = MlflowClient(f"sqlite:///{path}")
    made = client.create_experiment("elsewhere")
    for name, seed, value in ROWS:
        run_id = client.create_run(made, tags={"model": name}).info.run_id
        client.log_param(run_id, "seed", seed)
        client.log_metric(run_id, "test/acc", value - 5, step=0)
        client.log_metric(run_id, "test/acc", value, step=1)
        client.set_terminated(run_id)
    client.set_terminated(client.create_run(made, run_name="summary").info.run_id)
    return path


@pytest.fixture
def experiment(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow's own client on a copy of the store, and the id of the experiment."""
    from mlflow.tracking import MlflowClient

    shutil.copy(store, tmp_path / "made.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri := f"sqlite:///{tmp_path}/made.db")
    client = MlflowClient(uri)
    return client, client.get_experiment_by_name("elsewhere").experiment_id


MLFLOW = ("mlflow:elsewhere", "--variant", "tags.model", "--seed", "seed", "--value", "metrics.test/acc",
          "--control", "base", "--margin", 0.2)  # fmt: skip


def test_an_experiment_of_mlflow_is_judged_like_a_table(experiment: Any, table: Path, capsys: Any) -> None:
    _, out, _ = judged(capsys, *MLFLOW, "--json")
    _, of_table, _ = judged(capsys, table, "--control", "base", "--margin", 0.2, "--json")
    assert json.loads(out) == json.loads(of_table) | {"left_out": 1}
    code, out, err = judged(capsys, *MLFLOW)
    assert (code, err) == (0, "")
    assert "1 run without a variant and a seed left out" in out


def test_a_run_that_failed_in_mlflow_came_to_no_number(experiment: Any, capsys: Any) -> None:
    client, made = experiment
    for name, status in (("base", "FINISHED"), ("new", "FAILED")):
        run_id = client.create_run(made, tags={"model": name}).info.run_id
        client.log_param(run_id, "seed", 3)
        client.log_metric(run_id, "test/acc", 95.1)
        client.set_terminated(run_id, status)
    _, out, _ = judged(capsys, *MLFLOW)
    assert "better without 1 that came to no number" in " ".join(out.split())


def test_the_same_numbers_of_mlflow_are_one_look(experiment: Any, tmp_path: Path, capsys: Any) -> None:
    looks = [json.loads(judged(capsys, *MLFLOW, "--ledger", tmp_path / "l", "--json")[1])["look"] for _ in range(2)]
    assert looks == [1, 1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mlflow:elsewere", *MLFLOW[1:]], "no experiment named 'elsewere'"),
        ([*MLFLOW, "--value", "metrics.test/ac"], "no column 'metrics.test/ac'; did you mean 'metrics.test/acc'?"),
        ([*MLFLOW, "--variant", "params.model"], "has no column 'params.model'"),
        ([*MLFLOW, "--seed", "tags.model"], "variant 'base' has seed base twice"),
    ],
)
def test_what_mlflow_does_not_have_is_named(experiment: Any, words: list[object], said: str, capsys: Any) -> None:
    code, out, err = judged(capsys, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_a_mistake_in_the_kind_of_source_names_the_right_one(capsys: Any) -> None:
    code, out, err = judged(capsys, "mlflw:elsewhere", *MLFLOW[1:])
    assert (code, out) == (2, "")
    assert err == "cifar-lab: mlflw:elsewhere: no such file; an experiment is mlflow:NAME\n"


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    code, _, err = judged(capsys, *MLFLOW)
    assert code == 2
    assert "no MLflow store at" in err
    assert not list(tmp_path.iterdir())
