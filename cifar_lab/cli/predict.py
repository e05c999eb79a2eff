"""`predict`: classify images without labels by trained cells, and write the answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cifar_lab.cli import cell_options, console
from cifar_lab.cli import options as o
from cifar_lab.errors import UsageError
from cifar_lab.text import many

if TYPE_CHECKING:
    from cifar_lab.inference.answer_file import ChangedAnswers, Format
    from cifar_lab.inference.predictions import Predictions

FORMATS = ("csv", "npz")
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File for the answers.")]
Ensemble = Annotated[bool, typer.Option("--ensemble", help="Average the probabilities of all named runs.")]
Like = Annotated[
    Path | None,
    typer.Option("--like", metavar="SAMPLE.csv", help="Take header, ids, their order and number from this file."),
]
Against = Annotated[
    Path | None,
    typer.Option("--against", metavar="EARLIER.csv", help="Count the answers that differ from an earlier file."),
]
FormatName = Annotated[
    str | None,
    typer.Option(
        "--format", metavar="csv|npz", help="csv, or npz with probabilities.", show_default="by the extension"
    ),
]
Names = Annotated[bool, typer.Option("--names", help="Write names of classes in place of their numbers.")]


def predict(
    names: cell_options.RunNames, images: cell_options.Input, output: Output, ensemble: Ensemble = False,
    resize: cell_options.Resize = False, tta: cell_options.Tta = None, like: Like = None, against: Against = None,
    format_name: FormatName = None, class_names: Names = False, scale: o.MaybeScale = None,
    invocation: o.MaybeInvocation = None, device: cell_options.UseDevice = "auto", runs: o.RunsOrZip = o.DEFAULT_RUNS,
    as_json: o.Json = False,
) -> int:  # fmt: skip
    """Predict the class of images without labels, and write one line for each: ID,Labels."""
    o.require_place(output, "answers.csv")
    chosen_format = format_name or ("npz" if output.suffix.lower() == ".npz" else "csv")
    cell_options.require_word("--format", chosen_format, FORMATS)
    if class_names and chosen_format == "npz":
        raise UsageError("--names is for csv; an npz has both numbers and names")
    from cifar_lab.inference import answer_file, run_names
    from cifar_lab.inference.input_images import Fit, read_images

    sample = answer_file.read_answers(like, "--like") if like is not None else None
    earlier = answer_file.read_answers(against, "--against") if against is not None else None
    chosen = run_names.choose_runs(runs.resolve(), names, scale=scale, invocation=invocation)
    if not ensemble:
        run_names.require_one(chosen)
    given = read_images(images, Fit(run_names.require_same_side(chosen), resize))
    if sample is not None and like is not None:
        answer_file.in_order_of(given, sample, like)
    from cifar_lab.inference.predictions import predict_images

    predictions = predict_images(chosen, given, device=device, tta=tta)
    changes = None
    if earlier is not None and against is not None:
        renamed = tuple(sample.answers) if sample is not None and not given.has_own_ids else None
        changes = answer_file.count_changes(predictions, earlier, against, renamed)
    with o.writing(output):
        answer_file.write_answers(
            output, predictions, format=cast("Format", chosen_format), like=like, names=class_names
        )
    if as_json:
        changed = asdict(changes) if changes is not None else None
        console.print_json({**predictions.as_dict(), "output": str(output.resolve()), "against": changed})
        return 0
    _print(predictions, changes, output)
    return 0


def _print(predictions: Predictions, changes: ChangedAnswers | None, output: Path) -> None:
    total = len(predictions.ids)
    rows = [
        [name, f"{count:,}", f"{100 * count / total:.1f}"] for name, count in predictions.histogram().items()
    ]  # fmt: skip
    for line in _head(predictions):
        console.show(line)
    console.out.print(console.table("", ["class", "images", "%"], rows, right=["images", "%"]))
    console.out.print()
    for line in _foot(predictions, changes, output):
        console.show(line)


def _head(predictions: Predictions) -> Iterator[str]:
    names = ", ".join(predictions.members)
    yield f"{many(len(predictions.ids), 'image')} of {predictions.source}, predicted by {names}"
    yield f"computed on {predictions.how}"
    yield from predictions.notes


def _foot(predictions: Predictions, changes: ChangedAnswers | None, output: Path) -> Iterator[str]:
    yield f"mean confidence {100 * predictions.confidence.mean():.2f} %"
    if predictions.unanimous is not None and predictions.pairwise is not None:
        yield (
            f"all {len(predictions.members)} members agree on {100 * predictions.unanimous:.2f} % of the images, "
            f"two of them on {100 * predictions.pairwise:.2f} % on average"
        )
    if changes is not None:
        share = 100 * changes.changed / changes.common
        only = [f"{changes.only_earlier:,} only there" * bool(changes.only_earlier)]
        only += [f"{changes.only_now:,} only here" * bool(changes.only_now)]
        more = "".join(f", {part}" for part in only if part)
        yield f"{changes.changed:,} of {many(changes.common, 'answer')} changed ({share:.2f} %){more}"
    yield f"written: {output}"
