"""Run the tests that need a GPU, each of them a check on the page."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from on_gpu.pack import Pack

ROOT = Path(__file__).parents[2]


def run(pack: Pack) -> None:
    """Run `tests/gpu` in a process: the lab computes the same twice, after a resume, as a graph and on the CPU."""
    report, log = pack.logs / "pytest.xml", pack.logs / "pytest.txt"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/gpu", "-p", "no:cacheprovider", "--tb=short",
               f"--junitxml={report}", *pack.size([], ["-k", "golden or fp32_means or waits and sgd"])]  # fmt: skip
    if importlib.util.find_spec("xdist") is not None:
        command += ["-n", pack.size("4", "2")]
    with log.open("w") as output:
        environment = {**os.environ, "CIFAR_LAB_TEST_DEVICE": pack.device.type}
        subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, timeout=pack.left, env=environment)
    for case in ElementTree.parse(report).iter("testcase"):
        name, _, network = case.attrib["name"].removeprefix("test_").partition("[")
        check = f"{name.replace('_', ' ')}: {network.rstrip(']')}".removesuffix(": ")
        passed, detail = True, ""
        for outcome in case.iterfind("*[@message]"):
            passed = None if outcome.tag == "skipped" else False
            detail = outcome.attrib["message"].splitlines()[0][:200]
        pack.check(check, passed, detail)
