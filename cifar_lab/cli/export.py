"""`export`: write a trained network as an ONNX file, compared with PyTorch on the test images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cifar_lab.cli import cell_options, console
from cifar_lab.cli import options as o
from cifar_lab.cli.cell_options import percent, percent_interval
from cifar_lab.text import many

if TYPE_CHECKING:
    from cifar_lab.inference.export import ExportedNetwork
    from cifar_lab.inference.raw_image_network import Pixels

PIXELS = ("uint8", "float")
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE.onnx", help="File for the network.")]
Int8 = Annotated[
    bool, typer.Option("--int8", help="Quantise to 8 bits, calibrated on training images, and say what that costs.")
]
InputType = Annotated[
    str,
    typer.Option(
        "--input-type", metavar="uint8|float", help="Type of the input images: uint8 from 0 to 255, float from 0 to 1."
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data", help="Compare on the test images of cifar10, synthetic or a path.",
        show_default="the images of the record",
    ),
]  # fmt: skip
Images = Annotated[
    int | None, typer.Option("--images", metavar="N", help="Compare on N of the test images, the same ones every time.")
]


def export(
    name: cell_options.RunName, output: Output = Path("model.onnx"), int8: Int8 = False,
    input_type: InputType = "uint8", tta: cell_options.Tta = None, data: Data = None, images: Images = None,
    scale: o.MaybeScale = None, invocation: o.MaybeInvocation = None, runs: o.RunsOrZip = o.DEFAULT_RUNS,
    as_json: o.Json = False,
) -> int:  # fmt: skip
    """Write a trained network as an ONNX file, if it computes what PyTorch computes.

    The graph takes raw RGB images, N × 3 × side × side; normalisation is inside. It gives logits. Classes, recipe and
    fingerprint are in its metadata.
    """
    o.require_place(output, "model.onnx", (".onnx",))
    cell_options.require_word("--input-type", input_type, PIXELS)
    from cifar_lab.inference import run_names

    chosen = run_names.choose_runs(runs.resolve(), [name], scale=scale, invocation=invocation)
    run_names.require_one(chosen, "one file holds one network; name one")
    from cifar_lab.inference.export import export_network

    with o.writing(output):
        exported = export_network(
            chosen, output, int8=int8, pixels=cast("Pixels", input_type), tta=tta, data=data, count=images,
            say=console.say,
        )  # fmt: skip
    if as_json:
        console.print_json(exported.as_dict())
        return 0
    _print(exported)
    return 0


def _print(exported: ExportedNetwork) -> None:
    console.show(f"{exported.run}, {exported.images}; PyTorch and onnxruntime on {exported.how}")
    for note in exported.notes:
        console.show(note)
    answers = ["", "MB", "accuracy %", "largest difference", "other answers"]
    rows = [
        [each.name, f"{each.bytes / 1e6:.2f}", percent(each.accuracy),
         "" if each.largest_difference is None else f"{each.largest_difference:.2g}",
         "" if each.other_answers is None else f"{each.other_answers:,}"]
        for each in exported.runtimes
    ]  # fmt: skip
    console.out.print(console.table("", answers, rows, right=answers[1:]))
    largest = exported.runtimes[-1].largest_logit or 0.0
    console.show(f"differences: from PyTorch, of logits; its largest logit is {largest:.3g}", "dim")
    console.out.print()
    counts = (1, exported.batch_images)
    latencies = ["ms on one core", *(f"{many(count, 'image')}, {part}" for count in counts for part in ("p50", "p95"))]
    rows = [
        [each.name, *(f"{value:.2f}" for taken in (each.single, each.batch) for value in (taken.p50, taken.p95))]
        for each in exported.runtimes
    ]
    console.out.print(console.table("", latencies, rows, right=latencies[1:]))
    console.out.print()
    for line in _foot(exported):
        console.show(line)


def _foot(exported: ExportedNetwork) -> Iterator[str]:
    if exported.record_differs is not None:
        count = many(exported.record_differs, "recorded answer")
        yield f"{count}, computed in the precision of the training, differ from PyTorch's in fp32"
    if exported.quantisation is not None:
        cost = exported.quantisation
        yield (
            f"int8, calibrated on {many(exported.calibration or 0, 'training image')}, changes the accuracy by "
            f"{100 * cost.difference:+z.2f} points {percent_interval(cost.interval)}; "
            f"right only before: {cost.only_a:,}, only after: {cost.only_b:,}; "
            f"McNemar's exact test: p = {cost.p_value:.3g}"
        )
    yield f"written: {exported.path} ({exported.bytes / 1e6:.2f} MB)"
