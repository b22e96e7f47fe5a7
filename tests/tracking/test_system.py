"""What the machine is busy with is tracked where MLflow's own variable asks for it, and nowhere else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tracked import track_study

from mmtune.base.errors import InputError
from mmtune.study import StudyKey
from mmtune.tracking import MlflowTracker
from mmtune.tracking import system as module
from mmtune.tracking.system import ASKED, require_monitor, system_metrics

KEY = StudyKey(
    study="audio_rnn", data="tiny", digest="0" * 64, protocol="clip_disjoint", seed=0, epochs=3, sampler="grid"
)


@pytest.mark.parametrize("asked", ["true", "false", ""])
def test_the_machine_is_watched_if_mlflows_variable_says_so(
    store: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv(ASKED, asked)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    tracker = MlflowTracker(store)
    run = track_study(tracker, KEY).run_id

    def measured() -> set[str]:
        return {name for name in tracker.client.get_run(run).data.metrics if name.startswith("system/")}

    with system_metrics(tracker, run):
        end = time.monotonic() + 30 * (asked == "true")
        while not measured() and time.monotonic() < end:
            time.sleep(0.05)
    assert ("system/cpu_utilization_percentage" in measured()) == (asked == "true")


def test_what_cannot_be_measured_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ASKED, "true")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="must be unset where psutil is not installed: pip install psutil"):
        require_monitor()
