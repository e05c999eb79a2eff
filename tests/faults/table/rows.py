"""The rows of the fault table: the fault, what is done to cause it, and how often in the quick and the full form.

A row's test is `test_<name>` in this folder; no name is part of another one, so that `-k <name>` chooses one row.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table."""

    name: str
    section: str
    fault: str
    done: str
    """Cause of the fault, and the expected result."""
    quick: int
    full: int


KILLED, SERVER, DISK, FILES, CELL, MANY, CLOCK, TERMINAL, INPUT, CHAIN = (
    "Processes killed", "Tracking server", "Disk", "Damaged files", "One cell", "Many runners", "Clock", "Terminal",
    "Hostile input", "Supply chain",
)  # fmt: skip
SAME, ONCE, RIGHT = "equal numbers", "each point once", "equal output or the damage named"
MEANINGS = {
    SAME: "metrics, points of every epoch, predictions and the sha256 of the weights are those of an undisturbed run",
    ONCE: "the tracking store holds every metric point of every cell exactly once, and no run is left RUNNING",
    RIGHT: "a command prints what it prints of the undamaged file, or one line that names the damage; no traceback",
}
"""The words of the table that stand for what must hold."""


def _row(name: str, section: str, fault: str, done: str, quick: int, full: int) -> Row:
    return Row(name=name, section=section, fault=fault, done=done, quick=quick, full=full)


ROWS = (
    _row("kill_everything", KILLED, "all processes killed at once",
         f"SIGKILL to the whole process group at a random moment, then the same command; {SAME}; {ONCE}", 1, 20),
    _row("kill_worker", KILLED, "process of a cell killed",
         f"SIGKILL to the process that trains, at a random moment, then --retry-failed; {SAME}; {ONCE}", 1, 50),
    _row("kill_runner", KILLED, "runner killed",
         f"SIGKILL to the runner alone at a random moment, then the same command; {SAME}; {ONCE}", 1, 20),
    _row("kill_writing", KILLED, "killed while it writes",
         f"SIGKILL at each file that a cell opens, renames or removes, its checkpoint and result included; {SAME}",
         3, 200),
    *(
        _row(f"server_{what}_{database}", SERVER, f"{fault} ({name})", f"{done}; training ends; after the outage or "
             f"after `sync` {ONCE}", 1, 1)
        for what, fault, done, databases in (
            ("stopped", "server stopped for a while", "SIGSTOP for 60 s (quick: 4 s) in the middle of a study, then "
             "SIGCONT", "sp"),
            ("killed", "server killed in the middle of a batch", "SIGKILL to server and workers while points arrive; "
             "started again on the same port", "sp"),
            ("moved", "server restarted on another port", "SIGKILL while points arrive; started again on another port; "
             "`sync` to the new address", "sp"),
            ("answers_500", "server that answers 500", "each request is answered by 500 for a while", "s"),
            ("answers_html", "server that answers HTML", "each request is answered by 200 and an HTML page for a "
             "while", "s"),
            ("answers_late", "server that answers after 30 s", "each answer is held back for 30 s (quick: 3 s) for a "
             "while", "s"),
            ("answers_lost", "answers lost after the server has written", "each request is carried out, and its "
             "connection closed without an answer, for a while", "s"),
        )
        for database, name in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL"))
        if database[0] in databases
    ),
    _row("disk_full_cell", DISK, "disk full while a cell writes",
         "a tmpfs that has room for a random number of pages: the error names the disk, the earlier checkpoint is "
         f"whole; with room the cell goes on; {SAME}", 3, 60),
    _row("disk_full_study", DISK, "disk full under a runner",
         "a tmpfs that is full before the start or in the middle: no traceback, no success claimed; with room "
         f"--retry-failed ends the study; {SAME}", 1, 4),
    _row("disk_read_only", DISK, "read-only work folder",
         "a work folder that is mounted read-only: commands that read work, those that write refuse in one line",
         1, 1),
    _row("disk_quota", DISK, "limit on the size of files",
         f"RLIMIT_FSIZE below a checkpoint's size: the cell fails with the reason; without it, it goes on; {SAME}",
         1, 8),
    _row("damage_checkpoint", FILES, "checkpoint damaged",
         f"bit flips, zeroed pages, truncations; the cell is trained on: {SAME}, or one line names the file", 3, 200),
    _row("damage_journal", FILES, "journal damaged",
         f"bit flips, changed digits, truncations; the cell is trained on or shown: {RIGHT}", 3, 200),
    _row("damage_cache", FILES, "image cache damaged",
         f"bit flips, zeroed pages, truncations; a cell is trained from it: {SAME}, or one line names the file", 3,
         200),
    _row("damage_weights", FILES, "weights damaged",
         "bit flips, zeroed pages, truncations; a cell that starts from them: equal, or one line names the file", 3,
         200),
    *(
        _row(f"damage_{kind}", FILES, f"{file} damaged", f"bit flips, changed digits, truncations; {RIGHT}", 4, 200)
        for kind, file in (("cell", "cell.json"), ("result", "result.json"), ("invocation", "note of an invocation"),
                           ("predictions", "predictions"), ("study", "studies.journal"))
    ),
    _row("damage_store", FILES, "mlflow.db damaged",
         "bit flips, zeroed pages, truncations; `sync`: ends without a traceback, and the journals are unchanged", 1,
         60),
    _row("out_of_memory", CELL, "out of memory in one cell",
         "a study under a limit on memory, with one cell that needs more: it fails with the reason, the others finish",
         1, 3),
    _row("worker_hangs", CELL, "worker that makes no progress",
         "SIGSTOP to the process of a cell for good: it is ended and failed with the reason, the others finish", 1, 2),
    _row("all_suspended", CELL, "study suspended and continued",
         f"SIGSTOP to every process for a while, then SIGCONT: nothing fails; {SAME}", 1, 2),
    _row("many_runners", MANY, "many runners on one ablation",
         "8 runners on 200 cells (quick: 2 on 6), started at once with one SQLite store: each cell trained once, "
         f"no database error reaches the user; {ONCE}", 6, 200),
    _row("clock_back", CLOCK, "clock that jumps back an hour",
         f"libfaketime, the clock set back in the middle of a study: {SAME}; durations lie within the elapsed time; "
         "the invocation that was run last is the latest", 1, 2),
    _row("terminal_closed", TERMINAL, "terminal closed",
         f"a pseudo-terminal is closed under a study: each cell saves what it trained; the next run goes on; {SAME}",
         1, 6),
    _row("reader_gone", TERMINAL, "reader of the output gone",
         "commands whose output goes to `head -n 1`: no traceback", 2, 12),
    _row("ctrl_c_twice", TERMINAL, "Ctrl-C twice",
         "SIGINT twice within a second at a random moment: ends soon without a traceback, leaves no process; the next "
         f"run goes on; {SAME}", 1, 8),
    _row("stderr_closed", TERMINAL, "standard error closed",
         f"a study whose standard error is a pipe that nobody reads any more: it ends or saves; {SAME}", 1, 3),
    _row("output_full", TERMINAL, "output that cannot be written",
         "commands that print to /dev/full: one line on standard error, no traceback, not exit code 0", 2, 12),
    _row("hostile_lines", INPUT, "random command lines and override strings",
         "property tests with this many examples: no traceback, no hang, one line and exit code 2", 20, 10_000),
    _row("hostile_ablations", INPUT, "random ablation files", "property tests with this many examples", 10, 1000),
    _row("hostile_spaces", INPUT, "random search spaces", "property tests with this many examples", 10, 1000),
    _row("hostile_images", INPUT, "random zips and images, pickles, bombs, links, paths that leave the folder",
         "tests, and property tests with this many examples: nothing is executed, nothing is written outside, one line",
         10, 1000),
    _row("hostile_files", INPUT, "hostile and damaged files, written by hand",
         "tests: nothing is executed or written outside, text is escaped, one line names what is wrong", 20, 20),
    _row("secrets", INPUT, "secrets in addresses", "tests: no password in logs, records, MLflow, reports, errors", 1,
         1),
    _row("supply_chain", CHAIN, "dependencies with unfit licences, pinned or without a lower bound",
         "a test a package of the dependency tree; known vulnerabilities are asked for by `make audit`", 1, 1),
)  # fmt: skip
BY_NAME = {row.name: row for row in ROWS}
