"""cifar-lab: controlled ablations of CIFAR-10 classifiers under a parameter budget, tracked in MLflow.

The names in `__all__` are the public API (see `cifar_lab.api`). Each is imported when it is first used, so that
`import cifar_lab` loads nothing else.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cifar_lab.ablation.ablation import Ablation as Ablation
    from cifar_lab.ablation.ablation import Claim as Claim
    from cifar_lab.ablation.ablation import Variant as Variant
    from cifar_lab.api import compare as compare
    from cifar_lab.api import evaluate as evaluate
    from cifar_lab.api import export as export
    from cifar_lab.api import find_ablation as find_ablation
    from cifar_lab.api import load_cell as load_cell
    from cifar_lab.api import load_runs as load_runs
    from cifar_lab.api import plan as plan
    from cifar_lab.api import predict as predict
    from cifar_lab.api import run as run
    from cifar_lab.api import shift as shift
    from cifar_lab.api import train_recipe as train_recipe
    from cifar_lab.api import verify as verify
    from cifar_lab.config.baselines import EFFICIENT_RESNET as EFFICIENT_RESNET
    from cifar_lab.config.baselines import FAST as FAST
    from cifar_lab.config.baselines import RESNET18 as RESNET18
    from cifar_lab.config.recipe import Recipe as Recipe

__version__ = "0.1.0"

_HOMES = {
    **dict.fromkeys(("Ablation", "Claim", "Variant"), "cifar_lab.ablation"),
    **dict.fromkeys(("EFFICIENT_RESNET", "FAST", "RESNET18"), "cifar_lab.config.baselines"),
    "Recipe": "cifar_lab.config.recipe",
    **dict.fromkeys(
        (
            *("compare", "evaluate", "export", "find_ablation", "load_cell", "load_runs", "plan", "predict", "run"),
            *("shift", "train_recipe", "verify"),
        ),
        "cifar_lab.api",
    ),
}
"""Module of each public name."""
__all__ = [*sorted(_HOMES)]

_COMMANDS = (
    *("ablate", "ablate-best", "clean", "describe", "diff", "doctor", "failures", "fsck", "judge", "list", "pack"),
    *("report", "run-ablation", "status", "sweep", "sweep-best", "sweep-confirm", "sweep-importance", "sweep-report"),
    *("sweep-status", "sync", "tail", "train", "ui"),
)
"""Commands that no public name does the same as."""


def _hint(name: str) -> str:
    """Return the command of this name, or the nearest public name."""
    if (command := name.replace("_", "-")) in _COMMANDS:
        return f"; it is a command: cifar-lab {command} --help"
    from cifar_lab.errors import nearest

    return nearest(name, __all__).replace("; one of:", "; it has")


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'cifar_lab' has no attribute '{name}'{_hint(name)}")
    value: object = getattr(_import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
