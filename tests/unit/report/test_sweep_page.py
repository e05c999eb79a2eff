"""The page of a search: what it says was best, how sure that is, and what became of every trial."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from made.studies import NAME, RATE, WIDTH, search, trial

from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.report.html import FOLDED, render_sweep
from cifar_lab.report.importance_table import LEADER, ImportanceSummary, explain_importances
from cifar_lab.report.sweep_page import ChangedSetting, DimensionSummary, SweepPage, TrialSummary, differs

NASTY = "<script>alert('x')</script>\"&"
BASELINE = trial(0, 0.90, diff={})
ALL = (
    BASELINE,
    trial(1, 0.92),
    trial(2, state="diverged"),
    trial(3, state="pruned", pruned_at=4, last=0.7021),
    trial(4, state="infeasible"),
    trial(5, state="failed", note="RuntimeError: out of memory", diff=None, parameters=None),
    trial(6, state="running"),
)
"""One of each state, and the baseline."""
REPRODUCE = ("cifar-lab sweep --study wide", "cifar-lab sweep-confirm wide", "cifar-lab ablate-best wide")
CHANGES = (ChangedSetting(path="optim.lr", baseline=0.1, best=0.0271515, by="rate"),)


def tables(made: SweepPage) -> list[list[list[str]]]:
    """The words of all cells."""
    found = re.findall(r"<table.*?</table>", render_sweep(made), re.DOTALL)
    rows = [re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL) for table in found]
    return [
        [[html.unescape(cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in each]
        for each in rows
    ]


def text(made: SweepPage) -> str:
    """Return the text of the page, without the style."""
    found = render_sweep(made)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", found[found.index("</style>") :])).split())


# What was best


def test_the_headline_has_the_best_trial_what_it_costs_and_what_the_baseline_has() -> None:
    assert search(*ALL).headline == (
        "Best of wide: 92.00 % on val with 2,000,000 parameters (t001; the baseline has 90.00 %). 2 trials with a "
        "value, 1 diverged, 1 pruned, 1 infeasible, 1 failed, 1 running; scale small, CIFAR-10."
    )


def test_the_headline_says_that_the_best_is_the_baseline_itself() -> None:
    assert "(t000, the baseline itself). 2 trials" in search(BASELINE, trial(1, 0.85)).headline


def test_the_headline_says_nothing_of_a_baseline_that_has_no_value() -> None:
    assert "(t001). 1 trial with a value, 1 failed;" in search(replace(ALL[5], number=0), trial(1, 0.85)).headline


@pytest.mark.parametrize("trials", [(), ALL[2:]])
def test_before_there_is_a_value_the_page_says_so(trials: tuple[TrialSummary, ...]) -> None:
    found = text(search(*trials))
    assert "No trial of wide has a value yet. 0 trials with a value" in found
    assert "best recipe" not in found
    assert not [words for words in ("flattered", "none is better", "nothing to compare") if words in found]


def test_a_trial_of_which_it_is_not_known_what_it_changes_is_not_the_baseline() -> None:
    assert search(trial(0, 0.8, diff=None)).baseline is None


@pytest.mark.parametrize(
    ("parameters", "number"), [((300, 300, 300), 1), ((100, 300, 200), 2), ((100, None, 900), 2), ((1, None, None), 1)]
)
def test_of_equal_trials_the_smallest_is_best_then_the_first(parameters: tuple[int | None, ...], number: int) -> None:
    values = zip((0.9, 0.91, 0.91), parameters, strict=True)
    made = search(*(trial(i, value, parameters=count) for i, (value, count) in enumerate(values)))
    assert made.best is not None
    assert made.best.number == number
    assert parameters[number] is None or made.best in made.front()


def test_a_smaller_trial_as_good_as_the_baseline_is_not_called_better() -> None:
    made = search(trial(0, 0.9, diff={}, parameters=300), trial(1, 0.9, parameters=200))
    assert made.best is made.trials[1]
    assert made.caution.startswith("Of 2 trials none is better than the baseline.")


def test_the_best_tenth_is_one_at_least_and_rounded_up() -> None:
    sizes = {n: len(search(*(trial(i, 0.5) for i in range(n))).best_tenth) for n in (1, 10, 11, 20, 21)}
    assert sizes == {1: 1, 10: 1, 11: 2, 20: 2, 21: 3}


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        ((BASELINE, trial(1, 0.92)), "the best of 2, chosen on val: 92.00 % is flattered by luck"),
        ((BASELINE, trial(1, 0.85)), "Of 2 trials none is better than the baseline."),
        ((trial(0, 0.85),), "One trial of one seed: there is nothing to compare it with."),
    ],
)
def test_how_sure_it_is_is_said_beside_it(trials: tuple[TrialSummary, ...], said: str) -> None:
    assert said in text(search(*trials))


def test_what_to_do_about_it_is_the_command_that_reproduces_it() -> None:
    found = text(search(*ALL, reproduce=REPRODUCE))
    assert "What to do: train the best trials, with fresh seeds: cifar-lab sweep-confirm wide" in found
    assert "Or: put each tuned factor back, with fresh seeds: cifar-lab ablate-best wide" in found
    assert "What to do" not in text(search(*ALL, reproduce=REPRODUCE[:1]))


def test_budget_space_and_objectives_are_said() -> None:
    made = search(max_macs=800_000_000, objectives=("accuracy", "macs"))
    assert made.setting == [
        "space writeup, 3 dimensions", "budget 5,000,000 parameters and 800,000,000 MACs", "objectives: accuracy, macs",
    ]  # fmt: skip
    assert search().setting[1:] == ["budget 5,000,000 parameters"]
    assert search(overrides={"train.epochs": 3}).setting[2:] == ["in all trials train.epochs=3"]


# The front


def test_the_front_has_what_no_other_beats_in_both_the_cheapest_first() -> None:
    costs = {0: (9, 0.93), 1: (1, 0.80), 2: (5, 0.79), 3: (5, 0.91), 4: (5, 0.90), 5: (7, 0.91), 6: (None, 0.99)}
    made = search(*(trial(i, value, parameters=cost) for i, (cost, value) in costs.items()))
    assert [each.number for each in made.front()] == [1, 3, 0]


def test_the_front_of_macs_is_another() -> None:
    made = search(trial(0, 0.9, parameters=1, macs=9), trial(1, 0.8, parameters=2, macs=3))
    assert [each.number for each in made.front()] == [0]
    assert [each.number for each in made.front("macs")] == [1, 0]


def test_the_front_is_a_table_of_the_page() -> None:
    table = tables(search(*ALL))[0]
    assert table == [
        ["trial", "val %", "parameters", "differs from the baseline by"],
        ["t000", "90.00", "1,000,000", "nothing"],
        ["t001", "92.00", "2,000,000", "model.width=32"],
    ]


# What mattered


def test_dimensions_are_ordered_by_fanova_and_those_without_come_last() -> None:
    shares = {"fanova": {"rate": 0.7, "optim.name": 0.1}, "ped_anova": {"rate": 0.0, "optim.name": 1.0, "only": 0.4}}
    made = search(dimensions=(WIDTH, NAME, RATE, DimensionSummary(name="only", words="")), importances=shares)
    assert [each.name for each in made.ordered] == ["rate", "only", "optim.name", "model.width"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            [0.5, 0.6],
            "No importances: 2 trials with a value cannot rank 3 dimensions; 8 by fANOVA or 20 by PED-ANOVA would do",
        ),
        ([0.5] * 8, "No importances: every trial has the same value."),
        ([0.1 * i for i in range(8)], "no dimension that every trial with a value was asked for"),
    ],
)
def test_why_there_are_no_importances_is_said(values: list[float], said: str) -> None:
    assert said in text(search(*(trial(i, value) for i, value in enumerate(values))))


def test_both_importances_stand_side_by_side() -> None:
    found = text(search(*ALL, importances={"fanova": {"rate": 0.654}, "ped_anova": {"rate": 0.321}}))
    assert "fANOVA" in found
    assert "PED-ANOVA" in found
    assert {"0.654", "0.321"} <= set(found.split())
    assert "No importances" not in found


def test_a_leader_that_half_of_the_resamples_deny_is_open() -> None:
    shares = {"rate": 0.5, "optim.name": 0.3}
    for often, said in ((0.9, "rate leads in 90 % of the resamples."), (0.6, "which is first is open")):
        summary = ImportanceSummary(
            shares={"fanova": shares}, intervals={"fanova": {"rate": (0.2, 0.7), "optim.name": (0.1, 0.6)}},
            leads={"fanova": {"rate": often, "optim.name": 1 - often}}, needed={"fanova": 2, "ped_anova": 20},
            resamples=50,
        )  # fmt: skip
        found = text(search(*ALL, importance=summary))
        assert said in found
        assert {"[0.200,", "0.700]"} <= set(found.split())
        assert "PED-ANOVA takes 20 trials; there are 2." in found


def test_what_a_range_holds_is_said_and_ped_anova_names_no_leader() -> None:
    one = {"rate": 1.0}
    for shares, together in (
        ({"fanova": one}, ""),
        ({"fanova": one, "ped_anova": one}, "Read PED-ANOVA's first three"),
    ):
        lines = explain_importances(ImportanceSummary(shares=shares, sampler="random", resamples=50), [0.5] * LEADER)
        assert any("no confidence intervals" in line for line in lines)
        assert [line for line in lines if line.startswith("Read")] == [
            line for line in lines if together and line.startswith(together)
        ]
        assert any(line.startswith("Read") for line in lines) == bool(together)


# The best recipe


def test_what_the_best_recipe_changes_is_a_table() -> None:
    assert tables(search(*ALL, changes=CHANGES))[0] == [
        ["path", "baseline", "best", "by"],
        ["optim.lr", "0.1", "0.0272", "rate"],
    ]


def test_a_best_recipe_that_changes_nothing_is_the_baseline() -> None:
    assert "It is the baseline of the space." in text(search(BASELINE))


def test_the_best_recipe_on_the_page_is_the_whole_recipe() -> None:
    recipe = EFFICIENT_RESNET.model_dump(mode="json")
    found = re.search(r'<pre class="json">(.*?)</pre>', render_sweep(search(*ALL, recipe=recipe)), re.DOTALL)
    assert found is not None
    assert json.loads(html.unescape(found[1])) == recipe


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.00271515, "0.00272"), (1e-5, "1e-05"), ("adam", "adam"), (True, "true"), (None, "none"), ([4, 4, 3], "[4,4,3]"),
     (5, "5")],
)  # fmt: skip
def test_values_are_short(value: Any, said: str) -> None:
    changes = (ChangedSetting(path="x", baseline=value, best=value, by="set"),)
    assert search(*ALL, changes=changes).changes_table.rows == (("x", said, said, "set"),)


def test_what_a_trial_changes_can_be_pasted_into_a_command_line() -> None:
    diff = {"optim.lr": 0.00271515, "model.blocks": [4, 4, 3]}
    assert differs(diff) == "optim.lr=0.00272 'model.blocks=[4,4,3]'"


# All trials


def test_every_trial_is_in_the_table_with_what_became_of_it() -> None:
    rows = {row[0]: row[1:] for row in tables(search(*ALL))[-1]}
    assert rows == {
        "trial": ["state", "val %", "parameters", "differs from the baseline by"],
        "t000": ["trained", "90.00", "1,000,000", "nothing"],
        "t001": ["best", "92.00", "2,000,000", "model.width=32"],
        "t002": ["diverged", "", "3,000,000", "model.width=32"],
        "t003": ["pruned after epoch 4, at 70.21 %", "", "4,000,000", "model.width=32"],
        "t004": ["infeasible", "", "5,000,000", "model.width=32"],
        "t005": ["failed: RuntimeError: out of memory", "", "", ""],
        "t006": ["running", "", "7,000,000", "model.width=32"],
    }


def test_a_pruned_trial_that_reported_nothing_is_said_without_a_number() -> None:
    assert trial(0, state="pruned", pruned_at=0).outcome == "pruned after epoch 0"


def test_a_long_table_is_folded() -> None:
    short, long = (search(*(trial(i, 0.5) for i in range(n))) for n in (FOLDED - 1, FOLDED))
    assert render_sweep(long).count("<details>") == render_sweep(short).count("<details>") + 1
    assert f"{FOLDED} trials" in text(long)


def test_how_it_was_searched_and_what_reproduces_it_are_said() -> None:
    found = text(search(how=(("sampler", "tpe"),), reproduce=REPRODUCE))
    assert "sampler tpe" in found
    assert " ".join(REPRODUCE) in found
    assert "rate 0.01 to 1, log" in found


# Nothing outside


def test_the_page_asks_for_nothing_and_runs_nothing() -> None:
    made = render_sweep(search(*ALL, importances={"fanova": {"rate": 0.6}}, changes=CHANGES))
    assert not re.search(r"https?://|//[a-z]|@import|url\((?!#)|javascript:| on\w+=", made)
    assert not {"script", "iframe", "img", "object", "embed", "form", "a"} & set(re.findall(r"<(\w+)", made))
    assert set(re.findall(r'(?:href|src)="(?!#m)([^"]*)"', made)) == {"data:,"}
    assert "default-src 'none'" in made


def test_whatever_comes_from_outside_is_escaped() -> None:
    dimension = DimensionSummary(name=NASTY, words=NASTY, labels=(NASTY,))
    made = search(
        trial(0, 0.5, params={NASTY: NASTY}, diff={NASTY: NASTY}), trial(1, state="failed", note=NASTY),
        study=NASTY, question=NASTY, space=NASTY, scale=NASTY, data=NASTY, objectives=(NASTY, NASTY),
        dimensions=(dimension,), importances={NASTY: {NASTY: 0.5}}, recipe={NASTY: NASTY}, how=((NASTY, NASTY),),
        changes=(ChangedSetting(path=NASTY, baseline=NASTY, best=NASTY, by=NASTY),),
        reproduce=(f"cifar-lab ablate-best {NASTY}",),
    )  # fmt: skip
    page = render_sweep(made)
    assert "<script" not in page
    assert html.unescape(page).count(NASTY) > 20
