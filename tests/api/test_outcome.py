"""An Outcome says what is tracked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tracked import OBJECTIVE, track_study, track_trial

from mmtune.api.outcome import Outcome, Trial
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.study import Study, StudyKey
from mmtune.tracking import FAIL, PRUNED, MlflowTracker
from mmtune.train.recipe import TrialConfig
from mmtune.tune import run as tuning


@dataclass(frozen=True, kw_only=True)
class Net:
    width: int = 8
    reads: tuple[str, ...] = ("image",)

    def build(self, shapes: Any) -> Any:
        raise NotImplementedError


def params(width: int) -> dict[str, Any]:
    return {"model.width": width, "model.reads": ["image"], "train.epochs": 2}


def scores(score: float) -> dict[str, float]:
    return {OBJECTIVE: score, "val_accuracy_at_best": score / 2, "epoch_at_best": 2.0}


@pytest.fixture
def outcome(store: Path, tiny: Dataset) -> Outcome:
    """Four trials, as if they had been made: one was made again, one was pruned, one never worked."""
    own: dict[str, Any] = {"protocol": "clip_disjoint", "seed": 0, "epochs": 2, "sampler": "tpe"}
    key = StudyKey(study="mine", data=tiny.name, digest=tiny.digest, **own)
    tracker = MlflowTracker(store)
    run = track_study(tracker, key)
    drawn = [{"model.width": width} for width in (4, 8, 16, 32)]
    track_trial(tracker, run, 0, params(4), scores(0.5), drawn=drawn[0])
    track_trial(tracker, run, 1, params(8), state=FAIL, reason="worker died", retry=True, drawn=drawn[1])
    track_trial(tracker, run, 1, params(8), scores(0.75), drawn=drawn[1])
    track_trial(tracker, run, 2, params(16), state=PRUNED, drawn=drawn[2], epochs=[{"val_macro_f1": 0.1}])
    track_trial(tracker, run, 3, params(32), state=FAIL, reason="loss is NaN", drawn=drawn[3])
    study = Study(name="mine", base=TrialConfig(model=Net()), space=())
    ended = tuning.Outcome(key=key, trials=4, finished=True, failed=1, best=tracker.best(run.run_id, key.objective))
    return Outcome.of(ended, study, tiny, store)


def test_trials_are_a_row_each_with_what_is_tracked(outcome: Outcome) -> None:
    frame = outcome.trials()
    assert list(frame.index) == [0, 1, 2, 3]
    assert list(frame.columns[:3]) == ["state", "model.width", OBJECTIVE]
    assert list(frame["state"]) == ["COMPLETE", "COMPLETE", "PRUNED", "FAIL"]
    assert list(frame["reason"]) == ["", "", "", "loss is NaN"]
    (run,) = outcome.tracker.studies("mine")
    last = {trial.number: trial for trial in outcome.tracker.trials(run.run_id) if trial.metrics or trial.number == 3}
    for number, row in frame.iterrows():
        trial = last[int(str(number))]
        assert row["run_id"] == trial.run_id
        assert {path: row[path] for path in trial.params} == trial.params
        assert row[list(trial.metrics)].to_dict() == trial.metrics
    assert frame["model.width"].dtype == "int64"
    assert pd.isna(frame.loc[3, OBJECTIVE])


def test_the_best_is_the_trackers(outcome: Outcome) -> None:
    best = outcome.best
    assert isinstance(best, Trial)
    assert (best.number, best.values, best.metrics[OBJECTIVE]) == (1, {"model.width": 8}, 0.75)
    assert best.run_id == outcome.trials().loc[1, "run_id"]
    assert repr(best) == "Trial(1, complete, best_val_macro_f1 0.7500, model.width=8)"
    assert repr(outcome).startswith("Outcome(mine.tiny-")
    assert repr(outcome).endswith(f": 4 trials, finished, 1 failed, best {best!r})")


def test_what_is_tracked_later_is_seen_and_a_deleted_study_is_said_in_a_line(outcome: Outcome) -> None:
    (run,) = outcome.tracker.studies("mine")
    track_trial(outcome.tracker, run, 4, params(4), scores(0.9), drawn={"model.width": 4})
    assert list(outcome.trials().index) == [0, 1, 2, 3, 4]
    outcome.tracker.discard(run.run_id)
    with pytest.raises(InputError, match="its run was deleted"):
        outcome.trials()


def test_it_looks_where_it_was_made_wherever_the_process_goes(
    store: Path, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by an address that counts from a folder, whose client is opened later."""
    monkeypatch.chdir(store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    own: dict[str, Any] = {"protocol": "clip_disjoint", "seed": 0, "epochs": 2, "sampler": "tpe"}
    key = StudyKey(study="mine", data=tiny.name, digest=tiny.digest, **own)
    writer = MlflowTracker(Path())
    track_trial(writer, track_study(writer, key), 0, params(4), scores(0.5))
    study = Study(name="mine", base=TrialConfig(model=Net()), space=())
    ended = tuning.Outcome(key=key, trials=1, finished=True, failed=0, best=None)
    made = Outcome.of(ended, study, tiny, store)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert list(made.trials().index) == [0]
    assert made.tracker.client.search_registered_models() == []
    assert list(elsewhere.iterdir()) == []


def test_a_cross_validated_study_is_not_promoted(outcome: Outcome) -> None:
    folded = StudyKey(**{**vars(outcome.key), "folds": 3})
    with pytest.raises(InputError, match="must have one split to be promoted, it has 3 folds"):
        Outcome(**{**vars(outcome), "key": folded}).promote()
