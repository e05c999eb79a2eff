"""A runs folder on a real NFS 4.2 mount, shared by two nodes: typed on both, killed, cut off, and the server restarted.

Both nodes and the server are in a guest of User Mode Linux (`tests/nfs/guest.sh`), so no kernel of theirs is needed.
Needs root, Debian's user-mode-linux, nfs-kernel-server, kmod and iproute2; without them the tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

GUEST = Path(__file__).parents[1] / "nfs" / "guest.sh"
NEEDED = ("linux.uml", "rpc.nfsd", "rpc.mountd", "rpcbind", "exportfs", "mount.nfs4", "modprobe", "ip")
LONGEST = 3600.0
"""Seconds; all parts took 36 minutes in all on two AVX2 cores beside other work."""
PARTS = ("together", "killed", "restarted", "cut")


def _lacks() -> str:
    if os.getuid():
        return "root"
    return ", ".join(name for name in NEEDED if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(_lacks()), reason=f"no NFS in a guest here: needs {_lacks()}"),
]


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Facts of each part of the scenario."""
    out = tmp_path_factory.mktemp("guest")
    line = ["linux.uml", "mem=4G", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={GUEST}",
            "con=null", "con0=null,fd:1", f"nfs_out={out}", f"nfs_python={sys.executable}"]  # fmt: skip
    with (out / "boot.log").open("w") as log:
        subprocess.run(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=LONGEST, check=False)
    assert (out / "facts.json").exists(), (out / "boot.log").read_text()[-2000:]
    return dict(json.loads((out / "facts.json").read_text()))


@pytest.mark.parametrize("part", PARTS)
def test_its_commands_end_well_with_the_numbers_of_a_local_run(facts: dict[str, Any], part: str) -> None:
    local = facts["alone"]["values"]
    assert set(facts[part]["codes"]) == {0}
    assert facts[part]["values"] == {name: local[name] for name in facts[part]["values"]}
    assert facts[part]["damage"]["problems"] == []


def test_the_same_command_on_both_nodes_trains_each_cell_once(facts: dict[str, Any]) -> None:
    assert set(facts["together"]["values"]) == {"sgd_nesterov", "adam"}
    assert facts["together"]["resumed"] == [0, 0]


@pytest.mark.parametrize("part", ["killed", "cut"])
def test_the_other_node_goes_on_from_the_checkpoint(facts: dict[str, Any], part: str) -> None:
    first, second = facts[part]["resumed"]
    assert (first, second > 0) == (0, True)


def test_a_server_that_restarts_is_waited_for(facts: dict[str, Any]) -> None:
    assert facts["restarted"]["resumed"] == [0]


def test_the_tests_of_the_store_pass_on_the_mount(facts: dict[str, Any]) -> None:
    assert set(facts["unit_tests"]["codes"].values()) == {0}, facts["unit_tests"]["codes"]
