"""A small CIFAR-10 in every form that others keep it in: twenty images a batch, written as those tools write it."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_lab.data import original_images
from cifar_lab.data.dataset import ImageArrays

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
ROWS = 20


@dataclass
class Small:
    """Images, and what each batch holds of them."""

    arrays: ImageArrays
    planes: dict[str, np.ndarray]
    """Batches by name, (20, 3072) each: red plane, green plane, blue plane."""
    labels: dict[str, list[int]]


def small(seed: int = 0) -> Small:
    """Twenty images of noise a batch, two of each class."""
    rng = np.random.default_rng(seed)
    planes = {name: rng.integers(0, 256, (ROWS, 3072), dtype=np.uint8) for name in BATCHES}
    labels = {name: rng.permutation([*range(10)] * 2).tolist() for name in BATCHES}
    pixels = {name: p.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for name, p in planes.items()}
    arrays = ImageArrays(
        np.ascontiguousarray(np.concatenate([pixels[name] for name in BATCHES[:5]])),
        np.array([label for name in BATCHES[:5] for label in labels[name]]),
        np.ascontiguousarray(pixels["test_batch"]),
        np.array(labels["test_batch"]),
    )
    return Small(arrays, planes, labels)


def binary(data: Small, name: str) -> bytes:
    """A binary batch: label, planes, label, planes, …"""
    return b"".join(bytes([y]) + x.tobytes() for x, y in zip(data.planes[name], data.labels[name], strict=True))


def as_original(data: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let these images count as the original ones: their sums take the place of the published ones."""
    sums = [hashlib.md5(binary(data, name), usedforsecurity=False).hexdigest() for name in BATCHES]
    monkeypatch.setattr(original_images, "TRAIN_MD5", tuple(sums[:5]))
    monkeypatch.setattr(original_images, "TEST_MD5", sums[5])


def python_folder(data: Small, root: Path, *, protocol: int = 2, keys: type = str) -> Path:
    """`cifar-10-batches-py`, pickled as Python 3 does."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def key(text: str) -> str | bytes:
        return text if keys is str else text.encode()

    for name in BATCHES:
        content = {key("data"): data.planes[name], key("labels"): data.labels[name], key("filenames"): [b"a.png"]}
        (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
    meta = {key("label_names"): [key(label) for label in CLASSES], key("num_vis"): 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=protocol))
    (folder / "readme.html").write_text("<html></html>")
    return folder


def binary_folder(data: Small, root: Path) -> Path:
    """`cifar-10-batches-bin`."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name in BATCHES:
        (folder / f"{name}.bin").write_bytes(binary(data, name))
    (folder / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n\n")
    return folder


def packed(folder: Path, path: Path, mode: str = "w:gz") -> Path:
    """The folder in a tar archive."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, folder.name)
    return path


def parquet_folder(data: Small, root: Path, *, order: tuple[int, ...] = (3, 2, 1, 4, 0), names: bool = True) -> Path:
    """The hub's parquet files, the training batches in the order in which they lie in the author's archive."""
    import pyarrow as pa
    from pyarrow import parquet

    root.mkdir(parents=True, exist_ok=True)
    train = np.concatenate([np.arange(ROWS * b, ROWS * (b + 1)) for b in order])
    a = data.arrays
    for split, images, labels in (
        ("train", a.train_images[train], a.train_labels[train]),
        ("test", a.test_images, a.test_labels),
    ):
        table = pa.table({"img": [{"bytes": png(i), "path": None} for i in images], "label": labels})
        info = {"info": {"features": {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)} if names else None)
        parquet.write_table(table, root / f"{split}-00000-of-00001.parquet")
    return root


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def npz(data: Small, path: Path) -> Path:
    """Write an npz as Keras users do: labels of shape (N, 1)."""
    a = data.arrays
    np.savez_compressed(
        path, x_train=a.train_images, y_train=a.train_labels[:, None].astype(np.uint8),
        x_test=a.test_images, y_test=a.test_labels[:, None].astype(np.uint8),
    )  # fmt: skip
    return path


def class_folder(data: Small, root: Path, *, numbered: bool = True) -> Path:
    """`train/<class>/<number>_<class>.png`; numbered by position, else within the class."""
    a = data.arrays
    for split, images, labels in (
        ("train", a.train_images, a.train_labels), ("test", a.test_images, a.test_labels),
    ):  # fmt: skip
        seen = [0] * 10
        for position, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = root / split / CLASSES[label]
            place.mkdir(parents=True, exist_ok=True)
            number = position if numbered else seen[label]
            seen[label] += 1
            (place / f"{number}_{CLASSES[label]}.png").write_bytes(png(image))
    return root


def kaggle_folder(data: Small, root: Path) -> Path:
    """Kaggle's: train/1.png …, trainLabels.csv, and test images without labels."""
    (root / "train").mkdir(parents=True)
    (root / "test").mkdir()
    lines = ["id,label"]
    for number, (image, label) in enumerate(zip(data.arrays.train_images, data.arrays.train_labels, strict=True), 1):
        (root / "train" / f"{number}.png").write_bytes(png(image))
        lines.append(f"{number},{CLASSES[label]}")
    (root / "trainLabels.csv").write_text("\n".join(lines) + "\n")
    (root / "test" / "1.png").write_bytes(png(data.arrays.test_images[0]))
    return root


@dataclass
class Small100:
    """A small CIFAR-100: the arrays of its two batches, two training images and one test image of each class."""

    planes: dict[str, np.ndarray]
    fine: dict[str, list[int]]
    names: tuple[str, ...]


def small_100(seed: int = 0) -> Small100:
    """A hundred classes of noise."""
    rng = np.random.default_rng(seed)
    fine = {"train": rng.permutation([*range(100)] * 2).tolist(), "test": rng.permutation(100).tolist()}
    planes = {name: rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8) for name, labels in fine.items()}
    return Small100(planes, fine, tuple(f"class {number:02}" for number in range(100)))


def folder_100(data: Small100, root: Path) -> Path:
    """`cifar-100-python`, pickled as the author's Python 2 did: bytes as keys."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, labels in data.fine.items():
        coarse = [label // 5 for label in labels]
        content = {b"data": data.planes[name], b"fine_labels": labels, b"coarse_labels": coarse, b"batch_label": b"x"}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    meta = {b"fine_label_names": [name.encode() for name in data.names], b"coarse_label_names": [b"c"] * 20}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    return folder


def as_original_100(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files of this folder count as the original ones: their sums take the place of the published ones."""
    sums = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in ("train", "test", "meta")}
    monkeypatch.setattr(original_images, "CIFAR100_MD5", sums)


def sized_folder(root: Path, *, classes: int, side: int, train: int = 4, test: int = 2) -> Path:
    """`train/<class>/<number>.png` and test alike: noise of any number of classes and any side."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for label in range(classes):
            folder = root / split / f"kind{label:03}"
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.png").write_bytes(png(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)))
    return root
