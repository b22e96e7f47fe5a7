"""Too little memory for one trial beside another: it is tried again with fewer neighbours, and they go on."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import with_memory

from mmtune.data.dataset import Dataset
from mmtune.tracking import COMPLETE, FAIL, MlflowTracker

WIDE = """
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from mmtune.data.storage.store import load
from mmtune.study import load_study
from mmtune.study.options import Options
from mmtune.study.space import Categorical
from mmtune.tune.run import run_study

study = load_study("audio_rnn")
base = replace(study.base, model=replace(study.base.model, layers=5))
space = (Categorical(path="model.hidden", values=(8192, 16), source="more than the workers have, and little"),)
wide = replace(study, base=base, space=space, grid={"model.hidden": (8192, 16)})
options = Options(epochs=2, workers=2, device="cpu")
outcome = run_study(wide, load(Path(sys.argv[1])), options, Path(sys.argv[2]), Console(width=200))
print(outcome.finished, outcome.failed)
"""


@pytest.mark.slow
def test_a_trial_that_is_too_large_costs_itself_alone(tiny: Dataset, store: Path) -> None:
    said = with_memory(2, WIDE, str(tiny.folder), str(store)).splitlines()
    assert said[-1] == "True 1"
    runs = MlflowTracker(store).trials(MlflowTracker(store).studies()[0].run_id)
    states = [(run.params["model.hidden"], run.state) for run in runs]
    assert sorted(states) == [(16, COMPLETE), (8192, FAIL), (8192, FAIL)]
    assert all("allocate" in run.tags["mmtune.reason"] for run in runs if run.state == FAIL)
    assert any("at most 1 train side by side" in line for line in said)
