"""`plan`: show what would be trained, how long that takes, and what it can settle; nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cifar_lab.cli import arguments, console
from cifar_lab.cli import options as o
from cifar_lab.cli.plan_tree import plan_tree
from cifar_lab.cli.until_decided import MaxSeeds, UntilDecided, most_seeds, with_looks
from cifar_lab.cli.verify import chances
from cifar_lab.config.overrides import format_overrides
from cifar_lab.execution import request
from cifar_lab.text import format_macs, many

if TYPE_CHECKING:
    from cifar_lab.execution.plan import Plan
    from cifar_lab.results.claim_power import ClaimPower
    from cifar_lab.results.claim_setting import Conditions
    from cifar_lab.results.rule_forecast import RuleForecast


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
    forecast = _rule_forecast(found.plan, most, runs.resolve()) if most is not None else None
    if as_json:
        claims = [
            {"claim": power.claim.quote, "compares": power.claim.compares, **power.as_dict()}
            for power in _plan_powers(found.plan, runs.resolve(), stopping=most is not None)
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
        _print_forecast(forecast)
        return 0
    from cifar_lab.results.stats.claims import AS_CLAIMED_ONLY

    powers = _plan_powers(found.plan, runs.resolve())
    if known := [power for power in powers if power.power is not None]:
        console.out.print()
        for line in chances(known, console.out.width):
            console.out.print(line, markup=False)
    if len(known) < len(powers):
        console.show(f"{many(len(powers) - len(known), 'claim')}: {AS_CLAIMED_ONLY}")
    return 0


def _plan_powers(plan: Plan, runs: Path, *, stopping: bool = False) -> list[ClaimPower]:
    """Return how likely each claim of a plan is to be settled by its seeds, without those about absent variants."""
    from cifar_lab.results.claim_power import claim_powers

    names = {cell.variant for cell in plan.cells}
    powers = claim_powers(
        plan.ablation, _planned_conditions(plan), seeds=len({cell.seed for cell in plan.cells}),
        margin=plan.ablation.margin(plan.scale.name), runs=runs, data_hash=plan.dataset.hash, variants=names,
        stopping=stopping,
    )  # fmt: skip
    return [power for power in powers if names.issuperset(power.claim.variants)]


def _planned_conditions(plan: Plan) -> Conditions:
    """Return the conditions of claims in the setting of a plan."""
    from cifar_lab.results.claim_setting import Conditions

    return Conditions(
        scale=plan.scale.name, protocol=plan.protocol, data=plan.dataset.name,
        is_cifar10=plan.dataset.kind == "cifar10", overrides=plan.overrides,
    )  # fmt: skip


def _rule_forecast(plan: Plan, most: int, runs: Path) -> RuleForecast:
    """Return the forecast of the rule that is in force for `plan`, or that would begin with it.

    Raises:
        UsageError: there can be no such rule.
    """
    from cifar_lab.execution import stopping_rule
    from cifar_lab.results.rule_forecast import forecast_rule

    rule = stopping_rule.make_rule(plan, most, stopping_rule.find_setting(plan, runs))
    names, conditions = list(dict.fromkeys(cell.variant for cell in plan.cells)), _planned_conditions(plan)
    return forecast_rule(rule, plan.ablation, conditions, variants=names, runs=runs, data_hash=plan.dataset.hash)


def _print_forecast(forecast: RuleForecast) -> None:
    """Print the looks of a rule, and the chance of each verdict on a variant by its true difference."""
    rule = forecast.rule
    if rule.critical:
        method = f"± {', '.join(f'{value:.2f}' for value in rule.critical)} moderated standard errors"
    else:
        method = f"Student's at {', '.join(f'{100 * level:.2f}' for level in rule.levels)} %"
    console.show(f"looks after {', '.join(map(str, rule.looks))} seeds; intervals {method}")
    console.show(
        f"simulated with a deviation of {100 * forecast.deviation.difference:.2f} points of Δ "
        f"({forecast.deviation.source}), a margin of {100 * forecast.margin:g} points, and one variant that differs"
    )
    columns = ("true Δ", "better %", "equivalent %", "worse %", "undecided %", "its seeds", "cells of the study")
    rows = [
        (
            f"{100 * each.difference:+z.2f}", *(f"{100 * share:.1f}" for share in
            (each.better, each.equivalent, each.worse, each.undecided)), f"{each.seeds:.1f}", f"{each.cells:.0f}",
        )
        for each in forecast.chances
    ]  # fmt: skip
    console.out.print(console.table("", columns, rows, right=columns))
