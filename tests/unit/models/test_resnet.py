"""The network's shapes, its placement of SE, and weights that depend on seed and name alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from cifar_lab.config.baselines import EFFICIENT_RESNET, RESNET18
from cifar_lab.models.resnet import build_resnet
from cifar_lab.models.se import SEBlock

SMALL = EFFICIENT_RESNET.override({"model.width": 8})


@pytest.mark.parametrize(
    "diff",
    [
        {},
        {"model.blocks": [2, 1, 1, 1]},
        {"model.blocks": [1]},
        {"model.kernel": [1, 3, 5]},
        {"model.shortcut_kernel": 3},
        {"model.batch_norm": False},
        {"model.extra_fc": 12},
        {"model.dropout": 0.5},
        {"model.se.placement": "block"},
        {"model.stem_pool": True},
        {"model.stem_pool": True, "model.stem": "whitening", "model.blocks": [1, 1, 1, 1, 1]},
    ],
    ids=str,
)
def test_ten_logits_an_image(diff: dict[str, object]) -> None:
    net = build_resnet(SMALL.override(diff).model, seed=0)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_same_seed_builds_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (build_resnet(SMALL.model, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_variants_share_every_parameter_of_equal_name_and_shape() -> None:
    plain = build_resnet(SMALL.override({"model.se.placement": "none"}).model, seed=3).state_dict()
    gated = build_resnet(SMALL.model, seed=3).state_dict()
    assert set(plain) < set(gated)
    assert all(torch.equal(plain[name], gated[name]) for name in plain)


def test_weights_have_pytorchs_default_distribution() -> None:
    torch.manual_seed(0)
    for ours, theirs in (
        (
            build_resnet(RESNET18.model, seed=0).get_submodule("layer3.0.conv2"),
            torch.nn.Conv2d(256, 256, 3, bias=False),
        ),
        (build_resnet(RESNET18.model, seed=0).classifier, torch.nn.Linear(512, 10)),
    ):
        a, b = ours.get_parameter("weight"), theirs.get_parameter("weight")
        assert a.std().item() == pytest.approx(b.std().item(), rel=0.03)
        assert a.abs().max().item() == pytest.approx(b.abs().max().item(), rel=0.01)


def test_a_stem_that_pools_passes_on_the_greatest_of_each_four_and_has_no_weights_of_its_own() -> None:
    plain, pools = (build_resnet(SMALL.override({"model.stem_pool": pool}).model, seed=1) for pool in (False, True))
    assert {name: w.shape for name, w in plain.state_dict().items()} == {
        name: w.shape for name, w in pools.state_dict().items()
    }
    seen = list[torch.Tensor]()
    pools.bn1.register_forward_hook(lambda module, given, out: seen.append(given[0].detach()))
    images = torch.randn(2, 3, 32, 32)
    pools(images)
    full = plain.conv1(images).detach()
    corners = [full[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    assert torch.equal(seen[0], torch.stack(corners).amax(dim=0))


def test_se_sits_after_the_stem_or_in_every_block() -> None:
    def places(placement: str) -> int:
        net = build_resnet(SMALL.override({"model.se.placement": placement}).model, seed=0)
        return sum(isinstance(module, SEBlock) for module in net.modules())

    assert [places(p) for p in ("none", "stem", "block")] == [0, 1, 11]


def test_se_is_the_papers_formula() -> None:
    se = SEBlock(6, 2)
    x = torch.randn(3, 6, 5, 5)
    z = x.numpy().mean(axis=(2, 3))
    w1, b1 = se.squeeze.weight.detach().numpy()[:, :, 0, 0], se.squeeze.bias.detach().numpy()  # type: ignore[union-attr]
    w2, b2 = se.excite.weight.detach().numpy()[:, :, 0, 0], se.excite.bias.detach().numpy()  # type: ignore[union-attr]
    hidden = (z @ w1.T + b1).clip(min=0)
    gates = 1 / (1 + 2.718281828459045 ** -(hidden @ w2.T + b2))
    torch.testing.assert_close(se(x).detach(), x * torch.from_numpy(gates)[:, :, None, None].float())


def test_narrow_networks_take_a_step_on_several_threads() -> None:
    """An odd number of images and several threads, for which oneDNN corrupts memory in narrow channels_last layers."""
    code = """
import torch
from cifar_lab.config.baselines import RESNET18
from cifar_lab.models.resnet import build_resnet
torch.set_num_threads(2)
for width in (4, 8, 12, 16):
    net = build_resnet(RESNET18.override({"model.width": width, "model.blocks": [1, 1]}).model, seed=0)
    for _ in range(3):
        net(torch.randn(9, 3, 32, 32).contiguous(memory_format=torch.channels_last)).sum().backward()
"""
    checked = {**os.environ, "MALLOC_CHECK_": "3"}
    done = subprocess.run([sys.executable, "-c", code], env=checked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
