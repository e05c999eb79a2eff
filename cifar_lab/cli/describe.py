"""`list`, `describe`: show the ablations, and one in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import METRICS, Ablation, Claim, Variant, taught_by
from cifar_lab.cli import arguments, console, recipe_fields
from cifar_lab.cli import options as o
from cifar_lab.config.overrides import format_overrides
from cifar_lab.errors import RegistryError, nearest
from cifar_lab.text import format_macs, printable

if TYPE_CHECKING:
    pass

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
