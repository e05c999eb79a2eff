"""Images without labels in every form that is read, and those that are refused."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from made.cifar_files import png
from PIL import Image

from cifar_lab.errors import DataError
from cifar_lab.inference.input_images import Fit, images_of_array, natural_key, read_images

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
PLANES = np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2)).reshape(12, 3072)


def _pickled(path: Path, content: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("data", [PLANES, PIXELS, PLANES.reshape(12, 3, 32, 32)], ids=["planes", "pixels", "channels"])
def test_a_competition_pickle_is_read(tmp_path: Path, data: np.ndarray, protocol: int) -> None:
    ids = np.arange(100, 112)
    given = read_images(_pickled(tmp_path / "test.pkl", {b"data": data, b"ids": ids}, protocol))
    assert np.array_equal(given.images, PIXELS)
    assert given.ids == tuple(str(id) for id in ids)
    assert given.has_own_ids
    plain = read_images(_pickled(tmp_path / "plain.pkl", {b"data": data}, protocol))
    assert plain.ids == tuple(map(str, range(12)))
    assert not plain.has_own_ids


class Hostile:
    """An object whose pickle calls a function."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/never",)


def test_a_pickle_that_wants_to_run_something_is_refused_by_its_name(tmp_path: Path) -> None:
    path = _pickled(tmp_path / "bad.pkl", {b"data": Hostile()})
    with pytest.raises(DataError, match=r"bad\.pkl.*it asks for '(posix|nt)\.system'"):
        read_images(path)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ([1, 2], "holds a list; expected a dictionary with 'data'"),
        ({b"labels": [1]}, "no array named 'data'; it holds 'labels'"),
        ({b"data": PLANES[:, :100]}, r"'data' is \(12, 100\) of uint8; expected \(N, 32, 32, 3\)"),
        ({b"data": PLANES.astype(np.int64)}, r"'data' is \(12, 3072\) of int64"),
        ({b"data": "text"}, "'data' is of the type str"),
        ({b"data": PLANES, b"ids": [1, 2]}, "12 images and 2 ids"),
        ({b"data": PLANES, b"ids": [7] * 12}, "12 images and 12 ids, 1 of them different"),
    ],
)
def test_a_pickle_of_another_form_is_refused(tmp_path: Path, content: object, rule: str) -> None:
    with pytest.raises(DataError, match=rule):
        read_images(_pickled(tmp_path / "odd.pkl", content))


def test_npz_files_are_read_by_the_names_of_their_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_test=PIXELS, ids=np.arange(12) + 5)
    assert read_images(tmp_path / "a.npz").ids[0] == "5"
    np.savez_compressed(tmp_path / "b.npz", PLANES)
    assert np.array_equal(read_images(tmp_path / "b.npz").images, PIXELS)
    np.savez(tmp_path / "c.npz", data=np.array([Hostile()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="pickled objects"):
        read_images(tmp_path / "c.npz")


@pytest.mark.parametrize("form", ["folder", "zip", "nested"])
def test_images_of_folders_and_zips_come_in_natural_order(tmp_path: Path, form: str) -> None:
    names = [f"{number}.png" for number in (1, 2, 3, 9, 10, 11, 20, 21, 100, 101, 110, 1000)]
    root = tmp_path / "images"
    place = root / "test" if form == "nested" else root
    place.mkdir(parents=True)
    for name, image in zip(names, PIXELS, strict=True):
        (place / name).write_bytes(png(image))
    (place / ".DS_Store").write_bytes(b"x")
    path = root
    if form == "zip":
        path = tmp_path / "images.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name in reversed(names):
                archive.write(place / name, f"images/{name}")
    given = read_images(path)
    assert given.ids == tuple(name.removesuffix(".png") for name in names)
    assert np.array_equal(given.images, PIXELS)


def test_names_that_are_no_numbers_are_ids_as_they_are(tmp_path: Path) -> None:
    for name in ("b10.png", "b9.png", "a1.png"):
        (tmp_path / name).write_bytes(png(PIXELS[0]))
    assert read_images(tmp_path).ids == ("a1.png", "b9.png", "b10.png")
    one = read_images(tmp_path / "b9.png")
    assert one.ids == ("b9",)
    assert len(one) == 1


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no images in it"):
        read_images(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"'notes.txt' is not an image by its name; expected \.png"):
        read_images(tmp_path)
    with pytest.raises(DataError, match=r"it starts with b'x'; expected a pickle or npz"):
        read_images(tmp_path / "notes.txt")


@pytest.mark.parametrize("resize", [False, True])
def test_files_beside_the_images_are_left_out_and_said_so(tmp_path: Path, resize: bool) -> None:
    (tmp_path / "1.png").write_bytes(png(PIXELS[0]))
    for name in ("a.heic", "b.txt", "c.csv", "d.md"):
        (tmp_path / name).write_text("x")
    found = read_images(tmp_path, Fit(resize=resize))
    assert found.ids == ("1",)
    said = "left out, not images by their names (.png, .jpg, .jpeg, .webp): 4, 'a.heic', 'b.txt', 'c.csv', …"
    assert found.notes == (*Fit(resize=resize).notes, said)


def test_arrays_are_taken_as_they_are() -> None:
    assert np.array_equal(images_of_array(PLANES).images, PIXELS)
    with pytest.raises(DataError, match="of float64"):
        images_of_array(PIXELS / 255)


def test_natural_order_compares_numbers_as_numbers() -> None:
    names = ["x10", "x9", "x", "10", "9", "x9y"]
    assert sorted(names, key=natural_key) == ["9", "10", "x", "x9", "x9y", "x10"]


PHOTO = np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8)


def test_an_image_of_another_size_is_refused_in_one_line_that_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(png(PHOTO))
    line = r"photo\.png' is 96×96; expected 32×32; --resize \(in Python resize=True\) fits it"
    with pytest.raises(DataError, match=line):
        read_images(tmp_path / "photo.png")
    with pytest.raises(DataError, match=r"is \(2, 96, 96, 3\) of uint8; expected \(N, 32, 32, 3\).*--resize"):
        images_of_array(np.stack([PHOTO, PHOTO]))
    noise = np.random.default_rng(2).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    (tmp_path / "large.png").write_bytes(png(noise))
    with pytest.raises(DataError, match=r"large\.png' is larger than 1,048,576 bytes.*--resize"):
        read_images(tmp_path / "large.png")
    assert read_images(tmp_path / "large.png", Fit(resize=True)).images.shape == (1, 32, 32, 3)


def test_networks_of_another_side_take_images_of_that_side_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(png(PHOTO))
    assert np.array_equal(read_images(tmp_path / "photo.png", Fit(96)).images, PHOTO[None])
    assert np.array_equal(images_of_array(PHOTO.transpose(2, 0, 1)[None], fit=Fit(96)).images, PHOTO[None])
    (tmp_path / "small.png").write_bytes(png(PIXELS[0]))
    with pytest.raises(DataError, match="expected 96×96"):
        read_images(tmp_path / "small.png", Fit(96))


@pytest.mark.parametrize("side", [33, 48, 96, 224])
def test_resizing_is_bicubic_with_antialiasing_as_torch_does_it(side: int) -> None:
    pixels = np.random.default_rng(side).integers(60, 196, (2, side, side, 3), dtype=np.uint8)
    found = images_of_array(pixels, fit=Fit(resize=True))
    planes = torch.tensor(pixels).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(planes, size=(32, 32), mode="bicubic", antialias=True)
    assert np.abs(found.images.astype(int) - wanted.permute(0, 2, 3, 1).numpy().astype(int)).max() <= 1
    assert found.notes == ("images of other sizes are fitted to 32×32: the centre, bicubic with antialiasing",)
    assert np.array_equal(images_of_array(pixels.transpose(0, 3, 1, 2), fit=Fit(resize=True)).images, found.images)


def test_the_centre_is_taken_and_images_of_the_right_size_stay(tmp_path: Path) -> None:
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, 32:96] = 200
    (tmp_path / "1.png").write_bytes(png(wide))
    (tmp_path / "2.png").write_bytes(png(np.ascontiguousarray(wide.transpose(1, 0, 2))))
    (tmp_path / "3.png").write_bytes(png(PIXELS[0]))
    given = read_images(tmp_path, Fit(resize=True))
    assert (given.images[:2, 3:-3, 3:-3] == 200).all(), "only the edges see what lies beside the centre"
    assert np.array_equal(given.images[2], PIXELS[0])


def test_a_photo_is_turned_upright_before_it_is_cropped(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    half = np.zeros((64, 64, 3), np.uint8)
    half[:32] = 255
    Image.fromarray(half).save(tmp_path / "turned.png", exif=exif)
    image = read_images(tmp_path / "turned.png", Fit(resize=True)).images[0]
    assert (image[:, :12] == 0).all()
    assert (image[:, 20:] == 255).all()
