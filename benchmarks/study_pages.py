"""Write the pages of a study: an index, and a page for each ablation and each search.

    python benchmarks/study_pages.py docs/results/registry.zip -o docs/results/registry

The study is a folder of records or what `cifar-lab pack` made of one. All numbers are read from its records.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markdown_table import table

import cifar_lab
from cifar_lab.ablation import registry
from cifar_lab.ablation.ablation import Ablation
from cifar_lab.api.results import ComparisonResult, JudgedClaims
from cifar_lab.cli.sweep_storage import loaded_study
from cifar_lab.config.overrides import format_overrides
from cifar_lab.report.confirmation_table import confirmation_markdown
from cifar_lab.report.summary import comparison_sentence
from cifar_lab.report.table_formats import as_markdown
from cifar_lab.search.confirmation import load_confirmation
from cifar_lab.store.ablation_file import SEARCH
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.packed_study import study_folder
from cifar_lab.text import many


@dataclass(frozen=True)
class Measured:
    """One ablation as the study has it."""

    ablation: Ablation
    compared: ComparisonResult
    judged: JudgedClaims


def read_study(runs: Path) -> list[Measured]:
    """Return each ablation of the registry that has a finished cell in `runs`, in the order of their names."""
    index = read_index(runs)
    found = []
    for ablation in registry.discover():
        if index.of_ablation(ablation.name):
            compared = cifar_lab.compare(ablation.name, runs=runs)
            judged = cifar_lab.verify(ablation.name, runs=runs, invocation=compared.invocation)
            found.append(Measured(ablation, compared, judged))
    return [each for each in found if any(row.n for row in each.compared.rows)]


def read_searches(runs: Path) -> list[str]:
    """Return the names of the searches in `runs`, sorted."""
    names = {entry.ablation for entry in read_index(runs).invocations if entry.ablation.startswith(SEARCH)}
    return sorted(name.removeprefix(SEARCH) for name in names)


def index_page(measured: Sequence[Measured], searches: Sequence[str], runs: str) -> Iterator[str]:
    """Yield the lines of the index: the setting, a row for each ablation, what was counted, and the searches."""
    settings = Counter(" ".join([f"--scale {c.scale}", f"data {c.data}", format_overrides(c.overrides)]).strip()
                       for c in (each.compared for each in measured))  # fmt: skip
    yield "# The registry, measured"
    yield ""
    yield f"Made by `python benchmarks/study_pages.py {runs}` from the records in it."
    yield "Each page names its commands, hardware, versions and dates."
    yield f"The same as one page with figures: `cifar-lab report --all --runs {runs} -o report.html`."
    yield ""
    yield "Setting of " + ", ".join(f"{many(n, 'ablation')}: `{words}`" for words, n in settings.most_common()) + "."
    yield ""
    rows = []
    for each in measured:
        compared, name = each.compared, each.ablation.name
        seeds = sorted({row.n for row in compared.rows})
        verdicts = Counter(row.verdict or "not compared" for row in compared.rows if row.against is not None)
        claims = Counter(claim.status for claim in each.judged)
        rows.append([
            f"[{name}]({name}.md)", len(compared.rows),
            f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}",
            _best(compared), _counted(verdicts) or "—", _counted(claims) or "—",
        ])  # fmt: skip
    heading = ["ablation", "variants", "seeds", "highest accuracy %", "differences", "claims"]
    yield from table(heading, rows)
    yield ""
    verdicts = Counter(row.verdict for each in measured for row in each.compared.rows if row.verdict)
    claims = Counter(claim.status for each in measured for claim in each.judged)
    yield f"All differences: {_counted(verdicts) or 'none'}. All claims: {_counted(claims) or 'none'}."
    if searches:
        yield ""
        yield "Searches: " + ", ".join(f"[{name}](search-{name}.md)" for name in searches) + "."


def ablation_page(measured: Measured) -> Iterator[str]:
    """Yield the lines of one ablation's page: question, sentence, tables, claims and provenance."""
    ablation, compared, judged = measured.ablation, measured.compared, measured.judged
    yield f"# {ablation.name}: {ablation.question}"
    yield ""
    if sentence := comparison_sentence(compared):
        yield sentence
        yield ""
    yield as_markdown(compared).rstrip()
    if judged:
        yield ""
        yield "## Claims"
        yield ""
        rows = ([c.claim.quote, c.claim.compares, c.status, c.judgement.why] for c in judged)
        yield from table(["claim", "compares", "status", "why"], rows, left=4)


def search_page(name: str, runs: str) -> Iterator[str]:
    """Yield the lines of one search's page: what the commands print of it, and the table of its confirmation."""
    yield f"# {name}: a search under the budget"
    for command in ("sweep-status", "sweep-best", "sweep-importance"):
        words = [command, name, "--runs", runs]
        done = subprocess.run(
            [sys.executable, "-m", "cifar_lab", *words], env={**os.environ, "COLUMNS": "120"}, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        lines = [line.rstrip() for line in done.stdout.strip().splitlines()]
        yield from ("", "```", f"$ cifar-lab {shlex.join(words)}", *lines, "```")
    place = study_folder(Path(runs).resolve())
    with loaded_study(name, None, place) as study:
        found = load_confirmation(study, place)
    if found is not None:
        yield from ("", "#" + confirmation_markdown(found).rstrip())
        compared = cifar_lab.compare(found.comparison.ablation, runs=runs)  # with commands, hardware and dates
        yield from ("", "## The comparison on test", "", as_markdown(compared).rstrip())


def write_pages(measured: Sequence[Measured], searches: Sequence[str], folder: Path, runs: str) -> None:
    """Write the index and the pages into `folder`, which is emptied of earlier ones."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pages = {"README": index_page(measured, searches, runs)}
    pages |= {each.ablation.name: ablation_page(each) for each in measured}
    pages |= {f"search-{name}": search_page(name, runs) for name in searches}
    for name, lines in pages.items():
        (folder / f"{name}.md").write_text("\n".join(lines) + "\n")


def _best(compared: ComparisonResult) -> str:
    """Return the variant with the highest mean, as `r8 71.23 ± 0.40`."""
    rows = [row for row in compared.rows if row.mean is not None]
    best = max(rows, key=lambda row: row.mean or 0.0)
    spread = f" ± {100 * best.std:.2f}" if best.std is not None else ""
    return f"{best.variant} {100 * (best.mean or 0):.2f}{spread}"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {word}" for word, n in counts.most_common())


def main(words: Sequence[str] | None = None) -> None:
    """Write the pages that `words`, or the command line, ask for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", help="folder of records, or a zip made by `cifar-lab pack`")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the pages, which is replaced")
    asked = parser.parse_args(words)
    place = study_folder(Path(asked.runs).resolve())
    measured, searches = read_study(place), read_searches(place)
    if not measured:
        parser.error(f"{asked.runs}: no finished cell of an ablation of the registry")
    write_pages(measured, searches, asked.output, asked.runs)
    print(f"{many(len(measured), 'ablation')}, searches: {', '.join(searches) or 'none'}: {asked.output / 'README.md'}")


if __name__ == "__main__":
    main()
