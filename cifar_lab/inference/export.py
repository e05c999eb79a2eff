"""Export of a trained network to ONNX, compared with PyTorch on the test images: answers, size, latency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifar_lab.data import load
from cifar_lab.data.dataset import Images
from cifar_lab.data.progress import silent
from cifar_lab.data.splits import training_index
from cifar_lab.errors import DamageError, ExportError, TrackingError
from cifar_lab.execution.settings import usable_cores
from cifar_lab.inference.labelled_images import LabelledImages, labelled_images
from cifar_lab.inference.latency import Latency, measure_latencies, one_thread
from cifar_lab.inference.network_outputs import (
    Floats,
    Member,
    batch_logits,
    compute_logits,
    load_member,
    parse_views,
)
from cifar_lab.inference.onnx_model import INPUT, export_model, quantise, require_onnx, with_metadata
from cifar_lab.inference.raw_image_network import Pixels, as_input
from cifar_lab.inference.run_names import ChosenRuns
from cifar_lab.report.notebook import Tabular
from cifar_lab.results.stats.mcnemar import Disagreement, compare_networks
from cifar_lab.store import atomic_file
from cifar_lab.store.cell_record import CellRecord

BATCH = 64
"""Images in the batch whose latency is measured."""
SECONDS = 3.0
"""Seconds for the latency of one network in one batch size."""
CHECKED_BATCH = 250
"""Images that onnxruntime computes at once in the comparison."""
TOLERANCE = 1e-3
"""Largest difference of logits that counts as rounding, relative to the largest logit."""
CALIBRATION, CALIBRATION_SEED = 512, 0
"""Number of training images that quantisation is calibrated on, and the seed that draws them."""
TORCH, ONNX, INT8 = "PyTorch", "onnxruntime", "onnxruntime int8"


@dataclass(frozen=True, kw_only=True)
class RuntimeResult:
    """One way to compute the network, on the same test images in fp32, or with 8-bit integers."""

    name: str
    bytes: int
    """Size of its file: the weights for PyTorch, else the model."""
    correct: int
    images: int
    single: Latency
    """Latency of one image on one core."""
    batch: Latency
    """Latency of `BATCH` images on one core."""
    largest_difference: float | None = None
    """Maximum over all logits of the absolute difference from PyTorch's; None for PyTorch."""
    largest_logit: float | None = None
    """Maximum of PyTorch's absolute logits, to judge the difference by; None for PyTorch."""
    other_answers: int | None = None
    """Number of images with another answer than PyTorch's; None for PyTorch."""

    @property
    def accuracy(self) -> float:
        return self.correct / self.images


@dataclass(frozen=True, kw_only=True, repr=False)
class ExportedNetwork(Tabular):
    """Exported file, and how it compares with PyTorch. `to_frame` has a row for each runtime."""

    run: str
    fingerprint: str
    path: Path
    bytes: int
    pixels: Pixels
    how: str
    """Test-time augmentation inside the graph, as `Member.how` names it."""
    images: str
    """Number and source of the test images."""
    batch_images: int
    runtimes: tuple[RuntimeResult, ...]
    """PyTorch first; the last one is the file."""
    record_differs: int | None
    """Number of images whose answer in the record, in the precision of the training, differs from PyTorch's in fp32;
    None without recorded answers to these images."""
    quantisation: Disagreement | None
    """PyTorch (a) against the quantised model (b); None without quantisation."""
    calibration: int | None
    """Number of training images that quantisation was calibrated on."""
    notes: tuple[str, ...] = ()

    def records(self) -> list[dict[str, Any]]:
        """Return one flat record for each runtime; latencies are medians in ms on one core."""
        return [
            {
                "runtime": each.name, "bytes": each.bytes, "accuracy": each.accuracy,
                "largest_difference": each.largest_difference, "other_answers": each.other_answers,
                "ms_single": each.single.p50, "ms_batch": each.batch.p50,
            }
            for each in self.runtimes
        ]  # fmt: skip

    def caption(self) -> str:
        """Return the file, its size, the run, and the number of images with another answer than PyTorch's."""
        others = f"{self.runtimes[-1].other_answers or 0:,} answers other than PyTorch's"
        return f"{self.path} ({self.bytes / 1e6:.2f} MB) · {self.run} · {others} on {self.images}"

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; accuracies and differences of them are fractions, latencies in ms."""
        runtimes = [{**asdict(each), "accuracy": each.accuracy} for each in self.runtimes]
        return {
            "run": self.run, "fingerprint": self.fingerprint, "output": str(self.path.resolve()), "bytes": self.bytes,
            "input": self.pixels, "how": self.how, "images": self.images, "batch_images": self.batch_images,
            "runtimes": runtimes, "answers_other_than_recorded": self.record_differs,
            "quantisation": asdict(self.quantisation) if self.quantisation is not None else None,
            "calibration_images": self.calibration, "notes": list(self.notes),
        }  # fmt: skip


def export_network(
    chosen: ChosenRuns, path: Path, *, int8: bool = False, pixels: Pixels = "uint8", tta: str | None = None,
    data: str | None = None, count: int | None = None, say: Callable[[str], None] = silent,
) -> ExportedNetwork:  # fmt: skip
    """Export the network of one run to an ONNX file, after comparing it with PyTorch on test images.

    Args:
        chosen: one run.
        path: file to write, complete or not at all.
        int8: quantise weights and activations to 8 bits.
        pixels: type of the graph's input.
        tta: test-time augmentation inside the graph; None for that of the recipe.
        data: source of the test images, and of the training images for `int8`; None for the run's own.
        count: number of test images to draw; None for all.
        say: called with one line for each step.

    Raises:
        UsageError: the extra `onnx` is not installed, or an argument is not valid.
        ExportError: the network cannot be traced, or its ONNX model computes something else.
        DataError: the images cannot be read.
        TrackingError: weights are missing or damaged.
        OSError: the file cannot be written.
    """
    require_onnx()
    views_inside = parse_views(tta)
    labelled = labelled_images(chosen, data, count=count, say=say)
    trained = load_member(chosen.runs[0], torch.device("cpu"), views_inside)
    member = replace(trained, precision="fp32")
    side = labelled.images.shape[1]
    say("tracing the network")
    model = export_model(member, side, pixels)
    models = {ONNX: model}
    if int8:
        say(f"quantising, calibrated on {CALIBRATION} training images")
        examples = calibration_images(member, labelled, data)
        models[INT8] = quantise(model, examples, pixels)
    say(f"comparing on {labelled.described()}")
    expected = compute_logits(member, labelled.images)
    logits = {TORCH: expected} | {
        name: _session_logits(_session(content, usable_cores()), labelled.images, pixels)
        for name, content in models.items()
    }
    require_equal(member, expected, logits[ONNX])
    say("measuring latencies on one core")
    sessions = {name: _session(content, 1) for name, content in models.items()}
    single, batch = (_latencies(member, sessions, labelled.images[:size], pixels) for size in (1, BATCH))
    right = {name: each.argmax(axis=1) == labelled.labels for name, each in logits.items()}
    *_, name = models
    measured = {"exported/acc": f"{right[name].mean():.6g}", "exported/images": labelled.described()}
    last = models[name] = with_metadata(models[name], measured)
    sizes = {TORCH: CellRecord(member.run.cell.folder).weights.stat().st_size}
    sizes |= {name: len(content) for name, content in models.items()}
    atomic_file.write_atomically(path, lambda file: file.write(last))
    return ExportedNetwork(
        run=member.run.name, fingerprint=member.run.cell.fingerprint, path=path, bytes=len(last), pixels=pixels,
        how=member.how(), images=labelled.described(), batch_images=min(BATCH, len(labelled)),
        runtimes=tuple(
            RuntimeResult(
                name=name, bytes=sizes[name], correct=int(right[name].sum()), images=len(labelled),
                single=single[name], batch=batch[name], **_differences(name, each, expected),
            )
            for name, each in logits.items()
        ),
        record_differs=_count_other_than_recorded(trained, labelled, expected),
        quantisation=compare_networks(right[TORCH], right[INT8]) if int8 else None,
        calibration=len(examples) if int8 else None, notes=chosen.notes,
    )  # fmt: skip


def calibration_images(member: Member, labelled: LabelledImages, data: str | None) -> Images:
    """Return training images, (N, side, side, 3) uint8, drawn by a fixed seed; none is held out as val."""
    dataset = labelled.own if labelled.own is not None else load(data if data is not None else member.run.source)
    recipe = member.recipe
    index = training_index(dataset, recipe.data, "holdout")
    drawn = np.random.default_rng(CALIBRATION_SEED).choice(index, size=min(CALIBRATION, len(index)), replace=False)
    return np.asarray(dataset.train_images[np.sort(drawn)])


def _session(model: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _session_logits(session: Any, images: Images, pixels: Pixels) -> Floats:
    starts = range(0, len(images), CHECKED_BATCH)
    parts = [session.run(None, {INPUT: as_input(images[at : at + CHECKED_BATCH], pixels)})[0] for at in starts]
    return np.concatenate(parts)


def require_equal(member: Member, expected: Floats, computed: Floats) -> None:
    """Check that logits of the ONNX model equal PyTorch's, (N, classes) each, but for rounding.

    Raises:
        ExportError: they differ by more than `TOLERANCE`.
    """
    difference, largest = float(np.abs(computed - expected).max()), float(np.abs(expected).max())
    if not difference <= TOLERANCE * max(1.0, largest):
        raise ExportError(
            f"{member.run.name}: the exported network computes something else: logits differ by up to {difference:.3g} "
            f"(the largest is {largest:.3g}); nothing was written. A network that draws random numbers, or keeps a "
            "state, when it is evaluated does so"
        )


def _differences(name: str, logits: Floats, expected: Floats) -> dict[str, Any]:
    if name == TORCH:
        return {}
    other: NDArray[np.bool_] = logits.argmax(axis=1) != expected.argmax(axis=1)
    return {
        "largest_difference": float(np.abs(logits - expected).max()),
        "largest_logit": float(np.abs(expected).max()),
        "other_answers": int(other.sum()),
    }


def _latencies(member: Member, sessions: dict[str, Any], images: Images, pixels: Pixels) -> dict[str, Latency]:
    tensor, array = torch.from_numpy(np.array(images)), as_input(images, pixels)
    functions: dict[str, Callable[[], object]] = {TORCH: lambda: batch_logits(member, tensor)}
    functions |= {
        name: lambda session=session: session.run(None, {INPUT: array})  # type: ignore[misc]
        for name, session in sessions.items()
    }
    with one_thread():
        return measure_latencies(functions, SECONDS)


def _count_other_than_recorded(trained: Member, labelled: LabelledImages, expected: Floats) -> int | None:
    """Count the answers that differ from the recorded ones; None where the record has none to these images."""
    if labelled.own is None or trained.tta != trained.recipe.train.tta:
        return None
    try:
        recorded, _ = trained.run.cell.logits()
    except DamageError:
        raise
    except TrackingError:  # a record of an older version
        return None
    answers: Sequence[int] = recorded[labelled.index].argmax(axis=1)
    return int((answers != expected.argmax(axis=1)).sum())
