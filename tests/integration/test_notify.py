"""A command that trains sends one message when it is over, to a real HTTP server, and tells no secret."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made.http_server import Server, serving

from cifar_lab.cli import run
from cifar_lab.report import notification

pytest.importorskip("apprise")

SECRET = "hunter2Hunter2"
TOKEN = "T0kenInThePath77"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving({}) as http:
        yield http


@pytest.fixture
def url(server: Server) -> str:
    return f"json://joe:{SECRET}@{server.url.removeprefix('http://')}/{TOKEN}"


@pytest.fixture
def asked(folder: Path, tiny_ablation: Path, few_images: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.delenv("CIFAR_LAB_NOTIFY", raising=False)
    return ["--data", str(few_images), "--device", "cpu", "--workers", "1", "--offline", "-y"]


def messages(server: Server) -> list[dict[str, Any]]:
    return [json.loads(body) for _, body in server.posted]


def tiny(asked: list[str], tiny_ablation: Path, *more: str) -> list[str]:
    return ["run-ablation", "tiny", "--ablations", str(tiny_ablation), *asked, *more]


def holding(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files for word in (SECRET, TOKEN) if word.encode() in path.read_bytes()]


@pytest.mark.slow
def test_the_message_has_the_verdicts_the_counts_and_the_time_and_the_secret_is_nowhere(
    server: Server, url: str, asked: list[str], tiny_ablation: Path, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = tiny(asked, tiny_ablation, "--notify", url, "--json")
    monkeypatch.setattr(sys, "argv", ["cifar-lab", *words])
    assert run(words) == 0
    printed = capsys.readouterr()
    (message,) = messages(server)
    assert (message["title"], message["type"]) == ("cifar-lab run-ablation tiny: finished", "success")
    first, last = message["message"].splitlines()
    assert first.startswith("tiny: 4 trained. ")
    assert last.startswith("Time taken: ")
    assert run(["compare", "tiny", "--ablations", str(tiny_ablation)]) == 0
    table = " ".join(capsys.readouterr().out.split())
    sentence = first.removeprefix("tiny: 4 trained. ").split(". ")[0]
    assert sentence in table, "the sentence under the table"
    assert json.loads(printed.out)["trained"] == 4
    assert SECRET not in printed.out + printed.err + str(message)
    assert TOKEN not in printed.out + printed.err + str(message)
    assert holding(folder) == []
    note = next((folder / "runs/invocations").glob("*.json")).read_text()
    assert "--notify 'json://***'" in note


@pytest.mark.slow
def test_a_message_that_cannot_be_sent_is_one_warning_and_changes_nothing(
    server: Server, url: str, asked: list[str], tiny_ablation: Path, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert run(tiny(asked, tiny_ablation, "--json")) == 0
    quiet = json.loads(capsys.readouterr().out)["rows"]
    monkeypatch.setattr(notification, "PATIENCE", 2.0)
    for fault in ("refused", "silent", "away"):
        server.status, server.hangs = (500 if fault == "refused" else 200), fault == "silent"
        target = url if fault != "away" else f"json://{TOKEN}:1/{SECRET}"
        assert run(tiny(asked, tiny_ablation, "--json", "--notify", target)) == 0, fault
        printed = capsys.readouterr()
        warnings = [line for line in printed.err.splitlines() if "--notify" in line]
        assert len(warnings) == 1, fault
        assert warnings[0].startswith("warning: --notify json://***: the message was not sent"), fault
        assert json.loads(printed.out)["rows"] == quiet, fault
        assert SECRET not in printed.err, fault
        assert TOKEN not in printed.err, fault


@pytest.mark.slow
def test_several_addresses_of_the_environment_get_one_message_each_and_a_failed_cell_is_a_failure(
    server: Server, url: str, asked: list[str], tiny_ablation: Path, folder: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("CIFAR_LAB_NOTIFY", f"{url} {url}2")
    (folder / "odd.py").write_text(BROKEN)
    words = ["train", "model.name=odd:broken", "--baseline", "fast", "--scale", "smoke", *asked]
    words.remove("--workers")
    words.remove("1")
    assert run(words) == 1
    assert [path for path, _ in server.posted].count(f"/{TOKEN}") == 1
    assert len(server.posted) == 2
    message = messages(server)[0]
    assert (message["title"], message["type"]) == ("cifar-lab train: failed", "failure")
    assert "1 failed" in message["message"]


SPACE = """
from cifar_lab import EFFICIENT_RESNET
from cifar_lab.search.dimension import Real
from cifar_lab.search.space import Space

SPACE = Space(
    question="Which rate?",
    baseline=EFFICIENT_RESNET.override({"model.blocks": (1,), "model.width": 8, "data.val_fraction": 0.2}),
    dimensions=(Real(path="optim.lr", low=0.01, high=0.2),),
)
"""
BROKEN = '''"""A network that fails in its first step on real images."""

import torch
from torch import nn


class Broken(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, classes)

    def forward(self, x):
        if x.device.type != "meta" and self.training:
            raise RuntimeError("broken on purpose")
        return self.head(x.mean(dim=(2, 3)))


def broken(*, classes: int) -> nn.Module:
    return Broken(classes)
'''


@pytest.mark.slow
def test_a_time_limit_and_a_signal_are_interruptions(
    server: Server, url: str, asked: list[str], tiny_ablation: Path, folder: Path
) -> None:
    words = tiny(asked, tiny_ablation, "train.epochs=100000")
    line = [sys.executable, "-m", "cifar_lab", *words, "--seeds", "0", "--variants", "off"]
    environment = {**os.environ, "CIFAR_LAB_NOTIFY": url}
    with (folder / "printed").open("w") as out:
        process = subprocess.Popen(line, stdout=out, stderr=out, env=environment, cwd=folder)
        end = time.monotonic() + 300
        while not list(folder.glob("runs/*/journal*")) and time.monotonic() < end:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 130
    assert subprocess.run([*line, "--hours", "0.01"], env=environment, cwd=folder, check=False).returncode == 0
    first, second = messages(server)
    assert first["title"] == second["title"] == "cifar-lab run-ablation tiny: interrupted"
    assert first["type"] == "warning"
    assert second["message"].startswith("the time is over")
    assert holding(folder) == []


@pytest.mark.slow
def test_a_search_tells_its_best_trial(server: Server, url: str, asked: list[str], folder: Path) -> None:
    (folder / "tiny.py").write_text(SPACE)
    words = ["sweep", "--space", "tiny.py", "--trials", "2", "--scale", "smoke", "--pruner", "none", "train.epochs=1"]
    assert run([*words, *asked, "--notify", url]) == 0
    (message,) = messages(server)
    assert message["title"] == "cifar-lab sweep tiny.py: finished"
    assert "2 trained. 2 trials with a value" in message["message"]
    assert "the best is t00" in message["message"]


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        (f"https://h/{TOKEN}", "--notify https://***: apprise has no service with this scheme; did you mean jsons://"),
        (f"jsn://{TOKEN}/x", "--notify jsn://***: apprise has no service with this scheme; did you mean 'json'?"),
        (f"slack://{TOKEN}", "--notify slack://***: apprise cannot use this address"),
        (TOKEN, "--notify takes the URL of a service"),
        ("", "--notify takes the URL of a service"),
    ],
)
def test_a_bad_address_is_refused_before_anything_is_trained(
    address: str, rule: str, asked: list[str], tiny_ablation: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny(asked, tiny_ablation, "--notify", address)) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith(f"cifar-lab: {rule}")
    assert TOKEN not in printed.err
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("words", [["ablate", "optim.lr=x"], ["train", "optim.lrr=1"], ["run-ablation", "nothing"]])
def test_a_command_that_is_refused_says_so_too(
    words: list[str], server: Server, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CIFAR_LAB_NOTIFY", raising=False)
    assert run([*words, "--notify", url]) == 2
    (message,) = messages(server)
    assert message["title"].endswith(": failed")
    assert message["message"].count("\n") == 1


def test_a_submission_refuses_it_in_one_line(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run-ablation", "se_ratio", "--engine", "slurm", "--notify", url]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--notify does not go with --engine slurm" in line
    assert "--mail-type" in line
    monkeypatch.setenv("CIFAR_LAB_NOTIFY", url)
    run(["run-ablation", "nothing", "--engine", "slurm"])
    assert "CIFAR_LAB_NOTIFY is not used with --engine slurm" in capsys.readouterr().err
