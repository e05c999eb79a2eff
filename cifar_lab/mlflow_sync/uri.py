"""Find the address of the tracking store and check that it is usable, without importing mlflow."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from cifar_lab.errors import TrackingError, nearest
from cifar_lab.redaction import redacted
from cifar_lab.store.runs_folder import require_writable
from cifar_lab.text import printable

DRIVERS = {
    "postgresql": ("psycopg2", "psycopg2-binary"),
    "postgresql+psycopg2": ("psycopg2", "psycopg2-binary"),
    "postgresql+psycopg": ("psycopg", "cifar-lab[postgres]"),
    "mysql": ("MySQLdb", "mysqlclient"),
    "mysql+mysqldb": ("MySQLdb", "mysqlclient"),
    "mysql+pymysql": ("pymysql", "pymysql"),
    "mssql": ("pyodbc", "pyodbc"),
    "mssql+pyodbc": ("pyodbc", "pyodbc"),
}
"""Module that a SQLAlchemy scheme needs, and the package or extra that provides it."""
PORTABLE = {"postgresql": "postgresql+psycopg", "postgresql+psycopg2": "postgresql+psycopg", "mysql": "mysql+pymysql"}
"""Maps schemes whose usual driver must be compiled to the scheme of a driver that installs anywhere."""
SERVERS = {"http", "https"}
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "file")
DATABRICKS = "databricks"
"""Scheme that MLflow resolves from the configuration of Databricks."""
REGISTRIES = {"databricks-uc", "uc"}
"""Schemes of registries of models, which keep no runs."""
HOST = re.compile(r"(//)?([^/@]*@)?([\w.-]+|\[[0-9a-fA-F:]+\]):\d+(/.*)?")
"""Address of a server without its scheme."""

OLDER = (
    "./mlruns holds runs of an older MLflow, and this one writes no runs into folders: either "
    "`mlflow migrate-filestore --source . --target sqlite:///mlflow.db` and then "
    "`export MLFLOW_TRACKING_URI=sqlite:///mlflow.db`, which by itself begins a new store beside them; or "
    "`export MLFLOW_ALLOW_FILE_STORE=true` goes on in the folder; or --offline (in Python offline=True) trains "
    "without MLflow"
)
"""Advice if MLflow's own default is a folder that it refuses."""


def resolve_uri() -> str:
    """Return `MLFLOW_TRACKING_URI`, else MLflow's own default in the current folder."""
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if named:
        return named
    if _has_older_runs():
        return Path("mlruns").absolute().as_uri()  # MLflow continues with runs that an older version left there
    return sqlite_uri(Path("mlflow.db").absolute())


def _has_older_runs() -> bool:
    return any(path.parent.name.isdigit() for path in Path("mlruns").glob("*/meta.yaml"))


def sqlite_uri(path: Path) -> str:
    """Return the address of a SQLite database.

    `?` begins options and is quoted. Versions of SQLAlchemy differ in whether they decode `%2F` in a path: a path with
    `%` is given relative to the current folder, whose name is then not needed.
    """
    if "%" in str(path):
        path = Path(os.path.relpath(path))
    return f"sqlite:///{path}".replace("?", "%3F")


def without_credentials(uri: str) -> tuple[str, dict[str, str]]:
    """Return a server's address without user and password, and these as environment variables for MLflow.

    MLflow repeats its address in messages, tracebacks and logs. The address of another kind of store is unchanged.
    """
    parts = urlsplit(uri)
    if parts.scheme not in SERVERS or not (parts.username and parts.password):
        return uri, {}
    named = {"MLFLOW_TRACKING_USERNAME": unquote(parts.username), "MLFLOW_TRACKING_PASSWORD": unquote(parts.password)}
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), named


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite store; None for another kind of store, and for one in memory."""
    scheme, _, rest = uri.partition(":///")
    path = rest.partition("?")[0]
    if scheme.split("+")[0] != "sqlite" or path in {"", ":memory:"}:
        return None
    return Path(path) if Path(path).parent.is_dir() or "%" not in path else Path(unquote(path))


def require_places(runs: Path, *, offline: bool) -> None:
    """Check that the runs folder is writable, and unless `offline` that the MLflow store is usable.

    Raises:
        TrackingError: one of them is not.
    """
    require_writable(runs)
    if not offline:
        require_usable(resolve_uri())


def require_usable(uri: str) -> None:
    """Check that an address is valid, and that a local store is writable. No server is contacted.

    Raises:
        TrackingError: one line with the address, the problem, and the nearest correct form.
    """
    parts, named = _parts(uri), uri.partition(":")[0]
    path = sqlite_path(uri)
    if path is not None:
        _require_sqlite(path, uri)
    elif HOST.fullmatch(uri):
        raise _schemeless(uri)
    elif named == DATABRICKS:
        _require_databricks(uri)
    elif named in REGISTRIES:
        raise _unusable(uri, "a registry of models, which keeps no runs; 'databricks' does")
    elif parts.scheme in {"", "file"}:
        _require_file_store(Path(unquote(parts.path)), uri)
    else:
        _require_scheme(parts, uri)


def _parts(uri: str) -> SplitResult:
    """Return the parts of an address.

    Raises:
        TrackingError: it has none.
    """
    if not uri.isprintable():
        raise TrackingError(
            "MLFLOW_TRACKING_URI holds a control character; it is not shown, as a password may be in it"
        )
    try:
        parts = urlsplit(uri)
        _ = parts.port  # raises ValueError for an invalid port, if there is a host
    except ValueError as error:
        why = str(error) if "@" not in uri else "a password's `/`, `?`, `#` and `[` are typed %2F, %3F, %23 and %5B"
        raise _unusable(uri, f"not an address ({why})") from error
    return parts


def _require_scheme(parts: SplitResult, uri: str) -> None:
    """Check that MLflow knows the scheme, that its driver is installed, and that the address has a host."""
    scheme = parts.scheme
    if scheme in SERVERS:
        if not parts.hostname:
            raise _unusable(uri, f"names no host; {scheme}://localhost:5000 would")
    elif scheme.split("+")[0] == "sqlite":
        if parts.path in {"", "/:memory:"} and not parts.netloc:
            raise _unusable(uri, "a database in memory is lost with the process; sqlite:///mlflow.db stays")
        raise _unusable(uri, f"a database needs three slashes: sqlite:///{parts.netloc}{parts.path}")
    elif scheme in DRIVERS:
        _require_driver(scheme, uri)
    elif scheme.split("+")[0] in {"postgresql", "mysql", "mssql"}:
        close = nearest(scheme, [name for name in DRIVERS if name.startswith(scheme.split("+")[0])])
        raise _unusable(uri, f"no driver that is known{close}")
    elif "://" not in uri:
        raise _schemeless(uri)
    elif scheme not in _plugins():
        close = "; did you mean 'postgresql'?" if scheme.startswith("postgres") else nearest(scheme, SCHEMES)
        raise _unusable(uri, f"MLflow knows no scheme '{scheme}'{close}")


def _schemeless(uri: str) -> TrackingError:
    """Return the error for an address of a server without its scheme."""
    return _unusable(uri, f"names no scheme; did you mean '{redacted('http://' + uri.removeprefix('//'))}'?")


def _require_databricks(uri: str) -> None:
    """Check that MLflow can read how to log in: by Databricks' own library, or a host and a token by itself."""
    file = Path(os.environ.get("DATABRICKS_CONFIG_FILE", "~/.databrickscfg")).expanduser()
    if find_spec("databricks") is None and not os.environ.get("DATABRICKS_HOST") and not file.exists():
        raise _unusable(uri, "databricks-sdk is not installed; `pip install databricks-sdk` brings it")


def _require_driver(scheme: str, uri: str) -> None:
    module, package = DRIVERS[scheme]
    if find_spec(module) is not None:
        return
    hint = f"`pip install '{package}'` brings it"
    if (other := PORTABLE.get(scheme)) is not None:
        module_of_other, package_of_other = DRIVERS[other]
        is_there = find_spec(module_of_other) is not None
        how = "is installed" if is_there else f"comes with `pip install '{package_of_other}'`"
        hint += f"; or write {other}://…, whose driver {how}"
    raise _unusable(uri, f"the driver {module} is not installed; {hint}")


def _plugins() -> set[str]:
    """Return the URI schemes that installed packages add to MLflow."""
    return {entry.name for entry in entry_points(group="mlflow.tracking_store")}


def _require_sqlite(path: Path, uri: str) -> None:
    _require_folder(path.absolute().parent, uri)
    if path.is_dir():
        raise _unusable(uri, f"{path} is a folder, not a database")
    if not path.exists():
        return
    if not path.is_file():
        raise _unusable(uri, f"{path} is a device or a pipe, not a database")
    if not os.access(path, os.W_OK):
        raise _unusable(uri, f"{path} cannot be written")
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=5)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):  # another process is writing, so it is writable
            raise _unusable(uri, f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise _unusable(uri, f"{path}: {error}") from error
    finally:
        connection.close()


def _require_file_store(folder: Path, uri: str) -> None:
    if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in {"true", "1"}:
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            raise TrackingError(OLDER)
        raise _unusable(uri, "MLflow keeps no runs in folders any more; name a database, sqlite:///mlflow.db")
    _require_folder(folder if folder.exists() else folder.absolute().parent, uri)


def _require_folder(folder: Path, uri: str) -> None:
    if not folder.exists():
        raise _unusable(uri, f"there is no folder {folder}")
    if not folder.is_dir():
        raise _unusable(uri, f"{folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unusable(uri, f"{folder} cannot be written")
    try:
        tempfile.TemporaryFile(dir=folder).close()  # who may do everything cannot create files everywhere: /proc
    except OSError as error:
        raise _unusable(uri, f"no file can be created in {folder} ({error.strerror or error})") from error


def _unusable(uri: str, why: str) -> TrackingError:
    """Return the error for an address, which is the default one if the environment names none."""
    shown = redacted(uri) if "://" in uri else redacted(f"http://{uri}").removeprefix("http://")
    named = "MLFLOW_TRACKING_URI=" if os.environ.get("MLFLOW_TRACKING_URI") else "MLflow on "
    return TrackingError(f"{named}{printable(shown)}: {why}")
