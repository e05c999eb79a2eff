"""Two machines on one object store: a holder that is killed, and one that is paused for longer than its lease.

A machine is a cache of its own: its processes see no lock of the other one. The server is a process of its own, too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cifar_lab.object_store import ObjectStore
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.lease import parse_lease

pytestmark = pytest.mark.slow  # each trains for seconds, and waits for leases to expire
LEASE = 5
WITHIN = 240.0
SPACE = '''
"""Which tiny network?"""
from cifar_lab import RESNET18
from cifar_lab.search.dimension import Choice, Real
from cifar_lab.search.space import Space

SPACE = Space(
    question="Which tiny network?",
    baseline=RESNET18.override({"model.width": 8, "model.blocks": (1,), "train.batch_size": 10}),
    dimensions=(Real(path="optim.lr", low=0.001, high=1.0, log=True), Choice(path="model.dropout", values=(0.0, 0.3))),
)
'''
RUN = ["run-ablation", "tiny", "--seeds", "0", "--variants", "off", "train.epochs=40", "--offline", "-y"]


@dataclass
class Machine:
    """One machine: a folder with its cache, and the processes that run there."""

    folder: Path
    images: Path
    ablations: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def begin(self, runs: str, *words: str) -> subprocess.Popen[str]:
        line = [*(words or RUN), "--runs", runs]
        line += ["--ablations", str(self.ablations)] if not line[0].startswith("sweep") else []
        line += ["--workers", "1", "--data", str(self.images)] if line[0] in {"run-ablation", "sweep"} else []
        self.folder.mkdir(exist_ok=True)
        environment = {**os.environ, "CIFAR_LAB_CACHE": str(self.folder / "cache"), "CIFAR_LAB_LEASE": str(LEASE)}
        process = subprocess.Popen(
            [sys.executable, "-m", "cifar_lab", *line], cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def run(self, runs: str, *words: str) -> str:
        """Run a command to its end, and return its output."""
        process = self.begin(runs, *words)
        output, _ = process.communicate(timeout=WITHIN)
        assert process.returncode == 0, output
        return output

    def record(self) -> CellRecord:
        """The one record in the copy of this machine."""
        (cell,) = (self.folder / "cache/stores").glob("*/*/*/cell.json")
        return CellRecord(cell.parent)


@pytest.fixture
def machines(tmp_path: Path, few_images: Path, tiny_ablation: Path) -> Iterator[tuple[Machine, Machine]]:
    both = Machine(tmp_path / "a", few_images, tiny_ablation), Machine(tmp_path / "b", few_images, tiny_ablation)
    yield both
    for process in (process for machine in both for process in machine.processes if process.poll() is None):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await_checkpoint(address: str, process: subprocess.Popen[str]) -> str:
    """Wait until a checkpoint is on the store, and return the fingerprint of its cell."""
    end = time.monotonic() + WITHIN
    while time.monotonic() < end and process.poll() is None:
        for name in ObjectStore(address).list_objects()[0]:
            if name.endswith("/checkpoint.pt"):
                return name.partition("/")[0]
        time.sleep(0.05)
    raise AssertionError(f"no checkpoint: {process.communicate()[0] if process.poll() is not None else 'too late'}")


def _objects(address: str, fingerprint: str) -> dict[str, str]:
    return {name: entry.etag for name, entry in ObjectStore(address).list_objects(f"{fingerprint}/")[0].items()}


def _fence(address: str, fingerprint: str) -> tuple[str, int]:
    found = ObjectStore(address).read(f"{fingerprint}/lease.json")
    assert found is not None
    known = parse_lease(found)
    assert known is not None
    return known.state, known.fence


def _resumes(record: CellRecord) -> list[tuple[int, int]]:
    """Epoch and step of each resume."""
    events = [json.loads(line) for line in record.journal.read_text().splitlines()]
    return [(event["epoch"], event["step"]) for event in events if event["event"] == "resume"]


@pytest.fixture
def undisturbed(tmp_path: Path, few_images: Path, tiny_ablation: Path) -> CellRecord:
    """The record of the same cell in a plain folder."""
    machine = Machine(tmp_path / "plain", few_images, tiny_ablation)
    machine.run(str(tmp_path / "runs"))
    (cell,) = (tmp_path / "runs").glob("*/cell.json")
    return CellRecord(cell.parent)


def test_a_killed_holder_loses_its_cell_and_another_machine_goes_on_from_its_checkpoint(
    address: str, machines: tuple[Machine, Machine], undisturbed: CellRecord
) -> None:
    killed, other = machines
    process = killed.begin(address)
    fingerprint = _await_checkpoint(address, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert _fence(address, fingerprint) == ("held", 1)
    assert "1 running" in other.run(address, "status", "tiny"), "nobody knows yet that it is dead"
    assert "1 trained" in other.run(address)
    assert _fence(address, fingerprint) == ("ended", 2)
    record = other.record()
    assert max(_resumes(record)) > (0, 0), "it did not begin again"
    assert record.weights.read_bytes() == undisturbed.weights.read_bytes()
    assert record.result().metrics["test/acc"] == undisturbed.result().metrics["test/acc"]


def test_a_holder_paused_beyond_its_lease_changes_nothing_when_it_wakes(
    address: str, machines: tuple[Machine, Machine], undisturbed: CellRecord
) -> None:
    paused, other = machines
    process = paused.begin(address)
    fingerprint = _await_checkpoint(address, process)
    os.killpg(process.pid, signal.SIGSTOP)
    assert "1 trained" in other.run(address)
    before = _objects(address, fingerprint)
    os.killpg(process.pid, signal.SIGCONT)
    output, _ = process.communicate(timeout=WITHIN)
    assert process.returncode == 0, output
    assert "0 trained, 1 by another runner" in output
    assert _objects(address, fingerprint) == before
    assert _fence(address, fingerprint) == ("ended", 2)
    for record in (paused.record(), other.record()):
        record.require_sound(record.weights, record.predictions, record.journal, record.confusion)
        assert record.result() == other.record().result()
        assert record.weights.read_bytes() == undisturbed.weights.read_bytes()


def test_two_machines_share_an_ablation(address: str, machines: tuple[Machine, Machine]) -> None:
    processes = [machine.begin(address, "run-ablation", "tiny", "--offline", "-y") for machine in machines]
    outputs = [process.communicate(timeout=WITHIN)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    trained = [int(output.rpartition(" trained")[0].split()[-1]) for output in outputs]
    assert sum(trained) == 4, outputs
    ended = [name for name in ObjectStore(address).list_objects()[0] if name.endswith("/result.json")]
    assert len(ended) == 4
    tables = [machine.run(address, "compare", "tiny") for machine in machines]
    assert tables[0] == tables[1]


def test_two_machines_share_a_search(address: str, machines: tuple[Machine, Machine], tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(SPACE)
    storage = ["--storage", f"sqlite:///{tmp_path / 'studies.db'}"]
    line = ["sweep", "--space", str(tmp_path / "tiny.py"), "--scale", "smoke", "--sampler", "random"]
    line += ["--pruner", "none", "--trials", "6", "--offline", "-y", *storage]
    processes = [machine.begin(address, *line) for machine in machines]
    outputs = [process.communicate(timeout=WITHIN)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    store = ObjectStore(address)
    (note,) = (name for name in store.list_objects("invocations/")[0])
    tree = json.loads(store.read(note).content)
    assert [cell["variant"] for cell in tree["cells"]] == [f"t{number:03}" for number in range(6)]
    assert {tags["trial_state"] for tags in tree["tags"].values()} == {"complete"}
    ended = {name.partition("/")[0] for name in store.list_objects()[0] if name.endswith("/result.json")}
    assert ended == {cell["fingerprint"] for cell in tree["cells"]}
    trained = {machine.folder.name: _trained_by(machine) for machine in machines}
    assert all(trained.values()), "each machine trained some"
    status = json.loads(machines[0].run(address, "sweep-status", "tiny", "--json", *storage))
    assert (status["total"], status["failed"]) == (6, 0)


def _trained_by(machine: Machine) -> set[str]:
    """The cells that a machine trained: only who trains one writes a large file."""
    return {path.parent.name for path in (machine.folder / "cache/stores").glob("*/*/*/weights.safetensors")}
