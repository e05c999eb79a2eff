"""Contenders take turns in processes of their own, and one that fails holds up no other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from side_by_side.contender import Contender, Failed, take_turns
from side_by_side.results import Absent, Spread


def contender(name: str, folder: Path, code: str = "print('{\"speed\": 1}')", **more: object) -> Contender:
    return Contender(name=name, line=(sys.executable, "-c", code), folder=folder / name, **more)  # type: ignore[arg-type]


def test_rounds_go_a_b_a_b_and_each_is_a_fresh_process_in_an_empty_folder(tmp_path: Path) -> None:
    log = tmp_path / "log"
    line = f"print(NAME, os.getpid(), file=open({str(log)!r}, 'a'));"
    code = "import os; assert not os.listdir(); open('mine', 'w');" + line + "print('noise'); print('{\"speed\": 2}')"
    contenders = [contender(name, tmp_path, code.replace("NAME", repr(name))) for name in "AB"]
    found = take_turns(contenders, 3)
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [name for name, _ in lines] == ["A", "B"] * 3
    assert len({pid for _, pid in lines}) == 6
    assert found.of("A", "speed") == Spread((2, 2, 2))


def test_one_that_fails_is_absent_with_its_last_words_and_the_others_go_on(tmp_path: Path) -> None:
    bad = contender("bad", tmp_path, "import sys; sys.exit('no memory left')")
    found = take_turns([bad, contender("good", tmp_path)], 2)
    reason = found.of("bad", "speed")
    assert isinstance(reason, Absent)
    assert "code 1: no memory left" in reason.reason
    assert found.of("good", "speed") == Spread((1, 1))


def test_one_without_numbers_fails(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="no numbers"):
        contender("silent", tmp_path, "pass").run()


def test_what_is_not_installed_is_said_and_not_started(tmp_path: Path) -> None:
    found = take_turns([contender("peer", tmp_path, "1/0", needs="no_such_module")], 1)
    assert found.of("peer", "speed") == Absent("not installed")


def test_the_whole_process_is_timed(tmp_path: Path) -> None:
    found = contender("sleeper", tmp_path, "import time; time.sleep(0.2)", read=lambda printed, folder: {}).run()
    assert found["wall_seconds"] >= 0.2


def test_settings_of_the_shell_reach_no_contender_unless_it_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    names = "[name for name in os.environ if name.startswith(('OMP_', 'MALLOC_'))]"
    code = f"import json, os; print(json.dumps(dict.fromkeys({names}, 1)))"
    assert contender("plain", tmp_path, code).run().keys() == {"wall_seconds"}
    told = contender("told", tmp_path, code, environment={"MALLOC_TOP_PAD_": "1"})
    assert told.run().keys() == {"wall_seconds", "MALLOC_TOP_PAD_"}
