"""`evaluate`: accuracy, classes, confusion and calibration of trained cells on labelled images, also corrupted ones."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar_lab.cli import cell_options, console
from cifar_lab.cli import options as o
from cifar_lab.cli.cell_options import percent, percent_interval
from cifar_lab.cli.confusion_table import confusion_table
from cifar_lab.errors import UsageError

if TYPE_CHECKING:
    from cifar_lab.inference.evaluation import EvaluationResult, RunEvaluation
    from cifar_lab.inference.labelled_images import LabelledImages
    from cifar_lab.inference.network_outputs import Member

ENDINGS = (".csv", ".json", ".png")
ALL = "all"
MOST_COLUMNS = 6
"""Maximum number of variants beside each other in a table."""
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Evaluate on the test images of cifar10, synthetic or a path, also of a test set alone.",
        show_default="the images of the record",
    ),
]
Corruptions = Annotated[
    str | None,
    typer.Option(
        "--corruptions",
        metavar="all|NAME,…",
        help="Also evaluate on corrupted images, at five strengths each: all, or names such as fog,jpeg.",
    ),
]
Images = Annotated[
    int | None,
    typer.Option("--images", metavar="N", help="Draw N of the test images, the same ones every time."),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE",
        help="Write a table (.csv), everything (.json) or a reliability diagram (.png).",
    ),
]  # fmt: skip
TrainLogits = Annotated[
    bool, typer.Option("--train-logits", help="Store the logits of all training images in the record, too.")
]


def evaluate(
    names: cell_options.RunNames, data: Data = None, corruptions: Corruptions = None, images: Images = None,
    tta: cell_options.Tta = None, output: Output = None, train_logits: TrainLogits = False,
    control: cell_options.Control = None, margin: cell_options.Margin = None, scale: o.MaybeScale = None,
    invocation: o.MaybeInvocation = None, device: cell_options.UseDevice = "auto",
    runs: o.RunsUnopened = o.DEFAULT_RUNS, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Evaluate trained cells on labelled images; several variants are compared by seed.

    The images are the test images of the cells' own data unless --data names others. Logits are added to records of an
    older version that lack them, if the accuracy computed here equals the recorded one.
    """
    limit = cell_options.margin_fraction(margin)
    if output is not None:
        o.require_place(output, "evaluation.json", ENDINGS)
    from cifar_lab.store.mirror import mirror_of

    is_only_read = runs.is_file() or mirror_of(runs) is not None  # a packed study, and what is on an object store
    if train_logits and (data is not None or is_only_read):
        raise UsageError(
            "--train-logits stores logits of a cell's own images in its record: it needs a folder, and no --data"
        )
    from cifar_lab.inference import run_names

    chosen = run_names.choose_runs(o.open_records(runs).resolve(), names, scale=scale, invocation=invocation)
    _require_drawable(len(chosen.runs), output)
    kinds = _corruption_names(corruptions)
    from cifar_lab.inference.evaluation import evaluate_members
    from cifar_lab.inference.labelled_images import labelled_images
    from cifar_lab.inference.network_outputs import load_members

    labelled = labelled_images(chosen, data, count=images, say=console.say)
    members = load_members(chosen.runs, device, tta)
    evaluation = evaluate_members(
        chosen, members, labelled, corruptions=kinds, control=control, margin=limit, say=console.say
    )
    if labelled.own is not None and not is_only_read:
        _store_logits(members, labelled, train_logits)
    if output is not None:
        _write(output, evaluation)
    if as_json:
        console.print_json(evaluation.as_dict())
    else:
        _print(evaluation, output)
    return 0


def _corruption_names(text: str | None) -> list[str] | None:
    """Return the names of corruptions, an empty list for all of them, None for none; each name is checked."""
    if text is None:
        return None
    from cifar_lab.inference.corruptions import find_corruptions

    names = [] if text == ALL else [name.strip() for name in text.split(",")]
    find_corruptions(names)
    return names


def _require_drawable(runs: int, output: Path | None) -> None:
    """Check that a diagram can tell the runs apart, before anything is computed."""
    from cifar_lab.report.charts.reliability_png import MOST

    if output is not None and output.suffix.lower() == ".png" and runs > MOST:
        raise UsageError(
            f"-o {output}: a diagram shows at most {MOST} runs, not {runs}; name fewer: best:ABLATION, ABLATION/VARIANT"
        )


def _store_logits(members: list[Member], labelled: LabelledImages, train_logits: bool) -> None:
    """Add logits to records that lack them, and those of training images on request; say what was written."""
    from cifar_lab.inference import stored_logits
    from cifar_lab.store.cell_record import CellRecord

    assert labelled.own is not None
    for member in members:
        if stored_logits.lacks_logits(CellRecord(member.run.cell.folder)):
            console.say(stored_logits.fill_logits(member, labelled.own).reason)
        if train_logits:
            console.say(stored_logits.write_train_logits(member, labelled.own).reason)


def _write(output: Path, evaluation: EvaluationResult) -> None:
    """Write the file that the extension asks for, atomically."""
    from cifar_lab.store.atomic_file import write_atomically

    content = _content(output.suffix.lower(), evaluation)
    with o.writing(output):
        write_atomically(output, lambda file: file.write(content))


def _content(ending: str, evaluation: EvaluationResult) -> bytes:
    if ending == ".json":
        return (json.dumps(evaluation.as_dict(), indent=1, allow_nan=False) + "\n").encode()
    if ending == ".png":
        from cifar_lab.report.charts.reliability_png import reliability_diagram

        calibrations = {run.name: run.calibration for run in evaluation.runs}
        return reliability_diagram(calibrations, f"Calibration on {evaluation.images}")
    buffer = io.StringIO()
    records = evaluation.records()
    table = csv.DictWriter(buffer, list(records[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(records)
    return buffer.getvalue().encode()


def _print(evaluation: EvaluationResult, output: Path | None) -> None:
    console.show(evaluation.images)
    console.show(f"computed on {evaluation.how}")
    for note in evaluation.notes:
        console.show(note)
    console.out.print(_runs_table(evaluation))
    console.show("interval: 95 %, Wilson, over images; ECE: expected calibration error, 15 bins", "dim")
    for run in evaluation.runs:
        if run.recorded is not None and abs(run.recorded - run.accuracy) > 1e-6:
            console.show(
                f"{run.name}: the record has {percent(run.recorded)} %, computed here {percent(run.accuracy)} %"
            )
    if len(evaluation.runs) == 1:
        _print_details(evaluation.runs[0])
    else:
        console.out.print()
        console.show("recall in %, mean over seeds", "bold")
        console.out.print(_classes_by_variant(evaluation))
    if evaluation.judged and evaluation.control is not None:
        console.out.print()
        cell_options.print_judged_points(
            evaluation.judged, evaluation.control, evaluation.margin, "accuracy by variant, in %"
        )
    if any(run.corruptions for run in evaluation.runs):
        _print_corruptions(evaluation)
    if output is not None:
        console.show(f"written: {output}")


def _runs_table(evaluation: EvaluationResult) -> Any:
    columns = ["run", "accuracy %", "interval", "loss", "ECE %"]
    rows = [
        [run.name, percent(run.accuracy), percent_interval(run.interval), f"{run.loss:.4f}",
         percent(run.calibration.error)]
        for run in evaluation.runs
    ]  # fmt: skip
    return console.table("", columns, rows, right=columns[1:])


def _print_details(run: RunEvaluation) -> None:
    """Print classes, confusion and calibration of one run."""
    console.out.print()
    columns = ["class", "images", "correct", "recall %", "precision %"]
    rows = [
        [each.name, each.images, each.correct, percent(each.recall, 1), percent(each.precision, 1)]
        for each in run.by_class()
    ]
    console.out.print(console.table("", columns, rows, right=columns[1:]))
    console.out.print()
    heading, confusion = confusion_table(run.classes, run.confusion, console.out.width)
    console.show(heading, "bold")
    console.out.print(confusion)
    console.out.print()
    columns = ["confidence %", "images", "mean confidence %", "accuracy %"]
    bins = [
        [f"{100 * each.low:.1f} to {100 * each.high:.1f}", each.images, percent(each.confidence, 1),
         percent(each.accuracy, 1)]
        for each in run.calibration.bins if each.images
    ]  # fmt: skip
    console.show("calibration", "bold")
    console.out.print(console.table("", columns, bins, right=columns[1:]))


def _classes_by_variant(evaluation: EvaluationResult) -> Any:
    """Return the recall of each class by variant, means over seeds."""
    groups = _groups(evaluation)
    names = list(groups)[:MOST_COLUMNS]
    rows = []
    for at, name in enumerate(evaluation.runs[0].classes):
        recalls = [[run.by_class()[at].recall for run in groups[variant]] for variant in names]
        rows.append([name, *(percent(_mean(values), 1) for values in recalls)])
    return console.table("", ["class", *names], rows, right=names)


def _print_corruptions(evaluation: EvaluationResult) -> None:
    """Print the accuracy on corrupted images by corruption and variant, and the comparison of their means."""
    groups = _groups(evaluation)
    names = list(groups)[:MOST_COLUMNS]
    clean = {name: _mean([run.accuracy for run in groups[name]]) for name in names}
    rows: list[list[str]] = [["none", *(percent(clean[name], 1) for name in names)]]
    for kind in evaluation.runs[0].corruptions or {}:
        row = [kind]
        for name in names:
            values = [value for run in groups[name] for value in (run.corruptions or {})[kind]]
            row.append(percent(_mean(values), 1))
        rows.append(row)
    console.out.print()
    console.show("accuracy on corrupted images in %, mean over five strengths and over seeds", "bold")
    console.out.print(console.table("", ["corruption", *names], rows, right=names))
    console.out.print()
    columns = ["variant", "n", "mean %", "interval"]
    summary = [
        [each.variant, each.n, percent(each.mean), percent_interval(each.interval)] for each in evaluation.corrupted
    ]
    console.show("mean corruption accuracy; interval: 95 %, Student, over seeds", "bold")
    console.out.print(console.table("", columns, summary, right=columns[1:]))
    if evaluation.judged_corrupted and evaluation.control is not None:
        console.out.print()
        cell_options.print_judged_points(
            evaluation.judged_corrupted, evaluation.control, evaluation.margin,
            "mean corruption accuracy by variant, in %",
        )  # fmt: skip


def _groups(evaluation: EvaluationResult) -> dict[str, list[RunEvaluation]]:
    groups: dict[str, list[RunEvaluation]] = {}
    for run in evaluation.runs:
        groups.setdefault(run.variant, []).append(run)
    return groups


def _mean(values: list[float | None] | list[float]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None
