"""Artifacts of a search in the tracking store: its page, and its best recipe as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import optuna

from cifar_lab.report.sweep_page import report
from cifar_lab.search import sweep_page_builder


def artifacts(study: optuna.Study, runs: Path, storage: str | None = None) -> Mapping[str, str]:
    """Return `report.html`, and `best.json` for `train --recipe` once a trial has a value; `storage`, as typed.

    Raises:
        UsageError: the study is not one of cifar-lab, or its space has been changed since.
    """
    found = sweep_page_builder.load(study, runs=runs, storage=storage)
    best = {"best.json": json.dumps(found.recipe, indent=1) + "\n"} if found.recipe is not None else {}
    return {"report.html": report(found), **best}
