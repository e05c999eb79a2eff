"""Count the requests and bytes of one cell on an object store: `python benchmarks/object_store_traffic.py`.

A server of S3 (moto's) counts them; nothing is timed. Renewals of the lease, four in its time, are not among them: the
lease is as long as possible. Needs `cifar-lab[s3]` and `moto[server]`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from made.s3_server import BUCKET, S3Server, serve_s3

KINDS = ("LIST", "GET", "HEAD", "PUT", "DELETE")


def main() -> None:
    """Train one cell in a copy of an empty store, then bring it to another copy, and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--baseline", default="fast")
    parser.add_argument("--width", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serve_s3(Path(folder)) as server:
        os.environ |= {
            "AWS_ENDPOINT_URL_S3": server.endpoint, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1", "CIFAR_LAB_CACHE": f"{folder}/a", "CIFAR_LAB_LEASE": "86400",
        }  # fmt: skip
        server.make_bucket()
        _count(server, options.baseline, {"train.epochs": options.epochs, "model.width": options.width}, folder)


def _count(server: S3Server, baseline: str, fields: Mapping[str, int], folder: str) -> None:
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
    server.counts()
    job = CellJob(
        fingerprint=recipe.fingerprint(seed=0, data_hash=dataset.hash), recipe=recipe, seed=0, data="synthetic",
        data_hash=dataset.hash, runs=runs, execution=Execution(device="cpu", threads=2, precision="auto"),
        provenance=provenance(), store=address,
    )  # fmt: skip
    train_cell(job)
    saved = sum(event.kind == "checkpoint" for event in read_events(job.record.folder))
    size = job.record.weights.stat().st_size
    print(f"{baseline}, {fields}, {saved} checkpoints, weights of {size:,} bytes")
    _print("trained", server.counts())
    os.environ["CIFAR_LAB_CACHE"] = f"{folder}/b"
    other = open_mirror(address)
    _print("read by another machine (status, compare, report)", server.counts())
    record = CellRecord(other / job.fingerprint)
    record.require_sound(record.weights, record.predictions)
    _print("its weights and predictions", server.counts())
    open_mirror(address)
    _print("looked at again", server.counts())


def _print(what: str, counts: Mapping[str, int]) -> None:
    requests = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if kind in counts)
    print(f"{what}: {requests}; {counts['bytes received']:,} bytes sent, {counts['bytes sent']:,} bytes read")


if __name__ == "__main__":
    main()
