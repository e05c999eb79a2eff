"""`list`, `describe`, `plan`: show ablations and plans without training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import METRICS, Ablation, Claim, Variant, taught_by
from cifar_lab.cli import arguments, console, recipe_fields
from cifar_lab.cli import options as o
from cifar_lab.cli.until_decided import (
    MaxSeeds,
    UntilDecided,
    most_seeds,
    planned_conditions,
    print_forecast,
    rule_forecast,
    with_looks,
)
from cifar_lab.cli.verify import chances
from cifar_lab.config.overrides import format_overrides
from cifar_lab.config.scale import trained_alike
from cifar_lab.errors import RegistryError, nearest
from cifar_lab.execution import request
from cifar_lab.text import format_macs, many, printable

if TYPE_CHECKING:
    from cifar_lab.config.recipe import Recipe
    from cifar_lab.execution.plan import Plan
    from cifar_lab.results.claim_power import ClaimPower
    from cifar_lab.results.comparison import Comparison

ROOM = 90
"""Minimum columns of a terminal for `list` to show the names of variants; with fewer, they are counted."""


def list_(ablations: o.Folders = None, as_json: o.Json = False) -> int:
    """List the ablations that can be run."""
    found = registry.discover(*(ablations or []))
    for broken in found.broken():
        console.say(f"warning: {broken.reason}")
    if as_json:
        console.print_json([_listed(ablation, found.origin(ablation.name)) for ablation in found])
        return 0
    if console.out.width < ROOM:
        columns = ["ablation", "variants", "question"]
        rows = [[a.name, len(a.variants), a.question] for a in found]
    else:
        columns = ["ablation", "variants", "seeds", "question"]
        rows = [[a.name, ", ".join(v.name for v in a.variants), len(a.seeds), a.question] for a in found]
    origins = [found.origin(ablation.name) for ablation in found]
    if set(origins) > {registry.BUILT_IN}:
        columns.append("from")
        rows = [[*row, origin] for row, origin in zip(rows, origins, strict=True)]
    numbers = ("seeds", "variants") if console.out.width < ROOM else ("seeds",)
    console.out.print(console.table("", columns, rows, right=numbers))
    return 0


def _listed(ablation: Ablation, origin: str) -> dict[str, Any]:
    names = [variant.name for variant in ablation.variants]
    return {
        "name": ablation.name,
        "question": ablation.question,
        "variants": names,
        "source": ablation.source,
        "from": origin,
    }


def describe(name: o.AblationName, ablations: o.Folders = None, as_json: o.Json = False) -> int:
    """Show an ablation: question, factors, variants, parameters and MACs, claims. `describe recipe`: recipe fields."""
    known = registry.discover(*(ablations or [])).known()
    if name == recipe_fields.NAME and name not in known:
        recipe_fields.print_fields(as_json=as_json)
        return 0
    if name not in known and "'recipe'" in (hint := nearest(name, [*known, recipe_fields.NAME])):
        raise RegistryError(f"no ablation named '{name}'{hint}")
    ablation = arguments.find_ablation(name, ablations, o.DEFAULT_RUNS)
    rows = [_described(ablation, variant) for variant in ablation.variants]
    if as_json:
        console.print_json(
            {
                "name": ablation.name,
                "question": ablation.question,
                "source": ablation.source,
                "control": ablation.control,
                "chain": ablation.chain,
                "baseline": dict(zip(("name", "diff"), ablation.based_on, strict=True)),
                "doc": ablation.doc,
                "factors": list(ablation.factors),
                "seeds": list(ablation.seeds),
                "variants": rows,
                "claims": [_described_claim(claim) for claim in ablation.claims],
            }
        )
        return 0
    out = console.out
    out.print(Text.assemble((printable(ablation.name), "bold"), f": {printable(ablation.question)}"), soft_wrap=True)
    console.show(f"source: {ablation.source}")
    console.show(f"baseline: {ablation.baseline_in_words}")
    factors = ", ".join(ablation.factors) or "none"
    console.show(f"factors: {factors}; seeds: {', '.join(map(str, ablation.seeds))}")
    if ablation.chain:
        out.print("a chain: each stage is compared with the one before it")
    for paragraph in ablation.doc.split("\n\n") if ablation.doc else ():
        out.print("\n" + printable(" ".join(paragraph.split())), markup=False, style="dim")
    out.print()
    columns = ("variant", "difference to the baseline", "parameters", "MACs", "budget")
    table = [
        (
            row["name"] + (" (control)" if row["name"] == ablation.control else ""),
            _difference(row),
            f"{row['parameters']:,}",
            format_macs(row["macs"]),
            "within" if row["within_budget"] else "over, declared" if row["over_budget"] else "OVER",
        )
        for row in rows
    ]
    out.print(console.table("", columns, table, right=("parameters", "MACs")))
    for claim in ablation.claims:
        under = f"; made with {format_overrides(claim.under)}" if claim.under else ""
        said = f'claim: "{claim.quote}": {claim.compares} ({claim.source}{under})'
        console.show(said)
    for metric in dict.fromkeys(claim.metric for claim in ablation.claims if claim.metric != "accuracy"):
        console.show(f"{metric}: {METRICS[metric]}", style="dim")
    return 0


def plan(
    name: o.AblationName, overrides: o.Overrides = None, scale: o.ScaleName = "writeup", data: o.Data = None,
    variants: o.Variants = None, seeds: o.Seeds = None, device: o.Device = "auto", workers: o.Workers = "auto",
    cells_per_gpu: o.CellsPerGpu = "auto", max_params: o.MaxParams = "5M", until_decided: UntilDecided = False,
    max_seeds: MaxSeeds = None, runs: o.Runs = o.DEFAULT_RUNS, ablations: o.Folders = None, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Show the cells of an ablation, which of them are done, and estimate the remaining time. Nothing is trained."""
    most = most_seeds(until_decided, max_seeds, seeds)
    ablation = arguments.find_ablation(name, ablations, runs)
    typed = arguments.parse(
        scale_name=scale, overrides=overrides, variants=variants, seeds=seeds, max_params=max_params, device=device,
        workers=workers, cells_per_gpu=cells_per_gpu,
    )  # fmt: skip
    found = request.resolve_request(ablation, with_looks(typed, most), data=data, runs=runs.resolve(), say=console.say)
    forecast = rule_forecast(found.plan, most, runs.resolve()) if most is not None else None
    if as_json:
        claims = [
            {"claim": power.claim.quote, "compares": power.claim.compares, **power.as_dict()}
            for power in plan_powers(found.plan, runs.resolve(), stopping=most is not None)
        ]
        rule = {"stopping": forecast.as_dict()} if forecast is not None else {}
        console.print_json({**plan_tree(found), "claims": claims, **rule})
        return 0
    columns = ("cell", "fingerprint", "state", "parameters", "trained", "MACs", "estimate")
    whole = plan_tree(found)
    tree = whole["cells"]
    rows = [
        (
            f"{cell['variant']}/s{cell['seed']}",
            cell["fingerprint"][:12],
            cell["state"],
            f"{cell['parameters']:,}",
            f"{cell['parameters_trained']:,}",
            format_macs(cell["macs"]),
            console.duration(cell["estimate_seconds"]) if cell["estimate_seconds"] else "",
        )
        for cell in tree
    ]
    parts = (ablation.name, f"scale {scale}", found.plan.dataset.name, format_overrides(found.plan.overrides))
    title = " · ".join(filter(None, parts))
    console.out.print(console.table(title, columns, rows, right=("parameters", "trained", "MACs", "estimate")))
    for passes in sorted({cell["passes"] for cell in tree} - {1}):
        names = ", ".join(dict.fromkeys(cell["variant"] for cell in tree if cell["passes"] == passes))
        count, times = ("two", "twice") if passes == 2 else (str(passes), f"{passes} times")
        console.show(f"{names}: {count} passes a step, so {times} the time and the FLOPs that the MACs tell")
    taught = {cell["variant"]: cell["teacher_macs"] for cell in tree if cell["teacher_macs"]}
    if taught:
        each = ", ".join(f"{name} {format_macs(macs)}" for name, macs in taught.items())
        console.show(
            f"forward passes of teachers, beside a student's own and outside of its budget: {each} MACs an image"
        )
    for name, earlier in whole["same_as"].items():
        out = f"{name} trains the same as {earlier} here: in so few epochs their learning rates are one"
        console.show(out)
    done = sum(cell.is_done for cell in found.plan.cells)
    workers = f"{found.workers} × {found.execution.threads} threads on {found.execution.device}"
    rest = f"; about {console.duration(found.seconds)} for the rest ({workers})" if done < len(rows) else ""
    at_most = " at most" if forecast is not None else ""
    console.out.print(f"\n{many(len(rows), 'cell')}{at_most}, {done} done{rest}")
    if forecast is not None:
        print_forecast(forecast)
        return 0
    from cifar_lab.results.stats.claims import AS_CLAIMED_ONLY

    powers = plan_powers(found.plan, runs.resolve())
    if known := [power for power in powers if power.power is not None]:
        console.out.print()
        for line in chances(known, console.out.width):
            console.out.print(line, markup=False)
    if len(known) < len(powers):
        console.show(f"{many(len(powers) - len(known), 'claim')}: {AS_CLAIMED_ONLY}")
    return 0


def plan_powers(plan: Plan, runs: Path, *, stopping: bool = False) -> list[ClaimPower]:
    """Return how likely each claim of a plan is to be settled by its seeds, without those about absent variants."""
    from cifar_lab.results.claim_power import claim_powers

    names = {cell.variant for cell in plan.cells}
    powers = claim_powers(
        plan.ablation, planned_conditions(plan), seeds=len({cell.seed for cell in plan.cells}),
        margin=plan.ablation.margin(plan.scale.name), runs=runs, data_hash=plan.dataset.hash, variants=names,
        stopping=stopping,
    )  # fmt: skip
    return [power for power in powers if names.issuperset(power.claim.variants)]


def plan_tree(found: request.Request) -> dict[str, Any]:
    """Return the plan as JSON."""
    from cifar_lab.execution.plan import as_dict

    plan = found.plan
    return {
        "ablation": plan.ablation.name,
        "scale": plan.scale.name,
        "protocol": plan.protocol,
        "data": {"name": plan.dataset.name, "hash": plan.dataset.hash},
        "overrides": dict(plan.overrides),
        "workers": found.workers,
        "execution": found.execution.as_dict(),
        "seconds": found.seconds,
        "same_as": _alike(plan),
        "cells": [as_dict(cell, plan.estimates) for cell in plan.cells],
    }


def result_tree(plan: Plan, comparison: Comparison) -> dict[str, Any]:
    """Return the outcome of a plan as JSON: failed cells, and the rows of `compare`."""
    return {"failed": sum(cell.state == "failed" for cell in plan.cells), "rows": comparison.as_dict()["rows"]}


def _alike(plan: Plan) -> dict[str, str]:
    """Map variants to an earlier one with the same training, because their schedules coincide in so few epochs."""
    from cifar_lab.data.splits import training_index
    from cifar_lab.train.lr_schedule import rate_at

    dataset = plan.dataset
    sizes: dict[str, int] = {}

    def size(recipe: Recipe) -> int:
        """Return the number of training images; splitting them takes longer than all else here."""
        key = f"{recipe.train.protocol} {recipe.data.model_dump_json()}"
        if key not in sizes:
            sizes[key] = len(training_index(dataset, recipe.data, recipe.train.protocol))
        return sizes[key]

    def rates(recipe: Recipe) -> Iterator[float]:
        per_epoch, epochs = recipe.steps_per_epoch(size(recipe)), recipe.train.epochs
        for step in range(per_epoch * epochs):
            yield rate_at(recipe, step, per_epoch)

    recipes = {cell.variant: cell.recipe for cell in plan.cells if cell.seed == plan.cells[0].seed}
    return trained_alike(recipes, rates)


def _described(ablation: Ablation, variant: Variant) -> dict[str, Any]:
    from cifar_lab.models.cost import BUDGET, network_cost

    counted = network_cost(ablation.recipe(variant.name).model)
    return {
        "name": variant.name,
        "diff": variant.diff,
        "base": variant.base,
        "continues": variant.continues,
        "distills_from": list(variant.teachers),
        "teacher_seeds": list(variant.teacher_seeds),
        "parameters": counted.parameters,
        "macs": counted.macs or None,
        "within_budget": counted.parameters <= BUDGET,
        "over_budget": variant.over_budget,
    }


def _described_claim(claim: Claim) -> dict[str, Any]:
    return {**claim.model_dump(), "compares": claim.compares, "metric_definition": METRICS[claim.metric]}


def _difference(row: dict[str, Any]) -> str:
    """`continues s1: optim.lr=0.01`: what a variant stands on, where that is not the baseline, and its diff."""
    diff = format_overrides(row["diff"])
    if row["continues"] or row["base"] or row["distills_from"]:
        stands = [f"continues {row['continues']}"] if row["continues"] else []
        stands += [f"on {row['base']}"] if row["base"] else []
        stands += [taught_by(row["distills_from"], row["teacher_seeds"])] if row["distills_from"] else []
        return f"{', '.join(stands)}: {diff or 'the same recipe'}"
    return diff or "the baseline"
