"""A PostgreSQL of the tests' own: made in a temporary folder, started, stopped, killed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from servers import free_port

ADMINISTRATOR, PASSWORD = "postgres", "of the administrator"
NUMBERS = count()


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """It asks for passwords on loopback. owner: as whom its programs run, since it will not run as root."""

    folder: Path
    port: int
    owner: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """What its administrator's psql needs."""
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": ADMINISTRATOR, "PGPASSWORD": PASSWORD}

    def url(self, template: str = "template1") -> str:
        """A new database's, a copy of another one, whose connections end; the usual one is empty."""
        name = f"database_{next(NUMBERS)}"
        alone = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{template}'"
        self.run("psql", "--host", str(self.folder), "--port", str(self.port), "--user", ADMINISTRATOR,
                 "--command", alone, "--command", f"CREATE DATABASE {name} TEMPLATE {template}",
                 "postgres")  # fmt: skip
        return f"postgresql://{ADMINISTRATOR}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/{name}"

    def run(self, *words: str) -> None:
        subprocess.run(words, cwd=self.folder, check=True, capture_output=True, timeout=120, **self.owner)  # type: ignore[call-overload]

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        self.control("--log", str(self.folder / "log"), "--options", options, "-w", "start")

    def kill(self) -> None:
        self.control("-m", "immediate", "stop")

    def control(self, *words: str) -> None:
        self.run("pg_ctl", "--pgdata", str(self.folder / "data"), *words)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A new one, until the end; the test is skipped where there are no programs for it."""
    if not all(shutil.which(name) for name in ("initdb", "pg_ctl", "psql")):
        pytest.skip("initdb, pg_ctl and psql of PostgreSQL are not on PATH")
    pytest.importorskip("psycopg", reason="needs the extra `team`")
    users = {entry.pw_name for entry in pwd.getpwall()}
    owner = {"user": "postgres" if "postgres" in users else "nobody"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="mmtune-postgres-"))
    made = Postgres(folder=folder, port=free_port(), owner=owner)
    try:
        if owner:
            shutil.chown(folder, owner["user"])
        (folder / "password").write_text(f"{PASSWORD}\n")
        methods = ["--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile", str(folder / "password")]
        made.run("initdb", "--pgdata", str(folder / "data"), "--username", ADMINISTRATOR, *methods)
        made.start()
        try:
            yield made
        finally:
            made.kill()
    finally:
        shutil.rmtree(folder)
