"""`--notify`: one message when a command that trains is over, by way of apprise."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar_lab.cli import console
from cifar_lab.cli.wording import one_line
from cifar_lab.errors import CifarLabError, Interrupted, UsageError, nearest
from cifar_lab.redaction import NOTIFY_URLS, hidden_target, redacted

if TYPE_CHECKING:
    from cifar_lab.cli.training import CommandOutcome

Notify = Annotated[
    list[str] | None,
    typer.Option(
        "--notify",
        metavar="URL",
        envvar=NOTIFY_URLS,
        help="Send one message there when the command is over, by apprise: mailto://…, slack://…, json://…; "
        "repeatable.",
    ),
]
PATIENCE = 20.0
"""Maximum seconds that the end of a command waits for its messages."""
COUNTS = {"trained": "trained", "by_another_runner": "by another runner", "reused": "reused", "failed": "failed"}
"""Counts of a run's JSON and their words."""


@dataclass
class Notification:
    """Message about one command: its addresses, and the lines that were gathered for it."""

    targets: dict[str, Any] = field(default_factory=dict)
    """Services of apprise by their address without secrets."""
    subject: str = ""
    began: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)
    interruption: str = ""


CURRENT: ContextVar[Notification | None] = ContextVar("notification", default=None)
"""Message about the command that runs; None while none runs."""


def request_notification(urls: Sequence[str] | None, subject: str) -> None:
    """Have a message sent to `urls` when the command that runs is over; `subject` names the command.

    Raises:
        UsageError: apprise is not installed, or cannot use an address.
    """
    notification = CURRENT.get()
    if urls and notification is not None:
        notification.targets, notification.subject = _open_targets(urls), subject


def _open_targets(urls: Sequence[str]) -> dict[str, Any]:
    try:
        import apprise
    except ImportError:
        raise UsageError("--notify needs apprise: `pip install 'cifar-lab[notify]'` installs it") from None
    logger = logging.getLogger("apprise")  # its lines hold addresses as they were typed
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    targets: dict[str, Any] = {}
    for url in urls:
        shown, number = hidden_target(url), len(targets) + 1
        target = apprise.Apprise.instantiate(url)
        if target is None:
            scheme, separator, _ = url.partition("://")
            schemes = {
                str(name)
                for service in apprise.Apprise().details()["schemas"]
                for name in (*(service["protocols"] or ()), *(service["secure_protocols"] or ()))
            }
            if not separator:
                raise UsageError("--notify takes the URL of a service, as in json://host/path, got one without ://")
            if scheme.lower() not in schemes:
                close = nearest(scheme, schemes)
                hint = close if "did you mean" in close else "; apprise's documentation lists them"
                raise UsageError(f"--notify {shown}: apprise has no service with this scheme{hint}")
            raise UsageError(f"--notify {shown}: apprise cannot use this address; a part that the service needs is "
                             "missing or malformed")  # fmt: skip
        if "overflow=" not in url:
            target.overflow_mode = apprise.OverflowMode.TRUNCATE  # a long message is cut, not refused
        targets[shown if shown not in targets else f"{shown} ({number})"] = target
    return targets


def add_outcome(name: str, outcome: CommandOutcome) -> None:
    """Add the counts and the verdicts of an ablation to the message; nothing where none was asked for."""
    notification = CURRENT.get()
    if notification is None:
        return
    tree = outcome.tree or {}
    counts = [f"{tree[key]} {word}" for key, word in COUNTS.items() if tree.get(key) or (key == "trained" and tree)]
    notification.lines += [f"{name}: {', '.join(counts)}. {outcome.sentence}".strip()]
    notification.interruption = outcome.interrupted


def add_line(line: str, *, interruption: str = "") -> None:
    """Add a line to the message, and the reason if the work stopped early; nothing where none was asked for."""
    notification = CURRENT.get()
    if notification is not None:
        notification.lines.append(line)
        notification.interruption = interruption


@contextmanager
def notifying() -> Iterator[list[int]]:
    """Send the message that the body asks for when it is over, however it ends.

    Yields a list for the exit code. A message that cannot be sent is a warning and changes nothing else.
    """
    notification = Notification()
    token = CURRENT.set(notification)
    codes: list[int] = []
    try:
        yield codes
        _deliver(notification, *_ending(codes[0] if codes else 0, notification.interruption))
    except (KeyboardInterrupt, Interrupted) as error:
        _deliver(notification, "interrupted", str(error))
        raise
    except typer.Exit:  # the answer to a prompt was no
        raise
    except BaseException as error:
        reason = str(error) if isinstance(error, CifarLabError | OSError) else f"{type(error).__name__}: {error}"
        _deliver(notification, "failed", reason)
        raise
    finally:
        CURRENT.reset(token)


def _ending(code: int, interruption: str) -> tuple[str, str]:
    """Return how a command ended, in one word, and the reason if it ended early."""
    if interruption or code == Interrupted.exit_code:
        return "interrupted", interruption
    return ("failed" if code else "finished"), ""


def _deliver(notification: Notification, ending: str, reason: str) -> None:
    """Send the message to all its addresses at once, and warn of each that it did not reach in time."""
    if not notification.targets:
        return
    import apprise

    targets, notification.targets = notification.targets, {}  # one message, even if its delivery is interrupted
    kinds = {"finished": apprise.NotifyType.SUCCESS, "failed": apprise.NotifyType.FAILURE}
    kind = kinds.get(ending, apprise.NotifyType.WARNING)
    title = redacted(f"cifar-lab {notification.subject}: {ending}")
    taken = console.duration(time.monotonic() - notification.began)
    lines = [one_line(reason), *notification.lines, f"Time taken: {taken}."]
    body = redacted("\n".join(line for line in lines if line))
    sent: set[str] = set()

    def send(shown: str, target: Any) -> None:
        sender = apprise.Apprise()
        sender.add(target)
        if sender.notify(body=body, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT):
            sent.add(shown)

    threads = [Thread(target=send, args=pair, daemon=True) for pair in targets.items()]
    end = time.monotonic() + PATIENCE
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    for shown in targets.keys() - sent:
        console.say(f"warning: --notify {shown}: the message was not sent: the service refused it or did not answer")
