"""The server that workers are forked from: started before torch is there, ready when it says so."""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from cifar_lab.cli import run
from cifar_lab.execution import fork_server
from cifar_lab.execution.engine import warm_up

pytestmark = pytest.mark.usefixtures("users_fork_server")
LIGHT = ("json", "decimal")
"""Modules in place of those that workers need, which take seconds to load."""


def test_it_is_started_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    code = (
        "import os, sys; from cifar_lab.execution import fork_server; from cifar_lab.cli import run\n"
        "def started(modules):\n"
        "    print('loaded:', {'torch', 'numpy', 'mlflow'} & set(sys.modules), flush=True); os._exit(0)\n"
        "fork_server.start_fork_server = started; run(['run-ablation', 'se_ratio', '--scale', 'smoke', '--seeds', '0'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "loaded: set()\n" in done.stderr


@pytest.mark.parametrize("is_needed", [True, False])
def test_it_stays_where_cells_are_missing_and_ends_where_none_is(
    is_needed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server, "PRELOADED", LIGHT)
    with warm_up(trains=True) as settle:
        assert fork_server.SERVER._forkserver_pid is not None
        settle(is_needed)
    assert (fork_server.SERVER._forkserver_pid is not None) == is_needed


def test_it_is_ended_where_what_was_typed_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "pictures" / "train" / "cat" / "1.png").touch()  # to see that it is none takes modules loaded meanwhile
    fork_server.start_fork_server()
    pid = fork_server.SERVER._forkserver_pid
    assert run(["run-ablation", "se_ratio", "--scale", "smoke", "--data", "pictures"]) == 2
    assert fork_server.SERVER._forkserver_pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    fork_server.stop()  # and once more is none too many


def _loaded(channel: Connection) -> None:
    channel.send("torch._dynamo" in sys.modules and "cifar_lab.execution.worker" in sys.modules)


def test_its_processes_have_torch() -> None:
    context = fork_server.start_fork_server()
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_loaded, args=(send,))
    process.start()
    send.close()
    assert receive.recv() is True
    process.join()


def test_it_is_there_when_it_was_waited_for() -> None:
    fork_server.wait(LIGHT)
    pid = fork_server.SERVER._forkserver_pid
    fork_server.start_fork_server(LIGHT)
    assert fork_server.SERVER._forkserver_pid == pid, "one server is enough"


def test_older_allocators_are_told_no_more_than_they_take() -> None:
    new, old = (fork_server.allocator(("glibc", version)) for version in ("2.35", "2.34"))
    assert int(new["MALLOC_MMAP_THRESHOLD_"]) > int(old["MALLOC_MMAP_THRESHOLD_"]) == 32 * 2**20
    assert fork_server.allocator(("", "")) == {}, "another libc has no such settings"


@pytest.mark.parametrize(
    ("words", "loads"),
    [
        (["plan", "se_ratio", "--scale", "smoke", "--seeds", "0"], [fork_server.WITHOUT_COMPILER]),
        (["run-ablation", "se_ratio", "--scale", "smoke", "--variants", "r17"], []),
        (["run-ablation", "se_ratio", "--scale", "smoke", "--seeds", "0"], [fork_server.PRELOADED]),
    ],
)
def test_who_trains_has_it_load_what_cells_need_and_who_plans_what_timing_needs(
    words: list[str], loads: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    begun: list[tuple[str, ...]] = []

    def noted(modules: tuple[str, ...]) -> None:
        begun.append(modules)
        raise KeyboardInterrupt  # what follows is not of interest here

    monkeypatch.setattr(fork_server, "start_fork_server", noted)
    run(words)
    assert begun == loads


def test_one_that_loaded_less_is_replaced_by_who_needs_more_and_not_the_other_way_round() -> None:
    fork_server.wait(LIGHT[:1])
    small = fork_server.SERVER._forkserver_pid
    fork_server.wait(LIGHT)
    large = fork_server.SERVER._forkserver_pid
    fork_server.wait(LIGHT[:1])
    assert small != large == fork_server.SERVER._forkserver_pid


def test_its_socket_fits_where_the_folder_for_temporary_files_has_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("slurm_job_tmp_" * 7)
    folder.mkdir()
    code = "from cifar_lab.execution import fork_server\nif __name__ == '__main__':\n"
    code += "    fork_server.start_fork_server(('json',))\n    print('ok')"
    (tmp_path / "program.py").write_text(code)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")], env={**os.environ, "TMPDIR": str(folder)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr


@pytest.mark.slow
def test_what_it_loads_leaves_cuda_alone() -> None:
    code = (
        "import importlib, torch\n"
        "from cifar_lab.execution.fork_server import PRELOADED\n"
        "called = []\n"
        "answers = {'_lazy_init': None, 'is_available': True, 'device_count': 1, 'get_device_capability': (9, 0)}\n"
        "for name, answer in answers.items():\n"
        "    setattr(torch.cuda, name, lambda *_, name=name, answer=answer, **__: called.append(name) or answer)\n"
        "for name in PRELOADED: importlib.import_module(name)\n"
        "print(called)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", f"workers could not use CUDA any more: {done.stdout} {done.stderr}"


def test_torch_asks_the_driver_whether_there_is_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTORCH_NVML_BASED_CUDA_CHECK", raising=False)
    fork_server.start_fork_server()
    assert os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] == "1"


USERS_PROGRAM = """
import multiprocessing as mp, os, sys, threading, time
from concurrent.futures import ProcessPoolExecutor

def nap():
    time.sleep(60)

if __name__ == "__main__":
    os.environ["KMP_AFFINITY"] = "none"
    before = dict(os.environ)
    context = mp.get_context("forkserver")
    running = context.Process(target=nap, daemon=True)
    running.start()
    pool = ProcessPoolExecutor(1, mp_context=context)
    assert pool.submit(os.getpid).result()
    import cifar_lab
    done = []
    def study():
        plan = cifar_lab.plan("se_ratio", scale="smoke", seeds=[0], say=None)
        done.append(len(plan.to_frame()))
        os.environ["OF_THE_USER"] = "1"
    if "thread" in sys.argv:
        worker = threading.Thread(target=study)
        worker.start()
        worker.join()
    else:
        study()
    assert done and done[0] > 1
    assert pool.submit(os.getpid).result()
    assert running.is_alive()
    for process in (running, context.Process(target=nap, daemon=True)):
        if process.pid is None:
            process.start()
        process.terminate()
        process.join(30)
        assert process.exitcode == -15, process.exitcode
    assert dict(os.environ) == {**before, "OF_THE_USER": "1"}
    print("untouched")
"""


@pytest.mark.parametrize("where", [pytest.param("main", marks=pytest.mark.slow), "thread"])
def test_processes_and_variables_of_the_program_that_calls_stay_as_they_are(where: str, tmp_path: Path) -> None:
    """The caller's fork server runs on, its processes obey signals, and its commands inherit no variable of ours."""
    (tmp_path / "program.py").write_text(USERS_PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py", where], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "untouched\n", done.stderr
