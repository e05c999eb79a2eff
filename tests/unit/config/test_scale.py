"""Scales shrink every variant alike, by multipliers, and never set the protocol."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cifar_lab.config.baselines import EFFICIENT_RESNET, RESNET18
from cifar_lab.config.recipe import Recipe
from cifar_lab.config.scale import SCALES, Scale, find_scale, require_distinct, trained_alike
from cifar_lab.errors import RegistryError, UsageError
from cifar_lab.train.lr_schedule import lr_at


def reductions(*values: int, scale: Scale) -> dict[str, Recipe]:
    return {f"r{r}": scale.apply(EFFICIENT_RESNET.override({"model.se.reduction": r})) for r in values}


@pytest.mark.parametrize(("name", "width", "epochs"), [("smoke", 16, 2), ("small", 16, 10), ("writeup", 64, 200)])
def test_a_scale_of_64_channels_and_200_epochs(name: str, width: int, epochs: int) -> None:
    scaled = find_scale(name).apply(EFFICIENT_RESNET)
    assert (scaled.model.width, scaled.train.epochs) == (width, epochs)


def test_a_scale_multiplies_what_a_variant_asks_for() -> None:
    wide = EFFICIENT_RESNET.override({"model.width": 128, "train.epochs": 400})
    assert (find_scale("small").apply(wide).model.width, find_scale("small").apply(wide).train.epochs) == (32, 20)
    assert (find_scale("smoke").apply(RESNET18).model.width, find_scale("smoke").apply(RESNET18).train.epochs) == (
        16,
        1,
    )


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("name", SCALES)
def test_one_channel_and_one_epoch_always_stay(name: str, width: int) -> None:
    tiny = EFFICIENT_RESNET.override({"model.width": width, "train.epochs": 1})
    assert find_scale(name).apply(tiny).model.width >= 1
    assert find_scale(name).apply(tiny).train.epochs == 1


@pytest.mark.parametrize("protocol", ["holdout", "writeup"])
@pytest.mark.parametrize("name", SCALES)
def test_a_scale_changes_width_and_epochs_and_nothing_else(name: str, protocol: str) -> None:
    before = RESNET18.override({"train.protocol": protocol}).flat()
    after = find_scale(name).apply(Recipe().override(before)).flat()
    assert after["train.protocol"] == protocol
    assert {path for path in before if before[path] != after[path]} <= {"model.width", "train.epochs"}


def test_the_scale_of_the_writeup_is_the_recipe_as_declared() -> None:
    assert find_scale("writeup").apply(EFFICIENT_RESNET) == EFFICIENT_RESNET


def test_only_smoke_brings_its_own_data() -> None:
    assert {name: scale.data for name, scale in SCALES.items()} == {
        "smoke": "synthetic",
        "small": None,
        "writeup": None,
    }


@pytest.mark.parametrize(("typed", "meant"), [("smal", "small"), ("SMOKE", "smoke"), ("write-up", "writeup")])
def test_an_unknown_scale_is_refused_with_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(RegistryError) as caught:
        find_scale(typed)
    assert f"'{typed}'" in str(caught.value)
    assert f"did you mean '{meant}'?" in str(caught.value)


def test_a_scale_like_no_other_is_refused_with_all_that_there_are() -> None:
    with pytest.raises(RegistryError, match="one of: smoke, small, writeup"):
        find_scale("1/4")


# A share of the epochs


@pytest.mark.parametrize(
    ("name", "width", "epochs"), [("small/5", 16, 2), ("small/2", 16, 5), ("writeup/10", 64, 20), ("smoke/2", 16, 1)]
)
def test_a_share_of_a_scale_cuts_its_epochs_and_not_its_width(name: str, width: int, epochs: int) -> None:
    scaled = find_scale(name).apply(EFFICIENT_RESNET)
    assert (scaled.model.width, scaled.train.epochs) == (width, epochs)


def test_a_share_has_one_name_and_the_data_of_its_scale() -> None:
    assert find_scale("small/05") == find_scale("small/5")
    assert find_scale("small/5").name == "small/5"
    assert (find_scale("smoke/2").data, find_scale("small/5").data) == ("synthetic", None)
    assert find_scale("small").name == "small"


@pytest.mark.parametrize("share", ["", "0", "1", "-5", "+5", "2.5", "1/5", "5/", " 5", "five", "²", "٥"])
def test_a_share_that_is_no_whole_number_from_2_up_is_refused_with_the_rule(share: str) -> None:
    with pytest.raises(UsageError, match="reads small/5, a whole number from 2 up") as caught:
        find_scale(f"small/{share}")
    assert f"small/{share}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_share_of_an_unknown_scale_is_refused_with_the_nearest() -> None:
    with pytest.raises(RegistryError, match=r"'smal'; did you mean 'small'\?"):
        find_scale("smal/5")


# Half up


@pytest.mark.parametrize(("width", "quarter"), [(66, 17), (64, 16), (62, 16), (65, 16), (67, 17), (2, 1), (1, 1)])
def test_widths_are_rounded_half_up(width: int, quarter: int) -> None:
    assert find_scale("small").apply(EFFICIENT_RESNET.override({"model.width": width})).model.width == quarter


@pytest.mark.parametrize(("epochs", "left"), [(30, 2), (50, 3), (10, 1), (9, 1), (29, 1), (31, 2)])
def test_epochs_are_rounded_half_up(epochs: int, left: int) -> None:
    assert find_scale("small").apply(EFFICIENT_RESNET.override({"train.epochs": epochs})).train.epochs == left


@pytest.mark.parametrize("name", SCALES)
def test_66_and_64_channels_stay_two_widths(name: str) -> None:
    scale = find_scale(name)
    require_distinct({f"w{n}": scale.apply(EFFICIENT_RESNET.override({"model.width": n})) for n in (64, 66)}, scale)


# Variants that coincide


def test_reductions_16_and_32_are_one_network_at_width_16_and_two_at_64() -> None:
    small, whole = find_scale("small"), find_scale("writeup")
    with pytest.raises(UsageError) as caught:
        require_distinct(reductions(8, 16, 32, scale=small), small)
    assert all(word in str(caught.value) for word in ("'r16'", "'r32'", "small"))
    assert "'r8'" not in str(caught.value)
    assert "\n" not in str(caught.value)
    require_distinct(reductions(8, 16, 32, scale=whole), whole)


@pytest.mark.parametrize("field", ["model.width", "train.epochs"])
def test_variants_that_round_to_one_width_or_length_are_refused(field: str) -> None:
    small = find_scale("small")
    close = {f"v{n}": small.apply(EFFICIENT_RESNET.override({field: n})) for n in (64, 65)}
    with pytest.raises(UsageError, match="'v64' and 'v65'"):
        require_distinct(close, small)


def test_variants_that_differ_in_anything_that_acts_pass() -> None:
    small = find_scale("small")
    block = EFFICIENT_RESNET.override({"model.se.placement": "block"})
    recipes = reductions(4, 8, 16, scale=small) | {
        "block": small.apply(block),
        "block32": small.apply(block.override({"model.se.reduction": 32})),
        "none": small.apply(EFFICIENT_RESNET.override({"model.se.placement": "none"})),
        "warmed": small.apply(EFFICIENT_RESNET.override({"init_from": "0" * 64})),
    }
    require_distinct(recipes, small)
    require_distinct({}, small)


def test_one_recipe_from_other_weights_is_another_training() -> None:
    recipes = dict.fromkeys(("s5", "s6", "s7"), EFFICIENT_RESNET)
    require_distinct(recipes, find_scale("smoke"), {"s5": None, "s6": "s5", "s7": "s6"})
    with pytest.raises(UsageError, match="'s6' and 's7'"):
        require_distinct(recipes, find_scale("smoke"), {"s5": None, "s6": "s5", "s7": "s5"})


def rates_of(asked: list[str], epochs: int = 1) -> Callable[[Recipe], list[float]]:
    """The rate at each of ten steps an epoch; notes of which schedules it was asked."""

    def rates(recipe: Recipe) -> list[float]:
        asked.append(recipe.schedule.name)
        where = {"steps_per_epoch": 10, "epochs": epochs}
        return [lr_at(recipe.schedule, recipe.optim.lr, step=step, **where) for step in range(10 * epochs)]

    return rates


SCHEDULES = {
    name: EFFICIENT_RESNET.override({"schedule.name": name}) for name in ("constant", "cosine", "step", "one_cycle")
}


def test_schedules_that_are_one_in_a_single_epoch_train_the_same() -> None:
    assert trained_alike(SCHEDULES, rates_of([])) == {"cosine": "constant", "step": "constant"}
    assert trained_alike(SCHEDULES, rates_of([], epochs=4)) == {}


def test_what_differs_in_more_than_its_rates_is_not_asked_for_them() -> None:
    asked: list[str] = []
    wider = SCHEDULES["cosine"].override({"model.width": 66})
    assert trained_alike({"a": SCHEDULES["constant"], "b": wider}, rates_of(asked)) == {}
    assert asked == []
    of = {"a": SCHEDULES["constant"], "b": SCHEDULES["cosine"]}
    assert trained_alike(of, rates_of([]), {"a": None, "b": "a"}) == {}, "from other weights it is another training"


def test_only_schedules_that_begin_at_one_rate_are_compared() -> None:
    asked: list[str] = []
    many = {f"lr{i}": EFFICIENT_RESNET.override({"optim.lr": 0.01 * (i + 1)}) for i in range(20)}
    assert trained_alike(many, rates_of(asked)) == {}
    assert len(asked) == 20, "the first rate of each"
