"""Folders and zips of train/<class>/* and test/<class>/* become arrays. Bad ones are in tests/faults."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made.real_images import REAL
from PIL import Image, ImageOps

from cifar_lab.data import load, sources

Zipped = Callable[..., Path]


def encoded(image: Image.Image, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, **how)
    return file.getvalue()


def noise(*shape: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))


def test_a_folder_becomes_sorted_arrays(folder: Path) -> None:
    data = sources.read_source(folder)

    assert (data.name, data.kind) == ("pictures", "path")
    assert data.classes == tuple(sorted(path.name for path in (folder / "train").iterdir()))
    assert (data.train_images.shape, data.test_images.shape) == ((30, 32, 32, 3), (20, 32, 32, 3))
    assert data.train_images.dtype == np.uint8
    assert data.train_labels.dtype == np.int64
    assert data.train_labels.tolist() == sorted([*range(10)] * 3)
    assert data.test_labels.tolist() == sorted([*range(10)] * 2)


def test_pixels_are_those_of_the_files_in_the_order_of_their_names(folder: Path) -> None:
    data = sources.read_source(folder)

    for image, path in zip(data.train_images, sorted((folder / "train").glob("*/*")), strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(path)))


def test_a_zip_holds_the_same_data_as_its_folder(folder: Path, zipped: Zipped) -> None:
    from_zip = sources.read_source(zipped(folder))

    assert from_zip.name == "pictures"
    assert from_zip.hash == sources.read_source(folder).hash


def test_a_zip_may_have_one_top_folder(folder: Path, zipped: Zipped) -> None:
    assert sources.read_source(zipped(folder, top="cifar/")).hash == sources.read_source(folder).hash


def test_hidden_files_and_what_lies_beside_the_splits_are_passed_over(folder: Path, zipped: Zipped) -> None:
    before = sources.read_source(folder).hash
    for name in (
        "README.md",
        ".DS_Store",
        "val/x.txt",
        "train/.DS_Store",
        "train/cat/._0.png",
        "test/.git/config",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("not an image")
    (folder / "__MACOSX" / "train" / "cat").mkdir(parents=True)
    (folder / "__MACOSX" / "train" / "cat" / "0.png").write_text("not an image")

    assert sources.read_source(folder).hash == before
    assert sources.read_source(zipped(folder)).hash == before


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_other_8_bit_modes_become_rgb(folder: Path, mode: str) -> None:
    image = noise(32, 32, 4).convert("RGB").convert(mode)
    image.save(folder / "train" / "airplane" / "0.png")

    np.testing.assert_array_equal(sources.read_source(folder).train_images[0], np.asarray(image.convert("RGB")))


def test_a_palette_with_alpha_becomes_rgb_without_a_warning(folder: Path) -> None:
    image = noise(32, 32, 3).convert("P", palette=Image.Palette.ADAPTIVE)
    image.save(folder / "train" / "airplane" / "0.png", transparency=b"\xff" * 256)

    np.testing.assert_array_equal(sources.read_source(folder).train_images[0], np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"quality": 30, "subsampling": 2}, {"comment": "a cat"}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_has_the_pixels_that_pillow_finds(folder: Path, mode: str, how: dict[str, Any]) -> None:
    data = encoded(noise(32, 32, 3).convert(mode), format="JPEG", **how)
    (folder / "train" / "airplane" / "0.png").unlink()
    (folder / "train" / "airplane" / "0.JPeG").write_bytes(data)

    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(sources.read_source(folder).train_images[0], expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_in_the_metadata_is_applied(folder: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(noise(32, 32, 3), format=kind, exif=exif)
    (folder / "train" / "airplane" / "0.png").write_bytes(data)

    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(sources.read_source(folder).train_images[0], np.asarray(expected))


def test_an_opaque_alpha_changes_nothing(folder: Path) -> None:
    image = noise(32, 32, 3)
    image.convert("RGBA").save(folder / "train" / "airplane" / "0.png")
    image.convert("RGBA").save(folder / "train" / "airplane" / "1.webp", lossless=True)
    data = sources.read_source(folder)

    np.testing.assert_array_equal(data.train_images[0], np.asarray(image))
    np.testing.assert_array_equal(data.train_images[2], np.asarray(image))


def test_content_counts_and_the_ending_does_not(folder: Path) -> None:
    before = sources.read_source(folder).hash
    (folder / "train" / "cat" / "0.png").rename(folder / "train" / "cat" / "0.JPG")

    assert sources.read_source(folder).hash == before


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_second_load_decodes_nothing(
    folder: Path, zipped: Zipped, form: str, cache_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(folder if form == "folder" else zipped(folder))
    said: list[str] = []
    first = load(source, say=said.append)
    monkeypatch.setattr(sources, "read_source", lambda *_, **__: pytest.fail("decoded again"))
    second = load(source, say=said.append)

    assert said == ["decoding 50 images of pictures, once"]
    assert first.hash == second.hash
    assert isinstance(second.train_images, np.memmap)


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_changed_file_is_decoded_again(folder: Path, zipped: Zipped, form: str, cache_root: Path) -> None:
    def source() -> str:
        return str(folder if form == "folder" else zipped(folder))

    before = load(source()).hash
    noise(32, 32, 3).save(folder / "train" / "airplane" / "0.png")

    assert load(source()).hash != before


def test_two_sources_of_equal_names_are_two_entries(folder: Path, zipped: Zipped, cache_root: Path) -> None:
    assert sources.key(folder) != sources.key(zipped(folder))


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason=f"the real images are not at {REAL}; set CIFAR_LAB_TEST_ZIP")
def test_the_real_images_are_read_whole_and_once(cache_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    data = load(str(REAL), say=said.append)
    monkeypatch.setattr(sources, "read_source", lambda *_, **__: pytest.fail("decoded again"))
    again = load(str(REAL), say=said.append)

    assert said == [f"decoding 60,000 images of {REAL.stem}, once"]
    assert again.hash == data.hash
    assert " ".join(data.classes) == "airplane automobile bird cat deer dog frog horse ship truck"
    assert np.bincount(data.train_labels).tolist() == [5000] * 10
    assert np.bincount(data.test_labels).tolist() == [1000] * 10
    assert data.train_images.shape == (50000, 32, 32, 3)
    assert data.test_images.shape == (10000, 32, 32, 3)
    means = data.train_images[::50].mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(means, (0.4914, 0.4822, 0.4465), atol=0.02)  # CIFAR-10's channel means
