"""Where runs are kept: in an SQLite file beside their files, or in PostgreSQL where MLFLOW_TRACKING_URI names one.

Files of runs, journals of searches, locks and reports lie in the folder (`--store`) either way.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine

from mmtune.tracking.address import tracking_database
from mmtune.tracking.postgres import PostgresStore
from mmtune.tracking.sqlite import SqliteStore


class Store(Protocol):
    """A database of MLflow's. As a text: what it is called in messages, without a password."""

    @property
    def uri(self) -> str:
        """MLflow's tracking URI; InputError where the path cannot stand in one."""
        ...

    def exists(self) -> bool:
        """Whether there are MLflow's tables."""
        ...

    def locked(self) -> AbstractContextManager[object]:
        """Wait for, and hold, the right to change what the store is made of."""
        ...

    def open_engine(self) -> Engine:
        """SQLAlchemy's engine on it; the tables are made if need be, by one process at a time.

        Raises InputError where it is no MLflow store. MLflow itself is imported only where tables are made.
        """
        ...

    def open_client(self) -> Any:
        """An MlflowClient on it; the tables are made if need be."""
        ...

    def require_room(self, folder: Path) -> None:
        """Raise InputError where the path of a study's `folder` of files is longer than the database takes."""
        ...

    def secure(self) -> None:
        """Wait until all that was committed is on the disk, also across a power cut."""
        ...

    def analyse(self) -> None:
        """Tell the database's planner how it is filled, and tidy up, if nobody is in the way."""
        ...


def store_at(root: Path) -> Store:
    """Where the runs are kept whose files lie in `root`."""
    database = tracking_database()
    return SqliteStore(root) if database is None else PostgresStore(database)
