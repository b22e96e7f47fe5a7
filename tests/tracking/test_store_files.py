"""The files of a store: made whole, kept safe on every file system, and refused in a line where they are none."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import mlflow
import pytest
from alembic import command
from alembic.config import Config
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import create_engine
from tracked import OBJECTIVE, track_study, track_trial

from mmtune.base.errors import InputError
from mmtune.base.sqlite import analyse, follow_file_system, is_local, journal_mode, secure
from mmtune.study import StudyKey
from mmtune.tracking import MlflowTracker, exists
from mmtune.tracking.address import REGISTRY, TRACKING, registry_uri, sqlite_path, tracking_uri
from mmtune.tracking.reading import REVISIONS, ClientReading, SqlReading
from mmtune.tracking.store import open_client, revisions

KEY = StudyKey(
    study="audio_rnn", data="tiny", digest="0" * 64, protocol="clip_disjoint", seed=0, epochs=3, sampler="grid"
)

# ---- file systems


@pytest.mark.parametrize(
    ("kind", "local"), [("ext4", True), ("overlay", True), ("nfs4", False), ("fuse.sshfs", False), ("9p", False)]
)
def test_a_file_system_is_local_where_that_is_known(tmp_path: Path, kind: str, local: bool) -> None:
    mounts = tmp_path / "mounts"
    here = str(tmp_path.resolve()).replace(" ", "\\040")
    mounts.write_text(f"a / {'nfs' if local else 'ext4'} rw 0 0\nb {here} {kind} rw 0 0\nc {here}/other nfs rw 0 0\n")
    assert is_local(tmp_path / "mlruns", mounts) == local
    assert not is_local(tmp_path, tmp_path / "none")


def test_a_store_keeps_a_write_ahead_log_only_where_its_file_system_is_local(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store / "mlflow.db"
    for local, mode in ((True, "wal"), (False, "delete"), (True, "wal")):
        monkeypatch.setattr("mmtune.base.sqlite.is_local", lambda root, local=local: local)
        assert follow_file_system(path) == journal_mode(path) == mode
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("SELECT COUNT(*) FROM runs").fetchone()
        monkeypatch.setattr("mmtune.base.sqlite.is_local", lambda root: False)
        with pytest.raises(InputError, match="must keep no write-ahead log"):
            client_of(store)


def test_readers_do_not_hold_the_writer_up(store: Path) -> None:
    tracker = MlflowTracker(store)
    with closing(sqlite3.connect(store / "mlflow.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        before = reader.execute("SELECT COUNT(*) FROM runs").fetchone()
        track_trial(tracker, track_study(tracker, KEY), 0)
        assert reader.execute("SELECT COUNT(*) FROM runs").fetchone() == before
    assert len(tracker.studies()) == 1


def test_the_planner_is_told_of_a_store_and_its_log_is_tidied_up(store: Path) -> None:
    tracker = MlflowTracker(store)
    study = track_study(tracker, KEY)
    track_trial(tracker, study, 0, {"a": 1}, {OBJECTIVE: 0.5})
    secure(sqlite_path(tracker.uri))
    analyse(sqlite_path(tracker.uri))
    with closing(sqlite3.connect(store / "mlflow.db")) as reader:
        known = {table for (table,) in reader.execute("SELECT tbl FROM sqlite_stat1")}
    assert {"runs", "latest_metrics", "tags", "params", "metrics"} <= known
    assert (store / "mlflow.db-wal").stat().st_size == 0


# ---- made


def test_a_store_is_made_where_none_was_and_where_a_kill_left_half_of_one(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / ".new.mlflow.db").write_bytes(b"half a database")
    (folder / ".new.mlflow.db-wal").write_bytes(b"half a log")
    assert not exists(folder)
    tracker = MlflowTracker(folder)
    assert exists(folder)
    assert isinstance(tracker.reading, SqlReading)
    left = {path.name for path in folder.iterdir()}
    assert left - {"mlflow.db-wal", "mlflow.db-shm"} == {".store.lock", "mlflow.db"}


def test_the_schema_of_this_mlflow_is_one_that_is_read_by_sql() -> None:
    assert revisions()[0] in REVISIONS


def open_one(root: Path, number: int) -> None:
    MlflowTracker(root).open_study(StudyKey(**{**KEY.__dict__, "seed": number}), {})


@pytest.mark.slow
def test_processes_that_start_together_on_nothing_all_get_their_store(tmp_path: Path) -> None:
    processes = [get_context("spawn").Process(target=open_one, args=(tmp_path / "new", n)) for n in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    tracker = MlflowTracker(tmp_path / "new")
    assert {study.key.seed for study in tracker.studies("audio_rnn")} == set(range(8))
    assert [own.name for own in tracker.client.search_experiments()] == ["audio_rnn"]


# ---- other schemas


def set_revision(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path)) as made, made:
        made.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def content(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as made:
        return list(made.iterdump())


def test_a_store_of_a_newer_mlflow_is_refused_and_unchanged(store: Path) -> None:
    set_revision(store / "mlflow.db", "made0up0now0")
    before = content(store / "mlflow.db")
    with pytest.raises(InputError, match=r"was written by a newer MLflow \(schema made0up0now0\).*install that newer"):
        MlflowTracker(store)
    assert content(store / "mlflow.db") == before
    assert not list(store.glob("*.made0up0now0"))


def older_store(folder: Path, revision: str) -> Path:
    """An empty store as an older MLflow has made it."""
    folder.mkdir()
    scripts = Path(mlflow.__file__).parent / "store" / "db_migrations"
    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("sqlalchemy.url", f"sqlite:///{folder / 'mlflow.db'}")
    engine = create_engine(f"sqlite:///{folder / 'mlflow.db'}")
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    return folder / "mlflow.db"


@pytest.mark.slow
def test_a_store_of_an_older_mlflow_is_copied_and_then_upgraded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = revisions()
    path = older_store(tmp_path / "mlruns", known[1])
    before = content(path)
    # What an earlier upgrade has copied is not written over.
    kept = path.with_name(f"mlflow.db.{known[1]}")
    kept.write_bytes(b"an earlier copy")
    tracker = MlflowTracker(tmp_path / "mlruns")
    (copy,) = set(path.parent.glob(f"mlflow.db.{known[1]}*")) - {kept}
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.endswith(f"a copy of it is {copy}\n")
    assert content(copy) == before
    assert kept.read_bytes() == b"an earlier copy"
    track_trial(tracker, track_study(tracker, KEY), 0, metrics={OBJECTIVE: 0.5})
    # This process reads through MLflow, and the next one by SQL.
    assert isinstance(tracker.reading, ClientReading)
    again = MlflowTracker(tmp_path / "mlruns")
    assert isinstance(again.reading, SqlReading)
    assert again.studies() == tracker.studies()
    assert capsys.readouterr().err == ""


def test_a_store_of_an_older_mmtune_is_refused_in_a_line(store: Path) -> None:
    tracker = MlflowTracker(store)
    study = track_study(tracker, KEY)
    for change in (
        lambda: tracker.client.set_tag(study.run_id, "mmtune.format", "1"),
        lambda: tracker.client.delete_tag(study.run_id, "mmtune.format"),
    ):
        change()
        with pytest.raises(InputError, match=f"run {study.run_id} was tracked by another version of mmtune"):
            tracker.studies()


# ---- what is no store


def client_of(root: Path) -> object:
    return open_client(tracking_uri(root), registry_uri(root))


def refusal(root: Path) -> str:
    """Why a folder is refused, by whoever looks and by whoever writes."""
    found = []
    for ask in (exists, MlflowTracker, client_of):
        try:
            ask(root)
        except InputError as error:
            found.append(str(error))
    assert found
    assert len(set(found)) == 1
    assert "\n" not in found[0]
    return found[0]


def link(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("name", ["mlflow.db", "mlflow.db-wal", "mlflow.db-shm", "mlflow.db-journal", ".store.lock"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, link])
def test_what_is_no_plain_file_is_refused_and_never_waited_for(
    store: Path, name: str, make: Callable[[Path], object]
) -> None:
    if name == "mlflow.db" and make is link:
        pytest.skip("a database may lie behind a link")
    (store / name).unlink(missing_ok=True)
    make(store / name)
    assert refusal(store) == f"{store / name} must be a plain file of a store, it is something else"


@pytest.mark.parametrize("variable", [TRACKING, REGISTRY])
@pytest.mark.parametrize("path", ["runs.db?timeout=5", "a#b.db", "100%.db"])
def test_an_sqlite_address_with_more_than_a_path_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, path: str
) -> None:
    monkeypatch.setenv(variable, f"sqlite:///{tmp_path}/there/{path}")
    with pytest.raises(InputError, match=f"{variable} must name an SQLite file by a path without"):
        registry_uri(tmp_path) if variable == REGISTRY else tracking_uri(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_another_program_has_left_is_refused(store: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as made, made:
        made.execute("CREATE TABLE theirs (a INTEGER)")
    assert "must be an MLflow store: it has other tables (theirs)" in refusal(tmp_path)
    (store / "mlflow.db").write_bytes(b"rubbish" * 1000)
    assert "mlflow.db must be an MLflow store" in refusal(store)


def test_half_a_store_beside_a_folder_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".new.mlflow.db").mkdir()
    with pytest.raises(InputError, match="must be a file or not be there, it is a folder"):
        MlflowTracker(tmp_path)


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    for name in ("50%", "a?b", "a#b"):
        with pytest.raises(InputError, match=r"without %, [?] and #"):
            MlflowTracker(tmp_path / name)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be a folder that can be made"):
        MlflowTracker(tmp_path / "file" / "mlruns")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("somewhere", "must be the address of a server or a database"),
        ("file:///tmp/x", "must be the address of a server or a database"),
        ("http://", "must be an address with a host and a port"),
        ("postgresql://ada:secret@:0/x", "must be an address with a host and a port"),
        ("http://ada:secret@host:port", "must be an address with a host and a port"),
        ("sqlite:///", "must be a plain file of a store"),
        ("sqlite:///:memory:", "must be a file"),
    ],
)
def test_an_address_that_is_none_is_refused_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said) as caught:
        MlflowTracker(tmp_path / "mlruns")
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.glob("*memory*"))


def test_a_copied_folder_is_refused_whatever_reads_it(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    track_study(MlflowTracker(store), KEY)
    copy = Path(shutil.copytree(store, store.with_name("copy")))
    for known in (REVISIONS, set[str]()):
        monkeypatch.setattr("mmtune.tracking.studies.REVISIONS", known)
        with pytest.raises(InputError, match="use that store, this one is a copy of it"):
            MlflowTracker(copy)
