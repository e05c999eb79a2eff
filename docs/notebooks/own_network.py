# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own network, optimizer and data set
#
# A network of your own against a baseline of the project, with your own optimizer as a second factor, on images of
# your own. Nothing is registered and no package is needed: a file beside the notebook is enough. It takes a
# minute or two on two cores, and says nothing about CIFAR-10: the images are noise with stripes.

# %%
import subprocess
import sys
from importlib.util import find_spec

SOURCE = "cifar-lab"  # a checkout or a wheel, where cifar-lab is missing

if find_spec("cifar_lab") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SOURCE], check=True)

# %% [markdown]
# ## Write the parts
#
# Cells are trained in processes of their own, which import your parts by name; so they stand in a file in the current
# folder and not in a cell of the notebook. The file's hash is part of each cell's identity: change it, and the cells
# that use it are trained anew. [What each kind of part gets and returns](../extending.md).

# %%
from pathlib import Path

PARTS = '''"""A network, an optimizer and a data set of our own."""

import numpy as np
import torch
from torch import Tensor, nn

from cifar_lab.data.dataset import ImageArrays


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W) -> (N, C)
        return x.mean(dim=(2, 3))


def patches(*, classes: int, width: int = 32, patch: int = 4) -> nn.Module:
    """Return a network that maps images, (N, 3, side, side), to logits, (N, classes)."""
    embed = nn.Conv2d(3, width, patch, stride=patch)
    mix = nn.Conv2d(width, width, 3, padding=1)
    return nn.Sequential(embed, nn.BatchNorm2d(width), nn.GELU(), mix, nn.GELU(), Mean(), nn.Linear(width, classes))


class Signs(torch.optim.Optimizer):
    """Steps of one size, in the direction of the sign of a momentum."""

    def __init__(self, params, lr: float, weight_decay: float = 0.0, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - group["momentum"])
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(mean.sign(), alpha=group["lr"])


def stripes(*, classes: int = 4, side: int = 16, count: int = 100) -> tuple[tuple[str, ...], ImageArrays]:
    """Return class names, and images (N, side, side, 3) uint8 with labels (N,) int64 of both splits."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(classes), count)
    rows = np.arange(side)[None, :, None, None] % (labels + 2)[:, None, None, None] == 0
    noise = rng.integers(0, 175, (2, len(labels), side, side, 3))
    train, test = (noise + 80 * rows).astype(np.uint8)
    return tuple(f"period {c + 2}" for c in range(classes)), ImageArrays(train, labels, test, labels)
'''
_ = Path("own_parts.py").write_text(PARTS)

# %% [markdown]
# ## Check the parts
#
# `cifar_lab.testing` asks of each part what the laboratory needs of it: equal weights for equal seeds, state that
# survives a checkpoint, resuming bit by bit.

# %%
import cifar_lab
from cifar_lab import EFFICIENT_RESNET, Ablation, Variant, testing

testing.check_model("own_parts:patches", {"width": 24})
testing.check_optimizer("own_parts:Signs")
testing.check_dataset("own_parts:stripes")

# %% [markdown]
# ## Compare
#
# The control is a small ResNet. The third variant is the second with another optimizer (`base`).

# %%
OWN = {"model.name": "own_parts:patches", "model.options": {"width": 24}}
own = Ablation(
    name="own_network",
    question="Is a network of patches better than a small ResNet, and does it want another optimizer?",
    source="a hunch",
    baseline=EFFICIENT_RESNET.override({"model.blocks": [1, 1], "model.width": 16, "train.batch_size": 32}),
    factors=("model.name", "model.options", "optim.name", "optim.lr"),
    variants=(
        Variant(name="resnet"),
        Variant(name="patches", diff=OWN),
        Variant(name="patches_signs", base="patches", diff={"optim.name": "own_parts:Signs", "optim.lr": 0.002}),
    ),
    control="resnet",
    seeds=(0, 1, 2),
)
asked = {"scale": "smoke", "data": "own_parts:stripes?count=200", "overrides": {"train.epochs": 3}, "runs": "runs"}
result = cifar_lab.run(own, **asked, offline=True)
result

# %% [markdown]
# Accuracy stands beside cost: `parameters` and `macs` of your network are counted without training it.

# %%
frame = result.to_frame()
frame[["variant", "against", "n", "mean", "difference", "verdict", "parameters", "macs"]]

# %% [markdown]
# ## Change a part
#
# A changed file gives the cells that use it another identity; the ResNet's cells are reused. This process has imported
# the old code, though, so it refuses to go on with the new file: restart the kernel and run the notebook from the top.

# %%
from cifar_lab.errors import UsageError

Path("own_parts.py").write_text(PARTS.replace("nn.GELU()", "nn.ReLU()"))
try:
    cifar_lab.plan(own, **asked)
    refused = ""
except UsageError as error:
    refused = str(error)
_ = Path("own_parts.py").write_text(PARTS)
print(refused)
