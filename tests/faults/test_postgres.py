"""Searches and runs kept in PostgreSQL: the same study, one coordinator, and a database that goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from checks import begin, check_whole, command, results, run, scores, wait_for
from databases import Postgres
from servers import free_port, status, wait_until_up

from mmtune.base.errors import InputError
from mmtune.base.postgres import locked_there, open_postgres, postgres_url
from mmtune.data.dataset import Dataset
from mmtune.study import StudyKey
from mmtune.tracking import MlflowTracker, store_at, tracking_database
from mmtune.tracking.address import tracking_server
from mmtune.tune.run import SEARCHES
from mmtune.tune.search import Attempt, attempt_of

Scores = list[tuple[float, float]]
RUNS = "MLFLOW_TRACKING_URI"
KEY = StudyKey(
    study="audio_rnn", data="tiny", digest="0" * 64, protocol="clip_disjoint", seed=0, epochs=3, sampler="grid"
)


@pytest.fixture
def searches(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database that searches go to."""
    url = postgres.url()
    monkeypatch.setenv(SEARCHES, url)
    return url


@pytest.fixture
def both(searches: str, shared_store: Path) -> str:
    """The same, with runs in another one."""
    return searches


@pytest.fixture(scope="module")
def calm_results(calm: Path) -> list[dict[str, Any]]:
    return results(calm)


def attempts(url: str) -> list[Attempt]:
    storage = optuna.storages.RDBStorage(url.replace("postgresql:", "postgresql+psycopg:"))
    return [attempt_of(trial) for trial in optuna.load_study(study_name=None, storage=storage).get_trials()]


# ---- a study


@pytest.mark.slow
def test_a_search_in_postgresql_is_the_same_search(
    tiny: Dataset, store: Path, undisturbed: Scores, searches: str
) -> None:
    text = run(command(tiny, store))
    found = attempts(searches)
    complete = check_whole(store, found=found)
    assert scores(complete) == undisturbed
    assert not list((store / "optuna").glob("*.journal"))
    assert "started" in text
    assert "started" not in run(command(tiny, store))
    assert attempts(searches) == found


@pytest.mark.slow
def test_a_study_in_postgresql_has_the_same_results_and_no_file_of_its_runs(
    tiny: Dataset, store: Path, calm_results: list[dict[str, Any]], both: str
) -> None:
    run(command(tiny, store))
    check_whole(store, found=attempts(both))
    assert results(store) == calm_results
    assert not list(store.rglob("*.db*"))
    assert not list((store / "optuna").glob("*.journal"))


@pytest.mark.slow
def test_a_database_that_goes_away_stops_the_study_which_goes_on_when_it_is_back(
    tiny: Dataset, store: Path, tmp_path: Path, undisturbed: Scores, searches: str, postgres: Postgres
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
    assert scores(check_whole(store, found=attempts(searches))) == undisturbed


@pytest.mark.slow
def test_runs_whose_database_goes_away_wait_for_it(
    tiny: Dataset, store: Path, calm_results: list[dict[str, Any]], both: str, postgres: Postgres
) -> None:
    process = begin(command(tiny, store))
    wait_for(process, "[1/4]")
    postgres.kill()
    text, _ = process.communicate(timeout=120)
    verbs = ("study audio_rnn", "studies", "report audio_rnn", "promote audio_rnn", "ui", "predict --model a --image x")
    words = [[*mmtune(*verb.split()), "--store", str(store)] for verb in verbs]
    away = [subprocess.run(own, capture_output=True, text=True, timeout=60) for own in words]
    postgres.start()
    assert process.returncode == 2, text
    assert "Traceback" not in text
    for one in away:
        assert (one.returncode, len(one.stderr.splitlines())) == (2, 1), one.stderr
        assert "must answer, it does not" in one.stderr
        assert "administrator" not in one.stderr
    run(command(tiny, store))
    check_whole(store, found=attempts(both))
    assert results(store) == calm_results


@pytest.mark.slow
def test_a_coordinator_that_is_killed_goes_on_in_postgresql(
    tiny: Dataset, store: Path, calm_results: list[dict[str, Any]], both: str
) -> None:
    for line in ("trial 01", "[1/4]", "[3/4]"):
        process = begin(command(tiny, store))
        wait_for(process, line)
        process.kill()
        process.wait()
    run(command(tiny, store))
    check_whole(store, found=attempts(both))
    assert results(store) == calm_results


@pytest.mark.slow
def test_optuna_and_mlflow_do_not_share_a_database(
    tiny: Dataset, store: Path, both: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = os.environ[RUNS]
    monkeypatch.setenv(SEARCHES, runs)
    assert "Optuna and MLflow need one each" in run(command(tiny, store), code=2)
    monkeypatch.setenv(SEARCHES, runs.replace("127.0.0.1", "localhost"))
    assert "must be empty or a database of Optuna's" in run(command(tiny, store), code=2)
    monkeypatch.setenv(SEARCHES, both)
    run(command(tiny, store))
    monkeypatch.setenv(RUNS, both)
    assert "must be an MLflow store" in run([*mmtune("studies"), "--store", str(store)], code=2)


def mmtune(*words: str) -> list[str]:
    return [sys.executable, "-m", "mmtune.cli", *words]


@pytest.mark.slow
def test_every_verb_finds_runs_and_models_in_postgresql(tiny: Dataset, store: Path, tmp_path: Path, both: str) -> None:
    run(command(tiny, store))
    where = ["--store", str(store)]
    assert "audio_rnn" in run([*mmtune("studies"), *where])
    assert "champion" in run([*mmtune("promote", "audio_rnn"), *where, "--data", str(tiny.folder)])
    run([*mmtune("report", "audio_rnn"), *where, "--data", str(tiny.folder)])
    assert list((store / "reports").glob("*.html"))
    words = [*mmtune("predict", "--model", "audio_rnn"), *where, "--data", str(tiny.folder), "--out"]
    run([*words, str(tmp_path / "submission.csv")])
    assert len((tmp_path / "submission.csv").read_text().splitlines()) == 121
    assert "names a database" in run([*mmtune("sync"), *where], code=2)


@pytest.mark.slow
def test_the_ui_shows_runs_in_postgresql_and_tells_nobody_the_password(store: Path, both: str) -> None:
    MlflowTracker(store).open_study(KEY, {"mmtune.opened": "1"})
    port = free_port()
    words = [*mmtune("ui", "--port", str(port)), "--store", str(store)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_until_up(process, port)
        assert status(port, "/api/2.0/mlflow/experiments/get-by-name?experiment_name=audio_rnn") == 200
        assert status(port, "/api/2.0/mlflow/experiments/get-by-name?experiment_name=image_cnn") == 404
        told = [path.read_text() for path in Path("/proc").glob("[0-9]*/cmdline") if readable(path)]
        assert not [line for line in told if "administrator" in line]
    finally:
        process.terminate()
        process.wait(30)


def readable(path: Path) -> bool:
    try:
        return bool(path.read_text())
    except OSError:
        return False


# ---- the store


def open_one(root: Path, number: int) -> None:
    key = StudyKey(**{**KEY.__dict__, "seed": number})
    MlflowTracker(root).open_study(key, {"mmtune.opened": str(number)})


@pytest.mark.slow
def test_processes_that_start_together_on_an_empty_database_all_get_their_tables(
    store: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNS, postgres.url())
    assert not store_at(store).exists()
    processes = [get_context("spawn").Process(target=open_one, args=(store, n)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(MlflowTracker(store).studies("audio_rnn")) == 4


@pytest.mark.slow
def test_tables_that_a_kill_left_half_made_are_completed(
    store: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNS, postgres.url())
    engine = sqlalchemy.create_engine(str(postgres_url(RUNS)))
    process = get_context("spawn").Process(target=open_one, args=(store, 0))
    process.start()
    while not sqlalchemy.inspect(engine).has_table("runs"):
        assert process.is_alive()
        time.sleep(0.002)
    process.kill()
    process.join()
    assert not store_at(store).exists()
    open_one(store, 1)
    assert [study.key.seed for study in MlflowTracker(store).studies()] == [1]


@pytest.mark.slow
def test_a_database_belongs_to_one_folder(store: Path, tmp_path: Path, both: str) -> None:
    open_one(store, 0)
    with pytest.raises(InputError, match=r"experiment audio_rnn in postgresql://.* must keep its files in .*elsewhere"):
        open_one(tmp_path / "elsewhere", 0)
    with pytest.raises(InputError, match="must be no longer than"):
        MlflowTracker(tmp_path / ("d" * 150)).open_study(
            StudyKey(**{**KEY.__dict__, "study": "image_cnn"}), {"mmtune.opened": "1"}
        )
    assert list(MlflowTracker(store).experiments()) == ["audio_rnn"]


@pytest.mark.slow
def test_a_database_with_tables_of_its_own_is_refused_and_left_alone(
    store: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNS, postgres.url())
    engine = sqlalchemy.create_engine(str(postgres_url(RUNS)))
    with engine.begin() as database:
        for table in ("alembic_version", "runs"):
            database.execute(sqlalchemy.text(f"CREATE TABLE {table} (mine INTEGER)"))
    with pytest.raises(InputError, match=r"postgresql://.*\*\*\*.* must be an MLflow store"):
        MlflowTracker(store)
    assert sorted(sqlalchemy.inspect(engine).get_table_names()) == ["alembic_version", "runs"]


# ---- addresses and locks


@pytest.mark.parametrize(
    "given", ["mysql://somebody:secret@here/there", "postgresql://somebody:secret@here", "no address", "sqlite:///x"]
)
def test_what_is_no_database_is_refused_without_its_password(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SEARCHES, given)
    with pytest.raises(InputError, match=f"{SEARCHES} must be the URL of a PostgreSQL database") as refusal:
        postgres_url(SEARCHES)
    assert "secret" not in str(refusal.value)
    monkeypatch.setenv(RUNS, given)
    with pytest.raises(InputError, match=f"{RUNS} must be .*the URL of a PostgreSQL database") as refusal:
        store_at(Path("mlruns"))
    assert "secret" not in str(refusal.value)


def test_a_scheme_may_be_written_in_any_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUNS, "POSTGRESQL://somebody@here/there")
    assert (tracking_database(), tracking_server()) == ("postgresql+psycopg://somebody@here/there", None)
    monkeypatch.setenv(RUNS, "HTTP://here:5000/")
    found = tracking_server()
    assert tracking_database() is None
    assert found is not None
    assert found.name == found.uri == "http://here:5000"


def test_a_password_among_the_options_of_an_address_is_not_shown() -> None:
    with pytest.raises(InputError, match="there must answer, it does not") as refusal:
        open_postgres("postgresql+psycopg://somebody@127.0.0.1:1/there?password=secret")
    assert "secret" not in str(refusal.value)


def end_locks(postgres: Postgres) -> None:
    """End, at the server, every connection that holds a lock of ours."""
    end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
    postgres.run("psql", "--host", str(postgres.folder), "--port", str(postgres.port), "--user", "postgres",
                 "--command", end, "postgres")  # fmt: skip


@pytest.mark.slow
def test_a_lock_that_is_lost_with_its_connection_is_missed(searches: str, postgres: Postgres) -> None:
    with locked_there(str(postgres_url(SEARCHES)), "a", "taken", "the first one") as confirm:
        confirm()
        end_locks(postgres)
        with pytest.raises(InputError, match="must answer, it does not"):
            confirm()


@pytest.mark.slow
def test_a_study_that_loses_its_lock_stops_and_goes_on_when_it_is_called_again(
    tiny: Dataset, store: Path, both: str, postgres: Postgres
) -> None:
    words = command(tiny, store, epochs=500)
    process = begin(words)
    wait_for(process, "trial 01")
    end_locks(postgres)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 2, text
    assert "must answer, it does not" in text
    run(words)
    check_whole(store, epochs=500, found=attempts(both))


@pytest.mark.slow
def test_a_study_goes_on_only_where_its_runs_are(
    tiny: Dataset, store: Path, undisturbed: Scores, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = begin(command(tiny, store))
    wait_for(process, "[1/4]")
    process.kill()
    process.wait()
    monkeypatch.setenv(RUNS, postgres.url())
    text = run(command(tiny, store), code=2)
    assert "must be in the local folder, where it began; not in postgresql://127.0.0.1" in text
    monkeypatch.delenv(RUNS)
    run(command(tiny, store))
    assert scores(check_whole(store)) == undisturbed


@pytest.mark.slow
def test_a_lock_in_a_database_has_one_holder_and_names_it(searches: str) -> None:
    url = postgres_url(SEARCHES)
    assert url is not None
    with locked_there(url, "a", "taken", "the first one"):
        with pytest.raises(InputError, match="taken: the first one"), locked_there(url, "a", "taken", "the second"):
            pass
        with locked_there(url, "b", "taken", "the third"):
            pass
    with locked_there(url, "a", "taken", "the fourth"):
        pass
