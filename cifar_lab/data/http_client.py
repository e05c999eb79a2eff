"""Request a file over HTTP, with redirects followed here, and a time limit for every response.

The timeout of a request limits only each read, and a server may send a byte per second. So the connection is shut if
nothing useful has come for `OPENING` seconds.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from cifar_lab.data.messages import short_line
from cifar_lab.redaction import redacted

if TYPE_CHECKING:
    import requests

CONNECT = 10.0
"""Seconds allowed for establishing a connection."""
PATIENCE = 30.0
"""Seconds without a byte after which a connection is given up."""
OPENING = 60.0
"""Seconds allowed for the headers of the file, including redirects, and then for each further part."""
REDIRECTS = 10
"""Maximum number of redirects."""
REDIRECTED = (301, 302, 303, 307, 308)
USER = re.compile(r"(?<=://)(?:[^/?#:\[]*:(?!\d{0,5}(?:[/?]|$)).*@|[^/?#]*@)", re.DOTALL)
"""`user:password@` up to the last `@`, as a password may hold any character, but for `host:5000/a@b`; or `user@`."""


class TransferError(Exception):
    """Error raised if a transfer ended early."""

    def __init__(self, reason: object, *, is_final: bool = False) -> None:
        super().__init__(short_line(reason))
        self.is_final = is_final


class Deadline:
    """Shuts its connections at a deadline, so that blocked reads return."""

    def __init__(self) -> None:
        self.is_over = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.extend()
        threading.Thread(target=self._wait, name="download watch", daemon=True).start()

    def extend(self) -> None:
        """Restart the time."""
        self._end = time.monotonic() + OPENING

    def add(self, connection: socket.socket) -> None:
        """Watch a connection, by a duplicate of its descriptor that stays valid under TLS."""
        with self._lock:
            self._sockets.append(connection.dup())
        if self.is_over:
            self._shut()

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()
        with self._lock:
            for connection in self._sockets:
                connection.close()
            self._sockets.clear()

    def _wait(self) -> None:
        while not self._ended.wait(max(0.0, self._end - time.monotonic())):
            if time.monotonic() >= self._end:
                self.is_over = True
                self._shut()
                return

    def _shut(self) -> None:
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):  # already closed
                    connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def answer(url: str, headers: dict[str, str]) -> Iterator[tuple[requests.Response, Deadline]]:
    """Yield the server's response, its body not yet read, and the deadline to be extended while it is read.

    Raises:
        TransferError: the server is unreachable or gives no usable response, or the connection breaks.
    """
    import requests
    import urllib3

    deadline = Deadline()
    try:
        with _session(deadline) as session, _opened(session, url, headers) as response:
            deadline.extend()
            yield response, deadline
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        if deadline.is_over:
            raise _late() from error
        never_stood = isinstance(error, requests.ConnectionError | requests.exceptions.InvalidSchema)
        is_final = (never_stood and "Range" not in headers) or isinstance(error, ValueError)  # not a valid address
        raise TransferError(innermost_cause(error), is_final=is_final) from error
    except TransferError as error:
        if deadline.is_over:
            raise _late() from error
        raise
    finally:
        deadline.close()


def _late() -> TransferError:
    return TransferError(f"timed out, the server kept the answer back for {OPENING:g} s", is_final=True)


def _session(deadline: Deadline) -> requests.Session:
    """Return a session that registers every connection with `deadline`, and does not follow redirects by itself."""
    import requests
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
            pool: Any = super().get_connection_with_tls_context(*args, **options)
            base: Any = pool.ConnectionCls

            def connected(connection: Any) -> socket.socket:
                new: socket.socket = base._new_conn(connection)
                deadline.add(new)
                return new

            pool.ConnectionCls = type("Watched", (base,), {"_new_conn": connected})
            return pool

    class Session(requests.Session):
        def get_redirect_target(self, resp: Any) -> None:  # noqa: ARG002 (the name that requests gives it)
            return None

    session = Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, Adapter())
    return session


def _opened(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    """Return the response after all redirects."""
    import requests

    for _ in range(REDIRECTS + 1):
        try:
            response = session.get(url, headers=headers, stream=True, timeout=(CONNECT, PATIENCE))
        except requests.RequestException:
            raise
        except OSError as error:  # of requests: certificates that are not where the environment says
            text = (
                f"{error.strerror or error}; REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE has to name a CA bundle, or nothing"
            )
            raise TransferError(text, is_final=True) from error
        except ValueError as error:  # e.g. a host that no encoding takes
            raise TransferError("not a valid address", is_final=True) from error
        if response.status_code not in REDIRECTED or not (target := response.headers.get("Location", "")):
            return response
        response.close()
        try:
            url = urljoin(url, target.encode("latin-1").decode())
        except ValueError as error:
            raise TransferError("it redirects to an address that is not valid", is_final=True) from error
    raise TransferError(f"it redirects more than {REDIRECTS} times", is_final=True)


def without_secrets(url: str) -> str:
    """Return an address without user, password and query, which may be secrets."""
    try:
        address = urlsplit(redacted(USER.sub("", url, count=1)))  # a password may look like a port and a path
        return short_line(urlunsplit((address.scheme, address.netloc, address.path, "", "")))
    except ValueError:
        return "a malformed address"


def host(url: str) -> str:
    """Return the host of an address."""
    try:
        return short_line(urlsplit(USER.sub("", url, count=1)).hostname or "?")
    except ValueError:
        return "?"


def innermost_cause(error: BaseException) -> str:
    """Return the innermost cause in plain words, without the address, which may contain a password."""
    import requests
    import urllib3

    if isinstance(error, requests.exceptions.InvalidSchema | requests.exceptions.MissingSchema):
        return "not an http or https address"
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidProxyURL):
        return "not a valid address"
    causes = list(_causes(error))
    for inner in causes:
        if isinstance(inner, OSError) and inner.strerror and not isinstance(inner, requests.RequestException):
            return inner.strerror
    if any(isinstance(inner, requests.exceptions.ConnectTimeout) for inner in causes):
        return f"timed out, no connection within {CONNECT:g} s"
    if any(isinstance(inner, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError) for inner in causes):
        return f"timed out, no byte for {PATIENCE:g} s"
    if any(isinstance(inner, urllib3.exceptions.ProtocolError) for inner in causes):
        return "the connection broke"
    return short_line(error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and every error nested in it."""
    pending, seen = [error], set[int]()
    while pending:
        inner = pending.pop(0)
        if id(inner) not in seen:
            seen.add(id(inner))
            yield inner
            linked = (inner.__cause__, inner.__context__, getattr(inner, "reason", None), *inner.args)
            pending += [each for each in linked if isinstance(each, BaseException)]
