"""ONNX models of networks: what the graph computes and says of itself, and what it refuses."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cifar_lab.config.images import ImageShape
from cifar_lab.config.recipe import Recipe
from cifar_lab.data.augmentation import normalise_only
from cifar_lab.errors import ExportError, UsageError
from cifar_lab.inference import export, onnx_model
from cifar_lab.inference.network_outputs import Member, batch_logits
from cifar_lab.inference.raw_image_network import as_input
from cifar_lab.inference.run_names import ChosenRun
from cifar_lab.inference.stored_cells import StoredCell
from cifar_lab.models.registry import build_network

HOUSE = Path(__file__).parents[3]
needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in onnx_model.PACKAGES), reason="the extra onnx is not installed"
)
SMALL = {"model.blocks": [1], "model.width": 8}
IMAGES = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)


def member(overrides: dict[str, Any], tta: Any = "none", shape: ImageShape = ImageShape()) -> Member:  # noqa: B008
    """An untrained network as `load_member` returns a trained one; its batch norms have seen images."""
    recipe = Recipe().override({**(SMALL if "model.name" not in overrides else {}), **overrides})
    net = build_network(recipe.model, seed=0, images=shape)
    if shape == ImageShape():
        with torch.no_grad():
            net.train()(normalise_only(torch.from_numpy(IMAGES), recipe.data))
    cell = StoredCell(
        fingerprint="ab" * 32, state="finished", standing="finished", recipe=recipe, seed=3, metrics={"test/acc": 0.5},
        names=(), data="d", data_hash="cd" * 32,
        classes=tuple(f"c{number}é" for number in range(shape.classes)), folder=Path("nowhere"),
    )  # fmt: skip
    run = ChosenRun(cell=cell, ablation="a", variant="v", seed=3, source="")
    return Member(run=run, net=net.eval(), recipe=recipe, device=torch.device("cpu"), precision="fp32", tta=tta)


def run_model(model: bytes, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"images": images})[0])


def expected(of: Member, images: np.ndarray) -> np.ndarray:
    return batch_logits(of, torch.from_numpy(images)).numpy()


@pytest.fixture(scope="module")
def exported() -> tuple[Member, bytes]:
    """A network and its model."""
    of = member({"model.width": 12})
    return of, onnx_model.export_model(of, 32)


@needs_onnx
def test_the_graph_computes_what_evaluation_computes_for_every_batch(exported: tuple[Member, bytes]) -> None:
    of, model = exported
    for count in (1, 2, 7):
        computed = run_model(model, as_input(IMAGES[:count], "uint8"))
        assert computed == pytest.approx(expected(of, IMAGES[:count]), abs=1e-5)
    assert np.ptp(computed, axis=0).max() > 1e-3, "the images do matter"


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "tta", "pixels"),
    [
        ({"model.stem": "whitening", "model.stem_pool": True, "model.se.placement": "block"}, "flip", "float"),
        (
            {"model.batch_norm": False, "model.extra_fc": 8, "model.dropout": 0.5, "data.normalise": False},
            "flip_shift", "uint8",
        ),
    ],
)  # fmt: skip
def test_so_does_the_graph_of_every_part_view_and_input(overrides: dict[str, Any], tta: str, pixels: Any) -> None:
    of = member(overrides, tta)
    images = as_input(IMAGES[:5], pixels)
    assert images.dtype == (np.float32 if pixels == "float" else np.uint8)
    assert run_model(onnx_model.export_model(of, 32, pixels), images) == pytest.approx(
        expected(of, IMAGES[:5]), abs=1e-5
    )


@needs_onnx
def test_metadata_name_classes_recipe_and_versions_and_no_path_of_the_source(exported: tuple[Member, bytes]) -> None:
    import onnx

    of, model = exported
    entries = {entry.key: entry.value for entry in onnx.load_model_from_string(model).metadata_props}
    assert json.loads(entries["classes"]) == list(of.run.cell.classes)
    assert json.loads(entries["recipe"])["model.width"] == 12
    assert {"cifar-lab", "torch", "onnxruntime"} <= set(json.loads(entries["versions"]))
    assert entries["fingerprint"] == "ab" * 32
    assert "inside the graph" in entries["normalisation"]
    assert entries["recorded/test/acc"] == "0.5"
    assert "uint8 from 0 to 255" in entries["input"]
    assert str(HOUSE).encode() not in model
    assert b"site-packages" not in model
    assert b".py" not in model


@needs_onnx
def test_a_quantised_copy_has_8_bit_weights_with_a_scale_for_each_channel_and_the_same_metadata(
    exported: tuple[Member, bytes],
) -> None:
    import onnx

    of, plain = exported
    quantised = onnx_model.quantise(plain, IMAGES)
    model = onnx.load_model_from_string(quantised)
    integers = [each for each in model.graph.initializer if each.data_type == onnx.TensorProto.INT8]
    weights = [each for each in integers if len(each.dims) == 4]
    assert weights
    scales = {each.name: each for each in model.graph.initializer}
    for each in weights:
        node = next(node for node in model.graph.node if each.name in node.input)
        assert list(scales[node.input[1]].dims) == [each.dims[0]]
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert "calibrated on 100 training images" in entries["quantisation"]
    assert json.loads(entries["classes"]) == list(of.run.cell.classes)
    computed, logits = run_model(quantised, as_input(IMAGES, "uint8")), expected(of, IMAGES)
    spread = logits.std()
    assert 0 < np.abs(computed - logits).mean() < spread / 2


@needs_onnx
@pytest.mark.parametrize("name", ["Tiny", "Tied"])
def test_the_network_of_an_extension_is_exported(name: str) -> None:
    shape = ImageShape(classes=3, side=16)
    of = member({"model.name": f"made.extensions:{name}"}, shape=shape)
    images = IMAGES[:4, :16, :16]
    model = onnx_model.export_model(of, 16)
    assert run_model(model, as_input(images, "uint8")) == pytest.approx(expected(of, images), abs=1e-5)


@needs_onnx
def test_a_network_that_reads_values_on_the_host_is_refused_in_one_line() -> None:
    of = member({"model.name": "made.extensions:counts_on_host"})
    with pytest.raises(ExportError, match=r"a/v/s3: torch.onnx.export cannot trace its network 'made") as caught:
        onnx_model.export_model(of, 32)
    assert "\n" not in str(caught.value)


def test_a_model_that_computes_something_else_is_refused() -> None:
    of = member({})
    logits = expected(of, IMAGES[:4])
    export.require_equal(of, logits, logits + 1e-6)
    for wrong in (logits + 0.1, logits * np.nan):
        with pytest.raises(ExportError, match="computes something else"):
            export.require_equal(of, logits, wrong.astype(np.float32))


def test_without_the_extra_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_model, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(UsageError, match=r"^export needs onnxscript: `pip install 'cifar-lab\[onnx\]'`") as caught:
        onnx_model.require_onnx()
    assert caught.value.exit_code == 2
