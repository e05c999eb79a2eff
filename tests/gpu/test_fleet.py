"""Runner on a GPU: measurements are plausible, it holds no CUDA context, and records name the GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cifar_lab.config.execution import Execution
from cifar_lab.config.recipe import Recipe
from cifar_lab.data import load
from cifar_lab.execution.provenance import provenance
from cifar_lab.execution.worker import CellJob, train_cell
from cifar_lab.store.journal import read_points

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]
CUDA = Execution(device="cuda", threads=1, precision="auto")
TINY = Recipe().override({"model.blocks": [1], "model.width": 8, "train.epochs": 1, "train.batch_size": 10})

ASKING = """
import json, torch
from cifar_lab import EFFICIENT_RESNET
from cifar_lab.execution.settings import Execution
from cifar_lab.execution.provenance import provenance
from cifar_lab.execution.step_timing import StepTiming, TimingRequest, measure_steps

if __name__ == "__main__":
    cuda = Execution(device="cuda", threads=1, precision="auto")
    small = EFFICIENT_RESNET.override({"model.width": 16})
    recipes = (EFFICIENT_RESNET, small)
    answers = measure_steps([TimingRequest(recipe=each, execution=cuda, share=True) for each in recipes])
    found = [each if isinstance(each, StepTiming) else each.why for each in answers]
    print(json.dumps({"answers": found, "names": provenance()["hardware"]["gpus"],
                      "initialized": torch.cuda.is_initialized()}))
"""


def test_steps_are_timed_in_a_worker_and_the_runner_holds_no_context(tmp_path: Path) -> None:
    (script := tmp_path / "asking.py").write_text(ASKING)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["names"] == [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    assert found["initialized"] is False
    for answer in found["answers"]:
        assert not isinstance(answer, str), answer
        first, step, busy, reserved, memory = answer
        assert 0.0002 < step < 1.0
        assert first > step
        assert 0.02 < busy < 1.5
        assert 2**20 < reserved < memory
    large, small = found["answers"]
    assert large[1] > 0.8 * small[1]
    assert large[3] > small[3]


def test_a_cell_names_its_gpu_and_what_it_kept_of_its_memory(tmp_path: Path, few_images: Path) -> None:
    recipe = TINY.override({"data.val_fraction": 0.2})
    dataset = load(str(few_images))
    job = CellJob(
        fingerprint=recipe.fingerprint(seed=0, data_hash=dataset.hash), recipe=recipe, seed=0, data=str(few_images),
        data_hash=dataset.hash, runs=tmp_path, execution=CUDA, provenance=provenance(), place="cuda:0",
    )  # fmt: skip
    train_cell(job)
    tree = job.record.cell()
    assert tree is not None
    assert tree.execution.gpu == torch.cuda.get_device_name(0)
    values = read_points(job.record.folder)[-1].values
    assert values["memory/reserved_mib"] >= values["memory/peak_mib"] > 0


def test_provenance_has_the_versions_that_move_digits_on_a_gpu() -> None:
    found = provenance()
    for name in ("cuda", "cudnn", "driver"):
        assert found.versions[name], name
    assert all(memory > 1 for memory in found.hardware.gpu_memory_gib)
