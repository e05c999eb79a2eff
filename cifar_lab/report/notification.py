"""Message about work that is over, sent to any service that apprise knows."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from cifar_lab.errors import CifarLabError, Interrupted, UsageError, nearest
from cifar_lab.redaction import hidden_target, redacted
from cifar_lab.text import duration, one_line

PATIENCE = 20.0
"""Maximum seconds that the end of the work waits for its messages."""
WEBHOOKS = {"http": "json", "https": "jsons"}
"""apprise's schemes for those that web hooks are published with."""
COUNTS = {"trained": "trained", "by_another_runner": "by another runner", "reused": "reused", "failed": "failed"}
"""Counts of a run by their names in JSON, and their words."""


@dataclass
class Notification:
    """Message about one piece of work: its addresses, and the lines that were gathered for it."""

    targets: dict[str, Any] = field(default_factory=dict)
    """Services of apprise by their address without secrets; none: no message is sent."""
    subject: str = ""
    option: str = ""
    """Name of the option that asked for it, for warnings."""
    began: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)
    interruption: str = ""
    """Reason for an early end; empty for none."""
    code: int = 0
    """Exit code of the work."""

    def request(self, urls: Sequence[str], subject: str, option: str) -> None:
        """Have the message sent to `urls`; `subject` names the work, `option` what was given.

        Raises:
            UsageError: apprise is not installed, or cannot use an address.
        """
        self.targets, self.subject, self.option = open_targets(urls, option), subject, option

    def add_outcome(self, name: str, counts: Mapping[str, Any], sentence: str, *, interruption: str = "") -> None:
        """Add what was done for an ablation, by the names of `COUNTS`, its verdicts, and why it ended early, if so."""
        words = [
            f"{counts[key]} {word}" for key, word in COUNTS.items() if counts.get(key) or (key == "trained" and counts)
        ]
        self.add_line(f"{name}: {', '.join(words)}. {sentence}".strip(), interruption=interruption)

    def add_line(self, line: str, *, interruption: str = "") -> None:
        """Add a line, and the reason if the work stopped early."""
        self.lines.append(line)
        self.interruption = interruption

    def deliver(self, ending: str, reason: str, say: Callable[[str], None]) -> None:
        """Send the message to all its addresses at once, and warn of each that it did not reach in time."""
        if not self.targets:
            return
        import apprise

        targets, self.targets = self.targets, {}  # one message, even if its delivery is interrupted
        kinds = {"finished": apprise.NotifyType.SUCCESS, "failed": apprise.NotifyType.FAILURE}
        kind = kinds.get(ending, apprise.NotifyType.WARNING)
        title = redacted(f"cifar-lab {self.subject}: {ending}")
        lines = [one_line(reason), *self.lines, f"Time taken: {duration(time.monotonic() - self.began)}."]
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
            say(f"warning: {self.option} {shown}: the message was not sent: the service refused it or did not answer")


def open_targets(urls: Sequence[str], option: str) -> dict[str, Any]:
    """Return the services at `urls` by their address without secrets; `option`: what they were given as.

    Raises:
        UsageError: apprise is not installed, or cannot use an address.
    """
    try:
        import apprise
    except ImportError:
        raise UsageError(f"{option} needs apprise: `pip install 'cifar-lab[notify]'` installs it") from None
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
                raise UsageError(f"{option} takes the URL of a service, as in json://host/path, got one without ://")
            if scheme.lower() not in schemes:
                close = nearest(scheme, schemes)
                if scheme.lower() in WEBHOOKS:
                    close = f"; did you mean {WEBHOOKS[scheme.lower()]}://, which posts JSON to a web hook?"
                hint = close if "did you mean" in close else "; apprise's documentation lists them"
                raise UsageError(f"{option} {shown}: apprise has no service with this scheme{hint}")
            raise UsageError(f"{option} {shown}: apprise cannot use this address; a part that the service needs is "
                             "missing or malformed")  # fmt: skip
        if "overflow=" not in url:
            target.overflow_mode = apprise.OverflowMode.TRUNCATE  # a long message is cut, not refused
        targets[shown if shown not in targets else f"{shown} ({number})"] = target
    return targets


@contextmanager
def notifying(say: Callable[[str], None], silent: tuple[type[BaseException], ...] = ()) -> Iterator[Notification]:
    """Send the message that the body requests when it is over, however it ends but by an exception of `silent`.

    Yields the message. One that cannot be sent is a warning to `say` and changes nothing else.
    """
    notification = Notification()
    try:
        yield notification
        early = notification.interruption or notification.code == Interrupted.exit_code
        ending = "interrupted" if early else "failed" if notification.code else "finished"
        notification.deliver(ending, notification.interruption, say)
    except silent:
        raise
    except (KeyboardInterrupt, Interrupted) as error:
        notification.deliver("interrupted", str(error), say)
        raise
    except BaseException as error:
        reason = str(error) if isinstance(error, CifarLabError | OSError) else f"{type(error).__name__}: {error}"
        notification.deliver("failed", reason, say)
        raise
