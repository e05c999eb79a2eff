"""The programs' parts that measure nothing by themselves."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from programs.slow_store import SlowStore
from programs.stopwatch import Stopwatch

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def test_the_stopwatch_leaves_out_the_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 101.0, 103.0, 104.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    watch = Stopwatch(warmup=1, steps=3)
    for _ in range(4):
        assert not watch.is_done
        watch.tick(128)
    assert watch.is_done
    numbers = watch.numbers()
    assert numbers == {"images_per_second": 96.0, "longest_step_seconds": 2.0}


def test_the_slow_store_answers_late_and_counts_what_it_is_sent() -> None:
    store = SlowStore(delay=0.2)
    body = json.dumps({"run_id": "1", "metrics": [{"key": "a"}, {"key": "b"}]}).encode()
    began = time.monotonic()
    with urllib.request.urlopen(f"{store.uri}/api/2.0/mlflow/runs/log-batch", data=body) as answer:
        assert json.load(answer) == {}
    assert time.monotonic() - began >= 0.2
    assert (store.answers, store.metrics) == (1, 2)


@pytest.mark.parametrize("folder", [BENCHMARKS, BENCHMARKS / "programs"], ids=lambda folder: folder.name)
def test_no_file_there_hides_a_module_of_python_or_of_a_library(folder: Path) -> None:
    names = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()} - {"__init__"}
    assert not names & (set(sys.stdlib_module_names) | set(packages_distributions()))
