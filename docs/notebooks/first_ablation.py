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
# # A first ablation
#
# One baseline, one factor, two variants, three seeds, on images that the program draws itself: it shows how the
# API works and says nothing about CIFAR-10. It takes a minute or two on two cores, and the installation a few more on
# Colab or Kaggle, with or without a GPU. [How to open it there, and in Jupyter](../notebook-services.md).

# %% [markdown]
# ## Install
#
# On a hosted notebook cifar-lab is missing. It is on no package index yet, so this installs it from `SOURCE`: the
# folder of a checkout, or a wheel that `python -m build --wheel` wrote there and you uploaded. Where it is installed
# already, nothing happens.

# %%
import subprocess
import sys
from importlib.util import find_spec

SOURCE = "cifar-lab"  # or "cifar_lab-0.1.0-py3-none-any.whl", or a path below /kaggle/input

if find_spec("cifar_lab") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SOURCE], check=True)

# %%
import torch

import cifar_lab
from cifar_lab import EFFICIENT_RESNET, Ablation, Variant
from cifar_lab.data import load

RUNS = "runs"  # on a hosted notebook a folder that outlives the session: see "After a disconnect" below

# %% [markdown]
# ## Declare
#
# A variant is a minimal difference from the baseline. Misspelt paths, values out of range and variants that change
# anything but the declared factors are refused here, before anything is trained.

# %%
smoothing = Ablation(
    name="smoothing",
    question="Does label smoothing help a small network?",
    source="a hunch",
    baseline=EFFICIENT_RESNET.override({"model.blocks": [1, 1], "model.width": 32}),
    factors=("train.label_smoothing",),
    variants=(
        Variant(name="off"),
        Variant(name="ls10", diff={"train.label_smoothing": 0.1}),
    ),
    control="off",
)

# %% [markdown]
# ## Plan and train
#
# `plan` times a few steps and trains nothing. `run` trains what is missing: call it again, and it trains nothing.
# Without `offline=True` the cells are logged to MLflow as well.

# %%
plan = cifar_lab.plan(smoothing, scale="smoke", runs=RUNS)
plan

# %%
result = cifar_lab.run(smoothing, scale="smoke", runs=RUNS, offline=True)
result

# %% [markdown]
# ## Look
#
# Differences are paired by seed; the intervals of a table hold together. A data frame has every number unrounded.

# %%
result.plot()

# %%
frame = result.to_frame()
frame[["variant", "n", "mean", "std", "difference", "interval_low", "interval_high", "verdict"]]

# %% [markdown]
# ## All cells
#
# One row for each cell, with its metrics and every field of its recipe: ready for `groupby`.

# %%
cells = cifar_lab.load_runs(runs=RUNS).to_frame()
means = cells.groupby("train.label_smoothing")["test/acc"].mean()
means

# %% [markdown]
# ## One cell
#
# Its curve, its logits on the test images, and the network with its trained weights, in evaluation mode.

# %%
cell = cifar_lab.load_cell(result.fingerprints["ls10/s0"], runs=RUNS)
cell.to_frame()[["epoch", "train/loss", "val/acc"]]

# %%
logits, labels = cell.logits()
images = load("synthetic").test_images[:100]
with torch.no_grad():
    predicted = cell.network()(cell.prepare(images)).argmax(dim=1)
agreement = float((predicted.numpy() == logits[:100].argmax(axis=1)).mean())
agreement

# %% [markdown]
# ## After a disconnect
#
# A cell is saved epoch by epoch, and a finished one is never trained again. So where a session ended, run the notebook
# again from the top with the same `RUNS`: what is there is reused, an unfinished cell goes on from its last
# checkpoint, and the numbers are those of an unbroken run. For that, `RUNS` must lie on a disk that outlives the
# machine: a mounted drive on Colab, `/kaggle/working` on Kaggle ([what happens to locks, and how to stop in
# time](../notebook-services.md)).

# %%
again = cifar_lab.run(smoothing, scale="smoke", runs=RUNS, offline=True)
again.trained, again.reused
