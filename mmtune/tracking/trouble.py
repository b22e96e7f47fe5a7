"""What can go wrong between here and the store, told apart: away for now, a run that is gone, a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mmtune.base.errors import AwayError, GoneError, InputError
from mmtune.base.files import of_postgres, storage_problem
from mmtune.tracking.address import shown, sqlite_path, without_login

AWAY = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}


@contextmanager
def reached(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into AwayError, GoneError, or InputError where the store refuses.

    What an SQLite file suffers from is left as it is: `storage_problem` knows it.
    """
    try:
        yield
    except (AwayError, GoneError, InputError):
        raise
    except Exception as error:
        if sqlite_path(uri) is not None and storage_problem(error) is not None:
            raise
        told = without_login(uri, str(error))
        code = getattr(error, "error_code", "")
        if code == "RESOURCE_DOES_NOT_EXIST" or "must be in the 'active' state" in str(error):
            raise GoneError(told) from error
        # What a proxy without its server answers (502, say) is one to MLflow.
        if is_away(error) or (uri.startswith("http") and code == "INTERNAL_ERROR"):
            raise AwayError(shown(uri), told) from error
        if type(error).__module__.startswith(("mlflow.", "sqlalchemy.", "requests.")):
            raise InputError(f"{shown(uri)} must take what is tracked, it refuses: {told}") from error
        raise


def is_away(error: BaseException | None) -> bool:
    """Whether an exception comes from a server or a database that does not answer, or not now."""
    import requests

    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        response = getattr(error, "response", None)
        refused = response is not None and response.status_code < 500 and response.status_code != 429
        if isinstance(error, requests.RequestException) and not refused:
            return True
        if getattr(error, "error_code", "") in AWAY or of_postgres(error):
            return True
        error = error.__cause__ or error.__context__
    return False
