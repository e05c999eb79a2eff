"""Many runners on one ablation: each cell is trained once, and nobody hears of a locked database."""

from __future__ import annotations

import re
from typing import Any

import pytest
from faults.table import store, undisturbed
from faults.table.lab import Lab, Material, write_images, write_study
from faults.table.tally import Tally

from cifar_lab.store.journal import read_events

pytestmark = pytest.mark.slow
BROKEN = re.compile(r"database is locked|operationalerror|integrityerror|traceback", re.IGNORECASE)


def test_many_runners(tally: Tally, lab: Lab, material: Material, tmp_path_factory: Any) -> None:
    """Tries are cells here: one runner for each 25 of them, and two at least."""
    cells = tally.tries
    seeds = max(1, min(8, cells // 3))
    variants = cells // seeds
    runners = max(2, cells // 25)
    few = Material(root=tmp_path_factory.mktemp("few"))
    write_images(few.images, train=2, test=1)
    few.ablations.mkdir()
    write_study(
        few.ablations / "tiny.py", width=1, epochs=1, variants=variants, seeds=seeds, val_fraction=0.5
    )  # fmt: skip
    crowd = Lab(folder=lab.folder / "crowd", material=few)
    undisturbed.copy_store(material, crowd.folder / "mlflow.db")
    line = [word if word != "2" else "1" for word in crowd.line()]
    try:
        started = [crowd.start([*line, "--json"], name=f"-{number}") for number in range(runners)]
        ended = [crowd.done(each, name=f"-{number}", patience=900) for number, each in enumerate(started)]
        synced = crowd.run("sync", "--runs", str(crowd.runs), patience=600)
    finally:
        crowd.end()
    general = [problem for done in (*ended, synced) for problem in done.problems(0)]
    general += [match[0] for done in (*ended, synced) if (match := BROKEN.search(done.err + done.out))]
    lacking, held = store.lacks(store.sqlite_address(crowd.folder / "mlflow.db"), crowd.records())
    for record in crowd.records():
        events = [event.kind for event in read_events(record.folder)]
        counts = (events.count("start"), events.count("end"), record.state())
        mine = [problem for problem in lacking if record.fingerprint[:12] in problem]
        tally.add(mine + ([f"starts, ends, state: {counts}"] if counts != (1, 1, "finished") else []),
                  record.fingerprint[:12])  # fmt: skip
    elsewhere = [each for each in lacking if not any(r.fingerprint[:12] in each for r in crowd.records())]
    if general or elsewhere or len(crowd.records()) != variants * seeds:
        tally.lost.append("; ".join([f"{len(crowd.records())} of {variants * seeds} cells", *general, *elsewhere][:5]))
    tally.notes["runners"] = str(runners)
    tally.notes["points in MLflow"] = str(held)
    tally.settle()
