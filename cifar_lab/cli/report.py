"""`report` and `sweep-report`: write results as one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import Ablation
from cifar_lab.cli import completion, console
from cifar_lab.cli import options as o
from cifar_lab.cli.sweep_storage import Name, Storage, loaded_study
from cifar_lab.config.overrides import parse_overrides
from cifar_lab.errors import UsageError
from cifar_lab.store.ablation_lookup import find_known

if TYPE_CHECKING:
    from cifar_lab.report.ablation_page import AblationPage, UnmeasuredAblation

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ABLATION]… [PATH=VALUE]…",
        help="Ablations that were run; overrides select their setting.",
        autocompletion=completion.ablations_or_overrides,
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Path of the page.")]
All = Annotated[bool, typer.Option("--all", help="Include every ablation of the registry, also those not run.")]


def report(
    names: Names = None, output: Output = Path("report.html"), everything: All = False,
    scale: o.MaybeScale = None, data: o.MaybeData = None, invocation: o.MaybeInvocation = None,
    runs: o.RunsOrZip = o.DEFAULT_RUNS, ablations: o.Folders = None, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Write an HTML page of one ablation or several: numbers, plots, claims, curves and provenance.

    By default, the setting of the claims is used; if it has no results, the latest one.
    """
    words = names or []
    chosen, overrides = [word for word in words if "=" not in word], [word for word in words if "=" in word]
    if everything == bool(chosen):
        raise UsageError("name one ablation or more, or say --all")
    o.require_place(output, "report.html")
    o.require_setting(invocation, set(chosen), scale, data, overrides)
    asked = {"scale": scale, "data": data, "overrides": parse_overrides(overrides)}
    ablation_registry = registry.discover(*(ablations or []))
    entries: Sequence[AblationPage | UnmeasuredAblation]
    if everything:
        page, entries = _render_registry(runs.resolve(), ablation_registry, asked)
    else:
        named = [find_known(ablation_registry, name, runs) for name in dict.fromkeys(chosen)]
        page, entries = _render_named(runs.resolve(), named, {**asked, "invocation": invocation})
    _write(output, page, {"ablations": [entry.name for entry in entries]}, as_json=as_json)
    return console.say_damage([line for entry in entries for line in entry.damage])


def sweep_report(
    name: Name, output: Output = Path("sweep.html"), storage: Storage = None, runs: o.RunsOrZip = o.DEFAULT_RUNS,
    as_json: o.Json = False,
) -> int:  # fmt: skip
    """Write a page of one search: history, accuracy against parameters, importances, best recipe, all trials."""
    o.require_place(output, "sweep.html")
    from cifar_lab.report.html import render_sweep
    from cifar_lab.search.sweep_page import load_sweep_page

    with loaded_study(name, storage, runs) as study:
        page = load_sweep_page(study, runs=runs.resolve(), storage=storage)
    _write(output, render_sweep(page), {"study": page.study}, as_json=as_json)
    return 0


def _render_named(runs: Path, ablations: list[Ablation], asked: Mapping[str, Any]) -> tuple[str, list[AblationPage]]:
    from cifar_lab.report import ablation_page, html

    pages = [ablation_page.load_ablation_page(runs, ablation, **asked) for ablation in ablations]
    return html.render_ablations(pages), pages


def _render_registry(
    runs: Path, ablation_registry: registry.Registry, asked: Mapping[str, Any]
) -> tuple[str, list[AblationPage | UnmeasuredAblation]]:
    for broken in ablation_registry.broken():
        console.say(f"warning: {broken.reason}")
    from cifar_lab.report import ablation_page, html

    chapters, contents = ablation_page.load_chapters(runs, ablation_registry, **asked), registry.contents()
    page = html.render_chapters(chapters, title=contents.title, introduction=contents.introduction)
    return page, [entry for chapter in chapters for entry in chapter.entries]


def _write(output: Path, page: str, contents: Mapping[str, Any], *, as_json: bool) -> None:
    """Write the page atomically, and print its path, or JSON with its contents."""
    from cifar_lab.store import atomic_file

    text = page.encode()
    try:
        atomic_file.write_atomically(output, lambda file: file.write(text))
    except OSError as error:
        raise UsageError(f"-o {output}: {error.strerror or error}") from error
    if as_json:
        console.print_json({"path": str(output.resolve()), **contents, "bytes": len(text)})
    else:
        console.show(str(output))
