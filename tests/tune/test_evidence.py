"""What counts as one piece of evidence, from the protocol of a study to what its trials leave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from here import here
from rich.console import Console

from mmtune.data.dataset import RECORDING, SPEAKER, Dataset
from mmtune.networks.card import CALIBRATION, VALIDATION
from mmtune.serve.scoring import TEST, score_test
from mmtune.study import load_study
from mmtune.study.options import Options
from mmtune.tracking import MlflowTracker
from mmtune.train.answers import read_answers
from mmtune.train.calibration_file import read_calibration
from mmtune.tune.run import run_study


@pytest.mark.parametrize(("protocol", "group"), [("speaker_disjoint", SPEAKER), ("clip_disjoint", RECORDING)])
def test_a_member_of_what_is_kept_apart_is_one(protocol: str, group: str, tiny: Dataset, store: Path) -> None:
    options = Options(protocol=protocol, sampler="reported", epochs=1, workers=1, device="cpu")
    done = run_study(load_study("audio_rnn"), tiny, options, store, Console(quiet=True), make_pool=here(tiny))
    assert done is not None
    assert done.best is not None
    tracker = MlflowTracker(store)
    stored = read_answers(tracker.artifact(done.best.run_id, VALIDATION), ("row", "unit"))
    members = tiny.train.groups[group][stored["row"]]
    pairs = set(zip(members.tolist(), stored["unit"].tolist(), strict=True))
    assert len(pairs) == len(np.unique(members)) == len(np.unique(stored["unit"])) < len(members)
    assert read_calibration(tracker.artifact(done.best.run_id, CALIBRATION)).fused.units == len(pairs)
    score_test(tracker, done.key, done.best, tiny)
    tested = read_answers(tracker.artifact(done.best.run_id, TEST), ("unit",))["unit"]
    assert len(np.unique(tested)) == len(np.unique(tiny.require_test().groups[group]))
