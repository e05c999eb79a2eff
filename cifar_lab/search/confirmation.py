"""Confirmation of a search: an ablation of its best trials and its baseline, with seeds that the search did not use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from cifar_lab.ablation.ablation import Ablation, Variant
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import UsageError
from cifar_lab.results.cell_results import read_cell_results
from cifar_lab.results.compare import tabulate
from cifar_lab.results.confirmation import Confirmation, make_confirmation
from cifar_lab.search import stored_trials
from cifar_lab.search.study import StudySettings, setting_of
from cifar_lab.search.study_name import ablation_name
from cifar_lab.search.trial_jobs import trial_name
from cifar_lab.store.invocation import Invocation
from cifar_lab.store.invocation_index import read_index
from cifar_lab.store.selection import Selection

BASELINE = "baseline"
"""Name of the variant that the finalists are compared with."""
USUAL_SEEDS = 5
"""Number of fresh seeds, unless others are asked for."""
FEWEST_SEEDS = 2
"""Minimum number of seeds: one has no deviation, so no interval."""


def fresh_seeds(setting_seed: int, asked: Sequence[int] | None, option: str) -> tuple[int, ...]:
    """Return the seeds of a confirmation; by default the `USUAL_SEEDS` after that of the search.

    `option`: the option that named them, for errors.

    Raises:
        UsageError: the search used one of them, or there are fewer than `FEWEST_SEEDS`.
    """
    fresh = range(setting_seed + 1, setting_seed + 1 + USUAL_SEEDS)
    if asked is None:
        return tuple(fresh)
    if setting_seed in asked:
        raise UsageError(
            f"{option}: seed {setting_seed} is the search's own, and a confirmation takes fresh ones; "
            f"for example {fresh[0]}-{fresh[-1]}"
        )
    if len(asked) < FEWEST_SEEDS:
        raise UsageError(f"{option}: one seed shows no deviation; a confirmation takes {FEWEST_SEEDS} or more")
    return tuple(asked)


def find_finalists(study: optuna.Study, setting: StudySettings, top: int) -> list[FrozenTrial]:
    """Return the `top` best trials, the best first, that train different recipes and not the baseline's.

    Fewer are returned if there are not so many. Their order is that of `stored_trials.ranked`.

    Raises:
        UsageError: there is none.
    """
    known, chosen = {setting.recipe({}).digest()}, list[FrozenTrial]()
    for trial in stored_trials.ranked(study):
        digest = setting.recipe(stored_trials.diff_of(trial)).digest()
        if digest not in known:
            known.add(digest)
            chosen.append(trial)
    if not chosen:
        raise UsageError(f"no trial of {setting.study} with a value differs from its baseline: nothing to confirm")
    return chosen[:top]


def confirm_finalists(setting: StudySettings, finalists: Sequence[FrozenTrial], seeds: Sequence[int]) -> Ablation:
    """Return an ablation of the finalists, named as their trials, with the space's baseline as control."""
    plain = setting.space.baseline
    variants = [
        Variant(name=trial_name(trial.number), diff=plain.changes_to(plain.override(stored_trials.diff_of(trial))))
        for trial in finalists
    ]
    return Ablation(
        name=ablation_name("confirm", setting.study),
        question=f"Are the best trials of the search {setting.study} better than its baseline with fresh seeds?",
        source=f"the {len(finalists)} best trials of the study {setting.study} in the space {setting.space.name}",
        baseline=plain,
        factors=tuple(dict.fromkeys(path for variant in variants for path in variant.diff)),
        variants=(Variant(name=BASELINE), *variants),
        control=BASELINE,
        seeds=tuple(seeds),
    )


def recipe_of(study: optuna.Study, setting: StudySettings, variant: str) -> Recipe:
    """Return the declared recipe of a variant of a confirmation."""
    trials = {trial_name(trial.number): trial for trial in stored_trials.all_trials(study)}
    return setting.declared(stored_trials.diff_of(trials[variant]) if variant != BASELINE else {})


def load_confirmation(study: optuna.Study, runs: Path) -> Confirmation | None:
    """Return the latest confirmation of a study in `runs`; None if none was begun.

    Finalists of an earlier study of this name, and the search's own seed, are ignored.

    Raises:
        UsageError: the study is not one of cifar-lab, or its space has been changed since.
    """
    setting = setting_of(study)
    searched = {trial_name(trial.number): trial for trial in stored_trials.sound(study)}
    recipes = {name: setting.recipe(stored_trials.diff_of(trial)).digest() for name, trial in searched.items()}
    recipes[BASELINE] = setting.recipe({}).digest()

    def ours(note: Invocation) -> Invocation:
        kept = (cell for cell in note.cells if cell.seed != setting.seed and recipes.get(cell.variant) == cell.recipe)
        return replace(note, cells=tuple(kept))

    notes = [ours(note) for note in read_index(runs).of_ablation(ablation_name("confirm", study.study_name))]
    notes = [note for note in notes if any(cell.variant != BASELINE for cell in note.cells)]
    if not notes:
        return None
    same = Selection(invocations=tuple(note for note in notes if note.key == notes[-1].key))
    values = {name: float(trial.values[0]) for name, trial in searched.items()}
    plain = next((name for name, digest in recipes.items() if name in values and digest == recipes[BASELINE]), None)
    if plain is not None:
        values[BASELINE] = values[plain]
    cells = read_cell_results(same.cells, runs)
    return make_confirmation(study.study_name, tabulate(same, runs), cells, values, trials=len(searched))
