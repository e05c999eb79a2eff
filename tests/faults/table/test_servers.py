"""A tracking server that goes away or misbehaves: training does not wait for it, and every point is there once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from faults.table import servers, store, undisturbed
from faults.table.lab import Done, Lab, Material, differences, wait_until
from faults.table.servers import Mood, Proxy, Server
from faults.table.tally import Tally

pytestmark = pytest.mark.slow
BOTH = pytest.mark.parametrize("database", ["sqlite", "postgresql"])
SQLITE = pytest.mark.parametrize("database", ["sqlite"])


@pytest.fixture
def server(tally: Tally, lab: Lab, material: Material, database: str) -> Iterator[Server]:
    """A server on the database of the row."""
    if database == "postgresql":
        if servers.postgresql_programs() is None or servers.other_user() is None:
            tally.skip("PostgreSQL's programs, or a user who may run them, are not here")
        pytest.importorskip("psycopg")
    chosen = {"sqlite": servers.sqlite_server, "postgresql": servers.postgresql_server}[database]
    with chosen(lab.folder / "server", material) as running:
        yield running


def _words(tally: Tally) -> str:
    """Return how long the study is: in the full form it outlasts most outages."""
    return "train.epochs=300" if tally.is_full else "train.epochs=60"


def _check(
    tally: Tally, lab: Lab, material: Material, server: Server, address: str, outage: Callable[[], None]
) -> None:
    """Run a study with an outage in its middle, sync it, and count what is lost.

    Args:
        address: what the study is told of the server.
        outage: makes the server unwell and well again; called once points have arrived.
    """
    words = _words(tally)
    expected = undisturbed.study(material, words)
    for number in range(tally.tries):
        each = Lab(folder=lab.folder / f"study{number}", material=material)
        each.variables["MLFLOW_TRACKING_URI"] = address
        before = store.number_of_points(server.database)
        process = each.start(each.line(words))
        wait_until(
            lambda: store.number_of_points(server.database) > before or process.poll() is not None,  # noqa: B023
            "the first points to arrive",
        )
        outage()
        done = each.done(process)
        each.variables["MLFLOW_TRACKING_URI"] = server.address
        synced = _sync(each)
        lacking, held = store.lacks(server.database, each.records())
        problems = [*done.problems(0), *synced.problems(0), *differences(each.records(), expected), *lacking]
        tally.add(problems, f"study {number + 1}")
        ratio = undisturbed.training_seconds(each) / undisturbed.seconds(material, words)
        tally.notes["points in MLflow"] = str(int(tally.notes.get("points in MLflow", "0")) + held)
        tally.notes["time of training against an undisturbed run"] = f"{ratio:.2f}"
    tally.settle()


def _sync(lab: Lab) -> Done:
    """Ship what is left; a server that has just been started may need a second call."""
    done = lab.run("sync", "--runs", str(lab.runs))
    return done if done.code == 0 else lab.run("sync", "--runs", str(lab.runs))


@BOTH
def test_server_stopped(tally: Tally, lab: Lab, material: Material, server: Server) -> None:
    def outage() -> None:
        server.signal(signal.SIGSTOP)
        time.sleep(60 if tally.is_full else 4)
        server.signal(signal.SIGCONT)

    _check(tally, lab, material, server, server.address, outage)


@BOTH
def test_server_killed(tally: Tally, lab: Lab, material: Material, server: Server) -> None:
    def outage() -> None:
        server.kill()
        time.sleep(10 if tally.is_full else 1)
        server.start()

    _check(tally, lab, material, server, server.address, outage)


@BOTH
def test_server_moved(tally: Tally, lab: Lab, material: Material, server: Server) -> None:
    def outage() -> None:
        server.kill()
        server.port = servers.free_port()
        server.start()

    _check(tally, lab, material, server, server.address, outage)


@contextmanager
def _misbehaving(tally: Tally, server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.port, seconds=30 if tally.is_full else 3)
    try:
        yield proxy
    finally:
        proxy.shutdown()


def _misbehave(tally: Tally, lab: Lab, material: Material, server: Server, mood: Mood, seconds: float) -> None:
    with _misbehaving(tally, server) as proxy:

        def outage() -> None:
            proxy.mood = mood
            time.sleep(seconds)
            proxy.mood = "well"

        _check(tally, lab, material, server, proxy.address, outage)
        tally.notes["requests answered wrongly"] = str(proxy.misbehaved)


@SQLITE
def test_server_answers_500(tally: Tally, lab: Lab, material: Material, server: Server) -> None:
    _misbehave(tally, lab, material, server, "500", 30 if tally.is_full else 4)


@SQLITE
def test_server_answers_html(tally: Tally, lab: Lab, material: Material, server: Server) -> None:
    _misbehave(tally, lab, material, server, "html", 30 if tally.is_full else 4)


@SQLITE
def test_server_answers_late(tally: Tally, lab: Lab, material: Material, server: Server) -> None:
    _misbehave(tally, lab, material, server, "late", 60 if tally.is_full else 4)


@SQLITE
def test_server_answers_lost(tally: Tally, lab: Lab, material: Material, server: Server) -> None:
    _misbehave(tally, lab, material, server, "lost", 20 if tally.is_full else 4)
