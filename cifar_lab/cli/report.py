"""`report`: write the results as one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import Ablation
from cifar_lab.cli import completion, console
from cifar_lab.cli import options as o
from cifar_lab.cli.arguments import find_known
from cifar_lab.cli.damage import say_damage
from cifar_lab.config import scale as scales
from cifar_lab.config.overrides import parse_overrides
from cifar_lab.errors import UsageError

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
    _require_place(output)
    if scale is not None:
        scales.find_scale(scale)
    o.require_whole(invocation, set(chosen), scale, data, overrides)
    asked = {"scale": scale, "data": data, "overrides": parse_overrides(overrides)}
    found = registry.discover(*(ablations or []))
    if everything:
        page, told, damage = _story(runs.resolve(), found, asked)
    else:
        named = [find_known(found, name, runs) for name in dict.fromkeys(chosen)]
        page, told, damage = _report(runs.resolve(), named, {**asked, "invocation": invocation})
    size = _write(output, page)
    if as_json:
        console.print_json({"path": str(output.resolve()), "ablations": told, "bytes": size})
    else:
        console.out.print(str(output), markup=False, soft_wrap=True)
    return say_damage(damage)


def _report(runs: Path, ablations: list[Ablation], asked: Mapping[str, Any]) -> tuple[str, list[str], list[str]]:
    from cifar_lab.report import ablation_page, ablation_page_builder

    studies = [ablation_page_builder.load(runs, ablation, **asked) for ablation in ablations]
    damage = [line for each in studies for line in each.comparison.damage]
    return ablation_page.report(studies), [each.name for each in studies], damage


def _story(runs: Path, found: registry.Registry, asked: Mapping[str, Any]) -> tuple[str, list[str], list[str]]:
    for broken in found.broken():
        console.say(f"warning: {broken.reason}")
    from cifar_lab.report import ablation_page, ablation_page_builder
    from cifar_lab.report.ablation_page_data import AblationPageData

    chapters = ablation_page_builder.chapters(runs, found, **asked)
    names = [entry.name for chapter in chapters for entry in chapter.entries]
    studies = [entry for chapter in chapters for entry in chapter.entries if isinstance(entry, AblationPageData)]
    damage = [line for each in studies for line in each.comparison.damage]
    contents = registry.contents()
    page = ablation_page.story(chapters, title=contents.title, introduction=contents.introduction)
    return page, names, damage


def _require_place(output: Path) -> None:
    """Check that the output can be written, before anything is read."""
    if output.is_dir():
        raise UsageError(f"-o {output}: a folder; a file is wanted, {output / 'report.html'}")
    if not output.parent.is_dir():
        raise UsageError(f"-o {output}: no such folder: {output.parent}")


def _write(output: Path, page: str) -> int:
    """Write the page atomically; return its number of bytes."""
    from cifar_lab.store import atomic_file

    text = page.encode()
    try:
        atomic_file.write_atomically(output, lambda file: file.write(text))
    except OSError as error:
        raise UsageError(f"-o {output}: {error.strerror or error}") from error
    return len(text)
