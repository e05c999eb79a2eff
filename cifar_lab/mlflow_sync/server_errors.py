"""Classify errors of a tracking store: unavailable for now, refusing every call, or refusing only one."""

from __future__ import annotations

import re
import sqlite3

from cifar_lab.errors import CifarLabError, TrackingError, shortened
from cifar_lab.redaction import redacted
from cifar_lab.text import printable

LONGEST = 300
"""Maximum length in characters of an external message in one line."""
OF_THE_STORE = {"UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
"""MLflow's error codes that apply to every further call."""
OF_THE_CALL = {
    "BAD_REQUEST",
    "ENDPOINT_NOT_FOUND",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "NOT_FOUND",
    "NOT_IMPLEMENTED",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
"""MLflow's error codes that apply to the same call only."""
LOCKED = re.compile(r"database (table |schema )?is locked", re.IGNORECASE)
WRITTEN = re.compile(r"UNIQUE constraint failed|duplicate key value|Duplicate entry", re.IGNORECASE)
"""Errors of two writers that insert one row at the same moment; the later one finds it there when it tries again."""
DAMAGED = re.compile(r"malformed|not a database|file is encrypted", re.IGNORECASE)
UNWRITABLE = re.compile(r"readonly database|unable to open database|no such table|disk is full", re.IGNORECASE)
SCHEMA = re.compile(r"Can't locate revision|out-of-date database schema|Multiple head revisions", re.IGNORECASE)
CREDENTIALS = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|(database|role) \S+ does not exist|"
    r"Access denied|certificate verify failed",
    re.IGNORECASE,
)
NO_LOGIN = re.compile(r"Reading Databricks credential configuration failed", re.IGNORECASE)
ANSWERED = re.compile(r"too many \d+ error responses", re.IGNORECASE)
NO_JSON = re.compile(r"not in a valid JSON format", re.IGNORECASE)


class StoreUnavailable(CifarLabError):
    """Error raised if the tracking store is unavailable now. Nothing is lost: the journals hold everything."""


class StoreRefuses(TrackingError):
    """Error raised if the tracking store refuses every call until its configuration is changed."""


class CallRefused(TrackingError):
    """Error raised if the tracking store refuses one call permanently; others may succeed."""


class ArtifactsRefused(TrackingError):
    """Error raised if artifacts cannot be stored; metrics, params and tags can."""


def translated(error: BaseException, uri: str) -> CifarLabError:
    """Translate an error of MLflow, or of a library below it, to one of this package."""
    if isinstance(error, CifarLabError):
        return error
    place, text, code = f"MLflow on {redacted(uri)}", str(error), getattr(error, "error_code", None)
    if DAMAGED.search(text):
        return StoreRefuses(
            f"{place} is damaged ({brief_error(error)}); move it away, and `cifar-lab sync` fills a new one from the "
            "records"
        )
    if SCHEMA.search(text):
        return StoreRefuses(
            f"{place} was made by another version of MLflow ({brief_error(error)}); back it up, then `mlflow db "
            "upgrade`, or "
            "move it away and `cifar-lab sync` fills a new one"
        )
    if is_database_locked(error):
        return StoreUnavailable(f"{place} is away: another process keeps the database locked")
    if UNWRITABLE.search(text) or CREDENTIALS.search(text):
        return StoreRefuses(f"{place} refuses: {brief_error(error)}")
    if NO_LOGIN.search(text):
        return StoreRefuses(
            f"{place} cannot be used: no host and token of Databricks were found; `databricks auth login`"
        )
    if NO_JSON.search(text):
        return StoreRefuses(f"{place} does not answer as MLflow does: {brief_error(error)}; is it the right address?")
    if code in OF_THE_STORE:
        return StoreRefuses(f"{place} refuses: {brief_error(error)}")
    if code in OF_THE_CALL:
        return CallRefused(f"{place} refuses: {brief_error(error)}")
    if code is None and isinstance(error, (ImportError, ValueError, TypeError)) and not isinstance(error, OSError):
        return StoreRefuses(f"{place} cannot be used: {type(error).__name__}: {brief_error(error)}")
    return StoreUnavailable(f"{place} is away: {brief_error(error)}")


def answered(status: int, body: str, uri: str) -> CifarLabError | None:
    """Classify an HTTP answer to a simple request; None if it is the answer of an MLflow server."""
    place = f"MLflow on {redacted(uri)}"
    words = brief_text(re.sub(r"<[^>]*>", " ", body))
    said = f"{status}{f' ({words})' if words else ''}"
    if status == 200:
        if body.lstrip().startswith("{"):
            return None
        return StoreRefuses(f"{place} does not answer as MLflow does: {said}; is it the right address?")
    if status in {401, 403, 407}:
        return StoreRefuses(
            f"{place} refuses: {said}; user and password, or a token, come from MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if status in {408, 425, 429} or status >= 500:
        return StoreUnavailable(f"{place} is away: it answers {said}")
    return StoreRefuses(f"{place} refuses: {said}; is it the address of an MLflow server?")


def is_database_locked(error: BaseException) -> bool:
    """Tell whether another process currently locks a SQLite database."""
    return LOCKED.search(str(error)) is not None


def is_contended(error: BaseException) -> bool:
    """Tell whether another process locks the database, or wrote the same row at the same moment."""
    return is_database_locked(error) or WRITTEN.search(str(error)) is not None


def is_connection(error: BaseException) -> bool:
    """Tell whether a network connection failed or went unanswered."""
    seen: BaseException | None = error
    while seen is not None:
        if ANSWERED.search(str(seen)):
            return False
        if isinstance(seen, (ConnectionError, TimeoutError, sqlite3.Error)):
            return True
        if type(seen).__module__.partition(".")[0] in {"urllib3", "requests"} and not hasattr(seen, "status_code"):
            return getattr(seen, "response", None) is None
        seen = seen.__cause__ or seen.__context__
    return False


def brief_error(error: BaseException) -> str:
    """Return the first line of an error's message: printable, without secrets, truncated."""
    return brief_text(str(error)) or type(error).__name__


def brief_text(text: str) -> str:
    """Return the first non-empty line of a text: printable, without secrets, truncated."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return shortened(printable(redacted(next((line for line in lines if line), ""))), LONGEST)
