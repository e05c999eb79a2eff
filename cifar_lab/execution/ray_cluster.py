"""Connection to a Ray cluster: the one that is named, the one that runs here, or one that is started for a command."""

from __future__ import annotations

import importlib.util
import logging
import os
import pkgutil
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import psutil

from cifar_lab import process_settings
from cifar_lab.errors import UsageError, first_line
from cifar_lab.execution.settings import Node, usable_cores
from cifar_lab.redaction import redacted_command
from cifar_lab.text import many, printable

if TYPE_CHECKING:
    from types import ModuleType

ADDRESS = "RAY_ADDRESS"
"""Ray's own environment variable with the address of a cluster."""
AUTHENTICATION = "RAY_AUTH_MODE"
"""Ray's own environment variable that says whether a cluster asks for a token."""
HOST_AND_PORT = re.compile(r"([^\s:/]+):(\d{1,5})", re.ASCII)
ANSWER_WITHIN = 5.0
"""Seconds within which a cluster's address must take a connection, and answer."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""First bytes of a client of HTTP/2, which gRPC uses, and a frame of settings without any (RFC 9113, 3.4)."""
LOOK_WITHIN = 60.0
"""Seconds within which nodes say whether they can import cifar_lab; slower ones are not waited for."""
NO_MODULE = "No module named"
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
        UsageError: Ray is not installed, no cluster answers or can be started, or a node cannot import cifar_lab.
    """
    require_ray()
    loaded = sys.modules.get("ray")
    if loaded is not None and loaded.is_initialized():
        require_package(loaded)
        yield cluster_nodes(loaded)
        return
    wanted = address or os.environ.get(ADDRESS) or ""
    require_address(wanted or None)
    with ExitStack() as stack:
        own = "" if wanted else stack.enter_context(_own_cluster())
        import ray

        stack.callback(ray.shutdown)
        _join(ray, wanted or own or "auto")
        require_package(ray)
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


def require_package(ray: ModuleType) -> None:
    """Check that the nodes that are alive can import cifar_lab in the Python that Ray was started with.

    Raises:
        UsageError: one of them cannot.
    """
    look = ray.remote(num_cpus=0, max_retries=0)(pkgutil.resolve_name)  # of the standard library: no node lacks it
    on_node = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    nodes = {
        look.options(scheduling_strategy=on_node(node["NodeID"], soft=False)).remote("cifar_lab:__name__"): node
        for node in ray.nodes()
        if node["Alive"]
    }
    answers, _ = ray.wait(list(nodes), num_returns=len(nodes), timeout=LOOK_WITHIN)
    lacking, why = list[str](), ""
    for answer in answers:
        try:
            ray.get(answer)
        except ImportError as error:  # Ray's error is of the task's class, too
            lacking.append(nodes[answer]["NodeManagerAddress"])
            why = str(error)
        except ray.exceptions.RayError:  # it has died since, or has no room: its cells are to tell
            continue
    if lacking:
        raise UsageError(cannot_import(lacking, why))


def cannot_import(nodes: Sequence[str], trace: str) -> str:
    """Return one line about nodes, by their addresses, that cannot import cifar_lab; `trace` ends with the reason."""
    names = ", ".join(dict.fromkeys(nodes))
    reason = last_line(trace)
    why = "" if reason.endswith(f"{NO_MODULE} 'cifar_lab'") else f" ({reason})"
    which = f"node{'' if len(nodes) == 1 else 's'} {names}"
    advice = "install it in the Python that Ray was started with"
    return f"the Ray cluster's {which} cannot import cifar_lab{why}: {advice}"


def last_line(text: str) -> str:
    """Return the last line of a trace that is not empty, which names the error."""
    return printable(next((line.strip() for line in reversed(text.splitlines()) if line.strip()), ""))


def require_answer(address: str, host: str, port: int) -> None:
    """Check that something at `address` speaks HTTP/2, as the head of a cluster does; Ray would wait for a minute.

    Raises:
        UsageError: nothing takes the connection, or it answers otherwise.
    """
    try:
        with socket.create_connection((host, port), timeout=ANSWER_WITHIN) as connection:
            if os.environ.get("RAY_USE_TLS", "0") in {"1", "true", "True"}:
                return
            connection.sendall(PREFACE)
            answer = connection.recv(9)
    except (TimeoutError, ConnectionResetError, BrokenPipeError):
        answer = b""
    except (OSError, OverflowError) as error:
        raise UsageError(f"--ray-address {address}: no Ray cluster answers there ({error})") from error
    if answer[3:4] != b"\4":  # type of a frame: settings
        raise UsageError(f"--ray-address {address}: no Ray cluster listens there, but something else; by default the "
                         "port of its head is 6379")  # fmt: skip


def _authenticate(ray: ModuleType, address: str) -> None:
    """Have Ray send its user's token if the cluster asks for one and the user has not set `RAY_AUTH_MODE`.

    Raises:
        UsageError: there is no token, it is another, or it is not the head of a cluster that answers.
    """
    try:
        from ray._raylet import AuthenticationTokenLoader, Config, GcsClient
    except ImportError:  # a version of Ray without these, which are not of its public API: the user sets the variable
        return

    advice = "put the token of the user who started it into ~/.ray/auth_token here, or into RAY_AUTH_TOKEN"
    mode, has_token = os.environ.get(AUTHENTICATION), AuthenticationTokenLoader.instance().has_token
    asks = f"--ray-address {address}: the cluster asks for a token"
    if (mode or "").lower() == "token" and not has_token(ignore_auth_mode=True):  # Ray would end this process
        raise UsageError(f"{AUTHENTICATION}={mode}: there is no token: {advice}")
    try:
        with _without_stderr():  # Ray logs a failed call, whatever its level of logging
            GcsClient(address=address)
        return
    except ray.exceptions.AuthenticationError as error:
        if mode is not None and mode.lower() != "token":
            raise UsageError(f"{asks}, which {AUTHENTICATION}={mode} rules out") from error
        if not has_token(ignore_auth_mode=True):
            raise UsageError(f"{asks}: {advice}") from error
    except ray.exceptions.RayError as error:
        raise UsageError(f"--ray-address {address}: not the head of a Ray cluster ({_first_line(error)})") from error
    process_settings.set_default_variables({AUTHENTICATION: "token"})
    Config.initialize("")  # reads the variable again, as Ray does by itself without an address
    try:
        with _without_stderr():
            GcsClient(address=address)
    except ray.exceptions.RayError as error:
        raise UsageError(f"--ray-address {address}: the cluster refuses the token of this user: {advice}") from error


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Discard what C++ code writes to standard error."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _join(ray: ModuleType, address: str) -> None:
    """Connect to a cluster; Ray's messages are left out, and signals are handled as before.

    Raises:
        UsageError: no cluster answers there, it is of another version, or it refuses the token.
    """
    if (parts := HOST_AND_PORT.fullmatch(address)) is not None:
        require_answer(address, parts[1], int(parts[2]))
        _authenticate(ray, address)
    before = signal.getsignal(signal.SIGTERM)
    utils = ray._private.utils
    whole_line = getattr(utils, "get_entrypoint_name", None)
    # Ray tells all users of a cluster the command line, in which an address may have a password.
    utils.get_entrypoint_name = lambda: redacted_command(psutil.Process().cmdline())
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise UsageError(f"--ray-address {address}: {_first_line(error)}") from error
    finally:
        utils.get_entrypoint_name = whole_line
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
    return printable(first_line(error) or type(error).__name__)


if __name__ == "__main__":
    hold_cluster(int(sys.argv[1]))
