"""Disturb cells on an NFS mount, in the guest that guest.sh makes, and write to facts.json what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

OUT, RUNS, EXPORT, HOME = Path("/mnt/out"), Path("/mnt/runs"), Path("/mnt/export"), Path("/mnt/home")
ROOT = Path(__file__).parents[2]
STUDY = (
    "run-ablation", "optimizers_cosine", "--scale", "smoke", "model.width=4", "model.blocks=[1,1]", "train.epochs=24",
    "--seeds", "0", "--workers", "1", "--offline", "-y",
)  # fmt: skip
ONE = ("--variants", "adam")
BOTH = ("--variants", "sgd_nesterov,adam")
TESTED = ("atomic_file", "cell_owner", "cell_record", "checksum", "invocation", "invocation_index", "journal")
PATIENCE = 600.0
"""Seconds: an import of torch takes half a minute in the guest."""


def node_pid(node: int) -> str:
    """Return the process id of the first process of a node."""
    return Path(f"/run/node{node}.pid").read_text().strip()


def entering(node: int) -> tuple[str, ...]:
    """Return the words before a command line that let it run on a node."""
    return ("nsenter", "-t", node_pid(node), "-m", "-u", "-n", "-p")


def lab(node: int | None, runs: Path, *words: str) -> subprocess.Popen[str]:
    """Begin a command of cifar-lab on a node, or without one on the server; what it prints goes to files."""
    where = entering(node) if node else ()
    name = f"{runs.name}-{node}-{words[0]}-{time.monotonic_ns()}"
    line = [*where, "env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "cifar_lab", *words, "--runs", str(runs)]
    with (OUT / f"{name}.out").open("w") as out, (OUT / f"{name}.err").open("w") as err:
        return subprocess.Popen(line, cwd=HOME, stdout=out, stderr=err, text=True)


def read(runs: Path, *words: str) -> Any:
    """Return what a command prints as JSON, run on the server beside the exported folder; it may exit with 1."""
    where = EXPORT / runs.name if runs.parent == RUNS else runs
    line = [sys.executable, "-m", "cifar_lab", *words, "--runs", str(where), "--json"]
    done = subprocess.run(line, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=HOME, capture_output=True, text=True,
                          check=False)  # fmt: skip
    return json.loads(done.stdout) if done.stdout else done.stderr


def values(runs: Path) -> Any:
    """Return the values of each variant, or what `compare` said instead."""
    table = read(runs, "compare", "optimizers_cosine")
    return {row["variant"]: row["values"] for row in table["rows"]} if isinstance(table, dict) else table


def events(runs: Path, kind: str) -> list[dict[str, Any]]:
    """Return the whole events of one kind in the journals of all cells, as the server has them."""
    texts = [path.read_text() for path in (EXPORT / runs.name).glob("*/journal.jsonl")]
    whole = [line for text in texts for line in text.split("\n")[:-1] if f'"event": "{kind}"' in line]
    return [json.loads(line) for line in whole]


def until(condition: Callable[[], bool], what: str, command: subprocess.Popen[str]) -> None:
    """Wait for `condition`, which `command` brings about.

    Raises:
        TimeoutError: it does not hold within `PATIENCE`, or when the command has ended.
    """
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end or command.poll() is not None:
            raise TimeoutError(f"never: {what}; exit code {command.returncode}")
        time.sleep(0.5)


def begin(node: int, runs: Path) -> subprocess.Popen[str]:
    """Let a node train one cell, and return its command when three epochs are in the journal."""
    command = lab(node, runs, *STUDY, *ONE)
    until(lambda: len(events(runs, "points")) >= 3, "three epochs", command)
    return command


def outcome(runs: Path, *commands: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for commands, and return their exit codes and what is in the runs folder then."""
    codes = [command.wait(PATIENCE) for command in commands]
    return {
        "codes": codes,
        "values": values(runs),
        "starts": len(events(runs, "start")),
        "resumed": sorted(event["epoch"] for event in events(runs, "resume")),
        "damage": read(runs, "fsck"),
    }


def alone() -> dict[str, Any]:
    """Train on the server's own disk, undisturbed."""
    return outcome(HOME / "alone", lab(None, HOME / "alone", *STUDY, *BOTH))


def together() -> dict[str, Any]:
    """Type the same command on both nodes at once."""
    runs = RUNS / "together"
    return outcome(runs, lab(1, runs, *STUDY, *BOTH), lab(2, runs, *STUDY, *BOTH))


def killed() -> dict[str, Any]:
    """Kill every process of node 1 in the middle of a cell; node 2 is asked for the same."""
    runs = RUNS / "killed"
    first = begin(1, runs)
    subprocess.run(["pkill", "-9", "--ns", node_pid(1), "--nslist", "pid", "python"], check=True)
    first.wait(PATIENCE)
    begun = time.monotonic()
    return outcome(runs, lab(2, runs, *STUDY, *ONE)) | {"seconds": time.monotonic() - begun}


def restarted() -> dict[str, Any]:
    """Stop the server for longer than its leases in the middle of a cell."""
    runs = RUNS / "restarted"
    first = begin(1, runs)
    subprocess.run(["rpc.nfsd", "0"], check=True)
    time.sleep(20)
    subprocess.run(["rpc.nfsd", "--no-nfs-version", "3", "4"], check=True)
    return outcome(runs, first)


def cut() -> dict[str, Any]:
    """Cut node 1 off in the middle of a cell until node 2 has taken it and trains it, then connect it again."""
    runs = RUNS / "cut"
    first = begin(1, runs)
    subprocess.run(["ip", "link", "set", "up1", "down"], check=True)
    second = lab(2, runs, *STUDY, *ONE)
    until(lambda: len(events(runs, "resume")) >= 2, "node 2 takes the cell", second)
    subprocess.run(["ip", "link", "set", "up1", "up"], check=True)
    return outcome(runs, second, first)


def unit_tests() -> dict[str, Any]:
    """Run the tests of records, locks and files on the mount, each module in a process: a guest maps few pages."""
    codes = {}
    with (OUT / "unit_tests.out").open("w") as out:
        for name in TESTED:
            line = [*entering(1), "env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "pytest", "-p", "no:cacheprovider",
                    "--basetemp", str(RUNS / name), str(ROOT / f"tests/unit/store/test_{name}.py")]  # fmt: skip
            codes[name] = subprocess.run(line, cwd=ROOT, stdout=out, stderr=out, check=False).returncode
    return {"codes": codes}


PARTS = (alone, together, killed, restarted, unit_tests, cut)


def main(wanted: str) -> None:
    """Run the parts with these names, separated by commas, or all; a part that fails is a fact, too."""
    facts: dict[str, Any] = {}
    for part in PARTS:
        if wanted in {"all", part.__name__} or part.__name__ in wanted.split(","):
            begun = time.monotonic()
            try:
                facts[part.__name__] = part()
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                facts[part.__name__] = {"failed": repr(error)}
            print(part.__name__, round(time.monotonic() - begun), "s", facts[part.__name__], flush=True)
            (OUT / "facts.json").write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
