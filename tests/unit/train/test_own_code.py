"""A user's own code of the wrong kind is refused before anything is trained."""

from __future__ import annotations

import pytest
import torch

from cifar_lab.config.overrides import parse_overrides
from cifar_lab.config.recipe import Recipe
from cifar_lab.errors import RecipeError
from cifar_lab.train.own_code import require_augmentations, require_own_code

MADE, BROKEN = "made.extensions", "made.broken_extensions"


@pytest.mark.parametrize(
    ("word", "rule"),
    [
        (f'train.callbacks=["{BROKEN}:PlainClass"]', "its factory returns PlainClass, not a cifar_lab.*Callback"),
        (f'train.callbacks=["{MADE}:not_a_callback"]', "its factory returns object, not a cifar_lab.*Callback"),
        (f'train.callbacks=["{BROKEN}:misspelt"]', "'on_epoch_end' is no hook"),
        (f"optim.name={BROKEN}:PlainClass", "its factory returns PlainClass, not a torch.optim.Optimizer"),
        (f'train.metrics=["top5","{BROKEN}:a_number"]', "its factory returns float, not a function"),
        (f'train.metrics=["{BROKEN}:raises"]', f"train.metrics: {BROKEN}:raises: OSError: no such file: weights.csv"),
        (f"schedule.name={BROKEN}:a_number", "its factory returns float, not a function"),
        (f"schedule.name={MADE}:top_k", "TypeError: .* missing 1 required positional argument: 'labels'"),
        (f"schedule.name={BROKEN}:negative", "its factor at 0 is -1.0, not a finite number from 0 up"),
        (f'data.augmentations=["{BROKEN}:a_number"]', "returns float, not a BatchAugmentation"),
    ],
)
def test_another_kind_is_refused_in_one_line(word: str, rule: str) -> None:
    recipe = Recipe().override(parse_overrides([word]))
    with pytest.raises(RecipeError, match=rule) as caught:
        require_own_code([Recipe(), recipe])
    assert "\n" not in str(caught.value)


def test_what_can_be_used_is_accepted_and_no_optimizer_or_callback_is_made() -> None:
    diff = {
        "model.name": f"{BROKEN}:OneColour", "optim.name": f"{MADE}:Signed", "schedule.name": f"{MADE}:HALVES",
        "train.metrics": ["top5", f"{MADE}:top_k"], "train.callbacks": [f"{BROKEN}:Helpful", f"{MADE}:Noise"],
        "data.augmentations": [f"{MADE}:grey"],
    }  # fmt: skip
    require_own_code([Recipe().override(diff)])


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (f"{MADE}:floats", r"returns \(4, 3, 16, 16\) torch.float32 on cpu, not \(4, 3, 16, 16\) torch.uint8 on cpu"),
        (f"{BROKEN}:smaller", r"returns \(4, 3, 15, 15\) torch.uint8 on cpu, not \(4, 3, 16, 16\)"),
        (f"{BROKEN}:too_few_numbers", "it fails: IndexError: index 1 is out of bounds"),
    ],
)
def test_an_augmentation_that_fails_or_returns_other_images_is_refused(name: str, rule: str) -> None:
    recipe = Recipe().override({"data.augmentations": [f"{MADE}:grey", name]})
    with pytest.raises(RecipeError, match=f"^data.augmentations: {name}:? {rule}") as caught:
        require_augmentations([recipe], 16)
    assert "\n" not in str(caught.value)


def test_an_augmentation_is_tried_on_images_of_the_size_that_it_is_trained_with() -> None:
    recipe = Recipe().override({"data.augmentations": [f"{MADE}:tint", f"{BROKEN}:only_on_a_gpu", f"{BROKEN}:only_16"]})
    before = torch.get_rng_state()
    require_augmentations([Recipe(), recipe], 16)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(RecipeError, match="only_16: it fails: RuntimeError: The size of tensor a"):
        require_augmentations([recipe], 32)
