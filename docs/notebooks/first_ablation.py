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
# API works and says nothing about CIFAR-10. It takes less than a minute on two cores. Open it with
# [jupytext](https://jupytext.readthedocs.io), or in an editor that knows `# %%` cells.

# %%
import torch

import cifar_lab
from cifar_lab import EFFICIENT_RESNET, Ablation, Variant
from cifar_lab.data import load

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
plan = cifar_lab.plan(smoothing, scale="smoke", runs="runs")
plan

# %%
result = cifar_lab.run(smoothing, scale="smoke", runs="runs", offline=True)
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
cells = cifar_lab.load_runs(runs="runs").to_frame()
means = cells.groupby("train.label_smoothing")["test/acc"].mean()
means

# %% [markdown]
# ## One cell
#
# Its curve, its logits on the test images, and the network with its trained weights, in evaluation mode.

# %%
cell = cifar_lab.load_cell(result.fingerprints["ls10/s0"], runs="runs")
cell.to_frame()[["epoch", "train/loss", "val/acc"]]

# %%
logits, labels = cell.logits()
images = load("synthetic").test_images[:100]
with torch.no_grad():
    predicted = cell.network()(cell.prepare(images)).argmax(dim=1)
agreement = float((predicted.numpy() == logits[:100].argmax(axis=1)).mean())
agreement
