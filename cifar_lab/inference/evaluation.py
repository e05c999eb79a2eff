"""Evaluation of trained cells on labelled images: accuracy, classes, confusion, calibration, corruptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from cifar_lab.data.progress import silent
from cifar_lab.inference.corruptions import SEED, STRENGTHS, corrupt, find_corruptions
from cifar_lab.inference.labelled_images import LabelledImages
from cifar_lab.inference.network_outputs import Floats, Member, batch_logits, batches, compute_logits, how_all, softmax
from cifar_lab.inference.run_names import ChosenRuns
from cifar_lab.report.notebook import Tabular
from cifar_lab.results.stats.calibration import Calibration, measure_calibration
from cifar_lab.results.stats.paired import Interval, interval
from cifar_lab.results.stats.referee import JudgedVariant, judge_measurements
from cifar_lab.text import many


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy:
    """Results of one class; fractions are None where nothing is counted."""

    name: str
    images: int
    predicted: int
    """Number of images predicted as this class."""
    correct: int

    @property
    def recall(self) -> float | None:
        """Return the share of its images that are recognised."""
        return self.correct / self.images if self.images else None

    @property
    def precision(self) -> float | None:
        """Return the share of correct ones among the predictions of this class."""
        return self.correct / self.predicted if self.predicted else None


@dataclass(frozen=True, kw_only=True)
class RunEvaluation:
    """Results of one run on labelled images."""

    name: str
    variant: str
    seed: int
    fingerprint: str
    images: int
    correct: int
    loss: float
    """Mean cross-entropy in nats."""
    confusion: tuple[tuple[int, ...], ...]
    """Counts: one row for each label, one column for each prediction."""
    classes: tuple[str, ...]
    calibration: Calibration
    recorded: float | None = None
    """Test accuracy in the record, if the images are those that it was measured on."""
    corruptions: Mapping[str, tuple[float, ...]] | None = None
    """Accuracy by corruption at strength 1 to 5."""

    @property
    def accuracy(self) -> float:
        return self.correct / self.images

    @property
    def interval(self) -> Interval:
        """Return Wilson's 95 % interval of the accuracy over images (1927); trainings deviate besides."""
        low, high = stats.binomtest(self.correct, self.images).proportion_ci(0.95, method="wilson")
        return float(low), float(high)

    @property
    def corrupted_accuracy(self) -> float | None:
        """Return the mean accuracy over all corruptions and strengths; None where none was evaluated."""
        if not self.corruptions:
            return None
        return float(np.mean([value for values in self.corruptions.values() for value in values]))

    def by_class(self) -> list[ClassAccuracy]:
        """Return the results of each class, in the order of the classes."""
        counts = np.array(self.confusion)
        return [
            ClassAccuracy(
                name=name, images=int(counts[at].sum()), predicted=int(counts[:, at].sum()), correct=int(counts[at, at])
            )
            for at, name in enumerate(self.classes)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; accuracies are fractions."""
        rows = [
            {**asdict(each), "recall": each.recall, "precision": each.precision} for each in self.by_class()
        ]  # fmt: skip
        return {
            "run": self.name, "variant": self.variant, "seed": self.seed, "fingerprint": self.fingerprint,
            "images": self.images, "correct": self.correct, "accuracy": self.accuracy, "interval": list(self.interval),
            "recorded_accuracy": self.recorded, "loss": self.loss, "classes": rows,
            "confusion": [list(row) for row in self.confusion], "calibration_error": self.calibration.error,
            "reliability": [asdict(each) for each in self.calibration.bins],
            "corruptions": {name: list(values) for name, values in (self.corruptions or {}).items()},
            "corrupted_accuracy": self.corrupted_accuracy,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class VariantEvaluation:
    """Mean of one variant over its seeds, as a fraction."""

    variant: str
    n: int
    mean: float
    interval: Interval | None
    """Student's 95 % interval over seeds; None below two seeds."""


@dataclass(frozen=True, kw_only=True, repr=False)
class EvaluationResult(Tabular):
    """Results of several runs on the same images. `to_frame` has a row for each run."""

    runs: tuple[RunEvaluation, ...]
    images: str
    """Number and source of the images."""
    how: str
    """Device, precision and test-time augmentation."""
    control: str | None
    """Variant that the others are compared with; None for one variant."""
    margin: float
    judged: tuple[JudgedVariant, ...] = ()
    """Paired differences in accuracy; empty for one variant."""
    judged_corrupted: tuple[JudgedVariant, ...] = ()
    """Paired differences in the mean accuracy on corrupted images; empty without corruptions."""
    corrupted: tuple[VariantEvaluation, ...] = ()
    """Mean accuracy on corrupted images by variant; empty without corruptions."""
    notes: tuple[str, ...] = ()

    def records(self) -> list[dict[str, Any]]:
        """Return one flat record for each run; accuracies are fractions."""
        rows = []
        for run in self.runs:
            low, high = run.interval
            row = {
                "run": run.name, "variant": run.variant, "seed": run.seed, "fingerprint": run.fingerprint,
                "images": run.images, "accuracy": run.accuracy, "interval_low": low, "interval_high": high,
                "loss": run.loss, "calibration_error": run.calibration.error,
                "corrupted_accuracy": run.corrupted_accuracy,
            }  # fmt: skip
            row |= {f"recall_{each.name}": each.recall for each in run.by_class()}
            for name, values in (run.corruptions or {}).items():
                row |= {f"{name}_{strength}": value for strength, value in zip(STRENGTHS, values, strict=True)}
            rows.append(row)
        return rows

    def shown(self) -> Sequence[Mapping[str, Any]]:
        """Return run, accuracy, interval and calibration error of each run, in %."""
        return [
            {
                "run": run.name, "accuracy %": f"{100 * run.accuracy:.2f}",
                "interval": f"[{100 * run.interval[0]:.2f}, {100 * run.interval[1]:.2f}]",
                "calibration error %": f"{100 * run.calibration.error:.2f}",
            }
            for run in self.runs
        ]  # fmt: skip

    def caption(self) -> str:
        """Return the runs with the range of their accuracies, the images, and how the outputs were computed."""
        named = self.runs[0].name if len(self.runs) == 1 else many(len(self.runs), "run")
        ends = dict.fromkeys(f"{100 * of(run.accuracy for run in self.runs):.2f}" for of in (min, max))
        return f"{named}: {' to '.join(ends)} % · {self.images} · {self.how}"

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "images": self.images, "how": self.how, "control": self.control, "margin": self.margin,
            "runs": [run.as_dict() for run in self.runs], "comparison": [asdict(each) for each in self.judged],
            "corrupted": [asdict(each) for each in self.corrupted],
            "corrupted_comparison": [asdict(each) for each in self.judged_corrupted], "notes": list(self.notes),
        }  # fmt: skip


def evaluate_members(
    chosen: ChosenRuns, members: Sequence[Member], data: LabelledImages, *,
    corruptions: Sequence[str] | None = None, seed: int = SEED, control: str | None = None,
    margin: float | None = None, say: Callable[[str], None] = silent,
) -> EvaluationResult:  # fmt: skip
    """Evaluate networks on labelled images, and compare their variants.

    Args:
        chosen: the runs.
        members: their networks, in the same order.
        data: the images.
        corruptions: names of corruptions to evaluate too; an empty list for all, None for none.
        seed: seed of the corruptions.
        control: variant that the others are compared with; None for that of the setting, else the first.
        margin: difference that does not matter, as a fraction; None for that of the setting.
        say: called with one line for each corruption.

    Raises:
        UsageError: there is no corruption or variant of a name.
    """
    variants, base = chosen.variant_of(), chosen.base(control)
    corrupted = {}
    if corruptions is not None:
        find_corruptions(corruptions)
    results = [
        _evaluated(member, variants[member.run.cell.fingerprint], compute_logits(member, data.images), data)
        for member in members
    ]
    if corruptions is not None:
        corrupted = accuracies_on_corrupted(members, data, corruptions, seed, say)
        results = [
            RunEvaluation(**{**vars(result), "corruptions": corrupted[result.fingerprint]}) for result in results
        ]  # fmt: skip
    limit = chosen.margin if margin is None else margin
    clean = _by_variant(results, lambda run: run.accuracy)
    dirty = _by_variant(results, lambda run: run.corrupted_accuracy) if corrupted else {}
    return EvaluationResult(
        runs=tuple(results), images=data.described(),
        how=how_all(members), control=base if len(clean) > 1 else None, margin=limit,
        judged=judge_by_variant(clean, base, limit),
        judged_corrupted=judge_by_variant(dirty, base, limit), notes=chosen.notes,
        corrupted=tuple(summarise_variants(dirty)),
    )  # fmt: skip


def accuracies_on_corrupted(
    members: Sequence[Member], data: LabelledImages, names: Sequence[str], seed: int = SEED,
    say: Callable[[str], None] = silent,
) -> dict[str, dict[str, tuple[float, ...]]]:  # fmt: skip
    """Return the accuracy at strength 1 to 5 by fingerprint and corruption; images are corrupted once for all."""
    kinds = find_corruptions(names)
    found: dict[str, dict[str, tuple[float, ...]]] = {member.run.cell.fingerprint: {} for member in members}
    device = members[0].device
    labels, index = (torch.tensor(array, device=device) for array in (data.labels, data.index))
    for at, kind in enumerate(kinds, 1):
        say(f"corruption {at} of {len(kinds)}: {kind.name}")
        hits = torch.zeros(len(STRENGTHS), len(members), dtype=torch.int64)
        for images, places in batches(data.images, device):
            for row, strength in enumerate(STRENGTHS):
                changed = corrupt(images, kind.name, strength, index[places], seed)
                for column, member in enumerate(members):
                    is_correct = batch_logits(member, changed).argmax(dim=1) == labels[places]
                    hits[row, column] += int(is_correct.sum())
        for column, member in enumerate(members):
            found[member.run.cell.fingerprint][kind.name] = tuple((hits[:, column].double() / len(data)).tolist())
    return found


def _evaluated(member: Member, variant: str, logits: Floats, data: LabelledImages) -> RunEvaluation:
    probabilities = softmax(logits)
    predicted = logits.argmax(axis=1)
    run, number = member.run, len(data.classes)
    counts = np.bincount(data.labels * number + predicted, minlength=number * number).reshape(number, number)
    is_own = data.own is not None and len(data) == data.all_images
    return RunEvaluation(
        name=run.name, variant=variant, seed=run.seed, fingerprint=run.cell.fingerprint, images=len(data),
        correct=int((predicted == data.labels).sum()), loss=_cross_entropy(logits, data.labels),
        confusion=tuple(tuple(row) for row in counts.tolist()), classes=data.classes,
        calibration=measure_calibration(probabilities.max(axis=1), predicted == data.labels),
        recorded=run.cell.metrics.get("test/acc") if is_own and member.tta == member.recipe.train.tta else None,
    )  # fmt: skip


def _cross_entropy(logits: Floats, labels: NDArray[np.int64]) -> float:
    exact = logits.astype(np.float64)
    top = exact.max(axis=1)
    log_sum = top + np.log(np.exp(exact - top[:, None]).sum(axis=1))
    return float((log_sum - exact[np.arange(len(labels)), labels]).mean())


def _by_variant(
    results: Sequence[RunEvaluation], value: Callable[[RunEvaluation], float | None]
) -> dict[str, dict[str, float | None]]:
    values: dict[str, dict[str, float | None]] = {}
    for result in results:
        values.setdefault(result.variant, {})[str(result.seed)] = value(result)
    return values


def judge_by_variant(
    values: Mapping[str, Mapping[str, float | None]], control: str, margin: float
) -> tuple[JudgedVariant, ...]:
    """Compare the variants with the control by the rules of `judge`; empty for fewer than two variants."""
    return tuple(judge_measurements(values, control, margin)) if len(values) > 1 else ()


def summarise_variants(values: Mapping[str, Mapping[str, float | None]]) -> list[VariantEvaluation]:
    """Return mean and interval over seeds of each variant."""
    summaries = []
    for variant, by_seed in values.items():
        numbers = {at: value for at, value in enumerate(by_seed.values()) if value is not None}
        mean = float(np.mean(list(numbers.values())))
        summaries.append(VariantEvaluation(variant=variant, n=len(numbers), mean=mean, interval=interval(numbers)))
    return summaries
