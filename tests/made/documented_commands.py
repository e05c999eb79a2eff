"""Commands in README and docs/: read out of the pages, and made small enough to be executed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HOUSE = Path(__file__).parents[2]
PAGES = [HOUSE / "README.md", HOUSE / "CONTRIBUTING.md", HOUSE / "docker/README.md", *sorted(HOUSE.glob("docs/*.md")),
         *sorted(HOUSE.glob("docs/results/*.md"))]  # fmt: skip
PRESENT = [page for page in PAGES if page.name != "log.md"]
"""Pages but the log, whose commands and files may be gone."""
BLOCK, SPAN = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL), re.compile(r"`([^`\n]+)`")
PROGRAM = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*cifar-lab (.*)$")


class Command(NamedTuple):
    """One command line of a page, without the program's name."""

    page: Path
    line: str
    is_mention: bool
    """The page names the command within a sentence, without an argument."""


def _commands(page: Path) -> Iterator[Command]:
    text = page.read_text()
    blocks = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    spans = SPAN.findall(BLOCK.sub("", text))
    for line, in_sentence in [*((line, False) for line in blocks), *((line, True) for line in spans)]:
        if match := PROGRAM.match(line.strip()):
            words = re.split(r"\s#|\s&&|\s\||;|\s>|\s2>", match[1])[0].strip()
            yield Command(page, words, in_sentence and " " not in words)


COMMANDS = [each for page in PRESENT for each in dict.fromkeys(_commands(page))]

TRAINS = {"run-ablation", "train", "ablate", "sweep", "sweep-confirm", "ablate-best", "plan"}
"""Commands that take a scale and images."""
PLACEHOLDERS = {"NAME": "se_ratio", "FILE.csv": "results.csv", "POINTS": "0.2", "K": "12"}
SMALLER = {
    "--scale": "smoke", "--data": "images.zip", "--seeds": "1-2", "--trials": "5", "--max-seeds": "12",
    "--images": "20",
}  # fmt: skip
"""Values that make a command a matter of seconds."""
SEARCHED = ["train.epochs=16", "data.val_fraction=0.3"]
"""Setting of every search: enough steps for a candidate to be better than the baseline."""
OWN_DATA = ("stripes", "mylab.")


def shrink(line: str, names: dict[str, str]) -> list[str]:
    """Return the words of a command with tiny images, few seeds and one epoch; `names` replaces placeholders."""
    command, *words = shlex.split(line)
    words = [(PLACEHOLDERS | names).get(word, word) for word in words]
    if command == "judge" and "results.csv" in words and "--control" in words:
        words[words.index("--control") + 1] = "baseline"
    for at, word in enumerate(words[1:], start=1):
        if (value := SMALLER.get(words[at - 1])) and not word.startswith(OWN_DATA):
            words[at] = value
    words = ["train.epochs=1" if word.startswith("train.epochs=") else word for word in words]
    if command == "sweep":
        words = [word for word in words if not word.startswith(("schedule.", "train.", "data."))] + SEARCHED
    if command == "ablate-best":
        words += ["--seeds", "1"]
    if command in TRAINS:
        resumed = {"--from", "--recipe"} & set(words) or command in {"sweep-confirm", "ablate-best"}
        if "--scale" not in words and not resumed:
            words += ["--scale", "smoke"]
        if "--data" not in words and command != "sweep-confirm":
            words += ["--data", "images.zip"]
        if command != "plan":
            words += ["-y"]
    return [command, *words]
