"""The confusion of classes in 80 columns: distinct names or numbers in the header, the largest entries of big ones."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cifar_lab.cli.confusion_table import confusion_table
from cifar_lab.data.original_images import CLASSES

CLASSES_100 = [f"kind{n:02}" for n in range(100)]


def lines(classes: list[str], counts: list[list[int]], width: int = 80) -> list[str]:
    heading, table = confusion_table(classes, counts, width)
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return [heading, *(line.rstrip() for line in out.getvalue().splitlines())]


def matrix(count: int, diagonal: int = 900) -> list[list[int]]:
    return [[diagonal if row == column else row for column in range(count)] for row in range(count)]


def test_ten_classes_have_names_that_are_cut_and_distinct() -> None:
    heading, header, *rows = lines(list(CLASSES), matrix(10))
    assert heading == "confusion: rows are labels, columns predictions"
    assert header.split() == ["airplane", "automobi", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    assert [row.split()[0] for row in rows] == list(CLASSES)
    assert rows[3].split()[1:] == ["3", "3", "3", "900", *["3"] * 6]
    assert max(map(len, (header, *rows))) <= 80


def test_a_wide_terminal_has_whole_names() -> None:
    assert lines(list(CLASSES), matrix(10), width=150)[1].split() == list(CLASSES)


def test_longer_counts_cut_the_names_more() -> None:
    _, header, *rows = lines(list(CLASSES), matrix(10, 9_000))
    assert header.split() == ["airplan", "automob", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    assert max(map(len, (header, *rows))) <= 80


@pytest.mark.parametrize(
    ("names", "diagonal"),
    [([f"vehicle {n}" for n in range(10)], 900), ([f"{name} seen from far above" for name in CLASSES], 90)],
)
def test_names_that_would_not_be_distinct_or_leave_no_room_are_numbers(names: list[str], diagonal: int) -> None:
    _, header, *rows = lines(names, matrix(10, diagonal))
    assert header.split() == [str(n) for n in range(10)]
    assert [row.partition("  ")[0] for row in rows] == [f"{n} {name}" for n, name in enumerate(names)]
    assert max(map(len, (header, *rows))) <= 80


def test_a_hundred_classes_have_their_largest_confusions() -> None:
    counts = [[90 if row == column else 0 for column in range(100)] for row in range(100)]
    counts[11][35], counts[35][11], counts[50][74] = 10, 7, 10
    heading, header, *rows = lines(CLASSES_100, counts)
    assert heading == "the 3 most frequent of 3 confusions; -o FILE.json has the whole matrix"
    assert header.split() == ["label", "prediction", "images", "%", "of", "the", "label"]
    assert [row.split() for row in rows] == [
        [CLASSES_100[11], CLASSES_100[35], "10", "10.0"], [CLASSES_100[50], CLASSES_100[74], "10", "10.0"],
        [CLASSES_100[35], CLASSES_100[11], "7", "7.2"],
    ]  # fmt: skip
    assert len(lines(CLASSES_100, matrix(100))) == 2 + 20
    assert max(map(len, (header, *rows))) <= 80


def test_no_confusion_is_said() -> None:
    counts = [[5 if row == column else 0 for column in range(100)] for row in range(100)]
    assert lines(CLASSES_100, counts)[0] == "no confusions; -o FILE.json has the whole matrix"
