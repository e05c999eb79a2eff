"""`predict`, `evaluate` and `shift` end to end, on tiny cells; one line and nothing written where input is wrong."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from made.cifar_files import png

import cifar_lab
from cifar_lab.cli import run
from cifar_lab.data import load
from cifar_lab.inference import network_outputs
from cifar_lab.inference.onnx_model import PACKAGES
from cifar_lab.inference.stored_cells import load_cells
from cifar_lab.report.charts import reliability_png
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.train import cell_artifacts

Json = Callable[..., Any]
needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in PACKAGES), reason="the extra onnx is not installed"
)


class Ran(NamedTuple):
    """A finished `run-ablation tiny`."""

    runs: Path
    images: Path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tiny_study: Path, few_images: Path) -> Ran:
    runs = shutil.copytree(tiny_study / "runs", tmp_path_factory.mktemp("inferred") / "runs")
    return Ran(Path(runs), few_images)


@pytest.fixture
def as_json(ran: Ran, capsys: pytest.CaptureFixture[str]) -> Json:
    """Run a command line with --json, and return what it prints."""

    def call(*line: object) -> Any:
        assert run([*map(str, line), "--runs", str(ran.runs), "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def pickled(folder: Path, ran: Ran) -> Path:
    """The test images in a competition's pickle, without labels."""
    images = np.array(load(str(ran.images)).test_images)
    content = {b"data": images.transpose(0, 3, 1, 2).reshape(len(images), 3072), b"ids": np.arange(50, 70)}
    (folder / "test.pkl").write_bytes(pickle.dumps(content))
    return folder / "test.pkl"


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_answers_are_those_of_the_recorded_logits(ran: Ran, pickled: Path, as_json: Json) -> None:
    tree = as_json("predict", "tiny/off/s1", "--input", pickled, "-o", "out.csv")
    rows = _rows(Path("out.csv"))
    assert rows[0] == ["ID", "Labels"]
    assert [row[0] for row in rows[1:]] == [str(id) for id in range(50, 70)]
    cell = next(each for each in load_cells(ran.runs) if each.names[0][1:] == ("off", 1))
    logits, _ = cell.logits()
    assert [int(row[1]) for row in rows[1:]] == logits.argmax(axis=1).tolist()
    assert sum(tree["classes"].values()) == tree["images"] == 20
    assert tree["runs"] == ["tiny/off/s1"]
    assert tree["unanimous"] is tree["pairwise_agreement"] is None
    assert not list(Path().glob(".*partial")), "a partial file was left"


def test_an_ensemble_averages_probabilities(ran: Ran, pickled: Path, as_json: Json) -> None:
    tree = as_json("predict", "tiny/off", "--ensemble", "-i", pickled, "-o", "out.npz")
    assert tree["runs"] == ["tiny/off/s0", "tiny/off/s1"]
    cells = sorted((each for each in load_cells(ran.runs) if each.names[0].variant == "off"), key=lambda c: c.seed or 0)
    each = []
    for cell in cells:
        logits = cell.logits()[0].astype(np.float64)
        exact = np.exp(logits - logits.max(axis=1, keepdims=True))
        each.append(exact / exact.sum(axis=1, keepdims=True))
    with np.load("out.npz") as arrays:
        assert arrays["probabilities"] == pytest.approx((each[0] + each[1]) / 2, abs=5e-3)
        assert arrays["labels"].tolist() == arrays["probabilities"].argmax(axis=1).tolist()
        assert arrays["ids"][0] == "50"
    agree = (each[0].argmax(axis=1) == each[1].argmax(axis=1)).mean()
    assert tree["unanimous"] == tree["pairwise_agreement"] == pytest.approx(agree)


def test_photos_are_refused_with_the_option_that_takes_them(
    ran: Ran, folder: Path, as_json: Json, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = folder / "photos"
    photos.mkdir()
    sides = [*range(96, 105), 224]
    for side in sides:
        pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
        (photos / f"{side}.png").write_bytes(png(pixels))
    line = ["predict", "tiny/off/s0", "--input", str(photos), "-o", "out.csv", "--runs", str(ran.runs)]
    assert run(line) == 2
    error = capsys.readouterr().err
    assert "is 96×96; expected 32×32; --resize" in error
    assert error.count("\n") == 1
    assert not Path("out.csv").exists()
    tree = as_json("predict", "tiny/off/s0", "--input", photos, "--resize", "-o", "out.csv")
    assert [row[0] for row in _rows(Path("out.csv"))[1:]] == [str(side) for side in sides]
    assert "images of other sizes are fitted to 32×32: the centre, bicubic with antialiasing" in tree["notes"]
    shifted = as_json("shift", "tiny/off", "--input", photos, "--resize")
    assert shifted["images"] == 10
    assert any(note.startswith("fewer than 1,000 images") for note in shifted["notes"])
    found = cifar_lab.predict("tiny/off/s0", images=photos, resize=True, runs=ran.runs)
    assert [int(row[1]) for row in _rows(Path("out.csv"))[1:]] == found.labels.tolist()


def test_a_sample_file_gives_header_ids_and_order(pickled: Path, as_json: Json) -> None:
    as_json("predict", "tiny/off/s0", "-i", pickled, "-o", "plain.csv")
    ids = list(range(69, 49, -1))
    Path("sample.csv").write_text("Id,Category\n" + "".join(f"{id},0\n" for id in ids))
    tree = as_json(
        "predict", "tiny/off/s0", "-i", pickled, "-o", "out.csv", "--like", "sample.csv", "--names",
        "--against", "plain.csv",
    )  # fmt: skip
    rows, plain = _rows(Path("out.csv")), dict(_rows(Path("plain.csv"))[1:])
    assert rows[0] == ["Id", "Category"]
    assert [int(row[0]) for row in rows[1:]] == ids
    assert all(name == f"class{plain[id]}" for id, name in rows[1:])
    assert tree["against"] == {"changed": 0, "common": 20, "only_earlier": 0, "only_now": 0}
    Path("other.csv").write_text("ID,Labels\n" + "".join(f"{id},{(int(plain[str(id)]) + 1) % 10}\n" for id in ids[:5]))
    tree = as_json("predict", "tiny/off/s0", "-i", pickled, "-o", "out.csv", "--against", "other.csv")
    assert tree["against"] == {"changed": 5, "common": 5, "only_earlier": 0, "only_now": 15}


def test_a_sample_renames_images_without_ids_of_their_own(folder: Path, ran: Ran, as_json: Json) -> None:
    np.savez(folder / "x.npz", data=np.array(load(str(ran.images)).test_images[:3]))
    Path("sample.csv").write_text("ID,Labels\nc,0\na,0\nb,0\n")
    as_json("predict", "tiny/off/s0", "-i", "x.npz", "-o", "plain.csv")
    as_json("predict", "tiny/off/s0", "-i", "x.npz", "-o", "out.csv", "--like", "sample.csv")
    assert [row[0] for row in _rows(Path("out.csv"))] == ["ID", "c", "a", "b"]
    assert [row[1] for row in _rows(Path("out.csv"))] == [row[1] for row in _rows(Path("plain.csv"))]


def test_runs_are_named_in_four_ways(ran: Ran, pickled: Path, as_json: Json) -> None:
    cells = {each.names[0][1:]: each for each in load_cells(ran.runs)}
    digits = cells["on", 1].fingerprint[:10]
    assert as_json("predict", digits, "-i", pickled, "-o", "o.csv")["runs"] == ["tiny/on/s1"]
    best = max(cells.values(), key=lambda cell: cell.metrics["val/acc"])
    tree = as_json("predict", "best:tiny", "-i", pickled, "-o", "o.csv")
    chosen = next(cell for cell in cells.values() if f"tiny/{cell.names[0].variant}/s{cell.seed}" == tree["runs"][0])
    assert chosen.metrics["val/acc"] == best.metrics["val/acc"]
    assert tree["notes"][0].startswith("best of 4 finished cells by val: ")


def test_a_folder_and_test_time_augmentation(ran: Ran, folder: Path, as_json: Json) -> None:
    (folder / "images").mkdir()
    for number, image in enumerate(np.array(load(str(ran.images)).test_images[:12])):
        (folder / "images" / f"{number}.png").write_bytes(png(image))
    for tta in ("none", "mirror", "mirror_shift"):
        tree = as_json("predict", "tiny/on/s0", "-i", "images", "-o", f"{tta}.npz", "--tta", tta)
        assert tree["how"].endswith(tta)
    with np.load("none.npz") as plain, np.load("mirror.npz") as mirrored, np.load("mirror_shift.npz") as shifted:
        assert plain["ids"].tolist() == [str(number) for number in range(12)]
        assert np.abs(plain["probabilities"] - mirrored["probabilities"]).max() > 0
        assert np.abs(mirrored["probabilities"] - shifted["probabilities"]).max() > 0


WRONG = [
    (["predict", "tiny/off", "-i", "test.pkl", "-o", "out.csv"], "2 runs are named"),
    (["predict", "tiny/of/s0", "-i", "test.pkl", "-o", "out.csv"], "tiny has no variant 'of'; did you mean 'off'?"),
    (["predict", "tiny/off/s7", "-i", "test.pkl", "-o", "out.csv"], "tiny/off has no seed 7; it has s0, s1"),
    (["predict", "tinny/off/s0", "-i", "test.pkl", "-o", "out.csv"], "'tinny' has not been run"),
    (["predict", "ffff", "-i", "test.pkl", "-o", "out.csv"], "'ffff' has not been run"),
    (["predict", "tiny/off/s0", "-i", "nowhere", "-o", "out.csv"], "input 'nowhere': no such file or folder"),
    (["predict", "tiny/off/s0", "-i", "bad.pkl", "-o", "out.csv"], "it asks for 'builtins.eval'"),
    (["predict", "tiny/off/s0", "-i", "test.pkl", "-o", "no/out.csv"], "no such folder: no"),
    (["predict", "tiny/off/s0", "-i", "test.pkl", "-o", "."], "a folder; a file is wanted"),
    (["predict", "tiny/off/s0", "-i", "test.pkl", "-o", "out.csv", "--tta", "miror"], "tta miror: no such"),
    (["predict", "tiny/off/s0", "-i", "test.pkl", "-o", "out.csv", "--format", "xls"], "--format xls: no such value"),
    (["predict", "tiny/off/s0", "-i", "test.pkl", "-o", "out.csv", "--like", "short.csv"], "1 rows for 20 images"),
    (["predict", "tiny/off/s0", "-i", "test.pkl", "-o", "out.csv", "--like", "ids.csv"], "has no image '0'"),
    (["predict", "tiny/off/s0", "-i", "test.pkl", "-o", "out.csv", "--like", "no.csv"], "no.csv: no such file"),
    (["predict", "tiny/off/s0", "-i", "test.pkl", "-o", "out.csv", "--against", "odd.csv"], "which is no class"),
    (["predict", "tiny/off/s0", "-i", "test.pkl", "-o", "out.csv", "--device", "gpux"], "no device named 'gpux'"),
    (["evaluate", "tiny/off/s0", "--data", "nowhere"], "data 'nowhere' is neither"),
    (["evaluate", "tiny/off/s0", "--corruptions", "fogg"], "no corruption named 'fogg'; did you mean 'fog'?"),
    (["evaluate", "tiny", "--control", "of"], "control of: no such variant"),
    (["evaluate", "tiny", "--margin", "0"], "--margin 0: a difference that does not matter is above 0"),
    (["evaluate", "tiny", "--images", "0"], "images 0: at least one image"),
    (["evaluate", "tiny/off/s0", "-o", "out.html"], "the extension is one of .csv, .json, .png"),
    (["export", "tiny/off", "-o", "m.onnx"], "2 runs are named (tiny/off/s0, tiny/off/s1); one file holds one network"),
    (["export", "tiny/off/s0", "-o", "m.pt"], "-o m.pt: the extension is one of .onnx"),
    (["export", "tiny/off/s0", "-o", "no/m.onnx"], "no such folder: no"),
    (["export", "tiny/off/s0", "--input-type", "flot"], "--input-type flot: no such value; did you mean 'float'?"),
    (["shift", "tiny", "-i", "nowhere"], "input 'nowhere': no such file or folder"),
]


@pytest.mark.parametrize(("line", "rule"), WRONG, ids=[" ".join(line)[:60] for line, _ in WRONG])
def test_wrong_input_is_one_line_and_exit_code_2(
    line: list[str], rule: str, ran: Ran, pickled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.pkl").write_bytes(b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.")
    Path("short.csv").write_text("ID,Labels\n1,0\n")
    Path("ids.csv").write_text("ID,Labels\n" + "".join(f"{id},0\n" for id in range(20)))
    Path("odd.csv").write_text("ID,Labels\n50,cat\n")
    before = sorted(Path().rglob("*"))
    assert run([*line, "--runs", str(ran.runs)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert rule in printed.err
    assert printed.err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before, "something was written"


def test_an_evaluation_repeats_the_recorded_accuracy_and_compares_by_seed(ran: Ran, as_json: Json) -> None:
    tree = as_json("evaluate", "tiny")
    cells = {each.fingerprint: each for each in load_cells(ran.runs)}
    assert len(tree["runs"]) == 4
    for row in tree["runs"]:
        assert row["accuracy"] == row["recorded_accuracy"] == cells[row["fingerprint"]].metrics["test/acc"]
        assert row["loss"] == pytest.approx(cells[row["fingerprint"]].metrics["test/loss"], rel=1e-5)
        assert row["interval"][0] < row["accuracy"] < row["interval"][1] or row["accuracy"] in (0.0, 1.0)
        assert sum(map(sum, row["confusion"])) == row["images"] == 20
        assert sum(row["confusion"][at][at] for at in range(10)) == row["correct"]
        assert sum(each["images"] for each in row["reliability"]) == 20
    means = {row["variant"]: row["mean"] for row in tree["comparison"]}
    difference = next(row for row in tree["comparison"] if row["variant"] == "on")
    assert tree["control"] == "off"
    assert difference["pairs"] == 2
    assert difference["difference"] == pytest.approx(means["on"] - means["off"])


def test_other_images_are_evaluated_by_the_names_of_their_classes(ran: Ran, folder: Path, as_json: Json) -> None:
    shutil.copytree(ran.images, folder / "other")
    for part in ("train", "test"):
        (folder / "other" / part / "class0").rename(folder / "other" / part / "class10")
    assert run(["evaluate", "tiny/off/s0", "--data", "other", "--runs", str(ran.runs)]) == 2
    own = as_json("evaluate", "tiny/off/s0", "--data", ran.images)["runs"][0]
    assert own["accuracy"] == as_json("evaluate", "tiny/off/s0")["runs"][0]["accuracy"]
    assert own["recorded_accuracy"] is None, "other data are not those of the record"


def test_a_test_set_alone_is_evaluated(
    ran: Ran, folder: Path, as_json: Json, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ran.images / "test", folder / "photos")
    own = as_json("evaluate", "tiny/off/s0")["runs"][0]
    assert as_json("evaluate", "tiny/off/s0", "--data", "photos")["runs"][0]["accuracy"] == own["accuracy"]
    data = load(str(ran.images))
    np.save("v6_data.npy", data.test_images)
    np.save("v6_labels.npy", data.test_labels)
    assert as_json("evaluate", "tiny/off/s0", "--data", "v6_data.npy")["runs"][0]["accuracy"] == own["accuracy"]
    Path("v6_labels.npy").unlink()
    assert run(["evaluate", "tiny/off/s0", "--data", "v6_data.npy", "--runs", str(ran.runs)]) == 2
    assert "data 'v6_data.npy': no labels beside it; expected" in " ".join(capsys.readouterr().err.split())


def test_images_that_changed_since_the_training_are_refused(
    ran: Ran, folder: Path, capsys: pytest.CaptureFixture[str], tiny_ablation: Path
) -> None:
    shutil.copytree(ran.images, folder / "mine")
    line = ["run-ablation", "tiny", "--data", "mine", "--ablations", str(tiny_ablation), "--offline", "--seeds", "0",
            "--variants", "off", "--runs", "own", "train.epochs=1"]  # fmt: skip
    assert run(line) == 0
    (folder / "mine/test/class3/0.png").write_bytes(png(np.zeros((32, 32, 3), np.uint8)))
    capsys.readouterr()
    assert run(["evaluate", "tiny", "--runs", "own"]) == 2
    error = capsys.readouterr().err
    assert "holds other images" in error
    assert error.count("cifar-lab: ") == 1


def test_corruptions_lower_the_accuracy_by_run_and_variant(ran: Ran, folder: Path, as_json: Json) -> None:
    line = ["evaluate", "tiny", "--corruptions", "contrast,impulse_noise"]
    tree = as_json(*line)
    for row in tree["runs"]:
        assert set(row["corruptions"]) == {"contrast", "impulse_noise"}
        values = [value for each in row["corruptions"].values() for value in each]
        assert len(values) == 10
        assert row["corrupted_accuracy"] == pytest.approx(np.mean(values))
    by_variant = {row["variant"]: row for row in tree["corrupted"]}
    for variant in ("off", "on"):
        own = [row["corrupted_accuracy"] for row in tree["runs"] if row["variant"] == variant]
        assert by_variant[variant]["mean"] == pytest.approx(np.mean(own))
    assert as_json(*line) == tree, "the corruptions are seeded"


def test_a_table_and_a_diagram_are_written(ran: Ran, folder: Path, as_json: Json) -> None:
    tree = as_json("evaluate", "tiny", "-o", "table.csv")
    header, *rows = _rows(Path("table.csv"))
    assert [float(row[header.index("accuracy")]) for row in rows] == [row["accuracy"] for row in tree["runs"]]
    as_json("evaluate", "tiny", "-o", "all.json")
    assert json.loads(Path("all.json").read_text()) == tree
    as_json("evaluate", "tiny", "-o", "reliability.png")
    assert Path("reliability.png").read_bytes().startswith(b"\x89PNG")


def test_more_runs_than_a_diagram_can_tell_apart_are_refused_before_anything_is_computed(
    ran: Ran, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reliability_png, "MOST", 3)
    monkeypatch.setattr(network_outputs, "load_members", lambda *_: pytest.fail("networks were read"))
    assert run(["evaluate", "tiny", "-o", "reliability.png", "--runs", str(ran.runs)]) == 2
    assert "-o reliability.png: a diagram shows at most 3 runs, not 4; name fewer" in capsys.readouterr().err
    assert not list(folder.iterdir())


@pytest.fixture
def older(ran: Ran, folder: Path) -> CellRecord:
    """A copy of one finished record as an older version wrote it, without logits."""
    shutil.copytree(ran.runs, folder / "older")
    record = CellRecord(folder / "older" / next(each.fingerprint for each in load_cells(ran.runs)))
    with np.load(record.predictions) as arrays:
        kept = {name: arrays[name] for name in ("predictions", "labels", "confidence")}
    np.savez_compressed(record.predictions, allow_pickle=False, **kept)
    result = record.result()
    assert result is not None
    record.write_result(result.model_copy(update={"files": record.digests()}))
    return record


def test_an_older_record_gets_the_logits_that_the_worker_would_have_written(
    ran: Ran, older: CellRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", older.fingerprint, "--runs", "older"]) == 0
    assert "its record had no logits; they were stored" in capsys.readouterr().err
    original = CellRecord(ran.runs / older.fingerprint)
    for part in ("test", "val"):
        ours, theirs = (cell_artifacts.read_logits(each, part) for each in (older, original))  # type: ignore[arg-type]
        assert np.array_equal(ours[0], theirs[0])
        assert np.array_equal(ours[1], theirs[1])
    assert older.result().metrics == original.result().metrics  # type: ignore[union-attr]
    assert run(["fsck", "--runs", "older"]) == 0, capsys.readouterr().out
    capsys.readouterr()
    assert run(["evaluate", older.fingerprint, "--runs", "older"]) == 0
    assert "stored" not in capsys.readouterr().err, "it was filled already"


def test_logits_are_not_stored_where_the_accuracy_is_another(
    older: CellRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    result = older.result()
    assert result is not None
    metrics = {**result.metrics, "test/acc": result.metrics["test/acc"] - 0.05}
    older.write_result(result.model_copy(update={"metrics": metrics}))
    before = older.predictions.read_bytes()
    assert run(["evaluate", older.fingerprint, "--runs", "older"]) == 0
    printed = capsys.readouterr()
    assert "no logits were stored" in printed.err
    assert "the record has" in printed.out
    assert older.predictions.read_bytes() == before


def test_a_packed_study_is_evaluated_if_it_has_weights(
    ran: Ran, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["pack", "--runs", str(ran.runs), "-o", "plain.zip"]) == 0
    assert run(["pack", "--runs", str(ran.runs), "-o", "whole.zip", "--weights"]) == 0
    capsys.readouterr()
    assert run(["evaluate", "tiny/off/s0", "--runs", "plain.zip"]) == 2
    assert "tiny/off/s0: its weights are not there; `cifar-lab pack --weights`" in capsys.readouterr().err
    assert run(["evaluate", "tiny/off/s0", "--runs", "whole.zip"]) == 0
    assert run(["evaluate", "tiny/off/s0", "--runs", "whole.zip", "--train-logits"]) == 2


def test_logits_of_training_images_are_stored_and_read(ran: Ran, older: CellRecord) -> None:
    name = older.fingerprint
    with pytest.raises(cifar_lab.errors.TrackingError, match="no logits of train"):
        cifar_lab.load_cell(name, runs="older").logits("train")
    assert run(["evaluate", name, "--runs", "older", "--train-logits"]) == 0
    cell = cifar_lab.load_cell(name, runs="older")
    logits, labels = cell.logits("train")
    dataset = load(str(ran.images))
    assert np.array_equal(labels, dataset.train_labels)
    assert logits.shape == (60, 10)
    network = cell.network()
    again = network(cell.prepare(np.array(dataset.train_images))).detach().numpy()
    assert logits == pytest.approx(again, abs=0.1)
    assert run(["fsck", "--runs", "older"]) == 0
    (older.folder / "train_logits.npz").write_bytes(b"PK")
    with pytest.raises(cifar_lab.errors.DamageError, match=r"train_logits\.npz: cannot be read"):
        cell.logits("train")


def test_accuracy_is_estimated_without_labels(ran: Ran, pickled: Path, as_json: Json) -> None:
    tree = as_json("shift", "tiny", "-i", pickled)
    assert [each["rank"] for each in tree["variants"]] == [1, 2]
    assert tree["variants"][0]["estimate"] >= tree["variants"][1]["estimate"]
    assert len(tree["runs"]) == 4
    for each in tree["runs"]:
        low, high = each["estimate"]["interval"]
        assert 0 <= low <= high <= 1
    assert {each["variant"] for each in tree["comparison"]} == {"off", "on"}
    cells = {(each.names[0].variant, each.seed): each.logits()[0].argmax(axis=1) for each in load_cells(ran.runs)}
    for each in tree["variants"]:
        a, b = cells[each["variant"], 0], cells[each["variant"], 1]
        assert each["agreement"] == pytest.approx((a == b).mean())


def test_tables_are_printed_without_a_word_of_python(
    ran: Ran, pickled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (
        ["predict", "tiny", "--ensemble", "-i", "test.pkl", "-o", "out.csv"],
        ["evaluate", "tiny", "--corruptions", "fog"], ["evaluate", "tiny/off/s0"], ["shift", "tiny", "-i", "test.pkl"],
    )  # fmt: skip
    for line in lines:
        assert run([*line, "--runs", str(ran.runs)]) == 0
        printed = capsys.readouterr().out
        assert not any(word in printed for word in ("None", "nan", "{", "numpy", "tensor"))
        assert max(map(len, printed.splitlines())) <= 240


@needs_onnx
def test_an_exported_network_gives_the_recorded_answers(
    ran: Ran, folder: Path, as_json: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr("cifar_lab.inference.export.SECONDS", 0.0)
    (folder / "net.onnx").write_bytes(b"an earlier file")
    tree = as_json("export", "tiny/off/s1", "-o", "net.onnx", "--int8")
    pytorch, plain, quantised = tree["runtimes"]
    assert [each["name"] for each in tree["runtimes"]] == ["PyTorch", "onnxruntime", "onnxruntime int8"]
    assert plain["other_answers"] == 0
    assert plain["largest_difference"] < 1e-4 < quantised["largest_difference"]
    assert plain["accuracy"] == pytorch["accuracy"]
    assert quantised["bytes"] == tree["bytes"] == Path("net.onnx").stat().st_size
    assert tree["quantisation"]["difference"] == pytest.approx(quantised["accuracy"] - pytorch["accuracy"])
    assert tree["calibration_images"] == 50, "60 training images, one of each class held out"
    assert tree["images"].startswith("20 test images of ")
    cell = next(each for each in load_cells(ran.runs) if each.names[0][1:] == ("off", 1))
    recorded = cell.logits()[0].argmax(axis=1)
    tree = as_json("export", "tiny/off/s1", "-o", "net.onnx")
    images = np.array(load(str(ran.images)).test_images).transpose(0, 3, 1, 2)
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    answers = session.run(None, {"images": images})[0].argmax(axis=1)
    assert (answers != recorded).sum() == tree["answers_other_than_recorded"] <= 1
    assert tree["quantisation"] is tree["calibration_images"] is None
    assert not list(Path().glob(".*partial")), "a partial file was left"


def test_nothing_is_written_where_the_exported_network_differs(
    ran: Ran, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cifar_lab.inference.export.require_onnx", lambda: None)
    monkeypatch.setattr("cifar_lab.inference.export.export_model", lambda *_: b"model")
    monkeypatch.setattr("cifar_lab.inference.export._session", lambda *_: None)
    monkeypatch.setattr(
        "cifar_lab.inference.export._session_logits", lambda _, images, __: np.ones((len(images), 10), np.float32)
    )
    (folder / "net.onnx").write_bytes(b"an earlier file")
    assert run(["export", "tiny/off/s1", "-o", "net.onnx", "--runs", str(ran.runs)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("cifar-lab: tiny/off/s1: the exported network computes something else: logits differ by")
    assert (folder / "net.onnx").read_bytes() == b"an earlier file"


def test_without_the_extra_export_says_how_to_install_it(
    ran: Ran, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cifar_lab.inference.onnx_model.find_spec", lambda _: None)
    assert run(["export", "tiny/off/s1", "-o", "net.onnx", "--runs", str(ran.runs)]) == 2
    assert capsys.readouterr().err == (
        "cifar-lab: export needs onnx, onnxscript, onnxruntime: `pip install 'cifar-lab[onnx]'` installs all of it\n"
    )
    assert not Path("net.onnx").exists()


def test_the_api_returns_what_the_commands_print(ran: Ran, pickled: Path, as_json: Json) -> None:
    images = np.array(load(str(ran.images)).test_images)
    predictions = cifar_lab.predict("tiny/off/s0", images=images, runs=ran.runs)
    as_json("predict", "tiny/off/s0", "-i", pickled, "-o", "out.csv")
    assert predictions.to_frame()["label"].tolist() == [int(row[1]) for row in _rows(Path("out.csv"))[1:]]
    assert "<table" in predictions._repr_html_()
    evaluation = cifar_lab.evaluate(["tiny/off", "tiny/on"], runs=ran.runs, corruptions=["fog"], images=10)
    assert len(evaluation.to_frame()) == 4
    assert {"accuracy", "fog_5", "recall_class0"} <= set(evaluation.to_frame())
    estimate = cifar_lab.shift("tiny", images=pickled, runs=ran.runs)
    assert json.loads(json.dumps(estimate.as_dict())) == as_json("shift", "tiny", "-i", pickled)
    with pytest.raises(cifar_lab.errors.UsageError, match="2 runs are named"):
        cifar_lab.predict("tiny/off", images=images, runs=ran.runs)
