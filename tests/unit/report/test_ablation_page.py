"""The page: what is on it, in which order, in the same numbers as elsewhere, and nothing that reaches outside."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from made.comparisons import CONTROL, NOTHING, comparison, reached, row
from made.studies import DIFFERENCES, LOST, ONE_SEED, WORSE, cells, study

from cifar_lab.ablation.ablation import METRICS
from cifar_lab.report import ablation_page, headline, table_content
from cifar_lab.report.ablation_page_data import (
    AblationPageData,
    CellSummary,
    Chapter,
    ClaimSummary,
    UnmeasuredAblation,
    VariantSummary,
)
from cifar_lab.results.comparison import Effect

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


def read(*studies: AblationPageData) -> Reader:
    return Reader(ablation_page.report(studies or (study(),)))


# The same numbers


@pytest.mark.parametrize("rows", [(CONTROL, WORSE), (CONTROL, WORSE, LOST, NOTHING), (CONTROL, ONE_SEED), (CONTROL,)])
def test_every_table_of_the_comparison_is_on_the_page_cell_by_cell(rows: tuple[table_content.Row, ...]) -> None:
    of = study(*rows)
    found = read(of).tables
    for sheet in table_content.sheets(of.comparison):
        assert [list(sheet.headings), *map(list, sheet.rows)] in found


def test_effects_of_a_crossing_are_on_the_page() -> None:
    effect = Effect(
        name="model.se.reduction", pairs=5, difference=0.001, interval=(0.0, 0.002), level=0.98, verdict="undecided",
        reason=None,
    )  # fmt: skip
    of = study(comparison=comparison(CONTROL, WORSE, effects=(effect,)))
    sheet = table_content.effects(of.comparison)
    assert [list(sheet.headings), *map(list, sheet.rows)] in read(of).tables


def test_every_seed_is_in_the_plot_with_the_number_that_the_table_would_give_it() -> None:
    text = read().text
    for seed, value in DIFFERENCES.items():
        assert f"r4, seed {seed}: {table_content.points(value, sign=True)}" in text


def test_header_and_footer_of_the_comparison_are_on_the_page() -> None:
    of, text = study(), read().text
    for line in [*of.comparison.header(), *of.comparison.footer()]:
        assert line in text


# The sentence


def test_the_headline_gives_numbers_of_what_was_decided_and_counts_of_the_rest() -> None:
    rows = [replace(row(), variant=f"r{i}", verdict="undecided", interval=(-0.01, 0.01)) for i in (2, 4, 8)]
    of = comparison(CONTROL, replace(WORSE, variant="none", difference=-0.008, interval=(-0.012, -0.004)), *rows)
    assert headline.headline(of) == (
        "Of 4 variants against r16: 1 worse (none, -0.80 [-1.20, -0.40] points), 3 undecided; "
        "5 seeds, scale writeup, CIFAR-10."
    )


def test_the_headline_names_three_at_most_the_largest_first() -> None:
    rows = [
        replace(row(), variant=f"v{i}", verdict="better", difference=i / 100, interval=(0.001, 0.2))
        for i in range(1, 6)
    ]
    said = headline.headline(comparison(CONTROL, *rows))
    assert re.findall(r"v\d", said) == ["v5", "v4", "v3"]
    assert "and 2 more" in said


def test_the_headline_says_why_nothing_is_decided() -> None:
    said = headline.headline(comparison(CONTROL, ONE_SEED))
    assert said.startswith("Of 1 variant against r16: 1 undecided (one seed: no deviation, no interval); 1 seed,")


def test_the_headline_says_what_diverged() -> None:
    assert "1 diverged (off)" in headline.headline(comparison(CONTROL, WORSE, LOST))
    assert "5 seeds" in headline.headline(comparison(CONTROL, WORSE, LOST))


def test_the_headline_of_a_chain_and_of_a_yardstick() -> None:
    chain = headline.headline(comparison(CONTROL, WORSE, chain=True))
    assert chain.startswith("Of 1 stage, each against the one before: 1 worse")
    assert headline.headline(comparison(CONTROL)).startswith("r16: 91.69 % ± 0.12; 5 seeds,")
    assert headline.headline(comparison(replace(CONTROL, n=0, mean=None))).startswith("No cell is finished; 0 seeds")


def test_overrides_are_part_of_the_setting() -> None:
    assert headline.setting(comparison(overrides={"train.epochs": 3})).endswith("CIFAR-10, train.epochs=3")


def test_claims_are_counted_the_most_telling_status_first() -> None:
    found = [
        ClaimSummary(quote="", source="", status=status) for status in ("not measured", "supported", "not measured")
    ]
    assert headline.claims(found) == "3 claims: 1 supported, 2 not measured"
    assert headline.claims([]) == ""


def test_the_noise_floor_is_that_of_the_control() -> None:
    values = {0: 0.9159, 1: 0.9179}
    said = headline.noise(study(replace(CONTROL, values=values, n=2), WORSE))
    assert "± 0.12 points (deviation over 2 seeds; from 91.59 to 91.79 %)" in said
    assert "not known" in headline.noise(study(replace(CONTROL, std=None)))


def test_a_verdict_of_some_seeds_says_that_the_others_diverged() -> None:
    partly = replace(WORSE, variant="k3313", verdict="better", n=3, pairs=3, diverged=2, difference=0.053,
                     interval=(0.01, 0.09))  # fmt: skip
    of = comparison(CONTROL, partly, replace(WORSE, verdict="better", difference=0.01, interval=(0.002, 0.02)))
    assert headline.headline(of).startswith(
        "Of 2 variants against r16: 1 better (r4, +1.00 [+0.20, +2.00] points), "
        "1 better where it trains (k3313, 2 of 5 diverged, +5.30 [+1.00, +9.00] points); "
    )
    assert headline.brief(of)[1] == ("better where it trains", "k3313 (2 of 5 diverged)")
    assert "1 equivalent where it trains (k3313, 2 of 5 diverged)" in headline.headline(
        comparison(CONTROL, replace(partly, verdict="equivalent"))
    )


INTERACTION = Effect(
    name="model.se.reduction × optim.lookahead.enabled", pairs=5, difference=0.0112, interval=(0.004, 0.0184),
    level=0.98, verdict="present", reason=None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "present, +1.12 [+0.40, +1.84] points"),
        ({"verdict": "present", "difference": -0.0112, "interval": (-0.0184, -0.004)},
         "present, -1.12 [-1.84, -0.40] points"),
        ({"verdict": "absent", "difference": 0.0, "interval": (-0.001, 0.001)},
         "absent (within ± 0.20), +0.00 [-0.10, +0.10] points"),
        ({"verdict": "undecided", "interval": (-0.01, 0.03)}, "undecided, +1.12 [-1.00, +3.00] points"),
        ({"verdict": None, "interval": None, "reason": "one seed: no deviation, no interval"},
         "undecided (one seed: no deviation, no interval), +1.12 points"),
        ({"verdict": None, "interval": None, "difference": None, "reason": "no seed is finished in both"},
         "undecided (no seed is finished in both)"),
    ],
)  # fmt: skip
def test_of_two_factors_the_headline_leads_with_their_interaction(changed: dict[str, Any], words: str) -> None:
    main = replace(INTERACTION, name="model.se.reduction")
    of = comparison(CONTROL, WORSE, effects=(main, replace(INTERACTION, **changed)))
    lead = f"Interaction of model.se.reduction and optim.lookahead.enabled: {words}. Of 1 variant against r16: 1 worse"
    assert headline.headline(of).startswith(lead)
    assert headline.brief(of)[0] == (f"interaction {words.partition(' ')[0].strip(',')}", "")
    assert headline.brief(of)[1] == ("worse", "r4")


def test_directions_are_counted_in_english() -> None:
    found = [ClaimSummary(quote="", source="", status="direction agrees") for _ in range(3)]
    assert headline.claims(found) == "3 claims: 3 directions agree"
    assert headline.claims([*found[:1], replace(found[0], status="direction disagrees")]) == (
        "2 claims: 1 direction agrees, 1 direction disagrees"
    )
    assert headline.counted(2, "direction disagrees") == "2 directions disagree"
    assert headline.counted(2, "not measured") == "2 not measured"


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
    assert ablation_page.ARROWS in read(study(CONTROL, wide)).text
    assert ablation_page.ARROWS not in read().text


def test_the_claims_say_why_a_difference_has_another_sign_and_interval_there() -> None:
    one = ClaimSummary(quote="4 is lower", source="stage 9", status="supported", compares="r16 > r4")
    reaches = replace(one, compares="r16 reaches 97 %", is_difference=False)
    assert (
        "A difference here: better minus worse, as the claim has it; intervals hold together over the 2 claims. "
        "Above: variant minus r16." in read(study(findings=(one, one, reaches))).text
    )
    other = replace(one, question="another", metric="gap")
    mixed = ablation_page.claims_reading(study(findings=(one, one, other)))
    assert "intervals of claims that answer one question by one metric hold together" in mixed
    assert mixed.endswith(f" Gap: {METRICS['gap']}.")
    assert "its interval holds by itself" in ablation_page.claims_reading(study(findings=(one, other)))
    assert "as the claim has it; its interval holds by itself." in read(study(findings=(one, reaches))).text
    several = study(findings=(one,), comparison=comparison(CONTROL, WORSE, row("r2"), comparisons=2))
    assert "whose intervals hold together over the 2 differences." in ablation_page.claims_reading(several)
    assert ablation_page.claims_reading(study(findings=(reaches,))) == ""
    assert ablation_page.claims_reading(study(findings=(replace(one, status="not measured"),))) == ""


def test_fewer_than_ten_epochs_have_no_means_of_ten_in_title_axis_and_caption() -> None:
    text = read(study(epochs=3)).text
    assert "mean of" not in text.replace("mean of 5 seeds", "")
    assert "3 · Validation accuracy, epoch by epoch" in text
    assert "3 · Validation accuracy, mean of 10 epochs" in read().text


def test_what_stands_between_backticks_is_code() -> None:
    assert ablation_page.prose("see `a <b>` and ``c``") == "see <code>a &lt;b&gt;</code> and <code>c</code>"
    assert ablation_page.prose("one ` alone") == "one ` alone"
    of = study(doc="Whether `none` is <fit>.", question="Is `x` it?", source="`y`", baseline="`z`")
    text = ablation_page.report([of])
    assert "Whether <code>none</code> is &lt;fit&gt;." in text
    assert all(f"<code>{letter}</code>" in text for letter in "xyz")


def test_the_cells_of_the_main_table_know_their_headings_for_a_narrow_screen() -> None:
    found = [attributes.get("data-heading") for tag, attributes in read().tags if tag == "td"]
    assert {"n", "accuracy %", "± std", "Δ", "interval", "verdict"} <= set(found)


# What is not there


def test_cells_that_did_not_finish_are_counted_at_the_top_and_named_below() -> None:
    partial = replace(WORSE, missing=2, failed=1)
    failed = CellSummary(variant="r4", seed=9, state="failed", fingerprint="a" * 64, note="failed: out of memory")
    of = study(CONTROL, partial, cells=(*cells(CONTROL), *cells(WORSE), failed))
    text = read(of).text
    assert "Of 13 cells, 2 missing, 1 failed." in text
    lacks = replace(WORSE, n=4, epochs_to={"0.5": reached(2.0, 5)})
    assert headline.unfinished(comparison(CONTROL, lacks)) == "Of 10 cells, 1 finished without test/acc."
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
    assert ablation_page.difference(stage) == ["continues s1", "optim.lr=0.01"]
    assert ablation_page.difference(replace(stage, continues=False)) == ["on s1", "optim.lr=0.01"]


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
    made = Reader(ablation_page.story(chapters, title="Measured again", introduction="A writeup."))
    assert "Of 2 ablations, 1 is measured (scale writeup, CIFAR-10)." in made.text
    assert "2 claims: 1 supported, 1 not measured." in made.text
    assert [each[0] for each in made.tables[0]] == ["ablation", "The ladder", "se_ratio", "Others", "width"]
    assert made.tables[0][-1][2] == "not measured"
    assert "What would measure it: cifar-lab run-ablation width" in made.text
    order = [made.text.rindex(words) for words in ("Nine stages.", "Which reduction ratio?", "How wide?")]
    assert order == sorted(order)


def test_a_story_of_which_nothing_was_measured_says_so() -> None:
    chapters = (Chapter(title="Others", words="", entries=(UNMEASURED, replace(UNMEASURED, name="layers"))),)
    text = Reader(ablation_page.story(chapters, title="t", introduction="")).text
    assert "Of 2 ablations, none are measured." in text


# Nothing outside


def test_the_page_asks_for_nothing_and_runs_nothing() -> None:
    text = ablation_page.report([study()])
    assert not re.search(r"https?://|//[a-z]|@import|url\(|javascript:", text)
    made = Reader(text)
    assert not {"script", "iframe", "img", "object", "embed", "form", "audio", "video"} & {tag for tag, _ in made.tags}
    assert not [key for _, attributes in made.tags for key in attributes if key.startswith("on")]
    addresses = {attributes["href"] for _, attributes in made.tags if "href" in attributes}
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
        cells=(CellSummary(variant=NASTY, seed=0, state="failed", fingerprint=NASTY, note=NASTY),),
        comparison=comparison(
            CONTROL, bad, ablation=NASTY, scale=NASTY, data=NASTY, overrides={NASTY: NASTY}, invocation=NASTY,
            others=(NASTY,),
        ),
    )  # fmt: skip
    nasty = replace(UNMEASURED, name=NASTY, question=NASTY, command=NASTY)
    chapters = (Chapter(title=NASTY, words=NASTY, entries=(of, nasty)),)
    for text in (ablation_page.report([of]), ablation_page.story(chapters, title=NASTY, introduction=NASTY)):
        made = Reader(text)
        assert "script" not in {tag for tag, _ in made.tags}
        assert NASTY in "".join(made.words)
        assert not [tags for tag, tags in made.tags if tag == "a" and not re.fullmatch(r"#[\w.-]+", tags["href"] or "")]


def test_colours_are_variables_of_both_themes_and_of_print() -> None:
    text = ablation_page.report([study()])
    styles = text[text.index("<style>") : text.index("</style>")]
    light, dark, printed = (styles.count(f"--s{i}:") for i in (0, 4, 8))
    assert light == dark == printed == 3
    assert not re.search(r'(?:fill|stroke)="', text.replace('fill="none"', "")), "a colour that no theme changes"
