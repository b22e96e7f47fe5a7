"""Runs in an SQLite file in a folder: made, opened, and set up for one writer and many readers.

On a local file system the store keeps a write-ahead log, so that a commit is one append and readers such as
`mlflow ui` never hold the writer up. On a network file system, where such a log is unsafe (SQLite, "Write-Ahead
Logging", section 1), it keeps SQLite's rollback journal, which is slower and asks only for locks that work. What a file
system is, is read anew whenever a store is opened, and the store follows it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from mmtune.base.errors import InputError
from mmtune.base.files import locked, unusable
from mmtune.tracking.client import client_on, of_mlflow, quiet
from mmtune.tracking.tables import ANY_RUN

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


class SqliteStore:
    """The file `mlflow.db` in `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root / DATABASE)

    @property
    def uri(self) -> str:
        return uri_of(self.root, DATABASE)

    def exists(self) -> bool:
        return (self.root / DATABASE).is_file()

    def locked(self) -> AbstractContextManager[object]:
        return locked(self.root / LOCK)

    def open_engine(self) -> Engine:
        quiet()
        uri = self.uri
        require_writable(self.root)
        with self.locked():
            if not self.exists():
                make_store(self.root)
            try:
                engine = create_engine(uri)
                event.listen(engine, "connect", relax if follow_file_system(self.root) == "wal" else wait)
                with engine.connect() as store:
                    store.execute(ANY_RUN)
            except (SQLAlchemyError, sqlite3.DatabaseError) as error:
                reason = str(error).partition("\n")[0]
                if isinstance(getattr(error, "orig", error), sqlite3.OperationalError) and "no such" not in reason:
                    raise unusable(reason) from error
                raise InputError(f"{self} must be an MLflow store: {reason}") from error
        return engine

    def open_client(self) -> Any:
        self.open_engine().dispose()
        with self.locked(), of_mlflow(str(self)):
            client = client_on(self.uri)
        if journal_mode(self.root) == "wal":
            prepare(client._tracking_client.store.engine)
        return client

    def require_room(self, folder: Path) -> None:
        """SQLite keeps texts of any length."""

    def secure(self) -> None:
        # A log that is not there was checkpointed, which waits for the disk itself.
        with suppress(FileNotFoundError):
            log = os.open(self.root / f"{DATABASE}-wal", os.O_RDWR)
            try:
                os.fsync(log)
            finally:
                os.close(log)

    def analyse(self) -> None:
        # Without it MLflow's UI takes minutes, not a second, to order 100,000 runs by a metric.
        with closing(sqlite3.connect(self.root / DATABASE, timeout=0)) as store, suppress(sqlite3.OperationalError):
            store.execute(f"PRAGMA analysis_limit={SAMPLED_ROWS}")
            store.execute("ANALYZE")
            store.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def uri_of(root: Path, name: str) -> str:
    """The URI of an SQLite file in `root`; InputError where the path cannot stand in a URI as it is."""
    path = str(root.resolve() / name)
    if any(letter in path for letter in "%?#"):
        raise InputError(f"--store must be a path without %, ? and #, got {root}")
    return f"sqlite:///{path}"


def require_writable(root: Path) -> None:
    """Raise InputError, which names the file, where one of a store cannot be written: reading locks it too."""
    for name in (LOCK, DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):
        if (root / name).exists() and not os.access(root / name, os.W_OK):
            raise InputError(
                f"{root / name} must be writable for everybody who uses the store, also to read it; it is not for you"
            )


def make_store(root: Path) -> None:
    """A migrated, empty database, there whole or not at all: migrations that a kill cuts short cannot be resumed."""
    partial = root / f".new.{DATABASE}"
    for left in root.glob(f"{partial.name}*"):
        left.unlink()
    client = client_on(uri_of(root, partial.name))
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
