"""Extensions of users: how they are named and checked, what identifies them, and how they are counted."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from made.extensions import Tiny
from made.tiny_cells import stop_in_first_epoch, tiny_job

from cifar_lab import extension
from cifar_lab.ablation.ablation import Ablation, Variant, single_recipe
from cifar_lab.ablation.one_factor import ablate_factor, parse_factor
from cifar_lab.config.baselines import EFFICIENT_RESNET
from cifar_lab.config.images import ImageShape
from cifar_lab.config.overrides import as_words, parse_overrides
from cifar_lab.config.recipe import Recipe
from cifar_lab.config.scale import find_scale
from cifar_lab.data import absolute, load
from cifar_lab.errors import BudgetError, CellError, DataError, RecipeError, UsageError
from cifar_lab.execution.request import RequestArguments, check_request
from cifar_lab.execution.resolved_recipes import make_recipes
from cifar_lab.execution.worker import train_cell
from cifar_lab.extension import Options
from cifar_lab.models.cost import network_cost, require_within
from cifar_lab.models.registry import build_network
from cifar_lab.search.budget import SearchBudget
from cifar_lab.testing import (
    check_augmentation,
    check_dataset,
    check_metric,
    check_model,
    check_optimizer,
    check_schedule,
)

MADE, BROKEN = "made.extensions", "made.broken_extensions"


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points of an installed package, one of which cannot be imported."""
    every = [
        EntryPoint("tiny", f"{MADE}:Tiny", "cifar_lab.models"),
        EntryPoint("gone", "no_such_package.nets:net", "cifar_lab.models"),
        EntryPoint("blobs", f"{MADE}:blobs", "cifar_lab.datasets"),
        EntryPoint("grey", f"{MADE}:grey", "cifar_lab.augmentations"),
    ]
    monkeypatch.setattr(extension, "entry_points", lambda group: [each for each in every if each.group == group])


def test_a_registered_name_stands_for_its_function(points: None) -> None:
    by_name = Recipe().override({"model.name": "tiny", "model.options": {"width": 6}})
    by_path = Recipe().override({"model.name": f"{MADE}:Tiny", "model.options": {"width": 6}})
    assert by_name == by_path
    assert by_name.digest() == by_path.digest()
    assert pickle.loads(pickle.dumps(by_name)) == by_name
    assert hash(by_name) == hash(by_path)
    assert Recipe.model_validate_json(by_name.model_dump_json()) == by_name == Recipe().override(by_name.flat())


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["model.name=tinny"], "did you mean 'tiny'?"),
        (["optim.name=sgdd"], "did you mean 'sgd'?"),
        ([f"model.name={MADE}:Tny"], "no 'Tny' there; did you mean 'Tiny'?"),
        (["model.name=no_such_package:net"], "No module named 'no_such_package'"),
        (["model.name=gone"], "No module named 'no_such_package'"),
        ([f"model.name={MADE}:Tiny", 'model.options={"widht":8}'], "no option 'widht'; did you mean 'width'?"),
        (
            [f"model.name={MADE}:Tiny", 'model.options={"width":"8"}'],
            'option width="8": should be an integer',
        ),
        (['model.options={"width":8}'], "model.options are those of a user's own; resnet has none"),
        ([f"schedule.name={MADE}:HALVES", 'schedule.options={"kind":"jump"}'], "'step' or 'hold'"),
        (['train.metrics=["top6"]'], "top5"),
        (['train.metrics=["top5","top5"]'], "names two metrics 'top5'"),
        ([f'train.metrics=["{MADE}:acc"]'], "'acc' is measured already"),
        (['data.augmentations=["gray"]'], "did you mean 'grey'?"),
        ([f'data.augmentations=["{MADE}:gray"]'], "no 'gray' there; did you mean 'grey'?"),
        (
            [f'data.augmentations=[{{"name":"{MADE}:grey","options":{{"shares":1}}}}]'],
            "no option 'shares'; did you mean 'share'?",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(points: None, words: list[str], rule: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe().override(parse_overrides(words))
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_are_typed_as_json_and_read_back() -> None:
    diff = {"model.name": f"{MADE}:Tiny", "model.options": {"width": 6, "dropout": 0.5}}
    assert parse_overrides(as_words(diff)) == diff


def test_options_cannot_be_changed() -> None:
    with pytest.raises(TypeError, match="immutable"):
        Options({"a": 1})["a"] = 2


def test_a_record_is_read_without_the_package() -> None:
    tree = Recipe().model_dump(mode="json")
    tree["model"] |= {"name": "no_such_package.nets:net", "options": {"depth": 3}}
    assert Recipe.model_validate(tree, strict=False).model.name == "no_such_package.nets:net"


def test_the_source_is_in_the_fingerprint_and_defaults_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "user_net_a.py"
    path.write_text("def net(*, classes: int, depth: int = 2): ...\n")
    plain = Recipe().override({"model.name": "user_net_a:net"})
    before = plain.digest()
    assert plain.override({"model.options": {"depth": 2}}).digest() == before
    assert plain.override({"model.options": {"depth": 3}}).digest() != before
    assert plain.override({"model.width": 8}).digest() == before, "the built-in network's width does not apply"
    path.write_text("def net(*, classes: int, depth: int = 2): ...  # changed\n")
    extension.describe_version.cache_clear()
    assert plain.digest() != before


def test_an_explicit_version_takes_the_place_of_the_source() -> None:
    active = Recipe().override({"schedule.name": f"{MADE}:HALVES", "schedule.options": {"at": 0.25}}).active()
    assert active["schedule"]["version"] == "2"
    assert active["schedule"]["options"] == {"at": 0.25}


def test_metrics_are_part_of_the_identity_and_a_built_in_one_has_no_version() -> None:
    one = Recipe().override({"train.metrics": ["top5"]})
    assert one.active()["train"]["metrics"] == [{"name": "top5"}]
    assert one.digest() != Recipe().digest()


def test_augmentations_are_part_of_the_identity_in_their_order(points: None) -> None:
    grey, tint = f"{MADE}:grey", f"{MADE}:tint"
    recipes = [
        Recipe().override({"data.augmentations": names})
        for names in ([], [grey], [tint], [grey, tint], [tint, grey], [{"name": grey, "options": {"share": 0.1}}])
    ]
    assert len({recipe.digest() for recipe in recipes}) == len(recipes)
    [known] = recipes[1].active()["data"]["augmentations"]
    assert known == {"name": grey, "version": extension.describe_version("augmentations", grey), "options": {}}
    by_name = Recipe().override({"data.augmentations": ["grey"]})
    with_default = Recipe().override({"data.augmentations": [{"name": grey, "options": {"share": 0.5}}]})
    assert by_name == recipes[1]
    assert by_name.digest() == with_default.digest()
    assert pickle.loads(pickle.dumps(by_name)) == by_name
    assert Recipe.model_validate_json(by_name.model_dump_json()) == by_name == Recipe().override(by_name.flat())


@pytest.mark.parametrize("images", [ImageShape(), ImageShape(classes=100), ImageShape(classes=3, side=16)])
def test_a_network_is_counted_without_weights(images: ImageShape) -> None:
    model = Recipe().override({"model.name": f"{MADE}:Tiny", "model.options": {"width": 6}}).model
    cost = network_cost(model, images)
    assert cost.parameters == sum(p.numel() for p in Tiny(classes=images.classes, width=6).parameters())
    assert cost.macs == 27 * 6 * (images.side - 2) ** 2 + 6 * images.classes
    with pytest.raises(BudgetError, match=f"{cost.parameters:,} parameters, over the budget of 100"):
        require_within("mine", model, 100, images)


def test_work_that_cannot_be_counted_is_unknown_and_the_parameters_count() -> None:
    cost = network_cost(Recipe().override({"model.name": f"{MADE}:counts_on_host"}).model)
    assert (cost.macs, cost.work) == (0, cost.parameters)


def test_a_network_with_other_outputs_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"it maps an image to \(1, 11\), not \(1, 10\)"):
        network_cost(Recipe().override({"model.name": f"{MADE}:wrong_outputs"}).model)


@pytest.mark.parametrize(
    ("target", "rule"),
    [
        ("OneColour", "its forward pass fails: RuntimeError: Given groups=1, .* to have 1 channels, but got 3"),
        ("OneColourOfValues", "its forward pass fails: RuntimeError: Given groups=1, .* to have 1 channels, but got 3"),
        ("NoForward", "its forward pass fails: NotImplementedError: .* missing the required .forward. function"),
        ("TooManyOutputs", r"it maps 2 images to \(2, 11\), not \(2, 10\)"),
        ("TwoOutputs", r"it maps an image to tuple, not \(1, 10\)"),
        ("AuxiliaryOutputs", r"it maps 2 images to tuple in training mode, not \(2, 10\)"),
        ("FailsInTraining", "its forward pass in training mode fails: RuntimeError: no such branch"),
    ],
)
def test_a_network_whose_forward_pass_fails_is_refused_in_one_line(target: str, rule: str) -> None:
    with pytest.raises(RecipeError, match=f"^model.name={BROKEN}:{target}: {rule}") as caught:
        network_cost(Recipe().override({"model.name": f"{BROKEN}:{target}"}).model)
    assert "\n" not in str(caught.value)


def test_a_network_that_only_another_device_can_run_is_left_to_the_training() -> None:
    assert network_cost(Recipe().override({"model.name": f"{BROKEN}:OnlyOnAGPU"}).model).macs == 0


def test_a_network_too_large_to_be_tried_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifar_lab.models.registry.TRIED_UP_TO", 10)
    model = Recipe().override({"model.name": f"{BROKEN}:OneColourOfValues"}).model
    assert network_cost(model, ImageShape(classes=11)).parameters == 9 * 4 + 4 + 5 * 11


def test_trying_a_network_leaves_torchs_generator_alone() -> None:
    before = torch.get_rng_state()
    network_cost(Recipe().override({"model.name": f"{MADE}:counts_on_host"}).model, ImageShape(classes=12))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_setting_of_the_built_in_network_is_refused_for_another_one_as_ablating_it_is() -> None:
    typed = partial(RequestArguments, find_scale("writeup"), variants=None, seeds=None, max_params=5_000_000)
    own = {"model.name": f"{MADE}:Tiny"}
    alone = single_recipe("own", Recipe(), "a test")
    for field, value in (("width", 12), ("se.placement", "none"), ("dropout", 0.1)):
        with pytest.raises(UsageError, match=f"^model.{field}={value} has no effect on model.name={MADE}:Tiny; .*opt"):
            check_request(alone, typed(overrides={**own, f"model.{field}": value}))
    check_request(alone, typed(overrides={**own, "model.options": {"width": 12}, "train.epochs": 3}))
    with pytest.raises(UsageError, match="build the same network"):
        check_request(ablate_factor(parse_factor("model.width=16,32"), control=None, baseline="efficient"),
                      typed(overrides=own))  # fmt: skip
    mixed = ablate_factor(parse_factor(f"model.name=resnet,{MADE}:Tiny"), control=None, baseline="efficient")
    check_request(mixed, typed(overrides={"model.width": 12}))
    with pytest.raises(UsageError, match="has no effect"):
        check_request(mixed, typed(overrides={"model.width": 12})._replace(variants=["made.extensions-tiny"]))


def test_building_a_network_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    build_network(Recipe().override({"model.name": f"{MADE}:Tiny"}).model, seed=3)
    assert torch.equal(torch.rand(1), expected)


def test_a_registered_data_set_is_a_source(points: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    data = load("blobs?classes=4&side=12")
    assert (data.shape, data.kind) == ((4, 12), "registered")
    assert load(f"{MADE}:blobs?classes=4&side=12").hash == data.hash
    assert (absolute("blobs"), absolute("folder")) == ("blobs", str(tmp_path / "folder"))
    for source, rule in (
        ("blobs?classes=many", "option classes"),
        ("blobs?sides=3", "did you mean 'side'?"),
        (f"{MADE}:broken_blobs", "float32; expected (N, side, side, 3) uint8"),
        (f"{MADE}:Tiny", "the option 'classes' is missing"),
    ):
        with pytest.raises(DataError) as caught:
            load(source)
        assert rule in str(caught.value)


def test_a_broken_extension_is_named_and_hides_no_other(points: None) -> None:
    assert set(extension.registered("models")) == {"tiny", "gone"}
    [broken] = extension.find_broken("models")
    assert broken.name == "gone"
    assert "No module named 'no_such_package'" in broken.reason


# The contract for authors


def test_the_made_extensions_keep_the_contract() -> None:
    assert check_model(f"{MADE}:Tiny", {"width": 6, "dropout": 0.1}).macs > 0
    check_optimizer(f"{MADE}:Signed", {"beta": 0.5})
    check_optimizer("torch.optim:NAdam")
    check_schedule(f"{MADE}:HALVES")
    check_metric(f"{MADE}:top_k", {"k": 3})
    assert check_dataset(f"{MADE}:blobs?side=20").shape == (3, 20)
    check_augmentation(f"{MADE}:grey", {"share": 0.3})
    check_augmentation(f"{MADE}:tint", images=ImageShape(side=20))


@pytest.mark.parametrize(
    ("check", "target", "rule"),
    [
        (check_optimizer, "Forgetful", "a resumed training has other weights"),
        (check_model, "wrong_outputs", "it maps an image to"),
        (check_metric, "undefined", "not a finite number"),
        (check_dataset, "broken_blobs", "expected"),
        (check_augmentation, "of_the_batch", "an image depends on its batch"),
        (check_augmentation, "of_torch", "an image depends on its batch, or on other chance"),
        (check_augmentation, "floats", "torch.float32 on cpu, not .* torch.uint8"),
        (check_augmentation, "misspelt_stage", "stage='normalized'; did you mean 'normalised'"),
        (check_augmentation, "no_augmentation", "returns function, not a BatchAugmentation"),
    ],
)
def test_an_extension_that_breaks_the_contract_is_caught(check: Any, target: str, rule: str) -> None:
    with pytest.raises((AssertionError, Exception), match=rule):
        check(f"{MADE}:{target}")


def test_built_in_recipes_name_no_extension() -> None:
    assert list(EFFICIENT_RESNET.extensions()) == []


def test_a_network_for_one_kind_of_image_is_counted_when_the_images_are_known() -> None:
    ablation = Ablation(
        name="own", question="Does it train?", source="a test", baseline=Recipe(), factors=("model.name",),
        variants=(Variant(name="plain"), Variant(name="own", diff={"model.name": f"{MADE}:only_three"})),
        control="plain")  # fmt: skip
    ask: dict[str, Any] = {"scale": find_scale("writeup"), "overrides": {}, "variants": None, "max_params": 5_000_000}
    assert set(make_recipes(ablation, **ask)[0]) == {"plain", "own"}
    assert set(make_recipes(ablation, **ask, images=ImageShape(classes=3))[0]) == {"plain", "own"}
    with pytest.raises(RecipeError, match="three classes, not 10"):
        make_recipes(ablation, **ask, images=ImageShape())


def test_a_search_that_limits_macs_refuses_a_network_whose_macs_are_unknown() -> None:
    own = Recipe().override({"model.name": f"{MADE}:counts_on_host"})
    assert SearchBudget(max_params=5_000_000).admits(own)
    with pytest.raises(BudgetError, match="its MACs are unknown"):
        SearchBudget(max_params=5_000_000, max_macs=1_000_000).admits(own)


def test_code_that_changed_after_the_plan_is_not_trained_under_its_fingerprint(
    few_images: Path, tmp_path: Path
) -> None:
    job = tiny_job(tmp_path / "runs", few_images)
    recipe = job.recipe.override({"model.name": f"{MADE}:Tiny"})
    planned = replace(job, recipe=recipe, fingerprint=recipe.fingerprint(seed=job.seed, data_hash=job.data_hash))
    assert train_cell(planned)
    with pytest.raises(CellError, match=r"made.extensions:Tiny changed since the plan was made"):
        train_cell(replace(planned, fingerprint="0" * 64))


def test_a_users_training_resumes_bit_for_bit(few_images: Path, tmp_path: Path) -> None:
    """Every kind of extension, dropout and state among them: stopped in the first epoch, and in one go."""
    weights = []
    for name in ("straight", "stopped"):
        job = tiny_job(tmp_path / name, few_images)
        recipe = job.recipe.override(
            {
                "model.name": f"{MADE}:Tiny", "model.options": {"dropout": 0.3}, "optim.name": f"{MADE}:Signed",
                "optim.lr": 0.001, "schedule.name": f"{MADE}:HALVES", "train.metrics": ["top5", f"{MADE}:top_k"],
                "data.augmentations": [f"{MADE}:grey", f"{MADE}:tint"], "data.policy.name": "augmix",
            }
        )  # fmt: skip
        own = replace(job, recipe=recipe, fingerprint=recipe.fingerprint(seed=job.seed, data_hash=job.data_hash))
        if name == "stopped":
            stop_in_first_epoch(own)
        assert train_cell(own)
        result, cell = own.record.result(), own.record.cell()
        assert result is not None
        assert cell is not None
        assert {"test/top5", "test/top_k"} <= result.metrics.keys()
        assert cell.parameters == sum(p.numel() for p in Tiny(classes=10).parameters())
        weights.append(own.record.weights.read_bytes())
    assert weights[0] == weights[1]


def test_code_that_changed_since_it_was_imported_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = "def once(*, classes: int):\n    return None\n"
    (tmp_path / "changed_parts.py").write_text(source)
    before = extension.describe_version("models", "changed_parts:once")
    extension.require_unchanged("models", "changed_parts:once")
    (tmp_path / "changed_parts.py").write_text(source.replace("None", "True"))
    assert extension.describe_version("models", "changed_parts:once") == before, "that of the imported code"
    with pytest.raises(RecipeError, match="changed_parts:once: its source has changed since it was imported"):
        extension.require_unchanged("models", "changed_parts:once")
    (tmp_path / "changed_parts.py").write_text(source)
    extension.require_unchanged("models", "changed_parts:once")


GROUPED = {
    "model.name": "models", "optim.name": "optimizers", "schedule.name": "schedules", "train.callbacks": "callbacks",
    "train.metrics": "metrics", "data.augmentations": "augmentations",
}  # fmt: skip


@pytest.mark.parametrize("path", GROUPED)
def test_code_of_a_notebook_is_refused_with_the_way_out(path: str) -> None:
    def mlp() -> None: ...

    mlp.__module__, mlp.__qualname__ = "__main__", "mlp"
    held = [["__main__:mlp"], [mlp]] if path.split(".")[1] != "name" else ["__main__:mlp", mlp]
    for value in held:
        with pytest.raises(RecipeError, match=r"%%writefile mine.py .* name it 'mine:mlp'$") as refused:
            Recipe().override({path: value})
        assert "worker processes cannot see" in str(refused.value)


def test_images_of_a_notebook_are_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"name it 'mine:blobs'$"):
        load("__main__:blobs")


def test_code_that_is_passed_and_a_name_that_is_none_lead_to_module_and_function() -> None:
    with pytest.raises(
        RecipeError, match=r"^model.name: a recipe names code as module:function, 'made.extensions:Tiny'"
    ):
        Recipe().override({"model.name": Tiny})
    with pytest.raises(RecipeError, match=r"one of: resnet, or module:function of your own$"):
        Recipe().override({"model.name": "mlp"})
    with pytest.raises(RecipeError, match=r"or module:function of your own; did you mean 'adam'"):
        Recipe().override({"optim.name": "adamm"})
