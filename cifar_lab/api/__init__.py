"""Public Python API: plan, train, compare and judge ablations, and read trained cells, as from a notebook.

The functions do what the commands of the same names do, with values instead of words. They return objects with
`to_frame()` (pandas) and an HTML table where a notebook shows them. They raise the exceptions of `cifar_lab.errors`,
and `KeyboardInterrupt` once a training that was stopped is saved, never `SystemExit`, and ask for no confirmation::

    import cifar_lab

    result = cifar_lab.run("se_ratio", scale="smoke")
    result.comparison.to_frame()

`runs` is the folder of records, its address, `s3://BUCKET/PATH`, or to read them a zip made by `cifar-lab pack`; None
means the environment's `CIFAR_LAB_RUNS`, else `./runs`. `folder` has ablations of your own; None means those of
`CIFAR_LAB_ABLATIONS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from cifar_lab.ablation.ablation import Ablation
from cifar_lab.api.argument_checks import (
    Folder,
    Say,
    as_overrides,
    as_path,
    check_source,
    choose,
    control_of,
    device_name,
    known_ablations,
    listener,
    open_images,
    records_folder,
    require_ablation,
    require_count,
    require_margin,
    require_names,
    require_setting,
    require_text,
    resolve_ablation,
)
from cifar_lab.api.public_function import public
from cifar_lab.api.training import plan as plan
from cifar_lab.api.training import run as run
from cifar_lab.api.training import train_recipe as train_recipe
from cifar_lab.errors import TrackingError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from cifar_lab.api.argument_checks import Runs
    from cifar_lab.api.results import ComparisonResult, JudgedClaims
    from cifar_lab.inference.evaluation import EvaluationResult
    from cifar_lab.inference.export import ExportedNetwork
    from cifar_lab.inference.predictions import Predictions
    from cifar_lab.inference.shift import ShiftEstimate
    from cifar_lab.inference.stored_cells import StoredCell, StoredCells


@public
def find_ablation(name: str, folder: Folder | None = None) -> Ablation:
    """Return the ablation of this name: built-in, of an installed package, or of a file in `folder`.

    Raises:
        RegistryError: there is none, its file is broken, or there is no such folder. One that was generated in the
            default `runs` is named with its folder.
    """
    return resolve_ablation(name, folder)


@public
def compare(
    ablation: str | Ablation, *, runs: Folder | None = None, scale: str | None = None, data: str | None = None,
    overrides: Mapping[str, Any] | None = None, invocation: str | None = None, variants: Iterable[str] | None = None,
) -> ComparisonResult:  # fmt: skip
    """Compare the variants of an ablation in the setting of its latest matching invocation, or of the one with an id.

    Args:
        ablation: its name, for all that was run by that name; or the `Ablation`, for the cells of its own recipes and
            no others: variants that were not trained are missing.
        scale, data, overrides: the setting; None for any.
        invocation: id of an earlier invocation, as the comparison's header has it; it excludes the three above.
        variants: show these and what they are compared with; the intervals stay those of all rows together.

    Raises:
        TrackingError: nothing in `runs` matches.
        UsageError: no scale or variant of that name, an invocation together with a setting, or an `Ablation` of which
            no recipe fits the setting.
    """
    from cifar_lab.api.results import ComparisonResult
    from cifar_lab.results.compare import compare as compare_cells
    from cifar_lab.results.compare import tabulate
    from cifar_lab.store.selection import select

    require_setting(scale, data, overrides, invocation)
    shown = require_names(variants) if variants is not None else None
    place = records_folder(runs)
    asked: dict[str, Any] = {
        "scale": scale, "data": check_source(data), "overrides": as_overrides(overrides), "invocation": invocation
    }  # fmt: skip
    if isinstance(ablation, Ablation):
        from cifar_lab.execution.declared_setting import whole_declaration

        setting = select(place, ablation.name, **asked, declared=ablation)
        found = tabulate(whole_declaration(setting, ablation, place), place)
    else:
        require_ablation(ablation)
        found = compare_cells(place, ablation, **asked)
    return ComparisonResult.of(found if shown is None else found.only(shown))


@public
def verify(
    ablation: str | Ablation | None = None, *, runs: Folder | None = None, scale: str | None = None,
    data: str | None = None, overrides: Mapping[str, Any] | None = None, invocation: str | None = None,
    folder: Folder | None = None,
) -> JudgedClaims:  # fmt: skip
    """Judge the claims of an ablation by what was measured; None: of every ablation that has some.

    Without a setting that of the claims is used, or the latest where it has no results. Only cells of the ablation's
    own recipes count. Claims without a matching run are "not measured".

    Raises:
        TrackingError: notes or records cannot be read, or there is no such invocation.
        UsageError: no ablation or scale of that name, or an invocation together with a setting or without an ablation.
    """
    from cifar_lab.api.results import JudgedClaims
    from cifar_lab.results import verify

    require_setting(scale, data, overrides, invocation)
    if ablation is None and invocation is not None:
        raise UsageError(f"invocation={invocation!r} is of one ablation: name it")
    chosen = (
        [each for each in known_ablations(folder) if each.claims]
        if ablation is None
        else [resolve_ablation(ablation, folder, runs)]
    )
    asked: dict[str, Any] = {
        "scale": scale, "data": check_source(data), "overrides": as_overrides(overrides), "invocation": invocation,
        "is_own": isinstance(ablation, Ablation),
    }  # fmt: skip
    return JudgedClaims(
        [found for each in chosen for found in verify.judge_claims(records_folder(runs), each, **asked)]
    )


@public
def load_cell(cell: str, *, runs: Folder | None = None) -> StoredCell:
    """Return one cell: recipe, metrics, curve, logits, trained network.

    Args:
        cell: `ABLATION/VARIANT/sN`, in the latest setting of that ablation, or the first digits of a fingerprint.
        runs: as in `run`.

    Raises:
        UsageError: the name has another form, or names no cell or several.
        TrackingError: there is none, or more than one.
    """
    from cifar_lab.inference import stored_cells

    if not isinstance(cell, str):
        raise UsageError(f"a cell is named by text, ABLATION/VARIANT/sN or a fingerprint, got {cell!r}")
    return stored_cells.load_cell(records_folder(runs), cell)


@public
def load_runs(runs: Folder | None = None) -> StoredCells:
    """Return every cell in `runs`, whatever its state; `to_frame()` has a row for each, with metrics and recipe.

    Raises:
        TrackingError: there is no such folder.
    """
    from cifar_lab.inference import stored_cells

    place = records_folder(runs)
    if not place.is_dir():
        raise TrackingError(f"no such folder: {place}")
    return stored_cells.load_cells(place)


@public
def predict(
    run: Runs, *, images: Folder | np.ndarray, ensemble: bool = False, resize: bool = False,
    tta: str | None = None,
    runs: Folder | None = None, scale: str | None = None, invocation: str | None = None, device: str = "auto",
) -> Predictions:  # fmt: skip
    """Predict the class of images without labels by a trained cell, or by several averaged.

    Args:
        run: fingerprint (first digits), `ABLATION/VARIANT/sN`, `ABLATION/VARIANT`, `ABLATION` or `best:ABLATION`; a
            cell of `load_cell`, whose folder is then that of the records; a list of these; or a result of `run`.
        images: (N, 32, 32, 3) uint8, or a path: a pickle or npz with `data`, a folder or archive of images, one image.
            Networks that were trained on another side take that one.
        ensemble: average the probabilities of all runs.
        resize: fit images of other sizes: the centre, scaled with antialiasing; False: refuse them.
        tta: test-time augmentation, `none`, `mirror` or `mirror_shift`; None: that of the recipe.
        scale: scale of the setting that names refer to; None for any.
        invocation: id of an invocation of that setting; None for the latest.
        device: `auto`, `cpu`, `cuda`, `mps`, or one GPU, `cuda:1`.

    Raises:
        UsageError: a run is not there or not finished, or several are named without `ensemble`.
        DataError: the images cannot be read.
        TrackingError: weights are missing or damaged.
    """
    from cifar_lab.inference.predictions import predict_images
    from cifar_lab.inference.run_names import require_one

    require_text(tta=tta)
    chosen = choose(run, runs, scale, invocation)
    if not ensemble:
        require_one(chosen, "ensemble=True averages them, or name one")
    given = open_images(images, chosen, resize=resize)
    return predict_images(chosen, given, device=device_name(device), tta=tta)


@public
def evaluate(
    run: Runs, *, data: str | None = None, corruptions: Iterable[str] | None = None,
    images: int | None = None, tta: str | None = None, control: str | None = None, margin: float | None = None,
    runs: Folder | None = None, scale: str | None = None, invocation: str | None = None, device: str = "auto",
    say: Say | None = None,
) -> EvaluationResult:  # fmt: skip
    """Evaluate trained cells on labelled images, and compare their variants. No record is changed.

    Args:
        run: as in `predict`; several variants are compared by seed.
        data: `cifar10`, `synthetic` or a path, of which the test images are taken; None: those of the record.
        corruptions: names of corruptions to evaluate too; an empty list for all, None for none.
        images: number of images to draw; None: all.
        control: variant that the others are compared with; None: that of the ablation.
        margin: difference that does not matter, as a fraction; None: that of the ablation.
        say: called with one line at a time on progress; None: silence.
        tta, runs, scale, invocation, device: as in `predict`.

    Raises:
        UsageError: a run is not there or not finished, or there is no such corruption or control.
        DataError: the images cannot be read, or are not those of the record.
        TrackingError: weights are missing or damaged.
    """
    from cifar_lab.inference.evaluation import evaluate_members
    from cifar_lab.inference.labelled_images import labelled_images
    from cifar_lab.inference.network_outputs import load_members

    require_text(tta=tta)
    require_count("images", images)
    require_margin(margin)
    chosen = choose(run, runs, scale, invocation)
    labelled = labelled_images(chosen, check_source(data), count=images, say=listener(say))
    return evaluate_members(
        chosen, load_members(chosen.runs, device_name(device), tta), labelled, control=control_of(run, control),
        margin=margin,
        say=listener(say),
        corruptions=require_names(corruptions, "corruptions", "['fog', 'jpeg']") if corruptions is not None else None,
    )  # fmt: skip


@public
def export(
    run: Runs, *, path: Folder, int8: bool = False, input_type: Literal["uint8", "float"] = "uint8",
    tta: str | None = None, data: str | None = None, images: int | None = None, runs: Folder | None = None,
    scale: str | None = None, invocation: str | None = None, say: Say | None = None,
) -> ExportedNetwork:  # fmt: skip
    """Write a trained network as an ONNX file, after comparing it with PyTorch on test images; needs the extra `onnx`.

    Args:
        run: fingerprint (first digits), `ABLATION/VARIANT/sN` or `best:ABLATION`, a cell, or the result of one cell.
        path: file to write; an existing one is replaced, once the new one is complete.
        int8: quantise weights and activations to 8 bits, calibrated on training images.
        input_type: `uint8`, pixels from 0 to 255, or `float`, from 0 to 1.
        tta: test-time augmentation inside the graph, `none`, `mirror` or `mirror_shift`; None: that of the recipe.
        data: `cifar10`, `synthetic` or a path, of which the images are taken; None: those of the record.
        images: number of test images to draw; None: all.
        say: called with one line at a time on progress; None: silence.
        runs, scale, invocation: as in `predict`.

    Raises:
        UsageError: a run is not there or not finished, several are named, the extra is not installed, or the path has
            no folder or another extension.
        ExportError: the network cannot be traced, or its ONNX model computes something else.
        DataError: the images cannot be read, or are not those of the record.
        TrackingError: weights are missing or damaged.
        OSError: the file cannot be written.
    """
    from cifar_lab.inference.export import export_network
    from cifar_lab.inference.raw_image_network import PIXELS
    from cifar_lab.inference.run_names import require_one
    from cifar_lab.store.atomic_file import require_place

    if input_type not in PIXELS:
        raise UsageError(f"input_type is one of {', '.join(PIXELS)}, got {input_type!r}")
    output, source = as_path(path, "path"), check_source(data)
    require_text(tta=tta)
    require_count("images", images)
    require_place(output, "model.onnx", (".onnx",), option="path")
    chosen = choose(run, runs, scale, invocation)
    require_one(chosen, "one file holds one network; name one")
    return export_network(
        chosen, output, int8=int8, pixels=input_type, tta=tta, data=source, count=images, say=listener(say)
    )


@public
def shift(
    run: Runs, *, images: Folder | np.ndarray, resize: bool = False, control: str | None = None,
    margin: float | None = None, runs: Folder | None = None, scale: str | None = None, invocation: str | None = None,
    device: str = "auto",
) -> ShiftEstimate:  # fmt: skip
    """Estimate the accuracy of trained cells on images without labels, and rank their variants.

    Args:
        run: as in `predict`.
        images, resize: as in `predict`.
        control: variant that the others are compared with; None: that of the ablation.
        margin: difference that does not matter, as a fraction; None: that of the ablation.
        runs, scale, invocation, device: as in `predict`.

    Raises:
        UsageError: a run is not there or not finished.
        DataError: the images cannot be read.
        TrackingError: a record has no logits of held-out images, or weights are missing or damaged.
    """
    from cifar_lab.inference.shift import estimate_shift

    require_margin(margin)
    chosen = choose(run, runs, scale, invocation)
    return estimate_shift(
        chosen, open_images(images, chosen, resize=resize), device=device_name(device),
        control=control_of(run, control), margin=margin,
    )  # fmt: skip
