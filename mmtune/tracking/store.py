"""The SQLite store in a folder: made, opened, and set up for one writer and many readers.

On a local file system the store keeps a write-ahead log, so that a commit is one append and readers such as
`mlflow ui` never hold the writer up. On a network file system, where such a log is unsafe (SQLite, "Write-Ahead
Logging", section 1), it keeps SQLite's rollback journal, which is slower and asks only for locks that work. What a file
system is, is read anew whenever a store is opened, and the store follows it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.exc import SQLAlchemyError

from mmtune.errors import InputError
from mmtune.files import locked, unusable
from mmtune.tracking.tables import RUNS, TAGS

DATABASE, LOCK = "mlflow.db", ".store.lock"
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


def store_uri(root: Path, name: str = DATABASE) -> str:
    """The tracking URI of the SQLite store in `root`; InputError where the path cannot stand in a URI as it is."""
    path = str(root.resolve() / name)
    if any(letter in path for letter in "%?#"):
        raise InputError(f"--store must be a path without %, ? and #, got {root}")
    return f"sqlite:///{path}"


def has_store(root: Path) -> bool:
    """Whether `root` holds tracked runs."""
    return (root / DATABASE).is_file()


def open_engine(root: Path) -> Engine:
    """SQLAlchemy's engine on the store in `root`, which is made if need be, by one process at a time.

    Raises InputError where there is no MLflow store. MLflow itself is imported only where the store is made.
    """
    quiet()
    uri = store_uri(root)
    require_writable(root)
    with locked(root / LOCK):
        if not has_store(root):
            make_store(root)
        try:
            engine = create_engine(uri)
            event.listen(engine, "connect", relax if follow_file_system(root) == "wal" else wait)
            with engine.connect() as store:
                store.execute(select(RUNS).join(TAGS, TAGS.c.run_uuid == RUNS.c.run_uuid).limit(1))
        except (SQLAlchemyError, sqlite3.DatabaseError) as error:
            reason = str(error).partition("\n")[0]
            if isinstance(getattr(error, "orig", error), sqlite3.OperationalError) and "no such" not in reason:
                raise unusable(reason) from error
            raise InputError(f"{root / DATABASE} must be an MLflow store: {reason}") from error
    return engine


def open_client(root: Path) -> Any:
    """An MlflowClient on the store in `root`, which is made if need be."""
    open_engine(root).dispose()
    from mlflow.exceptions import MlflowException

    uri = store_uri(root)
    with locked(root / LOCK):
        try:
            client = client_on(uri)
        except (MlflowException, SQLAlchemyError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"{root / DATABASE} must be an MLflow store: {reason}") from error
    if journal_mode(root) == "wal":
        prepare(client._tracking_client.store.engine)
    return client


def require_writable(root: Path) -> None:
    """Raise InputError, which names the file, where one of a store cannot be written: reading locks it too."""
    for name in (LOCK, DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):
        if (root / name).exists() and not os.access(root / name, os.W_OK):
            raise InputError(
                f"{root / name} must be writable for everybody who uses the store, also to read it; it is not for you"
            )


def quiet() -> None:
    """Keep MLflow from what a study has no use for."""
    # A run id in the environment would silently become the parent of every run.
    os.environ.pop("MLFLOW_RUN_ID", None)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    # What is done here is nobody else's to know, unless the user wants it so.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def client_on(uri: str) -> Any:
    """An MlflowClient that has made sure of its store's schema."""
    from mlflow import MlflowClient

    # Importing MLflow sets these levels anew.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It raises what it logs.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_experiments(max_results=1)
    return client


def make_store(root: Path) -> None:
    """A migrated, empty database, there whole or not at all: migrations that a kill cuts short cannot be resumed."""
    partial = root / f".new.{DATABASE}"
    for left in root.glob(f"{partial.name}*"):
        left.unlink()
    client = client_on(store_uri(root, partial.name))
    client._tracking_client.store.engine.dispose()
    # SQLite lets nobody but a file's owner write it; the lock beside it has the rights that the user's umask asks for.
    partial.chmod((root / LOCK).stat().st_mode)
    partial.rename(root / DATABASE)


# ---- durability and speed


def follow_file_system(root: Path) -> str:
    """Keep a write-ahead log where the file system is known to be local, a rollback journal elsewhere; say which.

    A store that is in use keeps its rollback journal until it is opened alone. Raises InputError where it keeps a
    write-ahead log on a file system that is not local, and is in use.
    """
    wanted = "wal" if is_local(root) else "delete"
    found = journal_mode(root)
    if found != wanted:
        with suppress(sqlite3.OperationalError):
            found = journal_mode(root, wanted)
    if found == "wal" != wanted:
        raise InputError(
            f"{root / DATABASE} must keep no write-ahead log, as its file system is not local; close what has it open"
        )
    return found


def journal_mode(root: Path, wanted: str = "") -> str:
    """SQLite's journal mode of the store, after asking for another one if `wanted`."""
    with closing(sqlite3.connect(root / DATABASE, timeout=0 if wanted else BUSY_SECONDS)) as store:
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


def prepare(engine: Engine) -> None:
    """Let MLflow's own connections begin as ours do."""
    if not event.contains(engine, "connect", relax):
        event.listen(engine, "connect", relax)
        engine.dispose()


def wait(connection: Any, _: object) -> None:
    """Wait for other writers as long as MLflow does."""
    connection.execute(f"PRAGMA busy_timeout={1000 * BUSY_SECONDS}")
    connection.execute("PRAGMA foreign_keys=ON")


def relax(connection: Any, record: object) -> None:
    """Let commits reach the write-ahead log without waiting for the disk; `secure` waits, where it matters.

    SQLite's level NORMAL: a power cut may cost the last commits and never the store (SQLite, "PRAGMA synchronous").
    """
    wait(connection, record)
    connection.execute("PRAGMA synchronous=NORMAL")


def secure(root: Path) -> None:
    """Wait until all that was committed to the store is on the disk, also across a power cut."""
    # A log that is not there was checkpointed, which waits for the disk itself.
    with suppress(FileNotFoundError):
        log = os.open(root / f"{DATABASE}-wal", os.O_RDWR)
        try:
            os.fsync(log)
        finally:
            os.close(log)


def analyse(root: Path) -> None:
    """Tell SQLite's planner how the store is filled, and fold the write-ahead log into it if nobody reads."""
    with closing(sqlite3.connect(root / DATABASE, timeout=0)) as store, suppress(sqlite3.OperationalError):
        store.execute(f"PRAGMA analysis_limit={SAMPLED_ROWS}")
        store.execute("PRAGMA optimize")
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
