"""Parts that need no Ray: the choice of threads and cells on a cluster, addresses, the advice where Ray is missing."""

from __future__ import annotations

import importlib.util
import socket
import threading
from collections.abc import Callable

import pytest

from cifar_lab.cli.engine import require_engine
from cifar_lab.errors import UsageError
from cifar_lab.execution.engine import make_engine
from cifar_lab.execution.ray_cluster import PREFACE, cannot_import, require_address, require_answer
from cifar_lab.execution.settings import MEMORY_PER_WORKER, Node, choose_execution, choose_on_cluster, usable_cores

SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""Frame that a server of HTTP/2 sends first."""
CPUS = (Node(cores=0), Node(cores=8), Node(cores=4))


@pytest.mark.parametrize(
    ("workers", "cells", "threads", "count"),
    [
        ("auto", 100, 1, 12),
        ("auto", 12, 1, 12),
        ("auto", 6, 2, 6),
        ("auto", 3, 4, 3),
        ("auto", 2, 4, 2),  # 8 threads would leave no node for the second
        ("auto", 1, 8, 1),
        ("4", 100, 2, 4),
        ("40", 100, 1, 40),  # more than there is: they wait, or the cluster grows
    ],
)
def test_cells_get_the_most_threads_with_which_all_find_room(
    workers: str, cells: int, threads: int, count: int
) -> None:
    execution, at_once = choose_on_cluster(CPUS, "auto", workers, cells)
    assert (execution.device, execution.threads, at_once) == ("cpu", threads, count)


def test_a_cluster_of_one_machine_gives_the_threads_of_the_local_engine() -> None:
    cores = usable_cores()
    for workers in range(1, cores + 2):
        chosen = choose_on_cluster((Node(cores=cores),), "cpu", str(workers), 100)
        assert chosen == choose_execution("cpu", str(workers), 100)


def test_memory_limits_the_cells_of_a_node() -> None:
    nodes = (Node(cores=8, memory=3 * MEMORY_PER_WORKER), Node(cores=2, memory=100 * MEMORY_PER_WORKER))
    assert choose_on_cluster(nodes, "auto", "auto", 100)[1] == 5


def test_gpus_of_the_cluster_are_taken_and_shared() -> None:
    nodes = (Node(cores=16), Node(cores=32, gpus=2), Node(cores=64, gpus=4))
    one, count = choose_on_cluster(nodes, "auto", "auto", 100)
    shared, more = choose_on_cluster(nodes, "cuda", "auto", 100, cells_per_gpu=3)
    assert (one.device, one.threads, one.graph, count) == ("cuda", 2, True, 6)
    assert more == 18
    assert shared == one, "threads do not follow from how many share a GPU"
    assert choose_on_cluster(nodes, "cpu", "auto", 1000)[0].device == "cpu"


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "device cuda: no node of the Ray cluster has a GPU; device auto uses what it has"),
        ("cuda:1", "device cuda:1 does not go with --engine ray"),
        ("mps", "device mps does not go with --engine ray"),
    ],
)
def test_a_device_that_no_task_can_be_given_is_refused(device: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_on_cluster(CPUS, device, "auto", 1)


@pytest.mark.parametrize("address", [None, "auto", "10.0.0.1:6379", "head.cluster:6379"])
def test_addresses_of_a_head_are_taken(address: str | None) -> None:
    require_address(address)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://head:10001", "Ray's client is not supported"),
        ("head", "host:port of the head of a cluster is wanted"),
        ("http://head:6379", "host:port"),
    ],
)
def test_other_addresses_are_refused(address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        require_address(address)


@pytest.mark.parametrize(
    ("name", "address", "message"),
    [
        ("slurm", None, "--engine slurm goes with run-ablation only"),
        ("rya", None, "no engine named 'rya'; did you mean 'ray'"),
        ("local", "head:6379", "--ray-address goes with --engine ray only"),
    ],
)
def test_options_that_do_not_go_together_are_refused(name: str, address: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        require_engine(name, address)


def test_without_ray_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    for attempt in (lambda: make_engine("ray", 1), lambda: require_engine("ray", None)):
        with pytest.raises(UsageError, match=r"Ray is not installed: pip install 'cifar-lab\[ray\]'"):
            attempt()


@pytest.mark.parametrize(
    ("behave", "is_cluster"),
    [
        (lambda connection: connection.sendall(SETTINGS), True),
        (lambda connection: connection.close(), False),  # as PostgreSQL does
        (lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), False),
        (lambda _: None, False),
    ],
)
def test_something_else_behind_the_address_of_a_cluster_is_named_within_seconds(
    behave: Callable[[socket.socket], None], is_cluster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_lab.execution.ray_cluster.ANSWER_WITHIN", 0.5)
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    heard, is_over = list[bytes](), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                heard.append(connection.recv(len(PREFACE)))
                behave(connection)
                is_over.wait(10)

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            if is_cluster:
                require_answer("head:1", "127.0.0.1", port)
            else:
                with pytest.raises(UsageError, match="head:1: no Ray cluster listens there, but something else"):
                    require_answer("head:1", "127.0.0.1", port)
        finally:
            is_over.set()
            serving.join()
    assert heard == [PREFACE]


def test_an_address_where_nothing_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UsageError, match="no Ray cluster answers there"):
        require_answer("head:1", "127.0.0.1", port)


@pytest.mark.parametrize(
    ("nodes", "trace", "line"),
    [
        (
            ["10.0.0.2"],
            "Traceback\nModuleNotFoundError: No module named 'cifar_lab'\n\n",
            "node 10.0.0.2 cannot import cifar_lab: install it in the Python that Ray was started with",
        ),
        (
            ["a", "b"],
            "ModuleNotFoundError: No module named 'torch'",
            "nodes a, b cannot import cifar_lab (ModuleNotFoundError: No module named 'torch'): ",
        ),
    ],
)
def test_nodes_without_the_package_are_named(nodes: list[str], trace: str, line: str) -> None:
    assert line in cannot_import(nodes, trace)
