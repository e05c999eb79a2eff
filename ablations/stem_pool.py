"""Pooling in the stem, with the saved computation spent on channels or not.

Source: Jordan (2024, arXiv:2404.00498), whose network pools after its first convolution and so works at resolutions
of 16×16 and less; the writeup's networks have their first layer at 32×32. Ours: one block per layer, in the fast
recipe. `pooled` has a quarter of the MACs of `full`, apart from its stem; `pooled_wide` has twice the channels, and
about the MACs of `full`.

Run time: 2 to 6 PFLOP a cell, 9 cells; `cifar-lab plan stem_pool` says what that is on your machine.
"""

from cifar_lab import FAST, Ablation, Variant

ABLATION = Ablation(
    question="Should the stem pool, and its savings be spent on channels?",
    source="Jordan (2024), on a network of the writeup's family",
    baseline=FAST.override({"model.blocks": (1, 1, 1), "model.width": 48}),
    factors=("model.stem_pool", "model.width"),
    variants=(
        Variant(name="full"),
        Variant(name="pooled", diff={"model.stem_pool": True}),
        Variant(name="pooled_wide", diff={"model.stem_pool": True, "model.width": 96}),
    ),
    control="full",
)
