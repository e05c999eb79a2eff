"""Connection to a Ray cluster: the one that is named, the one that runs here, or one that is started for a command."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from cifar_lab import process_settings
from cifar_lab.errors import UsageError
from cifar_lab.execution.settings import Node, usable_cores
from cifar_lab.text import many, printable

if TYPE_CHECKING:
    from types import ModuleType

ADDRESS = "RAY_ADDRESS"
"""Ray's own environment variable with the address of a cluster."""
AUTHENTICATION = "RAY_AUTH_MODE"
"""Ray's own environment variable that says whether a cluster asks for a token."""
HOST_AND_PORT = re.compile(r"([^\s:/]+):(\d{1,5})", re.ASCII)
ANSWER_WITHIN = 5.0
"""Seconds within which a cluster's address must take a connection."""
OBJECT_STORE = 80 * 2**20
"""Bytes of shared memory of a cluster that is started here, Ray's minimum: only recipes and progress go through it."""
STARTED = "cluster "
"""Beginning of the line on which `hold_cluster` prints the address; nothing follows if a cluster runs here already."""


def require_ray() -> None:
    """Check that Ray is installed, without loading it.

    Raises:
        UsageError: it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--engine ray: Ray is not installed: pip install 'cifar-lab[ray]'")


def require_address(address: str | None) -> None:
    """Check that an address of a cluster is host:port, or `auto`.

    Raises:
        UsageError: it has another form.
    """
    if address is None or address == "auto" or HOST_AND_PORT.fullmatch(address):
        return
    if address.startswith("ray://"):
        raise UsageError(f"--ray-address {address}: Ray's client is not supported; run the command on a node of the "
                         "cluster, with host:port of its head")  # fmt: skip
    raise UsageError(f"--ray-address {address}: host:port of the head of a cluster is wanted, 10.0.0.1:6379")


@contextmanager
def connected(address: str | None, say: Callable[[str], None]) -> Iterator[tuple[Node, ...]]:
    """Connect this process to a cluster, and yield its nodes; a connection that is there already is kept.

    `address`: host:port of a cluster; None: that of `RAY_ADDRESS`, else the cluster that was started on this machine
    by `ray start`, else a cluster of this machine alone, which is started now and stopped at the end.

    Raises:
        UsageError: Ray is not installed, or no cluster answers or can be started.
    """
    require_ray()
    loaded = sys.modules.get("ray")
    if loaded is not None and loaded.is_initialized():
        yield cluster_nodes(loaded)
        return
    wanted = address or os.environ.get(ADDRESS) or ""
    require_address(wanted or None)
    with ExitStack() as stack:
        own = "" if wanted else stack.enter_context(_own_cluster())
        if own:  # a cluster that Ray starts for one machine asks for its user's token; Ray reads this as it is loaded
            process_settings.set_default_variables({AUTHENTICATION: "token"})
        import ray

        stack.callback(ray.shutdown)
        _join(ray, wanted or own or "auto")
        nodes = cluster_nodes(ray)
        what = "started for this command" if own else f"at {ray.get_runtime_context().gcs_address}"
        cores, gpus = sum(node.cores for node in nodes), sum(node.gpus for node in nodes)
        have = f"{many(len(nodes), 'node')}, {many(cores, 'core')}" + (f", {many(gpus, 'GPU')}" if gpus else "")
        say(f"Ray cluster {what}: {have}")
        yield nodes


def cluster_nodes(ray: ModuleType) -> tuple[Node, ...]:
    """Return the nodes that are alive."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return tuple(
        Node(cores=int(each.get("CPU", 0)), gpus=int(each.get("GPU", 0)), memory=int(each.get("memory", 0)))
        for each in resources
    )


def _join(ray: ModuleType, address: str) -> None:
    """Connect to a cluster; Ray's messages are left out, and signals are handled as before.

    Raises:
        UsageError: no cluster answers there, or it is of another version.
    """
    if (parts := HOST_AND_PORT.fullmatch(address)) is not None:  # Ray would wait for a minute
        try:
            socket.create_connection((parts[1], int(parts[2])), timeout=ANSWER_WITHIN).close()
        except (OSError, OverflowError) as error:
            raise UsageError(f"--ray-address {address}: no Ray cluster answers there ({error})") from error
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UsageError(f"--ray-address {address}: {_first_line(error)}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray sets a handler of its own
    # Ray prints a page about each node or process that dies, on standard output, where --json prints JSON. The engine
    # reports them in one line. No option switches that off.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None


@contextmanager
def _own_cluster() -> Iterator[str]:
    """Start a cluster of this machine, and yield its address; empty if a cluster of `ray start` runs here.

    It runs in a session of its own, so that no signal to this process group (Ctrl-C, a closed terminal, `timeout`)
    reaches it, and ends when this process ends, however that happens.

    Raises:
        UsageError: it does not start.
    """
    line = [sys.executable, "-m", __name__, str(usable_cores())]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    with tempfile.TemporaryFile("w+") as errors:
        holder = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
            start_new_session=True,
        )  # fmt: skip
        try:
            assert holder.stdout is not None, "it is a pipe"
            answer = next((line for line in holder.stdout if line.startswith(STARTED)), None)
            if answer is None:
                holder.wait()
                errors.seek(0)
                said = [line for line in errors.read().splitlines() if line.strip()]
                raise UsageError(f"--engine ray: no cluster could be started here: {printable((said or ['?'])[-1])}")
            yield answer.removeprefix(STARTED).strip()
        finally:
            holder.communicate()  # closes its standard input, at which it stops the cluster


def hold_cluster(cores: int) -> None:
    """Start a cluster of this machine, print its address, and stop it at the end of standard input."""
    import ray

    address = ""
    try:
        ray.init(
            num_cpus=cores, object_store_memory=OBJECT_STORE, include_dashboard=False, log_to_driver=False,
            logging_level=logging.ERROR,
        )  # fmt: skip
        address = ray.get_runtime_context().gcs_address
    except ValueError:  # a cluster runs here: its processors are not ours to set
        ray.shutdown()
    print(f"{STARTED}{address}", flush=True)
    sys.stdin.read()
    ray.shutdown()


def _first_line(error: BaseException) -> str:
    return printable(next(iter(str(error).strip().splitlines()), type(error).__name__))


if __name__ == "__main__":
    hold_cluster(int(sys.argv[1]))
