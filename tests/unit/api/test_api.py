"""The public API: its names, its signatures, how little it loads, and what it does on a tiny study."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from matplotlib.text import Text

import cifar_lab
from cifar_lab import api, errors
from cifar_lab.ablation.ablation import Ablation, Variant
from cifar_lab.api.results import call_in_words
from cifar_lab.cli.app import COMMANDS
from cifar_lab.config.overrides import parse_overrides
from cifar_lab.config.recipe import Recipe
from cifar_lab.mlflow_sync.client import MLflowStore
from cifar_lab.store import selection
from cifar_lab.store.ablation_file import as_file
from cifar_lab.store.cell_record import CellRecord
from cifar_lab.store.invocation import read_invocation
from cifar_lab.store.invocation_index import read_index
from cifar_lab.train import cell_artifacts

NAMES = [
    "Ablation", "Claim", "EFFICIENT_RESNET", "FAST", "RESNET18", "Recipe", "Variant", "compare", "evaluate",
    "export", "find_ablation", "load_cell", "load_runs", "plan", "predict", "run", "shift", "train_recipe",
    "verify",
]  # fmt: skip
FUNCTIONS = (
    *("compare", "evaluate", "export", "find_ablation", "load_cell", "load_runs", "plan", "predict", "run", "shift"),
    *("train_recipe", "verify"),
)  # fmt: skip
HOSTILE = '<b>"quoted"</b> \\ """ & co'
MADE = Ablation(
    name="made",
    question=HOSTILE,
    source="the tests",
    baseline=Recipe().override(
        {"model.blocks": [1], "model.width": 8, "train.batch_size": 10, "train.epochs": 2, "data.val_fraction": 0.2}
    ),
    factors=("model.dropout",),
    variants=(Variant(name="off"), Variant(name="on", diff={"model.dropout": 0.2})),
    control="off",
    seeds=(0, 1),
)
CALL: dict[str, Any] = {"runs": "records", "offline": True, "say": None}


ASKING: tuple[Any, ...] = (cifar_lab.run, cifar_lab.plan, cifar_lab.compare, cifar_lab.verify)
"""Functions that take an ablation and a setting."""
AS_MAPPING = "overrides are a dictionary, as in {'train.epochs': 3}, got "


def loaded(program: str) -> set[str]:
    """Heavy libraries that a fresh process has loaded after `program`."""
    heavy = "{'torch', 'mlflow', 'optuna', 'numpy', 'pandas', 'matplotlib', 'pydantic', 'typer', 'rich'}"
    line = [sys.executable, "-c", f"import sys; {program}; print(*({heavy} & set(sys.modules)))"]
    return set(subprocess.run(line, capture_output=True, text=True, check=True).stdout.split())


def test_the_public_names_are_these_and_all_are_there() -> None:
    assert sorted(cifar_lab.__all__) == NAMES
    assert set(NAMES) <= set(dir(cifar_lab))
    assert all(getattr(cifar_lab, name) is not None for name in NAMES)
    for name, hint in {
        "zzz": "it has Ablation, ", "comparee": r"did you mean 'compare'\?$",
        "judge": "it is a command: cifar-lab judge ", "sweep_best": "it is a command: cifar-lab sweep-best ",
    }.items():  # fmt: skip
        with pytest.raises(AttributeError, match=f"no attribute '{name}'; {hint}"):
            getattr(cifar_lab, name)
    commands = {name for name in COMMANDS if name.replace("-", "_") not in NAMES}
    assert set(cifar_lab._COMMANDS) == commands


def test_the_package_loads_nothing_and_its_names_no_more_than_they_need() -> None:
    assert loaded("import cifar_lab") == set()
    assert loaded("from cifar_lab import Ablation, Variant, Claim, Recipe, EFFICIENT_RESNET") == {"pydantic"}
    assert loaded("import cifar_lab; cifar_lab.find_ablation('se_ratio'); cifar_lab.run; cifar_lab.verify") == {
        "pydantic"
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_hints_for_all_of_its_arguments_and_keywords_but_one(name: str) -> None:
    function = getattr(api, name)
    signature = inspect.signature(function)
    assert all(p.annotation is not p.empty for p in signature.parameters.values())
    assert signature.return_annotation is not signature.empty
    positional = [p for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    assert len(positional) <= (2 if name == "find_ablation" else 1)
    assert inspect.signature(getattr(cifar_lab, name)) == signature
    if name == "find_ablation":
        assert get_type_hints(function)["return"] is Ablation


def test_run_is_the_function_and_the_package_whatever_is_imported_first() -> None:
    program = "import cifar_lab.store.selection; import cifar_lab; assert callable(cifar_lab.run), cifar_lab.run"
    assert "torch" not in loaded(program)
    assert cifar_lab.store.selection is selection  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def trained(few_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`MADE`, trained by a call in a folder of its own: the folder and the result."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("notebook")
        patch.chdir(folder)
        result = cifar_lab.run(MADE, data=str(few_images), **CALL)
    return folder, result


@pytest.fixture
def made(trained: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(trained[0])
    return trained[1]


def test_a_run_trains_each_cell_once_and_tells_what_it_did(made: Any, few_images: Path) -> None:
    assert (made.trained, made.reused, made.undone) == (4, 0, {})
    said: list[str] = []
    again = cifar_lab.run(MADE, data=str(few_images), **{**CALL, "say": said.append})
    assert (again.trained, again.reused) == (0, 4)
    assert repr(again) == f"<RunResult {again.invocation}: 0 trained, 4 reused>"
    assert said[-1] == "no cell to train, 4 done already"


def test_the_record_has_the_call_in_place_of_a_command_line(made: Any, few_images: Path) -> None:
    note = read_index(Path("records").resolve()).invocations[0]
    shown = f"cifar_lab.run('made', data={str(few_images)!r}, runs='records', offline=True, folder='records/ablations')"
    assert note.command == note.again == shown
    assert note.retry == shown.replace("offline=True,", "offline=True, retry_failed=True,")
    found = cifar_lab.find_ablation("made", "records/ablations")
    assert found.model_copy(update={"doc": ""}) == MADE


@pytest.mark.slow
def test_a_call_has_what_mlflow_gets_and_names_no_address(
    made: Any, few_images: Path, store: MLflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from made.http_server import serving
    from mlflow.tracking import MlflowClient

    pytest.importorskip("apprise")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    call = {**CALL, "offline": False}
    with serving({}) as server:
        address = f"json://{server.url.removeprefix('http://')}/S3cretPath"
        result = cifar_lab.run(
            MADE, data=str(few_images), tags={"team": "vision"}, note="**why**", experiment_prefix="mine",
            notify=address, hours=2, **call,
        )  # fmt: skip
        message = json.loads(server.posted[0][1])
    assert message["title"] == "cifar-lab run made: finished"
    assert message["message"].startswith("made: 0 trained, 4 reused. ")
    client = MlflowClient(store.uri)
    experiment = client.get_experiment_by_name("mine/made")
    runs = client.search_runs([experiment.experiment_id], "tags.team = 'vision'")
    assert len(runs) == 5, "four cells and their parent"
    notes = [run.data.tags["mlflow.note.content"] for run in runs if "mlflow.note.content" in run.data.tags]
    assert [note.startswith("**why**") for note in notes] == [True]
    assert "MLFLOW_EXPERIMENT_NAME" not in os.environ
    path = Path("records/invocations").resolve() / f"{result.invocation}.json"
    command = read_invocation(path).command
    assert "experiment_prefix='mine', hours=2, folder=" in command
    assert "notify" not in command
    assert "S3cretPath" not in path.read_text()


@pytest.mark.slow
def test_one_recipe_is_trained_and_gone_on_with(
    few_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = cifar_lab.train_recipe(MADE.baseline, data=str(few_images), overrides={"train.epochs": 1}, **CALL)
    assert (first.trained, list(first.fingerprints)) == (1, ["recipe/s0"])
    fingerprint = first.fingerprints["recipe/s0"]
    second = cifar_lab.train_recipe(parent=fingerprint[:10], overrides={"train.epochs": 1}, **CALL)
    assert list(second.fingerprints) == [f"from-{fingerprint[:12]}/s0"]
    cell = cifar_lab.load_cell(second.fingerprints[f"from-{fingerprint[:12]}/s0"], runs="records")
    assert cell.recipe is not None
    assert cell.recipe.init_from == fingerprint
    notes = read_index(Path("records").resolve()).invocations
    assert eval(notes[0].command.partition("(")[2].partition(", data=")[0]) == MADE.baseline
    assert notes[1].command.startswith(
        f"cifar_lab.train_recipe(parent='{fingerprint[:10]}', runs='records', overrides="
    )
    assert notes[1].retry == notes[1].again == notes[1].command


def test_a_call_whose_hours_are_over_returns_and_says_so(
    few_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cifar_lab.execution.stop_signals.SHORTEST_HOURS", 0.0)
    result = cifar_lab.train_recipe(MADE.baseline, data=str(few_images), hours=1e-9, **CALL)
    assert result.trained == 0
    assert result.interrupted.startswith("the time is over")
    assert result.undone == {"recipe/s0": "missing"}
    assert result.interrupted in repr(result)
    Path("best.json").write_text(MADE.baseline.model_dump_json())
    for file in ("best.json", Path("best.json")):
        again = cifar_lab.train_recipe(file, data=str(few_images), hours=1e-9, **CALL)
        assert again.fingerprints == result.fingerprints, "a recipe's file is the recipe"
    note = read_index(Path("records").resolve()).invocations[-1]
    assert note.command.startswith("cifar_lab.train_recipe('best.json', data=")


@pytest.mark.parametrize(
    ("ended", "raised"), [(errors.Interrupted, KeyboardInterrupt), (errors.OutOfSpace, errors.OutOfSpace)]
)
def test_no_handler_of_errors_swallows_ctrl_c(
    ended: type[errors.Interrupted], raised: type[BaseException], made: Any, few_images: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from cifar_lab.execution import complete

    def interrupted(*arguments: Any, **options: Any) -> complete.CompletedRun:
        done = complete_run(*arguments, **options)
        return done._replace(report=replace(done.report, interrupted=ended("stopped after saving")))

    complete_run = complete.complete
    monkeypatch.setattr(complete, "complete", interrupted)
    with pytest.raises(raised, match=r"^stopped after saving"):
        cifar_lab.run(MADE, data=str(few_images), **CALL)
    assert issubclass(raised, Exception) == (ended is errors.OutOfSpace)


def test_frames_have_the_numbers_of_the_records(made: Any) -> None:
    frame = made.to_frame()
    assert list(frame["variant"]) == ["off", "on"]
    cells = cifar_lab.load_runs(runs="records").to_frame().set_index(["variant", "seed"])
    assert frame["values_0"].tolist() == [cells.loc[(name, 0), "test/acc"] for name in ("off", "on")]
    assert frame["mean"].tolist() == pytest.approx(
        [np.mean([cells.loc[(name, seed), "test/acc"] for seed in (0, 1)]) for name in ("off", "on")]
    )
    assert cells.loc[("on", 1), "model.dropout"] == 0.2
    assert set(cells["state"]) == {"finished"}


def test_a_name_of_an_ablation_that_was_made_here_is_found_in_its_folder(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_LAB_RUNS", "records")
    for call in (
        lambda: cifar_lab.run("made", **CALL),
        lambda: cifar_lab.find_ablation("made"),
    ):
        with pytest.raises(errors.RegistryError, match=r"^'made' was generated: add folder='records/ablations'$"):
            call()
    assert cifar_lab.find_ablation("made", "records/ablations").variants == MADE.variants


def test_html_has_the_table_and_no_markup_of_the_text(made: Any) -> None:
    html = made._repr_html_()
    assert re.findall("<td[^>]*>(on|off)</td>", html) == ["off", "on"]
    assert html.endswith("<p>4 trained, 0 reused</p>")
    claims = cifar_lab.verify("se_ratio", runs="records")
    assert len(claims) == len(claims.to_frame()) == len(cifar_lab.find_ablation("se_ratio").claims)
    named = Ablation(
        **{**dict(MADE), "claims": (cifar_lab.Claim(quote=HOSTILE, source="x", better="on", worse="off"),)}
    )
    shown = cifar_lab.verify(named, runs="records")._repr_html_()
    assert "<b>" not in shown
    assert "&lt;b&gt;" in shown


def test_what_a_call_returns_is_shown_in_a_line(made: Any, few_images: Path) -> None:
    plan = cifar_lab.plan(MADE, data=str(few_images), runs="records", say=None)
    name = few_images.name
    assert repr(plan) == f"<PlanResult made · scale writeup · {name}: 4 cells, 4 done>"
    assert repr(made.comparison).startswith("<ComparisonResult made: ")
    assert repr(made.comparison).endswith(f"2 seeds, scale writeup, {name}.>")
    assert repr(cifar_lab.load_runs("records")) == "<StoredCells 4 cells: 4 finished>"
    assert repr(cifar_lab.verify("se_ratio", runs="records")) == "<JudgedClaims 2 claims: 2 not measured>"
    predicted = cifar_lab.predict("made/off/s0", images=np.zeros((3, 32, 32, 3), np.uint8), runs="records")
    assert repr(predicted).startswith("<Predictions 3 images · made/off/s0 · mean confidence 0.")
    cell = cifar_lab.load_cell("made/off/s0", runs="records")
    accuracy = f"{100 * cell.metrics['test/acc']:.2f} %"
    assert repr(cell) == f"<StoredCell {cell.fingerprint[:12]} · made off/s0 · finished, test {accuracy}>"
    evaluated = cifar_lab.evaluate("made/off/s0", runs="records", device="cpu")
    assert re.match(rf"<EvaluationResult made/off/s0: [0-9.]+ % · [0-9]+ test images of .*{name} · ", repr(evaluated))
    both = repr(cifar_lab.evaluate(["made/off/s0", "made/on/s0"], runs="records", device="cpu"))
    assert re.match(r"<EvaluationResult 2 runs: [0-9.]+( to [0-9.]+)? % · ", both)


def test_an_ablation_is_shown_in_a_line() -> None:
    shown = "<Ablation made: varies model.dropout; variants off (control), on>"
    assert repr(MADE) == str(MADE) == shown
    assert repr(MADE.model_copy(update={"name": ""})).startswith("<Ablation without a name: ")


def test_a_plot_has_a_row_for_each_compared_variant_and_a_dot_for_each_seed(made: Any) -> None:
    figure = made.plot()
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["on"]
    dots = [line.get_xdata() for line in axes.lines if line.get_marker() == "o"]
    row = made.comparison.rows[1]
    assert [list(each) for each in dots] == [[pytest.approx(100 * value) for value in row.differences.values()]]
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_plot_of_a_size_for_papers_shows_all_of_its_words_also_at_a_later_size(made: Any) -> None:
    figure = made.plot(figsize=(3.3, 1.6))
    assert list(figure.get_size_inches()) == pytest.approx([3.3, 1.6])
    words = [text for text in figure.findobj(Text) if text.get_text()]
    for size in ((3.3, 1.6), (2.6, 1.8), (5.0, 2.5)):
        figure.set_size_inches(*size)
        figure.draw_without_rendering()
        boxes = {text.get_text(): text.get_window_extent() for text in words if text.get_visible()}
        whole = figure.bbox.padded(0.5)
        out = [word for word, box in boxes.items() if not (whole.contains(*box.min) and whole.contains(*box.max))]
        assert out == [], size
    for wrong in ((3.3, 0), (3.3,), "big", (float("nan"), 2.0)):
        with pytest.raises(errors.UsageError, match=r"figsize is width and height in inches, as in \(3.3, 1.6\), got"):
            made.plot(figsize=wrong)


def test_a_declaration_of_the_same_name_shows_no_numbers_of_another(made: Any) -> None:
    other = Ablation(
        **{**dict(MADE), "variants": (Variant("off"), Variant("on", diff={"model.dropout": 0.3})), "seeds": (0,)}
    )
    comparison = cifar_lab.compare(other, runs="records")
    assert [(row.variant, row.n, row.missing) for row in comparison.rows] == [("off", 2, 0), ("on", 0, 2)]
    assert comparison.redeclared == f"on was another recipe in invocation {comparison.invocation}, left out"
    assert cifar_lab.compare(MADE, runs="records").rows == cifar_lab.compare("made", runs="records").rows


def test_frames_can_be_grouped_and_written(made: Any, tmp_path: Path) -> None:
    import pandas as pd

    cells = cifar_lab.load_runs("records").to_frame()
    assert cells["model.blocks"].unique() == ["[1]"]
    assert cells["model.options"].unique() == ["{}"]
    claimed = MADE.model_copy(
        update={"claims": (cifar_lab.Claim(quote="so", source="x", better="on", worse="off", under={"optim.lr": 0.5}),)}
    )
    for frame in (cells, made.to_frame(), cifar_lab.verify(claimed, runs="records").to_frame()):
        assert len(frame.drop_duplicates()) == len(frame)
        assert all(len(frame.groupby(column, dropna=False)) for column in frame.columns)
        frame.to_parquet(tmp_path / "frame.parquet")
        frame.to_csv(tmp_path / "frame.csv", index=False)
        assert (
            len(pd.read_parquet(tmp_path / "frame.parquet")) == len(pd.read_csv(tmp_path / "frame.csv")) == len(frame)
        )
    assert MADE.baseline.override(parse_overrides([f"model.blocks={cells['model.blocks'][0]}"])) == MADE.baseline


def test_cells_and_results_predict_without_their_names(made: Any, few_images: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    cell = cifar_lab.load_cell("made/off/s0", runs="records")
    named = cifar_lab.predict("made/off/s0", images=images, runs="records")
    assert np.array_equal(cifar_lab.predict(cell, images=images).probabilities, named.probabilities)
    assert cifar_lab.predict(made, images=images, ensemble=True).members == tuple(
        f"made/{x}" for x in made.fingerprints
    )
    with pytest.raises(errors.UsageError, match=r"^4 runs are named"):
        cifar_lab.predict(made, images=images)
    evaluated = cifar_lab.evaluate(made, images=20, device=torch.device("cpu"))  # type: ignore[arg-type]
    assert [run.variant for run in evaluated.runs] == ["off", "on", "off", "on"]


def test_networks_compute_in_fp32_whatever_the_default(made: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    cell = cifar_lab.load_cell("made/off/s0", runs="records")
    expected = cifar_lab.predict(cell, images=images).probabilities
    torch.set_default_dtype(torch.float64)
    try:
        assert {each.dtype for each in cell.network().parameters()} == {torch.float32}
        assert cell.network()(cell.prepare(images)).dtype == torch.float32
        assert np.array_equal(cifar_lab.predict(cell, images=images).probabilities, expected)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_numbers_of_numpy_and_devices_of_torch_are_taken_as_plain_values(made: Any, few_images: Path) -> None:
    own = Ablation(
        **{
            **dict(MADE),
            "seeds": np.arange(2),
            "variants": (Variant("off"), Variant("on", diff={"model.dropout": np.float64(0.2)})),
        }
    )
    assert (own, type(own.seeds[0]), type(own.variants[1].diff["model.dropout"])) == (MADE, int, float)
    cifar_lab.run(
        MADE, data=str(few_images), seeds=np.arange(1), overrides={"train.epochs": np.int64(2)},
        device=torch.device("cpu"), **{**CALL, "runs": "numbers"}, variants=["off"],
    )  # type: ignore[arg-type] # fmt: skip
    command = read_index(Path("numbers").resolve()).invocations[-1].command
    assert "seeds=[0], " in command
    assert "overrides={'train.epochs': 2}" in command
    assert "device='cpu'" in command


def test_a_plan_says_what_is_done(made: Any, few_images: Path) -> None:
    plan = cifar_lab.plan(MADE, data=str(few_images), seeds=[1, 7], runs="records", say=None)
    frame = plan.to_frame()
    states = dict(zip(zip(frame["variant"], frame["seed"], strict=True), frame["state"], strict=True))
    assert states == {("off", 1): "finished", ("on", 1): "finished", ("off", 7): "missing", ("on", 7): "missing"}
    assert plan.seconds > 0
    assert "4 cells, 2 done; about " in plan._repr_html_()


def test_a_cell_gives_its_network_and_the_network_its_logits(made: Any, few_images: Path) -> None:
    from cifar_lab.data import load

    cell = cifar_lab.load_cell(made.fingerprints["on/s1"][:10], runs="records")
    assert (cell.seed, cell.recipe, cell.state) == (1, MADE.recipe("on"), "finished")
    assert len(cell.curve["val/acc"]) == len(cell.to_frame()) == MADE.baseline.train.epochs
    assert cifar_lab.load_cell("made/on/s1", runs="records").fingerprint == cell.fingerprint
    with pytest.raises(errors.UsageError, match="logits of 'tset': no such part; did you mean 'test'"):
        cell.logits("tset")  # type: ignore[arg-type]
    logits, labels = cell.logits()
    assert (logits.argmax(1) == labels).mean() == pytest.approx(cell.metrics["test/acc"])
    net = cell.network()
    assert not net.training
    with torch.no_grad():
        found = net(cell.prepare(load(str(few_images)).test_images)).numpy()
    assert np.abs(found - logits).max() < 0.05 * np.abs(logits).max()
    with torch.no_grad():
        images = load(str(few_images)).test_images
        for same in (torch.tensor(images), list(images), images.transpose(0, 3, 1, 2)):
            assert torch.equal(cell.prepare(same), cell.prepare(images))
        assert torch.equal(cell.prepare(images[0]), cell.prepare(images[:1]))
        with pytest.raises(errors.DataError, match=r"float32; expected .*; multiply fractions by 255, round, and"):
            cell.prepare((images / 255).astype(np.float32))
        with pytest.raises(errors.DataError, match=r"expected \(N, 32, 32, 3\), \(N, 3, 32, 32\) or \(N, 3072\) of"):
            cell.prepare(images[:, :16])
        refused = r"^(data is the name|path no/such|path m.pt2: the ext|3 images: )"
        for call in (
            lambda: cifar_lab.evaluate("made/on/s1", data=(images, []), runs="records"),  # type: ignore[arg-type]
            lambda: cifar_lab.export("made/on/s1", path="no/such/m.onnx", runs="records"),
            lambda: cifar_lab.export("made/on/s1", path="m.pt2", runs="records"),
            lambda: cifar_lab.shift("made/on/s1", images=images[:3], runs="records"),
        ):
            with pytest.raises(errors.UsageError, match=refused):
                call()
        fresh = cifar_lab.load_cell(made.fingerprints["off/s0"], runs="records").network()
        assert np.abs(fresh(cell.prepare(load(str(few_images)).test_images)).numpy() - logits).max() > 0.05


def test_damaged_weights_and_cells_without_results_are_errors_of_the_package(
    made: Any, tmp_path: Path, few_images: Path
) -> None:
    import shutil

    shutil.copytree("records", tmp_path / "records")
    one, other = made.fingerprints["on/s0"], made.fingerprints["off/s0"]
    weights = tmp_path / "records" / one / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(errors.DamageError, match=r"weights\.safetensors: damaged"):
        cifar_lab.load_cell(one, runs=tmp_path / "records").network()
    (tmp_path / "records" / other / "result.json").unlink()
    cell = cifar_lab.load_cell(other, runs=tmp_path / "records")
    assert (cell.state, cell.metrics) == ("missing", {})
    with pytest.raises(errors.UsageError, match="is missing, not finished, and has no logits"):
        cell.logits()
    (tmp_path / "records" / one / "cell.json").write_text("{")
    states = cifar_lab.load_runs(runs=tmp_path / "records").to_frame().set_index("fingerprint")["state"]
    assert (states[one], states[other]) == ("damaged", "missing")
    assert cell_artifacts.read_logits(CellRecord(tmp_path / "records" / made.fingerprints["on/s1"]))[0].shape[1] == 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cifar_lab.run("se_ration"), "no ablation named 'se_ration'; did you mean 'se_ratio'?"),
        (lambda: cifar_lab.run("se_ratio", scale="smal"), "no scale named 'smal'; did you mean 'small'?"),
        (lambda: cifar_lab.run("se_ratio", variants="r4"), "variants is a list of names, as in .*, got 'r4'"),
        (lambda: cifar_lab.run("se_ratio", variants=["r5"]), "variant 'r5' is not there"),
        (lambda: cifar_lab.run("se_ratio", seeds=[0, 0]), "seeds are 1 to 1000 different integers"),
        (lambda: cifar_lab.run("se_ratio", seeds=[-1]), "seeds are integers from 0 up"),
        (lambda: cifar_lab.run("se_ratio", seeds=[0.5]), "seeds are integers from 0 up"),  # type: ignore[list-item]
        (lambda: cifar_lab.run("se_ratio", max_params=0), "max_params is an integer from 1 up, got 0"),
        (lambda: cifar_lab.run("se_ratio", workers=0), "^workers takes 'auto' or a number from 1 up, got '0'"),
        (lambda: cifar_lab.run("se_ratio", overrides={"train.epoch": 3}), "did you mean 'train.epochs'"),
        (lambda: cifar_lab.run("se_ratio", max_params=1000), r"1,000.* \(in Python max_params=5_000_000\) allows it"),
        (lambda: cifar_lab.run("se_ratio", scale="small/1"), "^scale small/1: a share of the epochs reads small/5"),
        (lambda: cifar_lab.run("se_ratio", device="cuda:x"), "^device cuda:x: a GPU is named by its number"),
        (lambda: cifar_lab.run("se_ratio", scale="smoke", runs="/proc/x"), "^runs folder /proc/x: cannot be written"),
        (lambda: cifar_lab.run(MADE.model_copy(update={"name": ""})), "has a name of a-z, 0-9 .*, got ''"),
        (lambda: cifar_lab.run(MADE.model_copy(update={"name": "../x"})), "has a name of a-z, 0-9 .*, got '../x'"),
        (lambda: cifar_lab.run(MADE.model_copy(update={"name": "train"})), "no ablation can be named 'train'"),
        (lambda: cifar_lab.run("se_ratio", log_model="bst"), "log_model bst: no such value; did you mean 'best'?"),  # type: ignore[arg-type]
        (lambda: cifar_lab.run("se_ratio", log_model="none", register="x"), "register registers a logged model; log_m"),
        (lambda: cifar_lab.run("se_ratio", register="a/b"), "register a/b: a name has at least one character"),
        (lambda: cifar_lab.run("se_ratio", register="x", offline=True), "register does not go with offline; `cifar-l"),
        (lambda: cifar_lab.run("se_ratio", tags={"role": "x"}), r"tags\['role'\]: 'role' is a tag that MLflow or"),
        (lambda: cifar_lab.run("se_ratio", tags={"seeds": 3}), r"tags\['seeds'\]: a value is one line of text"),  # type: ignore[dict-item]
        (lambda: cifar_lab.run("se_ratio", tags=["a=b"]), "tags are a dictionary, as in "),  # type: ignore[arg-type]
        (lambda: cifar_lab.run("se_ratio", note=3), "note is text, got 3"),  # type: ignore[arg-type]
        (lambda: cifar_lab.run("se_ratio", experiment_prefix="a\nb"), "experiment_prefix takes one line of at most"),
        (lambda: cifar_lab.run("se_ratio", notify=[3]), "notify takes an address, or a list of them"),  # type: ignore[list-item]
        (lambda: cifar_lab.run("se_ratio", hours=0), "hours is a number from 0.01 to 100,000, got 0"),
        (lambda: cifar_lab.run("se_ratio", hours=float("nan")), "hours is a number from 0.01 to 100,000, got nan"),
        (lambda: cifar_lab.train_recipe("fastt"), "no baseline named 'fastt'; did you mean 'fast'?"),
        (lambda: cifar_lab.train_recipe("fast", parent="abc"), "recipe does not go with parent, which goes on with"),
        (lambda: cifar_lab.train_recipe(parent="abc"), "no such cell"),
        (lambda: cifar_lab.train_recipe(hours="1"), "hours is a number from 0.01 to 100,000, got '1'"),  # type: ignore[arg-type]
        (lambda: cifar_lab.train_recipe("none.json"), "^recipe none.json: No such file or directory"),
        (lambda: cifar_lab.train_recipe(Path("none")), "^recipe none: No such file or directory"),
        (lambda: cifar_lab.compare("se_ratio"), "'se_ratio' has not been run"),
        (lambda: cifar_lab.compare("se_ratio", scale="small", invocation="x"), "invocation names a whole setting"),
        (lambda: cifar_lab.verify(invocation="x"), "is of one ablation"),
        (lambda: cifar_lab.load_cell("abc"), "no such cell"),
        (lambda: cifar_lab.load_cell(""), r"a cell is ABLATION/VARIANT/sN, or the first digits \(0-9, a-f\) of a fin"),
        (lambda: cifar_lab.plan("se_ratio", seeds=3), r"seeds is a list of integers, as in range\(3\), got 3"),  # type: ignore[arg-type]
        (lambda: cifar_lab.run("se_ratio", seeds="0-2"), r"seeds is a list of integers, as in range\(3\), got '0-2'"),  # type: ignore[arg-type]
        (lambda: cifar_lab.run("se_ratio", data=([], [])), "data is the name of a data set or a path, got tuple; np.s"),  # type: ignore[arg-type]
        (lambda: cifar_lab.train_recipe({"train.epochs": 1}), "or a Recipe, got dict; `overrides` changes fields of"),  # type: ignore[arg-type]
        (lambda: cifar_lab.load_runs(), "no such folder"),
        *((lambda call=call: call("se_ratio", scale=20), "scale is a name, smoke, .*, got 20") for call in ASKING),
        *((lambda call=call: call("se_ratio", overrides="train.epochs=3"), AS_MAPPING) for call in ASKING),
        *((lambda call=call: call("se_ratio", overrides=["train.epochs=3"]), AS_MAPPING) for call in ASKING),
        *((lambda call=call: call("se_ratio", runs=7), "runs is a path, got 7") for call in ASKING),
        *((lambda call=call: call(3), "ablation is a name or one Ablation, got 3") for call in ASKING),
        (lambda: cifar_lab.plan("se_ratio", scale=None), "scale is a name, smoke, .*, got None"),  # type: ignore[arg-type]
        (lambda: cifar_lab.run([MADE]), "ablation is a name or one Ablation, got "),  # type: ignore[arg-type]
        (lambda: cifar_lab.run(MADE, seed=3), "run has no argument 'seed'; did you mean 'seeds'"),  # type: ignore[call-arg]
        (lambda: cifar_lab.run(MADE, say=1), "say is a function that takes a line, .*, got 1"),  # type: ignore[arg-type]
        (lambda: cifar_lab.run(MADE, seeds=[True]), "seeds are integers from 0 up"),
        (lambda: cifar_lab.run(MADE, device=3), "device is auto, cpu, .*, got 3"),  # type: ignore[arg-type]
        (lambda: cifar_lab.run(MADE, notify=3), "notify takes an address"),  # type: ignore[arg-type]
        (lambda: cifar_lab.compare("made", variants=3), "variants is a list of names"),  # type: ignore[arg-type]
        (lambda: cifar_lab.compare("made", invocation=3), "invocation is text, got 3"),  # type: ignore[arg-type]
        (lambda: cifar_lab.export("made", path=3), "path is a path, got 3"),  # type: ignore[arg-type]
        (lambda: cifar_lab.load_cell(3), "a cell is named by text"),  # type: ignore[arg-type]
        (lambda: cifar_lab.find_ablation("made", 3), "folder is a path, got 3"),  # type: ignore[arg-type]
        (lambda: cifar_lab.predict(3, images="x"), "run is the name of a run, a cell of load_cell"),  # type: ignore[arg-type]
        (lambda: cifar_lab.evaluate("made", margin="x"), "margin is a fraction between 0 and 1"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_argument_is_one_line_and_writes_nothing(call: Any, message: str, folder: Path) -> None:
    with pytest.raises(errors.UsageError, match=message) as raised:
        call()
    line = str(raised.value)
    assert "\n" not in line
    assert "--" not in re.sub(r"`[^`]*`|--\S+( \S+)? \(in Python ", "", line), (
        "an option alone is none of Python's words"
    )
    assert not list(folder.iterdir())


def test_an_own_ablation_with_the_name_of_a_built_in_one_is_warned_of_and_that_one_itself_is_not(folder: Path) -> None:
    said: list[str] = []
    own = MADE.model_copy(update={"name": "se_ratio"})
    for ablation in (own, cifar_lab.find_ablation("se_ratio"), MADE):
        with pytest.raises(errors.DataError):  # after what is said at the start, and before anything is trained
            cifar_lab.run(ablation, data="no such file", runs="records", say=said.append)
    [line] = said
    assert line.startswith("warning: your ablation 'se_ratio' replaces the built-in one of its name")


def test_a_file_of_any_ablation_is_read_back_as_the_same(tmp_path: Path) -> None:
    for ablation in (cifar_lab.find_ablation(name) for name in ("writeup_ladder", "se_ratio", "block_counts")):
        (tmp_path / f"{ablation.name}.py").write_text(as_file(ablation, by="the tests"))
        found = cifar_lab.find_ablation(ablation.name, tmp_path)
        assert found.model_copy(update={"doc": ablation.doc}) == ablation


def test_a_call_is_written_as_python_reads_it() -> None:
    def run(
        ablation: str, *, scale: str = "writeup", seeds: object = None, data: object = None, overrides: object = None,
        folder: object = None,
    ) -> None: ...  # fmt: skip

    given = {
        "ablation": "se_ratio", "scale": "smoke", "seeds": (0, 1), "data": None, "overrides": {"a.b": 1},
        "folder": Path("mine"),
    }  # fmt: skip
    call = call_in_words(run, given)
    assert call == "cifar_lab.run('se_ratio', scale='smoke', seeds=[0, 1], overrides={'a.b': 1}, folder='mine')"
    plain = {**given, "scale": "writeup", "seeds": None, "overrides": {}, "folder": None}
    assert call_in_words(run, plain) == "cifar_lab.run('se_ratio')"


@pytest.mark.slow
def test_a_script_needs_no_guard_for_its_workers(tmp_path: Path, few_images: Path) -> None:
    lines = ["import cifar_lab", "print('once')", f"from {__name__.rpartition('.')[2]} import MADE", ""]
    lines[2] = Path(__file__).read_text().split("MADE = ")[1].split("\nCALL")[0].replace("HOSTILE", "'?'")
    lines[2] = f"from cifar_lab import Ablation, Recipe, Variant\nMADE = {lines[2]}"
    lines[3] = f"print(cifar_lab.run(MADE, data={str(few_images)!r}, offline=True, say=None))"
    (tmp_path / "script.py").write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("once\n<RunResult ")
    assert done.stdout.endswith("-made: 4 trained, 0 reused>\n")
