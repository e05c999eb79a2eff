"""Where the tracking store is, and whether it could be written to; answered without importing mlflow."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from cifar_lab.errors import TrackingError

IN_ADDRESS = re.compile(r"(://[^\s/:@]*):\S*@")
IN_QUERY = re.compile(
    r"""([\w-]*(?:password|passwd|pwd|token|secret))=('[^']*'|"[^"]*"|[^&\s]+?(?=['"](?:[\s,;:.)]|$)|[&\s]|$))""",
    re.IGNORECASE,
)
"""What holds a password, after the part that is shown: `user:…@` and `password=…`, as libpq takes it, too.

A quote that ends a word is the sentence's, around the whole address.
"""


def resolve_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else MLflow's own default in the current folder."""
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if named:
        return named
    if any(path.parent.name.isdigit() for path in Path("mlruns").glob("*/meta.yaml")):
        return Path("mlruns").absolute().as_uri()  # runs of an older MLflow, with which a newer one goes on
    return f"sqlite:///{Path('mlflow.db').absolute()}"


def redacted(text: str) -> str:
    """`text` without the passwords of the addresses in it. Whatever prints, logs or records an address asks here.

    `http://user:secret@host` and `postgresql://host/db?password=secret` keep all but the secret; where a password
    has a `/` or `@` of its own, more than it may go.
    """
    return IN_QUERY.sub(r"\1=***", IN_ADDRESS.sub(r"\1:***@", text))


def without_credentials(uri: str) -> tuple[str, dict[str, str]]:
    """A server's address without user and password, and these as MLflow takes them from the environment.

    MLflow repeats the address that it was given: in messages, tracebacks and logs. Another store's stays as it is.
    """
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"} or not (parts.username and parts.password):
        return uri, {}
    named = {"MLFLOW_TRACKING_USERNAME": unquote(parts.username), "MLFLOW_TRACKING_PASSWORD": unquote(parts.password)}
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), named


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite store; none for another kind of store, and for one in memory."""
    scheme, _, rest = uri.partition(":///")
    path = unquote(rest.partition("?")[0])
    return Path(path) if scheme.split("+")[0] == "sqlite" and path not in {"", ":memory:"} else None


def require_usable(uri: str) -> None:
    """Refuse a local store that cannot be written to. A server is not asked: it may come back.

    Raises:
        TrackingError: what is wrong with the file or folder, in one line.
    """
    path = sqlite_path(uri)
    if path is not None:
        _require_sqlite(path, uri)
    elif urlsplit(uri).scheme in {"", "file"}:
        _require_file_store(Path(unquote(urlsplit(uri).path)), uri)


def _require_sqlite(path: Path, uri: str) -> None:
    _require_folder(path.absolute().parent, uri)
    if path.is_dir():
        raise _unusable(uri, f"{path} is a folder, not a database")
    if not path.exists():
        return
    if not os.access(path, os.W_OK):
        raise _unusable(uri, f"{path} cannot be written")
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=5)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):  # somebody writes to it, so it can be written
            raise _unusable(uri, f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise _unusable(uri, f"{path}: {error}") from error
    finally:
        connection.close()


def _require_file_store(folder: Path, uri: str) -> None:
    if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in {"true", "1"}:
        raise _unusable(uri, "MLflow keeps no runs in folders any more; name a database, sqlite:///mlflow.db")
    _require_folder(folder if folder.exists() else folder.absolute().parent, uri)


def _require_folder(folder: Path, uri: str) -> None:
    if not folder.exists():
        raise _unusable(uri, f"there is no folder {folder}")
    if not folder.is_dir():
        raise _unusable(uri, f"{folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unusable(uri, f"{folder} cannot be written")


def _unusable(uri: str, why: str) -> TrackingError:
    return TrackingError(f"MLFLOW_TRACKING_URI={redacted(uri)}: {why}")
