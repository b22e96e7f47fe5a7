"""What is tracked is read alike by SQL and through MLflow's client, from a database and from a server."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tracked import FIRST, OBJECTIVE, track_study, track_trial

from mmtune.base.errors import InputError
from mmtune.study import StudyKey
from mmtune.tracking import (
    COMPLETE,
    FAIL,
    INTERRUPTED,
    PARENT,
    PRUNED,
    RUNNING,
    MlflowTracker,
    StudyRun,
    best_trial,
)
from mmtune.tracking.reading import PAGE, SqlReading
from mmtune.train.objective import MACRO_F1, Metric, Objective
from mmtune.train.staging import Point

KEY = StudyKey(
    study="audio_rnn", data="tiny", digest="0" * 64, protocol="clip_disjoint", seed=0, epochs=3, sampler="grid"
)
TAG = 'it\'s "50 %" of {a: [é, 字, 🙂]} -- `x`\nand \\ more'
NAN = math.nan


@dataclass(frozen=True)
class World:
    """Studies in one store, and the runs of the trials of the first of them by their number."""

    tracker: MlflowTracker
    studies: dict[str, StudyRun]
    runs: dict[int, str]
    part: str


@pytest.fixture(scope="module")
def world(place: MlflowTracker) -> World:
    """Every state, ties, what is no number, what was deleted, what a hand has added."""
    client = place.client
    others = {
        "full": KEY,
        "empty": replace(KEY, seed=1, fixed=(("model.layers", 2),), encoders=(("image", "ab"),)),
        "one": replace(KEY, seed=2),
        "nan": replace(KEY, seed=3),
        "pictures": replace(KEY, study="image_cnn"),
        "gone": replace(KEY, study="dual_cnn_fusion"),
        "removed": replace(KEY, seed=4),
    }
    studies = {name: track_study(place, key, note=TAG) for name, key in others.items()}
    full = studies["full"]
    runs = {
        number: track_trial(place, full, number, {"a": number}, metrics, state=state, epochs=[{"val_loss": 0.5}])
        for number, state, metrics in (
            (3, COMPLETE, {OBJECTIVE: 0.5, "epoch_at_best": 2}),
            (0, COMPLETE, {OBJECTIVE: 0.75}),
            (1, FAIL, {OBJECTIVE: 0.9}),
            (4, COMPLETE, {OBJECTIVE: 0.75}),
            (2, PRUNED, {OBJECTIVE: 0.8}),
            (5, COMPLETE, {"other": 1.0}),
            (6, RUNNING, {}),
            (7, COMPLETE, {"other": 2.0}),
        )
    }
    place.set_state(runs[6], INTERRUPTED)
    client.log_metric(runs[7], OBJECTIVE, NAN, timestamp=1, step=0)
    # A second attempt at one number, and one that was deleted, which would be the best.
    again = track_trial(place, full, 4, {"a": TAG}, state=RUNNING, tags={"note": TAG}, name=TAG[:50])
    place.discard(track_trial(place, full, 8, metrics={OBJECTIVE: 1.0}))
    part = track_trial(place, full, 3, {"a": [1]}, {OBJECTIVE: 0.95}, trial=runs[3], tags={"fold": "0"})
    track_trial(place, studies["one"], 7, metrics={OBJECTIVE: 1.0})
    client.log_metric(track_trial(place, studies["nan"], 0), OBJECTIVE, NAN, timestamp=1, step=0)
    kept = track_trial(place, studies["gone"], 0, metrics={OBJECTIVE: 1.0})
    experiment = place.experiment("dual_cnn_fusion")
    client.delete_experiment(experiment)
    client.restore_run(kept)
    place.discard(studies["removed"].run_id)
    for step, value, time in ((3, 0.25, 9), (1, NAN, 5), (1, 1.0, 6), (1, -1.0, 7), (2, math.inf, 8), (1, NAN, 4)):
        client.log_metric(again, "val_loss", value, timestamp=time, step=step)
    return World(place, studies, {**runs, 44: again}, part)


@pytest.fixture
def of_world(world: World, reader: MlflowTracker) -> World:
    """The world, read in one way."""
    return replace(world, tracker=reader)


def parent(world: World, name: str = "full") -> str:
    return world.studies[name].run_id


def test_studies_come_back_whole_and_the_last_opened_first(of_world: World) -> None:
    found = of_world.tracker.studies()
    assert [study.run_id for study in found] == [
        parent(of_world, name) for name in ("pictures", "nan", "one", "empty", "full")
    ]
    for study in found:
        run = of_world.tracker.client.get_run(study.run_id)
        assert (study.tags, study.status) == (run.data.tags, run.info.status)
        assert study.started.timestamp() * 1000 == run.info.start_time
        assert study.tags["mmtune.note"] == TAG
    assert {study.run_id: study.key for study in found} == {
        own.run_id: own.key for name, own in of_world.studies.items() if name not in ("gone", "removed")
    }
    assert [study.key.study for study in of_world.tracker.studies("image_cnn")] == ["image_cnn"]
    assert of_world.tracker.studies("dual_cnn_fusion") == of_world.tracker.studies("nothing") == []


def test_runs_come_back_in_order_with_what_they_are(of_world: World) -> None:
    trials = of_world.tracker.trials(parent(of_world))
    assert trials == sorted(trials, key=lambda trial: (trial.number, trial.started, trial.run_id))
    assert sorted((trial.number, trial.state) for trial in trials) == [
        (0, COMPLETE), (1, FAIL), (2, PRUNED), (3, COMPLETE), (4, COMPLETE), (4, RUNNING), (5, COMPLETE),
        (6, INTERRUPTED), (7, COMPLETE),
    ]  # fmt: skip
    assert {trial.started - 1_000 * trial.number for trial in trials} == {FIRST}
    by_id = {trial.run_id: trial for trial in trials}
    assert set(by_id) == set(of_world.runs.values())
    for run_id, trial in by_id.items():
        run = of_world.tracker.client.get_run(run_id)
        assert (trial.name, trial.tags) == (run.info.run_name, run.data.tags)
        assert {k: repr(v) for k, v in trial.metrics.items()} == {k: repr(v) for k, v in run.data.metrics.items()}
    odd = by_id[of_world.runs[44]]
    assert (odd.params, odd.tags["mmtune.note"], odd.name) == ({"a": TAG}, TAG, TAG[:50])
    assert math.isnan(by_id[of_world.runs[7]].metrics[OBJECTIVE])
    assert by_id[of_world.runs[3]].metrics == {OBJECTIVE: 0.5, "epoch_at_best": 2.0, "val_loss": 0.5}


def test_parts_are_no_trials_and_are_found_by_their_study_and_by_their_trial(of_world: World) -> None:
    tracker = of_world.tracker
    (found,) = tracker.parts(parent(of_world))
    assert (found.run_id, found.params, found.tags[PARENT]) == (of_world.part, {"a": [1]}, of_world.runs[3])
    assert tracker.trials(of_world.runs[3]) == [found]
    assert tracker.find(found.tags["mmtune.id"]) == [found]
    assert tracker.find("nobody") == []


def test_the_best_is_the_first_of_the_best_scores_among_complete_trials(of_world: World) -> None:
    tracker = of_world.tracker
    best = tracker.best(parent(of_world), MACRO_F1)
    assert best is not None
    assert best.run_id == of_world.runs[0]
    trials = tracker.trials(parent(of_world))
    found = best_trial(trials, MACRO_F1)
    assert best == found == best_trial(reversed(trials), MACRO_F1)
    lowest = Objective((Metric(name="macro_f1", maximise=False),))
    worst = tracker.best(parent(of_world), lowest)
    assert worst == best_trial(trials, lowest)
    assert worst is not None
    assert worst.run_id == of_world.runs[3]
    only = tracker.best(parent(of_world, "one"), MACRO_F1)
    assert only is not None
    assert only.metrics[OBJECTIVE] == 1.0
    for name in ("empty", "nan", "gone", "removed"):
        assert tracker.best(parent(of_world, name), MACRO_F1) is None
    assert tracker.best("f" * 32, MACRO_F1) is None


def test_trials_are_counted_once_and_attempts_by_state(of_world: World) -> None:
    tracker = of_world.tracker
    assert tracker.count(parent(of_world)) == 8
    assert tracker.tally(parent(of_world)) == {COMPLETE: 5, FAIL: 1, INTERRUPTED: 1, PRUNED: 1, RUNNING: 1}
    assert list(tracker.tally(parent(of_world))) == sorted(tracker.tally(parent(of_world)))
    for name, count in (("empty", 0), ("one", 1), ("gone", 0)):
        assert tracker.count(parent(of_world, name)) == count
        assert tracker.tally(parent(of_world, name)) == ({COMPLETE: 1} if count else {})


def test_curves_are_in_order_of_steps_and_what_is_no_number_is_none(of_world: World) -> None:
    tracker, run = of_world.tracker, of_world.runs[44]
    found = tracker.curves_of([run, of_world.runs[0], run, "f" * 32], ("val_loss", "none"))
    assert list(found) == [run, of_world.runs[0], "f" * 32]
    assert [(step, repr(value)) for step, value in found[run]["val_loss"]] == [
        (1, "-1.0"), (1, "1.0"), (1, "nan"), (1, "nan"), (2, "1.7976931348623157e+308"), (3, "0.25"),
    ]  # fmt: skip
    assert found[of_world.runs[0]] == {"val_loss": [(1, 0.5)], "none": []}
    assert found["f" * 32] == {"val_loss": [], "none": []}
    assert tracker.curves(run, ()) == {}
    assert tracker.curves_of([], ("val_loss",)) == {}


def test_the_place_of_files_is_known_also_of_a_deleted_run(of_world: World) -> None:
    tracker = of_world.tracker
    for run in (of_world.runs[0], parent(of_world, "removed"), parent(of_world, "gone")):
        assert tracker.reading.artifact_uri(run) == tracker.client.get_run(run).info.artifact_uri
    assert tracker.reading.artifact_uri("f" * 32) is None
    with pytest.raises(InputError, match=f"run {'f' * 32} must be in .*, it is not"):
        tracker.artifact("f" * 32, "x")
    located = [e.artifact_location for e in tracker.client.search_experiments()]
    assert tracker.reading.locations() == sorted(located)


def test_the_files_of_a_version_are_found_by_its_number_and_by_an_alias(reader: MlflowTracker) -> None:
    client, name = reader.client, 'it\'s "my" model'
    if not client.search_registered_models('name = "plain"'):
        for model in (name, "plain"):
            client.create_registered_model(model)
            for number in "123":
                client.create_model_version(model, f"file:///{len(model)}/{number}")
            client.set_registered_model_alias(model, "champion", "2")
        client.delete_model_version("plain", "3")
    for model in (name, "plain"):
        for version in ("1", "2"):
            assert reader.version_uri(model, version) == client.get_model_version_download_uri(model, version)
        assert reader.version_uri(model, "champion") == reader.version_uri(model, "2") == f"file:///{len(model)}/2"
        for absent in ("0", "4", "9" * 40, "first", "latest", "Latest", "", "²", "-1", "1 OR 1"):
            assert reader.version_uri(model, absent) is None
    assert reader.version_uri(name, "3") is not None
    assert reader.version_uri("plain", "3") is None
    assert reader.version_uri("none", "1") is reader.version_uri("none", "champion") is None


def test_more_runs_than_a_page_are_all_found(reader: MlflowTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PAGE > 2
    monkeypatch.setattr("mmtune.tracking.reading.PAGE", 2)
    monkeypatch.setattr("mmtune.tracking.reading.MOST_BOUND", 2)
    study = track_study(reader, replace(KEY, study="many", seed=len(reader.studies("many"))))
    runs = [track_trial(reader, study, n, metrics={OBJECTIVE: n / 10, "x": n}) for n in range(5)]
    assert [trial.run_id for trial in reader.trials(study.run_id)] == runs
    assert reader.count(study.run_id) == 5
    assert reader.curves_of(runs, ("x",)) == {run: {"x": [(0, float(n))]} for n, run in enumerate(runs)}
    assert len(reader.studies("many")) == study.key.seed + 1


def test_what_is_read_by_sql_cannot_be_written_by_it(place: MlflowTracker) -> None:
    if not isinstance(place.reading, SqlReading):
        pytest.skip("a server is read through the client alone")
    before = place.client.get_experiment_by_name("new")
    for statement in (
        "INSERT INTO experiments (name, lifecycle_stage) VALUES ('new', 'active')",
        "UPDATE runs SET status = 'FAILED'",
        "DELETE FROM tags",
        "CREATE TABLE mine (a INTEGER)",
        "DROP TABLE latest_metrics",
    ):
        with place.reading.engine.connect() as store, pytest.raises(DBAPIError, match=r"(?i)read-?only"):
            store.execute(text(statement))
    assert place.client.get_experiment_by_name("new") is before is None


def test_a_point_is_read_as_soon_as_it_is_written(reader: MlflowTracker) -> None:
    study = track_study(reader, replace(KEY, study="soon", seed=len(reader.studies("soon"))))
    run = track_trial(reader, study, 0, state=RUNNING)
    for step in (1, 2):
        reader.log(run, [Point(epoch=step, time=step, metrics={"x": step / 2})])
        assert reader.curves(run, ("x",)) == {"x": [(n, n / 2) for n in range(1, step + 1)]}
        assert reader.trials(study.run_id)[0].metrics == {"x": step / 2}
