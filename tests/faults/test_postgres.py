"""A search kept in PostgreSQL: the same study, one coordinator, and a database that goes away."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from checks import begin, check_whole, command, run, scores, wait_for
from databases import Postgres, running_postgres

from mmtune.data.dataset import Dataset
from mmtune.errors import InputError
from mmtune.postgres import locked_there, postgres_url
from mmtune.run import SEARCHES
from mmtune.search import Attempt, attempt_of

Scores = list[tuple[float, float]]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as made:
        yield made


@pytest.fixture
def database(postgres: Postgres, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database that searches go to."""
    url = postgres.url(f"of_{abs(hash(request.node.name))}")
    monkeypatch.setenv(SEARCHES, url)
    return url


def attempts(url: str) -> list[Attempt]:
    storage = optuna.storages.RDBStorage(url.replace("postgresql:", "postgresql+psycopg:"))
    return [attempt_of(trial) for trial in optuna.load_study(study_name=None, storage=storage).get_trials()]


@pytest.mark.slow
def test_a_search_in_postgresql_is_the_same_search(
    tiny: Dataset, store: Path, undisturbed: Scores, database: str
) -> None:
    text = run(command(tiny, store))
    found = attempts(database)
    complete = check_whole(store, found=found)
    assert scores(complete) == undisturbed
    assert not list((store / "optuna").glob("*.journal"))
    assert "started" in text
    assert "started" not in run(command(tiny, store))
    assert attempts(database) == found


@pytest.mark.slow
def test_a_database_that_goes_away_stops_the_study_which_goes_on_when_it_is_back(
    tiny: Dataset, store: Path, tmp_path: Path, undisturbed: Scores, database: str, postgres: Postgres
) -> None:
    process = begin(command(tiny, store))
    wait_for(process, "[1/4]")
    process.send_signal(signal.SIGSTOP)
    elsewhere = subprocess.run(command(tiny, tmp_path / "other"), capture_output=True, text=True, timeout=120)
    postgres.kill()
    process.send_signal(signal.SIGCONT)
    assert elsewhere.returncode == 2
    assert f"already runs, and one coordinator at a time may write it: pid {process.pid} on" in elsewhere.stderr
    text, _ = process.communicate(timeout=120)
    away = subprocess.run(command(tiny, store), capture_output=True, text=True, timeout=120)
    postgres.start()
    assert process.returncode == 2, text
    assert "the same command goes on" in text
    assert away.returncode == 2
    assert len(away.stderr.splitlines()) == 1
    assert "must answer, it does not" in away.stderr
    assert "administrator" not in away.stderr + text
    run(command(tiny, store))
    assert scores(check_whole(store, found=attempts(database))) == undisturbed


@pytest.mark.parametrize(
    "given", ["mysql://somebody:secret@here/there", "postgresql://somebody:secret@here", "no address", "sqlite:///x"]
)
def test_what_is_no_database_is_refused_without_its_password(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SEARCHES, given)
    with pytest.raises(InputError, match=f"{SEARCHES} must be the URL of a PostgreSQL database") as refusal:
        postgres_url(SEARCHES)
    assert "secret" not in str(refusal.value)


@pytest.mark.slow
def test_a_lock_in_a_database_has_one_holder_and_names_it(database: str) -> None:
    url = postgres_url(SEARCHES)
    assert url is not None
    with locked_there(url, "a", "taken", "the first one"):
        with pytest.raises(InputError, match="taken: the first one"), locked_there(url, "a", "taken", "the second"):
            pass
        with locked_there(url, "b", "taken", "the third"):
            pass
    with locked_there(url, "a", "taken", "the fourth"):
        pass
