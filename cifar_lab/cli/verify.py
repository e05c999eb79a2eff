"""`judge_claims`: judge the claims of sources by measurements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import METRICS, Ablation
from cifar_lab.cli import completion, console
from cifar_lab.cli import options as o
from cifar_lab.config.overrides import parse_overrides
from cifar_lab.results.stats.multiple_comparisons import CONFIDENCE
from cifar_lab.store.ablation_lookup import find_known

if TYPE_CHECKING:
    from cifar_lab.results.claim_power import ClaimPower
    from cifar_lab.results.verify import JudgedClaim

STYLES = {
    "supported": "bold green",
    "refuted": "bold red",
    "size open": "green",
    "negligible": "yellow",
    "direction agrees": "green",
    "direction disagrees": "yellow",
    "inconclusive": "",
    "not measured": "dim",
}
UNSETTLED = {"size open", "inconclusive", "not measured"}
"""Statuses after which more seeds may settle a claim."""
HEADINGS = ("claim", "compares", "status", "measured")
WIDEST = (48, 28, 19, 60)
"""Maximum width of each column, however wide the terminal is."""
FOLDED = ((3, 36), (0, 28), (1, 18), (3, 24))
"""Columns that are narrowed in a narrow terminal, in this order, and their minimum widths.

If that is not enough, each claim is shown on lines of its own instead of a row.
"""
INDENT = "  "
ELSEWHERE = "elsewhere than at a claim's scale, protocol and data a direction agrees or disagrees, and that is all"


def _offered(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete ablations, or recipe paths if none matches."""
    return completion.ablations(ctx, incomplete) or completion.overrides(ctx, incomplete)


def verify(
    asked: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ABLATION|PATH=VALUE",
            help="Ablations (default: all with claims), and recipe overrides of another setting.",
            autocompletion=_offered,
        ),
    ] = None,
    scale: o.MaybeScale = None, data: o.MaybeData = None, invocation: o.MaybeInvocation = None,
    runs: o.RunsOrZip = o.DEFAULT_RUNS, ablations: o.Folders = None, as_json: o.Json = False,
) -> int:  # fmt: skip
    """Judge the claims of sources by measurements; exit code 1 when a claim is refuted or a record is damaged.

    By default, the setting of the claims is used; if it has no results, the latest one.
    """
    words = [word for word in asked or [] if "=" in word]
    names = list(dict.fromkeys(word for word in asked or [] if "=" not in word))
    o.require_setting(invocation, names, scale, data, words)
    overrides = parse_overrides(words)
    chosen = _choose(names, registry.discover(*(ablations or [])), runs)
    from cifar_lab.results import verify
    from cifar_lab.store.invocation_index import read_index

    found = [
        verify.judge_claims(
            runs.resolve(), ablation, scale=scale, data=data, overrides=overrides, invocation=invocation
        )
        for ablation in chosen
    ]
    findings = [finding for each in found for finding in each]
    if as_json:
        console.print_json([finding.as_dict() for finding in findings])
    else:
        silent = [ablation.name for ablation in chosen if not ablation.claims]
        for line in _lines(findings, silent, everything=not names):
            console.out.print(line, soft_wrap=isinstance(line, Text) and not line.overflow)
    index = read_index(runs.resolve())
    notes = [str(error) for ablation in chosen for error in index.damage_of(ablation.name)]
    code = console.say_damage([*(line for finding in findings for line in finding.damage), *notes])
    return 1 if any(finding.status == "refuted" for finding in findings) else code


def _choose(names: list[str], known: registry.Registry, runs: Path) -> list[Ablation]:
    """Return the named ablations, or all that have claims.

    Raises:
        RegistryError: a name is unknown, or its file is broken.
    """
    if names:
        return [find_known(known, name, runs) for name in names]
    for broken in known.broken():
        console.say(f"warning: {broken.reason}")
    return [ablation for ablation in known if ablation.claims]


def _lines(findings: list[JudgedClaim], silent: list[str], *, everything: bool) -> Iterator[Text | Table]:
    """Yield one table per ablation; if all are requested, the unmeasured ones share a few lines.

    With several ablations, the counts also come first, as they would otherwise scroll away.
    """
    from cifar_lab.results.verify import NOT_RUN

    groups = {name: list(own) for name, own in groupby(findings, key=lambda finding: finding.ablation)}
    shown = {name: own for name, own in groups.items() if own[0].setting is not None or not everything}
    if len(shown) > 1:
        yield from (_total(findings), Text())
    widths = _widths([finding for own in shown.values() for finding in own], console.out.width)
    for own in shown.values():
        shared = _shared(own)
        yield from _header(own)
        if shared:
            yield Text(f"all of them: {'; '.join(shared)}", style="dim")
        yield from [_table(own, widths, shared)] if widths is not None else _stacked(own, shared)
        for metric in dict.fromkeys(each.claim.metric for each in own if each.claim.metric != "accuracy"):
            yield from (Text(part, style="dim") for part in wrap(f"{metric}: {METRICS[metric]}", console.out.width))
        yield from (Text(line, style="dim") for line in wrap(_intervals(own), console.out.width))
        yield from _chances(own)
        yield Text()
    for name in silent:
        yield Text(f"{name} claims nothing\n")
    left = {name: own for name, own in groups.items() if name not in shown}
    for words, was_run in ((NOT_RUN, False), ("run, and not as asked for", True)):
        named = [f"{name} ({len(own)})" for name, own in left.items() if (own[0].judgement.why != NOT_RUN) == was_run]
        if named:
            yield Text(f"{words}, with their claims: {', '.join(named)}\n", style="dim", overflow="fold")
    if any(finding.differs for finding in findings):
        yield Text(ELSEWHERE, style="dim")
    yield _total(findings)


def _intervals(own: Sequence[JudgedClaim]) -> str:
    """Return how many intervals hold together, and at which level; empty without intervals."""
    shown = [each for each in own if each.measured is not None and each.measured["interval"] is not None]
    if not shown:
        return ""
    sizes = list({(each.question, each.claim.metric): each.together for each in shown if each.question}.values())
    level = f"interval: {100 * CONFIDENCE:.0f} % confidence"
    if max(sizes, default=1) == 1:
        return level + (", for each claim by itself" if len(shown) > 1 else "")
    groups = ", ".join(map(str, sizes))
    together = f"{groups} claims" if len(sizes) == 1 else f"claims on the same question and metric (groups of {groups})"
    alone = "" if all(each.question for each in shown) else "; each accuracy by itself"
    return f"{level}, together for {together}{alone}"


def _chances(own: Sequence[JudgedClaim]) -> Iterator[Text]:
    """Yield one line for each claim that is not settled: how likely the seeds that are asked for settle it."""
    open_ = [each for each in own if each.status in UNSETTLED and each.power is not None]
    powers = [each.power for each in open_ if each.power is not None and each.power.power is not None]
    if powers:
        yield from (Text(line, style="dim") for line in chances(powers, console.out.width))


def chances(powers: Sequence[ClaimPower], room: int) -> Iterator[str]:
    """Yield a heading with the deviations that are assumed, and one line for each claim."""
    yield "Chance of being supported, if the claim is true:"
    for power in powers:
        yield from wrap(
            f"{power.claim.compares}: {power.words}", room, initial_indent=INDENT, subsequent_indent=INDENT * 2
        )
    points = {(power.claim.metric, power.claim.worse is None, power.source, power.deviation): power for power in powers}
    for metric, is_cell, source, deviation in points:
        what = "of a cell" if is_cell else "of a difference"
        yield from wrap(f"deviation {what} in {metric}: {100 * (deviation or 0):.2f} points, {source}", room)


def _header(own: Sequence[JudgedClaim]) -> Iterator[Text]:
    """Yield the ablation, and its setting."""
    name, setting = (own[0].ablation, "bold"), own[0].setting
    if setting is None:
        yield Text.assemble(name, " · ", own[0].judgement.why.removeprefix(f"'{own[0].ablation}' "))
        return
    title, protocol = setting.title(), f" · protocol {own[0].protocol}"
    yield Text.assemble(name, f" · {title}", "" if "train.protocol=" in title else protocol)
    more = f", the latest of {len(setting.invocations)} in this setting" if len(setting.invocations) > 1 else ""
    margin = next((finding.measured["margin"] for finding in own if finding.measured is not None), None)
    small = f" · less than {100 * margin:.2f} points does not matter" if margin is not None else ""
    yield Text(f"invocation {setting.latest.id}{more}{small}", style="dim")
    from cifar_lab.store.selection import selector

    for other in setting.others:
        yield Text(f"also there: {selector(other)}", style="dim")


def _shared(own: Sequence[JudgedClaim]) -> list[str]:
    """Return the reasons that all claims of an ablation have in common, to be shown once."""
    if len(own) < 2 or own[0].setting is None:
        return []
    every = [finding.judgement.why.split("; ") for finding in own]
    return [why for why in dict.fromkeys(every[0]) if why and all(why in each for each in every)]


def _measured(finding: JudgedClaim, shared: Sequence[str]) -> list[Text]:
    """Return the numbers, and the reasons for their limits; one per line."""
    judged = finding.judgement
    why = "; ".join(part for part in judged.why.split("; ") if part not in shared)
    numbers = [Text(judged.numbers)] if judged.numbers else []
    return numbers + ([Text(why, style="dim")] if why and finding.setting is not None else [])


def _stacked(own: Sequence[JudgedClaim], shared: Sequence[str]) -> Iterator[Text]:
    """Yield the claims for a narrow terminal: each in one line, with the result below it."""
    room = console.out.width
    for finding in own:
        claim = finding.claim
        yield Text("\n".join(wrap(f"“{claim.quote}” · {claim.compares}", room)))
        found = Text(finding.status, style=STYLES[finding.status])
        if measured := _measured(finding, shared):
            found = Text.assemble(found, "  ", Text("; ").join(measured))
        for line in found.wrap(console.out, room - len(INDENT)):
            line.rstrip()
            yield Text.assemble(INDENT, line)


def _table(own: Sequence[JudgedClaim], widths: Sequence[int], shared: Sequence[str]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, console.GAP, 0, 0))
    for heading, width in zip(HEADINGS, widths, strict=True):
        made.add_column(heading, width=width, overflow="fold")
    quote = None
    for finding in own:
        claim = finding.claim
        quoted = wrap(f"“{claim.quote}”", widths[0], max_lines=3, placeholder="…”")
        said = "" if claim.quote == quote else "\n".join(quoted)
        made.add_row(
            Text(said), Text(claim.compares), Text(finding.status, style=STYLES[finding.status]),
            Text("\n").join(_measured(finding, shared)),
        )  # fmt: skip
        quote = claim.quote
    return made


def _widths(findings: Sequence[JudgedClaim], room: int) -> list[int] | None:
    """Return common column widths of all tables: fitted to the content, the rest for the claims; None if none fits."""
    texts = [
        (f"“{finding.claim.quote}”", finding.claim.compares, finding.status, finding.judgement.numbers)
        for finding in findings
    ]
    wished = zip(HEADINGS, *texts, strict=True)
    widths = [min(max(map(len, column)), most) for column, most in zip(wished, WIDEST, strict=True)]
    widths[3] = max(widths[3], min(WIDEST[3], room - sum(widths[:3]) - 3 * console.GAP))
    for column, narrowest in FOLDED:
        over = sum(widths) + 3 * console.GAP - room
        widths[column] -= max(0, min(over, widths[column] - narrowest))
    return widths if sum(widths) + 3 * console.GAP <= room else None


def _total(findings: Sequence[JudgedClaim]) -> Text:
    from cifar_lab.report.summary import counted_status

    counts: Counter[str] = Counter(finding.status for finding in findings)
    parts: list[Text] = [Text(f"{len(findings)} claim{'' if len(findings) == 1 else 's'}")]
    parts += [
        Text(counted_status(counts[status], status), style=style) for status, style in STYLES.items() if counts[status]
    ]
    return Text(" · ").join(parts)
