"""What is written to a real MLflow store is what is read from it."""

from __future__ import annotations

import os
import sqlite3
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric, Param, RunTag
from mlflow.store.tracking.dbmodels.models import Base
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from mmtune.base.errors import InputError
from mmtune.study import StudyKey
from mmtune.tracking import (
    COMPLETE,
    FAIL,
    OBJECTIVE,
    PRUNED,
    Entry,
    MlflowTracker,
    TrialRun,
    best_trial,
    read_spool,
    store_at,
    trial_run,
)
from mmtune.tracking.spool import to_line
from mmtune.tracking.sqlite import is_local, journal_mode
from mmtune.tracking.tables import EXPERIMENTS, LATEST_METRICS, METRICS, PARAMS, RUNS, TAGS
from mmtune.tracking.writing import End, begin_run, write_batch

KEY = StudyKey(
    study="audio_rnn", data="tiny", digest="0" * 64, protocol="clip_disjoint", seed=0, epochs=3, sampler="grid"
)


def opened(at: int) -> dict[str, str]:
    return {"mmtune.opened": f"2026-01-01T00:00:{at:02d}"}


def start(tracker: MlflowTracker, parent: str, number: int) -> str:
    return tracker.start_trial(
        parent, number, f"{number:02d}", {"model.hidden": 320, "train.lr": 1e-4}, {"mmtune.started": "1"}
    )


def test_a_trial_comes_back_with_params_metrics_curves_and_files(any_store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(any_store)
    parent = tracker.open_study(KEY, opened(1))
    run = start(tracker, parent, 4)
    for epoch in (1, 2, 3):
        tracker.log_epoch(run, epoch, {"val_loss": 1 / epoch, "broken": float("inf"), "missing": float("nan")})
    (tmp_path / "left" / "model").mkdir(parents=True)
    (tmp_path / "left" / "model" / "weights").write_bytes(b"abc")
    tracker.end_trial(run, COMPLETE, {OBJECTIVE: 0.5, "best_epoch": 2}, tmp_path / "left")
    tracker.end_study(parent, True, best_trial(tracker.trials(parent)))

    (trial,) = MlflowTracker(any_store).trials(parent)
    assert trial.params == {"model.hidden": 320, "train.lr": 1e-4}
    assert (trial.number, trial.state, trial.metrics[OBJECTIVE]) == (4, COMPLETE, 0.5)
    assert not {"broken", "missing"} & set(trial.metrics)
    assert tracker.curves(run, ("val_loss",)) == {"val_loss": [(1, 1.0), (2, 0.5), (3, 1 / 3)]}
    assert tracker.artifact(run, "model/weights").read_bytes() == b"abc"
    with pytest.raises(InputError, match="no artifact 'nothing'"):
        tracker.artifact(run, "nothing")
    (study,) = tracker.studies("audio_rnn")
    assert (study.key, study.status, study.tags["mmtune.best_run"]) == (KEY, "FINISHED", run)


@pytest.mark.parametrize(("state", "status"), [(COMPLETE, "FINISHED"), (PRUNED, "KILLED"), (FAIL, "FAILED")])
def test_states_are_mlflows_statuses(any_store: Path, state: str, status: str) -> None:
    tracker = MlflowTracker(any_store)
    run = start(tracker, tracker.open_study(KEY, opened(1)), 0)
    tracker.end_trial(run, state, {}, reason="because" if state == FAIL else "")
    found = tracker.client.get_run(run)
    assert found.info.status == status
    assert found.info.end_time
    assert found.data.tags.get("mmtune.reason") == ("because" if state == FAIL else None)


def test_the_same_key_is_the_same_run_and_the_last_opened_comes_first(any_store: Path) -> None:
    tracker = MlflowTracker(any_store)
    other = StudyKey(**{**KEY.__dict__, "seed": 1, "fixed": (("model.layers", 2),), "encoders": (("image", "ab"),)})
    first = tracker.open_study(KEY, opened(1))
    second = tracker.open_study(other, opened(2))
    assert tracker.open_study(KEY, opened(3)) == first != second
    assert [study.key for study in tracker.studies()] == [KEY, other]
    assert tracker.studies("image_cnn") == []
    assert list(tracker.experiments()) == ["audio_rnn"]


def by_search(tracker: MlflowTracker, condition: str) -> list[TrialRun]:
    """What MLflow's own search finds."""
    experiments = [e.experiment_id for e in tracker.client.search_experiments()]
    found = [trial_run(run) for run in tracker.client.search_runs(experiments, condition)]
    return sorted(found, key=lambda trial: (trial.number, trial.tags["mmtune.started"]))


def test_trials_are_read_as_mlflow_reads_them(any_store: Path) -> None:
    tracker = MlflowTracker(any_store)
    parent, other = (tracker.open_study(StudyKey(**{**KEY.__dict__, "seed": n}), opened(n)) for n in (1, 2))
    runs = [start(tracker, parent, number) for number in (3, 0, 1, 4, 2)]
    for run, state, score in zip(
        runs, (COMPLETE, COMPLETE, FAIL, COMPLETE, PRUNED), (0.5, 0.7, 0.9, 0.7, 0.8), strict=True
    ):
        tracker.log_epoch(run, 1, {"val_loss": score})
        tracker.end_trial(run, state, {OBJECTIVE: score, "best_epoch": 1}, reason="x" if state == FAIL else "")
    part = tracker.start_part(parent, runs[0], 3, "03 fold 1", {"a": [1]}, {"mmtune.started": "1", "mmtune.fold": "0"})
    tracker.end_trial(start(tracker, other, 7), COMPLETE, {OBJECTIVE: 1.0})
    tracker.client.delete_run(start(tracker, parent, 8))
    tracker.client.log_metric(runs[4], "infinite", float("inf"))
    expected = by_search(tracker, f"tags.`mlflow.parentRunId` = '{parent}'")
    assert tracker.trials(parent) == expected
    assert len(expected) == 5
    assert tracker.parts(parent) == by_search(tracker, f"tags.`mmtune.study_run` = '{parent}'")
    assert [run.run_id for run in tracker.parts(parent)] == [part]
    assert tracker.best(parent) == best_trial(expected) == expected[0]
    assert tracker.count(parent) == 5
    start(tracker, parent, 4)
    assert tracker.count(parent) == 5
    assert tracker.best(tracker.open_study(StudyKey(**{**KEY.__dict__, "seed": 9}), opened(3))) is None
    for run in runs:
        history = tracker.client.get_metric_history(run, "val_loss")
        assert tracker.curves_of(runs, ("val_loss", "none"))[run] == {
            "val_loss": [(m.step, m.value) for m in history],
            "none": [],
        }


VALUES = st.floats(-10, 10) | st.integers(-3, 3).map(float)
BATCHES = st.lists(
    st.lists(
        st.builds(
            Entry,
            run_id=st.just(""),
            step=st.integers(0, 3),
            time=st.integers(0, 3),
            metrics=st.dictionaries(st.sampled_from("abc"), VALUES),
        )
    ),
    max_size=4,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=BATCHES)
def test_a_batch_is_written_as_mlflow_writes_it(any_store: Path, batches: list[list[Entry]]) -> None:
    tracker = MlflowTracker(any_store)
    parent = tracker.open_study(KEY, opened(1))
    ours, theirs = start(tracker, parent, 0), start(tracker, parent, 0)
    for number, entries in enumerate(batches):
        params, tags = {f"p{number}": 0.1, "same": "x"}, {"t": str(number), f"t{number}": "é"}
        write_batch(tracker.engine, ours, entries, params, tags)
        tracker.client.log_batch(
            theirs,
            metrics=[Metric(name, value, e.time, e.step) for e in entries for name, value in e.metrics.items()],
            params=[Param(name, str(value)) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
    assert contents(tracker, ours) == contents(tracker, theirs)


def test_a_run_begins_and_ends_as_mlflow_has_it(any_store: Path) -> None:
    tracker = MlflowTracker(any_store)
    parent = tracker.open_study(KEY, opened(1))
    number = tracker.client.get_run(parent).info.experiment_id
    tags, params = {"mmtune.kind": "trial", "t": "é"}, {"model.hidden": 320, "train.lr": 1e-4}
    ours, folder = begin_run(tracker.engine, int(number), "a run", 1234, params, tags)
    made = tracker.client.create_run(number, start_time=1234, run_name="a run", tags=tags)
    theirs = made.info.run_id
    tracker.client.log_batch(theirs, params=[Param(name, str(value)) for name, value in params.items()])
    assert folder.replace(ours, theirs) == made.info.artifact_uri
    assert contents(tracker, ours) == contents(tracker, theirs)
    assert row(tracker, ours) == row(tracker, theirs)
    write_batch(tracker.engine, ours, end=End(status="KILLED", time=5678))
    tracker.client.set_terminated(theirs, "KILLED", end_time=5678)
    assert row(tracker, ours) == row(tracker, theirs)
    tracker.client.delete_experiment(number)
    for experiment in (int(number), 99):
        with pytest.raises(InputError, match=f"experiment {experiment} must be there"):
            begin_run(tracker.engine, experiment, "late", 1, {}, {})


def test_long_names_and_odd_reasons_are_kept_as_far_as_any_store_can(any_store: Path) -> None:
    tracker = MlflowTracker(any_store)
    name = "é" * 300
    run = tracker.start_trial(tracker.open_study(KEY, opened(1)), 0, name, {}, {"mmtune.started": "1"})
    tracker.end_trial(run, FAIL, {}, reason="it\0broke\n" + "x" * 9_000)
    found = tracker.client.get_run(run)
    assert found.info.run_name == found.data.tags["mlflow.runName"] == name[:250]
    assert found.data.tags["mmtune.reason"].startswith("itbroke\nxxx")


def test_a_tag_is_no_longer_than_mlflows_column_and_none_that_is_read_again_is_cut(any_store: Path) -> None:
    tracker = MlflowTracker(any_store)
    parent = tracker.open_study(KEY, opened(1))
    tracker.record(parent, {}, {"mmtune.mixture": "x" * 9_000})
    assert tracker.client.get_run(parent).data.tags["mmtune.mixture"] == "x" * 8_000
    with pytest.raises(InputError, match=r"mmtune\.params must have at most 8000 letters, it has 9\d{3}"):
        tracker.start_trial(parent, 0, "a", {"long": "x" * 9_000}, {"mmtune.started": "1"})
    assert tracker.trials(parent) == []


def row(tracker: MlflowTracker, run_id: str) -> dict[str, Any]:
    """What MLflow's table says of a run, but for its id."""
    with tracker.engine.connect() as store:
        found = store.execute(text("SELECT * FROM runs WHERE run_uuid = :run"), {"run": run_id}).one()
    return {name: str(value).replace(run_id, "") for name, value in found._mapping.items()}


def contents(tracker: MlflowTracker, run_id: str) -> list[object]:
    """Every row that the store has of a run's metrics, params and tags."""
    with tracker.engine.connect() as store:
        return [
            sorted(
                tuple(row)
                for row in store.execute(text(f"SELECT {columns} FROM {table} WHERE run_uuid = :run"), {"run": run_id})
            )
            for table, columns in (
                ("metrics", "key, value, timestamp, step, is_nan"),
                ("latest_metrics", "key, value, timestamp, step, is_nan"),
                ("params", "key, value"),
                ("tags", "key, value"),
            )
        ]


def test_a_deleted_run_is_not_written(any_store: Path) -> None:
    tracker = MlflowTracker(any_store)
    run = start(tracker, tracker.open_study(KEY, opened(1)), 0)
    tracker.client.delete_run(run)
    with pytest.raises(InputError, match="it is deleted"):
        tracker.end_trial(run, COMPLETE, {})
    with pytest.raises(InputError, match="it is unknown"):
        tracker.log_epoch("f" * 32, 1, {})


def test_the_tables_are_mlflows() -> None:
    for ours in (EXPERIMENTS, RUNS, TAGS, PARAMS, METRICS, LATEST_METRICS):
        theirs = Base.metadata.tables[ours.name].columns
        assert {c.name: type(c.type) for c in ours.columns}.items() <= {c.name: type(c.type) for c in theirs}.items()
    for written in (TAGS, PARAMS, METRICS, LATEST_METRICS):
        assert set(written.columns.keys()) == set(Base.metadata.tables[written.name].columns.keys())


def test_studies_are_read_as_mlflow_reads_them(any_store: Path) -> None:
    tracker = MlflowTracker(any_store)
    for number, name in enumerate(("audio_rnn", "audio_rnn", "image_cnn")):
        tracker.open_study(StudyKey(**{**KEY.__dict__, "study": name, "seed": number}), opened(number))
    tracker.client.delete_experiment(tracker.client.get_experiment_by_name("image_cnn").experiment_id)
    assert [(study.key.study, study.key.seed) for study in tracker.studies()] == [("audio_rnn", 1), ("audio_rnn", 0)]
    for study in tracker.studies():
        run = tracker.client.get_run(study.run_id)
        assert (study.tags, study.status) == (run.data.tags, run.info.status)
        assert study.started.timestamp() * 1000 == run.info.start_time
    assert tracker.tally(study.run_id) == {}
    start(tracker, study.run_id, 0)
    tracker.end_trial(start(tracker, study.run_id, 1), COMPLETE, {})
    assert tracker.tally(study.run_id) == {COMPLETE: 1, "RUNNING": 1}


# ---- epochs that wait


def epochs_of(tracker: MlflowTracker, run: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in tracker.client.get_metric_history(run, "val_loss")]


def test_epochs_wait_on_disk_and_are_delivered_with_the_trials_end(any_store: Path, tmp_path: Path) -> None:
    tracker, path = MlflowTracker(any_store), tmp_path / "deep" / "study.spool"
    parent = tracker.open_study(KEY, opened(1))
    first, second = start(tracker, parent, 0), start(tracker, parent, 1)
    with tracker.spooled(path):
        for epoch in (1, 2):
            tracker.log_epoch(first, epoch, {"val_loss": 1 / epoch})
            tracker.log_epoch(second, epoch, {"val_loss": 2 / epoch})
        assert epochs_of(tracker, first) == []
        assert [(e.run_id, e.step, e.metrics["val_loss"]) for e in read_spool(path)] == [
            (first, 1, 1.0),
            (second, 1, 2.0),
            (first, 2, 0.5),
            (second, 2, 1.0),
        ]
        tracker.end_trial(first, COMPLETE, {OBJECTIVE: 0.5, "best_epoch": 2})
        assert epochs_of(tracker, first) == [(1, 1.0), (2, 0.5)]
        assert epochs_of(tracker, second) == []
        assert tracker.curves(second, ("val_loss",)) == {"val_loss": [(1, 2.0), (2, 1.0)]}
        assert path.stat().st_size == 0
        tracker.log_epoch(second, 3, {"val_loss": 0.25})
    assert epochs_of(tracker, second) == [(1, 2.0), (2, 1.0), (3, 0.25)]
    assert not path.exists()


def test_epochs_are_delivered_no_more_often_than_said(
    any_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = MlflowTracker(any_store)
    run = start(tracker, tracker.open_study(KEY, opened(1)), 0)
    with tracker.spooled(tmp_path / "study.spool"):
        tracker.log_epoch(run, 1, {"val_loss": 1.0})
        tracker.deliver_if_due()
        assert epochs_of(tracker, run) == []
        monkeypatch.setattr("mmtune.tracking.tracker.DELIVERY_SECONDS", 0.0)
        tracker.deliver_if_due()
        assert epochs_of(tracker, run) == [(1, 1.0)]


@pytest.mark.parametrize("torn", [b"", b'{"run_id":"', b"\0\0\0"])
def test_what_a_dead_process_left_is_delivered_once_however_often(any_store: Path, tmp_path: Path, torn: bytes) -> None:
    tracker, path = MlflowTracker(any_store), tmp_path / "study.spool"
    parent = tracker.open_study(KEY, opened(1))
    run, deleted = start(tracker, parent, 0), start(tracker, parent, 1)
    gone = "f" * 32
    lines = b"".join(
        to_line(
            Entry(run_id=of, step=epoch, time=1_700_000_000_000 + epoch, metrics={"val_loss": 0.1 + epoch, "lr": 1e-3})
        )
        for epoch in (1, 2, 3)
        for of in (run, deleted, gone)
    )
    tracker.client.delete_run(deleted)
    for content in (lines[: len(lines) // 3 + 10], lines, lines):
        path.write_bytes(content + torn)
        with MlflowTracker(any_store).spooled(path):
            pass
        assert not path.exists()
    assert epochs_of(tracker, run) == [(1, 1.1), (2, 2.1), (3, 3.1)]
    assert tracker.client.get_run(run).data.metrics == {"val_loss": 3.1, "lr": 1e-3}


def test_rubbish_among_waiting_epochs_is_refused_and_stays(any_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.spool"
    good = to_line(Entry(run_id="a", step=1, time=1, metrics={}))
    for bad in (b"rubbish", b"[]", b"{}", b'{"run_id":"a","step":1,"time":1,"metrics":{"x":"y"}}', b"\xff"):
        path.write_bytes(good + bad + b"\n" + good)
        tracker = MlflowTracker(any_store)
        with pytest.raises(InputError, match="line 2 is none") as caught, tracker.spooled(path):
            pass
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == good + bad + b"\n" + good


def test_a_delivery_that_fails_keeps_what_waits(store: Path, tmp_path: Path) -> None:
    tracker, path = MlflowTracker(store), tmp_path / "study.spool"
    run = start(tracker, tracker.open_study(KEY, opened(1)), 0)

    def deliver_while_locked() -> None:
        with tracker.spooled(path):
            tracker.log_epoch(run, 1, {"val_loss": 1.0})
            tracker.deliver()

    # Another process holds the store for longer than MLflow waits.
    writer = sqlite3.connect(store / "mlflow.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with tracker.engine.connect() as pooled:
        pooled.exec_driver_sql("PRAGMA busy_timeout=10")
    with pytest.raises(OperationalError, match="locked"):
        deliver_while_locked()
    writer.execute("ROLLBACK")
    assert [entry.step for entry in read_spool(path)] == [1]
    with tracker.spooled(path):
        pass
    assert epochs_of(tracker, run) == [(1, 1.0)]


# ---- the store


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for local, mode in ((True, "wal"), (False, "delete"), (True, "wal")):
        monkeypatch.setattr("mmtune.tracking.sqlite.is_local", lambda root, local=local: local)
        tracker = MlflowTracker(tmp_path)
        tracker.engine.dispose()
        assert journal_mode(tmp_path) == mode
    reader = sqlite3.connect(tmp_path / "mlflow.db")
    reader.execute("SELECT COUNT(*) FROM runs").fetchone()
    monkeypatch.setattr("mmtune.tracking.sqlite.is_local", lambda root: False)
    with pytest.raises(InputError, match="must keep no write-ahead log"):
        MlflowTracker(tmp_path)


def test_readers_do_not_hold_the_writer_up(store: Path) -> None:
    tracker = MlflowTracker(store)
    reader = sqlite3.connect(store / "mlflow.db", isolation_level=None)
    reader.execute("BEGIN")
    before = reader.execute("SELECT COUNT(*) FROM runs").fetchone()
    began = time.monotonic()
    start(tracker, tracker.open_study(KEY, opened(1)), 0)
    assert time.monotonic() - began < 5
    assert reader.execute("SELECT COUNT(*) FROM runs").fetchone() == before


def test_the_planner_is_told_of_a_store_that_grows(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtune.tracking.tracker.FIRST_ANALYSIS", 2)
    tracker = MlflowTracker(store)
    parent = tracker.open_study(KEY, opened(1))
    for number in range(2):
        tracker.end_trial(start(tracker, parent, number), COMPLETE, {OBJECTIVE: 0.5, "best_epoch": 1})
    with sqlite3.connect(store / "mlflow.db") as reader:
        known = {table for (table,) in reader.execute("SELECT tbl FROM sqlite_stat1")}
    assert {"runs", "latest_metrics", "tags", "params", "metrics"} <= known


def test_a_run_id_in_the_environment_does_not_become_everyones_parent(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "f" * 32)
    tracker = MlflowTracker(store)
    assert "MLFLOW_RUN_ID" not in os.environ
    parent = tracker.open_study(KEY, opened(1))
    assert start(tracker, parent, 0) != parent


def open_one(root: Path, number: int) -> None:
    key = StudyKey(**{**KEY.__dict__, "seed": number})
    MlflowTracker(root).open_study(key, opened(number))


@pytest.mark.slow
def test_processes_that_start_together_on_nothing_all_get_their_store(tmp_path: Path) -> None:
    processes = [get_context("spawn").Process(target=open_one, args=(tmp_path / "new", n)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(MlflowTracker(tmp_path / "new").studies("audio_rnn")) == 4


def test_a_store_is_made_where_none_was_and_where_a_kill_left_half_of_one(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / ".new.mlflow.db").write_bytes(b"half a database")
    assert store_at(folder).open_client() is not None
    left = {path.name for path in folder.iterdir()}
    assert left - {"mlflow.db-wal", "mlflow.db-shm"} == {".store.lock", "mlflow.db"}


def test_what_is_no_store_is_refused(tmp_path: Path, store: Path) -> None:
    (store / "mlflow.db").write_bytes(b"rubbish" * 1000)
    with pytest.raises(InputError, match=r"mlflow\.db must be an MLflow store"):
        store_at(store).open_client()
    for name in ("50%", "a?b", "a#b"):
        with pytest.raises(InputError, match=r"without %, [?] and #"):
            store_at(tmp_path / name).open_client()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be a folder that can be made"):
        store_at(tmp_path / "file" / "mlruns").open_client()


def test_a_path_with_spaces_and_other_letters_is_a_path(tmp_path: Path) -> None:
    tracker = MlflowTracker(tmp_path / "mes études à moi")
    run = start(tracker, tracker.open_study(KEY, opened(1)), 0)
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "é").write_text("ü")
    tracker.end_trial(run, COMPLETE, {}, tmp_path / "left")
    assert tracker.artifact(run, "é").read_text() == "ü"


def test_a_deleted_experiment_is_named(any_store: Path) -> None:
    tracker = MlflowTracker(any_store)
    tracker.open_study(KEY, opened(1))
    tracker.client.delete_experiment(tracker.client.get_experiment_by_name("audio_rnn").experiment_id)
    with pytest.raises(InputError, match=r"experiment audio_rnn in .* was deleted"):
        tracker.open_study(KEY, opened(2))
