"""The parts of a data set: what a training sees, holds out and leaves out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cifar_lab.config.recipe import DataConfig, Recipe
from cifar_lab.data import synthetic
from cifar_lab.data.dataset import Dataset
from cifar_lab.data.splits import split, training_index


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic.generate()


@pytest.mark.parametrize("protocol", ["holdout", "writeup"])
@pytest.mark.parametrize("fraction", [0.5, 0.2])
def test_a_fraction_of_each_class_is_trained_on(dataset: Dataset, protocol: str, fraction: float) -> None:
    everything = training_index(dataset, DataConfig(), protocol)
    some = training_index(dataset, DataConfig(train_fraction=fraction), protocol)
    assert set(some) < set(everything)
    assert list(some) == sorted(set(some))
    counted = np.bincount(dataset.train_labels[some])
    assert list(counted) == [round(n * fraction) for n in np.bincount(dataset.train_labels[everything])]


def test_a_smaller_fraction_is_part_of_a_larger_one(dataset: Dataset) -> None:
    tenth, half = (set(training_index(dataset, DataConfig(train_fraction=f), "holdout")) for f in (0.1, 0.5))
    assert tenth < half


def test_another_split_seed_draws_other_images(dataset: Dataset) -> None:
    drawn = [training_index(dataset, DataConfig(train_fraction=0.5, split_seed=s), "writeup") for s in (0, 1)]
    assert set(drawn[0]) != set(drawn[1])


def test_one_image_of_each_class_is_left(dataset: Dataset) -> None:
    few = training_index(dataset, DataConfig(train_fraction=1e-6), "holdout")
    assert list(dataset.train_labels[few][np.argsort(dataset.train_labels[few])]) == list(range(len(dataset.classes)))


def test_val_stays_and_clean_images_are_trained_on(dataset: Dataset) -> None:
    whole, part = (split(dataset, DataConfig(train_fraction=f), "holdout", torch.device("cpu")) for f in (1.0, 0.3))
    assert torch.equal(whole.watched.index, part.watched.index)
    assert set(part.clean_train.index.tolist()) <= set(part.train.index.tolist())
    assert not set(part.train.index.tolist()) & set(part.watched.index.tolist())
    assert len(part.clean_train) <= len(part.train) < len(whole.train)


def test_all_images_is_the_training_of_before() -> None:
    plain = Recipe()
    assert plain.override({"data.train_fraction": 1.0}).digest() == plain.digest()
    assert plain.override({"data.train_fraction": 0.5}).digest() != plain.digest()


def test_under_writeup_the_split_seed_counts_only_where_it_draws() -> None:
    everything = Recipe().override({"train.protocol": "writeup"})
    half = everything.override({"data.train_fraction": 0.5})
    assert everything.override({"data.split_seed": 3}).digest() == everything.digest()
    assert half.override({"data.split_seed": 3}).digest() != half.digest()
