"""Interface between a runner and the upload of its results, which its caller chooses; it knows no tracking store."""

from __future__ import annotations

from typing import Protocol

from cifar_lab.store.invocation import Invocation


class Upload(Protocol):
    """Upload of the cells of one invocation, in the background, while a runner trains them.

    None of its methods raises an error of the tracking store: the records on disk are whole without it.
    """

    def update(self, invocation: Invocation, *, trains: bool) -> None:
        """Begin with the cells of `invocation`, or go on with an invocation that has grown.

        `trains`: this runner trains some of its cells; without any, only what the store lacks is uploaded.
        """

    def started(self, fingerprint: str) -> None:
        """Record that this runner trains a cell, and so uploads it."""

    def finish(self) -> None:
        """Wait for the rest, for a limited time, and tell the user how many cells were left."""


class NoUpload:
    """Upload of nothing."""

    def update(self, invocation: Invocation, *, trains: bool) -> None:
        """Do nothing."""

    def started(self, fingerprint: str) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""
