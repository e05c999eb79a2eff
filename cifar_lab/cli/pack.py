"""`pack`: write ablations into one zip that the reading commands take in place of a runs folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cifar_lab.cli import completion, console
from cifar_lab.cli import options as o
from cifar_lab.text import many

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ABLATION]…",
        help="Ablations that were run, and searches as sweep.NAME; without one, everything in the runs folder.",
        autocompletion=completion.ablations,
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Path of the zip.")]
Weights = Annotated[bool, typer.Option("--weights", help="Include the weights of the networks.")]

Predictions = Annotated[
    bool,
    typer.Option(
        "--predictions/--no-predictions",
        help="Include each network's outputs on val and test, most of a record without weights; `diff` needs them.",
    ),
]


def pack(
    names: Names = None, output: Output = Path("study.zip"), weights: Weights = False, predictions: Predictions = True,
    runs: o.RunsOrZip = o.DEFAULT_RUNS, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Write records, notes, comparisons and a description (RO-Crate) into one zip; exit code 1 when one is damaged.

    `compare`, `report`, `verify`, `status`, `failures`, `diff`, `tail`, `fsck`, and for searches `sweep-report` and the
    like, read it: `--runs study.zip`. The same records give the same bytes. Checkpoints and passwords are never packed.
    """
    o.require_place(output, "study.zip", (".zip",))
    from cifar_lab.report import pack as packing
    from cifar_lab.store import checksum
    from cifar_lab.store.runs_folder import STUDIES

    parcel = packing.gather(runs.resolve(), list(dict.fromkeys(names or [])), weights=weights, predictions=predictions)
    with o.writing(output):
        count, unpacked = packing.write_zip(parcel, output)
    size, digest = output.stat().st_size, checksum.hash_file(output)
    ablations = parcel.contents.ablations
    if parcel.lacks_trials:
        console.say(f"warning: the trials of searches are not in {output}: {runs / STUDIES} is not there")
    if as_json:
        told = {"path": str(output.resolve()), "ablations": ablations, "settings": parcel.settings}
        told |= {
            "records": parcel.records,
            "invocations": parcel.notes,
            "files": count,
            "weights": weights,
            "predictions": predictions,
        }
        console.print_json({**told, "bytes": size, "bytes_unpacked": unpacked, "sha256": digest})
    else:
        held = [many(parcel.records, "record"), many(parcel.notes, "invocation")]
        held += [f"{many(parcel.settings, 'comparison')} of {', '.join(ablations) or 'no ablation'}"]
        sizes = f"{size / 1e6:.2f} MB ({unpacked / 1e6:.2f} MB unpacked), {many(count, 'file')}"
        holds = f"{'with' if weights else 'without'} weights" + ("" if predictions else ", without predictions")
        for line in (f"{output}: {', '.join(held)}", f"{sizes}, {holds}"):
            console.show(line)
    return console.say_damage(parcel.damage)
