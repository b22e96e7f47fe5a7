"""What is written to a real MLflow store is what is read from it, and what cannot be written is refused in words."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import free_port
from tracked import OBJECTIVE, track_study, track_trial

from mmtune.base.errors import AwayError, GoneError, InputError
from mmtune.study import StudyKey
from mmtune.tracking import (
    COMPLETE,
    FAIL,
    INTERRUPTED,
    PRUNED,
    RUNNING,
    DataInput,
    MlflowTracker,
    best_trial,
)
from mmtune.tracking.entities import MOST_METRICS, MOST_OTHERS
from mmtune.tracking.runs import LONGEST_TAG
from mmtune.train.objective import MACRO_F1
from mmtune.train.staging import Point

KEY = StudyKey(
    study="audio_rnn", data="tiny", digest="0" * 64, protocol="clip_disjoint", seed=0, epochs=3, sampler="grid"
)


def running(tracker: MlflowTracker, seed: int = 0) -> str:
    return track_trial(tracker, track_study(tracker, replace(KEY, seed=seed)), 0, state=RUNNING)


def test_a_trial_comes_back_with_params_metrics_curves_and_files(any_store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(any_store)
    study = track_study(tracker, KEY)
    (tmp_path / "left" / "model").mkdir(parents=True)
    (tmp_path / "left" / "model" / "weights").write_bytes(b"abc")
    epochs = [{"val_loss": 1 / epoch, "broken": math.inf, "missing": math.nan} for epoch in (1, 2, 3)]
    params = {"model.hidden": 320, "train.lr": 1e-4}
    scores = {OBJECTIVE: 0.5, "epoch_at_best": 2.0}
    run = track_trial(tracker, study, 4, params, scores, epochs=epochs, files=tmp_path / "left")
    tracker.end_study(
        study.run_id, True, best_trial(tracker.trials(study.run_id), MACRO_F1), MACRO_F1, {"seconds": 1.5}, {"t": "é"}
    )

    other = MlflowTracker(any_store)
    (trial,) = other.trials(study.run_id)
    assert trial.params == params
    assert (trial.number, trial.state, trial.metrics) == (4, COMPLETE, {**scores, "val_loss": 1 / 3})
    assert other.client.get_run(run).data.params == {"model.hidden": "320", "train.lr": "0.0001"}
    assert other.curves(run, ("val_loss", "broken")) == {"val_loss": [(1, 1.0), (2, 0.5), (3, 1 / 3)], "broken": []}
    assert other.artifact(run, "model/weights").read_bytes() == b"abc"
    with pytest.raises(InputError, match="no artifact 'nothing'"):
        other.artifact(run, "nothing")
    (found,) = other.studies("audio_rnn")
    assert (found.key, found.status, found.tags["mmtune.best_run"], found.tags["t"]) == (KEY, "FINISHED", run, "é")
    assert other.client.get_run(study.run_id).data.metrics == {OBJECTIVE: 0.5, "seconds": 1.5}


@pytest.mark.parametrize(
    ("state", "status"), [(COMPLETE, "FINISHED"), (PRUNED, "KILLED"), (FAIL, "FAILED"), (INTERRUPTED, "SCHEDULED")]
)
def test_states_are_mlflows_statuses(any_store: Path, state: str, status: str) -> None:
    tracker = MlflowTracker(any_store)
    run = running(tracker)
    assert tracker.client.get_run(run).info.status == "RUNNING"
    if state == INTERRUPTED:
        tracker.set_state(run, state)
    else:
        tracker.end(run, state, 1_767_225_700_000)
    found = tracker.client.get_run(run).info
    assert (found.status, found.end_time) == (status, None if state == INTERRUPTED else 1_767_225_700_000)


def test_the_same_key_is_the_same_run_and_is_running_again(any_store: Path) -> None:
    tracker = MlflowTracker(any_store)
    other = replace(KEY, seed=1, fixed=(("model.layers", 2),), encoders=(("image", "ab"),))
    first, second = tracker.open_study(KEY, {}), tracker.open_study(other, {})
    tracker.end_study(first, False, None, MACRO_F1)
    assert tracker.client.get_run(first).info.status == "KILLED"
    assert tracker.open_study(KEY, {"new": "tag"}) == first != second
    assert [(study.key, study.status) for study in tracker.studies()] == [(KEY, "RUNNING"), (other, "RUNNING")]
    assert tracker.tag(first, "new") == "tag"
    assert tracker.tag(second, "new") == ""


NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=64) | st.integers(-3, 3).map(float)
POINTS = st.lists(
    st.builds(
        Point,
        epoch=st.integers(0, 3),
        time=st.integers(1, 3),
        metrics=st.dictionaries(st.sampled_from("abc"), NUMBERS, max_size=3),
    ),
    max_size=6,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(POINTS, max_size=3), again=st.lists(st.integers(0, 2), max_size=3))
def test_points_are_there_once_however_often_they_are_brought(
    any_store: Path, batches: list[list[Point]], again: list[int]
) -> None:
    tracker = MlflowTracker(any_store)
    run = running(tracker)
    for points in [*batches, *(batches[n] for n in again if n < len(batches))]:
        tracker.log(run, points, {"p": 0.1}, {"t": "é"})
    told = {
        (name, point.time, point.epoch, value + 0.0)
        for points in batches
        for point in points
        for name, value in point.metrics.items()
        if math.isfinite(value)
    }
    history = [metric for name in "abc" for metric in tracker.client.get_metric_history(run, name)]
    found = [(metric.key, metric.timestamp, metric.step, metric.value) for metric in history]
    assert sorted(found) == sorted(told)
    assert tracker.client.get_run(run).data.params == ({"p": "0.1"} if batches else {})


def test_any_number_of_metrics_params_and_tags_arrives(any_store: Path) -> None:
    tracker = MlflowTracker(any_store)
    run, count = running(tracker), MOST_METRICS // 2
    points = [Point(epoch=n, time=n, metrics={"a": float(n), "b": n / 2, "c": 0.0}) for n in range(1, count + 1)]
    many = {f"n{n}": str(n) for n in range(2 * MOST_OTHERS + 1)}
    tracker.log(run, points, many, many)
    found = tracker.client.get_run(run).data
    assert found.params == many
    assert many.items() <= found.tags.items()
    assert tracker.curves(run, ("a", "c")) == {
        "a": [(n, float(n)) for n in range(1, count + 1)],
        "c": [(n, 0.0) for n in range(1, count + 1)],
    }


def test_long_and_odd_names_tags_and_params_are_kept_as_far_as_any_store_can(any_store: Path) -> None:
    tracker = MlflowTracker(any_store)
    experiment = tracker.experiment(KEY.study)
    run = tracker.begin(experiment, "\0" + "é" * 300, 1, {"mmtune.reason": "it\0broke\n" + "x" * 9_000})
    tracker.log(run, params={"long": "字" * 7_000, "odd": "a\0b"}, tags={"later": "🙂" * 9_000})
    found = tracker.client.get_run(run)
    assert found.info.run_name == found.data.tags["mlflow.runName"] == "é" * 250
    assert found.data.tags["mmtune.reason"].startswith("itbroke\nxxx")
    assert found.data.params == {"long": "字" * 6_000, "odd": "ab"}
    assert found.data.tags["later"] == "🙂" * LONGEST_TAG


@pytest.mark.parametrize("length", [LONGEST_TAG - 1, LONGEST_TAG, LONGEST_TAG + 1, 3 * LONGEST_TAG, 100_000])
def test_a_tag_that_is_read_again_is_never_cut(any_store: Path, length: int) -> None:
    tracker = MlflowTracker(any_store)
    study = track_study(tracker, KEY)
    params = {"model.notes": "x" * (length - len('{"model.notes": ""}'))}
    run = track_trial(tracker, study, 0, params=params)
    for found in (tracker.trials(study.run_id), tracker.trials(study.run_id, (), ())):
        assert [own.params for own in found] == [params]
    tracker.log(run, tags={"mmtune.params": "{}"})
    assert [own.params for own in tracker.trials(study.run_id)] == [{}]


def test_a_tag_that_is_read_again_has_an_end(store: Path) -> None:
    tracker = MlflowTracker(store)
    study = track_study(tracker, KEY)
    for write in (lambda tags: tracker.begin("1", "a", 1, tags), lambda tags: tracker.log(study.run_id, tags=tags)):
        with pytest.raises(InputError, match="params must have at most 128,000 letters, it has 128,001"):
            write({"mmtune.params": "x" * 128_001})
    assert tracker.trials(study.run_id) == []


def test_what_is_deleted_is_not_written(any_store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(any_store)
    run = running(tracker)
    (tmp_path / "left").mkdir()
    tracker.discard(run)
    for gone in (run, "f" * 32):
        for write in (
            lambda gone=gone: tracker.log(gone, [Point(epoch=1, time=1, metrics={"a": 1.0})]),
            lambda gone=gone: tracker.log(gone, tags={"a": "b"}),
            lambda gone=gone: tracker.set_state(gone, INTERRUPTED),
            lambda gone=gone: tracker.end(gone, COMPLETE, 1),
        ):
            with pytest.raises(GoneError) as caught:
                write()
            assert "\n" not in str(caught.value)


def test_a_deleted_experiment_is_named(any_store: Path) -> None:
    tracker = MlflowTracker(any_store)
    tracker.open_study(KEY, {})
    number = tracker.experiment("audio_rnn")
    tracker.client.delete_experiment(number)
    with pytest.raises(InputError, match=r"experiment audio_rnn in .* was deleted: restore it"):
        MlflowTracker(any_store).open_study(KEY, {})
    # Whoever knew it before is told when it writes.
    with pytest.raises(GoneError):
        tracker.begin(number, "late", 1, {})


def test_two_may_say_the_same_of_an_experiment_at_the_same_moment(store: Path) -> None:
    """As when two studies of a name begin together."""
    trackers = [MlflowTracker(store) for _ in range(4)]
    for tracker in trackers:
        tracker.set_experiment_tags("audio_rnn", {"first": "x"})
    together = Barrier(len(trackers))

    def say(tracker: MlflowTracker, number: int) -> None:
        together.wait(60)
        tracker.set_experiment_tags("audio_rnn", {f"tag.{number}": "said"})

    with ThreadPoolExecutor(len(trackers)) as pool:
        for number in range(25):
            for said in [pool.submit(say, tracker, number) for tracker in trackers]:
                said.result()
    experiment = trackers[0].client.get_experiment_by_name("audio_rnn")
    assert sum(name.startswith("tag.") for name in experiment.tags) == 25


def test_data_sets_are_named_once_however_often(any_store: Path) -> None:
    tracker = MlflowTracker(any_store)
    run = running(tracker)
    own = DataInput(name="é", digest="0" * 64, source="/data", rows=3, use="train", columns={"image": "binary"})
    for _ in range(2):
        tracker.add_inputs(run, [own, replace(own, name="b", use="validation")])
    found = tracker.client.get_run(run).inputs.dataset_inputs
    assert sorted((i.dataset.name, i.dataset.digest, i.tags[0].value) for i in found) == [
        ("b", "0" * 36, "validation"),
        ("é", "0" * 36, "train"),
    ]


def test_what_is_recorded_later_is_added(any_store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(any_store)
    study = track_study(tracker, KEY)
    run = track_trial(tracker, study, 0, metrics={OBJECTIVE: 0.5})
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "test.npz").write_bytes(b"1")
    for _ in range(2):
        tracker.add_files(run, tmp_path / "scores")
        tracker.log(run, [Point(epoch=2, time=1, metrics={"test_accuracy": 0.9})], tags={"mmtune.promoted": "yes"})
    (trial,) = tracker.trials(study.run_id)
    assert (trial.state, trial.metrics["test_accuracy"], trial.tags["mmtune.promoted"]) == (COMPLETE, 0.9, "yes")
    assert tracker.artifact(run, "test.npz").read_bytes() == b"1"


def test_a_run_id_in_the_environment_does_not_become_everyones_parent(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "f" * 32)
    run = running(MlflowTracker(store))
    assert "MLFLOW_RUN_ID" not in os.environ
    assert run != "f" * 32


def test_a_path_with_spaces_and_other_letters_is_a_path(store: Path, tmp_path: Path) -> None:
    store.rename(tmp_path / "mes études à moi")
    tracker = MlflowTracker(tmp_path / "mes études à moi")
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "é").write_text("ü")
    run = track_trial(tracker, track_study(tracker, KEY), 0, files=tmp_path / "left")
    assert tracker.artifact(run, "é").read_text() == "ü"
    assert tracker.artifact(run, "é").is_relative_to(tracker.root)


def test_a_copied_or_moved_store_is_refused_and_names_the_first(store: Path, tmp_path: Path) -> None:
    tracker = MlflowTracker(store)
    track_study(tracker, KEY)
    tracker.client.create_experiment("of a hand", artifact_location=(store / "artifacts" / "of a hand").as_uri())
    shutil.copytree(store, tmp_path / "copy")
    with pytest.raises(InputError, match=r"copy/mlflow\.db keeps its files in .*mlruns/artifacts.*this one is a copy"):
        MlflowTracker(tmp_path / "copy")
    assert MlflowTracker(store).studies()


def test_an_experiment_that_keeps_its_files_elsewhere_is_refused(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}")
    MlflowTracker(store).open_study(KEY, {})
    with pytest.raises(InputError, match=r"experiment audio_rnn in .* must keep its files in .*other.*, it does in"):
        MlflowTracker(tmp_path / "other").experiment("audio_rnn")


def test_a_store_that_does_not_answer_is_away_and_says_so_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://ada:secret@127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    tracker = MlflowTracker(tmp_path)
    for ask in (tracker.studies, lambda: tracker.begin("1", "a", 1, {}), lambda: tracker.tag("f" * 32, "a")):
        with pytest.raises(AwayError) as caught:
            ask()
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


READS = """
import sys
from mmtune.tracking import MlflowTracker
tracker = MlflowTracker(__import__("pathlib").Path(sys.argv[1]))
(study,) = tracker.studies()
best = tracker.best(study.run_id, study.key.objective)
print(len(tracker.trials(study.run_id)), best is not None, "mlflow" in sys.modules)
"""


def test_reading_does_not_import_mlflow(store: Path) -> None:
    tracker = MlflowTracker(store)
    track_trial(tracker, track_study(tracker, KEY), 0, metrics={OBJECTIVE: 0.5})
    done = subprocess.run([sys.executable, "-c", READS, str(store)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "True", "False"]
