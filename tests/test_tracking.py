"""What is written to a real MLflow store is what is read from it."""

from __future__ import annotations

import os
from multiprocessing import get_context
from pathlib import Path

import pytest

from mmtune.config import StudyKey
from mmtune.errors import InputError
from mmtune.tracking import COMPLETE, FAIL, OBJECTIVE, PRUNED, MlflowTracker, best_trial, open_client

KEY = StudyKey(
    study="audio_rnn", data="tiny", digest="0" * 64, protocol="clip_disjoint", seed=0, epochs=3, sampler="grid"
)


def opened(at: int) -> dict[str, str]:
    return {"mmtune.opened": f"2026-01-01T00:00:{at:02d}"}


def start(tracker: MlflowTracker, parent: str, number: int) -> str:
    return tracker.start_trial(
        parent, number, f"{number:02d}", {"model.hidden": 320, "train.lr": 1e-4}, {"mmtune.started": "1"}
    )


def test_a_trial_comes_back_with_params_metrics_curves_and_files(store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    parent = tracker.open_study(KEY, opened(1))
    run = start(tracker, parent, 4)
    for epoch in (1, 2, 3):
        tracker.log_epoch(run, epoch, {"val_loss": 1 / epoch, "broken": float("inf"), "missing": float("nan")})
    (tmp_path / "left" / "model").mkdir(parents=True)
    (tmp_path / "left" / "model" / "weights").write_bytes(b"abc")
    tracker.end_trial(run, COMPLETE, {OBJECTIVE: 0.5, "best_epoch": 2}, tmp_path / "left")
    tracker.end_study(parent, True, best_trial(tracker.trials(parent)))

    (trial,) = MlflowTracker(store).trials(parent)
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
def test_states_are_mlflows_statuses(store: Path, state: str, status: str) -> None:
    tracker = MlflowTracker(store)
    run = start(tracker, tracker.open_study(KEY, opened(1)), 0)
    tracker.end_trial(run, state, {}, reason="because" if state == FAIL else "")
    found = tracker.client.get_run(run)
    assert found.info.status == status
    assert found.info.end_time
    assert found.data.tags.get("mmtune.reason") == ("because" if state == FAIL else None)


def test_the_same_key_is_the_same_run_and_the_last_opened_comes_first(store: Path) -> None:
    tracker = MlflowTracker(store)
    other = StudyKey(**{**KEY.__dict__, "seed": 1, "fixed": (("model.layers", 2),), "encoders": (("image", "ab"),)})
    first = tracker.open_study(KEY, opened(1))
    second = tracker.open_study(other, opened(2))
    assert tracker.open_study(KEY, opened(3)) == first != second
    assert [study.key for study in tracker.studies()] == [KEY, other]
    assert tracker.studies("image_cnn") == []
    assert list(tracker.experiments()) == ["audio_rnn"]


def test_many_trials_are_read_page_by_page(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtune.tracking.PAGE", 3)
    tracker = MlflowTracker(store)
    parent = tracker.open_study(KEY, opened(1))
    for number in range(8):
        start(tracker, parent, number)
    assert [trial.number for trial in tracker.trials(parent)] == list(range(8))


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
    assert open_client(folder) is not None
    assert sorted(path.name for path in folder.iterdir()) == [".store.lock", "mlflow.db"]


def test_what_is_no_store_is_refused(tmp_path: Path, store: Path) -> None:
    (store / "mlflow.db").write_bytes(b"rubbish" * 1000)
    with pytest.raises(InputError, match=r"mlflow\.db must be an MLflow store"):
        open_client(store)
    for name in ("50%", "a?b", "a#b"):
        with pytest.raises(InputError, match=r"without %, [?] and #"):
            open_client(tmp_path / name)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be a folder that can be made"):
        open_client(tmp_path / "file" / "mlruns")


def test_a_path_with_spaces_and_other_letters_is_a_path(tmp_path: Path) -> None:
    tracker = MlflowTracker(tmp_path / "mes études à moi")
    run = start(tracker, tracker.open_study(KEY, opened(1)), 0)
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "é").write_text("ü")
    tracker.end_trial(run, COMPLETE, {}, tmp_path / "left")
    assert tracker.artifact(run, "é").read_text() == "ü"


def test_a_deleted_experiment_is_named(store: Path) -> None:
    tracker = MlflowTracker(store)
    tracker.open_study(KEY, opened(1))
    tracker.client.delete_experiment(tracker.client.get_experiment_by_name("audio_rnn").experiment_id)
    with pytest.raises(InputError, match=r"experiment audio_rnn in .* was deleted"):
        tracker.open_study(KEY, opened(2))
