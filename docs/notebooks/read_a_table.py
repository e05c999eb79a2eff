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
# # Read a table
#
# What interval, verdict, margin and seeds say, by a study that is trained here on images that the program draws
# itself. It takes a few minutes on two cores, and says nothing about CIFAR-10.
# [All of it in words](../statistics.md).

# %%
import subprocess
import sys
from importlib.util import find_spec

SOURCE = "cifar-lab"  # a checkout or a wheel, where cifar-lab is missing

if find_spec("cifar_lab") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SOURCE], check=True)

# %% [markdown]
# ## A study with an obvious answer and a subtle one
#
# A learning rate that is 100 times too small must hurt. Whether a little label smoothing matters is anybody's guess.

# %%
import cifar_lab
from cifar_lab import EFFICIENT_RESNET, Ablation, Variant

rates = Ablation(
    name="rates",
    question="What do a tiny learning rate and a little label smoothing do?",
    source="a hunch",
    baseline=EFFICIENT_RESNET.override({"model.blocks": [1, 1], "model.width": 24}),
    factors=("optim.lr", "train.label_smoothing"),
    variants=(
        Variant(name="usual"),
        Variant(name="tiny_rate", diff={"optim.lr": 0.001}),
        Variant(name="smoothed", diff={"train.label_smoothing": 0.05}),
    ),
    control="usual",
    seeds=(0, 1, 2),
)
three = cifar_lab.run(rates, scale="smoke", runs="runs", offline=True)
three

# %% [markdown]
# ## Seeds
#
# A row has `n` trainings, one a seed. Variant and control of one seed share the order of the images, their crops and
# their equal-shaped initial weights, so they are compared seed by seed: **Δ is the mean of these differences**.

# %%
frame = three.to_frame().set_index("variant")
by_seed = frame[["differences_0", "differences_1", "differences_2"]]
by_hand = by_seed.mean(axis=1)
print(by_seed)
print(by_hand)

# %% [markdown]
# ## Interval
#
# The same study with other seeds would give another Δ. The interval says how far it may be from what very many seeds
# would give: in 95 % of studies *all* intervals of the table hold their true differences together. Half its width is a
# critical value times the deviation of the differences over √n. With few seeds one row's own deviation is a poor
# estimate, so it is shrunk towards the mean of all rows (`deviation`).

# %%
half = frame["critical"] * frame["deviation"] / frame["n"] ** 0.5
low, high = frame["difference"] - half, frame["difference"] + half
frame[["difference", "interval_low", "interval_high"]].assign(low=low, high=high)

# %% [markdown]
# ## Margin and verdict
#
# The margin is the difference that does not matter, stated before anyone looks. One rule decides, by the interval
# alone: *equivalent* if it lies within ± the margin, else *better* or *worse* if it excludes 0, else *undecided*.
# **Undecided is not equivalent**: it says that these seeds cannot tell.

# %%
margin = three.comparison.margin


def verdict(low: float, high: float) -> str:
    if -margin <= low and high <= margin:
        return "equivalent"
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


decided = {name: verdict(low[name], high[name]) for name in ("tiny_rate", "smoothed")}
print(f"margin: {100 * margin:g} points")
print(decided)
print(frame["verdict"])

# %%
three.plot()

# %% [markdown]
# ## What more seeds would do
#
# An interval shrinks as 1 / √n, and a little faster at first, as the critical value falls. Add seeds, and only the new
# cells are trained. **Do not add seeds until the verdict pleases you**: each look is another chance to err. Say the
# number beforehand, or let `cifar-lab run-ablation … --until-decided` look by a rule that accounts for it.

# %%
five = cifar_lab.run(rates, scale="smoke", seeds=range(5), runs="runs", offline=True)
more = five.to_frame().set_index("variant")
widths = {n: each["interval_high"] - each["interval_low"] for n, each in ((3, frame), (5, more))}
print(f"{five.trained} trained, {five.reused} reused")
print(100 * widths[3])
print(100 * widths[5])
five

# %% [markdown]
# ## Numbers made elsewhere
#
# `cifar-lab judge` gives the same intervals and verdicts for any table of variant, seed and value. Here it is given the
# accuracies from above, in per cent.

# %%
import csv
import json
from pathlib import Path

with Path("elsewhere.csv").open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["variant", "seed", "value"])
    for row in five.comparison.rows:
        table.writerows([row.variant, seed, 100 * value] for seed, value in row.values.items())

command = [sys.executable, "-m", "cifar_lab", "judge", "elsewhere.csv", "--control", "usual", "--margin", "2"]
print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
judged = json.loads(subprocess.run([*command, "--json"], check=True, capture_output=True, text=True).stdout)
