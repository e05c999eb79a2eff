"""`sweep-confirm`, and `sweep --confirm-top`: train the best trials of a search with fresh seeds."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar_lab.cli import arguments, console
from cifar_lab.cli import options as o
from cifar_lab.cli.engine import LOCAL, RayAddress, StayingEngineName, require_engine
from cifar_lab.cli.sweep_storage import Name, Storage, loaded_study, write_output
from cifar_lab.errors import UsageError
from cifar_lab.execution.stop_signals import end_of_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cifar_lab.cli.training import RunOptions
    from cifar_lab.results.confirmation import Confirmation
    from cifar_lab.search.study import OptunaStudy

Top = Annotated[int, typer.Option("--top", metavar="K", min=1, help="Number of trials to confirm, the best first.")]
FreshSeeds = Annotated[
    str | None,
    typer.Option(
        "--seeds", help="Fresh seeds: 1-5 or 7,8,9; not the search's.", show_default="the 5 after that of the search"
    ),
]
ConfirmTop = Annotated[
    int | None,
    typer.Option(
        "--confirm-top",
        metavar="K",
        min=1,
        help="Afterwards train the K best trials and the baseline with fresh seeds, and rank them.",
    ),
]
ConfirmSeeds = Annotated[
    str | None,
    typer.Option(
        "--confirm-seeds", metavar="SEEDS", help="With --confirm-top: the fresh seeds, 1-5.", show_default="5 of them"
    ),
]
WinnerFile = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the recipe that is first there.")
]


def sweep_confirm(
    name: Name, top: Top = 3, seeds: FreshSeeds = None, data: o.Data = None, output: WinnerFile = None,
    storage: Storage = None, device: o.Device = "auto", workers: o.Workers = "auto", compile: o.Compile = None,
    graph: o.Graph = None, cells_per_gpu: o.CellsPerGpu = "auto", retry_failed: o.RetryFailed = False,
    hours: o.Hours = None, engine: StayingEngineName = LOCAL, ray_address: RayAddress = None,
    offline: o.Offline = False, runs: o.Runs = o.DEFAULT_RUNS, yes: o.Yes = False, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Train the best trials of a study and its baseline with fresh seeds: ranks, verdicts, and the winner's curse.

    Finished cells are not trained again. Ranks are by val, verdicts by test.
    """
    require_engine(engine, ray_address)
    if output is not None:
        o.require_place(output, "confirmed.json")
    options = confirm_options(
        data=data, device=device, workers=workers, compile=compile, graph=graph, cells_per_gpu=cells_per_gpu,
        retry_failed=retry_failed, until=end_of_time(hours), offline=offline, runs=runs, yes=yes, engine=engine,
        ray_address=ray_address,
    )  # fmt: skip
    with loaded_study(name, storage, runs) as study:
        code, confirmation = confirm_study(study, options, top, seeds, "--seeds", storage)
        if confirmation is not None and output is not None:
            _write_winner(study, confirmation, output)
    if as_json:
        console.print_json(confirmation.as_dict() if confirmation is not None else None)
    elif confirmation is not None:
        print_confirmation(confirmation)
    return code


def confirm_options(
    *, data: str | None, device: str, workers: str, compile: bool | None, graph: bool | None, cells_per_gpu: str,
    retry_failed: bool, until: float, offline: bool, runs: Path, yes: bool, engine: str, ray_address: str | None,
) -> RunOptions:  # fmt: skip
    """Return the options of a confirmation, to which `confirm_study` adds the settings of the study."""
    from cifar_lab.cli.training import RunOptions, option_words
    from cifar_lab.store.ablation_file import folder_of

    typed = arguments.parse(
        scale_name="writeup", overrides=None, variants=None, seeds=None, max_params=str(2**62), device=device,
        workers=workers, cells_per_gpu=cells_per_gpu,
    )  # fmt: skip
    return RunOptions(
        typed=typed, data=data, runs=runs.resolve(), compile=compile, graph=graph, retry_failed=retry_failed,
        until=until, offline=offline, yes=yes, engine=engine, ray_address=ray_address,
        words=option_words(None, None, device, workers, cells_per_gpu, runs, [folder_of(runs)]),
    )  # fmt: skip


def parse_fresh_seeds(text: str | None, setting_seed: int, option: str) -> tuple[int, ...]:
    """Return the seeds of a confirmation.

    Raises:
        UsageError: the text has another form, names the search's seed, or fewer than two.
    """
    from cifar_lab.execution.resolved_recipes import parse_seeds
    from cifar_lab.search.confirmation import fresh_seeds

    return fresh_seeds(setting_seed, parse_seeds(text, option) if text is not None else None, option)


def require_confirmation(top: int | None, seeds: str | None, setting_seed: int) -> None:
    """Check `--confirm-top` and `--confirm-seeds` before anything is trained.

    Raises:
        UsageError: seeds without a number of trials, or seeds that are not fresh.
    """
    if top is None and seeds is not None:
        raise UsageError("--confirm-seeds goes with --confirm-top: say how many trials are to be confirmed")
    if top is not None:
        parse_fresh_seeds(seeds, setting_seed, "--confirm-seeds")


def confirm_study(
    study: OptunaStudy, options: RunOptions, top: int, seeds: str | None, option: str, storage: str | None
) -> tuple[int, Confirmation | None]:
    """Train the missing cells of a confirmation of `top` trials; return the exit code, and what was found.

    `option`: name of the one that has the seeds. `storage`: as typed.

    Raises:
        UsageError: no trial differs from the baseline, a seed is not fresh, or the images are others.
    """
    from cifar_lab.cli.training import run_one
    from cifar_lab.search import confirmation as confirming
    from cifar_lab.search import storage as stores
    from cifar_lab.search.study import setting_of
    from cifar_lab.store.ablation_file import keep

    runs, setting = options.runs, setting_of(study)
    fresh = parse_fresh_seeds(seeds, setting.seed, option)
    finalists = confirming.find_finalists(study, setting, top)
    if len(finalists) < top:
        console.say(f"{top} trials were to be confirmed: {len(finalists)} differ from the baseline")
    ablation = keep(confirming.confirm_finalists(setting, finalists, fresh), runs, by="`cifar-lab sweep-confirm`")
    options = replace(
        options, typed=options.typed._replace(scale=setting.scale, overrides=setting.overrides),
        data=options.data or setting.data["source"], data_hash=setting.data["hash"],
        files=partial(_artifacts, study, runs),
    )  # fmt: skip
    stores.be_patient(study._storage, console.say)
    outcome = run_one(ablation, options)
    confirmation = confirming.load_confirmation(study, runs)
    if confirmation is not None:
        _remark(study, confirmation, options, storage)
    return outcome.code, confirmation


def print_confirmation(confirmation: Confirmation) -> None:
    """Print sentences and tables, and where the rest is."""
    from cifar_lab.report.confirmation_table import confirmation_sentences, confirmation_tables

    for sheet in confirmation_tables(confirmation):
        console.show_wrapped(f"\n{sheet.caption}", "dim")
        for part in sheet.folded(console.out.width):
            console.out.print(console.table("", part.headings, part.rows, right=part.numbers))
    console.out.print()
    for line in confirmation_sentences(confirmation):
        console.show_wrapped(line, "bold")
    name = confirmation.comparison.ablation
    console.show_wrapped(f"all of the comparison on test: cifar-lab compare {name} --all", "dim")


def _artifacts(study: OptunaStudy, runs: Path) -> Mapping[str, str]:
    """Return the files of a confirmation for its run in MLflow."""
    from cifar_lab.report.confirmation_table import confirmation_markdown
    from cifar_lab.search.confirmation import load_confirmation

    found = load_confirmation(study, runs)
    if found is None:
        return {}
    tree = json.dumps(found.as_dict(), indent=1) + "\n"
    return {"confirmation.md": confirmation_markdown(found), "confirmation.json": tree}


def _remark(study: OptunaStudy, confirmation: Confirmation, options: RunOptions, storage: str | None) -> None:
    """Add the outcome to the study's run in MLflow, with its page."""
    from cifar_lab.mlflow_sync.upload import open_upload
    from cifar_lab.report.confirmation_table import confirmation_sentences
    from cifar_lab.search.sweep_page import sweep_files
    from cifar_lab.search.trial_jobs import add_remarks

    runs = options.runs
    sentences = " ".join(confirmation_sentences(confirmation))
    note = add_remarks(study, runs, {"confirmed": sentences}) if sentences else None
    if note is not None:
        upload = open_upload(runs, lambda _: sweep_files(study, runs, storage), console.say, offline=options.offline)
        upload.update(note, trains=False)
        upload.finish()


def _write_winner(study: OptunaStudy, confirmation: Confirmation, output: Path) -> None:
    from cifar_lab.search.confirmation import recipe_of
    from cifar_lab.search.study import setting_of

    winner = confirmation.winner
    if winner is None:
        raise UsageError(f"-o {output}: no cell of the confirmation is finished")
    recipe: dict[str, Any] = recipe_of(study, setting_of(study), winner.variant).model_dump(mode="json")
    write_output(output, json.dumps(recipe, indent=1) + "\n")
    console.say(f"written: {output}, the recipe of {winner.variant}; train it: cifar-lab train --recipe {output}")
