"""Import rules: the allowed imports between packages, and modules that instant commands must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

HOUSE = Path(__file__).parents[2]
EVERYWHERE = {
    "environment", "errors", "extension", "object_store", "openmp", "out_of_space", "process_settings", "redaction",
    "terminal", "text",
}  # fmt: skip
"""Modules that every package may import."""
ORDER = (
    "config", "ablation", "models", "data", "store", "train", "results", "execution", "inspect", "report",
    "mlflow_sync", "search", "inference", "api", "cli",
)  # fmt: skip
"""Packages from the lowest to the highest: each may import some of those before it."""
MAY_IMPORT = {
    **{name: set() for name in EVERYWHERE},
    "config": set(),
    "ablation": {"config"},
    "models": {"config"},
    "data": {"config"},
    "store": {"config", "ablation", "data"},
    "train": {"config", "models", "data", "store"},
    "results": {"config", "ablation", "store"},
    "execution": {"config", "ablation", "models", "data", "store", "train", "results"},
    "inspect": {"config", "store", "train", "results"},
    "report": {"config", "ablation", "store", "results", "inspect"},
    "mlflow_sync": {"config", "ablation", "store", "results", "execution", "report"},
    "search": {"config", "ablation", "models", "data", "store", "results", "execution", "report", "mlflow_sync"},
    "inference": {"config", "models", "data", "store", "train", "results", "execution", "report", "mlflow_sync"},
    "api": set(ORDER) - {"data", "train", "inspect", "search", "api", "cli"},
    "cli": set(ORDER) - {"api", "cli"},
    "recipe": {"config"},
    "testing": {"config", "models", "data", "train"},
    "__main__": {"cli"},
    "__init__": {"ablation", "api", "config"},
}
"""What each package imports, and no more. `mlflow_sync` has only the interface of uploads from `execution`,
and `inference` from `mlflow_sync` only the choice of networks that it is to make servable."""
DOORS = {
    "mlflow": {
        "cifar_lab/mlflow_sync/client.py",
        "cifar_lab/mlflow_sync/connection.py",
        "cifar_lab/mlflow_sync/logged_model.py",
    },
    "typer": {"cifar_lab/cli"},
    "rich": {"cifar_lab/cli", "cifar_lab/data/progress.py"},
    "requests": {"cifar_lab/data/http_client.py", "cifar_lab/data/download.py"},
    "pyarrow": {"cifar_lab/data/array_files.py"},
    "torchvision": set(),
    "fsspec": {"cifar_lab/object_store.py"},
    "s3fs": set(),
    "ray": {"cifar_lab/execution/ray_cluster.py", "cifar_lab/execution/ray_engine.py"},
    "submitit": set(),
    "matplotlib": {"cifar_lab/report"},
    "pandas": {"cifar_lab/report", "cifar_lab/api"},
    "optuna": {"cifar_lab/search"},
    "apprise": {"cifar_lab/report/notification.py"},
    "onnx": {"cifar_lab/inference/onnx_model.py"},
    "onnx_ir": {"cifar_lab/inference/onnx_model.py"},
    "onnxscript": set(),
    "onnxruntime": {"cifar_lab/inference/onnx_model.py", "cifar_lab/inference/export.py"},
}
WITHOUT_TORCH = {*EVERYWHERE, "config", "ablation", "store", "results", "report", "mlflow_sync"}
VOCABULARY = {f"cifar_lab.{name}" for name in ("Ablation", "Claim", "Variant", "EFFICIENT_RESNET", "RESNET18", "FAST")}
"""What built-in ablations import."""


def _files() -> list[Path]:
    return sorted((HOUSE / "cifar_lab").rglob("*.py"))


@cache
def _imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports anywhere; `from a import b` counts as `a.b` too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def _room(path: Path) -> str:
    return path.relative_to(HOUSE / "cifar_lab").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_arrows_point_one_way(path: Path) -> None:
    room = _room(path)
    allowed = MAY_IMPORT[room] | EVERYWHERE | {room}
    reached = {name.split(".")[1] for name in _imports(path) if name.startswith("cifar_lab.")}
    rooms = {_room(file) for file in _files()}
    assert (reached & rooms) <= allowed, f"{path} reaches {sorted((reached & rooms) - allowed)}"


def test_packages_are_in_one_order() -> None:
    for place, name in enumerate(ORDER):
        assert MAY_IMPORT[name] <= set(ORDER[:place]), name


def test_nothing_that_a_package_may_import_is_unused() -> None:
    for name in ORDER:
        files = [file for file in _files() if _room(file) == name]
        reached = {each.split(".")[1] for file in files for each in _imports(file) if each.startswith("cifar_lab.")}
        assert MAY_IMPORT[name] <= reached, name


def test_engines_are_constructed_in_one_place() -> None:
    engines = {"LocalEngine", "RayEngine"}
    calls = [
        path.name
        for folder in ("cifar_lab", "benchmarks")
        for path in (HOUSE / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in engines
    ]
    assert calls == ["engine.py"] * len(engines)


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_library_has_one_door(path: Path) -> None:
    here = str(path.relative_to(HOUSE))
    for library, doors in DOORS.items():
        if any(name.split(".")[0] == library for name in _imports(path)):
            assert any(here.startswith(door) for door in doors), f"{here} imports {library}"


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_recipes_ablations_statistics_and_tracking_know_no_torch(path: Path) -> None:
    if _room(path) in WITHOUT_TORCH:
        assert not any(name.split(".")[0] in {"torch", "torchvision", "safetensors"} for name in _imports(path))


@pytest.mark.parametrize("path", sorted((HOUSE / "ablations").glob("[!_]*.py")), ids=lambda path: path.name)
def test_an_ablation_is_one_small_file_that_imports_the_vocabulary_only(path: Path) -> None:
    assert _imports(path) <= {"cifar_lab", *VOCABULARY}
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.parametrize(
    "path", sorted((HOUSE / "cifar_lab/search/spaces").glob("[!_]*.py")), ids=lambda path: path.name
)
def test_a_space_is_one_small_file_that_imports_the_vocabulary_only(path: Path) -> None:
    dimensions = {f"cifar_lab.search.dimension.{name}" for name in ("Bundle", "Choice", "Integer", "Real")} | {
        "cifar_lab.search.space.Space"
    }
    assert (
        _imports(path)
        <= {"cifar_lab", "cifar_lab.search.dimension", "cifar_lab.search.space"} | VOCABULARY | dimensions
    )
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.parametrize("name", ["space.py", "dimension.py", "spaces"])
def test_spaces_know_neither_torch_nor_optuna(name: str) -> None:
    place = HOUSE / "cifar_lab/search" / name
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        assert not any(module.split(".")[0] in {"torch", "optuna"} for module in _imports(path)), path


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "--version",
        "list",
        "run-ablation --help",
        "predict --help",
        "evaluate --help",
        "shift --help",
        "export --help",
    ],
)
def test_instant_commands_load_nothing_heavy(command: str) -> None:
    program = (
        "import sys; from cifar_lab.cli import run; run(sys.argv[1:]);"
        "heavy = {'torch', 'torchvision', 'mlflow', 'optuna', 'numpy', 'matplotlib', 'pandas', 'apprise'};"
        "heavy &= set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    line = [sys.executable, "-c", program, *command.split()]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(Version(version("torch")) < Version("2.11"), reason="torch 2.10 loads sympy to draw weights")
def test_building_a_network_and_counting_its_work_load_no_compiler() -> None:
    program = (
        "import sys; from cifar_lab import FAST; from cifar_lab.models import cost, resnet;"
        "model = FAST.override({'model.width': 8}).model;"
        "resnet.build_resnet(model, seed=0); cost.network_cost(model);"
        "heavy = {'sympy', 'torch._dynamo'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
