"""PostgreSQL in the place of files: its URL from the environment, and a lock that every machine sees."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mmtune.base.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy import Engine

SCHEMES = ("postgresql", "postgresql+psycopg")


def postgres_url(variable: str) -> str | None:
    """The database that a variable of the environment names, as SQLAlchemy's URL for psycopg 3; None where it is unset.

    Raises InputError where it names something else, or psycopg is not installed.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    given = os.environ.get(variable, "").strip()
    if not given:
        return None
    rule = f"{variable} must be the URL of a PostgreSQL database, such as postgresql://user@host/name"
    try:
        url = make_url(given)
        url = url.set(drivername=url.drivername.lower())
    except (ArgumentError, ValueError):
        raise InputError(f"{rule}, got one that cannot be read") from None
    if url.drivername not in SCHEMES or not url.database:
        raise InputError(f"{rule}, got {shown(given)}")
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise InputError(f"{variable} needs psycopg: pip install 'mmtune[team]'") from None
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def shown(url: str) -> str:
    """A URL without its password, which may also be among its options."""
    from sqlalchemy import make_url

    plain = make_url(url).set(query={})
    return plain.set(drivername=plain.drivername.partition("+")[0]).render_as_string(hide_password=True)


@contextmanager
def reached(url: str) -> Iterator[None]:
    """Turn whatever psycopg says of a database that does not answer into an InputError."""
    import psycopg
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg.OperationalError):
            raise
        reason = str(error.orig).partition("\n")[0]
        raise InputError(f"{shown(url)} must answer, it does not: {reason}") from error


def open_postgres(url: str, note: str = "mmtune") -> Engine:
    """SQLAlchemy's engine on a database; `note` is what its administrator sees of us. InputError if it is not there."""
    from sqlalchemy import create_engine

    # A lock's connection says nothing for hours, and what lies between must not take it for dead.
    own = {"application_name": note[:63], "keepalives_idle": 60}
    engine = create_engine(url, pool_pre_ping=True, connect_args=own)
    with reached(url), engine.connect():
        pass
    return engine


@contextmanager
def locked_there(url: str, name: str, refusal: str = "", note: str = "mmtune") -> Iterator[Callable[[], None]]:
    """Hold a lock in a database, which frees it when the holder's connection ends, however it does.

    Gives a function that raises InputError where the lock was lost with its connection.

    Without `refusal` this waits. With it, a lock that another process holds raises InputError at once: the refusal,
    then that holder's own `note`.
    """
    from sqlalchemy import text

    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
    engine = open_postgres(url, note)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if not refusal:
                connection.execute(text("SELECT pg_advisory_lock(:n)"), {"n": number})
            elif not connection.execute(text("SELECT pg_try_advisory_lock(:n)"), {"n": number}).scalar():
                holder = connection.execute(text(HOLDER), {"n": number}).scalar()
                raise InputError(f"{refusal}: {holder or 'holder unknown'}")

            def confirm() -> None:
                with reached(url):
                    connection.execute(text("SELECT 1"))

            yield confirm
    finally:
        engine.dispose()


HOLDER = """
SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid)
WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32) | objid::bigint = :n
"""
