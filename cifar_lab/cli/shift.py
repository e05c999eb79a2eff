"""`shift`: estimate the accuracy of trained cells on images without labels, and rank their variants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cifar_lab.cli import cell_options, console
from cifar_lab.cli import options as o
from cifar_lab.cli.cell_options import percent, percent_interval
from cifar_lab.text import many

if TYPE_CHECKING:
    from cifar_lab.inference.shift import ShiftEstimate

LEGEND = (
    "estimate: optimal transport to the shares of the classes in val, which it assumes here too (Lu et al. 2023)",
    "all confidence is calibrated on val first, by a temperature (Guo et al. 2017)",
    "thresholded: average thresholded confidence, threshold of the negative entropy from val (Garg et al. 2022)",
)
WARNING = (
    "intervals cover the draw of images and seeds, not the error of the method, which no data without labels can show"
)


def shift(
    names: cell_options.RunNames, images: cell_options.Input, resize: cell_options.Resize = False,
    control: cell_options.Control = None,
    margin: cell_options.Margin = None, scale: o.MaybeScale = None, invocation: o.MaybeInvocation = None,
    device: cell_options.UseDevice = "auto", runs: o.RunsOrZip = o.DEFAULT_RUNS, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Estimate the accuracy on images without labels from confidence and from agreement between seeds."""
    limit = cell_options.margin_fraction(margin)
    from cifar_lab.inference import run_names
    from cifar_lab.inference.input_images import Fit, read_images

    chosen = run_names.choose_runs(runs.resolve(), names, scale=scale, invocation=invocation)
    given = read_images(images, Fit(run_names.require_same_side(chosen), resize))
    from cifar_lab.inference.shift import estimate_shift

    estimate = estimate_shift(chosen, given, device=device, control=control, margin=limit)
    if as_json:
        console.print_json(estimate.as_dict())
    else:
        _print(estimate)
    return 0


def _print(estimate: ShiftEstimate) -> None:
    console.show(f"accuracy on {many(estimate.images, 'image')} of {estimate.source}, estimated without labels")
    console.show(f"computed on {estimate.how}")
    for note in estimate.notes:
        console.show(note)
    console.out.print(_runs_table(estimate))
    console.out.print()
    console.out.print(_variants_table(estimate))
    for line in LEGEND:
        console.show(line, "dim")
    console.show(WARNING, "dim")
    if any(each.agreement is not None for each in estimate.variants):
        console.out.print()
        console.out.print(_agreement_table(estimate))
        for line in _agreement_legend(estimate):
            console.show(line, "dim")
    if estimate.judged and estimate.control is not None:
        console.out.print()
        cell_options.print_judged_points(
            estimate.judged,
            estimate.control,
            estimate.margin,
            "estimated accuracy by variant, in %; verdicts are about the estimates",
        )


def _runs_table(estimate: ShiftEstimate) -> Any:
    columns = ["run", "val %", "estimate %", "interval", "thresholded %", "confidence %"]
    rows = [
        [f"{run.variant}/s{run.seed}", percent(run.val_accuracy), percent(run.estimate.accuracy),
         percent_interval(run.estimate.interval), percent(run.thresholded.accuracy), percent(run.mean_confidence)]
        for run in estimate.runs
    ]  # fmt: skip
    return console.table("", columns, rows, right=columns[1:])


def _variants_table(estimate: ShiftEstimate) -> Any:
    columns = ["rank", "variant", "n", "val %", "estimate %", "interval", "thresholded %"]
    rows = [
        [each.rank, each.variant, each.n, percent(each.val_accuracy), percent(each.estimate),
         percent_interval(each.interval), percent(each.thresholded)]
        for each in estimate.variants
    ]  # fmt: skip
    return console.table("", columns, rows, right=["rank", *columns[2:]])


def _agreement_table(estimate: ShiftEstimate) -> Any:
    """Return the estimates from agreement between seeds; columns without a number are left out."""
    columns = ["variant", "agreement %", "interval", "on val %", "scaled %", "line %"]
    rows = [
        [each.variant, percent(each.agreement), percent_interval(each.agreement_interval),
         percent(each.val_agreement), percent(each.scaled_agreement), percent(each.on_the_line)]
        for each in estimate.variants
    ]  # fmt: skip
    kept = [at for at in range(len(columns)) if any(row[at] for row in rows)]
    shown = [columns[at] for at in kept]
    return console.table("", shown, [[row[at] for at in kept] for row in rows], right=shown[1:])


def _agreement_legend(estimate: ShiftEstimate) -> list[str]:
    lines = [
        "agreement: share of images on which two seeds agree; it estimates the accuracy if that on val is val % "
        "(Jiang et al. 2022)",
        "scaled: val % times agreement over agreement on val",
    ]
    correlation = estimate.line_correlation
    if correlation is None:
        return lines
    from cifar_lab.inference.shift import ON_A_LINE

    words = f"agreements of all pairs of runs on val and here correlate by {correlation:.2f}"
    is_line = correlation >= ON_A_LINE
    rule = "" if is_line else f"; below {ON_A_LINE} they lie on no line, and none is used"
    return [*lines, f"line: agreement on the line (Baek et al. 2022); {words}{rule}"]
