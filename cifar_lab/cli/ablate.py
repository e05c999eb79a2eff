"""`ablate`: an ablation of one recipe field, from the command line alone."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from cifar_lab.ablation.ablation import BASELINES
from cifar_lab.cli import arguments, completion, console
from cifar_lab.cli import options as o
from cifar_lab.cli.compare import print_comparison
from cifar_lab.cli.engine import LOCAL, RayAddress, StayingEngineName, require_engine
from cifar_lab.cli.notify import Notify, request_notification
from cifar_lab.cli.training import RunOptions, option_words, print_outcome, run_one
from cifar_lab.cli.until_decided import MaxSeeds, UntilDecided, most_seeds, with_looks
from cifar_lab.config.overrides import parse_overrides
from cifar_lab.errors import UsageError
from cifar_lab.execution.stop_signals import end_of_time

Setting = Annotated[
    str,
    typer.Argument(
        metavar="PATH=VALUE,VALUE…",
        help="Recipe field and its values, `optim.name=sgd,adam` or `model.blocks=[4,4,3],[3,3,3]`.",
        autocompletion=completion.overrides,
    ),
]
Control = Annotated[
    str | None,
    typer.Option(help="Value that the others are compared with. Default: the baseline's, else the first."),
]
Baseline = Annotated[
    str,
    typer.Option(help="Baseline recipe: efficient, resnet18 or fast.", autocompletion=completion.one_of(*BASELINES)),
]


def ablate(
    setting: Setting, overrides: o.Overrides = None, control: Control = None, baseline: Baseline = "efficient",
    scale: o.ScaleName = "writeup", data: o.Data = None, seeds: o.Seeds = None, device: o.Device = "auto",
    workers: o.Workers = "auto", compile: o.Compile = None, graph: o.Graph = None,
    cells_per_gpu: o.CellsPerGpu = "auto", max_params: o.MaxParams = "5M", until_decided: UntilDecided = False,
    max_seeds: MaxSeeds = None, retry_failed: o.RetryFailed = False, stall_after: o.StallAfter = None,
    hours: o.Hours = None, engine: StayingEngineName = LOCAL, ray_address: RayAddress = None,
    offline: o.Offline = False, notify: Notify = None, runs: o.Runs = o.DEFAULT_RUNS, yes: o.Yes = False,
    everything: o.Everything = False, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Train a baseline with each value of one setting, and compare. The ablation is kept in runs/ablations."""
    request_notification(notify, f"ablate {setting}")
    from cifar_lab.ablation.one_factor import ablate_factor, parse_factor
    from cifar_lab.execution.request import check_request
    from cifar_lab.store.ablation_file import folder_of, keep

    require_engine(engine, ray_address)
    factor = parse_factor(setting)
    if factor.path in parse_overrides(overrides or []):
        raise UsageError(f"{factor.path} is ablated: it cannot be overridden as well")
    ablation = ablate_factor(factor, control=control, baseline=baseline)
    most = most_seeds(until_decided, max_seeds, seeds)
    typed = arguments.parse(
        scale_name=scale, overrides=overrides, variants=None, seeds=seeds,
        max_params=max_params, device=device, workers=workers, cells_per_gpu=cells_per_gpu,
    )  # fmt: skip
    typed = with_looks(typed, most)
    check_request(ablation, typed)
    ablation, folder = keep(ablation, runs, by="`cifar-lab ablate`"), folder_of(runs)
    console.say(f"{ablation.name} is kept in {folder}: name it with --ablations {folder}")
    options = RunOptions(
        typed=typed, data=data, runs=runs.resolve(), compile=compile, graph=graph, most=most,
        retry_failed=retry_failed, patience=stall_after, until=end_of_time(hours), offline=offline, yes=yes,
        print_table=None if as_json else partial(print_comparison, everything=everything),
        words=option_words(None, seeds, device, workers, cells_per_gpu, runs, [folder]), engine=engine,
        ray_address=ray_address,
    )  # fmt: skip
    return print_outcome(run_one(ablation, options), as_json)
