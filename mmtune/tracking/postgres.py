"""Runs in PostgreSQL, which many machines reach; their files lie in a folder that all of those see."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, inspect

from mmtune.base.errors import InputError
from mmtune.base.postgres import locked_there, open_postgres, reached, shown
from mmtune.tracking.client import client_on, of_mlflow, quiet
from mmtune.tracking.tables import ANY_RUN

# MLflow's column for the folder of a run's files, and what a run's own part of it is.
LONGEST_PATH, OWN_PART = 200, len(f"/{'0' * 32}/artifacts")


class PostgresStore:
    """A database by its URL."""

    def __init__(self, url: str) -> None:
        self.uri = url

    def __str__(self) -> str:
        return shown(self.uri)

    def exists(self) -> bool:
        engine = open_postgres(self.uri)
        try:
            return made_whole(engine)
        finally:
            engine.dispose()

    def locked(self) -> AbstractContextManager[object]:
        return locked_there(self.uri, "MLflow's tables")

    def open_engine(self) -> Engine:
        quiet()
        engine = open_postgres(self.uri)
        if not made_whole(engine):
            self._make()
        with of_mlflow(str(self)), reached(self.uri), engine.connect() as store:
            store.execute(ANY_RUN)
        return engine

    def open_client(self) -> Any:
        self.open_engine().dispose()
        return self._make()

    def require_room(self, folder: Path) -> None:
        longest = LONGEST_PATH - OWN_PART
        if len(folder.as_uri()) > longest:
            raise InputError(f"{folder} must be no longer than {longest} as a file:// address with runs in PostgreSQL")

    def secure(self) -> None:
        """A commit waits for the server's disk, unless its administrator wants it otherwise."""

    def analyse(self) -> None:
        """The server does so itself."""

    def _make(self) -> Any:
        """MLflow's client, which makes the tables where there are none."""
        with self.locked(), of_mlflow(str(self)), reached(self.uri):
            return client_on(self.uri)


def made_whole(engine: Engine) -> bool:
    """Whether MLflow's tables are there: the last step, which PostgreSQL does whole or not at all, makes this one."""
    return inspect(engine).has_table("alembic_version")
