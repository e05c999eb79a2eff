"""Names of studies and storages: what cannot be one is refused before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_lab.errors import UsageError
from cifar_lab.search.study_name import LONGEST, require_storage, require_study_name, slug_of


@pytest.mark.parametrize("name", ["wide", "my study", "lr-2.5e-4", "A", "0", "a_b+c", "x" * LONGEST])
def test_plain_names_are_taken(name: str) -> None:
    require_study_name(name)


@pytest.mark.parametrize(
    "name",
    ["", " ", "it's", 'a"b', "a/b", "a\\b", "../../up", "..", ".hidden", "-x", "<script>alert(1)</script>", "a\nb",
     "a ", "\x1b]0;title\x07", "a\0b", "ä", "a..b", "x" * (LONGEST + 1), "`id`", "a%b", "$HOME"],
)  # fmt: skip
def test_others_are_refused_in_one_printable_line(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        require_study_name(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@given(st.text(max_size=120))
def test_a_name_that_is_proposed_is_valid(name: str) -> None:
    slug = slug_of(name)
    if slug:
        require_study_name(slug)


@pytest.mark.parametrize(
    "url", [None, "my.journal", "a=b/my.journal", "./a:b@c.journal", "sqlite:///x.db", "postgresql://me@db/x"]
)
def test_urls_and_paths_are_storages(url: str | None) -> None:
    require_storage(url)


@pytest.mark.parametrize(
    "url", ["host=db password=s3cret", "password='s3 cret' host=db", "HOST=db;PASSWORD=s3cret", "dbname=x user=s3cret"]
)
def test_a_connection_string_is_refused_without_its_values(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        require_storage(url)
    assert "cret" not in str(caught.value)
    assert "postgresql+psycopg://" in str(caught.value)


@pytest.mark.parametrize("url", ["u:12345/s3cret@h/db", "u:s3cret@h:5432", "postgresql:u:s3/cret@h"])
def test_an_address_without_a_scheme_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(UsageError, match=r"--storage .*\*\*\*@h.*: names no scheme; .* postgresql\+psycopg") as caught:
        require_storage(url)
    assert "cret" not in str(caught.value)


def test_a_file_of_an_earlier_version_with_such_a_name_is_read(folder: Path) -> None:
    Path("password=x").touch()
    require_storage("password=x")
