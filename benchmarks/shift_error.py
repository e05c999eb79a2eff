"""Measure the error of accuracies estimated without labels, on corrupted test images whose labels are known.

    python benchmarks/shift_error.py optimizers --data cifar10-jpeg.zip --images 2000

For every corruption and strength the accuracy of each run is estimated from its validation images and compared with
the true one. Printed: mean absolute error in points by method, and how often the 95 % interval holds the truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cifar_lab.inference.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from cifar_lab.inference.labelled_images import LabelledImages, labelled_images
from cifar_lab.inference.network_outputs import Floats, Member, batch_logits, batches, load_members
from cifar_lab.inference.run_names import ChosenRuns, choose_runs
from cifar_lab.inference.shift import ShiftEstimate, estimate_of_outputs, run_outputs

METHODS = (
    "val accuracy",
    "mean confidence",
    "transport",
    "thresholded confidence",
    "agreement",
    "scaled agreement",
    "line",
)


def corrupted_logits(members: Sequence[Member], data: LabelledImages, name: str, strength: int) -> list[Floats]:
    """Return the logits of each member for corrupted images."""
    parts: list[list[np.ndarray]] = [[] for _ in members]
    for images, places in batches(data.images, members[0].device):
        changed = corrupt(images, name, strength, places)
        for own, member in zip(parts, members, strict=True):
            own.append(batch_logits(member, changed).cpu().numpy())
    return [np.concatenate(own) for own in parts]


def estimated(chosen: ChosenRuns, logits: Sequence[Floats], source: str) -> ShiftEstimate:
    """Return the estimates from logits of images whose labels are not used."""
    labelled = {run.cell.fingerprint: run.cell.logits("val") for run in chosen.runs}
    return estimate_of_outputs(
        run_outputs(chosen, labelled, logits), control=next(iter(chosen.variants())), margin=chosen.margin,
        images=len(logits[0]), source=source, how="",
    )  # fmt: skip


def errors(estimate: ShiftEstimate, truth: dict[str, float]) -> Iterator[tuple[str, float]]:
    """Yield (method, estimate − accuracy) for each run, and for each variant for methods that need several seeds."""
    for run in estimate.runs:
        accuracy = truth[run.fingerprint]
        yield "val accuracy", run.val_accuracy - accuracy
        yield "mean confidence", run.mean_confidence - accuracy
        yield "transport", run.estimate.accuracy - accuracy
        yield "thresholded confidence", run.thresholded.accuracy - accuracy
    for variant in estimate.variants:
        accuracy = float(np.mean([truth[run.fingerprint] for run in estimate.runs if run.variant == variant.variant]))
        for method, value in (
            ("agreement", variant.agreement), ("scaled agreement", variant.scaled_agreement),
            ("line", variant.on_the_line),
        ):  # fmt: skip
            if value is not None:
                yield method, value - accuracy


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="RUN")
    parser.add_argument("--runs", default="runs", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    chosen = choose_runs(asked.runs.resolve(), asked.names)
    data = labelled_images(chosen, asked.data, count=asked.images)
    members = load_members(chosen.runs, asked.device, None)
    by_method: dict[str, list[float]] = {method: [] for method in METHODS}
    covered: dict[str, list[bool]] = {"transport": [], "thresholded confidence": []}
    ranks = []
    for name in CORRUPTIONS:
        for strength in STRENGTHS:
            logits = corrupted_logits(members, data, name, strength)
            truth = {
                run.cell.fingerprint: float((own.argmax(axis=1) == data.labels).mean())
                for run, own in zip(chosen.runs, logits, strict=True)
            }
            estimate = estimated(chosen, logits, name)
            for method, error in errors(estimate, truth):
                by_method[method].append(100 * error)
            for run in estimate.runs:
                for method, (low, high) in (
                    ("transport", run.estimate.interval), ("thresholded confidence", run.thresholded.interval),
                ):  # fmt: skip
                    covered[method].append(low <= truth[run.fingerprint] <= high)
            means = {
                variant: np.mean([truth[run.fingerprint] for run in estimate.runs if run.variant == variant])
                for variant in chosen.variants()
            }
            ranks.append(estimate.variants[0].variant == max(means, key=lambda each: means[each]))
    print(f"{len(chosen.runs)} runs, {len(CORRUPTIONS)} corruptions × {len(STRENGTHS)} strengths, {data.described()}")
    print(f"{'method':<24}{'n':>6}{'mean |error|':>14}{'mean error':>12}   points")
    for method, values in by_method.items():
        if values:
            print(f"{method:<24}{len(values):>6}{np.mean(np.abs(values)):>14.2f}{np.mean(values):>+12.2f}")
    for method, holds in covered.items():
        print(f"interval of {method} holds the accuracy in {100 * np.mean(holds):.0f} % of {len(holds)}")
    print(f"the variant ranked first is the best one in {sum(ranks)} of {len(ranks)}")


if __name__ == "__main__":
    main()
