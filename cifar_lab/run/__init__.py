"""Planning, training and judging of cells. Called as `cifar_lab.run(…)`, it is the public `cifar_lab.api.run`."""

import inspect
import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """Package with the name of a public function: `cifar_lab.run` is both, whatever was imported first."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return import_module("cifar_lab.api").run(*args, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(import_module("cifar_lab.api").run)


sys.modules[__name__].__class__ = _Callable
