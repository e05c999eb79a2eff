"""Time the steps of a tracked cell: with a metric every step, while the lab writes its metrics once per epoch.

The process is the runner: it starts the lab's shipper, which tails the cell's journal and feeds MLflow. The cell is
trained in a worker, from a fork server, as in the lab; its observer appends to the lab's journal after every step, and
lets the points count every few steps, as an epoch's end does. The worker begins when the store has been made and has
the study's own run: what that takes, once a command, is told by itself.

    --store none      nothing is written
    --store sqlite    MLflow's own default, made in the current folder
    --store slow      a server that answers each call after `--delay` seconds
"""

from __future__ import annotations

import multiprocessing as mp
import os
import sqlite3
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from lab_loop import Watch, train, trainer_of
from slow_store import SlowStore
from stopwatch import Stopwatch, arguments, say

from cifar_lab.ablation import registry
from cifar_lab.config import scale
from cifar_lab.data import load
from cifar_lab.execution import worker
from cifar_lab.execution.plan import make_plan
from cifar_lab.execution.runner import invocation_of, job_of
from cifar_lab.execution.settings import choose_execution
from cifar_lab.mlflow_sync import upload
from cifar_lab.store.invocation import Invocation, RecordedCommand
from cifar_lab.store.journal import Journal
from cifar_lab.train.trainer import Trainer

COUNT_EVERY = 20
"""Steps after which written points are confirmed, and shipped."""
PATIENCE, DRAIN = 120.0, 60.0
"""Seconds to wait for the store before the training, and until it has all metrics after it."""


class Tracked(Watch):
    """Observer that writes a metric after each step, and sums the time for it."""

    def __init__(self, watch: Stopwatch, trainer: Trainer, journal: Journal | None, began: Callable[[], None]) -> None:
        super().__init__(watch, trainer.recipe.train.batch_size)
        self.trainer, self.journal, self.seconds, self.calls, self.began = trainer, journal, 0.0, 0, began

    def step(self, epoch: int, step: int, steps: int) -> None:
        if self.journal is not None:
            began = time.perf_counter()
            self.journal.points(step, {"train/loss": self.trainer.losses[step - 1].item()})
            if step % COUNT_EVERY == 0:
                self.journal.write("checkpoint", epoch=step, step=0)
            self.seconds += time.perf_counter() - began
            self.calls += 1
        super().step(epoch, step, steps)
        if step == 1:
            self.began()


def work(job: worker.CellJob, warmup: int, steps: int, is_tracked: bool, channel: Connection) -> None:
    """Train in the worker, and send the stopwatch's numbers."""
    batch, journal = job.recipe.train.batch_size, None
    trainer, _ = trainer_of(job.recipe, job.data, (warmup + steps + 1) * batch)
    if is_tracked:
        job.record.folder.mkdir(parents=True)
        worker._begin(job, job.record, load(job.data), None, None)
        journal = Journal(job.record.folder)
        journal.write("start", execution=job.execution.as_dict(), provenance=job.provenance.as_json())
        journal.write("resume", epoch=0, step=0)
    watch = Stopwatch(warmup, steps)
    observer = Tracked(watch, trainer, journal, began=lambda: channel.send(None))
    train(trainer, observer)
    if journal is not None:
        journal.write("checkpoint", epoch=warmup + steps, step=0)
    numbers = watch.numbers()
    mean = batch / numbers["images_per_second"]
    channel.send({**numbers, "mean_step_seconds": mean, "tracking_seconds": observer.seconds / max(1, observer.calls)})


def job_here(source: str, width: int) -> tuple[worker.CellJob, Invocation]:
    """Return the one cell, recorded in `./runs` as an invocation."""
    runs = Path("runs").resolve()
    plan = make_plan(
        registry.discover().find("se_ratio"), scale=scale.find_scale("small"), source=source, dataset=load(source),
        runs=runs, overrides={"model.width": width}, variants=["r16"], seeds=(0,),
    )  # fmt: skip
    execution, _ = choose_execution("cpu", "1", cells=1)
    invocation = invocation_of(plan, execution, RecordedCommand(typed="tracked_loop"))
    invocation.write(runs)
    return job_of(plan.cells[0], plan, runs, execution), invocation


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--store", choices=("none", "sqlite", "slow"), default="none")
    parser.add_argument("--delay", type=float, default=2.0, help="of the slow store, in seconds")
    asked = parser.parse_args()
    is_tracked, slow = asked.store != "none", SlowStore(asked.delay) if asked.store == "slow" else None
    if slow is not None:
        os.environ["MLFLOW_TRACKING_URI"] = slow.uri
    job, invocation = job_here(asked.data, asked.width)
    began = time.perf_counter()
    shipper = upload.start_upload(job.runs, invocation, lambda _: {}, print) if is_tracked else None
    while is_tracked and not (slow.answers if slow is not None else _stored("runs")):
        assert time.perf_counter() - began < PATIENCE, "the store is not there"
        time.sleep(0.1)
    started = time.perf_counter() - began
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["cifar_lab.execution.worker"])
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(job, asked.warmup, asked.steps, is_tracked, send), daemon=True)
    process.start()
    send.close()
    receive.recv()  # its first step is done
    before, busy, since = slow.answers if slow is not None else 0, time.process_time(), time.perf_counter()
    numbers = receive.recv()
    answered = slow.answers - before if slow is not None else 0
    beside = (time.process_time() - busy) / (time.perf_counter() - since)  # cores that this process kept busy
    process.join()
    if shipper is not None:
        shipper.drain(DRAIN)
    stored = slow.metrics if slow is not None else _stored("metrics") if is_tracked else 0
    say({**numbers, "answers": answered, "metrics_stored": stored, "store_seconds": started, "cores_beside": beside})


def _stored(table: str) -> int:
    """Count the rows in the default store of the current folder; 0 while it is being created."""
    with sqlite3.connect("mlflow.db") as connection:
        try:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
        except sqlite3.OperationalError:  # no such table yet, or it is locked by who makes it
            return 0


if __name__ == "__main__":
    main()
