"""What MLFLOW_TRACKING_URI names: an MLflow server that runs are brought to, or a database that they are kept in."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mmtune.base.errors import InputError
from mmtune.base.postgres import SCHEMES, postgres_url

VARIABLE = "MLFLOW_TRACKING_URI"
RULE = f"{VARIABLE} must be the http(s) URL of an MLflow server or the URL of a PostgreSQL database"


@dataclass(frozen=True, kw_only=True)
class Server:
    """An MLflow server. uri: as it was given, perhaps with a password; name: without one, to be shown."""

    uri: str = field(repr=False)
    name: str

    @property
    def slug(self) -> str:
        """A name for files."""
        plain = re.sub(r"[^\w.-]+", "_", self.name.partition("://")[2])
        return f"{plain[:60]}-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"

    def without_secrets(self, text: str) -> str:
        """The first line of a text, without what the address has before its host."""
        secret = urlsplit(self.uri).netloc.rpartition("@")[0]
        line = text.partition("\n")[0]
        return line.replace(f"{secret}@", "") if secret else line


def given_address() -> str:
    """The variable's value, "" where it is not set, its scheme in small letters.

    Raises InputError where it names neither a server nor a database.
    """
    uri = os.environ.get(VARIABLE, "").strip()
    try:
        parts = urlsplit(uri)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise InputError(f"{RULE}, got one with a bad host or port") from None
    if uri and not ((parts.scheme in ("http", "https") and named) or parts.scheme in SCHEMES):
        raise InputError(f"{RULE} (--store names the local folder), got {without_login(uri)}")
    return parts.scheme + uri[len(parts.scheme) :]


def tracking_database() -> str | None:
    """The database that runs are kept in, as SQLAlchemy's URL; None where they are in the local folder."""
    return postgres_url(VARIABLE) if given_address().startswith(SCHEMES) else None


def kept_in() -> str:
    """Where runs are kept, whoever asks: the local folder, or a database by host, port and name."""
    database = tracking_database()
    if database is None:
        return "the local folder"
    parts = urlsplit(database)
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


def tracking_server() -> Server | None:
    """The server that runs are brought to, None where there is none to bring them to."""
    uri = given_address().rstrip("/")
    if not uri.startswith("http"):
        return None
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return Server(uri=uri, name=f"{parts.scheme}://{host}{parts.path}")


def without_login(uri: str) -> str:
    """An address of any kind without what may be secret: user, password, query."""
    return re.split(r"[?#]", re.sub(r"//.*@", "//", uri))[0]
