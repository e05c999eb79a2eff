"""`--notify`: one message when a command that trains is over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Annotated

import typer

from cifar_lab.cli import console
from cifar_lab.redaction import NOTIFY_OPTION, NOTIFY_URLS

if TYPE_CHECKING:
    from cifar_lab.cli.training import CommandOutcome
    from cifar_lab.report.notification import Notification

Notify = Annotated[
    list[str] | None,
    typer.Option(
        NOTIFY_OPTION,
        metavar="URL",
        envvar=NOTIFY_URLS,
        help="Send one message there when the command is over, by apprise: mailto://…, slack://…, json://…; "
        "repeatable.",
    ),
]

CURRENT: ContextVar[Notification | None] = ContextVar("notification", default=None)
"""Message about the command that runs; None while none runs."""


def request_notification(urls: Sequence[str] | None, subject: str) -> None:
    """Have a message sent to `urls` when the command that runs is over; `subject` names the command.

    Raises:
        UsageError: apprise is not installed, or cannot use an address.
    """
    notification = CURRENT.get()
    if urls and notification is not None:
        notification.request(urls, subject, NOTIFY_OPTION)


def add_outcome(name: str, outcome: CommandOutcome) -> None:
    """Add the counts and the verdicts of an ablation to the message; nothing where none was asked for."""
    notification = CURRENT.get()
    if notification is not None:
        notification.add_outcome(name, outcome.tree or {}, outcome.sentence, interruption=outcome.interrupted)


def add_line(line: str, *, interruption: str = "") -> None:
    """Add a line to the message, and the reason if the work stopped early; nothing where none was asked for."""
    notification = CURRENT.get()
    if notification is not None:
        notification.add_line(line, interruption=interruption)


@contextmanager
def notifying_of_command() -> Iterator[Notification]:
    """Send the message that a command asks for when it is over; an answer of no to a prompt sends none."""
    from cifar_lab.report.notification import notifying

    with notifying(console.say, silent=(typer.Exit,)) as notification:
        token = CURRENT.set(notification)
        try:
            yield notification
        finally:
            CURRENT.reset(token)
