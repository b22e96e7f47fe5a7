"""An SQLite file and the file system it is on.

On a local file system it keeps a write-ahead log, so that a commit is one append and readers such as the MLflow UI
never hold the writer up. On a network file system, where such a log is unsafe (SQLite, "Write-Ahead Logging", section
1), it keeps SQLite's rollback journal, which is slower and asks only for locks that work.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from mmtune.base.errors import InputError

DISKS, MEMORY = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "apfs", "ntfs3"}, {"tmpfs", "ramfs"}
LOCAL = {*DISKS, *MEMORY, "overlay"}
MOUNTS = Path("/proc/self/mounts")
# Rows that an analysis looks at in each index.
SAMPLED_ROWS = 1_000
BUSY_SECONDS = 20


def require_plain(path: Path, *beside: Path) -> None:
    """Raise InputError, which names the file, where one of a store is no file, or not for this user to write.

    Reading takes a lock, and so writes too. beside: other files of the store.
    """
    for own in (*beside, *(path.with_name(path.name + end) for end in ("", "-wal", "-shm", "-journal"))):
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


def relax(connection: Any, _: object = None) -> None:
    """Let commits reach the write-ahead log without waiting for the disk; `secure` waits, where it matters.

    SQLite's level NORMAL: a power cut may cost the last commits and never the store (SQLite, "PRAGMA synchronous").
    """
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=NORMAL")


def never_write(connection: sqlite3.Connection, _: object = None) -> None:
    """Let a connection read alone, and wait for writers as long as MLflow does."""
    connection.execute(f"PRAGMA busy_timeout={1000 * BUSY_SECONDS}")
    connection.execute("PRAGMA query_only=ON")


def secure(path: Path | None) -> None:
    """Wait until all that was committed to a file is on the disk, also across a power cut."""
    # A log that is not there was checkpointed, which waits for the disk itself.
    with suppress(FileNotFoundError):
        log = os.open(f"{path}-wal", os.O_RDWR) if path else None
        if log is not None:
            try:
                os.fsync(log)
            finally:
                os.close(log)


def analyse(path: Path | None) -> None:
    """Tell SQLite's planner how a file is filled, and tidy up, if nobody is in the way."""
    if path is None:
        return
    # Without it MLflow's UI takes minutes, not a second, to order 100,000 runs by a metric.
    with closing(sqlite3.connect(path, timeout=0)) as store, suppress(sqlite3.OperationalError):
        store.execute(f"PRAGMA analysis_limit={SAMPLED_ROWS}")
        store.execute("ANALYZE")
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
