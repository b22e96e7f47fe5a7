"""An MLflow server: a client for it, and what its answers mean."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmtune.tracking.address import Server
from mmtune.tracking.client import quiet

# A request that is not answered so soon is tried again later; the user's own setting counts.
TIMEOUT_SECONDS = 15
UNKNOWN_USER, TOO_MANY, SERVER_FAULTS = 401, 429, 500


class UnavailableError(Exception):
    """A server does not answer, or not now; what it was asked for may have been done or not. The end of a sentence."""


class RefusedError(Exception):
    """A server has understood and will not: one line that says why."""


def server_client(server: Server) -> Any:
    """An MlflowClient that asks each thing once: to ask again for a run would make another one.

    Settings of MLflow's requests are in the environment, and this process makes no others.
    """
    quiet()
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(TIMEOUT_SECONDS))
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=server.uri, registry_uri=server.uri)


@contextmanager
def answers(server: Server) -> Iterator[None]:
    """Raise UnavailableError or RefusedError for whatever MLflow raises."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        yield
    except MlflowException as error:
        # Also what MLflow says of a connection that failed has the code of a fault in the server.
        raise meaning(server, error, int(error.get_http_status_code())) from error
    except RequestException as error:
        status = error.response.status_code if error.response is not None else SERVER_FAULTS
        raise meaning(server, error, status) from error


def meaning(server: Server, error: Exception, status: int) -> UnavailableError | RefusedError:
    """What an error of a request says, by its HTTP status."""
    from requests.exceptions import RequestException, RetryError

    if status == UNKNOWN_USER:
        return UnavailableError("does not know this user or password (MLFLOW_TRACKING_USERNAME, _PASSWORD)")
    if status == TOO_MANY or isinstance(error.__context__, RetryError):
        return UnavailableError("answers with errors")
    if status < SERVER_FAULTS:
        return RefusedError(server.without_secrets(str(error)))
    silent = isinstance(error.__context__, RequestException)
    return UnavailableError("does not answer" if silent else "does not answer as an MLflow server does")
