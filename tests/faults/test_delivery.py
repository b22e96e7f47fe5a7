"""What the local store has is on the MLflow server once, whatever is lost in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.entities import Metric, ViewType
from mlflow_servers import Proxy, ServerProcess, all_runs, check_delivered, dump, history

from mmtune.base.errors import InputError
from mmtune.base.files import locked
from mmtune.study import StudyKey
from mmtune.tracking import COMPLETE, FAIL, OBJECTIVE, Entry, MlflowTracker, best_trial, sync
from mmtune.tracking import delivery as delivery_module
from mmtune.tracking.address import tracking_server
from mmtune.tracking.delivery import Delivery
from mmtune.tracking.receipts import Receipt, Receipts
from mmtune.tracking.server import UnavailableError, server_client
from mmtune.tracking.writing import write_batch

VARIABLE = "MLFLOW_TRACKING_URI"


def key_of(study: str) -> StudyKey:
    """The key of a small study."""
    return StudyKey(
        study=study, data="tiny", digest="0" * 64, protocol="clip_disjoint", seed=0, epochs=3, sampler="grid"
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, store_template: Path) -> Iterator[ServerProcess]:
    """A server for all tests, which keep apart by what their studies are called and clean up after themselves."""
    made = ServerProcess(tmp_path_factory.mktemp("server") / "one", store_template)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def empty(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> ServerProcess:
    """The server, without runs, and named by the environment."""
    for run in all_runs(server.client):
        server.client.delete_run(run.info.run_id)
    monkeypatch.setenv(VARIABLE, server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    return server


def fill(store: Path, files: Path, study: str) -> tuple[MlflowTracker, str]:
    """A study with a trial that is complete, one of two parts, one that failed, and one that runs."""
    tracker = MlflowTracker(store)
    parent = tracker.open_study(key_of(study), {"mlflow.note.content": "a note\nof two lines, ä"})
    runs = [tracker.start_trial(parent, n, f"{n:02d}", {"a.b": n, "c": "d"}, {"mmtune.started": "1"}) for n in range(4)]
    for epoch in range(1, 4):
        for run in runs:
            tracker.log_epoch(run, epoch, {"val_loss": 1 / epoch, "val_macro_f1": epoch / 4})
    (files / "model").mkdir(parents=True)
    (files / "model" / "weights").write_bytes(os.urandom(100_000))
    (files / "validation.npz").write_bytes(b"")
    tracker.end_trial(runs[0], COMPLETE, {OBJECTIVE: 0.75, "best_epoch": 3}, files)
    for fold in (0, 1):
        tags = {"mmtune.started": "1", "mmtune.fold": str(fold)}
        part = tracker.start_part(parent, runs[1], 1, f"01 fold {fold}", {"c": "d"}, tags)
        tracker.end_trial(part, COMPLETE, {OBJECTIVE: 0.5}, files)
    tracker.end_trial(runs[1], COMPLETE, {OBJECTIVE: 0.5, "best_epoch": 1}, files)
    tracker.end_trial(runs[2], FAIL, {}, reason="because", retry=True)
    return tracker, parent


def test_all_of_a_store_is_delivered_and_later_what_changed(store: Path, tmp_path: Path, empty: ServerProcess) -> None:
    tracker, parent = fill(store, tmp_path / "left", "one")
    ended, *_, running = (trial.run_id for trial in tracker.trials(parent))
    # More than a request may bring, some of them in one millisecond.
    long = [Entry(run_id=running, step=step, time=1000 + step // 2, metrics={"x": step}) for step in range(1100)]
    write_batch(tracker.engine, running, long)
    first = sync(store)
    assert (first.brought, first.there, first.problems, first.skipped) == (7, 0, [], [])
    check_delivered(store, empty)
    before = dump(empty)
    again = sync(store)
    assert (again.brought, again.there) == (0, 7)
    assert dump(empty) == before

    tracker.log_epoch(running, 4, {"val_loss": 0.1})
    # Of a clock that was set back.
    write_batch(tracker.engine, running, [Entry(run_id=running, step=9, time=900, metrics={"x": 9.5})])
    tracker.adopt(tracker.parts(parent)[0].run_id, running)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "submission.csv").write_text("a,b\n")
    tracker.record(ended, {"test_macro_f1": 0.7}, {"mmtune.note": "1"}, tmp_path / "more")
    assert sync(store).brought == 3
    check_delivered(store, empty)


@pytest.mark.slow
def test_several_studies_are_delivered_as_they_end_and_begin_again(
    store: Path, tmp_path: Path, empty: ServerProcess
) -> None:
    tracker, parent = fill(store, tmp_path / "left", "one")
    fill(store, tmp_path / "other", "two")
    assert sync(store).brought == 14
    check_delivered(store, empty)
    tracker.end_trial(tracker.trials(parent)[3].run_id, COMPLETE, {OBJECTIVE: 0.9}, tmp_path / "left")
    tracker.end_study(parent, True, best_trial(tracker.trials(parent)))
    assert sync(store).brought == 2
    check_delivered(store, empty)
    tracker.open_study(key_of("one"), {})
    assert sync(store).brought == 1
    check_delivered(store, empty)


def test_what_is_sent_twice_is_there_once(empty: ServerProcess) -> None:
    client = empty.client
    run = client.create_run("0").info.run_id
    rows = [Metric("x", 0.1 * step, 1000 + step, step) for step in range(50)]
    for _ in range(3):
        client.log_batch(run, metrics=rows)
    client.log_batch(run, metrics=[*rows, Metric("x", 7.0, 2000, 50)])
    assert history(client, run, "x") == [(m.timestamp, m.step, m.value) for m in rows] + [(2000, 50, 7.0)]


@pytest.mark.slow
@pytest.mark.parametrize("kept", [b"", b'{"run_id": 3}\n[]\nnonsense\n', None])
def test_receipts_that_are_lost_cost_only_time(
    store: Path, tmp_path: Path, empty: ServerProcess, monkeypatch: pytest.MonkeyPatch, kept: bytes | None
) -> None:
    monkeypatch.setattr(delivery_module, "CALM_SECONDS", 0.2)
    fill(store, tmp_path / "left", "one")
    sync(store)
    names = check_delivered(store, empty)
    (path,) = (store / "delivered").glob("*/*.jsonl")
    # A kill in the middle of a line.
    path.write_bytes(path.read_bytes()[:-20] if kept is None else kept)
    sync(store)
    assert check_delivered(store, empty) == names
    assert sync(store).brought == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", ["runs/create", "runs/log-batch", "runs/update", "model/weights", "experiments/create"]
)
def test_a_lost_answer_makes_nothing_twice(
    store: Path, tmp_path: Path, empty: ServerProcess, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(delivery_module, "CALM_SECONDS", 0.2)
    fill(store, tmp_path / "left", f"lost_{path.replace('/', '_')}")
    proxy = Proxy(empty.port, lose={path.encode(): 2})
    monkeypatch.setenv(VARIABLE, proxy.uri)
    sync(store)
    assert len(proxy.lost) == (1 if "experiments" in path else 2)
    check_delivered(store, empty)
    assert sync(store).brought == 0


@pytest.mark.slow
@pytest.mark.parametrize("path", ["runs/create", "runs/log-batch"])
def test_what_arrives_late_is_put_right(
    store: Path, tmp_path: Path, empty: ServerProcess, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(delivery_module, "CALM_SECONDS", 4.0)
    study = f"late_{path.replace('/', '_')}"
    fill(store, tmp_path / "left", study)
    proxy = Proxy(empty.port, hold={path.encode(): 4.0})
    monkeypatch.setenv(VARIABLE, proxy.uri)
    sync(store)
    assert not proxy.hold
    check_delivered(store, empty)
    experiment = empty.client.get_experiment_by_name(study).experiment_id
    deleted = empty.client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)
    assert len(deleted) == (1 if "create" in path else 0)


@pytest.mark.slow
def test_a_late_request_does_not_turn_a_run_back(
    store: Path, tmp_path: Path, empty: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, parent = fill(store, tmp_path / "left", "back")
    proxy = Proxy(empty.port)
    monkeypatch.setenv(VARIABLE, proxy.uri)
    monkeypatch.setattr(delivery_module, "CALM_SECONDS", 5.0)
    named = tracking_server()
    assert named is not None
    sync(store)
    running = tracker.trials(parent)[3].run_id
    (study,) = tracker.studies("back")
    with closing(Delivery(tracker.engine, study, named, server_client(named), tmp_path / "receipts.jsonl")) as delivery:
        delivery.sweep(whole=True)
        tracker.log_epoch(running, 4, {"val_loss": 0.1})
        proxy.hold[b"runs/log-batch"] = 4.0
        with pytest.raises(UnavailableError, match="does not answer"):
            delivery.sweep(whole=False)
        tracker.end_trial(running, COMPLETE, {OBJECTIVE: 0.9}, tmp_path / "left")
        delivery.sweep(whole=True)
        there = empty.client.get_run(delivery.receipts.of(running).remote)
        assert there.data.tags["mmtune.state"] == COMPLETE
        time.sleep(4.0)
        # What had been asked for first was done last.
        assert empty.client.get_run(there.info.run_id).data.tags["mmtune.state"] == "RUNNING"
        assert delivery.waiting
        time.sleep(3.0)
        delivery.sweep(whole=True)
        assert not delivery.waiting
    check_delivered(store, empty)


@pytest.mark.slow
def test_what_the_server_has_lost_is_made_there_again(store: Path, tmp_path: Path, empty: ServerProcess) -> None:
    tracker, parent = fill(store, tmp_path / "left", "one")
    sync(store)
    for run in all_runs(empty.client):
        empty.client.delete_run(run.info.run_id)
    assert sync(store).brought == 7
    names = check_delivered(store, empty)
    trial = tracker.trials(parent)[0].run_id
    empty.client.delete_run(names[trial])
    tracker.record(trial, {"test_macro_f1": 0.7}, {})
    sync(store)
    assert check_delivered(store, empty)[trial] != names[trial]


@pytest.mark.slow
def test_a_deleted_experiment_is_named_and_nothing_is_lost(store: Path, tmp_path: Path, empty: ServerProcess) -> None:
    fill(store, tmp_path / "left", "gone")
    experiment = empty.client.create_experiment("gone")
    empty.client.delete_experiment(experiment)
    with pytest.raises(InputError, match="has deleted the experiment gone, which must be restored there"):
        sync(store)
    empty.client.restore_experiment(experiment)
    assert sync(store).brought == 7
    check_delivered(store, empty)


@pytest.mark.slow
def test_a_run_that_the_server_refuses_holds_no_other_up(store: Path, tmp_path: Path, empty: ServerProcess) -> None:
    tracker, parent = fill(store, tmp_path / "left", "one")
    refused = tracker.trials(parent)[0].run_id
    # Longer than MLflow has it.
    write_batch(tracker.engine, refused, tags={"a" * 251: "x"})
    found = sync(store)
    assert found.brought == 6
    (line,) = found.problems
    assert refused in line
    assert "\n" not in line


@pytest.mark.slow
def test_a_double_that_only_somebody_else_may_delete_is_named_and_holds_nothing_up(
    store: Path, tmp_path: Path, empty: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "CALM_SECONDS", 0.2)
    tracker, parent = fill(store, tmp_path / "left", "one")
    sync(store)
    trial = tracker.trials(parent)[0].run_id
    experiment = empty.client.get_experiment_by_name("one").experiment_id
    local = tracker.client.get_run(trial).info
    named = {"run_name": local.run_name, "start_time": local.start_time}
    double = empty.client.create_run(experiment, tags={"mmtune.run": trial}, **named).info.run_id
    (receipts,) = (store / "delivered").glob("*/*.jsonl")
    receipts.unlink()
    proxy = Proxy(empty.port, refuse=b"runs/delete")
    monkeypatch.setenv(VARIABLE, proxy.uri)
    for _ in range(2):
        (line,) = sync(store).problems
        assert f"run {trial} twice" in line
    there = {run.info.run_id for run in empty.client.search_runs([experiment], f"tags.`mmtune.run` = '{trial}'")}
    assert len(there) == 2
    assert double in there
    proxy.refuse = b""
    assert not sync(store).problems
    check_delivered(store, empty)


@pytest.mark.slow
def test_a_study_that_somebody_else_delivers_is_skipped(store: Path, tmp_path: Path, empty: ServerProcess) -> None:
    fill(store, tmp_path / "left", "one")
    fill(store, tmp_path / "other", "two")
    sync(store)
    lock = next((store / "delivered").glob("*/one.*.lock"))
    with locked(lock, "nobody", "pid 7 on elsewhere"):
        tally = sync(store)
    (line,) = tally.skipped
    assert line.startswith("one.tiny")
    assert "pid 7 on elsewhere" in line
    assert (tally.brought, tally.there) == (0, 7)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("sqlite:///x.db", "got sqlite:///x.db"),
        ("mysql://me:secret@host/db?password=secret", "got mysql://host/db"),
        ("databricks", "got databricks"),
        ("http://", "got http://"),
        ("http://me:secret@host:port", "bad host or port"),
    ],
)
def test_a_server_must_be_an_address_and_no_secret_is_shown(
    monkeypatch: pytest.MonkeyPatch, uri: str, said: str
) -> None:
    monkeypatch.setenv(VARIABLE, uri)
    with pytest.raises(InputError) as error:
        tracking_server()
    assert str(error.value).endswith(said)
    assert "secret" not in str(error.value)


@pytest.mark.slow
def test_a_password_stands_in_no_message_and_no_file(store: Path, tmp_path: Path, empty: ServerProcess) -> None:
    fill(store, tmp_path / "left", "one")
    for port, code in ((empty.port, 0), (1, 2)):
        named = {**os.environ, VARIABLE: f"http://me:secret@127.0.0.1:{port}/"}
        words = [sys.executable, "-m", "mmtune.cli", "sync", "--store", str(store)]
        done = subprocess.run(words, env=named, capture_output=True, text=True, timeout=60)
        assert done.returncode == code
        assert f"http://127.0.0.1:{port}" in done.stdout + done.stderr
        assert "secret" not in done.stdout + done.stderr
        assert len((done.stderr if code else done.stdout[-80:]).strip().splitlines()) <= 2
    kept = [path for path in (store / "delivered").rglob("*") if path.is_file()]
    assert kept
    assert not any(b"secret" in str(path).encode() + path.read_bytes() for path in kept)


def test_without_a_server_sync_says_so(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(InputError, match=f"{VARIABLE} must be .*, it is not set"):
        sync(store)


def test_receipts_come_back_and_their_file_stays_short(tmp_path: Path) -> None:
    receipts = Receipts(tmp_path / "a" / "b.jsonl")
    for rows in range(20):
        receipts.open("x")
        receipts.write(Receipt(run_id="x", remote="y", rows=rows, settled=True))
    receipts.open("z")
    receipts.close()
    with (tmp_path / "a" / "b.jsonl").open("ab") as file:
        file.write(b'{"run_id": "torn')
    again = Receipts(tmp_path / "a" / "b.jsonl")
    again.close()
    assert again.last == {"x": Receipt(run_id="x", remote="y", rows=19, settled=True), "z": Receipt(run_id="z")}
    lines = (tmp_path / "a" / "b.jsonl").read_text().splitlines()
    assert [json.loads(line)["run_id"] for line in lines] == ["x", "z"]
