"""Recognise the original CIFAR-10 images (Krizhevsky, 2009) in any file format.

The six batches of the binary archive have published md5 sums. Batches are reconstructed from decoded pixels and labels
and compared with them, so pickles, binary batches, parquet files, arrays and folders of PNG files are treated alike.
Recognised images are put into the order of the batches and get one name, one kind and one content hash.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_lab.data.dataset import ImageArrays, Images, Labels

NAME, NAME_100 = "CIFAR-10", "CIFAR-100"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""Class names in the order of the labels 0 … 9."""

RECORD = 3073
"""Bytes of one image in a binary batch: its label, then its red, green and blue plane, rows first."""

TRAIN_MD5 = (
    "5dd7e06a14cb22eb9f671a540d1b7c25",
    "5ea93a67294ea407fff1d09f752e9692",
    "942cd6a4bcdd0dd3c604fbe906cb4421",
    "ae636b3ba5c66a11e91e8cb52e771fcb",
    "53f37980c15c3d472c316c40844f3f0d",
)
"""md5 of `data_batch_1.bin` … `data_batch_5.bin`, 10,000 records each, as public build files pin them."""
TEST_MD5 = "803d5f7f4d78ea53de84dbe85f74fb6d"
"""md5 of `test_batch.bin`."""

PYTHON_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
"""md5 of the files in `cifar-10-batches-py`, as torchvision enforces them."""
CIFAR100_MD5 = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
"""md5 of the files in `cifar-100-python`, as torchvision enforces them."""


def md5(data: bytes | memoryview) -> str:
    """Return the md5 of `data`, 32 hex digits; for identification, not for security."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def records(images: Images, labels: Labels) -> NDArray[np.uint8]:
    """Return (N, 3073) bytes, the records of a binary batch, for images (N, 32, 32, 3) and labels (N,)."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), RECORD - 1)
    return np.concatenate([labels[:, None].astype(np.uint8), planes], axis=1)


def in_order(
    arrays: ImageArrays, train_rank: Labels | None = None, test_rank: Labels | None = None
) -> ImageArrays | None:
    """Return the original images in the order of their batches, or None if `arrays` holds other images.

    Args:
        arrays: images in any order of the five training batches, or in any order at all if ranks are given.
        train_rank: (N,) numbers, e.g. from the names of files, by which the training images can be sorted.
        test_rank: the same for the test images.
    """
    if not _has_shape(arrays) or len(arrays.train_labels) != len(TRAIN_MD5) * len(arrays.test_labels):
        return None
    if (sorted_arrays := _batches_sorted(arrays)) is not None:
        return sorted_arrays
    if train_rank is None or test_rank is None:
        return None
    train, test = np.argsort(train_rank, kind="stable"), np.argsort(test_rank, kind="stable")
    return _batches_sorted(
        ImageArrays(
            train_images=arrays.train_images[train],
            train_labels=arrays.train_labels[train],
            test_images=arrays.test_images[test],
            test_labels=arrays.test_labels[test],
        )
    )


def same_images(arrays: ImageArrays, reference: ImageArrays) -> bool:
    """Tell whether both hold the same labelled images in each split, in any order."""
    if not _has_shape(arrays):
        return False
    pairs = (
        ((arrays.test_images, arrays.test_labels), (reference.test_images, reference.test_labels)),
        ((arrays.train_images, arrays.train_labels), (reference.train_images, reference.train_labels)),
    )
    return all(len(a[1]) == len(b[1]) and np.array_equal(_sorted_rows(*a), _sorted_rows(*b)) for a, b in pairs)


def _has_shape(arrays: ImageArrays) -> bool:
    """Tell whether these are 32×32 images with labels below ten."""
    most = max(arrays.train_labels.max(initial=0), arrays.test_labels.max(initial=0))
    return arrays.train_images.shape[1:] == (32, 32, 3) and most < len(CLASSES)


def _batches_sorted(arrays: ImageArrays) -> ImageArrays | None:
    """Return `arrays` with the five training batches in their order; None if any batch is not an original one."""
    if md5(records(arrays.test_images, arrays.test_labels).data) != TEST_MD5:
        return None
    rows = len(arrays.test_labels)
    batches = [slice(start, start + rows) for start in range(0, len(arrays.train_labels), rows)]
    by_sum = {md5(records(arrays.train_images[b], arrays.train_labels[b]).data): b for b in batches}
    if set(by_sum) != set(TRAIN_MD5):
        return None
    order = [by_sum[digest] for digest in TRAIN_MD5]
    if order == batches:
        return arrays
    return arrays._replace(
        train_images=np.concatenate([arrays.train_images[b] for b in order]),
        train_labels=np.concatenate([arrays.train_labels[b] for b in order]),
    )


def _sorted_rows(images: Images, labels: Labels) -> NDArray[Any]:
    """Return the records as sorted byte strings, (N,)."""
    rows = np.ascontiguousarray(records(images, labels))
    return np.sort(rows.view(f"S{RECORD}").ravel())
