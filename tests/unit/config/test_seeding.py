"""Random streams: one for each purpose, stable for ever."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cifar_lab.config.seeding import seed_of_draws, stream

GOLDEN_ORDER = 3_955_691_223_199_900_983
GOLDEN_INIT = 2_076_689_273_549_690_902
PART = st.integers(0, 10**6) | st.text("abcdefghijklmnopqrstuvwxyz_.", min_size=1, max_size=12)


@given(st.integers(0, 2**40), st.lists(PART, max_size=3))
def test_a_stream_is_an_integer_that_torch_and_numpy_take(seed: int, purpose: list[str | int]) -> None:
    made = stream(seed, *purpose)
    assert made == stream(seed, *purpose)
    assert 0 <= made < 2**63
    np.random.default_rng(made)


@given(st.tuples(st.integers(0, 99), PART, PART), st.tuples(st.integers(0, 99), PART, PART))
def test_another_seed_purpose_or_epoch_is_another_stream(
    one: tuple[int, str, int], other: tuple[int, str, int]
) -> None:
    same = [str(part) for part in one] == [str(part) for part in other]
    assert (stream(*one) == stream(*other)) == same


def test_parts_are_kept_apart() -> None:
    ways = [
        (1, "ab", "c"),
        (1, "a", "bc"),
        (1, "abc"),
        (11, "abc"),
        (1, 1, "abc"),
        (1, "crop", 12),
        (1, "crop", 1, 2),
    ]
    assert len({stream(*way) for way in ways}) == len(ways)


def test_streams_look_independent() -> None:
    """Check that the first draws of many streams are spread evenly over the tenths of [0, 1)."""
    draws = [np.random.default_rng(stream(seed, p, e)).random() for seed in range(5) for p in "ab" for e in range(100)]
    counts = np.histogram(draws, bins=10, range=(0, 1))[0]
    assert abs(counts - 100).max() < 4 * np.sqrt(100 * 0.9)


def test_golden_streams() -> None:
    """A change here moves every training: raise `recipe.NUMERICS`."""
    assert (stream(0, "order", 0), stream(1, "init", "stem.conv.weight")) == (GOLDEN_ORDER, GOLDEN_INIT)


def test_a_stream_is_the_same_in_every_process() -> None:
    program = "from cifar_lab.config.seeding import stream; print(stream(0, 'order', 0))"
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    said = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
    assert int(said) == GOLDEN_ORDER


def test_a_training_that_continues_another_draws_anew_and_each_stage_of_a_chain_for_itself() -> None:
    assert seed_of_draws(3, None) == 3
    drawn = {seed_of_draws(seed, parent) for seed in (0, 1) for parent in (None, "a" * 64, "b" * 64)}
    assert len(drawn) == 6
