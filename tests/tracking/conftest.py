"""Places to track in, and ways to read what is tracked."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from databases import Postgres

from mmtune.tracking import MlflowTracker
from mmtune.tracking.reading import ClientReading, SqlReading

# The servers that tests of faults cut off.
sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

PLACES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow), pytest.param("server", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=PLACES)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, store_template: Path
) -> Iterator[MlflowTracker]:
    """A tracker on an empty store: in SQLite, in PostgreSQL, behind a server."""
    root = Path(shutil.copytree(store_template, tmp_path_factory.mktemp("place") / "mlruns"))
    with ExitStack() as kept:
        patch = kept.enter_context(pytest.MonkeyPatch.context())
        if request.param == "postgresql":
            postgres: Postgres = request.getfixturevalue("postgres")
            patch.setenv("MLFLOW_TRACKING_URI", postgres.url(request.getfixturevalue("postgres_template")))
        if request.param == "server":
            from mlflow_servers import ServerProcess

            server = ServerProcess(root.parent / "server", store_template)
            kept.callback(server.kill)
            server.start()
            patch.setenv("MLFLOW_TRACKING_URI", server.uri)
        tracker = MlflowTracker(root)
        # What it reaches is settled before the next test forgets the address.
        assert tracker.client is not None
        yield tracker


@pytest.fixture(params=["sql", "client"])
def reader(request: pytest.FixtureRequest, place: MlflowTracker) -> Iterator[MlflowTracker]:
    """The tracker of `place`, which reads by SQL or through MLflow's client."""
    usual = place.reading
    if request.param == "sql" and not isinstance(usual, SqlReading):
        pytest.skip("a server is read through the client alone")
    place.reading = usual if request.param == "sql" else ClientReading(lambda: place.client)
    yield place
    place.reading = usual
