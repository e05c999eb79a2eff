"""Arguments of the public API: their types, defaults and checks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cifar_lab import extension
from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import Ablation
from cifar_lab.config import scale as scales
from cifar_lab.config.plain_values import plain
from cifar_lab.errors import UsageError, shortened
from cifar_lab.execution.resolved_recipes import MOST_SEEDS
from cifar_lab.object_store import is_address, parse_address
from cifar_lab.redaction import NOTIFY_URLS
from cifar_lab.store.ablation_lookup import IN_PYTHON, find_known

if TYPE_CHECKING:
    import numpy as np

    from cifar_lab.api.results import RunResult
    from cifar_lab.execution.request import Request, RequestArguments
    from cifar_lab.inference.input_images import InputImages
    from cifar_lab.inference.run_names import ChosenRuns
    from cifar_lab.inference.stored_cells import StoredCell
    from cifar_lab.mlflow_sync.logged_model import ModelLogging

    Runs = str | StoredCell | RunResult | Sequence[str | StoredCell]

Folder = str | os.PathLike[str]
Say = Callable[[str], None]


def choose(run: Runs, runs: Folder | None, scale: str | None, invocation: str | None) -> ChosenRuns:
    """Return the finished cells that `run` names or is; a cell or result that is given itself has its own folder.

    Raises:
        UsageError: it is something else, or a run is not there or not finished.
        TrackingError: nothing in `runs` matches.
    """
    from cifar_lab.inference.run_names import choose_runs

    require_setting(scale, None, None, None)
    require_text(invocation=invocation)
    named = _runs_in(run)
    own = {folder for _, folder in named if folder is not None} if runs is None else set()
    if len(own) > 1:
        raise UsageError(f"the runs are of several folders, {', '.join(map(str, sorted(own)))}; one is read at a time")
    place = own.pop() if own else records_folder(runs)
    return choose_runs(place, [word for word, _ in named], scale=scale, invocation=invocation)


def _runs_in(run: object) -> list[tuple[str, Path | None]]:
    """Return the names of runs, with the folder of records of those that are given themselves."""
    from cifar_lab.api.results import RunResult
    from cifar_lab.inference.stored_cells import StoredCell

    if isinstance(run, str):
        return [(run, None)]
    if isinstance(run, StoredCell):
        return [(run.fingerprint, run.folder.parent)]
    if isinstance(run, RunResult):
        return [(each, run.runs) for each in run.fingerprints.values()]
    if isinstance(run, Iterable):
        return [each for one in run for each in _runs_in(one)]
    raise UsageError(f"run is the name of a run, a cell of load_cell, a result of run, or a list of these, got {run!r}")


def control_of(run: object, control: str | None) -> str | None:
    """Return the variant that others are compared with: `control`, else that of a result that is given itself."""
    from cifar_lab.api.results import RunResult

    require_text(control=control)
    if control is not None or not isinstance(run, RunResult):
        return control
    own = run.comparison.control
    return own if any(name.rpartition("/")[0] == own for name in run.fingerprints) else None


def open_images(images: Folder | np.ndarray, chosen: ChosenRuns, *, resize: bool) -> InputImages:
    """Return images without labels, of the side that the runs take, from a path or an array, (N, side, side, 3) uint8.

    `resize`: fit images of other sizes, instead of refusing them.
    """
    from cifar_lab.inference.input_images import Fit, images_of_array, read_images
    from cifar_lab.inference.run_names import require_same_side

    fit = Fit(require_same_side(chosen), resize)
    return read_images(Path(images), fit) if isinstance(images, str | os.PathLike) else images_of_array(images, fit=fit)


def require_text(**named: object) -> None:
    """Check that arguments, by name, are text or None.

    Raises:
        UsageError: one is something else.
    """
    for name, value in named.items():
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{name} is text, got {shortened(repr(value), 80)}")


def require_count(name: str, value: object) -> None:
    """Check that an argument is a whole number from 1 up, or None.

    Raises:
        UsageError: it is not.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
        raise UsageError(f"{name} is a whole number from 1 up, got {value!r}")


def require_margin(margin: object) -> None:
    """Check that a margin is a fraction above 0, or None.

    Raises:
        UsageError: it is not.
    """
    if margin is not None and (isinstance(margin, bool) or not isinstance(margin, Real) or not 0 < float(margin) < 1):
        raise UsageError(f"margin is a fraction between 0 and 1, 0.005 for half a point, got {margin!r}")


def as_path(value: object, argument: str) -> Path:
    """Return a path that is given as text or a path.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"{argument} is a path, got {shortened(repr(value), 80)}")
    return Path(value)


def device_name(device: object) -> str:
    """Return the name of a device, that of a `torch.device`, too.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(device, str) and f"{type(device).__module__}.{type(device).__name__}" != "torch.device":
        raise UsageError(f"device is auto, cpu, cuda, mps or one GPU, cuda:1, got {shortened(repr(device), 80)}")
    return str(device)


def listener(say: object) -> Say:
    """Return the function that is called with lines; None: one that says nothing.

    Raises:
        UsageError: it cannot be called.
    """
    if say is None:
        return say_nothing
    if not callable(say):
        raise UsageError(f"say is a function that takes a line, such as print, or None, got {shortened(repr(say), 80)}")
    heard: Say = say
    return heard


def as_overrides(overrides: object) -> dict[str, Any]:
    """Return overrides with plain numbers; None: none.

    Raises:
        UsageError: they are no dictionary of paths.
    """
    if overrides is None:
        return {}
    if not isinstance(overrides, Mapping) or not all(isinstance(path, str) for path in overrides):
        got = shortened(repr(overrides), 80)
        raise UsageError(f"overrides are a dictionary, as in {{'train.epochs': 3}}, got {got}")
    return dict(plain(overrides))


def say_nothing(_: str) -> None:
    """Say nothing."""


def runs_folder(runs: Folder | None) -> Path:
    """Return the absolute path of a runs folder; by default `CIFAR_LAB_RUNS`, else `./runs`.

    Of an address, `s3://BUCKET/PATH`, it is this machine's copy, which is refreshed.

    Raises:
        UsageError: another address, or the package for it is not installed.
        ObjectStoreError: the store does not answer, or refuses.
    """
    if runs is not None:
        as_path(runs, "runs")
    given = runs if runs is not None else os.environ.get("CIFAR_LAB_RUNS") or "runs"
    if isinstance(given, str) and is_address(given):
        from cifar_lab.store.mirror import open_mirror

        place = parse_address(given, "runs")
        return open_mirror(place) if isinstance(place, str) else place.resolve()
    return Path(given).expanduser().resolve()


def records_folder(runs: Folder | None) -> Path:
    """Return the absolute path of records that are only read: a runs folder, or that of a study by `cifar-lab pack`.

    Raises:
        TrackingError: the file is no packed study, or is damaged.
    """
    from cifar_lab.store.packed_study import study_folder

    return study_folder(runs_folder(runs))


def known_ablations(folder: Folder | None) -> registry.Registry:
    """Return the registry with the ablations of `folder`; by default of those in `CIFAR_LAB_ABLATIONS`."""
    return registry.discover(
        *([as_path(folder, "folder")] if folder is not None else registry.folders_of_environment())
    )


def resolve_ablation(ablation: str | Ablation, folder: Folder | None, runs: Folder | None = None) -> Ablation:
    """Return an ablation that is given itself, or by its name.

    Raises:
        RegistryError: there is none of this name; one that was generated in `runs` is named with its folder.
    """
    if isinstance(ablation, Ablation):
        return ablation
    require_ablation(ablation)
    known = known_ablations(folder)
    if ablation in known.known():  # a store that holds `runs` is not asked
        return known.find(ablation)
    place, here = records_folder(runs), Path.cwd()
    shown = place.relative_to(here) if place.is_relative_to(here) else place
    return find_known(known, ablation, shown, option=IN_PYTHON)


def require_ablation(ablation: object) -> None:
    """Check that an ablation is given by its name or itself.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(ablation, str | Ablation):
        raise UsageError(f"ablation is a name or one Ablation, got {shortened(repr(ablation), 80)}")


def check_source(data: object) -> str | None:
    """Return a source of images, the name of a data set or a path, as text; None for the default.

    Raises:
        UsageError: it is something else, such as arrays.
    """
    if data is None or isinstance(data, str | os.PathLike):
        return None if data is None else os.fspath(data)
    raise UsageError(
        f"data is the name of a data set or a path, got {type(data).__name__}; "
        "np.savez('mine.npz', x_train=…, y_train=…, x_test=…, y_test=…) makes one of arrays"
    )


def warning_of_name(ablation: Ablation) -> str | None:
    """Return a warning if an ablation that was made in Python has the name of a built-in one; None for that one itself.

    It is kept as a file in `runs/ablations`, and replaces the built-in one in what is shown of that folder.
    """
    own = registry.discover()
    if ablation.name not in own.known() or own.origin(ablation.name) != registry.BUILT_IN:
        return None
    if own.find(ablation.name) == ablation:
        return None
    return (
        f"warning: your ablation '{ablation.name}' replaces the built-in one of its name in this runs folder; "
        "another name keeps both"
    )


def require_names(names: Iterable[str], argument: str = "variants", example: str = "['r4', 'r16']") -> list[str]:
    """Return names as a list.

    Raises:
        UsageError: they are one string, whose characters would be taken for names, or no names.
    """
    listed = None if isinstance(names, str) or not isinstance(names, Iterable) else list(names)
    if listed is None or not all(isinstance(name, str) for name in listed):
        raise UsageError(f"{argument} is a list of names, as in {example}, got {shortened(repr(names), 80)}")
    return listed


def require_setting(
    scale: str | None, data: str | None, overrides: Mapping[str, Any] | None, invocation: str | None
) -> None:
    """Check that a scale exists, and that an invocation is asked for alone.

    Raises:
        UsageError: not so.
    """
    if scale is not None:
        scales.find_scale(scale)
    require_text(data=data if not isinstance(data, os.PathLike) else None, invocation=invocation)
    as_overrides(overrides)
    if invocation is not None and (scale is not None or data is not None or overrides):
        raise UsageError("invocation names a whole setting; leave scale, data and overrides out")


def require_imported_code(found: Request) -> None:
    """Check that the user's own code in the recipes of a plan was not changed since this process imported it."""
    for group, target in sorted({each[1:3] for cell in found.plan.cells for each in cell.recipe.extensions()}):
        extension.require_unchanged(group, target)


class Tracking(NamedTuple):
    """Additions of a run to MLflow, and the end of its time."""

    models: ModelLogging | None
    """Networks to log as models; None for none."""
    labels: Mapping[str, str]
    """Tags of the user."""
    note: str
    until: float
    """Time on the monotonic clock at which running cells save and stop."""


def check_tracking(
    log_model: str | None, register: str | None, tags: Mapping[str, str] | None, note: str, hours: float | None, *,
    offline: bool,
) -> Tracking:  # fmt: skip
    """Check what MLflow is to get beside the results, and the hours, which begin now.

    Raises:
        UsageError: a value has another form, or some contradict each other.
    """
    from cifar_lab.execution.stop_signals import LONGEST_HOURS, SHORTEST_HOURS, end_of_time
    from cifar_lab.mlflow_sync.user_fields import require_label

    require_text(log_model=log_model, register=register)
    labels, hours = tags if tags is not None else {}, plain(hours)
    if not isinstance(labels, Mapping):
        raise UsageError(f"tags are a dictionary, as in {{'team': 'vision'}}, got {tags!r}")
    if not isinstance(note, str):
        raise UsageError(f"note is text, got {note!r}")
    if hours is not None and (
        isinstance(hours, bool) or not isinstance(hours, int | float) or not SHORTEST_HOURS <= hours <= LONGEST_HOURS
    ):
        raise UsageError(f"hours is a number from {SHORTEST_HOURS} to {LONGEST_HOURS:,}, got {hours!r}")
    models = None
    if log_model is not None or register is not None:
        from cifar_lab.inference.model_logging import choose_models  # loads numpy

        models = choose_models(log_model, register, offline=offline, option=str)
    return Tracking(
        models=models,
        labels={key: require_label(key, value, f"tags[{key!r}]") for key, value in labels.items()},
        note=note,
        until=end_of_time(hours),
    )


def notification_urls(notify: str | Sequence[str] | None) -> list[str]:
    """Return the addresses that get a message; None: those of `CIFAR_LAB_NOTIFY`, separated by blanks.

    Raises:
        UsageError: one is no text.
    """
    if notify is None:
        return os.environ.get(NOTIFY_URLS, "").split()
    urls = [notify] if isinstance(notify, str) else list(notify) if isinstance(notify, Iterable) else [notify]
    if not all(isinstance(url, str) for url in urls):
        raise UsageError("notify takes an address, or a list of them")
    return urls


def check_arguments(
    scale: str, seeds: Iterable[int] | None, overrides: Mapping[str, Any] | None, variants: Iterable[str] | None,
    workers: int | str, device: str, max_params: int,
) -> RequestArguments:  # fmt: skip
    """Check the form of the arguments that a command line has as words, and return them together.

    Raises:
        UsageError: one has another form.
    """
    from cifar_lab.execution.request import RequestArguments

    if isinstance(seeds, str) or not isinstance(seeds, Iterable | None):
        raise UsageError(f"seeds is a list of integers, as in range(3), got {seeds!r}")
    taken, max_params = (plain(tuple(seeds)) if seeds is not None else None), plain(max_params)
    if taken is not None and (not taken or len(set(taken)) != len(taken) or len(taken) > MOST_SEEDS):
        raise UsageError(f"seeds are 1 to {MOST_SEEDS} different integers, got {len(taken)}: {list(taken[:5])}")
    if not all(type(seed) is int and seed >= 0 for seed in taken or ()):
        raise UsageError(f"seeds are integers from 0 up, got {list(taken or ())[:5]}")
    if type(max_params) is not int or max_params < 1:
        raise UsageError(f"max_params is an integer from 1 up, got {max_params!r}")
    return RequestArguments(
        scale=scales.find_scale(scale), overrides=as_overrides(overrides), seeds=taken, max_params=max_params,
        device=device_name(device),
        variants=require_names(variants) if variants is not None else None, workers=str(workers),
    )  # fmt: skip
