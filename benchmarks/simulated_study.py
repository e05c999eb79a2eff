"""Write a study of thousands of cells without training, by the product's own writers; accuracies are drawn.

    python benchmarks/simulated_study.py FOLDER --variants 100 --seeds 100        # 10,000 finished cells
    python benchmarks/simulated_study.py FOLDER --variants 100 --seeds 100 --workers 100
    python benchmarks/simulated_study.py FOLDER --variants 100 --seeds 101 --grow         # 100 cells more

The ablation `many` varies the learning rate. Its cells are planned by `execution.plan`, asked for in a note of
`execution.runner`, and have what a worker leaves: description, journal with points and checkpoints, weights,
predictions, confusion and result. Only the network is another one: 110 weights, so that 10,000 cells fit on a disk.

With `--workers` that many processes take the cells of one folder by `execution.scheduler` and the records' locks, as
runners on one file system do, each with a note of its own. `--empty` writes no cells. Nothing is forced to the disk
(`os.fsync`) unless `--sync` is given: ten thousand cells are not written within minutes otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import torch
from filelock import Timeout
from torch import Tensor, nn

from cifar_lab.ablation.ablation import Ablation, Variant
from cifar_lab.ablation.claim import Claim
from cifar_lab.config.execution import Execution
from cifar_lab.config.identity import NUMERICS
from cifar_lab.config.recipe import Recipe
from cifar_lab.config.scale import find_scale
from cifar_lab.data import load
from cifar_lab.data.dataset import Dataset
from cifar_lab.execution.engine import SettledCell
from cifar_lab.execution.plan import Plan, make_plan
from cifar_lab.execution.runner import invocation_of, job_of
from cifar_lab.execution.scheduler import Scheduler
from cifar_lab.execution.worker import CellJob
from cifar_lab.models.cost import network_cost
from cifar_lab.results.final_metrics import final_metrics
from cifar_lab.store import ablation_file
from cifar_lab.store.invocation import RecordedCommand
from cifar_lab.store.journal import Journal
from cifar_lab.store.record_files import CellFile, DataIdentity, ResultFile, StoredExecution, StoredRecipe
from cifar_lab.train.cell_artifacts import write_artifacts
from cifar_lab.train.evaluate import Evaluation

NAME = "many"
DATA = "synthetic"
EXECUTION = Execution(device="cpu", threads=1, precision="fp32")
COMMAND = RecordedCommand(typed=f"cifar-lab run-ablation {NAME} --scale smoke --data {DATA}")
SEED_DEVIATION, NOISE = 0.004, 0.006
"""Deviations of the accuracy between seeds, and of a cell about its seed and its variant."""
STEP = 0.02 / 100
"""Difference of the mean accuracies of two neighbouring variants."""
VAL_IMAGES = 200
CLAIM_WAIT = 0.05
"""Seconds between two tries of a worker that finds nothing to begin."""


def ablation(variants: int, seeds: int) -> Ablation:
    """Return the ablation with `variants` learning rates from 0.001 on, each 2 % above the one before."""
    rates = {f"lr{i:04}": round(0.001 * 1.02**i, 9) for i in range(variants)}
    names = list(rates)
    return Ablation(
        name=NAME,
        question="Which learning rate?",
        source="a simulation of many cells",
        baseline=Recipe().override({"optim.lr": rates[names[0]]}),
        factors=("optim.lr",),
        variants=tuple(Variant(name=name, diff={"optim.lr": rate}) for name, rate in rates.items()),
        control=names[0],
        claims=(Claim(quote="faster is better", source="a simulation", better=names[-1], worse=names[0]),),
        seeds=tuple(range(seeds)),
    )


def plan_study(runs: Path, study: Ablation, epochs: int) -> Plan:
    """Return the plan of the study at scale `smoke` with `epochs` epochs."""
    return make_plan(
        study, scale=find_scale("smoke"), source=DATA, dataset=load(DATA), runs=runs, overrides={"train.epochs": epochs}
    )


def ask(runs: Path, plan: Plan) -> None:
    """Write the note of a runner."""
    invocation_of(plan, EXECUTION, COMMAND).after_all(runs).write(runs)


def write_cell(job: CellJob, dataset: Dataset) -> None:
    """Write the record of a finished cell, in the order of a worker. The cell must be held."""
    record, recipe = job.record, job.recipe
    counted = network_cost(recipe.model, dataset.shape)
    record.write_cell(
        CellFile(
            fingerprint=job.fingerprint, seed=job.seed, recipe=StoredRecipe.of(recipe),
            data=DataIdentity(name=dataset.name, kind=dataset.kind, hash=dataset.hash),
            classes=tuple(dataset.classes), side=dataset.shape.side, parameters=counted.parameters, macs=counted.macs,
            numerics=NUMERICS, execution=StoredExecution.of(job.execution), provenance=job.provenance,
        )
    )  # fmt: skip
    journal = Journal(record.folder)
    journal.write("start", execution=job.execution.as_dict(), provenance=job.provenance.as_json())
    journal.write("resume", epoch=0, step=0)
    curve = list(_curve(job))
    for epoch, values in curve:
        journal.points(epoch, values)
        journal.write("checkpoint", epoch=epoch, step=0)
    journal.write("end", status="finished", epoch=recipe.train.epochs, step=0)
    draw = random.Random(f"test {job.fingerprint}")
    test = _evaluation(torch.from_numpy(dataset.test_labels).long(), curve[-1][1]["val/acc"], draw)
    val = _evaluation(torch.arange(VAL_IMAGES) % dataset.shape.classes, curve[-1][1]["val/acc"], draw)
    metrics = final_metrics(curve, recipe.train.protocol) | {"seconds": 60.0 * draw.uniform(0.9, 1.1)}
    metrics |= {"images_seen": 2520.0 * recipe.train.epochs, "test/acc": test.accuracy, "test/loss": test.loss}
    result = ResultFile(
        fingerprint=job.fingerprint, status="finished", epoch=recipe.train.epochs, step=None, time=journal.now(),
        metrics=metrics,
    )  # fmt: skip
    write_artifacts(record, _network(), test, dataset.classes, result, val)
    record.write_result(result.model_copy(update={"files": record.digests()}))


@cache
def _network() -> nn.Module:
    return nn.Linear(10, 10)


def _curve(job: CellJob) -> list[tuple[int, dict[str, float]]]:
    """Return the metrics of every epoch: accuracies that rise to a level of the seed, the variant, and the cell."""
    draw, rate = random.Random(job.fingerprint), job.recipe.optim.lr
    variant = round(torch.tensor(rate / 0.001).log().item() / torch.tensor(1.02).log().item())
    level = 0.8 + STEP * variant + random.Random(job.seed).gauss(0, SEED_DEVIATION) + draw.gauss(0, NOISE)
    epochs, curve = job.recipe.train.epochs, []
    for epoch in range(1, epochs + 1):
        accuracy = level * (1 - 0.5 ** (4 * epoch / epochs))
        curve.append((epoch, {
            "train/loss": 2 / epoch, "clean_train/acc": accuracy + 0.02, "val/acc": accuracy, "val/loss": 1 - accuracy,
            "lr": rate, "images_per_second": draw.uniform(900, 1100), "epoch_seconds": draw.uniform(5, 7),
            "memory/peak_mib": 800.0,
        }))  # fmt: skip
    return curve


def _evaluation(labels: Tensor, accuracy: float, draw: random.Random) -> Evaluation:
    """Return outputs for images of `labels`, of which about the share `accuracy` is right."""
    generator = torch.Generator().manual_seed(draw.getrandbits(60))
    wrong = torch.rand(len(labels), generator=generator) > accuracy
    predictions = torch.where(wrong, (labels + 1) % 10, labels)
    logits = torch.randn(len(labels), 10, generator=generator)
    logits[torch.arange(len(labels)), predictions] += 10
    loss = nn.functional.cross_entropy(logits, labels).item()
    right = (predictions == labels).float().mean().item()
    return Evaluation(loss=loss, accuracy=right, predictions=predictions, labels=labels, logits=logits)


def work_through(runs: Path, plan: Plan, dataset: Dataset, *, offset: int = 0) -> Counter[str]:
    """Take the cells of a plan as an engine does, and write those that are free; return what was counted.

    `offset`: cell to begin at, as runners that begin at different times do.
    """
    jobs = [job_of(cell, plan, runs, EXECUTION) for cell in plan.to_train()]
    queue, counts = Scheduler(jobs[offset:] + jobs[:offset]), Counter[str]()
    while len(queue):
        taken = queue.take(set())
        counts["takes"] += 1
        if taken is None:
            counts["waits"] += 1
            time.sleep(CLAIM_WAIT)
        elif isinstance(taken, SettledCell):
            counts["by others"] += 1
        else:
            try:
                with taken.record.owned(patience=0):
                    if taken.record.result() is None:
                        write_cell(taken, dataset)
                        counts["trained"] += 1
            except Timeout:
                counts["taken by another"] += 1
                queue.put_back(taken)
    return counts


def _worker(runs: Path, plan: Plan, dataset: Dataset, answers: object) -> None:
    torch.set_num_threads(1)
    ask(runs, plan)
    began = time.perf_counter()
    counts = work_through(runs, plan, dataset)
    mine = {"seconds": time.perf_counter() - began, "cpu": time.process_time(), "peak_mib": peak_mib()}
    answers.put(dict(counts) | mine)  # type: ignore[attr-defined]


def claim(runs: Path, plan: Plan, dataset: Dataset, workers: int) -> dict[str, float]:
    """Have `workers` processes write the cells of one folder; return the totals and the largest of some.

    Raises:
        RuntimeError: a cell was written twice, or not at all.
    """
    context, began = get_context("fork"), time.perf_counter()
    answers = context.SimpleQueue()
    processes = [context.Process(target=_worker, args=(runs, plan, dataset, answers)) for _ in range(workers)]
    for process in processes:
        process.start()
    told = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    total = Counter[str]()
    for each in told:
        total.update({name: value for name, value in each.items() if isinstance(value, int)})
    if total["trained"] != len(plan.cells):
        raise RuntimeError(f"{total['trained']} cells were written, {len(plan.cells)} are planned")
    return {
        **total, "wall_seconds": time.perf_counter() - began, "cpu_seconds": sum(each["cpu"] for each in told),
        "fewest": min(each.get("trained", 0) for each in told), "most": max(each.get("trained", 0) for each in told),
        "peak_mib": max(each["peak_mib"] for each in told),
    }  # fmt: skip


def peak_mib() -> float:
    """Return the peak of this process's resident memory in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", type=Path, help="Folder of the records.")
    parser.add_argument("--variants", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--workers", type=int, default=0, help="Processes that take the cells by the scheduler.")
    parser.add_argument("--notes", type=int, default=1, help="Notes of runners that asked for all cells.")
    parser.add_argument("--done", type=float, default=1.0, help="Share of the cells that are finished.")
    parser.add_argument("--grow", action="store_true", help="Add what a study that is there lacks, and a note.")
    parser.add_argument("--empty", action="store_true", help="Write the ablation and the notes only.")
    parser.add_argument("--sync", action="store_true", help="Force every file to the disk, as a worker does.")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    if not given.sync:
        os.fsync = lambda _: None  # type: ignore[assignment]
    runs, study = given.runs.resolve(), ablation(given.variants, given.seeds)
    if runs.exists() != given.grow:
        parser.error(f"{runs} is {'not there' if given.grow else 'there already; name a new folder'}")
    runs.mkdir(parents=True, exist_ok=True)
    ablation_file.keep(study, runs, by="benchmarks/simulated_study.py")
    plan, dataset = plan_study(runs, study, given.epochs), load(DATA)
    numbers: dict[str, float] = {"cells": len(plan.cells)}
    began = time.perf_counter()
    if given.workers:
        numbers |= claim(runs, plan, dataset, given.workers)
    else:
        for _ in range(given.notes):
            ask(runs, plan)
        for cell in [] if given.empty else plan.cells[: round(given.done * len(plan.cells))]:
            job = job_of(cell, plan, runs, EXECUTION)
            if not cell.is_done:
                job.record.folder.mkdir()
                write_cell(job, dataset)
        numbers["wall_seconds"] = time.perf_counter() - began
    json.dump({name: round(value, 3) for name, value in numbers.items()}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
