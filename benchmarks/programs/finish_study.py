"""Create a runs folder in which every cell of a study is finished, with records written directly.

    python finish_study.py se_ratio --seeds 0-199 --scale smoke --data synthetic --ship

With `--ship` the MLflow store of the current folder has them, too, without figures, which take seconds per cell.
"""

from __future__ import annotations

import random
from argparse import ArgumentParser
from pathlib import Path

from records import write_finished

from cifar_lab.ablation import registry
from cifar_lab.config import scale
from cifar_lab.data import load
from cifar_lab.execution.plan import make_plan, parse_seeds
from cifar_lab.execution.runner import invocation_of, job_of
from cifar_lab.execution.settings import choose_execution
from cifar_lab.mlflow_sync import client
from cifar_lab.mlflow_sync.uploader import sync_invocations
from cifar_lab.store.invocation import RecordedCommand, read_all


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("ablation")
    parser.add_argument("--seeds", required=True)
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--ship", action="store_true", help="fill the MLflow store, too")
    asked = parser.parse_args()
    runs, chance = asked.runs.resolve(), random.Random(0)
    dataset = load(asked.data)
    plan = make_plan(
        registry.discover().find(asked.ablation), scale=scale.find_scale(asked.scale), source=asked.data,
        dataset=dataset,
        runs=runs, seeds=parse_seeds(asked.seeds),
    )  # fmt: skip
    execution, _ = choose_execution("cpu", "auto", len(plan.cells))
    runs.mkdir(parents=True, exist_ok=True)
    for cell in plan.cells:
        write_finished(job_of(cell, plan, runs, execution), dataset, accuracy=chance.uniform(0.85, 0.95))
    invocation_of(plan, execution, RecordedCommand(typed="finish_study")).write(runs)
    if asked.ship:
        store = client.MLflowStore.open(client.resolve_uri())
        shipped, left = sync_invocations(runs, read_all(runs), store, draw=lambda _: {}, say=print)
        assert left == 0, f"{left} cells are not in the store, {shipped} are"
    print(f"{len(plan.cells)} cells")


if __name__ == "__main__":
    main()
