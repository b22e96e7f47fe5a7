"""Scores of a report have intervals over what is independent, where that is known."""

from __future__ import annotations

import numpy as np

from mmtune.analysis.statistics import share_interval
from mmtune.report.intervals import Scored, scored
from mmtune.report.tables import between, interval, measured
from mmtune.tracking import TrialRun
from mmtune.train.objective import MACRO_F1


def answers() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    label = np.tile(np.arange(4), 100)
    said = np.where(np.repeat(rng.random(20) < 0.8, 20), label, (label + 1) % 4)
    return {"label": label, "prediction": said, "unit": 7 + 3 * np.repeat(np.arange(20), 20)}


def test_twenty_recordings_say_less_than_four_hundred_rows() -> None:
    own = answers()
    known, rows = scored("validation", own, seed=0), scored("test", {**own, "unit": np.arange(400)}, seed=0)
    assert (known.rows, known.units, rows.units) == (400, 20, 400)
    right = own["label"] == own["prediction"]
    assert known.intervals["accuracy"] == share_interval(right, own["unit"])
    for metric, (low, high) in known.intervals.items():
        assert low < right.mean() < high
        assert high - low > 2 * np.ptp(rows.intervals[metric])


def test_answers_that_do_not_say_what_they_share_have_wilsons() -> None:
    own = answers()
    del own["unit"]
    old = scored("test", own, seed=0)
    assert old == Scored(split="test", rows=400)
    share = float((own["label"] == own["prediction"]).mean())
    metrics = {"val_accuracy_at_best": share, MACRO_F1.at_best("val_macro_f1"): share, "test_accuracy": share}
    best = TrialRun(run_id="", number=0, name="", state="COMPLETE", started=0, params={}, metrics=metrics, tags={})
    known = scored("validation", answers(), seed=0)
    accuracy, f1 = measured(best, MACRO_F1, {}, known, old)
    assert accuracy["name"] == "accuracy"
    assert accuracy["validation_interval"] == between(known.intervals["accuracy"])
    assert accuracy["test_interval"] == interval(share, 400)
    assert (f1["validation_interval"], f1["test_interval"]) == (between(known.intervals["macro_f1"]), "")


def test_what_is_of_rows_alone_has_no_interval() -> None:
    """Neither that of the best epoch, nor one over rows that are no pieces of evidence."""
    known = scored("validation", answers(), seed=0)
    metrics = {"val_accuracy_at_best": 0.8, "final_val_accuracy": 0.7, "val_accuracy_image_alone": 0.6}
    best = TrialRun(run_id="", number=0, name="", state="COMPLETE", started=0, params={}, metrics=metrics, tags={})
    lines = {own["name"]: own for own in measured(best, MACRO_F1, {}, known, Scored(split="test"))}
    assert lines["accuracy, last epoch"]["validation_interval"] == ""
    assert lines["accuracy, image alone"]["validation_interval"] == ""
    assert lines["accuracy"]["validation_interval"] == between(known.intervals["accuracy"])
