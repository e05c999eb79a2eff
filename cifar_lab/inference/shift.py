"""Estimates of the accuracy of trained cells on images without labels, and the rank of their variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cifar_lab.errors import TrackingError, UsageError
from cifar_lab.inference.evaluation import judge_by_variant
from cifar_lab.inference.input_images import InputImages
from cifar_lab.inference.network_outputs import Floats, compute_logits, how_all, load_members, softmax
from cifar_lab.inference.run_names import ChosenRun, ChosenRuns, require_same_classes
from cifar_lab.report.notebook import Tabular
from cifar_lab.results.stats.calibration import fit_temperature
from cifar_lab.results.stats.paired import Interval, interval
from cifar_lab.results.stats.referee import JudgedVariant
from cifar_lab.results.stats.unlabelled import (
    LineEstimate,
    ThresholdEstimate,
    TransportEstimate,
    agreement_interval,
    agreement_on_the_line,
    average_thresholded_confidence,
    confidence_by_transport,
    mean_agreement,
    negative_entropy,
)
from cifar_lab.text import many

ON_A_LINE = 0.95
"""Correlation of agreements from which the line is used, as in the experiments of Baek et al. (2022)."""

ENOUGH_IMAGES = 1_000
"""Images from which the estimate by transport is less than a point too low, for simulated calibrated networks
(tests/unit/results/stats/test_unlabelled.py)."""
FEW_IMAGES = (
    f"fewer than {ENOUGH_IMAGES:,} images: by chance their classes have other shares than those of val, "
    "so the estimate comes out too low"
)


@dataclass(frozen=True, kw_only=True)
class RunShift:
    """Estimates of one run; accuracies are fractions."""

    name: str
    variant: str
    seed: int
    fingerprint: str
    val_accuracy: float
    estimate: TransportEstimate
    """By optimal transport to the shares of the classes in val."""
    thresholded: ThresholdEstimate
    """By average thresholded confidence."""
    mean_confidence: float
    """Mean confidence, calibrated on val."""
    temperature: float
    """Number that the logits are divided by, which calibrates the network on val."""
    on_the_line: float | None
    """By agreement on the line; None for fewer than three runs, or where the agreements lie on no line."""


@dataclass(frozen=True, kw_only=True)
class VariantShift:
    """Estimates of one variant, as fractions."""

    variant: str
    rank: int
    """1 for the highest estimate."""
    n: int
    """Number of runs."""
    val_accuracy: float
    estimate: float
    """Mean over runs of the estimate by optimal transport."""
    interval: Interval | None
    """Student's 95 % interval of `estimate` over seeds; None below two."""
    thresholded: float
    """Mean over runs of average thresholded confidence."""
    agreement: float | None
    """Mean agreement of two seeds on these images; None below two seeds."""
    agreement_interval: Interval | None
    """95 % interval of the agreement over images."""
    val_agreement: float | None
    """Mean agreement of two seeds on the validation images. Where it equals `val_accuracy`, agreement is accuracy."""
    scaled_agreement: float | None
    """Accuracy on val, times agreement here over agreement on val: an estimate where the two are not equal."""
    on_the_line: float | None
    """Mean over runs of the estimate by agreement on the line; None where the agreements lie on no line."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ShiftEstimate(Tabular):
    """Estimated accuracies on images without labels. `to_frame` has a row for each run."""

    runs: tuple[RunShift, ...]
    variants: tuple[VariantShift, ...]
    """Variants in order of their rank."""
    judged: tuple[JudgedVariant, ...]
    """Paired differences of the estimates; empty for one variant."""
    control: str | None
    margin: float
    line_correlation: float | None
    """Correlation of agreements on both sets; below `ON_A_LINE` there are no estimates on the line."""
    images: int
    source: str
    how: str
    notes: tuple[str, ...] = ()

    def records(self) -> list[dict[str, Any]]:
        """Return one flat record for each run; accuracies are fractions."""
        return [
            {
                "run": run.name, "variant": run.variant, "seed": run.seed, "fingerprint": run.fingerprint,
                "val_accuracy": run.val_accuracy, "estimate": run.estimate.accuracy,
                "interval_low": run.estimate.interval[0], "interval_high": run.estimate.interval[1],
                "thresholded": run.thresholded.accuracy, "mean_confidence": run.mean_confidence,
                "temperature": run.temperature, "on_the_line": run.on_the_line,
            }
            for run in self.runs
        ]  # fmt: skip

    def shown(self) -> Sequence[Mapping[str, Any]]:
        """Return val accuracy and estimates of each variant, in %."""
        return [
            {
                "rank": each.rank, "variant": each.variant, "val %": f"{100 * each.val_accuracy:.2f}",
                "estimate %": f"{100 * each.estimate:.2f}", "thresholded %": f"{100 * each.thresholded:.2f}",
            }
            for each in self.variants
        ]  # fmt: skip

    def caption(self) -> str:
        """Return the images, and how the outputs were computed."""
        return f"accuracy estimated without labels · {self.images:,} images of {self.source} · {self.how}"

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "input": self.source, "images": self.images, "how": self.how, "control": self.control,
            "margin": self.margin, "runs": [asdict(run) for run in self.runs],
            "variants": [asdict(each) for each in self.variants], "comparison": [asdict(each) for each in self.judged],
            "line_correlation": self.line_correlation, "notes": list(self.notes),
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunOutputs:
    """Calibrated probabilities of one run on its validation images, with labels, and on images without."""

    run: ChosenRun
    variant: str
    val_probabilities: Floats
    val_labels: np.ndarray
    probabilities: Floats
    temperature: float

    @property
    def val_correct(self) -> np.ndarray:
        """Tell for each validation image whether it is predicted correctly."""
        return np.asarray(self.val_probabilities.argmax(axis=1) == self.val_labels)


def estimate_shift(
    chosen: ChosenRuns, given: InputImages, *, device: str = "auto", control: str | None = None,
    margin: float | None = None,
) -> ShiftEstimate:  # fmt: skip
    """Estimate the accuracy of each run on images without labels, and rank the variants.

    Args:
        chosen: runs with the same classes, trained with held-out images (`train.protocol=holdout`).
        given: the images.
        device: `auto`, `cpu`, `cuda`, `mps` or one GPU, `cuda:1`.
        control: variant that the others are compared with; None for that of the setting, else the first.
        margin: difference that does not matter, as a fraction; None for that of the setting.

    Raises:
        UsageError: the device or control does not exist, classes differ, or there are fewer images than classes.
        TrackingError: a record has no logits of val, or weights are missing or damaged.
    """
    classes = len(require_same_classes(chosen))
    if len(given) < classes:
        raise UsageError(f"{many(len(given), 'image')}: an estimate needs as many as there are classes, {classes}")
    base = chosen.base(control)
    labelled = {run.cell.fingerprint: _val(run) for run in chosen.runs}  # before anything is computed
    members = load_members(chosen.runs, device, None)
    outputs = run_outputs(chosen, labelled, [compute_logits(member, given.images) for member in members])
    return estimate_of_outputs(
        outputs, control=base, margin=chosen.margin if margin is None else margin, images=len(given),
        source=given.source, how=how_all(members),
        notes=(*chosen.notes, *given.notes, *((FEW_IMAGES,) if len(given) < ENOUGH_IMAGES else ())),
    )  # fmt: skip


def run_outputs(
    chosen: ChosenRuns, labelled: Mapping[str, tuple[Floats, np.ndarray]], logits: Sequence[Floats]
) -> list[RunOutputs]:
    """Return the calibrated probabilities of each run.

    Args:
        chosen: the runs.
        labelled: logits and labels of the validation images by fingerprint.
        logits: logits of the images without labels, in the order of the runs.
    """
    variants = chosen.variant_of()
    outputs = []
    for run, own in zip(chosen.runs, logits, strict=True):
        val_logits, val_labels = labelled[run.cell.fingerprint]
        temperature = fit_temperature(val_logits, val_labels)
        outputs.append(
            RunOutputs(
                run=run,
                variant=variants[run.cell.fingerprint],
                val_probabilities=softmax(val_logits / temperature),
                val_labels=val_labels,
                probabilities=softmax(own / temperature),
                temperature=temperature,
            )
        )
    return outputs


def estimate_of_outputs(
    outputs: Sequence[RunOutputs], *, control: str, margin: float, images: int, source: str, how: str,
    notes: tuple[str, ...] = (),
) -> ShiftEstimate:  # fmt: skip
    """Return the estimates from the probabilities of all runs."""
    line = _line(outputs)
    is_line = line is not None and line.correlation is not None and line.correlation >= ON_A_LINE
    runs = [_run_shift(each, line if is_line else None) for each in outputs]
    variants = _variants(outputs, runs)
    values: dict[str, dict[str, float | None]] = {}
    for run in runs:
        values.setdefault(run.variant, {})[str(run.seed)] = run.estimate.accuracy
    return ShiftEstimate(
        runs=tuple(runs), variants=tuple(variants), judged=judge_by_variant(values, control, margin),
        control=control if len(values) > 1 else None, margin=margin,
        line_correlation=line.correlation if line is not None else None, images=images, source=source, how=how,
        notes=notes,
    )  # fmt: skip


def _val(run: ChosenRun) -> tuple[Floats, np.ndarray]:
    try:
        return run.cell.logits("val")
    except TrackingError as error:
        raise TrackingError(f"{run.name}: {error}; an estimate needs them") from error


def _line(outputs: Sequence[RunOutputs]) -> LineEstimate | None:
    """Return the estimates on the line, if all runs held out the same images."""
    first = outputs[0].val_labels
    if any(not np.array_equal(each.val_labels, first) for each in outputs):
        return None
    names = [each.run.cell.fingerprint for each in outputs]
    return agreement_on_the_line(
        {name: float(each.val_correct.mean()) for name, each in zip(names, outputs, strict=True)},
        {name: each.val_probabilities.argmax(axis=1) for name, each in zip(names, outputs, strict=True)},
        {name: each.probabilities.argmax(axis=1) for name, each in zip(names, outputs, strict=True)},
    )


def _run_shift(outputs: RunOutputs, line: LineEstimate | None) -> RunShift:
    run = outputs.run
    thresholded = average_thresholded_confidence(
        negative_entropy(outputs.val_probabilities), outputs.val_correct, negative_entropy(outputs.probabilities)
    )
    number = outputs.probabilities.shape[1]
    shares = np.bincount(outputs.val_labels, minlength=number) / len(outputs.val_labels)
    return RunShift(
        name=run.name, variant=outputs.variant, seed=run.seed, fingerprint=run.cell.fingerprint,
        val_accuracy=float(outputs.val_correct.mean()), thresholded=thresholded,
        estimate=confidence_by_transport(outputs.probabilities, shares),
        mean_confidence=float(outputs.probabilities.max(axis=1).mean()), temperature=outputs.temperature,
        on_the_line=line.accuracies[run.cell.fingerprint] if line is not None else None,
    )  # fmt: skip


def _variants(outputs: Sequence[RunOutputs], runs: Sequence[RunShift]) -> list[VariantShift]:
    """Return the variants, the highest estimate first."""
    groups: dict[str, list[tuple[RunOutputs, RunShift]]] = {}
    for output, run in zip(outputs, runs, strict=True):
        groups.setdefault(run.variant, []).append((output, run))
    rows = sorted((_variant(name, own) for name, own in groups.items()), key=lambda row: -row.estimate)
    return [VariantShift(**{**vars(row), "rank": rank}) for rank, row in enumerate(rows, 1)]


def _variant(name: str, own: Sequence[tuple[RunOutputs, RunShift]]) -> VariantShift:
    answers = [output.probabilities.argmax(axis=1) for output, _ in own]
    val_answers = [output.val_probabilities.argmax(axis=1) for output, _ in own]
    has_one_val = all(np.array_equal(output.val_labels, own[0][0].val_labels) for output, _ in own)
    on_line = [run.on_the_line for _, run in own if run.on_the_line is not None]
    estimates = {at: run.estimate.accuracy for at, (_, run) in enumerate(own)}
    accuracy, agreement = float(np.mean([run.val_accuracy for _, run in own])), mean_agreement(answers)
    val_agreement = mean_agreement(val_answers) if has_one_val else None
    return VariantShift(
        variant=name, rank=0, n=len(own), val_accuracy=accuracy, estimate=float(np.mean(list(estimates.values()))),
        interval=interval(estimates), thresholded=float(np.mean([run.thresholded.accuracy for _, run in own])),
        agreement=agreement, agreement_interval=agreement_interval(answers),
        val_agreement=val_agreement,
        scaled_agreement=min(1.0, accuracy * agreement / val_agreement) if agreement and val_agreement else None,
        on_the_line=float(np.mean(on_line)) if on_line else None,
    )  # fmt: skip
