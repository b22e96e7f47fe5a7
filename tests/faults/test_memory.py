"""Too little memory for one trial beside another: it is tried again with fewer neighbours, and they go on."""

from __future__ import annotations

import resource
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mmtune.data.dataset import Dataset
from mmtune.pool.local import LocalPool
from mmtune.pool.worker import WorkerSpec
from mmtune.study import load_study
from mmtune.study.options import Options
from mmtune.study.space import Categorical
from mmtune.tracking import COMPLETE, FAIL, MlflowTracker
from mmtune.tune.run import run_study


def small_pool(spec: WorkerSpec, count: int) -> LocalPool:
    """Workers that may have 2 GiB each."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (2 * 2**30, before[1]))
    try:
        return LocalPool(spec, count)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.mark.slow
def test_a_trial_that_is_too_large_costs_itself_alone(tiny: Dataset, store: Path) -> None:
    study = load_study("audio_rnn")
    base = replace(study.base, model=replace(study.base.model, layers=5))
    space = (Categorical(path="model.hidden", values=(8192, 16), source="more than the workers have, and little"),)
    wide = replace(study, base=base, space=space, grid={"model.hidden": (8192, 16)})
    said = StringIO()
    console = Console(file=said, width=200)
    outcome = run_study(wide, tiny, Options(epochs=2, workers=2, device="cpu"), store, console, make_pool=small_pool)
    assert outcome is not None
    assert outcome.finished
    assert outcome.failed == 1
    runs = MlflowTracker(store).trials(MlflowTracker(store).studies()[0].run_id)
    states = [(run.params["model.hidden"], run.state) for run in runs]
    assert sorted(states) == [(16, COMPLETE), (8192, FAIL), (8192, FAIL)]
    assert all("allocate" in run.tags["mmtune.reason"] for run in runs if run.state == FAIL)
    assert "at most 1 train side by side" in said.getvalue()
