"""The place where MLflow keeps runs, opened: made if need be, never moved to another schema without a word."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import OperationalError as Refused
from sqlalchemy.exc import SQLAlchemyError

from mmtune.base import sqlite
from mmtune.base.errors import InputError
from mmtune.base.files import locked, unusable
from mmtune.tracking.address import shown, sqlite_path, sqlite_uri, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK = ".store.lock"
# What MLflow makes before it notes a revision.
FIRST_TABLES = {"experiments", "runs", "tags", "metrics", "params"}
# Of PostgreSQL's advisory locks: any number that nobody else has.
TABLES_LOCK = 0x6D6D74756E65
SCHEMAS = {"3.17": "dc11669786a5"}
"""By version of MLflow the revision of its schema; MLflow itself reads 70 files to know it."""
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def exists(root: Path) -> bool:
    """Whether there is something to read: a server always counts, a database by its file or its tables."""
    uri = tracking_uri(root)
    path = sqlite_path(uri)
    if path is not None:
        sqlite.require_plain(path, path.parent / LOCK)
        return path.exists()
    return not uri.startswith(DATABASES) or bool(revision(uri))


def open_client(uri: str, registry: str) -> MlflowClient:
    """MLflow's client on runs and registered models; the tables are made if need be, by one process at a time.

    Raises InputError where it is no MLflow store, or one of another MLflow's.
    """
    quiet()
    path = sqlite_path(uri)
    if path is None:
        if uri.startswith(DATABASES):
            require_schema(uri)
        return client_on(uri, registry)
    sqlite.require_plain(path, path.parent / LOCK)
    with locked(path.parent / LOCK):
        sqlite.require_plain(path, path.parent / LOCK)
        if not path.exists():
            make_store(path)
        require_schema(uri)
        sqlite.follow_file_system(path)
        return client_on(uri, registry)


def quiet() -> None:
    """Keep MLflow from what a study has no use for."""
    # A run id in the environment would silently become the parent of every run.
    os.environ.pop("MLFLOW_RUN_ID", None)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    # Whoever waits for a server decides how long, and says so.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # What is done here is nobody else's to know, unless the user wants it so.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def client_on(uri: str, registry: str) -> MlflowClient:
    """A client of one address for runs and another one for registered models."""
    from mlflow import MlflowClient

    # Importing MLflow sets these levels anew; what it logs before it raises, whoever catches that says.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if not event.contains(Engine, "connect", sqlite.relax):
        event.listen(Engine, "connect", sqlite.relax)
    return MlflowClient(tracking_uri=uri, registry_uri=registry)


@contextmanager
def making_tables(uri: str) -> Iterator[None]:
    """Keep others from making the tables of a PostgreSQL database meanwhile: MLflow itself makes one of them fail."""
    if not uri.startswith("postgresql"):
        yield
        return
    with connected(uri) as store:
        # It ends with the connection, whatever ends that.
        store.execute(text(f"SELECT pg_advisory_lock({TABLES_LOCK})"))
        yield


@contextmanager
def connected(uri: str) -> Iterator[Connection]:
    """A connection of its own that only reads."""
    engine = read_only(uri)
    try:
        with engine.connect() as store:
            yield store
    finally:
        engine.dispose()


def read_only(uri: str) -> Engine:
    """SQLAlchemy's engine on a database, whose connections refuse to write."""
    if sqlite_path(uri) is not None:
        engine = create_engine(uri)
        event.listen(engine, "connect", sqlite.never_write)
        return engine
    limits = {"connect_timeout": 10} if make_url(uri).drivername == "postgresql+psycopg" else {}
    return create_engine(uri, pool_pre_ping=True, execution_options={"postgresql_readonly": True}, connect_args=limits)


def revision(uri: str) -> str:
    """The revision of MLflow's schema in a database, "" where there are no tables.

    Raises InputError where it cannot be read, or has tables of somebody else's.
    """
    try:
        with connected(uri) as store:
            tables = set(inspect(store).get_table_names())
            if not tables or tables == {"alembic_version"}:
                return ""
            if tables <= FIRST_TABLES and not sqlite_path(uri):
                return ""  # a kill has cut their making short, and MLflow completes it
            if not {"alembic_version", "experiments", "runs"} <= tables:
                raise InputError(f"{shown(uri)} must be an MLflow store: it has other tables ({min(tables)})")
            return str(store.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")
    except (SQLAlchemyError, sqlite3.DatabaseError, ModuleNotFoundError) as error:
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
        if isinstance(error, ModuleNotFoundError):
            raise InputError(f"{shown(uri)} needs a driver: {reason}; pip install 'mmtune[team]'") from error
        if sqlite_path(uri) is None:
            raise InputError(f"{shown(uri)} must be a database that answers: {reason}") from error
        if isinstance(error, Refused):
            raise unusable(reason) from error
        raise InputError(f"{shown(uri)} must be an MLflow store: {reason}") from error


def require_schema(uri: str) -> None:
    """Raise InputError unless this MLflow's schema is the store's, or the store is empty.

    An older SQLite store is copied, and then upgraded; the copy is named on standard error.
    """
    found = revision(uri)
    if found and found == SCHEMAS.get(version("mlflow").rpartition(".")[0]):
        return
    known = revisions() if found else [""]
    if found == known[0]:
        return
    mine = f"MLflow {version('mlflow')}"
    if found not in known:
        raise InputError(
            f"{shown(uri)} was written by a newer MLflow (schema {found}) than this one ({mine}), which cannot read it "
            "and must not change it: install that newer MLflow, or use another store"
        )
    path = sqlite_path(uri)
    if path is None:
        raise InputError(
            f"{shown(uri)} was made by an older MLflow (schema {found}) than this one ({mine}): back it up, then run "
            "`mlflow db upgrade` on it"
        )
    with NamedTemporaryFile(prefix=f"{path.name}.{found}.", dir=path.parent, delete=False) as file:
        copy = Path(file.name)
    copy.chmod(stat.S_IMODE(path.stat().st_mode))
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(copy)) as new:
        old.backup(new)
    sys.stderr.write(f"{path} was made by an older MLflow and is upgraded to that of {mine}; a copy of it is {copy}\n")
    words = [sys.executable, "-m", "mlflow", "db", "upgrade", uri]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise InputError(f"{path} cannot be upgraded: {reason}; {copy} is as it was before")


def revisions() -> list[str]:
    """The revisions of MLflow's schema that the installed MLflow knows, its own first."""
    from alembic.script import ScriptDirectory

    spec = find_spec("mlflow")
    assert spec is not None
    assert spec.origin is not None
    scripts = ScriptDirectory(str(Path(spec.origin).parent / "store" / "db_migrations"))
    return [script.revision for script in scripts.walk_revisions()]


def make_store(path: Path) -> None:
    """A migrated, empty SQLite file, there whole or not at all: migrations that a kill cuts short cannot be resumed."""
    partial = path.with_name(f".new.{path.name}")
    for left in path.parent.glob(f"{partial.name}*"):
        if left.is_dir():
            raise InputError(f"{left} must be a file or not be there, it is a folder")
        left.unlink()
    # Whatever this process has open of a file that is renamed is of no use to it any more.
    client = client_on(sqlite_uri(partial), sqlite_uri(partial))
    # Nothing is ever kept in MLflow's own experiment, which would stand empty above all others.
    client.delete_experiment("0")
    # SQLite lets nobody but a file's owner write it; the lock beside it has the rights that the user's umask asks for.
    partial.chmod((path.parent / LOCK).stat().st_mode)
    partial.rename(path)
