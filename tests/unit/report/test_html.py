"""The page: what is on it, in which order, in the same numbers as elsewhere, and nothing that reaches outside."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from made.comparisons import CONTROL, NOTHING, comparison, row
from made.studies import DIFFERENCES, LOST, ONE_SEED, WORSE, cell, cells, study

from cifar_lab.ablation.ablation import METRICS
from cifar_lab.report import html, table_content, table_notes
from cifar_lab.report.ablation_page import (
    AblationPage,
    Chapter,
    ClaimSummary,
    UnmeasuredAblation,
    VariantSummary,
)
from cifar_lab.report.charts.comparison import ARROWS
from cifar_lab.results.comparison import ComparisonRow, Effect

NASTY = "<script>alert('x')</script>\"&"
UNMEASURED = UnmeasuredAblation(
    name="width",
    question="How wide?",
    source="Table 1",
    findings=(ClaimSummary(quote="wider is better", source="us", status="not measured"),),
    command="cifar-lab run-ablation width",
)


class Reader(HTMLParser):
    """Tables, tags, text and addresses of a page; fails on what is not closed."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in self.VOID:
            return
        self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)
        if self._open[-1:] and {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(*studies: AblationPage) -> Reader:
    return Reader(html.render_ablations(studies or (study(),)))


# The same numbers


@pytest.mark.parametrize("rows", [(CONTROL, WORSE), (CONTROL, WORSE, LOST, NOTHING), (CONTROL, ONE_SEED), (CONTROL,)])
def test_every_table_of_the_comparison_is_on_the_page_cell_by_cell(rows: tuple[ComparisonRow, ...]) -> None:
    of = study(*rows)
    found = read(of).tables
    for sheet in table_content.comparison_tables(of.comparison):
        assert [list(sheet.headings), *map(list, sheet.rows)] in found


def test_effects_of_a_crossing_are_on_the_page() -> None:
    effect = Effect(
        name="model.se.reduction", pairs=5, difference=0.001, interval=(0.0, 0.002), level=0.98, verdict="undecided",
        reason=None,
    )  # fmt: skip
    of = study(comparison=comparison(CONTROL, WORSE, effects=(effect,)))
    sheet = table_content.effects_table(of.comparison)
    assert [list(sheet.headings), *map(list, sheet.rows)] in read(of).tables


def test_every_seed_is_in_the_plot_with_the_number_that_the_table_would_give_it() -> None:
    text = read().text
    for seed, value in DIFFERENCES.items():
        assert f"r4, seed {seed}: {table_content.points(value, sign=True)}" in text


def test_header_and_footer_of_the_comparison_are_on_the_page() -> None:
    of, text = study(), read().text
    for line in [*table_notes.header(of.comparison), *table_notes.footer(of.comparison)]:
        assert line in text


# How to read it


def test_the_bars_of_the_plots_of_cost_are_explained() -> None:
    small = replace(WORSE, parameters_trained=1_000_000)
    assert (
        "Vertical bars: the 95 % interval of each variant's mean over seeds, each by itself."
        in read(study(CONTROL, small)).text
    )
    bare = study(replace(CONTROL, mean_interval=None), replace(small, mean_interval=None))
    assert "Vertical bars" not in read(bare).text


def test_arrows_in_place_of_ends_are_explained_where_there_are_any() -> None:
    wide = replace(WORSE, interval=(-3.0, 3.0))
    assert ARROWS in read(study(CONTROL, wide)).text
    assert ARROWS not in read().text


def test_the_claims_say_why_a_difference_has_another_sign_and_interval_there() -> None:
    one = ClaimSummary(quote="4 is lower", source="stage 9", status="supported", compares="r16 > r4")
    reaches = replace(one, compares="r16 reaches 97 %", is_difference=False)
    assert (
        "A difference here: better minus worse, as the claim has it; intervals hold together over the 2 claims. "
        "Above: variant minus r16." in read(study(findings=(one, one, reaches))).text
    )
    other = replace(one, question="another", metric="gap")
    mixed = html.explain_claims(study(findings=(one, one, other)))
    assert "intervals of claims that answer one question by one metric hold together" in mixed
    assert mixed.endswith(f" Gap: {METRICS['gap']}.")
    assert "its interval holds by itself" in html.explain_claims(study(findings=(one, other)))
    assert "as the claim has it; its interval holds by itself." in read(study(findings=(one, reaches))).text
    several = study(findings=(one,), comparison=comparison(CONTROL, WORSE, row("r2"), comparisons=2))
    assert "whose intervals hold together over the 2 differences." in html.explain_claims(several)
    assert html.explain_claims(study(findings=(reaches,))) == ""
    assert html.explain_claims(study(findings=(replace(one, status="not measured"),))) == ""


def test_fewer_than_ten_epochs_have_no_means_of_ten_in_title_axis_and_caption() -> None:
    text = read(study(epochs=3)).text
    assert "mean of 10 epochs" not in text
    assert "3 · Validation accuracy, epoch by epoch" in text
    assert "3 · Validation accuracy, mean of 10 epochs" in read().text


def test_what_stands_between_backticks_is_code() -> None:
    assert html.prose("see `a <b>` and ``c``") == "see <code>a &lt;b&gt;</code> and <code>c</code>"
    assert html.prose("one ` alone") == "one ` alone"
    of = study(doc="Whether `none` is <fit>.", question="Is `x` it?", source="`y`", baseline="`z`")
    text = html.render_ablations([of])
    assert "Whether <code>none</code> is &lt;fit&gt;." in text
    assert all(f"<code>{letter}</code>" in text for letter in "xyz")


def test_the_cells_of_the_main_table_know_their_headings_for_a_narrow_screen() -> None:
    found = [attributes.get("data-heading") for tag, attributes in read().tags if tag == "td"]
    assert {"n", "accuracy %", "± std", "Δ", "interval", "verdict"} <= set(found)


# What is not there


def test_cells_that_did_not_finish_are_counted_at_the_top_and_named_below() -> None:
    partial = replace(WORSE, missing=2, failed=1)
    failed = cell("r4", 9, "failed", "a" * 64, "out of memory")
    of = study(CONTROL, partial, cells=(*cells(CONTROL), *cells(WORSE), failed))
    text = read(of).text
    assert "Of 13 cells, 2 missing, 1 failed." in text
    assert "10 finished, 1 failed." in text
    assert "r4, seed 9: failed: out of memory" in text


def test_a_variant_that_diverged_is_in_table_plot_legend_and_panels() -> None:
    text = read(study(CONTROL, WORSE, LOST)).text
    assert text.count("diverged in 3 of 3") >= 3
    assert "no cell finished, 3 diverged" in text


def test_without_intervals_the_page_says_why() -> None:
    assert "No intervals: one seed: no deviation, no interval." in read(study(CONTROL, ONE_SEED)).text
    text = read(study(CONTROL, WORSE, LOST)).text
    assert "No interval of off: the variant diverged in every seed." in text


def test_variants_that_were_not_asked_for_are_listed() -> None:
    variants = (VariantSummary(name="r16", diff={}), VariantSummary(name="r2", diff={"model.se.reduction": 2}))
    text = read(study(variants=variants)).text
    assert "r2 model.se.reduction=2 not asked for" in text
    assert "r16 the baseline" in text


def test_a_stage_says_what_it_stands_on() -> None:
    stage = VariantSummary(name="s2", diff={"optim.lr": 0.01}, base="s1", continues=True)
    assert html.describe_variant(stage) == ["continues s1", "optim.lr=0.01"]
    assert html.describe_variant(replace(stage, continues=False)) == ["on s1", "optim.lr=0.01"]


# Several


def test_of_several_studies_a_table_of_all_stands_ahead() -> None:
    other = study(comparison=comparison(CONTROL, LOST, ablation="optimizers"), question="Which optimizer?")
    made = read(study(), other)
    headings, first, second = made.tables[0]
    assert headings == ["ablation", "question", "verdict", "claims"]
    assert (first[0], second[0]) == ("se_ratio", "optimizers")
    assert " ".join(first[2].split()) == "worse r4 5 seeds, scale writeup, CIFAR-10"
    assert first[3].split() == ["1", "supported"]
    assert {tags["href"] for tag, tags in made.tags if tag == "a"} == {"#se_ratio", "#optimizers"}
    assert {tags["id"] for tag, tags in made.tags if tag == "article"} == {"se_ratio", "optimizers"}


def test_one_study_has_no_table_of_contents_and_hides_nothing() -> None:
    made = read()
    assert made.tables[0][0][0] == "variant"
    assert "details" not in {tag for tag, _ in made.tags}


def test_the_baseline_is_said_and_how_it_was_set_up_is_folded() -> None:
    made = read(study(baseline="ResNet-18 with schedule.name=cosine", doc="Which ratio?\n\nSource: <a\npaper>.\n"))
    assert "Baseline: ResNet-18 with schedule.name=cosine" in made.text
    assert "How it was set up" in made.text
    assert "Source: <a paper>." in made.text
    assert [tag for tag, _ in made.tags].count("details") == 1


def test_a_story_has_chapters_and_says_what_was_not_measured() -> None:
    chapters = (
        Chapter(title="The ladder", words="Nine stages.", entries=(study(),)),
        Chapter(title="Others", words="", entries=(UNMEASURED,)),
    )
    made = Reader(html.render_chapters(chapters, title="Measured again", introduction="A writeup."))
    assert "Of 2 ablations, 1 is measured (scale writeup, CIFAR-10)." in made.text
    assert "2 claims: 1 supported, 1 not measured." in made.text
    assert [each[0] for each in made.tables[0]] == ["ablation", "The ladder", "se_ratio", "Others", "width"]
    assert made.tables[0][-1][2] == "not measured"
    assert "What would measure it: cifar-lab run-ablation width" in made.text
    order = [made.text.rindex(words) for words in ("Nine stages.", "Which reduction ratio?", "How wide?")]
    assert order == sorted(order)


def test_a_story_of_which_nothing_was_measured_says_so() -> None:
    chapters = (Chapter(title="Others", words="", entries=(UNMEASURED, replace(UNMEASURED, name="layers"))),)
    text = Reader(html.render_chapters(chapters, title="t", introduction="")).text
    assert "Of 2 ablations, none are measured." in text


# Nothing outside


def test_the_page_asks_for_nothing_and_runs_nothing() -> None:
    text = html.render_ablations([study()])
    assert not re.search(r"https?://|//[a-z]|@import|url\((?!#)|javascript:", text)
    made = Reader(text)
    assert not {"script", "iframe", "img", "object", "embed", "form", "audio", "video"} & {tag for tag, _ in made.tags}
    assert not [key for _, attributes in made.tags for key in attributes if key.startswith("on")]
    addresses = {attributes["href"] for tag, attributes in made.tags if "href" in attributes and tag != "use"}
    assert addresses == {"data:,", "#se_ratio"}
    policy = next(each["content"] for tag, each in made.tags if each.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_whatever_comes_from_outside_is_escaped() -> None:
    bad = replace(WORSE, variant=NASTY, reason=NASTY)
    of = study(
        CONTROL, bad,
        question=NASTY, source=NASTY, provenance=((NASTY, NASTY),), reproduce=(NASTY,),
        variants=(VariantSummary(name=NASTY, diff={NASTY: NASTY}, base=NASTY),),
        findings=(ClaimSummary(quote=NASTY, source=NASTY, status=NASTY, compares=NASTY, measured=NASTY),),
        cells=(cell(NASTY, 0, "failed", NASTY, NASTY),),
        comparison=comparison(
            CONTROL, bad, ablation=NASTY, scale=NASTY, data=NASTY, overrides={NASTY: NASTY}, invocation=NASTY,
            others=(NASTY,),
        ),
    )  # fmt: skip
    nasty = replace(UNMEASURED, name=NASTY, question=NASTY, command=NASTY)
    chapters = (Chapter(title=NASTY, words=NASTY, entries=(of, nasty)),)
    for text in (html.render_ablations([of]), html.render_chapters(chapters, title=NASTY, introduction=NASTY)):
        made = Reader(text)
        assert "script" not in {tag for tag, _ in made.tags}
        assert NASTY in "".join(made.words)
        assert not [tags for tag, tags in made.tags if tag == "a" and not re.fullmatch(r"#[\w.-]+", tags["href"] or "")]


def test_colours_are_variables_of_both_themes_and_of_print() -> None:
    text = html.render_ablations([study()])
    styles = text[text.index("<style>") : text.index("</style>")]
    light, dark, printed = (styles.count(f"--s{i}:") for i in (0, 4, 8))
    assert light == dark == printed == 3
    assert not re.search(r"#[0-9a-f]{6}|rgb", text[text.index("</style>") :]), "a colour that no theme changes"
