"""MLflow's own client, without what a study has no use for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from mmtune.base.errors import InputError


def quiet() -> None:
    """Keep MLflow from what a study has no use for."""
    # A run id in the environment would silently become the parent of every run.
    os.environ.pop("MLFLOW_RUN_ID", None)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    # What is done here is nobody else's to know, unless the user wants it so.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def client_on(uri: str) -> Any:
    """An MlflowClient that has made sure of its store's schema."""
    from mlflow import MlflowClient

    # Importing MLflow sets these levels anew.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It raises what it logs.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_experiments(max_results=1)
    return client


@contextmanager
def of_mlflow(name: str) -> Iterator[None]:
    """Turn MLflow's refusal of a database into an InputError, without importing MLflow for it."""
    try:
        yield
    except Exception as error:
        if not (isinstance(error, SQLAlchemyError) or type(error).__module__ == "mlflow.exceptions"):
            raise
        reason = str(error).partition("\n")[0]
        raise InputError(f"{name} must be an MLflow store: {reason}") from error
