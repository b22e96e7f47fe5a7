"""The place where MLflow keeps runs, opened: made if need be, never moved to another schema without a word.

An SQLite file on a local file system keeps a write-ahead log, so that a commit is one append and readers such as the
MLflow UI never hold the writer up. On a network file system, where such a log is unsafe (SQLite, "Write-Ahead Logging",
section 1), it keeps SQLite's rollback journal, which is slower and asks only for locks that work.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import OperationalError as Refused
from sqlalchemy.exc import SQLAlchemyError

from mmtune.base.errors import InputError
from mmtune.base.files import locked, unusable
from mmtune.tracking.address import registry_uri, shown, sqlite_path, sqlite_uri, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK = ".store.lock"
LOCAL = {
    "ext2",
    "ext3",
    "ext4",
    "xfs",
    "btrfs",
    "zfs",
    "f2fs",
    "bcachefs",
    "tmpfs",
    "ramfs",
    "overlay",
    "apfs",
    "ntfs3",
}
MOUNTS = Path("/proc/self/mounts")
# Rows that an analysis of the store looks at in each index.
SAMPLED_ROWS = 1_000
BUSY_SECONDS = 20
# What MLflow makes before it notes a revision.
FIRST_TABLES = {"experiments", "runs", "tags", "metrics", "params"}
# Of PostgreSQL's advisory locks: any number that nobody else has.
TABLES_LOCK = 0x6D6D74756E65
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def exists(root: Path) -> bool:
    """Whether there is something to read: a server always counts, a database by its file or its tables."""
    uri = tracking_uri(root)
    path = sqlite_path(uri)
    if path is not None:
        require_plain(path)
        return path.exists()
    if not uri.startswith(DATABASES):
        return True
    engine = read_only(uri)
    try:
        return bool(revision(engine, uri))
    finally:
        engine.dispose()


def open_client(root: Path) -> MlflowClient:
    """MLflow's client on the runs and the registry; the tables are made if need be, by one process at a time.

    Raises InputError where it is no MLflow store, or one of another MLflow's.
    """
    quiet()
    uri = tracking_uri(root)
    path = sqlite_path(uri)
    if path is None:
        if uri.startswith(DATABASES):
            require_schema(uri)
        return client_on(uri, registry_uri(root))
    require_plain(path)
    with locked(path.parent / LOCK):
        require_plain(path)
        if not path.exists():
            make_store(path)
        require_schema(uri)
        follow_file_system(path)
        return client_on(uri, registry_uri(root))


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
    if not event.contains(Engine, "connect", relax):
        event.listen(Engine, "connect", relax)
    return MlflowClient(tracking_uri=uri, registry_uri=registry)


@contextmanager
def making_tables(uri: str) -> Iterator[None]:
    """Keep others from making the tables of a PostgreSQL database meanwhile: MLflow itself makes one of them fail."""
    if not uri.startswith("postgresql"):
        yield
        return
    engine = read_only(uri)
    try:
        with engine.connect() as store:
            # It ends with the connection, whatever ends that.
            store.execute(text(f"SELECT pg_advisory_lock({TABLES_LOCK})"))
            yield
    finally:
        engine.dispose()


def relax(connection: Any, _: object) -> None:
    """Let commits reach the write-ahead log without waiting for the disk; `secure` waits, where it matters.

    SQLite's level NORMAL: a power cut may cost the last commits and never the store (SQLite, "PRAGMA synchronous").
    """
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=NORMAL")


# ---- reading


def read_only(uri: str) -> Engine:
    """SQLAlchemy's engine on a database, whose connections refuse to write."""
    if sqlite_path(uri) is not None:
        engine = create_engine(uri)
        event.listen(engine, "connect", never_write)
        return engine
    limits = {"connect_timeout": 10} if make_url(uri).drivername == "postgresql+psycopg" else {}
    return create_engine(uri, pool_pre_ping=True, execution_options={"postgresql_readonly": True}, connect_args=limits)


def never_write(connection: Any, _: object) -> None:
    """Let an SQLite connection read alone, and wait for writers as long as MLflow does."""
    connection.execute(f"PRAGMA busy_timeout={1000 * BUSY_SECONDS}")
    connection.execute("PRAGMA query_only=ON")


def revision(engine: Engine, uri: str) -> str:
    """The revision of MLflow's schema in a database, "" where there are no tables.

    Raises InputError where it cannot be read, or has tables of somebody else's.
    """
    try:
        with engine.connect() as store:
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


# ---- schema


def require_schema(uri: str) -> None:
    """Raise InputError unless this MLflow's schema is the store's, or the store is empty.

    An older SQLite store is copied, and then upgraded; the copy is named on standard error.
    """
    engine = read_only(uri)
    try:
        found = revision(engine, uri)
    finally:
        engine.dispose()
    if not found:
        return
    known = revisions()
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
    copy = free_name(path.with_name(f"{path.name}.{found}"))
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(copy)) as new:
        old.backup(new)
    sys.stderr.write(f"{path} was made by an older MLflow and is upgraded to that of {mine}; a copy of it is {copy}\n")
    words = [sys.executable, "-m", "mlflow", "db", "upgrade", uri]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise InputError(f"{path} cannot be upgraded: {reason}; {copy} is as it was before")


def free_name(path: Path) -> Path:
    """A path at which nothing lies yet, with a number behind it if need be: a copy is never written over."""
    names = (path.with_name(f"{path.name}{end}") for end in ("", *(f".{number}" for number in range(2, 1_000))))
    return next(name for name in names if not os.path.lexists(name))


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


# ---- an SQLite file


def require_plain(path: Path) -> None:
    """Raise InputError, which names the file, where one of a store is no file, or not for this user to write.

    Reading takes a lock, and so writes too.
    """
    for own in (path.parent / LOCK, *(path.with_name(path.name + end) for end in ("", "-wal", "-shm", "-journal"))):
        if not os.path.lexists(own):
            continue
        if not own.exists() or not stat.S_ISREG(own.stat().st_mode):
            raise InputError(f"{own} must be a plain file of a store, it is something else")
        if not os.access(own, os.W_OK):
            raise InputError(f"{own} must be writable for everybody who uses the store, also to read it; it is not")


def follow_file_system(path: Path) -> str:
    """Keep a write-ahead log where the file system is known to be local, a rollback journal elsewhere; say which.

    A store that is in use keeps its rollback journal until it is opened alone. Raises InputError where it keeps a
    write-ahead log on a file system that is not local, and is in use.
    """
    wanted = "wal" if is_local(path.parent) else "delete"
    found = journal_mode(path)
    if found != wanted:
        with suppress(sqlite3.OperationalError):
            found = journal_mode(path, wanted)
    if found == "wal" != wanted:
        raise InputError(
            f"{path} must keep no write-ahead log on a file system that is not local; close what has it open"
        )
    return found


def journal_mode(path: Path, wanted: str = "") -> str:
    """SQLite's journal mode of a store, after asking for another one if `wanted`."""
    with closing(sqlite3.connect(path, timeout=0 if wanted else BUSY_SECONDS)) as store:
        return str(store.execute(f"PRAGMA journal_mode{f'={wanted}' if wanted else ''}").fetchone()[0])


def is_local(folder: Path, mounts: Path = MOUNTS) -> bool:
    """Whether a folder is on a file system that is known to be local; False where the system does not say."""
    try:
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return False
    path = folder.resolve()
    # The last mount of a place is the one that is seen; \040 stands for a blank.
    found = {line[1].replace("\\040", " "): line[2] for line in lines if len(line) > 2}
    over = [place for place in found if path.is_relative_to(place)]
    return bool(over) and found[max(over, key=len)] in LOCAL


def secure(uri: str) -> None:
    """Wait until all that was committed to an SQLite file is on the disk, also across a power cut."""
    path = sqlite_path(uri)
    # A log that is not there was checkpointed, which waits for the disk itself.
    with suppress(FileNotFoundError):
        log = os.open(f"{path}-wal", os.O_RDWR) if path else None
        if log is not None:
            try:
                os.fsync(log)
            finally:
                os.close(log)


def analyse(uri: str) -> None:
    """Tell SQLite's planner how a file is filled, and tidy up, if nobody is in the way."""
    path = sqlite_path(uri)
    if path is None:
        return
    # Without it MLflow's UI takes minutes, not a second, to order 100,000 runs by a metric.
    with closing(sqlite3.connect(path, timeout=0)) as store, suppress(sqlite3.OperationalError):
        store.execute(f"PRAGMA analysis_limit={SAMPLED_ROWS}")
        store.execute("ANALYZE")
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
