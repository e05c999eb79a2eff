"""A space is checked when it is made; what a trial chooses, its parameters and the recipe are one and the same."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from made.spaces import RATES, SMALL, WIDTH, random_space, space

from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.errors import SpaceError
from cifar_lab.search.dimension import Bundle, Choice, Dimension, Integer, RandomTrial, Real
from cifar_lab.search.space import Space
from cifar_lab.search.spaces import find_space, space_names

PLACEMENT = Choice(path="model.se.placement", values=("none", "stem", "block"))
REDUCTION = Choice(path="model.se.reduction", values=(2, 4, 16), when={"model.se.placement": ("stem", "block")})
OPTIMIZER = Choice(path="optim.name", values=tuple(RATES))
RATE = Real(name="rate", path="optim.lr", low=0.1, high=10.0, log=True, unit={"optim.name": RATES})
BLOCKS = Choice(path="model.blocks", values=((1, 1), (2, 1, 1)))
CLIP = Bundle(name="clip", options={"off": {"optim.clip.by": "none"}, "tight": {"optim.clip.threshold": 0.01}})
SEEDS = range(30)


def drawn(searched: Space, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and diff of a random candidate."""
    draw = RandomTrial(random.Random(seed))
    diff = searched.suggest(draw)
    return draw.params, diff


def refusal(make: Any) -> str:
    """The line that `make()` is refused with."""
    with pytest.raises(SpaceError) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


# What a trial is asked


class Asked:
    """A trial that takes the last option and the high end, and keeps what it was asked."""

    def __init__(self) -> None:
        self.questions: dict[str, tuple[Any, ...]] = {}

    def suggest_categorical(self, name: str, choices: Any, /) -> Any:
        self.questions[name] = tuple(choices)
        return choices[-1]

    def suggest_int(self, name: str, low: int, high: int, /, *, step: int, log: bool) -> int:
        self.questions[name] = (low, high, step, log)
        return high

    def suggest_float(self, name: str, low: float, high: float, /, *, log: bool) -> float:
        self.questions[name] = (low, high, log)
        return high


def test_each_dimension_asks_one_question_and_sets_its_paths() -> None:
    trial = Asked()
    diff = space(BLOCKS, WIDTH, PLACEMENT, REDUCTION, OPTIMIZER, RATE, CLIP).suggest(trial)
    assert trial.questions == {
        "model.blocks": ("[1,1]", "[2,1,1]"),
        "model.width": (4, 16, 4, False),
        "model.se.placement": ("none", "stem", "block"),
        "model.se.reduction": (2, 4, 16),
        "optim.name": ("sgd", "adam", "muon"),
        "rate": (0.1, 10.0, True),
        "clip": ("off", "tight"),
    }
    assert diff == {
        "model.blocks": (2, 1, 1),
        "model.width": 16,
        "model.se.placement": "block",
        "model.se.reduction": 16,
        "optim.name": "muon",
        "optim.lr": 0.2,
        "optim.clip.threshold": 0.01,
    }
    SMALL.override(diff)


def test_what_is_not_needed_is_not_asked_and_stays_as_the_baseline_has_it() -> None:
    searched = space(Choice(path="model.se.placement", values=("stem", "block", "none")), REDUCTION)
    trial = Asked()
    assert searched.suggest(trial) == {"model.se.placement": "none"}
    assert list(trial.questions) == ["model.se.placement"]


def test_a_condition_on_what_is_itself_not_asked_is_not_met() -> None:
    chained = Choice(path="model.dropout", values=(0.0, 0.5), when={"model.se.reduction": (2, 16)})
    searched = space(Choice(path="model.se.placement", values=("stem", "block", "none")), REDUCTION, chained)
    assert searched.suggest(Asked()) == {"model.se.placement": "none"}
    on = searched.diff_of({"model.se.placement": "stem", "model.se.reduction": 16, "model.dropout": 0.5})
    assert on["model.dropout"] == 0.5


def test_none_tuples_and_booleans_are_values_like_others() -> None:
    fc = Choice(path="model.extra_fc", values=(None, 16))
    norm = Choice(path="model.batch_norm", values=(True, False))
    searched = space(fc, norm, BLOCKS)
    params = {"model.extra_fc": "none", "model.batch_norm": False, "model.blocks": "[2,1,1]"}
    diff = searched.diff_of(params)
    assert diff == {"model.extra_fc": None, "model.batch_norm": False, "model.blocks": (2, 1, 1)}
    assert searched.params_of(SMALL.override(diff)) == params


def test_units_multiply_and_rates_come_out_round() -> None:
    searched = space(OPTIMIZER, RATE)
    assert searched.diff_of({"optim.name": "adam", "rate": 3.0})["optim.lr"] == 0.003
    assert searched.diff_of({"optim.name": "sgd", "rate": 0.3})["optim.lr"] == 0.03
    assert searched.params_of(SMALL.override({"optim.name": "adam", "optim.lr": 0.003})) == {
        "optim.name": "adam",
        "rate": 3.0,
    }


def test_several_units_multiply_one_another() -> None:
    batch = Choice(path="train.batch_size", values=(64, 128))
    rate = Real(path="optim.lr", low=1.0, high=2.0, unit={"optim.name": RATES, "train.batch_size": {64: 0.5, 128: 1.0}})
    params = {"optim.name": "sgd", "train.batch_size": 64, "optim.lr": 2.0}
    assert space(OPTIMIZER, batch, rate).diff_of(params)["optim.lr"] == 0.1


# From a recipe to the parameters of a trial


def test_the_baseline_is_inside_with_all_that_is_asked_of_it() -> None:
    searched = space(WIDTH, PLACEMENT, REDUCTION, OPTIMIZER, RATE)
    assert searched.params_of(SMALL) == {
        "model.width": 8, "model.se.placement": "stem", "model.se.reduction": 16, "optim.name": "sgd", "rate": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "diff",
    [{"model.width": 9}, {"model.width": 20}, {"train.epochs": 3}, {"optim.lr": 5.0}, {"model.se.reduction": 8},
     {"optim.name": "sgd_nesterov"}],
    ids=str,
)  # fmt: skip
def test_a_recipe_outside_has_no_parameters(diff: dict[str, Any]) -> None:
    assert space(WIDTH, PLACEMENT, REDUCTION, OPTIMIZER, RATE).params_of(SMALL.override(diff)) is None


def test_what_has_no_effect_does_not_put_a_recipe_outside() -> None:
    without = SMALL.override({"model.se.placement": "none", "model.se.reduction": 8, "optim.clip.by": "none"})
    found = space(PLACEMENT, REDUCTION, CLIP).params_of(without.override({"optim.clip.threshold": 7.0}))
    assert found == {"model.se.placement": "none", "clip": "off"}


def test_an_option_that_sets_nothing_of_a_path_leaves_it_at_the_baseline() -> None:
    network = Bundle(name="network", options={"plain": {}, "wide": {"model.width": 16}})
    searched = space(network)
    assert searched.params_of(SMALL) == {"network": "plain"}
    assert searched.params_of(SMALL.override({"model.width": 16})) == {"network": "wide"}
    assert searched.params_of(SMALL.override({"model.width": 12})) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_of_random_spaces_diff_parameters_and_recipe_agree(seed: int) -> None:
    searched = random_space(seed)
    for draw in range(8):
        params, diff = drawn(searched, draw)
        recipe = searched.baseline.override(diff)
        assert searched.diff_of(params) == diff
        assert set(diff) <= set(searched.paths())
        found = searched.params_of(recipe)
        assert found is not None
        assert list(found) == list(params)
        assert searched.baseline.override(searched.diff_of(found)).digest() == recipe.digest()


@pytest.mark.parametrize("seed", SEEDS)
def test_of_random_spaces_optuna_keeps_the_parameters_and_begins_with_the_baseline(seed: int) -> None:
    searched = random_space(seed)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    baseline = searched.params_of(searched.baseline)
    if baseline is not None:
        study.enqueue_trial(baseline)
    for _ in range(5):
        trial = study.ask()
        diff = searched.suggest(trial)
        assert searched.diff_of(trial.params) == diff
        study.tell(trial, 0.0)
    if baseline is not None:
        first = searched.baseline.override(searched.diff_of(study.trials[0].params))
        assert first.digest() == searched.baseline.digest()


def test_parameters_survive_optunas_journal(tmp_path: Path) -> None:
    file = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal"))
    searched = find_space("writeup")
    study = optuna.create_study(storage=optuna.storages.JournalStorage(file), study_name="s")
    diffs = [searched.suggest(study.ask()) for _ in range(10)]
    again = optuna.load_study(storage=optuna.storages.JournalStorage(file), study_name="s")
    assert [searched.diff_of(trial.params) for trial in again.trials] == diffs


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"model.se.placement": "none"}, "parameter 'model.width' is missing: 4 to 16 by 4"),
        ({"model.width": 5, "model.se.placement": "none"}, "'model.width'=5 is not in the space; it is 4 to 16 by 4"),
        ({"model.width": 8.5, "model.se.placement": "none"}, "'model.width'=8.5"),
        ({"model.width": True, "model.se.placement": "none"}, "'model.width'=True"),
        ({"model.width": 8, "model.se.placement": "stme"}, "did you mean 'stem'?"),
        ({"model.width": 8, "model.se.placement": "none", "model.se.reduction": 2}, "its condition is not met"),
        ({"model.width": 8, "model.se.placement": "none", "widht": 2}, "no such dimension"),
    ],
)
def test_parameters_that_are_not_of_the_space_are_refused(params: dict[str, Any], said: str) -> None:
    assert said in refusal(lambda: space(WIDTH, PLACEMENT, REDUCTION).diff_of(params))


def test_a_recipe_of_another_depth_is_outside() -> None:
    deeper = SMALL.override({"model.blocks": (2, 1, 1), "model.kernel": (1, 3, 3)})
    assert space(BLOCKS).params_of(deeper) is None
    per_layer = SMALL.override({"model.kernel": (3, 1)})
    assert space(Choice(path="model.dropout", values=(0.0, 0.1)), baseline=per_layer).params_of(deeper) is None


# What is refused

BY = {"model.se.placement": ("stem",)}
REFUSED: dict[str, tuple[Any, str]] = {
    "no value": (lambda: Choice(path="model.width", values=()), "'model.width': values=[] leaves nothing to search"),
    "one value": (lambda: Choice(path="model.width", values=(8,)), "takes two or more"),
    "a value twice": (lambda: Choice(path="model.width", values=(8, 4, 8)), "value 8 is there twice"),
    "a tuple twice": (lambda: Choice(path="model.blocks", values=((1,), [1])), "value [1] is there twice"),
    "a number twice": (lambda: Choice(path="data.mixup", values=(0, 0.0)), "twice"),
    "one option": (lambda: Bundle(name="b", options={"a": {"model.width": 8}}), "takes two or more"),
    "options without paths": (lambda: Bundle(name="b", options={"a": {}, "b": {}}), "set no path"),
    "a bundle without a name": (lambda: Bundle(options={"a": {"model.width": 8}, "b": {}}), "it has no name"),
    "a reversed range": (lambda: Integer(path="model.width", low=9, high=3), "low=9 is above high=3"),
    "a range of one": (lambda: Integer(path="model.width", low=8, high=8), "both 8"),
    "a range of one number": (lambda: Real(path="optim.lr", low=0.1, high=0.1), "both 0.1"),
    "a reversed range of numbers": (lambda: Real(path="optim.lr", low=0.2, high=0.1), "low=0.2 is above high=0.1"),
    "a logarithm of 0": (lambda: Real(path="optim.lr", low=0.0, high=1.0, log=True), "log needs a range above 0"),
    "a logarithm through 0": (lambda: Integer(path="model.width", low=-1, high=8, log=True), "got low=-1"),
    "a step beyond": (lambda: Integer(path="model.width", low=4, high=9, step=4), "high=9 is not reached"),
    "a step in a logarithm": (lambda: Integer(path="model.width", low=4, high=8, step=2, log=True), "exclude"),
    "a step of 0": (lambda: Integer(path="model.width", low=4, high=8, step=0), "Integer.step"),
    "half an integer": (lambda: Integer(path="model.width", low=4.5, high=8), "Integer.low"),
    "a truth as a number": (lambda: Real(path="optim.lr", low=True, high=8.0), "Real.low"),
    "no number": (lambda: Real(path="optim.lr", low=0.1, high=math.nan), "Real.high"),
    "infinity": (lambda: Real(path="optim.lr", low=0.1, high=math.inf), "Real.high"),
    "no path": (lambda: Choice(values=(1, 2)), "Choice.path"),
    "a path that is no text": (lambda: Choice(path=3, values=(1, 2)), "Choice.path"),
    "an unknown field": (lambda: Choice(path="model.width", valeus=(1, 2)), "did you mean 'values'?"),
    "a unit of 0": (lambda: Real(path="optim.lr", low=0.1, high=1.0, unit={"optim.name": {"sgd": 0.0}}), "Real.unit"),
    "no dimension": (lambda: space(dimensions=()), "one dimension or more"),
    "what is no dimension": (lambda: space(dimensions=({"path": "model.width"},)), "Space.dimensions.0"),
    "no question": (lambda: Space(baseline=SMALL, dimensions=(WIDTH,)), "Space.question"),
    "a baseline that is no recipe": (lambda: space(baseline="mine"), "Space.baseline"),
    "an unknown path": (lambda: space(Integer(path="model.widht", low=4, high=8)), "did you mean 'model.width'?"),
    "an unknown path in a bundle": (
        lambda: space(Bundle(name="b", options={"a": {"model.widht": 8}, "b": {}})), "did you mean 'model.width'?",
    ),
    "a group of paths": (lambda: space(Choice(path="model.se", values=("none", "stem"))), "it holds model.se."),
    "a value that no recipe takes": (lambda: space(Choice(path="optim.name", values=("sgd", "sdg"))), "mean 'sgd'?"),
    "an end that no recipe takes": (lambda: space(Integer(path="model.width", low=0, high=8)), "model.width=0"),
    "a high end that no recipe takes": (lambda: space(Real(path="model.dropout", low=0.0, high=1.0)), "dropout=1"),
    "numbers for an integer": (lambda: space(Real(path="model.width", low=4.0, high=9.0)), "model.width"),
    "even kernels between odd ones": (lambda: space(Integer(path="model.kernel", low=1, high=5)), "must be odd"),
    "a list of kernels for another depth": (
        lambda: space(Choice(path="model.kernel", values=(3, (3, 3, 1)))), "names 3 layers",
    ),
    "options that are one": (
        lambda: space(Bundle(name="b", options={"a": {}, "b": {"model.width": 8}})), "a and b come to the same recipe",
    ),
    "a name twice": (lambda: space(WIDTH, WIDTH), "dimension 'model.width' is named twice"),
    "a path twice": (
        lambda: space(WIDTH, Bundle(name="b", options={"a": {"model.width": 8}, "b": {}})),
        "'model.width' is in two dimensions, 'model.width' and 'b'",
    ),
    "a condition on what comes later": (lambda: space(REDUCTION, PLACEMENT), "not declared before it"),
    "a condition on nothing known": (
        lambda: space(PLACEMENT, Choice(path="model.width", values=(4, 8), when={"model.se.placment": ("stem",)})),
        "did you mean 'model.se.placement'?",
    ),
    "a condition on a range": (
        lambda: space(WIDTH, Choice(path="model.kernel", values=(1, 3), when={"model.width": (8,)})), "is a range",
    ),
    "a condition that is never met": (
        lambda: space(PLACEMENT, Choice(path="model.width", values=(4, 8), when={"model.se.placement": ("stme",)})),
        "being stme, which it never is; did you mean 'stem'?",
    ),
    "a condition without a value": (
        lambda: space(PLACEMENT, Choice(path="model.width", values=(4, 8), when={"model.se.placement": ()})),
        "names no value",
    ),
    "a unit that leaves a value out": (
        lambda: space(OPTIMIZER, Real(path="optim.lr", low=0.1, high=1.0, unit={"optim.name": {"sgd": 0.1}})),
        "none for adam",
    ),
    "a unit of a value that is never there": (
        lambda: space(OPTIMIZER, Real(path="optim.lr", low=0.1, high=1.0, unit={"optim.name": RATES | {"amad": 1.0}})),
        "did you mean 'adam'?",
    ),
    "a unit by what is not always there": (
        lambda: space(PLACEMENT, OPTIMIZER.model_copy(update={"when": BY}), RATE), "not always suggested",
    ),
    "values that exclude one another": (
        lambda: space(BLOCKS, Choice(path="model.kernel", values=(3, (3, 1)))),
        "dimensions 'model.blocks' and 'model.kernel' do not go together: model.kernel=[3, 1] names 2 layers",
    ),
    "ends that exclude a value": (
        lambda: space(
            Choice(path="optim.name", values=("sgd", "sgd_nesterov")), Real(path="optim.momentum", low=0.0, high=0.9)
        ),
        "needs optim.momentum > 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_one_line(what: str) -> None:
    make, said = REFUSED[what]
    assert said in refusal(make)


def test_a_condition_makes_values_fit_that_would_exclude_one_another() -> None:
    kernel = Choice(path="model.kernel", values=((1, 3, 3), (3, 3, 1)), when={"model.blocks": ((2, 1, 1),)})
    searched = space(BLOCKS, kernel)
    assert searched.diff_of({"model.blocks": "[2,1,1]", "model.kernel": "[3,3,1]"})["model.kernel"] == (3, 3, 1)
    assert searched.diff_of({"model.blocks": "[1,1]"}) == {"model.blocks": (1, 1)}


def test_a_space_is_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        space().question = "Another?"


# Digests

PLAIN = (WIDTH, PLACEMENT, REDUCTION, OPTIMIZER, RATE, CLIP)


def changed(dimension: Dimension, **fields: Any) -> tuple[Dimension, ...]:
    return tuple(type(d)(**(dict(d) | fields)) if d is dimension else d for d in PLAIN)


CHANGES: dict[str, Space] = {
    "nothing": space(*PLAIN),
    "the baseline": space(*PLAIN, baseline=SMALL.override({"train.epochs": 3})),
    "what the baseline does not use": space(*PLAIN, baseline=SMALL.override({"schedule.gamma": 0.5})),
    "a low end": space(*changed(WIDTH, low=8)),
    "a high end": space(*changed(WIDTH, high=20)),
    "a step": space(*changed(WIDTH, step=6)),
    "a logarithm": space(*changed(WIDTH, log=True, step=1)),
    "the scale of a number": space(*changed(RATE, log=False)),
    "an option less": space(*changed(PLACEMENT, values=("stem", "block"))),
    "the order of options": space(*changed(PLACEMENT, values=("stem", "none", "block"))),
    "a condition": space(*changed(REDUCTION, when={"model.se.placement": ("block",)})),
    "no condition": space(*changed(REDUCTION, when={})),
    "a unit": space(*changed(RATE, unit={"optim.name": RATES | {"adam": 0.002}})),
    "no unit": space(*changed(RATE, unit={})),
    "a name": space(*changed(RATE, name="lr")),
    "what an option sets": space(*changed(CLIP, options=CLIP.options | {"tight": {"optim.clip.threshold": 0.02}})),
    "what an option is called": space(*changed(CLIP, options={"on" + k: v for k, v in CLIP.options.items()})),
    "the order of dimensions": space(PLACEMENT, *(d for d in PLAIN if d is not PLACEMENT)),
    "a dimension less": space(*(d for d in PLAIN if d is not CLIP)),
    "a dimension more": space(*PLAIN, BLOCKS),
    "another kind": space(Choice(path="model.width", values=(4, 8, 12, 16)), *PLAIN[1:]),
}


def test_digests_differ_when_anything_that_is_tried_differs() -> None:
    digests = {what: searched.digest() for what, searched in CHANGES.items()}
    assert len(set(digests.values())) == len(CHANGES)
    assert all(len(digest) == 64 for digest in digests.values())


def test_digests_are_the_same_when_only_words_differ() -> None:
    renamed = space(*PLAIN, question="Which?").model_copy(update={"name": "mine"})
    assert renamed.digest() == CHANGES["nothing"].digest()


def test_random_spaces_have_digests_of_their_own_in_every_process() -> None:
    assert len({random_space(seed).digest() for seed in SEEDS}) == len(SEEDS)
    program = "from cifar_lab.search.spaces import find_space; print(find_space('writeup').digest())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == find_space("writeup").digest()


# Draws


def test_draws_stay_inside_and_reach_both_ends() -> None:
    draw = RandomTrial(random.Random(0))
    seen = {draw.suggest_int("x", 1, 9, step=4) for _ in range(100)}
    assert seen == {1, 5, 9}
    logs = [draw.suggest_int("x", 1, 64, log=True) for _ in range(2000)]
    assert (min(logs), max(logs)) == (1, 64)
    assert sum(value <= 8 for value in logs) == pytest.approx(1000, rel=0.25)
    rates = [draw.suggest_float("x", 1e-4, 1.0, log=True) for _ in range(2000)]
    assert sum(rate < 1e-2 for rate in rates) == pytest.approx(1000, rel=0.1)
    assert all(1e-4 <= rate <= 1.0 for rate in rates)


def test_one_seed_is_one_candidate() -> None:
    assert drawn(find_space("writeup"), 7) == drawn(find_space("writeup"), 7) != drawn(find_space("writeup"), 8)


# Spaces and files


@pytest.mark.parametrize("name", space_names())
def test_the_baseline_of_a_built_in_space_is_in_it(name: str) -> None:
    searched = find_space(name)
    params = searched.params_of(searched.baseline)
    assert params is not None
    assert searched.baseline.override(searched.diff_of(params)) == searched.baseline
    assert searched.name == name


def test_the_default_space_is_around_the_final_network_of_the_writeup() -> None:
    searched = find_space("writeup")
    assert searched.baseline == EFFICIENT_RESNET
    params = searched.params_of(EFFICIENT_RESNET)
    assert params is not None
    assert (params["lr / customary"], params["decay / customary"]) == (1.0, 1.0)


@pytest.mark.parametrize("name", space_names())
def test_every_candidate_of_a_built_in_space_is_a_recipe(name: str) -> None:
    searched = find_space(name)
    recipes = {searched.baseline.override(drawn(searched, seed)[1]).digest() for seed in range(200)}
    assert len(recipes) > 190


GOOD = """\
from cifar_lab import EFFICIENT_RESNET
from cifar_lab.search.dimension import Integer
from cifar_lab.search.space import Space

print("chatter")
SPACE = Space(
    question="Mine?",
    baseline=EFFICIENT_RESNET,
    dimensions=(Integer(path="model.width", low=4, high=8),),
)
"""


def test_a_file_of_ones_own_is_a_space_named_after_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(GOOD)
    found = find_space(str(tmp_path / "mine.py"))
    assert (found.name, found.paths()) == ("mine", ("model.width",))
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("low=4", "low=9"), "mine.py:9: dimension 'model.width': low=9 is above high=8"),
        (GOOD.replace("SPACE", "SPOCK"), "mine.py:1: defines no SPACE"),
        ("SPACE = 3\n", "mine.py:1: defines no SPACE"),
        ("x = 1\nSPACE = (\n", "mine.py:2: SyntaxError"),
        ("\nimport nothing_of_this_name\n", "mine.py:2: ModuleNotFoundError"),
        ("import sys\nsys.exit(3)\n", "mine.py:2: SystemExit"),
    ],
)
def test_a_broken_file_is_refused_by_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    assert said in refusal(lambda: find_space(str(tmp_path / "mine.py")))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("writup", "did you mean 'writeup'?"),
        ("zzz", "; one of: fast, optimizer, writeup"),
        ("/nowhere/mine.py", "no such file: /nowhere/mine.py"),
        ("", "no space named ''"),
        ("__init__", "no space named '__init__'"),
    ],
)
def test_what_is_not_there_is_refused_with_the_nearest_name(name: str, said: str) -> None:
    assert said in refusal(lambda: find_space(name))


def test_finding_a_space_loads_neither_torch_nor_optuna() -> None:
    program = (
        "import sys; from cifar_lab.search.spaces import find_space, space_names;"
        "[find_space(name) for name in space_names()];"
        "heavy = {'torch', 'optuna', 'numpy'} & set(sys.modules); sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
