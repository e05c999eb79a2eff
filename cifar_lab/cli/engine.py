"""`--engine`: where cells are trained, on this machine, on a Slurm cluster or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cifar_lab.cli import completion, console
from cifar_lab.errors import UsageError, nearest
from cifar_lab.execution.engine import LOCAL as LOCAL
from cifar_lab.execution.engine import RAY

if TYPE_CHECKING:
    from cifar_lab.execution.settings import Node

SLURM = "slurm"
"""Name of the engine that submits cells to a queue and returns."""
STAYING = (LOCAL, RAY)
"""Engines whose command stays until the cells have ended."""
EngineName = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="local|slurm|ray",
        help="Where cells are trained: local, on this machine; slurm, by an array job, which is submitted; ray, as "
        "tasks of a Ray cluster.",
        autocompletion=completion.one_of(LOCAL, SLURM, RAY),
    ),
]
StayingEngineName = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="local|ray",
        help="Where cells are trained: local, on this machine; ray, as tasks of a Ray cluster.",
        autocompletion=completion.one_of(*STAYING),
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        help="Ray: address of the cluster.",
        show_default="RAY_ADDRESS, else the cluster that runs here, else one for this command",
    ),
]


def require_engine(name: str, ray_address: str | None, *, can_submit: bool = False) -> None:
    """Check the options of `--engine`.

    `can_submit`: the command takes `slurm`.

    Raises:
        UsageError: there is no such engine, this command does not take it, or its library is not installed.
    """
    names = (LOCAL, SLURM, RAY) if can_submit else STAYING
    if name == SLURM and not can_submit:
        raise UsageError("--engine slurm goes with run-ablation only")
    if name not in names:
        raise UsageError(f"--engine: no engine named '{name}'{nearest(name, names)}")
    if name != RAY:
        if ray_address is not None:
            raise UsageError("--ray-address goes with --engine ray only")
        return
    from cifar_lab.execution.ray_cluster import require_address, require_ray

    require_address(ray_address)
    require_ray()


@contextmanager
def engine_nodes(engine: str, ray_address: str | None) -> Iterator[tuple[Node, ...] | None]:
    """Connect to the cluster of an engine, and yield its nodes; None for the local engine.

    Raises:
        UsageError: no cluster answers, or can be started here.
    """
    if engine != RAY:
        yield None
        return
    from cifar_lab.execution.ray_cluster import connected

    with connected(ray_address, console.say) as nodes:
        yield nodes
