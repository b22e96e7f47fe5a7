"""Where runs and registered models are: what MLFLOW_TRACKING_URI and MLFLOW_REGISTRY_URI say, as MLflow means them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from mmtune.base.errors import InputError

TRACKING, REGISTRY = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"
DATABASE = "mlflow.db"
DRIVERS = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}


def tracking_uri(root: Path) -> str:
    """MLflow's tracking URI: the variable's, or that of the SQLite file in `root`.

    Raises InputError where MLflow would keep runs in plain files, which it no longer does well.
    """
    uri = given(TRACKING)
    if not uri:
        return sqlite_uri(root / DATABASE)
    if uri.startswith("sqlite:") and ":memory:" in uri:
        raise InputError(f"{TRACKING} must be a file where it names SQLite, got {uri}")
    if not re.match(r"[a-z][a-z0-9+.-]*:", uri) or uri.startswith("file:"):
        raise InputError(f"{TRACKING} must be the address of a server or a database (--store names folders), got {uri}")
    return uri


def registry_uri(root: Path) -> str:
    """MLflow's registry URI: the variable's, or where the runs are."""
    return given(REGISTRY) or tracking_uri(root)


def given(variable: str) -> str:
    """A variable's value as `checked`, "" where it is not set; mlflow.set_tracking_uri sets it too.

    An SQLite file is where it is now, whatever folder the process goes to afterwards.
    """
    uri = checked(variable, os.environ.get(variable, ""))
    scheme, inside, path = uri.partition(":///")
    if scheme.startswith("sqlite") and any(letter in path for letter in "%?#"):
        raise InputError(f"{variable} must name an SQLite file by a path without %, ? and #, got {uri}")
    relative = scheme.startswith("sqlite") and path and not path.startswith(("/", ":memory:"))
    return f"{scheme}{inside}{Path.cwd() / path}" if relative else uri


def checked(name: str, given: str) -> str:
    """An address, its scheme in small letters, PostgreSQL's with the driver we have; `name` is where it was given.

    Raises InputError where its host or port is none.
    """
    uri = given.strip()
    scheme, colon, rest = uri.partition(":")
    try:
        bad = scheme.lower().startswith(("http", "postgres")) and not urlsplit(uri).hostname
        bad = bad or urlsplit(uri).port == 0
    except ValueError:
        bad = True
    if colon and bad and not scheme.lower().startswith("sqlite"):
        raise InputError(f"{name} must be an address with a host and a port, got {shown(uri)}")
    scheme = scheme.lower() if colon else scheme
    return f"{DRIVERS.get(scheme, scheme)}{colon}{rest}".rstrip("/")


def sqlite_uri(path: Path) -> str:
    """The URI of an SQLite file; InputError where the path cannot stand in a URI as it is."""
    text = str(path.resolve())
    if any(letter in text for letter in "%?#"):
        raise InputError(f"--store must be a path without %, ? and #, got {path.parent}")
    return f"sqlite:///{text}"


def sqlite_path(uri: str) -> Path | None:
    """The file that an SQLite URI names, None for any other."""
    return Path(uri.partition(":///")[2]).resolve() if uri.startswith("sqlite:") else None


def shown(uri: str) -> str:
    """An address without what may be secret: user, password, query; an SQLite file by its path."""
    path = sqlite_path(uri)
    return str(path) if path else re.split(r"[?#]", re.sub(r"//[^/]*@", "//", uri.replace("+psycopg", "")))[0]


def without_login(uri: str, text: str) -> str:
    """The first line of a text, without the user and password that an address has."""
    secret = urlsplit(uri).netloc.rpartition("@")[0] if "://" in uri else ""
    line = text.strip().partition("\n")[0]
    password = secret.partition(":")[2]
    for hidden in filter(None, (f"{secret}@" if secret else "", password)):
        line = line.replace(hidden, "")
    return line
