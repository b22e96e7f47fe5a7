"""Runs that are kept in PostgreSQL: the same study, one coordinator, and a database that goes away for a while."""

from __future__ import annotations

import signal
import subprocess
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from checks import begin, check_whole, command, eventually, mmtune, results, run, wait_for
from databases import Postgres
from servers import cookie_of_ui, free_port, status

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.study import StudyKey
from mmtune.tracking import MlflowTracker, exists
from mmtune.tracking.address import given, registry_uri, tracking_uri

RUNS, REGISTRY = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"
KEY = StudyKey(
    study="audio_rnn", data="tiny", digest="0" * 64, protocol="clip_disjoint", seed=0, epochs=3, sampler="grid"
)


@pytest.fixture(scope="module")
def calm_results(calm: Path) -> list[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(RUNS, raising=False)
        return results(calm)


def check_same(store: Path, expected: list[dict[str, Any]]) -> None:
    """Every trial is in the database once, as an undisturbed study in files has it."""
    check_whole(store)
    assert results(store) == expected
    assert not (store / "mlflow.db").exists()


# ---- a study


@pytest.mark.slow
def test_a_study_in_postgresql_has_the_same_results_and_no_file_of_its_runs(
    tiny: Dataset, calm_results: list[dict[str, Any]], shared_store: Path
) -> None:
    run(command(tiny, shared_store))
    check_same(shared_store, calm_results)
    assert "started" not in run(command(tiny, shared_store))


@pytest.mark.slow
def test_killed_and_started_again_in_the_middle_it_costs_a_line_and_no_training(
    tiny: Dataset, calm_results: list[dict[str, Any]], shared_store: Path, postgres: Postgres
) -> None:
    process = begin(command(tiny, shared_store))
    wait_for(process, "trial 00")
    postgres.kill()
    time.sleep(3)
    postgres.start()
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    assert text.count("does not answer") == 1
    assert "administrator" not in text
    check_same(shared_store, calm_results)


@pytest.mark.slow
def test_away_for_longer_than_the_patience_it_stops_the_study_which_goes_on_when_it_is_back(
    tiny: Dataset, calm_results: list[dict[str, Any]], shared_store: Path, postgres: Postgres
) -> None:
    process = begin(command(tiny, shared_store, "--store-patience", "4"))
    wait_for(process, "trial 00")
    postgres.kill()
    text, _ = process.communicate(timeout=120)
    verbs = ("study audio_rnn", "studies", "report audio_rnn", "promote audio_rnn", "ui", "predict --model a --image x")
    words = [[*mmtune(*verb.split()), "--store", str(shared_store)] for verb in verbs]
    away = [subprocess.run(own, capture_output=True, text=True, timeout=120) for own in words]
    postgres.start()
    assert process.returncode == 2, text
    assert "Traceback" not in text
    assert "the same command goes on" in text.strip().splitlines()[-1]
    for one in away:
        assert (one.returncode, len(one.stderr.splitlines())) == (2, 1), one.stderr
        assert "administrator" not in one.stderr
        assert "127.0.0.1" in one.stderr
    run(command(tiny, shared_store))
    check_same(shared_store, calm_results)


@pytest.mark.slow
def test_a_coordinator_that_is_killed_goes_on_in_postgresql(
    tiny: Dataset, calm_results: list[dict[str, Any]], shared_store: Path
) -> None:
    for line in ("trial 01", "[1/4]", "[3/4]"):
        process = begin(command(tiny, shared_store))
        wait_for(process, line)
        process.kill()
        process.wait()
    run(command(tiny, shared_store))
    check_same(shared_store, calm_results)


@pytest.mark.slow
def test_a_second_coordinator_in_another_folder_is_refused(tiny: Dataset, tmp_path: Path, shared_store: Path) -> None:
    process = begin(command(tiny, shared_store, epochs=1000))
    wait_for(process, "trial 00")
    text = run(command(tiny, tmp_path / "other", epochs=1000), code=2)
    assert f"already runs, and one coordinator at a time may write it: pid {process.pid} on" in text
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130


@pytest.mark.slow
def test_every_verb_finds_runs_and_models_in_postgresql(tiny: Dataset, tmp_path: Path, shared_store: Path) -> None:
    run(command(tiny, shared_store))
    where = ["--store", str(shared_store)]
    assert "audio_rnn" in run([*mmtune("studies"), *where])
    assert "champion" in run([*mmtune("promote", "audio_rnn"), *where, "--data", str(tiny.folder)])
    run([*mmtune("report", "audio_rnn"), *where, "--data", str(tiny.folder)])
    assert list((shared_store / "reports").glob("*.html"))
    words = [*mmtune("predict", "--model", "audio_rnn"), *where, "--data", str(tiny.folder), "--out"]
    run([*words, str(tmp_path / "submission.csv")])
    assert len((tmp_path / "submission.csv").read_text().splitlines()) == 121


@pytest.mark.slow
def test_the_ui_shows_runs_in_postgresql_and_tells_nobody_the_password(shared_store: Path) -> None:
    MlflowTracker(shared_store).open_study(KEY, {"mmtune.opened": "1"})
    port = free_port()
    words = [*mmtune("ui", "--port", str(port)), "--store", str(shared_store)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        cookie = cookie_of_ui(process, port)
        assert status(port, "/api/2.0/mlflow/experiments/get-by-name?experiment_name=audio_rnn", Cookie=cookie) == 200
        assert status(port, "/api/2.0/mlflow/experiments/get-by-name?experiment_name=image_cnn", Cookie=cookie) == 404
        told = [readable(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
        assert not [line for line in told if "administrator" in line]
    finally:
        process.terminate()
        process.wait(30)


def readable(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


# ---- the database


def open_one(root: Path, number: int) -> None:
    key = StudyKey(**{**KEY.__dict__, "seed": number})
    MlflowTracker(root).open_study(key, {"mmtune.opened": str(number)})


@pytest.mark.slow
def test_processes_that_start_together_on_an_empty_database_all_get_their_tables(
    store: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNS, postgres.url())
    assert not exists(store)
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
    engine = sqlalchemy.create_engine(given(RUNS))
    process = get_context("spawn").Process(target=open_one, args=(store, 0))
    process.start()
    while not sqlalchemy.inspect(engine).has_table("runs"):
        assert process.is_alive()
        time.sleep(0.002)
    process.kill()
    process.join()
    open_one(store, 1)
    assert 1 in [study.key.seed for study in MlflowTracker(store).studies()]


@pytest.mark.slow
def test_files_of_runs_belong_to_one_folder(tmp_path: Path, shared_store: Path) -> None:
    open_one(shared_store, 0)
    with pytest.raises(InputError, match=r"experiment audio_rnn in postgresql://.* must keep its files in .*elsewhere"):
        open_one(tmp_path / "elsewhere", 0)
    found = {own.name for own in MlflowTracker(shared_store).client.search_experiments()}
    assert found - {"Default"} == {"audio_rnn"}


@pytest.mark.slow
def test_a_database_with_tables_of_its_own_is_refused_and_left_alone(
    store: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNS, postgres.url())
    engine = sqlalchemy.create_engine(given(RUNS))
    with engine.begin() as database:
        for table in ("alembic_version", "runs"):
            database.execute(sqlalchemy.text(f"CREATE TABLE {table} (mine INTEGER)"))
    with pytest.raises(InputError, match=r"postgresql://.* must be an MLflow store") as refusal:
        MlflowTracker(store)
    assert "administrator" not in str(refusal.value)
    assert sorted(sqlalchemy.inspect(engine).get_table_names()) == ["alembic_version", "runs"]


@pytest.mark.slow
def test_a_connection_that_the_database_ends_costs_nothing(
    tiny: Dataset, calm_results: list[dict[str, Any]], shared_store: Path, postgres: Postgres
) -> None:
    process = begin(command(tiny, shared_store))
    wait_for(process, "trial 00")
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname LIKE 'data%'"
    )
    for _ in range(3):
        postgres.run("psql", "--host", str(postgres.folder), "--port", str(postgres.port), "--user", "postgres",
                     "--command", end, "postgres")  # fmt: skip
        time.sleep(1)
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    check_same(shared_store, calm_results)


@pytest.mark.slow
def test_the_registry_may_be_elsewhere(
    tiny: Dataset,
    store: Path,
    tmp_path: Path,
    postgres: Postgres,
    postgres_template: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(REGISTRY, postgres.url(postgres_template))
    run(command(tiny, store, trials=1, epochs=2))
    run([*mmtune("promote", "audio_rnn"), "--store", str(store), "--data", str(tiny.folder)])
    words = [*mmtune("predict", "--model", "audio_rnn"), "--store", str(store), "--data", str(tiny.folder), "--out"]
    run([*words, str(tmp_path / "submission.csv")])
    monkeypatch.delenv(REGISTRY)
    assert "nothing is registered" in run([*words, str(tmp_path / "x.csv")], code=2)
    assert eventually(lambda: not (tmp_path / "x.csv").exists())


# ---- addresses


@pytest.mark.parametrize(
    "address", ["postgresql://", "postgresql://me:secret@:5432/x", "postgresql://me:secret@here:port/x?password=secret"]
)
def test_what_is_no_address_is_refused_without_its_password(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUNS, address)
    with pytest.raises(InputError, match=f"{RUNS} must be an address with a host and a port") as refusal:
        tracking_uri(Path("mlruns"))
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("address", ["somewhere", "file:///tmp/x", "/tmp/x", "./mlruns"])
def test_plain_files_are_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUNS, address)
    with pytest.raises(InputError, match=f"{RUNS} must be the address of a server or a database"):
        tracking_uri(Path("mlruns"))


def test_a_scheme_may_be_written_in_any_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path("mlruns")
    monkeypatch.setenv(RUNS, "POSTGRESQL://somebody@here/there")
    assert tracking_uri(root) == registry_uri(root) == "postgresql+psycopg://somebody@here/there"
    monkeypatch.setenv(REGISTRY, "HTTP://here:5000/")
    assert registry_uri(root) == "http://here:5000"


@pytest.mark.parametrize("where", ["me:secret@127.0.0.1:1/x", "127.0.0.1:1/x?user=me&password=secret"])
def test_a_password_in_an_address_is_not_shown(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg", reason="needs the extra `team`")
    monkeypatch.setenv(RUNS, f"postgresql://{where}")
    for look in (exists, MlflowTracker):
        with pytest.raises(InputError, match=r"postgresql://127.0.0.1:1/x must be a database that answers") as refusal:
            look(tmp_path)
        assert "secret" not in str(refusal.value)
